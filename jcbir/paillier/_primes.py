"""Primes p = 2*s*t + 1 with s and t prime: the factors of p - 1 are known, so a generator can be proved.

Candidates are sieved by small primes before the costly test: of the pairs (s, 2*s*t + 1) one in a hundred survives.
"""

import functools
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

    def __repr__(self) -> str:
        return f"StructuredPrime(bits={self.prime.bit_length()}, secrets redacted)"


def is_prime(value: int) -> bool:
    """Baillie-PSW primality test: gmpy2's where installed, else sympy's; no composite is known to pass either."""
    # Both imports are optional or slow (sympy takes half a second): only key generation pays for them.
    try:
        import gmpy2
    except ModuleNotFoundError:
        from sympy import isprime

        return bool(isprime(value))
    return bool(gmpy2.is_prime(value, 40))


def structured_prime(bits: int, *, factor_bits: int, draw: Callable[[int], bytes]) -> StructuredPrime:
    r"""Random prime p = 2 s t + 1 of exactly `bits` bits that begins with 111; s has `factor_bits` bits, t the rest.

    t is drawn first, then primes s are walked from random starts until p is prime too: testing the short s is cheap,
    and a common sieve over s and 2 s t + 1 leaves few long tests.

    References:
        Brandt and Damgard, 1992, On generation of probable primes by incremental search (its small loss of entropy).
    """
    if not 8 <= factor_bits <= bits - 8:
        raise ValueError(f"factor_bits: must lie in [8, {bits - 8}] for a prime of {bits} bits, got {factor_bits}")
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
    raise ValueError(f"draw: must be a uniform source, got no prime in {TRIES} tries")


@functools.cache
def small_primes(bound: int = SIEVE_BOUND) -> list[int]:
    """Odd primes below a bound, ascending."""
    odd = np.ones(bound // 2, bool)
    odd[0] = False
    for k in range(1, int(bound**0.5) // 2 + 1):
        if odd[k]:
            odd[2 * k * (k + 1) :: 2 * k + 1] = False
    return (2 * np.flatnonzero(odd) + 1).tolist()


def small_factor(value: int, *, bound: int) -> int | None:
    """The least odd prime below a bound of at most 2^31 that divides a number, if one does."""
    primes = np.array(small_primes(bound))
    rest = np.zeros_like(primes)
    for limb in np.frombuffer(value.to_bytes(-(-value.bit_length() // 32) * 4, "big"), ">u4").tolist():
        rest = ((rest << 32) + limb) % primes
    found = np.flatnonzero(rest == 0)
    return int(primes[found[0]]) if len(found) else None


def is_power(value: int) -> bool:
    """Whether a number is a^k with a, k > 1, by Newton's k-th root for each prime k."""
    for k in (2, *small_primes()):
        if k >= value.bit_length():
            return False
        root = 1 << -(-value.bit_length() // k)
        while (nearer := ((k - 1) * root + value // root ** (k - 1)) // k) < root:
            root = nearer
        if root**k == value:
            return True
    return False


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
