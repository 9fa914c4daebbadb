"""A folder of photographs into the collection: what is new, a segment at a time, each committed before the next."""

import contextlib
import csv
import dataclasses
import hashlib
import os
import secrets
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool

from jcbir.cli.console import Advance, printable
from jcbir.cli.names import SUFFIX, Entry, names_writer, read_names
from jcbir.cli.network import LARGEST_BATCH, square, write_network
from jcbir.cli.outbox import post
from jcbir.cli.workspace import NAMES, NETWORK, SETTINGS, Workspace, commit, write_settings
from jcbir.codes import binarize, pack, unpack
from jcbir.data import PictureFile, pictures_below, published_file, read_encoded
from jcbir.errors import FormatError
from jcbir.hashing import encode_images, hash_images
from jcbir.hashing.heads import FEWEST, fit_itq
from jcbir.models import Backbone, attach_head, project_head
from jcbir.protocol import owner as protocol
from jcbir.protocol.owner import Owner
from jcbir.ranking import SCHEMES, plan
from jcbir.sealing import Photograph
from jcbir.storage import write_file

SEGMENT_BYTES = 64 << 20
"""A segment ends when its photographs have so many bytes, whatever their number: messages stay small."""

MOST_BYTES = 128 << 20
"""Bytes of a photograph's file, at most: a message holds all of it."""

JPEG_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif"}

MOST_FITTED = 1000
"""Photographs that a hash head is fitted to at most, spread evenly over the folder."""

WITHDRAWAL = 1 << 14
"""Images named in one withdrawal."""


@dataclasses.dataclass(frozen=True)
class Unpublished:
    """A readable photograph that is not published yet.

    Attributes:
        entry: what the owner alone will know of it, but for the code.
        squared: what the network sees.
        photograph: what users will get.
    """

    entry: Entry
    squared: np.ndarray
    photograph: Photograph


class Terms(NamedTuple):
    """What users are told of photographs beside the pictures.

    Attributes:
        names: the names of the files.
        dates: when they were taken.
        captions: caption by path below the folder.
        metadata: files are published byte for byte.
    """

    names: bool = True
    dates: bool = True
    captions: Mapping[str, str] = MappingProxyType({})
    metadata: bool = False


DEFAULT_TERMS = Terms()


@dataclasses.dataclass
class Outcome:
    """What became of the files of a folder.

    Attributes:
        published: new photographs.
        already: published before.
        copies: of another file in the folder.
        segments: written by this run.
        moved: pseudonym to entry of those that lie elsewhere than when they were published.
        skipped: path and reason of each file that is not taken.
        reencoded: path and reason of each photograph that was encoded anew though it is not reduced.
        unread: paths of what could not be read, and may hold anything.
        seen: SHA-256 of all photographs in the folder.
        captioned: paths that have a caption and are not in the folder.
        refused: paths of what was read and is no photograph, or no longer one.
    """

    published: int = 0
    already: int = 0
    copies: int = 0
    segments: int = 0
    moved: dict[str, Entry] = dataclasses.field(default_factory=dict)
    skipped: list[dict[str, str]] = dataclasses.field(default_factory=list)
    reencoded: list[dict[str, str]] = dataclasses.field(default_factory=list)
    seen: set[str] = dataclasses.field(default_factory=set)
    captioned: list[str] = dataclasses.field(default_factory=list)
    unread: list[str] = dataclasses.field(default_factory=list)
    refused: set[str] = dataclasses.field(default_factory=set)


