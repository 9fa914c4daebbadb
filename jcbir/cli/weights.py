"""`jcbir weights`: what each command does."""

from rich.table import Column, Table

from jcbir.cli import options
from jcbir.cli.console import Screen, answer, progress
from jcbir.storage.backbones import cache_folder, check_weights, convert_weights, fetch_weights, list_weights


def show(command: options.WeightsList, screen: Screen) -> None:
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
    answer(screen, {"cache": cache_folder(), "weights": rows}, lines=[table])


def fetch(command: options.WeightsFetch, screen: Screen) -> None:
    with progress(screen, command.name) as advance:
        path = fetch_weights(command.name, sha256=command.sha256, progress=lambda have, all: advance(have, all or None))
    answer(screen, {"name": command.name, "file": path, "bytes": path.stat().st_size})


def convert(command: options.WeightsConvert, screen: Screen) -> None:
    given = command.foreign
    digits = convert_weights(
        command.place,
        command.out,
        half=command.half,
        layout=given.layout,
        depth=given.depth,
        sha256=given.sha256,
    )
    answer(screen, {"file": command.out, "bytes": command.out.stat().st_size, "sha256": digits})


def check(command: options.WeightsCheck, screen: Screen) -> None:
    given = command.foreign
    found = check_weights(command.place, layout=given.layout, depth=given.depth, sha256=given.sha256)
    answer(screen, {"place": command.place, **found._asdict()})


__all__ = ["check", "convert", "fetch", "show"]
