"""Files in the owner's folder that only the owner can read.

    4 bytes magic, version, 3 zero bytes, 12 bytes nonce, then AES-256-GCM of the content; the first 8 bytes and the
    name of the file are associated data

The key is HMAC-SHA256(naming key, domain), another domain for each kind of file: it comes with the owner's state, which
is under the passphrase. An scrypt of its own for each of many files would take long.
"""

import hmac
import secrets
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from jcbir.errors import FormatError, IntegrityError
from jcbir.protocol.owner import Owner
from jcbir.storage import write_file
from jcbir.storage._files import PRIVATE

_NONCE = 12


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: what it holds.
        magic: its first four bytes.
        version: of its format.
        remedy: what to do about a damaged one, behind a semicolon.
    """

    name: str
    magic: bytes
    version: int
    remedy: str = ""


def hidden_name(of: str, *, kind: Kind, owner: Owner) -> str:
    """Name the file of something so that only the owner can tell whose it is."""
    context = f"jcbir {kind.name} v{kind.version} of {of}".encode()
    return hmac.digest(owner.naming_key, context, "sha256")[:16].hex()


def write_hidden(file: Path, content: bytes, *, kind: Kind, owner: Owner) -> None:
    """Write a file, whole or not at all."""
    head, nonce = _head(kind), secrets.token_bytes(_NONCE)
    write_file(
        file, head + nonce + _cipher(kind, owner).encrypt(nonce, content, head + file.name.encode()), mode=PRIVATE
    )


def read_hidden(file: Path, *, kind: Kind, owner: Owner) -> bytes:
    """Read a file as this owner wrote it."""
    content = file.read_bytes()
    head, nonce, sealed = content[:8], content[8 : 8 + _NONCE], content[8 + _NONCE :]
    if head != _head(kind):
        raise FormatError(
            f"{file}: must be a file of {kind.name} of version {kind.version}, got another file{kind.remedy}"
        )
    try:
        return _cipher(kind, owner).decrypt(nonce, sealed, head + file.name.encode())
    except (InvalidTag, ValueError):
        raise IntegrityError(
            f"{file}: must be as this owner wrote it, got another owner's, or altered{kind.remedy}"
        ) from None


def _cipher(kind: Kind, owner: Owner) -> AESGCM:
    domain = f"jcbir {kind.name} v{kind.version}".encode()
    return AESGCM(hmac.digest(owner.naming_key, domain, "sha256"))


def _head(kind: Kind) -> bytes:
    return kind.magic + bytes([kind.version, 0, 0, 0])
