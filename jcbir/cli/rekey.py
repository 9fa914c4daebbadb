"""A new epoch for all that is published: prepared beside the old one, then put in its place, then sent.

The next epoch is an owner's folder of its own inside the old one: segment after segment is taken back from the cloud,
opened, masked, encrypted and sealed anew, and committed there, while the old epoch serves on. When nothing is missing,
one commit makes its state the owner's, and its orders leave in order: first those that end the old epoch. Whoever is
interrupted goes on where it stopped.
"""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Bool

from jcbir.cli.console import Advance
from jcbir.cli.features import Rows, hash_rows, kept_features
from jcbir.cli.network import Parts, load_parts
from jcbir.cli.outbox import Carrier, Fetch, deliver, pending, post
from jcbir.cli.publish import (
    MOST_FITTED,
    forget_withdrawn,
    publish_segment,
    published_names,
    read_codes,
    refit,
    segment_length,
    take_back,
    withdraw,
    write_parts,
)
from jcbir.cli.workspace import (
    CARD,
    DELEGATION,
    NAMES,
    NETWORK,
    OUTBOX,
    SECRET,
    SETTINGS,
    Workspace,
    commit,
    create_workspace,
    open_workspace,
)
from jcbir.errors import FormatError
from jcbir.hashing.heads import FEWEST
from jcbir.protocol.messages import Card
from jcbir.protocol.owner import Owner, announce
from jcbir.storage import read_card
from jcbir.storage._files import file_digest, sync

EPOCH = "next-epoch"


def rekey_collection(
    workspace: Workspace,
    make: Callable[[], Owner],
    *,
    carriers: Mapping[str, Carrier],
    fetch: Fetch,
    authority_passphrase: str,
    write_other: Callable[[Path], object] | None = None,
    advance: Advance | None = None,
) -> tuple[Workspace, int]:
    """Move a collection to its next epoch, or go on with what was interrupted.

    `write_other` writes the network that takes the place of the collection's own.
    """
    going_on = interrupted_sending(workspace.path)
    sent = deliver(workspace, carriers)
    if not going_on:
        prepared = prepared_card(workspace.path)
        if prepared is not None and prepared.epoch != workspace.owner.card.epoch + 1:
            discard_epoch(workspace.path)
        with TemporaryDirectory() as folder:
            network = workspace.path / NETWORK
            if write_other is not None and prepared_card(workspace.path) is None:
                network = Path(folder, NETWORK)
                write_other(network)
                # Refused before there is an epoch that has it.
                hash_anew(workspace, network, _names(workspace))
            with open_epoch(workspace, make, network=network, authority_passphrase=authority_passphrase) as following:
                following = move_images(workspace, following, fetch=fetch, advance=advance)
                workspace = take_epoch(workspace, following)
        sent += deliver(workspace, carriers)
    discard_epoch(workspace.path)
    forget_withdrawn(workspace)
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
def open_epoch(
    workspace: Workspace, make: Callable[[], Owner], *, network: Path, authority_passphrase: str
) -> Iterator[Workspace]:
    """Open the folder of the next epoch for the length of a block; found it where there is none."""
    path = workspace.path / EPOCH
    if not (path / SECRET).exists():
        discard_epoch(workspace.path)
        settings = dataclasses.replace(workspace.settings, network=file_digest(network))
        create_workspace(
            path, make(), settings, network, passphrase=workspace.passphrase,
            authority_passphrase=authority_passphrase, work=workspace.work,
        )  # fmt: skip
        sync(workspace.path)
    with open_workspace(path, passphrase=workspace.passphrase, work=workspace.work) as following:
        if not pending(path):
            following = commit(following, following.owner, post(following, announce(following.owner)))
        yield following


