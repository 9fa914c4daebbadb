"""A folder of photographs into the collection: what is new, a segment at a time, each committed before the next."""

import contextlib
import csv
import dataclasses
import hashlib
import os
import secrets
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, UInt8

from jcbir.cli.console import Advance, printable
from jcbir.cli.features import Rows, forget_features, hash_rows, kept_features, make_features, nearness
from jcbir.cli.names import SUFFIX, Entry, names_writer, read_names, write_names
from jcbir.cli.network import LARGEST_BATCH, Parts, pixels_seen, whitening_of, write_network
from jcbir.cli.outbox import Fetch, post
from jcbir.cli.reading import decoding_processes, prepare
from jcbir.cli.workspace import NAMES, NETWORK, SETTINGS, Workspace, commit, write_settings
from jcbir.codes import pack, unpack
from jcbir.data import PictureFile, PublishedFile, ahead, pictures_below, read_encoded
from jcbir.errors import FormatError
from jcbir.hashing import hash_images
from jcbir.hashing.heads import FEWEST, fit_label_free
from jcbir.models import Backbone, attach_head
from jcbir.protocol import owner as protocol
from jcbir.protocol.owner import Owner
from jcbir.ranking import SCHEMES, plan
from jcbir.sealing import Photograph
from jcbir.storage import write_file

SEGMENT_BYTES = 64 << 20
"""A segment ends when its photographs have so many bytes, whatever their number: messages stay small."""

MOST_BYTES = 128 << 20
"""Bytes of a photograph's file, at most: a message holds all of it."""

MOST_CAPTION = 0xFFFF
"""Bytes of a caption, in UTF-8."""

WHERE = ("path", "root", "file")
"""What an entry says of the place of a photograph."""

JPEG_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif"}

MOST_FITTED = 1000
"""Photographs that a hash head is fitted to at most, spread evenly over the folder."""

STILL_FITS = 0.95
"""A head fits new photographs while what it finds for them is so near, measured by what it finds for earlier ones:
photographs of kinds that it was fitted to stay above, those of others fall below (`experiments.later_kinds`)."""

