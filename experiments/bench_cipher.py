"""Speed of the cipher, stage by stage and whole, beside AES-256-GCM and ChaCha20-Poly1305 in the same run.

    taskset -c 0 python -m experiments.bench_cipher --report FILE.json
    python -m experiments.bench_cipher --engine jax --report FILE.json      (on the default device)

Megabytes of image a second (key stream: of key stream), the best of `repeats` runs. `clock` says what is counted:
"wall" for a quiet machine, "cpu" (time of this process alone) where others compute too; pinned to one core, the host's
path is one thread. `bit_exact`: every image comes back, and the golden vectors of the tests, which an independent
big-integer program made, come out of this engine. `ciphertext_sha256` must be the same whatever the engine, device or
machine. `load`: processes that wanted a core at the end; above the number of cores, rates are too low.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir import cipher as lorenz
from jcbir.cipher import keystream

GOLDEN = Path(__file__).parents[1] / "tests" / "vectors" / "cipher_golden.json"
# Recorded on the first machine: they tell machines apart, and the golden vectors tell right from wrong.
FIRST_SHA256 = {
    "224": "7752ad0157c3a8fb18fe322804f1de529333072ba7db24c50563758c1cc107bb",
    "2048": "c86c4a7a8d6acf17c188b06b22a73880d123db2606179e7d20853e93eeedad27",
}


@dataclass(frozen=True)
class Speed:
    """What is measured.

    Attributes:
        where: places.
        engine: as in `jcbir.cipher.encrypt`; "compiled" is what "auto" takes for both sizes.
        clock: wall clock, or processor time of this process.
        batch: images of 224 x 224 x 3.
        side: side of the large image, x 3; 0 leaves it out.
        repeats: runs of each measurement; the best counts.
    """

    where: At = PLACES
    engine: Literal["numpy", "compiled", "jax"] = "compiled"
    clock: Literal["wall", "cpu"] = "wall"
    batch: int = 64
    side: int = 2048
    repeats: int = 3


SCALES: dict[Scale, Speed] = {"cpu": Speed()}


def photographs(count: int, side: int) -> np.ndarray:
    """Test images without a file: SHAKE-256 repeated over smooth ramps."""
    octets = np.frombuffer(hashlib.shake_256(b"bench").digest(1 << 16), np.uint8)
    total = count * side * side * 3
    ramp = (np.arange(total, dtype=np.uint32) >> np.uint32(9)).astype(np.uint8)
    return (np.resize(octets, total) // 8 + ramp).astype(np.uint8).reshape(count, side, side, 3)


def as_golden(config: Speed) -> bool:
    """Do the golden cipher images come out of this engine?"""
    matches = []
    cases = json.loads(GOLDEN.read_text())["images"]
    # A device compiles every shape and order anew.
    for case in [c for c in cases if c["shape"] == [5, 7, 3]] if config.engine == "jax" else cases:
        h, w, c = case["shape"]
        octets = hashlib.shake_256(f"jcbir golden {h}x{w}x{c}".encode()).digest(h * w * c)
        noise = lorenz.encrypt(
            np.frombuffer(octets, np.uint8).reshape(h, w, c),
            key=bytes.fromhex(case["key"]),
            nonce=bytes.fromhex(case["nonce"]),
            order=case["order"],
            engine=config.engine,
        )
        matches.append(hashlib.sha256(noise.tobytes()).hexdigest() == case["sha256"])
    return bool(matches) and all(matches)


def rate(function: Callable[[], Any], size: int, config: Speed) -> float:
    """Megabytes a second of the best run, one run before."""
    clock = time.perf_counter if config.clock == "wall" else time.process_time
    best = np.inf
    for _ in range(config.repeats + 1):
        begun = clock()
        jax.block_until_ready(function())
        best = min(best, clock() - begun)
    return size / best / 1e6


def measure(photos: np.ndarray, config: Speed) -> dict[str, Any]:
    """All figures for one batch."""
    count = len(photos)
    keys, nonces = [bytes([i]) * 32 for i in range(count)], [bytes([i]) * 16 for i in range(count)]
    names = {"keys": keys, "nonces": nonces, "engine": config.engine}
    cipher = lorenz.encrypt_batch(photos, **names)
    exact = bool(np.array_equal(lorenz.decrypt_batch(cipher, **names), photos))
    whole = {
        "encrypt_mb_s": rate(lambda: lorenz.encrypt_batch(photos, **names), photos.nbytes, config),
        "decrypt_mb_s": rate(lambda: lorenz.decrypt_batch(cipher, **names), photos.nbytes, config),
    }
    if config.engine == "jax":
        function = jax.jit(lorenz.transform, static_argnames="forward")
        seeds = jax.device_put(lorenz.batch_seeds(keys, nonces, shape=photos.shape[1:]))
        for name, images in {"encrypt": jax.device_put(photos), "decrypt": jax.device_put(cipher)}.items():
            run = partial(function, images, seeds, forward=name == "encrypt")
            whole[f"{name}_on_device_mb_s"] = rate(run, photos.nbytes, config)
    plain = photos.tobytes()
    vetted = {
        "aes_256_gcm_mb_s": rate(lambda: AESGCM(keys[0]).encrypt(bytes(12), plain, None), len(plain), config),
        "chacha20_poly1305_mb_s": rate(
            lambda: ChaCha20Poly1305(bytes(32)).encrypt(bytes(12), plain, None), len(plain), config
        ),
    }
    return {
        "shape": list(photos.shape),
        **_stages(photos, config),
        **whole,
        **vetted,
        "ratio_vs_aes_gcm": whole["encrypt_mb_s"] / vetted["aes_256_gcm_mb_s"],
        "bit_exact": exact,
        "ciphertext_sha256": hashlib.sha256(cipher.tobytes()).hexdigest(),
    }


def _stages(photos: np.ndarray, config: Speed) -> dict[str, float]:
    """Stages one by one: on the host of some 4 megasamples, on a device of all, where they stay."""
    side, device = photos.shape[1], config.engine == "jax"
    planes = np.ascontiguousarray(np.moveaxis(photos, -1, 1)).reshape(-1, side, side)
    planes = planes if device else planes[: max(1, (1 << 22) // side**2)]
    steps = lorenz.chain("paper").stages
    lanes = [
        [keystream.lane_seeds(bytes(32), stage=t.code, channel=c, streams=t.streams, length=side**2) for t in steps]
        for c in range(len(planes))
    ]
    seeds = np.stack([np.concatenate(of_plane) for of_plane in lanes])
    current, seeds = jax.device_put((planes, seeds)) if device else (planes, seeds)
    stream = partial(keystream.expand, seeds, length=side**2, engine=config.engine)
    out = {
        "keystream_mb_s": rate(stream, seeds.shape[1] * planes.size, config),
        "keystream_bytes_per_sample": seeds.shape[1],
    }
    keys = stream().reshape(len(planes), -1, side, side)
    for name, stage in zip(("diffusion", "scrambling", "field", "repeated"), steps, strict=True):
        own, keys = keys[:, : stage.streams], keys[:, stage.streams :]
        apply, undo = (jax.jit(stage.apply), jax.jit(stage.undo)) if device else (stage.apply, stage.undo)
        result = apply(current, own)
        out[f"{name}_mb_s"] = rate(partial(apply, current, own), planes.size, config)
        out[f"undo_{name}_mb_s"] = rate(partial(undo, result, own), planes.size, config)
        current = result
    return out


def main(config: Speed) -> dict[str, Any]:
    """Measure both sizes."""
    run = begin("bench_cipher", config, packages=("cryptography",))
    runs = {"224": measure(photographs(config.batch, 224), config)}
    if config.side:
        runs[str(config.side)] = measure(photographs(1, config.side), config)
    golden = as_golden(config)
    known = {name: run["ciphertext_sha256"] == FIRST_SHA256.get(name) for name, run in runs.items()}
    for name, figures in runs.items():
        print(name, {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()})
    metrics = {
        "runs": runs,
        **{k: runs["224"][k] for k in ("keystream_mb_s", "encrypt_mb_s", "decrypt_mb_s", "ratio_vs_aes_gcm")},
        "bit_exact": golden and all(figures["bit_exact"] for figures in runs.values()),
        "ciphertext_as_on_the_first_machine": known,
    }
    return finish(run, metrics)


if __name__ == "__main__":
    main(command_line(SCALES))
