"""Key files: public ones in the clear, secret ones under a passphrase; the two kinds never share a file.

    public   `jcbir.storage.cards`
    secret   4 bytes magic b"JCBS", version, kind, log2 of scrypt's n, zero byte, 16 bytes salt, 12 bytes nonce,
             AES-256-GCM of the msgpack body under scrypt(passphrase, salt, n, r = 8, p = 1), header as associated data

Secret files are created with mode 0600 and replaced atomically. Python can neither wipe nor lock memory: a secret that
was read stays in the process's memory until it ends.
"""

import os
import pathlib
import struct
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from jcbir.errors import FormatError, IntegrityError
from jcbir.paillier._primes import StructuredPrime
from jcbir.paillier.secret import SecretKey
from jcbir.protocol._schema import Codec, many, number, octets, read_plain, record, text, whole, write_plain
from jcbir.protocol.holdings import Delegation, Owner
from jcbir.protocol.user import User, UserKeys
from jcbir.protocol.wire import CARD, GRANT, PUBLIC_KEY
from jcbir.storage.cards import card_fingerprint, read_card, write_card
from jcbir.storage.files import PRIVATE, write_file

SECRET_MAGIC = b"JCBS"
VERSION = 1
WORK = 17
MINIMUM_WORK, MAXIMUM_WORK = 14, 20
MINIMUM_PASSPHRASE = 8
MAXIMUM_BYTES = 1 << 28
_HEADER = struct.Struct(">4sBBBB16s12s")

_KEY = octets(low=32, high=32)
_PRIME = record(StructuredPrime, prime=number(), small=number(), large=number())
SECRET_KEY = record(SecretKey, public=PUBLIC_KEY, p=_PRIME, q=_PRIME)
_USER_KEYS = record(UserKeys, sealing_secret=octets(low=32, high=4096), signing_secret=_KEY)
_IMAGE_IDS = Codec(
    lambda values: [list(names) for names in _batches(sorted(values))],
    lambda plain, name: frozenset(
        image_id for names in many(many(text(low=1, high=64))).parse(plain, name) for image_id in names
    ),
)
_OWNER = record(
    Owner,
    card=CARD,
    secret=SECRET_KEY,
    image_master=_KEY,
    masking_key=_KEY,
    naming_key=_KEY,
    signing_secret=_KEY,
    authority_secret=_KEY,
    segments=whole(low=0, high=1 << 31),
    image_ids=_IMAGE_IDS,
    revoked=many(octets(low=16, high=16)),
    revocation_serial=whole(low=0, high=1 << 31),
)
_DELEGATION = record(Delegation, card=CARD, secret=SECRET_KEY, image_master=_KEY, authority_secret=_KEY)
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
    Delegation: (3, _DELEGATION),
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
        passphrase: at least 8 characters.
        draw: source of random bytes, `secrets.token_bytes`.
        work: log2 of scrypt's cost; 17 takes 128 MiB and some tenths of a second.
        replace: whether an existing file may be replaced.

    Returns:
        Nothing.

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
        raise ValueError(f"secret: no file holds a {type(secret).__name__}")
    if len(passphrase) < MINIMUM_PASSPHRASE:
        raise ValueError(f"passphrase: at least {MINIMUM_PASSPHRASE} characters, got {len(passphrase)}")
    if not MINIMUM_WORK <= work <= MAXIMUM_WORK:
        raise ValueError(f"work: {MINIMUM_WORK} to {MAXIMUM_WORK}, got {work}")
    kind, codec = SECRETS[type(secret)]
    salt, nonce = draw(16), draw(12)
    header = _HEADER.pack(SECRET_MAGIC, VERSION, kind, work, 0, salt, nonce)
    sealed = AESGCM(_stretch(passphrase, salt, work)).encrypt(nonce, write_plain(codec, secret), header)
    write_file(path, header + sealed, mode=PRIVATE, replace=replace)


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
        >>> import tempfile
        >>> path = f"{tempfile.mkdtemp()}/user.secret"
        >>> _ = pathlib.Path(path).write_bytes(b"JCBP")
        >>> pathlib.Path(path).chmod(0o600)
        >>> read_secret(path, passphrase="correct horse", expect=UserKeys)
        Traceback (most recent call last):
        ...
        jcbir.errors.FormatError: ...user.secret: not a secret file of version 1
    """
    _check_private(path)
    content = _read(path)
    if len(content) < _HEADER.size:
        raise FormatError(f"{path}: not a secret file of version {VERSION}")
    magic, version, kind, work, reserved, salt, nonce = _HEADER.unpack_from(content)
    if magic != SECRET_MAGIC or version != VERSION or reserved:
        raise FormatError(f"{path}: not a secret file of version {VERSION}")
    if kind != SECRETS[expect][0]:
        raise FormatError(f"{path}: holds no {expect.__name__}")
    # The cost comes from the file: without the bound a foreign file could ask for any amount of memory.
    if not MINIMUM_WORK <= work <= MAXIMUM_WORK:
        raise FormatError(f"{path}: scrypt work {work}, expected {MINIMUM_WORK} to {MAXIMUM_WORK}")
    try:
        header = content[: _HEADER.size]
        body = AESGCM(_stretch(passphrase, salt, work)).decrypt(nonce, content[_HEADER.size :], header)
    except InvalidTag:
        raise IntegrityError(f"{path}: wrong passphrase, or the file was altered") from None
    return read_plain(SECRETS[expect][1], body, name=expect.__name__)


def _stretch(passphrase: str, salt: bytes, work: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << work, r=8, p=1).derive(passphrase.encode())


def _read(path: str | os.PathLike) -> bytes:
    size = os.stat(path).st_size
    if size > MAXIMUM_BYTES:
        raise FormatError(f"{path}: {size} bytes, a key file has at most {MAXIMUM_BYTES}")
    return pathlib.Path(path).read_bytes()


def _check_private(path: str | os.PathLike) -> None:
    mode = os.stat(path).st_mode & 0o777
    if mode & 0o077:
        raise PermissionError(f"{path}: mode {mode:o} lets others read a secret; set it to 600")


def _batches(names: list[str], size: int = 1 << 15) -> list[list[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]


__all__ = ["SECRETS", "card_fingerprint", "read_card", "read_secret", "write_card", "write_secret"]
