"""Pictures as arrays: what Pillow opens as uint8[h, w, 3], PNG out; bombs and broken files are clear errors."""

import io
import os
import pathlib
import warnings

import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import UInt8

from jcbir.errors import FormatError
from jcbir.storage.files import write_file
from jcbir.typing import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAXIMUM_PIXELS = 100_000_000
MAXIMUM_BYTES = 512 << 20


def decode_image(content: bytes, *, maximum_pixels: int = MAXIMUM_PIXELS) -> UInt8[np.ndarray, "h w 3"]:
    """Decode a picture file: any mode becomes RGB on white, upright as the camera stood; of several frames the first.

    Args:
        content: bytes of the file.
        maximum_pixels: most pixels to decode; a small file can claim a huge picture.

    Returns:
        uint8[h, w, 3].

    Raises:
        FormatError: not a picture that Pillow opens, truncated, or too large.

    Example:
        >>> decode_image(encode_image(np.zeros((4, 6, 3), np.uint8))).shape
        (4, 6, 3)
        >>> decode_image(b"not a picture")
        Traceback (most recent call last):
        ...
        jcbir.errors.FormatError: image: not a picture (UnidentifiedImageError)
    """
    try:
        with warnings.catch_warnings():
            # Size is judged below; Pillow's own warning comes at another threshold.
            warnings.simplefilter("ignore")
            picture = PIL.Image.open(io.BytesIO(content))
            if picture.width * picture.height > maximum_pixels:
                raise FormatError(f"image: {picture.width} x {picture.height} pixels, at most {maximum_pixels}")
            upright = PIL.ImageOps.exif_transpose(picture)
            return np.array(_flatten(upright))
    except FormatError:
        raise
    except PIL.Image.DecompressionBombError:
        raise FormatError(f"image: more pixels than anybody takes, at most {maximum_pixels}") from None
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError) as error:
        # Pillow's decoders raise all of these on damaged files.
        raise FormatError(f"image: not a picture ({type(error).__name__})") from None


def encode_image(image: Image) -> bytes:
    """Encode an image as PNG, lossless.

    Args:
        image: uint8[h, w, c], c of 1 (gray), 3 (RGB) or 4 (RGBA).

    Returns:
        Bytes of the file.

    Raises:
        ValueError: another number of channels, or an empty image.

    Example:
        >>> encode_image(np.zeros((4, 6, 3), np.uint8))[1:4]
        b'PNG'
    """
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size or array.dtype != np.uint8:
        raise ValueError(f"image: expected uint8[h, w, 1, 3 or 4], got {array.dtype}{array.shape}")
    body = io.BytesIO()
    PIL.Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(body, "PNG")
    return body.getvalue()


def read_image(path: str | os.PathLike) -> UInt8[np.ndarray, "h w 3"]:
    """Read a picture file.

    Args:
        path: the file.

    Returns:
        uint8[h, w, 3], upright.

    Raises:
        FormatError: not a picture, truncated, or too large; the message names the file.
        OSError: the file cannot be read.

    Example:
        >>> import tempfile
        >>> path = f"{tempfile.mkdtemp()}/a.png"
        >>> write_image(path, np.full((2, 3, 3), 7, np.uint8))
        >>> int(read_image(path)[1, 2, 0])
        7
    """
    if os.stat(path).st_size > MAXIMUM_BYTES:
        raise FormatError(f"{path}: more than {MAXIMUM_BYTES} bytes")
    try:
        return decode_image(pathlib.Path(path).read_bytes())
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


def write_image(path: str | os.PathLike, image: Image) -> None:
    """Write an image as PNG, atomically.

    Args:
        path: where; the name should end in `.png`.
        image: uint8[h, w, c], c of 1, 3 or 4.

    Returns:
        Nothing.

    Example:
        >>> import tempfile
        >>> write_image(f"{tempfile.mkdtemp()}/a.png", np.zeros((2, 3, 1), np.uint8))
    """
    write_file(path, encode_image(image))


def list_images(folder: str | os.PathLike) -> list[pathlib.Path]:
    """List the picture files under a folder by suffix, in a fixed order.

    Args:
        folder: the folder.

    Returns:
        Paths, sorted; hidden files and folders are left out.

    Raises:
        NotADirectoryError: there is no such folder.

    Example:
        >>> import tempfile
        >>> list_images(tempfile.mkdtemp())
        []
    """
    root = pathlib.Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"{folder}: no such folder")
    found = (path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts))


def _flatten(picture: PIL.Image.Image) -> PIL.Image.Image:
    """RGB on white: what a viewer shows of a transparent picture."""
    if picture.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        wide = np.asarray(picture, np.float64)
        scale = 255 / 65535 if wide.max(initial=0) > 255 else 1
        return PIL.Image.fromarray((wide * scale).clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        return PIL.Image.alpha_composite(PIL.Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return picture.convert("RGB")


__all__ = ["SUFFIXES", "decode_image", "encode_image", "list_images", "read_image", "write_image"]
