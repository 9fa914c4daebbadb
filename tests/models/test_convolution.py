"""Every route of the convolution is XLA's convolution, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jcbir.models import _convolution as convolution

SHAPES = [
    (1, 1, 1, 8, 5),
    (1, 2, 7, 8, 5),
    (3, 1, 2, 4, 6),
    (3, 2, 2, 4, 6),
    (3, 1, 7, 4, 6),
    (3, 2, 8, 16, 16),
    (3, 1, 16, 16, 16),
    (7, 2, 13, 3, 8),
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
