"""`jcbir store`: what each command does."""

from jcbir.cli import options
from jcbir.cli.console import Screen, answer
from jcbir.storage.cards import card_fingerprint
from jcbir.storage.maintenance import backup_store, compact_store, verify_store
from jcbir.storage.store import open_store


def info(command: options.StoreInfo, screen: Screen) -> None:
    with open_store(command.store) as store:
        card, ask = store.card, store.catalogue.execute
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
            "modulus_bits": card.public.bits,
            "segments": segments,
            "images": living,
            "withdrawn": gone,
            "bytes": size,
            "reclaimable": waste,
        }
    answer(screen, record)


def verify(command: options.StoreVerify, screen: Screen) -> None:
    with open_store(command.store) as store:
        health = verify_store(store)
    record = {"sound": True, "segments": health.segments, "images": health.images, "withdrawn": health.gone}
    answer(screen, {**record, "bytes": health.size})


def compact(command: options.StoreCompact, screen: Screen) -> None:
    with open_store(command.store, write=True) as store:
        freed = compact_store(store)
    answer(screen, {"freed_bytes": freed})


def backup(command: options.StoreBackup, screen: Screen) -> None:
    with open_store(command.store) as store:
        backup_store(store, command.target)
    with open_store(command.target) as copy:
        health = verify_store(copy)
    answer(screen, {"copy": command.target, "segments": health.segments, "images": health.images})


__all__ = ["backup", "compact", "info", "verify"]
