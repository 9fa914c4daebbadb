"""What every source gives: images, labels and ids that stay together, and the names of files that could not be read."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, UInt8

Labels = Int32[np.ndarray, "n"] | Bool[np.ndarray, "n c"]
"""A class index an image, or one row of 0/1 an image where an image may have several concepts."""


class Skipped(NamedTuple):
    """A file that was passed over.

    Attributes:
        path: its id, the path below the folder where there is one.
        reason: why, in words.
    """

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Split:
    """Photographs of one size, decoded, in a fixed order.

    Attributes:
        images: RGB, 0 to 255.
        labels: a class index an image, or one row of 0/1 an image for multi-label sets.
        ids: a name an image, unique within its set.
    """

    images: UInt8[np.ndarray, "n h w 3"]
    labels: Labels
    ids: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Sample:
    """A retrieval task: disjoint splits to learn from, to search in and to ask with.

    Attributes:
        train: what the hash function is fitted on.
        database: what is indexed.
        query: what is asked.
        names: name of each class, by label.
    """

    train: Split
    database: Split
    query: Split
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Folder:
    """All readable photographs of a folder of class folders.

    Attributes:
        images: RGB, 0 to 255, cropped square.
        labels: position of the class folder in `names`.
        ids: path below the folder, with `/`.
        names: class folders in alphabetical order.
        skipped: files that were passed over, and why.
    """

    images: UInt8[np.ndarray, "n h w 3"]
    labels: Int32[np.ndarray, "n"]
    ids: tuple[str, ...]
    names: tuple[str, ...]
    skipped: tuple[Skipped, ...]
