"""Blinders: random n-th residues that make encryptions of one number look unrelated."""

from collections.abc import Callable

import numpy as np

from jcbir.paillier import _integers as integers, _jax as on_arrays, _rows as rows
from jcbir.paillier._engines import choose_engine, number_type
from jcbir.paillier._rows import CiphertextRows, check_int, check_rows
from jcbir.paillier._sampling import draw_bytes, unit_below
from jcbir.paillier.public import PublicKey
from jcbir.typing import Rows


def blinders(public: PublicKey, count: int, *, draw: Callable[[int], bytes], engine: str = "auto") -> CiphertextRows:
    """Draw blinders with the public key alone: r^n mod n^2 for a uniform unit r, or h^x for a subgroup key.

    The powers of h come from a table, one product a byte of x, which is made at the first large batch and kept: use
    each blinder once, and draw them ahead of time if need be.

    Args:
        public: the key.
        count: how many.
        draw: source of uniform bytes, such as `secrets.token_bytes`.
        engine: "auto", "python", "gmpy2" or "jax".

    Returns:
        Rows of shape [count, ciphertext_bytes]: encryptions of zero.

    Raises:
        ValueError: the count is negative, or `draw` is not a uniform source.

    Example:
        >>> import secrets
        >>> blinders(PublicKey(n=35, g=36), 4, draw=secrets.token_bytes).shape
        (4, 2)

    References:
        Paillier, 1999, scheme 1. Damgard, Jurik and Nielsen, 2010, A generalization of Paillier's public-key system
        (h^x for r^n). Brickell, Gordon, McCurley and Wilson, 1993, Fast exponentiation with precomputation.
    """
    return raise_randomness(public, draw_randomness(public, count, draw=draw), engine=engine)


def draw_randomness(public: PublicKey, count: int, *, draw: Callable[[int], bytes]) -> Rows:
    """What blinders are made of: exponents x of h, or units r below n. Who shows it proves that they encrypt zero."""
    count = check_int(count, name="count", least=0)
    if public.h is None:
        units = [unit_below(public.n, draw=draw) for _ in range(count)]
        return rows.from_ints(units, width=public.plaintext_bytes)
    size = randomness_bytes(public)
    return np.frombuffer(draw_bytes(draw, size * count), np.uint8).reshape(count, size)


def randomness_bytes(public: PublicKey) -> int:
    """Bytes of a row of randomness."""
    return public.plaintext_bytes if public.h is None else -(-public.h_bits // 8)


def raise_randomness(public: PublicKey, randomness: Rows, *, engine: str = "auto") -> CiphertextRows:
    """The blinders of this randomness: h^x, or r^n."""
    width, name = public.ciphertext_bytes, choose_engine(engine, count=len(randomness))
    check_rows(randomness, name="randomness", width=randomness_bytes(public))
    if public.h is not None:
        if name == "jax":
            return on_arrays.fixed_base_powers(public.n, public.h, randomness, width=width)
        powers = integers.fixed_base_powers(public.h, randomness, public.n_squared, engine=name)
        return rows.from_ints(powers, width=width)
    units = rows.to_ints(randomness)
    if name == "jax":
        return on_arrays.powers_shared(public.n, rows.from_ints(units, width=width), public.n, bits=public.bits)
    number = number_type(name)
    n, modulus = number(public.n), number(public.n_squared)
    return rows.from_ints((int(pow(number(r), n, modulus)) for r in units), width=width)
