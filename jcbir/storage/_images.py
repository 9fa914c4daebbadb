"""Pictures written as PNG files."""

import io
import os

import numpy as np
import PIL.Image

from jcbir.storage._files import write_file
from jcbir.typing import Image


def encode_image(image: Image) -> bytes:
    """Encode an image as PNG, lossless."""
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size or array.dtype != np.uint8:
        raise ValueError(f"image: must be uint8[h, w, 1, 3 or 4], got {array.dtype}{list(array.shape)}")
    body = io.BytesIO()
    PIL.Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(body, "PNG")
    return body.getvalue()


def write_image(path: str | os.PathLike, image: Image) -> None:
    """Write an image as PNG, atomically.

    Args:
        path: where; the name should end in `.png`.
        image: uint8[h, w, c], c of 1, 3 or 4.

    Raises:
        ValueError: as `encode_image`.
        OSError: the disk is full; what was there before is there still.

    Example:
        >>> import tempfile
        >>> write_image(f"{tempfile.mkdtemp()}/a.png", np.zeros((2, 3, 1), np.uint8))
    """
    write_file(path, encode_image(image))
