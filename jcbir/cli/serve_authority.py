"""`jcbir serve authority`: the owner's key holder."""

import os

from jcbir.cli import options
from jcbir.cli.console import Screen, answer
from jcbir.cli.passphrase import AUTHORITY_VARIABLE, VARIABLE, read_passphrase
from jcbir.protocol.authority import appoint
from jcbir.protocol.holdings import Delegation
from jcbir.service.authority import AuthoritySettings, create_app
from jcbir.service.serving import check_certificate, serve
from jcbir.storage.cards import card_fingerprint
from jcbir.storage.journal import load_authority, open_journal
from jcbir.storage.keys import read_secret


def authority(command: options.ServeAuthority, screen: Screen) -> None:
    place = command.listen
    check_certificate(place.certificate, place.private_key)
    variable = AUTHORITY_VARIABLE if AUTHORITY_VARIABLE in os.environ else VARIABLE
    passphrase = read_passphrase(command.passphrase_file, purpose="the authority's key", variable=variable)
    delegation = read_secret(command.delegation, passphrase=passphrase, expect=Delegation)
    # Before the socket opens: a journal of another collection is the caller's mistake, not a service's failure.
    with open_journal(command.journal, delegation.card) as journal:
        # The owner may have appointed it to a later epoch than its file is of.
        card = load_authority(journal, appoint(delegation)).card
    record = {
        "service": "authority",
        "collection": card.collection,
        "epoch": card.epoch,
        "fingerprint": card_fingerprint(card),
        "host": place.host,
        "port": place.port,
        "tls": place.certificate is not None,
    }
    answer(screen, record)
    serve(
        create_app(AuthoritySettings(delegation, command.journal)),
        host=place.host,
        port=place.port,
        certificate=place.certificate,
        private_key=place.private_key,
    )


__all__ = ["authority"]
