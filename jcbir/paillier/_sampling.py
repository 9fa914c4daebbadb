"""Uniform integers from a source of bytes that the caller owns: `draw(count)` returns `count` fresh uniform bytes."""

import math
from collections.abc import Callable

# A fair source fails one try with probability at most 1/2; a source that fails this often is broken.
TRIES = 1000


def draw_bytes(draw: Callable[[int], bytes], count: int) -> bytes:
    """`count` bytes of the source, which gives neither fewer nor other things: what lacks would be no secret."""
    if not callable(draw):
        raise ValueError(f"draw: must be a function from a count to bytes, got {type(draw).__name__}")
    drawn = draw(count)
    if not isinstance(drawn, bytes | bytearray) or len(drawn) != count:
        came = f"{len(drawn)} bytes" if isinstance(drawn, bytes | bytearray) else type(drawn).__name__
        raise ValueError(f"draw: must be a source of as many bytes as asked, {count}, got {came}")
    return bytes(drawn)


def integer_below(bound: int, *, draw: Callable[[int], bytes]) -> int:
    """Uniform integer in [0, bound), by rejection."""
    if bound < 1:
        raise ValueError(f"bound: must be at least 1, got {bound}")
    bits = (bound - 1).bit_length()
    size, mask = -(-bits // 8), (1 << bits) - 1
    for _ in range(TRIES):
        value = int.from_bytes(draw_bytes(draw, size), "big") & mask
        if value < bound:
            return value
    raise ValueError(f"draw: must be a uniform source, got no value below the bound in {TRIES} tries")


def unit_below(modulus: int, *, draw: Callable[[int], bytes]) -> int:
    """Uniform integer in [1, modulus) coprime to the modulus."""
    for _ in range(TRIES):
        value = integer_below(modulus, draw=draw)
        if math.gcd(value, modulus) == 1:
            return value
    raise ValueError(f"draw: must be a uniform source, got no unit in {TRIES} tries")
