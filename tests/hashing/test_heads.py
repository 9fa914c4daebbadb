"""Heads on frozen features: what any head must do, what the label-free and the class bits are for, what is refused."""

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given, settings

from jcbir.codes import binarize, pack, pairwise
from jcbir.hashing import encode
from jcbir.hashing.heads import (
    FEWEST,
    Whitening,
    fit_csq_head,
    fit_label_free,
    fit_whitening,
    general_head,
    itq_rotations,
    principal_axes,
    research_whitening,
)
from jcbir.models import Head, project_head

KEY = jax.random.key(0)


def clouds(entropy: int, *, count: int = 120, classes: int = 4, width: int = 24, spread: float = 0.4):
    """Positive features of a few classes, like those after a ReLU, and their labels."""
    g = np.random.default_rng(entropy)
    labels = np.arange(count) % classes
    middles = g.exponential(size=(classes, width))
    return np.maximum(middles[labels] + spread * g.normal(size=(count, width)), 0.01).astype(np.float32), labels


def bits_of(head, features):
    return np.asarray(project_head(head, features)) >= 0


SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(1, 6))
def test_axes_are_orthonormal_and_explain_most(entropy, components):
    rows = clouds(entropy, count=40, width=8)[0].astype(np.float64)
    mean, axes = principal_axes(rows, components=components)
    np.testing.assert_allclose(axes.T @ axes, np.eye(components), atol=1e-9)
    kept = np.square((rows - mean) @ axes).sum(0)
    best = np.linalg.svd(rows - mean, compute_uv=False)[:components] ** 2
    np.testing.assert_allclose(kept, best, rtol=1e-6)


@given(SEEDS)
def test_axes_of_few_rows_are_those_of_the_other_gram_matrix(entropy):
    rows = clouds(entropy, count=30, width=24)[0].astype(np.float64)
    wide = np.concatenate([rows, np.zeros((30, 40))], axis=1)
    mean, axes = principal_axes(rows, components=5)
    wide_mean, wide_axes = principal_axes(wide, components=5)
    np.testing.assert_allclose(wide_mean[:24], mean)
    np.testing.assert_allclose(np.abs((wide_axes[:24] * axes).sum(0)), 1, atol=1e-8)
    np.testing.assert_allclose(wide_axes[24:], 0, atol=1e-12)


@settings(max_examples=10)
@given(SEEDS)
def test_rotations_are_orthogonal(entropy):
    points = np.random.default_rng(entropy).normal(size=(50, 6))
    turns = itq_rotations(KEY, points, bits=12)
    for turn in (turns[:, :6], turns[:, 6:]):
        np.testing.assert_allclose(turn.T @ turn, np.eye(6), atol=1e-5)
    # Two starts, two rotations: a second copy of the first would add no bit.
    assert np.abs(turns[:, :6] - turns[:, 6:]).max() > 0.1


def test_bits_are_balanced():
    features, _ = clouds(1, count=400, classes=16)
    share = bits_of(fit_label_free(KEY, features, bits=32), features).mean(0)
    assert (share > 0.15).all() and (share < 0.85).all()
    assert abs(share.mean() - 0.5) < 0.06


def test_order_of_photographs_does_not_matter():
    features, labels = clouds(2, spread=0.2)
    turned = np.random.default_rng(0).permutation(len(features))
    codes = [
        [
            bits_of(head, features)
            for head in (fit_label_free(KEY, f, bits=16), fit_csq_head(KEY, f, y, bits=16, label_free_bits=0))
        ]
        for f, y in ((features, labels), (features[turned], labels[turned]))
    ]
    np.testing.assert_array_equal(codes[0][1], codes[1][1])
    # A rotation starts on axes whose signs follow the last digits of a sum: other bits, the same distances nearly.
    apart = [(label_free[:, None] != label_free[None]).sum(-1).ravel() for label_free, _ in codes]
    assert np.corrcoef(*apart)[0, 1] > 0.9


def test_the_length_of_a_feature_does_not_matter():
    features, labels = clouds(3)
    longer = features * np.random.default_rng(0).uniform(0.5, 20, (len(features), 1)).astype(np.float32)
    for head in (
        fit_label_free(KEY, features, bits=16),
        fit_csq_head(KEY, features, labels, bits=16, label_free_bits=0),
    ):
        np.testing.assert_allclose(project_head(head, longer), project_head(head, features), atol=1e-5)


