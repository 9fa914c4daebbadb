"""The server's state over a store, as of one moment: ciphertexts and sealed images stay on disk, behind memory maps."""

import dataclasses
import mmap
from collections.abc import Iterator, Mapping

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


class StoredImages(Mapping[str, bytes]):
    """Pseudonym to sealed image, read from the maps when asked for."""

    def __init__(self, places: Mapping[str, tuple[mmap.mmap, Place]]) -> None:
        self._places = places

    def __getitem__(self, image_id: str) -> bytes:
        view, place = self._places[image_id]
        return view[place.offset : place.offset + place.size]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def load_server(store: Store, *, previous: Server | None = None, tables: bool = True, images: bool = True) -> Server:
    """Build the server's state over the store: ciphertexts and images stay on the disk, behind memory maps.

    Args:
        store: open for reading or writing.
        previous: an earlier state of the same store; its prepared segments are kept.
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
        prepared = {} if previous is None else {segment.number: segment for segment in previous.segments}
        segments, places = retry_missing(lambda: _snapshot(store, prepared, tables, images))
        kept, shown = (read_meta(store.database, name) for name in ("revocation", "head"))
        recalled = dict(store.database.execute("SELECT nonce, issued FROM recalled"))
        seen = read_seen(store.database)
    state = Server(store.card, answered=recalled, seen=seen) if previous is None else previous
    if kept is not None:
        revocation = wire.from_bytes(kept, expect=Revocation)
        state = dataclasses.replace(state, revoked=frozenset(revocation.grant_ids), revocation_serial=revocation.serial)
    head = None if shown is None else wire.from_bytes(shown, expect=Head)
    return dataclasses.replace(state, segments=segments, images=places, head=head)


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


Snapshot = tuple[tuple[Segment, ...], StoredImages]


def _snapshot(store: Store, prepared: Mapping[int, Segment], tables: bool, images: bool) -> Snapshot:
    """Segments and images of one moment: all reads in one transaction."""
    segments, places = [], {}
    store.database.execute("BEGIN")
    try:
        query = "SELECT number, generation, size FROM segments ORDER BY number"
        for number, generation, size in store.database.execute(query).fetchall():
            path = segment_path(store, number, generation)
            view = map_segment(path, store_id=store.store_id, number=number, generation=generation, size=size)
            lines = []
            if images:
                lines = store.database.execute(
                    "SELECT image_id, offset, size, gone FROM images WHERE segment = ? ORDER BY position", [number]
                ).fetchall()
            for image_id, offset, length, gone in lines:
                if not 0 <= offset <= offset + length <= size:
                    raise FormatError(f"{path}: an image lies outside the file")
                if not gone:
                    places[image_id] = (view, Place(offset, length))
            names = tuple(line[0] for line in lines)
            indexes = read_indexes(store, number, view)
            segments.append(prepared.get(number) or prepare_segment(store.card, number, indexes, names, tables=tables))
    finally:
        store.database.execute("COMMIT")
    return tuple(segments), StoredImages(places)
