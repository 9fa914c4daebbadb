"""Losses of one image at a time: codes against hash centers, and classifiers on codes.

The articles write h = (tanh(u) + 1) / 2 in [0, 1]. That is sigmoid(2u), so the cross-entropy of h against a center is
the usual stable cross-entropy of the logit 2u, and |2h - 1| - 1 = |tanh(u)| - 1 = -2 sigmoid(-2|u|) without
cancellation.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jcbir.hashing.losses._pairs import Labels, check_batch, label_rows, pair_likelihood, similar_pairs
from jcbir.typing import Array, check_array, check_real


def central_similarity(logits: Float[Array, "*b k"], targets: Bool[Array, "*b k"]) -> Float[jax.Array, "*b"]:
    """Cross-entropy between a relaxed code and its hash center, averaged over the bits.

    L_C = -(1/K) sum_k [ c_k log h_k + (1 - c_k) log(1 - h_k) ], h = sigmoid(2u).

    Args:
        logits: outputs u of the hash head.
        targets: the hash center or semantic center of each row.

    Returns:
        One loss per row, >= 0, in nats per bit.

    Raises:
        ValueError: targets that are not booleans (`codes.from_signs` reads -1 and +1), or of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> float(central_similarity(jnp.array([20.0, -20.0]), jnp.array([True, True])))
        20.0

    References:
        Yuan et al., Central Similarity Quantization, CVPR 2020, eq. 4. Wang et al., CMC 75(3), 2023, eq. 3.
    """
    check_array("logits", logits, kind="floats", form="[..., k]")
    check_array("targets", targets, kind="booleans", form="[..., k]")
    if logits.shape != targets.shape:
        raise ValueError(f"targets: must have the shape {logits.shape} of logits, got {targets.shape}")
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
    labels: Labels | None = None,
    quantization_weight: float = 0.05,
    quantizer: Callable[[Float[Array, "*b k"]], Float[jax.Array, "*b"]] = quantization_official,
    pair_weight: float = 0.0,
) -> Float[jax.Array, "*b"]:
    """The loss the paper trains with: central similarity plus weighted quantization, and the pair term of the code.

    L_T = L_C + lambda L_Q + lambda_1 L_P. The weight 0.05 is the one of the published code for ResNet50 and belongs to
    `quantization_official`; the paper does not print its own. With `quantization_paper`, which sums over the bits,
    0.1 / K is of the same strength. The published code adds `half_pairs` with weight 0.2, of which no article speaks;
    DeepHash-pytorch has lambda = 0.0001 and no pairs.

    Args:
        logits: outputs u of the hash head.
        targets: the hash center or semantic center of each row.
        labels: class numbers or multi-hot rows, for the pair term alone.
        quantization_weight: lambda, >= 0.
        quantizer: `quantization_official` or `quantization_paper`.
        pair_weight: lambda_1, >= 0.

    Returns:
        One loss per row, >= 0.

    Raises:
        ValueError: targets that are not booleans or of another shape, a weight out of range, or a pair term without
            labels.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(csq(jnp.zeros(4), jnp.ones(4, bool))), 4)
        0.7431

    References:
        Wang et al., CMC 75(3), 2023, eq. 5. Yuan et al., code of CSQ (train.py), 2020.
    """
    check_real("quantization_weight", quantization_weight)
    check_real("pair_weight", pair_weight)
    loss = central_similarity(logits, targets) + quantization_weight * quantizer(logits)
    if pair_weight == 0:
        return loss
    if labels is None:
        raise ValueError(f"labels: must be given with pair_weight={pair_weight}, got None")
    return loss + pair_weight * half_pairs(logits, labels)


def half_pairs(
    logits: Float[Array, "b k"], labels: Labels, *, sharpness: float | None = None
) -> Float[jax.Array, " b"]:
    """Likelihood of the pairs across the halves of a batch, the third term of the published CSQ code.

    mean over j in the other half of log(1 + e^t_ij) - s_ij t_ij with t_ij = alpha tanh(u_i) . tanh(u_j).

    Args:
        logits: outputs u of the hash head; in an odd batch the last image has no partner.
        labels: class numbers or multi-hot rows.
        sharpness: alpha, above 0; default 10 / K, as in the code.

    Returns:
        One loss an image, >= 0.

    Raises:
        ValueError: labels that are neither class numbers nor boolean rows, one an image, or a sharpness out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> losses = half_pairs(jnp.array([[9.0, 9.0], [9.0, 9.0]]), jnp.array([0, 0]))
        >>> [round(loss, 6) for loss in losses.tolist()]
        [4.5e-05, 4.5e-05]

    References:
        Yuan et al., code of Central Similarity Quantization (my_pairwise_loss.py), 2020.
    """
    flaw = check_batch(logits, labels)
    alpha = 10.0 / logits.shape[-1] if sharpness is None else sharpness
    check_real("sharpness", alpha, above=0.0)
    relaxed, half = jnp.tanh(logits), len(logits) // 2
    similar = similar_pairs(labels)[:half, half : 2 * half]
    pairs = pair_likelihood(alpha * relaxed[:half] @ relaxed[half : 2 * half].T, similar)
    count = max(half, 1)
    left = jnp.zeros(len(logits) - 2 * half, pairs.dtype)
    return jnp.concatenate([pairs.sum(axis=1) / count, pairs.sum(axis=0) / count, left]) + flaw


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
    check_array("logits", logits, kind="floats", form="[..., k]")
    return -2.0 * jax.nn.sigmoid(-2.0 * jnp.abs(logits))


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
        penalty: alpha, at least 0.

    Returns:
        One loss an image, >= 0; an image without a label keeps the penalty.

    Raises:
        ValueError: labels that are neither class numbers nor boolean rows, one an image and of as many classes as
            `class_logits`, or a penalty out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> codes = jnp.ones((1, 4))
        >>> round(float(greedyhash(codes, jnp.array([[0.0, 0.0]]), jnp.array([1]))[0]), 3)
        0.693

    References:
        Su, Zhang, Han and Tian, Greedy Hash: Towards Fast Optimization for Accurate Hash Coding in CNN, NeurIPS 2018,
        eq. 3 and 8.
    """
    check_array("class_logits", class_logits, kind="floats", form="[b, c]", rank=2)
    check_real("penalty", penalty)
    flaw = check_batch(logits, labels, classes=class_logits.shape[-1])
    shares = _label_shares(labels, classes=class_logits.shape[-1]).astype(class_logits.dtype)
    entropy = -(shares * jax.nn.log_softmax(class_logits, axis=-1)).sum(axis=-1)
    distance = jnp.abs(jnp.abs(logits) - 1.0)
    return entropy + penalty * (distance * distance * distance).mean(axis=-1) + flaw


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
    check_array("logits", logits, kind="floats", form="[..., k]")
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
        scale: s, above 0.
        margin: m, in cosine, at least 0.

    Returns:
        One loss an image, >= 0; 0 for an image without a label.

    Raises:
        ValueError: centers that are not booleans, multi-hot rows of another number of classes, or a scale or margin
            out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> centers = jnp.array([[True, True], [True, False]])
        >>> round(float(orthohash(jnp.array([[5.0, 5.0]]), jnp.array([0]), centers)[0]), 5)
        0.00166

    References:
        Hoe et al., One Loss for All: Deep Hashing with a Single Cosine Similarity based Learning Objective, NeurIPS
        2021, eq. 5.
    """
    check_array("centers", centers, kind="booleans", form="[c, k]", rank=2)
    check_real("scale", scale, above=0.0)
    check_real("margin", margin)
    flaw = check_batch(logits, labels, classes=len(centers))
    if logits.shape[1] != centers.shape[1]:
        raise ValueError(f"centers: must have {logits.shape[1]} columns as logits have, got {centers.shape[1]}")
    logits = jnp.asarray(logits)
    shares = _label_shares(labels, classes=len(centers)).astype(logits.dtype)
    signs = jnp.where(jnp.asarray(centers), 1.0, -1.0).astype(logits.dtype)
    # Dividing by the largest entry first keeps the squares of huge logits finite; the direction is the same.
    largest = jax.lax.stop_gradient(jnp.abs(logits).max(axis=-1, keepdims=True))
    scaled = logits / jnp.maximum(largest, 1e-6)
    norm = jnp.sqrt(jnp.square(scaled).sum(axis=-1, keepdims=True) + 1e-12)
    cosines = (scaled / norm) @ signs.T / jnp.sqrt(jnp.asarray(logits.shape[-1], logits.dtype))
    chosen = (shares > 0).astype(logits.dtype)
    return -(shares * jax.nn.log_softmax(scale * (cosines - margin * chosen), axis=-1)).sum(axis=-1) + flaw


def _label_shares(labels: Labels, *, classes: int) -> Float[jax.Array, "b c"]:
    """Labels as a distribution over the classes: 1 / |y| for each label of the image, all 0 without one."""
    rows = label_rows(labels, classes=classes)
    return rows / jnp.maximum(rows.sum(axis=-1, keepdims=True), 1.0)
