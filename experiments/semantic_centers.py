"""Photographs with several labels: how much a target code can say, and how much of it a network learns.

Command: python -m experiments.semantic_centers --scale cpu --source corel5k.npz
    --report experiments/results/semantic_centers_cpu.json
Hardware: smoke and cpu: two cores.
Time: smoke: half a minute; cpu: minutes once the frozen features are there; full: as cpu.
Expected: equal votes leave photographs that share a word hardly closer than others, the more so the shorter the code;
    votes by frequency and codes of the label rows raise both what the targets reach and what is learned.
Paper: a majority of equal votes; COCO and NUS-WIDE, whose 80 and 21 labels are all frequent.
Status: smoke: run by the tests. cpu: run on Corel-5k. full: not run.

The *target itself* is the mAP of the target codes of the true labels, queries and database alike: what a network that
never errs would reach. Distances are shares of the code length.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from experiments import ablations, learning, methods
from experiments.learning import IMAGENETTE, Learning, Study
from experiments.running import Scale, begin, command_line, finish
from jcbir.hashing import centers, shallow

Targets = Callable[[np.ndarray], np.ndarray]
"""Label rows to target codes."""


_CPU = replace(IMAGENETTE, dataset="corel5k", seeds=3, rate=2e-3, limit=2000, top=1000)
SCALES: dict[Scale, Study] = {
    "smoke": Study(learn=Learning(bits=(8,), top=1000)),
    "cpu": Study(learn=_CPU),
    "full": Study(learn=replace(_CPU, limit=0)),
}


def main(config: Study) -> dict[str, Any]:
    """Measure and learn every kind of target at every length."""
    run = begin("semantic_centers", config)
    prepared = learning.bench(config.learn, folder=run.folder, cache=config.where.runs)
    labels = {part: prepared.task.labels[rows] for part, rows in prepared.task.rows.items()}
    table: dict[str, dict[str, Any]] = {}
    for bits in config.learn.bits:
        train = ablations.trainer(prepared, ablations.Variant(), bits)
        for name, targets in kinds(labels["train"], bits).items():
            made = {part: targets(labels[part]) for part in ("train", "query", "database")}
            row = about_targets(labels["query"], labels["database"], made["query"], made["database"])
            row["target_map"] = learning.score(prepared, made["query"], made["database"])[0]
            row["learned"] = learning.spread([train(made["train"], seed, name) for seed in range(config.learn.seeds)])
            table.setdefault(name, {})[str(bits)] = row
            print(
                f"{bits:3} bits {name:28} target itself {row['target_map']:.4f}, learned {row['learned']['mean']:.4f}, "
                f"distance {row['relevant']:.3f} of relevant, {row['irrelevant']:.3f} of others",
                flush=True,
            )
    counts = np.sort(labels["train"].sum(0))[::-1]
    about = {
        "labels_used": int((counts > 0).sum()),
        "labels_per_photograph": float(labels["train"].sum(1).mean()),
        "photographs_of_the_commonest": counts[:5].tolist(),
        "relevant_share": float(learning.relevance(prepared).mean()),
    }
    return finish(run, {**learning.about(prepared), "labels": about, "targets": table})


def kinds(train: np.ndarray, bits: int) -> dict[str, Targets]:
    """Name -> label rows to codes, all made from the training labels alone."""
    classes, counts = train.shape[1], train.sum(0) + 1.0
    fixed = methods.class_centers(classes, bits=bits)

    def vote(weights: np.ndarray) -> Targets:
        return lambda labels: np.asarray(centers.semantic(labels, fixed, weights=weights))

    found = {
        "majority": vote(np.ones(classes)),
        "by inverse frequency": vote(1 / counts),
        "by log of inverse frequency": vote(np.log((len(train) + 2) / counts)),
        "by root of frequency": vote(np.sqrt(counts)),
        "by frequency": vote(counts),
    }
    place = np.argsort(np.argsort(-counts, kind="stable"))
    found |= {f"majority of the {kept} commonest": vote(place < kept) for kept in (21, 80) if kept < classes}
    if bits <= classes:
        learned = centers.label_codes(jax.random.key(0), train, bits=bits)
        found["codes of the label rows"] = lambda labels: (
            np.asarray(shallow.project(learned, labels.astype(np.float32))) >= 0
        )
    return found


def about_targets(asked: np.ndarray, stored: np.ndarray, query: np.ndarray, database: np.ndarray) -> dict[str, float]:
    """How the distances of target codes, over the code length, follow the labels of queries and database.

    Mean of pairs that share a label and of the others, the spread of the others', and the correlation of distance with
    the share of labels in common, |A and B| / |A or B|.
    """
    distances = (query[:, None] != database[None]).mean(-1)
    shared = asked.astype(np.float32) @ stored.T.astype(np.float32)
    relevant = shared > 0
    either = np.maximum(asked.sum(1)[:, None] + stored.sum(1)[None] - shared, 1)
    return {
        "relevant": float(distances[relevant].mean()),
        "irrelevant": float(distances[~relevant].mean()),
        "irrelevant_spread": float(distances[~relevant].std()),
        "correlation": float(np.corrcoef(distances.ravel(), (shared / either).ravel())[0, 1]),
    }


if __name__ == "__main__":
    main(command_line(SCALES))
