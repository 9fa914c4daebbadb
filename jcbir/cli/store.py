"""`jcbir store`: what each command does."""

from jcbir.cli import options
from jcbir.cli.console import CommandConsole, answer
from jcbir.ranking._table import modulus_length
from jcbir.storage import backup_store, card_fingerprint, compact_store, open_store, verify_store


def info(command: options.StoreInfo, console: CommandConsole) -> None:
    with open_store(command.store) as store:
        card, ask = store.card, store.database.execute
        segments, size = ask("SELECT count(*), coalesce(sum(size), 0) FROM segments").fetchone()
        living, gone = (
            ask("SELECT count(*) FROM images WHERE gone = ?", [flag]).fetchone()[0] for flag in (0, 1)
        )  # fmt: skip
        waste = ask("SELECT coalesce(sum(size), 0) FROM images WHERE gone = 1").fetchone()[0]
        record = {
            "collection": card.collection,
            "epoch": card.epoch,
            "fingerprint": card_fingerprint(card),
            "bits": card.bits,
            "modulus_bits": modulus_length(card.public, bits=card.bits),
            "segments": segments,
            "images": living,
            "withdrawn": gone,
            "bytes": size,
            "reclaimable": waste,
        }
    answer(console, record)


def verify(command: options.StoreVerify, console: CommandConsole) -> None:
    with open_store(command.store) as store:
        health = verify_store(store)
    record = {"sound": True, "segments": health.segments, "images": health.images, "withdrawn": health.gone}
    answer(console, {**record, "bytes": health.size})


def compact(command: options.StoreCompact, console: CommandConsole) -> None:
    with open_store(command.store, write=True) as store:
        freed = compact_store(store)
    answer(console, {"freed_bytes": freed})


def backup(command: options.StoreBackup, console: CommandConsole) -> None:
    with open_store(command.store) as store:
        health = backup_store(store, command.target)
    answer(console, {"copy": command.target, "segments": health.segments, "images": health.images})
