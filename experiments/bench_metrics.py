"""Speed of mAP@all, against FAISS + NumPy and against the usual NumPy loop, in one run.

    python -m experiments.bench_metrics --report experiments/results/bench_metrics.json

1,000 queries x 59,000 database codes x 64 bits of ten classes (codes of a class center with a quarter of the bits
flipped). The clock starts at packed codes and labels in memory and stops at the mean; compilation is reported apart.
Keys: `map_all_s` (ours, ties averaged), `ratio_vs_faiss_numpy` and `ratio_vs_numpy_loop` (their seconds over ours).
Expect well below 1 s on two cores, and 30 to 45 times as long for either of the others.

With `--published FOLDER`, a folder with the outputs that accompany the official CSQ code (`test_hash.npy`,
`database_hash.npy`, `test_label.npy`, `database_label.npy`), the report also holds their mAP@100 by every convention.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir import codes, metrics


@dataclass(frozen=True)
class Sizes:
    """Sizes of the benchmark; `published`: folder of published outputs to score besides."""

    where: At = PLACES
    published: Path | None = None
    queries: int = 1000
    items: int = 59_000
    bits: int = 64
    classes: int = 10
    flip: float = 0.25
    block: int = 100
    repeats: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Problem:
    """Packed codes and labels of queries and database."""

    queries: np.ndarray
    database: np.ndarray
    query_labels: np.ndarray
    database_labels: np.ndarray
    bits: int


def problem(config: Sizes) -> Problem:
    g = np.random.default_rng(config.seed)
    centers = g.random((config.classes, config.bits)) < 0.5
    labels = g.integers(0, config.classes, config.queries + config.items)
    flips = g.random((len(labels), config.bits), dtype=np.float32) < config.flip
    packed = np.asarray(codes.pack(centers[labels] ^ flips))
    q = config.queries
    return Problem(packed[:q], packed[q:], labels[:q], labels[q:], config.bits)


@jax.jit
def narrow_distances(queries: jax.Array, database: jax.Array) -> jax.Array:
    """Distances in the fewest bytes: the tally reads them once, so their size is its time."""
    words = queries.shape[1]
    return codes.pairwise(queries, database).astype(jnp.uint8 if words < 8 else jnp.uint16)


def blocks(p: Problem, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Distances and relevance for `size` queries at a time; JAX computes a block while NumPy counts the one before."""
    database = jnp.asarray(p.database)
    starts = range(0, len(p.queries), size)
    ahead = narrow_distances(jnp.asarray(p.queries[:size]), database)
    for start in starts:
        now, stop = ahead, start + size
        if stop < len(p.queries):
            ahead = narrow_distances(jnp.asarray(p.queries[stop : stop + size]), database)
        relevant = p.query_labels[start:stop, None] == p.database_labels
        yield np.asarray(now), relevant


def ours(p: Problem, size: int, ties: metrics.Ties = "expected") -> float:
    values = [metrics.average_precision(d, r, ties=ties) for d, r in blocks(p, size)]
    return float(np.concatenate(values).mean())


def by_faiss(p: Problem, size: int) -> float:
    """FAISS's exhaustive index asked for the whole database, then NumPy on the returned order."""
    import faiss

    raw, stored = (codes.to_bytes(c, bits=p.bits) for c in (p.queries, p.database))
    index = faiss.IndexBinaryFlat(p.bits)
    index.add(stored)
    total = 0.0
    ranks = np.arange(1, len(p.database) + 1)
    for start in range(0, len(raw), size):
        _, order = index.search(raw[start : start + size], len(p.database))
        hit = p.database_labels[order] == p.query_labels[start : start + size, None]
        sums = np.where(hit, np.cumsum(hit, -1) / ranks, 0).sum(-1)
        total += (sums / np.maximum(hit.sum(-1), 1)).sum()
    return float(total / len(raw))


def by_loop(p: Problem, signs: tuple[np.ndarray, np.ndarray]) -> float:
    """The evaluator that deep hashing code shares: per query an inner product of signs, an argsort, a mean."""
    total = 0.0
    for code, label in zip(signs[0], p.query_labels, strict=True):
        distance = 0.5 * (p.bits - code @ signs[1].T)
        hit = (label == p.database_labels).astype(np.float32)[np.argsort(distance)]
        found = int(hit.sum())
        if found:
            places = np.asarray(np.where(hit == 1)) + 1.0
            total += np.mean(np.linspace(1, found, found) / places)
    return float(total / len(signs[0]))


def seconds(call: Callable[[], float], repeats: int) -> tuple[float, float]:
    """Median wall time of `repeats` calls, and what they return."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = call()
        times.append(time.perf_counter() - start)
    return statistics.median(times), value


def processor_seconds(call: Callable[[], float]) -> float:
    """Processor time of one call over all threads: what a busy machine does not change much."""
    start = time.process_time()
    call()
    return time.process_time() - start


def published(folder: Path) -> dict[str, float]:
    """mAP@100 of published real-valued outputs by every convention."""
    names = ("test_hash", "database_hash", "test_label", "database_label")
    query, database, query_labels, database_labels = (np.load(folder / f"{n}.npy") for n in names)
    packed = (codes.pack(np.asarray(codes.binarize(a))) for a in (query, database))
    distances = np.asarray(codes.pairwise(*packed))
    relevant = query_labels[:, None] == database_labels
    scores = [
        metrics.mean_average_precision(distances, relevant, top=100, denominator=denominator, ties=ties)
        for denominator in ("retrieved", "relevant", "capped")
        for ties in ("expected", "index", "best", "worst")
    ]
    return {s.convention: round(s.value, 6) for s in scores}


SCALES: dict[Scale, Sizes] = {"cpu": Sizes()}


def main(config: Sizes) -> dict[str, Any]:
    """Run every contender once in a row, print the table, write the report."""
    run = begin("bench_metrics", config, packages=("faiss-cpu",))
    p = problem(config)
    start = time.perf_counter()
    ours(p, config.block)
    first = time.perf_counter() - start
    mine, value = seconds(lambda: ours(p, config.block), config.repeats)
    index, index_value = seconds(lambda: ours(p, config.block, "index"), 1)
    signs = tuple(np.asarray(codes.unpack(c, bits=p.bits)) * np.float32(2) - 1 for c in (p.queries, p.database))
    loop, loop_value = seconds(lambda: by_loop(p, signs), 1)
    by_faiss(p, config.block)
    other, faiss_value = seconds(lambda: by_faiss(p, config.block), min(3, config.repeats))
    if not np.isclose(index_value, faiss_value, rtol=1e-9):
        raise SystemExit(f"ties by index: {index_value} here, {faiss_value} through FAISS")
    report = {
        "map_all_s": round(mine, 4),
        "ratio_vs_faiss_numpy": round(other / mine, 2),
        "ratio_vs_numpy_loop": round(loop / mine, 2),
        "map_all_processor_s": round(processor_seconds(lambda: ours(p, config.block)), 4),
        "others_s": {"first_call": first, "index_ties": index, "faiss_numpy": other, "numpy_loop": loop},
        "map": {
            metrics.convention(): value,
            metrics.convention(ties="index"): index_value,
            "faiss_numpy": faiss_value,
            "numpy_loop": loop_value,
        },
        "sizes": {"queries": config.queries, "items": config.items, "bits": config.bits, "block": config.block},
    }
    if config.published:
        report["hmdb51"] = published(config.published)
    print(json.dumps(report, indent=2))
    return finish(run, report)


if __name__ == "__main__":
    main(command_line(SCALES))
