"""Folders of photographs: every file is accounted for, and splits depend on the names of the files alone."""

import hashlib
import os
import stat
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jcbir.data._decode import decode_image, kind_of, read_encoded, shown_path
from jcbir.data._records import Folder, Sample, Skipped, Split

QUERIES = 20
"""At most so many queries are taken from one class."""

_IGNORED = {"thumbs.db", "desktop.ini"}
_LEFT_OUT = {
    "@eadir": "holds thumbnails of a network disk",
    "#recycle": "is a recycle bin",
    "$recycle.bin": "is a recycle bin",
}
"""Folders that are not part of an album, by their name in lower case, and why."""


class PictureFile(NamedTuple):
    """A file below a folder, which may hold a picture: only its content says so.

    Attributes:
        path: where it lies.
        id: path below the folder, with `/`, in Unicode's composed form (NFC): the same on every machine.
        root: the folder.
    """

    path: Path
    id: str
    root: Path


class Listing(NamedTuple):
    """What lies below a folder.

    Attributes:
        pictures: the files, in alphabetical order of their ids; each folder is read once.
        left_out: what is no photograph by its kind or name, or is listed already.
        unreadable: folders that cannot be opened and links that lead nowhere: nobody knows what they hold.
    """

    pictures: tuple[PictureFile, ...]
    left_out: tuple[Skipped, ...]
    unreadable: tuple[Skipped, ...]


def pictures_below(root: str | os.PathLike[str]) -> Listing:
    """Every file below a folder, at any depth, whatever its name.

    A linked folder is followed once, after all that is not linked. Hidden files and folders, `Thumbs.db` and
    `desktop.ini` are ignored; pipes, sockets and devices, `._*`, `@eaDir`, `#recycle` and `$RECYCLE.BIN` are named.

    Args:
        root: the folder.

    Returns:
        `Listing`.

    Raises:
        ValueError: no such folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     os.mkdir(os.path.join(root, "@eaDir"))
        ...     _ = Path(root, "a.png").write_bytes(b"")
        ...     listing = pictures_below(root)
        >>> listing.pictures[0].id, listing.left_out
        ('a.png', (Skipped(path='@eaDir', reason='holds thumbnails of a network disk'),))
    """
    base = Path(root)
    if not base.is_dir():
        raise ValueError(f"root: must be a folder, got {shown_path(root)!r}")
    files: list[Path] = []
    left_out: list[Skipped] = []
    unreadable: list[Skipped] = []
    visited: dict[tuple[int, int], str] = {}
    links: deque[Path] = deque()

    def note(entries: list[Skipped], path: Path, reason: str) -> None:
        entries.append(Skipped(_identity(path.relative_to(base)), reason))

    def visit(start: Path) -> None:
        places = [start]
        while places:
            place = places.pop()
            try:
                about = place.stat()
                earlier = visited.setdefault((about.st_dev, about.st_ino), _identity(place.relative_to(base)))
                if earlier != _identity(place.relative_to(base)):
                    note(left_out, place, f"is the folder {earlier!r} again")
                    continue
                entries = sorted(os.scandir(place), key=lambda entry: os.fsencode(entry.name))
            except OSError as error:
                note(unreadable, place, f"cannot be opened: {error.strerror}")
                continue
            for entry in entries:
                path, name = Path(entry.path), entry.name.lower()
                if name.startswith("._"):
                    note(left_out, path, "holds what a Mac notes beside a file")
                elif name in _LEFT_OUT:
                    note(left_out, path, _LEFT_OUT[name])
                elif name.startswith(".") or name in _IGNORED:
                    continue
                elif entry.is_dir(follow_symlinks=False):
                    places.append(path)
                else:
                    look(path)

    def look(path: Path) -> None:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            note(unreadable, path, f"cannot be opened: {error.strerror}")
            return
        if stat.S_ISDIR(mode):
            links.append(path)
        elif stat.S_ISREG(mode):
            files.append(path)
        else:
            note(left_out, path, f"is {kind_of(mode)}")

    visit(base)
    while links:
        link = links.popleft()
        if base.resolve().is_relative_to(link.resolve()):
            note(left_out, link, "leads to a folder that holds this one")
        else:
            visit(link)
    pictures: dict[str, PictureFile] = {}
    spelled = {path: shown_path(path.relative_to(base)) for path in files}
    # Where file names are bytes, two spellings of one name can lie side by side; the composed one keeps its own.
    for path in sorted(
        files, key=lambda path: (not unicodedata.is_normalized("NFC", spelled[path]), os.fsencode(path))
    ):
        identity = _identity(path.relative_to(base))
        identity = spelled[path] if identity in pictures else identity
        if identity in pictures:
            note(left_out, path, "has the id of another file")
        else:
            pictures[identity] = PictureFile(path, identity, base)
    return Listing(
        tuple(pictures[identity] for identity in sorted(pictures)), tuple(sorted(left_out)), tuple(sorted(unreadable))
    )