def test_fits_repeat_with_and_without_64_bits():
    features, labels = clouds(4)
    for fit in (
        lambda: fit_label_free(KEY, features, bits=16),
        lambda: fit_csq_head(KEY, features, labels, bits=16),
    ):
        plain, again = fit(), fit()
        with jax.enable_x64(True):
            wide = fit()
        for other in (again, wide):
            np.testing.assert_array_equal(plain.projection, other.projection)
            np.testing.assert_array_equal(plain.bias, other.bias)
            assert other.projection.dtype == np.float32


def test_another_key_is_another_head():
    features, _ = clouds(5)
    heads = [fit_label_free(jax.random.key(n), features, bits=16) for n in range(2)]
    assert np.abs(heads[0].projection - heads[1].projection).max() > 0.01


def test_logits_are_the_formula():
    features, _ = clouds(6, count=30)
    head = fit_label_free(KEY, features, bits=16)
    unit = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(project_head(head, features), unit @ head.projection + head.bias, atol=1e-5)


def test_distances_of_packed_codes_are_those_of_the_bits():
    features, labels = clouds(7)
    head = fit_csq_head(KEY, features, labels, bits=40)
    codes = bits_of(head, features)
    packed = pack(binarize(project_head(head, features)))
    np.testing.assert_array_equal(pairwise(packed, packed), (codes[:, None] != codes[None]).sum(-1))


def test_near_features_have_near_codes():
    features, labels = clouds(8, spread=0.1)
    codes = bits_of(fit_label_free(KEY, features, bits=32), features)
    apart = (codes[:, None] != codes[None]).sum(-1)
    same = labels[:, None] == labels[None]
    assert apart[same].mean() * 4 < apart[~same].mean()


def test_class_bits_find_classes_that_label_free_bits_do_not():
    features, _ = clouds(9, count=300, classes=8, spread=0.2)
    # What varies most is one of eight styles; the class is a small shift on top.
    labels = np.random.default_rng(0).integers(0, 2, 300)
    features[:, :4] += 0.5 * labels[:, None].astype(np.float32)
    train, held = slice(0, 200), slice(200, 300)

    def hits(head):
        apart = (bits_of(head, features[held])[:, None] != bits_of(head, features[train])[None]).sum(-1)
        return (labels[train][apart.argmin(1)] == labels[held]).mean()

    assert hits(fit_csq_head(KEY, features[train], labels[train], bits=16, label_free_bits=0)) > 0.75
    assert hits(fit_label_free(KEY, features[train], bits=16)) < 0.7


def test_label_free_bits_tell_photographs_of_a_class_apart():
    features, labels = clouds(10, spread=0.3)
    alone, beside = (
        len(np.unique(bits_of(fit_csq_head(KEY, features, labels, bits=32, label_free_bits=n), features), axis=0))
        for n in (0, 12)
    )
    assert alone < beside


def test_label_rows_and_class_numbers_are_one():
    features, labels = clouds(11)
    heads = [fit_csq_head(KEY, features, given, bits=16) for given in (labels, np.eye(4, dtype=bool)[labels])]
    np.testing.assert_array_equal(heads[0].projection, heads[1].projection)


def test_rows_with_several_labels_lie_between():
    features, labels = clouds(12, spread=0.1)
    rows = np.eye(4, dtype=bool)[labels]
    both = rows.copy()
    both[:30, :2] = True
    head = fit_csq_head(KEY, features, both, bits=16)
    assert np.isfinite(head.projection).all() and len(np.unique(bits_of(head, features), axis=0)) > 3


@pytest.mark.parametrize("bits", [16, 32, 48, 64, 128])
def test_general_head(bits):
    head = general_head(bits=bits)
    assert head.projection.shape == (2048, bits) and head.bias.shape == (bits,)
    # No bit is another one's copy, nor is one without weight.
    lengths = np.linalg.norm(head.projection, axis=0)
    alike = np.abs((head.projection.T @ head.projection) / lengths[:, None] / lengths[None])
    assert lengths.min() > 0 and (alike - np.eye(bits)).max() < 0.99


