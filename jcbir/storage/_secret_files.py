"""Secret files: mode 0600, written atomically, under a passphrase or readable by nobody but this user.

    4 bytes magic b"JCBS", version, kind, log2 of scrypt's n (0 without a passphrase), zero byte, 16 bytes salt,
    12 bytes nonce, then AES-256-GCM of the content under scrypt(passphrase, salt, n, r = 8, p = 1), or under 32 zero
    bytes: a checksum, no secret; the header is associated data

Apart from the schemas of what they hold, so that a service which has only a signing key loads no other secret code.
Python can neither wipe nor lock memory: a secret that was read stays in the process's memory until it ends.

References:
    Percival and Josefsson, RFC 7914 (2016), scrypt. Saint-Andre and Melnikov, RFC 8265 (2017), section 4, passphrases.
"""

import contextlib
import os
import pathlib
import struct
import unicodedata
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from jcbir.errors import FormatError, IntegrityError, check_version
from jcbir.storage._files import PRIVATE, write_file

MAGIC = b"JCBS"
VERSION = 2
WORK = 17
MINIMUM_WORK, MAXIMUM_WORK = 14, 20
MINIMUM_PASSPHRASE = 8
MAXIMUM_BYTES = 1 << 28
NAMES = {
    1: "a Paillier key",
    2: "an owner's keys (`owner.secret`)",
    3: "an authority's key (`authority.secret`)",
    4: "a user's keys (`user.secret`)",
    5: "a user's admission (`member.secret`)",
    6: "the identity of a cloud",
    7: "the identity of an authority",
}
"""What each kind of file holds, in words."""

_HEADER = struct.Struct(">4sBBBB16s12s")


def write_content(
    path: str | os.PathLike[str],
    content: bytes,
    *,
    kind: int,
    passphrase: str | None,
    draw: Callable[[int], bytes],
    work: int = WORK,
    replace: bool = False,
) -> None:
    """Write the content of a secret file."""
    composed = spellings(passphrase)[0]
    if composed is not None:
        check_letters(composed)
    if not MINIMUM_WORK <= work <= MAXIMUM_WORK:
        raise ValueError(f"work: must be {MINIMUM_WORK} to {MAXIMUM_WORK}, got {work}")
    salt, nonce = draw(16), draw(12)
    header = _HEADER.pack(MAGIC, VERSION, kind, work if composed else 0, 0, salt, nonce)
    sealed = AESGCM(_key(composed, salt, work)).encrypt(nonce, content, header)
    write_file(path, header + sealed, mode=PRIVATE, replace=replace)


def read_content(path: str | os.PathLike[str], *, kind: int, passphrase: str | None) -> bytes:
    """Read the content of a secret file."""
    size = os.stat(path).st_size
    if size > MAXIMUM_BYTES:
        raise FormatError(f"{path}: must be at most {MAXIMUM_BYTES} bytes, got {size}")
    blob = pathlib.Path(path).read_bytes()
    if len(blob) < _HEADER.size or blob[:4] != MAGIC:
        raise FormatError(f"{path}: must hold {NAMES[kind]}, got another file")
    mode = os.stat(path).st_mode & 0o777
    if mode & 0o077:
        raise PermissionError(f"{path}: mode must let nobody else read a secret, as 600 does, got {mode:o}")
    _, version, found, work, reserved, salt, nonce = _HEADER.unpack_from(blob)
    check_version(version, version=VERSION, name=f"{path}", remedy="make it anew by the `init` of whoever has it")
    if found != kind or reserved:
        raise FormatError(f"{path}: must hold {NAMES[kind]}, got {NAMES.get(found, f'kind {found}')}")
    if (passphrase is None) != (work == 0):
        raise FormatError(f"{path}: must be {'without' if passphrase is None else 'under'} a passphrase")
    # The cost comes from the file: without the bound a foreign file could ask for any amount of memory.
    if work and not MINIMUM_WORK <= work <= MAXIMUM_WORK:
        raise FormatError(f"{path}: scrypt work must be {MINIMUM_WORK} to {MAXIMUM_WORK}, got {work}")
    for spelling in spellings(passphrase):
        with contextlib.suppress(InvalidTag):
            return AESGCM(_key(spelling, salt, work)).decrypt(nonce, blob[_HEADER.size :], blob[: _HEADER.size])
    raise IntegrityError(f"{path}: wrong passphrase, or the file was altered")


def check_letters(passphrase: str) -> None:
    """Refuse a passphrase that is soon guessed."""
    # An accent that has no composed form is no letter of its own.
    letters = sum(not unicodedata.combining(letter) for letter in unicodedata.normalize("NFC", passphrase))
    if letters < MINIMUM_PASSPHRASE:
        raise ValueError(f"passphrase: must be at least {MINIMUM_PASSPHRASE} letters, got {letters}")


def spellings(passphrase: str | None) -> list[str | None]:
    """Spell a passphrase as it may have been written: composed, then as it was typed, as earlier versions wrote it."""
    if passphrase is None:
        return [None]
    try:
        passphrase.encode()
    except UnicodeEncodeError:
        raise ValueError("passphrase: must be Unicode text, got a lone surrogate") from None
    return list(dict.fromkeys([unicodedata.normalize("NFC", passphrase), passphrase]))


def _key(passphrase: str | None, salt: bytes, work: int) -> bytes:
    if passphrase is None:
        return bytes(32)
    return Scrypt(salt=salt, length=32, n=1 << work, r=8, p=1).derive(passphrase.encode())
