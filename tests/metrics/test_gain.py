"""NDCG: the closed form against the mean over all orders, the ideal, blocks, and JAX against NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir import metrics


def dcg(grades, top: int, gain: str) -> float:
    worth = [2.0**g - 1 if gain == "exponential" else g for g in grades]
    return sum(w / np.log2(1 + i) for i, w in enumerate(worth[:top], start=1))


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=6),
    st.integers(1, 6),
    st.sampled_from(["exponential", "linear"]),
)
def test_expected_is_the_mean_over_all_orders(pairs, top, gain):
    top = min(top, len(pairs))
    orders = [o for o in itertools.permutations(pairs) if list(o) == sorted(o, key=lambda p: p[0])]
    ideal = dcg(sorted((g for _, g in pairs), reverse=True), top, gain)
    expected = np.mean([dcg([g for _, g in o], top, gain) for o in orders]) / ideal if ideal else 0.0
    distances, grades = (np.array(a) for a in zip(*pairs, strict=True))
    np.testing.assert_allclose(metrics.ndcg(distances, grades, top=top, gain=gain), expected, atol=1e-12)


def test_ideal_order_is_one_and_parts_add_up():
    g = np.random.default_rng(0)
    grades = np.sort(g.integers(0, 5, (3, 60)), -1)[:, ::-1]
    np.testing.assert_allclose(metrics.ndcg(np.broadcast_to(np.arange(60), (3, 60)), grades), 1, rtol=1e-12)
    distances = g.integers(0, 9, (3, 60))
    parts = [
        metrics.grade_tally(distances[:, i : i + 20], grades[:, i : i + 20], bits=8, highest=4) for i in (0, 20, 40)
    ]
    np.testing.assert_allclose(metrics.tallied_ndcg(sum(parts), top=30), metrics.ndcg(distances, grades, top=30))


@pytest.mark.parametrize("top", [None, 10])
def test_jit_agrees_with_numpy(top):
    g = np.random.default_rng(1)
    distances, grades = g.integers(0, 9, (3, 60)).astype(np.int32), g.integers(0, 4, (3, 60)).astype(np.int32)
    jitted = jax.jit(lambda d, r: metrics.ndcg(d, r, top=top, bits=8, highest=3))
    np.testing.assert_allclose(jitted(distances, grades), metrics.ndcg(distances, grades, top=top), rtol=1e-5)
    eager = metrics.ndcg(jnp.asarray(distances), jnp.asarray(grades), top=top)
    np.testing.assert_allclose(eager, metrics.ndcg(distances, grades, top=top), rtol=1e-5)


D, G = np.array([[0, 1, 2]]), np.array([[2, 0, 1]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.ndcg(D, G, gain="cubic"), "gain: must be exponential or linear, got 'cubic'"),
        (lambda: metrics.ndcg(D, G, top=0), "top: must be a whole number from 1 to 3, got 0"),
        (lambda: metrics.ndcg(D, G, top=4), "top: must be a whole number from 1 to 3, got 4"),
        (lambda: metrics.ndcg(D, -G), "grades: must be at least 0, got -2 to 0"),
        (lambda: metrics.ndcg(D, G, highest=1), "grades: must be from 0 to highest=1, got 0 to 2"),
        (lambda: metrics.ndcg(D, G * 1.0), "grades: must be integers"),
        (lambda: metrics.ndcg(D[:, :2], G), "relevant: must have the shape"),
        (lambda: jax.jit(metrics.ndcg)(D, G), "highest: must be .* under jit"),
        (lambda: jax.jit(metrics.tallied_ndcg)(metrics.grade_tally(D, G)), "items: must be .* under jit"),
    ],
)
def test_bad_input(unchecked, call, message):
    with pytest.raises(ValueError, match=message):
        call()
