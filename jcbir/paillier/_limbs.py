"""Positional numbers for the way into and out of residues: little-endian 16-bit limbs, [limbs, n], batch contiguous.

All of it runs inside compiled programs: bytes go to the device and bytes come back.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int64, UInt8, UInt16

from jcbir.paillier._rns import LIMB, Modulus, integer_limbs, reduce_channels
from jcbir.typing import Array

# Subtracted from an estimated quotient that errs by less: it is then right or one too small, never too large.
DOUBT = 0.25


def rows_to_limbs(rows: UInt8[Array, "n w"], *, count: int) -> UInt16[Array, "l n"]:
    """Turn big-endian byte rows into limbs, least significant first.

    Args:
        rows: rows of shape [n, w].
        count: limbs to give; missing ones are zero, surplus ones are dropped.

    Returns:
        Limbs of shape [count, n].

    Example:
        >>> rows_to_limbs(np.array([[1, 2, 3]], np.uint8), count=3).ravel().tolist()
        [515, 1, 0]
    """
    missing = 2 * count - rows.shape[1]
    wide = jnp.pad(rows, ((0, 0), (max(missing, 0), 0)))[:, max(-missing, 0) :]
    octets = wide.astype(jnp.uint16).reshape(len(rows), count, 2)
    return ((octets[..., 0] << 8) | octets[..., 1])[:, ::-1].T


def limbs_to_rows(limbs: UInt16[Array, "l n"], *, width: int) -> UInt8[Array, "n w"]:
    """Turn limbs into big-endian byte rows.

    Args:
        limbs: limbs of shape [l, n].
        width: bytes per row, at most 2 l; higher bytes are zero and dropped.

    Returns:
        Rows of shape [n, width].

    Example:
        >>> limbs_to_rows(np.array([[515], [1], [0]], np.uint16), width=3).tolist()
        [[1, 2, 3]]
    """
    octets = jnp.stack([limbs >> 8, limbs & 255], axis=1)[::-1].astype(jnp.uint8)
    return octets.reshape(2 * len(limbs), -1).T[:, 2 * len(limbs) - width :]


def carry(limbs: Int64[Array, "l n"]) -> tuple[Int64[Array, "l n"], Int64[Array, "n"]]:
    """Normalize signed limbs of any size to [0, 2^16).

    Args:
        limbs: limbs, |limb| < 2^62.

    Returns:
        The limbs, and what overflows the last one: negative exactly if the number is.

    Example:
        >>> with jax.enable_x64(True):
        ...     normal, over = carry(jnp.array([[65537], [-2]]))
        ...     normal.ravel().tolist(), over.tolist()
        ([1, 65535], [-1])
    """

    def step(carried, limb):
        total = limb + carried
        return total >> LIMB, total & ((1 << LIMB) - 1)

    over, normal = jax.lax.scan(step, jnp.zeros_like(limbs[0]), limbs, unroll=8)
    return normal, over


def subtract_once(
    limbs: Int64[Array, "l n"], bound: Int64[Array, "l 1"]
) -> tuple[Int64[Array, "l n"], Int64[Array, "n"]]:
    """x - bound where x >= bound, else x.

    Args:
        limbs: normal limbs of x.
        bound: normal limbs.

    Returns:
        The limbs, and 1 where the bound was subtracted.

    Example:
        >>> with jax.enable_x64(True):
        ...     subtract_once(jnp.array([[5, 9]]), jnp.array([[7]]))[0].tolist()
        [[5, 2]]
    """
    difference, over = carry(limbs - bound)
    fits = over >= 0
    return jnp.where(fits[None, :], difference, limbs), fits.astype(limbs.dtype)


def exact_residue(
    modulus: Modulus, x_b: Float[Array, "k n"], addend: Int64[Array, "n"]
) -> tuple[Int64[Array, "l n"], Int64[Array, "n"]]:
    r"""x + addend modulo N as limbs, and the quotient, for |x| <= (K/2 + 3) N known by its residues in B.

    x = sum z_j M_B/b_j - alpha M_B with alpha = round(sum z_j/b_j), as |x| < M_B/8. The sum of K floats, each at most
    1/2, errs by less than K^2 2^-53; times M_B/N < 2^20 that is far less than 1/4 (the tests compute it). So the
    quotient k = floor(x/N - 1/4) leaves x - k N in [0, 2 N), and one conditional subtraction ends it.

    Args:
        modulus: the constants of N.
        x_b: residues of x in B.
        addend: a number far smaller than N.

    Returns:
        Normal limbs of the residue in [0, N), and the quotient floor((x + addend)/N).

    Example:
        >>> from jcbir.paillier._rns import modulus_constants, represent
        >>> n = 2**127 - 1
        >>> m = modulus_constants(n)
        >>> with jax.enable_x64(True):
        ...     limbs, quotient = exact_residue(m, represent(m, [-1]).b, jnp.zeros(1, int))
        ...     limbs.ravel().tolist()[0], quotient.tolist()
        (65534, [-1])
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


def toeplitz(value: int, *, rows: int, columns: int) -> Float[np.ndarray, "r c"]:
    """The matrix that multiplies limbs by a constant: entry (i, j) is the constant's limb i - j.

    With limbs below 2^16 on both sides a column sum is below columns * 2^32: exact in float64.

    Args:
        value: the constant, below 2^(16 rows).
        rows: limbs of the product.
        columns: limbs of the factor.

    Returns:
        The matrix.

    Example:
        >>> (toeplitz(3, rows=2, columns=2) @ np.array([5.0, 7.0])).tolist()
        [15.0, 21.0]
    """
    limbs = integer_limbs(value, rows)[:, 0]
    matrix = np.zeros((rows, columns))
    for j in range(columns):
        matrix[j:, j] = limbs[: rows - j]
    return matrix


def combine(matrices: tuple[Float[Array, "r _"], ...], parts: tuple[Int64[Array, "_ n"], ...]) -> Int64[Array, "r n"]:
    """Sum of constants times numbers, sum_i c_i x_i, as normal limbs.

    Args:
        matrices: the constants c_i, as `toeplitz` matrices.
        parts: normal limbs of the x_i.

    Returns:
        Normal limbs of the sum, which must fit.

    Example:
        >>> with jax.enable_x64(True):
        ...     combine((toeplitz(65536, rows=2, columns=1),), (jnp.array([[9]]),)).tolist()
        [[0], [9]]
    """
    total = sum(
        jnp.matmul(matrix, part.astype(jnp.float64), precision=jax.lax.Precision.HIGHEST)
        for matrix, part in zip(matrices, parts, strict=True)
    )
    return carry(total.astype(jnp.int64))[0]
