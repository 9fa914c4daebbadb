"""The sealed-image format: header, strips, keys, and the AES-256-GCM that holds them together.

    header  "JCBI" | version 1 | algorithm | h | w | c (4 bytes each) | strip rows (4) | nonce (16) | id length (2) | id
    strip   ciphertext, 16 bytes of tag; GCM nonce: the strip's number (12); associated data: header || number (4)
    keys    HKDF-SHA-256(ikm = image key, salt = nonce, info = "jcbir seal" || version || algorithm)
            -> cipher key || GCM key

All integers are big-endian. `jcbir.sealing` is the door; this module is the frame.
"""

import struct
from typing import Literal, NamedTuple

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jaxtyping import UInt8

from jcbir.errors import FormatError, IntegrityError

Cipher = Literal["lorenz", "lorenz-reference50", "aes-gcm"]

VERSION = 1
"""Format version."""

NONCE_BYTES = 16
"""Length of the nonce of a sealed image."""

KEY_BYTES = 32
"""Length of every key."""

TAG_BYTES = 16
"""Length of a GCM tag."""

STRIP_PIXELS = 1 << 22
"""Pixels of a strip, at most."""

_MAGIC = b"JCBI"
_FIXED = struct.Struct(">4sBBIIII16sH")
FIXED_BYTES = _FIXED.size
"""Length of a header without its id; its last two bytes are the length of the id."""

_ALGORITHMS = {"lorenz": 1, "aes-gcm": 2, "lorenz-reference50": 3}


class Header(NamedTuple):
    """What a sealed image says of itself in the clear; authenticated, but only once it has been opened.

    Attributes:
        cipher: "lorenz", "lorenz-reference50" or "aes-gcm".
        shape: Image extents (h, w, c).
        strip_rows: Rows of each strip but the last.
        nonce: 16 bytes.
        image_id: Id the image was sealed for.
    """

    cipher: str
    shape: tuple[int, int, int]
    strip_rows: int
    nonce: bytes
    image_id: str


def header(sealed: bytes) -> Header:
    """Header of a sealed image; not verified before the image is opened.

    Args:
        sealed: Sealed image, or its beginning.

    Returns:
        The header.

    Raises:
        FormatError: not a sealed image, another version, unknown algorithm, or too short for a header.

    Example:
        >>> header(pack_header(Header("aes-gcm", (2, 3, 1), 2, bytes(16), "a"))).shape
        (2, 3, 1)
    """
    if len(sealed) < _FIXED.size:
        raise FormatError(f"sealed: a header takes at least {_FIXED.size} bytes, got {len(sealed)}")
    magic, version, algorithm, h, w, c, rows, nonce, id_length = _FIXED.unpack_from(sealed)
    if magic != _MAGIC or version != VERSION:
        raise FormatError(f"sealed: not a sealed image of version {VERSION}, begins with {bytes(sealed[:5])!r}")
    names = {code: name for name, code in _ALGORITHMS.items()}
    name = bytes(sealed[_FIXED.size : _FIXED.size + id_length])
    if algorithm not in names or 0 in (h, w, c) or rows != strip_rows((h, w, c)) or len(name) != id_length:
        raise FormatError(f"sealed: header is inconsistent (algorithm {algorithm}, {h} x {w} x {c}, strips of {rows})")
    try:
        image_id = name.decode()
    except UnicodeDecodeError as error:
        raise FormatError("sealed: the image id is not UTF-8") from error
    return Header(names[algorithm], (h, w, c), rows, nonce, image_id)


