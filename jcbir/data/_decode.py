"""Encoded photographs to square RGB arrays: any size and mode that Pillow opens.

Kept free of JAX, so that a decoding process starts in a fraction of a second.
"""

import io
import struct
import warnings
import zlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

# What Pillow's readers raise on files that are cut, forged or of another format.
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def decode_image(encoded: bytes, *, size: int) -> UInt8[np.ndarray, "s s 3"]:
    """Decode a photograph, turn it upright, and cut the largest centered square, scaled to `size`.

    The first frame counts. Transparency shows white. Gray of 16 bits is divided by 257; 32-bit integers and floats have
    no fixed range and are stretched from their least to their greatest value.

    Args:
        encoded: the content of an image file.
        size: pixels a side of the result.

    Returns:
        RGB, 0 to 255.

    Raises:
        ValueError: the bytes are not an image that Pillow opens, or `size` is below 1.

    Example:
        >>> picture = io.BytesIO()
        >>> Image.new("LA", (30, 20), (0, 0)).save(picture, "PNG")
        >>> decode_image(picture.getvalue(), size=8)[0, 0].tolist()
        [255, 255, 255]
    """
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel; got {size}")
    try:
        with warnings.catch_warnings():
            # A large photograph or odd metadata is no reason to bother the user; what cannot be read is named anyway.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(encoded)) as opened:
                # JPEG can be read at a fraction of its size: four times as fast on camera photographs.
                opened.draft("RGB", (2 * size, 2 * size))
                square = ImageOps.fit(_rgb(_upright(opened)), (size, size), Image.Resampling.BICUBIC)
    except _BROKEN as error:
        # Pillow's own message names a memory address here.
        reason = (
            "of no known format" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        )
        raise ValueError(f"encoded must be an image that Pillow opens; got {len(encoded)} bytes: {reason}") from error
    return np.asarray(square)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _BROKEN:
        # Broken metadata around a good picture: keep the picture. If its pixels are broken too, `load` says so again.
        image.load()
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(image).astype(np.float64) / 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_stretch(np.asarray(image, np.float64))).convert("RGB")
    if image.mode == "LAB":
        standard = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, ImageCms.createProfile("LAB"), standard, outputMode="RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        straight = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", straight.size, "white"), straight).convert("RGB")
    return image.convert("RGB")


def _stretch(values: np.ndarray) -> np.ndarray:
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError("no pixel is a finite number")
    least, greatest = values[finite].min(), values[finite].max()
    scaled = np.where(finite, values - least, 0) * (255 / max(greatest - least, np.finfo(np.float64).tiny))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
