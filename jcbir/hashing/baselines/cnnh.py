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

    min over H in [-1, 1]^(n x K) of | S - (1/K) H H^T |_F^2 with S = +-1, one Newton step per entry, bits and images in
    random order; a round that does not lower the objective is undone. Meant for `jax.jit`: n K steps of O(n) a round.

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
        bit_key, image_key = jax.random.split(key)
        order = jax.random.permutation(image_key, count)
        descend = partial(_descend, targets, order)
        start = (codes, codes.T @ codes, codes.T @ targets)
        (moved, _, _), _ = jax.lax.scan(descend, start, jax.random.permutation(bit_key, bits))
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


def _descend(targets: jax.Array, order: jax.Array, carry: _Progress, column: jax.Array) -> tuple[_Progress, None]:
    """One bit of every image. With L = H H^T - K S, the product L_i . H_j needs only H^T H and H^T S.

    While bit j moves, only row j of both changes: O(n + K) an image.
    """
    codes, gram, reached = carry
    bits = codes.shape[-1]

    def entry(inner: tuple[jax.Array, jax.Array], row: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        products, sums = inner
        code = codes[row]
        now = code[column]
        slope = code @ products - bits * sums[row]
        curvature = products[column] + jnp.square(now) + jnp.square(code).sum() - bits * targets[row, row]
        # Far from the minimum the curvature may be negative: a Newton step would climb, and the bound is the descent.
        step = jnp.where(curvature > 0, -slope / jnp.maximum(curvature, 1e-6), -jnp.sign(slope) * 2.0)
        step = jnp.clip(step, -1.0 - now, 1.0 - now)
        products = (products + step * code).at[column].add(step * now + jnp.square(step))
        # S is symmetric: its row stands for its column, and is contiguous.
        return (products, sums + step * targets[row]), step

    (products, sums), steps = jax.lax.scan(entry, (gram[column], reached[column]), order)
    codes = codes.at[order, column].add(steps)
    return (codes, gram.at[column].set(products).at[:, column].set(products), reached.at[column].set(sums)), None