def move_images(
    workspace: Workspace, following: Workspace, *, fetch: Fetch, advance: Advance | None = None
) -> Workspace:
    """Publish in the next epoch what is published in this one, from the cloud's sealed images and the owner's codes.

    Where the next epoch has another hash head, codes are made anew of the features that were kept.
    """
    published, most = published_names(workspace), segment_length(workspace.owner, workspace.settings.schemes)
    # An image has another pseudonym in each epoch, and one name in all.
    here = {entry["sha256"]: image_id for image_id, entry in published.items()}
    uncoded = len(workspace.owner.image_ids) - sum("code" in entry for entry in published.values())
    if uncoded:
        raise FormatError(f"{workspace.path / NAMES}: no code of {uncoded} images, which an earlier version published")
    hashed: dict[str, Bool[np.ndarray, " k"]] = {}
    if following.settings.network != workspace.settings.network:
        hashed = hash_anew(workspace, following.path / NETWORK, here)
    moved = {entry["sha256"]: entry for entry in published_names(following).values()}
    # Withdrawn after they were moved.
    following = withdraw(following, [entry for name, entry in moved.items() if name not in here])
    left = sorted(image_id for name, image_id in here.items() if name not in moved)
    while left:
        image_ids, photographs = take_back(workspace.owner, left[:most], fetch)
        entries = [published[image_id] for image_id in image_ids]
        codes = (
            np.stack([hashed[entry["sha256"]] for entry in entries])
            if hashed
            else read_codes(entries, bits=following.owner.card.bits)
        )
        following = publish_segment(following, codes, photographs, entries)
        left = left[len(image_ids) :]
        if advance is not None:
            advance(len(here) - len(left), len(here))
    return following


def refitted(workspace: Workspace, path: Path) -> int:
    """Write the collection's network with a label-free head fitted to what is published; to how many photographs."""
    parts = own_parts(workspace)
    names = _names(workspace)
    if len(names) < FEWEST:
        raise ValueError(f"refit: must have {FEWEST} published photographs to fit a head to, got {len(names)}")
    # Hashes: as good as drawn.
    rows = _all_features(workspace, parts, names[:MOST_FITTED])
    write_parts(path, refit(parts, rows), len(rows))
    return len(rows)


def hash_anew(workspace: Workspace, network: Path, names: Iterable[str]) -> dict[str, Bool[np.ndarray, " k"]]:
    """Codes of published photographs by another head on the same features, by SHA-256 of the file."""
    own, other = own_parts(workspace), load_parts(network)
    if other is None or other.identity != own.identity:
        raise ValueError(
            "network: must see photographs as the collection's own does, by one network at one size, got another"
        )
    bits = other.head.projection.shape[1]
    if bits != workspace.owner.card.bits:
        raise ValueError(f"network: must give codes of {workspace.owner.card.bits} bits, got {bits}")
    return hash_rows(other.head, _all_features(workspace, other, names))


def own_parts(workspace: Workspace) -> Parts:
    """The collection's network, whose head another one can replace."""
    parts = load_parts(workspace.path / NETWORK, sha256=workspace.settings.network)
    if parts is None:
        raise ValueError("network: must be of features and a linear head to get another head, got one that is not")
    return parts


def _names(workspace: Workspace) -> list[str]:
    """SHA-256 of the files of what is published, in order."""
    return sorted(entry["sha256"] for entry in published_names(workspace).values())


def _all_features(workspace: Workspace, parts: Parts, names: Iterable[str]) -> Rows:
    wanted = list(names)
    rows = kept_features(workspace, parts, wanted)
    if len(rows) < len(wanted):
        raise ValueError(
            f"features: must be kept of every published photograph, got none of {len(wanted) - len(rows)}, which an "
            "earlier version published, or which were deleted: withdraw them and publish them again"
        )
    return rows


def take_epoch(workspace: Workspace, following: Workspace) -> Workspace:
    """Make the next epoch the owner's: its state, keys, network, names and orders, together or not at all."""
    files = [following.path / name for name in (CARD, DELEGATION, NETWORK, SETTINGS)]
    files += [file for folder in (NAMES, OUTBOX) for file in sorted((following.path / folder).glob("[0-9]*"))]
    # Linked and not moved: until the commit they are the next epoch's.
    taken = commit(
        workspace, following.owner, {str(file.relative_to(following.path)): partial(os.link, file) for file in files}
    )  # fmt: skip
    return dataclasses.replace(taken, settings=following.settings)
