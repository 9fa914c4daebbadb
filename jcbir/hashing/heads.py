"""Heads on frozen features, fitted in seconds: label-free by PCA and ITQ, from labels by CSQ beside label-free bits.

A head is a linear map of features of unit length, `logits = project_head(head, features)`; a bit is `logit >= 0`. Both
fits run in NumPy's float64 and JAX's float32 whatever `jax_enable_x64` says. The choices here were measured by
`experiments.heads` on photographs that no fit had seen.
"""

import json
from functools import partial
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors.numpy
from jaxtyping import Bool, Float, Integer, Key

from jcbir.errors import FormatError
from jcbir.hashing import shallow
from jcbir.hashing.centers import one_hot, semantic, separated_centers
from jcbir.hashing.losses import csq
from jcbir.models import Head
from jcbir.typing import Array, check_whole

BATCH = 2048
"""Photographs of one step of `fit_csq_head`: fewer are taken all at once."""

FEWEST = 24
"""Photographs that `fit_itq` needs: below, eight components fit noise, and the general head finds more."""


SURE = 16
"""Components that `fit_itq` takes of a small collection, too, where an eighth of the photographs would be fewer."""


def fit_itq(key: Key[Array, ""], features: Float[Array, "n d"], *, bits: int, components: int | None = None) -> Head:
    r"""Label-free head: principal components of unit-length features, turned towards the corners of the cube.

    $W = A\,[R_1 R_2 \dots]$, $A$ the first components, each $R_i$ the rotation that ITQ finds from another start. Fewer
    components than bits, turned more than once, keep more order where there are few kinds of photographs, whose late
    components are noise that a sign makes as loud as the first; of many kinds they lose some. Three quarters lose
    little of either.

    Args:
        key: PRNG key of the rotations' starts.
        features: pooled features of the owner's own photographs, one row each.
        bits: code length.
        components: principal components; by default three quarters of the bits, at most an eighth of the photographs
            or 16 (whichever is more), and a third of them.

    Returns:
        A head.

    Raises:
        ValueError: features are not finite floating rows, none of them zero; fewer than 24 photographs, for which
            `general_head` is there; components beyond what they span; bits below 1.

    Example:
        >>> features = np.random.default_rng(0).normal(size=(60, 40))
        >>> fit_itq(jax.random.key(0), features, bits=16).projection.shape
        (40, 16)

    References:
        Gong and Lazebnik, Iterative quantization: a Procrustean approach to learning binary codes, CVPR 2011, eq. 2.
    """
    unit, bits = _unit(features), check_whole("bits", bits, low=1)
    if len(unit) < FEWEST:
        raise ValueError(f"features: must be of at least {FEWEST} photographs (or take general_head), got {len(unit)}")
    most = min(len(unit) - 1, unit.shape[1])
    few = max(1, min(3 * bits // 4, max(SURE, len(unit) // 8), len(unit) // 3, most))
    count = few if components is None else check_whole("components", components, low=1, high=most)
    mean, axes = principal_axes(unit, components=count)
    projection = axes @ itq_rotations(key, (unit - mean) @ axes, bits=bits)
    return _fold(projection, -mean @ projection)


def fit_csq_head(
    key: Key[Array, ""],
    features: Float[Array, "n d"],
    labels: Integer[Array, " n"] | Bool[Array, "n c"],
    *,
    bits: int,
    itq_bits: int | None = None,
    smoothing: float = 0.1,
    quantization_weight: float = 0.05,
    steps: int = 100,
    rate: float = 0.02,
) -> Head:
    r"""Head from labels: bits learned by central similarity, followed by label-free bits that keep order in a class.

    $\min_W \sum_i (1-e) L_T(u_i, c_i) + e\, L_T(u_i, \bar c_i)$ by Adam on all photographs at once, $L_T$ the loss of
    `csq`, $c_i$ the semantic center, $e$ the smoothing. CSQ alone sends a class to one code: all of its photographs
    are as near as each other, and one that falls between two classes meets whole classes in a tie. The bits of
    `fit_itq` tell them apart.

    Args:
        key: PRNG key of the centers and of the rotations.
        features: pooled features, one row a photograph.
        labels: class numbers from 0, or 0/1 rows with one column a class.
        bits: code length.
        itq_bits: how many of them are label-free, the last ones; half by default, 0 for CSQ alone. Fewer raise mAP a
            little; more find kinds that training has not seen.
        smoothing: share of the opposite center in the target, 0 to below 0.5.
        quantization_weight: lambda of `csq`.
        steps: of Adam.
        rate: its learning rate at the start, falling to 0 by a cosine.

    Returns:
        A head.

    Raises:
        ValueError: as `fit_itq`; labels are not one a photograph, of at least two classes; an option out of range.

    Example:
        >>> from jcbir.models import project_head
        >>> labels = np.repeat(np.arange(3), 20)
        >>> features = np.eye(3)[labels] + 0.1 * np.random.default_rng(0).normal(size=(60, 3))
        >>> head = fit_csq_head(jax.random.key(0), features, labels, bits=16, itq_bits=0)
        >>> len(np.unique(np.asarray(project_head(head, features)) >= 0, axis=0))
        3

    References:
        Yuan et al., Central Similarity Quantization, CVPR 2020, eq. 4. Wang et al., CMC 75(3), 2023, eq. 5.
    """
    unit, bits, steps = _unit(features), check_whole("bits", bits, low=1), check_whole("steps", steps, low=1)
    rows = _label_rows(labels, count=len(unit))
    label_free = check_whole("itq_bits", bits // 2 if itq_bits is None else itq_bits, low=0, high=bits - 1)
    if not 0 <= smoothing < 0.5:
        raise ValueError(f"smoothing: must be at least 0 and below 0.5, got {smoothing!r}")
    for name, value in (("rate", rate), ("quantization_weight", quantization_weight)):
        if not 0 <= value < np.inf:
            raise ValueError(f"{name}: must be finite and at least 0, got {value!r}")
    center_key, order_key, itq_key = jax.random.split(key, 3)
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
    # Turned once: of so few bits each must tell photographs apart that the class bits do not.
    beside = fit_itq(itq_key, features, bits=label_free, components=min(label_free, len(unit) - 1, unit.shape[1]))
    return Head(*(np.concatenate(parts, axis=-1) for parts in zip(head, beside, strict=True)))


def general_head(*, bits: int) -> Head:
    """The label-free head inside the package, fitted on research photographs: for a collection that is still empty.

    Args:
        bits: 16, 32, 48, 64 or 128.

    Returns:
        A head for the features of `jcbir.models.imagenet_resnet50`.

    Raises:
        ValueError: no such length.
        FormatError: the file is not what `experiments/assets/build_itq.py` writes.

    Example:
        >>> general_head(bits=64).projection.shape
        (2048, 64)
    """
    asset = resources.files("jcbir.models") / "assets"
    lengths = json.loads((asset / "itq.json").read_text())["bits"]
    if check_whole("bits", bits, low=1) not in lengths:
        raise ValueError(f"bits: must be one of {lengths}, got {bits!r}")
    try:
        tensors = safetensors.numpy.load((asset / "itq.safetensors").read_bytes())
        rotations = tensors[f"rotations_{bits}"].astype(np.float64)
        mean, axes = tensors["mean"].astype(np.float64), tensors["axes"].astype(np.float64)
    except (safetensors.SafetensorError, KeyError) as error:
        raise FormatError(f"itq.safetensors: must hold mean, axes and rotations, got {error!r}") from error
    projection = axes[:, : len(rotations)] @ rotations
    return _fold(projection, -mean @ projection)


def principal_axes(
    rows: Float[np.ndarray, "n d"], *, components: int
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d c"]]:
    """Mean and first principal axes, by eigenvectors of the smaller of the two Gram matrices.

    Args:
        rows: points, float64.
        components: how many, at most min(n - 1, d).

    Returns:
        The mean and orthonormal columns in falling order of variance.

    Example:
        >>> _, axes = principal_axes(np.diag([3.0, 2.0, 0.0]), components=1)
        >>> np.abs(axes[:, 0]).round(2).tolist()
        [0.91, 0.42, 0.0]
    """
    mean = rows.mean(0)
    centered = rows - mean
    if len(rows) > rows.shape[1]:
        return mean, np.linalg.eigh(centered.T @ centered)[1][:, ::-1][:, :components]
    vectors = np.linalg.eigh(centered @ centered.T)[1][:, ::-1][:, :components]
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

    Example:
        >>> points = np.random.default_rng(0).normal(size=(30, 4))
        >>> itq_rotations(jax.random.key(0), points, bits=8).shape
        (4, 8)
    """
    count = points.shape[1]
    fits = [
        _itq(jax.random.fold_in(key, turn), jnp.asarray(points, jnp.float32), bits=count)
        for turn in range(-(-bits // count))
    ]
    return np.concatenate([np.asarray(fit.hash.projection, np.float64) for fit in fits], axis=1)[:, :bits]


_itq = jax.jit(shallow.itq, static_argnames=("bits", "iterations"))


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
            drawn = jax.random.randint(jax.random.fold_in(key, number), (BATCH,), 0, len(points))
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
    if not np.isfinite(rows).all():
        raise ValueError(f"features: must be finite, got {int((~np.isfinite(rows)).sum())} values that are not")
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
