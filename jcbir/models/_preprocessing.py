"""What a network was trained to see: the record that travels with its weights, and the function that applies it.

Networks are fed through `preprocess` from uint8 images only; an array that someone has already scaled is refused,
because nothing else tells 0..1 from 0..255 or RGB from BGR.
"""

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from jcbir.typing import Array, check_whole

LARGEST = 1 << 14
"""Most pixels a side that a record of a file may ask for."""


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side, crop the center, scale, order the channels, subtract the mean, divide by the deviation.

    Attributes:
        size: pixels a side that the network receives.
        resize: shorter side before the center crop; None when images come at `size` already.
        interpolation: `"bilinear"` or `"bicubic"`, antialiased, as Pillow does it.
        channels: `"rgb"` or `"bgr"`, the order the network receives; `mean` and `std` are in that order.
        scale: factor on 0..255 before the mean is subtracted.
        mean: per channel, after scaling.
        std: per channel, after scaling.
    """

    size: int
    resize: int | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    channels: Literal["rgb", "bgr"] = "rgb"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


def preprocess(images: UInt8[Array, "b h w 3"], preprocessing: Preprocessing) -> Float[jax.Array, "b s s 3"]:
    r"""uint8 photographs to what the network expects.

    $y = (\mathrm{crop}(\mathrm{resize}(x))\cdot\text{scale}-\mu)/\sigma$.

    Args:
        images: RGB, 0 to 255, all of one size.
        preprocessing: the record that came with the weights.

    Returns:
        float32 [b size size 3].

    Raises:
        ValueError: images are not uint8 RGB, or have another size and the record does not resize.

    Example:
        >>> record = Preprocessing(size=32)
        >>> preprocess(np.zeros((2, 32, 32, 3), np.uint8), record).shape
        (2, 32, 32, 3)
    """
    if images.dtype != jnp.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images: must be uint8 [b h w 3], RGB 0 to 255, got {images.dtype} {images.shape}")
    pixels = jnp.asarray(images).astype(jnp.float32)
    if preprocessing.resize is not None:
        pixels = _resize_crop(pixels, preprocessing)
    if pixels.shape[1:3] != (preprocessing.size, preprocessing.size):
        raise ValueError(f"images: must be {preprocessing.size} px a side without `resize`, got {images.shape[1:3]}")
    if preprocessing.channels == "bgr":
        pixels = pixels[..., ::-1]
    mean = np.asarray(preprocessing.mean, np.float32).reshape(1, 1, 1, 3)
    std = np.asarray(preprocessing.std, np.float32).reshape(1, 1, 1, 3)
    return (pixels * np.float32(preprocessing.scale) - mean) / std


def check_preprocessing(preprocessing: Preprocessing) -> None:
    """Refuse a record that no network was trained with, as a file may hold one."""
    size = check_whole("size", preprocessing.size, low=1, high=LARGEST)
    if preprocessing.resize is not None:
        check_whole("resize", preprocessing.resize, low=size, high=LARGEST)
    hints = get_type_hints(Preprocessing)
    for name in ("interpolation", "channels"):
        allowed, value = get_args(hints[name]), getattr(preprocessing, name)
        if value not in allowed:
            raise ValueError(f"{name}: must be one of {', '.join(allowed)}, got {value!r}")
    for name, values in (
        ("scale", (preprocessing.scale,)),
        ("mean", preprocessing.mean),
        ("std", preprocessing.std),
    ):
        numbers = np.array(values)
        shape = (1,) if name == "scale" else (3,)
        if numbers.shape != shape or numbers.dtype.kind not in "iuf" or not np.isfinite(numbers).all():
            raise ValueError(f"{name}: must be {shape[0]} finite numbers, got {values!r}")
    if not (preprocessing.scale > 0 and min(preprocessing.std) > 0):
        raise ValueError(f"scale, std: must be above 0, got {preprocessing.scale!r}, {preprocessing.std!r}")


def _resize_crop(pixels: jax.Array, preprocessing: Preprocessing) -> jax.Array:
    batch, height, width, _ = pixels.shape
    size, shorter = preprocessing.size, preprocessing.resize or preprocessing.size
    if shorter < size:
        raise ValueError(f"preprocessing.resize: must be at least size {size}, got {shorter}")
    factor = shorter / min(height, width)
    target = (batch, max(shorter, round(height * factor)), max(shorter, round(width * factor)), 3)
    if target[1:3] != (height, width):
        method = "cubic" if preprocessing.interpolation == "bicubic" else "linear"
        pixels = jax.image.resize(pixels, target, method, antialias=True)
    top, left = (target[1] - size) // 2, (target[2] - size) // 2
    # Pillow stores the resized image in bytes: round and clip as it does.
    return jnp.clip(jnp.round(pixels[:, top : top + size, left : left + size]), 0.0, 255.0)
