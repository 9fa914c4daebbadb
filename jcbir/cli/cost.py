"""`jcbir cost`: bytes and operations of each scheme, seconds where the machine was timed."""

import dataclasses
import secrets
import time
from typing import Any

from rich.table import Table

from jcbir.cli import options
from jcbir.cli.console import CommandConsole, answer, note
from jcbir.paillier.secret import generate_keys
from jcbir.ranking._cost import Cost, calibrate, cost
from jcbir.ranking._keys import KEY_KINDS, tag_key
from jcbir.ranking._sentinels import place_sentinels
from jcbir.ranking._table import SCHEMES, plan
from jcbir.sealing import sealed_length


def predict(command: options.Cost, console: CommandConsole) -> None:
    # Sizes depend on no key that somebody holds.
    sizes = {"bits": command.modulus_bits, "code_bits": command.bits}
    keys, measured = {kind.name: kind.example(**sizes) for kind in KEY_KINDS.values()}, {}
    if command.calibrate:
        note(console, f"making a {command.modulus_bits}-bit key and timing this machine")
        secret = generate_keys(bits=command.modulus_bits, draw=secrets.token_bytes)
        tagged = tag_key(secret.public)
        keys[tagged.kind] = tagged.key
        measured[tagged.kind] = calibrate(secret, draw=secrets.token_bytes, clock=time.perf_counter)
    rows = []
    for scheme in sorted(SCHEMES.values(), key=lambda scheme: scheme.name):
        key = keys[scheme.key_kind]
        layout = plan(key, scheme=scheme.name, count=command.images, bits=command.bits)
        # A sealed picture for each sentinel, too.
        stored = command.images + len(place_sentinels(command.images, [layout], draw=bytes))
        for group in dict.fromkeys([None, scheme.table_bits]):
            found = cost(
                key, scheme=scheme.name, count=command.images, bits=command.bits, group=group,
                calibration=measured.get(scheme.key_kind),
            )  # fmt: skip
            rows.append(_row(scheme.name, group, found, stored * sealed_length(command.picture_bytes)))
    record = {
        "images": command.images,
        "picture_bytes": command.picture_bytes,
        "bits": command.bits,
        "modulus_bits": command.modulus_bits,
        "calibrated": command.calibrate,
        "schemes": rows,
    }
    answer(console, record, lines=[_table(rows)])


def _row(scheme: str, group: int | None, found: Cost, pictures: int) -> dict[str, Any]:
    return {
        "scheme": scheme,
        "tables": group,
        "pictures_bytes": pictures,
        "index_bytes": found.index_bytes,
        "prepared_bytes": found.prepared_bytes,
        "trapdoor_bytes": found.trapdoor_bytes,
        "reply_bytes": found.reply_bytes,
        "operations": dataclasses.asdict(found.operations),
        "seconds": None
        if found.seconds is None
        else {**dataclasses.asdict(found.seconds), "query": found.seconds.query},
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    timed = rows[0]["seconds"] is not None
    heads = ("scheme", "pictures MB", "index MB", "query KB", "reply KB", "products", "decryptions")
    table = Table(*heads, *(("build s", "query s") if timed else ()))
    for row in rows:
        work = row["operations"]
        name = row["scheme"] + (f", tables of {row['tables']}" if row["tables"] else "")
        cells = [
            name,
            f"{row['pictures_bytes'] / 1e6:,.1f}",
            f"{max(row['index_bytes'], row['prepared_bytes']) / 1e6:.1f}",
            f"{row['trapdoor_bytes'] / 1e3:.2f}",
            f"{row['reply_bytes'] / 1e3:.1f}",
            f"{work['score_products']:,}",
            f"{work['decryptions']:,}",
        ]
        if timed:
            seconds = row["seconds"]
            cells += [f"{seconds[name]:.2f}" if seconds else "not timed" for name in ("build", "query")]
        table.add_row(*cells)
    return table
