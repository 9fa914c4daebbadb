"""One canonical digest of any message: what signatures, commitments and HPKE contexts are taken over."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable

import numpy as np

DIGEST_BYTES = 32


def _feed(update: Callable[[bytes], object], tag: bytes, content: bytes) -> None:
    # Tag and length before content make the encoding injective: no two different records share a byte string.
    update(tag + len(content).to_bytes(8, "big"))
    update(content)


def _walk_items(update: Callable[[bytes], object], tag: bytes, items: Iterable[object], count: int) -> None:
    _feed(update, tag, count.to_bytes(8, "big"))
    for item in items:
        _walk(update, item)


def _walk(update: Callable[[bytes], object], record: object) -> None:
    if record is None:
        _feed(update, b"z", b"")
    elif isinstance(record, bool):
        _feed(update, b"t", bytes([record]))
    elif isinstance(record, int):
        _feed(update, b"i", str(record).encode() if record.bit_length() < 64 else hex(record).encode())
    elif isinstance(record, str):
        _feed(update, b"s", record.encode())
    elif isinstance(record, (bytes, bytearray, memoryview)):
        _feed(update, b"b", bytes(record))
    elif dataclasses.is_dataclass(record) and not isinstance(record, type):
        names = [field.name for field in dataclasses.fields(record)]
        _feed(update, b"r", type(record).__name__.encode())
        _walk_items(update, b"f", (getattr(record, name) for name in names), len(names))
    elif isinstance(record, tuple):
        _feed(update, b"r", type(record).__name__.encode())
        _walk_items(update, b"l", record, len(record))
    elif isinstance(record, np.ndarray):
        _feed(update, b"a", f"{record.dtype.str}{record.shape}".encode())
        _feed(update, b"c", np.ascontiguousarray(record).tobytes())
    else:
        raise ValueError(f"record: expected a message of plain fields, got a {type(record).__name__} in it")


def digest(record: object, *, domain: str = "jcbir") -> bytes:
    """Digest a record of plain fields canonically.

    `SHA-256(domain, tag | length | content, ...)` over the fields in order; tags and lengths make it injective.

    Args:
        record: a dataclass, named tuple, tuple, array, string, bytes, integer, or any nesting of these.
        domain: what the digest is for; different domains never give the same digest.

    Returns:
        32 bytes.

    Raises:
        ValueError: a field of the record is of no plain type.

    Example:
        >>> digest(("photos", 3)).hex()[:16] == digest(("photos", 3)).hex()[:16]
        True
        >>> digest(("a", "bc")) == digest(("ab", "c"))
        False
    """
    state = hashlib.sha256()
    _feed(state.update, b"d", domain.encode())
    _walk(state.update, record)
    return state.digest()


__all__ = ["DIGEST_BYTES", "digest"]
