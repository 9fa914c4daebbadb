"""Heads on frozen features, fitted in seconds: label-free by neighbors, from labels by CSQ beside label-free bits.

A head is a linear map of features of unit length, `logits = project_head(head, features)`; a bit is `logit >= 0`. Both
fits run in NumPy's float64 and JAX's float32 whatever `jax_enable_x64` says. The choices here were measured by
`experiments.heads` on photographs that no fit had seen.
"""

import json
from functools import lru_cache, partial
from importlib import resources
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors.numpy
import scipy.linalg
from jaxtyping import Bool, Float, Integer, Key

from jcbir.errors import FormatError
from jcbir.hashing import shallow
from jcbir.hashing.centers import one_hot, semantic, separated_centers
from jcbir.hashing.losses import csq
from jcbir.models import Head
from jcbir.typing import Array, check_array, check_finite, check_real, check_whole

BATCH = 2048
"""Photographs of one step of `fit_csq_head`: fewer are taken all at once."""

NEIGHBORS_AMONG = 512
"""Photographs of one step of `fit_label_free`, among which neighbors are looked for."""

FEWEST = 24
"""Photographs that `fit_label_free` needs: below, eight components fit noise, and the general head finds more."""

SURE = 16
"""Components that ITQ starts with in a small collection, too, where an eighth of the photographs would be fewer."""

LEARNED_FROM, JUDGED_BY = 128, 64
"""Principal components that bits are made of, and those whose cosine says which photographs are neighbors: the later
ones are noise between neighbors, and still tell others apart."""

NEAR, NEAR_IN_CODE = 0.05, 0.1
"""Temperatures of the softmax over neighbors, of features and of codes."""


class Whitening(NamedTuple):
    """Directions in which photographs of one kind differ, and how much of each is taken away.

    Attributes:
        axes: orthonormal columns.
        share: from 0 to 1, one a column.
    """

    axes: Float[np.ndarray, "d k"]
    share: Float[np.ndarray, " k"]


def fit_whitening(features: Float[Array, "n d"], labels: Integer[Array, " n"], *, directions: int = 64) -> Whitening:
    r"""What features say of the view, the light and the ground of a photograph instead of its kind, from labelled ones.

    $x - \sum_j \bigl(1-\sqrt{\lambda_k/\lambda_j}\bigr) a_j a_j^\top x$: along each of the first $k$ eigenvectors $a_j$
    of the covariance within classes the deviation falls to that along the last. It carries over to kinds not among
    the labels, so that it is fitted once, on research photographs.

    Args:
        features: pooled features, one row a photograph.
        labels: class numbers.
        directions: k.

    Returns:
        The whitening of unit-length features.

    Raises:
        ValueError: features as `fit_label_free`; labels not one a photograph; directions beyond the width or what
            classes of two and more photographs span.

    Example:
        >>> features = np.random.default_rng(0).normal(size=(60, 8))
        >>> fit_whitening(features, np.arange(60) % 5, directions=3).share[-1]
        np.float64(0.0)

    References:
        Mikolajczyk and Matas, Improving descriptors for fast tree matching by optimal linear projection, ICCV 2007.
    """
    unit, numbers = _unit(features), np.asarray(labels)
    if numbers.shape != (len(unit),) or numbers.dtype.kind not in "iu":
        raise ValueError(f"labels: must be {len(unit)} integers, got {numbers.dtype} {numbers.shape}")
    _, kinds, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), unit.shape[1]))
    np.add.at(means, kinds, unit)
    apart = unit - (means / counts[:, None])[kinds]
    most = min(unit.shape[1], int((counts - 1).sum()))
    count = check_whole("directions", directions, low=1, high=most)
    weights = counts / np.maximum(counts - 1, 1)
    variances, axes = _leading((apart * weights[kinds, None]).T @ apart, count)
    return Whitening(axes, 1 - np.sqrt(variances[-1] / variances))


