"""A folder of photographs into the collection: what is new, a segment at a time, each committed before the next."""

import dataclasses
import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from jcbir.cli.console import Advance
from jcbir.cli.network import hash_squares, square
from jcbir.cli.outbox import post
from jcbir.cli.workspace import NAMES, Home, commit
from jcbir.codes import pack, unpack
from jcbir.data import PictureFile, decode_whole, pictures_below, read_encoded
from jcbir.errors import FormatError
from jcbir.models import Backbone
from jcbir.protocol import owner as protocol
from jcbir.protocol.messages import Card
from jcbir.ranking._table import plan
from jcbir.storage.files import PRIVATE, write_file

SEGMENT_BYTES = 64 << 20
"""A segment ends when its photographs have so many bytes, whatever their number: messages stay small."""

Entry = dict[str, str]

WITHDRAWAL = 1 << 14
"""Images named in one withdrawal."""


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A readable photograph that is not published yet.

    Attributes:
        name: SHA-256 of its file, which is its name in the collection: a moved file is the same photograph.
        path: below the folder.
        squared: what the network sees.
        picture: what is sealed.
    """

    name: str
    path: str
    squared: np.ndarray
    picture: np.ndarray


@dataclasses.dataclass
class Tally:
    """What became of the files of a folder.

    Attributes:
        published: new photographs.
        already: published before.
        copies: of another file in the folder.
        withdrawn: published before, and not in the folder.
        segments: written by this run.
        skipped: path and reason of each file that could not be read.
        seen: names of all files.
    """

    published: int = 0
    already: int = 0
    copies: int = 0
    withdrawn: int = 0
    segments: int = 0
    skipped: list[dict[str, str]] = dataclasses.field(default_factory=list)
    seen: set[str] = dataclasses.field(default_factory=set)


def publish_folder(
    home: Home,
    folder: Path,
    *,
    network: Backbone,
    segment: int | None = None,
    send: Callable[[Home], object] = lambda home: None,
    advance: Advance | None = None,
) -> tuple[Home, Tally]:
    """Publish the photographs of a folder that are new.

    Args:
        home: the owner's open folder.
        folder: photographs, at any depth.
        network: hashes them.
        segment: photographs in a segment; None for as many as one bit-sliced ciphertext holds.
        send: called after each commit, to deliver the outbox.
        advance: told (files read, files in all).

    Returns:
        The folder after it, and what became of the files.

    Raises:
        ValueError: a segment below 1.
        OSError: the disk is full; all segments reported so far are committed.

    Example:
        >>> import tempfile
        >>> from jcbir.cli.workspace import Settings
        >>> from jcbir.models import Preprocessing
        >>> from jcbir.protocol.session import small_system
        >>> network = Backbone(lambda variables, inputs: inputs, {}, Preprocessing(size=32))
        >>> settings = Settings(("bitsliced",), "aes-gcm", "", None)
        >>> home = Home(Path("no/such"), small_system().owner, settings, "correct horse", 14)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "note.png").write_bytes(b"not a picture")
        ...     publish_folder(home, Path(folder), network=network)[1].skipped
        [{'path': 'note.png', 'reason': '...'}]
    """
    if segment is not None and segment < 1:
        raise ValueError(f"segment: at least 1 photograph, got {segment}")
    most = segment or segment_length(home.owner.card)
    listing, batch = pictures_below(folder), []
    files, tally = listing.pictures, Tally()
    tally.skipped += [file._asdict() for file in (*listing.left_out, *listing.unreadable)]
    for number, photograph in enumerate(_new_photographs(home, files, network, tally)):
        if advance is not None:
            advance(number, len(files))
        if photograph is not None:
            batch.append(photograph)
        if len(batch) == most or sum(entry.picture.nbytes for entry in batch) >= SEGMENT_BYTES:
            home = _publish(home, batch, network, tally)
            batch = []
            send(home)
    if batch:
        home = _publish(home, batch, network, tally)
        send(home)
    return home, tally


def publish_segment(home: Home, pictures: Sequence[np.ndarray], entries: Sequence[Entry]) -> Home:
    """Publish one segment: state, orders and names are committed together.

    Args:
        home: the owner's open folder.
        pictures: uint8[h, w, c] each, as they are to be sealed.
        entries: what the owner alone knows of each: `sha256` of its file, the `path` it had, and its `code`, packed and
            in hexadecimal digits.

    Returns:
        The folder after it.

    Raises:
        FormatError: an entry has no code of the collection's length.
        OSError: the disk is full; nothing is changed.

    Example:
        >>> import tempfile
        >>> from jcbir.cli.workspace import Settings
        >>> from jcbir.protocol.session import small_system
        >>> settings = Settings(("bitsliced",), "aes-gcm", "", None)
        >>> entry = {"sha256": "d", "path": "d.png", "code": "00000001"}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     home = Home(Path(folder), small_system().owner, settings, "correct horse", 14)
        ...     home = publish_segment(home, [np.zeros((2, 2, 3), np.uint8)], [entry])
        ...     list(published_names(home).values()), home.owner.segments
        ([{'sha256': 'd', 'path': 'd.png', 'code': '00000001'}], 2)
    """
    state, publication, catalogue = protocol.publish(
        home.owner,
        _read_codes(entries, home.owner.card.bits),
        pictures,
        [entry["sha256"] for entry in entries],
        draw=secrets.token_bytes,
        schemes=home.settings.schemes,
        cipher=home.settings.cipher,  # type: ignore[arg-type]
    )
    names = dict(zip(catalogue.image_ids, entries, strict=True))
    place = f"{NAMES}/{state.card.epoch:06d}-{home.owner.segments:08d}.json"
    writers = post(home, [publication, catalogue])
    writers[place] = partial(write_file, content=json.dumps(names).encode(), mode=PRIVATE)
    return commit(home, state, writers)


def segment_length(card: Card) -> int:
    """Count the photographs of a full segment: as many as one bit-sliced ciphertext holds.

    Args:
        card: the collection.

    Returns:
        Their number.

    Example:
        >>> from jcbir.paillier.public import PublicKey
        >>> key = PublicKey(n=(1 << 2048) - 1, g=1 << 2048)
        >>> segment_length(Card("photos", 0, 64, key, bytes(32), bytes(32)))
        340
    """
    return plan(card.public, scheme="bitsliced", count=1, bits=card.bits).lanes


def withdraw_missing(home: Home, seen: set[str], *, tally: Tally) -> Home:
    """Withdraw what is published and was not seen.

    Args:
        home: the owner's open folder.
        seen: names of all that stays.
        tally: counts the withdrawn.

    Returns:
        The folder after it.

    Raises:
        ValueError: nothing at all was seen: rather a wrong folder than the wish to withdraw everything.

    Example:
        >>> from jcbir.cli.workspace import Settings
        >>> from jcbir.protocol.session import small_system
        >>> settings = Settings(("bitsliced",), "aes-gcm", "", None)
        >>> home = Home(Path("no/such"), small_system().owner, settings, "correct horse", 14)
        >>> withdraw_missing(home, set(), tally=Tally())
        Traceback (most recent call last):
        ...
        ValueError: withdraw-missing: the folder has no photograph, which would withdraw the whole collection
    """
    if not seen:
        raise ValueError("withdraw-missing: the folder has no photograph, which would withdraw the whole collection")
    missing = sorted(entry["sha256"] for entry in published_names(home).values() if entry["sha256"] not in seen)
    for start in range(0, len(missing), WITHDRAWAL):
        state, withdrawal = protocol.withdraw(home.owner, missing[start : start + WITHDRAWAL])
        home = commit(home, state, post(home, [withdrawal]))
    tally.withdrawn += len(missing)
    return home


def published_names(home: Home) -> dict[str, Entry]:
    """Read what the owner alone knows of the published images.

    Args:
        home: the owner's open folder.

    Returns:
        Pseudonym to the entry that `publish_segment` got.

    Raises:
        FormatError: a file of names is damaged.

    Example:
        >>> import tempfile
        >>> from jcbir.cli.workspace import Settings
        >>> from jcbir.protocol.session import small_system
        >>> names = dict.fromkeys(["foreign", *small_system().catalogue.image_ids], {"path": "a.png"})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     home = Home(Path(folder), small_system().owner, Settings((), "aes-gcm", "", None), "correct horse", 14)
        ...     Path(folder, NAMES).mkdir()
        ...     _ = Path(folder, NAMES, "000000-00000000.json").write_text(json.dumps(names))
        ...     list(published_names(home).values())
        [{'path': 'a.png'}, {'path': 'a.png'}, {'path': 'a.png'}]
    """
    found: dict[str, Entry] = {}
    for file in sorted((home.path / NAMES).glob(f"{home.owner.card.epoch:06d}-*.json")):
        try:
            found |= json.loads(file.read_text())
        except (ValueError, TypeError):
            raise FormatError(f"{file}: not a file of names") from None
    return {image_id: entry for image_id, entry in found.items() if image_id in home.owner.image_ids}


def _new_photographs(
    home: Home, files: Sequence[PictureFile], network: Backbone, tally: Tally
) -> Iterator[Photograph | None]:
    """One item a file; None for those with nothing to publish."""
    for file in files:
        path = file.id
        try:
            content = read_encoded(file.path)
            name = hashlib.sha256(content).hexdigest()
            if name in tally.seen:
                tally.copies += 1
                yield None
                continue
            tally.seen.add(name)
            if protocol.pseudonym(home.owner, name) in home.owner.image_ids:
                tally.already += 1
                yield None
                continue
            picture = decode_whole(content, longest_side=home.settings.longest_side)
            yield Photograph(name, path, square(content, network), picture)
        except (ValueError, OSError) as error:
            tally.skipped.append({"path": path, "reason": str(error)})
            yield None


def _publish(home: Home, batch: Sequence[Photograph], network: Backbone, tally: Tally) -> Home:
    codes = np.asarray(pack(hash_squares(network, [entry.squared for entry in batch]))).astype(">u4")
    entries = [
        {"sha256": entry.name, "path": entry.path, "code": code.tobytes().hex()}
        for entry, code in zip(batch, codes, strict=True)
    ]
    home = publish_segment(home, [entry.picture for entry in batch], entries)
    tally.published += len(batch)
    tally.segments += 1
    return home


def _read_codes(entries: Sequence[Entry], bits: int) -> np.ndarray:
    try:
        words = np.array([np.frombuffer(bytes.fromhex(entry["code"]), ">u4") for entry in entries], np.uint32)
        return np.asarray(unpack(words, bits=bits))
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"entries: each has a code of {bits} bits, packed, in hexadecimal digits") from None


__all__ = [
    "Entry",
    "Photograph",
    "Tally",
    "publish_folder",
    "publish_segment",
    "published_names",
    "segment_length",
    "withdraw_missing",
]
