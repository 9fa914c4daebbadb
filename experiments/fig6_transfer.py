"""Fig. 6: mAP over the first 20 epochs, with and without pretrained weights.

Command: python -m experiments.fig6_transfer --scale cpu --report experiments/results/fig6_transfer_cpu.json
Hardware: smoke and cpu: two cores; full: one GPU of 24 GB.
Time: smoke: half a minute; cpu: half an hour on one core; full: not measured.
Expected: pretrained far above random weights at every epoch, and above where random weights end after one epoch.
Paper: "greater and more consistent test accuracy after a few iterations". Its curves could not be read.
Status: smoke: run by the tests. cpu: run on the bundled sample. full: not run.
"""

from dataclasses import dataclass, replace
from typing import Any

from experiments import learning
from experiments.learning import SMOKE, Learn, Learning
from experiments.running import PLACES, At, Scale, begin, command_line, finish


@dataclass(frozen=True)
class Starts:
    """Where the two networks start, and what both learn from.

    Attributes:
        where: scale and places.
        learn: everything but the backbone.
        starts: backbones; `untrained` is the bundled network's description with random weights.
    """

    where: At = PLACES
    learn: Learn = SMOKE
    starts: tuple[str, str] = ("bundled", "untrained")


_CPU = Learning(tune="all", bits=(64,), seeds=3, epochs=20)
SCALES: dict[Scale, Starts] = {
    "smoke": Starts(learn=Learning(tune="all", epochs=1, limit=300)),
    "cpu": Starts(learn=_CPU),
    "full": Starts(learn=replace(_CPU, dataset="cifar10", validation=500)),
}


def main(config: Starts) -> dict[str, Any]:
    """Fine-tune from both starts and collect the curves."""
    run = begin("fig6_transfer", config)
    curves, test, note = {}, {}, {}
    for start in config.starts:
        folder = run.folder / start.replace("/", "--")
        learn = replace(config.learn, backbone=start)
        prepared = learning.bench(learn, folder=folder, cache=config.where.runs)
        note = learning.about(prepared)
        curves[start], test[start] = {}, {}
        for bits in learn.bits:
            test[start][str(bits)] = learning.spread([run.test for run in learning.run_cell(prepared, "csq", bits)])
            curves[start][str(bits)] = learning.validation_curves(folder, "csq", bits)
    return finish(run, {**note, "map": test, "validation_by_epoch": curves})


if __name__ == "__main__":
    main(command_line(SCALES))
