"""Shallow hashing: one battery for every method, each objective recomputed from the codes, other programs' answers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir import codes, metrics
from jcbir.hashing import shallow

ITEMS, WIDTH, CLASSES, BITS = 200, 24, 4, 16
KEY = jax.random.key(0)


def problem(seed: int = 0):
    """Noisy classes: random hyperplanes do poorly, a method that looks at the labels well."""
    g = np.random.default_rng(seed)
    labels = g.integers(0, CLASSES, ITEMS)
    features = g.normal(size=(CLASSES, WIDTH))[labels] + 1.5 * g.normal(size=(ITEMS, WIDTH))
    return features.astype(np.float32), labels[:, None] == np.arange(CLASSES)


METHODS = {
    "lsh": lambda key, x, y: shallow.lsh(key, x, bits=BITS),
    "itq": lambda key, x, y: shallow.itq(key, x, bits=BITS, iterations=20),
    "itq_cca": lambda key, x, y: shallow.itq_cca(key, x, y, bits=BITS, iterations=20),
    "ksh": lambda key, x, y: shallow.ksh(key, x, y, bits=BITS, anchors=40, iterations=20),
    "sdh": lambda key, x, y: shallow.sdh(key, x, y, bits=BITS, anchors=60),
    "fsdh": lambda key, x, y: shallow.fsdh(key, x, y, bits=BITS, anchors=60),
    "bre": lambda key, x, y: shallow.bre(key, x, bits=BITS, anchors=40, terms=8),
    "bre_labels": lambda key, x, y: shallow.bre(key, x, bits=BITS, labels=y, anchors=40, terms=8),
}


project = jax.jit(shallow.project)


@functools.cache
def program(name: str):
    return jax.jit(METHODS[name])


@functools.cache
def fitted(name: str) -> shallow.Fitted:
    return jax.tree.map(np.asarray, program(name)(KEY, *problem()))


def quality(name: str) -> float:
    (features, labels), found = problem(), fitted(name)
    packed = codes.pack(codes.binarize(project(found.hash, features)))
    distances = np.asarray(codes.pairwise(packed, packed))
    return metrics.mean_average_precision(distances, (labels @ labels.T)).value


@pytest.mark.parametrize("name", METHODS)
def test_battery(name):
    features, labels = problem()
    found = fitted(name)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    logits = project(found.hash, features)
    assert logits.shape == (ITEMS, BITS)
    # Hardly a bit is the same for all items (SDH may make one; FSDH's begin at random, and four classes often agree).
    share = np.asarray(codes.binarize(logits)).mean(0)
    assert ((share > 0) & (share < 1)).mean() > (0.7 if name == "fsdh" else 0.9)
    # An item's code depends on the item alone.
    np.testing.assert_allclose(project(found.hash, features[3:4]), logits[3:4], rtol=1e-3, atol=1e-4)
    if name != "lsh":
        assert found.objective[-1] < found.objective[0]
        # Rounding of float32 aside, no step makes it worse.
        assert (np.diff(found.objective) <= 1e-5 * np.abs(found.objective[:-1])).all()
    # The key decides everything that is drawn.
    again, other = program(name)(KEY, features, labels), program(name)(jax.random.key(1), features, labels)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, again), found)
    assert not np.array_equal(other.hash.projection, found.hash.projection)


def test_what_is_learned_helps():
    scores = {name: quality(name) for name in METHODS}
    assert scores["itq"] > scores["lsh"] + 0.05
    for name in ("itq_cca", "ksh", "sdh", "fsdh", "bre_labels"):
        assert scores[name] > scores["lsh"] + 0.1
    assert min(scores["itq_cca"], scores["ksh"], scores["sdh"], scores["fsdh"]) > scores["itq"]


def test_itq_objective_is_that_of_its_codes():
    features, _ = problem()
    turned = np.asarray(shallow.project(fitted("itq").hash, features))
    np.testing.assert_allclose(fitted("itq").objective[-1], ((np.sign(turned) - turned) ** 2).sum(), rtol=1e-5)
    projection = fitted("itq").hash.projection
    np.testing.assert_allclose(projection.T @ projection, np.eye(BITS), atol=1e-5)


def test_ksh_objective_is_that_of_its_codes():
    # All 200 items are samples, so the last objective can be recomputed from the codes alone.
    features, labels = problem()
    h = np.where(np.asarray(shallow.project(fitted("ksh").hash, features)) >= 0, 1.0, -1.0)
    similar = np.where(labels @ labels.T, 1.0, -1.0)
    for bits in (0, 1, BITS):
        error = ((h[:, :bits] @ h[:, :bits].T / BITS - similar) ** 2).mean()
        np.testing.assert_allclose(fitted("ksh").objective[bits], error, rtol=1e-4)


def test_fsdh_is_its_three_equations():
    """Restated in float64 from the same anchors and first codes: two ridge regressions, then a sign."""
    (features, labels), found = problem(), fitted("fsdh")
    start = jax.random.normal(jax.random.split(KEY)[1], (ITEMS, BITS), np.float32)
    anchors, y = found.hash.anchors.astype(np.float64), labels.astype(np.float64)
    squared = ((features[:, None].astype(np.float64) - anchors[None]) ** 2).sum(-1)
    near = np.exp(-squared / (2 * squared.mean()))
    near -= near.mean(0)
    b, objective = np.where(np.asarray(start) >= 0, 1.0, -1.0), []
    for _ in range(6):
        p = np.linalg.solve(near.T @ near + 1e-2 * np.eye(len(anchors)), near.T @ (b - b.mean(0)))
        w = np.linalg.solve(y.T @ y + np.eye(CLASSES), y.T @ b)
        f = near @ p + b.mean(0)
        fit = ((b - f) ** 2).sum() + 1e-2 * (p**2).sum()
        objective.append(((b - y @ w) ** 2).sum() + (w**2).sum() + 1e-5 * fit)
        b = np.where(y @ w + 1e-5 * f >= 0, 1.0, -1.0)
    np.testing.assert_allclose(found.objective, objective, rtol=1e-4)
    np.testing.assert_allclose(found.hash.projection, p, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", ["bre", "bre_labels"])
def test_bre_objective_is_that_of_its_codes(name):
    features, labels = problem()
    h = np.asarray(codes.binarize(shallow.project(fitted(name).hash, features)))
    hamming = (h[:, None] != h[None]).mean(-1)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    goal = ~(labels @ labels.T) if name == "bre_labels" else ((unit[:, None] - unit[None]) ** 2).sum(-1) / 2
    np.testing.assert_allclose(fitted(name).objective[-1], ((goal - hamming) ** 2).mean(), rtol=1e-3)


def test_canonical_directions_solve_the_eigenproblem():
    features, labels = problem()
    directions = jax.jit(functools.partial(shallow._canonical_directions, regularization=1e-6))
    found = np.asarray(directions(features, labels))
    x, y = (a - a.mean(0) for a in (features.astype(np.float64), labels[:, 1:].astype(np.float64)))
    # One class less spans the same centered space, and leaves Cyy regular.
    cross = np.linalg.solve(x.T @ x, x.T @ y) @ np.linalg.solve(y.T @ y, y.T @ x)
    expected = np.sort(np.sqrt(np.maximum(np.linalg.eigvals(cross).real, 0)))[::-1][:3]
    spread = np.sqrt(((x @ found) ** 2).mean(0))
    np.testing.assert_allclose(spread[:3], expected, rtol=1e-3)
    assert spread[3] < 1e-2


@given(st.integers(0, 2**32 - 1))
def test_top_eigenvector(seed):
    g = np.random.default_rng(seed)
    half = g.normal(size=(30, 30)).astype(np.float32)
    matrix = half + half.T - 3 * np.eye(30, dtype=np.float32)
    values = np.linalg.eigvalsh(matrix.astype(np.float64))
    top = np.asarray(_top(matrix, g.normal(size=30).astype(np.float32)))
    np.testing.assert_allclose(top @ matrix @ top, values[-1], rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(top), 1, rtol=1e-5)


_top = jax.jit(shallow._top_eigenvector)


def test_top_eigenvector_of_an_exhausted_space():
    # The start spans two eigenvectors only, and all eigenvalues are below 0.
    top = _top(-np.diag(np.float32([3, 1, 2])), np.float32([1, 0, 1]))
    np.testing.assert_allclose(np.abs(top), [0, 0, 1], atol=1e-3)


_best = jax.jit(shallow._best_weight)


@given(st.integers(0, 2**32 - 1))
def test_best_weight_is_the_best_of_all(seed):
    g = np.random.default_rng(seed)
    half = g.normal(size=(9, 9)).astype(np.float32)
    affinity, rest, values = half + half.T, g.normal(size=9).astype(np.float32), g.normal(size=9).astype(np.float32)
    values[0] = 0  # an item that the weight cannot move

    def energy(w):
        h = np.where(rest + w * values >= 0, 1.0, -1.0)
        return h @ affinity @ h

    at = np.sort(-rest[1:] / values[1:])
    tries = [at[0] - 1, *((at[1:] + at[:-1]) / 2), at[-1] + 1]
    found = float(_best(affinity, rest, values, np.float32(g.normal())))
    np.testing.assert_allclose(energy(found), min(map(energy, tries)), rtol=1e-4, atol=1e-4)


def test_discrete_sweeps_end_where_no_bit_can_improve():
    g = np.random.default_rng(0)
    b, w = np.sign(g.normal(size=(12, 5))).astype(np.float32), g.normal(size=(5, 3)).astype(np.float32)
    goal = g.normal(size=(12, 3)).astype(np.float32)

    def loss(b):
        return ((goal - b @ w) ** 2).sum(1)

    sweep = jax.jit(lambda b: shallow._sweep_bits(b, w, goal @ w.T))
    before = loss(b)
    for _ in range(10):
        b = np.asarray(sweep(b))
        assert (loss(b) <= before + 1e-4).all()
        before = loss(b)
    for j in range(5):
        flipped = b.copy()
        flipped[:, j] *= -1
        assert (loss(flipped) >= before - 1e-4).all()


def test_lsh_is_that_of_faiss():
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    features, _ = problem()
    index = faiss.IndexLSH(WIDTH, 16)
    rotation = faiss.vector_to_array(index.rrot.A).reshape(index.rrot.d_out, WIDTH).T
    ours = shallow.LinearHash(np.zeros(WIDTH, np.float32), np.ascontiguousarray(rotation[:, :16]))
    bits = np.asarray(codes.binarize(shallow.project(ours, features)))
    # FAISS fills the bytes of IndexLSH from the least significant bit.
    np.testing.assert_array_equal(np.packbits(bits, axis=1, bitorder="little"), index.sa_encode(features))


def rotation_problem():
    features, _ = problem()
    centered = features - features.mean(0)
    axes = np.linalg.eigh(centered.T @ centered)[1][:, ::-1][:, :BITS]
    points = np.ascontiguousarray(centered @ axes, np.float32)
    first = np.asarray(jnp.linalg.qr(jax.random.normal(KEY, (BITS, BITS)))[0], np.float64)
    return points, first, np.asarray(jax.jit(lambda p: shallow._rotate(KEY, p, 20)[1])(points))


def test_itq_is_the_procrustes_iteration():
    points, rotation, objective = rotation_problem()
    for value in objective:
        corners = np.sign(points @ rotation)
        np.testing.assert_allclose(value, ((corners - points @ rotation) ** 2).sum(), rtol=1e-5)
        u, _, w = np.linalg.svd(corners.T @ points)
        rotation = (u @ w).T


def test_itq_is_no_worse_than_faiss():
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    points, first, objective = rotation_problem()
    # From the same first rotation; FAISS 1.15 does not lower the objective with its rounds as the iteration must.
    theirs = faiss.ITQMatrix(BITS)
    theirs.max_iter = 20
    faiss.copy_array_to_vector(first.ravel(), theirs.init_rotation)
    theirs.train(points)
    turned = theirs.apply(points)
    assert objective[-1] <= ((np.sign(turned) - turned) ** 2).sum()


FEATURES, LABELS = problem()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shallow.itq(KEY, FEATURES, bits=25), "bits: must be at most the 24 features, got 25"),
        (lambda: shallow.lsh(KEY, FEATURES, bits=0), "bits: must be a whole number of at least 1, got 0"),
        (lambda: shallow.lsh(KEY, FEATURES[:0], bits=8), "at least one item"),
        (lambda: shallow.lsh(KEY, FEATURES[0], bits=8), r"features: must be floats \[n, d\], got float32\[24\]"),
        (lambda: shallow.itq_cca(KEY, FEATURES, LABELS[:5], bits=8), "labels: must be 200 rows"),
        (
            lambda: shallow.ksh(KEY, FEATURES, LABELS, bits=8, anchors=0),
            "anchors: must be a whole number of at least 1",
        ),
        (
            lambda: shallow.sdh(KEY, FEATURES, LABELS[:, 0], bits=8),
            r"labels: must be booleans \[n, c\], got bool\[200\]",
        ),
        (lambda: shallow.ksh(KEY, FEATURES, LABELS * 2 - 1, bits=8), r"labels: must be booleans \[n, c\], got int64"),
        (
            lambda: shallow.fsdh(KEY, FEATURES.astype(int), LABELS, bits=8),
            r"features: must be floats \[n, d\], got int",
        ),
        (lambda: shallow.fsdh(KEY, FEATURES, LABELS, bits=8, iterations=2.5), "iterations: must be a whole number"),
        (lambda: shallow.bre(KEY, FEATURES, bits=8, terms=0), "terms: must be a whole number of at least 1, got 0"),
        (lambda: shallow.project(fitted("lsh").hash, FEATURES[:, :5]), "the 24 columns of the fit, got 5"),
        (lambda: shallow.project(fitted("sdh").hash, FEATURES[:, :5]), "the 24 columns of the fit, got 5"),
    ],
)
def test_bad_input(unchecked, call, message):
    with pytest.raises(ValueError, match=message):
        call()
