"""Arithmetic of Z_p[y]/(y^n + 1) for NTT primes p < 2^29, batched, exact in float64 and uint64.

**Transform.** It evaluates a polynomial at psi^(2i + 1), i = 0..n-1, psi a primitive 2n-th root of one. With
m = n2 m1 + m2 and i = i1 + n1 i2 (n = n1 n2) it is two small matrix products and one pointwise product (four steps):

    V[i1 + n1 i2] = sum_m2 ( T[i1, m2] * sum_m1 A[i1, m1] X[m1, m2] ) B[m2, i2]

**Why float64 is exact.** A matrix entry is cut into limbs: the high one below 2^14, the low one below 2^15. With
n <= 2^14 a sum has at most 2^7 terms, so it stays below 2^15 2^29 2^7 = 2^51; adding a residue times 2^15, below 2^44,
keeps it below 2^52. Integer sums below 2^53 do not depend on their order: a CPU, a GPU and any version of XLA agree.

**`mod`** takes integers |x| < 2^52. x * (1/p) is off by at most 2^-51 of itself, hence by less than 2^-27 for p > 2^28
(and less than 1 for any p > 4), so its floor is off by at most one: x - floor p is an exact integer in [-p, 2p).

**Natural order.** Points i, i + w, i + 2w, ... (w = n/kappa) have the same kappa-th power, so the sum over the first
axis of values.reshape(kappa, w) is kappa times the transform, in Z_p[y]/(y^w + 1), y = x^kappa, of the coefficients at
multiples of kappa: one inner product per point yields the coefficients that are wanted, and no others.

Products of residues are below 2^58 and live in uint64, where up to 64 of them add up.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jcbir.typing import Array

LIMB = 15
PRIME_BITS = 29
# Products of two residues that fit in 64 bits together.
TERMS = 1 << (64 - 2 * PRIME_BITS)


@functools.cache
def root(p: int, order: int) -> int:
    """Power of the smallest base that has this order, a power of two, modulo p."""
    for base in range(2, p):
        candidate = pow(base, (p - 1) // order, p)
        if pow(candidate, order // 2, p) == p - 1:
            return candidate
    raise ValueError(f"p: must be a prime that is 1 modulo {order}, got {p}")


def mod(x: jax.Array, p: int) -> jax.Array:
    """Residues of float64 integers |x| < 2^52."""
    r = x - jnp.floor(x * (1.0 / p)) * p
    r = jnp.where(r < 0, r + p, r)
    return jnp.where(r >= p, r - p, r)


def rem(x: jax.Array, p: int) -> jax.Array:
    """Residues of uint64 numbers; p is a constant of the program, so no division is left."""
    return jax.lax.rem(x, jnp.uint64(p))


def centered(x: jax.Array, p: int) -> jax.Array:
    """Residues as int64 of absolute value at most p/2."""
    x = x.astype(jnp.int64)
    return jnp.where(x > p // 2, x - p, x)


def transform(x: Array, p: int, *, degree: int, inverse: bool = False) -> jax.Array:
    """Coefficients [..., n] (integers below 2^52) to values, or back: uint32, roots of the big ring of this degree."""
    (a_high, a_low), twist, (b_high, b_low) = _tables(p, x.shape[-1], degree, inverse)
    t_high, t_low = (limb[None] for limb in twist)
    shift = float(1 << LIMB)
    y = mod(jnp.asarray(x).astype(jnp.float64), p).reshape(-1, len(a_high), len(b_high))
    y = mod(mod(_matmul(a_high, y), p) * shift + _matmul(a_low, y), p)
    y = mod(mod(y * t_high, p) * shift + y * t_low, p)
    y = mod(mod(_matmul(y, b_high), p) * shift + _matmul(y, b_low), p)
    return jnp.swapaxes(y, -1, -2).reshape(x.shape).astype(jnp.uint32)


def inner(rows: jax.Array, query: jax.Array, p: int) -> jax.Array:
    """Sum over the first axis of the products of residues: uint64[w], at most 64 products between reductions."""
    products = rows.astype(jnp.uint64) * query.astype(jnp.uint64)
    if len(products) <= TERMS:
        return rem(products.sum(0), p)
    return rem(rem(products.reshape(-1, TERMS, products.shape[-1]).sum(1), p).sum(0), p)


def switch(residues: list[jax.Array], primes: tuple[int, ...], t: int, *, keep: int) -> list[jax.Array]:
    """Divide x by the primes after the first `keep`: to within t/2, exact modulo t up to the factor 1/divisor."""
    x = [r.astype(jnp.uint64) for r in residues]
    for i in reversed(range(keep, len(primes))):
        p = primes[i]
        # x + t delta is a multiple of p and equals x modulo t. |delta| < p/2 is less than every other prime.
        delta = centered(rem(x[i] * jnp.uint64(-pow(t, -1, p) % p), p), p)
        for j, s in enumerate(primes[:i]):
            lifted = x[j] + jnp.uint64(t % s) * (delta + s).astype(jnp.uint64)
            x[j] = rem(rem(lifted, s) * jnp.uint64(pow(p, -1, s)), s)
    return [r.astype(jnp.uint32) for r in x[:keep]]


def _matmul(a, b) -> jax.Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


@functools.cache
def _tables(p: int, n: int, degree: int, inverse: bool):
    """A, T and B of Z_p[y]/(y^n + 1), y = x^(degree/n), in two limbs each: one psi serves all of them."""
    psi = pow(root(p, 2 * degree), degree // n, p)
    if inverse:
        psi = pow(psi, -1, p)
    n1 = 1 << (n.bit_length() // 2)
    n2 = n // n1
    r1, r2 = np.arange(n1), np.arange(n2)
    # Forward, psi^m on the way in; inverse, psi^-m / n on the way out.
    into, out = (0, 1) if inverse else (1, 0)
    a = _powers(psi, p, 2 * n2 * np.outer(r1, r1) + into * n2 * r1[None, :], 2 * n)
    t = _powers(psi, p, 2 * np.outer(r1, r2) + (r1[:, None] if inverse else r2[None, :]), 2 * n)
    b = _powers(psi, p, 2 * n1 * np.outer(r2, r2) + out * n1 * r2[None, :], 2 * n)
    if inverse:
        b = b * pow(n, -1, p) % p
    return _limbs(a), _limbs(t), _limbs(b)


def _powers(base: int, p: int, exponents: np.ndarray, order: int) -> np.ndarray:
    table = [1]
    for _ in range(order - 1):
        table.append(table[-1] * base % p)
    return np.array(table, np.int64)[exponents % order]


def _limbs(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (matrix >> LIMB).astype(np.float64), (matrix & ((1 << LIMB) - 1)).astype(np.float64)
