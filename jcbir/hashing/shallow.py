"""Shallow hashing of any features: LSH, ITQ, ITQ-CCA by a linear map, KSH, SDH, FSDH and BRE on kernels of anchors.

A method fits arrays, `project` applies them: `codes.binarize(project(fitted.hash, features))`. Rows of features are
items; labels are 0/1 rows, one column a class, and may hold several ones. KSH goes bit by bit against the matrix of
similar and dissimilar pairs, SDH looks for all bits at once such that a linear classifier on the codes works, FSDH such
that the classes give the codes; BRE finds codes whose distances reconstruct given distances, without relaxation: one
weight moves at a time, and between two thresholds at which an item changes sign nothing changes, so all its values can
be tried in one pass. The fits are loops of array operations for the caller to `jit`, bits and counts static; without it
each call compiles its loop anew.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Key

from jcbir.typing import Array, check_array, check_finite, check_real, check_whole


class LinearHash(NamedTuple):
    """Hash functions `sign((x - mean) projection)`.

    Attributes:
        mean: `Float[d]`.
        projection: `Float[d k]`.
    """

    mean: Float[Array, "d"]
    projection: Float[Array, "d k"]


class KernelHash(NamedTuple):
    """Hash functions `sign((exp(-|x - a|^2 / (2 variance)) - mean) projection + bias)`, a the anchors.

    Attributes:
        anchors: `Float[m d]`.
        variance: `Float[]`, the squared width of the Gaussian.
        mean: `Float[m]`, kernel values averaged over the training items.
        projection: `Float[m k]`.
        bias: `Float[k]`.
    """

    anchors: Float[Array, "m d"]
    variance: Float[Array, ""]
    mean: Float[Array, "m"]
    projection: Float[Array, "m k"]
    bias: Float[Array, "k"]


class Fitted(NamedTuple):
    """What a fit returns.

    Attributes:
        hash: parameters for `project`.
        objective: `Float[t]`, what the method minimizes, in the order of its steps; empty where nothing is minimized.
    """

    hash: LinearHash | KernelHash
    objective: Float[Array, "t"]


def project(hash: LinearHash | KernelHash, features: Float[Array, "n d"]) -> Float[jax.Array, "n k"]:
    """Logits of a fitted hash; a bit is `logit >= 0`.

    Args:
        hash: parameters of a fit.
        features: items, one a row.

    Returns:
        Logits `Float[n k]`, without a scale: only their signs mean something.

    Raises:
        ValueError: features that are not finite, or of another length than those of the fit.

    Example:
        >>> x = jnp.eye(4)
        >>> project(lsh(jax.random.key(0), x, bits=8).hash, x).shape
        (4, 8)
    """
    check_array("features", features, kind="floats", form="[n, d]", rank=2)
    width = (hash.mean if isinstance(hash, LinearHash) else hash.anchors).shape[-1]
    if features.shape[-1] != width:
        raise ValueError(f"features: must have the {width} columns of the fit, got {features.shape[-1]}")
    check_finite("features", features)
    if isinstance(hash, LinearHash):
        return jnp.asarray(features - hash.mean[None]) @ hash.projection
    near = _gaussian(features, hash.anchors, variance=hash.variance)
    return (near - hash.mean[None]) @ hash.projection + hash.bias[None]


def lsh(key: Key[Array, ""], features: Float[Array, "n d"], *, bits: int) -> Fitted:
    """Random hyperplanes through the mean: `P(bit differs) = angle / pi`.

    Args:
        key: PRNG key of the normals.
        features: items whose mean is taken; nothing else is learned from them.
        bits: code length.

    Returns:
        A `LinearHash`, and no objective.

    Raises:
        ValueError: there are no items, features that are not finite, or `bits` below 1.

    Example:
        >>> lsh(jax.random.key(0), jnp.eye(4), bits=8).hash.projection.shape
        (4, 8)

    References:
        Charikar, Similarity estimation techniques from rounding algorithms, STOC 2002, section 3.
    """
    _check_fit(features, bits=bits)
    normals = jax.random.normal(key, (features.shape[1], bits), features.dtype)
    return Fitted(LinearHash(jnp.mean(features, 0), normals), jnp.zeros(0, features.dtype))


def itq(key: Key[Array, ""], features: Float[Array, "n d"], *, bits: int, iterations: int = 50) -> Fitted:
    """Iterative quantization: principal components, rotated towards the corners of the cube.

    `min over B in {-1, 1}, R orthogonal of |B - V R|^2`, V the centered features on their `bits` first components; in
    turn `B = sign(V R)` and `R = U W'` where `V' B = U S W'` is a singular value decomposition.

    Args:
        key: PRNG key of the first rotation.
        features: items, one a row.
        bits: code length, at most the number of features.
        iterations: rounds of the two steps.

    Returns:
        A `LinearHash`, and the objective at each of `iterations + 1` rotations, never rising.

    Raises:
        ValueError: there are no items, features that are not finite, `bits` beyond the features, or fewer than 0
            iterations.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (50, 6))
        >>> fit = jax.jit(itq, static_argnames=("bits", "iterations"))
        >>> fitted = fit(jax.random.key(1), x, bits=4, iterations=5)
        >>> fitted.hash.projection.shape, bool(fitted.objective[-1] < fitted.objective[0])
        ((6, 4), True)

    References:
        Gong and Lazebnik, Iterative quantization: a Procrustean approach to learning binary codes, CVPR 2011, eq. 2.
    """
    _check_fit(features, bits=bits)
    if bits > features.shape[1]:
        raise ValueError(f"bits: must be at most the {features.shape[1]} features, got {bits}")
    check_whole("iterations", iterations, low=0)
    with jax.default_matmul_precision("highest"):
        mean = jnp.mean(features, 0)
        centered = features - mean[None]
        axes = jnp.linalg.eigh(centered.T @ centered)[1][:, ::-1][:, :bits]
        rotation, objective = _rotate(key, centered @ axes, iterations)
        return Fitted(LinearHash(mean, axes @ rotation), objective)


def itq_cca(
    key: Key[Array, ""],
    features: Float[Array, "n d"],
    labels: Bool[Array, "n c"],
    *,
    bits: int,
    iterations: int = 50,
    regularization: float = 1e-4,
) -> Fitted:
    """Iterative quantization of the directions that correlate most with the labels.

    Canonical directions w_i solve `Cxy Cyy^-1 Cyx w = s^2 Cxx w`; each is scaled by its correlation s_i, then rotated
    as in `itq`. There are no more of them than classes: longer codes rotate them among zeros.

    Args:
        key: PRNG key of the first rotation.
        features: items, one a row.
        labels: their classes, 0/1 rows.
        bits: code length; may exceed the number of classes.
        iterations: rounds of the rotation.
        regularization: added to the diagonals of Cxx and Cyy, as a share of their mean; above 0, since the columns of
            single labels depend on one another.

    Returns:
        A `LinearHash`, and the rotation's objective, never rising.

    Raises:
        ValueError: there are no items, features that are not finite, labels of another number of them, or a number out
            of range.

    Example:
        >>> y = jnp.arange(40)[:, None] % 2 == jnp.arange(2)[None]
        >>> x = y.astype(float) @ jnp.ones((2, 6)) + jax.random.normal(jax.random.key(0), (40, 6))
        >>> fit = jax.jit(itq_cca, static_argnames=("bits", "iterations"))
        >>> fit(jax.random.key(1), x, y, bits=8, iterations=5).hash.projection.shape
        (6, 8)

    References:
        Gong, Lazebnik, Gordo and Perronnin, Iterative quantization, IEEE TPAMI 35(12), 2013, section 2.2 (eq. 3).
    """
    _check_fit(features, bits=bits)
    _check_labels(labels, count=len(features))
    check_whole("iterations", iterations, low=0)
    check_real("regularization", regularization, above=0.0)
    with jax.default_matmul_precision("highest"):
        mean = jnp.mean(features, 0)
        centered = features - mean[None]
        directions = _canonical_directions(features, labels, regularization=regularization)[:, :bits]
        spare = ((0, 0), (0, bits - directions.shape[1]))
        axes = jnp.pad(directions, spare)
        rotation, objective = _rotate(key, centered @ axes, iterations)
        return Fitted(LinearHash(mean, axes @ rotation), objective)


def _canonical_directions(
    features: Float[Array, "n d"], labels: Bool[Array, "n c"], *, regularization: float = 1e-4
) -> Float[jax.Array, "d r"]:
    """Canonical directions of the features, each scaled by its correlation with the labels."""
    x, y = (a - jnp.mean(a, 0)[None] for a in (features, labels.astype(features.dtype)))

    def root(a: Array) -> Array:
        c = a.T @ a / a.shape[0]
        ridge = regularization * jnp.maximum(jnp.mean(jnp.diagonal(c)), jnp.finfo(c.dtype).tiny)
        return jnp.linalg.cholesky(c + ridge * jnp.eye(c.shape[0], dtype=c.dtype))

    solve = jax.scipy.linalg.solve_triangular
    left, right = root(x), root(y)
    cross = solve(left, x.T @ y / x.shape[0], lower=True)
    whitened = solve(right, cross.T, lower=True).T
    u, s, _ = jnp.linalg.svd(whitened, full_matrices=False)
    return solve(left, u, lower=True, trans=1) * s[None]


def _gaussian(
    features: Float[Array, "n d"], anchors: Float[Array, "m d"], *, variance: float | Float[Array, ""]
) -> Float[jax.Array, "n m"]:
    """Gaussian kernel values `exp(-|x - a|^2 / (2 variance))`."""
    return jnp.exp(-_squared_distances(features, anchors) / (2 * variance))


def _squared_distances(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[jax.Array, "n m"]:
    """Squared Euclidean distances `|a_i|^2 + |b_j|^2 - 2 a_i b_j`, rounding below 0 cut off."""
    a, b = jnp.asarray(a), jnp.asarray(b)
    return jnp.maximum((a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * (a @ b.T), 0)


def _check_fit(features: Array, *, bits: int) -> None:
    """Refuse what no shallow method can be fitted to."""
    check_array("features", features, kind="floats", form="[n, d]", rank=2)
    if 0 in features.shape:
        raise ValueError(f"features: must be at least one item of at least one number, got {list(features.shape)}")
    check_finite("features", features)
    check_whole("bits", bits, low=1)


def _check_labels(labels: Array, *, count: int) -> None:
    check_array("labels", labels, kind="booleans", form="[n, c]", rank=2)
    if len(labels) != count:
        raise ValueError(f"labels: must be {count} rows of classes, got shape {list(labels.shape)}")


def _signs(values: Float[Array, "..."]) -> Float[jax.Array, "..."]:
    """Signs as the codes have them: 1 where the value is 0 or more, else -1."""
    return jnp.where(values >= 0, 1, -1).astype(values.dtype)


def _rotate(key: Array, points: Array, iterations: int) -> tuple[Array, Array]:
    bits = points.shape[1]
    first = jnp.linalg.qr(jax.random.normal(key, (bits, bits), points.dtype))[0]

    def step(rotation: Array, _) -> tuple[Array, Array]:
        turned = points @ rotation
        corners = _signs(turned)
        u, _, w = jnp.linalg.svd(points.T @ corners)
        return u @ w, ((corners - turned) ** 2).sum()

    rotation, objective = jax.lax.scan(step, first, None, length=iterations)
    turned = points @ rotation
    return rotation, jnp.append(objective, ((_signs(turned) - turned) ** 2).sum())


# Kernel values of close anchors are nearly dependent: in float32 their Gram matrix needs a diagonal to be factorized.
RIDGE = 1e-4


def ksh(
    key: Key[Array, ""],
    features: Float[Array, "n d"],
    labels: Bool[Array, "n c"],
    *,
    bits: int,
    anchors: int = 300,
    samples: int = 1000,
    iterations: int = 50,
) -> Fitted:
    """Supervised hashing with kernels: inner products of codes fitted to similar (1) and dissimilar (-1) pairs.

    `min over H in {-1, 1} of |H H' / k - S|^2`, greedily: with the residue `R = k S - sum of earlier h h'`, each bit
    maximizes `h' R h` for `h = sign(K a)`: first by the largest generalized eigenvector of `K' R K a = s K' K a`, then
    by accelerated gradient on `tanh(K a / 2)` in place of the sign, kept where the signs are better for it.

    Args:
        key: PRNG key that picks anchors and samples.
        features: items, one a row.
        labels: their classes, 0/1 rows; a pair is similar if it shares a class.
        bits: code length.
        anchors: kernel anchors, at most n; fewer items lower it.
        samples: labeled items that form the pairs; fewer items lower it.
        iterations: gradient steps a bit.

    Returns:
        A `KernelHash`, and the objective per pair after 0 to `bits` bits.

    Raises:
        ValueError: there are no items, features that are not finite, labels of another number of them, or a number out
            of range.

    Example:
        >>> y = jnp.arange(60)[:, None] % 2 == jnp.arange(2)[None]
        >>> x = y.astype(float) @ jnp.eye(2, 6) * 3 + jax.random.normal(jax.random.key(0), (60, 6))
        >>> fit = jax.jit(ksh, static_argnames=("bits", "anchors"))
        >>> fitted = fit(jax.random.key(1), x, y, bits=4, anchors=20)
        >>> bool(fitted.objective[-1] < fitted.objective[0])
        True

    References:
        Liu, Wang, Ji, Jiang and Chang, Supervised hashing with kernels, CVPR 2012: the objective on inner products of
        codes, its greedy optimization, spectral relaxation and sigmoid smoothing (section 3). Anchors (300) and the
        width of the kernel are those of the authors' code.
    """
    _check_fit(features, bits=bits)
    _check_labels(labels, count=len(features))
    _check_counts(anchors=anchors, samples=samples)
    check_whole("iterations", iterations, low=0)
    anchor_key, sample_key, start_key = jax.random.split(key, 3)
    with jax.default_matmul_precision("highest"):
        base, near = _anchor_kernel(anchor_key, features, bits=bits, anchors=anchors)
        start = jax.random.normal(start_key, (near.shape[1],), near.dtype)
        count = min(samples, features.shape[0])
        rows = jax.random.choice(sample_key, features.shape[0], (count,), replace=False)
        near, chosen = near[rows], jnp.asarray(labels)[rows].astype(features.dtype)
        similar = jnp.where(chosen @ chosen.T > 0, 1, -1).astype(features.dtype)
        gram = near.T @ near
        gram = gram + RIDGE * jnp.mean(jnp.diagonal(gram)) * jnp.eye(gram.shape[0], dtype=gram.dtype)
        root = jnp.linalg.cholesky(gram)
        whitened = jax.scipy.linalg.solve_triangular(root, near.T, lower=True)

        def bit(residue: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
            top = _top_eigenvector(whitened @ residue @ whitened.T, start)
            # Scaled such that K a has unit mean square: a' K' K a = n.
            first = jax.scipy.linalg.solve_triangular(root, top, lower=True, trans=1) * count**0.5
            second = _sharpen(near, residue, first, iterations)
            gains = [h @ residue @ h for h in (_signs(near @ first), _signs(near @ second))]
            best = jnp.where(gains[1] > gains[0], second, first)
            h = _signs(near @ best)
            left = residue - h[:, None] * h[None]
            return left, (best, jnp.mean(left**2) / bits**2)

        _, (columns, objective) = jax.lax.scan(bit, bits * similar, None, length=bits)
        return Fitted(base._replace(projection=columns.T), jnp.concatenate([jnp.mean(similar**2)[None], objective]))


def sdh(
    key: Key[Array, ""],
    features: Float[Array, "n d"],
    labels: Bool[Array, "n c"],
    *,
    bits: int,
    anchors: int = 500,
    iterations: int = 5,
    sweeps: int = 10,
    classifier_weight: float = 1.0,
    fit_weight: float = 1e-5,
    regularization: float = 1e-2,
) -> Fitted:
    """Supervised discrete hashing: codes on which a linear classifier works, found bit by bit without relaxation.

    `min over B in {-1, 1}, W, P of |Y - B W|^2 + l |W|^2 + v (|B - F|^2 + r |P|^2)`, F = K P + bias, in turn: W and P
    by ridge regression, B by cyclic coordinate descent, column j being `sign(Y W_j' + v F_j - B_{-j} W_{-j} W_j')`.

    Args:
        key: PRNG key of anchors and first codes.
        features: items, one a row.
        labels: their classes Y, 0/1 rows.
        bits: code length.
        anchors: kernel anchors, at most n; fewer items lower it.
        iterations: rounds of the three steps.
        sweeps: passes over the bits in a round.
        classifier_weight: l, above 0.
        fit_weight: v, at least 0.
        regularization: r, above 0.

    Returns:
        A `KernelHash`, and the objective after 0 to `iterations` rounds, never rising.

    Raises:
        ValueError: there are no items, features that are not finite, labels of another number of them, or a number out
            of range.

    Example:
        >>> y = jnp.arange(60)[:, None] % 2 == jnp.arange(2)[None]
        >>> x = y.astype(float) @ jnp.eye(2, 6) * 3 + jax.random.normal(jax.random.key(0), (60, 6))
        >>> fit = jax.jit(sdh, static_argnames=("bits", "anchors"))
        >>> fitted = fit(jax.random.key(1), x, y, bits=8, anchors=20)
        >>> bool(fitted.objective[-1] < fitted.objective[0])
        True

    References:
        Shen, Shen, Liu and Shen, Supervised discrete hashing, CVPR 2015: the least-squares objective and its three
        steps (section 2), discrete cyclic coordinate descent (section 2.2). Defaults of the authors' code: l = 1,
        v = 1e-5, r = 1e-2, 5 rounds, 10 sweeps.
    """
    _check_counts(sweeps=sweeps)
    check_real("classifier_weight", classifier_weight, above=0.0)

    def regress(goal: Array, b: Array) -> tuple[Array, Array]:
        inner = b.T @ b + classifier_weight * jnp.eye(bits, dtype=b.dtype)
        w = jnp.linalg.solve(inner, b.T @ goal)
        return w, ((goal - b @ w) ** 2).sum() + classifier_weight * (w**2).sum()

    def improve(goal: Array, w: Array, imitated: Array, b: Array) -> Array:
        wanted = goal @ w.T + imitated
        return jax.lax.fori_loop(0, sweeps, lambda _, old: _sweep_bits(old, w, wanted), b)

    return _discrete(
        key, features, labels, regress, improve, bits=bits, anchors=anchors, iterations=iterations,
        fit_weight=fit_weight, regularization=regularization,
    )  # fmt: skip


def fsdh(
    key: Key[Array, ""],
    features: Float[Array, "n d"],
    labels: Bool[Array, "n c"],
    *,
    bits: int,
    anchors: int = 500,
    iterations: int = 5,
    code_weight: float = 1.0,
    fit_weight: float = 1e-5,
    regularization: float = 1e-2,
) -> Fitted:
    """Fast supervised discrete hashing: codes that follow from the labels by regression, solved in one step.

    `min over B in {-1, 1}, W, P of |B - Y W|^2 + l |W|^2 + v (|B - F|^2 + r |P|^2)`, F = K P + bias, in turn: W and P
    by ridge regression, `B = sign(Y W + v F)`.

    Taken from the public text, the abstract: SDH is the start; the classes are regressed to the codes, in place of the
    codes to the classes; the codes have a closed form and are solved in one step, where SDH sweeps over the bits.
    Assumed, since no equation of it was at hand: squared errors with ridges as in SDH, SDH's term |B - F|^2 with its
    kernel of random anchors and a bias, its defaults, and codes that begin at random.

    The bits of a class hardly change where v is small, so of c classes all agree in 2^(1-c) of the bits. ADFSDH
    (aggregate deep FSDH) adds features to it; which it aggregates, and how, is not public, so `features` are yours.

    Args:
        key: PRNG key of anchors and first codes.
        features: items, one a row.
        labels: their classes Y, 0/1 rows.
        bits: code length.
        anchors: kernel anchors, at most n; fewer items lower it.
        iterations: rounds of the three steps.
        code_weight: l, above 0.
        fit_weight: v, at least 0.
        regularization: r, above 0.

    Returns:
        A `KernelHash`, and the objective after 0 to `iterations` rounds, never rising.

    Raises:
        ValueError: there are no items, features that are not finite, labels of another number of them, or a number out
            of range.

    Example:
        >>> y = jnp.arange(60)[:, None] % 2 == jnp.arange(2)[None]
        >>> x = y.astype(float) @ jnp.eye(2, 6) * 3 + jax.random.normal(jax.random.key(0), (60, 6))
        >>> fit = jax.jit(fsdh, static_argnames=("bits", "anchors"))
        >>> fitted = fit(jax.random.key(1), x, y, bits=8, anchors=20)
        >>> bool(fitted.objective[-1] < fitted.objective[0])
        True

    References:
        Gui, Liu, Sun, Tao and Tan, Fast supervised discrete hashing, IEEE TPAMI 40(2), 2018, abstract of arXiv
        1904.03556. ADFSDH: Cheng et al., Multimedia Tools and Applications 80(15), 2021.
    """
    check_real("code_weight", code_weight, above=0.0)

    def regress(goal: Array, b: Array) -> tuple[Array, Array]:
        inner = goal.T @ goal + code_weight * jnp.eye(goal.shape[1], dtype=goal.dtype)
        w = jnp.linalg.solve(inner, goal.T @ b)
        return w, ((b - goal @ w) ** 2).sum() + code_weight * (w**2).sum()

    def improve(goal: Array, w: Array, imitated: Array, b: Array) -> Array:
        return _signs(goal @ w + imitated)

    return _discrete(
        key, features, labels, regress, improve, bits=bits, anchors=anchors, iterations=iterations,
        fit_weight=fit_weight, regularization=regularization,
    )  # fmt: skip


def _discrete(
    key: Key[Array, ""],
    features: Float[Array, "n d"],
    labels: Bool[Array, "n c"],
    regress: Callable[[Array, Array], tuple[Array, Array]],
    improve: Callable[[Array, Array, Array, Array], Array],
    *,
    bits: int,
    anchors: int,
    iterations: int,
    fit_weight: float,
    regularization: float,
) -> Fitted:
    """From random codes in turn W and its error, `regress(Y, B)`, P by imitation, and `B = improve(Y, W, v F, B)`."""
    _check_fit(features, bits=bits)
    _check_labels(labels, count=len(features))
    _check_counts(anchors=anchors, iterations=iterations)
    check_real("fit_weight", fit_weight)
    check_real("regularization", regularization, above=0.0)
    anchor_key, code_key = jax.random.split(key)
    with jax.default_matmul_precision("highest"):
        base, near = _anchor_kernel(anchor_key, features, bits=bits, anchors=anchors)
        goal = labels.astype(features.dtype)
        codes = _signs(jax.random.normal(code_key, (features.shape[0], bits), features.dtype))
        imitate = _imitation(near, regularization)

        def both(b: Array) -> tuple[Array, _Imitation, Array]:
            (w, error), found = regress(goal, b), imitate(b)
            return w, found, error + fit_weight * found.error

        def round_(b: Array, _: None) -> tuple[Array, Array]:
            w, found, value = both(b)
            return improve(goal, w, fit_weight * found.values, b), value

        codes, objective = jax.lax.scan(round_, codes, None, length=iterations)
        _, found, value = both(codes)
        return Fitted(base._replace(projection=found.projection, bias=found.bias), jnp.append(objective, value))


class _Imitation(NamedTuple):
    """Codes from kernel values by ridge regression: what fits, what it gives, and its error with the ridge."""

    projection: Array
    bias: Array
    values: Array
    error: Array


def _imitation(near: Array, regularization: float) -> Callable[[Array], _Imitation]:
    """`P, bias` minimizing |B - K P - bias|^2 + r |P|^2 as a function of B; K is centered and factored once."""
    gram = near.T @ near
    factor = jax.scipy.linalg.cho_factor(gram + regularization * jnp.eye(gram.shape[0], dtype=gram.dtype))

    def fit(b: Array) -> _Imitation:
        bias = jnp.mean(b, 0)
        p = jax.scipy.linalg.cho_solve(factor, near.T @ (b - bias[None]))
        values = near @ p + bias[None]
        return _Imitation(p, bias, values, ((b - values) ** 2).sum() + regularization * (p**2).sum())

    return fit


def _anchor_kernel(
    key: Key[Array, ""], features: Float[Array, "n d"], *, bits: int, anchors: int
) -> tuple[KernelHash, Float[jax.Array, "n m"]]:
    """Random anchors, the width that suits them, and the centered kernel values of the items."""
    n, count = features.shape[0], min(anchors, features.shape[0])
    picked = jnp.asarray(features)[jax.random.choice(key, n, (count,), replace=False)]
    squared = _squared_distances(features, picked)
    variance = jnp.maximum(jnp.mean(squared), jnp.finfo(squared.dtype).tiny)
    near = _gaussian(features, picked, variance=variance)
    mean = jnp.mean(near, 0)
    empty = jnp.zeros((count, bits), near.dtype)
    return KernelHash(picked, variance, mean, empty, jnp.zeros(bits, near.dtype)), near - mean[None]


def _top_eigenvector(
    matrix: Float[Array, "m m"], start: Float[Array, "m"], *, steps: int = 40
) -> Float[jax.Array, "m"]:
    """Unit eigenvector of the largest eigenvalue of a symmetric matrix, by the Lanczos process."""
    steps = min(steps, matrix.shape[0])
    unit = start / jnp.linalg.norm(start)
    first = jnp.zeros((steps + 1, matrix.shape[0]), matrix.dtype).at[0].set(unit)
    floor = jnp.linalg.norm(matrix) * jnp.finfo(matrix.dtype).eps

    def step(basis: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
        pulled = matrix @ basis[i]
        for _ in range(2):  # once leaves rounding of the size of what is left
            pulled = pulled - basis.T @ (basis @ pulled)
        length = jnp.linalg.norm(pulled)
        return basis.at[i + 1].set(jnp.where(length > floor, pulled / jnp.maximum(length, floor), 0)), None

    basis = jax.lax.scan(step, first, jnp.arange(steps))[0][:steps]
    small = basis @ matrix @ basis.T
    # An exhausted space leaves rows of zeros, which must not pass for an eigenvalue 0.
    used = (basis * basis).sum(1) > 0.5
    small = jnp.where(jnp.diag(~used), -jnp.linalg.norm(matrix) - 1, small)
    best = basis.T @ jnp.linalg.eigh(small)[1][:, -1]
    return best / jnp.linalg.norm(best)


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        check_whole(name, value, low=1)


def _sharpen(near: Array, residue: Array, first: Array, iterations: int) -> Array:
    """Nesterov's accelerated gradient with backtracking on -f' R f / n^2, f = tanh(K a / 2)."""
    scale = 1 / near.shape[0] ** 2

    def value(a: Array) -> tuple[Array, Array, Array]:
        f = jnp.tanh(near @ a / 2)
        pulled = residue @ f
        return -scale * (f @ pulled), f, pulled

    def step(state: tuple[Array, ...], _: None) -> tuple[tuple[Array, ...], None]:
        here, ahead, momentum, curvature = state
        start, f, pulled = value(ahead)
        # d tanh(z / 2) / dz = (1 - tanh^2) / 2, and R is symmetric; the product R f serves value and gradient.
        slope = -scale * (near.T @ (pulled * (1 - f * f)))
        drop = (slope**2).sum() / 2

        def too_long(c: Array) -> Array:
            return (value(ahead - slope / c)[0] > start - drop / c) & (c < 1e12)

        curvature = jax.lax.while_loop(too_long, lambda c: c * 2, curvature)
        there = ahead - slope / curvature
        longer = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        return (there, there + (momentum - 1) / longer * (there - here), longer, curvature), None

    one = jnp.ones((), near.dtype)
    return jax.lax.scan(step, (first, first, one, one * 1e-3), None, length=iterations)[0][0]


def _sweep_bits(codes: Array, w: Array, wanted: Array) -> Array:
    """One pass of cyclic coordinate descent: each column is set to its best given the others."""

    def column(scores: Array, old: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        b, weight, want = old
        rest = scores - b[:, None] * weight[None]
        new = _signs(want - rest @ weight)
        return rest + new[:, None] * weight[None], new

    return jax.lax.scan(column, codes @ w, (codes.T, w, wanted.T))[1].T


def bre(
    key: Key[Array, ""],
    features: Float[Array, "n d"],
    *,
    bits: int,
    labels: Bool[Array, "n c"] | None = None,
    anchors: int = 300,
    terms: int = 32,
    samples: int = 500,
    sweeps: int = 2,
) -> Fitted:
    """Binary reconstructive embeddings: Hamming distances fitted to distances of the features, or to labels.

    `min over W of sum over pairs of (d_ij - hamming(h_i, h_j) / k)^2`, `h_p(x) = sign(sum_q W_pq kernel(a_pq, x))`, by
    exact minimization over one weight at a time. `d_ij` is half the squared distance of the features scaled to unit
    length; with labels it is 0 for pairs that share a class and 1 for others.

    Args:
        key: PRNG key that picks anchors, samples and first weights.
        features: items, one a row.
        bits: code length.
        labels: their classes, 0/1 rows, or None to reconstruct the features' own distances.
        anchors: kernel anchors to draw from, at most n; fewer items lower it.
        terms: anchors of one bit; fewer anchors lower it.
        samples: items whose pairs are fitted; fewer items lower it.
        sweeps: passes over all weights.

    Returns:
        A `KernelHash`, and the mean squared error of a pair before and after each of `sweeps * bits` bits, not rising.

    Raises:
        ValueError: there are no items, features that are not finite, labels of another number of them, or a number out
            of range.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (30, 6))
        >>> fit = jax.jit(bre, static_argnames=("bits", "anchors", "terms", "sweeps"))
        >>> fitted = fit(jax.random.key(1), x, bits=4, anchors=8, terms=4, sweeps=1)
        >>> bool(fitted.objective[-1] < fitted.objective[0])
        True

    References:
        Kulis and Darrell, Learning to hash with binary reconstructive embeddings, NIPS 2009: the reconstruction error,
        its coordinate descent, and the supervised distances.
    """
    _check_fit(features, bits=bits)
    if labels is not None:
        _check_labels(labels, count=len(features))
    _check_counts(anchors=anchors, terms=terms, samples=samples, sweeps=sweeps)
    anchor_key, sample_key, term_key, weight_key = jax.random.split(key, 4)
    with jax.default_matmul_precision("highest"):
        base, near = _anchor_kernel(anchor_key, features, bits=bits, anchors=anchors)
        n, m = near.shape
        rows = jax.random.choice(sample_key, n, (min(samples, n),), replace=False)
        near = near[rows].T
        distances = _goal(jnp.asarray(features)[rows], None if labels is None else jnp.asarray(labels)[rows])
        picks = jax.vmap(lambda k: jax.random.choice(k, m, (min(terms, m),), replace=False))(
            jax.random.split(term_key, bits)
        )
        weights = jax.random.normal(weight_key, picks.shape, near.dtype)
        activations = jnp.einsum("kt,ktl->kl", weights, near[picks])
        products = _signs(activations).T @ _signs(activations)
        state = (weights, activations, products)
        order = jnp.tile(jnp.arange(bits), sweeps)
        (weights, _, products), objective = jax.lax.scan(_bit_step(near, picks, distances, bits), state, order)
        last = jnp.mean((distances - 0.5 + products / (2 * bits)) ** 2)
        projection = jnp.zeros((m, bits), near.dtype).at[picks, jnp.arange(bits)[:, None]].set(weights)
        return Fitted(base._replace(projection=projection), jnp.append(objective, last))


def _best_weight(
    affinity: Float[Array, "l l"], rest: Float[Array, "l"], values: Float[Array, "l"], current: Float[Array, ""]
) -> Float[jax.Array, ""]:
    """A weight w that minimizes `h' A h` for `h = sign(rest + w values)`."""
    fixed = values == 0
    s = jnp.where(fixed, _signs(rest), -_signs(values))
    at = jnp.where(fixed, jnp.inf, -rest / jnp.where(fixed, 1, values))
    order = jnp.argsort(at)
    place = jnp.argsort(order)
    scaled = affinity * s[None] * s[:, None]
    earlier = jnp.where(place[None] < place[:, None], scaled, 0).sum(1)
    gain = (scaled.sum(1) - jnp.diagonal(scaled) - 2 * earlier)[order]
    at = at[order]
    lowered = jnp.concatenate([jnp.zeros(1, gain.dtype), jnp.cumsum(jnp.where(jnp.isfinite(at), gain, 0))])
    finite = jnp.isfinite(at).sum()
    flips = jnp.argmax(lowered)
    low, high = at[jnp.maximum(flips - 1, 0)], at[jnp.minimum(flips, at.shape[0] - 1)]
    middle = jnp.where(flips == 0, high - 1, jnp.where(flips >= finite, low + 1, (low + high) / 2))

    def energy(w: Array) -> Array:
        h = _signs(rest + w * values)
        return h @ affinity @ h

    # Where thresholds lie closer than the floating point resolves, the middle may miss its interval.
    better = jnp.isfinite(middle) & (energy(middle) < energy(current))
    return jnp.where(better, middle, current)


def _goal(features: Array, labels: Array | None) -> Array:
    if labels is not None:
        chosen = labels.astype(features.dtype)
        return jnp.where(chosen @ chosen.T > 0, 0, 1).astype(features.dtype)
    length = jnp.sqrt((features**2).sum(1, keepdims=True))
    unit = features / jnp.maximum(length, jnp.finfo(features.dtype).tiny)
    return _squared_distances(unit, unit) / 2


def _bit_step(near: Array, picks: Array, distances: Array, bits: int):
    """One pass over the weights of one bit; the carry holds weights, activations and the sum of h h' over bits."""

    def step(
        state: tuple[jax.Array, jax.Array, jax.Array], p: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array]:
        weights, activations, products = state
        error = jnp.mean((distances - 0.5 + products / (2 * bits)) ** 2)
        h = _signs(activations[p])
        others = products - h[:, None] * h[None]
        affinity = distances - 0.5 + others / (2 * bits)

        def one(total: Array, term: tuple[Array, Array]) -> tuple[Array, Array]:
            weight, pick = term
            values = near[pick]
            rest = total - weight * values
            new = _best_weight(affinity, rest, values, weight)
            return rest + new * values, new

        total, new = jax.lax.scan(one, activations[p], (weights[p], picks[p]))
        h = _signs(total)
        products = others + h[:, None] * h[None]
        return (weights.at[p].set(new), activations.at[p].set(total), products), error

    return step
