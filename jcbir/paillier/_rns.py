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
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int32, Int64, UInt8, UInt16

from jcbir.paillier._primes import small_primes
from jcbir.typing import Array

LIMB = 16
MANTISSA = 53
# Products added to a base extension's K: at most five, when four pieces of a number and a quotient are loaded.
SPARE = 8
# Subtracted from an estimated quotient that errs by less: it is then right or one too small, never too large.
DOUBT = 0.25
WINDOW = 5


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


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class Modulus:
    """All that arithmetic modulo N^2 needs to know of one odd N; a compiled program serves every N of `bits` bits.

    Attributes:
        bits: size of N, fixed when a program is compiled.
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
        high: the matrix that multiplies a digit's limbs by N.
        enter: weights of a number's pieces that bring it into Montgomery form; plain: that keep it plain.
        one: 1 in Montgomery form; unit: plain 1, which leaves Montgomery form.
    """

    bits: int = field(metadata={"static": True})
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
    high: Float[Array, "h l"]
    enter: Digits
    plain: Digits
    one: Digits
    unit: Digits


@functools.cache
def choose_bases(bits: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Bases A and B for moduli below 2^bits: primes 3 modulo 4, A as large as exactness permits.

    With beta = K/2 + 3 they satisfy M_A > 2 beta^2 2^bits and M_B > 8 beta 2^bits, which keep all digits within beta N:
    |r| <= |t|/M_A + |q| N/M_A, |q| <= K/2 M_A (the first extension is not corrected) and |t| <= 2 beta^2 N^2 + |q|.
    """
    small, count = small_primes(), max(4, bits // 26)
    while True:
        twice_beta = count + 6
        # Below 2^25 a residue is exact in float32 too, which halves the tables of a comb.
        top = min(2 * math.isqrt((1 << MANTISSA) // (count + SPARE)), 1 << 25) - 8
        a = tuple(itertools.islice(_descending_primes(top, small), count))
        # `exact_residue` reads x/N off a float64 fraction of M_B: no larger than needed, not to spend its digits.
        least = 4 * twice_beta << bits
        near = int(2 ** ((bits + math.log2(4 * twice_beta) + 0.2) / count))
        others = (m for m in _descending_primes(min(near, top), small) if m not in a)
        b = tuple(itertools.islice(others, count))
        if 2 * math.prod(a) > twice_beta**2 << bits and math.prod(b) > least:
            return a, b
        count += 1


def montgomery_radix(n: int) -> int:
    """M_A, the product of base A: the number that a Montgomery reduction modulo n divides by."""
    return math.prod(choose_bases(n.bit_length())[0])


def modulus_constants(n: int, *, width: int) -> Modulus:
    """The record of an odd modulus coprime to the bases, as NumPy arrays, for numbers that come in as rows of `width`
    bytes."""
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
    digit, limbs_out = -(-n.bit_length() // LIMB), -(-product_b.bit_length() // LIMB) + 1
    pieces = [1 << (LIMB * piece_limbs(n.bit_length()) * j) for j in range(piece_count(n.bit_length(), width))]

    def column(values):
        return np.array(values, np.float64).reshape(-1, 1)

    def residues(values):
        return Residues(_channels(values, a, kappa), _channels(values, b, lam))

    def digits(values):
        return Digits(residues([v % (n * n) % n for v in values]), residues([v % (n * n) // n for v in values]))

    limb_weights = residues([1 << (LIMB * i) for i in range(digit)])
    return Modulus(
        bits=n.bit_length(),
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
        in_a=limb_weights.a,
        in_b=limb_weights.b,
        crt_b=column([_symmetric(pow(x * c, -1, m), m) for x, c, m in zip(lam, cofactors, b, strict=True)]),
        out=np.concatenate([integer_limbs(c, limbs_out) for c in cofactors], axis=1),
        wrap_out=integer_limbs(product_b, limbs_out),
        limbs=integer_limbs(n, limbs_out),
        ratio=np.array([[product_b / n]]),
        high=toeplitz(n, rows=-(-2 * n.bit_length() // LIMB), columns=digit),
        enter=digits([product_a**2 * piece for piece in pieces]),
        plain=digits([product_a * piece for piece in pieces]),
        one=digits([product_a]),
        unit=digits([1]),
    )


def represent(modulus: Modulus, values: Sequence[int]) -> Residues:
    """NumPy residues, [K, len(values)], of Python integers of absolute value at most (K/2 + 3) N, for constants."""
    bases = ((modulus.a, modulus.in_a), (modulus.b, modulus.in_b))
    columns = ([[int(v) for v in np.asarray(table)[:, 0].tolist()] for table in base] for base in bases)
    return Residues(*(_channels(values, moduli, scales) for moduli, scales in columns))


def represent_digits(modulus: Modulus, n: int, values: Sequence[int]) -> Digits:
    """NumPy digits, [K, len(values)], of Python integers in [0, n^2), for constants."""
    return Digits(represent(modulus, [v % n for v in values]), represent(modulus, [v // n for v in values]))


def integer_limbs(value: int, count: int) -> Float[np.ndarray, "m 1"]:
    """Little-endian 16-bit limbs of a number, as a column of floats."""
    return np.frombuffer(value.to_bytes(2 * count, "little"), "<u2").astype(np.float64).reshape(-1, 1)


# Products.


def reduce_channels(
    t: Float[Array, "k n"], moduli: Float[Array, "k 1"], inverses: Float[Array, "k 1"]
) -> Float[Array, "k n"]:
    """Symmetric residues t - m round(t/m) of integers |t| < 2^53.

    |t/m| < 2^53/m is off by at most 2^-52 of itself, so |result| <= m/2 + 2; it is exact, as t and m * round(t/m) are
    integers below 2^54 that differ by less than 2^53. The 2 is why the moduli stay 8 below their bound.
    """
    return t - moduli * jnp.round(t * inverses)


def montgomery(
    modulus: Modulus, t_a: Float[Array, "k n"], t_b: Float[Array, "k n"]
) -> tuple[Residues, Float[Array, "k n"], Float[Array, "k n"]]:
    """Montgomery reduction r = (t + q N)/M_A of sums of products of residues, with its quotient q = -t/N mod M_A.

    Bounds: |t_a| < 2^53; |t_b| <= 8 (b/2)^2, so that with the K products of the extension every sum stays below 2^53.
    Gives r; the coefficients of q in A (times `carry_a`: its residues); q N/M_A in B, not reduced.
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
    """(low + cross N)/M_A modulo N^2 of sums of products: the low digit's quotient is its carry into the high one."""
    r_low, xi, carried = montgomery(modulus, low.a, low.b)
    quotient = reduce_channels(carried, modulus.b, modulus.b_inverse)
    t_a, t_b = cross.a - xi * modulus.carry_a, cross.b - quotient * modulus.carry_b
    return Digits(r_low, montgomery(modulus, t_a, t_b)[0])


def product(modulus: Modulus, x: Digits, y: Digits) -> Digits:
    """x y/M_A modulo N^2; y is a batch of as many as x, or of one."""
    (x0, x1), (y0, y1) = x, y
    low = Residues(x0.a * y0.a, x0.b * y0.b)
    cross = Residues(x0.a * y1.a + x1.a * y0.a, x0.b * y1.b + x1.b * y0.b)
    return two_digit_reduction(modulus, low, cross)


def square(modulus: Modulus, x: Digits) -> Digits:
    """x^2/M_A modulo N^2, with one cross product in place of two."""
    x0, x1 = x
    low = Residues(x0.a * x0.a, x0.b * x0.b)
    return two_digit_reduction(modulus, low, Residues(2 * (x0.a * x1.a), 2 * (x0.b * x1.b)))


# Powers of numbers in Montgomery form.


def exponent_digits(exponent: int, *, bits: int) -> Int32[np.ndarray, "w"]:
    """Base-32 digits of an exponent below 2^bits, most significant first: their number does not depend on the key."""
    count = -(-bits // WINDOW)
    return np.array([exponent >> (WINDOW * i) & ((1 << WINDOW) - 1) for i in reversed(range(count))], np.int32)


def shared_power(modulus: Modulus, x: Digits, digits: Int32[Array, "w"]) -> Digits:
    """x^e for one exponent e shared by the batch, by fixed windows of five bits.

    Which products are computed does not depend on e; which table entry is read does.
    """
    table = _window_table(modulus, x)

    def entry(digit):
        return jax.tree.map(lambda t: jax.lax.dynamic_index_in_dim(t, digit, keepdims=False), table)

    def step(power, digit):
        for _ in range(WINDOW):
            power = square(modulus, power)
        return product(modulus, power, entry(digit)), None

    return jax.lax.scan(step, entry(digits[0]), digits[1:])[0]


def private_powers(modulus: Modulus, x: Digits, digits: Int32[Array, "w n"]) -> Digits:
    """x_i^(e_i), each number with an exponent of its own.

    The table entry is chosen by a sum over all entries: neither time nor addresses depend on the exponents.
    """
    table = _window_table(modulus, x)

    def entry(digit):
        chosen = (jnp.arange(1 << WINDOW, dtype=digits.dtype)[:, None, None] == digit).astype(jnp.float64)
        return jax.tree.map(lambda t: jnp.sum(t * chosen, axis=0), table)

    def step(power, digit):
        for _ in range(WINDOW):
            power = square(modulus, power)
        return product(modulus, power, entry(digit[None, None])), None

    return jax.lax.scan(step, entry(digits[0][None, None]), digits[1:])[0]


def comb_table(modulus: Modulus, bases: Digits) -> Float[Array, "w 256 c"]:
    """Powers 0 to 255 of each base, both digits in both bases: the table of a comb whose bases are h^(256^i).

    A residue is at most 2^23.7 in absolute value, exact in float32, which halves the table.
    """

    def flat(power):
        return jnp.concatenate(jax.tree.leaves(power)).astype(jnp.float32)

    def step(power, _):
        following = product(modulus, power, bases)
        return following, flat(following)

    first = _ones(modulus, bases.low.a.shape)
    _, rest = jax.lax.scan(step, first, None, length=255)
    return jnp.concatenate([flat(first)[None], rest]).transpose(2, 0, 1)


def comb_power(modulus: Modulus, table: Float[Array, "w 256 c"], exponents: UInt8[Array, "n w"]) -> Digits:
    """h^(e_i) for big-endian exponents: prod_j table[j][byte j], one product a byte and no squaring.

    References:
        Brickell, Gordon, McCurley and Wilson, 1993, Fast exponentiation with precomputation.
    """
    channels = table.shape[2] // 4

    def step(power, window):
        lines, digit = window
        rows = lines[digit].T.astype(jnp.float64)
        parts = (rows[i * channels : (i + 1) * channels] for i in range(4))
        factor = Digits(Residues(next(parts), next(parts)), Residues(next(parts), next(parts)))
        return product(modulus, power, factor), None

    digits = exponents[:, ::-1].T.astype(jnp.int32)
    return jax.lax.scan(step, _ones(modulus, (channels, len(exponents))), (table, digits))[0]


def _window_table(modulus: Modulus, x: Digits) -> Digits:
    """x^0 to x^31, stacked."""
    first = _ones(modulus, x.low.a.shape)

    def step(power, _):
        following = product(modulus, power, x)
        return following, following

    _, rest = jax.lax.scan(step, first, None, length=(1 << WINDOW) - 1)
    return jax.tree.map(lambda f, r: jnp.concatenate([f[None], r]), first, rest)


def _ones(modulus: Modulus, shape: tuple[int, ...]) -> Digits:
    """1 in Montgomery form, for each number of a batch."""
    return jax.tree.map(lambda o: jnp.broadcast_to(jnp.asarray(o), shape), modulus.one)


# The way in: byte rows, little-endian 16-bit limbs [limbs, n], residues.


def piece_limbs(bits: int) -> int:
    """Limbs of the pieces that numbers are loaded in: as many as surely stay below twice a modulus of so many bits."""
    return bits // LIMB


def piece_count(bits: int, width: int) -> int:
    """Pieces of a row of `width` bytes."""
    return -(-8 * width // (LIMB * piece_limbs(bits)))


def rows_to_limbs(rows: UInt8[Array, "n w"], *, count: int) -> UInt16[Array, "l n"]:
    """The `count` least significant limbs of big-endian rows; what a short row lacks is zero."""
    missing = 2 * count - rows.shape[1]
    wide = jnp.pad(rows, ((0, 0), (max(missing, 0), 0)))[:, max(-missing, 0) :]
    octets = wide.astype(jnp.uint16).reshape(len(rows), count, 2)
    return ((octets[..., 0] << 8) | octets[..., 1])[:, ::-1].T


def load_pieces(modulus: Modulus, rows: UInt8[Array, "n w"]) -> list[Residues]:
    """A number's pieces, each short enough to be a digit: x = sum_j piece_j 2^(16 L j)."""
    size, count = piece_limbs(modulus.bits), piece_count(modulus.bits, rows.shape[1])
    limbs = rows_to_limbs(rows, count=size * count).astype(jnp.float64)
    return [limb_residues(modulus, limbs[j * size : (j + 1) * size]) for j in range(count)]


def load(modulus: Modulus, weights: Digits, rows: UInt8[Array, "n w"]) -> Digits:
    """Rows to digits, sum_j piece_j * weight_j reduced once: no number is divided on the way in."""
    low = cross = Residues(jnp.float64(0), jnp.float64(0))
    for j, x in enumerate(load_pieces(modulus, rows)):
        column = jax.tree.map(lambda w: w[:, j : j + 1], weights)  # noqa: B023
        low = Residues(low.a + x.a * column.low.a, low.b + x.b * column.low.b)
        cross = Residues(cross.a + x.a * column.high.a, cross.b + x.b * column.high.b)
    return two_digit_reduction(modulus, low, cross)


def limb_residues(modulus: Modulus, limbs: Float[Array, "l n"]) -> Residues:
    """Residues of numbers at most (K/2 + 3) N; a sum of L limbs times constants is below L * 2^16 * 2^24 < 2^53."""
    count = limbs.shape[0]
    a = jnp.matmul(modulus.in_a[:, :count], limbs, precision=jax.lax.Precision.HIGHEST)
    b = jnp.matmul(modulus.in_b[:, :count], limbs, precision=jax.lax.Precision.HIGHEST)
    return Residues(reduce_channels(a, modulus.a, modulus.a_inverse), reduce_channels(b, modulus.b, modulus.b_inverse))


# The way out: plain residues, limbs, byte rows.


def unload(modulus: Modulus, x: Digits, *, width: int) -> UInt8[Array, "n w"]:
    """Plain digits to rows of the number below N^2."""
    first, second = exact_digits(modulus, x)
    limbs = jnp.matmul(modulus.high, second.astype(jnp.float64), precision=jax.lax.Precision.HIGHEST)
    limbs = carry(limbs.astype(jnp.int64).at[: len(first)].add(first))[0]
    return limbs_to_rows(limbs.astype(jnp.uint16), width=width)


def exact_digits(modulus: Modulus, x: Digits) -> tuple[Int64[Array, "d n"], Int64[Array, "d n"]]:
    """Normal limbs of both digits, in [0, N) each."""
    size = modulus.in_a.shape[1]
    first, quotient = exact_residue(modulus, x.low.b, jnp.zeros(x.low.b.shape[1], jnp.int64))
    second, _ = exact_residue(modulus, x.high.b, quotient)
    return first[:size], second[:size]


def exact_residue(
    modulus: Modulus, x_b: Float[Array, "k n"], addend: Int64[Array, "n"]
) -> tuple[Int64[Array, "l n"], Int64[Array, "n"]]:
    r"""x + addend modulo N as limbs, and the quotient, for |x| <= (K/2 + 3) N known by its residues in B.

    x = sum z_j M_B/b_j - alpha M_B with alpha = round(sum z_j/b_j), as |x| < M_B/8. The sum of K floats, each at most
    1/2, errs by less than K^2 2^-53; times M_B/N < 2^20 that is far less than 1/4 (the tests compute it). So the
    quotient k = floor(x/N - 1/4) leaves x - k N in [0, 2 N), and one conditional subtraction ends it.
    """
    z = reduce_channels(x_b * modulus.crt_b, modulus.b, modulus.b_inverse)
    fraction = jnp.sum(z * modulus.b_inverse, axis=0, keepdims=True)
    alpha = jnp.round(fraction)
    quotient = jnp.floor((fraction - alpha) * modulus.ratio - DOUBT)
    limbs = jnp.matmul(modulus.out, z, precision=jax.lax.Precision.HIGHEST)
    limbs = limbs - alpha * modulus.wrap_out - quotient * modulus.limbs
    limbs = limbs.astype(jnp.int64).at[0].add(addend)
    normal, more = subtract_once(carry(limbs)[0], modulus.limbs.astype(jnp.int64))
    return normal, quotient[0].astype(jnp.int64) + more


def carry(limbs: Int64[Array, "l n"]) -> tuple[Int64[Array, "l n"], Int64[Array, "n"]]:
    """Normalize limbs of absolute value below 2^62 to [0, 2^16); the overflow is negative exactly if the number is."""

    def step(carried, limb):
        total = limb + carried
        return total >> LIMB, total & ((1 << LIMB) - 1)

    over, normal = jax.lax.scan(step, jnp.zeros_like(limbs[0]), limbs, unroll=8)
    return normal, over


def subtract_once(
    limbs: Int64[Array, "l n"], bound: Int64[Array, "l 1"]
) -> tuple[Int64[Array, "l n"], Int64[Array, "n"]]:
    """x - bound where x >= bound, else x; and 1 where it was subtracted."""
    difference, over = carry(limbs - bound)
    fits = over >= 0
    return jnp.where(fits[None, :], difference, limbs), fits.astype(limbs.dtype)


def limbs_to_rows(limbs: UInt16[Array, "l n"], *, width: int) -> UInt8[Array, "n w"]:
    """Limbs to big-endian rows of at most 2 l bytes; higher bytes are zero and dropped."""
    octets = jnp.stack([limbs >> 8, limbs & 255], axis=1)[::-1].astype(jnp.uint8)
    return octets.reshape(2 * len(limbs), -1).T[:, 2 * len(limbs) - width :]


def toeplitz(value: int, *, rows: int, columns: int) -> Float[np.ndarray, "r c"]:
    """The matrix that multiplies limbs by a constant below 2^(16 rows): entry (i, j) is the constant's limb i - j.

    With limbs below 2^16 on both sides a column sum is below columns * 2^32: exact in float64.
    """
    limbs = integer_limbs(value, rows)[:, 0]
    matrix = np.zeros((rows, columns))
    for j in range(columns):
        matrix[j:, j] = limbs[: rows - j]
    return matrix


def _channels(values: Sequence[int], moduli: Sequence[int], scales: Sequence[int]) -> Float[np.ndarray, "k n"]:
    """Symmetric residues of value times scale, a row per modulus."""
    return np.array([[_symmetric(v * k, m) for v in values] for m, k in zip(moduli, scales, strict=True)])


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
