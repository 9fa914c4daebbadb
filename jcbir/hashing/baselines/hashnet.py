"""HashNet: weighted pairwise likelihood whose tanh grows into a sign while training goes on."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer

from jcbir.hashing.baselines.pairs import Labels, balance_weights, mean_over_others, pair_likelihood, similar_pairs
from jcbir.typing import Array


def hashnet(
    logits: Float[Array, "b k"],
    labels: Labels,
    *,
    scale: float | Float[Array, ""] = 1.0,
    sharpness: float | None = None,
) -> Float[jax.Array, " b"]:
    """Balanced pairwise likelihood of inner products of tanh(beta u); no quantization term.

    mean_j w_ij [log(1 + e^t_ij) - s_ij t_ij] with t_ij = alpha tanh(beta u_i) . tanh(beta u_j), w_ij of
    `balance_weights`.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        scale: beta, from `continuation(state.step)` in a training step.
        sharpness: alpha; default 10 / K, the authors' setting for K bits.

    Returns:
        One loss an image, >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(hashnet(jnp.array([[2.0, 2.0], [-2.0, 2.0]]), jnp.array([0, 1]), scale=3.0)[0]), 3)
        0.693

    References:
        Cao, Long, Wang and Yu, HashNet: Deep Learning to Hash by Continuation, ICCV 2017, eq. 4 and algorithm 1.
    """
    logits = jnp.asarray(logits)
    relaxed = jnp.tanh(scale * logits)
    alpha = 10.0 / logits.shape[-1] if sharpness is None else sharpness
    similar = similar_pairs(labels)
    pairs = pair_likelihood(alpha * (relaxed @ relaxed.T), similar)
    return mean_over_others(balance_weights(similar, dtype=logits.dtype) * pairs)


def continuation(
    step: int | Integer[Array, ""], *, growth: float = 0.005, power: float = 0.5, every: int = 200
) -> Float[jax.Array, ""]:
    """The scale beta of the tanh, which grows in stages: beta = (1 + growth t)^power, t the last multiple of `every`.

    The defaults are those of the authors' PyTorch code.

    Args:
        step: training steps taken so far.
        growth: per step.
        power: exponent.
        every: steps per stage.

    Returns:
        beta, 1 in the first stage.

    Example:
        >>> [round(float(continuation(step)), 3) for step in (0, 199, 200, 10_000)]
        [1.0, 1.0, 1.414, 7.141]

    References:
        Cao, Long, Wang and Yu, HashNet: Deep Learning to Hash by Continuation, ICCV 2017, section 3.3.
    """
    stage = jnp.asarray(step, jnp.int32) // every * every
    return (1.0 + growth * stage.astype(jnp.float32)) ** power
