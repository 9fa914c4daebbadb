"""GreedyHash: classification of exact signs, whose gradient passes straight through."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jcbir.hashing.baselines.pairs import Labels, label_shares
from jcbir.typing import Array


def greedyhash(
    logits: Float[Array, "b k"], class_logits: Float[Array, "b c"], labels: Labels, *, penalty: float = 0.1
) -> Float[jax.Array, " b"]:
    """Cross-entropy of a linear classifier on sign codes, plus the cubed distance of the outputs to their signs.

    CE(W sign(u_i), y_i) + alpha (1/K) sum_k | |u_ik| - 1 |^3.

    The classifier belongs to the network: class_logits = straight_through(logits) @ W. alpha is 0.1 in the authors'
    CIFAR-10 code and 1 in their ImageNet code. Several labels share the target equally.

    Args:
        logits: outputs u of the hash head.
        class_logits: the classifier's scores of the codes.
        labels: class numbers or multi-hot rows.
        penalty: alpha.

    Returns:
        One loss an image, >= 0; an image without a label keeps the penalty.

    Example:
        >>> import jax.numpy as jnp
        >>> codes = jnp.ones((1, 4))
        >>> round(float(greedyhash(codes, jnp.array([[0.0, 0.0]]), jnp.array([1]))[0]), 3)
        0.693

    References:
        Su, Zhang, Han and Tian, Greedy Hash: Towards Fast Optimization for Accurate Hash Coding in CNN, NeurIPS 2018,
        eq. 3 and 8.
    """
    shares = label_shares(labels, classes=class_logits.shape[-1]).astype(class_logits.dtype)
    entropy = -(shares * jax.nn.log_softmax(class_logits, axis=-1)).sum(axis=-1)
    distance = jnp.abs(jnp.abs(logits) - 1.0)
    return entropy + penalty * (distance * distance * distance).mean(axis=-1)


def straight_through(logits: Float[Array, "*b k"]) -> Float[jax.Array, "*b k"]:
    """Signs with the gradient of the identity: +1 where the logit is >= 0, else -1.

    Args:
        logits: outputs u of the hash head.

    Returns:
        Values +1 and -1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> straight_through(jnp.array([0.3, -2.0, 0.0]))
        Array([ 1., -1.,  1.], dtype=float32)
        >>> jax.grad(lambda u: straight_through(u).sum())(jnp.array([0.3, -2.0]))
        Array([1., 1.], dtype=float32)

    References:
        Su, Zhang, Han and Tian, Greedy Hash, NeurIPS 2018, eq. 6 and 7.
    """
    logits = jnp.asarray(logits)
    signs = jnp.where(logits >= 0, 1.0, -1.0).astype(logits.dtype)
    return jax.lax.stop_gradient(signs) + (logits - jax.lax.stop_gradient(logits))
