"""Blinders: random n-th residues that make encryptions of one number look unrelated, and a pool of them made ahead."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jcbir.paillier import _batched as batched, _engines as engines, _rows as rows
from jcbir.paillier._rows import CiphertextRows, Ciphertexts
from jcbir.paillier._sampling import unit_below
from jcbir.paillier.public import PublicKey


class BlinderPool(NamedTuple):
    """Blinders made ahead; each is handed out once.

    Attributes:
        rows: blinder rows of shape [n, ciphertext_bytes].
        used: how many of the first rows are spent.
    """

    rows: CiphertextRows
    used: int


def blinders(public: PublicKey, count: int, *, draw: Callable[[int], bytes], engine: str = "auto") -> CiphertextRows:
    """Draw blinders with the public key alone: r^n mod n^2 for a uniform unit r, or h^x for a subgroup key.

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
    """
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    name, width = engines.choose_engine(engine, count=count), public.ciphertext_bytes
    if public.h is None:
        bases, exponents = [unit_below(public.n, draw=draw) for _ in range(count)], [public.n] * count
    else:
        size = -(-public.h_bits // 8)
        bases, exponents = [public.h] * count, [int.from_bytes(draw(size), "big") for _ in range(count)]
    if name == "jax" and public.h is None:
        return batched.shared_powers(public.n, rows.from_ints(bases, width=width), public.n, bits=public.bits)
    if name == "jax":
        return batched.private_powers(
            public.n, rows.from_ints(bases, width=width), exponents, bits=8 * -(-public.h_bits // 8)
        )
    number = engines.number_type(name)
    modulus = number(public.n_squared)
    powers = (pow(number(x), e, modulus) for x, e in zip(bases, exponents, strict=True))
    return rows.from_ints((int(x) for x in powers), width=public.ciphertext_bytes)


def take(pool: BlinderPool, count: int) -> tuple[CiphertextRows, BlinderPool]:
    """Hand out blinders once.

    Args:
        pool: the pool.
        count: how many.

    Returns:
        Rows of shape [count, ciphertext_bytes], and the pool without them.

    Raises:
        ValueError: fewer are left; a blinder is never handed out twice.

    Example:
        >>> fresh, pool = take(BlinderPool(np.arange(6, dtype=np.uint8).reshape(3, 2), 0), 2)
        >>> fresh.tolist(), pool.used
        ([[0, 1], [2, 3]], 2)
    """
    left = len(pool.rows) - pool.used
    if not 0 <= count <= left:
        raise ValueError(f"count must lie in [0, {left}], the blinders left in the pool, got {count}: refill it")
    end = pool.used + count
    return pool.rows[pool.used : end], pool._replace(used=end)


def refill(pool: BlinderPool, fresh: Ciphertexts) -> BlinderPool:
    """Drop the spent blinders and append fresh ones.

    Args:
        pool: the pool.
        fresh: rows of new blinders, from `blinders` or the owner's `secret.owner_blinders`.

    Returns:
        A pool of the unspent and the fresh ones, none spent.

    Raises:
        ValueError: the fresh rows have another width.

    Example:
        >>> pool = refill(BlinderPool(np.zeros((3, 2), np.uint8), 2), np.ones((2, 2), np.uint8))
        >>> len(pool.rows), pool.used
        (3, 0)
    """
    if fresh.ndim != 2 or fresh.shape[1] != pool.rows.shape[1]:
        raise ValueError(f"fresh must be rows of {pool.rows.shape[1]} bytes, got shape {fresh.shape}")
    return BlinderPool(np.concatenate([pool.rows[pool.used :], np.asarray(fresh)]), 0)
