"""One canonical digest of any message: what signatures, commitments and HPKE contexts are taken over."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jcbir.protocol._merkle import leaf_hashes, merkle_root
from jcbir.ranking._keys import KEY_KINDS, TaggedKey
from jcbir.ranking._scheme import Index, Scores


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
    elif isinstance(record, TaggedKey):
        if record.kind not in KEY_KINDS:
            raise ValueError(f"record: must have a key of a kind among {', '.join(KEY_KINDS)}, got another")
        # By its fields as they travel: the class of the key is its kind's own affair.
        _walk(update, (record.kind, tuple(KEY_KINDS[record.kind].to_fields(record.key).items())))
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
        raise ValueError(f"record: must be a message of plain fields, got a {type(record).__name__} in it")


def digest(record: object, *, domain: str = "jcbir") -> bytes:
    """SHA-256 over domain and fields in order, each with tag and length: no two records share a byte string."""
    state = hashlib.sha256()
    _feed(state.update, b"d", domain.encode())
    _walk(state.update, record)
    return state.digest()


def score_blocks(scores: tuple) -> tuple[tuple[bytes, ...], ...]:
    """Digests of the scores of each query and segment: the part of a report that stands for them in its header."""
    return tuple(tuple(scores_digest(part.layout, part.fingerprint, _root(part)) for part in row) for row in scores)


def scores_digest(layout: object, fingerprint: str, root: bytes) -> bytes:
    """The digest of scores by the root of the tree over their blocks, so that each block can be shown by itself."""
    return digest((layout, fingerprint, root), domain="jcbir scores v2")


def _root(part: Scores) -> bytes:
    rows = part.ciphertexts
    # Of a shape that no layout has: refused by that, later, and no fault here.
    leaves = part.layout.blocks if part.layout.blocks and len(rows) % part.layout.blocks == 0 and len(rows) else 1
    return merkle_root(leaf_hashes(rows, leaves=leaves))


def index_leaves(indexes: Sequence[Index]) -> list[bytes]:
    """The leaves of a segment's tree: a block of an index each, one index after another."""
    return [leaf for index in indexes for leaf in leaf_hashes(index.ciphertexts, leaves=index.layout.blocks)]
