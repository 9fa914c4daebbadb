"""Primes p = 2*s*t + 1 with s and t prime: the factors of p - 1 are known, so a generator can be proved.

Candidates are sieved by small primes before the costly test: of the pairs (s, 2*s*t + 1) one in a hundred survives.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from jcbir.paillier._sampling import TRIES, integer_below

SIEVE_BOUND = 1 << 13
SIEVE_WINDOW = 1 << 14
# Windows walked before t is drawn again: a short s may have no partner at all.
WINDOWS = 16


class StructuredPrime(NamedTuple):
    """A prime with the factors of its predecessor.

    Attributes:
        prime: p = 2 * small * large + 1.
        small: the prime s.
        large: the prime t.
    """

    prime: int
    small: int
    large: int


def is_prime(value: int) -> bool:
    """Baillie-PSW primality test: gmpy2's where installed, else sympy's; no composite is known to pass either.

    Args:
        value: any integer.

    Returns:
        Whether the value is prime.

    Example:
        >>> is_prime(2**127 - 1), is_prime(2**128 + 1)
        (True, False)

    References:
        Baillie and Wagstaff, 1980, Lucas pseudoprimes.
    """
    # Both imports are optional or slow (sympy takes half a second): only key generation pays for them.
    try:
        import gmpy2
    except ModuleNotFoundError:
        from sympy import isprime

        return bool(isprime(value))
    return bool(gmpy2.is_prime(value, 40))


def structured_prime(bits: int, *, factor_bits: int, draw: Callable[[int], bytes]) -> StructuredPrime:
    r"""Random prime p = 2*s*t + 1 of exactly `bits` bits, beginning with the bits 111.

    t is drawn first, then primes s are walked from random starts until p is prime too: testing the short s is cheap,
    and a common sieve over s and 2*s*t + 1 leaves few long tests.

    Args:
        bits: size of p.
        factor_bits: size of s, at least 8 and at most bits - 8; t gets the rest.
        draw: source of uniform bytes.

    Returns:
        p >= 7/8 * 2^bits with s of `factor_bits` bits and t of `bits - factor_bits` bits.

    Raises:
        ValueError: the sizes leave no room, or `draw` is not a uniform source.

    Example:
        >>> import secrets
        >>> p, s, t = structured_prime(64, factor_bits=24, draw=secrets.token_bytes)
        >>> p == 2 * s * t + 1, p.bit_length(), p >> 61
        (True, 64, 7)

    References:
        Brandt and Damgard, 1992, On generation of probable primes by incremental search (its small loss of entropy).
    """
    if not 8 <= factor_bits <= bits - 8:
        raise ValueError(f"factor_bits must lie in [8, {bits - 8}] for a prime of {bits} bits, got {factor_bits}")
    rest = bits - factor_bits
    for _ in range(TRIES):
        # t below 7/8 * 2^rest keeps every admissible s at factor_bits bits.
        found = _prime_between(1 << (rest - 1), 7 << (rest - 3), lambda s: (s,), draw)
        if found is None:
            continue
        large = found[0]
        low, high = -(-(7 << (bits - 3)) // (2 * large)), ((1 << bits) - 2) // (2 * large)
        found = _prime_between(low, high, lambda s, t=large: (s, 2 * s * t + 1), draw)
        if found is not None:
            return StructuredPrime(found[1], found[0], large)
    raise ValueError(f"draw led to no prime in {TRIES} tries: it is not a uniform source")


def small_primes() -> list[int]:
    """Odd primes below SIEVE_BOUND.

    Returns:
        The primes, ascending.

    Example:
        >>> small_primes()[:4]
        [3, 5, 7, 11]
    """
    odd = np.ones(SIEVE_BOUND // 2, bool)
    odd[0] = False
    for k in range(1, int(SIEVE_BOUND**0.5) // 2 + 1):
        if odd[k]:
            odd[2 * k * (k + 1) :: 2 * k + 1] = False
    return [int(2 * k + 1) for k in np.flatnonzero(odd)]


def _prime_between(
    low: int, high: int, forms: Callable[[int], tuple[int, ...]], draw: Callable[[int], bytes]
) -> tuple[int, ...] | None:
    """forms(x), affine in x and all prime, for some x in [low, high); None where the windows hold none."""
    for _ in range(WINDOWS):
        start = (low + integer_below(high - low, draw=draw)) | 1
        for candidate in _survivors(start, forms):
            if candidate >= high:
                break
            numbers = forms(candidate)
            if all(is_prime(number) for number in numbers):
                return numbers
    return None


def _survivors(start: int, forms: Callable[[int], tuple[int, ...]]) -> Iterator[int]:
    """Odd numbers from `start` on for which no form has a prime factor below SIEVE_BOUND, save itself."""
    alive = np.ones(SIEVE_WINDOW, bool)
    for value, following in zip(forms(start), forms(start + 2), strict=True):
        step = following - value
        for prime in small_primes():
            if value <= prime * prime:
                break
            slope = step % prime
            if slope:
                alive[(-value * pow(slope, -1, prime)) % prime :: prime] = False
    return (start + 2 * int(k) for k in np.flatnonzero(alive))
