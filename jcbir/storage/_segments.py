"""Segment files: ciphertext rows and sealed images of one publication, written once, read by memory map.

    64 bytes   magic b"JCBG", version, 3 zero bytes, 32 bytes store id, number, generation (4 bytes each), zeros
    sections   for each index its ciphertext rows, padded to a multiple of 64, then the sealed images back to back

Where each section and image lies stands in the store's database, beside the SHA-256 of the file.
"""

import hashlib
import mmap
import os
import pathlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jcbir.errors import FormatError
from jcbir.ranking._scheme import Index
from jcbir.storage._files import written_beside

MAGIC = b"JCBG"
VERSION = 1
ALIGNMENT = 64
_HEADER = struct.Struct(">4sB3x32sII16x")


class Place(NamedTuple):
    """Where a section or an image lies, in bytes; an image that is gone has size 0."""

    offset: int
    size: int


class Written(NamedTuple):
    """What the database notes of a segment file; indexes and images in their order."""

    size: int
    sha256: bytes
    indexes: tuple[Place, ...]
    images: tuple[Place, ...]


def segment_name(number: int, generation: int) -> str:
    """Name the file of a segment."""
    return f"{number:08d}-{generation:04d}.seg"


def write_segment(
    folder: str | os.PathLike[str],
    *,
    store_id: bytes,
    number: int,
    generation: int,
    indexes: Sequence[Index],
    images: Sequence[bytes | memoryview],
) -> Written:
    """Write a segment file: beside, flushed, renamed; until the rename nothing has its name."""
    state, position = hashlib.sha256(), 0
    with written_beside(pathlib.Path(folder) / segment_name(number, generation)) as file:

        def put(content: bytes | memoryview) -> Place:
            nonlocal position
            file.write(content)
            state.update(content)
            place = Place(position, len(content))
            position += len(content)
            return place

        put(_HEADER.pack(MAGIC, VERSION, store_id, number, generation))
        index_places = []
        for index in indexes:
            rows = np.ascontiguousarray(index.ciphertexts)
            index_places.append(put(rows.reshape(-1).data))
            put(bytes(-position % ALIGNMENT))
        image_places = [put(image) for image in images]
    return Written(position, state.digest(), tuple(index_places), tuple(image_places))


def map_segment(path: str | os.PathLike[str], *, store_id: bytes, number: int, generation: int, size: int) -> mmap.mmap:
    """Map a segment file into memory, read-only."""
    with open(path, "rb") as file:
        found = os.fstat(file.fileno()).st_size
        if found != size or size < _HEADER.size:
            raise FormatError(f"{path}: {found} bytes, the database says {size}")
        view = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    if view[: _HEADER.size] != _HEADER.pack(MAGIC, VERSION, store_id, number, generation):
        raise FormatError(f"{path}: not segment {number} of this store")
    return view
