"""Bytes under a passphrase, in a private file. Apart from the secrets themselves: what reads one kind loads no other.

4 bytes magic b"JCBS", version, kind, log2 of scrypt's n, zero byte, 16 bytes salt, 12 bytes nonce,
AES-256-GCM of the body under scrypt(passphrase, salt, n, r = 8, p = 1), header as associated data
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

from jcbir.errors import FormatError, IntegrityError
from jcbir.storage.files import PRIVATE, write_file

SECRET_MAGIC = b"JCBS"
VERSION = 2
WORK = 17
MINIMUM_WORK, MAXIMUM_WORK = 14, 20
MINIMUM_PASSPHRASE = 8
MAXIMUM_BYTES = 1 << 28
_HEADER = struct.Struct(">4sBBBB16s12s")


def write_wrapped(
    path: str | os.PathLike,
    body: bytes,
    *,
    kind: int,
    passphrase: str,
    draw: Callable[[int], bytes],
    work: int = WORK,
    replace: bool = False,
) -> None:
    """Write a body under a passphrase, atomically and with mode 0600."""
    composed = spellings(passphrase)[0]
    # An accent that has no composed form is no letter of its own.
    letters = sum(not unicodedata.combining(letter) for letter in composed)
    if letters < MINIMUM_PASSPHRASE:
        raise ValueError(f"passphrase: must be at least {MINIMUM_PASSPHRASE} letters, got {letters}")
    if not MINIMUM_WORK <= work <= MAXIMUM_WORK:
        raise ValueError(f"work: must be {MINIMUM_WORK} to {MAXIMUM_WORK}, got {work}")
    salt, nonce = draw(16), draw(12)
    header = _HEADER.pack(SECRET_MAGIC, VERSION, kind, work, 0, salt, nonce)
    sealed = AESGCM(_stretch(composed, salt, work)).encrypt(nonce, body, header)
    write_file(path, header + sealed, mode=PRIVATE, replace=replace)


def read_wrapped(path: str | os.PathLike, *, kind: int, name: str, passphrase: str) -> bytes:
    """Read the body of a file of this kind; a wrong passphrase and an altered file cannot be told apart."""
    _check_private(path)
    content = _read(path)
    if len(content) < _HEADER.size:
        raise FormatError(f"{path}: not a secret file of version {VERSION}")
    magic, version, found, work, reserved, salt, nonce = _HEADER.unpack_from(content)
    if magic != SECRET_MAGIC or version != VERSION or reserved:
        raise FormatError(f"{path}: not a secret file of version {VERSION}")
    if found != kind:
        raise FormatError(f"{path}: holds no {name}")
    # The cost comes from the file: without the bound a foreign file could ask for any amount of memory.
    if not MINIMUM_WORK <= work <= MAXIMUM_WORK:
        raise FormatError(f"{path}: scrypt work {work}, expected {MINIMUM_WORK} to {MAXIMUM_WORK}")
    header, sealed = content[: _HEADER.size], content[_HEADER.size :]
    for spelling in spellings(passphrase):
        with contextlib.suppress(InvalidTag):
            return AESGCM(_stretch(spelling, salt, work)).decrypt(nonce, sealed, header)
    raise IntegrityError(f"{path}: wrong passphrase, or the file was altered")


def spellings(passphrase: str) -> list[str]:
    """Composed, as it is written; then as it was typed, as earlier versions wrote it."""
    try:
        passphrase.encode()
    except UnicodeEncodeError:
        raise ValueError("passphrase: must be Unicode text, got a lone surrogate") from None
    return list(dict.fromkeys([unicodedata.normalize("NFC", passphrase), passphrase]))


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