def fit_label_free(
    key: Key[Array, ""],
    features: Float[Array, "n d"],
    *,
    bits: int,
    whitening: Whitening | None = None,
    steps: int = 100,
    rate: float = 0.05,
) -> Head:
    r"""Label-free head: photographs whose features are neighbors get codes that are neighbors.

    $\min_W -\sum_{ij} p_{ij} \log q_{ij} + 0.1\,\overline{(1-|h|)^2}$, $h_i = \tanh(W^\top x_i + b)$, by Adam:
    $p_{i\cdot}$ is the softmax of the cosines of photograph $i$ with the others over 0.05, $q_{i\cdot}$ that of
    $h_i^\top h_j/k$ over 0.1. It starts with the codes of ITQ on the first principal components, which keep what
    varies, and moves them to keep who is near.

    Args:
        key: PRNG key of rotations and batches.
        features: pooled features of the owner's own photographs, one row each.
        bits: code length.
        whitening: for features of the packaged network `research_whitening()`; None leaves them as they are.
        steps: of Adam; 0 is ITQ.
        rate: its learning rate at the start, falling to 0 by a cosine.

    Returns:
        A head; the whitening is in its weights.

    Raises:
        ValueError: features are not finite floating rows, none of them zero; fewer than 24 photographs, for which
            `general_head` is there; a whitening of another width; bits, steps or rate out of range.

    Example:
        >>> features = np.random.default_rng(0).normal(size=(60, 40))
        >>> fit_label_free(jax.random.key(0), features, bits=16).projection.shape
        (40, 16)

    References:
        Gong and Lazebnik, Iterative quantization: a Procrustean approach to learning binary codes, CVPR 2011, eq. 2.
        Hinton and Roweis, Stochastic neighbor embedding, NIPS 2002, eq. 4.
    """
    unit, bits, steps = _unit(features), check_whole("bits", bits, low=1), check_whole("steps", steps, low=0)
    check_real("rate", rate)
    if len(unit) < FEWEST:
        raise ValueError(f"features: must be of at least {FEWEST} photographs (or take general_head), got {len(unit)}")
    if whitening is not None and len(whitening.axes) != unit.shape[1]:
        raise ValueError(f"whitening: must be of {unit.shape[1]} features, got {len(whitening.axes)}")
    white = _whiten(unit, whitening)
    most = min(len(unit) - 1, unit.shape[1])
    mean, axes = principal_axes(white, components=min(LEARNED_FROM, most))
    points = (white - mean) @ axes
    few = max(1, min(3 * bits // 4, max(SURE, len(unit) // 8), len(unit) // 3, most, LEARNED_FROM))
    turn_key, order_key = jax.random.split(key)
    start = np.zeros((axes.shape[1], bits))
    start[:few] = itq_rotations(turn_key, points[:, :few], bits=bits)
    # Of mean size 1: where tanh begins to bend.
    start /= np.abs(points @ start).mean()
    with jax.enable_x64(False):
        weights, bias = _neighborly(
            order_key,
            jnp.asarray(points, jnp.float32),
            jnp.asarray(start, jnp.float32),
            steps=steps,
            rate=rate,
        )
    projection = axes @ np.asarray(weights, np.float64)
    # Symmetric: what it does to a photograph it does as well to the weights.
    return _fold(_whiten(projection.T, whitening).T, np.asarray(bias, np.float64) - mean @ projection)


def fit_csq_head(
    key: Key[Array, ""],
    features: Float[Array, "n d"],
    labels: Integer[Array, " n"] | Bool[Array, "n c"],
    *,
    bits: int,
    label_free_bits: int | None = None,
    smoothing: float = 0.1,
    quantization_weight: float = 0.05,
    steps: int = 100,
    rate: float = 0.02,
) -> Head:
    r"""Head from labels: bits learned by central similarity, followed by label-free bits that keep order in a class.

    $\min_W \sum_i (1-e) L_T(u_i, c_i) + e\, L_T(u_i, \bar c_i)$ by Adam on all photographs at once, $L_T$ the loss of
    `csq`, $c_i$ the semantic center, $e$ the smoothing. CSQ alone sends a class to one code: all of its photographs
    are as near as each other, and one that falls between two classes meets whole classes in a tie. Bits by ITQ
    tell them apart.

    Args:
        key: PRNG key of the centers and of the rotations.
        features: pooled features, one row a photograph.
        labels: class numbers from 0, or 0/1 rows with one column a class.
        bits: code length.
        label_free_bits: how many of them are label-free, the last ones; half by default, 0 for CSQ alone. Fewer raise
            mAP a little; more find kinds that training has not seen.
        smoothing: share of the opposite center in the target, 0 to below 0.5.
        quantization_weight: lambda of `csq`.
        steps: of Adam.
        rate: its learning rate at the start, falling to 0 by a cosine.

    Returns:
        A head.

    Raises:
        ValueError: as `fit_label_free`; labels are not one a photograph, of at least two classes; an option out of
            range.

    Example:
        >>> from jcbir.models import project_head
        >>> labels = np.repeat(np.arange(3), 20)
        >>> features = np.eye(3)[labels] + 0.1 * np.random.default_rng(0).normal(size=(60, 3))
        >>> head = fit_csq_head(jax.random.key(0), features, labels, bits=16, label_free_bits=0)
        >>> len(np.unique(np.asarray(project_head(head, features)) >= 0, axis=0))
        3

    References:
        Yuan et al., Central Similarity Quantization, CVPR 2020, eq. 4. Wang et al., CMC 75(3), 2023, eq. 5.
    """
    unit, bits, steps = _unit(features), check_whole("bits", bits, low=1), check_whole("steps", steps, low=1)
    rows = _label_rows(labels, count=len(unit))
    half = bits // 2 if label_free_bits is None else label_free_bits
    label_free = check_whole("label_free_bits", half, low=0, high=bits - 1)
    check_real("smoothing", smoothing, below=0.5)
    check_real("rate", rate)
    check_real("quantization_weight", quantization_weight)
    center_key, order_key, free_key = jax.random.split(key, 3)
    centers = separated_centers(center_key, rows.shape[1], bits=bits - label_free, tries=1)
    mean = unit.mean(0)
    # Of mean square length 1, whatever the photographs: one learning rate serves all.
    spread = np.sqrt(((unit - mean) ** 2).sum(1).mean())
    # Adam's counts would be of 64 bits otherwise, and the last digits of the weights others.
    with jax.enable_x64(False):
        weights, bias = _central(
            order_key,
            jnp.asarray((unit - mean) / spread, jnp.float32),
            semantic(rows, centers),
            smoothing=smoothing,
            quantization_weight=quantization_weight,
            steps=steps,
            rate=rate,
        )
    projection = np.asarray(weights, np.float64) / spread
    head = _fold(projection, np.asarray(bias, np.float64) - mean @ projection)
    if not label_free:
        return head
    # ITQ on as many components as bits: what varies, of whichever kind. Bits that learned who is near among these
    # photographs find kinds that are not among them less well.
    most = min(label_free, len(unit) - 1, unit.shape[1])
    mean, axes = principal_axes(unit, components=most)
    turned = axes @ itq_rotations(free_key, (unit - mean) @ axes, bits=label_free)
    beside = _fold(turned, -mean @ turned)
    return Head(*(np.concatenate(parts, axis=-1) for parts in zip(head, beside, strict=True)))


def general_head(*, bits: int) -> Head:
    """The label-free head inside the package, fitted on research photographs: for a collection that is still empty.

    Args:
        bits: 16, 32, 48, 64 or 128.

    Returns:
        A head for the features of `jcbir.models.imagenet_resnet50`.

    Raises:
        ValueError: no such length.
        FormatError: the file is not what `experiments/assets/build_heads.py` writes.

    Example:
        >>> general_head(bits=64).projection.shape
        (2048, 64)
    """
    lengths = json.loads((resources.files("jcbir.models") / "assets" / "heads.json").read_text())["bits"]
    if check_whole("bits", bits, low=1) not in lengths:
        raise ValueError(f"bits: must be one of {lengths}, got {bits!r}")
    axes, weights, bias = _research("axes", f"weights_{bits}", f"bias_{bits}")
    return _fold(axes @ weights, bias)


def research_whitening() -> Whitening:
    """The whitening inside the package, fitted on labelled research photographs.

    Returns:
        The whitening for the features of `jcbir.models.imagenet_resnet50`.

    Raises:
        FormatError: the file is not what `experiments/assets/build_heads.py` writes.

    Example:
        >>> research_whitening().axes.shape
        (2048, 64)
    """
    return Whitening(*_research("whitening_axes", "whitening_share"))


def principal_axes(
    rows: Float[np.ndarray, "n d"], *, components: int
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d c"]]:
    """Mean and first principal axes, by eigenvectors of the smaller of the two Gram matrices.

    Args:
        rows: points, float64.
        components: how many, at most min(n - 1, d).

    Returns:
        The mean and orthonormal columns in falling order of variance.

    Raises:
        ValueError: rows that are no finite floats, or components out of range.

    Example:
        >>> _, axes = principal_axes(np.diag([3.0, 2.0, 0.0]), components=1)
        >>> np.abs(axes[:, 0]).round(2).tolist()
        [0.91, 0.42, 0.0]
    """
    check_array("rows", rows, kind="floats", form="[n, d]", rank=2)
    check_finite("rows", rows)
    components = check_whole("components", components, low=1, high=min(len(rows) - 1, rows.shape[1]))
    mean = rows.mean(0)
    centered = rows - mean
    if len(rows) > rows.shape[1]:
        return mean, _leading(centered.T @ centered, components)[1]
    vectors = _leading(centered @ centered.T, components)[1]
    # Orthonormal again: a direction that the points hardly span comes out of the product short.
    return mean, np.linalg.qr(centered.T @ vectors)[0]


def itq_rotations(key: Key[Array, ""], points: Float[np.ndarray, "n c"], *, bits: int) -> Float[np.ndarray, "c k"]:
    """Columns of as many ITQ rotations, from different starts, as `bits` columns need.

    Args:
        key: PRNG key of the starts.
        points: centered, uncorrelated columns.
        bits: columns wanted.

    Returns:
        float64; each c columns in turn are orthonormal.

    Raises:
        ValueError: points that are no finite floats, or no bits.

    Example:
        >>> points = np.random.default_rng(0).normal(size=(30, 4))
        >>> itq_rotations(jax.random.key(0), points, bits=8).shape
        (4, 8)
    """
    check_array("points", points, kind="floats", form="[n, c]", rank=2)
    check_finite("points", points)
    if 0 in points.shape:
        raise ValueError(f"points: must be at least one point of at least one number, got {list(points.shape)}")
    bits, count = check_whole("bits", bits, low=1), points.shape[1]
    fits = [
        _itq(jax.random.fold_in(key, turn), jnp.asarray(points, jnp.float32), bits=count)
        for turn in range(-(-bits // count))
    ]
    return np.concatenate([np.asarray(fit.hash.projection, np.float64) for fit in fits], axis=1)[:, :bits]


_itq = jax.jit(shallow.itq, static_argnames=("bits", "iterations"))


@lru_cache(maxsize=1)
def _research_tensors() -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load((resources.files("jcbir.models") / "assets" / "heads.safetensors").read_bytes())
    except safetensors.SafetensorError as error:
        raise FormatError(f"heads.safetensors: must be a safetensors file, got {error}") from error


def _research(*names: str) -> list[np.ndarray]:
    """Tensors of the package's file of heads, float64."""
    tensors = _research_tensors()
    if missing := [name for name in names if name not in tensors]:
        raise FormatError(f"heads.safetensors: must hold {missing[0]}, got {sorted(tensors)}")
    return [tensors[name].astype(np.float64) for name in names]


@partial(jax.jit, static_argnames=("steps", "rate"))
def _neighborly(
    key: Key[Array, ""], points: Array, start: Array, *, steps: int, rate: float
) -> tuple[jax.Array, jax.Array]:
    """Weights and bias after Adam on the cross-entropy of neighbors."""
    judged = points[:, :JUDGED_BY]
    judged = judged / jnp.maximum(jnp.linalg.norm(judged, axis=1, keepdims=True), jnp.finfo(jnp.float32).tiny)
    # Of mean square length 1, whatever the photographs: one learning rate serves all.
    spread = jnp.sqrt((points**2).sum(1).mean())
    points = points / spread
    itself = 1e4 * jnp.eye(min(NEIGHBORS_AMONG, len(points)), dtype=jnp.float32)

    def loss(params: tuple[jax.Array, jax.Array], chosen: jax.Array) -> jax.Array:
        codes = jnp.tanh(points[chosen] @ params[0] + params[1][None])
        wanted = jax.nn.softmax(judged[chosen] @ judged[chosen].T / NEAR - itself)
        given = jax.nn.log_softmax(codes @ codes.T / (codes.shape[1] * NEAR_IN_CODE) - itself)
        return -(wanted * given).sum(1).mean() + 0.1 * ((1 - jnp.abs(codes)) ** 2).mean()

    adam = optax.scale_by_adam()

    def step(state, number: jax.Array):
        params, memory = state
        drawn = jax.random.permutation(jax.random.fold_in(key, number), len(points))[: len(itself)]
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = adam.update(jax.grad(loss)(params, drawn), memory)
        pace = -rate * 0.5 * (1 + jnp.cos(jnp.pi * number.astype(jnp.float32) / max(steps, 1)))
        return (jax.tree.map(lambda p, u: p + pace * u, params, updates), memory), None

    begin = start * spread, jnp.zeros(start.shape[1], jnp.float32)
    weights, bias = jax.lax.scan(step, (begin, adam.init(begin)), jnp.arange(steps, dtype=jnp.int32))[0][0]
    return weights / spread, bias


def _leading(matrix: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The greatest eigenvalues of a symmetric matrix, falling, and their vectors: the others cost most of the time."""
    size = len(matrix)
    values, vectors = scipy.linalg.eigh(matrix, subset_by_index=[size - count, size - 1])
    return values[::-1], vectors[:, ::-1]


def _whiten(rows: np.ndarray, whitening: Whitening | None) -> np.ndarray:
    if whitening is None:
        return rows
    return rows - ((rows @ whitening.axes) * whitening.share) @ whitening.axes.T


@partial(jax.jit, static_argnames=("smoothing", "quantization_weight", "steps", "rate"))
def _central(
    key: Key[Array, ""],
    points: Array,
    targets: Array,
    *,
    smoothing: float,
    quantization_weight: float,
    steps: int,
    rate: float,
) -> tuple[jax.Array, jax.Array]:
    """Weights and bias after Adam on the smoothed loss."""

    def loss(params: tuple[jax.Array, jax.Array], rows: Array, wanted: Array) -> jax.Array:
        logits = rows @ params[0] + params[1][None]
        near, far = (csq(logits, t, quantization_weight=quantization_weight) for t in (wanted, ~wanted))
        return ((1 - smoothing) * near + smoothing * far).mean()

    adam = optax.scale_by_adam()

    def step(state, number: jax.Array):
        params, memory = state
        rows, wanted = points, targets
        if len(points) > BATCH:
            drawn = jax.random.randint(jax.random.fold_in(key, number), (BATCH,), 0, len(points), jnp.int32)
            rows, wanted = points[drawn], targets[drawn]
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = adam.update(jax.grad(loss)(params, rows, wanted), memory)
        pace = -rate * 0.5 * (1 + jnp.cos(jnp.pi * number.astype(jnp.float32) / steps))
        return (jax.tree.map(lambda p, u: p + pace * u, params, updates), memory), None

    bits = targets.shape[1]
    start = jnp.zeros((points.shape[1], bits), jnp.float32), jnp.zeros(bits, jnp.float32)
    return jax.lax.scan(step, (start, adam.init(start)), jnp.arange(steps, dtype=jnp.int32))[0][0]


def _fold(projection: np.ndarray, bias: np.ndarray) -> Head:
    """A float32 head."""
    return Head(projection.astype(np.float32), bias.astype(np.float32))


def _unit(features: Array) -> np.ndarray:
    """float64 rows of length 1."""
    rows = np.asarray(features)
    if rows.ndim != 2 or rows.size == 0 or not jnp.issubdtype(rows.dtype, jnp.floating):
        raise ValueError(f"features: must be floating [n d], got {rows.dtype} {rows.shape}")
    rows = rows.astype(np.float64)
    check_finite("features", rows)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(f"features: must be rows other than zero, got {int((lengths == 0).sum())} zero rows")
    return rows / lengths


def _label_rows(labels: Array, *, count: int) -> np.ndarray:
    """0/1 rows, one column a class."""
    given = np.asarray(labels)
    if given.shape[:1] != (count,) or not (
        (given.ndim == 1 and given.dtype.kind in "iu") or (given.ndim == 2 and given.dtype == bool)
    ):
        raise ValueError(f"labels: must be {count} integers or boolean rows, got {given.dtype} {given.shape}")
    if given.ndim == 1:
        if given.min() < 0:
            raise ValueError(f"labels: must be class numbers from 0, got {int(given.min())}")
        given = np.asarray(one_hot(given, classes=int(given.max()) + 1))
    if given.any(0).sum() < 2:
        raise ValueError(f"labels: must be of at least 2 classes, got {int(given.any(0).sum())}")
    return given
