"""Sets too large to decode at once: encoded files behind a function, with labels and ids in memory.

A `Source` comes from `list_file`, `packed`, `tfds_source` or `class_tree`; `subset` and `shuffled` reorder it without
reading anything; `load` decodes all of it, `chunks` a piece at a time. Which image comes when depends on the source and
the key alone, never on the number of processes, and a run that stopped continues from a position.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

import jax
import numpy as np

from jcbir.data._ahead import ahead
from jcbir.data._decode import decode_image, read_encoded
from jcbir.data._folders import pictures_below
from jcbir.data._records import Labels, Skipped, Split


@dataclass(frozen=True, eq=False)
class Source:
    """Photographs not yet decoded.

    Attributes:
        read: position -> content of the image file; an OSError or ValueError means that this one is broken.
        labels: a class index an image, or one row of 0/1 an image.
        ids: a name an image, unique within the set.
        names: name of each class or concept.
    """

    read: Callable[[int], bytes]
    labels: Labels
    ids: tuple[str, ...]
    names: tuple[str, ...]


class Chunk(NamedTuple):
    """A decoded stretch of a source.

    Attributes:
        split: its readable photographs.
        skipped: the others, by name.
        stop: where the next chunk starts; `chunks(..., start=stop)` continues from here.
    """

    split: Split
    skipped: tuple[Skipped, ...]
    stop: int


def class_tree(path: str | os.PathLike[str]) -> Source:
    """A folder of class folders, read when needed. Files beside the class folders are not part of it.

    Args:
        path: the folder.

    Returns:
        The source, in alphabetical order of the ids.

    Raises:
        ValueError: no such folder, or no file in a class folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     os.mkdir(os.path.join(root, "red"))
        ...     open(os.path.join(root, "red", "a.png"), "wb").close()
        ...     class_tree(root).ids
        ('red/a.png',)
    """
    files = [file for file in pictures_below(path).pictures if "/" in file.id]
    if not files:
        raise ValueError(f"path: must hold class folders with files, got {str(path)!r} without any")
    categories = [file.id.partition("/")[0] for file in files]
    names = tuple(sorted(set(categories)))
    labels = np.asarray([names.index(category) for category in categories], np.int32)
    return Source(lambda i: read_encoded(files[i].path), labels, tuple(file.id for file in files), names)


def subset(source: Source, positions: Sequence[int] | np.ndarray) -> Source:
    """Some of a source, in the order given; nothing is read.

    Args:
        source: the whole.
        positions: which, from 0.

    Returns:
        The part.

    Raises:
        ValueError: a position is out of range.

    Example:
        >>> whole = Source(lambda i: b"", np.arange(3, dtype=np.int32), ("a", "b", "c"), ("x", "y", "z"))
        >>> subset(whole, [2, 0]).ids
        ('c', 'a')
    """
    chosen = [int(position) for position in positions]
    for position in chosen:
        if not 0 <= position < len(source.ids):
            raise ValueError(f"positions: must be from 0 to {len(source.ids) - 1}, got {position}")
    ids = tuple(source.ids[position] for position in chosen)
    return Source(lambda i: source.read(chosen[i]), source.labels[np.asarray(chosen, int)], ids, source.names)


def concatenate(sources: Sequence[Source]) -> Source:
    """Several sources of the same classes as one, end to end.

    Args:
        sources: at least one, without an id in common.

    Returns:
        The whole.

    Raises:
        ValueError: no source, other class names, or an id that comes twice.

    Example:
        >>> a, b = (Source(lambda i: b"", np.zeros(1, np.int32), (name,), ("x",)) for name in "ab")
        >>> concatenate([a, b]).ids
        ('a', 'b')
    """
    if not sources:
        raise ValueError("sources: must be at least one, got none")
    if any(source.names != sources[0].names for source in sources):
        counts = [len(source.names) for source in sources]
        raise ValueError(f"sources: must have the same classes, got {counts} of them")
    ids = tuple(identity for source in sources for identity in source.ids)
    if len(set(ids)) != len(ids):
        raise ValueError(f"sources: must have no id in common, got {len(ids) - len(set(ids))} twice")
    places = [(source, i) for source in sources for i in range(len(source.ids))]

    def read(position: int) -> bytes:
        source, inner = places[position]
        return source.read(inner)

    return Source(read, np.concatenate([source.labels for source in sources]), ids, sources[0].names)


def shuffled(key: jax.Array, source: Source) -> Source:
    """The source in a random order that depends on the key alone.

    Args:
        key: PRNG key.
        source: the source.

    Returns:
        The same photographs in another order.

    Example:
        >>> whole = Source(lambda i: b"", np.arange(3, dtype=np.int32), ("a", "b", "c"), ("x", "y", "z"))
        >>> sorted(shuffled(jax.random.key(0), whole).ids)
        ['a', 'b', 'c']
    """
    return subset(source, np.asarray(jax.random.permutation(key, len(source.ids))))


def load(source: Source, *, size: int, processes: int = 0) -> tuple[Split, tuple[Skipped, ...]]:
    """Decode all of a source.

    Args:
        source: the source.
        size: pixels a side of the decoded squares.
        processes: decoding processes; 0 decodes here. With processes, the calling script needs its main guard.

    Returns:
        The readable photographs, and the others by name.

    Raises:
        ValueError: an empty source, or one without a readable photograph.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> picture = io.BytesIO()
        >>> Image.new("RGB", (9, 7), "red").save(picture, "PNG")
        >>> files = [picture.getvalue(), b"cut"]
        >>> two = Source(files.__getitem__, np.zeros(2, np.int32), ("good", "bad"), ("red",))
        >>> split, skipped = load(two, size=4)
        >>> split.ids, [entry.path for entry in skipped]
        (('good',), ['bad'])
    """
    parts = list(chunks(source, size=size, count=256, processes=processes))
    skipped = tuple(entry for part in parts for entry in part.skipped)
    images = np.concatenate([part.split.images for part in parts])
    if not len(images):
        raise ValueError(f"source: must hold a readable photograph, got {len(skipped)} that are not: {skipped[0]}")
    labels = np.concatenate([part.split.labels for part in parts])
    return Split(images, labels, tuple(identity for part in parts for identity in part.split.ids)), skipped


def chunks(source: Source, *, size: int, count: int, start: int = 0, processes: int = 0) -> Iterator[Chunk]:
    """Decode a source `count` files at a time.

    With processes, reading runs ahead of the caller by a few files a process, never by the whole set.

    Args:
        source: the source.
        size: pixels a side of the decoded squares.
        count: files a chunk; broken ones leave it shorter.
        start: position of the first file, 0 or the `stop` of an earlier chunk.
        processes: decoding processes; 0 decodes here. With processes, the calling script needs its main guard.

    Returns:
        An iterator of chunks, in order.

    Raises:
        ValueError: an empty source, or `size`, `count`, `start` or `processes` out of range.

    Example:
        >>> three = Source(lambda i: b"", np.zeros(3, np.int32), ("a", "b", "c"), ("x",))
        >>> [(chunk.stop, len(chunk.skipped)) for chunk in chunks(three, size=4, count=2)]
        [(2, 2), (3, 1)]
    """
    total = len(source.ids)
    if not total:
        raise ValueError("source: must hold at least one file, got none")
    if size < 1 or count < 1 or processes < 0 or not 0 <= start <= total:
        raise ValueError(
            f"size, count, processes, start: must be at least 1, 1, 0 and from 0 to {total}, "
            f"got {size}, {count}, {processes}, {start}"
        )
    return _chunks(source, size, count, start, processes)


def _chunks(source: Source, size: int, count: int, start: int, processes: int) -> Iterator[Chunk]:
    files = (_read(source, i) for i in range(start, len(source.ids)))
    decoded = ahead(partial(_decode, size=size), files, processes=processes)
    for first in range(start, len(source.ids), count):
        yield _chunk(source, size, first, [result for _, result in islice(decoded, count)])


def _read(source: Source, position: int) -> bytes | str:
    try:
        return source.read(position)
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__


def _decode(encoded: bytes | str, *, size: int) -> np.ndarray | str:
    """Pixels, or the reason why there are none."""
    if isinstance(encoded, str):
        return encoded
    try:
        return decode_image(encoded, size=size)
    except ValueError as error:
        return str(error)


def _chunk(source: Source, size: int, first: int, decoded: list[np.ndarray | str]) -> Chunk:
    good = [first + i for i, result in enumerate(decoded) if not isinstance(result, str)]
    skipped = [Skipped(source.ids[first + i], result) for i, result in enumerate(decoded) if isinstance(result, str)]
    pixels = [result for result in decoded if not isinstance(result, str)]
    images = np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8)
    split = Split(images, source.labels[np.asarray(good, int)], tuple(source.ids[i] for i in good))
    return Chunk(split, tuple(skipped), first + len(decoded))
