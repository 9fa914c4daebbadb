"""The store's SQLite catalogue: its tables, its transactions, and errors that say what is wrong with the disk."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import TypeVar

from jcbir.errors import FormatError

Result = TypeVar("Result")

VERSION = 1
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
CREATE UNIQUE INDEX living ON images (image_id) WHERE gone = 0;
"""
_DISK = {
    sqlite3.SQLITE_FULL: (errno.ENOSPC, "the disk is full"),
    sqlite3.SQLITE_READONLY: (errno.EROFS, "the disk or the file is read-only"),
    sqlite3.SQLITE_CANTOPEN: (errno.EACCES, "the catalogue cannot be opened"),
    sqlite3.SQLITE_IOERR: (errno.EIO, "the disk does not read or write"),
}


@contextlib.contextmanager
def explained(path: str | os.PathLike) -> Iterator[None]:
    """Turn what SQLite raises into errors that name the file and what is wrong.

    Args:
        path: the store.

    Yields:
        Nothing.

    Raises:
        OSError: the disk is full, read-only or broken.
        FormatError: the file is no catalogue, or damaged.

    Example:
        >>> with explained("here"):
        ...     raise sqlite3.DatabaseError("file is not a database")
        Traceback (most recent call last):
        ...
        jcbir.errors.FormatError: here: file is not a database
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _DISK:
            raise OSError(*_DISK[code], os.fspath(path)) from error
        if isinstance(error, sqlite3.OperationalError) and code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BlockingIOError(errno.EAGAIN, "the catalogue is in use", os.fspath(path)) from error
        raise FormatError(f"{path}: {error}") from error


def connect(path: str | os.PathLike, *, write: bool) -> sqlite3.Connection:
    """Open a catalogue: write-ahead log, every commit flushed to the disk before it returns.

    Args:
        path: the SQLite file.
        write: whether it may be changed, and made where there is none.

    Returns:
        The connection, in explicit transactions.

    Raises:
        FileNotFoundError: there is none, and it is not to be made.

    Example:
        >>> import tempfile
        >>> catalogue = connect(f"{tempfile.mkdtemp()}/catalogue.sqlite", write=True)
        >>> catalogue.execute("PRAGMA journal_mode").fetchone(), catalogue.execute("PRAGMA synchronous").fetchone()
        (('wal',), (2,))
        >>> catalogue.close()
    """
    if not write and not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, "no store", os.fspath(path))
    catalogue = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
    catalogue.execute("PRAGMA journal_mode = WAL" if write else "PRAGMA query_only = ON")
    catalogue.execute("PRAGMA synchronous = FULL")
    return catalogue


@contextlib.contextmanager
def transaction(catalogue: sqlite3.Connection) -> Iterator[None]:
    """Do all of a block or nothing of it.

    Args:
        catalogue: the connection.

    Yields:
        Nothing.

    Example:
        >>> catalogue = sqlite3.connect(":memory:", isolation_level=None)
        >>> with transaction(catalogue):
        ...     _ = catalogue.execute("CREATE TABLE t (a)")
        >>> catalogue.execute("SELECT count(*) FROM t").fetchone()
        (0,)
        >>> catalogue.close()
    """
    catalogue.execute("BEGIN IMMEDIATE")
    done = False
    try:
        yield
        catalogue.execute("COMMIT")
        done = True
    finally:
        if not done and catalogue.in_transaction:
            catalogue.execute("ROLLBACK")


def retry_missing(action: Callable[[], Result], *, attempts: int = 5) -> Result:
    """Repeat what a compaction pulled a file away from: the catalogue that was read was the one before.

    Args:
        action: reads the catalogue and then the files it names.
        attempts: how often.

    Returns:
        What the action returns.

    Raises:
        FileNotFoundError: the file is really missing.

    Example:
        >>> retry_missing(lambda: 1)
        1
    """
    for _ in range(attempts - 1):
        with contextlib.suppress(FileNotFoundError):
            return action()
    return action()


__all__ = ["SCHEMA", "VERSION", "connect", "explained", "retry_missing", "transaction"]
