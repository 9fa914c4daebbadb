"""Segment files: ciphertext rows and sealed images of one publication, written once, read by memory map.

    64 bytes   magic b"JCBG", version, 3 zero bytes, 32 bytes store id, number, generation (4 bytes each), zeros
    sections   for each index its ciphertext rows, padded to a multiple of 64, then the sealed images back to back

Where each section and image lies stands in the store's catalogue, beside the SHA-256 of the file.
"""

import hashlib
import mmap
import os
import pathlib
import secrets
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jcbir.errors import FormatError
from jcbir.ranking._scheme import Index
from jcbir.storage.files import sync_folder

MAGIC = b"JCBG"
VERSION = 1
ALIGNMENT = 64
_HEADER = struct.Struct(">4sB3x32sII16x")
_CHUNK = 1 << 20


class Place(NamedTuple):
    """Where a section or an image lies.

    Attributes:
        offset: first byte in the file.
        size: bytes; 0 for an image that is gone.
    """

    offset: int
    size: int


class Written(NamedTuple):
    """What the catalogue notes of a segment file.

    Attributes:
        size: bytes of the file.
        sha256: hash of the file.
        indexes: place of each index, in order.
        images: place of each sealed image, in order.
    """

    size: int
    sha256: bytes
    indexes: tuple[Place, ...]
    images: tuple[Place, ...]


def segment_name(number: int, generation: int) -> str:
    """Name the file of a segment.

    Args:
        number: number of the segment.
        generation: counts compactions.

    Returns:
        The file name.

    Example:
        >>> segment_name(3, 0)
        '00000003-0000.seg'
    """
    return f"{number:08d}-{generation:04d}.seg"


def write_segment(
    folder: str | os.PathLike,
    *,
    store_id: bytes,
    number: int,
    generation: int,
    indexes: Sequence[Index],
    images: Sequence[bytes | memoryview],
) -> Written:
    """Write a segment file: beside, flushed, renamed; until the rename nothing has its name.

    Args:
        folder: where.
        store_id: the store's own 32 bytes.
        number: number of the segment.
        generation: counts compactions.
        indexes: its encrypted indexes.
        images: its sealed images; an empty one takes no space.

    Returns:
        What the catalogue notes.

    Raises:
        OSError: the disk is full or read-only; nothing is left behind.

    Example:
        >>> import tempfile
        >>> where = {"store_id": bytes(32), "number": 0, "generation": 0}
        >>> write_segment(tempfile.mkdtemp(), **where, indexes=(), images=[b"a"]).images
        (Place(offset=64, size=1),)
    """
    target = pathlib.Path(folder) / segment_name(number, generation)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    state, position = hashlib.sha256(), 0
    index_places, image_places = [], []
    try:
        with open(beside, "xb") as file:

            def put(content: bytes | memoryview) -> Place:
                nonlocal position
                file.write(content)
                state.update(content)
                place = Place(position, len(content))
                position += len(content)
                return place

            put(_HEADER.pack(MAGIC, VERSION, store_id, number, generation))
            for index in indexes:
                rows = np.ascontiguousarray(index.ciphertexts)
                index_places.append(put(rows.reshape(-1).data))
                put(bytes(-position % ALIGNMENT))
            image_places = [put(image) for image in images]
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)
    return Written(position, state.digest(), tuple(index_places), tuple(image_places))


def map_segment(path: str | os.PathLike, *, store_id: bytes, number: int, generation: int, size: int) -> mmap.mmap:
    """Map a segment file into memory, read-only.

    Args:
        path: the file.
        store_id: the store it must belong to.
        number: the segment it must be.
        generation: the generation it must be.
        size: the size it must have.

    Returns:
        The map; it stays valid when the file is unlinked.

    Raises:
        FormatError: another file than the catalogue speaks of.
        FileNotFoundError: there is none.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> done = write_segment(folder, store_id=bytes(32), number=0, generation=0, indexes=(), images=[b"a"])
        >>> path = f"{folder}/{segment_name(0, 0)}"
        >>> map_segment(path, store_id=bytes(32), number=0, generation=0, size=done.size)[64:]
        b'a'
    """
    with open(path, "rb") as file:
        found = os.fstat(file.fileno()).st_size
        if found != size or size < _HEADER.size:
            raise FormatError(f"{path}: {found} bytes, the catalogue says {size}")
        view = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    if view[: _HEADER.size] != _HEADER.pack(MAGIC, VERSION, store_id, number, generation):
        raise FormatError(f"{path}: not segment {number} of this store")
    return view


def hash_file(path: str | os.PathLike) -> bytes:
    """Hash a file without holding it in memory.

    Args:
        path: the file.

    Returns:
        SHA-256, 32 bytes.

    Example:
        >>> import tempfile
        >>> path = f"{tempfile.mkdtemp()}/a"
        >>> pathlib.Path(path).write_bytes(b"a")
        1
        >>> hash_file(path).hex()[:8]
        'ca978112'
    """
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_CHUNK):
            state.update(piece)
    return state.digest()


__all__ = ["ALIGNMENT", "Place", "Written", "hash_file", "map_segment", "segment_name", "write_segment"]
