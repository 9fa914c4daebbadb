"""Files that are either there whole or not at all: written beside, flushed, renamed."""

import contextlib
import errno
import fcntl
import hashlib
import os
import pathlib
import secrets
from collections.abc import Iterator
from typing import BinaryIO

PRIVATE = 0o600
PUBLIC = 0o644


def write_file(path: str | os.PathLike[str], content: bytes, *, mode: int = PUBLIC, replace: bool = True) -> None:
    """Write a file atomically: after a crash at any moment the old content or the new is there, never a part.

    The new file is created with its final permissions, so a secret is at no moment readable by others; what the umask
    takes away stays away.

    Args:
        path: where.
        content: all of it.
        mode: permission bits.
        replace: whether an existing file may be replaced.

    Raises:
        FileExistsError: the file exists and may not be replaced.
        OSError: the disk is full or read-only; the old content is untouched.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> write_file(f"{folder}/a", b"content", mode=PRIVATE)
        >>> oct(os.stat(f"{folder}/a").st_mode & 0o777)
        '0o600'
    """
    with written_beside(path, mode=mode, replace=replace) as file:
        file.write(content)


@contextlib.contextmanager
def written_beside(path: str | os.PathLike[str], *, mode: int = PUBLIC, replace: bool = True) -> Iterator[BinaryIO]:
    """Open a file that takes its name only when the block has ended well and all is flushed."""
    target = pathlib.Path(path)
    if not replace and target.exists():
        raise FileExistsError(errno.EEXIST, "the file exists and is not to be replaced", str(target))
    beside = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(beside, target)
        else:
            # Unlike rename, link refuses to replace what another process wrote meanwhile.
            os.link(beside, target)
            os.unlink(beside)
    except BaseException:
        # Ctrl-C too: nobody would look for it.
        beside.unlink(missing_ok=True)
        raise
    sync(target.parent)


def cache_folder() -> pathlib.Path:
    """Where fetched weights, networks and compiled programs are kept: `$JCBIR_CACHE`, else `$XDG_CACHE_HOME/jcbir`."""
    stated = os.environ.get("JCBIR_CACHE")
    if stated:
        return pathlib.Path(stated).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home, "jcbir").absolute()


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal, without holding the file in memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: str | os.PathLike[str]) -> None:
    """Make the content of a file durable, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], *, use: str) -> Iterator[None]:
    """Hold a lock file for the length of a block; the kernel drops the lock with the process, however that ends."""
    with open(path, "ab") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(errno.EAGAIN, f"another process {use}", os.fspath(path)) from None
        # One that was unlinked since it was opened locks nobody out.
        if not os.fstat(file.fileno()).st_nlink:
            raise BlockingIOError(errno.EAGAIN, f"another process {use}", os.fspath(path))
        yield
