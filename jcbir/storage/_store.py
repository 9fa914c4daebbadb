"""The cloud's disk: a SQLite database and immutable segment files; what is acknowledged survives `kill -9`.

A segment file is complete and flushed before one transaction makes the database speak of it; a file of which no
database speaks is swept away by the next writer. Deletion is a mark in the database; `maintenance.compact_store` writes
segments anew without the dead images and unlinks the old files only after the database has turned to the new ones. One
writer (a lock), any number of readers.
"""

import contextlib
import dataclasses
import errno
import os
import pathlib
import re
import secrets
import shutil
import sqlite3
from collections.abc import Iterator

from jcbir.errors import FormatError, KeyMismatchError, check_version
from jcbir.protocol import wire
from jcbir.protocol._digests import digest
from jcbir.protocol._grants import WINDOW_SECONDS
from jcbir.protocol._schema import read_plain, write_plain
from jcbir.protocol.messages import Card, Head, Publication, Recall, Revocation, Succession, Withdrawal
from jcbir.protocol.refusals import ReplayedQueryError
from jcbir.ranking._keys import check_key
from jcbir.storage._database import SCHEMA, VERSION, connect, explained, read_seen, transaction, write_meta
from jcbir.storage._files import locked, sync
from jcbir.storage._segments import Written, segment_name, write_segment

DATABASE, SEGMENTS, LOCK, DRAFT = "catalogue.sqlite", "segments", "writer.lock", ".part"
# What making a store writes before it is one.
_LEFT = re.compile(
    rf"{re.escape(LOCK)}|{re.escape(DRAFT)}(/{re.escape(DATABASE)}(-wal|-shm|-journal)?)?"
    rf"|({re.escape(DRAFT)}/)?{SEGMENTS}(/[0-9]{{8}}-[0-9]{{4}}\.seg)?"
)


@dataclasses.dataclass(frozen=True)
class Store:
    """An open store.

    Attributes:
        path: its folder.
        card: the collection it holds.
        store_id: 32 bytes that tie segment files to it.
        database: SQLite connection.
        writable: whether this process is its writer.
    """

    path: pathlib.Path
    card: Card
    store_id: bytes
    database: sqlite3.Connection
    writable: bool


def create_store(path: str | os.PathLike[str], card: Card, *, unsafe_small: bool = False) -> None:
    """Make an empty store for a collection.

    Args:
        path: a folder that is empty or not there, or where this was killed before.
        card: the collection.
        unsafe_small: permit a key so short that anyone can break it, for tests.

    Raises:
        ValueError: the card's key is visibly weak.
        FileExistsError: the folder is not empty.
        OSError: the disk is full or read-only.

    Example:
        >>> import tempfile
        >>> from jcbir.protocol.session import small_system
        >>> path = f"{tempfile.mkdtemp()}/store"
        >>> create_store(path, small_system().owner.card, unsafe_small=True)
        >>> with open_store(path) as store:
        ...     store.card.collection
        'photos'
    """
    check_key(card.public, unsafe_small=unsafe_small)
    meta = {"version": bytes([VERSION]), "card": write_plain(wire.CARD, card), "store": secrets.token_bytes(32)}
    with (
        drafted_store(path) as draft,
        explained(path),
        contextlib.closing(connect(draft / DATABASE, write=True)) as database,
        transaction(database),
    ):
        for statement in SCHEMA.split(";"):
            database.execute(statement)
        database.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())


