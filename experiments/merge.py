"""Join reports of one comparison that was run in parts: by code length or by method, a process each.

    python -m experiments.merge --parts a.json b.json --report experiments/results/table1_backbones_gpu.json

What the parts hold under one name must be the same, but for code lengths and methods, which are listed in turn, and
for seconds, which are added up: those of processes that ran beside one another are longer than alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import tyro

from experiments import table2_methods
from jcbir.storage import write_file

LISTED = ("bits", "methods")
LARGEST = ("date", "load", "load_at_start")


@dataclass(frozen=True)
class Config:
    """What is joined.

    Attributes:
        parts: reports, in the order their rows and columns shall have.
        report: JSON file to write; precision-recall curves, where there are any, go beside it as `.png`.
    """

    parts: tuple[Path, ...]
    report: Path


def main(config: Config) -> dict[str, Any]:
    """Join, print what can be printed, write."""
    joined = join([json.loads(path.read_text()) for path in config.parts])
    write_file(config.report, (json.dumps(joined, indent=1) + "\n").encode())
    if "curves" in joined:
        table2_methods.print_table(joined)
        table2_methods.draw_curves(joined, config.report.with_suffix(".png"))
    return joined


def join(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One report of several; a ValueError names the first place where two of them disagree."""
    return reduce(lambda one, two: _join(one, two, ()), reports)


def _join(one: Any, two: Any, path: tuple[str, ...]) -> Any:
    name = path[-1] if path else ""
    if isinstance(one, dict) and isinstance(two, dict):
        missing = {key: value for key, value in two.items() if key not in one}
        return {
            key: _join(value, two[key], (*path, key)) if key in two else value for key, value in one.items()
        } | missing
    if path == ("seconds",):
        return round(one + two, 1)
    if name in LISTED and isinstance(one, list) and isinstance(two, list):
        return one + [item for item in two if item not in one]
    if name in LARGEST:
        return max(one, two)
    if one != two:
        raise ValueError(f"reports must agree on {'/'.join(path)}; got {one!r} and {two!r}")
    return one


if __name__ == "__main__":
    main(tyro.cli(Config))
