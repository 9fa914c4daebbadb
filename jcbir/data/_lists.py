"""Lists of photographs and their labels: `path 0 1 0 ...`, a 0 or 1 a class, as the deep-hashing literature has them,
and tables of names, as people keep them.
"""

import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Bool

from jcbir.data._decode import read_encoded
from jcbir.data._sources import Source
from jcbir.errors import FormatError

Parsed = TypeVar("Parsed")

_LABELS = re.compile(r"(?:[ \t]+[01])*$")
_TITLES = {"path", "file", "filename", "file_name", "image", "image_path", "photo", "photograph", "picture", "name"}
"""What the first column of a table is called, where its first line says so."""


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
    ids, labels = _parsed(parse_list, path)
    if names and len(names) != labels.shape[1]:
        raise ValueError(f"names: must be {labels.shape[1]}, one a class, got {len(names)}")
    return _listed(ids, labels, tuple(names) or tuple(str(i) for i in range(labels.shape[1])), root=root)


def label_file(path: str | os.PathLike[str], *, root: str | os.PathLike[str]) -> Source:
    """Photographs and labels of a file in any layout of `parse_labels`, read when needed.

    Args:
        path: the file.
        root: folder that its paths start from.

    Returns:
        The source, in the file's order, labels as rows of 0/1, the file's paths as ids.

    Raises:
        FormatError: not UTF-8, or as `parse_labels`; the message names the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     _ = Path(root, "labels.csv").write_text("a.jpg,sea\\nb.jpg,sea;sky\\n")
        ...     source = label_file(os.path.join(root, "labels.csv"), root=root)
        >>> source.names, source.labels.tolist()
        (('sea', 'sky'), [[True, False], [True, True]])
    """
    return _listed(*_parsed(parse_labels, path), root=root)


def parse_labels(text: str) -> tuple[tuple[str, ...], Bool[np.ndarray, "n c"], tuple[str, ...]]:
    """Paths, labels and the names of the labels.

    The layouts: `path 0 1 ...`, as `parse_list`; `path label`, the last word being the label; and tables separated by
    commas or tabs, `path,label`. Several labels of a photograph are separated by `;` or are further columns. A first
    line that calls the paths `path`, `file`, `image` or the like is a header; zeros and ones below it are labels
    under the header's names.

    Args:
        text: the lines; blank ones are ignored.

    Returns:
        Paths, a row of 0/1 each, and a name for each column, sorted unless a header or numbers give their order.

    Raises:
        FormatError: no line, a line without path or label, zeros and ones that do not fit the header, a path twice.

    Example:
        >>> parse_labels("file,sea,sky\\na.jpg,1,0\\nb c.jpg,1,1")[2]
        ('sea', 'sky')
        >>> parse_labels("my photo.jpg beach")[0]
        ('my photo.jpg',)
    """
    lines = [(i, line.strip("\r")) for i, line in enumerate(text.split("\n"), 1) if line.strip(" \t\r")]
    words = _LABELS.search(lines[0][1].strip(" \t")) if lines else None
    if not lines or (words is not None and len(words[0].split()) > 1):
        ids, rows = parse_list(text)
        return ids, rows, tuple(str(i) for i in range(rows.shape[1]))
    mark = next((mark for mark in ("\t", ",") if mark in lines[0][1]), None)
    fields = [(number, _fields(number, line, mark)) for number, line in lines]
    header: list[str] = []
    if fields[0][1][0].lower() in _TITLES:
        header = fields.pop(0)[1][1:]
    if not fields:
        raise FormatError("text: must hold at least one line `path label`, got a header only")
    ids = tuple(path for _, (path, *_) in fields)
    _check_once(ids)
    if len(header) > 1 and all(set(values) <= {"0", "1"} for _, (_, *values) in fields):
        for number, (_, *values) in fields:
            if len(values) != len(header):
                raise FormatError(f"line {number}: must be a path and {len(header)} zeros and ones, got {len(values)}")
        return ids, np.asarray([[value == "1" for value in values] for _, (_, *values) in fields]), tuple(header)
    labels = [
        [each.strip() for value in values for each in value.split(";") if each.strip()] for _, (_, *values) in fields
    ]
    for (number, (path, *_)), found in zip(fields, labels, strict=True):
        if not path or not found:
            raise FormatError(f"line {number}: must be a path and a label, got {path[:40]!r} and no label")
    names = sorted({label for found in labels for label in found}, key=_by_number)
    return ids, np.asarray([[name in found for name in names] for found in labels]), tuple(names)


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
    lines = [(i, line.strip(" \t\r")) for i, line in enumerate(text.split("\n"), 1) if line.strip(" \t\r")]
    if not lines:
        raise FormatError("text: must hold at least one line `path 0 1 0 ...`, got none")
    labelled = _LABELS.search(lines[0][1])
    classes = len(labelled[0].split()) if labelled else 0
    ids, rows = [], []
    for number, line in lines:
        identity, *labels = line.rsplit(None, classes)
        if not classes or len(labels) < classes or set(labels) - {"0", "1"}:
            raise FormatError(
                f"line {number}: must be a path and {classes or 'some'} zeros and ones, got {line[:40]!r} ..."
            )
        ids.append(identity)
        rows.append([label == "1" for label in labels])
    _check_once(ids)
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


def _parsed(parse: Callable[[str], Parsed], path: str | os.PathLike[str]) -> Parsed:
    """What a file's text says; an error names the file."""
    try:
        # A list written on Windows may begin with a mark of its encoding.
        return parse(Path(path).read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise FormatError(f"{Path(path).name}: must be UTF-8, got {error.object[:2]!r} ... ({error.reason})") from error
    except FormatError as error:
        raise FormatError(f"{Path(path).name}: {error}") from None


def _listed(
    ids: tuple[str, ...], labels: np.ndarray, names: tuple[str, ...], *, root: str | os.PathLike[str]
) -> Source:
    base = Path(root)
    return Source(lambda i: read_encoded(_locate(base, ids[i])), labels, ids, names)


def _fields(number: int, line: str, mark: str | None) -> list[str]:
    """Path and labels of one line of a table, or of `path label` where nothing separates but spaces."""
    try:
        parts = (
            line.strip(" \t").rsplit(None, 1) if mark is None else next(csv.reader([line], delimiter=mark, strict=True))
        )
    except csv.Error as error:
        raise FormatError(f"line {number}: must be a row of a table, got {line[:40]!r}: {error}") from None
    if len(parts) < 2:
        raise FormatError(f"line {number}: must be a path and a label, got {line[:40]!r}")
    return [part.strip() for part in parts]


def _check_once(ids: Sequence[str]) -> None:
    if len(set(ids)) != len(ids):
        twice = next(identity for identity, count in Counter(ids).items() if count > 1)
        raise FormatError(f"text: must name each file once, got {twice!r} again")


def _by_number(name: str) -> tuple[bool, int, str]:
    """Numbers in their order, before words."""
    number = name.isascii() and name.isdigit()
    return not number, int(name) if number else 0, name


def _locate(root: Path, name: str) -> Path:
    """The file that a line means: as written, with the slashes of another system, or in the other form of Unicode."""
    # Published lists often start their paths with `/` or `./`.
    spellings = [name, name.replace("\\", "/")]
    spellings += [unicodedata.normalize(form, spellings[1]) for form in ("NFC", "NFD")]
    paths = [root / spelling.lstrip("/") for spelling in spellings]
    return next((path for path in paths if path.exists()), paths[0])
