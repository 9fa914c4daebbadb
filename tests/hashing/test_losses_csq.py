"""CSQ losses: against float64 written from the articles' formulas, and at logits where those formulas overflow."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from jcbir.hashing import losses

SHAPES = [(1, 8), (3, 8), (2, 3, 16)]
QUANTIZERS = [losses.quantization_paper, losses.quantization_official]
csq = jax.jit(losses.csq, static_argnames=("quantization_weight", "quantizer"))
central_similarity, paper_quantization, official_quantization = (
    jax.jit(loss) for loss in (losses.central_similarity, *QUANTIZERS)
)


def draw_logits(shape, bound):
    return hnp.arrays(np.float32, shape, elements=st.floats(-bound, bound, width=32))


@given(st.sampled_from(SHAPES).flatmap(lambda s: st.tuples(draw_logits(s, 6), hnp.arrays(bool, s))))
def test_equals_the_printed_formulas_in_float64(case):
    logits, targets = case
    h = (np.tanh(logits.astype(np.float64)) + 1) / 2
    entropy = -(targets * np.log(h) + ~targets * np.log(1 - h)).mean(-1)
    paper = np.log(np.cosh(np.abs(2 * h - 1) - 1)).sum(-1)
    official = ((np.abs(np.tanh(logits.astype(np.float64))) - 1) ** 2).mean(-1)
    np.testing.assert_allclose(central_similarity(logits, targets), entropy, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(paper_quantization(logits), paper, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(official_quantization(logits), official, rtol=1e-4, atol=1e-6)
    total = csq(logits, targets, quantization_weight=0.3, quantizer=losses.quantization_paper)
    np.testing.assert_allclose(total, entropy + 0.3 * paper, rtol=1e-4, atol=1e-6)


@functools.partial(jax.jit, static_argnames="quantizer")
def slope(logits, targets, *, quantizer):
    return jax.value_and_grad(lambda u: losses.csq(u, targets, quantizer=quantizer).sum())(logits)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@given(draw_logits((3, 8), 1e4), hnp.arrays(bool, (3, 8)))
def test_finite_in_value_and_gradient_at_ten_thousand(quantizer, logits, targets):
    logits = np.where(np.arange(8) < 3, np.float32(1e4) * np.where(logits < 0, -1, 1), logits).astype(np.float32)
    value, gradient = slope(logits, targets, quantizer=quantizer)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_a_wrong_saturated_bit_still_has_its_full_gradient():
    gradient = jax.grad(lambda u: losses.central_similarity(u, jnp.array([True, True])))(jnp.array([-1e4, 1e4]))
    np.testing.assert_allclose(gradient, [-1.0, 0.0])


@given(draw_logits((3, 8), 30), hnp.arrays(bool, (3, 8)))
def test_complementing_every_bit_changes_nothing(logits, targets):
    np.testing.assert_allclose(csq(logits, targets), csq(-logits, ~targets), rtol=1e-6)


mapped = jax.jit(jax.vmap(losses.csq))


@given(draw_logits((3, 8), 30), hnp.arrays(bool, (3, 8)))
def test_vmap_equals_batch_and_jit_equals_eager(logits, targets):
    whole = losses.csq(logits, targets)
    np.testing.assert_allclose(mapped(logits, targets), whole, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(csq(logits, targets), whole, rtol=1e-6, atol=1e-7)


def test_paper_and_official_quantizers_agree_for_small_shortfall_up_to_the_factor_two_k():
    logits = jnp.full((1, 16), 3.0)
    ratio = losses.quantization_official(logits) * 16 / losses.quantization_paper(logits)
    np.testing.assert_allclose(ratio, 2.0, rtol=1e-4)


def test_targets_of_another_shape_are_named(unchecked):
    with pytest.raises(ValueError, match=r"targets: must have the shape \(2, 8\) of logits, got \(2, 4\)"):
        losses.central_similarity(jnp.zeros((2, 8)), jnp.zeros((2, 4), bool))
