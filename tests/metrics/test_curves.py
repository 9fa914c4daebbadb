"""Precision, recall, lookups and curves: against plain Python, over all orders, and by blocks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, strategies as st

from jcbir import metrics


def lists(seed: int, queries: int = 4, items: int = 40, bits: int = 8):
    g = np.random.default_rng(seed)
    return g.integers(0, bits + 1, (queries, items)), g.random((queries, items)) < 0.3


# A cut-off inside a bin that is not the largest.
@example([(0, True), (0, False), (0, True), (1, True), (1, False)], 4)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6), st.integers(1, 6))
def test_hits_over_all_orders(pairs, top):
    top = min(top, len(pairs))
    orders = [o for o in itertools.permutations(pairs) if list(o) == sorted(o, key=lambda p: p[0])]
    hits = [sum(r for _, r in o[:top]) for o in orders]
    counts = metrics.tally(*(np.array(a) for a in zip(*pairs, strict=True)))
    found = {t: float(metrics.hits_at(counts, top=top, ties=t)) for t in ("expected", "best", "worst")}
    np.testing.assert_allclose(
        [found["expected"], found["best"], found["worst"]], [np.mean(hits), max(hits), min(hits)], atol=1e-12
    )
    np.testing.assert_allclose(metrics.precision_at(counts, top=top), np.mean(hits) / top)
    total = sum(r for _, r in pairs)
    np.testing.assert_allclose(metrics.recall_at(counts, top=top), np.mean(hits) / total if total else 0)


@given(st.integers(0, 2**32 - 1), st.integers(0, 8))
def test_lookup_and_curve(seed, radius):
    distances, relevant = lists(seed)
    counts = metrics.tally(distances, relevant, bits=8)
    precision, recall = metrics.precision_within(counts, radius=radius), metrics.recall_within(counts, radius=radius)
    for q in range(len(distances)):
        inside = distances[q] <= radius
        hits = (inside & relevant[q]).sum()
        np.testing.assert_allclose(precision[q], hits / inside.sum() if inside.any() else 0)
        np.testing.assert_allclose(recall[q], hits / relevant[q].sum() if relevant[q].any() else 0)
    curve = metrics.precision_recall(counts)
    pooled = distances <= radius
    expected = (pooled & relevant).sum() / pooled.sum() if pooled.any() else np.nan
    np.testing.assert_allclose(curve.precision[radius], expected)
    np.testing.assert_allclose(curve.recall[radius], (pooled & relevant).sum() / relevant.sum())
    assert (np.diff(curve.recall) >= 0).all()
    assert curve.recall[-1] == 1


def test_curve_without_pairs_or_relevance():
    curve = metrics.precision_recall(metrics.tally(np.array([2, 3]), np.array([False, False])))
    np.testing.assert_array_equal(curve.precision, [np.nan, np.nan, 0, 0])
    np.testing.assert_array_equal(curve.recall, [0, 0, 0, 0])


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 7, 40]))
def test_tallies_of_parts_add_up(seed, step):
    distances, relevant = lists(seed)
    parts = ((distances[:, i : i + step], relevant[:, i : i + step]) for i in range(0, 40, step))
    whole = metrics.tally(distances, relevant, bits=8)
    jax.tree.map(np.testing.assert_array_equal, metrics.tally_blocks(parts, bits=8), whole)
    assert whole.items.sum() == distances.size
    assert whole.relevant.sum() == relevant.sum()
    # The order of the list, and the width of its integers, mean nothing to a tally.
    turned = metrics.tally(distances[:, ::-1].astype(np.uint8), relevant[:, ::-1])
    np.testing.assert_array_equal(turned.items[0, : turned.items.shape[1]], whole.items[0, : turned.items.shape[1]])


@pytest.mark.parametrize("bits", [8, 200, 40_000])
def test_tally_of_wide_ranges(bits):
    # 2 bits + 1 crosses the border of uint8 and of uint16.
    g = np.random.default_rng(bits)
    distances, relevant = g.integers(0, bits + 1, (2, 50)), g.random((2, 50)) < 0.5
    counts = metrics.tally(distances, relevant, bits=bits)
    for q in range(2):
        np.testing.assert_array_equal(counts.items[q], np.bincount(distances[q], minlength=bits + 1))
        np.testing.assert_array_equal(counts.relevant[q], np.bincount(distances[q][relevant[q]], minlength=bits + 1))


def test_jit_agrees_with_numpy():
    distances, relevant = lists(3)

    def everything(d, r):
        counts = metrics.tally(d, r, bits=8)
        curve = metrics.precision_recall(counts)
        return (
            counts,
            metrics.precision_at(counts, top=5),
            metrics.recall_at(counts, top=5, ties="best"),
            metrics.precision_within(counts),
            metrics.recall_within(counts),
            curve.precision,
            curve.recall,
        )

    got = jax.jit(everything)(jnp.asarray(distances, jnp.int32), jnp.asarray(relevant))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, everything(distances, relevant))


def test_jit_drops_what_lies_beyond_the_last_bin():
    counts = jax.jit(lambda d, r: metrics.tally(d, r, bits=1))(jnp.array([0, 5, -1]), jnp.array([True, True, True]))
    assert counts.items.tolist() == [1, 0]


D, R = np.array([[0, 1, 2]]), np.array([[True, False, True]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: metrics.hits_at(c, top=0), "top: must be a whole number from 1 to 3, got 0"),
        (lambda c: metrics.precision_at(c, top=4), "top: must be a whole number from 1 to 3, got 4"),
        (lambda c: metrics.recall_at(c, top=1, ties="index"), "ties: must be expected, best or worst"),
        (lambda c: metrics.precision_within(c, radius=-1), "radius: must be a whole number of at least 0, got -1"),
        (lambda c: metrics.recall_within(c, radius=-1), "radius: must be a whole number of at least 0, got -1"),
        (lambda c: metrics.tally_blocks([], bits=3), "at least one block"),
        (lambda c: metrics.tally_blocks([(D, R), (D + 9, R)], bits=3), "0 to bits=3, got 9 to 11"),
    ],
)
def test_bad_input(unchecked, call, message):
    with pytest.raises(ValueError, match=message):
        call(metrics.tally(D, R))


@given(st.integers(0, 2**32 - 1), st.sampled_from(["zero", "skip"]))
def test_the_curve_by_rank_is_the_mean_of_each_rank(seed, empty):
    distances, relevant = lists(seed)
    relevant[0] = False
    counts = metrics.tally(distances, relevant, bits=8)
    tops = [1, 7, 40]
    points = metrics.curve(counts, tops=np.array(tops), empty=empty)
    kept = slice(1, None) if empty == "skip" else slice(None)
    for i, top in enumerate(tops):
        np.testing.assert_allclose(points.precision[i], metrics.precision_at(counts, top=top)[kept].mean())
        np.testing.assert_allclose(points.recall[i], metrics.recall_at(counts, top=top)[kept].mean())
    np.testing.assert_array_equal(points.top, tops)


@pytest.mark.parametrize("tops", [[], [0], [41], [2.0], 3])
def test_cut_offs_of_a_curve_are_named(unchecked, tops):
    with pytest.raises(ValueError, match="tops: must be"):
        metrics.curve(metrics.tally(*lists(0), bits=8), tops=tops)
