"""Losses against codes that were learned before, or beside, the network: CNNH and ADSH."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Float, Integer

from jcbir.hashing.losses._central import central_similarity
from jcbir.hashing.losses._pairs import Labels, check_batch, check_labels, check_logits, check_rows, label_rows
from jcbir.typing import Array, check_array, check_finite, check_real, check_whole

_Progress = tuple[jax.Array, jax.Array, jax.Array]


def similarity_codes(
    key: jax.Array, similar: Bool[Array, "n n"], *, bits: int, rounds: int = 10
) -> Bool[jax.Array, "n k"]:
    """Stage 1: codes whose inner products imitate the similarity matrix, by coordinate descent.

    min over H in [-1, 1]^(n x K) of | S - (1/K) H H^T |_F^2 with S = +-1, one Newton step per entry, bits and images in
    random order; a round that does not lower the objective is undone. Meant for `jax.jit`: n K steps of O(n) a round.

    Args:
        key: PRNG key.
        similar: which training images are similar, from `similar_pairs`.
        bits: code length K.
        rounds: passes over all entries.

    Returns:
        The signs of H.

    Raises:
        ValueError: no square matrix of booleans, or no bits, or fewer than 0 rounds.

    Example:
        >>> import jax, numpy as np
        >>> from jcbir.hashing.losses import similar_pairs
        >>> fit = jax.jit(similarity_codes, static_argnames=("bits", "rounds"))
        >>> codes = np.asarray(fit(jax.random.key(0), similar_pairs(np.array([0, 0, 1, 1])), bits=8, rounds=3))
        >>> bool((codes[0] == codes[1]).all()), bool((codes[0] == codes[2]).all())
        (True, False)

    References:
        Xia, Pan, Lai, Liu and Yan, Supervised Hashing for Image Retrieval via Image Representation Learning, AAAI 2014,
        eq. 2 to 8.
    """
    check_array("similar", similar, kind="booleans", form="[n, n]", rank=2)
    if len(similar) != similar.shape[1]:
        raise ValueError(f"similar: must be a square, got shape {list(similar.shape)}")
    bits, rounds = check_whole("bits", bits, low=1), check_whole("rounds", rounds, low=0)
    targets = jnp.where(jnp.asarray(similar), 1.0, -1.0).astype(jnp.float32)
    count = len(targets)
    first, order_key = jax.random.split(key)
    start = jax.random.uniform(first, (count, bits), jnp.float32, minval=-1.0, maxval=1.0)

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


def cnnh(logits: Float[Array, "*b k"], codes: Bool[Array, "*b k"], *, squared: bool = False) -> Float[jax.Array, "*b"]:
    """Stage 2: the network predicts each bit of its image's stage 1 code, by cross-entropy.

    -(1/K) sum_k [ b_k log h_k + (1 - b_k) log(1 - h_k) ], h = sigmoid(2u): `central_similarity` against learned codes.
    The article's second variant adds class outputs to the target; DeepHash-pytorch has (1/K) |u - (2b - 1)|^2.

    Args:
        logits: outputs u of the hash head.
        codes: rows of `similarity_codes`.
        squared: the squared distance of the outputs themselves instead of the cross-entropy.

    Returns:
        One loss an image, >= 0.

    Raises:
        ValueError: codes that are not booleans, or of another shape than logits.

    Example:
        >>> import jax.numpy as jnp
        >>> cnnh(jnp.array([[30.0, 30.0]]), jnp.array([[True, False]])).tolist()
        [30.0]

    References:
        Xia, Pan, Lai, Liu and Yan, Supervised Hashing for Image Retrieval via Image Representation Learning, AAAI 2014,
        section 3.2.
    """
    if not squared:
        return central_similarity(logits, codes)
    check_array("logits", logits, kind="floats", form="[..., k]")
    check_array("codes", codes, kind="booleans", form="[..., k]")
    signs = jnp.where(jnp.asarray(codes), 1.0, -1.0).astype(logits.dtype)
    return jnp.square(logits - signs).mean(axis=-1)


def adsh(
    logits: Float[Array, "b k"],
    labels: Labels,
    signs: Float[Array, "n k"],
    database_labels: Bool[Array, "n c"],
    rows: Integer[Array, " b"],
    *,
    quantization_weight: float = 200.0,
) -> Float[jax.Array, " b"]:
    """Asymmetric hashing: inner products with the database's own codes imitate the similarity.

    (1/n) [ sum_j (z_i . v_j - K s_ij)^2 + gamma |v_i - z_i|^2 ], z = tanh(u), s_ij = 1 or -r with r the ratio of
    similar to dissimilar pairs of the batch. The database's codes v come from `adsh_codes`, between rounds of training;
    both belong to the memory of the training state.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        signs: codes v of the database as -1 and +1; 0 before the first `adsh_codes`.
        database_labels: multi-hot rows of the database.
        rows: the number of each image of the batch in the database.
        quantization_weight: gamma, at least 0.

    Returns:
        One loss an image, >= 0.

    Raises:
        ValueError: labels that are neither class numbers nor boolean rows of as many classes as the database's, or a
            weight out of range; outside a compiled program, signs of other values, or rows that the database does not
            have.

    Example:
        >>> import jax.numpy as jnp
        >>> signs, labels = jnp.array([[1.0, 1.0], [-1.0, -1.0]]), jnp.array([[True, False], [False, True]])
        >>> adsh(jnp.array([[9.0, 9.0]]), labels[:1], signs, labels, jnp.array([0])).round(4).tolist()
        [0.0]

    References:
        Jiang and Li, Asymmetric Deep Supervised Hashing, AAAI 2018, eq. 2.
    """
    check_real("quantization_weight", quantization_weight)
    _check_database(signs, database_labels, bits=logits.shape[-1] if getattr(logits, "ndim", 0) == 2 else None)
    flaw = check_batch(logits, labels, classes=database_labels.shape[1])
    check_rows(rows, images=len(signs))
    if len(rows) != len(logits):
        raise ValueError(f"rows: must be {len(logits)} as logits are, got {len(rows)}")
    relaxed, signs = jnp.tanh(logits), jnp.asarray(signs)
    wanted = _asymmetric(labels, database_labels).astype(relaxed.dtype)
    # Inside a compiled step, where nobody can look at a row, one that the database does not have gets NaN.
    own = signs.at[rows].get(mode="fill", fill_value=jnp.nan)
    squares = jnp.square(relaxed @ signs.T - logits.shape[-1] * wanted).sum(axis=-1)
    return (squares + quantization_weight * jnp.square(own - relaxed).sum(axis=-1)) / len(signs) + flaw


def adsh_codes(
    signs: Float[Array, "n k"],
    outputs: Float[Array, "m k"],
    labels: Labels,
    database_labels: Bool[Array, "n c"],
    rows: Integer[Array, " m"],
    *,
    quantization_weight: float = 200.0,
) -> Float[jax.Array, "n k"]:
    """The database's codes for the outputs of the sampled images: one pass over the bits, each solved exactly.

    v_k = -sign(2 V' Z'^T z_k + q_k) with Q = -2 K S^T Z - 2 gamma Z_bar, a prime for "without bit k".

    Args:
        signs: codes v before, -1 and +1, or 0 at the start.
        outputs: tanh(u) of the m sampled images.
        labels: their class numbers or multi-hot rows.
        database_labels: multi-hot rows of the database.
        rows: the number of each sampled image in the database.
        quantization_weight: gamma, at least 0.

    Returns:
        Codes of the database, -1 and +1.

    Raises:
        ValueError: labels that are neither class numbers nor boolean rows of as many classes as the database's, or a
            weight out of range; outside a compiled program, signs of other values, outputs that are not finite, or rows
            that the database does not have.

    Example:
        >>> import jax.numpy as jnp
        >>> labels = jnp.array([[True, False], [False, True], [True, False]])
        >>> outputs = jnp.array([[0.9, 0.8], [-0.7, -0.9]])
        >>> adsh_codes(jnp.zeros((3, 2)), outputs, labels[:2], labels, jnp.array([0, 1])).tolist()
        [[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0]]

    References:
        Jiang and Li, Asymmetric Deep Supervised Hashing, AAAI 2018, eq. 10.
    """
    check_real("quantization_weight", quantization_weight)
    check_logits(outputs, name="outputs")
    check_finite("outputs", outputs)
    _check_database(signs, database_labels, bits=outputs.shape[1])
    check_rows(rows, images=len(signs))
    check_labels(labels, classes=database_labels.shape[1])
    if not len(rows) == len(labels) == len(outputs):
        raise ValueError(f"rows: must be {len(outputs)} as outputs and labels are, got {len(rows)}, {len(labels)}")
    signs, outputs = jnp.asarray(signs), jnp.asarray(outputs)
    bits = signs.shape[1]
    wanted = _asymmetric(labels, database_labels).astype(outputs.dtype)
    whole = jnp.zeros_like(signs).at[rows].set(outputs)
    linear = -2.0 * bits * (wanted.T @ outputs) - 2.0 * quantization_weight * whole

    def solve(column: jax.Array, signs: jax.Array) -> jax.Array:
        reached = outputs.T @ outputs[:, column]
        # Without the bit itself: its own product is taken out of the sum.
        rest = signs @ reached - signs[:, column] * reached[column]
        slope = 2.0 * rest + linear[:, column]
        # NaN is no code: inside a compiled program it makes the next loss NaN, at which a run stops.
        codes = jnp.where(jnp.isnan(slope), jnp.nan, jnp.where(slope > 0, -1.0, 1.0))
        return signs.at[:, column].set(codes.astype(signs.dtype))

    return jax.lax.fori_loop(0, bits, solve, signs)


def _check_database(signs: Float[Array, "n k"], database_labels: Bool[Array, "n c"], *, bits: int | None) -> None:
    """Codes of a database that fit its labels and the outputs."""
    check_logits(signs, name="signs")
    check_array("database_labels", database_labels, kind="booleans", form="[n, c]", rank=2)
    if bits is not None and signs.shape[1] != bits:
        raise ValueError(f"signs: must have {bits} columns, got {signs.shape[1]}")
    if len(signs) != len(database_labels):
        raise ValueError(f"signs: must be {len(database_labels)} rows as database_labels are, got {len(signs)}")
    if not isinstance(signs, Tracer):
        seen = np.asarray(signs)
        wrong = seen[(seen != 0) & (np.abs(seen) != 1)]
        if wrong.size:
            raise ValueError(f"signs: must be -1 or 1, or 0 at the start, got {wrong[0]}")


def _asymmetric(labels: Labels, database_labels: Bool[Array, "n c"]) -> Float[jax.Array, "b n"]:
    """1 for a similar pair, -r for another, r the ratio of their numbers."""
    rows = label_rows(labels, classes=database_labels.shape[1])
    similar = rows @ jnp.asarray(database_labels).astype(jnp.float32).T > 0
    near = similar.sum().astype(jnp.float32)
    return jnp.where(similar, 1.0, -near / jnp.maximum(similar.size - near, 1.0))


def _misfit(codes: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.square(codes @ codes.T / codes.shape[-1] - targets).mean()


def _descend(targets: jax.Array, order: jax.Array, carry: _Progress, column: jax.Array) -> tuple[_Progress, None]:
    """One bit of every image. With L = H H^T - K S, the product L_i . H_j needs only H^T H and H^T S."""
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