def publish_folder(
    workspace: Workspace,
    folder: Path,
    *,
    network: Backbone,
    known: Mapping[str, Bool[np.ndarray, " k"]] = MappingProxyType({}),
    terms: Terms = DEFAULT_TERMS,
    segment: int | None = None,
    dry_run: bool = False,
    send: Callable[[Workspace], object] = lambda workspace: None,
    advance: Advance | None = None,
) -> tuple[Workspace, Outcome]:
    """Publish the photographs of a folder that are new; `send` is called after each commit, to deliver the outbox.

    `known` holds codes by SHA-256 of the file where there are some already.
    """
    most = segment or segment_length(workspace.owner, workspace.settings.schemes)
    listing, outcome, batch = pictures_below(folder), Outcome(), []
    files = listing.pictures
    outcome.skipped += [each._asdict() for each in (*listing.left_out, *listing.unreadable)]
    outcome.unread += [each.path for each in listing.unreadable]
    outcome.refused |= {each.path for each in listing.left_out}
    outcome.captioned += sorted(terms.captions.keys() - {file.id for file in files})

    def settle(workspace: Workspace) -> Workspace:
        if not dry_run:
            workspace = publish_segment(
                workspace,
                _codes(batch, network, known),
                [each.photograph for each in batch],
                [each.entry for each in batch],
            )
            outcome.segments += 1
        outcome.published += len(batch)
        batch.clear()
        return workspace

    for number, found in enumerate(_new_photographs(workspace, files, network, terms, outcome)):
        if advance is not None:
            advance(number, len(files))
        if found is not None:
            batch.append(found)
        if len(batch) == most or sum(len(each.photograph.data) for each in batch) >= SEGMENT_BYTES:
            workspace = settle(workspace)
            send(workspace)
    if batch:
        workspace = settle(workspace)
        send(workspace)
    if outcome.moved and not dry_run:
        workspace = _note_moved(workspace, outcome.moved)
    return workspace, outcome


def to_photograph(
    content: bytes, path: str, *, terms: Terms, longest_side: int | None = None
) -> tuple[Photograph, str]:
    """A file as users get it, and why its picture was encoded anew though it is not reduced."""
    file = published_file(content, longest_side=longest_side, keep_metadata=terms.metadata)
    if len(file.data) > MOST_BYTES:
        raise ValueError(f"must be at most {MOST_BYTES} bytes, got {len(file.data)}")
    name = PurePosixPath(path)
    if file.media_type == "image/jpeg" and name.suffix.lower() not in JPEG_SUFFIXES:
        name = name.with_suffix(".jpg")
    told = (name.name if terms.names else "", file.taken if terms.dates else "", terms.captions.get(path, ""))
    return Photograph(file.data, file.media_type, *told), file.reencoded


def read_captions(path: Path) -> dict[str, str]:
    """Caption by path below the folder, from a CSV file with these two columns; a line `path,caption` may head it."""
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines(keepends=True), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"captions: must be a CSV file in UTF-8, got {str(path)!r}: {error}") from None
    captions: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        if row in ([], ["path", "caption"]):
            continue
        if len(row) != 2 or len(row[1].encode()) > 0xFFFF:
            raise FormatError(f"captions: must have a path and a caption in each row, got {len(row)} cells in {number}")
        captions[unicodedata.normalize("NFC", row[0].strip().replace("\\", "/"))] = row[1].strip()
    return captions


