"""Files that are either there whole or not at all: written beside, flushed, renamed."""

import errno
import os
import pathlib
import secrets

PRIVATE = 0o600
PUBLIC = 0o644


def write_file(path: str | os.PathLike, content: bytes, *, mode: int = PUBLIC, replace: bool = True) -> None:
    """Write a file atomically: after a crash at any moment the old content or the new is there, never a part.

    The new file is created with its final permissions, so a secret is at no moment readable by others.

    Args:
        path: where.
        content: all of it.
        mode: permission bits.
        replace: whether an existing file may be replaced.

    Returns:
        Nothing.

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
    target = pathlib.Path(path)
    if not replace and target.exists():
        raise FileExistsError(errno.EEXIST, "the file exists and is not to be replaced", str(target))
    beside = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # The umask may have taken bits away, and never adds any.
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(beside, target)
        else:
            # Unlike rename, link refuses to replace what another process wrote meanwhile.
            os.link(beside, target)
            os.unlink(beside)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def sync_folder(folder: str | os.PathLike) -> None:
    """Make renames in a folder durable.

    Args:
        folder: the folder.

    Returns:
        Nothing.

    Example:
        >>> import tempfile
        >>> sync_folder(tempfile.mkdtemp())
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["PRIVATE", "PUBLIC", "sync_folder", "write_file"]
