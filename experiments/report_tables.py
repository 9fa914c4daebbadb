"""The tables of docs/results.md: one function an experiment, from its report to Markdown."""

from collections.abc import Callable, Mapping
from typing import Any

from experiments.hashing_zoo import title as method_title
from experiments.table3_published import MISSING, OFFICIAL, RERUN

EPOCHS = (1, 2, 4, 8, 16, 20)


def heading(stem: str, report: Mapping[str, Any]) -> str:
    """Where a report comes from: scale, device, date, commit, how long it took, and how busy the machine was."""
    made = report["environment"]
    dirty = ", **from a tree with uncommitted changes**" if made["dirty"] else ""
    learned = report["config"].get("learn", {})
    what = f"; {learned['epochs']} epochs, {learned['seeds']} seed(s), tune {learned['tune']}" if learned else ""
    protocol = f" {report['protocol']}." if "protocol" in report else ""
    return (
        f"`experiments/results/{stem}.json`: scale `{report['scale']}`, {made['device']}, {made['date']}, commit "
        f"{made['commit']}{dirty}, {report['seconds']:,.0f} s, load average {made['load']} at the end{what}.{protocol}"
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows])


def cell(value: Mapping[str, Any]) -> str:
    """Mean and spread over the seeds."""
    spread = "" if value["spread"] is None else f" ± {value['spread']:.4f}"
    return f"{value['mean']:.4f}{spread}"


def map_table(report: Mapping[str, Any], first: str, name: Callable[[str], str] = str) -> str:
    """One row a variant, one column a code length."""
    lengths = list(next(iter(report["map"].values())))
    rows = [[name(key), *(cell(row[bits]) for bits in lengths)] for key, row in report["map"].items()]
    return f"{report['convention']}:\n\n" + table([first, *(f"{bits} bits" for bits in lengths)], rows)


def backbones(report: Mapping[str, Any]) -> str:
    """Table 1."""
    pooled = [f"`{name}` {value:.4f}" for name, value in report["map_pooled_features"].items()]
    note = f"\n\nFrozen pooled features by cosine, no hashing: {', '.join(pooled)}." if pooled else ""
    # Reports made before there was a choice are of `csq`.
    learned = f"Learned by {method_title(report['config'].get('method', 'csq'))}. "
    return learned + map_table(report, "network", lambda name: f"`{name}`") + note


def published(report: Mapping[str, Any]) -> str:
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


def times(report: Mapping[str, Any]) -> str:
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


def cipher(report: Mapping[str, Any]) -> str:
    """Figs. 4 and 5."""
    rows = [
        [
            name,
            f"{row['psnr']:.3f}",
            f"{row['psnr_reference50']:.3f}",
            f"{row['psnr_ideal']:.3f}",
            f"{row['entropy']:.4f}",
            f"{row['npcr_one_bit_of_plain']:.3f}",
            f"{row['uaci_one_bit_of_plain']:.3f}",
        ]
        for name, row in report["images"].items()
    ]
    head = ["image", "PSNR, dB", "reference [50]", "any good cipher", "entropy", "NPCR, %", "UACI, %"]
    return table(head, rows)


def transfer(report: Mapping[str, Any]) -> str:
    """Fig. 6."""
    length = report["config"]["learn"]["epochs"]
    epochs = [epoch for epoch in EPOCHS if epoch <= length]
    rows = []
    for start, by_bits in report["validation_by_epoch"].items():
        for bits, runs in by_bits.items():
            shown = [f"{sum(run[epoch - 1] for run in runs) / len(runs):.4f}" for epoch in epochs]
            rows.append([f"`{start}`", bits, *shown, cell(report["map"][start][bits])])
    head = ["start", "bits", *(f"epoch {epoch}" for epoch in epochs), f"queries, {report['convention']}"]
    return "mAP of the validation photographs by epoch, and of the queries at the best of them:\n\n" + table(head, rows)


def tuned(report: Mapping[str, Any]) -> str:
    """Fine-tuned networks."""
    learn, values = report["config"]["learn"], report["validation_by_epoch"]
    rows = [[str(epoch), f"{value:.4f}"] for epoch, value in enumerate(values, 1)]
    return (
        f"`{learn['backbone']}`, {method_title(report['config']['method'])}, {learn['bits'][0]} bits, "
        f"{learn['size']} px, {learn['frozen']} leading parts frozen; weights of SHA-256 `{report['weights_sha256']}`. "
        "mAP of each validation photograph among the others:\n\n" + table(["epoch", "validation"], rows)
    )


def curves(report: Mapping[str, Any]) -> str:
    """Fig. 7."""
    names = list(next(iter(report["bits"].values())))
    rows = [
        [name.replace("_", " "), *(f"{by_name[name]['area']:.4f}" for by_name in report["bits"].values())]
        for name in names
    ]
    return "Area under the curve of mean precision and recall over cut-offs:\n\n" + table(
        ["codes", *(f"{bits} bits" for bits in report["bits"])], rows
    )


def encrypted(report: Mapping[str, Any]) -> str:
    """Encrypted against plaintext retrieval."""
    rows = []
    for bits, found in report["bits"].items():
        for scheme in (name for name in ("plaintext", "bitsliced", "packed", "integer") if name in found):
            row = found[scheme]
            equal = {None: "", True: "equal", False: "NOT equal"}[row.get("equals_plaintext_arithmetic")]
            asked = row.get("encrypted_queries", "")
            spent = f"{1e3 * row['query_seconds']:,.2f}"
            size = f"{row['index_bytes_per_code']:,.1f}"
            rows.append(
                [bits, scheme, f"{row['map']:.4f}", equal, str(asked), spent, size, f"{row.get('reply_bytes', 0):,}"]
            )
    lost = ", ".join(
        f"{bits} bits {found['plaintext']['map'] - found['map_integer_unmasked']:.4f}"
        for bits, found in report["bits"].items()
    )
    head = [
        "bits",
        "scheme",
        "mAP",
        "opened against clear",
        "encrypted queries",
        "ms a query",
        "index B/code",
        "reply B",
    ]
    return (
        f"{report['convention']}, {report['modulus_bits']}-bit n, {report['database']:,} codes:\n\n"
        f"{table(head, rows)}\n\n"
        f"Lost by the paper's ranking of bare codes as integers (no mask): {lost}."
    )


def semantic(report: Mapping[str, Any]) -> str:
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


SECTIONS: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "table1_backbones": ("Table 1: networks", backbones),
    "tuned_backbone": ("Fine-tuned networks", tuned),
    "table2_methods": ("Table 2: methods", lambda report: map_table(report, "method", method_title)),
    "table3_published": ("Table 3: published figures", published),
    "table4_training_time": ("Table 4: training time", times),
    "fig4_fig5_cipher": ("Figs. 4 and 5: the cipher", cipher),
    "fig6_transfer": ("Fig. 6: transfer", transfer),
    "fig7_pr_curves": ("Fig. 7: precision and recall", curves),
    "encrypted_retrieval": ("Encrypted retrieval", encrypted),
    "semantic_centers": ("Photographs with several labels", semantic),
    "ablations": ("Ablations", lambda report: map_table(report, "variant")),
}

# What stands in a section that has no report of its own.
INSTEAD: dict[str, Callable[[], str]] = {
    "table2_methods": lambda: (
        "The tables are on [hashing](hashing.md), from `experiments/results/hashing_methods*.json`: 15 methods at "
        "three lengths on the bundled sample, imagenette, Corel-5k and CIFAR-10, on the last two with features that "
        "CSQ has fine-tuned as well; with all layers trained at 64 bits."
    ),
    "table3_published": published_alone,
}