def test_research_whitening_takes_less_and_less_away_along_orthonormal_axes():
    axes, share = research_whitening()
    np.testing.assert_allclose(axes.T @ axes, np.eye(axes.shape[1]), atol=1e-2)
    assert (share >= 0).all() and (share < 1).all() and (np.diff(share) <= 0).all()


@given(SEEDS, st.integers(2, 12))
@settings(max_examples=5)
def test_whitening_brings_the_loudest_directions_within_classes_down_to_one_level(entropy, directions):
    features, labels = clouds(entropy, count=200)
    axes, share = fit_whitening(features, labels, directions=directions)
    np.testing.assert_allclose(axes.T @ axes, np.eye(directions), atol=1e-8)
    unit = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    white = unit - (unit @ axes * share) @ axes.T
    apart = np.concatenate([white[labels == label] - white[labels == label].mean(0) for label in range(4)])
    spread = np.linalg.norm(apart @ axes, axis=0)
    # 50 photographs of each class: the weights of all classes are one.
    np.testing.assert_allclose(spread, spread[-1], rtol=1e-6)
    rest = np.linalg.svd(apart, compute_uv=False)
    np.testing.assert_allclose(rest[0], spread[-1], rtol=1e-6)


def test_a_whitening_is_part_of_the_head():
    features, labels = clouds(13)
    whitening = fit_whitening(features, labels, directions=6)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    head = fit_label_free(KEY, features, bits=16, whitening=whitening)
    # What it takes away wholly, the head does not see.
    blind = fit_label_free(KEY, features, bits=16, whitening=Whitening(whitening.axes, np.ones(6)))
    moved = unit + 0.1 * (whitening.axes @ np.random.default_rng(0).normal(size=6)).astype(np.float32)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    seen = [np.asarray(u) @ blind.projection for u in (unit, moved)]
    np.testing.assert_allclose(*seen, atol=1e-4 * np.abs(seen[0]).max())
    assert (bits_of(head, moved / lengths) != bits_of(head, unit)).any()


def test_learning_neighbors_keeps_more_of_them_than_itq():
    """Of the five nearest by cosine of held-out photographs, how many are among the five nearest by code."""
    g = np.random.default_rng(0)
    styles = g.exponential(size=(12, 64))
    features = np.maximum(g.dirichlet(np.full(12, 0.3), 400) @ styles + 0.02 * g.normal(size=(400, 64)), 0.001)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    unit = unit - unit[:300].mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    wanted = np.argsort(-(unit[300:] @ unit[:300].T), axis=1)[:, :5]

    def kept(steps: int) -> float:
        codes = bits_of(fit_label_free(KEY, features[:300], bits=32, steps=steps), features)
        apart = (codes[300:, None] != codes[None, :300]).sum(-1)
        found = np.argsort(apart, axis=1, kind="stable")[:, :5]
        return float(np.mean([len(np.intersect1d(*pair)) for pair in zip(wanted, found, strict=True)]))

    learned, start = kept(100), kept(0)
    assert learned > start + 0.2, (learned, start)


