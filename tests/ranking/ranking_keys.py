"""Small keys and closures for the ranking tests: anyone can break them, and they are quick."""

import functools
import hashlib
import itertools
import secrets

from jcbir.paillier import blinders, secret as paillier

SIZES = (256, 1024)


def counter_draw(label: str):
    """A reproducible source of uniform bytes: the keys are the same in every run."""
    counter = itertools.count()

    def draw(count: int) -> bytes:
        return hashlib.shake_256(f"{label}/{next(counter)}".encode()).digest(count)

    return draw


@functools.cache
def make_key(bits: int, *, label: str = "ranking tests"):
    return paillier.generate_keys(bits=bits, draw=counter_draw(f"{label} {bits}"), unsafe_small=True)


def owner_encrypt(key, engine: str = "python"):
    return lambda rows: paillier.encrypt(key, rows, draw=secrets.token_bytes, engine=engine)


def fresh_blinders(key, count: int):
    return blinders(key.public, count, draw=secrets.token_bytes, engine="python")


def hamming(codes, code):
    return (codes != code).sum(axis=1)
