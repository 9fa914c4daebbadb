"""Losses of pairs: whether two images share a label, told from their outputs."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer

from jcbir.hashing.losses._central import quantization_paper
from jcbir.hashing.losses._pairs import (
    Labels,
    MemoryBank,
    balance_weights,
    check_logits,
    mean_over,
    pair_likelihood,
    pairs_of,
)
from jcbir.typing import Array, check_array, check_real, check_whole


def dhn(
    logits: Float[Array, "b k"],
    labels: Labels,
    *,
    quantization_weight: float = 0.1,
    tanh: bool = True,
    bank: MemoryBank | None = None,
    self_pairs: bool = False,
) -> Float[jax.Array, " b"]:
    """Pairwise likelihood of inner products of z = tanh(u), plus log cosh(|z| - 1).

    mean_j [log(1 + e^t_ij) - s_ij t_ij] + lambda (1/K) sum_k log cosh(|z_ik| - 1) with t_ij = z_i . z_j / 2.

    The factor 1/2 is `alpha` of the authors' code (default 0.5). The code leaves lambda to the caller and squares
    |z| - 1 instead; the weight here is for the mean over the bits. DeepHash-pytorch has no tanh, and a bank.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        quantization_weight: lambda, at least 0.
        tanh: False compares u itself.
        bank: compare with all that was remembered of the training images, instead of with the batch.
        self_pairs: count an image as its own partner.

    Returns:
        One loss an image, >= 0.

    Raises:
        ValueError: labels that are neither class numbers nor boolean rows, one an image, or a weight out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(dhn(jnp.array([[9.0, 9.0], [9.0, 9.0]]), jnp.array([0, 0]))[0]), 3)
        0.313

    References:
        Zhu, Long, Wang and Cao, Deep Hashing Network for Efficient Similarity Retrieval, AAAI 2016, eq. 5 and 6.
    """
    check_real("quantization_weight", quantization_weight)
    pairs = pairs_of(logits, labels, bank=bank, self_pairs=self_pairs)
    logits = jnp.asarray(logits)
    relaxed, others = (jnp.tanh(u) if tanh else u for u in (logits, pairs.others))
    likelihood = mean_over(pair_likelihood(0.5 * (relaxed @ others.T), pairs.similar), pairs)
    if tanh:
        return likelihood + quantization_weight * quantization_paper(logits) / logits.shape[-1]
    away = jnp.abs(jnp.abs(logits) - 1.0)
    # log cosh x = x + log(1 + e^-2x) - log 2: e^x of a large logit would be infinite.
    return likelihood + quantization_weight * (away + jnp.log1p(jnp.exp(-2.0 * away)) - jnp.log(2.0)).mean(axis=-1)


def dpsh(
    logits: Float[Array, "b k"],
    labels: Labels,
    *,
    quantization_weight: float = 0.1,
    bank: MemoryBank | None = None,
    self_pairs: bool = False,
) -> Float[jax.Array, " b"]:
    """Pairwise likelihood of inner products, and the squared distance of the outputs to their signs.

    mean_j [log(1 + e^t_ij) - s_ij t_ij] + eta (1/K) |sign(u_i) - u_i|^2 with t_ij = u_i . u_j / 2.

    The article sums over all training pairs, with eta = 10 to 100 (50 in public ports of the authors' code); a mean
    over the pairs and over the bits needs the 0.1 of DeepHash-pytorch, whose pairs come from a bank.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        quantization_weight: eta, at least 0.
        bank: compare with all that was remembered of the training images, instead of with the batch.
        self_pairs: count an image as its own partner.

    Returns:
        One loss an image, >= 0.

    Raises:
        ValueError: labels that are neither class numbers nor boolean rows, one an image, or a weight out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(dpsh(jnp.array([[3.0, 3.0], [-3.0, -3.0]]), jnp.array([0, 1]))[0]), 3)
        0.4

    References:
        Li, Wang and Kang, Feature Learning based Deep Supervised Hashing with Pairwise Labels, IJCAI 2016, eq. 1 and 5.
    """
    check_real("quantization_weight", quantization_weight)
    pairs = pairs_of(logits, labels, bank=bank, self_pairs=self_pairs)
    logits = jnp.asarray(logits)
    likelihood = mean_over(pair_likelihood(0.5 * (logits @ pairs.others.T), pairs.similar), pairs)
    return likelihood + quantization_weight * jnp.square(jnp.abs(logits) - 1.0).mean(axis=-1)


def hashnet(
    logits: Float[Array, "b k"],
    labels: Labels,
    *,
    scale: float | Float[Array, ""] = 1.0,
    sharpness: float | None = None,
    class_num: float | None = None,
    self_pairs: bool = False,
) -> Float[jax.Array, " b"]:
    """Balanced pairwise likelihood of inner products of tanh(beta u); no quantization term.

    mean_j w_ij [log(1 + e^t_ij) - s_ij t_ij] with t_ij = alpha tanh(beta u_i) . tanh(beta u_j); w_ij gives similar and
    dissimilar pairs of the batch the same say, or similar ones `class_num` times that of a dissimilar one, as the
    authors' first loss does. Their batches are two, from two loaders; DeepHash-pytorch compares one with itself.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        scale: beta, above 0, from `continuation(state.step)` in a training step.
        sharpness: alpha, above 0; default 10 / K, the authors' setting for K bits.
        class_num: weight of a similar pair, above 0: the number of classes in the authors' code; None balances by the
            batch.
        self_pairs: count an image as its own partner.

    Returns:
        One loss an image, >= 0.

    Raises:
        ValueError: labels that are neither class numbers nor boolean rows, one an image, or a number out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(hashnet(jnp.array([[2.0, 2.0], [-2.0, 2.0]]), jnp.array([0, 1]), scale=3.0)[0]), 3)
        0.693

    References:
        Cao, Long, Wang and Yu, HashNet: Deep Learning to Hash by Continuation, ICCV 2017, eq. 4 and algorithm 1.
    """
    check_real("scale", scale, above=0.0)
    if class_num is not None:
        check_real("class_num", class_num, above=0.0)
    check_logits(logits)
    logits = jnp.asarray(logits)
    relaxed = jnp.tanh(scale * logits)
    alpha = 10.0 / logits.shape[-1] if sharpness is None else sharpness
    check_real("sharpness", alpha, above=0.0)
    pairs = pairs_of(relaxed, labels, bank=None, self_pairs=self_pairs)
    likelihood = pair_likelihood(alpha * (relaxed @ pairs.others.T), pairs.similar)
    if class_num is None:
        return mean_over(balance_weights(pairs, dtype=logits.dtype) * likelihood, pairs)
    weights = jnp.where(pairs.similar, class_num, 1.0).astype(logits.dtype)
    share = mean_over(weights, pairs).mean()
    return mean_over(weights * likelihood, pairs) / jnp.where(share > 0, share, 1.0)


def continuation(
    step: int | Integer[Array, ""], *, growth: float = 0.005, power: float = 0.5, every: int = 200
) -> Float[jax.Array, ""]:
    """The scale beta of the tanh, which grows in stages: beta = (1 + growth t)^power, t the last multiple of `every`.

    The defaults are those of the authors' PyTorch code.

    Args:
        step: training steps taken so far.
        growth: per step, at least 0.
        power: exponent, at least 0.
        every: steps per stage.

    Returns:
        beta, 1 in the first stage.

    Raises:
        ValueError: a step that is no whole number of at least 0, or another number out of range.

    Example:
        >>> [round(float(continuation(step)), 3) for step in (0, 199, 200, 10_000)]
        [1.0, 1.0, 1.414, 7.141]

    References:
        Cao, Long, Wang and Yu, HashNet: Deep Learning to Hash by Continuation, ICCV 2017, section 3.3.
    """
    check_real("growth", growth)
    check_real("power", power)
    check_whole("every", every, low=1)
    check_real("step", step)
    steps = jnp.asarray(step)
    if not jnp.issubdtype(steps.dtype, jnp.integer):
        raise ValueError(f"step: must be a whole number, got {step!r}")
    stage = steps.astype(jnp.int32) // every * every
    return (1.0 + growth * stage.astype(jnp.float32)) ** power


def dch(
    logits: Float[Array, "b k"],
    labels: Labels,
    *,
    gamma: float = 20.0,
    quantization_weight: float = 0.1,
    tanh: bool = True,
    cosine_cap: float | None = None,
    self_pairs: bool = False,
) -> Float[jax.Array, " b"]:
    """Cauchy cross-entropy of pair distances, and Cauchy quantization of each relaxed code h = tanh(u).

    mean_j w_ij [s_ij log(d_ij / gamma) + log(1 + gamma / d_ij)] + lambda log(1 + d(|h_i|, 1) / gamma),
    d_ij = (K/2) (1 - cos(h_i, h_j)).

    gamma = 20 is the default of the authors' code; its own quantization term is squared and has weight 0. The bracket
    is log(1 + d/gamma) for a similar pair, so only dissimilar pairs divide by d; 1 % of K/2 is added to their distance,
    where DeepHash-pytorch caps every cosine at 0.99 and so leaves collapsed codes without a gradient.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        gamma: scale of the Cauchy distribution, in bits, above 0.
        quantization_weight: lambda, at least 0.
        tanh: False compares u itself.
        cosine_cap: the largest cosine, at least 0 and below 1, 0.99 in public code; None caps none and keeps
            dissimilar pairs apart instead.
        self_pairs: count an image as its own partner.

    Returns:
        One loss an image, >= 0.

    Raises:
        ValueError: labels that are neither class numbers nor boolean rows, one an image, or a number out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> opposite = jnp.array([[9.0, 9.0], [-9.0, -9.0]])
        >>> [round(float(dch(opposite, jnp.array(labels))[0]), 3) for labels in ([0, 0], [0, 1])]
        [0.095, 2.393]

    References:
        Cao, Long, Liu and Wang, Deep Cauchy Hashing for Hamming Space Retrieval, CVPR 2018, eq. 6 to 9.
    """
    check_real("gamma", gamma, above=0.0)
    check_real("quantization_weight", quantization_weight)
    check_logits(logits)
    logits = jnp.asarray(logits)
    half = 0.5 * logits.shape[-1]
    relaxed = jnp.tanh(logits) if tanh else logits
    direction = relaxed / _norm(relaxed)
    cosines = direction @ direction.T
    pairs = pairs_of(logits, labels, bank=None, self_pairs=self_pairs)
    to_ones = 1.0 - jnp.abs(direction).sum(axis=-1) / jnp.sqrt(2.0 * half)
    if cosine_cap is None:
        near = half * jnp.maximum(1.0 - cosines, 0.0)
        far = near + 0.01 * half
        to_ones = jnp.maximum(to_ones, 0.0)
    else:
        check_real("cosine_cap", cosine_cap, below=1.0)
        near = far = half * (1.0 - jnp.minimum(cosines, cosine_cap))
        to_ones = jnp.maximum(to_ones, 1.0 - cosine_cap)
    cauchy = jnp.where(pairs.similar, jnp.log1p(near / gamma), jnp.log1p(gamma / far))
    weighted = balance_weights(pairs, dtype=logits.dtype) * cauchy
    return mean_over(weighted, pairs) + quantization_weight * jnp.log1p(half * to_ones / gamma)


def dsh(
    logits: Float[Array, "b k"],
    labels: Labels,
    *,
    margin: float | None = None,
    quantization_weight: float = 0.01,
    bank: MemoryBank | None = None,
    self_pairs: bool = False,
) -> Float[jax.Array, " b"]:
    """Similar images together, dissimilar ones at least a margin apart, in squared distance of the outputs.

    mean_j [s_ij d_ij / 2 + (1 - s_ij) max(m - d_ij, 0) / 2] + alpha sum_k | |u_ik| - 1 | with d_ij = |u_i - u_j|^2.

    m = 2K and alpha = 0.01 are the article's, which adds |u_i| - 1 of both images of a pair. DeepHash-pytorch has a
    mean over the bits (so its alpha = 0.1 is 0.1 / K here), and a bank.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        margin: m, at least 0; default 2K.
        quantization_weight: alpha, at least 0.
        bank: compare with all that was remembered of the training images, instead of with the batch.
        self_pairs: count an image as its own partner.

    Returns:
        One loss an image, >= 0.

    Raises:
        ValueError: labels that are neither class numbers nor boolean rows, one an image, or a number out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> dsh(jnp.array([[1.0, 1.0], [1.0, 0.0]]), jnp.array([0, 1])).tolist()
        [1.5, 1.5099999904632568]

    References:
        Liu, Wang, Shan and Chen, Deep Supervised Hashing for Fast Image Retrieval, CVPR 2016, eq. 4.
    """
    check_real("quantization_weight", quantization_weight)
    pairs = pairs_of(logits, labels, bank=bank, self_pairs=self_pairs)
    logits = jnp.asarray(logits)
    bound = 2.0 * logits.shape[-1] if margin is None else margin
    check_real("margin", bound)
    distances = jnp.square(logits[:, None, :] - pairs.others[None, :, :]).sum(axis=-1)
    contrast = 0.5 * jnp.where(pairs.similar, distances, jnp.maximum(bound - distances, 0.0))
    return mean_over(contrast, pairs) + quantization_weight * jnp.abs(jnp.abs(logits) - 1.0).sum(axis=-1)


def dbdh(
    logits: Float[Array, "b k"],
    labels: Labels,
    *,
    balance_weight: float = 0.1,
    bank: MemoryBank | None = None,
    self_pairs: bool = False,
) -> Float[jax.Array, " b"]:
    """Pairwise likelihood of clipped outputs, and as many ones as zeros in every code.

    mean_j [log(1 + e^t_ij) - s_ij t_ij] + alpha (mean_k v_ik)^2 with v = clip(u, -1, 1) and t_ij = v_i . v_j / 2.

    The article trains with a straight-through sign; this is the form of DeepHash-pytorch, whose pairs come from a bank.

    Args:
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.
        balance_weight: alpha, at least 0.
        bank: compare with all that was remembered of the training images, instead of with the batch.
        self_pairs: count an image as its own partner.

    Returns:
        One loss an image, >= 0.

    Raises:
        ValueError: labels that are neither class numbers nor boolean rows, one an image, or a weight out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> losses = dbdh(jnp.array([[3.0, -3.0], [3.0, -3.0]]), jnp.array([0, 0]))
        >>> [round(loss, 3) for loss in losses.tolist()]
        [0.313, 0.313]

    References:
        Zheng, Zhang and Lu, Deep Balanced Discrete Hashing for Image Retrieval, Neurocomputing 403, 2020.
    """
    check_real("balance_weight", balance_weight)
    check_logits(logits)
    clipped = jnp.clip(jnp.asarray(logits), -1.0, 1.0)
    pairs = pairs_of(clipped, labels, bank=bank, self_pairs=self_pairs)
    products = 0.5 * (clipped @ jnp.clip(pairs.others, -1.0, 1.0).T)
    likelihood = mean_over(pair_likelihood(products, pairs.similar), pairs)
    return likelihood + balance_weight * jnp.square(clipped.mean(axis=-1))


def idhn(
    logits: Float[Array, "b k"],
    labels: Bool[Array, "b c"],
    *,
    sharpness: float = 0.5,
    soft_weight: float = 0.1,
    quantization_weight: float = 0.1,
    bank: MemoryBank | None = None,
    self_pairs: bool = False,
) -> Float[jax.Array, " b"]:
    """Graded similarity of several labels: likelihood where it is 0 or 1, squared error in between.

    mean_j [M_ij (log(1 + e^t_ij) - s_ij t_ij) + gamma (1 - M_ij) (t_ij + K - 2 K s_ij)^2] + lambda (1/K) sum_k
    | |v_ik| - 1 |, with v = u / (1 + |u|), t_ij = alpha v_i . v_j, s_ij the cosine of the label rows and M_ij = [s_ij >
    0.99 or s_ij < 0.01].

    This is the form of DeepHash-pytorch, whose pairs come from a bank.

    Args:
        logits: outputs u of the hash head.
        labels: multi-hot rows.
        sharpness: alpha, above 0.
        soft_weight: gamma, at least 0.
        quantization_weight: lambda, at least 0.
        bank: compare with all that was remembered of the training images, instead of with the batch.
        self_pairs: count an image as its own partner.

    Returns:
        One loss an image, >= 0.

    Raises:
        ValueError: labels that are not boolean rows, or a number out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> labels = jnp.array([[True, True], [True, False]])
        >>> [round(loss, 3) for loss in idhn(jnp.zeros((2, 4)), labels).tolist()]
        [0.375, 0.375]

    References:
        Zhang et al., Improved Deep Hashing With Soft Pairwise Similarity for Multi-Label Image Retrieval, IEEE TMM
        22(2), 2020.
    """
    check_real("sharpness", sharpness, above=0.0)
    check_real("soft_weight", soft_weight)
    check_real("quantization_weight", quantization_weight)
    check_array("labels", labels, kind="booleans", form="[b, c]", rank=2)
    pairs = pairs_of(logits, labels, bank=bank, self_pairs=self_pairs)
    logits = jnp.asarray(logits)
    relaxed, others = (u / (jnp.abs(u) + 1.0) for u in (logits, pairs.others))
    known = labels if bank is None else bank.labels
    rows, columns = (jnp.asarray(y).astype(logits.dtype) for y in (labels, known))
    norms = jnp.sqrt(rows.sum(axis=-1))[:, None] * jnp.sqrt(columns.sum(axis=-1))[None, :]
    shared = rows @ columns.T / (norms + 1e-5)
    hard = (shared > 0.99) | (shared < 0.01)
    bits = logits.shape[-1]
    products = sharpness * (relaxed @ others.T)
    likelihood = jax.nn.softplus(products) - shared * products
    squared = jnp.square(products + bits - 2.0 * bits * shared)
    values = jnp.where(hard, likelihood, soft_weight * squared)
    return mean_over(values, pairs) + quantization_weight * jnp.abs(jnp.abs(relaxed) - 1.0).mean(axis=-1)


def _norm(rows: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.square(rows).sum(axis=-1, keepdims=True) + 1e-12)
