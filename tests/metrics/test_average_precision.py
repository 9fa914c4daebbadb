"""Average precision: closed forms against enumeration, against brute force, and the conventions by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir import metrics
from jcbir.metrics import _average_precision as ties

DENOMINATORS = ("retrieved", "relevant", "capped")


def brute_force(order: list[bool], top: int, denominator: str) -> float:
    """AP of one ranked list of relevance marks, by the definition, in plain Python."""
    hits, total = 0, 0.0
    for rank, mark in enumerate(order[:top], start=1):
        if mark:
            hits += 1
            total += hits / rank
    divisor = {"retrieved": hits, "relevant": sum(order), "capped": min(top, sum(order))}[denominator]
    return total / divisor if divisor else 0.0


def all_orders(distances, relevant):
    """Every order that sorts by distance: all permutations inside each group of equals."""
    groups = [[r for d, r in zip(distances, relevant, strict=True) if d == g] for g in sorted(set(distances))]
    for parts in itertools.product(*(itertools.permutations(g) for g in groups)):
        yield list(itertools.chain.from_iterable(parts))


LISTS = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=7)


@given(LISTS, st.integers(1, 7), st.sampled_from(DENOMINATORS))
def test_expected_is_the_mean_over_all_orders(pairs, top, denominator):
    # Short lists with few distances: cut-offs fall inside bins all the time, and every order can be visited.
    distances, relevant = zip(*pairs, strict=True)
    top = min(top, len(pairs))
    values = [brute_force(order, top, denominator) for order in all_orders(distances, relevant)]
    got = metrics.average_precision(np.array(distances), np.array(relevant), top=top, denominator=denominator)
    np.testing.assert_allclose(got, np.mean(values), atol=1e-12)


@given(LISTS, st.integers(1, 7), st.sampled_from(DENOMINATORS), st.sampled_from(["index", "best", "worst"]))
def test_named_orders(pairs, top, denominator, rule):
    second = {"index": lambda i, r: i, "best": lambda i, r: not r, "worst": lambda i, r: r}[rule]
    order = [r for _, _, r in sorted((d, second(i, r), r) for i, (d, r) in enumerate(pairs))]
    distances, relevant = (np.array(a) for a in zip(*pairs, strict=True))
    top = min(top, len(pairs))
    got = metrics.average_precision(distances, relevant, top=top, denominator=denominator, ties=rule)
    np.testing.assert_allclose(got, brute_force(order, top, denominator), atol=1e-12)


@pytest.mark.parametrize("backend", [np.asarray, jnp.asarray])
def test_the_order_of_the_database_decides_in_long_lists(backend):
    # A sort that is not stable keeps the order of a dozen equals by luck, not that of hundreds.
    g = np.random.default_rng(5)
    distances, relevant = g.integers(0, 4, 1000).astype(np.int32), g.random(1000) < 0.3
    order = [bool(relevant[i]) for i in sorted(range(1000), key=lambda i: distances[i])]
    got = metrics.average_precision(backend(distances), backend(relevant), top=700, ties="index")
    np.testing.assert_allclose(got, brute_force(order, 700, "retrieved"), rtol=1e-5)


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("top", [None, 37, 100])
def test_expected_is_the_monte_carlo_mean(top, denominator):
    # A list of the size where permutations cannot be enumerated, with the cut-off inside a bin of hundreds.
    g = np.random.default_rng(5)
    distances, relevant = g.integers(0, 6, 500), g.random(500) < 0.15
    cut = {"top": top, "denominator": denominator}
    expected = float(metrics.average_precision(distances, relevant, **cut))
    shuffles = np.argsort(g.random((4000, 500)), axis=-1)
    values = metrics.average_precision(distances[shuffles], relevant[shuffles], ties="index", **cut)
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - expected) < 4 * error
    assert error < 3e-3


RULES = ("expected", "index", "best", "worst")
CUTS = [(None, "retrieved"), (1, "retrieved"), (10, "retrieved"), (10, "relevant"), (10, "capped"), (64, "retrieved")]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("top", "denominator"), CUTS)
def test_jax_and_jit_agree_with_numpy(top, denominator, rule):
    cut = {"top": top, "denominator": denominator, "ties": rule}
    jitted = jax.jit(lambda d, r: metrics.average_precision(d, r, **cut, bits=8))
    for seed in range(5):
        g = np.random.default_rng(seed)
        distances, relevant = g.integers(0, 9, (3, 64)).astype(np.int32), g.random((3, 64)) < 0.3 * (seed > 0)
        expected = metrics.average_precision(distances, relevant, **cut)
        assert expected.dtype == np.float64
        np.testing.assert_allclose(jitted(distances, relevant), expected, atol=2e-6)


def test_eager_jax_agrees_with_numpy():
    g = np.random.default_rng(1)
    distances, relevant = g.integers(0, 9, (3, 64)).astype(np.int32), g.random((3, 64)) < 0.3
    for rule in RULES:
        got = metrics.average_precision(jnp.asarray(distances), jnp.asarray(relevant), top=10, ties=rule)
        assert got.dtype == jnp.float32
        expected = metrics.average_precision(distances, relevant, top=10, ties=rule)
        np.testing.assert_allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize("rule", RULES)
def test_perfect_ranking_is_exactly_one(rule):
    relevant = np.array([[True] * 30 + [False] * 30])
    assert metrics.average_precision((~relevant).astype(int), relevant, ties=rule).tolist() == [1.0]


def test_float32_keeps_its_precision_on_long_lists():
    g = np.random.default_rng(0)
    distances = g.binomial(64, 0.5, (4, 59_000)).astype(np.int32)
    relevant = g.random((4, 59_000)) < 0.1
    for top in (None, 5_000):
        exact = metrics.average_precision(distances, relevant, top=top)
        rough = jax.jit(lambda d, r, top=top: metrics.average_precision(d, r, top=top, bits=64))(distances, relevant)
        np.testing.assert_allclose(rough, exact, rtol=2e-5)


def test_conventions_by_hand():
    distances, relevant = np.array([0, 1, 2, 3, 4]), np.array([True, False, True, False, True])
    ap = {
        d: float(metrics.average_precision(distances, relevant, top=2, denominator=d, ties="index"))
        for d in DENOMINATORS
    }
    np.testing.assert_allclose([ap["retrieved"], ap["relevant"], ap["capped"]], [1 / 1, 1 / 3, 1 / 2])


def test_best_can_be_below_worst_by_hits_retrieved():
    # One hit at rank 1, then a tie at the cut-off: finding the late hit lowers a mean over the hits found.
    distances, relevant = np.array([0, 1, 1, 1, 2, 2]), np.array([True, False, False, False, True, False])
    best, worst = (
        float(metrics.average_precision(distances, relevant, top=5, ties=rule)) for rule in ("best", "worst")
    )
    np.testing.assert_allclose([best, worst], [(1 + 2 / 5) / 2, 1])


def test_queries_without_a_relevant_item():
    distances, relevant = np.array([[0, 1], [0, 1], [1, 0]]), np.array([[True, False], [False, False], [True, False]])
    # AP 1, 0 (nothing to find) and 1/2.
    zero = metrics.mean_average_precision(distances, relevant)
    skip = metrics.mean_average_precision(distances, relevant, empty="skip")
    assert zero == (0.5, "mAP@all[retrieved,expected]", 3, 1)
    assert skip == (0.75, "mAP@all[retrieved,expected,skip]", 2, 1)
    mean = jax.jit(lambda v, r: metrics.mean_over_queries(v, r, empty="skip"))
    np.testing.assert_allclose(mean(np.float32([1, 0, 0.5]), np.array([1, 0, 1])), 0.75)


@given(st.integers(0, 10**6), st.integers(0, 10**5))
def test_harmonic(start, count):
    exact = np.sum(1 / np.arange(start + 1, start + count + 1, dtype=np.float64))
    got = ties._harmonic(np.array([float(start)]), np.array([float(count)]))
    np.testing.assert_allclose(got, exact, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("ties", ["expected", "index", "best", "worst"])
@pytest.mark.parametrize("top", [1, 2, 4])
def test_capped_by_the_cut_off_a_perfect_list_is_one(ties, top):
    """Of four relevant items no more than `top` can be found: divided by fewer of both, all of them are 1."""
    found = metrics.average_precision(np.arange(4), np.ones(4, bool), top=top, denominator="capped", ties=ties)
    assert float(found) == pytest.approx(1)


def test_names():
    assert metrics.convention(top=None, denominator="capped", ties="best") == "mAP@all[capped,best]"
    assert metrics.convention(top=10, empty="skip") == "mAP@10[retrieved,expected,skip]"


D, R = np.array([[1, 0, 2]]), np.array([[True, False, True]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.average_precision(D, R, top=0), "top: must be a whole number of at least 1, got 0"),
        (lambda: metrics.average_precision(D, R, top=4), "top: must be a whole number from 1 to 3, got 4"),
        (lambda: metrics.average_precision(D, R, denominator="all"), "denominator: must be one of retrieved"),
        (lambda: metrics.average_precision(D, R, ties="random"), "ties: must be one of expected"),
        (lambda: metrics.average_precision(D[:, :2], R), "relevant: must have the shape"),
        (lambda: metrics.average_precision(D[:, :0], R[:, :0]), "at least one query and one item"),
        (lambda: metrics.average_precision(D.astype(float), R), "distances: must be integers"),
        (lambda: metrics.average_precision(D, R.astype(int)), "relevant: must be booleans"),
        (lambda: metrics.average_precision(-D, R), "distances: must be at least 0, got -2"),
        (lambda: metrics.average_precision(D, R, bits=1), "distances: must be from 0 to bits=1, got 0 to 2"),
        (lambda: jax.jit(metrics.average_precision)(D, R), "bits: must be .* under jit"),
        (lambda: metrics.mean_average_precision(D, ~R & False, empty="skip"), "empty: must leave a query"),
        (lambda: metrics.mean_over_queries(np.zeros(0), np.zeros(0, int)), "at least one, got 0"),
        (lambda: ties.tied_average_precision(metrics.tally(D, R), ties="index"), "which a tally has forgotten"),
        (
            lambda: ties.tied_average_precision(metrics.tally(D, R), top=4),
            "top: must be a whole number from 1 to 3, got 4",
        ),
    ],
)
def test_bad_input(unchecked, call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_arrays_that_a_compiled_program_knows_are_looked_at():
    distances, relevant = np.array([[0, 1, 1, 3]], np.int32), np.array([[True, False, True, False]])
    grades, counts = relevant.astype(np.int32), metrics.tally(distances, relevant)
    graded = metrics.grade_tally(distances, grades)
    values, found = np.array([0.5, 1.0], np.float32), np.array([1, 0], np.int32)
    host = {"d": distances, "r": relevant, "g": grades, "c": counts, "t": graded, "v": values, "f": found}
    known = jax.tree.map(lambda a: jnp.asarray(a.astype(np.int32) if a.dtype == np.int64 else a), host)
    for program in (
        lambda d, r, **_: metrics.tally(d, r).items,
        lambda d, r, **_: metrics.average_precision(d, r),
        lambda d, r, **_: metrics.average_precision(d, r, ties="index"),
        lambda c, **_: metrics.tied_average_precision(c, top=2),
        lambda v, f, **_: metrics.mean_over_queries(v, f, empty="skip"),
        lambda c, **_: metrics.hits_at(c, top=3),
        lambda d, g, **_: metrics.grade_tally(d, g),
        lambda t, **_: metrics.tallied_ndcg(t, top=2),
    ):
        np.testing.assert_allclose(jax.jit(functools.partial(program, **known))(), program(**host), rtol=1e-6)
    below, none, items = jnp.asarray(distances - 1), jnp.zeros(2, jnp.int32), known["c"].items
    more = metrics.Tally(items, jnp.asarray(counts.items.astype(np.int32) + 1))
    for broken in (
        lambda r, **_: metrics.tally(below, r).items,
        lambda r, **_: metrics.average_precision(below, r, ties="index"),
        lambda c, **_: metrics.hits_at(c, top=5),
        lambda **_: metrics.hits_at(more, top=1),
        lambda v, **_: metrics.mean_over_queries(v, none, empty="skip"),
        lambda d, g, **_: metrics.grade_tally(d, g, highest=0),
        lambda t, **_: metrics.tallied_ndcg(t, items=9),
    ):
        with pytest.raises(ValueError, match="must"):
            jax.jit(functools.partial(broken, **known))()
