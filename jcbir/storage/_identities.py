"""Identity files: the keys that a cloud or an authority makes for itself at its first start.

Apart from the owner's and the users' key files, so that the cloud can read its own and loads no other secret code.
"""

import json
import os
import pathlib
from collections.abc import Callable

from jcbir.errors import FormatError, IntegrityError
from jcbir.protocol._schema import octets, read_plain, record, write_plain
from jcbir.protocol._signatures import Identity, verifying_key
from jcbir.storage._cards import spoken
from jcbir.storage._files import write_file
from jcbir.storage._secret_files import WORK, read_content, write_content

KINDS = {"cloud": 6, "authority": 7}
"""Whose identity it is, and the kind of its file."""

MAXIMUM_PUBLIC_BYTES = 1 << 12
_KEY = octets(low=32, high=32)
_IDENTITY = record(Identity, secret=_KEY, public=_KEY, sealing_key=octets(low=0, high=4096))


def write_identity(
    path: str | os.PathLike[str],
    identity: Identity,
    *,
    side: str,
    passphrase: str | None,
    draw: Callable[[int], bytes],
    work: int = WORK,
) -> None:
    """Write an identity, once: what is there is never replaced.

    Args:
        path: where; mode 0600.
        identity: from `jcbir.protocol.server.make_identity` or `jcbir.protocol.authority.make_identity`.
        side: "cloud" or "authority".
        passphrase: at least 8 characters; None for a service that must start without a person.
        draw: source of random bytes, `secrets.token_bytes`.
        work: log2 of scrypt's cost.

    Raises:
        ValueError: no such side, or a short passphrase.
        FileExistsError: there is one.

    Example:
        >>> import secrets, tempfile
        >>> from jcbir.protocol import server
        >>> identity, path = server.make_identity(draw=secrets.token_bytes), f"{tempfile.mkdtemp()}/cloud.identity"
        >>> write_identity(path, identity, side="cloud", passphrase=None, draw=secrets.token_bytes)
        >>> read_identity(path, side="cloud", passphrase=None) == identity
        True
    """
    content = write_plain(_IDENTITY, identity)
    write_content(path, content, kind=_kind(side), passphrase=passphrase, draw=draw, work=work)


def read_identity(path: str | os.PathLike[str], *, side: str, passphrase: str | None) -> Identity:
    """Read an identity.

    Args:
        path: the file.
        side: "cloud" or "authority".
        passphrase: the one it was written with, or None.

    Returns:
        The identity.

    Raises:
        FormatError: not an identity file of this version and side.
        IntegrityError: wrong passphrase, or altered.
        PermissionError: others may read the file.

    Example:
        >>> read_identity("no/such", side="user", passphrase=None)
        Traceback (most recent call last):
        ...
        ValueError: side: must be one of ['authority', 'cloud'], got 'user'
    """
    content = read_content(path, kind=_kind(side), passphrase=passphrase)
    identity = read_plain(_IDENTITY, content, name="identity")
    if verifying_key(identity.secret) != identity.public:
        raise IntegrityError(f"{path}: public key must be that of the secret, got another")
    return identity


def write_public(path: str | os.PathLike[str], identity: Identity, *, side: str) -> None:
    """Write what the owner needs of an identity: a line of JSON, without its secret."""
    plain = {"side": side, "public": identity.public.hex(), "sealing_key": identity.sealing_key.hex()}
    write_file(path, json.dumps(plain).encode() + b"\n")


def read_public(path: str | os.PathLike[str], *, side: str) -> tuple[bytes, bytes]:
    """Read what an owner needs of a service's identity."""
    wanted = FormatError(f"{path}: must be the identity.public of `jcbir {side} init`, got something else")
    if os.stat(path).st_size > MAXIMUM_PUBLIC_BYTES:
        raise wanted
    try:
        plain = json.loads(pathlib.Path(path).read_bytes())
        public, sealing_key = bytes.fromhex(plain["public"]), bytes.fromhex(plain["sealing_key"])
        found = plain["side"]
    except (ValueError, KeyError, TypeError):
        raise wanted from None
    if found != side or len(public) != 32 or len(sealing_key) != (32 if side == "authority" else 0):
        raise wanted
    return public, sealing_key


def identity_fingerprint(public: bytes, sealing_key: bytes, *, side: str) -> str:
    """Compute what service and owner compare over the telephone to know that they hold the same identity."""
    return spoken(b"jcbir identity v1\0" + side.encode() + b"\0" + public + sealing_key)


def _kind(side: str) -> int:
    if side not in KINDS:
        raise ValueError(f"side: must be one of {sorted(KINDS)}, got {side!r}")
    return KINDS[side]
