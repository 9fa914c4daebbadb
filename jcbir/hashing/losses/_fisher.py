"""Deep Fisher hashing: pairs by a margin, and class centers in code space that the codes are drawn to."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jcbir.hashing.losses._pairs import (
    Labels,
    MemoryBank,
    check_batch,
    check_labels,
    check_logits,
    label_rows,
    mean_over,
    pairs_of,
)
from jcbir.typing import Array, check_array, check_finite, check_real, check_whole


def dfh(
    logits: Float[Array, "b k"],
    labels: Labels,
    codes: Bool[Array, "b k"],
    *,
    margin: float = 3.0,
    quantization_weight: float = 0.5,
    bank: MemoryBank | None = None,
    self_pairs: bool = False,
) -> Float[jax.Array, " b"]:
    """Pairwise likelihood with a margin, and the squared distance of the outputs to their discrete codes.

    mean_j [log(1 + e^(m - t_ij)) if similar, log(1 + e^(m + t_ij)) otherwise] + eta (1/K) |b_i - u_i|^2, with
    t_ij = u_i . u_j / 2. The codes b come from `dfh_codes`.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        codes: b.
        margin: m, at least 0.
        quantization_weight: eta, at least 0.
        bank: compare with all that was remembered of the training images, instead of with the batch.
        self_pairs: count an image as its own partner.

    Returns:
        One loss an image, >= 0.

    Raises:
        ValueError: codes that are not booleans or of another shape than logits, or a margin or weight out of range.

    Example:
        >>> codes = jnp.array([[True, True], [True, False]])
        >>> losses = dfh(jnp.array([[1.0, 1.0], [1.0, -1.0]]), jnp.array([0, 1]), codes)
        >>> [round(loss, 3) for loss in losses.tolist()]
        [3.049, 3.049]

    References:
        Li, Pei, Zha and van Gemert, Push for Quantization: Deep Fisher Hashing, BMVC 2019; the form of
        DeepHash-pytorch.
    """
    check_logits(logits)
    check_real("margin", margin)
    check_real("quantization_weight", quantization_weight)
    logits = jnp.asarray(logits)
    check_array("codes", codes, kind="booleans", form="[b, k]", rank=2)
    if logits.shape != codes.shape:
        raise ValueError(f"codes: must have the shape {logits.shape} of logits, got {codes.shape}")
    pairs = pairs_of(logits, labels, bank=bank, self_pairs=self_pairs)
    products = 0.5 * (logits @ pairs.others.T)
    values = jax.nn.softplus(margin + jnp.where(pairs.similar, -products, products))
    signs = jnp.where(jnp.asarray(codes), 1.0, -1.0).astype(logits.dtype)
    return mean_over(values, pairs) + quantization_weight * jnp.square(signs - logits).mean(axis=-1)


def dfh_codes(
    logits: Float[Array, "b k"], labels: Labels, centers: Float[Array, "c k"], *, pull: float = 0.1
) -> Bool[jax.Array, "b k"]:
    """The discrete codes of a batch: b_i = [u_i + mu sum over its classes of sign(v_c) >= 0].

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        centers: relaxed class centers v of `dfh_centers`, 0 at the start.
        pull: mu, the strength of the centers, at least 0.

    Returns:
        One code an image.

    Raises:
        ValueError: labels that are neither class numbers nor boolean rows, one column a center, a pull out of range, or
            logits or centers that are not finite.

    Example:
        >>> dfh_codes(jnp.array([[0.05, -0.5]]), jnp.array([0]), jnp.array([[-0.3, 0.9]])).tolist()
        [[False, False]]

    References:
        Li, Pei, Zha and van Gemert, Push for Quantization: Deep Fisher Hashing, BMVC 2019.
    """
    check_real("pull", pull)
    check_logits(centers, name="centers")
    check_batch(logits, labels, classes=len(centers))
    if logits.shape[1] != centers.shape[1]:
        raise ValueError(f"centers: must have {logits.shape[1]} columns as logits have, got {centers.shape[1]}")
    check_finite("logits", logits)
    check_finite("centers", centers)
    rows = label_rows(labels, classes=len(centers)).astype(logits.dtype)
    return jnp.asarray(logits) + pull * rows @ jnp.sign(jnp.asarray(centers)).astype(logits.dtype) >= 0


def dfh_centers(
    centers: Float[Array, "c k"],
    labels: Labels,
    codes: Bool[Array, "b k"],
    *,
    separation_weight: float = 1.0,
    quantization_weight: float = 1.0,
    rate: float = 0.03,
    steps: int = 200,
) -> Float[jax.Array, "c k"]:
    """Class centers that lie near their codes, far from each other and near the corners, by gradient descent.

    mean (sum_c y_ic v_c - b_i)^2 + nu mean (v_c . v_d - K (2 [c = d] - 1))^2 + eta mean (v - sign v)^2; the rate falls
    to a tenth after three quarters of the steps, and again after nine tenths.

    Args:
        centers: centers v of the step before.
        labels: class numbers or multi-hot rows of a batch.
        codes: its codes b.
        separation_weight: nu, at least 0.
        quantization_weight: eta, at least 0.
        rate: of the descent, at least 0.
        steps: of the descent.

    Returns:
        The centers after the descent, relaxed; their signs are the class centers.

    Raises:
        ValueError: codes that are not booleans, labels of another number of classes, or a number out of range.

    Example:
        >>> codes = jnp.array([[True, True], [False, False]])
        >>> jnp.sign(dfh_centers(jnp.zeros((2, 2)), jnp.array([0, 1]), codes)).tolist()
        [[1.0, 1.0], [-1.0, -1.0]]

    References:
        Li, Pei, Zha and van Gemert, Push for Quantization: Deep Fisher Hashing, BMVC 2019; steps and
        rates of DeepHash-pytorch.
    """
    check_real("separation_weight", separation_weight)
    check_real("quantization_weight", quantization_weight)
    check_real("rate", rate)
    check_whole("steps", steps, low=0)
    check_array("codes", codes, kind="booleans", form="[b, k]", rank=2)
    check_logits(centers, name="centers")
    check_labels(labels, classes=len(centers))
    if codes.shape != (len(labels), centers.shape[1]):
        raise ValueError(f"codes: must have shape {(len(labels), centers.shape[1])}, got {codes.shape}")
    centers = jnp.asarray(centers)
    count, bits = centers.shape
    rows = label_rows(labels, classes=count).astype(centers.dtype)
    signs = jnp.where(jnp.asarray(codes), 1.0, -1.0).astype(centers.dtype)
    apart = bits * (2.0 * jnp.eye(count, dtype=centers.dtype) - 1.0)

    def objective(v: jax.Array) -> jax.Array:
        within = jnp.square(rows @ v - signs).mean()
        between = jnp.square(v @ v.T - apart).mean()
        return within + separation_weight * between + quantization_weight * jnp.square(v - jnp.sign(v)).mean()

    slope = jax.grad(objective)

    def descend(step: jax.Array, v: jax.Array) -> jax.Array:
        slower = jnp.where(step >= steps * 3 // 4 - 1, 0.1, 1.0) * jnp.where(step >= steps * 9 // 10 - 1, 0.1, 1.0)
        return v - (rate * slower).astype(v.dtype) * slope(v)

    return jax.lax.fori_loop(0, steps, descend, centers)
