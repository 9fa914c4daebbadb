"""What the experiments learn from, as benches of `experiments.hashing_methods`, whose runs they share.

`bundled`, `imagenette`, `corel5k` and `cifar10` are those of `experiments.hashing_data`. `imagenet100`, `coco80`,
`nuswide21` and `nuswide21-m` are folders with the photographs and the list files `train.txt`, `database.txt` and
`query.txt`; counts and digests are those of `jcbir.data.definition`. A photograph that cannot be read ends the run,
since the split would be another one.
"""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from experiments import hashing_methods as methods, hashing_zoo as zoo
from experiments.features import cached_features, open_backbone
from experiments.hashing_data import PARTS, SPLITS, Task, load_task, pixels
from jcbir.data import Source, chunks, concatenate, definition, load_list, subset
from jcbir.metrics import convention, mean_average_precision
from jcbir.models import Backbone, untrained

Listed = Literal["imagenet100", "coco80", "nuswide21", "nuswide21-m"]
LISTED = ("imagenet100", "coco80", "nuswide21", "nuswide21-m")


@dataclass(frozen=True)
class Learning:
    """What is learned from what, by which network, and for how long.

    Fields:
        dataset: which photographs.
        source: their file or folder; not needed for `bundled`.
        size: pixels a side the photographs are decoded to.
        features: folder of frozen features (`tune="head"`), filled where it is empty; None keeps them beside the runs.
        backbone: `bundled`, `untrained`, or a name or file that `jcbir.storage.backbones.load_backbone` knows.
        tune: a head on frozen features, or all layers.
        frozen: with all layers, how many leading parts (stem, then stages) stay as they are.
        bits: code lengths.
        seeds: runs a cell.
        epochs: passes over the training photographs.
        batch: photographs a step.
        rate: learning rate of the head.
        backbone_scale: learning rate of the backbone over the head's.
        hidden: width of the head's hidden layer on frozen features; 0 takes that of the features.
        validation: training photographs kept out to choose the epoch.
        limit: training photographs to learn from; 0 takes all.
        compute: type that a network with all layers trained computes in; weights and statistics stay float32.
    """

    dataset: Literal["bundled", "imagenette", "corel5k", "cifar10"] | Listed = "bundled"
    source: Path | None = None
    size: int = 32
    features: Path | None = None
    backbone: str = "bundled"
    tune: Literal["head", "all"] = "head"
    frozen: int = 0
    bits: tuple[int, ...] = (16,)
    seeds: int = 1
    epochs: int = 3
    batch: int = 100
    rate: float = 2e-3
    backbone_scale: float = 0.3
    hidden: int = 0
    validation: int = 200
    limit: int = 0
    compute: Literal["float32", "bfloat16"] = "float32"


FULL = Learning(
    dataset="imagenet100",
    size=224,
    tune="all",
    bits=(16, 32, 64),
    epochs=90,
    batch=64,
    rate=1e-3,
    backbone_scale=0.01,
    validation=1000,
    backbone="timm/resnet50.tv_in1k",
)
"""The paper's scale, by the published recipe."""


class Cell(NamedTuple):
    """Runs of one method at one length.

    Fields:
        test: mAP of the queries, a run each.
        codes: `query` and `database` codes, a run each.
    """

    test: list[float]
    codes: list[tuple[np.ndarray, np.ndarray]]


def bench(learning: Learning, *, folder: Path, cache: Path, parts: tuple[str, ...] = PARTS) -> methods.Bench:
    """Data, backbone and frozen features of a configuration.

    Args:
        learning: the configuration.
        folder: of the checkpoints.
        cache: folder of what is decoded or computed once for all runs.
        parts: those whose photographs are needed, where all layers are trained.

    Returns:
        What `experiments.hashing_methods` runs its methods on.
    """
    if learning.source is None and learning.dataset != "bundled":
        raise SystemExit(f"--source must name the file or folder of {learning.dataset}")
    task = _task(learning)
    print(task.protocol, flush=True)
    top = definition(SPLITS.get(learning.dataset, learning.dataset)).top or len(task.rows["database"])
    shared = {field.name: getattr(learning, field.name) for field in fields(learning)}
    config = methods.Config(report=Path("unused.json"), top=top, **shared)
    backbone = _backbone(learning)
    if learning.tune == "all":
        if learning.dataset in LISTED:
            images = {part: _decoded(task, part, learning, cache) for part in parts}
        else:
            images = pixels(task, size=learning.size, parts=parts)
        return methods.Bench(config, task, backbone, {}, images, folder, {})
    found = cached_features(
        task.source,
        backbone,
        folder=learning.features or cache / "features",
        label=learning.dataset,
        progress=_progress,
    )
    rows = {part: found.pooled[task.rows[part]] for part in PARTS}
    return methods.Bench(config, task, backbone, methods.scaled(rows), {}, folder, {})


def run_cell(prepared: methods.Bench, method: str, bits: int, *, seeds: int | None = None) -> Cell:
    """Train or fit a method once a seed; a deep run continues what the folder of the bench holds.

    Args:
        prepared: from `bench`.
        method: name in lower case.
        bits: code length.
        seeds: how many; None takes the configuration's.

    Returns:
        The runs.
    """
    run = (methods.shallow_runner if method in zoo.SHALLOW else methods.deep_runner)(prepared, method, bits)
    test, codes = [], []
    for seed in range(prepared.config.seeds if seeds is None else seeds):
        found = run(seed)
        codes.append((found["query"], found["database"]))
        test.append(methods.score(prepared, *codes[-1])[0])
        print(f"{zoo.title(method)} {bits} bits seed {seed}: mAP {test[-1]:.4f}", flush=True)
    return Cell(test, codes)


