"""`jcbir cloud` and `jcbir authority`: the identities of the services, made once, before the owner founds anything."""

import secrets
from pathlib import Path

from jcbir.cli import options
from jcbir.cli.console import CommandConsole, answer
from jcbir.cli.passphrase import AUTHORITY_VARIABLE, CLOUD_VARIABLE, read_passphrase
from jcbir.protocol import authority, server
from jcbir.protocol._signatures import Identity
from jcbir.storage import _identities as identities

SECRET, PUBLIC = "identity.secret", "identity.public"


def init_cloud(command: options.CloudInit, console: CommandConsole) -> None:
    _check_vacant(command.folder)
    passphrase = read_passphrase(
        command.passphrase_file, purpose="the cloud's identity", confirm=True, variable=CLOUD_VARIABLE
    )
    _write(command.folder, server.make_identity(draw=secrets.token_bytes), passphrase, "cloud", console)


def info_cloud(command: options.CloudInfo, console: CommandConsole) -> None:
    answer(console, _describe(command.folder, "cloud"))


def init_authority(command: options.AuthorityInit, console: CommandConsole) -> None:
    _check_vacant(command.folder)
    passphrase = read_passphrase(
        command.passphrase_file, purpose="the authority's identity", confirm=True, variable=AUTHORITY_VARIABLE
    )
    _write(command.folder, authority.make_identity(draw=secrets.token_bytes), passphrase, "authority", console)


def info_authority(command: options.AuthorityInfo, console: CommandConsole) -> None:
    answer(console, _describe(command.folder, "authority"))


def _check_vacant(folder: Path) -> None:
    if (folder / SECRET).exists():
        raise FileExistsError(f"folder: must be one without an identity, got {str(folder)!r}, which has {SECRET}")


def _write(folder: Path, identity: Identity, passphrase: str, side: str, console: CommandConsole) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    identities.write_public(folder / PUBLIC, identity, side=side)
    identities.write_identity(
        folder / SECRET, identity, side=side, passphrase=passphrase, draw=secrets.token_bytes, work=identities.WORK
    )
    answer(console, {"secret": folder / SECRET, **_describe(folder, side)})


def _describe(folder: Path, side: str) -> dict[str, str]:
    public, sealing_key = identities.read_public(folder / PUBLIC, side=side)
    return {
        "public": str(folder / PUBLIC),
        "fingerprint": identities.identity_fingerprint(public, sealing_key, side=side),
    }
