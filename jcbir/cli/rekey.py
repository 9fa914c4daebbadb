"""A new epoch for all that is published: prepared beside the old one, then put in its place, then sent.

The next epoch is an owner's folder of its own inside the old one: segment after segment is taken back from the cloud,
opened, masked, encrypted and sealed anew, and committed there, while the old epoch serves on. When nothing is missing,
one commit makes its state the owner's, and its orders leave in order: first those that end the old epoch. Whoever is
interrupted goes on where it stopped.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from jcbir.cli.console import Advance
from jcbir.cli.outbox import Carrier, deliver, pending, post
from jcbir.cli.publish import publish_segment, published_names, segment_length
from jcbir.cli.workspace import CARD, DELEGATION, NAMES, NETWORK, OUTBOX, SECRET, Home, commit, create_home, open_home
from jcbir.errors import FormatError
from jcbir.protocol import owner as protocol
from jcbir.protocol.handover import announce
from jcbir.protocol.holdings import Owner
from jcbir.protocol.messages import Card, Recall, Recalled
from jcbir.storage.cards import read_card
from jcbir.storage.files import sync_folder

EPOCH = "next-epoch"
Fetch = Callable[[Recall], Recalled]
"""Takes a recall to the cloud and brings its answer."""


def rekey_collection(
    home: Home,
    make: Callable[[], Owner],
    *,
    carriers: Mapping[str, Carrier],
    fetch: Fetch,
    authority_passphrase: str,
    advance: Advance | None = None,
) -> tuple[Home, int]:
    """Move a collection to its next epoch, or go on with what was interrupted.

    Args:
        home: the owner's open folder.
        make: makes the state of the next epoch, from `jcbir.protocol.owner.rekey`.
        carriers: to the cloud and to the authority.
        fetch: brings sealed images from the cloud.
        authority_passphrase: of the new delegation.
        advance: told (images moved, images in all) after each segment.

    Returns:
        The folder in the new epoch, and how many orders were sent.

    Raises:
        FormatError: the cloud sent other images, or a code was not kept.
        IntegrityError: an image was altered.
        RefusalError: a service refuses, or the cloud has not all images.
        ConnectionError: a service cannot be reached.

    Example:
        >>> import dataclasses, secrets, tempfile
        >>> from jcbir.cli.workspace import Settings
        >>> from jcbir.protocol.session import small_system
        >>> empty = dataclasses.replace(small_system().owner, image_ids=frozenset())
        >>> make = partial(protocol.rekey, empty, draw=secrets.token_bytes)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     home = Home(Path(folder), empty, Settings(("bitsliced",), "aes-gcm", "", None), "correct horse", 14)
        ...     _ = (home.path / NETWORK).write_bytes(b"weights")
        ...     rekey_collection(home, make, carriers={}, fetch=print, authority_passphrase="battery staple")[0].owner
        Owner('photos', epoch 1, 0 segments, secrets redacted)
    """
    going_on = interrupted_sending(home.path)
    sent = deliver(home, carriers)
    if not going_on:
        prepared = prepared_card(home.path)
        if prepared is not None and prepared.epoch != home.owner.card.epoch + 1:
            discard_epoch(home.path)
        with open_epoch(home, make, authority_passphrase=authority_passphrase) as following:
            following = move_images(home, following, fetch=fetch, advance=advance)
            home = take_epoch(home, following)
        sent += deliver(home, carriers)
    discard_epoch(home.path)
    return home, sent


def prepared_card(path: Path) -> Card | None:
    """Find the epoch that is being prepared, or was and is the owner's now.

    Args:
        path: the owner's folder.

    Returns:
        Its card, or None where none is.

    Raises:
        FormatError: its public file is damaged.

    Example:
        >>> prepared_card(Path("no/such")) is None
        True
    """
    return read_card(path / EPOCH / CARD) if (path / EPOCH / SECRET).exists() else None


def interrupted_sending(path: Path) -> bool:
    """Tell whether a rekey was interrupted after its commit: orders that it made still wait.

    Args:
        path: the owner's folder.

    Returns:
        Whether an order in the outbox is one of those that were prepared.

    Example:
        >>> interrupted_sending(Path("no/such"))
        False
    """
    made = path / EPOCH / OUTBOX
    return any((made / file.name).exists() and file.samefile(made / file.name) for file in pending(path))


def discard_epoch(path: Path) -> None:
    """Forget the epoch that was prepared.

    Args:
        path: the owner's folder.

    Returns:
        Nothing.

    Example:
        >>> discard_epoch(Path("no/such"))
    """
    # Renamed first: half of it must not pass for one that can be gone on with.
    forgotten = path / f"{EPOCH}.forgotten"
    if forgotten.exists():
        shutil.rmtree(forgotten)
    if (path / EPOCH).exists():
        os.replace(path / EPOCH, forgotten)
        shutil.rmtree(forgotten)


@contextlib.contextmanager
def open_epoch(home: Home, make: Callable[[], Owner], *, authority_passphrase: str) -> Iterator[Home]:
    """Open the folder of the next epoch for the length of a block; found it where there is none.

    Args:
        home: the owner's open folder.
        make: makes the state of the next epoch, from `jcbir.protocol.owner.rekey`.
        authority_passphrase: of the new delegation.

    Yields:
        The open folder; its outbox begins with the orders that end the old epoch.

    Example:
        >>> import secrets, tempfile
        >>> from jcbir.cli.workspace import Settings
        >>> from jcbir.protocol.session import small_system
        >>> old, settings = small_system().owner, Settings(("bitsliced",), "aes-gcm", "", None)
        >>> make = partial(protocol.rekey, old, draw=secrets.token_bytes)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     home = Home(Path(folder), old, settings, "correct horse", 14)
        ...     _ = (home.path / NETWORK).write_bytes(b"weights")
        ...     with open_epoch(home, make, authority_passphrase="battery staple") as following:
        ...         [file.name for file in pending(following.path)]
        ['00000000-succession.cloud', '00000001-appointment.authority']
    """
    path = home.path / EPOCH
    if not (path / SECRET).exists():
        discard_epoch(home.path)
        create_home(
            path, make(), home.settings, home.path / NETWORK, passphrase=home.passphrase,
            authority_passphrase=authority_passphrase, work=home.work,
        )  # fmt: skip
        sync_folder(home.path)
    with open_home(path, passphrase=home.passphrase, work=home.work) as following:
        if not pending(path):
            following = commit(following, following.owner, post(following, announce(home.owner, following.owner)))
        yield following


def move_images(home: Home, following: Home, *, fetch: Fetch, advance: Advance | None = None) -> Home:
    """Publish in the next epoch what is published in this one, from the cloud's sealed images and the owner's codes.

    Args:
        home: the owner's open folder.
        following: the open folder of the next epoch.
        fetch: brings sealed images from the cloud.
        advance: told (images moved, images in all) after each segment.

    Returns:
        The folder of the next epoch; it holds the same images as this one.

    Raises:
        FormatError: the cloud sent other images, or a code was not kept.
        IntegrityError: an image was altered.
        RefusalError: the cloud refuses, or has not all images.

    Example:
        >>> from jcbir.cli.workspace import Settings
        >>> from jcbir.protocol.session import small_system
        >>> settings = Settings(("bitsliced",), "aes-gcm", "", None)
        >>> home = Home(Path("no/such"), small_system().owner, settings, "correct horse", 14)
        >>> move_images(home, home, fetch=print)
        Traceback (most recent call last):
        ...
        jcbir.errors.FormatError: no/such/names: no code of 3 images, which an earlier version published
    """
    names, most = published_names(home), segment_length(home.owner.card)
    uncoded = len(home.owner.image_ids) - sum("code" in entry for entry in names.values())
    if uncoded:
        raise FormatError(f"{home.path / NAMES}: no code of {uncoded} images, which an earlier version published")
    # Withdrawn after they were moved.
    gone = sorted(following.owner.image_ids - home.owner.image_ids)
    if gone:
        moved = published_names(following)
        state, withdrawal = protocol.withdraw(following.owner, [moved[image_id]["sha256"] for image_id in gone])
        following = commit(following, state, post(following, [withdrawal]))
    left = sorted(home.owner.image_ids - following.owner.image_ids)
    while left:
        recalled = fetch(protocol.recall(home.owner, left[:most], now=int(time.time())))
        image_ids = [image.image_id for image in recalled.images]
        if image_ids != left[: len(image_ids)]:
            raise FormatError("recalled: the cloud sent other images than it was asked for")
        pictures = protocol.unseal(home.owner, recalled.images)
        following = publish_segment(following, pictures, [names[image_id] for image_id in image_ids])
        left = left[len(image_ids) :]
        if advance is not None:
            advance(len(home.owner.image_ids) - len(left), len(home.owner.image_ids))
    return following


def take_epoch(home: Home, following: Home) -> Home:
    """Make the next epoch the owner's: its state, keys, names and orders, together or not at all.

    Args:
        home: the owner's open folder, whose outbox is empty.
        following: the open folder of the next epoch.

    Returns:
        The owner's folder in the new epoch.

    Example:
        >>> import secrets, tempfile
        >>> from jcbir.cli.workspace import Settings
        >>> from jcbir.protocol.session import small_system
        >>> old, settings = small_system().owner, Settings(("bitsliced",), "aes-gcm", "", None)
        >>> make = partial(protocol.rekey, old, draw=secrets.token_bytes)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     home = Home(Path(folder), old, settings, "correct horse", 14)
        ...     _ = (home.path / NETWORK).write_bytes(b"weights")
        ...     with open_epoch(home, make, authority_passphrase="battery staple") as following:
        ...         take_epoch(home, following).owner.card.epoch
        1
    """
    files = [following.path / CARD, following.path / DELEGATION]
    files += [file for folder in (NAMES, OUTBOX) for file in sorted((following.path / folder).glob("[0-9]*"))]
    # Linked and not moved: until the commit they are the next epoch's.
    return commit(
        home, following.owner, {str(file.relative_to(following.path)): partial(os.link, file) for file in files}
    )  # fmt: skip


__all__ = [
    "EPOCH",
    "Fetch",
    "discard_epoch",
    "interrupted_sending",
    "move_images",
    "open_epoch",
    "prepared_card",
    "rekey_collection",
    "take_epoch",
]
