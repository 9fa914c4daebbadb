"""`jcbir serve cloud`. Apart from the other commands: this process loads no code that could use a secret."""

import os
import socket

from starlette.types import ASGIApp

from jcbir.cli import options
from jcbir.cli.console import CommandConsole, answer
from jcbir.cli.passphrase import CLOUD_VARIABLE, forget_passphrases, read_passphrase
from jcbir.errors import KeyMismatchError
from jcbir.protocol._grants import same_collection
from jcbir.protocol.messages import Card
from jcbir.service.client import check_url
from jcbir.service.cloud import CloudSettings, create_app
from jcbir.service.serving import check_certificate, serve
from jcbir.storage._cards import card_fingerprint, read_card
from jcbir.storage._identities import read_identity
from jcbir.storage._store import DATABASE, create_store, open_store


def cloud(command: options.ServeCloud, console: CommandConsole) -> None:
    check_url(command.authority, insecure_http=command.insecure_http)
    check_listening(command.listen)
    card = read_card(command.card)
    if not command.identity.is_file():
        raise FileNotFoundError(
            f"identity: must be what `jcbir cloud init` makes, got nothing at {str(command.identity)!r}"
        )
    passphrase = read_passphrase(command.passphrase_file, purpose="the cloud's identity", variable=CLOUD_VARIABLE)
    # Its workers would inherit them.
    forget_passphrases()
    identity = read_identity(command.identity, side="cloud", passphrase=passphrase)
    if not (command.store / DATABASE).exists():
        create_store(command.store, card)
    # Before the socket opens: a store of another collection is the caller's mistake, not a service's failure. Its epoch
    # is the store's own: the owner may have turned it since the public file was handed over.
    with open_store(command.store) as store:
        if not same_collection(store.card, card):
            raise KeyMismatchError(f"{command.store}: holds {store.card.collection!r} of another owner or code length")
        card = store.card
    if identity.public != card.cloud_key:
        raise KeyMismatchError(f"{command.identity}: is not the identity that {command.card} names")
    settings = CloudSettings(
        store=command.store,
        identity=identity,
        authority_url=command.authority,
        workers=command.workers or max(1, (os.cpu_count() or 2) - 1),
        authority_certificate=command.authority_certificate,
        insecure_http=command.insecure_http,
    )
    announce(create_app(settings), card, command.listen, console, service="cloud")


def check_listening(place: options.Listen) -> None:
    """Refuse a place where no service can listen, before anything costs time."""
    check_certificate(place.certificate, place.private_key)
    if not 0 <= place.port <= 65535:
        raise ValueError(f"port: must be 0 to 65535, got {place.port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the service does: what an earlier one left in TIME_WAIT is no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise OSError(f"port: must be free, got {place.host}:{place.port}: {error.strerror}") from None


def announce(app: ASGIApp, card: Card, place: options.Listen, console: CommandConsole, *, service: str) -> None:
    """Say what is served and where, and serve it."""
    record = {
        "service": service,
        "collection": card.collection,
        "epoch": card.epoch,
        "fingerprint": card_fingerprint(card),
        "host": place.host,
        "port": place.port,
        "tls": place.certificate is not None,
    }
    answer(console, record)
    serve(
        app,
        host=place.host,
        port=place.port,
        certificate=place.certificate,
        private_key=place.private_key,
    )