APART = 1e-3
"""How much nearer than the average one the nearest photographs are, at least, where a head can find them or not."""

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
        published: SHA-256 of new photographs.
        already: published before.
        copies: of another file in the folder.
        segments: written by this run.
        moved: pseudonym to entry of those that lie elsewhere than when they were published.
        skipped: path and reason of each file that is not taken.
        reencoded: path and reason of each photograph that was encoded anew though it is not reduced.
        unread: paths of what could not be read, and may hold anything.
        seen: SHA-256 of all photographs in the folder.
        captioned: paths that have a caption and are not in the folder.
        recaptioned: pseudonym to caption of those that are published with another one.
        refused: paths of what was read and is no photograph, or no longer one.
    """

    published: set[str] = dataclasses.field(default_factory=set)
    already: int = 0
    copies: int = 0
    segments: int = 0
    moved: dict[str, Entry] = dataclasses.field(default_factory=dict)
    skipped: list[dict[str, str]] = dataclasses.field(default_factory=list)
    reencoded: list[dict[str, str]] = dataclasses.field(default_factory=list)
    seen: set[str] = dataclasses.field(default_factory=set)
    captioned: list[str] = dataclasses.field(default_factory=list)
    recaptioned: dict[str, str] = dataclasses.field(default_factory=dict)
    unread: list[str] = dataclasses.field(default_factory=list)
    refused: set[str] = dataclasses.field(default_factory=set)


HashSquares = Callable[[Mapping[str, UInt8[np.ndarray, "s s 3"]]], Mapping[str, Bool[np.ndarray, " k"]]]
"""Codes of a few photographs, all by SHA-256 of the file."""


def publish_folder(
    workspace: Workspace,
    folder: Path,
    *,
    size: int,
    hash_squares: HashSquares,
    terms: Terms = DEFAULT_TERMS,
    segment: int | None = None,
    dry_run: bool = False,
    send: Callable[[Workspace], object] = lambda workspace: None,
    advance: Advance = lambda done, total: None,
) -> tuple[Workspace, Outcome]:
    """Publish the photographs of a folder that are new; `send` is called after each commit, to deliver the outbox."""
    most = segment or segment_length(workspace.owner, workspace.settings.schemes)
    listing, outcome, batch = pictures_below(folder), Outcome(), []
    files = listing.pictures
    outcome.skipped += [each._asdict() for each in (*listing.left_out, *listing.unreadable)]
    outcome.unread += [each.path for each in listing.unreadable]
    outcome.refused |= {each.path for each in listing.left_out}
    outcome.captioned += sorted(terms.captions.keys() - {file.id for file in files})

    codes: list[np.ndarray] = []

    def hash_batch() -> None:
        if not dry_run and len(codes) < len(batch):
            found = hash_squares({each.entry["sha256"]: each.squared for each in batch[len(codes) :]})
            codes.extend(found[each.entry["sha256"]] for each in batch[len(codes) :])

    def settle(workspace: Workspace) -> Workspace:
        hash_batch()
        if not dry_run:
            workspace = publish_segment(
                workspace,
                np.stack(codes),
                [each.photograph for each in batch],
                [each.entry for each in batch],
            )
            outcome.segments += 1
        outcome.published |= {each.entry["sha256"] for each in batch}
        batch.clear()
        codes.clear()
        return workspace

    # Closed at once where something fails or the owner interrupts: its processes end.
    with contextlib.closing(_new_photographs(workspace, files, size, terms, outcome, advance)) as new:
        for found in new:
            batch.append(found)
            if len(batch) - len(codes) >= LARGEST_BATCH:
                hash_batch()
            if len(batch) == most or sum(len(each.photograph.data) for each in batch) >= SEGMENT_BYTES:
                workspace = settle(workspace)
                send(workspace)
    if batch:
        workspace = settle(workspace)
        send(workspace)
    if outcome.moved and not dry_run:
        workspace = _note_moved(workspace, outcome.moved)
    return workspace, outcome


def hash_whole(network: Backbone) -> HashSquares:
    """Hash by a network whose head does not stand apart."""

    def hash_squares(squares: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        codes = hash_images(network, np.stack(list(squares.values())), batch=LARGEST_BATCH)
        return dict(zip(squares, codes, strict=True))

    return hash_squares


def hash_features(workspace: Workspace, parts: Parts) -> HashSquares:
    """Hash by features, those that were kept or else made now."""

    def hash_squares(squares: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = kept_features(workspace, parts, squares)
        new = {name: square for name, square in squares.items() if name not in rows}
        return hash_rows(parts.head, rows | (make_features(workspace, parts, new) if new else {}))

    return hash_squares


def to_photograph(file: PublishedFile, path: str, *, terms: Terms) -> Photograph:
    """A file as users get it."""
    if len(file.data) > MOST_BYTES:
        raise ValueError(f"must be at most {MOST_BYTES} bytes, got {len(file.data)}")
    name = PurePosixPath(path)
    if file.media_type == "image/jpeg" and name.suffix.lower() not in JPEG_SUFFIXES:
        name = name.with_suffix(".jpg")
    told = (name.name if terms.names else "", file.taken if terms.dates else "", terms.captions.get(path, ""))
    return Photograph(file.data, file.media_type, *told)


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
        if len(row) != 2:
            raise FormatError(f"captions: must have a path and a caption in each row, got {len(row)} cells in {number}")
        check_caption(row[1])
        captions[unicodedata.normalize("NFC", row[0].strip().replace("\\", "/"))] = row[1].strip()
    return captions


def check_caption(caption: str) -> None:
    """Refuse what is too long to be sealed beside a photograph."""
    try:
        size = len(caption.encode())
    except UnicodeEncodeError:
        raise ValueError("caption: must be Unicode text, got a lone surrogate") from None
    if size > MOST_CAPTION:
        raise ValueError(f"caption: must be at most {MOST_CAPTION} bytes, got {size}")


def fit_network(
    workspace: Workspace, folder: Path, parts: Parts, *, terms: Terms = DEFAULT_TERMS, advance: Advance
) -> tuple[Workspace, Parts, int]:
    """Fit a label-free head to photographs of a folder and put it in place; the number of photographs, 0 for too few.

    What is seen of them is kept.
    """
    files = pictures_below(folder).pictures
    files = files[:: max(1, -(-len(files) // MOST_FITTED))]
    names: dict[str, None] = {}
    rows: Rows = {}
    waiting: deque[str] = deque()
    squares: dict[str, np.ndarray] = {}

    def contents() -> Iterator[bytes]:
        for number, file in enumerate(files):
            advance(number, len(files))
            try:
                content = read_encoded(file.path)
            except (ValueError, OSError):
                # Named when it is to be published.
                continue
            name = hashlib.sha256(content).hexdigest()
            kept = {} if name in names else kept_features(workspace, parts, [name])
            rows.update(kept)
            if name not in names and not kept:
                waiting.append(name)
                yield content
            names[name] = None

    def look() -> None:
        rows.update(make_features(workspace, parts, squares))
        squares.clear()

    work = _preparing(workspace, pixels_seen(parts.features), terms)
    with contextlib.closing(ahead(work, contents(), processes=decoding_processes(len(files)))) as prepared:
        for _, found in prepared:
            name = waiting.popleft()
            if not isinstance(found, str):
                squares[name] = found[1]
            if len(squares) == LARGEST_BATCH:
                look()
    if squares:
        look()
    rows = {name: rows[name] for name in names if name in rows}
    if len(rows) < FEWEST:
        return workspace, parts, 0
    fitted = refit(parts, rows)
    with TemporaryDirectory() as place:
        file = Path(place, NETWORK)
        settings = dataclasses.replace(workspace.settings, network=write_parts(file, fitted, len(rows)))
        writers = {
            NETWORK: partial(write_file, content=file.read_bytes()),
            SETTINGS: partial(write_settings, settings=settings),
        }
        workspace = commit(workspace, workspace.owner, writers)
    return dataclasses.replace(workspace, settings=settings), fitted, len(rows)


def refit(parts: Parts, rows: Rows) -> Parts:
    """Put a label-free head that is fitted to these features in the place of the head."""
    features, bits = np.stack(list(rows.values())).astype(np.float32), parts.head.projection.shape[1]
    head = fit_label_free(jax.random.key(0), features, bits=bits, whitening=whitening_of(parts.features))
    return parts._replace(head=head, fitted=True)


def write_parts(path: Path, parts: Parts, photographs: int) -> str:
    """Write a network with a label-free head that was fitted to so many photographs; its SHA-256."""
    about = {"head": "label-free", "photographs": photographs}
    return write_network(path, attach_head(parts.features, parts.head), about)


class Fit(NamedTuple):
    """How near the photographs are that the head finds, as a share of how near they could be.

    Attributes:
        new: for those published now.
        before: for those before.
    """

    new: float
    before: float

    @property
    def lost(self) -> bool:
        """Whether the head is no longer one for the whole collection."""
        return self.new < STILL_FITS * self.before


def compare_fit(workspace: Workspace, parts: Parts, new: set[str]) -> Fit | None:
    """Compare photographs published now, by SHA-256 of the file, with those before; None where either are few, or
    all look alike."""
    if len(new) < FEWEST:
        return None
    published = {entry["sha256"] for entry in published_names(workspace).values()}
    # Hashes: the first ones are as good as drawn.
    first = [set(sorted(names)[:MOST_FITTED]) for names in (published & new, published - new)]
    if min(map(len, first)) < FEWEST:
        return None
    rows = kept_features(workspace, parts, first[0] | first[1])
    is_new = np.array([name in first[0] for name in rows])
    if min(is_new.sum(), (~is_new).sum()) < FEWEST:
        return None
    features = np.stack(list(rows.values())).astype(np.float32)
    by_code, by_features = nearness(features, np.stack(list(hash_rows(parts.head, rows).values()))).T
    if min(by_features[part].mean() for part in (is_new, ~is_new)) < APART:
        return None
    new_share, share = (by_code[part].sum() / by_features[part].sum() for part in (is_new, ~is_new))
    return Fit(float(new_share), float(share))


def publish_segment(
    workspace: Workspace,
    codes: Bool[np.ndarray, "n k"],
    photographs: Sequence[Photograph],
    entries: Sequence[Mapping[str, str]],
    *,
    instead: bool = False,
) -> Workspace:
    """Publish one segment, or `instead` of what is published the same photographs with other words about them.

    State, orders and names are committed together.
    """
    state, orders = workspace.owner, []
    if instead:
        state, withdrawal = protocol.withdraw(state, [entry["sha256"] for entry in entries])
        orders.append(withdrawal)
    state, publication, catalog = protocol.publish(
        state,
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
        protocol.pseudonym(state, entry["sha256"]): {
            **entry, "code": row.tobytes().hex(), "caption": photograph.caption,
        }
        for entry, row, photograph in zip(entries, words, photographs, strict=True)
    }  # fmt: skip
    state, head = protocol.head(state, now=int(time.time()))
    writers = post(workspace, [*orders, publication, catalog, head])
    writers[f"{NAMES}/{state.card.epoch:06d}-{workspace.owner.segments:08d}{SUFFIX}"] = names_writer(names, state)
    return commit(workspace, state, writers)


def take_back(owner: Owner, image_ids: Sequence[str], fetch: Fetch) -> tuple[Sequence[str], list[Photograph]]:
    """The first of these photographs, as many as the cloud sends at once, opened."""
    recalled = fetch(protocol.recall(owner, image_ids, now=int(time.time()), draw=secrets.token_bytes))
    found = [image.image_id for image in recalled.images]
    if not found or found != list(image_ids[: len(found)]):
        raise FormatError("recalled: the cloud sent other images than it was asked for")
    return found, protocol.unseal(owner, recalled.images)


def recaption(
    workspace: Workspace,
    captions: Mapping[str, str],
    *,
    fetch: Fetch,
    send: Callable[[Workspace], object],
    advance: Advance,
) -> Workspace:
    """Give published photographs other captions, by pseudonym: each is taken back and sealed anew.

    `send` is called before the first, which may still wait in the outbox, and after each commit.
    """
    send(workspace)
    published, most = published_names(workspace), segment_length(workspace.owner, workspace.settings.schemes)
    left = sorted(captions)
    while left:
        image_ids, photographs = take_back(workspace.owner, left[:most], fetch)
        entries = [published[image_id] for image_id in image_ids]
        workspace = publish_segment(
            workspace,
            read_codes(entries, bits=workspace.owner.card.bits),
            [each._replace(caption=captions[name]) for name, each in zip(image_ids, photographs, strict=True)],
            entries,
            instead=True,
        )
        send(workspace)
        left = left[len(image_ids) :]
        advance(len(captions) - len(left), len(captions))
    return workspace


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
    """Withdraw published photographs, and forget them."""
    names = sorted(entry["sha256"] for entry in entries)
    for start in range(0, len(names), WITHDRAWAL):
        state, withdrawal = protocol.withdraw(workspace.owner, names[start : start + WITHDRAWAL])
        state, head = protocol.head(state, now=int(time.time()))
        workspace = commit(workspace, state, post(workspace, [withdrawal, head]))
    forget_withdrawn(workspace)
    return workspace


def forget_withdrawn(workspace: Workspace) -> None:
    """Remove what the folder keeps of photographs that are withdrawn, and all names of epochs that are over.

    Interrupted, the next withdrawal does it: what is named here is what is left to remove.
    """
    owner = workspace.owner
    for file in sorted((workspace.path / NAMES).glob(f"*{SUFFIX}")):
        names = read_names(file, owner)
        left = {image_id: entry for image_id, entry in names.items() if image_id in owner.image_ids}
        # An image that was moved to another epoch has another pseudonym there.
        seen = (entry["sha256"] for image_id, entry in names.items() if image_id not in left)
        forget_features(workspace, [name for name in seen if protocol.pseudonym(owner, name) not in owner.image_ids])
        if not left:
            file.unlink()
        elif len(left) < len(names):
            write_names(file, left, owner)


def published_names(workspace: Workspace) -> dict[str, Entry]:
    """Read what the owner alone knows of the published images: pseudonym to entry."""
    found: dict[str, Entry] = {}
    for file in sorted((workspace.path / NAMES).glob(f"{workspace.owner.card.epoch:06d}-*{SUFFIX}")):
        for image_id, entry in read_names(file, workspace.owner).items():
            # A new place takes that of the old one; the rest stays true.
            kept = {name: value for name, value in found.get(image_id, {}).items() if name not in WHERE}
            found[image_id] = {**kept, **entry}
    return {image_id: entry for image_id, entry in found.items() if image_id in workspace.owner.image_ids}


def read_codes(entries: Sequence[Mapping[str, str]], *, bits: int) -> Bool[np.ndarray, "n k"]:
    """Codes as the files of names have them."""
    try:
        words = np.array([np.frombuffer(bytes.fromhex(entry["code"]), ">u4") for entry in entries], np.uint32)
        return np.asarray(unpack(words, bits=bits))
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"entries: must have a code of {bits} bits each, packed, in hexadecimal digits") from None


def _new_photographs(
    workspace: Workspace,
    files: Sequence[PictureFile],
    size: int,
    terms: Terms,
    outcome: Outcome,
    advance: Advance,
) -> Iterator[Unpublished]:
    """What is to be published, decoded ahead; `advance` tells how many files have been opened."""
    published = published_names(workspace)
    waiting: deque[Entry] = deque()
    copies: list[Entry] = []
    broken: dict[str, str] = {}

    def refuse(path: str, reason: str) -> None:
        outcome.skipped.append({"path": path, "reason": reason})
        outcome.refused.add(path)

    def contents() -> Iterator[bytes]:
        begun: set[str] = set()
        for number, file in enumerate(files):
            advance(number, len(files))
            path, spelled = file.id, str(file.path.relative_to(file.root))
            place = {"path": path, "root": str(file.root.resolve()), **({"file": spelled} if spelled != path else {})}
            try:
                content = read_encoded(file.path)
            except (ValueError, OSError) as error:
                refuse(path, str(error))
                if isinstance(error, OSError):
                    outcome.unread.append(path)
                continue
            name = hashlib.sha256(content).hexdigest()
            image_id = protocol.pseudonym(workspace.owner, name)
            if name in outcome.seen or name in begun:
                copies.append({"sha256": name, **place})
            elif image_id in workspace.owner.image_ids:
                outcome.seen.add(name)
                outcome.already += 1
                entry = published.get(image_id, {"sha256": name})
                # A copy elsewhere does not take the place of a photograph that is where it was.
                if entry.get("path") is None or not _is_there(entry):
                    outcome.moved[image_id] = {**{k: v for k, v in entry.items() if k not in WHERE}, **place}
                caption = terms.captions.get(path)
                if caption is not None and caption != entry.get("caption"):
                    outcome.recaptioned[image_id] = caption
            else:
                begun.add(name)
                waiting.append({"sha256": name, **place})
                yield content

    work = _preparing(workspace, size, terms)
    for _, prepared in ahead(work, contents(), processes=decoding_processes(len(files))):
        entry = waiting.popleft()
        try:
            if isinstance(prepared, str):
                raise ValueError(prepared)
            file, squared = prepared
            found = Unpublished(entry, squared, to_photograph(file, entry["path"], terms=terms))
        except ValueError as error:
            broken[entry["sha256"]] = str(error)
            refuse(entry["path"], str(error))
            continue
        outcome.seen.add(entry["sha256"])
        if file.reencoded:
            outcome.reencoded.append({"path": entry["path"], "reason": file.reencoded})
        yield found
    for entry in copies:
        if entry["sha256"] in broken:
            refuse(entry["path"], broken[entry["sha256"]])
        else:
            outcome.copies += 1


def _preparing(workspace: Workspace, size: int, terms: Terms) -> Callable[[bytes], Any]:
    """`prepare` as a collection has its photographs."""
    return partial(prepare, size=size, longest_side=workspace.settings.longest_side, keep_metadata=terms.metadata)


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
    told = {
        image_id: {name: entry[name] for name in ("sha256", *WHERE) if name in entry}
        for image_id, entry in moved.items()
    }
    return commit(workspace, workspace.owner, {f"{NAMES}/{place}": names_writer({**before, **told}, workspace.owner)})
