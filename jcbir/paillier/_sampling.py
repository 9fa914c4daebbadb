"""Uniform integers from a source of bytes that the caller owns: `draw(count)` returns `count` fresh uniform bytes."""

import math
from collections.abc import Callable

# A fair source fails one try with probability at most 1/2; a source that fails this often is broken.
TRIES = 1000


def integer_below(bound: int, *, draw: Callable[[int], bytes]) -> int:
    """Uniform integer in [0, bound), by rejection.

    Args:
        bound: at least 1.
        draw: source of uniform bytes, such as `secrets.token_bytes`.

    Returns:
        An integer, every value in [0, bound) equally likely.

    Raises:
        ValueError: the bound is not positive, or the source never comes below it.

    Example:
        >>> integer_below(10, draw=lambda count: bytes([7] * count))
        7
    """
    if bound < 1:
        raise ValueError(f"bound must be at least 1, got {bound}")
    bits = (bound - 1).bit_length()
    size, mask = -(-bits // 8), (1 << bits) - 1
    for _ in range(TRIES):
        value = int.from_bytes(draw(size), "big") & mask
        if value < bound:
            return value
    raise ValueError(f"draw gave no value below the bound in {TRIES} tries: it is not a uniform source")


def unit_below(modulus: int, *, draw: Callable[[int], bytes]) -> int:
    """Uniform unit modulo `modulus`: an integer in [1, modulus) coprime to it.

    Args:
        modulus: at least 2.
        draw: source of uniform bytes.

    Returns:
        An integer r with gcd(r, modulus) = 1.

    Raises:
        ValueError: the source gives no unit.

    Example:
        >>> unit_below(9, draw=lambda count: bytes([5] * count))
        5
    """
    for _ in range(TRIES):
        value = integer_below(modulus, draw=draw)
        if math.gcd(value, modulus) == 1:
            return value
    raise ValueError(f"draw gave no unit in {TRIES} tries: it is not a uniform source")