@contextlib.contextmanager
def drafted_store(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Make a store in a folder that is empty or not there: it is one when the block has ended well, else as it was.

    What is left by a process that was killed is cleared away.
    """
    root = pathlib.Path(path)
    made = not root.exists()
    _check_vacant(root)
    root.mkdir(parents=True, exist_ok=True)
    # Inside, for the folder may be a disk of its own.
    draft = root / DRAFT
    try:
        with locked(root / LOCK, use="makes a store here"):
            # Another process may have made one since.
            _check_vacant(root)
            _clear(root)
            try:
                (draft / SEGMENTS).mkdir(parents=True)
                yield draft
                for path in draft.rglob("*"):
                    sync(path)
                # The database last: without it a folder is no store.
                for name in (SEGMENTS, DATABASE):
                    os.replace(draft / name, root / name)
                    sync(root)
                shutil.rmtree(draft)
            except BaseException:
                # First: with a database and no segments a folder would be a store, and damaged.
                (root / DATABASE).unlink(missing_ok=True)
                _clear(root)
                (root / LOCK).unlink(missing_ok=True)
                raise
    except BaseException:
        if made and not any(root.iterdir()):
            root.rmdir()
        raise


@contextlib.contextmanager
def open_store(path: str | os.PathLike[str], *, card: Card | None = None, write: bool = False) -> Iterator[Store]:
    """Open a store, and close it at the end of the block.

    Args:
        path: its folder.
        card: the collection it must hold.
        write: become its writer: sweep up what a crash left, and refuse a second writer.

    Yields:
        The store.

    Raises:
        FileNotFoundError: there is no store.
        KeyMismatchError: it holds another collection, epoch or key.
        FormatError: another version, or damaged.
        BlockingIOError: another process is its writer.

    Example:
        >>> with open_store("nowhere") as store:
        ...     pass
        Traceback (most recent call last):
        ...
        FileNotFoundError: [Errno 2] no store: 'nowhere/catalogue.sqlite'
    """
    root = pathlib.Path(path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(explained(root))
        if not (root / DATABASE).exists():
            raise FileNotFoundError(errno.ENOENT, "no store", str(root / DATABASE))
        if write:
            stack.enter_context(locked(root / LOCK, use="writes to this store"))
        database = stack.enter_context(contextlib.closing(connect(root / DATABASE, write=write)))
        meta = dict(database.execute("SELECT name, value FROM meta"))
        check_version(
            int.from_bytes(meta.get("version", b"")), version=VERSION, name=f"{path}",
            remedy="begin an empty store, and let the owner publish anew",
        )  # fmt: skip
        held = read_plain(wire.CARD, meta["card"], name="card")
        if card is not None and card != held:
            raise KeyMismatchError(
                f"{path}: holds {held.collection!r} epoch {held.epoch} under key {held.public.fingerprint[:16]}, "
                f"asked for {card.collection!r} epoch {card.epoch} under {card.public.fingerprint[:16]}"
            )
        store = Store(root, held, meta["store"], database, write)
        if write:
            _sweep(store)
        yield store


def append_segment(store: Store, publication: Publication) -> bool:
    """Add a publication; when this returns, it is on the disk.

    Args:
        store: open for writing.
        publication: checked by `jcbir.protocol.server.check_publication`.

    Returns:
        True if it was added, False if the very same publication is there already (a repeated upload).

    Raises:
        ValueError: its number is not the next, or a pseudonym is taken; nothing is changed.
        OSError: the disk is full or read-only; nothing is changed.

    Example:
        >>> import tempfile
        >>> from jcbir.protocol.session import small_system
        >>> with tempfile.TemporaryDirectory() as path:
        ...     create_store(path, small_system().server.card, unsafe_small=True)
        ...     with open_store(path, write=True) as store:
        ...         [append_segment(store, small_system().publication) for _ in range(2)]
        [True, False]
    """
    check_writable(store)
    mark = digest(publication, domain="jcbir store v1")
    with explained(store.path):
        known = store.database.execute("SELECT digest FROM segments WHERE number = ?", [publication.segment]).fetchone()
        if known is not None and known[0] == mark:
            return False
        _check_new(store, publication)
        written = write_segment(
            store.path / SEGMENTS,
            store_id=store.store_id,
            number=publication.segment,
            generation=0,
            indexes=publication.indexes,
            images=[image.sealed for image in publication.images],
        )
        _note_segment(store, publication, written, mark)
    return True


def remove_images(store: Store, withdrawal: Withdrawal) -> int:
    """Mark images as gone; when this returns, that is on the disk."""
    with _changing(store):
        before = store.database.total_changes
        store.database.executemany(
            "UPDATE images SET gone = 1 WHERE image_id = ? AND segment < ? AND gone = 0",
            [(image_id, withdrawal.segments) for image_id in withdrawal.image_ids],
        )
        return store.database.total_changes - before


def keep_revocation(store: Store, revocation: Revocation) -> None:
    """Keep the revocation list in force; when this returns, it is on the disk."""
    with _changing(store):
        write_meta(store.database, "revocation", wire.to_bytes(revocation))


def note_recall(store: Store, recall: Recall, *, now: int) -> None:
    """Note a recall as answered, before its answer leaves; forget those too old to be asked again."""
    try:
        with _changing(store):
            # By the latest time seen, as recalls are judged: a clock that steps back brings none to life again.
            now = max(now, read_seen(store.database))
            store.database.execute("DELETE FROM recalled WHERE issued < ?", [now - 2 * WINDOW_SECONDS])
            store.database.execute("INSERT INTO recalled VALUES (?, ?)", [recall.nonce, recall.issued])
            write_meta(store.database, "seen", now.to_bytes(8))
    except FormatError as error:
        if isinstance(error.__cause__, sqlite3.IntegrityError):
            raise ReplayedQueryError(f"recall: {recall.nonce.hex()} was answered before") from None
        raise


def keep_head(store: Store, head: Head) -> None:
    """Keep the owner's latest head; when this returns, it is on the disk."""
    with _changing(store):
        write_meta(store.database, "head", wire.to_bytes(head))


def turn_store(store: Store, succession: Succession) -> Store:
    """Turn to the next epoch: the card is the new one, all segments are gone; then that is on the disk."""
    # Another identity: a segment file of the old epoch never passes for one of the new.
    turned = dataclasses.replace(store, card=succession.card, store_id=secrets.token_bytes(32))
    with explained(store.path):
        with _changing(store):
            for table in ("segments", "indexes", "images", "recalled"):
                store.database.execute(f"DELETE FROM {table}")
            store.database.execute("DELETE FROM meta WHERE name IN ('revocation', 'head')")
            write_meta(store.database, "card", write_plain(wire.CARD, turned.card))
            write_meta(store.database, "store", turned.store_id)
        _sweep(turned)
    return turned


def segment_path(store: Store, number: int, generation: int) -> pathlib.Path:
    """Locate a segment file."""
    return store.path / SEGMENTS / segment_name(number, generation)


def check_writable(store: Store) -> None:
    """Refuse a store that is open for reading only."""
    if not store.writable:
        raise PermissionError(f"{store.path}: open for reading; pass write=True")


@contextlib.contextmanager
def _changing(store: Store) -> Iterator[None]:
    check_writable(store)
    with explained(store.path), transaction(store.database):
        yield


def _sweep(store: Store) -> None:
    """Unlink files that no database entry speaks of: what a crash left between file and commit, or after it."""
    query = "SELECT number, generation FROM segments"
    known = {segment_name(number, generation) for number, generation in store.database.execute(query)}
    for path in (store.path / SEGMENTS).iterdir():
        if path.name not in known:
            path.unlink()
    with contextlib.suppress(OSError):
        (store.path / DRAFT).rmdir()


def _check_vacant(root: pathlib.Path) -> None:
    """Refuse a folder that holds anything but what making a store left that was killed."""
    if root.exists() and any(root.iterdir()) and not _is_left(root):
        raise FileExistsError(errno.EEXIST, "the folder is not empty", str(root))


def _is_left(root: pathlib.Path) -> bool:
    """Whether there is but what making a store leaves: its lock, which was first, and its draft, which is last."""
    lock = root / LOCK
    begun = lock.is_file() and not lock.is_symlink() and not lock.stat().st_size
    whole = (root / DRAFT).is_dir() or not (root / SEGMENTS).exists()
    return begun and whole and all(_LEFT.fullmatch(path.relative_to(root).as_posix()) for path in root.rglob("*"))


def _clear(root: pathlib.Path) -> None:
    # The draft last: it tells the next process that the segments are no stranger's.
    for name in (SEGMENTS, DRAFT):
        shutil.rmtree(root / name, ignore_errors=True)


def _check_new(store: Store, publication: Publication) -> None:
    if publication.card != store.card:
        raise KeyMismatchError(f"{store.path}: the publication is for another collection, epoch or key")
    following = store.database.execute("SELECT count(*) FROM segments").fetchone()[0]
    if publication.segment != following:
        raise ValueError(
            f"publication: must be segment {following}, the next one here, got segment {publication.segment}"
        )
    names = [image.image_id for image in publication.images]
    lookup = "SELECT 1 FROM images WHERE image_id = ? AND gone = 0"
    taken = [name for name in names if store.database.execute(lookup, [name]).fetchone()]
    if taken or len(set(names)) != len(names):
        raise ValueError(f"publication: must have new and different pseudonyms, got {len(taken)} that are here already")


def _note_segment(store: Store, publication: Publication, written: Written, mark: bytes) -> None:
    number = publication.segment
    indexes = zip(publication.indexes, written.indexes, strict=True)
    images = zip(publication.images, written.images, strict=True)
    with transaction(store.database):
        store.database.execute(
            "INSERT INTO segments VALUES (?, 0, ?, ?, ?)", [number, written.size, written.sha256, mark]
        )
        store.database.executemany(
            "INSERT INTO indexes VALUES (?, ?, ?, ?, ?)",
            [
                (number, position, write_plain(wire.LAYOUT, index.layout), place.offset, place.size)
                for position, (index, place) in enumerate(indexes)
            ],
        )
        store.database.executemany(
            "INSERT INTO images VALUES (?, ?, ?, ?, ?, 0)",
            [(number, position, image.image_id, *place) for position, (image, place) in enumerate(images)],
        )
