"""Engines `python` and `gmpy2`: one number after another, on Python or GMP integers. The reference."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

from jcbir.paillier import _engines as engines
from jcbir.paillier._primes import StructuredPrime
from jcbir.typing import Array

# Below this many numbers the table of a comb costs more than it saves.
COMB_BATCH = 16


def generator(factor: StructuredPrime, *, subgroup: bool) -> int:
    """Generator of the n-th residues modulo p^2, the cyclic group of p-th powers.

    Its order is p - 1; on request, that of the subgroup, s.
    x generates the units modulo p if x^((p-1)/r) is not 1 for each prime r of p - 1 = 2 s t; then x^p generates the
    group. The least such x serves: which generator it is does not matter to a uniform exponent.

    Args:
        factor: p with s and t.
        subgroup: whether to generate the part of order s.

    Returns:
        The generator modulo p^2.

    Example:
        >>> generator(StructuredPrime(31, 3, 5), subgroup=False) == pow(3, 31, 31**2)
        True
    """
    p, s, t = factor
    x = next(x for x in range(2, p) if all(pow(x, (p - 1) // r, p) != 1 for r in (2, s, t)))
    return pow(x, p * (2 * t if subgroup else 1), p * p)


def join(x: int, y: int, p: int, q: int) -> int:
    """Chinese remainder theorem: the number below p q that is x modulo p and y modulo q.

    Args:
        x: a residue modulo p.
        y: a residue modulo q.
        p: a modulus.
        q: a modulus coprime to p.

    Returns:
        x + p ((y - x)/p mod q).

    Example:
        >>> join(2, 3, 5, 7)
        17
    """
    return x + p * ((y - x) * pow(p, -1, q) % q)


def logarithms(
    ciphertexts: Sequence[int], modulus: int, *, exponent: int, g: int, engine: str
) -> tuple[list[int], list[bool]]:
    """m mod N for each c = g^m b: L(c^e mod N^2) / L(g^e mod N^2), L(u) = (u - 1)/N, where b^e = 1.

    Args:
        ciphertexts: the c.
        modulus: N, which is p, q or n.
        exponent: e.
        g: the base of messages.
        engine: "python" or "gmpy2".

    Returns:
        The m, and for each whether c^e was 1 modulo N, as it must be.

    Example:
        >>> logarithms([36, 71], 35, exponent=12, g=36, engine="python")
        ([1, 2], [True, True])
    """
    number = engines.number_type(engine)
    n, e = number(modulus), number(exponent)
    square = n * n
    scale = pow((pow(number(g) % square, e, square) - 1) // n, -1, n)
    found = [divmod(pow(number(c) % square, e, square) - 1, n) for c in ciphertexts]
    return [int(quotient * scale % n) for quotient, _ in found], [rest == 0 for _, rest in found]


def inverses(numbers: Sequence[int], modulus: int, *, engine: str) -> list[int]:
    """Inverses of a batch by Montgomery's trick: one inversion, three products a number.

    Args:
        numbers: units.
        modulus: the modulus.
        engine: "python" or "gmpy2".

    Returns:
        Their inverses.

    Raises:
        ValueError: a number is not a unit.

    Example:
        >>> inverses([2, 3], 35, engine="python")
        [18, 12]
    """
    number: Callable = engines.number_type(engine)
    n, total, prefixes = number(modulus), number(1), []
    for x in numbers:
        prefixes.append(total)
        total = total * x % n
    try:
        inverse = pow(total, -1, n)
    except (ValueError, ZeroDivisionError):
        raise ValueError("b must hold ciphertexts of this key: a row shares a factor with n") from None
    found = []
    for x, prefix in zip(reversed(numbers), reversed(prefixes), strict=True):
        found.append(int(inverse * prefix % n))
        inverse = inverse * x % n
    return found[::-1]


def fixed_base_powers(
    factor: StructuredPrime, exponents: UInt8[Array, "n b"], *, subgroup: bool, engine: str
) -> list[int]:
    """h^x modulo p^2 for the generator h, one product a byte of x once there is a table.

    Args:
        factor: p with s and t.
        exponents: big-endian rows.
        subgroup: whether h has order s.
        engine: "python" or "gmpy2".

    Returns:
        One power per row.

    Example:
        >>> exponents, prime = np.array([[30], [31]], np.uint8), StructuredPrime(31, 3, 5)
        >>> fixed_base_powers(prime, exponents, subgroup=False, engine="python")
        [1, 623]
    """
    number = engines.number_type(engine)
    modulus = number(factor.prime) ** 2
    if len(exponents) < COMB_BATCH:
        base = number(generator(factor, subgroup=subgroup))
        return [int(pow(base, int.from_bytes(row.tobytes(), "big"), modulus)) for row in np.asarray(exponents)]
    table = _comb_table(factor, subgroup, engine, exponents.shape[1])
    powers = []
    for digits in np.asarray(exponents)[:, ::-1].tolist():
        power = number(1)
        for line, digit in zip(table, digits, strict=True):
            power = power * line[digit] % modulus
        powers.append(int(power))
    return powers


def joined_squares(x: Sequence[int], y: Sequence[int], p: int, q: int, *, engine: str) -> list[int]:
    """Join residues modulo p^2 and q^2 to residues modulo n^2.

    Args:
        x: residues modulo p^2.
        y: as many modulo q^2.
        p: a prime.
        q: the other.
        engine: "python" or "gmpy2".

    Returns:
        Residues modulo (p q)^2.

    Example:
        >>> joined_squares([2], [3], 5, 7, engine="python")
        [52]
    """
    number: Callable = engines.number_type(engine)
    p_squared, q_squared = number(p) ** 2, number(q) ** 2
    inverse = pow(p_squared, -1, q_squared)
    return [int(a + p_squared * ((b - a) * inverse % q_squared)) for a, b in zip(x, y, strict=True)]


@functools.lru_cache(maxsize=8)
def _comb_table(factor: StructuredPrime, subgroup: bool, engine: str, windows: int) -> list[list]:
    """table[i][d] = h^(d * 256^i) mod p^2: one row per byte of the exponent, least significant first."""
    number = engines.number_type(engine)
    modulus, base = number(factor.prime) ** 2, number(generator(factor, subgroup=subgroup))
    table = []
    for _ in range(windows):
        line = [number(1)]
        for _ in range(255):
            line.append(line[-1] * base % modulus)
        table.append(line)
        base = line[-1] * base % modulus
    return table
