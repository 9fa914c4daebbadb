"""The owner's folder: state, outbox and names change together or not at all, whatever interrupts.

A change is written into `next/` first: the new state, then the messages that speak of it. Moving the state to its place
is the commit; what is still in `next/` afterwards is moved by whoever opens the folder next, and without the commit it
is thrown away. So a message leaves only after the state that counts it is on the disk, and no segment number is ever
used twice.
"""

import contextlib
import dataclasses
import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jcbir.cli.checks import CARD, OWNER_KEYS as SECRET
from jcbir.cli.names import convert_names
from jcbir.cli.network import NETWORK
from jcbir.errors import FormatError
from jcbir.protocol import wire
from jcbir.protocol.owner import Owner, delegate
from jcbir.storage import read_secret, write_card, write_file, write_secret
from jcbir.storage._files import PRIVATE, locked, sync
from jcbir.storage._keys import WORK

DELEGATION, SETTINGS, GRANTS = "authority.secret", "settings.json", "grants.json"
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
class Workspace:
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
        return f"Workspace({str(self.path)!r}, {self.owner!r})"


def create_workspace(
    path: Path,
    owner: Owner,
    settings: Settings,
    network: Path,
    *,
    passphrase: str,
    authority_passphrase: str,
    work: int = WORK,
) -> Workspace:
    """Make an owner's folder; the state comes last, so that an interrupted one can be made again."""
    check_vacant(path)
    for folder in (path, path / OUTBOX, path / NAMES):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(path / NETWORK, network.read_bytes())
    write_settings(path / SETTINGS, settings)
    write_card(path / CARD, owner.card)
    write_secret(
        path / DELEGATION, delegate(owner), passphrase=authority_passphrase, draw=secrets.token_bytes, work=work,
        replace=True,
    )  # fmt: skip
    write_secret(path / SECRET, owner, passphrase=passphrase, draw=secrets.token_bytes, work=work)
    return Workspace(path, owner, settings, passphrase, work)


def check_vacant(path: Path) -> None:
    """Refuse a folder in which an owner lives."""
    if (path / SECRET).exists():
        raise FileExistsError(errno.EEXIST, "there is an owner here already", str(path / SECRET))


@contextlib.contextmanager
def open_workspace(path: Path, *, passphrase: str, work: int = WORK) -> Iterator[Workspace]:
    """Open an owner's folder for the length of a block: one process at a time, an interrupted change settled."""
    if not (path / SECRET).exists():
        raise FileNotFoundError(errno.ENOENT, "no owner here; `jcbir owner init` makes one", str(path))
    with locked(path / LOCK, use="works in this folder"):
        recover(path)
        owner = read_secret(path / SECRET, passphrase=passphrase, expect=Owner)
        convert_names(path / NAMES, owner)
        yield Workspace(path, owner, _read_settings(path / SETTINGS), passphrase, work)


def commit(workspace: Workspace, owner: Owner, writers: Mapping[str, Writer]) -> Workspace:
    """Put a new state and the files that belong to it in place, together or not at all."""
    draft = workspace.path / NEXT
    _discard(workspace.path)
    draft.mkdir(mode=0o700)
    # The state first: while it lies here, nothing beside it counts.
    write_secret(draft / SECRET, owner, passphrase=workspace.passphrase, draw=secrets.token_bytes, work=workspace.work)
    for place, write in writers.items():
        (draft / place).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(draft / place)
        sync((draft / place).parent)
    sync(draft)
    sync(workspace.path)
    os.replace(draft / SECRET, workspace.path / SECRET)
    sync(workspace.path)
    recover(workspace.path)
    return dataclasses.replace(workspace, owner=owner)


def recover(path: Path) -> None:
    """Settle a change that was interrupted: finish it if its state is in place, else forget it."""
    draft = path / NEXT
    if draft.exists() and not (draft / SECRET).exists():
        for file in sorted(file for file in draft.rglob("*") if file.is_file() and file.suffix != ".part"):
            target = path / file.relative_to(draft)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            os.replace(file, target)
            sync(target.parent)
    _discard(path)


def write_settings(path: Path, settings: Settings) -> None:
    """Write what init settled."""
    write_file(path, json.dumps(dataclasses.asdict(settings), indent=2).encode() + b"\n")


def write_message(message: Any) -> Writer:
    """Make the writer of a message for `commit`."""
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
