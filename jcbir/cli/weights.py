"""`jcbir weights`: what each command does."""

from rich.table import Column, Table

from jcbir.cli import options
from jcbir.cli.console import CommandConsole, answer, progress
from jcbir.storage import check_weights, convert_weights, fetch_weights, list_weights
from jcbir.storage._backbones import cache_folder


def show(command: options.WeightsList, console: CommandConsole) -> None:
    rows = [
        {
            "name": source.name,
            "depth": source.depth,
            "layout": source.layout,
            "license": source.license,
            "bytes": source.size,
            "sha256": source.sha256,
            "fetched": fetched,
        }
        for source, fetched in list_weights()
    ]
    table = Table(Column("name", no_wrap=True), "depth", "layout", "license", "MB", "sha256", "fetched")
    for row in rows:
        size = f"{row['bytes'] / 1e6:.0f}" if row["bytes"] else "?"
        pin = (row["sha256"] or "none: state one")[:16]
        table.add_row(
            row["name"], str(row["depth"]), row["layout"], row["license"], size, pin, "yes" if row["fetched"] else "no"
        )
    answer(console, {"cache": cache_folder(), "weights": rows}, lines=[table])


def fetch(command: options.WeightsFetch, console: CommandConsole) -> None:
    with progress(console, command.name) as advance:
        path = fetch_weights(command.name, sha256=command.sha256, progress=lambda have, all: advance(have, all or None))
    answer(console, {"name": command.name, "file": path, "bytes": path.stat().st_size})


def convert(command: options.WeightsConvert, console: CommandConsole) -> None:
    given = command.foreign
    digits = convert_weights(
        command.place,
        command.out,
        half=command.half,
        layout=given.layout,
        depth=given.depth,
        sha256=given.sha256,
    )
    answer(console, {"file": command.out, "bytes": command.out.stat().st_size, "sha256": digits})


def check(command: options.WeightsCheck, console: CommandConsole) -> None:
    given = command.foreign
    found = check_weights(command.place, layout=given.layout, depth=given.depth, sha256=given.sha256)
    answer(console, {"place": command.place, **found._asdict()})
