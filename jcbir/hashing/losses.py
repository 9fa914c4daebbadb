"""Losses of deep hashing on logits, one number a code: central similarity quantization and what it is compared with.

The articles write h = (tanh(u) + 1) / 2 in [0, 1]. That is sigmoid(2u), so the cross-entropy of h against a center is
the usual stable cross-entropy of the logit 2u, and |2h - 1| - 1 = |tanh(u)| - 1 = -2 sigmoid(-2|u|) without
cancellation. Every function returns one number per code; the caller weighs, masks and averages. Pairwise and triplet
losses compare the images of a batch; an image is not a pair with itself, so a batch of one has no pairs and only its
quantization term is left.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer

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
        raise ValueError(f"targets: must have the shape of logits {logits.shape}, got {targets.shape}")
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


def _mean_over_others(values: Float[Array, "b b"]) -> Float[jax.Array, " b"]:
    """Mean of each row without its diagonal entry; 0 for a batch of one."""
    count = len(values)
    others = ~jnp.eye(count, dtype=bool)
    return jnp.where(others, values, 0.0).sum(axis=-1) / max(count - 1, 1)


def _balance_weights(similar: Bool[Array, "b b"], *, dtype: jnp.dtype = jnp.float32) -> Float[jax.Array, "b b"]:
    """Weights that give similar and dissimilar pairs of a batch the same say."""
    others = ~jnp.eye(len(similar), dtype=bool)
    near = (similar & others).sum().astype(dtype)
    far = (~similar & others).sum().astype(dtype)
    whole = near + far
    return jnp.where(similar, whole / jnp.maximum(near, 1), whole / jnp.maximum(far, 1))


def _pair_likelihood(products: Float[Array, "b b"], similar: Bool[Array, "b b"]) -> Float[jax.Array, "b b"]:
    """Negative log-likelihood of the similarity labels when P(similar) = sigmoid(product)."""
    return jax.nn.softplus(jnp.where(jnp.asarray(similar), -products, products))


def _label_shares(labels: Labels, *, classes: int) -> Float[jax.Array, "b c"]:
    """Labels as a distribution over the classes: 1 / |y| for each label of the image, all 0 without one."""
    labels = jnp.asarray(labels)
    if labels.ndim == 1:
        return jax.nn.one_hot(labels, classes, dtype=jnp.float32)
    if labels.shape[-1] != classes:
        raise ValueError(f"labels: must have {classes} columns, got {labels.shape[-1]}")
    rows = labels.astype(jnp.float32)
    return rows / jnp.maximum(rows.sum(axis=-1, keepdims=True), 1.0)


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
        >>> from jcbir.hashing.losses import similar_pairs
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


def dnnh(logits: Float[Array, "b k"], labels: Labels, *, margin: float = 1.0) -> Float[jax.Array, " b"]:
    """A similar image should be closer than a dissimilar one by a margin, in squared distance of h = sigmoid(2u).

    mean over similar j and dissimilar l of max(0, m + |h_i - h_j|^2 - |h_i - h_l|^2).

    The article draws triplets beforehand; here image i meets all of its batch. Its divide-and-encode head (each bit
    from its own slice of the features) and threshold layer are a matter of the network, not of the loss. No code of the
    authors is known; m = 1 is the article's.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        margin: m, in bits.

    Returns:
        One loss an image, 0 to m + K; 0 for an image that lacks a similar or a dissimilar partner.

    Example:
        >>> import jax.numpy as jnp
        >>> logits = jnp.array([[9.0, 9.0], [9.0, 9.0], [9.0, -9.0]])
        >>> dnnh(logits, jnp.array([0, 0, 1])).round(3).tolist(), dnnh(logits, jnp.array([0, 1, 0])).round(3).tolist()
        ([0.0, 0.0, 0.0], [2.0, 0.0, 1.0])

    References:
        Lai, Pan, Liu and Yan, Simultaneous Feature Learning and Hash Coding with Deep Neural Networks, CVPR 2015,
        eq. 2.
    """
    relaxed = jax.nn.sigmoid(2.0 * jnp.asarray(logits))
    distances = jnp.square(relaxed[:, None, :] - relaxed[None, :, :]).sum(axis=-1)
    similar = similar_pairs(labels)
    positive = similar & ~jnp.eye(len(relaxed), dtype=bool)
    triplets = positive[:, :, None] & ~similar[:, None, :]
    violations = jnp.maximum(margin + distances[:, :, None] - distances[:, None, :], 0.0)
    count = triplets.sum(axis=(1, 2)).astype(relaxed.dtype)
    return jnp.where(triplets, violations, 0.0).sum(axis=(1, 2)) / jnp.maximum(count, 1)


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
    pairs = _pair_likelihood(0.5 * (relaxed @ relaxed.T), similar_pairs(labels))
    return _mean_over_others(pairs) + quantization_weight * quantization_paper(logits) / logits.shape[-1]


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
    pairs = _pair_likelihood(0.5 * (logits @ logits.T), similar_pairs(labels))
    return _mean_over_others(pairs) + quantization_weight * jnp.square(jnp.abs(logits) - 1.0).mean(axis=-1)


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
    pairs = _pair_likelihood(alpha * (relaxed @ relaxed.T), similar)
    return _mean_over_others(_balance_weights(similar, dtype=logits.dtype) * pairs)


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


def dch(
    logits: Float[Array, "b k"], labels: Labels, *, gamma: float = 20.0, quantization_weight: float = 0.1
) -> Float[jax.Array, " b"]:
    """Cauchy cross-entropy of pair distances, and Cauchy quantization of each relaxed code h = tanh(u).

    mean_j w_ij [s_ij log(d_ij / gamma) + log(1 + gamma / d_ij)] + lambda log(1 + d(|h_i|, 1) / gamma),
    d_ij = (K/2) (1 - cos(h_i, h_j)).

    gamma = 20 is the default of the authors' code; its own quantization term is squared and has weight 0. The bracket
    is log(1 + d/gamma) for a similar pair, so only dissimilar pairs divide by d; 1 % of K/2 is added to their distance,
    where public code caps the cosine at 0.99 and so leaves collapsed codes without a gradient.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        gamma: scale of the Cauchy distribution, in bits.
        quantization_weight: lambda.

    Returns:
        One loss an image, >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> opposite = jnp.array([[9.0, 9.0], [-9.0, -9.0]])
        >>> [round(float(dch(opposite, jnp.array(labels))[0]), 3) for labels in ([0, 0], [0, 1])]
        [0.095, 2.393]

    References:
        Cao, Long, Liu and Wang, Deep Cauchy Hashing for Hamming Space Retrieval, CVPR 2018, eq. 6 to 9.
    """
    logits = jnp.asarray(logits)
    half = 0.5 * logits.shape[-1]
    relaxed = jnp.tanh(logits)
    direction = relaxed / _norm(relaxed)
    distances = half * jnp.maximum(1.0 - direction @ direction.T, 0.0)
    similar = similar_pairs(labels)
    far = distances + 0.01 * half
    pairs = jnp.where(similar, jnp.log1p(distances / gamma), jnp.log1p(gamma / far))
    to_ones = half * (1.0 - jnp.abs(direction).sum(axis=-1) / jnp.sqrt(2.0 * half))
    weighted = _balance_weights(similar, dtype=logits.dtype) * pairs
    return _mean_over_others(weighted) + quantization_weight * jnp.log1p(jnp.maximum(to_ones, 0.0) / gamma)


def _norm(rows: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.square(rows).sum(axis=-1, keepdims=True) + 1e-12)


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
    shares = _label_shares(labels, classes=class_logits.shape[-1]).astype(class_logits.dtype)
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


def orthohash(
    logits: Float[Array, "b k"],
    labels: Labels,
    centers: Bool[Array, "c k"],
    *,
    scale: float = 8.0,
    margin: float = 0.2,
) -> Float[jax.Array, " b"]:
    """Cross-entropy of scaled cosines between outputs and +-1 centers, with a margin on the right ones.

    -sum_c y_ic log softmax_c( s (cos(u_i, o_c) - m y_ic) ), several labels sharing the target equally.

    s = 8 and m = 0.2 are the defaults of the authors' code. Only the direction of the output counts. The authors put a
    BatchNorm layer before it, which balances the bits.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        centers: one center a class, e.g. `jcbir.hashing.centers.hash_centers`.
        scale: s.
        margin: m, in cosine.

    Returns:
        One loss an image, >= 0; 0 for an image without a label.

    Raises:
        ValueError: multi-hot rows of another number of classes than centers.

    Example:
        >>> import jax.numpy as jnp
        >>> centers = jnp.array([[True, True], [True, False]])
        >>> round(float(orthohash(jnp.array([[5.0, 5.0]]), jnp.array([0]), centers)[0]), 5)
        0.00166

    References:
        Hoe et al., One Loss for All: Deep Hashing with a Single Cosine Similarity based Learning Objective, NeurIPS
        2021, eq. 5.
    """
    logits = jnp.asarray(logits)
    shares = _label_shares(labels, classes=len(centers)).astype(logits.dtype)
    signs = jnp.where(jnp.asarray(centers), 1.0, -1.0).astype(logits.dtype)
    # Dividing by the largest entry first keeps the squares of huge logits finite; the direction is the same.
    largest = jax.lax.stop_gradient(jnp.abs(logits).max(axis=-1, keepdims=True))
    scaled = logits / jnp.maximum(largest, 1e-6)
    norm = jnp.sqrt(jnp.square(scaled).sum(axis=-1, keepdims=True) + 1e-12)
    cosines = (scaled / norm) @ signs.T / jnp.sqrt(jnp.asarray(logits.shape[-1], logits.dtype))
    chosen = (shares > 0).astype(logits.dtype)
    return -(shares * jax.nn.log_softmax(scale * (cosines - margin * chosen), axis=-1)).sum(axis=-1)
