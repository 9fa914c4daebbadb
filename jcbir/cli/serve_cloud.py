"""`jcbir serve cloud`. Apart from the other commands: this process loads no code that could use a secret."""

import dataclasses
import os
from typing import Any

from starlette.types import ASGIApp

from jcbir.cli import options
from jcbir.cli.console import CommandConsole, answer
from jcbir.cli.passphrase import CLOUD_VARIABLE, forget_passphrases, read_passphrase
from jcbir.errors import KeyMismatchError
from jcbir.protocol._grants import same_collection
from jcbir.protocol.messages import Card
from jcbir.service._http import Pace, Rate
from jcbir.service.cloud import CloudSettings, create_app
from jcbir.service.serving import serve
from jcbir.storage._cards import card_fingerprint, read_card
from jcbir.storage._identities import read_identity
from jcbir.storage._store import DATABASE, create_store, open_store


def cloud(command: options.ServeCloud, console: CommandConsole) -> None:
    card = read_card(command.card)
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
        **read_limits(command.limits),
    )
    announce(create_app(settings), card, command, console, service="cloud")


def read_limits(limits: options.CloudLimits | options.AuthorityLimits) -> dict[str, Any]:
    """Limits as the settings of a service have them."""
    kinds = {"client_rate": Rate, "grant_rate": Rate, "pace": Pace}
    plain = {field.name: getattr(limits, field.name) for field in dataclasses.fields(limits)}
    return {name: kinds[name](*value) if name in kinds else value for name, value in plain.items()}


def announce(
    app: ASGIApp,
    card: Card,
    command: options.ServeCloud | options.ServeAuthority,
    console: CommandConsole,
    *,
    service: str,
) -> None:
    """Say what is served and where, and serve it."""
    place = command.listen
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
        **dataclasses.asdict(command.connections),
    )
