"""Table 2: the ten classical methods and five more on one backbone, split, budget and recipe.

Command: python -m experiments.table2_methods --scale cpu --report experiments/results/table2_methods_cpu.json
    (full: --scale full --dataset coco80 --source FOLDER, also nuswide21 and imagenet100)
Hardware: smoke and cpu: two cores; full: one GPU of 24 GB.
Time: smoke: half a minute; cpu: an hour; full: not measured.
Expected: central similarity first or within the spread of first; unsupervised shallow methods clearly behind,
    supervised ones not far, since they are given the same features.
Paper: its scheme beats all ten baselines on all sets at all lengths, shallow ones by 37, 46.6 and 50.1 %. Its cells
    could not be found.
Status: smoke: run by the tests. cpu: `experiments.hashing_methods` is the same comparison, and its reports are the
    ones committed. full: not run.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

import tyro

from experiments import hashing_methods as methods, hashing_report, hashing_zoo as zoo, tasks
from experiments.running import Scale, Where, begin, command_line, finish
from experiments.tasks import FULL, Learning


@dataclass(frozen=True)
class Config:
    """Which methods.

    Fields:
        where: scale and places.
        learn: what every method learns from.
        methods: names in lower case.
    """

    where: Annotated[Where, tyro.conf.arg(name="")] = field(default_factory=Where)
    learn: Annotated[Learning, tyro.conf.arg(name="")] = field(default_factory=Learning)
    methods: tuple[str, ...] = ("csq", "dch", "itq_cca", "lsh")


SCALES: dict[Scale, Config] = {
    "smoke": Config(),
    "cpu": Config(
        where=Where(scale="cpu"), learn=Learning(bits=(16, 32, 64), seeds=3, epochs=20), methods=zoo.SHALLOW + zoo.DEEP
    ),
    "full": Config(
        where=Where(scale="full"),
        learn=replace(FULL, seeds=3),
        methods=zoo.SHALLOW + zoo.DEEP,
    ),
}


def main(config: Config) -> dict[str, Any]:
    """Run the comparison; the table is printed, the curves are drawn in the run folder."""
    unknown = set(config.methods) - {*zoo.SHALLOW, *zoo.DEEP}
    if unknown:
        raise SystemExit(
            f"--methods must be among {', '.join(zoo.SHALLOW + zoo.DEEP)}; got {', '.join(sorted(unknown))}"
        )
    run = begin("table2_methods", config)
    prepared = tasks.bench(config.learn, folder=run.folder, cache=config.where.runs)
    prepared = prepared._replace(config=replace(prepared.config, methods=config.methods))
    cells, curves = methods.compare(prepared)
    found = hashing_report.summarize(cells, curves, config=asdict(prepared.config), protocol=prepared.task.protocol)
    hashing_report.print_table(found)
    hashing_report.draw_curves(found, run.folder / "curves.png")
    names = ("map", "map_validation", "seconds_by_run", "curves")
    return finish(run, {name: found[name] for name in names} | tasks.about(prepared))


if __name__ == "__main__":
    main(command_line(SCALES))
