"""`jcbir serve authority`: the owner's key holder."""

import os

from jcbir.commands import options
from jcbir.commands.passphrase import AUTHORITY_VARIABLE, VARIABLE, read_passphrase
from jcbir.commands.screen import Screen, answer
from jcbir.io.cards import card_fingerprint
from jcbir.io.journal import open_journal
from jcbir.io.keys import read_secret
from jcbir.protocol.holdings import Delegation
from jcbir.service.authority import AuthoritySettings, create_app
from jcbir.service.serving import serve


def authority(command: options.ServeAuthority, screen: Screen) -> None:
    variable = AUTHORITY_VARIABLE if AUTHORITY_VARIABLE in os.environ else VARIABLE
    passphrase = read_passphrase(command.passphrase_file, purpose="the authority's key", variable=variable)
    delegation, place = read_secret(command.delegation, passphrase=passphrase, expect=Delegation), command.listen
    # Before the socket opens: a journal of another collection is the caller's mistake, not a service's failure.
    with open_journal(command.journal, delegation.card):
        pass
    record = {
        "service": "authority",
        "collection": delegation.card.collection,
        "fingerprint": card_fingerprint(delegation.card),
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
