r"""Arithmetic modulo N and N^2 on residues: big numbers as columns of small ones, without carries, as matrix products.

**Residues.** Two bases A and B of K primes below 2^w each. A number x is the column of its symmetric residues, at
most m/2 in absolute value, in float64. Sums and products are elementwise. A batch of n numbers is [K, n] per base:
the batch is the contiguous axis.

**Why float64 is exact.** Every number computed is an integer below 2^53. The largest are the sums of a base
extension: K products of residues and constants, and fewer than 8 such products added to them. So w is chosen with
(K + 8) 2^(2(w-1)) <= 2^53: K = 42 primes of 24.7 bits for N of 1024 bits. Integer sums below 2^53 do not depend on
their order: a CPU, a GPU and any version of XLA give the same bits.

**Montgomery reduction** divides by M_A, the product of A: with q = -t/N mod M_A, r = (t + q N)/M_A is an integer,
congruent to t/M_A modulo N and smaller than t. In A, q costs one product per channel; it is carried to B by a matrix
product, where the division is another product; r is carried back to A by a second matrix product.

**Two digits** make N^2 as cheap as N: x = x_0 + x_1 N. From x_0 y_0 = M_A r_0 - q N the quotient q is exactly what the
low digit carries into the high one: (x y)/M_A = r_0 + N reduce(x_0 y_1 + x_1 y_0 - q) modulo N^2.

**Constants vanish into the representation.** A channel stores not x but x kappa with kappa^2 = +-c for the constant c
of every product there. As the moduli are 3 modulo 4, c or -c is a square; the sign moves into the matrix.

References: Bajard et al., 1998 (RNS Montgomery); Kawamura et al., 2000 (exact extension); Emmart et al., 2018.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jcbir.paillier._primes import small_primes
from jcbir.paillier._rows import integer_limbs
from jcbir.typing import Array

LIMB = 16
MANTISSA = 53
# Products added to a base extension's K: at most five, when four pieces of a number and a quotient are loaded.
SPARE = 8


class Modulus(NamedTuple):
    """Constants of one odd modulus N: arrays only, so that one compiled program serves every N of one size.

    Attributes:
        a: moduli of base A, [K, 1]; a_inverse: their float reciprocals.
        b: moduli of base B, [K, 1]; b_inverse: their float reciprocals.
        to_b: first extension, [K, K]: row j holds +-N / (a_i M_B/b_j) mod b_j.
        to_a: second extension, [K + 1, K]: row i holds M_B/b_j kappa_i mod a_i; the last row 1/b_j finds the overflow.
        sign_b: the sign of lambda_j^2, [K, 1].
        wrap_a: M_B kappa_i mod a_i, what one overflow weighs in A.
        keep_b: from a reduced number's Chinese-remainder coefficients to its residues in B.
        carry_a: from the coefficients of q in A to its residues; carry_b: the same in B.
        in_a: residues of 256^(2k), [K, L], from limbs into A; in_b: into B.
        crt_b: from residues in B to Chinese-remainder coefficients.
        out: limbs of M_B/b_j, [L', K]; wrap_out: limbs of M_B, [L', 1].
        limbs: limbs of N, [L', 1]; ratio: M_B/N, [1, 1].
    """

    a: Float[Array, "k 1"]
    a_inverse: Float[Array, "k 1"]
    b: Float[Array, "k 1"]
    b_inverse: Float[Array, "k 1"]
    to_b: Float[Array, "k k"]
    to_a: Float[Array, "k+1 k"]
    sign_b: Float[Array, "k 1"]
    wrap_a: Float[Array, "k 1"]
    keep_b: Float[Array, "k 1"]
    carry_a: Float[Array, "k 1"]
    carry_b: Float[Array, "k 1"]
    in_a: Float[Array, "k l"]
    in_b: Float[Array, "k l"]
    crt_b: Float[Array, "k 1"]
    out: Float[Array, "m k"]
    wrap_out: Float[Array, "m 1"]
    limbs: Float[Array, "m 1"]
    ratio: Float[Array, "1 1"]


class Residues(NamedTuple):
    """A batch of numbers of absolute value at most (K/2 + 3) N.

    Attributes:
        a: x kappa_i mod a_i, [K, n].
        b: x lambda_j mod b_j, [K, n].
    """

    a: Float[Array, "k n"]
    b: Float[Array, "k n"]


class Digits(NamedTuple):
    """A batch of numbers modulo N^2, low + high * N.

    Attributes:
        low: the digit of weight 1.
        high: the digit of weight N.
    """

    low: Residues
    high: Residues


@functools.cache
def choose_bases(bits: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Bases A and B for moduli below 2^bits: primes 3 modulo 4, A as large as exactness permits.

    With beta = K/2 + 3 they satisfy M_A > 2 beta^2 2^bits and M_B > 8 beta 2^bits, which keep all digits within beta N:
    |r| <= |t|/M_A + |q| N/M_A, |q| <= K/2 M_A (the first extension is not corrected) and |t| <= 2 beta^2 N^2 + |q|.

    Args:
        bits: size of the moduli to serve.

    Returns:
        The primes of A and of B.

    Example:
        >>> a, b = choose_bases(1024)
        >>> len(a), len(b), (len(a) + 8) * (max(a + b) // 2) ** 2 < 2**53
        (42, 42, True)
    """
    small, count = small_primes(), max(4, bits // 26)
    while True:
        twice_beta = count + 6
        # Below 2^25 a residue is exact in float32 too, which halves the tables of a comb.
        top = min(2 * math.isqrt((1 << MANTISSA) // (count + SPARE)), 1 << 25) - 8
        a = tuple(itertools.islice(_descending_primes(top, small), count))
        # `limbs.exact_residue` reads x/N off a float64 fraction of M_B: no larger than needed, not to spend its digits.
        least = 4 * twice_beta << bits
        near = int(2 ** ((bits + math.log2(4 * twice_beta) + 0.2) / count))
        others = (m for m in _descending_primes(min(near, top), small) if m not in a)
        b = tuple(itertools.islice(others, count))
        if 2 * math.prod(a) > twice_beta**2 << bits and math.prod(b) > least:
            return a, b
        count += 1


def modulus_constants(n: int) -> Modulus:
    """Everything that products modulo n and n^2 need to know of n, as NumPy arrays.

    Args:
        n: an odd modulus, coprime to the bases.

    Returns:
        The constants.

    Example:
        >>> assert modulus_constants(2**127 - 1).to_b.shape == (6, 6)
    """
    a, b = choose_bases(n.bit_length())
    product_a, product_b = math.prod(a), math.prod(b)
    cofactors = [product_b // m for m in b]
    kappa, sign_a = _signed_roots([-pow(n * (product_a // m), -1, m) for m in a], a)
    lam, sign_b = _signed_roots([pow(product_a * cofactor, -1, m) for m, cofactor in zip(b, cofactors, strict=True)], b)
    # N/(a_i M_B/b_j) modulo b_j, the factors of b_j taken out of the inner loop.
    shares = [n * pow(cofactor, -1, m) % m for m, cofactor in zip(b, cofactors, strict=True)]
    first = [
        [_symmetric(s * share * pow(m, -1, mb), mb) for m, s in zip(a, sign_a, strict=True)]
        for mb, share in zip(b, shares, strict=True)
    ]
    second = [[_symmetric(cofactor * k, m) for cofactor in cofactors] for m, k in zip(a, kappa, strict=True)]
    limbs_in, limbs_out = -(-n.bit_length() // LIMB), -(-product_b.bit_length() // LIMB) + 1

    def column(values):
        return np.array(values, np.float64).reshape(-1, 1)

    def weights(scales, moduli):
        return np.array(
            [[_symmetric(k << (LIMB * i), m) for i in range(limbs_in)] for m, k in zip(moduli, scales, strict=True)]
        )

    return Modulus(
        a=column(a),
        a_inverse=1 / column(a),
        b=column(b),
        b_inverse=1 / column(b),
        to_b=np.array(first),
        to_a=np.array([*second, [1 / m for m in b]]),
        sign_b=column(sign_b),
        wrap_a=column([_symmetric(product_b * k, m) for m, k in zip(a, kappa, strict=True)]),
        keep_b=column([_symmetric(c * x, m) for c, x, m in zip(cofactors, lam, b, strict=True)]),
        carry_a=column([_symmetric(-pow(n, -1, m), m) for m in a]),
        carry_b=column([_symmetric(s * pow(n, -1, m), m) for s, m in zip(sign_b, b, strict=True)]),
        in_a=weights(kappa, a),
        in_b=weights(lam, b),
        crt_b=column([_symmetric(pow(x * c, -1, m), m) for x, c, m in zip(lam, cofactors, b, strict=True)]),
        out=np.concatenate([integer_limbs(c, limbs_out) for c in cofactors], axis=1),
        wrap_out=integer_limbs(product_b, limbs_out),
        limbs=integer_limbs(n, limbs_out),
        ratio=np.array([[product_b / n]]),
    )


def montgomery_radix(n: int) -> int:
    """M_A, the number that a Montgomery reduction modulo n divides by.

    Args:
        n: the modulus.

    Returns:
        The product of base A.

    Example:
        >>> assert montgomery_radix(2**127 - 1) > 2**127
    """
    return math.prod(choose_bases(n.bit_length())[0])


def represent(modulus: Modulus, values: Sequence[int]) -> Residues:
    """Residues of Python integers, for constants; batches of rows go through `powers.load`.

    Args:
        modulus: the constants, as NumPy arrays.
        values: integers of absolute value at most (K/2 + 3) N.

    Returns:
        NumPy residues of shape [K, len(values)].

    Example:
        >>> assert represent(modulus_constants(2**127 - 1), [0, 1]).a.shape == (6, 2)
    """

    def channels(moduli, scales):
        pairs = zip(moduli[:, 0].tolist(), scales[:, 0].tolist(), strict=True)
        return np.array([[_symmetric(v * int(k), int(m)) for v in values] for m, k in pairs])

    return Residues(channels(modulus.a, modulus.in_a), channels(modulus.b, modulus.in_b))


def represent_digits(modulus: Modulus, n: int, values: Sequence[int]) -> Digits:
    """Two digits of Python integers modulo n^2.

    Args:
        modulus: the constants of n, as NumPy arrays.
        n: the modulus.
        values: integers in [0, n^2).

    Returns:
        NumPy digits of shape [K, len(values)].

    Example:
        >>> represent_digits(modulus_constants(2**127 - 1), 2**127 - 1, [5]).high.a.any().item()
        False
    """
    return Digits(represent(modulus, [v % n for v in values]), represent(modulus, [v // n for v in values]))


def reduce_channels(
    t: Float[Array, "k n"], moduli: Float[Array, "k 1"], inverses: Float[Array, "k 1"]
) -> Float[Array, "k n"]:
    """Symmetric residues t - m round(t/m) of integers |t| < 2^53.

    |t/m| < 2^53/m is off by at most 2^-52 of itself, so |result| <= m/2 + 2; it is exact, as t and m * round(t/m) are
    integers below 2^54 that differ by less than 2^53. The 2 is why the moduli stay 8 below their bound.

    Args:
        t: integers of absolute value below 2^53.
        moduli: the modulus of each row.
        inverses: their float reciprocals.

    Returns:
        Integers congruent to t, of absolute value at most m/2.

    Example:
        >>> with jax.enable_x64(True):
        ...     t, m = jnp.array([[10.0, 12.0]]), jnp.array([[7.0]])
        ...     reduce_channels(t, m, 1 / m).tolist()
        [[3.0, -2.0]]
    """
    return t - moduli * jnp.round(t * inverses)


def montgomery(
    modulus: Modulus, t_a: Float[Array, "k n"], t_b: Float[Array, "k n"]
) -> tuple[Residues, Float[Array, "k n"], Float[Array, "k n"]]:
    """Montgomery reduction r = (t + q N)/M_A of products of residues, with its quotient q = -t/N mod M_A.

    Bounds: |t_a| < 2^53; |t_b| <= 8 (b/2)^2, so that with the K products of the extension every sum stays below 2^53.

    Args:
        modulus: the constants of N.
        t_a: t in base A, products of two stored residues each, not reduced.
        t_b: the same in base B.

    Returns:
        Residues of r; the coefficients of q in A (times `carry_a`: its residues); q N/M_A in B, not reduced.

    Example:
        >>> n = 2**127 - 1
        >>> m = modulus_constants(n)
        >>> with jax.enable_x64(True):
        ...     x, y = represent(m, [montgomery_radix(n)]), represent(m, [3])
        ...     r = montgomery(m, x.a * y.a, x.b * y.b)[0]
        >>> any(np.array_equal(r.b, represent(m, [3 + k * n]).b) for k in range(-6, 7))
        True
    """
    xi = reduce_channels(t_a, modulus.a, modulus.a_inverse)
    carried = jnp.matmul(modulus.to_b, xi, precision=jax.lax.Precision.HIGHEST)
    z = reduce_channels(carried + modulus.sign_b * t_b, modulus.b, modulus.b_inverse)
    extended = jnp.matmul(modulus.to_a, z, precision=jax.lax.Precision.HIGHEST)
    overflow = jnp.round(extended[-1:])
    r_a = reduce_channels(extended[:-1] - overflow * modulus.wrap_a, modulus.a, modulus.a_inverse)
    r_b = reduce_channels(z * modulus.keep_b, modulus.b, modulus.b_inverse)
    return Residues(r_a, r_b), xi, carried


def two_digit_reduction(modulus: Modulus, low: Residues, cross: Residues) -> Digits:
    """Reduce the digits of an unreduced product modulo N^2: the low one's quotient is its carry into the high one.

    Args:
        modulus: the constants of N.
        low: sums of products of stored residues, of weight 1.
        cross: the same, of weight N.

    Returns:
        (low + cross N)/M_A modulo N^2.

    Example:
        >>> n = 2**127 - 1
        >>> m = modulus_constants(n)
        >>> with jax.enable_x64(True):
        ...     x = represent(m, [1])
        ...     two_digit_reduction(m, Residues(x.a**2, x.b**2), Residues(0 * x.a, 0 * x.b)).low.a.shape
        (6, 1)
    """
    r_low, xi, carried = montgomery(modulus, low.a, low.b)
    quotient = reduce_channels(carried, modulus.b, modulus.b_inverse)
    t_a, t_b = cross.a - xi * modulus.carry_a, cross.b - quotient * modulus.carry_b
    return Digits(r_low, montgomery(modulus, t_a, t_b)[0])


def product(modulus: Modulus, x: Digits, y: Digits) -> Digits:
    """x y/M_A modulo N^2.

    Args:
        modulus: the constants of N.
        x: a batch.
        y: a batch of as many, or of one.

    Returns:
        The batch of products.

    Example:
        >>> n = 2**127 - 1
        >>> m = modulus_constants(n)
        >>> with jax.enable_x64(True):
        ...     x = represent_digits(m, n, [5, 6])
        ...     product(m, x, x).high.b.shape
        (6, 2)
    """
    (x0, x1), (y0, y1) = x, y
    low = Residues(x0.a * y0.a, x0.b * y0.b)
    cross = Residues(x0.a * y1.a + x1.a * y0.a, x0.b * y1.b + x1.b * y0.b)
    return two_digit_reduction(modulus, low, cross)


def square(modulus: Modulus, x: Digits) -> Digits:
    """x^2/M_A modulo N^2, with one cross product in place of two.

    Args:
        modulus: the constants of N.
        x: a batch.

    Returns:
        The batch of squares.

    Example:
        >>> n = 2**127 - 1
        >>> m = modulus_constants(n)
        >>> with jax.enable_x64(True):
        ...     square(m, represent_digits(m, n, [5, 6])).low.a.shape
        (6, 2)
    """
    x0, x1 = x
    low = Residues(x0.a * x0.a, x0.b * x0.b)
    return two_digit_reduction(modulus, low, Residues(2 * (x0.a * x1.a), 2 * (x0.b * x1.b)))


def _signed_roots(constants: list[int], moduli: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Roots k and signs s with k^2 = s * c modulo each m: as m = 3 modulo 4, exactly one of c and -c is a square."""
    roots, signs = [], []
    for c, m in zip(constants, moduli, strict=True):
        sign = 1 if pow(c, (m - 1) // 2, m) == 1 else -1
        roots.append(pow(sign * c, (m + 1) // 4, m))
        signs.append(sign)
    return roots, signs


def _descending_primes(top: int, small: list[int]) -> Iterator[int]:
    """Primes congruent to 3 modulo 4, from `top` downwards."""
    return (m for m in range(top - (top + 1) % 4, 0, -4) if all(m % p for p in small if p * p <= m))


def _symmetric(value: int, modulus: int) -> float:
    residue = value % modulus
    return float(residue - modulus if 2 * residue > modulus else residue)
