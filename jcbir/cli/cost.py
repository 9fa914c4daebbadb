"""`jcbir cost`: bytes and operations of each scheme, seconds where the machine was timed."""

import dataclasses
import secrets
import time
from typing import Any

from rich.table import Table

from jcbir.cli import options
from jcbir.cli.console import CommandConsole, answer, note
from jcbir.lattice.public import PublicKey as LatticeKey, parameters
from jcbir.paillier.public import PublicKey
from jcbir.paillier.secret import generate_keys
from jcbir.ranking._cost import Cost, calibrate, cost
from jcbir.ranking._sentinels import place_sentinels
from jcbir.ranking._table import SCHEMES, plan
from jcbir.sealing import sealed_length

TABLE_BITS = 2
"""Bits in a product table, for the schemes whose server can keep some."""

TABLED = ("bitsliced",)


def predict(command: options.Cost, console: CommandConsole) -> None:
    calibration, public = None, PublicKey(n=(1 << (command.modulus_bits - 1)) + 1, g=2)
    if command.calibrate:
        note(console, f"making a {command.modulus_bits}-bit key and timing this machine")
        secret = generate_keys(bits=command.modulus_bits, draw=secrets.token_bytes)
        calibration, public = calibrate(secret, draw=secrets.token_bytes, clock=time.perf_counter), secret.public
    rows = []
    # Bytes of a lattice collection depend on no key, and nobody timed one.
    keys = {"paillier": (public, calibration), "lattice": (LatticeKey(parameters(bits=command.bits), bytes(32)), None)}
    choices = [(name, None) for name in SCHEMES] + [(name, TABLE_BITS) for name in TABLED]
    for scheme, group in sorted(choices, key=lambda choice: choice[0]):
        key, timed = keys[SCHEMES[scheme].key_kind]
        found = cost(key, scheme=scheme, count=command.images, bits=command.bits, group=group, calibration=timed)
        layout = plan(key, scheme=scheme, count=command.images, bits=command.bits)
        # A sealed picture for each sentinel, too.
        stored = command.images + len(place_sentinels(command.images, [layout], draw=bytes))
        rows.append(_row(scheme, group, found, stored * sealed_length(command.picture_bytes)))
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
