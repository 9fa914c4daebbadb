"""The four stages of the image cipher, each a pure function of (planes, keys) with its exact inverse.

`planes` are `UInt8[*b h w]`, `keys` are `UInt8[*b p h w]`: one plane of key bytes for each of the p passes of a stage,
so stages compose like any functions and a researcher drops or swaps one by editing the chain. Diffusion runs along the
columns, one after another (the column-major order of reference [50]); sample i of that sequence is `v_i`, with
`v_0 = 0` before the first. NumPy arrays are computed with NumPy, JAX arrays with JAX (under
`jit` and `vmap` too): the same bytes.

A running sum modulo 256 is what all diffusion is, in the field too, where it runs on discrete logarithms. Down the
columns it is vector additions of whole rows and one sum of w column totals.

Raw stages authenticate nothing and are linear or a permutation each. Seal images with `jcbir.sealing`.
"""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from jcbir.cipher._order import in_order, stable_order
from jcbir.typing import Array

Planes = UInt8[Array, "*b h w"]
"""Samples of one channel each."""

# Below this width a NumPy call per row costs more than numpy.cumsum over the samples.
_WIDE = 192
# Pairs of bytes a substitution handles at once.
_PIECE = 1 << 14


def modular_diffusion(planes: Planes, keys: UInt8[Array, "*b p h w"]) -> Planes:
    """Modular diffusion, forward then backward: `b_i = p_i + b_(i-1) + k_i`, `c_i = b_i + c_(i+1) + l_i` (mod 256).

    Args:
        planes: `UInt8[*b h w]`.
        keys: `UInt8[*b p h w]`, p even; each further pair of passes repeats the diffusion under fresh keys.

    Returns:
        `UInt8[*b h w]`.

    Raises:
        ValueError: keys do not fit the planes, or p is odd or 0.

    Example:
        >>> keys = np.zeros((2, 1, 3), np.uint8)
        >>> modular_diffusion(np.array([[1, 2, 3]], np.uint8), keys).tolist()
        [[10, 9, 6]]

    References:
        Lin and Li 2021 (additive-mod diffusion); the reimplemented paper, section 4.1.
    """
    passes = _passes(planes, keys)
    for i in range(0, passes, 2):
        planes = _running_sum(planes, keys[..., i, :, :], backward=False)
        planes = _running_sum(planes, keys[..., i + 1, :, :], backward=True)
    return planes


def undo_modular_diffusion(planes: Planes, keys: UInt8[Array, "*b p h w"]) -> Planes:
    """Inverse of `modular_diffusion`: differences of neighbors, last pass first.

    Args:
        planes: `UInt8[*b h w]`.
        keys: The keys that were used.

    Returns:
        `UInt8[*b h w]`.

    Raises:
        ValueError: keys do not fit the planes, or p is odd or 0.

    Example:
        >>> keys = np.zeros((2, 1, 3), np.uint8)
        >>> undo_modular_diffusion(np.array([[10, 9, 6]], np.uint8), keys).tolist()
        [[1, 2, 3]]
    """
    passes = _passes(planes, keys)
    for i in range(passes - 2, -1, -2):
        planes = _difference(planes, keys[..., i + 1, :, :], backward=True)
        planes = _difference(planes, keys[..., i, :, :], backward=False)
    return planes


def scramble(planes: Planes, keys: UInt8[Array, "*b p h w"]) -> Planes:
    """Scrambling without repetition: samples in the order of their sort keys, `c_j = p_(order_j)`.

    Sort key of a sample: `sum_q keys_q 256^q`; order by a stable argsort, ties by raster index. A permutation whatever
    the keys. With 32-bit keys the order of n samples is close to uniform while n^1.5 stays below 2^32 (2.6 megapixels);
    above, only ties, which are rare, keep their order.

    Args:
        planes: `UInt8[*b h w]`.
        keys: `UInt8[*b p h w]`, least significant byte first.

    Returns:
        `UInt8[*b h w]`.

    Raises:
        ValueError: keys do not fit the planes.

    Example:
        >>> keys = np.array([[[3, 1, 2]], [[0, 0, 0]]], np.uint8)
        >>> scramble(np.array([[10, 20, 30]], np.uint8), keys).tolist()
        [[20, 30, 10]]

    References:
        Lin and Li 2021 (scrambling without repetition, there by first occurrences); Bayer and Diaconis, Trailing the
        Dovetail Shuffle to its Lair, 1992 (a shuffle of 2^32 piles).
    """
    flat, octets = _flattened(planes, keys)
    if isinstance(octets, jax.Array):
        return in_order(flat, octets).reshape(planes.shape)
    # Plane by plane: the words of one stay in the cache.
    out = np.empty(flat.shape, np.uint8)
    for place in np.ndindex(flat.shape[:-1]):
        out[place] = in_order(flat[place], octets[place])
    return out.reshape(planes.shape)


