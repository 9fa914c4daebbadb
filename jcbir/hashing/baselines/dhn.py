"""DHN: deep hashing network, pairwise likelihood of tanh outputs with the smooth quantization loss."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jcbir.hashing.baselines.pairs import Labels, mean_over_others, pair_likelihood, similar_pairs
from jcbir.hashing.losses import quantization_paper
from jcbir.typing import Array


def dhn(logits: Float[Array, "b k"], labels: Labels, *, quantization_weight: float = 0.1) -> Float[jax.Array, " b"]:
    """Pairwise likelihood of inner products of z = tanh(u), plus log cosh(|z| - 1).

    mean_j [log(1 + e^t_ij) - s_ij t_ij] + lambda (1/K) sum_k log cosh(|z_ik| - 1) with t_ij = z_i . z_j / 2.

    The factor 1/2 is `alpha` of the authors' code (default 0.5). The code leaves lambda to the caller and squares
    |z| - 1 instead; the weight here is for the mean over the bits.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        quantization_weight: lambda.

    Returns:
        One loss an image, >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(dhn(jnp.array([[9.0, 9.0], [9.0, 9.0]]), jnp.array([0, 0]))[0]), 3)
        0.313

    References:
        Zhu, Long, Wang and Cao, Deep Hashing Network for Efficient Similarity Retrieval, AAAI 2016, eq. 5 and 6.
    """
    logits = jnp.asarray(logits)
    relaxed = jnp.tanh(logits)
    pairs = pair_likelihood(0.5 * (relaxed @ relaxed.T), similar_pairs(labels))
    return mean_over_others(pairs) + quantization_weight * quantization_paper(logits) / logits.shape[-1]
