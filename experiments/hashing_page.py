"""Write the figures of docs/hashing.md and docs/metrics.md from the committed reports, their only source.

    python -m experiments.hashing_page            # rewrite what stands between the markers
    python -m experiments.hashing_page --check    # fail where a page differs from its reports

A marked section begins with `<!-- NAME: begin ... -->` and ends with `<!-- NAME: end -->`.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments import hashing_zoo as zoo
from experiments.report_tables import semantic

ROOT = Path(__file__).parent.parent
JUDGED = ("majority", "by inverse frequency", "by root of frequency", "codes of the label rows")
NOTE = "written by python -m experiments.hashing_page"


@dataclass(frozen=True)
class Config:
    """Where reports and pages are.

    Fields:
        results: folder of the reports.
        docs: folder of the pages.
        check: compare instead of writing.
    """

    results: Path = ROOT / "experiments" / "results"
    docs: Path = ROOT / "docs"
    check: bool = False


def main(config: Config) -> None:
    """Rewrite or check every page."""
    for page, sections in PAGES.items():
        path = config.docs / page
        text = path.read_text()
        written = filled(text, {name: make(config.results) for name, make in sections.items()})
        if config.check and written != text:
            raise SystemExit(f"{page} must hold the figures of its reports: run python -m experiments.hashing_page")
        if not config.check:
            path.write_text(written)


def filled(text: str, sections: dict[str, str]) -> str:
    """The text with new contents between the markers of each section."""
    for name, content in sections.items():
        pattern = re.compile(rf"<!-- {name}: begin.*?-->\n.*?<!-- {name}: end -->", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise SystemExit(f"the page must mark the section {name} once")
        block = f"<!-- {name}: begin ({NOTE}) -->\n\n{content}\n\n<!-- {name}: end -->"
        text = pattern.sub(lambda _, block=block: block, text)
    return text


def centers(results: Path) -> str:
    """Minimum distances of hash centers."""
    rows = []
    for shape, row in load(results, "hash_centers")["centers"].items():
        drawn = f"{row['random_best_minimum']}" + (" (one table)" if row["random_draws"] == 1 else "")
        coded, published = row["coded"], row["published_minimum"]
        cells = [shape.replace("x", " x "), "-" if published is None else str(published)]
        cells += [f"{row['paper_rule']['minimum']}", drawn, f"**{coded['minimum']}**", f"{coded['mean']:.2f}"]
        rows.append(cells)
    header = ["classes x bits", "files of the official CSQ code", "the paper's rule", "best of 20 random tables"]
    rows.sort(key=lambda cells: [int(number) for number in cells[0].split(" x ")])
    largest = max(load(results, "hash_centers")["centers"].items(), key=lambda item: int(item[0].split("x")[0]))
    seconds = largest[1]["coded_seconds"]
    took = f"{largest[0].replace('x', ' x ')}: {seconds:.1f} s to make the table and compare all pairs."
    return table([*header, "`separated_centers`", "its mean"], rows) + f"\n\n{took}"


def comparison(results: Path, name: str) -> str:
    """One run of `experiments.hashing_methods`: what, the table, and who is where."""
    if not (results / f"{name}.json").exists():
        return f"Not run yet: no `experiments/results/{name}.json`."
    report = load(results, name)
    config = report["config"]
    lengths = list(next(iter(report["map"].values())))
    rows = []
    for method, row in report["map"].items():
        cells = [f"{row[length]['mean']:.4f} ± {row[length]['spread']:.4f}" for length in lengths]
        best = [row[length]["mean"] == max(r[length]["mean"] for r in report["map"].values()) for length in lengths]
        rows.append(
            [zoo.title(method), *(f"**{cell}**" if top else cell for cell, top in zip(cells, best, strict=True))]
        )
    how = "a two-layer head on frozen features"
    if config["tune"] == "all":
        how = "all layers trained, shallow methods fitted on the features that CSQ fine-tuned"
    # Reports made before environments were recorded name neither device nor commit.
    made = report.get("environment")
    where = f", {made['device']}, commit {made['commit']}{', DIRTY' * made['dirty']}" if made else ""
    about = (
        f"{report['protocol']}. Backbone `{config['backbone']}` at {config['size']} px, {how}; "
        f"{config['epochs']} epochs, {config['seeds']} seed(s). {report['convention']}, mean ± standard deviation; "
        f"`experiments/results/{name}.json`, {report['seconds'] / 60:.0f} minutes{where}."
    )
    verdicts = "\n".join(f"- {verdict(report, length)}" for length in lengths)
    return f"{about}\n\n{table(['method', *(f'{length} bits' for length in lengths)], rows)}\n\n{verdicts}"


def verdict(report: dict[str, Any], length: str) -> str:
    """Where central similarity stands, and how far behind the best shallow methods are."""
    cells = {method: row[length] for method, row in report["map"].items()}
    order = sorted(cells, key=lambda method: -cells[method]["mean"])
    parts = [f"{length} bits: {' > '.join(zoo.title(method) for method in order[:4])}."]
    if "csq" in cells:
        behind = cells[order[0]]["mean"] - cells["csq"]["mean"]
        spread = (cells[order[0]]["spread"] ** 2 + cells["csq"]["spread"] ** 2) ** 0.5
        place = order.index("csq") + 1
        within = "within" if behind <= spread else "outside"
        parts.append(
            "CSQ is first."
            if place == 1
            else f"CSQ is number {place}, {behind:.4f} behind: {within} the pair's standard deviation {spread:.4f}."
        )
        for names, kind in ((("itq_cca", "ksh", "sdh", "bre"), "supervised"), (("lsh", "itq"), "unsupervised")):
            found = [method for method in order if method in names]
            if found:
                gap = cells["csq"]["mean"] - cells[found[0]]["mean"]
                where = f"{abs(gap):.4f} {'below' if gap > 0 else 'above'} CSQ"
                parts.append(f"Best {kind} shallow method: {zoo.title(found[0])}, {where}.")
    return " ".join(parts)


def several_labels(results: Path) -> str:
    """The targets of photographs with several labels."""
    if not (results / "semantic_centers_cpu.json").exists():
        return "Not run yet: no `experiments/results/semantic_centers_cpu.json`."
    report = load(results, "semantic_centers_cpu")
    found, verdicts = report["targets"], []
    for bits in found["majority"]:
        row = {name: by_bits[bits] for name, by_bits in found.items()}
        said = [f"{name} {row[name]['target_map']:.4f} and {row[name]['learned']['mean']:.4f}" for name in JUDGED]
        best = max(row, key=lambda name: row[name]["learned"]["mean"])
        verdicts.append(f"- {bits} bits, target itself and learned: {'; '.join(said)}. Best learned: {best}.")
    about = f"{report['protocol']}. `experiments/results/semantic_centers_cpu.json`."
    return f"{about}\n\n{semantic(report)}\n\n" + "\n".join(verdicts)


def published(results: Path) -> str:
    """mAP@100 of published codes by every convention."""
    found = load(results, "bench_metrics")["hmdb51"]
    ties = ("expected", "index", "best", "worst")
    names = ("retrieved", "relevant", "capped")
    return table(["", *ties], [[f"`{n}`", *(f"{found[f'mAP@100[{n},{t}]']:.4f}" for t in ties)] for n in names])


def speed(results: Path) -> str:
    """The speed of the metrics."""
    report = load(results, "bench_metrics")
    sizes, seconds = report["sizes"], report["seconds"]
    rows = [
        ["tallies, ties `expected`", f"{report['map_all_s']:.2f}", "1"],
        ["ties by `index`", f"{seconds['index_ties']:.2f}", f"{seconds['index_ties'] / report['map_all_s']:.1f}"],
        ["FAISS + NumPy", f"{seconds['faiss_numpy']:.2f}", f"{report['ratio_vs_faiss_numpy']:.1f}"],
        ["the usual NumPy loop", f"{seconds['numpy_loop']:.2f}", f"{report['ratio_vs_numpy_loop']:.1f}"],
    ]
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    return (
        f"{sizes['queries']:,} queries x {sizes['items']:,} codes x {sizes['bits']} bits, {report['cores']} cores, "
        f"{versions}; load average {report['load_average']:.1f}, so read the ratios. "
        f"Tallies cost {report['map_all_processor_s']:.2f} s of processor time over all threads.\n\n"
        + table(["mAP@all", "seconds", "times ours"], rows)
    )


def load(results: Path, name: str) -> dict[str, Any]:
    """A report."""
    return json.loads((results / f"{name}.json").read_text())


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows])


def _compared(name: str) -> Callable[[Path], str]:
    return lambda results: comparison(results, name)


PAGES: dict[str, dict[str, Callable[[Path], str]]] = {
    "hashing.md": {
        "centers": centers,
        "frozen": _compared("hashing_methods"),
        "fine-tuned": _compared("hashing_methods_all"),
        "rows": _compared("hashing_methods_rows"),
        "imagenette": _compared("hashing_methods_imagenette"),
        "several labels": several_labels,
        "corel5k": _compared("hashing_methods_corel5k"),
        "corel5k tuned": _compared("hashing_methods_corel5k_tuned"),
        "cifar10": _compared("hashing_methods_cifar10"),
        "cifar10 tuned": _compared("hashing_methods_cifar10_tuned"),
    },
    "metrics.md": {"published": published, "speed": speed},
}


if __name__ == "__main__":
    main(tyro.cli(Config))
