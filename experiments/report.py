"""Writes docs/results.md, docs/paper-notes.md and their plots from the committed reports; no figure is typed.

    python -m experiments.report
    python -m experiments.report --check     # only say whether the pages are what the reports make

Each experiment's claim, expectation and status are read from its own docstring. `paper_notes.md` in this folder is the
text of the notes, with figures as `{{report:path/in/it|.3f}}`: `*` in a path takes every value, `min`, `max` or `mean`
before the report's name says what of them, `%` stands for a slash in a name. A missing report reads "not run".
"""

import ast
import json
import re
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.report_tables import INSTEAD, SECTIONS, heading
from experiments.running import RESULTS, ROOT

EXPERIMENTS = ROOT / "experiments"
PLACE = re.compile(r"\{\{(?:(min|max|mean) )?([\w-]+):([^|}]+)\|([^}]*)\}\}")
REDUCE: dict[str, Callable[[list[Any]], Any]] = {"min": min, "max": max, "mean": statistics.mean}
DRAWN = ("fig6_transfer", "fig7_pr_curves")
INTRODUCTION = """\
# Results

Made by `python -m experiments.report` from the reports in `experiments/results/`; do not edit it by hand. What each
figure means for the paper's claims is in [paper notes](paper-notes.md).

Each experiment has three scales: `smoke` (seconds, run by the tests on the bundled sample; its figures mean nothing and
are not here), `cpu` (two cores) and `full` (the paper's scale). mAP names its convention; ± is the standard deviation
over the seeds; reports are written from a clean tree only and name their commit. Where the load average is above the
number of cores, other work ran beside: then read ratios, not seconds."""


@dataclass(frozen=True)
class Config:
    """Where to read and write.

    Fields:
        results: folder of the reports.
        docs: folder of the pages.
        check: write nothing; exit with 1 where a page would change.
    """

    results: Path = RESULTS
    docs: Path = ROOT / "docs"
    check: bool = False


def main(config: Config) -> None:
    """Write both pages and the plots, or check the pages."""
    reports = read_reports(config.results)
    pages = {
        "results.md": results_page(reports),
        "paper-notes.md": fill((EXPERIMENTS / "paper_notes.md").read_text(), reports),
    }
    if config.check:
        stale = [name for name, text in pages.items() if (config.docs / name).read_text() != text]
        if stale:
            raise SystemExit(f"run python -m experiments.report: {', '.join(stale)} must be made anew")
        return
    for name, text in pages.items():
        (config.docs / name).write_text(text)
    draw(reports, config.docs / "images")


def read_reports(folder: Path) -> dict[str, Any]:
    """Every report by its name without `.json`."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def results_page(reports: Mapping[str, Any]) -> str:
    """The page of results: for each experiment what the paper says, what to expect, what came out."""
    parts = [INTRODUCTION]
    for name, (title, render) in SECTIONS.items():
        about = describe(name)
        found = {stem: report for stem, report in reports.items() if report_of(stem, report) == name}
        lines = [f"## {title}", f"`python -m experiments.{name}`: {about['summary']}"]
        lines += [f"- **{field}**: {about[field]}" for field in ("Paper", "Expected", "Status")]
        parts.append("\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:]))
        # A run that was only to see whether everything turns has no figures to show.
        shown = {stem: report for stem, report in found.items() if report.get("scale") != "smoke"}
        for stem, report in shown.items():
            picture = f"\n\n![{title}](images/{stem}.png)" if name in DRAWN else ""
            parts.append(f"{heading(stem, report)}\n\n{render(report)}{picture}")
        if not shown:
            parts.append(INSTEAD[name]() if name in INSTEAD else "No report yet.")
    return "\n\n".join(parts) + "\n"


def report_of(stem: str, report: Any) -> str:
    """The experiment that a report belongs to; empty for those of other commands."""
    return report.get("experiment", "") if isinstance(report, Mapping) else ""


def describe(name: str) -> dict[str, str]:
    """The fields of an experiment's docstring, without importing it."""
    text = ast.get_docstring(ast.parse((EXPERIMENTS / f"{name}.py").read_text())) or ""
    summary, _, rest = text.partition("\n\n")
    fields, last = {"summary": " ".join(summary.split())}, ""
    for line in rest.splitlines():
        match = re.match(r"(\w+): (.*)", line)
        if match:
            last = match[1]
            fields[last] = match[2]
        elif last and line.strip():
            fields[last] += " " + line.strip()
    return fields


def fill(template: str, reports: Mapping[str, Any]) -> str:
    """A text with its figures taken from the reports.

    Args:
        template: with places such as `{{bench_metrics:map_all_s|.2f}}`.
        reports: by name.

    Returns:
        The text; a place whose report is missing reads "not run".
    """

    def figure(match: re.Match[str]) -> str:
        reduce, stem, path, form = match.groups()
        if stem not in reports:
            return "not run"
        values = values_at(reports[stem], path.split("/"))
        if reduce is None and len(values) != 1:
            raise ValueError(f"{match[0]} must name one value or say min, max or mean; got {len(values)}")
        value = REDUCE[reduce](values) if reduce else values[0]
        return format(value, form)

    return PLACE.sub(figure, template)


def values_at(tree: Any, path: list[str]) -> list[Any]:
    """The values at a path; `*` takes every branch."""
    if not path:
        return [tree]
    step, rest = path[0].replace("%", "/"), path[1:]
    if step == "*":
        branches = tree.values() if isinstance(tree, Mapping) else tree
        return [value for branch in branches for value in values_at(branch, rest)]
    if isinstance(tree, list):
        return values_at(tree[int(step)], rest)
    if step not in tree:
        raise ValueError(f"path must exist in the report; {step!r} is not among {sorted(tree)}")
    return values_at(tree[step], rest)


def draw(reports: Mapping[str, Any], folder: Path) -> None:
    """The curves of Figs. 6 and 7, where there are reports."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    for stem, report in reports.items():
        if report_of(stem, report) == "fig6_transfer" and report["scale"] != "smoke":
            figure, axis = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
            for start, by_bits in report["validation_by_epoch"].items():
                for bits, runs in by_bits.items():
                    epochs, by_epoch = range(1, len(runs[0]) + 1), list(zip(*runs, strict=True))
                    label = f"{start}, {bits} bits, mean and range of {len(runs)} seed(s)"
                    axis.plot(epochs, [statistics.mean(values) for values in by_epoch], label=label)
                    axis.fill_between(epochs, [*map(min, by_epoch)], [*map(max, by_epoch)], alpha=0.25)
            axis.set(xlabel="epoch", ylabel="mAP of validation photographs", ylim=(0, 1))
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.legend(fontsize=8)
            figure.savefig(folder / f"{stem}.png", dpi=100)
            pyplot.close(figure)
        if report_of(stem, report) == "fig7_pr_curves" and report["scale"] != "smoke":
            figure, axes = pyplot.subplots(
                1, len(report["bits"]), figsize=(9, 3.4), layout="constrained", squeeze=False
            )
            for axis, (bits, rows) in zip(axes[0], report["bits"].items(), strict=True):
                for name, row in rows.items():
                    axis.plot(row["recall"], row["precision"], label=name.replace("_", " "), linewidth=1.4)
                axis.set(title=f"{bits} bits", xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
            axes[0][0].legend(fontsize=7)
            figure.savefig(folder / f"{stem}.png", dpi=100)
            pyplot.close(figure)


if __name__ == "__main__":
    main(tyro.cli(Config))
