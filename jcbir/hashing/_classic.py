"""Shallow hashing of any features by a linear map, and how every shallow hash is applied: LSH, ITQ, ITQ-CCA.

A method fits arrays, `project` applies them: `codes.binarize(project(fitted.hash, features))`. Rows of features are
items; labels are 0/1 rows, one column a class, and may hold several ones. Kernel methods: `classic_kernel` (KSH, SDH),
`classic_embedding` (BRE). The fits are loops of array operations for the caller to `jit`, bits and counts static;
without it each call compiles its loop anew.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Key

from jcbir.typing import Array


class LinearHash(NamedTuple):
    """Hash functions `sign((x - mean) projection)`.

    Fields:
        mean: `Float[d]`.
        projection: `Float[d k]`.
    """

    mean: Float[Array, "d"]
    projection: Float[Array, "d k"]


class KernelHash(NamedTuple):
    """Hash functions `sign((exp(-|x - a|^2 / (2 variance)) - mean) projection + bias)`, a the anchors.

    Fields:
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

    Fields:
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
        ValueError: the features are of another length than those of the fit.

    Example:
        >>> x = jnp.eye(4)
        >>> project(lsh(jax.random.key(0), x, bits=8).hash, x).shape
        (4, 8)
    """
    width = (hash.mean if isinstance(hash, LinearHash) else hash.anchors).shape[-1]
    if features.shape[-1] != width:
        raise ValueError(f"features must have the {width} columns of the fit, got {features.shape[-1]}")
    if isinstance(hash, LinearHash):
        return jnp.asarray(features - hash.mean[None]) @ hash.projection
    near = gaussian(features, hash.anchors, variance=hash.variance)
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
        ValueError: there are no items, or `bits` is below 1.

    Example:
        >>> lsh(jax.random.key(0), jnp.eye(4), bits=8).hash.projection.shape
        (4, 8)

    References:
        Charikar, Similarity estimation techniques from rounding algorithms, STOC 2002, section 3.
    """
    check_fit(features, None, bits=bits)
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
        ValueError: there are no items, or `bits` exceeds the features.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (50, 6))
        >>> fitted = itq(jax.random.key(1), x, bits=4, iterations=5)
        >>> fitted.hash.projection.shape, bool(fitted.objective[-1] < fitted.objective[0])
        ((6, 4), True)

    References:
        Gong and Lazebnik, Iterative quantization: a Procrustean approach to learning binary codes, CVPR 2011, eq. 2.
    """
    check_fit(features, None, bits=bits)
    if bits > features.shape[1]:
        raise ValueError(f"bits must be at most the {features.shape[1]} features, got {bits}")
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
        regularization: added to the diagonals of Cxx and Cyy, as a share of their mean.

    Returns:
        A `LinearHash`, and the rotation's objective, never rising.

    Raises:
        ValueError: there are no items, or labels of another number of them.

    Example:
        >>> y = jnp.arange(40)[:, None] % 2 == jnp.arange(2)[None]
        >>> x = y.astype(float) @ jnp.ones((2, 6)) + jax.random.normal(jax.random.key(0), (40, 6))
        >>> itq_cca(jax.random.key(1), x, y, bits=8, iterations=5).hash.projection.shape
        (6, 8)

    References:
        Gong, Lazebnik, Gordo and Perronnin, Iterative quantization, IEEE TPAMI 35(12), 2013, section 2.2 (eq. 3).
    """
    check_fit(features, labels, bits=bits)
    with jax.default_matmul_precision("highest"):
        mean = jnp.mean(features, 0)
        centered = features - mean[None]
        directions = canonical_directions(features, labels, regularization=regularization)[:, :bits]
        spare = ((0, 0), (0, bits - directions.shape[1]))
        axes = jnp.pad(directions, spare)
        rotation, objective = _rotate(key, centered @ axes, iterations)
        return Fitted(LinearHash(mean, axes @ rotation), objective)