def count_by_suffix(skipped: Iterable[Skipped]) -> dict[str, int]:
    """How many files of each suffix were passed over, the most frequent first.

    Args:
        skipped: the files.

    Returns:
        Suffix in lower case, without its dot, to number; `""` for names without one.

    Example:
        >>> count_by_suffix([Skipped("a.CR2", "raw"), Skipped("b.txt", "text"), Skipped("c.cr2", "raw")])
        {'cr2': 2, 'txt': 1}
    """
    counts = Counter(os.path.splitext(entry.path)[1].lower().removeprefix(".") for entry in skipped)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def folder(path: str | os.PathLike[str], *, size: int) -> Folder:
    """Read all photographs of a folder of class folders.

    A class is a folder directly below `path`; its photographs lie in it at any depth. A byte-for-byte copy of an
    earlier photograph is passed over, so that no split can contain another's images. Hidden files are ignored.

    Args:
        path: the folder.
        size: pixels a side of the decoded squares.

    Returns:
        `Folder`, in alphabetical order of the ids.

    Raises:
        ValueError: no such folder, no readable photograph, or fewer than two classes with one.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for color in ("red", "blue"):
        ...         os.mkdir(os.path.join(root, color))
        ...         Image.new("RGB", (9, 5), color).save(os.path.join(root, color, "plain.png"))
        ...     _ = Path(root, "red", "note.txt").write_text("not a photograph")
        ...     read = folder(root, size=4)
        >>> read.ids, read.labels.tolist(), read.skipped[0].path
        (('blue/plain.png', 'red/plain.png'), [0, 1], 'red/note.txt')
    """
    listing = pictures_below(path)
    images: list[np.ndarray] = []
    classes: list[str] = []
    ids: list[str] = []
    skipped = [*listing.left_out, *listing.unreadable]
    earlier: dict[bytes, str] = {}
    for file in listing.pictures:
        category, _, inside = file.id.partition("/")
        try:
            if not inside:
                raise ValueError("lies beside the class folders, not in one")
            encoded = read_encoded(file.path)
            digest = hashlib.sha256(encoded).digest()
            if digest in earlier:
                raise ValueError(f"is a copy of {earlier[digest]}")
            images.append(decode_image(encoded, size=size))
        except (OSError, ValueError) as error:
            skipped.append(Skipped(file.id, str(error)))
            continue
        earlier[digest] = file.id
        classes.append(category)
        ids.append(file.id)
    names = tuple(sorted(set(classes)))
    _check_classes(Path(path), names, len(skipped))
    labels = np.asarray([names.index(category) for category in classes], np.int32)
    return Folder(np.stack(images), labels, tuple(ids), names, tuple(sorted(skipped)))


def divide(photographs: Folder, *, per_class: int | None = None) -> tuple[Sample, tuple[Skipped, ...]]:
    """Split each class into queries (a tenth, at most 20), training images and database (half of the rest each).

    Within a class the order is that of SHA-256 of the ids: as good as random, the same everywhere.

    Args:
        photographs: what `folder` read.
        per_class: use at most so many images of each class; None for all.

    Returns:
        The task, and everything left out: what `folder` skipped, then the images of classes with fewer than three.

    Raises:
        ValueError: fewer than two classes have three photographs, or `per_class` is below 3.

    Example:
        >>> ids = tuple(f"{name}/{i}" for name in "ab" for i in range(5))
        >>> blank, labels = np.zeros((10, 4, 4, 3), np.uint8), np.repeat(np.arange(2, dtype=np.int32), 5)
        >>> task, left_out = divide(Folder(blank, labels, ids, ("a", "b"), ()))
        >>> len(task.train.ids), len(task.database.ids), len(task.query.ids), left_out
        (4, 4, 2, ())
    """
    if per_class is not None and per_class < 3:
        raise ValueError(f"per_class: must be at least 3, one for each split, got {per_class!r}")
    parts: dict[str, list[int]] = {"train": [], "database": [], "query": []}
    left_out, names = list(photographs.skipped), []
    labels = np.full(len(photographs.ids), -1, np.int32)
    for label, name in enumerate(photographs.names):
        members = sorted(
            np.flatnonzero(photographs.labels == label).tolist(), key=lambda i: _digest(photographs.ids[i])
        )
        if len(members) < 3:
            reason = f"class {name} has {len(members)} readable photographs; three are needed"
            left_out += [Skipped(photographs.ids[i], reason) for i in members]
            continue
        members = members[:per_class]
        asked = min(QUERIES, max(1, len(members) // 10))
        middle = asked + (len(members) - asked + 1) // 2
        parts["query"] += members[:asked]
        parts["train"] += members[asked:middle]
        parts["database"] += members[middle:]
        labels[members] = len(names)
        names.append(name)
    if len(names) < 2:
        raise ValueError(
            f"photographs: must have two classes with three readable photographs, got {len(names)}: {names}"
        )
    splits = {part: _take(photographs, labels, members) for part, members in parts.items()}
    return Sample(**splits, names=tuple(names)), tuple(left_out)


def class_folders(
    path: str | os.PathLike[str], *, size: int, per_class: int | None = None
) -> tuple[Sample, tuple[Skipped, ...]]:
    """A folder of class folders as a retrieval task: `folder`, then `divide`.

    Args:
        path: the folder.
        size: pixels a side of the decoded squares.
        per_class: use at most so many images of each class; None for all.

    Returns:
        The task, and the files left out with the reasons.

    Raises:
        ValueError: as `folder` and `divide`.

    Example:
        >>> class_folders("no/such/place", size=32)
        Traceback (most recent call last):
        ...
        ValueError: root: must be a folder, got 'no/such/place'
    """
    return divide(folder(path, size=size), per_class=per_class)


def _check_classes(root: Path, names: tuple[str, ...], skipped: int) -> None:
    if len(names) < 2:
        raise ValueError(
            f"path: must hold at least two class folders with photographs, got {shown_path(root)!r} with "
            f"{list(names) or 'none'} ({skipped} files skipped)"
        )


def _identity(path: Path) -> str:
    return unicodedata.normalize("NFC", "/".join(shown_path(part) for part in path.parts)) or "."


def _take(photographs: Folder, labels: np.ndarray, members: list[int]) -> Split:
    # In the order of the digests over all classes: a prefix is a fair sample.
    chosen = sorted(members, key=lambda i: _digest(photographs.ids[i]))
    return Split(photographs.images[chosen], labels[chosen], tuple(photographs.ids[i] for i in chosen))


def _digest(identity: str) -> bytes:
    return hashlib.sha256(identity.encode()).digest()
