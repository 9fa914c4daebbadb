"""DPSH: deep pairwise-supervised hashing, the likelihood of pair labels on the raw outputs."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jcbir.hashing.baselines.pairs import Labels, mean_over_others, pair_likelihood, similar_pairs
from jcbir.typing import Array


def dpsh(logits: Float[Array, "b k"], labels: Labels, *, quantization_weight: float = 0.1) -> Float[jax.Array, " b"]:
    """Pairwise likelihood of inner products, and the squared distance of the outputs to their signs.

    mean_j [log(1 + e^t_ij) - s_ij t_ij] + eta (1/K) |sign(u_i) - u_i|^2 with t_ij = u_i . u_j / 2.

    The article sums over all training pairs, with eta = 10 to 100 (50 in public ports of the authors' code); a mean
    over the pairs of a batch and over the bits needs the 0.1 of the widely used PyTorch collection.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        quantization_weight: eta.

    Returns:
        One loss an image, >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(dpsh(jnp.array([[3.0, 3.0], [-3.0, -3.0]]), jnp.array([0, 1]))[0]), 3)
        0.4

    References:
        Li, Wang and Kang, Feature Learning based Deep Supervised Hashing with Pairwise Labels, IJCAI 2016, eq. 1 and 5.
    """
    logits = jnp.asarray(logits)
    pairs = pair_likelihood(0.5 * (logits @ logits.T), similar_pairs(labels))
    return mean_over_others(pairs) + quantization_weight * jnp.square(jnp.abs(logits) - 1.0).mean(axis=-1)