def strip_rows(shape: tuple[int, ...]) -> int:
    """Rows of a strip: the whole image up to 2^22 pixels, else as many rows as fit that, at least one.

    Args:
        shape: Image extents (h, w, c).

    Returns:
        Rows, 1 to h.

    Example:
        >>> strip_rows((10000, 10000, 3)), strip_rows((2048, 2048, 3))
        (419, 2048)
    """
    return min(shape[0], max(1, STRIP_PIXELS // shape[1]))


def pack_header(head: Header) -> bytes:
    """Bytes of a header.

    Args:
        head: The header.

    Returns:
        40 bytes and the id.

    Raises:
        ValueError: unknown cipher, nonce of another length, or id over 65,535 bytes.

    Example:
        >>> len(pack_header(Header("aes-gcm", (2, 3, 1), 2, bytes(16), "a")))
        41
    """
    if head.cipher not in _ALGORITHMS:
        raise ValueError(f"cipher must be one of {sorted(_ALGORITHMS)}, got {head.cipher!r}")
    if len(head.nonce) != NONCE_BYTES:
        raise ValueError(f"nonce must be {NONCE_BYTES} bytes, got {len(head.nonce)}")
    name = head.image_id.encode()
    if len(name) > 0xFFFF:
        raise ValueError(f"image_id must be at most 65535 bytes of UTF-8, got {len(name)}")
    code = _ALGORITHMS[head.cipher]
    return _FIXED.pack(_MAGIC, VERSION, code, *head.shape, head.strip_rows, head.nonce, len(name)) + name


def strip_keys(key: bytes, nonce: bytes, cipher: str) -> tuple[bytes, bytes]:
    """Cipher key and GCM key of one sealed image.

    Args:
        key: Image key, 32 bytes.
        nonce: Nonce of the header.
        cipher: Cipher of the header.

    Returns:
        Two keys of 32 bytes.

    Raises:
        ValueError: the key is not 32 bytes.

    Example:
        >>> [len(k) for k in strip_keys(bytes(32), bytes(16), "lorenz")]
        [32, 32]
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"key must be {KEY_BYTES} bytes, got {len(key)}")
    info = b"jcbir seal" + bytes([VERSION, _ALGORITHMS[cipher]])
    pair = HKDF(SHA256(), 2 * KEY_BYTES, salt=nonce, info=info).derive(key)
    return pair[:KEY_BYTES], pair[KEY_BYTES:]


def strip_nonce(number: int) -> bytes:
    """Nonce of the Lorenz layer of a strip: its number in 16 bytes; the cipher key is fresh with every image.

    Args:
        number: Strip number, from 0.

    Returns:
        16 bytes.

    Example:
        >>> strip_nonce(1)[-2:]
        b'\\x00\\x01'
    """
    return number.to_bytes(NONCE_BYTES, "big")


def lock(gcm_key: bytes, number: int, packed: bytes, body: bytes) -> bytes:
    """AES-256-GCM over one strip.

    Args:
        gcm_key: Key of `strip_keys`.
        number: Strip number: the GCM nonce, and authenticated with the header.
        packed: Header bytes.
        body: Strip bytes.

    Returns:
        Ciphertext and tag.

    Example:
        >>> len(lock(bytes(32), 0, b"header", b"body"))
        20
    """
    return AESGCM(gcm_key).encrypt(number.to_bytes(12, "big"), body, packed + number.to_bytes(4, "big"))


def unlock(gcm_key: bytes, number: int, packed: bytes, locked: bytes) -> UInt8[np.ndarray, "n"]:
    """Inverse of `lock`.

    Args:
        gcm_key: Key of `strip_keys`.
        number: Strip number.
        packed: Header bytes.
        locked: Ciphertext and tag.

    Returns:
        Strip bytes.

    Raises:
        IntegrityError: the tag does not verify.

    Example:
        >>> unlock(bytes(32), 0, b"header", lock(bytes(32), 0, b"header", b"body")).tobytes()
        b'body'
    """
    try:
        body = AESGCM(gcm_key).decrypt(number.to_bytes(12, "big"), locked, packed + number.to_bytes(4, "big"))
    except InvalidTag as error:
        raise IntegrityError(f"sealed: strip {number} does not verify under this key and header") from error
    return np.frombuffer(body, np.uint8)
