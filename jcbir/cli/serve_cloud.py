"""`jcbir serve cloud`. Apart from the other commands: this process loads no code that could use a secret."""

import os

from jcbir.cli import options
from jcbir.cli.console import Screen, answer
from jcbir.errors import KeyMismatchError
from jcbir.protocol.epochs import same_collection
from jcbir.service.cloud import CloudSettings, create_app
from jcbir.service.serving import check_certificate, serve
from jcbir.storage.cards import card_fingerprint, read_card
from jcbir.storage.store import CATALOGUE, create_store, open_store


def cloud(command: options.ServeCloud, screen: Screen) -> None:
    card, place = read_card(command.card), command.listen
    check_certificate(place.certificate, place.private_key)
    if not (command.store / CATALOGUE).exists():
        create_store(command.store, card)
    # Before the socket opens: a store of another collection is the caller's mistake, not a service's failure. Its epoch
    # is the store's own: the owner may have turned it since the public file was handed over.
    with open_store(command.store) as store:
        if not same_collection(store.card, card):
            raise KeyMismatchError(f"{command.store}: holds {store.card.collection!r} of another owner or code length")
        card = store.card
    settings = CloudSettings(
        command.store,
        command.authority,
        workers=command.workers or max(1, (os.cpu_count() or 2) - 1),
        authority_certificate=command.authority_certificate,
    )
    record = {
        "service": "cloud",
        "collection": card.collection,
        "epoch": card.epoch,
        "fingerprint": card_fingerprint(card),
        "host": place.host,
        "port": place.port,
        "tls": place.certificate is not None,
    }
    answer(screen, record)
    serve(
        create_app(settings),
        host=place.host,
        port=place.port,
        certificate=place.certificate,
        private_key=place.private_key,
    )


__all__ = ["cloud"]
