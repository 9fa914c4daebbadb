"""Writes the pages of docs/ that are made of the committed reports; no figure in them is typed.

    python -m experiments.pages                      # all of them, and the plots of docs/results.md
    python -m experiments.pages performance.md       # one
    python -m experiments.pages --check              # write nothing, say which ones would change

`results.md` and `reports.md` are written whole. Of the other pages what stands between `<!-- NAME: begin ... -->` and
`<!-- NAME: end -->` is written, and in the text of `paper-notes.md` and `hashing.md` each figure between its place in a
report and an end, `<!--report:path/in/it;.3f-->0.123<!--.-->`: `*` in a path takes every value, `min`, `max` or `mean`
before the report's name says what of them, `%` stands for a slash in a name; a missing report reads "not run". What an
experiment claims, expects and is worth is read from its own docstring.
"""

import ast
import json
import math
import re
import statistics
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.methods import ADDED, title as method_title
from experiments.running import RESULTS, ROOT
from experiments.table3_published import MISSING, OFFICIAL, RERUN

Report = Mapping[str, Any]
Reports = Mapping[str, Report]
"""Every report by its name without `.json`."""
EXPERIMENTS = ROOT / "experiments"
COMMAND = "python -m experiments.pages"


@dataclass(frozen=True)
class Writing:
    """Which pages.

    Attributes:
        names: of the pages; all by default.
        docs: their folder.
        check: write nothing; exit with 1 where a page would change.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    docs: Path = ROOT / "docs"
    check: bool = False


def main(config: Writing) -> None:
    """Write the pages and the plots, or check the pages."""
    if unknown := set(config.names) - {*PAGES}:
        raise SystemExit(f"names: must be among {', '.join(PAGES)}, got {', '.join(sorted(unknown))}")
    reports = read_reports(RESULTS)
    stale = []
    for name in config.names or PAGES:
        path = config.docs / name
        text = path.read_text()
        written = PAGES[name](reports, text)
        if written != text:
            stale.append(name)
            if not config.check:
                path.write_text(written)
        if name == "results.md" and not config.check:
            draw(reports, config.docs / "images")
    if config.check and stale:
        raise SystemExit(f"{', '.join(stale)} must hold the figures of the reports: run {COMMAND}")


def read_reports(folder: Path) -> dict[str, Any]:
    """Every report by its name without `.json`."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


# ----------------------------------------------------------------------------------------------- what pages are made of


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows])


def cell(value: Report) -> str:
    """Mean and spread over the seeds."""
    spread = "" if value["spread"] is None else f" ± {value['spread']:.4f}"
    return f"{value['mean']:.4f}{spread}"


def number(value: float | None) -> str:
    """Three digits."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def prose(text: str) -> str:
    """A paragraph, wrapped as those of the pages that are not made here."""
    return textwrap.fill(" ".join(text.split()), 140, break_long_words=False, break_on_hyphens=False)


def made(report: Report) -> dict[str, Any]:
    """Where a report comes from, by the names of `running.environment`; older ones say it in places of their own."""
    older = {"cores_used": "cores", "load_average": "load", "load_at_end": "load"}
    machine = report.get("machine")
    said = {**report, **(machine if isinstance(machine, Mapping) else {})}
    found = {older.get(name, name): value for name, value in said.items()} | report.get("environment", {})
    # Older loads are those of the last 1, 5 and 15 minutes.
    return {
        name: value[0] if name.startswith("load") and isinstance(value, list) else value
        for name, value in found.items()
    }


def learned(report: Report) -> Report:
    """The record of what was learned; reports of the comparison made before there was one hold its fields."""
    return report["config"].get("learn", report["config"])


def experiment_of(report: Any) -> str:
    """The experiment that a report belongs to; empty for those made before reports named it."""
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


def filled(text: str, sections: Mapping[str, str]) -> str:
    """A page with new contents between the markers of its sections."""
    for name, content in sections.items():
        pattern = re.compile(rf"<!-- {name}: begin.*?-->\n.*?<!-- {name}: end -->", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"page: must mark the section {name} once, got {len(pattern.findall(text))} marks")
        block = f"<!-- {name}: begin (written by {COMMAND}) -->\n\n{content}\n\n<!-- {name}: end -->"
        text = pattern.sub(lambda _, block=block: block, text)
    return text


# ---------------------------------------------------------------------------------------------------- results.md, notes

EPOCHS = (1, 2, 4, 8, 16, 20)
DRAWN = ("fig6_transfer", "fig7_pr_curves")
# Comparisons of methods in the order of the questions' columns: stem, what was searched with which features. Reports of
# one column hold other methods, and CSQ to the same digits.
COMPARED = {
    "hashing_methods": "CIFAR-10 sample, frozen",
    "hashing_methods_added": "CIFAR-10 sample, frozen",
    "hashing_methods_all": "CIFAR-10 sample, all layers",
    "hashing_methods_imagenette": "imagenette, frozen",
    "hashing_methods_cifar10": "CIFAR-10, small network, frozen",
    "hashing_methods_cifar10_tuned": "CIFAR-10, tuned by CSQ",
    "hashing_methods_corel5k": "Corel-5k, frozen",
    "hashing_methods_corel5k_tuned": "Corel-5k, tuned by CSQ",
}
CURVES = ("hashing_methods", "hashing_methods_cifar10_tuned", "hashing_methods_corel5k_tuned")
REPORTED = f"""\
# Every report

Made by `{COMMAND}` from the reports in `experiments/results/`; do not edit it by hand. The questions that they
answer have a page of their own: [results](results.md).

