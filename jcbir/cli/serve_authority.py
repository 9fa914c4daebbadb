"""`jcbir serve authority`: the owner's key holder."""

from jcbir.cli import options
from jcbir.cli.console import CommandConsole
from jcbir.cli.passphrase import AUTHORITY_VARIABLE, forget_passphrases, read_passphrase
from jcbir.cli.serve_cloud import announce, check_listening
from jcbir.protocol.authority import appoint
from jcbir.protocol.owner import Delegation
from jcbir.service.authority import AuthoritySettings, create_app
from jcbir.storage import load_authority, open_journal, read_identity, read_secret


def authority(command: options.ServeAuthority, console: CommandConsole) -> None:
    check_listening(command.listen)
    if not command.delegation.is_file():
        raise FileNotFoundError(
            f"delegation: must be an `authority.secret`, got nothing at {str(command.delegation)!r}"
        )
    if not command.identity.is_file():
        raise FileNotFoundError(
            f"identity: must be what `jcbir authority init` makes, got nothing at {str(command.identity)!r}"
        )
    passphrase = read_passphrase(command.passphrase_file, purpose="the authority's key", variable=AUTHORITY_VARIABLE)
    own = command.identity_passphrase_file
    second = passphrase if own is None else read_passphrase(own, purpose="the authority's identity")
    # Its workers would inherit them.
    forget_passphrases()
    delegation = read_secret(command.delegation, passphrase=passphrase, expect=Delegation)
    identity = read_identity(command.identity, side="authority", passphrase=second)
    # Before the socket opens: a journal of another collection is the caller's mistake, not a service's failure.
    with open_journal(command.journal, delegation.card) as journal:
        # The owner may have appointed it to a later epoch than its file is of.
        card = load_authority(journal, appoint(delegation, identity)).card
    app = create_app(AuthoritySettings(delegation=delegation, identity=identity, journal=command.journal))
    announce(app, card, command.listen, console, service="authority")
