"""The server's state over a store, as of one moment: ciphertexts and sealed images stay on disk, behind memory maps."""

import dataclasses
import itertools
import mmap
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from jcbir.errors import FormatError
from jcbir.protocol import wire
from jcbir.protocol._schema import read_plain
from jcbir.protocol.messages import Head, Revocation
from jcbir.protocol.server import Segment, Server, prepare_segment
from jcbir.ranking._scheme import Index
from jcbir.ranking._table import find_scheme
from jcbir.storage._database import explained, read_meta, read_seen, retry_missing
from jcbir.storage._segments import Place, map_segment
from jcbir.storage._store import Store, segment_path


class _Part(NamedTuple):
    """A segment as of one moment: in which file, how many of its images were gone, and where the others lie."""

    generation: int
    gone: int
    segment: Segment
    view: mmap.mmap
    places: Mapping[str, Place]


class StoredImages(Mapping[str, bytes]):
    """Pseudonym to sealed image, read from the maps when asked for.

    Attributes:
        parts: by number of their segment.
    """

    def __init__(self, parts: Mapping[int, _Part]) -> None:
        self.parts = parts

    def __getitem__(self, image_id: str) -> bytes:
        for part in self.parts.values():
            place = part.places.get(image_id)
            if place is not None:
                return part.view[place.offset : place.offset + place.size]
        raise KeyError(image_id)

    def __contains__(self, image_id: object) -> bool:
        return any(image_id in part.places for part in self.parts.values())

    def __iter__(self) -> Iterator[str]:
        return itertools.chain.from_iterable(part.places for part in self.parts.values())

    def __len__(self) -> int:
        return sum(len(part.places) for part in self.parts.values())


def load_server(store: Store, *, previous: Server | None = None, tables: bool = True, images: bool = True) -> Server:
    """Build the server's state over the store: ciphertexts and images stay on the disk, behind memory maps.

    Args:
        store: open for reading or writing.
        previous: an earlier state of the same store in the same epoch; what did not change since is kept as it is.
        tables: whether to build the product tables of new segments; a process that does not score needs none.
        images: whether to look up the images; a process that only scores needs none, and has none then.

    Returns:
        The state.

    Raises:
        FormatError: a segment file is not what the database says.

    Example:
        >>> import tempfile
        >>> from jcbir.storage._store import append_segment, create_store, open_store
        >>> from jcbir.protocol.session import small_system
        >>> with tempfile.TemporaryDirectory() as path:
        ...     create_store(path, small_system().server.card, unsafe_small=True)
        ...     with open_store(path, write=True) as store:
        ...         _ = append_segment(store, small_system().publication)
        ...         state = load_server(store)
        >>> len(state.segments), state.images == small_system().server.images
        (1, True)
    """
    with explained(store.path):
        known = previous.images.parts if previous and isinstance(previous.images, StoredImages) else {}
        parts = retry_missing(lambda: _snapshot(store, known, tables=tables, images=images))
        kept, shown = (read_meta(store.database, name) for name in ("revocation", "head"))
        recalled = dict(store.database.execute("SELECT nonce, issued FROM recalled"))
        seen = read_seen(store.database)
    state = Server(store.card, answered=recalled, seen=seen) if previous is None else previous
    if kept is not None:
        revocation = wire.from_bytes(kept, expect=Revocation)
        state = dataclasses.replace(state, revoked=frozenset(revocation.grant_ids), revocation_serial=revocation.serial)
    head = None if shown is None else wire.from_bytes(shown, expect=Head)
    segments = tuple(part.segment for part in parts.values())
    return dataclasses.replace(state, segments=segments, images=StoredImages(parts), head=head)


def read_indexes(store: Store, number: int, view: mmap.mmap) -> list[Index]:
    """Read the encrypted indexes of a segment as views of its memory map."""
    indexes = []
    query = "SELECT record, offset, size FROM indexes WHERE segment = ? ORDER BY position"
    for record, offset, size in store.database.execute(query, [number]).fetchall():
        layout = read_plain(wire.LAYOUT, record, name="layout")
        count, width = find_scheme(layout.scheme).shapes(layout).index
        if size != count * width or not 0 <= offset <= offset + size <= len(view):
            raise FormatError(f"{store.path}: an index of segment {number} does not fit its file")
        rows = np.frombuffer(view, np.uint8, size, offset).reshape(count, width)
        indexes.append(Index(layout, store.card.public.fingerprint, rows))
    return indexes


def _snapshot(store: Store, known: Mapping[int, _Part], *, tables: bool, images: bool) -> dict[int, _Part]:
    """The segments of one moment: all reads in one transaction, of those that changed."""
    parts = {}
    store.database.execute("BEGIN")
    try:
        query = "SELECT number, generation, size FROM segments ORDER BY number"
        for number, generation, size in store.database.execute(query).fetchall():
            count = "SELECT count(*) FROM images WHERE segment = ? AND gone = 1"
            gone = store.database.execute(count, [number]).fetchone()[0] if images else 0
            part = known.get(number)
            if part is None or (part.generation, part.gone) != (generation, gone):
                path = segment_path(store, number, generation)
                view = map_segment(path, store_id=store.store_id, number=number, generation=generation, size=size)
                part = _read_part(store, number, view, tables=tables, images=images)
                part = part._replace(generation=generation, gone=gone)
            parts[number] = part
    finally:
        store.database.execute("COMMIT")
    return parts


def _read_part(store: Store, number: int, view: mmap.mmap, *, tables: bool, images: bool) -> _Part:
    lines, places = [], {}
    if images:
        query = "SELECT image_id, offset, size, gone FROM images WHERE segment = ? ORDER BY position"
        lines = store.database.execute(query, [number]).fetchall()
    for image_id, offset, length, gone in lines:
        if not 0 <= offset <= offset + length <= len(view):
            raise FormatError(f"{store.path}: an image of segment {number} lies outside its file")
        if not gone:
            places[image_id] = Place(offset, length)
    names = tuple(line[0] for line in lines)
    segment = prepare_segment(store.card, number, read_indexes(store, number, view), names, tables=tables)
    return _Part(0, 0, segment, view, places)