def undo_scramble(planes: Planes, keys: UInt8[Array, "*b p h w"]) -> Planes:
    """Inverse of `scramble`: `p_(order_j) = c_j`.

    Args:
        planes: `UInt8[*b h w]`.
        keys: The keys that were used.

    Returns:
        `UInt8[*b h w]`.

    Raises:
        ValueError: keys do not fit the planes.

    Example:
        >>> keys = np.array([[[3, 1, 2]], [[0, 0, 0]]], np.uint8)
        >>> undo_scramble(np.array([[20, 30, 10]], np.uint8), keys).tolist()
        [[10, 20, 30]]
    """
    flat, octets = _flattened(planes, keys)
    if isinstance(octets, jax.Array):
        order = stable_order(octets)
        return jnp.put_along_axis(jnp.zeros_like(flat), order, flat, axis=-1, inplace=False).reshape(planes.shape)
    out = np.empty(flat.shape, np.uint8)
    for place in np.ndindex(flat.shape[:-1]):
        out[place][stable_order(octets[place])] = flat[place]
    return out.reshape(planes.shape)


def field_diffusion(planes: Planes, keys: UInt8[Array, "*b p h w"]) -> Planes:
    """Diffusion in GF(257), forward then backward; sample v stands for the element v + 1.

    `b_i + 1 = (p_i + 1)(b_(i-1) + 1) 3^(k_i) mod 257`, then the same from the other end under the second keys. 3
    generates the multiplicative group, so the product is a sum of logarithms modulo 256: two running sums
    between two tables.

    Args:
        planes: `UInt8[*b h w]`.
        keys: `UInt8[*b p h w]`, p even: logarithms of the key elements.

    Returns:
        `UInt8[*b h w]`.

    Raises:
        ValueError: keys do not fit the planes, or p is odd or 0.

    Example:
        >>> field_diffusion(np.array([[1, 2]], np.uint8), np.zeros((2, 1, 2), np.uint8)).tolist()
        [[11, 5]]

    References:
        Lin and Li 2021 (finite-field diffusion).
    """
    exponents, logarithms = _tables()
    return _substitute(modular_diffusion(_substitute(planes, logarithms), keys), exponents)


def undo_field_diffusion(planes: Planes, keys: UInt8[Array, "*b p h w"]) -> Planes:
    """Inverse of `field_diffusion`.

    Args:
        planes: `UInt8[*b h w]`.
        keys: The keys that were used.

    Returns:
        `UInt8[*b h w]`.

    Raises:
        ValueError: keys do not fit the planes, or p is odd or 0.

    Example:
        >>> undo_field_diffusion(np.array([[11, 5]], np.uint8), np.zeros((2, 1, 2), np.uint8)).tolist()
        [[1, 2]]
    """
    exponents, logarithms = _tables()
    return _substitute(undo_modular_diffusion(_substitute(planes, logarithms), keys), exponents)


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    exponents = np.array([pow(3, i, 257) - 1 for i in range(256)], np.uint8)
    return exponents, np.argsort(exponents).astype(np.uint8)


def _substitute(planes: Planes, table: np.ndarray) -> Planes:
    if not isinstance(planes, np.ndarray):
        return jnp.asarray(table)[planes]
    # Two samples at once: half as many gathers, on pieces whose indices stay in the cache.
    flat, out, even = planes.reshape(-1), np.empty(planes.size, np.uint8), planes.size // 2 * 2
    pairs, mapped, mapping = flat[:even].view(np.uint16), out[:even].view(np.uint16), _pairs(table.tobytes())
    for begin in range(0, pairs.size, _PIECE):
        piece = slice(begin, begin + _PIECE)
        np.take(mapping, pairs[piece], out=mapped[piece], mode="clip")
    out[even:] = table[flat[even:]]
    return out.reshape(planes.shape)


