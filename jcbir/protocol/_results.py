"""What the authority seals to the user: order and distances of the results of each query, and their image keys."""

import dataclasses
import struct

import numpy as np
from jaxtyping import Int32, UInt8

from jcbir.errors import FormatError

MAGIC = b"JCBR-release-1"
_COUNTS = struct.Struct(">IIIB")
KEY_BYTES = 32


@dataclasses.dataclass(frozen=True, repr=False)
class Release:
    """The sealed half of a ranking. Secret: it holds image keys.

    Attributes:
        image_ids: pseudonyms of all results of the batch, sorted.
        keys: uint8[m, 32], the image key of each of them; uint8[0, 32] where the grant does not open images.
        order: int32[q, r], for each query the places in `image_ids` of its results, best first.
        distances: int32[q, r], Hamming distances (ranks for the scheme `integer`).
    """

    image_ids: tuple[str, ...]
    keys: UInt8[np.ndarray, "m 32"]
    order: Int32[np.ndarray, "q r"]
    distances: Int32[np.ndarray, "q r"]

    def __repr__(self) -> str:
        return f"Release({len(self.image_ids)} images, {self.order.shape[0]} queries, keys hidden)"


def write_release(release: Release) -> bytes:
    """Write a release: magic, counts, pseudonyms, keys, order, distances; all big-endian.

    Args:
        release: the release.

    Returns:
        Its bytes.

    Raises:
        ValueError: a pseudonym is longer than 255 bytes.

    Example:
        >>> empty = np.zeros((1, 0), np.int32)
        >>> blob = write_release(Release((), np.zeros((0, 32), np.uint8), empty, empty))
        >>> read_release(blob).order.shape
        (1, 0)
    """
    names = [image_id.encode() for image_id in release.image_ids]
    if any(len(name) > 255 for name in names):
        raise ValueError("image_ids: a pseudonym is longer than 255 bytes")
    queries, results = release.order.shape
    return b"".join(
        [
            MAGIC,
            _COUNTS.pack(len(names), queries, results, bool(len(release.keys))),
            *(bytes([len(name)]) + name for name in names),
            release.keys.tobytes(),
            release.order.astype(">i4").tobytes(),
            release.distances.astype(">i4").tobytes(),
        ]
    )


def read_release(blob: bytes) -> Release:
    """Read a release back.

    Args:
        blob: what `write_release` gave.

    Returns:
        The release.

    Raises:
        FormatError: the bytes are not exactly one release.

    Example:
        >>> read_release(b"nonsense")
        Traceback (most recent call last):
        ...
        jcbir.errors.FormatError: release: not a release of this version
    """
    if not blob.startswith(MAGIC):
        raise FormatError("release: not a release of this version")
    start = len(MAGIC) + _COUNTS.size
    if len(blob) < start:
        raise FormatError("release: truncated")
    count, queries, results, keyed = _COUNTS.unpack_from(blob, len(MAGIC))
    names = []
    for _ in range(count):
        end = start + 1 + (blob[start] if start < len(blob) else 0)
        if end > len(blob):
            raise FormatError("release: truncated")
        names.append(blob[start + 1 : end])
        start = end
    keys_end = start + (KEY_BYTES * count if keyed else 0)
    cells = queries * results
    if keyed > 1 or len(blob) != keys_end + 8 * cells:
        raise FormatError(f"release: {len(blob)} bytes, its counts say {keys_end + 8 * cells}")
    keys = np.frombuffer(blob, np.uint8, keys_end - start, start).reshape(-1, KEY_BYTES)
    order = np.frombuffer(blob, ">i4", cells, keys_end).astype(np.int32).reshape(queries, results)
    distances = np.frombuffer(blob, ">i4", cells, keys_end + 4 * cells).astype(np.int32).reshape(queries, results)
    if cells and (order.min() < 0 or order.max() >= count):
        raise FormatError(f"release: a result points outside its {count} images")
    try:
        return Release(tuple(name.decode() for name in names), keys, order, distances)
    except UnicodeDecodeError:
        raise FormatError("release: a pseudonym is not UTF-8") from None


__all__ = ["KEY_BYTES", "Release", "read_release", "write_release"]
