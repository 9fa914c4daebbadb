"""The sealed format: header, content, keys, and the AES-256-GCM that holds them together.

    header   "JCBI" | version: 2 an image's samples, 3 a photograph's file | algorithm | nonce (16) | id length (2) | id
    content  h | w | c (4 bytes each) | strips, each encrypted by the cipher | zeros up to a length of Padme
    chunk    2^24 bytes of the content (the last one: the rest), AES-256-GCM, 16 bytes of tag; GCM nonce: the chunk's
             number (12); associated data: header || number (4)
    keys     HKDF-SHA-256(ikm = image key, salt = nonce, info = "jcbir seal" || version || algorithm)
             -> cipher key || GCM key

All integers are big-endian. The algorithm is the number of an `ImageCipher`. The samples of version 3 are what
`jcbir.sealing._photographs` makes of a file.
"""

import math
import struct
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jaxtyping import UInt8

from jcbir.cipher import CIPHERS, ImageCipher
from jcbir.errors import FormatError, IntegrityError, check_version
from jcbir.padding import padded_length
from jcbir.typing import check_whole

Cipher = Literal["lorenz", "lorenz-reference50", "aes-gcm"] | ImageCipher
"""A record, or the name of one of `jcbir.cipher.CIPHERS`."""

IMAGE = 2
"""Version whose samples are an image's. Version 1 had extents in the clear and no padding."""

PHOTOGRAPH = 3
"""Version whose samples are the file of a photograph, and what is said of it."""

NONCE_BYTES = 16
"""Length of the nonce of a sealed image."""

KEY_BYTES = 32
"""Length of every key."""

TAG_BYTES = 16
"""Length of a GCM tag."""

STRIP_PIXELS = 1 << 22
"""Pixels of a strip, at most."""

CHUNK_BYTES = 1 << 24
"""Content under one tag, at most."""

BATCH_SAMPLES = 1 << 24
"""Samples that a cipher is given at once, at most, where there is a choice."""

EXTENTS = struct.Struct(">III")
"""What the content begins with."""

_MAGIC = b"JCBI"
_FIXED = struct.Struct(">4sBB16sH")
FIXED_BYTES = _FIXED.size
"""Length of a header without its id; its last two bytes are the length of the id."""


class Header(NamedTuple):
    """What a sealed image says of itself in the clear; authenticated, but only once it has been opened.

    Attributes:
        version: `IMAGE` or `PHOTOGRAPH`.
        cipher: The cipher inside.
        nonce: 16 bytes.
        image_id: Id the image was sealed for.
    """

    version: int
    cipher: ImageCipher
    nonce: bytes
    image_id: str


def header(sealed: bytes, *, version: int, ciphers: Sequence[ImageCipher] = CIPHERS) -> Header:
    """Header of what is sealed in one version; not verified before it is opened."""
    if len(sealed) < FIXED_BYTES:
        raise FormatError(f"sealed: must be at least the {FIXED_BYTES} bytes of a header, got {len(sealed)}")
    magic, found, algorithm, nonce, id_length = _FIXED.unpack_from(sealed)
    if magic == _MAGIC and found < version:
        check_version(found, version=version, name="sealed", remedy="publish anew")
    if magic != _MAGIC or found != version:
        raise FormatError(f"sealed: must be a sealed image of version {version}, got {bytes(sealed[:5])!r}")
    by_code = {cipher.code: cipher for cipher in ciphers}
    name = bytes(sealed[FIXED_BYTES : FIXED_BYTES + id_length])
    if algorithm not in by_code or len(name) != id_length:
        raise FormatError(f"sealed: must have a consistent header, got algorithm {algorithm} and {len(name)} of its id")
    try:
        image_id = name.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"sealed: must have an image id in UTF-8, got {name!r}") from error
    return Header(version, by_code[algorithm], nonce, image_id)


def cipher_record(cipher: Cipher) -> ImageCipher:
    """The record of a name, or a record as it is."""
    if isinstance(cipher, ImageCipher):
        check_whole("cipher.code", cipher.code, low=1, high=255)
        return cipher
    for known in CIPHERS:
        if known.name == cipher:
            return known
    raise ValueError(f"cipher: must be one of {sorted(c.name for c in CIPHERS)} or an ImageCipher, got {cipher!r}")


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
    """Bytes of a header: 24 and the id."""
    if len(head.nonce) != NONCE_BYTES:
        raise ValueError(f"nonce: must be {NONCE_BYTES} bytes, got {len(head.nonce)}")
    name = head.image_id.encode()
    if len(name) > 0xFFFF:
        raise ValueError(f"image_id: must be at most 65535 bytes of UTF-8, got {len(name)}")
    return _FIXED.pack(_MAGIC, head.version, head.cipher.code, head.nonce, len(name)) + name


def content_length(shape: tuple[int, ...]) -> int:
    """Bytes of the content of an image of extents (h, w, c), the padding included."""
    return padded_length(EXTENTS.size + math.prod(shape))


def read_extents(content: bytes | UInt8[np.ndarray, "n"]) -> tuple[int, int, int]:
    """Extents that a verified content begins with."""
    if len(content) < EXTENTS.size:
        raise FormatError(f"sealed: must hold the {EXTENTS.size} bytes of its extents, got {len(content)}")
    shape = EXTENTS.unpack_from(content)
    if 0 in shape:
        raise FormatError(f"sealed: must have no empty axis, got {list(shape)}")
    return shape


def strip_keys(key: bytes, head: Header) -> tuple[bytes, bytes]:
    """Cipher key and GCM key of one sealed image."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"key: must be {KEY_BYTES} bytes, got {len(key)}")
    info = b"jcbir seal" + bytes([head.version, head.cipher.code])
    pair = HKDF(SHA256(), 2 * KEY_BYTES, salt=head.nonce, info=info).derive(key)
    return pair[:KEY_BYTES], pair[KEY_BYTES:]


def strip_nonce(number: int) -> bytes:
    """Nonce of the cipher of a strip: its number in 16 bytes; the cipher key is fresh with every image."""
    return number.to_bytes(NONCE_BYTES, "big")


def lock(gcm_key: bytes, number: int, packed: bytes, body: bytes) -> bytes:
    """AES-256-GCM over one chunk: its number is the nonce, and authenticated with the header."""
    return AESGCM(gcm_key).encrypt(number.to_bytes(12, "big"), body, packed + number.to_bytes(4, "big"))


def unlock(gcm_key: bytes, number: int, packed: bytes, locked: bytes) -> UInt8[np.ndarray, "n"]:
    """Inverse of `lock`."""
    try:
        body = AESGCM(gcm_key).decrypt(number.to_bytes(12, "big"), locked, packed + number.to_bytes(4, "big"))
    except InvalidTag as error:
        raise IntegrityError(f"sealed: chunk {number} does not verify under this key and header") from error
    return np.frombuffer(body, np.uint8)
