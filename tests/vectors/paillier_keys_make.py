"""Write paillier_keys.json: key pairs for tests only, public for everyone to read. Run: python
tests/vectors/paillier_keys_make.py

Primes come from SHAKE-256 of the name of the key, so the file can be made again bit for bit and nobody chose its
contents.
"""

import hashlib
import json
import pathlib

from jcbir.paillier import secret

SPECS = {
    "tiny": {"bits": 128},
    "small": {"bits": 256},
    "small-random-g": {"bits": 256, "random_g": True},
    "small-subgroup": {"bits": 512, "subgroup_bits": 64},
    "medium": {"bits": 512},
    "odd-2046": {"bits": 2046},
    "odd-2050": {"bits": 2050},
    "full-2048": {"bits": 2048},
    "subgroup-2048": {"bits": 2048, "subgroup_bits": 256},
    "full-3072": {"bits": 3072},
    "full-4096": {"bits": 4096},
}


def stream(name: str):
    """Bytes of SHAKE-256(name), handed out in order."""
    pool, position = hashlib.shake_256(f"jcbir test key {name}".encode()).digest(1 << 20), 0

    def draw(count: int) -> bytes:
        nonlocal position
        position += count
        if position > len(pool):
            raise ValueError("the stream of this key is spent")
        return pool[position - count : position]

    return draw


def main() -> None:
    keys = {}
    for name, spec in SPECS.items():
        key = secret.generate_keys(draw=stream(name), unsafe_small=True, **spec)
        keys[name] = {
            **{field: hex(getattr(key.public, field) or 0) for field in ("n", "g", "h", "h_bits")},
            "p": [hex(x) for x in key.p],
            "q": [hex(x) for x in key.q],
            "fingerprint": key.public.fingerprint,
        }
    provenance = "made by tests/vectors/paillier_keys_make.py; p = 2 s t + 1 listed as [p, s, t]; for tests only"
    path = pathlib.Path(__file__).with_name("paillier_keys.json")
    path.write_text(json.dumps({"provenance": provenance, "keys": keys}, indent=1) + "\n")


if __name__ == "__main__":
    main()
