"""Convolution for linen's `conv_general_dilated` hook: the fastest route for a shape, always the same sum.

XLA:CPU is slow in two places a residual network lives in: 1x1 convolutions (their kernel gradient above all) and
3x3 kernels on maps hardly larger than the kernel, which miss its fast path. Both are written here as one matrix
product; an accelerator has XLA's own route. The route depends on static shapes and on the platform alone, never on
values, so a trace is reproducible.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from jcbir.typing import Array

_Padding = tuple[tuple[int, int], tuple[int, int]]

SMALL_MAP = 2
"""Maps up to this many pixels a side go through `patches`: measured on XLA:CPU, see `experiments.bench_backbone`."""

LARGE_MAP = 20
"""From this many pixels a side XLA:CPU takes a kernel's gradient faster row by row, see `_row_kernels`."""


def patches(
    images: Float[Array, "b h w c"], *, kernel: tuple[int, int], strides: tuple[int, int], padding: Any
) -> Float[jax.Array, "b p q d"]:
    r"""Every window of a map as one row: im2col.

    $P_{bpq,(i,j,c)} = x_{b,\,ps+i,\,qt+j,\,c}$ on the zero-padded map.

    Args:
        images: maps, channels last.
        kernel: window height and width.
        strides: steps (s, t) between windows.
        padding: zeros before and after, for height and for width.

    Returns:
        Rows of `kernel[0] * kernel[1] * c` values in the order of a flattened HWI kernel.

    Example:
        >>> patches(jnp.ones((1, 4, 4, 2)), kernel=(3, 3), strides=(1, 1), padding=((1, 1), (1, 1))).shape
        (1, 4, 4, 18)
    """
    (top, bottom), (left, right) = padding
    padded = _pad(images, (top, bottom), (left, right))
    rows = (padded.shape[1] - kernel[0]) // strides[0] + 1
    columns = (padded.shape[2] - kernel[1]) // strides[1] + 1
    windows = [
        padded[:, i : i + (rows - 1) * strides[0] + 1 : strides[0], j : j + (columns - 1) * strides[1] + 1 : strides[1]]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return jnp.concatenate(windows, axis=-1)


def convolve(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "i j k d"],
    window_strides: Sequence[int],
    padding: Any,
    *,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Float[jax.Array, "b p q d"]:
    """Drop-in for `jax.lax.conv_general_dilated` on NHWC maps and HWIO kernels, as `flax.linen.Conv` calls it.

    Args:
        images: maps, channels last.
        kernel: height, width, input channels, output channels.
        window_strides: steps between windows.
        padding: zeros before and after each axis, or one of XLA's names, which always takes XLA's own route.
        lhs_dilation: dilation of the map.
        rhs_dilation: dilation of the kernel.
        dimension_numbers: layout, passed on to XLA.
        feature_group_count: number of groups.
        precision: of the products.
        preferred_element_type: accumulation type.

    Returns:
        Maps [b p q d].

    Example:
        >>> ones = jnp.ones((1, 2, 2, 3)), jnp.ones((1, 1, 3, 5))
        >>> float(convolve(*ones, (1, 1), ((0, 0), (0, 0)))[0, 0, 0, 0])
        3.0
    """
    size, strides = (kernel.shape[0], kernel.shape[1]), (window_strides[0], window_strides[1])
    plain = feature_group_count == 1 and _undilated(lhs_dilation) and _undilated(rhs_dilation)
    if plain and not isinstance(padding, str) and jax.default_backend() == "cpu":
        padding = tuple(tuple(p) for p in padding)
        product = {"precision": precision, "preferred_element_type": preferred_element_type}
        if size == (1, 1) and padding == ((0, 0), (0, 0)):
            return _product(images[:, :: strides[0], :: strides[1]], kernel, **product)
        if max(images.shape[1:3]) <= SMALL_MAP:
            return _product(patches(images, kernel=size, strides=strides, padding=padding), kernel, **product)
        single = images.dtype == kernel.dtype == jnp.float32 and preferred_element_type in (None, jnp.float32)
        # Else the sum over a map of shards is XLA's to take: a gradient made by hand is of one shard.
        shards = [getattr(jax.typeof(array), "manual_axis_type", None) for array in (images, kernel)]
        if strides == (1, 1) and min(images.shape[1:3]) >= LARGE_MAP and single and shards[0] == shards[1]:
            return _unit_steps(images, kernel, padding, *product.values())
    return lax.conv_general_dilated(
        images,
        kernel,
        strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers or ("NHWC", "HWIO", "NHWC"),
        feature_group_count=feature_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def _product(windows: Array, kernel: Array, **product: Any) -> jax.Array:
    """Windows [b p q ijk] times a kernel [i j k d]."""
    # Two axes, not four: else XLA transposes the cotangent in memory for the kernel's gradient.
    rows = jnp.matmul(lax.collapse(windows, 0, 3), lax.collapse(kernel, 0, 3), **product)
    return rows.reshape(*windows.shape[:3], kernel.shape[-1])


def _plain(images: Array, kernel: Array, padding: _Padding, *product: Any) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(images, kernel, (1, 1), padding, None, None, numbers, 1, 1, *product)


_unit_steps = jax.custom_vjp(_plain, nondiff_argnums=(2, 3, 4))


def _forward(images: Array, kernel: Array, *settings: Any) -> tuple[Array, tuple[Array, Array]]:
    return _plain(images, kernel, *settings), (images, kernel)


def _backward(
    padding: _Padding, precision: Any, element: Any, saved: tuple[Array, Array], cotangent: Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    by_images = jax.linear_transpose(lambda x: _plain(x, kernel, padding, precision, element), images)(cotangent)
    return *by_images, _row_kernels(images, cotangent, rows=kernel.shape[0], padding=padding, precision=precision)


_unit_steps.defvjp(_forward, _backward)


def _row_kernels(images: Array, cotangent: Array, *, rows: int, padding: _Padding, precision: Any) -> jax.Array:
    """Gradient [i j k d] of a kernel, one row of it after another, each a convolution along the width."""
    # In two dimensions XLA hands it to YNNPACK, which is slow where the kernel, here the cotangent, is large.
    height = cotangent.shape[1]
    padded = _pad(images, padding[0], (0, 0))
    taps = lax.collapse(cotangent.transpose(2, 0, 1, 3), 1, 3)

    def row(i: int) -> jax.Array:
        lines = lax.collapse(padded[:, i : i + height].transpose(3, 2, 0, 1), 2, 4)
        return lax.conv_general_dilated(
            lines, taps, (1,), padding[1:], dimension_numbers=("NWC", "WIO", "WNC"), precision=precision
        )

    return jnp.stack([row(i) for i in range(rows)])


def _pad(images: Array, height: tuple[int, int], width: tuple[int, int]) -> jax.Array:
    """Maps between zeros; what is less than none of them is cut off."""
    return lax.pad(images, jnp.zeros((), images.dtype), ((0, 0, 0), (*height, 0), (*width, 0), (0, 0, 0)))


def _undilated(dilation: Sequence[int] | None) -> bool:
    return dilation is None or all(step == 1 for step in dilation)