def fit_network(
    workspace: Workspace, folder: Path, features: Backbone, *, advance: Advance
) -> tuple[Workspace, dict[str, Bool[np.ndarray, " k"]]]:
    """Fit a label-free head to photographs of a folder and put it in place; their codes by SHA-256 of the file.

    Fewer photographs than `FEWEST` leave the network as it is.
    """
    files = pictures_below(folder).pictures
    squares: dict[str, np.ndarray] = {}
    for file in files[:: max(1, -(-len(files) // MOST_FITTED))]:
        # What cannot be read is named when it is to be published.
        with contextlib.suppress(ValueError, OSError):
            content = read_encoded(file.path)
            squares[hashlib.sha256(content).hexdigest()] = square(content, features)
    if len(squares) < FEWEST:
        return workspace, {}
    rows = encode_images(features, np.stack(list(squares.values())), batch=LARGEST_BATCH, progress=advance)
    head = fit_itq(jax.random.key(0), rows, bits=workspace.owner.card.bits)
    codes = np.asarray(binarize(project_head(head, rows)))
    with TemporaryDirectory() as place:
        file = Path(place, NETWORK)
        about = {"head": "label-free", "photographs": len(rows)}
        settings = dataclasses.replace(
            workspace.settings, network=write_network(file, attach_head(features, head), about)
        )
        writers = {
            NETWORK: partial(write_file, content=file.read_bytes()),
            SETTINGS: partial(write_settings, settings=settings),
        }
        workspace = commit(workspace, workspace.owner, writers)
    return dataclasses.replace(workspace, settings=settings), dict(zip(squares, codes, strict=True))


def publish_segment(
    workspace: Workspace,
    codes: Bool[np.ndarray, "n k"],
    photographs: Sequence[Photograph],
    entries: Sequence[Mapping[str, str]],
) -> Workspace:
    """Publish one segment: state, orders and names are committed together."""
    state, publication, catalog = protocol.publish(
        workspace.owner,
        codes,
        photographs,
        [entry["sha256"] for entry in entries],
        draw=secrets.token_bytes,
        schemes=workspace.settings.schemes,
        cipher=workspace.settings.cipher,  # type: ignore[arg-type]
    )
    words = np.asarray(pack(codes)).astype(">u4")
    # By pseudonym: the catalog has the images in an order drawn afresh.
    names = {
        protocol.pseudonym(state, entry["sha256"]): {**entry, "code": row.tobytes().hex()}
        for entry, row in zip(entries, words, strict=True)
    }
    state, head = protocol.head(state, now=int(time.time()))
    writers = post(workspace, [publication, catalog, head])
    writers[f"{NAMES}/{state.card.epoch:06d}-{workspace.owner.segments:08d}{SUFFIX}"] = names_writer(names, state)
    return commit(workspace, state, writers)


def segment_length(owner: Owner, schemes: Sequence[str]) -> int:
    """Count the photographs of a full segment: what the fullest ciphertext of any scheme holds beside sentinels."""
    public, bits = owner.card.public, owner.card.bits
    fitting = [name for name, scheme in SCHEMES.items() if scheme.key_kind == public.kind]
    lanes = max(plan(public.key, scheme=name, count=1, bits=bits).lanes for name in fitting)
    return protocol.segment_capacity(owner, lanes, schemes=schemes)


def find_missing(workspace: Workspace, folder: Path, outcome: Outcome) -> dict[str, Entry]:
    """Find what was published from a folder and is deleted from it; whatever else may be the reason is an error."""
    root = str(folder.resolve())
    published = {image_id: outcome.moved.get(image_id, e) for image_id, e in published_names(workspace).items()}
    missing = {
        image_id: entry
        for image_id, entry in published.items()
        if entry.get("root") == root and entry["sha256"] not in outcome.seen
    }
    # A note beside the photographs is none that was published; a damaged photograph may be.
    unread = outcome.unread + sorted(entry["path"] for entry in missing.values() if _within(entry, outcome.refused))
    if missing and unread:
        raise ValueError(
            f"withdraw-missing: every file of {printable(root)} must be readable, got {len(unread)} that are not, "
            f"{printable(unread[0])!r} the first; nothing is withdrawn"
        )
    if missing and not outcome.seen:
        raise ValueError(
            f"withdraw-missing: {printable(root)} must hold a photograph, got none, which would withdraw all of it"
        )
    return missing


def withdraw(workspace: Workspace, entries: Iterable[Mapping[str, str]]) -> Workspace:
    """Withdraw published photographs."""
    names = sorted(entry["sha256"] for entry in entries)
    for start in range(0, len(names), WITHDRAWAL):
        state, withdrawal = protocol.withdraw(workspace.owner, names[start : start + WITHDRAWAL])
        state, head = protocol.head(state, now=int(time.time()))
        workspace = commit(workspace, state, post(workspace, [withdrawal, head]))
    return workspace


def published_names(workspace: Workspace) -> dict[str, Entry]:
    """Read what the owner alone knows of the published images: pseudonym to entry."""
    found: dict[str, Entry] = {}
    for file in sorted((workspace.path / NAMES).glob(f"{workspace.owner.card.epoch:06d}-*{SUFFIX}")):
        found |= read_names(file, workspace.owner)
    return {image_id: entry for image_id, entry in found.items() if image_id in workspace.owner.image_ids}


def read_codes(entries: Sequence[Mapping[str, str]], *, bits: int) -> Bool[np.ndarray, "n k"]:
    """Codes as the files of names have them."""
    try:
        words = np.array([np.frombuffer(bytes.fromhex(entry["code"]), ">u4") for entry in entries], np.uint32)
        return np.asarray(unpack(words, bits=bits))
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"entries: must have a code of {bits} bits each, packed, in hexadecimal digits") from None


def _new_photographs(
    workspace: Workspace, files: Sequence[PictureFile], network: Backbone, terms: Terms, outcome: Outcome
) -> Iterator[Unpublished | None]:
    """One item a file; None for those with nothing to publish."""
    published = published_names(workspace)
    for file in files:
        path, spelled = file.id, str(file.path.relative_to(file.root))
        place = {"path": path, "root": str(file.root.resolve()), **({"file": spelled} if spelled != path else {})}
        try:
            content = read_encoded(file.path)
            name = hashlib.sha256(content).hexdigest()
            if name in outcome.seen:
                outcome.copies += 1
                yield None
                continue
            image_id = protocol.pseudonym(workspace.owner, name)
            if image_id in workspace.owner.image_ids:
                outcome.seen.add(name)
                outcome.already += 1
                entry = published.get(image_id, {"sha256": name})
                # A copy elsewhere does not take the place of a photograph that is where it was.
                if entry.get("path") is None or not _is_there(entry):
                    outcome.moved[image_id] = {**{k: v for k, v in entry.items() if k != "file"}, **place}
                yield None
                continue
            photograph, reencoded = to_photograph(
                content, path, terms=terms, longest_side=workspace.settings.longest_side
            )
            found = Unpublished({"sha256": name, **place}, square(photograph.data, network), photograph)
            outcome.seen.add(name)
            if reencoded:
                outcome.reencoded.append({"path": path, "reason": reencoded})
            yield found
        except (ValueError, OSError) as error:
            outcome.skipped.append({"path": path, "reason": str(error)})
            if isinstance(error, OSError):
                outcome.unread.append(path)
            outcome.refused.add(path)
            yield None


def _codes(
    batch: Sequence[Unpublished], network: Backbone, known: Mapping[str, Bool[np.ndarray, " k"]]
) -> Bool[np.ndarray, "n k"]:
    new = [each for each in batch if each.entry["sha256"] not in known]
    found = dict(known)
    if new:
        codes = hash_images(network, np.stack([each.squared for each in new]), batch=LARGEST_BATCH)
        found |= {each.entry["sha256"]: code for each, code in zip(new, codes, strict=True)}
    return np.stack([found[each.entry["sha256"]] for each in batch])


def _within(entry: Mapping[str, str], paths: set[str]) -> bool:
    """Whether a photograph's path, or a folder it lay in, is one of these."""
    parts = entry["path"].split("/")
    return any("/".join(parts[:count]) in paths for count in range(1, len(parts) + 1))


def _is_there(entry: Mapping[str, str]) -> bool:
    """Whether anything lies where a photograph lay, be it out of reach; before roots were noted, none is known."""
    if "root" not in entry:
        return False
    try:
        os.lstat(os.path.join(entry["root"], entry.get("file", entry["path"])))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _note_moved(workspace: Workspace, moved: Mapping[str, Entry]) -> Workspace:
    """Write the new places down. The file is read after all others of its epoch."""
    place = f"{workspace.owner.card.epoch:06d}-moved{SUFFIX}"
    file = workspace.path / NAMES / place
    before = read_names(file, workspace.owner) if file.exists() else {}
    return commit(workspace, workspace.owner, {f"{NAMES}/{place}": names_writer({**before, **moved}, workspace.owner)})
