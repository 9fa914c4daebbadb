"""OrthoHash: one cosine softmax against fixed centers does similarity and quantization at once."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jcbir.hashing.baselines.pairs import Labels, label_shares
from jcbir.typing import Array


def orthohash(
    logits: Float[Array, "b k"],
    labels: Labels,
    centers: Bool[Array, "c k"],
    *,
    scale: float = 8.0,
    margin: float = 0.2,
) -> Float[jax.Array, " b"]:
    """Cross-entropy of scaled cosines between outputs and +-1 centers, with a margin on the right ones.

    -sum_c y_ic log softmax_c( s (cos(u_i, o_c) - m y_ic) ), several labels sharing the target equally.

    s = 8 and m = 0.2 are the defaults of the authors' code. Only the direction of the output counts. The authors put a
    BatchNorm layer before it, which balances the bits.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        centers: one center a class, e.g. `jcbir.hashing._centers.hash_centers`.
        scale: s.
        margin: m, in cosine.

    Returns:
        One loss an image, >= 0; 0 for an image without a label.

    Raises:
        ValueError: multi-hot rows of another number of classes than centers.

    Example:
        >>> import jax.numpy as jnp
        >>> centers = jnp.array([[True, True], [True, False]])
        >>> round(float(orthohash(jnp.array([[5.0, 5.0]]), jnp.array([0]), centers)[0]), 5)
        0.00166

    References:
        Hoe et al., One Loss for All: Deep Hashing with a Single Cosine Similarity based Learning Objective, NeurIPS
        2021, eq. 5.
    """
    logits = jnp.asarray(logits)
    shares = label_shares(labels, classes=len(centers)).astype(logits.dtype)
    signs = jnp.where(jnp.asarray(centers), 1.0, -1.0).astype(logits.dtype)
    # Dividing by the largest entry first keeps the squares of huge logits finite; the direction is the same.
    largest = jax.lax.stop_gradient(jnp.abs(logits).max(axis=-1, keepdims=True))
    scaled = logits / jnp.maximum(largest, 1e-6)
    norm = jnp.sqrt(jnp.square(scaled).sum(axis=-1, keepdims=True) + 1e-12)
    cosines = (scaled / norm) @ signs.T / jnp.sqrt(jnp.asarray(logits.shape[-1], logits.dtype))
    chosen = (shares > 0).astype(logits.dtype)
    return -(shares * jax.nn.log_softmax(scale * (cosines - margin * chosen), axis=-1)).sum(axis=-1)
