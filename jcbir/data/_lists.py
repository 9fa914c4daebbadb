"""List files of the deep-hashing literature: one line an image, `path 0 1 0 ...`, a 0 or 1 a class."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from jcbir.data._decode import read_encoded
from jcbir.data._sources import Source
from jcbir.errors import FormatError

_LABELS = re.compile(r"(?:[ \t]+[01])*$")


def list_file(path: str | os.PathLike[str], *, root: str | os.PathLike[str], names: Sequence[str] = ()) -> Source:
    """Photographs named by a list file, read when needed; a missing file is skipped by name then.

    Args:
        path: the list file.
        root: folder that the list's paths start from.
        names: name of each class; their numbers if empty.

    Returns:
        The source, in the list's order, labels as rows of 0/1, the list's paths as ids.

    Raises:
        FormatError: not UTF-8, or as `parse_list`.
        ValueError: another number of names than of classes.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     _ = Path(root, "list.txt").write_text("a.jpg 0 1\\nb.jpg 1 1\\n")
        ...     source = list_file(os.path.join(root, "list.txt"), root=root, names=("sky", "sea"))
        >>> source.ids, source.labels.tolist()
        (('a.jpg', 'b.jpg'), [[False, True], [True, True]])
    """
    try:
        # A list written on Windows may begin with a mark of its encoding.
        ids, labels = parse_list(Path(path).read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise FormatError(f"{Path(path).name}: must be UTF-8, got {error.object[:2]!r} ... ({error.reason})") from error
    if names and len(names) != labels.shape[1]:
        raise ValueError(f"names: must be {labels.shape[1]}, one a class, got {len(names)}")
    titles = tuple(names) or tuple(str(i) for i in range(labels.shape[1]))
    base = Path(root)
    return Source(lambda i: read_encoded(_locate(base, ids[i])), labels, ids, titles)


def parse_list(text: str) -> tuple[tuple[str, ...], Bool[np.ndarray, "n c"]]:
    """Ids and labels of a list.

    Args:
        text: lines of a path and as many zeros and ones as there are classes; blank lines are ignored.

    Returns:
        Paths, and a row of 0/1 each.

    Raises:
        FormatError: no line, a line without labels or with fewer than the first, or a path that comes twice.

    Example:
        >>> parse_list("my photo.jpg 1 0")[0]
        ('my photo.jpg',)
    """
    # Only a line feed ends a line: a name may hold what else Unicode counts as an end, and several spaces.
    lines = [line.strip(" \t\r") for line in text.split("\n") if line.strip(" \t\r")]
    if not lines:
        raise FormatError("text: must hold at least one line `path 0 1 0 ...`, got none")
    labelled = _LABELS.search(lines[0])
    classes = len(labelled[0].split()) if labelled else 0
    ids, rows = [], []
    for number, line in enumerate(lines, 1):
        identity, *labels = line.rsplit(None, classes)
        if not classes or len(labels) < classes or set(labels) - {"0", "1"}:
            raise FormatError(
                f"line {number}: must be a path and {classes or 'some'} zeros and ones, got {line[:40]!r} ..."
            )
        ids.append(identity)
        rows.append([label == "1" for label in labels])
    if len(set(ids)) != len(ids):
        twice = next(identity for identity, count in Counter(ids).items() if count > 1)
        raise FormatError(f"text: must name each file once, got {twice!r} again")
    return tuple(ids), np.asarray(rows, bool)


def format_list(ids: Sequence[str], labels: Bool[np.ndarray, "n c"]) -> str:
    """The list file of ids and labels; `parse_list` is its inverse.

    Args:
        ids: paths.
        labels: a row of 0/1 each.

    Returns:
        The text.

    Raises:
        ValueError: another number of rows than of ids.

    Example:
        >>> format_list(["a.jpg"], np.array([[False, True]]))
        'a.jpg 0 1\\n'
    """
    if len(ids) != len(labels):
        raise ValueError(f"labels: must have {len(ids)} rows like ids, got {len(labels)}")
    return "".join(
        f"{identity} {' '.join('1' if label else '0' for label in row)}\n"
        for identity, row in zip(ids, labels, strict=True)
    )


def _locate(root: Path, name: str) -> Path:
    """The file that a line means: as written, with the slashes of another system, or in the other form of Unicode."""
    # Published lists often start their paths with `/` or `./`.
    spellings = [name, name.replace("\\", "/")]
    spellings += [unicodedata.normalize(form, spellings[1]) for form in ("NFC", "NFD")]
    paths = [root / spelling.lstrip("/") for spelling in spellings]
    return next((path for path in paths if path.exists()), paths[0])
