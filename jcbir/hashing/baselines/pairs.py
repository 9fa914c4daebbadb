"""What the pairwise and triplet losses share: which images of a batch are similar, and averages over the others.

An image is not a pair with itself, so a batch of one has no pairs and only its quantization term is left.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer

from jcbir.typing import Array

Labels = Integer[Array, " b"] | Bool[Array, "b c"]
"""One class number an image, or one multi-hot row an image."""


def similar_pairs(labels: Labels) -> Bool[jax.Array, "b b"]:
    """Whether two images share a label: s_ij = [y_i . y_j > 0]; a row without labels is similar to nothing.

    Args:
        labels: class numbers, or multi-hot rows.

    Returns:
        A symmetric matrix; its diagonal says whether the image has a label.

    Example:
        >>> import numpy as np
        >>> similar_pairs(np.array([1, 0, 1])).astype(int).tolist()
        [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
        >>> similar_pairs(np.array([[1, 1], [0, 1], [0, 0]], bool)).astype(int).tolist()
        [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    """
    labels = jnp.asarray(labels)
    if labels.ndim == 1:
        return labels[:, None] == labels[None, :]
    rows = labels.astype(jnp.float32)
    return rows @ rows.T > 0


def mean_over_others(values: Float[Array, "b b"]) -> Float[jax.Array, " b"]:
    """Mean of each row without its diagonal entry; 0 for a batch of one.

    Args:
        values: one number for each ordered pair.

    Returns:
        One mean an image; their mean is the mean over all pairs of different images.

    Example:
        >>> import jax.numpy as jnp
        >>> mean_over_others(jnp.array([[9.0, 1.0, 3.0], [1.0, 9.0, 5.0], [3.0, 5.0, 9.0]]))
        Array([2., 3., 4.], dtype=float32)
    """
    count = len(values)
    others = ~jnp.eye(count, dtype=bool)
    return jnp.where(others, values, 0.0).sum(axis=-1) / max(count - 1, 1)


def balance_weights(similar: Bool[Array, "b b"], *, dtype: jnp.dtype = jnp.float32) -> Float[jax.Array, "b b"]:
    """Weights that give similar and dissimilar pairs of a batch the same say.

    w_ij = |S| / |S_1| for a similar pair and |S| / |S_0| for a dissimilar one, counted over pairs of different images.

    Args:
        similar: which pairs are similar.
        dtype: of the weights.

    Returns:
        One weight a pair, at least 1.

    Example:
        >>> import numpy as np
        >>> balance_weights(similar_pairs(np.array([0, 0, 1]))).tolist()
        [[3.0, 3.0, 1.5], [3.0, 3.0, 1.5], [1.5, 1.5, 3.0]]

    References:
        Cao, Long, Wang and Yu, HashNet: Deep Learning to Hash by Continuation, ICCV 2017, eq. 2.
    """
    others = ~jnp.eye(len(similar), dtype=bool)
    near = (similar & others).sum().astype(dtype)
    far = (~similar & others).sum().astype(dtype)
    whole = near + far
    return jnp.where(similar, whole / jnp.maximum(near, 1), whole / jnp.maximum(far, 1))


def pair_likelihood(products: Float[Array, "b b"], similar: Bool[Array, "b b"]) -> Float[jax.Array, "b b"]:
    """Negative log-likelihood of the similarity labels when P(similar) = sigmoid(product).

    log(1 + exp(t)) - s t, as softplus(-t) for a similar pair and softplus(t) for a dissimilar one.

    Args:
        products: scaled inner products t.
        similar: which pairs are similar.

    Returns:
        One loss a pair, >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> pair_likelihood(jnp.array([[50.0]]), jnp.array([[False]]))
        Array([[50.]], dtype=float32)
    """
    return jax.nn.softplus(jnp.where(jnp.asarray(similar), -products, products))


def label_shares(labels: Labels, *, classes: int) -> Float[jax.Array, "b c"]:
    """Labels as a distribution over the classes: 1 / |y| for each label of the image, all 0 without one.

    Args:
        labels: class numbers, or multi-hot rows.
        classes: number of classes.

    Returns:
        Rows that sum to 1, or to 0 for an image without a label.

    Raises:
        ValueError: multi-hot rows of another number of classes.

    Example:
        >>> import numpy as np
        >>> label_shares(np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool), classes=4).tolist()
        [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    labels = jnp.asarray(labels)
    if labels.ndim == 1:
        return jax.nn.one_hot(labels, classes, dtype=jnp.float32)
    if labels.shape[-1] != classes:
        raise ValueError(f"labels must have {classes} columns, got {labels.shape[-1]}")
    rows = labels.astype(jnp.float32)
    return rows / jnp.maximum(rows.sum(axis=-1, keepdims=True), 1.0)
