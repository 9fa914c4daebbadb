"""Train, database and query lists by name, with their counts and the SHA-256 of their ids.

"CIFAR-10" or "NUS-WIDE" in a paper names no list: published figures of one method differ by 0.1 and more with the list.
Here a split is what its digest says. `choose` makes the lists that follow from a rule; `load_list` reads those that
somebody published. `Definition.pinned` holds the digests that the package knows; other lists are checked by count, and
against the digest that the caller gives.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from jaxtyping import Int32

from jcbir.data._lists import list_file
from jcbir.data._records import Labels
from jcbir.data._sources import Source, subset
from jcbir.errors import IntegrityError

PARTS = ("train", "database", "query")


@dataclass(frozen=True)
class Definition:
    """What a name means.

    Attributes:
        name: of the split.
        classes: how many classes or concepts.
        multi_label: whether an image may have several.
        top: the R of the mAP@R that goes with it; None for all.
        counts: images a part; several where published lists differ, none where no list states it.
        pinned: SHA-256 of the ids a part, as `id_digest`; a part without is not pinned.
        rule: how the lists come about.
    """

    name: str
    classes: int
    multi_label: bool
    top: int | None
    counts: dict[str, tuple[int, ...]]
    pinned: dict[str, str]
    rule: str


def split_names() -> tuple[str, ...]:
    """The names that `definition` knows.

    Returns:
        Names in alphabetical order.

    Example:
        >>> split_names()[:4]
        ('cifar10-1', 'cifar10-2', 'cifar10-sample', 'coco80')
    """
    return tuple(sorted(_table()))


def definition(name: str) -> Definition:
    """Counts, digests and rule of a split.

    Args:
        name: one of `split_names()`.

    Returns:
        The definition.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> definition("cifar10-1").counts["database"]
        (59000,)
    """
    table = _table()
    if name not in table:
        raise ValueError(f"name: must be one of {', '.join(sorted(table))}, got {name!r}")
    entry = table[name]
    counts = {part: tuple(entry["counts"][part]) for part in PARTS}
    return Definition(name, **{**entry, "counts": counts})


def id_digest(ids: Sequence[str]) -> str:
    """SHA-256 of the ids in alphabetical order, a line each: a reordered list is the same split.

    Args:
        ids: the ids of one part.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> id_digest(["b", "a"]) == id_digest(["a", "b"])
        True
    """
    return hashlib.sha256("".join(f"{identity}\n" for identity in sorted(ids)).encode()).hexdigest()


def check_ids(name: str, part: str, ids: Sequence[str], *, digest: str | None = None) -> str:
    """Refuse a list that is not the one its name promises.

    Args:
        name: of the split.
        part: `train`, `database` or `query`.
        ids: the list.
        digest: what the list's digest must be, where the package pins none; a pinned one counts in any case.

    Returns:
        The digest of the list; write it into the report.

    Raises:
        ValueError: an unknown name or part, another count, or an id twice.
        IntegrityError: another digest.

    Example:
        >>> check_ids("cifar10-sample", "query", ["test/00003"])
        Traceback (most recent call last):
        ...
        ValueError: query list of cifar10-sample: must hold 200 ids, got 1
    """
    about = definition(name)
    if part not in PARTS:
        raise ValueError(f"part: must be one of {', '.join(PARTS)}, got {part!r}")
    counts = about.counts[part]
    if counts and len(ids) not in counts:
        raise ValueError(f"{part} list of {name}: must hold {' or '.join(map(str, counts))} ids, got {len(ids)}")
    if len(set(ids)) != len(ids):
        raise ValueError(f"{part} list of {name}: must hold each id once, got {len(ids) - len(set(ids))} twice")
    found = id_digest(ids)
    for wanted in (about.pinned.get(part), digest):
        if wanted is not None and found != wanted:
            raise IntegrityError(f"{part} list of {name}: must have SHA-256 {wanted}, got {found}")
    return found


def choose(name: str, ids: Sequence[str], labels: Labels) -> dict[str, Int32[np.ndarray, "m"]]:
    """The positions of a split that follows from a rule: cifar10-1, cifar10-2, imagenette, corel5k, cifar10-sample.

    Args:
        name: of the split.
        ids: of the whole set, `train/...`, `test/...` or `val/...`; in any order.
        labels: of the whole set.

    Returns:
        Positions of train, database and query, each in alphabetical order of the ids, checked against the digests.

    Raises:
        ValueError: a split without a rule (use `load_list`), or ids and labels of another set.
        IntegrityError: as `check_ids`.

    Example:
        >>> choose("coco80", ["a"], np.zeros((1, 80), bool))
        Traceback (most recent call last):
        ...
        ValueError: name: must be a split that follows from a rule (...), got 'coco80': read its lists with load_list
    """
    about = definition(name)
    if name not in _RULES:
        raise ValueError(
            f"name: must be a split that follows from a rule ({', '.join(sorted(_RULES))}), got {name!r}: "
            "read its lists with load_list"
        )
    if len(ids) != len(labels):
        raise ValueError(f"labels: must have {len(ids)} rows like ids, got {len(labels)}")
    parts = {}
    for part, members in _RULES[name](ids, labels).items():
        check_ids(about.name, part, [ids[i] for i in members])
        parts[part] = np.asarray(sorted(members, key=ids.__getitem__), np.int32)
    return parts


def divide_source(name: str, source: Source) -> dict[str, Source]:
    """A source as the train, database and query sources of a split by rule.

    Args:
        name: of the split, as `choose`.
        source: the whole set.

    Returns:
        `train`, `database` and `query`.

    Raises:
        ValueError: as `choose`.
        IntegrityError: as `choose`.

    Example:
        >>> divide_source("cifar10-2", Source(lambda i: b"", np.zeros(1, np.int32), ("train/00000",), ("airplane",)))
        Traceback (most recent call last):
        ...
        ValueError: train list of cifar10-2: must hold 50000 ids, got 1
    """
    return {part: subset(source, members) for part, members in choose(name, source.ids, source.labels).items()}


def load_list(
    name: str,
    part: str,
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str],
    digest: str | None = None,
) -> tuple[Source, str]:
    """A published list file as one part of a split, its count and digest checked.

    Args:
        name: of the split.
        part: `train`, `database` or `query`.
        path: the list file, `path 0 1 0 ...` a line.
        root: folder that its paths start from.
        digest: what the list's digest must be, for a part that is not pinned.

    Returns:
        The source, and the digest of its ids.

    Raises:
        FormatError: not a list file.
        ValueError: another count, or another number of classes.
        IntegrityError: another digest.

    Example:
        >>> load_list("coco80", "query", "no/such/list.txt", root=".")
        Traceback (most recent call last):
        ...
        FileNotFoundError: ...
    """
    source = list_file(path, root=root)
    classes = definition(name).classes
    if len(source.names) != classes:
        raise ValueError(f"{part} list of {name}: must have {classes} labels a line, got {len(source.names)}")
    return source, check_ids(name, part, source.ids, digest=digest)


def _cifar10_1(ids: Sequence[str], labels: np.ndarray) -> dict[str, list[int]]:
    parts: dict[str, list[int]] = {"train": [], "query": []}
    for label in range(10):
        members = np.flatnonzero(labels == label).tolist()
        # As good as a random draw, and the same for everybody.
        members.sort(key=lambda i: hashlib.sha256(ids[i].encode()).digest())
        parts["query"] += members[:100]
        parts["train"] += members[100:600]
    asked = set(parts["query"])
    return {**parts, "database": [i for i in range(len(ids)) if i not in asked]}


def _by_test_set(ids: Sequence[str], labels: np.ndarray) -> dict[str, list[int]]:
    del labels
    learned = [i for i, identity in enumerate(ids) if identity.startswith("train/")]
    asked = [i for i, identity in enumerate(ids) if not identity.startswith("train/")]
    return {"train": learned, "database": learned, "query": asked}


def _imagenette(ids: Sequence[str], labels: np.ndarray) -> dict[str, list[int]]:
    del labels
    # Networks pretrained on ImageNet have seen all but the images of ILSVRC's validation set.
    unseen = {i for i, identity in enumerate(ids) if "ILSVRC2012_val" in identity}
    rest = [i for i in range(len(ids)) if i not in unseen]
    return {"train": [i for i in rest if ids[i].startswith("train/")], "database": rest, "query": sorted(unseen)}


def _cifar10_sample(ids: Sequence[str], labels: np.ndarray) -> dict[str, list[int]]:
    positions = json.loads((resources.files("jcbir.data") / "assets" / "cifar10_sample.json").read_text())["splits"]
    index = {identity: i for i, identity in enumerate(ids)}
    parts = {}
    for part, entry in positions.items():
        wanted = [f"{entry['part']}/{position:05d}" for position in entry["positions"]]
        members = [index[identity] for identity in wanted if identity in index]
        if labels[members].tolist() != entry["labels"][: len(members)]:
            raise ValueError(f"labels: must be those of CIFAR-10, got others in the {part} list of cifar10-sample")
        parts[part] = members
    return parts


_RULES: dict[str, Callable[[Sequence[str], np.ndarray], dict[str, list[int]]]] = {
    "cifar10-sample": _cifar10_sample,
    "cifar10-1": _cifar10_1,
    "cifar10-2": _by_test_set,
    "corel5k": _by_test_set,
    "imagenette": _imagenette,
}


def _table() -> dict[str, dict]:
    return json.loads((resources.files("jcbir.data") / "assets" / "splits.json").read_text())
