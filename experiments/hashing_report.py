"""The report of a comparison: means and spreads, the paper's Table 2 in shape, precision-recall curves."""

import statistics
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import hashing_zoo as zoo
from experiments.running import environment, tree_state
from jcbir.metrics import Tally, convention, precision_recall


class Outcome(NamedTuple):
    """One run: mAP of the queries, of the validation photographs, and the time it took."""

    test: float
    validation: float
    seconds: float


def summarize(
    cells: dict[str, dict[int, list[Outcome]]],
    curves: dict[str, Tally],
    *,
    config: dict[str, Any],
    protocol: str,
) -> dict[str, Any]:
    """Means and spreads of the lengths that have been run, curves, and what it was run with."""
    longest, drawn = max(config["bits"]), {}
    done = sorted({bits for row in cells.values() for bits, runs in row.items() if runs})
    for method, counts in curves.items():
        curve = precision_recall(counts)
        kept = ~np.isnan(curve.precision)
        drawn[method] = {
            "recall": np.round(curve.recall[kept], 5).tolist(),
            "precision": np.round(curve.precision[kept], 5).tolist(),
        }
    grid = {
        field: {m: {str(bits): cell(row[bits], field) for bits in done} for m, row in cells.items()}
        for field in Outcome._fields
    }
    return {
        "map": grid["test"],
        "map_validation": grid["validation"],
        "seconds_by_run": grid["seconds"],
        "convention": convention(top=config["top"]),
        "protocol": protocol,
        # Where the files lay says nothing to a reader.
        "config": {name: value for name, value in config.items() if not isinstance(value, Path) and value is not None}
        | {"bits": done},
        "curves": {"bits": longest, "seed": 0, "methods": drawn},
        "seconds": sum(run.seconds for row in cells.values() for runs in row.values() for run in runs),
        "environment": environment() | tree_state(),
    }


def cell(outcomes: list[Outcome], field: str) -> dict[str, Any]:
    """Mean, standard deviation and values of one field over the seeds."""
    values = [getattr(outcome, field) for outcome in outcomes]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "spread": spread, "values": values}


def print_table(report: dict[str, Any]) -> None:
    """One row a method, one column a code length, mean and standard deviation over the seeds."""
    lengths = list(next(iter(report["map"].values())))
    print(f"\n{report['convention']}, {report['protocol']}")
    print(f"{'method':12}" + "".join(f"{length + ' bits':>18}" for length in lengths))
    for method, row in report["map"].items():
        cells = "".join(f"{row[length]['mean']:10.4f} ±{row[length]['spread']:6.4f}" for length in lengths)
        print(f"{zoo.title(method):12}{cells}")
    for length in lengths:
        order = sorted(report["map"], key=lambda method: -report["map"][method][length]["mean"])
        print(f"{length} bits: {' > '.join(zoo.title(method) for method in order[:4])}")


def draw_curves(report: dict[str, Any], path: Path) -> None:
    """Precision against recall over Hamming radii, one line a method."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    colors = plt.get_cmap("tab20")
    for index, (method, curve) in enumerate(report["curves"]["methods"].items()):
        style = "--" if method in zoo.SHALLOW else "-"
        axes.plot(
            curve["recall"], curve["precision"], style, label=zoo.title(method), color=colors(index), linewidth=1.4
        )
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"{report['curves']['bits']} bits, {report['config']['dataset']}, by Hamming radius", fontsize=10)
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=130)
    plt.close(figure)
