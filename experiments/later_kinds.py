"""Kinds that come after a head was fitted: what is lost, whether it is noticed, and what another head brings back.

    python -m experiments.later_kinds --caltech caltech101.npz --features FEATURES \
        --report experiments/results/later_kinds.json

Of twenty kinds of Caltech-101 fourteen are there when a head is fitted, six come later: other photographs of all
twenty are the database, others again ask. `before`: of the kinds that were there, `later`: of the others; `refitted`:
by a head fitted to all that is published then, as `jcbir owner rekey --refit` does (from labels: trained with the later
kinds).
`nearness` is what `jcbir owner publish` measures of new photographs, as a share of what it is for earlier ones: `same`
where photographs of the fourteen kinds are published, `other` where those of the six are, `few` and `few_other` where
there are thirty of them.

mAP@all[relevant,expected]. Features are those of `experiments.heads`; then half a minute.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.datasets import pooled_features
from experiments.heads import Rows, apart, cosine, figures, join, kinds, pick, unit
from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.cli.features import nearness
from jcbir.data import packed
from jcbir.hashing.heads import fit_csq_head, fit_label_free, research_whitening
from jcbir.metrics import convention
from jcbir.models import Head, imagenet_resnet50, project_head


@dataclass(frozen=True)
class Later:
    """What to measure.

    Attributes:
        where: places.
        caltech: the packed photographs.
        features: where they are kept.
        size: pixels a side.
        kinds: how many in all.
        known: those that are there when a head is fitted.
        seeds: choices of photographs.
    """

    where: At = PLACES
    caltech: Path = Path("caltech101.npz")
    features: Path = Path("features")
    size: int = 160
    kinds: int = 20
    known: int = 14
    seeds: int = 3


SCALES: dict[Scale, Later] = {"cpu": Later()}
Fit = Callable[[jax.Array, Rows], Head]


def free(bits: int) -> Fit:
    return lambda key, rows: fit_label_free(key, rows.features, bits=bits, whitening=research_whitening())


def labelled(bits: int) -> Fit:
    def fit(key: jax.Array, rows: Rows) -> Head:
        return fit_csq_head(key, rows.features, np.unique(rows.labels, return_inverse=True)[1], bits=bits)

    return fit


HEADS = {"label-free, 64 bits": free(64), "CSQ, 64 bits": labelled(64)}


def share(head: Head, before: Rows, new: Rows) -> float:
    """Nearness of new photographs, as a share of that of earlier ones."""
    features = np.concatenate([unit(before.features), unit(new.features)])
    found = nearness(features, np.asarray(project_head(head, features)) >= 0)
    old, late = (part.sum(0) for part in np.split(found, [len(before.labels)]))
    return float((late[0] / late[1]) / (old[0] / old[1]))


def measure(rows: Rows, config: Later, seed: int) -> dict[str, Any]:
    """One choice of photographs."""
    g = np.random.default_rng(seed)
    chosen = kinds(rows, g, count=config.kinds, least=65)
    parts = [(p[:5], *np.array_split(p[5:95], 2)) for p in chosen]
    ask, train, items = (
        [
            pick(rows, np.concatenate([each[column] for each in half]))
            for half in (parts[: config.known], parts[config.known :])
        ]
        for column in range(3)
    )
    database, key = join(*items), jax.random.key(seed)
    thirty = [pick(each, g.permutation(len(each.labels))[:30]) for each in items]
    found = {
        "cosine of features": {
            name: {"before": cosine(ask[0], database)[name], "later": cosine(ask[1], database)[name]}
            for name in ("map", "p_at_5")
        }
    }
    for name, fit in HEADS.items():
        # What is published then: without labels the database itself, with them the training photographs of all kinds.
        head, again = fit(key, train[0]), fit(key, database if name.startswith("label-free") else join(*train))
        asked = {
            "before": (head, ask[0]),
            "later": (head, ask[1]),
            "refitted": (again, ask[1]),
            "refitted_before": (again, ask[0]),
        }
        all_figures = {when: figures(apart(h, q, database), q, database) for when, (h, q) in asked.items()}
        found[name] = {figure: {when: row[figure] for when, row in all_figures.items()} for figure in ("map", "p_at_5")}
        found[name]["nearness"] = {
            "same": share(head, train[0], items[0]),
            "other": share(head, train[0], items[1]),
            "few": share(head, train[0], thirty[0]),
            "few_other": share(head, train[0], thirty[1]),
        }
    return found


def main(config: Later) -> dict[str, Any]:
    """Every choice of photographs; means of what is found, every one of nearness."""
    run = begin("later_kinds", config)
    source = packed(config.caltech)
    network = imagenet_resnet50(size=config.size)
    features = pooled_features(source, network, folder=config.features, label="caltech101")
    rows = Rows(features.astype(np.float32), np.asarray(source.labels))
    runs = [measure(rows, config, seed) for seed in range(config.seeds)]
    heads = {
        name: {
            figure: {
                when: [round(each[name][figure][when], 4) for each in runs]
                if figure == "nearness"
                else round(float(np.mean([each[name][figure][when] for each in runs])), 4)
                for when in row
            }
            for figure, row in cells.items()
        }
        for name, cells in runs[0].items()
    }
    return finish(run, {"convention": convention(denominator="relevant"), "heads": heads})


if __name__ == "__main__":
    main(command_line(SCALES))
