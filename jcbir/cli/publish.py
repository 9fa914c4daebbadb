"""A folder of photographs into the collection: what is new, a segment at a time, each committed before the next."""

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import jax
import numpy as np
from jaxtyping import Bool

from jcbir.cli.console import Advance, printable
from jcbir.cli.network import LARGEST_BATCH, square, write_network
from jcbir.cli.outbox import post
from jcbir.cli.workspace import NAMES, NETWORK, SETTINGS, Workspace, commit, write_settings
from jcbir.codes import binarize, pack, unpack
from jcbir.data import PictureFile, decode_whole, pictures_below, read_encoded
from jcbir.errors import FormatError
from jcbir.hashing import encode_images, hash_images
from jcbir.hashing.heads import FEWEST, fit_itq
from jcbir.models import Backbone, attach_head, project_head
from jcbir.protocol import owner as protocol
from jcbir.protocol.owner import Owner
from jcbir.ranking import SCHEMES, plan
from jcbir.storage import write_file
from jcbir.storage._files import PRIVATE

SEGMENT_BYTES = 64 << 20
"""A segment ends when its photographs have so many bytes, whatever their number: messages stay small."""

MOST_FITTED = 1000
"""Photographs that a hash head is fitted to at most, spread evenly over the folder."""

WITHDRAWAL = 1 << 14
"""Images named in one withdrawal."""

Entry = dict[str, str]
"""What the owner alone knows of an image: `sha256` of its file, its `path` below the folder `root`, its `code`, and as
`file` the path as the disk has it where that is another spelling."""


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A readable photograph that is not published yet.

    Attributes:
        entry: what the owner alone will know of it, but for the code.
        squared: what the network sees.
        picture: what is sealed.
    """

    entry: Entry
    squared: np.ndarray
    picture: np.ndarray


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
        unread: paths of what could not be read, and may hold anything.
        seen: SHA-256 of all photographs in the folder.
        refused: paths of what was read and is no photograph, or no longer one.
    """

    published: int = 0
    already: int = 0
    copies: int = 0
    segments: int = 0
    moved: dict[str, Entry] = dataclasses.field(default_factory=dict)
    skipped: list[dict[str, str]] = dataclasses.field(default_factory=list)
    seen: set[str] = dataclasses.field(default_factory=set)
    unread: list[str] = dataclasses.field(default_factory=list)
    refused: set[str] = dataclasses.field(default_factory=set)


def publish_folder(
    workspace: Workspace,
    folder: Path,
    *,
    network: Backbone,
    known: Mapping[str, Bool[np.ndarray, " k"]] = MappingProxyType({}),
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

    def settle(workspace: Workspace) -> Workspace:
        if not dry_run:
            workspace = publish_segment(
                workspace,
                _codes(batch, network, known),
                [each.picture for each in batch],
                [each.entry for each in batch],
            )
            outcome.segments += 1
        outcome.published += len(batch)
        batch.clear()
        return workspace

    for number, photograph in enumerate(_new_photographs(workspace, files, network, outcome)):
        if advance is not None:
            advance(number, len(files))
        if photograph is not None:
            batch.append(photograph)
        if len(batch) == most or sum(each.picture.nbytes for each in batch) >= SEGMENT_BYTES:
            workspace = settle(workspace)
            send(workspace)
    if batch:
        workspace = settle(workspace)
        send(workspace)
    if outcome.moved and not dry_run:
        workspace = _note_moved(workspace, outcome.moved)
    return workspace, outcome


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
    pictures: Sequence[np.ndarray],
    entries: Sequence[Mapping[str, str]],
) -> Workspace:
    """Publish one segment: state, orders and names are committed together."""
    state, publication, catalog = protocol.publish(
        workspace.owner,
        codes,
        pictures,
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
    writers[f"{NAMES}/{state.card.epoch:06d}-{workspace.owner.segments:08d}.json"] = _names_writer(names)
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
    for file in sorted((workspace.path / NAMES).glob(f"{workspace.owner.card.epoch:06d}-*.json")):
        try:
            found |= json.loads(file.read_text())
        except (ValueError, TypeError):
            raise FormatError(f"{file}: not a file of names") from None
    return {image_id: entry for image_id, entry in found.items() if image_id in workspace.owner.image_ids}


def read_codes(entries: Sequence[Mapping[str, str]], *, bits: int) -> Bool[np.ndarray, "n k"]:
    """Codes as the files of names have them."""
    try:
        words = np.array([np.frombuffer(bytes.fromhex(entry["code"]), ">u4") for entry in entries], np.uint32)
        return np.asarray(unpack(words, bits=bits))
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"entries: must have a code of {bits} bits each, packed, in hexadecimal digits") from None


def _new_photographs(
    workspace: Workspace, files: Sequence[PictureFile], network: Backbone, outcome: Outcome
) -> Iterator[Photograph | None]:
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
            picture = decode_whole(content, longest_side=workspace.settings.longest_side)
            photograph = Photograph({"sha256": name, **place}, square(content, network), picture)
            outcome.seen.add(name)
            yield photograph
        except (ValueError, OSError) as error:
            outcome.skipped.append({"path": path, "reason": str(error)})
            if isinstance(error, OSError):
                outcome.unread.append(path)
            outcome.refused.add(path)
            yield None


def _codes(
    batch: Sequence[Photograph], network: Backbone, known: Mapping[str, Bool[np.ndarray, " k"]]
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
    place = f"{workspace.owner.card.epoch:06d}-moved.json"
    file = workspace.path / NAMES / place
    before = json.loads(file.read_text()) if file.exists() else {}
    return commit(workspace, workspace.owner, {f"{NAMES}/{place}": _names_writer({**before, **moved})})


def _names_writer(names: Mapping[str, Mapping[str, str]]) -> Callable[[Path], None]:
    return partial(write_file, content=json.dumps(names).encode(), mode=PRIVATE)
