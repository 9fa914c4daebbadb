"""The sample of Caltech-101 in the package: 20 kinds, 600 photographs to train on, 760 to search in, 100 to ask with.

WebP sheets built by `experiments.assets.build_caltech`, checked by SHA-256 each time they are read; every twenty in a
row hold the twenty kinds.
"""

import hashlib
import io
import json
from importlib import resources
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jcbir.data._records import Sample, Split
from jcbir.errors import FormatError, IntegrityError

SAMPLE_SIDE = 128
"""Pixels a side of a photograph of the sample."""


def load_sample() -> Sample:
    """Read the sample.

    Returns:
        `Sample`: uint8 images [n 128 128 3], int32 labels 0 to 19, ids as Caltech-101 has them, `ewer/image_0042.jpg`.

    Raises:
        IntegrityError: a file of the package is not what was built.

    Example:
        >>> sample = load_sample()
        >>> sample.train.images.shape, sample.database.images.shape, sample.query.images.shape
        ((600, 128, 128, 3), (760, 128, 128, 3), (100, 128, 128, 3))
        >>> sample.names[sample.query.labels[0]]
        'leopards'

    References:
        Li, Fergus and Perona, Learning generative visual models from few training examples, CVPR Workshop 2004.
    """
    about = sample_record()
    splits = {name: _split(entry) for name, entry in about["splits"].items()}
    return Sample(**splits, names=tuple(about["names"]))


def sample_record() -> dict[str, Any]:
    """The JSON record beside the sheets: source, license, hashes, rule of choice, labels and ids.

    Returns:
        The record as plain Python values.

    Example:
        >>> sample_record()["script"]
        'experiments/assets/build_caltech.py'
    """
    return json.loads(_asset("caltech101_sample.json"))


def unpack_sheet(
    sheet: UInt8[np.ndarray, "p q 3"], *, count: int, side: int = SAMPLE_SIDE
) -> UInt8[np.ndarray, "n s s 3"]:
    """Cut a sheet of square tiles, row by row, into its images.

    Args:
        sheet: RGB tiles without gaps.
        count: how many tiles hold an image; what follows is filling.
        side: pixels a side of a tile.

    Returns:
        The images.

    Raises:
        FormatError: the sheet is not a whole number of tiles or holds fewer than `count`.

    Example:
        >>> unpack_sheet(np.zeros((64, 96, 3), np.uint8), count=5, side=32).shape
        (5, 32, 32, 3)
    """
    rows, columns = sheet.shape[0] // side, sheet.shape[1] // side
    if sheet.shape[:2] != (rows * side, columns * side) or rows * columns < count:
        raise FormatError(
            f"sheet: must hold {count} tiles of {side} x {side} px, got {sheet.shape[0]} x {sheet.shape[1]} px"
        )
    tiles = sheet.reshape(rows, side, columns, side, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(tiles.reshape(-1, side, side, 3)[:count])


def _split(entry: dict[str, Any]) -> Split:
    encoded = _asset(entry["file"])
    digest = hashlib.sha256(encoded).hexdigest()
    if digest != entry["sha256"]:
        raise IntegrityError(f"{entry['file']}: must have SHA-256 {entry['sha256']}, got {digest}")
    with Image.open(io.BytesIO(encoded)) as opened:
        sheet = np.asarray(opened.convert("RGB"))
    return Split(
        unpack_sheet(sheet, count=len(entry["ids"])), np.asarray(entry["labels"], np.int32), tuple(entry["ids"])
    )


def _asset(name: str) -> bytes:
    return (resources.files("jcbir.data") / "assets" / name).read_bytes()
