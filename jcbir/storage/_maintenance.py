"""Maintenance of a store: reclaim what is deleted, check every byte, copy it while it serves."""

import contextlib
import dataclasses
import os
import pathlib
import shutil

from jcbir.errors import IntegrityError
from jcbir.storage._database import connect, explained, retry_missing, transaction
from jcbir.storage._files import file_digest
from jcbir.storage._load import read_indexes
from jcbir.storage._segments import Written, map_segment, segment_name, write_segment
from jcbir.storage._store import DATABASE, SEGMENTS, Store, check_writable, drafted_store, open_store, segment_path


@dataclasses.dataclass(frozen=True)
class Health:
    """What `verify_store` found in a sound store.

    Attributes:
        segments: segment files.
        images: living images.
        gone: images deleted; their positions in the index stay.
        size: bytes of all segment files.
    """

    segments: int
    images: int
    gone: int
    size: int


def compact_store(store: Store) -> int:
    """Write segments anew without the sealed images that are gone. Index rows stay: positions must not move.

    Args:
        store: open for writing. Readers go on with the files they have mapped.

    Returns:
        Bytes freed.

    Raises:
        OSError: the disk is full or read-only; every segment is old or new, none is torn.

    Example:
        >>> import tempfile
        >>> from jcbir.storage._store import append_segment, create_store, open_store, remove_images
        >>> from jcbir.protocol import session as example, owner
        >>> system = example.small_system()
        >>> with tempfile.TemporaryDirectory() as path:
        ...     create_store(path, system.server.card, unsafe_small=True)
        ...     with open_store(path, write=True) as store:
        ...         _ = append_segment(store, system.publication)
        ...         _ = remove_images(store, owner.withdraw(system.owner, ["a"])[1])
        ...         compact_store(store) == len(system.publication.images[0].sealed)
        True
    """
    check_writable(store)
    freed = 0
    rows = store.database.execute("SELECT DISTINCT segment FROM images WHERE gone = 1 AND size > 0 ORDER BY segment")
    with explained(store.path):
        for (number,) in rows.fetchall():
            freed += _rewrite(store, number)
    return freed


def verify_store(store: Store) -> Health:
    """Check everything: the database's own structure, every segment file's hash, every place.

    Args:
        store: open for reading or writing.

    Returns:
        What is there.

    Raises:
        IntegrityError: a file is missing or altered, or the database contradicts itself.

    Example:
        >>> import tempfile
        >>> from jcbir.storage._store import append_segment, create_store, open_store
        >>> from jcbir.protocol.session import small_system
        >>> with tempfile.TemporaryDirectory() as path:
        ...     create_store(path, small_system().server.card, unsafe_small=True)
        ...     with open_store(path, write=True) as store:
        ...         _ = append_segment(store, small_system().publication)
        ...         verify_store(store)
        Health(segments=1, images=3, gone=0, size=...)
    """
    with explained(store.path):
        fault = store.database.execute("PRAGMA integrity_check").fetchone()[0]
        if fault != "ok":
            raise IntegrityError(f"{store.path}: the database is damaged: {fault}")
        total = 0
        query = "SELECT number, generation, size, sha256 FROM segments ORDER BY number"
        for expected, (number, generation, size, sha256) in enumerate(store.database.execute(query).fetchall()):
            path = segment_path(store, number, generation)
            if number != expected or not path.exists():
                raise IntegrityError(f"{store.path}: segment {expected} is missing")
            if path.stat().st_size != size or file_digest(path) != sha256.hex():
                raise IntegrityError(f"{path}: the content is not what was written")
            _check_places(store, number, size)
            total += size
        segments = store.database.execute("SELECT count(*) FROM segments").fetchone()[0]
        query = "SELECT count(*) FROM images WHERE gone = ?"
        living, gone = (store.database.execute(query, [flag]).fetchone()[0] for flag in (0, 1))
    return Health(segments, living, gone, total)


