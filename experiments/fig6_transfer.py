"""Fig. 6: mAP over the first 20 epochs, with and without pretrained weights.

Command: python -m experiments.fig6_transfer --scale cpu --report experiments/results/fig6_transfer_cpu.json
Hardware: smoke and cpu: two cores; full: one GPU of 24 GB.
Time: smoke: half a minute; cpu: half an hour on one core; full: not measured.
Expected: pretrained far above random weights at every epoch, and above where random weights end after one epoch.
Paper: "greater and more consistent test accuracy after a few iterations". Its curves could not be read.
Status: smoke: run by the tests. cpu: run on the bundled sample. full: not run.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import tyro

from experiments import tasks
from experiments.running import Scale, Where, begin, command_line, finish
from experiments.tasks import Learning


@dataclass(frozen=True)
class Config:
    """Where the two networks start, and what both learn from.

    Fields:
        where: scale and places.
        learn: everything but the backbone.
        starts: backbones; `untrained` is the bundled network's description with random weights.
    """

    where: Annotated[Where, tyro.conf.arg(name="")] = field(default_factory=Where)
    learn: Annotated[Learning, tyro.conf.arg(name="")] = field(default_factory=Learning)
    starts: tuple[str, str] = ("bundled", "untrained")


SCALES: dict[Scale, Config] = {
    "smoke": Config(learn=Learning(tune="all", epochs=1, limit=300)),
    "cpu": Config(where=Where(scale="cpu"), learn=Learning(tune="all", bits=(64,), seeds=3, epochs=20)),
    "full": Config(
        where=Where(scale="full"),
        learn=Learning(dataset="cifar10", tune="all", bits=(64,), seeds=3, epochs=20, validation=500),
    ),
}


def main(config: Config) -> dict[str, Any]:
    """Fine-tune from both starts and collect the curves."""
    run = begin("fig6_transfer", config)
    curves, test, note = {}, {}, {}
    for start in config.starts:
        folder = run.folder / start.replace("/", "--")
        learn = replace(config.learn, backbone=start)
        prepared = tasks.bench(learn, folder=folder, cache=config.where.runs)
        note = tasks.about(prepared)
        curves[start], test[start] = {}, {}
        for bits in learn.bits:
            test[start][str(bits)] = tasks.spread(tasks.run_cell(prepared, "csq", bits).test)
            curves[start][str(bits)] = tasks.validation_curves(folder, "csq", bits)
    return finish(run, {**note, "map": test, "validation_by_epoch": curves})


if __name__ == "__main__":
    main(command_line(SCALES))
