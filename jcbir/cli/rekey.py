"""A new epoch for all that is published: prepared beside the old one, then put in its place, then sent.

The next epoch is an owner's folder of its own inside the old one: segment after segment is taken back from the cloud,
opened, masked, encrypted and sealed anew, and committed there, while the old epoch serves on. When nothing is missing,
one commit makes its state the owner's, and its orders leave in order: first those that end the old epoch. Whoever is
interrupted goes on where it stopped.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from jcbir.cli.console import Advance
from jcbir.cli.outbox import Carrier, Fetch, deliver, pending, post
from jcbir.cli.publish import publish_segment, published_names, read_codes, segment_length, take_back, withdraw
from jcbir.cli.workspace import (
    CARD,
    DELEGATION,
    NAMES,
    NETWORK,
    OUTBOX,
    SECRET,
    Workspace,
    commit,
    create_workspace,
    open_workspace,
)
from jcbir.errors import FormatError
from jcbir.protocol.messages import Card
from jcbir.protocol.owner import Owner, announce
from jcbir.storage import read_card
from jcbir.storage._files import sync_folder

EPOCH = "next-epoch"


def rekey_collection(
    workspace: Workspace,
    make: Callable[[], Owner],
    *,
    carriers: Mapping[str, Carrier],
    fetch: Fetch,
    authority_passphrase: str,
    advance: Advance | None = None,
) -> tuple[Workspace, int]:
    """Move a collection to its next epoch, or go on with what was interrupted."""
    going_on = interrupted_sending(workspace.path)
    sent = deliver(workspace, carriers)
    if not going_on:
        prepared = prepared_card(workspace.path)
        if prepared is not None and prepared.epoch != workspace.owner.card.epoch + 1:
            discard_epoch(workspace.path)
        with open_epoch(workspace, make, authority_passphrase=authority_passphrase) as following:
            following = move_images(workspace, following, fetch=fetch, advance=advance)
            workspace = take_epoch(workspace, following)
        sent += deliver(workspace, carriers)
    discard_epoch(workspace.path)
    return workspace, sent


def prepared_card(path: Path) -> Card | None:
    """Find the epoch that is being prepared, or was and is the owner's now."""
    return read_card(path / EPOCH / CARD) if (path / EPOCH / SECRET).exists() else None


def interrupted_sending(path: Path) -> bool:
    """Tell whether a rekey was interrupted after its commit: orders that it made still wait."""
    made = path / EPOCH / OUTBOX
    return any((made / file.name).exists() and file.samefile(made / file.name) for file in pending(path))


def discard_epoch(path: Path) -> None:
    """Forget the epoch that was prepared."""
    # Renamed first: half of it must not pass for one that can be gone on with.
    forgotten = path / f"{EPOCH}.forgotten"
    if forgotten.exists():
        shutil.rmtree(forgotten)
    if (path / EPOCH).exists():
        os.replace(path / EPOCH, forgotten)
        shutil.rmtree(forgotten)


@contextlib.contextmanager
def open_epoch(workspace: Workspace, make: Callable[[], Owner], *, authority_passphrase: str) -> Iterator[Workspace]:
    """Open the folder of the next epoch for the length of a block; found it where there is none."""
    path = workspace.path / EPOCH
    if not (path / SECRET).exists():
        discard_epoch(workspace.path)
        create_workspace(
            path, make(), workspace.settings, workspace.path / NETWORK, passphrase=workspace.passphrase,
            authority_passphrase=authority_passphrase, work=workspace.work,
        )  # fmt: skip
        sync_folder(workspace.path)
    with open_workspace(path, passphrase=workspace.passphrase, work=workspace.work) as following:
        if not pending(path):
            following = commit(following, following.owner, post(following, announce(following.owner)))
        yield following


def move_images(
    workspace: Workspace, following: Workspace, *, fetch: Fetch, advance: Advance | None = None
) -> Workspace:
    """Publish in the next epoch what is published in this one, from the cloud's sealed images and the owner's codes."""
    published, most = published_names(workspace), segment_length(workspace.owner, workspace.settings.schemes)
    # An image has another pseudonym in each epoch, and one name in all.
    here = {entry["sha256"]: image_id for image_id, entry in published.items()}
    uncoded = len(workspace.owner.image_ids) - sum("code" in entry for entry in published.values())
    if uncoded:
        raise FormatError(f"{workspace.path / NAMES}: no code of {uncoded} images, which an earlier version published")
    moved = {entry["sha256"]: entry for entry in published_names(following).values()}
    # Withdrawn after they were moved.
    following = withdraw(following, [entry for name, entry in moved.items() if name not in here])
    left = sorted(image_id for name, image_id in here.items() if name not in moved)
    while left:
        image_ids, photographs = take_back(workspace.owner, left[:most], fetch)
        entries = [published[image_id] for image_id in image_ids]
        following = publish_segment(
            following, read_codes(entries, bits=following.owner.card.bits), photographs, entries
        )
        left = left[len(image_ids) :]
        if advance is not None:
            advance(len(here) - len(left), len(here))
    return following


def take_epoch(workspace: Workspace, following: Workspace) -> Workspace:
    """Make the next epoch the owner's: its state, keys, names and orders, together or not at all."""
    files = [following.path / CARD, following.path / DELEGATION]
    files += [file for folder in (NAMES, OUTBOX) for file in sorted((following.path / folder).glob("[0-9]*"))]
    # Linked and not moved: until the commit they are the next epoch's.
    return commit(
        workspace, following.owner, {str(file.relative_to(following.path)): partial(os.link, file) for file in files}
    )  # fmt: skip