Each experiment has three scales: `smoke` (seconds, run by the tests on the bundled sample; its figures mean nothing and
are not here), `cpu` (two cores) and `full` (the paper's scale). mAP names its convention; ± is the standard deviation
over the seeds; reports are written from a clean tree only and name their commit. Where the load average is above the
number of cores, other work ran beside: then read ratios, not seconds."""


def every_report(reports: Reports, _: str = "") -> str:
    """For each experiment what the paper says, what to expect, what came out."""
    parts = [REPORTED]
    for name, (title, render) in SECTIONS.items():
        about = describe(name)
        found = {stem: report for stem, report in reports.items() if experiment_of(report) == name}
        lines = [f"## {title}", f"`python -m experiments.{name}`: {about['summary']}"]
        lines += [f"- **{field}**: {about[field]}" for field in ("Paper", "Expected", "Status")]
        parts.append("\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:]))
        # A run that was only to see whether everything turns has no figures to show.
        shown = {stem: report for stem, report in found.items() if report["scale"] != "smoke" and stem not in COMPARED}
        for stem, report in shown.items():
            picture = f"\n\n![{title}](images/{stem}.png)" if name in DRAWN else ""
            parts.append(f"{heading(stem, report)}\n\n{render(report)}{picture}")
        if name == "table2_methods":
            compared = [stem for stem in reports if stem.startswith("hashing_methods")]
            parts += [f"{comparison(stem, reports[stem])}{curves_of(stem)}" for stem in compared]
        elif not shown:
            parts.append(published_alone() if name == "table3_published" else "No report yet.")
    return "\n\n".join([*parts, faults(reports.get("mutants"))]) + "\n"


def curves_of(stem: str) -> str:
    """The precision-recall curves of a comparison, where they are drawn."""
    return f"\n\n![Precision and recall](images/{stem}.png)" if stem in CURVES else ""


def heading(stem: str, report: Report) -> str:
    """Where a report comes from: scale, device, date, commit, how long it took, and how busy the machine was."""
    at = report["environment"]
    dirty = ", **from a tree with uncommitted changes**" if at["dirty"] else ""
    learn = report["config"].get("learn", {})
    what = f"; {learn['epochs']} epochs, {learn['seeds']} seed(s), tune {learn['tune']}" if learn else ""
    protocol = f" {report['protocol']}." if "protocol" in report else ""
    return (
        f"`experiments/results/{stem}.json`: scale `{report['scale']}`, {at['device']}, {at['date']}, commit "
        f"{at['commit']}{dirty}, {report['seconds']:,.0f} s, load average {at['load']} at the end{what}.{protocol}"
    )


def map_table(report: Report, first: str, name: Callable[[str], str] = str) -> str:
    """One row a variant, one column a code length."""
    lengths = list(next(iter(report["map"].values())))
    rows = [[name(key), *(cell(row[bits]) for bits in lengths)] for key, row in report["map"].items()]
    return f"{report['convention']}:\n\n" + table([first, *(f"{bits} bits" for bits in lengths)], rows)


def networks(report: Report) -> str:
    """Table 1."""
    pooled = [f"`{name}` {value:.4f}" for name, value in report["map_pooled_features"].items()]
    note = f"\n\nFrozen pooled features by cosine, no hashing: {', '.join(pooled)}." if pooled else ""
    # Reports made before there was a choice are of `csq`.
    by = f"Learned by {method_title(report['config'].get('method', 'csq'))}. "
    return by + map_table(report, "network", lambda name: f"`{name}`") + note


def published(report: Report) -> str:
    """Table 3."""
    theirs = report["published"]["csq_official"] or {}
    rows = [
        [f"{bits} bits", cell(value), f"{theirs[bits]:.3f}" if bits in theirs else "-"]
        for bits, value in report["map"].items()
    ]
    missing = ", ".join(report["published"]["not_found"])
    return (
        f"{report['convention']}:\n\n" + table(["", "here", "official CSQ code"], rows) + f"\n\nNot found: {missing}."
    )


def published_alone() -> str:
    """Table 3 where our row was not run."""
    rows = [
        [name, metric, *(f"{value:.3f}" for value in row), f"{RERUN[name]:.3f}"]
        for name, (metric, row) in OFFICIAL.items()
    ]
    head = ["set", "metric", *(f"official CSQ code, {bits} bits" for bits in (16, 32, 64)), "rerun by others, 64 bits"]
    return (
        "Published, none measured here (ResNet50; official code: yuanli2333/Hadamard-Matrix-for-hashing; rerun: "
        f"swuxyj/DeepHash-pytorch):\n\n{table(head, rows)}\n\nNot found: {', '.join(MISSING)}. Our row has not been "
        "run: it needs the photographs of those sets."
    )


def step_times(report: Report) -> str:
    """Table 4."""
    lengths = report["bits"]
    rows = [
        [
            method_title(method),
            *(
                f"{1e3 * rows[method]['seconds_per_step']:.1f} ({rows[method]['ratio_to_csq']:.3f})"
                for rows in lengths.values()
            ),
            " / ".join(f"{rows[method]['prepare_seconds']:.2f}" for rows in lengths.values()),
        ]
        for method in next(iter(lengths.values()))
    ]
    head = ["method", *(f"{bits} bits: ms a step (of CSQ)" for bits in lengths), "targets made in, s"]
    return f"Batches of {report['batch']}:\n\n" + table(head, rows)


def cipher_statistics(report: Report) -> str:
    """Figs. 4 and 5."""
    shown = {
        "PSNR, dB": "psnr:.3f",
        "reference [50]": "psnr_reference50:.3f",
        "any good cipher": "psnr_ideal:.3f",
        "entropy": "entropy:.4f",
        "NPCR, %": "npcr_one_bit_of_plain:.3f",
        "UACI, %": "uaci_one_bit_of_plain:.3f",
    }
    rows = [[name, *(f"{{{form}}}".format(**row) for form in shown.values())] for name, row in report["images"].items()]
    return table(["image", *shown], rows)


def transfer(report: Report) -> str:
    """Fig. 6."""
    epochs = [epoch for epoch in EPOCHS if epoch <= report["config"]["learn"]["epochs"]]
    rows = []
    for start, by_bits in report["validation_by_epoch"].items():
        for bits, runs in by_bits.items():
            shown = [f"{sum(run[epoch - 1] for run in runs) / len(runs):.4f}" for epoch in epochs]
            rows.append([f"`{start}`", bits, *shown, cell(report["map"][start][bits])])
    head = ["start", "bits", *(f"epoch {epoch}" for epoch in epochs), f"queries, {report['convention']}"]
    return "mAP of the validation photographs by epoch, and of the queries at the best of them:\n\n" + table(head, rows)


def tuned(report: Report) -> str:
    """Fine-tuned networks."""
    learn, values = report["config"]["learn"], report["validation_by_epoch"]
    rows = [[str(epoch), f"{value:.4f}"] for epoch, value in enumerate(values, 1)]
    return (
        f"`{learn['backbone']}`, {method_title(report['config']['method'])}, {learn['bits'][0]} bits, "
        f"{learn['size']} px, {learn['frozen']} leading parts frozen; weights of SHA-256 `{report['weights_sha256']}`. "
        "mAP of each validation photograph among the others:\n\n" + table(["epoch", "validation"], rows)
    )


def areas(report: Report) -> str:
    """Fig. 7."""
    names = list(next(iter(report["bits"].values())))
    rows = [
        [name.replace("_", " "), *(f"{by_name[name]['area']:.4f}" for by_name in report["bits"].values())]
        for name in names
    ]
    head = ["codes", *(f"{bits} bits" for bits in report["bits"])]
    return "Area under the curve of mean precision and recall over cut-offs:\n\n" + table(head, rows)


def encrypted(report: Report) -> str:
    """Encrypted against plaintext retrieval."""
    rows = []
    for bits, found in report["bits"].items():
        for scheme in (name for name in ("plaintext", "bitsliced", "packed", "integer") if name in found):
            row = found[scheme]
            equal = {None: "", True: "equal", False: "NOT equal"}[row.get("equals_plaintext_arithmetic")]
            cells = [f"{row['map']:.4f}", equal, str(row.get("encrypted_queries", ""))]
            cells += [f"{1e3 * row['query_seconds']:,.2f}", f"{row['index_bytes_per_code']:,.1f}"]
            rows.append([bits, scheme, *cells, f"{row.get('reply_bytes', 0):,}"])
    lost = ", ".join(
        f"{bits} bits {found['plaintext']['map'] - found['map_integer_unmasked']:.4f}"
        for bits, found in report["bits"].items()
    )
    head = ["bits", "scheme", "mAP", "opened against clear", "encrypted queries", "ms a query"]
    return (
        f"{report['convention']}, {report['modulus_bits']}-bit n, {report['database']:,} codes:\n\n"
        f"{table([*head, 'index B/code', 'reply B'], rows)}\n\n"
        f"Lost by the paper's ranking of bare codes as integers (no mask): {lost}."
    )


def semantic(report: Report) -> str:
    """Targets for photographs with several labels, a table a code length."""
    labels, parts = report["labels"], []
    for bits in next(iter(report["targets"].values())):
        rows = []
        for name, by_bits in report["targets"].items():
            row = by_bits[bits]
            others = f"{row['irrelevant']:.3f} ± {row['irrelevant_spread']:.3f}"
            cells = [f"{row['relevant']:.3f}", others, f"{row['correlation']:.3f}", f"{row['target_map']:.4f}"]
            rows.append([name, *cells, cell(row["learned"])])
        head = ["relevant pairs", "other pairs", "correlation", "target itself, mAP", "learned, mAP"]
        parts.append(f"{bits} bits:\n\n" + table(["target", *head], rows))
    return (
        f"{report['convention']}. {labels['labels_used']} labels on the training photographs, "
        f"{labels['labels_per_photograph']:.2f} a photograph; {labels['relevant_share']:.1%} of all pairs share one. "
        "Distances as shares of the code length; *other pairs* mean ± spread; *correlation* of distance with the share "
        "of labels in common; *target itself*: a network that never errs.\n\n" + "\n\n".join(parts)
    )


def tuned_alike(report: Report) -> str:
    """Every method with the configuration it chose, a table a code length."""
    parts = []
    for bits in next(iter(report["methods"].values())):
        rows = []
        for method, by_bits in report["methods"].items():
            row = by_bits[bits]
            settings = ", ".join(f"{name} {value:g}" for name, value in row["settings"].items())
            best = max((trial["validation"] for trial in row["tried"]), default=None)
            tried = "as CSQ" if best is None else f"{best:.4f} of {len(row['tried'])}"
            cells = [f"{row['rate']:g}", settings or "-", tried, cell(row["map"]), ahead(row["ahead_of_csq"])]
            cells += [cell(row["map_all"]), ahead(row["ahead_of_csq_all"]), f"{row['distinct_codes']['mean']:.1%}"]
            rows.append([method_title(method), *cells])
        head = ["method", "rate", "setting", "validation", "mAP", "ahead of CSQ", "mAP@all", "ahead of CSQ, all"]
        parts.append(f"{bits} bits:\n\n" + table([*head, "distinct codes"], rows))
    return (
        f"{report['convention']}. Rate and setting by the mAP of the validation photographs, variants with those of "
        "CSQ; *validation*: the best mAP of so many configurations tried; *ahead*: mean difference and the half of its "
        "interval of 95 %; *distinct codes*: as a share of the photographs searched.\n\n" + "\n\n".join(parts)
    )


def ahead(found: Report) -> str:
    """A difference and half of its interval."""
    return f"{found['mean']:+.4f} ± {(found['high'] - found['low']) / 2:.4f}" if found["mean"] else "0"


def faults(report: Report | None) -> str:
    """What the tests notice of faults that are put into the code."""
    about = describe("mutants")["summary"]
    title = f"## Do the tests notice faults?\n\n`python -m experiments.mutants`: {about}"
    if report is None:
        return f"{title}\n\nNo report yet."
    listed = report["faults"]

    def counts(faults: list[Report]) -> tuple[int, int, int, int]:
        first = [fault.get("first_try") for fault in faults]
        seen = sum(bool(fault["noticed_by"]) for fault in faults)
        return len(faults), seen, first.count(True), len(faults) - first.count(None)

    rows = []
    for name in report["packages"]:
        put, seen, once, tried = counts([fault for fault in listed if fault["package"] == name])
        rows.append([f"`{name}`", f"{put}", f"{seen}", f"{once} of {tried}" if tried else ""])
    put, seen, once, tried = counts(listed)
    rate = f"{once} of {tried} ({once / tried:.1%})" if tried else ""
    rows.append(["all", f"{put}", f"{seen} ({seen / put:.1%})", rate])
    missed = [fault for fault in listed if not fault["noticed_by"]]
    lines = [f"- `{fault['package']}`: {fault['breaks']}. {fault['unnoticed']}".rstrip() for fault in missed]
    about = """A fault that no test noticed at first has had one written for its kind. The last column: of the faults
    that were written down before anybody put them in, those that the tests noticed as they were. What a run noticed is
    not put in again while fault and file stay the same; seconds are the last run's."""
    columns = ["package", "faults", "noticed", "at the first try"]
    parts = [title, heading("mutants", report), prose(about), table(columns, rows)]
    return "\n\n".join([*parts, "Not noticed:", "\n".join(lines)] if lines else parts)


SECTIONS: dict[str, tuple[str, Callable[[Report], str]]] = {
    "table1_backbones": ("Table 1: networks", networks),
    "tuned_backbone": ("Fine-tuned networks", tuned),
    "table2_methods": ("Table 2: methods", lambda report: map_table(report, "method", method_title)),
    "study_csq": ("Table 2: tuned alike", tuned_alike),
    "table3_published": ("Table 3: published figures", published),
    "table4_training_time": ("Table 4: training time", step_times),
    "fig4_fig5_cipher": ("Figs. 4 and 5: the cipher", cipher_statistics),
    "fig6_transfer": ("Fig. 6: transfer", transfer),
    "fig7_pr_curves": ("Fig. 7: precision and recall", areas),
    "encrypted_retrieval": ("Encrypted retrieval", encrypted),
    "semantic_centers": ("Photographs with several labels", semantic),
    "ablations": ("Ablations", lambda report: map_table(report, "variant")),
}
# ------------------------------------------------------------------------------------------- results.md, by question

ASKED = f"""\
# Results

Made by `{COMMAND}` from the reports in `experiments/results/`; do not edit it by hand. One question, one table; the
best of a column in bold. mAP names its convention; ± is the standard deviation over the seeds. The settings, device and
commit of every figure are on [every report](reports.md), what they mean for the paper equation by equation in
[paper notes](paper-notes.md), seconds on [performance](performance.md)."""


def results(reports: Reports, _: str = "") -> str:
    """The questions, each with what the paper says, one table and where it comes from."""
    parts = [ASKED]
    for title, experiment, answer in QUESTIONS:
        claim = f"The paper: {describe(experiment)['Paper']}" if experiment else ""
        body, stems = answer(reports)
        source = f"From {', '.join(f'`{stem}`' for stem in stems)}."
        parts.append("\n\n".join(part for part in (f"## {title}", claim, body, source) if part))
    return "\n\n".join(parts) + "\n"


SETS = {"bundled": "CIFAR-10 sample", "cifar10": "CIFAR-10", "corel5k": "Corel-5k"}


def of_experiment(reports: Reports, name: str) -> dict[str, Report]:
    """The reports of an experiment that are not only to see whether everything turns."""
    return {stem: r for stem, r in reports.items() if experiment_of(r) == name and r["scale"] != "smoke"}


def searched(report: Report) -> str:
    """What was searched, with features of which kind."""
    learn = learned(report)
    tuned = learn["tune"] == "all" or learn["backbone"].endswith(".safetensors")
    return f"{SETS.get(learn['dataset'], learn['dataset'])}, {'fine-tuned' if tuned else 'frozen'}"


def in_bold(rows: list[list[str]], values: list[list[float | None]]) -> list[list[str]]:
    """Rows whose best value of each column stands in bold."""
    best = [max((v for v in column if v is not None), default=None) for column in zip(*values, strict=True)]
    return [
        [row[0], *(f"**{c}**" if v is not None and v == b else c for c, v, b in zip(row[1:], line, best, strict=True))]
        for row, line in zip(rows, values, strict=True)
    ]


Answer = tuple[str, list[str]]


def does_transfer_help(reports: Reports) -> Answer:
    """Fig. 6 and the random start of Table 1."""
    found = of_experiment(reports, "fig6_transfer")
    parts = []
    for stem, report in found.items():
        rows = [[f"`{start}`", *(cell(v) for v in row.values())] for start, row in report["map"].items()]
        means = [[v["mean"] for v in row.values()] for row in report["map"].values()]
        head = ["start", *(f"{bits} bits" for bits in next(iter(report["map"].values())))]
        parts.append(
            f"{searched(report).partition(',')[0]}, {report['convention']}:\n\n" + table(head, in_bold(rows, means))
        )
        parts.append(f"![By epoch](images/{stem}.png)")
    return "\n\n".join(parts), list(found)


def which_network(reports: Reports) -> Answer:
    """Table 1."""
    found = of_experiment(reports, "table1_backbones")
    lengths = list(next(iter(next(iter(found.values()))["map"].values())))
    rows = []
    for report in found.values():
        for network, row in report["map"].items():
            pooled = report["map_pooled_features"].get(network)
            cells = [cell(row[bits]) if bits in row else "-" for bits in lengths]
            by = method_title(report["config"].get("method", "csq"))
            rows.append([searched(report), f"`{network}`", by, *cells, "-" if pooled is None else f"{pooled:.4f}"])
    head = ["searched", "network", "learned by", *(f"{bits} bits" for bits in lengths), "cosine of its features"]
    return f"{next(iter(found.values()))['convention']}:\n\n" + table(head, rows), list(found)


def which_method(reports: Reports) -> Answer:
    """Every comparison of methods at 64 bits."""
    found = [stem for stem in COMPARED if stem in reports]
    grids: dict[str, dict[str, Any]] = {}
    for stem in found:
        column = grids.setdefault(COMPARED[stem], {})
        for name, row in reports[stem]["map"].items():
            if column.setdefault(name, row)["64"] != row["64"]:
                raise ValueError(f"{stem}: must have {name} as the other reports of {COMPARED[stem]} do")
    names = list(dict.fromkeys(name for grid in grids.values() for name in grid))
    names.sort(key=lambda name: name in ADDED)
    values = [[grid[name]["64"]["mean"] if name in grid else None for grid in grids.values()] for name in names]
    rows = [
        [method_title(name), *("-" if v is None else f"{v:.3f}" for v in line)]
        for name, line in zip(names, values, strict=True)
    ]
    body = "mAP@1000[retrieved,expected] at 64 bits, mean of the seeds; all lengths and their spread on "
    body += "[every report](reports.md#table-2-methods), what follows from it on "
    body += "[hashing](hashing.md#what-the-comparison-says):\n\n"
    body += table(["method", *grids], in_bold(rows, values))
    return f"{body}\n\n![Precision and recall](images/hashing_methods_cifar10_tuned.png)", found


def is_csq_first(reports: Reports) -> Answer:
    """Every method tuned alike, by set and code length."""
    found = of_experiment(reports, "study_csq")
    columns = [
        (f"{searched(report)}, {bits} bits", bits, report["methods"])
        for report in found.values()
        for bits in next(iter(report["methods"].values()))
    ]
    names = sorted(
        dict.fromkeys(name for *_, grid in columns for name in grid), key=lambda name: name.startswith("csq_")
    )
    values = [
        [grid[name][bits]["map"]["mean"] if name in grid else None for _, bits, grid in columns] for name in names
    ]
    rows = [
        [
            method_title(name),
            *(
                f"{cell(grid[name][bits]['map'])} ({ahead(grid[name][bits]['ahead_of_csq'])})" if name in grid else "-"
                for _, bits, grid in columns
            ),
        ]
        for name in names
    ]
    body = "mAP, mean ± standard deviation of five seeds, and in brackets how far ahead of CSQ ± half of the interval "
    body += "of 95 %. Every method chose among at most nine configurations by validation photographs; cut-offs and "
    body += "what was chosen are on [every report](reports.md#table-2-tuned-alike), what follows on "
    body += "[hashing](hashing.md#is-csq-first):\n\n"
    return body + table(["method", *(title for title, *_ in columns)], in_bold(rows, values)), list(found)


def how_many_bits(reports: Reports) -> Answer:
    """Fig. 7."""
    found = of_experiment(reports, "fig7_pr_curves")
    lengths = list(next(iter(found.values()))["bits"])
    rows = []
    for report in found.values():
        for name in (name for name in next(iter(report["bits"].values())) if name.startswith("csq")):
            line = [report["bits"][bits][name]["area"] for bits in lengths]
            rows.append([f"{searched(report)}: {name.replace('_', ' ')}", *(f"{v:.4f}" for v in line)])
    stem = list(found)[-1]
    head = ["searched: codes", *(f"{bits} bits" for bits in lengths)]
    body = "Area under the curve of mean precision and recall over cut-offs:\n\n" + table(head, rows)
    return f"{body}\n\n![Precision and recall](images/{stem}.png)", list(found)


def what_encryption_costs(reports: Reports) -> Answer:
    """mAP in the clear and encrypted, and what a query takes."""
    found = of_experiment(reports, "encrypted_retrieval")
    schemes = list(
        dict.fromkeys(s for r in found.values() for s in r["bits"]["64"] if "map" in str(r["bits"]["64"][s]))
    )
    schemes = [s for s in schemes if isinstance(next(iter(found.values()))["bits"]["64"].get(s), Mapping)]
    rows = []
    for report in found.values():
        at = report["bits"]["64"]
        rows.append(
            [searched(report), f"{report['database']:,}", *(f"{at[s]['map']:.4f}" if s in at else "-" for s in schemes)]
        )
    largest = max(found.values(), key=lambda report: report["database"])
    costs = [
        [
            s,
            f"{1e3 * row['query_seconds']:,.1f}",
            f"{row['index_bytes_per_code']:,.0f}",
            f"{row.get('reply_bytes', 0):,}",
        ]
        for s, row in ((s, largest["bits"]["64"][s]) for s in schemes if s in largest["bits"]["64"])
    ]
    return (
        f"{largest['convention']} at 64 bits; `bitsliced` and `packed` rank as the plaintext codes do:\n\n"
        + table(["searched", "codes", *schemes], rows)
        + f"\n\nA query against {largest['database']:,} codes under a {largest['modulus_bits']}-bit key:\n\n"
        + table(["scheme", "ms", "index, bytes a code", "reply, bytes"], costs)
    ), list(found)


def what_it_leaks(reports: Reports) -> Answer:
    """The attacks, before and after."""
    stem = "attacks_protocol"
    rows = []
    for name, found in reports[stem]["attacks"].items():
        for key in (key for key in found if key.endswith("_before")):
            after = found.get(key.removesuffix("_before") + "_after")
            rows.append(
                [
                    name.replace("_", " "),
                    key.removesuffix("_before").replace("_", " "),
                    number(found[key]),
                    number(after),
                ]
            )
    body = "What each attack reached against the rule that it once broke, and against the one that stands; what "
    body += "remains, and who learns what together with whom, is on [threat model](threat-model.md):\n\n"
    return body + table(["attack", "what it reached", "before", "now"], rows), [stem]


def several_labels_a_photograph(reports: Reports) -> Answer:
    """The targets of photographs with several labels."""
    stem = "semantic_centers_cpu"
    targets = reports[stem]["targets"]
    lengths = list(next(iter(targets.values())))
    values = [
        [
            row[bits][which] if which == "target_map" else row[bits]["learned"]["mean"]
            for bits in lengths
            for which in ("target_map", "learned")
        ]
        for row in targets.values()
    ]
    rows = [[name, *(f"{v:.3f}" for v in line)] for name, line in zip(targets, values, strict=True)]
    head = [f"{bits} bits, {which}" for bits in lengths for which in ("a network that never errs", "learned")]
    return f"Corel-5k, {reports[stem]['convention']}:\n\n" + table(["target", *head], in_bold(rows, values)), [stem]


def what_matters(reports: Reports) -> Answer:
    """The ablations at the longest code."""
    found = of_experiment(reports, "ablations")
    names = list(dict.fromkeys(name for report in found.values() for name in report["map"]))
    values = [
        [r["map"][n]["64"]["mean"] if n in r["map"] and "64" in r["map"][n] else None for r in found.values()]
        for n in names
    ]
    rows = [
        [name, *("-" if v is None else cell(r["map"][name]["64"]) for v, r in zip(line, found.values(), strict=True))]
        for name, line in zip(names, values, strict=True)
    ]
    head = ["variant", *(searched(report) for report in found.values())]
    return f"{next(iter(found.values()))['convention']} at 64 bits:\n\n" + table(head, in_bold(rows, values)), list(
        found
    )


def is_the_cipher_good(reports: Reports) -> Answer:
    """Figs. 4 and 5."""
    found = of_experiment(reports, "fig4_fig5_cipher")
    body = "\n\n".join(cipher_statistics(report) for report in found.values())
    return f"{body}\n\nWhat such figures cannot say, and which attacks work, is on [cipher](cipher.md).", list(found)


def how_long_a_step(reports: Reports) -> Answer:
    """Table 4."""
    found = of_experiment(reports, "table4_training_time")
    return "\n\n".join(step_times(report) for report in found.values()), list(found)


QUESTIONS: tuple[tuple[str, str, Callable[[Reports], Answer]], ...] = (
    ("Does transfer help?", "fig6_transfer", does_transfer_help),
    ("Which network?", "table1_backbones", which_network),
    ("Which method?", "table2_methods", which_method),
    ("Is CSQ first?", "study_csq", is_csq_first),
    ("How many bits?", "fig7_pr_curves", how_many_bits),
    ("What does encryption cost?", "encrypted_retrieval", what_encryption_costs),
    ("What does it leak?", "", what_it_leaks),
    ("Which centers for photographs with several labels?", "semantic_centers", several_labels_a_photograph),
    ("What matters in CSQ?", "ablations", what_matters),
    ("How long is a training step?", "table4_training_time", how_long_a_step),
    ("Is the image cipher what the paper says?", "fig4_fig5_cipher", is_the_cipher_good),
)


def draw(reports: Reports, folder: Path) -> None:
    """The curves of Figs. 6 and 7, and those of every method, where a page shows them."""
    import matplotlib

    from experiments.table2_methods import draw_curves

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    for stem, report in reports.items():
        if stem in CURVES:
            draw_curves(report, folder / f"{stem}.png")
        if experiment_of(report) not in DRAWN or report["scale"] == "smoke":
            continue
        if "validation_by_epoch" in report:
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
        else:
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


PLACE = re.compile(r"<!--(?:(min|max|mean) )?([\w-]+):([^;>]+);([^>]*?)-->(.*?)<!--\.-->")
REDUCE: dict[str, Callable[[list[Any]], Any]] = {"min": min, "max": max, "mean": statistics.mean}


def with_figures(reports: Reports, text: str) -> str:
    """A page with its figures taken from the reports, in places such as `<!--bench_metrics:map_all_s;.2f-->`."""

    def figure(match: re.Match[str]) -> str:
        reduce, stem, path, form, old = match.groups()
        if stem not in reports:
            new = "not run"
        else:
            values = values_at(reports[stem], path.split("/"))
            if reduce is None and len(values) != 1:
                raise ValueError(f"{match[0]}: must name one value or say min, max or mean, got {len(values)}")
            new = format(REDUCE[reduce](values) if reduce else values[0], form)
        return match[0].removesuffix(f"{old}<!--.-->") + f"{new}<!--.-->"

    return PLACE.sub(figure, text)


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
        raise ValueError(f"path: must exist in the report, got {step!r} where there are {sorted(tree)}")
    return values_at(tree[step], rest)


# ----------------------------------------------------------------------------------------------- hashing.md, metrics.md


def hashing(reports: Reports, text: str) -> str:
    """Hash centers, linear heads, kinds that come later, fine-tuning below the head, the figures of the comparison."""
    sections = {
        "centers": centers(reports["hash_centers"]),
        "heads": linear_heads(reports["heads"]),
        "later": later_kinds(reports["later_kinds"]),
        "tuned": tuned_heads(reports.get("tuned_heads")),
    }
    return with_figures(reports, filled(text, sections))


LABEL_FREE = {
    "cosine of features": "cosine of the features, no hashing",
    "general head, 64 bits": "`general_head`",
    "ITQ, 64 bits": "ITQ: `fit_label_free(steps=0)`",
    "ITQ on whitened features, 64 bits": "the same with the research whitening",
    "neighbors, features as they are, 64 bits": "`fit_label_free` without whitening",
    "neighbors, 64 bits": "**`fit_label_free`**",
    "neighbors, 128 bits": "the same, 128 bits",
    "neighbors, 32 bits": "the same, 32 bits",
    "neighbors, 16 bits": "the same, 16 bits",
}
FROM_LABELS = {
    "cosine of features": "cosine of the features, no hashing",
    "neighbors, 64 bits": "`fit_label_free`",
    "CSQ alone": "CSQ alone (`label_free_bits=0`)",
    "CSQ, half label-free (default)": "**`fit_csq_head`**: half of the bits label-free",
    "CSQ, three quarters label-free": "three quarters of them",
    "neighbors, 128 bits": "`fit_label_free`, 128 bits",
    "CSQ, half label-free, 128 bits": "`fit_csq_head`, 128 bits",
    "CSQ, three quarters label-free, 128 bits": "three quarters of them, 128 bits",
}


def linear_heads(report: Report) -> str:
    """mAP and right ones among the first five of every head, on photographs that no fit has seen."""
    caltech, imagenette = report["caltech101"], report["imagenette"]
    sets = {**caltech["label_free"], "imagenette, 2,000": imagenette["label_free"]}

    def pair(row: Report, kind: str = "") -> str:
        return f"{row[f'{kind}map']:.3f}, {row[f'{kind}p_at_5']:.3f}"

    free = [[title, *(pair(rows[name]) for rows in sets.values())] for name, title in LABEL_FREE.items()]
    (known,) = (rows for name, rows in caltech.items() if name.startswith("learned"))
    (named,) = (rows for name, rows in imagenette.items() if name.startswith("learned"))
    learned = []
    for name, title in FROM_LABELS.items():
        row, other = known[name], named[name]
        cells = [pair(row), f"{row['distinct']:,.0f}", pair(row, "new_"), pair(other), f"{other['distinct']:,.0f}"]
        learned.append([title, *cells])
    header = ["head", "14 kinds of 30 to 45", "distinct codes", "six kinds not learned"]
    return f"""{report["convention"]}, and right ones among the first five; {report["seeds"]} choices of photographs, \
of imagenette one.

{table(["label-free head", *sets], free)}

{table([*header, "imagenette, 2,000", "distinct codes"], learned)}"""


def later_kinds(report: Report) -> str:
    """What later kinds lose, what a new head brings back, and what is measured of it."""
    config, heads = report["config"], report["heads"]
    columns = ("before", "later", "refitted", "refitted_before")

    def pair(row: Report, when: str) -> str:
        return f"{row['map'][when]:.3f}, {row['p_at_5'][when]:.3f}" if when in row["map"] else "-"

    def least_and_most(values: list[float]) -> str:
        return f"{min(values):.2f} to {max(values):.2f}"

    found = [[name, *(pair(row, when) for when in columns)] for name, row in heads.items()]
    seen = [
        [name, *(least_and_most(row["nearness"][case]) for case in ("same", "few", "other", "few_other"))]
        for name, row in heads.items()
        if "nearness" in row
    ]
    header = ["head", "kinds that were there", "later kinds", "later kinds, refitted", "the others, refitted"]
    cases = ["kinds that were there", "thirty of them", "later kinds", "thirty of them"]
    known, seeds = config["known"], config["seeds"]
    return f"""{report["convention"]}, and right ones among the first five; {known} kinds that were there, \
{config["kinds"] - known} that came later, {seeds} choices of photographs.

{table(header, found)}

Nearness of new photographs as a share of that of earlier ones, over the choices:

{table(["head", *cases], seen)}"""


def tuned_heads(report: Report | None) -> str:
    """`jcbir owner train --tune`, on the photographs that it keeps out."""
    if report is None:
        return "Not measured."
    at, config = made(report), report["config"]
    rows, first = [], next(iter(report["parts"].values()))
    for part, found in report["parts"].items():
        for name in ("trained", "label-free"):
            figures = found["figures"][name]
            cells = [f"{figures[key]:.3f}" for key in ("map", "p@5", "top-1")] + [str(figures["distinct codes"])]
            alone = (
                [f"{found['processor_seconds']:,.0f}", f"{found['megabytes']:.1f}"] if name == "trained" else ["", ""]
            )
            rows.append([f"`--tune {part}`" if name == "trained" else "", name, *cells, *alone])
    said = f"""
        {first["photographs"]} photographs of {first["classes"]} kinds to learn from, {first["kept_out"]} kept out;
        {config["epochs"]} epochs, {config["size"]} px, {at["cores"]} cores, load average {at["load_at_start"]:.1f}."""
    header = ["", "head", "mAP", "p@5", "top-1", "distinct codes", "processor seconds", "file, MB"]
    return f"{prose(said)}\n\n{table(header, rows)}"


def centers(report: Report) -> str:
    """Minimum distances of hash centers."""
    rows = []
    for shape, row in report["centers"].items():
        drawn = f"{row['random_best_minimum']}" + (" (one table)" if row["random_draws"] == 1 else "")
        coded, known = row["coded"], row["published_minimum"]
        cells = [shape.replace("x", " x "), "-" if known is None else str(known)]
        cells += [f"{row['paper_rule']['minimum']}", drawn, f"**{coded['minimum']}**", f"{coded['mean']:.2f}"]
        rows.append(cells)
    header = ["classes x bits", "files of the official CSQ code", "the paper's rule", "best of 20 random tables"]
    rows.sort(key=lambda cells: [int(part) for part in cells[0].split(" x ")])
    shape, row = max(report["centers"].items(), key=lambda item: int(item[0].split("x")[0]))
    took = f"{shape.replace('x', ' x ')}: {row['coded_seconds']:.1f} s to make the table and compare all pairs."
    return table([*header, "`separated_centers`", "its mean"], rows) + f"\n\n{took}"


def comparison(stem: str, report: Report) -> str:
    """One run of `experiments.table2_methods`: what, the table, and who is where."""
    learn, lengths = learned(report), list(next(iter(report["map"].values())))
    best = {length: max(row[length]["mean"] for row in report["map"].values()) for length in lengths}
    rows = []
    for method, row in report["map"].items():
        marks = ["**" if row[length]["mean"] == best[length] else "" for length in lengths]
        cells = [f"{mark}{cell(row[length])}{mark}" for mark, length in zip(marks, lengths, strict=True)]
        rows.append([method_title(method), *cells])
    how = "a two-layer head on frozen features"
    if learn["tune"] == "all":
        how = "all layers trained, shallow methods fitted on the features that CSQ fine-tuned"
    # Reports made before environments were recorded name neither device nor commit.
    at = report.get("environment")
    where = f", {at['device']}, commit {at['commit']}{', DIRTY' * at['dirty']}" if at else ""
    about = (
        f"{report['protocol']}. Backbone `{learn['backbone']}` at {learn['size']} px, {how}; "
        f"{learn['epochs']} epochs, {learn['seeds']} seed(s). {report['convention']}, mean ± standard deviation; "
        f"`experiments/results/{stem}.json`, {report['seconds'] / 60:.0f} minutes{where}."
    )
    verdicts = "\n".join(f"- {verdict(report, length)}" for length in lengths)
    return f"{about}\n\n{table(['method', *(f'{length} bits' for length in lengths)], rows)}\n\n{verdicts}"


def verdict(report: Report, length: str) -> str:
    """Where central similarity stands, and how far behind the best shallow methods are."""
    cells = {method: row[length] for method, row in report["map"].items()}
    order = sorted(cells, key=lambda method: -cells[method]["mean"])
    parts = [f"{length} bits: {' > '.join(method_title(method) for method in order[:4])}."]
    if "csq" in cells:
        first, csq = cells[order[0]], cells["csq"]
        behind, spread = first["mean"] - csq["mean"], ((first["spread"] or 0) ** 2 + (csq["spread"] or 0) ** 2) ** 0.5
        place, within = order.index("csq") + 1, "within" if behind <= spread else "outside"
        parts.append(
            "CSQ is first."
            if place == 1
            else f"CSQ is number {place}, {behind:.4f} behind: {within} the pair's standard deviation {spread:.4f}."
        )
        for names, kind in ((("itq_cca", "ksh", "sdh", "fsdh", "bre"), "supervised"), (("lsh", "itq"), "unsupervised")):
            found = [method for method in order if method in names]
            if found:
                gap = csq["mean"] - cells[found[0]]["mean"]
                where = f"{abs(gap):.4f} {'below' if gap > 0 else 'above'} CSQ"
                parts.append(f"Best {kind} shallow method: {method_title(found[0])}, {where}.")
    return " ".join(parts)


def metrics(reports: Reports, text: str) -> str:
    """mAP@100 of published codes by every convention, and the speed of the metrics."""
    report = reports["bench_metrics"]
    ties, names, found = ("expected", "index", "best", "worst"), ("retrieved", "relevant", "capped"), report["hmdb51"]
    codes = table(["", *ties], [[f"`{n}`", *(f"{found[f'mAP@100[{n},{t}]']:.4f}" for t in ties)] for n in names])
    sizes, at, ours = report["sizes"], made(report), report["map_all_s"]
    # Older reports held them under the name that is now that of the whole run's seconds.
    seconds = report["others_s"] if "others_s" in report else report["seconds"]
    rows = [
        ["tallies, ties `expected`", f"{ours:.2f}", "1"],
        ["ties by `index`", f"{seconds['index_ties']:.2f}", f"{seconds['index_ties'] / ours:.1f}"],
        ["FAISS + NumPy", f"{seconds['faiss_numpy']:.2f}", f"{report['ratio_vs_faiss_numpy']:.1f}"],
        ["the usual NumPy loop", f"{seconds['numpy_loop']:.2f}", f"{report['ratio_vs_numpy_loop']:.1f}"],
    ]
    versions = ", ".join(f"{name} {at['versions'][name]}" for name in ("jax", "numpy", "faiss-cpu"))
    speed = (
        f"{sizes['queries']:,} queries x {sizes['items']:,} codes x {sizes['bits']} bits, {at['cores']} cores, "
        f"{versions}; load average {at['load']:.1f}, so read the ratios. "
        f"Tallies cost {report['map_all_processor_s']:.2f} s of processor time over all threads.\n\n"
        + table(["mAP@all", "seconds", "times ours"], rows)
    )
    return filled(text, {"published": codes, "speed": speed})


# ------------------------------------------------------------------------------------------------------------ cipher.md

STAGES = {
    "key stream": "keystream_mb_s",
    "modular diffusion": "diffusion_mb_s",
    "scrambling": "scrambling_mb_s",
    "GF(257) diffusion": "field_mb_s",
    "modular diffusion twice": "repeated_mb_s",
    "encrypt": "encrypt_mb_s",
    "decrypt": "decrypt_mb_s",
    "encrypt, images and seeds on the device": "encrypt_on_device_mb_s",
    "decrypt, images and seeds on the device": "decrypt_on_device_mb_s",
    "AES-256-GCM": "aes_256_gcm_mb_s",
    "ChaCha20-Poly1305": "chacha20_poly1305_mb_s",
}


def cipher(reports: Reports, text: str) -> str:
    """The speed of the cipher on a host and on a device, and with another scrambling."""
    sections = {
        name: cipher_speed(reports[f"bench_cipher{of}"]) for name, of in {"host": "", "accelerator": "_gpu"}.items()
    }
    return filled(text, sections | {"scrambling": scrambling_speed(reports["bench_scrambling"])})


def cipher_speed(report: Report) -> str:
    """One line a stage, one column a batch."""
    runs = report["runs"].values()
    rows = [
        [name, *(f"{run[key]:.0f}" if key in run else "-" for run in runs)]
        for name, key in STAGES.items()
        if any(key in run for run in runs)
    ]
    return table(["MB/s", *(" x ".join(map(str, run["shape"])) for run in runs)], rows)


def scrambling_speed(report: Report) -> str:
    """One line a scrambling: what the whole cipher takes with it."""
    at, runs = made(report), report["runs"]
    rows = [
        [name, *(f"{run['mb_s'][name]:.0f} ({run['ratio'][name]:.2f})" for run in runs)] for name in runs[0]["mb_s"]
    ]
    header = ["MB/s (ratio to `sort`)", *(" x ".join(map(str, run["shape"])) for run in runs)]
    about = (
        f"On {at['processor']}, load average {at['load_at_start']:.1f} at the start and {at['load']:.1f} at the end:"
    )
    return f"{about}\n\n{table(header, rows)}"


# ------------------------------------------------------------------------------------------------------- performance.md

OPERATIONS = ("encrypt by owner", "encrypt", "decrypt", "add")
RATIOS = ("decrypt_ratio_vs_gmpy2", "encrypt_ratio_vs_gmpy2", "decrypt_ratio_vs_phe", "encrypt_ratio_vs_phe")
COLUMNS = ("scheme", "build s", "trapdoor ms", "server ms", "open and rank ms", "query ms", "index B/code", "reply kB")


def performance(reports: Reports, text: str) -> str:
    """Paillier and private search on a core, and on an accelerator where there is a report."""
    report, gpu = reports["bench_paillier_cpu"], reports.get("bench_paillier_gpu")
    at, config = made(report), report["config"]
    versions = ", ".join(f"{package} {version}" for package, version in at["versions"].items())
    unit = "CPU seconds of one pinned core" if config["clock"] == "cpu" else "wall seconds"
    peers = report["peers"]
    shown = peers if isinstance(peers, str) else ", ".join(f"{peer}: {state}" for peer, state in peers.items())
    processor = at["processor"] + ", AVX-512" * at["avx512"]
    machine = f"""Measured on {at["date"]}: {processor}, {at["system"]}, Python
{at["python"]}; {versions}.
Peers: {shown}.
Figures are {unit}, medians of {config["rounds"]} interleaved round(s), compilation left out. Load average
{at["load_at_start"]:.1f} at the start and {at["load"]:.1f} at the end: trust the ratios of one
table, not the digits. Every distance was checked against a popcount of Python integers: **{exactness(report)}**.
Peak memory of the process, {max(config["counts"]):,}-code queries included: {report["peak_rss_mb"]:,.0f} MB."""
    sections = {
        "machine": machine,
        "operations": operation_tables(report),
        "queries": query_tables(report),
        "BFV": against_bfv(report),
        "predictions": predictions(report),
        "accelerator": accelerator(gpu),
        "schemes": four_schemes(reports["bench_search"]),
    }
    return filled(text, sections)


def exactness(report: Report) -> str:
    return "all exact" if report["exact"] else "NOT all exact"


def operation_tables(report: Report) -> str:
    parts, sizes = [], list(report["operations"])
    for size in sizes:
        parts.append(f"{size}-bit n:\n\n{operation_table(report, size)}")
    rows = [[f"`{name}`", *(number(report[name].get(size)) for size in sizes)] for name in RATIOS]
    return "\n\n".join([*parts, table(["ratio", *(f"{size} bits" for size in sizes)], rows)])


def operation_table(report: Report, size: str) -> str:
    rows = [[name, *(number(cells.get(o)) for o in OPERATIONS)] for name, cells in report["operations"][size].items()]
    return table(["", *OPERATIONS], rows)


def query_tables(report: Report) -> str:
    parts = []
    for size, count in sorted({(row["modulus_bits"], row["count"]) for row in report["queries"]}):
        chosen = [row for row in report["queries"] if (row["modulus_bits"], row["count"]) == (size, count)]
        cells = table(["", *COLUMNS], [query_cells(row) for row in chosen])
        parts.append(f"{count:,} codes of {report['config']['bits']} bits, {size}-bit n:\n\n{cells}")
    return "\n\n".join(parts)


def query_cells(row: Report) -> list[str]:
    if "query_s" not in row:
        return [row["contender"], row.get("note", "-"), *([""] * (len(COLUMNS) - 1))]
    return [
        row["contender"] + (" *" if row.get("extrapolated") else ""),
        scheme_name(row),
        number(row["build_s"]),
        *(number(1000 * row[f"{stage}_s"]) for stage in ("trapdoor", "score", "open")),
        f"**{number(1000 * row['query_s'])}**",
        number(row["index_bytes"] / row["count"]),
        number(row["reply_bytes"] / 1000),
    ]


def scheme_name(row: Report) -> str:
    base = f", base {row['base']}" if row["scheme"] == "packed" and "base" in row else ""
    return row["scheme"] + base + (f" +{row['tables']}" if row.get("tables") else "")


def against_bfv(report: Report) -> str:
    """Where BFV wins and where Paillier does, in the figures of this run."""
    largest, ours = max(report["config"]["counts"]), f"jcbir {report['config']['search_engines'][0]}"

    def quickest(contender: str, scheme: str, size: str) -> Report:
        wanted = (contender, scheme, int(size), largest)
        rows = [r for r in report["queries"] if (r["contender"], r["scheme"], r["modulus_bits"], r["count"]) == wanted]
        return min(rows, key=lambda row: row["query_s"])

    rows = []
    for scheme, sizes in report[f"query_ratio_vs_tenseal_{largest // 1000}k"].items():
        for size, ratio in sizes.items():
            mine, theirs = (quickest(contender, scheme, size) for contender in (ours, "TenSEAL BFV"))
            ratios = (ratio, *(theirs[name] / mine[name] for name in ("index_bytes", "reply_bytes")))
            rows.append([scheme, f"{size} bits", *(f"{value:.3g}x" for value in ratios)])
    if not rows:
        return "TenSEAL: not installed in this run."
    header = ["scheme", "n", "query, BFV / ours", "index bytes, BFV / ours", "reply bytes, BFV / ours"]
    return f"{largest:,} codes:\n\n{table(header, rows)}"


def predictions(report: Report) -> str:
    rows = []
    for row in (row for row in report["queries"] if "prediction_error" in row):
        error = row["prediction_error"]
        cells = [row["contender"], scheme_name(row), str(row["modulus_bits"]), f"{row['count']:,}"]
        rows.append([*cells, f"{error['build']:+.0%}", f"{error['query']:+.0%}"])
    return table(["", "scheme", "n", "codes", "build", "query"], rows)


def accelerator(gpu: Report | None) -> str:
    if gpu is None:
        return "Not measured."
    at = made(gpu)
    parts = [
        f"""{at["device"]}, on {at["date"]}. Wall seconds, host included ({at["processor"]}, {at["cores"]} cores,
shared with other work: load average {at["load_at_start"]:.0f} at the start), compilation left out. Queries by the
engine `jax` alone. Every distance checked: **{exactness(gpu)}**. `gmpy2` and python-paillier used one core of that
host."""
    ]
    parts += [f"{size}-bit n, milliseconds each:\n\n{operation_table(gpu, size)}" for size in gpu["operations"]]
    if "curve" in gpu:
        header = ["batch", *(f"{o}, {size} bits" for size in gpu["curve"] for o in ("encrypt by owner", "decrypt"))]
        rows = [
            [f"{int(n):,}", *(number(c[n][o]) for c in gpu["curve"].values() for o in ("encrypt by owner", "decrypt"))]
            for n in next(iter(gpu["curve"].values()))
        ]
        parts.append("By batch size, milliseconds each, conversion of rows included:\n\n" + table(header, rows))
    rows = []
    for row in (row for row in gpu["queries"] if "query_s" in row):
        _, scheme, *cells = query_cells(row)
        star = " *" if row.get("extrapolated") else ""
        rows.append([scheme + star, str(row["modulus_bits"]), f"{row['count']:,}", *cells])
    return "\n\n".join([*parts, table(["scheme", "n", "codes", *COLUMNS[1:]], rows)])


def four_schemes(report: Report) -> str:
    """All schemes and BFV in one run, and the lattice scheme's ratios to each."""
    at, config, start = made(report), report["config"], report["cold_start"]
    peers = ", ".join(f"{peer}: {state}" for peer, state in report["peers"].items())
    parts = [
        prose(
            f"""{at["date"]}: {at["processor"]}, CPU seconds of one pinned core, medians of {config["rounds"]}
            interleaved rounds. Load average {at["load_at_start"]:.1f} at the start and {at["load"]:.1f} at the end, on
            {os_cores(at)} cores: trust the ratios. Paillier with a {config["modulus_bits"]}-bit n. Peers: {peers}.
            Every distance: **{exactness(report)}**."""
        )
    ]
    for count in config["counts"]:
        rows = [query_cells(row) for row in report["queries"] if row["count"] == count]
        parts.append(f"{count:,} codes of {config['bits']} bits:\n\n{table(['', *COLUMNS], rows)}")
    names = sorted({name.rpartition("_")[0] for name in report if "ratio_lattice" in name})
    sizes = [f"{count // 1000}k" for count in config["counts"] if f"{names[0]}_{count // 1000}k" in report]
    rows = [[f"`{name}`", *(number(report[f"{name}_{size}"]) for size in sizes)] for name in names]
    parts.append("The lattice's time over theirs:\n\n" + table(["", *sizes], rows))
    parts.append(
        prose(
            f"""A server's cold start with {start["count"]:,} codes takes {start["total_s"]:.1f} CPU seconds until the
            first query is scored, nothing compiled before: {start["import_s"]:.1f} to import,
            {start["prepare_s"]:.1f} to unpack the index, {start["first_query_s"]:.1f} for the query, most of them to
            compile."""
        )
    )
    two = report.get("two_workers", {})
    if two.get("wall_s") is not None:
        parts.append(
            prose(
                f"""Two workers, each on a core with half of {two["count"]:,} codes, score a query in
                {1000 * two["wall_s"]:.0f} ms on the wall, {1000 * two["cpu_s"]:.0f} ms of the slower one's CPU."""
            )
        )
    return "\n\n".join(parts)


def os_cores(at: Report) -> str:
    """How many the machine has; the benchmark is pinned to one of them."""
    return at["device"].rpartition(", ")[2].split()[0]


def lattice(reports: Reports, text: str) -> str:
    """What the lattice scheme costs, by its rows of the comparison."""
    report = reports["bench_search"]
    at, rows = made(report), []
    for row in (row for row in report["queries"] if row["scheme"] == "lattice"):
        times = (f"{1000 * row[f'{stage}_s']:.3g} ms" for stage in ("trapdoor", "score", "open"))
        sizes = (f"{row[f'{part}_bytes'] / 1e6:.3g} MB" for part in ("index", "hint", "trapdoor", "reply"))
        rows.append([f"{row['count']:,}", f"{row['build_s']:.3g} s", f"{row['prepare_s']:.2g} s", *times, *sizes])
    stages = ["build", "server starts", "query", "server", "open and rank"]
    header = ["images", *stages, "index", "hints", "query", "reply"]
    about = prose(
        f"""One core of {at["processor"]}, {at["date"]}, CPU time, medians, codes of {report["config"]["bits"]} bits,
        every distance exact. Load average {at["load"]:.0f} on {os_cores(at)} cores: pessimistic where that is above the
        number. The [same run](performance.md#four-schemes-and-bfv) has the other schemes and BFV."""
    )
    return filled(text, {"cost": f"{about}\n\n{table(header, rows)}"})


# --------------------------------------------------------------------------------------------------------- backbones.md

JOBS = {"infer": "inference", "train": "training step"}


def backbones(reports: Reports, text: str) -> str:
    """The ImageNet ResNet50: accuracy, parity, speed."""
    check, bench, layers = (reports[name] for name in ("check_backbone", "bench_backbone", "backbone_layers"))
    at = made(bench)
    clean = "official ILSVRC2012 validation images: no ImageNet network was trained on them"
    mixed = "imagenette's own validation split: mostly ImageNet *training* images"
    photographs = [
        [clean, str(check["photographs"]), f"{check['top1']:.3f}", f"{check['top5']:.3f}"],
        [mixed, f"{check['photographs_val']:,}", f"{check['top1_val']:.3f}", f"{check['top5_val']:.3f}"],
    ]
    half = f"{difference(check['half_logit_max_abs_difference'])}; same top-1 class in "
    half += f"{100 * check['half_same_top1']:.1f} %"
    haiku = "with `hk.nets.ResNet50`, random weights and statistics, 64 and 224 px"
    agreement = [
        ["with PyTorch, the same weights, 8 photographs", difference(check["parity_torch_max_abs"])],
        [haiku, difference(check["parity_haiku_max_abs"])],
        [f"float16 kernels against float32, logits up to {check['logit_max_abs']:.0f}", half],
    ]
    accuracy = f"""Weights `{check["weights"]}`:

{table(["photographs", "number", "top-1", "top-5"], photographs)}

The second row is the flattered one: the network has seen those photographs. Pooled features, cosine ranking, 150
queries on 1,000 photographs: {check["feature_map_convention"]} {check["feature_map"]:.3f}.

{table(["agreement", "largest absolute difference of logits"], agreement)}"""
    contenders = {"jcbir": "jcbir", "XLA's convolutions": "xla_convolutions", "PyTorch": "torch"}
    contenders["compiled"] = "torch_compiled"
    rows = [
        [*job_cells(row, contenders.values()), *(f"{row[f'{kind}ratio_vs_torch']:.2f}" for kind in ("", "cpu_"))]
        for row in bench["rows"]
    ]
    speed = f"""{at.get("processor", at["device"])}, {at["cores"]} cores, {at["architecture"]}; \
jax {at["versions"]["jax"]}, PyTorch {at["versions"]["torch"]}.

{table(["job", "batch", "px", *contenders, "ratio", "ratio, processor time"], rows)}

Worst ratio: inference {bench["infer_ratio_vs_torch"]:.2f} ({bench["infer_cpu_ratio_vs_torch"]:.2f} in processor time),
training {bench["train_ratio_vs_torch"]:.2f} ({bench["train_cpu_ratio_vs_torch"]:.2f}).
Peak memory of the largest training step: jcbir {bench["peak_mb"]["jcbir"]:,.0f} MB, PyTorch \
{bench["peak_mb"]["torch"]:,.0f} MB."""
    sections = {"photographs": accuracy, "speed": speed, "layers": layer_table(layers)}
    sections["files"] = from_files(reports.get("bench_photos"))
    return filled(text, sections | {"accelerator": backbones_on_gpu(reports.get("bench_backbone_gpu"))})


def from_files(report: Report | None) -> str:
    """Photographs a second from encoded file to features."""
    if report is None:
        return "Not measured."
    at, config, sizes = made(report), report["config"], report["megabytes"]
    contenders = list(report["rows"][0]["rates"])
    rows = []
    for row in report["rows"]:
        rates = [row["rates"][name] for name in contenders]
        cells = [f"{rate['per_second']:.1f} ({rate['per_processor_second']:.1f})" for rate in rates]
        ours, *others = (rate["per_processor_second"] for rate in rates)
        cells += [f"{ours / other:.2f}" for other in others]
        rows.append([row["photographs"], str(row["size"]), str(row["processes"]), *cells])
    versions = ", ".join(f"{name} {version}" for name, version in at["versions"].items())
    said = f"""
        {at["cores"]} cores, load average {at["load_at_start"]:.1f} at the start; {versions}. `small`: {config["small"]}
        JPEGs of 240 x 180 pixels, {1000 * sizes["small"]:.0f} kB each; `camera`: {config["camera"]} of 4000 x 3000,
        {sizes["camera"]:.1f} MB. Batches of {report["batch"]}, medians of {config["repeats"]} turns."""
    header = ["photographs", "px", "decoding processes", *contenders, *(f"to {name}" for name in contenders[1:])]
    return f"{prose(said)}\n\n{table(header, rows)}"


def backbones_on_gpu(gpu: Report | None) -> str:
    """The same on a GPU, where wall time is the only clock."""
    if gpu is None:
        return "Not measured."
    at, peak = made(gpu), gpu["peak_mb"] or {}
    rows = [
        [
            *job_cells(row, ("jcbir", "torch", "torch_compiled")),
            f"{row['ratio_vs_torch']:.2f}",
            f"{100 * row['share_of_peak']:.0f} %",
        ]
        for row in gpu["rows"]
    ]
    header = ["job", "batch", "px", "jcbir", "PyTorch", "compiled", "ratio", "share of the card's peak"]
    # The ratio is to the faster of the two; the other one tells what compiling is worth.
    eager = ", ".join(f"{JOBS[r['job']]} {r['torch']['s'] / r['jcbir']['s']:.2f}" for r in gpu["rows"])
    ours, theirs = (f"{peak[name]:,.0f} MB" if name in peak else "not measured" for name in ("jcbir", "torch"))
    return f"""One {at["device"]}, jax {at["versions"]["jax"]}, PyTorch {at["versions"]["torch"]}.

{table(header, rows)}

Against PyTorch that is not compiled: {eager}. Where the ratio is below 1, no profile was taken of the rest.
Peak of the card's memory, training step: jcbir {ours}, PyTorch {theirs}."""


def job_cells(row: Report, contenders: Any) -> list[str]:
    """Job, batch, size, and images a second of each contender, or why there are none."""
    runs = [row.get(name) for name in contenders]
    rates = [f"{run['images_per_s']:.1f}" if isinstance(run, Mapping) else run or "not measured" for run in runs]
    return [JOBS[row["job"]], str(row["batch"]), str(row["size"]), *rates]


def layer_table(layers: Report) -> str:
    """The convolutions by kernel and job."""

    def line(kernel: str, job: str, spent: Mapping[str, float]) -> list[str]:
        ratio = spent["torch"] / spent["jcbir"]
        return [kernel, job, *(f"{spent[name]:.0f}" for name in ("jcbir", "torch")), f"{ratio:.2f}"]

    rows, totals = [], {"jcbir": 0.0, "torch": 0.0}
    for kernel in sorted({row["kernel"] for row in layers["rows"]}):
        chosen = [row for row in layers["rows"] if row["kernel"] == kernel]
        for job in ("forward", "gradient"):
            spent = {name: 1e3 * sum(row["count"] * row[name][job] for row in chosen) for name in totals}
            totals = {name: totals[name] + spent[name] for name in totals}
            rows.append(line(f"{kernel}x{kernel}", job, spent))
    cells = table(["kernel", "job", "jcbir", "PyTorch", "ratio"], [*rows, line("all", "both", totals)])
    return f"Batches of {layers['batch']} at {layers['size']} px:\n\n{cells}"


def difference(value: float | None) -> str:
    """Two digits, or that nobody measured."""
    return "not measured" if value is None else f"{value:.2g}"


# ----------------------------------------------------------------------------------------------------------- service.md

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


def service(reports: Reports, text: str) -> str:
    """The services under load, and over time."""
    missing = "Not run: `python -m experiments.service_load --report experiments/results/service_load.json`."
    load = loaded(reports["service_load"]) if "service_load" in reports else missing
    ray = clustered(reports["service_load_ray"])
    return filled(text, {"ray": ray, "load": load, "soak": soaked(reports["service_soak"])})


# Machines that score beside the two of cloud and authority, in the table of more machines.
SCORERS = 8
# Processes, as the report names them, and as the page does; the users are not the service's.
PARTIES = {
    "cloud": "cloud",
    "cloud_workers": "its workers",
    "authority": "authority",
    "authority_workers": "its workers",
    "users": "users",
}


def loaded(report: Report) -> str:
    at, config = made(report), report["config"]
    runs = report["runs"]
    rows, costs = [], []
    for run in runs:
        name = [run["scheme"], f"{run['images']:,}", str(run["cloud_workers"])]
        latencies = [seconds(run[field]) for field in ("p50_s", "p95_s", "p99_s", "beside_p95_s")]
        lone = [seconds(run[field]) for field in ("alone_p50_s", "alone_p95_s")]
        rows.append([*name, number(run["queries_per_s"]), *latencies, *lone, str(run["unanswered"])])
        memory = [
            " + ".join(number(each["peak"]) for each in run["memory_mb"][side]) for side in ("cloud", "authority")
        ]
        starts = [f"{run['start_s'][side]:.1f} s" for side in ("cloud", "authority")]
        costs.append([*name, *(number(run["alone_cpu_ms"][party]) for party in PARTIES), *memory, *starts])
    about = f"""
        `python -m experiments.service_load --report experiments/results/service_load.json` runs both services as
        processes on one machine of {at["cores"]} cores, under {config["users"]} users who each send the next query when
        the last is answered, for {config["seconds"]:g} s, and under intruders. It opens every delivery and compares it
        with the plain distances: of {sum(run["queries"] for run in runs):,} queries {report["errors"]} failed,
        {report["wrong_rankings"]} were answered wrongly; {report["unauthorised_refused"]:,} of
        {report["unauthorised_tried"]:,} intrusions were refused. Paillier's keys have {config["modulus_bits"]} bits and
        blinders from a subgroup; codes {config["bits"]} bits. Load average {at["load_at_start"]:.1f} at the start. The
        users share the cores: under load a latency says how many wait, for it is about users / throughput. *Beside* is
        one more user, who asks every half second; *alone* is a user without others. Who had no answer after
        {config["patience"]:g} s gave up."""
    spent = """
        Processor time for a query of a user alone, in milliseconds, by process; the most memory that each process had,
        in megabytes, files that it maps included; and seconds until it served, compilation included."""
    header = ["scheme", "images", "workers", "queries/s", "p50", "p95", "p99", "beside, p95"]
    header += ["alone, p50", "alone, p95", "unanswered"]
    charged = ["scheme", "images", "workers", *PARTIES.values(), "cloud, MB", "authority, MB"]
    charged += ["cloud starts", "authority starts"]
    return "\n\n".join(
        [prose(about), table(header, rows), prose(spent), table(charged, costs), forecast(runs, cores=at["cores"])]
    )


def clustered(report: Report) -> str:
    """A Ray cluster of one machine beside the cloud's own processes."""
    runs, at = report["runs"], made(report)
    names = {"pool": "processes of the cloud", "ray": "Ray"}
    rows = [
        [
            names[run["scorer"]],
            str(run["cloud_workers"]),
            *(seconds(run[field]) for field in ("alone_p50_s", "alone_p95_s")),
            number(run["queries_per_s"]),
        ]
        for run in runs
    ]
    about = f"""
        On one machine of {at["cores"]} cores, which cloud, authority and users share, with {runs[0]["images"]:,} images
        (`{runs[0]["scheme"]}`) and {runs[0]["users"]} users: of {sum(run["queries"] for run in runs):,} queries
        {report["errors"]} failed, {report["wrong_rankings"]} were answered wrongly. Load average
        {at["load_at_start"]:.1f} at the start."""
    header = ["scored by", "workers", "alone, p50", "alone, p95", "queries/s of all"]
    return "\n\n".join([prose(about), table(header, rows)])


def seconds(value: float | None) -> str:
    """A duration, in the unit that it is read in."""
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def fit(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """a and b of a + b x, each at least zero, that minimize the squares of the relative errors."""
    x, y = np.array(points, float).T
    keep = y > 0
    if keep.sum() < 2:
        return float(y.max(initial=0.0)), 0.0
    matrix = np.stack([1 / y[keep], x[keep] / y[keep]], axis=1)
    constant, slope = np.linalg.lstsq(matrix, np.ones(keep.sum()), rcond=None)[0]
    # A part that does not grow, or does nothing but grow.
    if slope < 0:
        return float(y[keep].mean()), 0.0
    return (float(constant), float(slope)) if constant > 0 else (0.0, float((y[keep] / x[keep]).mean()))


def forecast(runs: list[Report], *, cores: int) -> str:
    """What the figures say of more machines and more images."""
    most = max(run["cloud_workers"] for run in runs)
    rows, fits, checks = [], [], []
    for scheme in dict.fromkeys(run["scheme"] for run in runs):
        here = [run for run in runs if run["scheme"] == scheme and run["cloud_workers"] == most]
        line = {party: fit([(run["images"], run["alone_cpu_ms"][party]) for run in here]) for party in PARTIES}
        fits.append([scheme, *(f"{a:.3g} + {b * 1e5:.3g}" for a, b in line.values())])

        def cost(party: str, images: int, line: dict = line) -> float:
            return line[party][0] + line[party][1] * images

        for run in (run for run in here if not run["unanswered"]):
            everybody = sum(cost(party, run["images"]) for party in PARTIES)
            checks.append(run["queries_per_s"] * everybody / (1000 * cores))
        for images in (100_000, 1_000_000, 100_000_000):
            cloud, scoring, holder, opening, _ = (cost(party, images) for party in PARTIES)
            one = 1000 * cores / (cloud + scoring + holder + opening)
            # The process of the cloud, and that of the authority, is one interpreter.
            two = {
                "cloud": 1000 * cores / (cloud + scoring),
                "authority": 1000 * cores / (holder + opening),
            }
            many = {
                "cloud's process": 1000 / cloud if cloud else math.inf,
                "authority": two["authority"],
                "scoring": 1000 * cores * SCORERS / scoring if scoring else math.inf,
            }
            rows.append(
                [scheme, f"{images:,}", number(one), *limit(two), *limit(many), seconds(scoring / 1000 / cores)]
            )
    speed_ups = []
    for more in (run for run in runs if run["cloud_workers"] == most):
        for fewer in (run for run in runs if run["cloud_workers"] < most):
            if (fewer["scheme"], fewer["images"]) == (more["scheme"], more["images"]):
                speed_ups.append(
                    f"from {fewer['cloud_workers']} to {most} workers a user alone waits "
                    f"{seconds(more['alone_p50_s'])} instead of {seconds(fewer['alone_p50_s'])}, and all get "
                    f"{number(more['queries_per_s'])} queries a second instead of {number(fewer['queries_per_s'])} "
                    f"(`{more['scheme']}`, {more['images']:,} images)"
                )
    about = f"""
        **More machines, more images.** {"; ".join(speed_ups).capitalize()}. A line a + b N through the processor time
        T(N) of each party, N in 100,000 images, least squares of the relative errors, {most} workers:"""
    how = f"""
        A machine of c cores answers at most 1000 c / sum T queries a second; the measured throughput, where all were
        answered, is {min(checks):.0%} to {max(checks):.0%} of that, with the users' time in the sum. A second machine
        takes the authority away: the greater of both sums decides. More machines score (Ray, or a cloud of more cores);
        the cloud's own process stays one interpreter, at most 1000 / T, and the authority one machine, for its journal
        has one writer. Machines of {cores} cores like this one, users elsewhere, in queries a second, and who is at its
        limit; 100,000,000 images are extrapolated, nobody ran them. The last column is the time that a query spends in
        scoring on one machine when nobody else asks."""
    header = ["scheme", "images", "one machine", "two", "limit", f"{2 + SCORERS} machines", "limit", "alone, scoring"]
    fitted = ["scheme", *PARTIES.values()]
    return "\n\n".join([prose(about), table(fitted, fits), prose(how), table(header, rows)])


def limit(rates: Mapping[str, float]) -> list[str]:
    """The least of the rates, and whose it is."""
    who = min(rates, key=lambda name: rates[name])
    return [number(rates[who]), who]


def soaked(report: Report) -> str:
    config, at, counts = report["config"], made(report), Counter(report["counts"])
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
        p95 {report["p95_s"]:.1f} s; {at["cores"]} cores, load average
        {at["load_at_start"]:.1f} at the start and {at["load"]:.1f} at the end),
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


# ------------------------------------------------------------------------------------------------------------ parity.md


def parity(reports: Reports, text: str) -> str:
    """Our losses against public code's."""
    report = reports["parity"]

    def span(found: Report) -> list[str]:
        low, high = (f"{value:.4g}" for value in found["ratio"])
        # Below 1, a cosine is rounded down: none that differs may read 1.
        cosine = "1" if found["cosine"] > 1 - 1e-9 else f"{math.floor(found['cosine'] * 1e3) / 1e3:.3f}"
        return [low if low == high else f"{low} to {high}", cosine]

    rows = []
    for row in report["losses"]:
        arguments = {"": "none needed", "none": "not reproduced"}.get(row["arguments"], f"`{row['arguments']}`")
        same = ["-", "-"] if row["arguments"] == "none" else span(row["reproduced"])
        rows.append([row["method"], row["code"], *span(row["defaults"]), arguments, *same])
    header = ["method", "code", "value, defaults", "cosine", "arguments", "value", "cosine"]
    steps = [[name, difference(value)] for name, value in report["updates"].items()]
    config = report["config"]
    about = f"""
        {config["batches"]} random batches of {config["size"]} images of {config["classes"]} classes, {config["bits"]}
        bits, {config["stored"]} images remembered, float64. Values: ours / theirs; cosines: of the gradients, the least
        of all batches."""
    losses = prose(about) + "\n\n" + table(header, rows)
    return filled(text, {"losses": losses, "updates": table(["step", "largest difference"], steps)})


# --------------------------------------------------------------------------------------------------------- commands.md


def command_costs(reports: Reports, text: str) -> str:
    return filled(text, {"commands": commands(reports.get("bench_query"))})


def commands(report: Report | None) -> str:
    if report is None:
        return "Not run: `python -m experiments.bench_query --report experiments/results/bench_query.json`."
    at, phases = made(report), report["phases_s"]
    text = f"""
        `python -m experiments.bench_query --report experiments/results/bench_query.json` counts the CPU seconds of
        commands, each in a fresh process, beside a cloud with {report["config"]["photographs"]} photographs; medians.
        {at["cores"]} cores, load average {at["load_at_start"]:.1f} at the start. `--help` takes
        {report["help_s"]["--help"]:.2f} s, a mistake that needs no key at most
        {max(report["mistakes_s"].values()):.2f} s ({len(report["mistakes_s"])} kinds), a query
        {report["query_s"]:.2f} s ({report["query_most_s"]:.2f} s the longest; {report["first_query_s"]:.2f} s the first
        after `user join`, which compiles its program and keeps it)."""
    rows = [[name, f"{seconds:.2f}"] for name, seconds in phases.items()]
    rows.append(["together", f"{sum(phases.values()):.2f}"])
    return prose(text) + "\n\n" + table(["a query's", "CPU s"], rows)


# ---------------------------------------------------------------------------------------------- federated-averaging.md

PAIR = ("jcbir", "python-paillier")
FLOATS = {
    "encrypt": "encode and encrypt, anyone",
    "encrypt by owner": "encode and encrypt, the key's owner",
    "add": "add all vectors",
    "decrypt": "decrypt and decode the sum",
}


def federated_averaging(reports: Reports, text: str) -> str:
    """Real numbers many to a ciphertext, against one to a ciphertext."""
    report = reports["bench_floats"]
    config, at, ratios = report["config"], made(report), report["ratio_vs_phe"]
    (mine, other), sizes = (report["operations_s"][name] for name in PAIR), report["bytes_per_number"]
    # Theirs has no faster way for the key's owner.
    pairs = {name: (mine[name], other.get(name, other["encrypt"])) for name in FLOATS}
    rows = [
        [label, *(number(1e6 * seconds / config["numbers"]) for seconds in pairs[name]), number(ratios[name])]
        for name, label in FLOATS.items()
    ]
    rows.append(["bytes a number", *(number(sizes[name]) for name in PAIR), number(ratios["bytes"])])
    rows.append(["largest error of a sum", *(f"{report['error'][name]:.1e}" for name in PAIR), "-"])
    versions = ", ".join(f"{name} {at['versions'][name]}" for name in ("phe", "gmpy2"))
    said = f"""
        {config["vectors"]} vectors of {config["numbers"]} numbers, {config["bits"]}-bit n, {config["fraction_bits"]}
        bits after the point, magnitude {config["magnitude"]:g}: {report["slots"]} numbers to a ciphertext, bound
        {report["bound"]:.1e}. CPU microseconds a number, medians of {config["rounds"]} interleaved rounds; {versions};
        load average {at["load_at_start"]:.1f}, so read the ratios."""
    return filled(text, {"floats": prose(said) + "\n\n" + table(["", *PAIR, "times ours"], rows)})


PAGES: dict[str, Callable[[Reports, str], str]] = {
    "results.md": results,
    "reports.md": every_report,
    "paper-notes.md": with_figures,
    "performance.md": performance,
    "lattice.md": lattice,
    "backbones.md": backbones,
    "hashing.md": hashing,
    "metrics.md": metrics,
    "parity.md": parity,
    "cipher.md": cipher,
    "service.md": service,
    "commands.md": command_costs,
    "federated-averaging.md": federated_averaging,
}
"""(reports, the page as it stands) -> the page as it must be."""


if __name__ == "__main__":
    main(tyro.cli(Writing, description=__doc__))