def backup_store(store: Store, target: str | os.PathLike[str]) -> Health:
    """Copy a store as it is at one moment, while others read and write it, and check the copy.

    Args:
        store: open for reading or writing.
        target: a folder that is empty or not there, or where this was killed before; it stays so if this fails.

    Returns:
        What `verify_store` found in the copy.

    Raises:
        ValueError: the folder is inside the store.
        FileExistsError: the folder is not empty.
        IntegrityError: the copy is not sound, for the store is not.
        OSError: the disk is full or read-only.

    Example:
        >>> import tempfile
        >>> from jcbir.storage._store import create_store, open_store
        >>> from jcbir.protocol.session import small_system
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     create_store(f"{folder}/store", small_system().server.card, unsafe_small=True)
        ...     with open_store(f"{folder}/store") as store:
        ...         backup_store(store, f"{folder}/copy")
        Health(segments=0, images=0, gone=0, size=0)
    """
    root = pathlib.Path(target)
    if store.path.resolve() in root.resolve().parents:
        raise ValueError(f"target: must be outside the store {store.path}, got {root}")
    with drafted_store(root) as draft:

        def copy() -> None:
            shutil.rmtree(draft)
            (draft / SEGMENTS).mkdir(parents=True)
            with contextlib.closing(connect(draft / DATABASE, write=True)) as database:
                store.database.backup(database)
                names = database.execute("SELECT number, generation FROM segments").fetchall()
            for number, generation in names:
                name = segment_name(number, generation)
                shutil.copyfile(store.path / SEGMENTS / name, draft / SEGMENTS / name)

        with explained(store.path):
            retry_missing(copy)
        with open_store(draft) as whole:
            return verify_store(whole)


def _rewrite(store: Store, number: int) -> int:
    query = "SELECT generation, size FROM segments WHERE number = ?"
    generation, size = store.database.execute(query, [number]).fetchone()
    old = segment_path(store, number, generation)
    view = map_segment(old, store_id=store.store_id, number=number, generation=generation, size=size)
    query = "SELECT offset, size, gone FROM images WHERE segment = ? ORDER BY position"
    lines = store.database.execute(query, [number]).fetchall()
    written = write_segment(
        store.path / SEGMENTS,
        store_id=store.store_id,
        number=number,
        generation=generation + 1,
        indexes=read_indexes(store, number, view),
        images=[b"" if gone else view[offset : offset + length] for offset, length, gone in lines],
    )
    _turn_to(store, number, generation + 1, written)
    old.unlink()
    return size - written.size


def _turn_to(store: Store, number: int, generation: int, written: Written) -> None:
    with transaction(store.database):
        store.database.execute(
            "UPDATE segments SET generation = ?, size = ?, sha256 = ? WHERE number = ?",
            [generation, written.size, written.sha256, number],
        )
        store.database.executemany(
            "UPDATE indexes SET offset = ? WHERE segment = ? AND position = ?",
            [(place.offset, number, position) for position, place in enumerate(written.indexes)],
        )
        store.database.executemany(
            "UPDATE images SET offset = ?, size = ? WHERE segment = ? AND position = ?",
            [(*place, number, position) for position, place in enumerate(written.images)],
        )


def _check_places(store: Store, number: int, size: int) -> None:
    query = (
        "SELECT count(*) FROM (SELECT offset, size FROM images WHERE segment = :number "
        "UNION ALL SELECT offset, size FROM indexes WHERE segment = :number) "
        "WHERE offset < 0 OR size < 0 OR offset + size > :size"
    )
    outside = store.database.execute(query, {"number": number, "size": size}).fetchone()[0]
    query = "SELECT count(*), max(position) FROM images WHERE segment = ?"
    count, last = store.database.execute(query, [number]).fetchone()
    if outside or not count or last != count - 1:
        raise IntegrityError(f"{store.path}: the database of segment {number} contradicts itself")
