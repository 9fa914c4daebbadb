"""The stored key pairs of tests/vectors/paillier_keys.json, for the tests of every room."""

import functools
import json
import pathlib

from jcbir.paillier import PublicKey, SecretKey, StructuredPrime

PATH = pathlib.Path(__file__).parent / "vectors" / "paillier_keys.json"


@functools.cache
def stored_key(name: str) -> SecretKey:
    """One of the stored keys.

    tiny, small, small-random-g, small-subgroup, medium, odd-2046, odd-2050, full-2048, subgroup-2048,
    full-3072, full-4096.
    """
    record = json.loads(PATH.read_text())["keys"][name]
    n, g, h, h_bits = (int(record[field], 16) for field in ("n", "g", "h", "h_bits"))
    p, q = (StructuredPrime(*(int(x, 16) for x in record[side])) for side in ("p", "q"))
    return SecretKey(PublicKey(n, g, h or None, h_bits), p, q)
