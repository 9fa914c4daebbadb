"""Folders of class folders: the user's own photographs as a retrieval task.

Every file is accounted for: it becomes an image, or it is named in `skipped` with the reason. Splits depend on the
names of the files alone, the same on every machine.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

from jcbir.data._decode import decode_image
from jcbir.data._records import Folder, Sample, Skipped, Split

QUERIES = 20
"""At most so many queries are taken from one class."""

_IGNORED = {"thumbs.db", "desktop.ini"}


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
    root = Path(path)
    images: list[np.ndarray] = []
    classes: list[str] = []
    ids: list[str] = []
    skipped: list[Skipped] = []
    earlier: dict[bytes, str] = {}
    for identity, category, file in class_files(root):
        try:
            if category is None:
                raise ValueError("lies beside the class folders, not in one")
            encoded = file.read_bytes()
            digest = hashlib.sha256(encoded).digest()
            if digest in earlier:
                raise ValueError(f"is a copy of {earlier[digest]}")
            images.append(decode_image(encoded, size=size))
        except (OSError, ValueError) as error:
            skipped.append(Skipped(identity, str(error)))
            continue
        earlier[digest] = identity
        classes.append(category)
        ids.append(identity)
    names = tuple(sorted(set(classes)))
    _check_classes(root, names, len(skipped))
    labels = np.asarray([names.index(category) for category in classes], np.int32)
    return Folder(np.stack(images), labels, tuple(ids), names, tuple(skipped))


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
        raise ValueError(f"per_class must be at least 3, one for each split; got {per_class}")
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
        raise ValueError(f"at least two classes must have three readable photographs; got {len(names)}: {names}")
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
        ValueError: path must be a folder of class folders; got 'no/such/place'
    """
    return divide(folder(path, size=size), per_class=per_class)


def class_files(path: Path) -> list[tuple[str, str | None, Path]]:
    """Every visible file below a folder, with its id and the class folder it lies in.

    Args:
        path: the folder.

    Returns:
        (id, class folder or None, file) in alphabetical order of the ids.

    Raises:
        ValueError: no such folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     _ = Path(root, "beside.png").write_bytes(b"")
        ...     [entry[:2] for entry in class_files(Path(root))]
        [('beside.png', None)]
    """
    if not path.is_dir():
        raise ValueError(f"path must be a folder of class folders; got {str(path)!r}")
    found: list[tuple[str, str | None, Path]] = []
    for place, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and name.lower() not in _IGNORED:
                file = Path(place, name)
                parts = file.relative_to(path).parts
                # A name that is not UTF-8 still gets an id that can be printed, hashed and sent.
                shown = [os.fsencode(part).decode("utf-8", "backslashreplace") for part in parts]
                found.append(("/".join(shown), shown[0] if len(shown) > 1 else None, file))
    return sorted(found, key=lambda entry: (entry[0], os.fsencode(entry[2])))


def _check_classes(root: Path, names: tuple[str, ...], skipped: int) -> None:
    if not names:
        raise ValueError(
            f"path must hold photographs in class folders; {str(root)!r} has none ({skipped} files skipped)"
        )
    if len(names) < 2:
        raise ValueError(
            f"path must hold at least two class folders with photographs; {str(root)!r} has only {list(names)} "
            f"({skipped} files skipped)"
        )


def _take(photographs: Folder, labels: np.ndarray, members: list[int]) -> Split:
    # In the order of the digests over all classes: a prefix is a fair sample.
    chosen = sorted(members, key=lambda i: _digest(photographs.ids[i]))
    return Split(photographs.images[chosen], labels[chosen], tuple(photographs.ids[i] for i in chosen))


def _digest(identity: str) -> bytes:
    return hashlib.sha256(identity.encode()).digest()