def canonical_directions(
    features: Float[Array, "n d"], labels: Bool[Array, "n c"], *, regularization: float = 1e-4
) -> Float[jax.Array, "d r"]:
    """Canonical directions of the features, each scaled by its correlation with the labels.

    With `Cxx = L L'` and `Cyy = M M'`, the singular values of `L^-1 Cxy M'^-1 = U S V'` are the correlations and
    `L'^-1 U` the directions.

    Args:
        features: items, one a row.
        labels: their classes, 0/1 rows.
        regularization: added to the diagonals of Cxx and Cyy, as a share of their mean.

    Returns:
        `min(d, c)` columns `s_i w_i`, correlation falling; the features along w_i have unit variance.

    Example:
        >>> y = jnp.arange(40)[:, None] % 2 == jnp.arange(2)[None]
        >>> canonical_directions(jax.random.normal(jax.random.key(0), (40, 6)), y).shape
        (6, 2)

    References:
        Hotelling, Relations between two sets of variates, Biometrika 28, 1936.
    """
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


def gaussian(
    features: Float[Array, "n d"], anchors: Float[Array, "m d"], *, variance: float | Float[Array, ""]
) -> Float[jax.Array, "n m"]:
    """Gaussian kernel values `exp(-|x - a|^2 / (2 variance))`.

    Args:
        features: items, one a row.
        anchors: anchors, one a row.
        variance: squared width.

    Returns:
        Values `Float[n m]`, 0 to 1.

    Example:
        >>> gaussian(jnp.eye(2), jnp.eye(2), variance=1.0).round(3).tolist()[0]
        [1.0, 0.368...]
    """
    return jnp.exp(-squared_distances(features, anchors) / (2 * variance))


def squared_distances(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[jax.Array, "n m"]:
    """Squared Euclidean distances `|a_i|^2 + |b_j|^2 - 2 a_i b_j`, rounding below 0 cut off.

    Args:
        a: points, one a row.
        b: points, one a row.

    Returns:
        Distances `Float[n m]`, 0 or more.

    Example:
        >>> squared_distances(jnp.eye(2), jnp.zeros((1, 2))).tolist()
        [[1.0], [1.0]]
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    return jnp.maximum((a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * (a @ b.T), 0)


def check_fit(features: Array, labels: Array | None, *, bits: int) -> None:
    """Refuse what no shallow method can be fitted to.

    Args:
        features: items, one a row.
        labels: their 0/1 class rows, or None.
        bits: code length.

    Returns:
        Nothing.

    Raises:
        ValueError: no matrix or no items, labels that do not fit them, or `bits` below 1.

    Example:
        >>> check_fit(jnp.eye(3), None, bits=8)
    """
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features must be a matrix of at least one item, got shape {list(features.shape)}")
    if labels is not None and (labels.ndim != 2 or labels.shape[0] != features.shape[0]):
        raise ValueError(f"labels must be {features.shape[0]} rows of classes, got shape {list(labels.shape)}")
    if bits < 1:
        raise ValueError(f"bits must be at least 1, got {bits}")


def signs(values: Float[Array, "..."]) -> Float[jax.Array, "..."]:
    """Signs as the codes have them: 1 where the value is 0 or more, else -1.

    Args:
        values: real values.

    Returns:
        +1 or -1 in the type of the values.

    Example:
        >>> signs(jnp.array([-0.5, 0.0, 2.0])).tolist()
        [-1.0, 1.0, 1.0]
    """
    return jnp.where(values >= 0, 1, -1).astype(values.dtype)


def _rotate(key: Array, points: Array, iterations: int) -> tuple[Array, Array]:
    bits = points.shape[1]
    first = jnp.linalg.qr(jax.random.normal(key, (bits, bits), points.dtype))[0]

    def step(rotation: Array, _) -> tuple[Array, Array]:
        turned = points @ rotation
        corners = signs(turned)
        u, _, w = jnp.linalg.svd(points.T @ corners)
        return u @ w, ((corners - turned) ** 2).sum()

    rotation, objective = jax.lax.scan(step, first, None, length=iterations)
    turned = points @ rotation
    return rotation, jnp.append(objective, ((signs(turned) - turned) ** 2).sum())
