"""The identity of a service in two files: its secret under a passphrase, and what the owner writes into the card.

Apart from `jcbir.storage.keys`: the process of the cloud reads its identity and loads no other secret's code.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable

from jcbir.errors import FormatError
from jcbir.protocol._schema import octets, read_plain, record, write_plain
from jcbir.protocol._signatures import Identity
from jcbir.storage._wrapped import WORK, read_wrapped, write_wrapped
from jcbir.storage.files import write_file

KIND = 6
PARTIES = ("cloud", "authority")
MAXIMUM_BYTES = 1 << 12
_KEY = octets(low=32, high=32)
_IDENTITY = record(Identity, secret=_KEY, public=_KEY, sealing_key=octets(low=0, high=32))


def write_identity(
    path: str | os.PathLike,
    identity: Identity,
    *,
    passphrase: str,
    draw: Callable[[int], bytes],
    work: int = WORK,
) -> None:
    """Write an identity under a passphrase; none is ever replaced.

    Args:
        path: where; mode 0600, atomically.
        identity: from `jcbir.protocol.server.make_identity` or `jcbir.protocol.authority.make_identity`.
        passphrase: at least 8 letters.
        draw: source of random bytes, `secrets.token_bytes`.
        work: log2 of scrypt's cost.

    Raises:
        ValueError: a short passphrase, or one that is no Unicode text.
        FileExistsError: there is one already.

    Example:
        >>> import secrets, tempfile
        >>> from jcbir.protocol.server import make_identity
        >>> path, made = f"{tempfile.mkdtemp()}/identity.secret", make_identity(draw=secrets.token_bytes)
        >>> write_identity(path, made, passphrase="correct horse", draw=secrets.token_bytes, work=14)
        >>> read_identity(path, passphrase="correct horse") == made
        True
    """
    write_wrapped(path, write_plain(_IDENTITY, identity), kind=KIND, passphrase=passphrase, draw=draw, work=work)


def read_identity(path: str | os.PathLike, *, passphrase: str) -> Identity:
    """Read an identity.

    Args:
        path: the file.
        passphrase: the passphrase it was written with.

    Returns:
        The identity.

    Raises:
        FormatError: not an identity's file of this version.
        IntegrityError: wrong passphrase, or the file was altered; the two cannot be told apart.
        PermissionError: others may read the file.

    Example:
        >>> read_identity("no/such.secret", passphrase="correct horse")
        Traceback (most recent call last):
        ...
        FileNotFoundError: [Errno 2] No such file or directory: 'no/such.secret'
    """
    body = read_wrapped(path, kind=KIND, name="identity", passphrase=passphrase)
    return read_plain(_IDENTITY, body, name="Identity")


def write_public(path: str | os.PathLike, identity: Identity, *, party: str) -> None:
    """Write what the owner needs of an identity: a line of JSON, without its secret.

    Args:
        path: where.
        identity: the identity.
        party: "cloud" or "authority".

    Example:
        >>> import tempfile
        >>> path = f"{tempfile.mkdtemp()}/identity.public"
        >>> write_public(path, Identity(bytes(32), bytes(31) + b"a"), party="cloud")
        >>> read_public(path, party="cloud")
        (b'...a', b'')
    """
    plain = {"party": party, "public": identity.public.hex(), "sealing_key": identity.sealing_key.hex()}
    write_file(path, json.dumps(plain).encode() + b"\n")


def read_public(path: str | os.PathLike, *, party: str) -> tuple[bytes, bytes]:
    """Read what an owner needs of a service's identity.

    Args:
        path: the file.
        party: whose it must be, "cloud" or "authority".

    Returns:
        Ed25519 public key of 32 bytes, and HPKE key of 32 (b"" for a cloud).

    Raises:
        FormatError: not the public file of such an identity.

    Example:
        >>> read_public("no/such.public", party="cloud")
        Traceback (most recent call last):
        ...
        FileNotFoundError: [Errno 2] No such file or directory: 'no/such.public'
    """
    wanted = FormatError(f"{path}: must be the identity.public of `jcbir {party} init`, got something else")
    if os.stat(path).st_size > MAXIMUM_BYTES:
        raise wanted
    try:
        plain = json.loads(pathlib.Path(path).read_bytes())
        public, sealing_key = bytes.fromhex(plain["public"]), bytes.fromhex(plain["sealing_key"])
        found = plain["party"]
    except (ValueError, KeyError, TypeError):
        raise wanted from None
    if found != party or len(public) != 32 or len(sealing_key) != (32 if party == "authority" else 0):
        raise wanted
    return public, sealing_key


def identity_fingerprint(public: bytes, sealing_key: bytes, *, party: str) -> str:
    """Compute what service and owner compare over the telephone to know that they hold the same identity.

    Args:
        public: Ed25519 public key.
        sealing_key: HPKE public key, b"" for a cloud.
        party: "cloud" or "authority".

    Returns:
        SHA-256 of all three as eight groups of four hexadecimal digits (128 bits).

    Example:
        >>> len(identity_fingerprint(bytes(32), b"", party="cloud"))
        39
    """
    shown = hashlib.sha256(b"jcbir identity v1\0" + party.encode() + b"\0" + public + sealing_key).hexdigest()[:32]
    return " ".join(shown[start : start + 4] for start in range(0, 32, 4))
