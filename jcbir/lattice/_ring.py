"""Arithmetic of Z_p[y]/(y^n + 1) for NTT primes 2^28 < p < 2^29, batched, exact in float64 and uint64.

**Primes** run down the first axis, and a program treats all of them at once: it compiles in half the time that one
after the other takes. `transform`, `inner` and `switch` are programs by themselves: in one with what follows, which
reads each number more than once, the compiler computes it as often.

**Transform.** It evaluates a polynomial at psi^(2i + 1), i = 0..n-1, psi a primitive 2n-th root of one. With
m = n2 m1 + m2 and i = i1 + n1 i2 (n = n1 n2) it is two small matrix products and one pointwise product (four steps):

    V[i1 + n1 i2] = sum_m2 ( T[i1, m2] * sum_m1 A[i1, m1] X[m1, m2] ) B[m2, i2]

where n is more than 2^10 the sum over m2 is done likewise: three products by matrices of at most 2^5 rows.

**Why float64 is exact.** A matrix entry is cut into limbs: the high one below 2^14, the low one below 2^15. With
n <= 2^14 a sum has at most 2^5 terms, so it stays below 2^15 2^29 2^5 = 2^49; adding a residue times 2^15, below 2^44,
keeps it below 2^52. Integer sums below 2^53 do not depend on their order: a CPU, a GPU and any version of XLA agree.

**`nearest`** takes integers |x| < 2^52. x * (1/p) is off by at most 2^-52 of itself, hence by less than 2^-28 for
p > 2^28 (and less than 1/4 for any p > 4); the nearest whole number times p is an integer below 2^53, so x less that is
exact, and |it| <= (1/2 + 2^-28) p (and 3/4 p for any p > 4). `mod` adds p to what is below zero.

**`rem`** takes uint64. floor(x/2) as float64 times 2/p is below 2^36 and off from x/p by less than 2^36 2^-51 + 2^-28,
so its integer part is off by at most one: x - p times it, modulo 2^64, is a number in [-p, 2p), and the least of it and
what p more or less makes of it is the residue. It takes half as long as the multiplication that stands for a division.

**Natural order.** Points i, i + w, i + 2w, ... (w = n/kappa) have the same kappa-th power, so the sum over the first
axis of values.reshape(kappa, w) is kappa times the transform, in Z_p[y]/(y^w + 1), y = x^kappa, of the coefficients at
multiples of kappa: one inner product per point yields the coefficients that are wanted, and no others. An inverse
transform of fewer than n values takes them for such sums: it divides by n.

Products of residues are below 2^58 and live in uint64, where up to 64 of them add up.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jcbir.typing import Array

LIMB = 15
PRIME_BITS = 29
# Products of two residues that fit in 64 bits together.
TERMS = 1 << (64 - 2 * PRIME_BITS)
RUN = 8


@functools.cache
def root(p: int, order: int) -> int:
    """Power of the smallest base that has this order, a power of two, modulo p."""
    for base in range(2, p):
        candidate = pow(base, (p - 1) // order, p)
        if pow(candidate, order // 2, p) == p - 1:
            return candidate
    raise ValueError(f"p: must be a prime that is 1 modulo {order}, got {p}")


def column(values: Sequence[int], ndim: int) -> np.ndarray:
    """uint64, one number for each prime down the first of so many axes."""
    return np.array(values, np.uint64).reshape(-1, *[1] * (ndim - 1))


def nearest(x: jax.Array, primes: tuple[int, ...]) -> jax.Array:
    """Residues next to zero of float64 integers |x| < 2^52, of which an axis of length one serves all primes."""
    p = column(primes, x.ndim).astype(np.float64)
    return x - jnp.round(x * (1.0 / p)) * p


def mod(x: jax.Array, primes: tuple[int, ...]) -> jax.Array:
    """The same from 0 to p - 1."""
    r = nearest(x, primes)
    return jnp.where(r < 0, r + column(primes, x.ndim).astype(np.float64), r)


def rem(x: jax.Array, primes: tuple[int, ...]) -> jax.Array:
    """Residues of uint64 numbers, of which an axis of length one serves all primes."""
    p = column(primes, x.ndim)
    half = (x >> jnp.uint64(1)).astype(jnp.int64).astype(jnp.float64)
    r = x - (half * (2.0 / p.astype(np.float64))).astype(jnp.int64).astype(jnp.uint64) * p
    r = jnp.minimum(r, r + p)
    return jnp.minimum(r, r - p)


def centered(x: jax.Array, p: int) -> jax.Array:
    """Residues as int64 of absolute value at most p/2."""
    x = x.astype(jnp.int64)
    return jnp.where(x > p // 2, x - p, x)


@functools.partial(jax.jit, static_argnames=("primes", "degree", "inverse"))
def transform(x: Array, primes: tuple[int, ...], *, degree: int, inverse: bool = False) -> jax.Array:
    """Coefficients [primes or 1, b, n] (integers below 2^52) to values, or sums of values back: uint32."""
    count, batch, n = len(primes), x.shape[1], x.shape[-1]
    steps, shift = _tables(primes, n, degree, inverse), float(1 << LIMB)

    def joined(high: jax.Array, low: jax.Array) -> jax.Array:
        return nearest(high, primes) * shift + low

    y = nearest(jnp.asarray(x).astype(jnp.float64)[:, None], primes)
    for (high, low), (t_high, t_low) in steps[:-1]:
        # The index that a step transforms comes first: one matrix product for each prime.
        size, rest = t_high.shape[1:]
        y = jnp.moveaxis(y.reshape(count, -1, batch, size, rest), 3, 1).reshape(count, size, -1)
        y = nearest(joined(_matmul(high, y), _matmul(low, y)), primes).reshape(count, size, -1, rest)
        y = nearest(joined(y * t_high[:, :, None], y * t_low[:, :, None]), primes)
    (high, low), _ = steps[-1]
    y = y.reshape(count, -1, high.shape[-1])
    y = mod(joined(_matmul(y, high), _matmul(y, low)), primes)
    y = jnp.transpose(y.reshape(count, -1, batch, high.shape[-1]), (0, 2, 3, 1))
    return y.reshape(count, batch, n).astype(jnp.uint32)


@functools.partial(jax.jit, static_argnames="primes")
def inner(rows: Array, query: Array, primes: tuple[int, ...]) -> jax.Array:
    """Residues of sums over m of rows [b, primes, m, w] times query [primes, m, w]: uint64[primes, b, w]."""
    count = query.shape[1]
    # 64 products at a time. Eight terms written out, the rest a reduction: vector code that reads each row once.
    shape = (len(primes), -1, min(count, TERMS) // min(count, RUN), min(count, RUN), query.shape[-1])

    def block(row: jax.Array) -> jax.Array:
        left, right = (x.reshape(shape).astype(jnp.uint64) for x in (row, query))
        sums = sum(left[:, :, :, i] * right[:, :, :, i] for i in range(shape[3])).sum(2)
        return rem((rem(sums, primes) if count > TERMS else sums).sum(1), primes)

    return jax.vmap(block, out_axes=1)(rows)


@functools.partial(jax.jit, static_argnames=("primes", "t", "keep"))
def switch(residues: jax.Array, primes: tuple[int, ...], t: int, *, keep: int) -> jax.Array:
    """Divide x by the primes after the first `keep`: to within t/2, exact modulo t up to the factor 1/divisor."""
    # A prime at a time: with scalars for constants the compiler makes vector code.
    x = [row[None].astype(jnp.uint64) for row in residues]
    for i in reversed(range(keep, len(primes))):
        p = primes[i]
        # x + t delta is a multiple of p and equals x modulo t. |delta| < p/2 is less than every other prime.
        delta = centered(rem(x[i] * jnp.uint64(-pow(t, -1, p) % p), (p,)), p)
        for j, s in enumerate(primes[:i]):
            inverse = pow(p, -1, s)
            shifted = (delta + s).astype(jnp.uint64) * jnp.uint64(t * inverse % s)
            x[j] = rem(x[j] * jnp.uint64(inverse) + shifted, (s,))
    return jnp.concatenate(x[:keep]).astype(jnp.uint32)


def _matmul(a, b) -> jax.Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


@functools.cache
def _tables(primes: tuple[int, ...], n: int, degree: int, inverse: bool):
    """Matrix and twist of each step of Z_p[y]/(y^n + 1), y = x^(degree/n), in two limbs each, for all primes."""
    each = [_steps(p, n, degree, inverse) for p in primes]
    return tuple(tuple(_limbs(np.stack(part)) for part in zip(*step, strict=True)) for step in zip(*each, strict=True))


def _steps(p: int, n: int, degree: int, inverse: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Matrices and twists for one prime: one psi serves all of them."""
    psi = pow(root(p, 2 * degree), degree // n, p)
    if inverse:
        psi = pow(psi, -1, p)
    bits = n.bit_length() - 1
    count = 3 if bits > 10 else 2
    steps, done = [], 1
    for number in range(count):
        size = 1 << (bits + count - 1 - number) // count
        rest = n // done // size
        i, r = np.arange(size), np.arange(rest)
        # Forward, psi^m on the way in; inverse, psi^-m / degree on the way out: n/degree of it is for the sums.
        matrix, twist = 2 * done * rest * np.outer(i, i), 2 * done * np.outer(i, r)
        if inverse:
            twist += done * i[:, None]
            matrix += done * i[:, None] * (rest == 1)
        elif number == 0:
            twist += r[None, :]
            matrix += rest * i[None, :]
        steps.append((_powers(psi, p, matrix, 2 * n), _powers(psi, p, twist, 2 * n)))
        done *= size
    last, twist = steps[-1]
    # The last step multiplies from the other side.
    steps[-1] = ((last * pow(degree, -1, p) % p if inverse else last).T, twist)
    return steps


def _powers(base: int, p: int, exponents: np.ndarray, order: int) -> np.ndarray:
    table = [1]
    for _ in range(order - 1):
        table.append(table[-1] * base % p)
    return np.array(table, np.int64)[exponents % order]


def _limbs(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (matrix >> LIMB).astype(np.float64), (matrix & ((1 << LIMB) - 1)).astype(np.float64)
