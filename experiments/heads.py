"""Hash heads on frozen ResNet50 features: without labels on small collections, and from labels beside them.

    python -m experiments.heads --imagenette imagenette_160.npz --caltech caltech101.npz --folder FEATURES \
        --report experiments/results/heads.json

Without labels: a head is fitted on the database itself, 50, 240 or 900 photographs of 10 or 20 kinds of Caltech-101
(another choice each seed), 1,500 of all 75 kinds, and 2,000 of imagenette; queries are others, imagenette's are the 500
official ILSVRC2012 validation images. Nothing in the package was fitted on Caltech-101 or on these queries; the
whitening has seen the labels of the 2,000 of imagenette, "features as they are" have not. From labels: half of the
photographs train, the other half is the database and the queries are others, of 14 kinds; six kinds that training has
not seen are in the database too and asked for apart (`new_*`). On imagenette the trained photographs are the database.
`order` is the mean rank correlation, within the class of the query, of code distance with the cosine of features.

mAP@all[relevant,expected], ties at their expected value everywhere. Features: eight photographs a second and quiet
core, kept in `folder`; then ten minutes.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro

from experiments.assets.build_heads import official, training
from experiments.datasets import pooled_features
from jcbir.data import packed, subset
from jcbir.hashing.heads import (
    fit_csq_head,
    fit_label_free,
    general_head,
    itq_rotations,
    principal_axes,
    research_whitening,
)
from jcbir.metrics import convention, mean_average_precision, precision_at, tally
from jcbir.models import Head, imagenet_record, imagenet_resnet50, project_head


@dataclass(frozen=True)
class Config:
    """Which photographs.

    Attributes:
        imagenette: the packed photographs.
        caltech: the packed photographs of Caltech-101.
        folder: where features are kept.
        size: pixels a side.
        each: training photographs a class of imagenette.
        seeds: repetitions, each with another choice of photographs.
        sets: which of the comparisons.
        report: JSON file.
    """

    imagenette: Path
    caltech: Path
    folder: Path
    size: int = 160
    each: int = 200
    seeds: int = 3
    sets: tuple[str, ...] = ("caltech", "imagenette")
    report: Path | None = None


class Rows(NamedTuple):
    """Features with their classes."""

    features: np.ndarray
    labels: np.ndarray


def pick(rows: Rows, positions: np.ndarray) -> Rows:
    return Rows(rows.features[positions], rows.labels[positions])


def join(*parts: Rows) -> Rows:
    return Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def figures(distances: np.ndarray, queries: Rows, items: Rows) -> dict[str, float]:
    relevant = queries.labels[:, None] == items.labels[None]
    counts = tally(distances.astype(np.int32), relevant)
    return {
        "map": mean_average_precision(distances.astype(np.int32), relevant, denominator="relevant").value,
        "p_at_5": float(np.mean(precision_at(counts, top=5))),
        "top1": float(np.mean(precision_at(counts, top=1))),
    }


def cosine(queries: Rows, items: Rows) -> dict[str, float]:
    near = unit(queries.features) @ unit(items.features).T
    return {**figures(np.argsort(np.argsort(-near, axis=1), axis=1), queries, items), "distinct": len(items.labels)}


def codes(head: Head, rows: Rows) -> np.ndarray:
    return np.asarray(project_head(head, rows.features)) >= 0


def apart(head: Head, queries: Rows, items: Rows) -> np.ndarray:
    return (codes(head, queries)[:, None] != codes(head, items)[None]).sum(-1)


def hashed(head: Head, queries: Rows, items: Rows) -> dict[str, float]:
    distinct = len(np.unique(codes(head, items), axis=0))
    return {**figures(apart(head, queries, items), queries, items), "distinct": distinct}


def midranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def order(head: Head, queries: Rows, items: Rows) -> float:
    """Mean rank correlation of code distance and cosine over the query's own class; 0 where all codes are one."""
    near, far = -(unit(queries.features) @ unit(items.features).T), apart(head, queries, items)
    found = []
    for i, label in enumerate(queries.labels):
        own = items.labels == label
        a, b = midranks(near[i, own]), midranks(far[i, own])
        found.append(float(np.corrcoef(a, b)[0, 1]) if b.std() > 0 else 0.0)
    return float(np.mean(found))