def validation_curves(folder: Path, method: str, bits: int) -> list[list[float]]:
    """mAP of the validation photographs by epoch, a list a run.

    Args:
        folder: of the bench that ran.
        method: name in lower case.
        bits: code length.

    Returns:
        The runs in the order of their seeds.
    """
    runs = sorted(folder.glob(f"*-{method}-{bits}-*/metrics.jsonl"))
    return [[json.loads(line)["validation"] for line in path.read_text().splitlines()] for path in runs]


def spread(values: list[float]) -> dict[str, Any]:
    """Mean and standard deviation of a cell.

    Args:
        values: one a seed.

    Returns:
        `{"mean", "spread", "values"}`; the spread is None for a single run.
    """
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "spread": deviation, "values": [float(value) for value in values]}


def about(prepared: methods.Bench) -> dict[str, Any]:
    """What a report says of the data.

    Args:
        prepared: from `bench`.

    Returns:
        Protocol and convention.
    """
    top = prepared.config.top
    whole = top >= len(prepared.task.rows["database"])
    return {"protocol": prepared.task.protocol, "convention": convention(top=None if whole else top)}


def relevance(prepared: methods.Bench, ask: str = "query", store: str = "database") -> np.ndarray:
    """Which stored photographs share a class with which that ask.

    Args:
        prepared: from `bench`.
        ask: part of q photographs.
        store: part of n photographs.

    Returns:
        bool[q, n].
    """
    labels, rows = prepared.task.labels.astype(np.float32), prepared.task.rows
    return labels[rows[ask]] @ labels[rows[store]].T > 0


def feature_map(prepared: methods.Bench) -> float:
    """mAP of the frozen features, centered and scaled, ranked by cosine over the whole database.

    Args:
        prepared: from `bench`, with features.

    Returns:
        mAP by the cut-off of the split.
    """
    asked, stored = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (prepared.features["query"], prepared.features["database"])
    )
    # Dense ranks: the metric takes integers, and equal cosines keep equal ranks.
    ranks = np.stack([np.unique(-row, return_inverse=True)[1] for row in asked @ stored.T]).astype(np.int32)
    return mean_average_precision(ranks, relevance(prepared), top=min(prepared.config.top, len(stored))).value


def listed_task(name: Listed, source: Path, *, validation: int, limit: int) -> Task:
    """A split that comes as list files, checked against its counts.

    Args:
        name: of the split.
        source: folder of photographs and lists.
        validation: training photographs to keep out.
        limit: training photographs to learn from after that; 0 takes all.

    Returns:
        The task; nothing is decoded.
    """
    listed: dict[str, Source] = {}
    for part in ("train", "database", "query"):
        listed[part], identity = load_list(name, part, source / f"{part}.txt", root=source)
        print(f"{name} {part}: {identity}", flush=True)
    known = {*listed["database"].ids, *listed["query"].ids}
    # In most published lists the training photographs are part of the database, in some they are not.
    extra = [i for i, identity in enumerate(listed["train"].ids) if identity not in known]
    whole = concatenate([listed["database"], listed["query"], *([subset(listed["train"], extra)] if extra else [])])
    index = {identity: i for i, identity in enumerate(whole.ids)}
    rows = {part: np.array([index[i] for i in some.ids], np.int32) for part, some in listed.items()}
    if not 0 < validation < len(rows["train"]):
        raise SystemExit(f"--validation must be from 1 to {len(rows['train']) - 1}; got {validation}")
    mixed = np.random.Generator(np.random.PCG64(0)).permutation(rows["train"])
    rows = {**rows, "train": mixed[:-validation][: limit or None], "validation": mixed[-validation:]}
    counts = ", ".join(f"{len(rows[part]):,} {part}" for part in PARTS)
    return Task(whole, np.asarray(whole.labels, bool), rows, f"{name}: {counts}")


def _task(learning: Learning) -> Task:
    options = {"validation": learning.validation, "limit": learning.limit}
    if learning.dataset in LISTED:
        return listed_task(learning.dataset, learning.source, **options)
    return load_task(learning.dataset, source=learning.source, **options)


def _backbone(learning: Learning) -> Backbone:
    if learning.backbone == "untrained":
        return untrained(jax.random.key(0))
    return open_backbone(learning.backbone, size=learning.size)


def _decoded(task: Task, part: str, learning: Learning, cache: Path) -> np.ndarray:
    """Pixels of a large part in a memory-mapped file, filled once; a run that was killed goes on where it stopped."""
    source = subset(task.source, task.rows[part])
    identity = hashlib.sha256(json.dumps(source.ids).encode()).hexdigest()[:12]
    place = cache / "decoded" / f"{learning.dataset}-{learning.size}-{identity}.npy"
    progress, shape = place.with_suffix(".done"), (len(source.ids), learning.size, learning.size, 3)
    done = int(progress.read_text()) if progress.exists() and place.exists() else 0
    place.parent.mkdir(parents=True, exist_ok=True)
    if done < len(source.ids):
        held = np.lib.format.open_memmap(place, "r+" if done else "w+", np.uint8, shape)
        for chunk in chunks(source, size=learning.size, count=1000, start=done):
            if chunk.skipped:
                raise SystemExit(f"every photograph of {learning.dataset} must be readable; {chunk.skipped[0]}")
            held[chunk.stop - len(chunk.split.images) : chunk.stop] = chunk.split.images
            held.flush()
            progress.write_text(str(chunk.stop))
    return np.load(place, mmap_mode="r")


def _progress(done: int, total: int) -> None:
    print(f"features: {done}/{total}", flush=True)
