"""Real numbers under Paillier, many to a ciphertext, against python-paillier's `EncodedNumber`, in one run.

    python -m experiments.bench_floats --report experiments/results/bench_floats.json

Vectors of uniform numbers, as clients send and a server adds them, under one key for both libraries: one vector is
encoded and encrypted, all are added, the sum is decrypted and decoded. python-paillier (`pip install phe gmpy2`) is
given the precision 2^-fraction_bits, so that all its exponents agree, which is its fastest way. Both sums are compared
with the exact one. CPU seconds, medians of interleaved rounds.

Keys: `peer`, "installed" or "not installed" (then nothing is compared); by contender `operations_s`, `bytes_per_number`
and `error`, the largest; `ratio_vs_phe`, theirs over ours, by operation and for the bytes; `bound` of our error.
Expect as many times fewer bytes and faster sums as numbers fit a ciphertext.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial, reduce
from typing import Any

import numpy as np

from experiments.bench_search import PHE, Stopwatch, phe_keys, present, say
from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.paillier import (
    SecretKey,
    blinders,
    floats,
    generate_keys,
    public as public_half,
    secret as secret_half,
    to_ints,
)

OURS = "jcbir"


@dataclass(frozen=True)
class Bench:
    """What to time.

    Attributes:
        where: places.
        bits: of the modulus.
        numbers: in a vector.
        vectors: to add.
        fraction_bits: bits after the point, a multiple of 4: python-paillier's exponents are of 16.
        magnitude: the largest number.
        rounds: interleaved rounds.
    """

    where: At = PLACES
    bits: int = 2048
    numbers: int = 528
    vectors: int = 8
    fraction_bits: int = 24
    magnitude: float = 4.0
    rounds: int = 3


SCALES: dict[Scale, Bench] = {"cpu": Bench(), "smoke": Bench(bits=256, numbers=20, vectors=3, rounds=1)}


def main(config: Bench) -> dict[str, Any]:
    """Time both libraries on the same vectors."""
    run = begin("bench_floats", config, packages=("gmpy2", "phe"))
    key = generate_keys(bits=config.bits, draw=secrets.token_bytes, unsafe_small=config.bits < 2048)
    layout = floats.Layout(
        modulus=key.public.n,
        fraction_bits=config.fraction_bits,
        magnitude=config.magnitude,
        terms=config.vectors,
    )
    vectors = np.random.default_rng(0).uniform(-config.magnitude, config.magnitude, (config.vectors, config.numbers))
    thunks = ours(key, layout, vectors)
    sizes = {OURS: layout.plaintexts(config.numbers) * key.public.ciphertext_bytes / config.numbers}
    if present("phe"):
        thunks |= theirs(key, layout, vectors)
        # The exponent, which travels beside each ciphertext, is not counted.
        sizes[PHE] = float(key.public.ciphertext_bytes)
    else:
        say(f"{PHE} is not installed (pip install phe gmpy2): NOTHING IS COMPARED")
    errors = {name: largest_error(thunks[f"{name}/decrypt"](), vectors) for name in sizes}
    seconds: dict[str, dict[str, float]] = {name: {} for name in sizes}
    for name, value in Stopwatch("cpu").rounds(thunks, config.rounds).items():
        contender, operation = name.split("/")
        seconds[contender][operation] = value
    return finish(
        run,
        {
            "peer": "installed" if PHE in sizes else "not installed",
            "slots": layout.slots,
            "operations_s": seconds,
            "bytes_per_number": sizes,
            "error": errors,
            "bound": config.vectors * layout.error,
            "ratio_vs_phe": ratios(seconds, sizes) if PHE in sizes else None,
        },
    )


def ours(key: SecretKey, layout: floats.Layout, vectors: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Thunks on packed ciphertexts."""
    public, draw = key.public, secrets.token_bytes

    def encrypt() -> floats.Encoded:
        plain = floats.encode(layout, vectors[0])
        fresh = blinders(public, len(plain.rows), draw=draw)
        return plain._replace(rows=public_half.encrypt(public, plain.rows, blinders=fresh))

    def owner_encrypt(vector: np.ndarray) -> floats.Encoded:
        plain = floats.encode(layout, vector)
        return plain._replace(rows=secret_half.encrypt(key, plain.rows, draw=draw))

    bodies = [owner_encrypt(vector) for vector in vectors]
    add = partial(reduce, partial(floats.add, public), bodies)
    total = add()

    def decrypt() -> np.ndarray:
        return floats.decode(layout, total._replace(rows=secret_half.decrypt(key, total.rows)))

    return {
        f"{OURS}/encrypt": encrypt,
        f"{OURS}/encrypt by owner": partial(owner_encrypt, vectors[0]),
        f"{OURS}/add": add,
        f"{OURS}/decrypt": decrypt,
    }


def theirs(key: SecretKey, layout: floats.Layout, vectors: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Thunks on python-paillier's encrypted numbers."""
    import phe

    public, private = phe_keys(key)
    precision = 2.0**-layout.fraction_bits

    def encrypt() -> list:
        return [public.encrypt(x, precision=precision) for x in vectors[0].tolist()]

    def encoded(vector: np.ndarray) -> list:
        # Our own key's fast encryption of its encodings: what is added and decrypted does not show who encrypted it.
        numbers = [phe.EncodedNumber.encode(public, x, precision=precision) for x in vector.tolist()]
        body = secret_half.encrypt(key, [number.encoding for number in numbers], draw=secrets.token_bytes)
        pairs = zip(to_ints(body), numbers, strict=True)
        return [phe.EncryptedNumber(public, c, number.exponent) for c, number in pairs]

    bodies = [encoded(vector) for vector in vectors]

    def add() -> list:
        return reduce(lambda a, b: [x + y for x, y in zip(a, b, strict=True)], bodies)

    total = add()
    return {
        f"{PHE}/encrypt": encrypt,
        f"{PHE}/add": add,
        f"{PHE}/decrypt": lambda: [private.decrypt(number) for number in total],
    }


def largest_error(found: Sequence[float], vectors: np.ndarray) -> float:
    """Largest distance of a decoded sum from the exact one."""
    exact = (sum(map(Fraction, column)) for column in vectors.T.tolist())
    return float(max(abs(Fraction(float(x)) - y) for x, y in zip(found, exact, strict=True)))


def ratios(seconds: dict[str, dict[str, float]], sizes: dict[str, float]) -> dict[str, float]:
    """Theirs over ours; they have no faster way for the key's owner."""
    mine, other = seconds[OURS], seconds[PHE]
    found = {name: other[name] / mine[name] for name in other} | {"bytes": sizes[PHE] / sizes[OURS]}
    return found | {"encrypt by owner": other["encrypt"] / mine["encrypt by owner"]}


if __name__ == "__main__":
    main(command_line(SCALES))