@cache
def _pairs(table: bytes) -> np.ndarray:
    """What a pair of bytes, in either byte order, becomes."""
    single = np.frombuffer(table, np.uint8).astype(np.uint16)
    return (single[:, None] * np.uint16(256) + single).reshape(-1)


def _passes(planes: Planes, keys: Array) -> int:
    expected = (*planes.shape[:-2], keys.shape[-3], *planes.shape[-2:])
    if keys.shape != expected or not keys.shape[-3] or keys.shape[-3] % 2:
        raise ValueError(f"keys: must be pairs of planes {planes.shape}, got {keys.shape}")
    return keys.shape[-3]


def _running_sum(planes: Array, key: Array, *, backward: bool) -> Array:
    later, earlier, last = _ends(backward)
    if isinstance(planes, jax.Array):
        sums = planes + key
        down = jax.lax.cumsum(sums, axis=sums.ndim - 2, reverse=backward)
        totals = jax.lax.cumsum(down[..., last, :], axis=sums.ndim - 2, reverse=backward)
        return down.at[..., later].add(totals[..., None, earlier])
    height, width = planes.shape[-2:]
    # Rows of all planes side by side in memory: to add one row to the next is one long loop.
    sums = np.moveaxis(np.empty((height, *planes.shape[:-2], width), np.uint8), 0, -2)
    np.add(planes, key, out=sums)
    flip = slice(None, None, -1 if backward else 1)
    if sums.size // height < _WIDE:
        columns = np.ascontiguousarray(np.swapaxes(sums, -1, -2)).reshape(*sums.shape[:-2], -1)
        run = np.cumsum(columns[..., flip], axis=-1, dtype=np.uint8)[..., flip]
        return np.ascontiguousarray(np.swapaxes(run.reshape(*sums.shape[:-2], width, height), -1, -2))
    _run_down(sums[..., flip, :])
    totals = np.cumsum(sums[..., last, flip], axis=-1, dtype=np.uint8)[..., flip]
    # A copy: NumPy adds arrays that run in opposite directions byte by byte.
    sums[..., later] += np.ascontiguousarray(totals[..., None, earlier])
    return sums


def _run_down(sums: np.ndarray) -> None:
    """Replace rows by their running sums: in all blocks of rows at once, then block by block. 3 sqrt(h) NumPy calls."""
    height, width = sums.shape[-2:]
    size = math.isqrt(height)
    rest = height // size * size
    blocks = sums[..., :rest, :].reshape(*sums.shape[:-2], -1, size, width)
    for row in range(1, size):
        blocks[..., row, :] += blocks[..., row - 1, :]
    for block in range(1, blocks.shape[-3]):
        blocks[..., block, :, :] += blocks[..., block - 1, -1:, :]
    for row in range(rest, height):
        sums[..., row, :] += sums[..., row - 1, :]


def _difference(planes: Array, key: Array, *, backward: bool) -> Array:
    rest = planes - key
    later, earlier, last = _ends(backward)
    first = -1 - last
    if isinstance(rest, jax.Array):
        rest = rest.at[..., later, :].add(-planes[..., earlier, :])
        return rest.at[..., first, later].add(-planes[..., last, earlier])
    rest[..., later, :] -= planes[..., earlier, :]
    rest[..., first, later] -= planes[..., last, earlier]
    return rest


def _ends(backward: bool) -> tuple[slice, slice, int]:
    """Rows (or columns) that have one before them in the direction of a pass, those before them, and the last one."""
    rest, but_last = slice(1, None), slice(None, -1)
    return (but_last, rest, 0) if backward else (rest, but_last, -1)


def _flattened(planes: Planes, keys: Array) -> tuple[Array, Array]:
    if keys.shape != (*planes.shape[:-2], keys.shape[-3], *planes.shape[-2:]):
        raise ValueError(f"keys: must be planes {planes.shape}, got {keys.shape}")
    samples = planes.shape[-2] * planes.shape[-1]
    return planes.reshape(*planes.shape[:-2], samples), keys.reshape(*keys.shape[:-2], samples)
