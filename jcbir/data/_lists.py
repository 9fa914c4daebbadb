"""List files of the deep-hashing literature: one line an image, `path 0 1 0 ...`, a 0 or 1 a class."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from jcbir.data._lazy import Source
from jcbir.errors import FormatError


def list_file(path: str | os.PathLike[str], *, root: str | os.PathLike[str], names: Sequence[str] = ()) -> Source:
    """Photographs named by a list file, read when needed; a missing file is skipped by name then.

    Args:
        path: the list file.
        root: folder that the list's paths start from.
        names: name of each class; their numbers if empty.

    Returns:
        The source, in the list's order, labels as rows of 0/1, the list's paths as ids.

    Raises:
        FormatError: as `parse_list`.
        ValueError: another number of names than of classes.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     _ = Path(root, "list.txt").write_text("a.jpg 0 1\\nb.jpg 1 1\\n")
        ...     source = list_file(os.path.join(root, "list.txt"), root=root, names=("sky", "sea"))
        >>> source.ids, source.labels.tolist()
        (('a.jpg', 'b.jpg'), [[False, True], [True, True]])
    """
    ids, labels = parse_list(Path(path).read_text(encoding="utf-8"))
    if names and len(names) != labels.shape[1]:
        raise ValueError(f"names must be {labels.shape[1]}, one a class; got {len(names)}")
    titles = tuple(names) or tuple(str(i) for i in range(labels.shape[1]))
    base = Path(root)
    # Published lists often start their paths with `/` or `./`.
    return Source(lambda i: (base / ids[i].lstrip("/")).read_bytes(), labels, ids, titles)


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
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines:
        raise FormatError("text must hold at least one line `path 0 1 0 ...`; got none")
    first = lines[0]
    classes = next((n for n, word in enumerate(reversed(first)) if word not in ("0", "1")), len(first) - 1)
    ids, rows = [], []
    for number, words in enumerate(lines, 1):
        labels = words[len(words) - classes :]
        if not classes or len(words) <= classes or set(labels) - {"0", "1"}:
            raise FormatError(
                f"line {number} must be a path and {classes or 'some'} zeros and ones; got {words[:4]} ..."
            )
        ids.append(" ".join(words[:-classes]))
        rows.append([label == "1" for label in labels])
    if len(set(ids)) != len(ids):
        twice = next(identity for i, identity in enumerate(ids) if identity in ids[:i])
        raise FormatError(f"text must name each file once; {twice!r} comes again")
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
        raise ValueError(f"labels must have {len(ids)} rows like ids; got {len(labels)}")
    return "".join(
        f"{identity} {' '.join('1' if label else '0' for label in row)}\n"
        for identity, row in zip(ids, labels, strict=True)
    )
