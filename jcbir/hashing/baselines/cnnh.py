"""CNNH: codes from a factorization of the similarity matrix first, a network that imitates them second."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jcbir.hashing.losses import central_similarity
from jcbir.typing import Array

_Progress = tuple[jax.Array, jax.Array, jax.Array]


def similarity_codes(
    key: jax.Array, similar: Bool[Array, "n n"], *, bits: int, rounds: int = 10
) -> Bool[jax.Array, "n k"]:
    """Stage 1: codes whose inner products imitate the similarity matrix, by coordinate descent.

    min over H in [-1, 1]^(n x K) of | S - (1/K) H H^T |_F^2 with S = +-1, one Newton step per entry in random order;
    a round that does not lower the objective is undone. A round is n K steps of O(n), in one scan: meant for `jax.jit`.

    Args:
        key: PRNG key.
        similar: which training images are similar, from `pairs.similar_pairs`.
        bits: code length K.
        rounds: passes over all entries.

    Returns:
        The signs of H.

    Example:
        >>> import jax, numpy as np
        >>> from jcbir.hashing.baselines.pairs import similar_pairs
        >>> codes = similarity_codes(jax.random.key(0), similar_pairs(np.array([0, 0, 1, 1])), bits=8, rounds=3)
        >>> bool((codes[0] == codes[1]).all()), bool((codes[0] == codes[2]).all())
        (True, False)

    References:
        Xia, Pan, Lai, Liu and Yan, Supervised Hashing for Image Retrieval via Image Representation Learning, AAAI 2014,
        eq. 2 to 8.
    """
    targets = jnp.where(jnp.asarray(similar), 1.0, -1.0).astype(jnp.float32)
    count = len(targets)
    first, order_key = jax.random.split(key)
    start = jax.random.uniform(first, (count, bits), minval=-1.0, maxval=1.0)

    def round_of(state: tuple[jax.Array, jax.Array], key: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        codes, best = state
        order = jax.random.permutation(key, count * bits)
        gram, reached = codes.T @ codes, targets @ codes
        (moved, _, _), _ = jax.lax.scan(partial(_descend, targets), (codes, gram, reached), order)
        objective = _misfit(moved, targets)
        better = objective < best
        return (jnp.where(better, moved, codes), jnp.where(better, objective, best)), None

    (codes, _), _ = jax.lax.scan(round_of, (start, _misfit(start, targets)), jax.random.split(order_key, rounds))
    return codes >= 0


def cnnh(logits: Float[Array, "*b k"], codes: Bool[Array, "*b k"]) -> Float[jax.Array, "*b"]:
    """Stage 2: the network predicts each bit of its image's stage 1 code, by cross-entropy.

    -(1/K) sum_k [ b_k log h_k + (1 - b_k) log(1 - h_k) ], h = sigmoid(2u): `losses.central_similarity` against learned
    codes. The article's second variant adds class outputs to the target; public ports use an absolute difference.

    Args:
        logits: outputs u of the hash head.
        codes: rows of `similarity_codes`.

    Returns:
        One loss an image, >= 0.

    Raises:
        ValueError: logits and codes differ in shape.

    Example:
        >>> import jax.numpy as jnp
        >>> cnnh(jnp.array([[30.0, 30.0]]), jnp.array([[True, False]])).tolist()
        [30.0]

    References:
        Xia, Pan, Lai, Liu and Yan, Supervised Hashing for Image Retrieval via Image Representation Learning, AAAI 2014,
        section 3.2.
    """
    return central_similarity(logits, codes)


def _misfit(codes: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.square(codes @ codes.T / codes.shape[-1] - targets).mean()


def _descend(targets: jax.Array, carry: _Progress, at: jax.Array) -> tuple[_Progress, None]:
    """One entry. With L = H H^T - K S, the row product L_i . H_j needs only H^T H and S H, both updated in O(n + K)."""
    codes, gram, reached = carry
    bits = codes.shape[-1]
    row, column = at // bits, at % bits
    entry = codes[row, column]
    slope = codes[row] @ gram[:, column] - bits * reached[row, column]
    diagonal = jnp.square(codes[row]).sum() - bits * targets[row, row]
    curvature = gram[column, column] + jnp.square(entry) + diagonal
    # Far from the minimum the curvature may be negative: then a Newton step climbs, and the bound is the descent.
    step = jnp.where(curvature > 0, -slope / jnp.maximum(curvature, 1e-6), -jnp.sign(slope) * 2.0)
    step = jnp.clip(step, -1.0 - entry, 1.0 - entry)
    change = step * codes[row]
    gram = gram.at[column].add(change).at[:, column].add(change).at[column, column].add(jnp.square(step))
    reached = reached.at[:, column].add(step * targets[:, row])
    return (codes.at[row, column].add(step), gram, reached), None
