"""Losses of triplets: a similar image should be closer than a dissimilar one."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jcbir.hashing.losses._pairs import Labels, check_batch, pairs_of, similar_pairs
from jcbir.typing import Array, check_real


def dnnh(logits: Float[Array, "b k"], labels: Labels, *, margin: float = 1.0) -> Float[jax.Array, " b"]:
    """A similar image should be closer than a dissimilar one by a margin, in squared distance of h = sigmoid(2u).

    mean over similar j and dissimilar l of max(0, m + |h_i - h_j|^2 - |h_i - h_l|^2).

    The article draws triplets beforehand; here image i meets all of its batch. Its divide-and-encode head (each bit
    from its own slice of the features) and threshold layer are a matter of the network, not of the loss. No code of the
    authors is known; m = 1 is the article's.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        margin: m, in bits, at least 0.

    Returns:
        One loss an image, 0 to m + K; 0 for an image that lacks a similar or a dissimilar partner.

    Raises:
        ValueError: labels that are neither class numbers nor boolean rows, one an image, or a margin out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> logits = jnp.array([[9.0, 9.0], [9.0, 9.0], [9.0, -9.0]])
        >>> dnnh(logits, jnp.array([0, 0, 1])).round(3).tolist(), dnnh(logits, jnp.array([0, 1, 0])).round(3).tolist()
        ([0.0, 0.0, 0.0], [2.0, 0.0, 1.0])

    References:
        Lai, Pan, Liu and Yan, Simultaneous Feature Learning and Hash Coding with Deep Neural Networks, CVPR 2015,
        eq. 2.
    """
    check_real("margin", margin)
    flaw = check_batch(logits, labels)
    relaxed = jax.nn.sigmoid(2.0 * jnp.asarray(logits))
    distances = jnp.square(relaxed[:, None, :] - relaxed[None, :, :]).sum(axis=-1)
    similar = similar_pairs(labels)
    positive = similar & ~jnp.eye(len(relaxed), dtype=bool)
    triplets = positive[:, :, None] & ~similar[:, None, :]
    violations = jnp.maximum(margin + distances[:, :, None] - distances[:, None, :], 0.0)
    count = triplets.sum(axis=(1, 2)).astype(relaxed.dtype)
    return jnp.where(triplets, violations, 0.0).sum(axis=(1, 2)) / jnp.maximum(count, 1) + flaw


def dtsh(
    logits: Float[Array, "b k"],
    labels: Labels,
    *,
    margin: float = 5.0,
    scale: float = 0.5,
    quantization_weight: float = 1.0,
    self_pairs: bool = False,
) -> Float[jax.Array, " b"]:
    """Likelihood that a similar image is closer than a dissimilar one by a margin, in inner products.

    mean over similar j and dissimilar l of log(1 + e^-(t_ij - t_il - m)) + lambda (1/K) |sign(u_i) - u_i|^2, with
    t_ij = c u_i . u_j.

    c = 1/2 is the article's; DeepHash-pytorch has c = 1, m = 5, and an image as its own partner.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        margin: m, at least 0.
        scale: c, above 0.
        quantization_weight: lambda, at least 0.
        self_pairs: count an image as its own partner.

    Returns:
        One loss an image, >= 0; an image that lacks a similar or a dissimilar partner keeps the quantization alone.

    Raises:
        ValueError: labels that are neither class numbers nor boolean rows, one an image, or a number out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> logits = jnp.array([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
        >>> [round(loss, 3) for loss in dtsh(logits, jnp.array([0, 0, 1]), margin=1.0).tolist()]
        [0.693, 0.693, 0.0]

    References:
        Wang, Shi and Kitani, Deep Supervised Hashing with Triplet Labels, ACCV 2016, eq. 4 and 8.
    """
    check_real("margin", margin)
    check_real("scale", scale, above=0.0)
    check_real("quantization_weight", quantization_weight)
    pairs = pairs_of(logits, labels, bank=None, self_pairs=self_pairs)
    logits = jnp.asarray(logits)
    products = scale * (logits @ logits.T)
    triplets = (pairs.similar & pairs.counted)[:, :, None] & ~pairs.similar[:, None, :]
    losses = jax.nn.softplus(margin + products[:, None, :] - products[:, :, None])
    count = triplets.sum(axis=(1, 2)).astype(logits.dtype)
    ranked = jnp.where(triplets, losses, 0.0).sum(axis=(1, 2)) / jnp.maximum(count, 1)
    return ranked + quantization_weight * jnp.square(jnp.abs(logits) - 1.0).mean(axis=-1) + pairs.flaw
