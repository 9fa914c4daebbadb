"""The owner's folder: state, outbox and names change together or not at all, whatever interrupts.

A change is written into `next/` first: the new state, then the messages that speak of it. Moving the state to its place
is the commit; what is still in `next/` afterwards is moved by whoever opens the folder next, and without the commit it
is thrown away. So a message leaves only after the state that counts it is on the disk, and no segment number is ever
used twice.
"""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jcbir.errors import FormatError
from jcbir.protocol import wire
from jcbir.protocol.holdings import Owner, delegate
from jcbir.storage.files import PRIVATE, sync_folder, write_file
from jcbir.storage.keys import WORK, read_secret, write_card, write_secret

SECRET, CARD, DELEGATION = "owner.secret", "collection.public", "authority.secret"
NETWORK, SETTINGS, GRANTS = "network.safetensors", "settings.json", "grants.json"
OUTBOX, NAMES, NEXT, LOCK = "outbox", "names", "next", "lock"
Writer = Callable[[Path], Any]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `jcbir owner init` settles for all segments.

    Attributes:
        schemes: ranking schemes offered.
        cipher: image cipher.
        network: SHA-256 of the network's file.
        longest_side: photographs are reduced to so many pixels before they are sealed, or None.
    """

    schemes: tuple[str, ...]
    cipher: str
    network: str
    longest_side: int | None


@dataclasses.dataclass(frozen=True, repr=False)
class Home:
    """An open owner's folder; `repr` shows no secret.

    Attributes:
        path: the folder.
        owner: the owner's state.
        settings: what init settled.
        passphrase: of the state's file.
        work: log2 of scrypt's cost.
    """

    path: Path
    owner: Owner
    settings: Settings
    passphrase: str
    work: int

    def __repr__(self) -> str:
        return f"Home({str(self.path)!r}, {self.owner!r})"


def create_home(
    path: Path,
    owner: Owner,
    settings: Settings,
    network: Path,
    *,
    passphrase: str,
    authority_passphrase: str,
    work: int = WORK,
) -> Home:
    """Make an owner's folder; the state comes last, so that an interrupted one can be made again.

    Args:
        path: where; a folder without a state.
        owner: the fresh state.
        settings: what is settled.
        network: the network's file, copied.
        passphrase: of the state.
        authority_passphrase: of the delegation.
        work: log2 of scrypt's cost.

    Returns:
        The open folder.

    Raises:
        FileExistsError: there is an owner in it already.

    Example:
        >>> import tempfile
        >>> from jcbir.protocol.session import small_system
        >>> settings = Settings(("bitsliced",), "aes-gcm", "", None)
        >>> words = {"passphrase": "correct horse", "authority_passphrase": "battery staple"}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path, network = Path(folder, "home"), Path(folder, "network")
        ...     _ = network.write_bytes(b"weights")
        ...     _ = create_home(path, small_system().owner, settings, network, **words, work=14)
        ...     sorted(file.name for file in path.iterdir())
        ['authority.secret', 'collection.public', 'names', 'network.safetensors', 'outbox', 'owner.secret',
         'settings.json']
    """
    check_vacant(path)
    for folder in (path, path / OUTBOX, path / NAMES):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(path / NETWORK, network.read_bytes())
    write_file(path / SETTINGS, json.dumps(dataclasses.asdict(settings), indent=2).encode() + b"\n")
    write_card(path / CARD, owner.card)
    write_secret(
        path / DELEGATION, delegate(owner), passphrase=authority_passphrase, draw=secrets.token_bytes, work=work,
        replace=True,
    )  # fmt: skip
    write_secret(path / SECRET, owner, passphrase=passphrase, draw=secrets.token_bytes, work=work)
    return Home(path, owner, settings, passphrase, work)


def check_vacant(path: Path) -> None:
    """Refuse a folder in which an owner lives.

    Args:
        path: the folder.

    Returns:
        Nothing.

    Raises:
        FileExistsError: one does.

    Example:
        >>> check_vacant(Path("no/such"))
    """
    if (path / SECRET).exists():
        raise FileExistsError(errno.EEXIST, "there is an owner here already", str(path / SECRET))


@contextlib.contextmanager
def open_home(path: Path, *, passphrase: str, work: int = WORK) -> Iterator[Home]:
    """Open an owner's folder for the length of a block: one process at a time, an interrupted change settled.

    Args:
        path: the folder.
        passphrase: of the state.
        work: log2 of scrypt's cost when it is written again.

    Yields:
        The open folder.

    Raises:
        FileNotFoundError: nobody lives there.
        BlockingIOError: another process has it open.
        IntegrityError: wrong passphrase, or altered.

    Example:
        >>> with open_home(Path("no/such"), passphrase="correct horse"):
        ...     pass
        Traceback (most recent call last):
        ...
        FileNotFoundError: [Errno 2] no owner here; `jcbir owner init` makes one: 'no/such'
    """
    if not (path / SECRET).exists():
        raise FileNotFoundError(errno.ENOENT, "no owner here; `jcbir owner init` makes one", str(path))
    with open(path / LOCK, "ab") as lock:
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(errno.EAGAIN, "another process works in this folder", str(path)) from None
        recover(path)
        owner = read_secret(path / SECRET, passphrase=passphrase, expect=Owner)
        yield Home(path, owner, _read_settings(path / SETTINGS), passphrase, work)


def commit(home: Home, owner: Owner, writers: Mapping[str, Writer]) -> Home:
    """Put a new state and the files that belong to it in place, together or not at all.

    Args:
        home: the open folder.
        owner: the new state.
        writers: place below the folder to what writes the file there.

    Returns:
        The folder with the new state.

    Raises:
        OSError: the disk is full or read-only; the old state is in force.

    Example:
        >>> import tempfile
        >>> from jcbir.protocol import session as example, owner
        >>> old, settings = example.small_system().owner, Settings(("bitsliced",), "aes-gcm", "", None)
        >>> new, withdrawal = owner.withdraw(old, ["a"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     home = Home(Path(folder), old, settings, "correct horse", 14)
        ...     home = commit(home, new, {"outbox/0-withdrawal": write_message(withdrawal)})
        ...     sorted(str(file.relative_to(folder)) for file in home.path.rglob("*")), len(home.owner.image_ids)
        (['outbox', 'outbox/0-withdrawal', 'owner.secret'], 2)
    """
    draft = home.path / NEXT
    _discard(home.path)
    draft.mkdir(mode=0o700)
    # The state first: while it lies here, nothing beside it counts.
    write_secret(draft / SECRET, owner, passphrase=home.passphrase, draw=secrets.token_bytes, work=home.work)
    for place, write in writers.items():
        (draft / place).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(draft / place)
        sync_folder((draft / place).parent)
    sync_folder(draft)
    sync_folder(home.path)
    os.replace(draft / SECRET, home.path / SECRET)
    sync_folder(home.path)
    recover(home.path)
    return dataclasses.replace(home, owner=owner)


def recover(path: Path) -> None:
    """Settle a change that was interrupted: finish it if its state is in place, else forget it.

    Args:
        path: the owner's folder, locked.

    Returns:
        Nothing.

    Example:
        >>> recover(Path("no/such"))
    """
    draft = path / NEXT
    if draft.exists() and not (draft / SECRET).exists():
        for file in sorted(file for file in draft.rglob("*") if file.is_file() and file.suffix != ".part"):
            target = path / file.relative_to(draft)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            os.replace(file, target)
            sync_folder(target.parent)
    _discard(path)


def write_message(message: Any) -> Writer:
    """Make the writer of a message for `commit`.

    Args:
        message: a record of `jcbir.protocol.messages`.

    Returns:
        The writer.

    Example:
        >>> import tempfile
        >>> from jcbir.protocol.session import small_system
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_message(small_system().catalogue)(Path(folder, "order"))
        ...     wire.from_bytes(Path(folder, "order").read_bytes()) == small_system().catalogue
        True
    """
    return partial(write_file, content=wire.to_bytes(message), mode=PRIVATE)


def _discard(path: Path) -> None:
    # Renamed first: were the state the first file to be removed, the rest would pass for committed.
    forgotten = path / f"{NEXT}.forgotten"
    if forgotten.exists():
        shutil.rmtree(forgotten)
    if (path / NEXT).exists():
        os.replace(path / NEXT, forgotten)
        shutil.rmtree(forgotten)


def _read_settings(path: Path) -> Settings:
    try:
        plain = json.loads(path.read_text())
        return Settings(**{**plain, "schemes": tuple(plain["schemes"])})
    except (ValueError, KeyError, TypeError):
        raise FormatError(f"{path}: not the settings of an owner") from None


__all__ = ["Home", "Settings", "check_vacant", "commit", "create_home", "open_home", "recover", "write_message"]
