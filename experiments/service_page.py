"""Writes the end of docs/service.md, from `## Load` on, out of the reports of `experiments.service_{load,soak}`.

python -m experiments.service_page
"""

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.report_tables import table

MARK = "## Load\n"
GROWING = {
    "cloud_rss_mb": "cloud, its process, MB",
    "cloud_workers_rss_mb": "cloud, its worker, MB",
    "cloud_files": "cloud, open files and maps",
    "cloud_threads": "cloud, threads",
    "authority_rss_mb": "authority, its process, MB",
    "authority_workers_rss_mb": "authority, its worker, MB",
    "authority_files": "authority, open files",
    "authority_threads": "authority, threads",
}


@dataclass(frozen=True)
class Config:
    """Where the figures are and where they go."""

    load: Path = Path("experiments/results/service_load.json")
    """Report of `experiments.service_load`."""
    soak: Path = Path("experiments/results/service_soak.json")
    """Report of `experiments.service_soak`."""
    page: Path = Path("docs/service.md")
    """The page to write."""


def page(text: str, load: dict[str, Any], soak: dict[str, Any]) -> str:
    """The page with its end made anew from two reports."""
    return text[: text.index(MARK)] + MARK + "\n" + loaded(load) + "\n\n## Soak\n\n" + soaked(soak) + "\n"


def prose(text: str) -> str:
    """A paragraph, wrapped as the page's others are."""
    return textwrap.fill(" ".join(text.split()), 140, break_long_words=False, break_on_hyphens=False)


def loaded(report: dict[str, Any]) -> str:
    config, machine = report["config"], report["machine"]
    header = ["images", "queries/s", "p50", "p95", "p99", "one user alone, p50", "peak memory", "errors"]
    rows = []
    for run in report["runs"]:
        cells = [f"{run['images']:,}", f"{run['queries_per_s']:.1f}"]
        cells += [f"{run[name]:.1f} s" for name in ("p50_s", "p95_s", "p99_s")]
        cells += [f"{run['alone_p50_s'] * 1000:.0f} ms", f"{run['peak_rss_mb']:,.0f} MB", str(run["errors"])]
        rows.append(cells)
    text = f"""
        `python -m experiments.service_load --report experiments/results/service_load.json` runs both services as
        processes on one machine under {config["users"]} concurrent users and intruders, opens every delivery
        and compares it with the plain ranking ({report["wrong_rankings"]} were wrong;
        {report["unauthorised_refused"]:,} of {report["unauthorised_tried"]:,} intrusions were refused).
        {machine["cores"]} cores, load average {machine["load_at_start"][0]:.1f} at the start: the users' own threads
        share them, so the latencies say how the services behave when they are far too busy, not how fast they are."""
    return prose(text) + "\n\n" + table(header, rows)


def soaked(report: dict[str, Any]) -> str:
    config, machine, counts = report["config"], report["machine"], report["counts"]
    rows = [
        [label, f"{entry['first_third']:g}", f"{entry['last_third']:g}", f"{entry['ratio']:.3f}", f"{entry['peak']:g}"]
        for name, label in GROWING.items()
        for entry in [report["growth"][name]]
    ]
    passing = sum(count for name, count in counts.items() if name.startswith("passing_"))
    text = f"""
        `python -m experiments.service_soak --report experiments/results/service_soak.json` does everything at once for
        {config["minutes"]:g} minutes: {config["users"]} users query without pause while the owner publishes, withdraws,
        compacts, revokes and turns to new epochs, and intruders try revoked grants and repeated queries.
        {counts["queries"]:,} queries were answered and opened (p50 {report["p50_s"]:.1f} s,
        p95 {report["p95_s"]:.1f} s; {machine["cores"]} cores, load average
        {machine["load_at_start"][0]:.1f} at the start and {machine["load_at_end"][0]:.1f} at the end),
        {passing:,} refused for what the owner did meanwhile (an epoch that
        ended, an image withdrawn). {counts["publications"]:,} publications, {counts["withdrawn"]:,} images withdrawn,
        {counts["compactions"]:,} compactions, {counts["epochs"]:,} new epochs. Errors: {report["errors"]}; errors in
        the logs: {report["logged_errors"]}; intrusions refused: {report["unauthorised_refused"]:,} of
        {report["unauthorised_tried"]:,}."""
    note = f"""
        Medians of the first and the last third of {report["samples"]:,} samples. Each mapped segment holds a file, so
        files follow the segments of the epoch, not the time."""
    header = ["", "first third", "last third", "ratio", "peak"]
    return "\n\n".join([prose(text), prose(note), table(header, rows)])


def main(config: Config) -> None:
    """Write the page."""
    reports = (json.loads(path.read_text()) for path in (config.load, config.soak))
    config.page.write_text(page(config.page.read_text(), *reports))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
