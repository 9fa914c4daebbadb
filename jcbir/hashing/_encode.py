"""Images to logits in batches of one shape, so that one program is compiled whatever the number of images."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Shaped

from jcbir.typing import Array


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
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    total = len(images)
    if total == 0:
        raise ValueError("images must hold at least one image, got none")
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
            f"logits must be finite, got NaN or infinity for {broken.sum()} of {total} images, first image "
            f"{int(broken.argmax())}: the weights or the images are damaged"
        )
    return logits


def encode_codes(
    apply: Callable[[Any, Array], Array], variables: Any, images: Shaped[Array, "n h w c"], *, batch: int = 256
) -> Bool[np.ndarray, "n k"]:
    """Codes of any number of images: `encode`, then bit = (logit >= 0).

    Args:
        apply: (variables, images) -> logits in evaluation mode.
        variables: what `apply` takes.
        images: the images, as `apply` wants them.
        batch: images per step.

    Returns:
        Boolean codes on the host, one row per image.

    Raises:
        ValueError: as `encode`.

    Example:
        >>> import numpy as np
        >>> images = np.array([-1, 1, 0], np.float32).reshape(3, 1, 1, 1)
        >>> encode_codes(lambda variables, x: x[:, 0, 0], None, images, batch=2).ravel()
        array([False,  True,  True])
    """
    return encode(apply, variables, images, batch=batch) >= 0