def linear(mean: np.ndarray, projection: np.ndarray) -> Head:
    return Head(projection.astype(np.float32), (-mean @ projection).astype(np.float32))


def rivals(key: jax.Array, features: np.ndarray, bits: int) -> Iterator[tuple[str, Head]]:
    """Other label-free heads: each differs from `fit_label_free` in the one thing named."""
    x = unit(features.astype(np.float64))
    most = min(bits, len(x) - 1)
    mean, axes = principal_axes(x, components=most)
    general = general_head(bits=bits)
    yield "general head", general
    yield "general head, own mean", linear(mean, general.projection.astype(np.float64))
    if most == bits:
        turn = np.linalg.qr(np.asarray(jax.random.normal(key, (bits, bits)), np.float64))[0]
        yield "PCA, random rotation", linear(mean, axes @ turn)
        yield "ITQ, as many components as bits", linear(mean, axes @ itq_rotations(key, (x - mean) @ axes, bits=bits))
    yield "ITQ", fit_label_free(key, features, bits=bits, steps=0)
    yield "ITQ on whitened features", fit_label_free(key, features, bits=bits, whitening=research_whitening(), steps=0)
    yield "neighbors, features as they are", fit_label_free(key, features, bits=bits)


def label_free(key: jax.Array, queries: Rows, items: Rows) -> dict[str, Any]:
    """Every label-free head at 64 bits, the chosen one at all lengths."""
    found = {"cosine of features": cosine(queries, items)}
    for bits in (16, 32, 64, 128):
        head = fit_label_free(key, items.features, bits=bits, whitening=research_whitening())
        found[f"neighbors, {bits} bits"] = hashed(head, queries, items)
    for name, head in rivals(key, items.features, 64):
        found[f"{name}, 64 bits"] = hashed(head, queries, items)
    return found


LEARNED: dict[str, dict[str, Any]] = {
    "CSQ, half label-free (default)": {},
    "CSQ, half label-free, 128 bits": {"bits": 128},
    "CSQ, three quarters label-free": {"label_free_bits": 48},
    "CSQ, three quarters label-free, 128 bits": {"bits": 128, "label_free_bits": 96},
    "CSQ, a quarter label-free": {"label_free_bits": 16},
    "CSQ alone": {"label_free_bits": 0},
    "CSQ alone, no smoothing": {"label_free_bits": 0, "smoothing": 0.0},
    "CSQ alone, quantization weight 1": {"label_free_bits": 0, "quantization_weight": 1.0},
    "CSQ alone, 20 steps": {"label_free_bits": 0, "steps": 20},
}


def learned(key: jax.Array, train: Rows, queries: Rows, items: Rows, new: Rows | None) -> dict[str, Any]:
    """Heads from labels; `new` are queries of kinds that are among the items and not in training."""
    whitening = research_whitening()
    fits: dict[str, Callable[[], Head]] = {
        f"neighbors, {bits} bits": lambda bits=bits: fit_label_free(key, train.features, bits=bits, whitening=whitening)
        for bits in (64, 128)
    }
    for name, options in LEARNED.items():
        fits[name] = lambda options=options: fit_csq_head(key, train.features, train.labels, **{"bits": 64, **options})
    found = {"cosine of features": cosine(queries, items)}
    if new is not None:
        found["cosine of features"] |= {f"new_{k}": v for k, v in cosine(new, items).items() if k != "distinct"}
    for name, fit in fits.items():
        begun = time.perf_counter()
        head = fit()
        found[name] = {"seconds": time.perf_counter() - begun, **hashed(head, queries, items)}
        found[name]["order"] = order(head, queries, items)
        if new is not None:
            found[name] |= {f"new_{k}": v for k, v in hashed(head, new, items).items() if k != "distinct"}
    return found


