"""Every route of the convolution and of the maxima is XLA's, values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jcbir.models import _convolution as convolution
from jcbir.models._pooling import max_pool

SHAPES = [
    (1, 1, 1, 8, 5),
    (1, 2, 7, 8, 5),
    (3, 1, 2, 4, 6),
    (3, 2, 2, 4, 6),
    (3, 1, 7, 4, 6),
    (3, 2, 8, 16, 16),
    (3, 1, 16, 16, 16),
    (7, 2, 13, 3, 8),
    (3, 1, 20, 4, 6),
    (3, 1, 23, 16, 5),
    (5, 1, 21, 3, 8),
]


def plain(x, w, strides, padding):
    return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize(("size", "stride", "side", "inputs", "outputs"), SHAPES)
def test_routes(size, stride, side, inputs, outputs):
    g = np.random.default_rng(size * side)
    x = g.standard_normal((3, side, side, inputs)).astype(np.float32)
    w = g.standard_normal((size, size, inputs, outputs)).astype(np.float32)
    border = ((size - 1) // 2,) * 2

    def values(f):
        def loss(x, w):
            y = f(x, w, (stride, stride), (border, border))
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, w)

    ours, theirs = values(convolution.convolve), values(plain)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * np.abs(b).max())


@pytest.mark.parametrize("options", [{"rhs_dilation": (2, 2)}, {"feature_group_count": 2}, {"lhs_dilation": (2, 2)}])
def test_other_convolutions_are_left_to_xla(options):
    g = np.random.default_rng(0)
    groups = options.get("feature_group_count", 1)
    x = g.standard_normal((1, 2, 2, 4)).astype(np.float32)
    w = g.standard_normal((1, 1, 4 // groups, 6)).astype(np.float32)
    numbers = ("NHWC", "HWIO", "NHWC")
    got = convolution.convolve(x, w, (1, 1), ((0, 0), (0, 0)), dimension_numbers=numbers, **options)
    want = lax.conv_general_dilated(x, w, (1, 1), ((0, 0), (0, 0)), dimension_numbers=numbers, **options)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_named_padding():
    x, w = np.ones((1, 5, 5, 2), np.float32), np.ones((3, 3, 2, 4), np.float32)
    np.testing.assert_allclose(convolution.convolve(x, w, (2, 2), "SAME"), plain(x, w, (2, 2), "SAME"), rtol=1e-6)


@pytest.mark.parametrize("borders", [((1, 1), (1, 1)), ((0, 0), (2, 1)), ((2, 0), (0, 1))])
def test_kernels_gradient_row_by_row(borders):
    g = np.random.default_rng(0)
    x, w = g.standard_normal((2, 21, 26, 3), np.float32), g.standard_normal((3, 2, 3, 4), np.float32)
    gradients = [
        jax.grad(lambda x, w, f=f: jnp.sum(jnp.sin(f(x, w, (1, 1), borders))), (0, 1))(x, w)
        for f in (convolution.convolve, plain)
    ]
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * np.abs(b).max())


@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((0, 1), (1, 0)), "SAME", "VALID"])
@pytest.mark.parametrize("side", [3, 8, 9])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("ties", [False, True])
def test_maxima_and_whom_their_gradient_reaches(padding, side, dtype, ties):
    g = np.random.default_rng(side)
    maps = g.integers(-1, 2, (2, side, side + 2, 3)) if ties else g.standard_normal((2, side, side + 2, 3))
    maps = jnp.asarray(maps, dtype)
    pooled, back = jax.vjp(lambda x: max_pool(x, padding=padding), maps)
    wanted, wanted_back = jax.vjp(lambda x: nn.max_pool(x, (3, 3), (2, 2), padding=padding), maps)
    # Whole numbers: sums of those that meet in a pixel are exact in any order.
    cotangent = jnp.asarray(g.integers(-9, 10, pooled.shape), dtype)
    np.testing.assert_array_equal(pooled, wanted)
    np.testing.assert_array_equal(back(cotangent)[0], wanted_back(cotangent)[0])


EMPTY = [
    ((0, 5, 6, 3), (1, 1, 3, 4)),
    ((0, 2, 2, 3), (3, 3, 3, 4)),
    ((2, 5, 5, 3), (1, 1, 3, 0)),
    ((0, 20, 20, 3), (3, 3, 3, 4)),
    ((2, 20, 20, 3), (3, 3, 3, 0)),
]


@pytest.mark.parametrize(
    ("images", "kernel", "borders"),
    [
        *((images, kernel, ((size := kernel[0] // 2, size), (size, size))) for images, kernel in EMPTY),
        ((2, 2, 2, 3), (3, 3, 3, 4), ((2, -1), (1, 1))),
        ((2, 20, 22, 3), (3, 3, 3, 4), ((-1, 1), (2, -2))),
    ],
)
def test_empty_maps_and_borders_that_cut_off(images, kernel, borders):
    g = np.random.default_rng(0)
    x, w = g.standard_normal(images, np.float32), g.standard_normal(kernel, np.float32)
    ours, theirs = (
        jax.value_and_grad(lambda x, w, f=f: jnp.sum(jnp.sin(f(x, w, (1, 1), borders))), (0, 1))(x, w)
        for f in (convolution.convolve, plain)
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * np.abs(b).max(initial=1))


def test_gradient_of_a_convolution_that_sums_in_a_wider_type():
    g = np.random.default_rng(0)
    x, w = g.standard_normal((2, 20, 20, 3), np.float32), g.standard_normal((3, 3, 3, 4), np.float32)
    with jax.enable_x64(True):
        gradients = [
            jax.grad(
                lambda x, w, f=f: jnp.sum(
                    jnp.sin(f(x, w, (1, 1), ((1, 1), (1, 1)), preferred_element_type=jnp.float64))
                ),
                (0, 1),
            )(jnp.asarray(x), jnp.asarray(w))
            for f in (
                convolution.convolve,
                lambda *given, **more: lax.conv_general_dilated(
                    *given, dimension_numbers=("NHWC", "HWIO", "NHWC"), **more
                ),
            )
        ]
    for a, b in zip(*gradients, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * np.abs(b).max())


@pytest.mark.parametrize("broken", [np.s_[:, 3:6, 3:6], np.s_[:, :2, :2], np.s_[:]])
def test_gradient_of_maxima_that_are_nan_is_not_lost(broken):
    maps = np.random.default_rng(0).standard_normal((1, 9, 9, 2), np.float32)
    maps[broken] = np.nan
    pooled, back = jax.vjp(lambda x: max_pool(x, padding=((1, 1), (1, 1))), maps)
    gradient = back(jnp.ones_like(pooled))[0]
    assert float(gradient.sum()) == pooled.size
    assert float(gradient[np.isnan(maps)].sum()) == int(np.isnan(pooled).sum())


def test_gradient_under_a_map_of_shards():
    """Each device has a share of the maps, and all have the kernel: its gradient is the sum over them."""
    g = np.random.default_rng(0)
    x, w = g.standard_normal((2, 20, 20, 3), np.float32), g.standard_normal((3, 3, 3, 4), np.float32)
    mesh = jax.make_mesh((1,), ("device",), axis_types=(jax.sharding.AxisType.Auto,))

    def gradients(f):
        return jax.grad(lambda x, w: jnp.sum(jnp.sin(f(x, w, (1, 1), ((1, 1), (1, 1))))), (0, 1))

    shares = (jax.P("device"), jax.P())
    ours = jax.jit(jax.shard_map(gradients(convolution.convolve), mesh=mesh, in_specs=shares, out_specs=shares))(x, w)
    for a, b in zip(ours, gradients(plain)(x, w), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * np.abs(b).max())
