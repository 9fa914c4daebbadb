"""The owner's half without cryptography: fine-tune a network by central similarity quantization, hash with it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Bool, Int32, UInt8

from jcbir.codes import binarize
from jcbir.hashing import Progress, crop_and_flip, encode, fit, init_state, linen_apply, train_step
from jcbir.hashing.losses import csq
from jcbir.models import Preprocessing, ResNet, preprocess

BATCH = 100
RATE = 2e-3


def fine_tune(
    key: jax.Array,
    images: UInt8[np.ndarray, "n h w 3"],
    targets: Bool[np.ndarray, "n k"],
    *,
    module: ResNet,
    variables: Any,
    preprocessing: Preprocessing,
    epochs: int,
    progress: Callable[[Progress], None] | None = None,
) -> Any:
    """Train all layers to place each image's code at its class's hash center.

    AdamW on L_T = L_C + 0.05 L_Q, cosine learning rate with a short warm-up, random crops and mirror images.

    Args:
        key: PRNG key.
        images: training photographs.
        targets: the hash center of each image's class.
        module: a network with a hash head.
        variables: its parameters and statistics, pretrained or random.
        preprocessing: what the network was trained to see.
        epochs: passes over the images.
        progress: called after each step.

    Returns:
        The fine-tuned variables.

    Raises:
        ValueError: weights that are not finite, no images, or a loss that stops being finite.

    Example:
        >>> from jcbir.models import small
        >>> module = small(stages=(1,), width=4, bits=8)
        >>> variables = module.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
        >>> photos, centers = np.zeros((4, 8, 8, 3), np.uint8), np.ones((4, 8), bool)
        >>> record = Preprocessing(size=8)
        >>> tuned = fine_tune(
        ...     jax.random.key(1), photos, centers, module=module, variables=variables, preprocessing=record, epochs=1
        ... )
        >>> sorted(tuned)
        ['batch_stats', 'params']

    References:
        Yuan et al., Central Similarity Quantization, CVPR 2020. Wang et al., CMC 75(3), 2023, eq. 5.
    """
    steps = epochs * max(1, len(images) // BATCH)
    rising = max(1, steps // 10)
    schedule = optax.warmup_cosine_decay_schedule(RATE / 10, RATE, rising, max(steps, rising + 1), RATE / 100)
    optimizer = optax.adamw(schedule, weight_decay=1e-4)
    network = linen_apply(module, select=lambda outputs: outputs.hash_logits)

    def apply(variables: Any, images: Any, key: jax.Array) -> tuple[Any, Any]:
        return network(variables, preprocess(images, preprocessing), key)

    step = partial(train_step, apply=apply, loss=csq, optimizer=optimizer, augment=crop_and_flip)
    state = init_state(key, variables, optimizer=optimizer)
    state, _ = fit(state, images, targets, step=step, epochs=epochs, batch=BATCH, progress=progress)
    return {"params": state.params, "batch_stats": state.batch_stats}


def hash_images(
    images: UInt8[np.ndarray, "n h w 3"], *, module: ResNet, variables: Any, preprocessing: Preprocessing
) -> Bool[np.ndarray, "n k"]:
    """Codes of photographs: preprocess, network, sign.

    Args:
        images: photographs of one size.
        module: a network with a hash head.
        variables: its parameters and statistics.
        preprocessing: what the network was trained to see.

    Returns:
        One k-bit code an image.

    Raises:
        ValueError: no images, or logits that are not finite.

    Example:
        >>> from jcbir.models import small
        >>> module = small(stages=(1,), width=4, bits=8)
        >>> variables = module.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
        >>> photos = np.zeros((4, 8, 8, 3), np.uint8)
        >>> hash_images(photos, module=module, variables=variables, preprocessing=Preprocessing(size=8)).shape
        (4, 8)
    """

    def apply(variables: Any, images: Any) -> Any:
        return module.apply(variables, preprocess(images, preprocessing)).hash_logits

    return np.asarray(binarize(encode(apply, variables, images, batch=200)))


def class_targets(labels: Int32[np.ndarray, "n"], centers: Bool[np.ndarray, "c k"]) -> Bool[np.ndarray, "n k"]:
    """The hash center of each label.

    Args:
        labels: class numbers 0 to c - 1.
        centers: one center a class.

    Returns:
        One center an image.

    Raises:
        ValueError: a label outside the classes that have a center.

    Example:
        >>> class_targets(np.array([1, 0], np.int32), np.eye(2, 8, dtype=bool)).argmax(axis=1).tolist()
        [1, 0]
    """
    if labels.min() < 0 or labels.max() >= len(centers):
        raise ValueError(f"labels must be 0 to {len(centers) - 1}, got {labels.min()} to {labels.max()}")
    return centers[labels]
