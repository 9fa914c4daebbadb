"""Key files: public ones in the clear, secret ones under a passphrase; the two kinds never share a file.

    public   `jcbir.storage.cards`, `jcbir.storage.identities`
    secret   `jcbir.storage._wrapped`

Secret files are created with mode 0600 and replaced atomically. Python can neither wipe nor lock memory: a secret that
was read stays in the process's memory until it ends.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jcbir.paillier.secret import SecretKey
from jcbir.protocol._handover import DELEGATION, SECRET_KEY
from jcbir.protocol._schema import Codec, Reader, many, octets, read_plain, record, text, whole, write_plain
from jcbir.protocol.owner import Delegation, Owner
from jcbir.protocol.user import User, UserKeys
from jcbir.protocol.wire import CARD, GRANT
from jcbir.storage._wrapped import MAXIMUM_BYTES, WORK, read_wrapped, write_wrapped

_KEY = octets(low=32, high=32)
_USER_KEYS = record(UserKeys, sealing_secret=octets(low=32, high=4096), signing_secret=_KEY)


class _Part(NamedTuple):
    segment: int
    image_ids: tuple[str, ...]


_PARTS = many(record(_Part, segment=whole(low=0, high=1 << 31), image_ids=many(text(low=1, high=64))))


def _pack_image_ids(values: Mapping[str, int]) -> Any:
    segments: dict[int, list[str]] = {}
    for image_id, segment in sorted(values.items()):
        segments.setdefault(segment, []).append(image_id)
    parts = (_Part(segment, tuple(names)) for segment, listed in segments.items() for names in _batches(listed))
    return _PARTS.pack(tuple(parts))


def _parse_image_ids(reader: Reader, name: str) -> dict[str, int]:
    return {image_id: part.segment for part in _PARTS.parse(reader, name) for image_id in part.image_ids}


_IMAGE_IDS = Codec(_pack_image_ids, _parse_image_ids)
_OWNER = record(
    Owner,
    card=CARD,
    secret=SECRET_KEY,
    image_master=_KEY,
    masking_key=_KEY,
    naming_key=_KEY,
    signing_secret=_KEY,
    segments=whole(low=0, high=1 << 31),
    image_ids=_IMAGE_IDS,
    revoked=many(octets(low=16, high=16)),
    revocation_serial=whole(low=0, high=1 << 31),
)
# Pending queries are not kept: a user who restarts asks again.
_USER = record(
    lambda keys, card, grant, masking_key: User(keys, card, grant, masking_key),
    keys=_USER_KEYS,
    card=CARD,
    grant=GRANT,
    masking_key=_KEY,
)

SECRETS: dict[type, tuple[int, Codec]] = {
    SecretKey: (1, SECRET_KEY),
    Owner: (2, _OWNER),
    Delegation: (3, DELEGATION),
    UserKeys: (4, _USER_KEYS),
    User: (5, _USER),
}
"""Every secret that has a file: its kind and its schema."""


def write_secret(
    path: str | os.PathLike,
    secret: Any,
    *,
    passphrase: str,
    draw: Callable[[int], bytes],
    work: int = WORK,
    replace: bool = False,
) -> None:
    """Write a secret under a passphrase.

    Args:
        path: where; mode 0600, atomically.
        secret: a `SecretKey`, `Owner`, `Delegation`, `UserKeys` or `User`.
        passphrase: at least 8 letters; written in Unicode's composed form (NFC).
        draw: source of random bytes, `secrets.token_bytes`.
        work: log2 of scrypt's cost; 17 takes 128 MiB and some tenths of a second.
        replace: whether an existing file may be replaced.

    Returns:
        Nothing.

    Raises:
        ValueError: no such secret, a short passphrase, one that is no Unicode text, or work out of range.
        FileExistsError: the file exists and may not be replaced.

    Example:
        >>> import secrets, tempfile
        >>> path = f"{tempfile.mkdtemp()}/user.secret"
        >>> keys = UserKeys(bytes(32), bytes(32))
        >>> write_secret(path, keys, passphrase="correct horse", draw=secrets.token_bytes, work=14)
        >>> read_secret(path, passphrase="correct horse", expect=UserKeys) == keys
        True

    References:
        Percival and Josefsson, RFC 7914 (2016). Saint-Andre and Melnikov, RFC 8265 (2017), section 4.
    """
    if type(secret) not in SECRETS:
        raise ValueError(f"secret: no file holds a {type(secret).__name__}")
    kind, codec = SECRETS[type(secret)]
    body = write_plain(codec, secret)
    write_wrapped(path, body, kind=kind, passphrase=passphrase, draw=draw, work=work, replace=replace)


def read_secret(path: str | os.PathLike, *, passphrase: str, expect: type) -> Any:
    """Read a secret.

    Args:
        path: the file.
        passphrase: the passphrase it was written with.
        expect: class of the secret.

    Returns:
        The secret.

    Raises:
        FormatError: not a secret file of this version and kind.
        IntegrityError: wrong passphrase, or the file was altered; the two cannot be told apart.
        PermissionError: others may read the file.

    Example:
        >>> import pathlib, tempfile
        >>> path = f"{tempfile.mkdtemp()}/user.secret"
        >>> _ = pathlib.Path(path).write_bytes(b"JCBP")
        >>> pathlib.Path(path).chmod(0o600)
        >>> read_secret(path, passphrase="correct horse", expect=UserKeys)
        Traceback (most recent call last):
        ...
        jcbir.errors.FormatError: ...user.secret: not a secret file of version 2
    """
    kind, codec = SECRETS[expect]
    body = read_wrapped(path, kind=kind, name=expect.__name__, passphrase=passphrase)
    # Whoever wrote this knows the passphrase: an owner's list of names may take more room than a stranger's message.
    return read_plain(codec, body, name=expect.__name__, room=8 * MAXIMUM_BYTES)


def _batches(names: list[str], size: int = 1 << 15) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(names[start : start + size]) for start in range(0, len(names), size))
