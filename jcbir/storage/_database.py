"""The store's SQLite database: its tables, its transactions, and errors that say what is wrong with the disk."""

import contextlib
import errno
import os
import sqlite3
import urllib.parse
from collections.abc import Callable, Iterator
from typing import TypeVar

from jcbir.errors import FormatError

Result = TypeVar("Result")

VERSION = 3
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE segments (
    number INTEGER PRIMARY KEY, generation INTEGER NOT NULL, size INTEGER NOT NULL, sha256 BLOB NOT NULL,
    digest BLOB NOT NULL
);
CREATE TABLE indexes (
    segment INTEGER NOT NULL, position INTEGER NOT NULL, record BLOB NOT NULL, offset INTEGER NOT NULL,
    size INTEGER NOT NULL, PRIMARY KEY (segment, position)
) WITHOUT ROWID;
CREATE TABLE images (
    segment INTEGER NOT NULL, position INTEGER NOT NULL, image_id TEXT NOT NULL, offset INTEGER NOT NULL,
    size INTEGER NOT NULL, gone INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (segment, position)
) WITHOUT ROWID;
CREATE TABLE recalled (nonce BLOB PRIMARY KEY, issued INTEGER NOT NULL) WITHOUT ROWID;
CREATE UNIQUE INDEX living ON images (image_id) WHERE gone = 0;
"""
_DISK = {
    sqlite3.SQLITE_FULL: (errno.ENOSPC, "the disk is full"),
    sqlite3.SQLITE_READONLY: (errno.EROFS, "the disk or the file is read-only"),
    sqlite3.SQLITE_CANTOPEN: (errno.EACCES, "the database cannot be opened"),
    sqlite3.SQLITE_IOERR: (errno.EIO, "the disk does not read or write"),
}


@contextlib.contextmanager
def explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what SQLite raises into errors that name the file and what is wrong."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _DISK:
            raise OSError(*_DISK[code], os.fspath(path)) from error
        if isinstance(error, sqlite3.OperationalError) and code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BlockingIOError(errno.EAGAIN, "the database is in use", os.fspath(path)) from error
        raise FormatError(f"{path}: {error}") from error


def connect(path: str | os.PathLike[str], *, write: bool) -> sqlite3.Connection:
    """Open a database: write-ahead log, every commit flushed to the disk before it returns."""
    if not write and not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, "no store", os.fspath(path))
    # SQLite takes a relative path that begins with `file:` for a URI.
    place, options = os.path.abspath(path), ""
    if not write and not os.access(os.path.dirname(place), os.W_OK) and not os.path.exists(f"{place}-wal"):
        # A reader of a write-ahead log makes files beside it; on a read-only medium at rest nobody changes anything.
        options = "?mode=ro&immutable=1"
    uri = f"file:{urllib.parse.quote(place)}{options}"
    database = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL" if write else "PRAGMA query_only = ON")
    database.execute("PRAGMA synchronous = FULL")
    return database


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Do all of a block or nothing of it; one inside another is on the disk when the outer one is."""
    inside = database.in_transaction
    database.execute("SAVEPOINT step" if inside else "BEGIN IMMEDIATE")
    done = False
    try:
        yield
        database.execute("RELEASE step" if inside else "COMMIT")
        done = True
    finally:
        # Where the disk is full SQLite may have undone all of it by itself.
        if not done and database.in_transaction:
            if inside:
                database.execute("ROLLBACK TO step")
                database.execute("RELEASE step")
            else:
                database.execute("ROLLBACK")


def read_meta(database: sqlite3.Connection, name: str) -> bytes | None:
    """The value of that name in the table `meta`; None where there is none."""
    found = database.execute("SELECT value FROM meta WHERE name = ?", [name]).fetchone()
    return None if found is None else found[0]


def write_meta(database: sqlite3.Connection, name: str, value: bytes) -> None:
    """Put a value into the table `meta`, over what is there."""
    database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [name, value])


def read_seen(database: sqlite3.Connection) -> int:
    """The latest time at which a request was answered, seconds since 1970; 0 before the first."""
    return int.from_bytes(read_meta(database, "seen") or b"")


def retry_missing(action: Callable[[], Result], *, attempts: int = 5) -> Result:
    """Repeat what a compaction pulled a file away from: the database that was read was the one before."""
    for _ in range(attempts - 1):
        with contextlib.suppress(FileNotFoundError):
            return action()
    return action()