FEATURES, LABELS = clouds(0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: fit_label_free(KEY, FEATURES[: FEWEST - 1], bits=8),
            "features: must be of at least 24 .*general_head",
        ),
        (lambda: fit_label_free(KEY, FEATURES, bits=0), "bits: must be a whole number of at least 1"),
        (lambda: fit_label_free(KEY, FEATURES, bits=16, steps=-1), "steps: must be a whole number of at least 0"),
        (lambda: fit_label_free(KEY, FEATURES, bits=16, rate=-0.1), "rate: must be finite and at least 0, got -0.1"),
        (
            lambda: fit_label_free(KEY, FEATURES, bits=16, whitening=research_whitening()),
            "whitening: must be of 24 features, got 2048",
        ),
        (lambda: fit_whitening(FEATURES, LABELS[:-1]), "labels: must be 120 integers"),
        (lambda: fit_whitening(FEATURES, LABELS * 1.0), "labels: must be 120 integers"),
        (lambda: fit_whitening(FEATURES, LABELS, directions=25), "directions: must be a whole number from 1 to 24"),
        (lambda: fit_whitening(FEATURES, np.arange(120), directions=1), "directions: must be"),
        (lambda: fit_label_free(KEY, FEATURES.astype(int), bits=16), r"features: must be floating \[n d\], got int64"),
        (lambda: fit_label_free(KEY, FEATURES[0], bits=16), r"features: must be floating \[n d\], got float32"),
        (lambda: fit_label_free(KEY, np.where(FEATURES > 1, np.nan, FEATURES), bits=16), "features: must be finite"),
        (lambda: fit_label_free(KEY, FEATURES * (np.arange(120) > 3)[:, None], bits=16), "other than zero, got 4"),
        (lambda: fit_csq_head(KEY, FEATURES, LABELS[:-1], bits=16), "labels: must be 120 integers"),
        (lambda: fit_csq_head(KEY, FEATURES, LABELS * 1.0, bits=16), "labels: must be 120 integers"),
        (lambda: fit_csq_head(KEY, FEATURES, LABELS - 1, bits=16), "labels: must be class numbers from 0, got -1"),
        (lambda: fit_csq_head(KEY, FEATURES, LABELS * 0, bits=16), "labels: must be of at least 2 classes"),
        (
            lambda: fit_csq_head(KEY, FEATURES, LABELS, bits=16, label_free_bits=16),
            "label_free_bits: must be a whole number from 0 to 15",
        ),
        (lambda: fit_csq_head(KEY, FEATURES, LABELS, bits=16, smoothing=0.5), "smoothing: must be"),
        (lambda: fit_csq_head(KEY, FEATURES, LABELS, bits=16, steps=0), "steps: must be a whole number of at least 1"),
        (lambda: fit_csq_head(KEY, FEATURES, LABELS, bits=16, rate=float("nan")), "rate: must be"),
        (lambda: fit_csq_head(KEY, FEATURES, LABELS, bits=16, quantization_weight=-1.0), "quantization_weight: must"),
        (lambda: project_head(general_head(bits=16), FEATURES), r"features: must be floating \[n 2048\]"),
        (lambda: project_head(Head(np.eye(24), np.zeros(24)), FEATURES.astype(int)), "got int64"),
        (lambda: general_head(bits=24), r"bits: must be one of \[16, 32, 48, 64, 128\], got 24"),
    ],
)
def test_what_is_refused(call, words, unchecked):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(("photographs", "components"), [(30, 10), (60, 16), (240, 30), (500, 48)])
def test_itq_starts_a_small_collection_with_few_components(photographs, components):
    features = np.random.default_rng(photographs).normal(size=(photographs, 96)).astype(np.float32)
    head = fit_label_free(KEY, features, bits=64, steps=0)
    assert np.linalg.matrix_rank(head.projection, tol=1e-4) == components


@pytest.mark.parametrize("bits", [16.0, True, "16", 0])
def test_a_length_that_is_no_whole_number_is_refused(bits, unchecked):
    features, labels = clouds(0)
    for fit in (
        lambda: fit_label_free(KEY, features, bits=bits),
        lambda: fit_csq_head(KEY, features, labels, bits=bits),
    ):
        with pytest.raises(ValueError, match="bits: must be a whole number"):
            fit()
    with pytest.raises(ValueError, match="bits: must be"):
        general_head(bits=bits)


@pytest.mark.parametrize("option", [{"steps": 3.5}, {"label_free_bits": 4.0}, {"label_free_bits": 16}, {"steps": True}])
def test_counts_that_are_no_whole_numbers_are_refused(option, unchecked):
    features, labels = clouds(0)
    with pytest.raises(ValueError, match=f"{next(iter(option))}: must be a whole number"):
        fit_csq_head(KEY, features, labels, bits=16, **option)


@pytest.mark.parametrize("batch", [0, 1.5, True])
def test_a_batch_that_is_no_whole_number_is_refused(batch, unchecked):
    with pytest.raises(ValueError, match="batch: must be a whole number of at least 1"):
        encode(lambda weights, rows: rows * weights, np.float32(1), np.ones((3, 2), np.float32), batch=batch)
