"""One battery for every loss: shape, jit, vmap, finiteness, gradients, batch of one, label types, invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from jcbir.hashing import centers, losses
from jcbir.hashing.losses import _factorized

BITS, CLASSES = 8, 5
TABLE = np.asarray(centers.hadamard(CLASSES, BITS))
WEIGHTS = np.asarray(jax.random.normal(jax.random.key(9), (BITS, CLASSES)), np.float32)


def rows_of(labels):
    return centers.one_hot(labels, classes=CLASSES) if labels.ndim == 1 else labels


def by_class(logits, labels):
    weights = jnp.asarray(WEIGHTS, logits.dtype)
    return losses.greedyhash(logits, losses.straight_through(logits) @ weights, labels)


def by_center(logits, labels):
    signs = jnp.where(TABLE.T, 1.0, -1.0)
    return losses.greedyhash(logits, losses.straight_through(logits) @ signs, labels)


def by_database(logits, labels):
    stored = centers.one_hot(jnp.arange(9) % CLASSES, classes=CLASSES)
    signs = jnp.where(jnp.asarray(TABLE)[jnp.arange(9) % CLASSES], 1.0, -1.0).astype(logits.dtype)
    return losses.adsh(logits, labels, signs, stored, rows_of(labels).argmax(-1).astype(jnp.int32))


POINTWISE = {
    "csq": lambda u, y: losses.csq(u, centers.semantic(rows_of(y), TABLE)),
    "csq_paper": lambda u, y: losses.csq(
        u, centers.semantic(rows_of(y), TABLE), quantizer=losses.quantization_paper, quantization_weight=0.01
    ),
    "cnnh": lambda u, y: losses.cnnh(u, centers.semantic(rows_of(y), TABLE)),
    "greedyhash": by_class,
    "orthohash": lambda u, y: losses.orthohash(u, y, TABLE),
    "adsh": by_database,
    "dbdh": losses.dbdh,
    "dfh": lambda u, y: losses.dfh(u, y, losses.dfh_codes(u, y, TABLE - 0.5)),
}
PAIRWISE = {
    "dpsh": losses.dpsh,
    "dhn": losses.dhn,
    "hashnet": lambda u, y: losses.hashnet(u, y, scale=2.0),
    "dch": losses.dch,
    "dnnh": losses.dnnh,
    "dsh": losses.dsh,
    "dtsh": losses.dtsh,
    "idhn": lambda u, y: losses.idhn(u, rows_of(y)),
}
ALL = POINTWISE | PAIRWISE
JITTED = {name: jax.jit(loss) for name, loss in ALL.items()}
SLOPES = {name: jax.jit(jax.value_and_grad(lambda u, y, f=loss: f(u, y).sum())) for name, loss in ALL.items()}
every = pytest.mark.parametrize("name", ALL)
pairwise = pytest.mark.parametrize("name", PAIRWISE)

logits_of = lambda bound: hnp.arrays(np.float32, (6, BITS), elements=st.floats(-bound, bound, width=32))  # noqa: E731
numbers = hnp.arrays(np.int32, 6, elements=st.integers(0, CLASSES - 1))
multi_hot = hnp.arrays(bool, (6, CLASSES))


@every
@given(logits_of(4), multi_hot)
def test_one_nonnegative_number_per_image(name, logits, labels):
    value = JITTED[name](logits, labels)
    assert value.shape == (6,)
    assert value.dtype == jnp.float32
    assert (np.asarray(value) >= 0).all()


@every
@given(logits_of(4), numbers)
def test_class_numbers_and_one_hot_rows_mean_the_same(name, logits, labels):
    rows = np.asarray(labels)[:, None] == np.arange(CLASSES)
    np.testing.assert_allclose(JITTED[name](logits, labels), JITTED[name](logits, rows), rtol=1e-6, atol=1e-7)


@every
@given(logits_of(1e4), multi_hot, st.booleans())
def test_finite_in_value_and_gradient_at_ten_thousand(name, logits, labels, collapse):
    logits = np.where(np.arange(BITS) < 3, np.where(logits < 0, -1e4, 1e4), logits).astype(np.float32)
    logits = np.repeat(logits[:1], 6, axis=0) if collapse else logits
    value, gradient = SLOPES[name](logits, labels)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@every
def test_finite_at_zero_logits_without_labels_and_for_a_batch_of_one(name):
    zeros, single = np.zeros((6, BITS), np.float32), np.full((1, BITS), 0.4, np.float32)
    none, some = np.zeros((6, CLASSES), bool), np.arange(6)[:, None] % CLASSES == np.arange(CLASSES)
    for logits, labels in ((zeros, none), (zeros, some), (single, some[:1]), (single, none[:1])):
        value, gradient = SLOPES[name](logits, labels)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


@every
def test_gradient_equals_finite_differences(name):
    if name == "greedyhash":
        pytest.skip("the straight-through gradient is not the derivative, by design")
    logits = np.random.default_rng(4).normal(size=(6, BITS))
    labels = np.array([0, 0, 1, 2, 2, 2], np.int32)
    with jax.enable_x64(True):
        slope = jax.jit(jax.value_and_grad(lambda u: ALL[name](u, labels).sum()))
        steps = 1e-5 * np.eye(logits.size).reshape(-1, *logits.shape)
        differences = [float(slope(logits + step)[0] - slope(logits - step)[0]) / 2e-5 for step in steps]
        np.testing.assert_allclose(slope(logits)[1].ravel(), differences, rtol=1e-5, atol=1e-5)


@every
@given(logits_of(3), numbers, st.permutations(range(6)))
def test_the_order_of_the_batch_does_not_matter(name, logits, labels, order):
    order = np.asarray(order)
    turned = JITTED[name](logits[order], labels[order])
    np.testing.assert_allclose(turned, np.asarray(JITTED[name](logits, labels))[order], rtol=2e-5, atol=1e-5)


@every
def test_eager_equals_jit_and_vmap_equals_a_loop(name):
    logits = np.asarray(jax.random.normal(jax.random.key(5), (3, 6, BITS)))
    labels = np.asarray(jax.random.randint(jax.random.key(6), (3, 6), 0, CLASSES))
    looped = np.stack([JITTED[name](u, y) for u, y in zip(logits, labels, strict=True)])
    np.testing.assert_allclose(ALL[name](logits[0], labels[0]), looped[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(ALL[name]))(logits, labels), looped, rtol=1e-5, atol=1e-6)


@pairwise
@given(logits_of(3), numbers, hnp.arrays(bool, BITS), st.permutations(range(BITS)), st.permutations(range(CLASSES)))
def test_pair_losses_do_not_see_bit_names_complements_or_class_names(name, logits, labels, flip, bits, names):
    turned = np.where(flip, -logits, logits)[:, list(bits)]
    renamed = np.asarray(names, np.int32)[labels]
    np.testing.assert_allclose(JITTED[name](turned, renamed), JITTED[name](logits, labels), rtol=2e-4, atol=1e-5)


@every
def test_ideal_codes_cost_less_than_shuffled_ones(name):
    labels = np.arange(20, dtype=np.int32) % CLASSES
    ideal = np.where(TABLE[labels], 1.5, -1.5).astype(np.float32)
    wrong = np.where(TABLE[(labels + np.arange(20) // 5) % CLASSES], 1.5, -1.5).astype(np.float32)
    loss = by_center if name == "greedyhash" else JITTED[name]
    assert loss(ideal, labels).mean() < loss(wrong, labels).mean()


@given(logits_of(5), numbers, st.floats(0.125, 100, width=32))
def test_orthohash_sees_directions_only(logits, labels, factor):
    logits = np.where(np.arange(BITS) == 0, np.float32(2), logits)
    one, other = (JITTED["orthohash"](u, labels) for u in (logits, np.float32(factor) * logits))
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_pair_losses_against_loops_over_the_printed_formulas():
    logits = np.asarray(jax.random.normal(jax.random.key(7), (5, BITS)), np.float64)
    labels = np.array([0, 1, 0, 2, 1])
    z, h = np.tanh(logits), (np.tanh(logits) + 1) / 2
    similar = labels[:, None] == labels[None]
    others = [(i, j) for i in range(5) for j in range(5) if i != j]
    near = sum(similar[i, j] for i, j in others)
    weight = {True: 20 / near, False: 20 / (20 - near)}
    got = {name: np.asarray(JITTED[name](np.float32(logits), labels)) for name in PAIRWISE}
    for i in range(5):
        rest = [j for j in range(5) if j != i]
        likelihood = lambda t, s: np.log(1 + np.exp(t)) - s * t  # noqa: E731
        pair = np.mean([likelihood(logits[i] @ logits[j] / 2, similar[i, j]) for j in rest])
        expected = pair + 0.1 * np.mean((np.sign(logits[i]) - logits[i]) ** 2)
        np.testing.assert_allclose(got["dpsh"][i], expected, rtol=1e-5)
        pair = np.mean([likelihood(z[i] @ z[j] / 2, similar[i, j]) for j in rest])
        expected = pair + 0.1 * np.mean(np.log(np.cosh(np.abs(z[i]) - 1)))
        np.testing.assert_allclose(got["dhn"][i], expected, rtol=1e-5)
        b = np.tanh(2 * logits)
        terms = [weight[bool(similar[i, j])] * likelihood(10 / BITS * b[i] @ b[j], similar[i, j]) for j in rest]
        np.testing.assert_allclose(got["hashnet"][i], np.mean(terms), rtol=1e-5)
        distance = [BITS / 2 * (1 - z[i] @ z[j] / np.linalg.norm(z[i]) / np.linalg.norm(z[j])) for j in range(5)]
        terms = [
            weight[True] * (np.log(distance[j] / 20) + np.log(1 + 20 / distance[j]))
            if similar[i, j]
            else weight[False] * np.log(1 + 20 / (distance[j] + 0.01 * BITS / 2))
            for j in rest
        ]
        ones = BITS / 2 * (1 - np.abs(z[i]).sum() / np.linalg.norm(z[i]) / np.sqrt(BITS))
        np.testing.assert_allclose(got["dch"][i], np.mean(terms) + 0.1 * np.log(1 + ones / 20), rtol=1e-5)
        squared = [((h[i] - h[j]) ** 2).sum() for j in range(5)]
        terms = [
            max(0, 1 + squared[j] - squared[k])
            for j in rest if similar[i, j] for k in rest if not similar[i, k]
        ]  # fmt: skip
        expected = np.mean(terms) if terms else 0.0
        np.testing.assert_allclose(got["dnnh"][i], expected, rtol=1e-5)


def test_continuation_follows_the_published_schedule():
    steps = [0, 199, 200, 399, 400, 10_000]
    expected = [1, 1, 2**0.5, 2**0.5, 3**0.5, 51**0.5]
    np.testing.assert_allclose([losses.continuation(step) for step in steps], expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(losses.continuation)(jnp.int32(400)), 3**0.5, rtol=1e-6)


def test_factorized_codes_put_classes_apart_and_the_objective_falls():
    labels = np.arange(24, dtype=np.int32) % 4
    similar = losses.similar_pairs(labels)
    run = jax.jit(losses.similarity_codes, static_argnames=("bits", "rounds"))
    misfit = []
    for rounds in (0, 1, 5):
        codes = np.where(run(jax.random.key(0), similar, bits=16, rounds=rounds), 1.0, -1.0)
        misfit.append(np.square(codes @ codes.T / 16 - np.where(similar, 1.0, -1.0)).mean())
    assert misfit[0] > misfit[1] >= misfit[2]
    distances = (codes[:, None] != codes[None]).sum(-1)
    assert distances[np.asarray(similar)].max() < distances[~np.asarray(similar)].min()


def test_a_pass_over_one_bit_keeps_its_products_and_lowers_the_objective():
    targets = jnp.where(losses.similar_pairs(np.array([0, 0, 1])), 1.0, -1.0)
    codes = jax.random.uniform(jax.random.key(2), (3, 4), minval=-0.2, maxval=0.2)
    carry = (codes, codes.T @ codes, codes.T @ targets)
    (moved, gram, reached), _ = _factorized._descend(targets, jnp.array([2, 0, 1]), carry, jnp.int32(1))
    np.testing.assert_allclose(gram, moved.T @ moved, atol=1e-5)
    np.testing.assert_allclose(reached, moved.T @ targets, atol=1e-5)
    assert (np.delete(np.asarray(moved), 1, axis=1) == np.delete(np.asarray(codes), 1, axis=1)).all()
    assert _factorized._misfit(moved, targets) < _factorized._misfit(codes, targets)


def test_labels_of_another_number_of_classes_are_named(unchecked):
    with pytest.raises(ValueError, match="labels: must have 5 columns, got 3"):
        losses.orthohash(np.ones((2, BITS), np.float32), np.ones((2, 3), bool), TABLE)


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("csq", "csq_paper", "cnnh", "idhn")])
def test_a_class_number_that_is_none_is_refused_or_stops_the_run(name):
    """Where it can be seen by its name; inside a compiled step by a loss that is NaN, which `fit` stops at."""
    logits, labels = np.linspace(-2, 2, 6 * BITS).reshape(6, BITS).astype(np.float32), np.array([0, 1, -1, 2, 0, 1])
    with pytest.raises(ValueError, match=r"labels: must be class numbers from 0 .*, got -1"):
        ALL[name](logits, labels)
    assert np.isnan(JITTED[name](logits, labels)[2])
    if name in ("greedyhash", "orthohash"):
        with pytest.raises(ValueError, match=f"labels: must be class numbers from 0 to {CLASSES - 1}, got {CLASSES}"):
            ALL[name](logits, np.array([0, 1, CLASSES, 2, 0, 1]))


@every
def test_other_logits_and_other_numbers_of_labels_are_refused(name, unchecked):
    logits, labels = np.linspace(-2, 2, 6 * BITS).reshape(6, BITS).astype(np.float32), np.arange(6) % CLASSES
    for dtype in (np.int32, bool, np.complex64):
        with pytest.raises(ValueError, match=r"must be floats"):
            ALL[name](logits.astype(dtype), labels)
    # One image's labels would go for all of them.
    for wrong in (labels[:1], labels[:5]):
        with pytest.raises((ValueError, TypeError)):
            ALL[name](logits, wrong)
