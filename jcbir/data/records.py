"""What every source gives: images, labels and ids that stay together."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, UInt8


@dataclass(frozen=True, eq=False)
class Split:
    """Photographs of one size, decoded, in a fixed order.

    Fields:
        images: RGB, 0 to 255.
        labels: a class index an image, or one row of 0/1 an image for multi-label sets.
        ids: a name an image, unique within its set.
    """

    images: UInt8[np.ndarray, "n h w 3"]
    labels: Int32[np.ndarray, "n"] | Bool[np.ndarray, "n c"]
    ids: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Sample:
    """A retrieval task: disjoint splits to learn from, to search in and to ask with.

    Fields:
        train: what the hash function is fitted on.
        database: what is indexed.
        query: what is asked.
        names: name of each class, by label.
    """

    train: Split
    database: Split
    query: Split
    names: tuple[str, ...]