def kinds(rows: Rows, g: np.random.Generator, *, count: int, least: int) -> list[np.ndarray]:
    """Positions of so many kinds in a drawn order, of those that have enough photographs."""
    enough = np.flatnonzero(np.bincount(rows.labels) >= least)
    return [g.permutation(np.flatnonzero(rows.labels == kind)) for kind in g.permutation(enough)[:count]]


def mean_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: {k: round(float(np.mean([run[name][k] for run in runs])), 4) for k in runs[0][name]} for name in runs[0]
    }


def caltech(rows: Rows, seeds: int) -> dict[str, Any]:
    report: dict[str, Any] = {"label_free": {}}
    for count, each in ((10, 5), (20, 12), (20, 45), (75, 20)):
        runs = []
        for seed in range(seeds):
            chosen = kinds(rows, np.random.default_rng(seed), count=count, least=5 + each)
            queries, items = (
                pick(rows, np.concatenate([p[part] for p in chosen])) for part in (slice(5), slice(5, 5 + each))
            )
            runs.append(label_free(jax.random.key(seed), queries, items))
        report["label_free"][f"{len(chosen)} kinds of {each}"] = mean_of(runs)
        print(json.dumps(report["label_free"], indent=1), flush=True)
    runs = []
    for seed in range(seeds):
        chosen = kinds(rows, np.random.default_rng(seed), count=20, least=65)
        halves = [(p[:5], *np.array_split(p[5:95], 2)) for p in chosen]
        queries = pick(rows, np.concatenate([q for q, _, _ in halves[:14]]))
        new = pick(rows, np.concatenate([q for q, _, _ in halves[14:]]))
        train = pick(rows, np.concatenate([t for _, t, _ in halves[:14]]))
        items = pick(rows, np.concatenate([d for _, _, d in halves]))
        numbered = train._replace(labels=np.unique(train.labels, return_inverse=True)[1])
        runs.append(learned(jax.random.key(seed), numbered, queries, items, new))
    report["learned, 14 kinds of 20, 30 to 45 each"] = mean_of(runs)
    return report


def imagenette(train: Rows, queries: Rows, seeds: int) -> dict[str, Any]:
    return {
        "label_free": label_free(jax.random.key(0), queries, train),
        f"learned, {len(train.labels)} photographs": mean_of(
            [learned(jax.random.key(seed), train, queries, train, None) for seed in range(seeds)]
        ),
    }


def main(config: Config) -> dict[str, Any]:
    """Compute the features that are missing, fit and compare."""
    network = imagenet_resnet50(size=config.size)

    def rows(source, label: str) -> Rows:
        found = pooled_features(source, network, folder=config.folder, label=label)
        return Rows(found.astype(np.float32), np.asarray(source.labels))

    report: dict[str, Any] = {
        "network_sha256": imagenet_record()["sha256"],
        "size": config.size,
        "seeds": config.seeds,
        "convention": convention(denominator="relevant"),
    }
    if "caltech" in config.sets:
        report["caltech101"] = caltech(rows(packed(config.caltech), "caltech101"), config.seeds)
    if "imagenette" in config.sets:
        parts = {part: packed(config.imagenette, part=part) for part in ("train", "val")}
        queries = join(*(rows(subset(p, official(p)), f"imagenette_{name}") for name, p in parts.items()))
        train = rows(training(parts["train"], each=config.each), "imagenette")
        report["imagenette"] = imagenette(train, queries, config.seeds)
    report["machine"] = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
    if config.report is not None:
        config.report.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    return report


if __name__ == "__main__":
    main(tyro.cli(Config))
