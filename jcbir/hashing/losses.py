"""Central similarity quantization: the losses of the paper, on logits and unreduced.

The articles write h = (tanh(u) + 1) / 2 in [0, 1]. That is sigmoid(2u), so the cross-entropy of h against a center is
the usual stable cross-entropy of the logit 2u, and |2h - 1| - 1 = |tanh(u)| - 1 = -2 sigmoid(-2|u|) without
cancellation. Every function returns one number per code; the caller weighs, masks and averages.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jcbir.typing import Array


def central_similarity(logits: Float[Array, "*b k"], targets: Bool[Array, "*b k"]) -> Float[jax.Array, "*b"]:
    """Cross-entropy between a relaxed code and its hash center, averaged over the bits.

    L_C = -(1/K) sum_k [ c_k log h_k + (1 - c_k) log(1 - h_k) ], h = sigmoid(2u).

    Args:
        logits: outputs u of the hash head.
        targets: the hash center or semantic center of each row.

    Returns:
        One loss per row, >= 0, in nats per bit.

    Raises:
        ValueError: logits and targets differ in shape.

    Example:
        >>> import jax.numpy as jnp
        >>> float(central_similarity(jnp.array([20.0, -20.0]), jnp.array([True, True])))
        20.0

    References:
        Yuan et al., Central Similarity Quantization, CVPR 2020, eq. 4. Wang et al., CMC 75(3), 2023, eq. 3.
    """
    if logits.shape != targets.shape:
        raise ValueError(f"targets must have the shape of logits {logits.shape}, got {targets.shape}")
    # log(1 + exp(x)) with x = 2u for a 0 bit and -2u for a 1 bit: no logarithm of a rounded probability.
    return jax.nn.softplus(2.0 * jnp.where(jnp.asarray(targets), -logits, logits)).mean(axis=-1)


def quantization_paper(logits: Float[Array, "*b k"]) -> Float[jax.Array, "*b"]:
    """The paper's smooth quantization loss, summed over the bits.

    L_Q = sum_k log cosh(|2 h_k - 1| - 1), h = sigmoid(2u).

    Args:
        logits: outputs u of the hash head.

    Returns:
        One loss per row, 0 to K log cosh(1).

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(quantization_paper(jnp.array([0.0, 1e4]))), 4)
        0.4338

    References:
        Yuan et al., Central Similarity Quantization, CVPR 2020, eq. 5. Wang et al., CMC 75(3), 2023, eq. 4.
    """
    # log cosh x = log(1 + 2 sinh^2(x/2)) keeps the x^2/2 of small x that a difference of logarithms rounds away.
    return jnp.log1p(2.0 * jnp.square(jnp.sinh(0.5 * shortfall(logits)))).sum(axis=-1)


def quantization_official(logits: Float[Array, "*b k"]) -> Float[jax.Array, "*b"]:
    """The quantization loss of the published CSQ code, averaged over the bits.

    L_Q = (1/K) sum_k (|tanh u_k| - 1)^2: near +-1 twice the paper's loss per bit, but a mean.

    Args:
        logits: outputs u of the hash head.

    Returns:
        One loss per row, 0 to 1.

    Example:
        >>> import jax.numpy as jnp
        >>> quantization_official(jnp.array([0.0, 1e4]))
        Array(0.5, dtype=float32)

    References:
        Yuan et al., code of Central Similarity Quantization (Hadamard-Matrix-for-hashing), 2020.
    """
    return jnp.square(shortfall(logits)).mean(axis=-1)


def csq(
    logits: Float[Array, "*b k"],
    targets: Bool[Array, "*b k"],
    *,
    quantization_weight: float = 0.05,
    quantizer: Callable[[Float[Array, "*b k"]], Float[jax.Array, "*b"]] = quantization_official,
) -> Float[jax.Array, "*b"]:
    """The loss the paper trains with: central similarity plus weighted quantization.

    L_T = L_C + lambda L_Q. The weight 0.05 is the one of the published code for ResNet50 and belongs to
    `quantization_official`; the paper does not print its own. With `quantization_paper`, which sums over the bits,
    0.1 / K is of the same strength.

    Args:
        logits: outputs u of the hash head.
        targets: the hash center or semantic center of each row.
        quantization_weight: lambda, >= 0.
        quantizer: `quantization_official` or `quantization_paper`.

    Returns:
        One loss per row, >= 0.

    Raises:
        ValueError: logits and targets differ in shape.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(csq(jnp.zeros(4), jnp.ones(4, bool))), 4)
        0.7431

    References:
        Wang et al., CMC 75(3), 2023, eq. 5.
    """
    return central_similarity(logits, targets) + quantization_weight * quantizer(logits)


def shortfall(logits: Float[Array, "*b k"]) -> Float[jax.Array, "*b k"]:
    """How far each relaxed bit is from a full one: |tanh u| - 1.

    Args:
        logits: outputs u of the hash head.

    Returns:
        Values in [-1, 0].

    Example:
        >>> import jax.numpy as jnp
        >>> shortfall(jnp.array([0.0, 1e4]))
        Array([-1., -0.], dtype=float32)
    """
    return -2.0 * jax.nn.sigmoid(-2.0 * jnp.abs(logits))
