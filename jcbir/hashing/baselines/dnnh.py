"""DNNH: triplet ranking of relaxed codes, over all triplets of a batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jcbir.hashing.baselines.pairs import Labels, similar_pairs
from jcbir.typing import Array


def dnnh(logits: Float[Array, "b k"], labels: Labels, *, margin: float = 1.0) -> Float[jax.Array, " b"]:
    """A similar image should be closer than a dissimilar one by a margin, in squared distance of h = sigmoid(2u).

    mean over similar j and dissimilar l of max(0, m + |h_i - h_j|^2 - |h_i - h_l|^2).

    The article draws triplets beforehand; here image i meets all of its batch. Its divide-and-encode head (each bit
    from its own slice of the features) and threshold layer are a matter of the network, not of the loss. No code of the
    authors is known; m = 1 is the article's.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        margin: m, in bits.

    Returns:
        One loss an image, 0 to m + K; 0 for an image that lacks a similar or a dissimilar partner.

    Example:
        >>> import jax.numpy as jnp
        >>> logits = jnp.array([[9.0, 9.0], [9.0, 9.0], [9.0, -9.0]])
        >>> dnnh(logits, jnp.array([0, 0, 1])).round(3).tolist(), dnnh(logits, jnp.array([0, 1, 0])).round(3).tolist()
        ([0.0, 0.0, 0.0], [2.0, 0.0, 1.0])

    References:
        Lai, Pan, Liu and Yan, Simultaneous Feature Learning and Hash Coding with Deep Neural Networks, CVPR 2015,
        eq. 2.
    """
    relaxed = jax.nn.sigmoid(2.0 * jnp.asarray(logits))
    distances = jnp.square(relaxed[:, None, :] - relaxed[None, :, :]).sum(axis=-1)
    similar = similar_pairs(labels)
    positive = similar & ~jnp.eye(len(relaxed), dtype=bool)
    triplets = positive[:, :, None] & ~similar[:, None, :]
    violations = jnp.maximum(margin + distances[:, :, None] - distances[:, None, :], 0.0)
    count = triplets.sum(axis=(1, 2)).astype(relaxed.dtype)
    return jnp.where(triplets, violations, 0.0).sum(axis=(1, 2)) / jnp.maximum(count, 1)
