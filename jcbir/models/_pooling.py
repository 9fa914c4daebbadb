"""Maxima of overlapping windows, whose gradient XLA:CPU searches for window by window with an index a pixel."""

import functools
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from jcbir.typing import Array

WINDOW = (3, 3)
STRIDES = (2, 2)


def max_pool(maps: Float[Array, "b h w c"], *, padding: Any) -> Float[jax.Array, "b p q c"]:
    """Maxima of 3x3 windows two pixels apart: `flax.linen.max_pool`, with another way to its gradient on a CPU."""
    if jax.default_backend() != "cpu":
        return nn.max_pool(maps, WINDOW, STRIDES, padding=padding)
    sides = maps.shape[1:3]
    borders = lax.padtype_to_pads(sides, WINDOW, STRIDES, padding) if isinstance(padding, str) else padding
    return _max_pool(maps, tuple(map(tuple, borders)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(maps: Array, borders: tuple[tuple[int, int], tuple[int, int]]) -> jax.Array:
    return nn.max_pool(maps, WINDOW, STRIDES, padding=borders)


def _forward(maps: Array, borders: tuple[tuple[int, int], tuple[int, int]]) -> tuple[Array, tuple[Array, Array]]:
    pooled = _max_pool(maps, borders)
    return pooled, (maps, pooled)


def _backward(
    borders: tuple[tuple[int, int], tuple[int, int]], saved: tuple[Array, Array], cotangent: Array
) -> tuple[jax.Array]:
    """To the first of the pixels of a window that have its maximum."""
    maps, pooled = saved
    padded = jnp.pad(maps, ((0, 0), *borders, (0, 0)), constant_values=-jnp.inf)
    ends = [2 * side - 1 for side in pooled.shape[1:3]]
    none = jnp.zeros((), maps.dtype)
    gradient, taken = jnp.zeros_like(padded), jnp.zeros(pooled.shape, bool)
    for offsets in itertools.product(range(3), repeat=2):
        i, j = offsets
        pixels = padded[:, i : i + ends[0] : 2, j : j + ends[1] : 2]
        # NaN, which equals nothing, is the maximum of its windows: else what it spoils would look sound.
        first = ((pixels == pooled) | jnp.isnan(pixels)) & ~taken
        taken |= first
        places = [(k, n - k - end, 1) for k, n, end in zip(offsets, padded.shape[1:3], ends, strict=True)]
        gradient += lax.pad(jnp.where(first, cotangent, none), none, ((0, 0, 0), *places, (0, 0, 0)))
    (top, _), (left, _) = borders
    return (gradient[:, top : top + maps.shape[1], left : left + maps.shape[2]],)


_max_pool.defvjp(_forward, _backward)
