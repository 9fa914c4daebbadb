"""The public file of a collection. Apart from the secret ones, so that who reads it loads no secret code.

4 bytes magic b"JCBP", version, kind, 2 zero bytes, msgpack body, SHA-256 of all before
"""

import hashlib
import os
import pathlib
import struct

from jcbir.errors import FormatError, check_version
from jcbir.protocol._schema import read_plain, write_plain
from jcbir.protocol.messages import Card
from jcbir.protocol.wire import CARD
from jcbir.ranking._keys import check_key
from jcbir.storage._files import write_file

MAGIC, VERSION = b"JCBP", 2
MAXIMUM_BYTES = 1 << 16
_START = struct.pack(">4sBBH", MAGIC, VERSION, 1, 0)


def write_card(path: str | os.PathLike[str], card: Card, *, replace: bool = True) -> None:
    """Write the public face of a collection.

    Args:
        path: where.
        card: the collection.
        replace: whether an existing file may be replaced.

    Example:
        >>> import tempfile
        >>> from jcbir.protocol.session import small_system
        >>> path = f"{tempfile.mkdtemp()}/photos.public"
        >>> write_card(path, small_system().owner.card)
        >>> read_card(path, unsafe_small=True).collection
        'photos'
    """
    content = _START + write_plain(CARD, card)
    write_file(path, content + hashlib.sha256(content).digest(), replace=replace)


def read_card(path: str | os.PathLike[str], *, unsafe_small: bool = False) -> Card:
    """Read the public face of a collection.

    Args:
        path: the file.
        unsafe_small: permit a key so short that anyone can break it, for tests.

    Returns:
        The card. Compare `card_fingerprint` with what its owner says before trusting it.

    Raises:
        FormatError: not a public file of this version, or altered.
        ValueError: its key is visibly weak.

    Example:
        >>> import tempfile
        >>> path = f"{tempfile.mkdtemp()}/photos.public"
        >>> _ = pathlib.Path(path).write_bytes(bytes(100))
        >>> read_card(path)
        Traceback (most recent call last):
        ...
        jcbir.errors.FormatError: ...photos.public: not a public file of a collection
    """
    size = os.stat(path).st_size
    content = pathlib.Path(path).read_bytes() if size <= MAXIMUM_BYTES else b""
    if content[:4] == MAGIC and len(content) > 4:
        check_version(content[4], version=VERSION, name=f"{path}", remedy="its owner founds the collection anew")
    if not content.startswith(_START) or len(content) < len(_START) + 32:
        raise FormatError(f"{path}: not a public file of a collection")
    if hashlib.sha256(content[:-32]).digest() != content[-32:]:
        raise FormatError(f"{path}: the checksum does not match")
    card = read_plain(CARD, content[len(_START) : -32], name="Card")
    check_key(card.public, unsafe_small=unsafe_small)
    return card


def card_fingerprint(card: Card) -> str:
    """Compute what two people compare over the telephone to know that they hold the same card.

    Args:
        card: the collection.

    Returns:
        SHA-256 of the card's file content as eight groups of four hexadecimal digits (128 bits).

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> len(card_fingerprint(small_system().owner.card))
        39
    """
    return spoken(b"jcbir card v2\0" + write_plain(CARD, card))


def spoken(content: bytes) -> str:
    """SHA-256 of a content as two people read it out: eight groups of four hexadecimal digits (128 bits)."""
    shown = hashlib.sha256(content).hexdigest()[:32]
    return " ".join(shown[start : start + 4] for start in range(0, 32, 4))
