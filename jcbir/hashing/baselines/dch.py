"""DCH: deep Cauchy hashing, a likelihood that insists on small Hamming distances between similar images."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jcbir.hashing.baselines.pairs import Labels, balance_weights, mean_over_others, similar_pairs
from jcbir.typing import Array


def dch(
    logits: Float[Array, "b k"], labels: Labels, *, gamma: float = 20.0, quantization_weight: float = 0.1
) -> Float[jax.Array, " b"]:
    """Cauchy cross-entropy of pair distances, and Cauchy quantization of each relaxed code h = tanh(u).

    mean_j w_ij [s_ij log(d_ij / gamma) + log(1 + gamma / d_ij)] + lambda log(1 + d(|h_i|, 1) / gamma),
    d_ij = (K/2) (1 - cos(h_i, h_j)).

    gamma = 20 is the default of the authors' code; its own quantization term is squared and has weight 0. The bracket
    is log(1 + d/gamma) for a similar pair, so only dissimilar pairs divide by d; 1 % of K/2 is added to their distance,
    where public code caps the cosine at 0.99 and so leaves collapsed codes without a gradient.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        gamma: scale of the Cauchy distribution, in bits.
        quantization_weight: lambda.

    Returns:
        One loss an image, >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> opposite = jnp.array([[9.0, 9.0], [-9.0, -9.0]])
        >>> [round(float(dch(opposite, jnp.array(labels))[0]), 3) for labels in ([0, 0], [0, 1])]
        [0.095, 2.393]

    References:
        Cao, Long, Liu and Wang, Deep Cauchy Hashing for Hamming Space Retrieval, CVPR 2018, eq. 6 to 9.
    """
    logits = jnp.asarray(logits)
    half = 0.5 * logits.shape[-1]
    relaxed = jnp.tanh(logits)
    direction = relaxed / _norm(relaxed)
    distances = half * jnp.maximum(1.0 - direction @ direction.T, 0.0)
    similar = similar_pairs(labels)
    far = distances + 0.01 * half
    pairs = jnp.where(similar, jnp.log1p(distances / gamma), jnp.log1p(gamma / far))
    to_ones = half * (1.0 - jnp.abs(direction).sum(axis=-1) / jnp.sqrt(2.0 * half))
    weighted = balance_weights(similar, dtype=logits.dtype) * pairs
    return mean_over_others(weighted) + quantization_weight * jnp.log1p(jnp.maximum(to_ones, 0.0) / gamma)


def _norm(rows: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.square(rows).sum(axis=-1, keepdims=True) + 1e-12)
