"""Key files of owner and users, under a passphrase: what they hold; `_secret_files` says how such a file looks."""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jcbir.paillier.secret import SecretKey
from jcbir.protocol._handover import DELEGATION, SECRET_KEY, Delegation
from jcbir.protocol._schema import Codec, Reader, many, octets, read_plain, record, text, whole, write_plain
from jcbir.protocol.owner import Owner
from jcbir.protocol.user import User, UserKeys
from jcbir.protocol.wire import CARD, GRANT, PART
from jcbir.ranking._keys import tag_key
from jcbir.ranking._secret_keys import SECRET_KEY_KINDS
from jcbir.storage._secret_files import MAXIMUM_BYTES, WORK, read_content, write_content


class _Place(NamedTuple):
    """Where an image was published."""

    image_id: str
    segment: int


_KEY = octets(low=32, high=32)
_COUNT = whole(low=0, high=1 << 31)
_USER_KEYS = record(UserKeys, sealing_secret=octets(low=32, high=4096), signing_secret=_KEY)
# A list is limited; a collection is not.
_PLACES = many(many(record(_Place, image_id=text(low=1, high=64), segment=_COUNT)))


def _pack_places(places: Mapping[str, int], size: int = 1 << 15) -> list:
    lines = [_Place(*item) for item in sorted(places.items())]
    return _PLACES.pack(tuple(tuple(lines[start : start + size]) for start in range(0, len(lines), size)))


def _parse_places(reader: Reader, name: str) -> dict[str, int]:
    return {line.image_id: line.segment for lines in _PLACES.parse(reader, name) for line in lines}


_OWNER = record(
    Owner,
    card=CARD,
    secret=SECRET_KEY,
    image_master=_KEY,
    masking_key=_KEY,
    naming_key=_KEY,
    signing_secret=_KEY,
    segments=_COUNT,
    image_ids=Codec(_pack_places, _parse_places),
    revoked=many(octets(low=16, high=16)),
    revocation_serial=_COUNT,
    parts=many(PART),
    heads=_COUNT,
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
"""Every secret of owner and users that has a file: its kind and its schema."""


def write_secret(
    path: str | os.PathLike[str],
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
        secret: a `SecretKey`, `Owner`, `Delegation`, `Identity`, `UserKeys` or `User`.
        passphrase: at least 8 characters.
        draw: source of random bytes, `secrets.token_bytes`.
        work: log2 of scrypt's cost; 17 takes 128 MiB and some tenths of a second.
        replace: whether an existing file may be replaced.

    Raises:
        ValueError: no such secret, a short passphrase, or work out of range.
        FileExistsError: the file exists and may not be replaced.

    Example:
        >>> import secrets, tempfile
        >>> path = f"{tempfile.mkdtemp()}/user.secret"
        >>> keys = UserKeys(bytes(32), bytes(32))
        >>> write_secret(path, keys, passphrase="correct horse", draw=secrets.token_bytes, work=14)
        >>> read_secret(path, passphrase="correct horse", expect=UserKeys) == keys
        True

    References:
        Percival and Josefsson, RFC 7914 (2016).
    """
    if type(secret) not in SECRETS:
        names = sorted(kind.__name__ for kind in SECRETS)
        raise ValueError(f"secret: must be one of {names}, got a {type(secret).__name__}")
    kind, codec = SECRETS[type(secret)]
    content = write_plain(codec, secret)
    write_content(path, content, kind=kind, passphrase=passphrase, draw=draw, work=work, replace=replace)


def read_secret(path: str | os.PathLike[str], *, passphrase: str, expect: type, unsafe_small: bool = False) -> Any:
    """Read a secret.

    Args:
        path: the file.
        passphrase: the passphrase it was written with.
        expect: class of the secret.
        unsafe_small: permit a key pair so short that anyone can break it, for tests.

    Returns:
        The secret. A key pair that comes from elsewhere (`SecretKey`, `Delegation`) has been proved to be a good one.

    Raises:
        FormatError: not a secret file of this version and kind.
        IntegrityError: wrong passphrase, or the file was altered; the two cannot be told apart.
        PermissionError: others may read the file.
        ValueError: the key pair decrypts wrongly or is weak.

    Example:
        >>> read_secret("no/such", passphrase="correct horse", expect=UserKeys)
        Traceback (most recent call last):
        ...
        FileNotFoundError: [Errno 2] No such file or directory: 'no/such'
    """
    kind, codec = SECRETS[expect]
    content = read_content(path, kind=kind, passphrase=passphrase)
    # Whoever wrote this knows the passphrase: an owner's list of names may take more room than a stranger's message.
    secret = read_plain(codec, content, name=expect.__name__, room=8 * MAXIMUM_BYTES)
    if isinstance(secret, SecretKey | Delegation):
        pair = secret.secret if isinstance(secret, Delegation) else secret
        SECRET_KEY_KINDS[tag_key(pair.public).kind].check(pair, unsafe_small=unsafe_small)
    return secret
