"""The table that `jcbir demo` prints, from its report."""

from typing import Any

from rich.console import Console
from rich.table import Table


def print_report(report: dict[str, Any], *, console: Console) -> None:
    """Print what was found, what it cost, and what each party learned.

    Args:
        report: from `jcbir.cli.demo.run.run_demo`.
        console: where to print.

    Example:
        >>> print_report.__name__
        'print_report'
    """
    console.print(_results(report))
    console.print(_phases(report))
    console.print(_leakage(report))


def _results(report: dict[str, Any]) -> Table:
    sizes, options = report["sizes"], report["options"]
    table = Table(
        title=f"{report['convention']}: {sizes['query']} queries, {sizes['database']} images, {options['bits']} bits",
        title_justify="left",
    )
    for name, justify in (
        ("ranking", "left"),
        ("mAP", "right"),
        ("lost", "right"),
        ("order = plaintext", "left"),
        ("encrypted queries", "right"),
        ("server s/query", "right"),
        ("authority s/query", "right"),
        ("query bytes", "right"),
        ("scores bytes", "right"),
    ):
        table.add_column(name, justify=justify)
    plain = report["map_plain"]
    table.add_row("plaintext codes", f"{plain:.4f}", "", "", "", "", "", "", "")
    for scheme, value in report["map"].items():
        count = report["encrypted_queries"][scheme]
        seconds, sent = report["seconds"], report["bytes"]
        name = "integer (the paper's |difference|)" if scheme == "integer" else scheme
        table.add_row(
            name,
            f"{value:.4f}",
            f"{plain - value:.4f}",
            "identical" if report["order_identical"][scheme] else "differs",
            str(count),
            f"{seconds[f'{scheme}: server scores'] / count:.4f}",
            f"{seconds[f'{scheme}: authority opens and ranks'] / count:.4f}",
            f"{sent[f'{scheme}: query'] // count:,}",
            f"{sent[f'{scheme}: scores'] // count:,}",
        )
    random = report["map_random_init"]
    table.add_row("plaintext, network not pretrained", f"{random:.4f}", f"{plain - random:.4f}", *[""] * 6)
    return table


def _phases(report: dict[str, Any]) -> Table:
    table = Table(title="seconds by phase, bytes by message", title_justify="left")
    table.add_column("phase or message")
    table.add_column("seconds", justify="right")
    table.add_column("bytes", justify="right")
    for phase, seconds in report["seconds"].items():
        if phase != "all":
            table.add_row(phase, f"{seconds:.2f}", "")
    for topic, count in report["bytes"].items():
        table.add_row(topic, "", f"{count:,}")
    table.add_section()
    table.add_row("all", f"{report['seconds']['all']:.1f}", f"{sum(report['bytes'].values()):,}")
    table.add_row("peak memory", "", f"{report['peak_rss_mb']:,.0f} MB")
    return table


def _leakage(report: dict[str, Any]) -> Table:
    table = Table(title="what each party learned", title_justify="left", show_lines=True)
    for name in ("scheme", "party", "learned"):
        table.add_column(name)
    for row in report["leakage"]:
        table.add_row(row["scheme"], row["party"], row["learned"])
    return table
