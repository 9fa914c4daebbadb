"""Images to logits in batches of one shape, so that one program is compiled whatever the number of images."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from jcbir.codes import binarize
from jcbir.models import Backbone, Preprocessing, preprocess
from jcbir.typing import Array, check_whole


def encode(
    apply: Callable[[Any, Array], Array],
    variables: Any,
    images: Shaped[Array, "n h w c"],
    *,
    batch: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "n k"]:
    """Logits of any number of images; the last batch is padded and the padding cut off.

    Pass an `apply` that is already jitted to share its program between calls; a plain function is jitted here, once per
    call.

    Args:
        apply: (variables, images) -> logits in evaluation mode, the preprocessing included.
        variables: what `apply` takes, usually {"params": ..., "batch_stats": ...}.
        images: the images, as `apply` wants them (uint8 or float).
        batch: images per step.
        progress: called with (images done, images in all) after each step.

    Returns:
        Logits on the host, one row per image; `jcbir.codes.binarize` makes codes of them.

    Raises:
        ValueError: no images, a batch below 1, or a logit that is not finite (naming the first such image).

    Example:
        >>> import numpy as np
        >>> images = np.arange(24, dtype=np.float32).reshape(3, 2, 2, 2)
        >>> encode(lambda variables, x: variables * x.sum(axis=(1, 2)), np.float32(2.0), images, batch=2)
        array([[ 24.,  32.],
               [ 88.,  96.],
               [152., 160.]], dtype=float32)
    """
    check_whole("batch", batch, low=1)
    total = len(images)
    if total == 0:
        raise ValueError("images: must hold at least one image, got none")
    compiled = apply if hasattr(apply, "lower") else jax.jit(apply)
    parts = []
    for start in range(0, total, batch):
        chunk = np.asarray(images[start : start + batch])
        padded = np.concatenate([chunk, np.repeat(chunk[-1:], batch - len(chunk), axis=0)])
        parts.append(np.asarray(compiled(variables, jnp.asarray(padded)))[: len(chunk)])
        if progress is not None:
            progress(start + len(chunk), total)
    logits = np.concatenate(parts)
    broken = ~np.isfinite(logits).all(axis=-1)
    if broken.any():
        raise ValueError(
            f"logits: must be finite, got NaN or infinity for {broken.sum()} of {total} images, first image "
            f"{int(broken.argmax())}: the weights or the images are damaged"
        )
    return logits


def encode_images(
    backbone: Backbone,
    images: UInt8[Array, "n h w 3"],
    *,
    batch: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "n d"]:
    """Photographs to what the network gives of them, features or logits, preprocessing included.

    Args:
        backbone: network, weights, preprocessing.
        images: photographs of one size, uint8 RGB.
        batch: most images per step; fewer images take the next power of two, so that few programs are compiled.
        progress: called with (images done, images in all) after each step.

    Returns:
        One row a photograph, on the host.

    Raises:
        ValueError: as `encode`, or images that are not uint8 RGB.

    Example:
        >>> from jcbir.models import Preprocessing
        >>> backbone = Backbone(lambda variables, inputs: inputs.mean(axis=(1, 2)), {}, Preprocessing(size=8))
        >>> encode_images(backbone, np.zeros((4, 8, 8, 3), np.uint8)).shape
        (4, 3)
    """
    compiled = _compiled(backbone.apply, backbone.preprocessing)
    batch = min(batch, 1 << max(0, len(images) - 1).bit_length())
    return encode(compiled, backbone.variables, images, batch=batch, progress=progress)


def hash_images(
    backbone: Backbone,
    images: UInt8[Array, "n h w 3"],
    *,
    batch: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> Bool[np.ndarray, "n k"]:
    """Photographs to codes: preprocessing, network, bit = (logit >= 0).

    Args:
        backbone: a network whose rows are the logits of a hash head.
        images: photographs of one size, uint8 RGB.
        batch: as for `encode_images`.
        progress: as for `encode_images`.

    Returns:
        One k-bit code a photograph, on the host.

    Raises:
        ValueError: as `encode`, or images that are not uint8 RGB.

    Example:
        >>> from jcbir.models import Preprocessing
        >>> backbone = Backbone(lambda variables, inputs: inputs.mean(axis=(1, 2)), {}, Preprocessing(size=8))
        >>> hash_images(backbone, np.zeros((4, 8, 8, 3), np.uint8)).shape
        (4, 3)
    """
    return np.asarray(binarize(encode_images(backbone, images, batch=batch, progress=progress)))


@functools.lru_cache(maxsize=8)
def _compiled(apply: Callable[..., Any], preprocessing: Preprocessing) -> Callable[..., Any]:
    """One program for a network, whoever asks for it and how often."""
    return jax.jit(lambda variables, images: apply(variables, preprocess(images, preprocessing)))
