"""Hash centers: one target code per class, and the semantic center of an image with several labels.

Centers are configuration, made once on the host, so these functions are NumPy and return `bool` arrays; only
`semantic`, which belongs to a batch, is JAX. A center table is fixed before training and should be saved with the
model, like its tie vector.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Integer

from jcbir.typing import Array

# Rejection of duplicate rows converges geometrically unless nearly every balanced row is asked for.
_REDRAWS = 200


def hadamard(classes: int, bits: int) -> Bool[np.ndarray, "c k"]:
    """Rows of the Sylvester-Hadamard matrix, and of its negation once they run out.

    H_2Q = H_2 (x) H_Q with H_2 = [[1, 1], [1, -1]] and (x) the Kronecker product; classes <= Q take rows of H_Q,
    Q < classes <= 2Q rows of [H_Q; -H_Q]. Entry +1 is bit 1. Two rows differ in Q/2 bits, a row and its negation in Q.

    Args:
        classes: number of centers, 1 to 2 * bits.
        bits: code length Q, a power of two.

    Returns:
        Boolean centers, one row per class.

    Raises:
        ValueError: bits is no power of two, or there are more classes than the 2 * bits rows.

    Example:
        >>> hadamard(3, 4).astype(int)
        array([[1, 1, 1, 1],
               [1, 0, 1, 0],
               [1, 1, 0, 0]])

    References:
        Yuan et al., Central Similarity Quantization for Efficient Image and Video Retrieval, CVPR 2020, section 3.2.
        Wang et al., Secure Content Based Image Retrieval Scheme, CMC 75(3), 2023, eq. 1.
    """
    if bits < 1 or bits & (bits - 1):
        raise ValueError(f"bits must be a power of two for Hadamard centers, got {bits}")
    if not 1 <= classes <= 2 * bits:
        raise ValueError(f"classes must be between 1 and 2 * bits = {2 * bits} for Hadamard centers, got {classes}")
    matrix = np.ones((1, 1), np.int8)
    while len(matrix) < bits:
        matrix = np.kron(np.array([[1, 1], [1, -1]], np.int8), matrix)
    return np.concatenate([matrix, -matrix])[:classes] > 0


def bernoulli(key: jax.Array, classes: int, *, bits: int) -> Bool[np.ndarray, "c k"]:
    """Distinct random rows with exactly half of the bits set.

    Each row is uniform among the C(Q, Q/2) balanced rows, so two rows differ in Q/2 bits on average. The published code
    draws balanced rows where the article samples Bern(0.5) bit by bit; balance keeps every center at distance Q/2 from
    all-zeros.

    Args:
        key: PRNG key.
        classes: number of centers.
        bits: code length Q, even.

    Returns:
        Boolean centers, one row per class, all different.

    Raises:
        ValueError: bits is odd, or there are more classes than balanced rows.

    Example:
        >>> import jax
        >>> bernoulli(jax.random.key(0), 5, bits=12).sum(axis=1)
        array([6, 6, 6, 6, 6])

    References:
        Yuan et al., Central Similarity Quantization for Efficient Image and Video Retrieval, CVPR 2020, algorithm 1.
    """
    if bits < 2 or bits % 2:
        raise ValueError(f"bits must be even for balanced centers, got {bits}")
    if not 1 <= classes <= math.comb(bits, bits // 2):
        bound = math.comb(bits, bits // 2)
        raise ValueError(f"classes must be between 1 and C(bits, bits/2) = {bound} balanced rows, got {classes}")
    if classes > 0.9 * math.comb(bits, bits // 2):
        return _all_balanced(key, bits)[:classes]
    rows = np.zeros((0, bits), bool)
    for draw in range(_REDRAWS):
        ranks = np.argsort(np.asarray(jax.random.uniform(jax.random.fold_in(key, draw), (classes, bits))), axis=1)
        rows = distinct(np.concatenate([rows, ranks < bits // 2]))
        if len(rows) >= classes:
            break
    return rows[:classes]


def hash_centers(key: jax.Array, classes: int, *, bits: int) -> Bool[np.ndarray, "c k"]:
    """The paper's rule: Hadamard rows while they last, otherwise random balanced rows.

    classes <= Q: rows of H_Q; Q < classes <= 2Q: rows of [H_Q; -H_Q]; otherwise, or when Q is no power of two,
    `bernoulli`. `jcbir.hashing._separated.separated_centers` keeps the first two cases and does better than random in
    the third.

    Args:
        key: PRNG key, used by the random case alone.
        classes: number of centers.
        bits: code length Q.

    Returns:
        Boolean centers, one row per class.

    Raises:
        ValueError: more classes than codes of this kind.

    Example:
        >>> import jax
        >>> hash_centers(jax.random.key(0), 21, bits=16).shape
        (21, 16)

    References:
        Wang et al., Secure Content Based Image Retrieval Scheme, CMC 75(3), 2023, section 4.2 step 1.
    """
    if bits & (bits - 1) == 0 and classes <= 2 * bits:
        return hadamard(classes, bits)
    return bernoulli(key, classes, bits=bits)


def semantic(
    labels: Bool[Array, "*b c"],
    centers: Bool[Array, "c k"],
    *,
    ties: Bool[Array, " k"] | None = None,
    weights: Float[Array, " c"] | None = None,
) -> Bool[jax.Array, "*b k"]:
    """The semantic center of each label row: the majority of its classes' centers, bit by bit.

    bit_k = [sum_c w_c y_c (2 m_ck - 1) > 0], and `ties[k]` where the sum is 0. A row with one label gets that
    class's center; a row without a label is a tie in every bit, so it gets `ties` itself. With equal weights two rows
    that share one label of four are hardly closer than two that share none; weights that grow with the frequency of a
    class bring the rows of a common class together. `jcbir.hashing._label_codes` does better where bits <= classes.

    Args:
        labels: multi-hot rows.
        centers: one center per class.
        ties: the bits that decide ties, one vector for the whole collection, to be saved with the centers (the
            article samples fresh bits, with which no two runs agree). Default: alternating 1, 0, 1, 0.
        weights: votes of the classes, e.g. the root of how many training rows have them; 0 leaves a class out. All 1 by
            default.

    Returns:
        Boolean semantic centers, one per label row.

    Raises:
        ValueError: labels and centers disagree about the number of classes, ties and centers about the bits, or weights
            and centers about the classes.

    Example:
        >>> import numpy as np
        >>> table = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], bool)
        >>> semantic(np.array([[1, 1], [0, 1], [0, 0]], bool), table, ties=np.array([0, 0, 0, 1], bool)).astype(int)
        Array([[1, 0, 0, 0],
               [1, 0, 1, 0],
               [0, 0, 0, 1]], dtype=int32)

    References:
        Yuan et al., Central Similarity Quantization for Efficient Image and Video Retrieval, CVPR 2020, section 3.2.
    """
    classes, bits = centers.shape
    if labels.shape[-1] != classes:
        raise ValueError(f"labels must have {classes} columns, one per center, got shape {labels.shape}")
    settled = jnp.arange(bits) % 2 == 0 if ties is None else jnp.asarray(ties)
    if settled.shape != (bits,):
        raise ValueError(f"ties must have shape ({bits},), one bit per column of centers, got {settled.shape}")
    signs = jnp.where(jnp.asarray(centers), 1.0, -1.0).astype(jnp.float32)
    if weights is not None:
        if np.shape(weights) != (classes,):
            raise ValueError(f"weights must have shape ({classes},), one a center, got {np.shape(weights)}")
        signs = signs * jnp.asarray(weights, jnp.float32)[:, None]
    votes = jnp.asarray(labels).astype(jnp.float32) @ signs
    return jnp.where(votes == 0, jnp.broadcast_to(settled, votes.shape), votes > 0)


def one_hot(labels: Integer[Array, "*b"], *, classes: int) -> Bool[jax.Array, "*b c"]:
    """Class numbers as multi-hot rows; a number outside 0 to classes - 1 gives a row without a label.

    Args:
        labels: class numbers.
        classes: number of classes.

    Returns:
        Boolean rows with at most one entry set.

    Example:
        >>> import numpy as np
        >>> one_hot(np.array([1, -1]), classes=3).astype(int)
        Array([[0, 1, 0],
               [0, 0, 0]], dtype=int32)
    """
    labels = jnp.asarray(labels)
    return labels[..., None] == jnp.broadcast_to(jnp.arange(classes, dtype=labels.dtype), (*labels.shape, classes))


def distinct(centers: Bool[np.ndarray, "c k"]) -> Bool[np.ndarray, "d k"]:
    """The rows without repetition, in the order of first appearance.

    Args:
        centers: boolean rows.

    Returns:
        The different rows.

    Example:
        >>> import numpy as np
        >>> distinct(np.array([[1, 0], [1, 0], [0, 1]], bool)).shape
        (2, 2)
    """
    _, first = np.unique(np.packbits(centers, axis=1), axis=0, return_index=True)
    return centers[np.sort(first)]


def _all_balanced(key: jax.Array, bits: int) -> np.ndarray:
    """Every balanced row, shuffled: only asked for when nearly all of them are wanted, so bits is small."""
    numbers = np.arange(1 << bits, dtype=np.int64)
    rows = (numbers[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = rows[rows.sum(axis=1) == bits // 2].astype(bool)
    return rows[np.asarray(jax.random.permutation(key, len(rows)))]
