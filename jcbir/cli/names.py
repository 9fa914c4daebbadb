"""Which photograph a pseudonym is: files in the owner's folder that only the owner can read.

    4 bytes magic b"JCBN", version, 3 zero bytes, 12 bytes nonce, then AES-256-GCM of JSON; the 8 bytes and the name of
    the file are associated data

The key is HMAC-SHA256(naming key, domain): it comes with the owner's state, which is under the passphrase. An scrypt of
its own for each of many files would take long.
"""

import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from jcbir.errors import FormatError, IntegrityError
from jcbir.protocol.owner import Owner
from jcbir.storage import write_file
from jcbir.storage._files import PRIVATE

MAGIC, VERSION = b"JCBN", 1
SUFFIX, EARLIER = ".names", ".json"
"""Names of files; those of version 0 were JSON that anybody could read who could read the folder."""

DOMAIN = b"jcbir names v1"
_NONCE = 12

Entry = dict[str, str]
"""What the owner alone knows of an image: `sha256` of its file, its `path` below the folder `root`, its `code`, as
`file` the path as the disk has it where that is another spelling, and its `caption` where that was noted."""


def names_writer(names: Mapping[str, Mapping[str, str]], owner: Owner) -> Callable[[Path], None]:
    """Make the writer of a file of names for `commit`: pseudonym to entry."""
    return partial(write_names, names=names, owner=owner)


def write_names(file: Path, names: Mapping[str, Mapping[str, str]], owner: Owner) -> None:
    """Write a file of names."""
    nonce = secrets.token_bytes(_NONCE)
    sealed = _cipher(owner).encrypt(nonce, json.dumps(names).encode(), _head(VERSION) + file.name.encode())
    write_file(file, _head(VERSION) + nonce + sealed, mode=PRIVATE)


def read_names(file: Path, owner: Owner) -> dict[str, Entry]:
    """Read a file of names."""
    content = file.read_bytes()
    head, nonce, sealed = content[:8], content[8 : 8 + _NONCE], content[8 + _NONCE :]
    if head != _head(VERSION):
        raise FormatError(f"{file}: must be a file of names of version {VERSION}, got another file")
    try:
        return json.loads(_cipher(owner).decrypt(nonce, sealed, head + file.name.encode()))
    except (InvalidTag, ValueError):
        raise IntegrityError(f"{file}: must be as this owner wrote it, got another owner's, or altered") from None


def convert_names(folder: Path, owner: Owner) -> None:
    """Encrypt the files of names that an earlier version left in the clear; interrupted, the next call goes on."""
    for file in sorted(folder.glob(f"*{EARLIER}")):
        try:
            names = json.loads(file.read_text())
        except ValueError:
            raise FormatError(f"{file}: must be a file of names, got something else") from None
        # What stands there already is the owner's for certain; a clear file beside it anybody may have written.
        if not file.with_suffix(SUFFIX).exists():
            write_names(file.with_suffix(SUFFIX), names, owner)
        file.unlink()


def _cipher(owner: Owner) -> AESGCM:
    return AESGCM(hmac.digest(owner.naming_key, DOMAIN, "sha256"))


def _head(version: int) -> bytes:
    return MAGIC + bytes([version, 0, 0, 0])
