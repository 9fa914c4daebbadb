"""Photographs as they are published: without what a camera or a program noted in the file, their pixels untouched.

JPEG, PNG and WebP are copied segment by segment, or chunk by chunk, those that a picture needs and no other: what is
not known to be harmless stays behind. From other formats nothing can be left out so simply; they become JPEG.

Kept free of JAX, like the decoder.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jcbir.data._decode import JPEG_MARKER, decode_whole, describe
from jcbir.errors import FormatError

QUALITY = 92
"""JPEG quality of what is encoded anew."""

# Frames, tables, scans and what is between them; neither APPn nor comments.
_JPEG_KEPT = {*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD} - {0xC8}
# Chunk to its most bytes: what is longer holds something else as well.
_PNG_KEPT = {
    b"IHDR": 13, b"PLTE": 768, b"IEND": 0, b"tRNS": 256, b"cHRM": 32, b"gAMA": 4, b"sBIT": 4, b"sRGB": 1, b"cICP": 4,
    b"mDCV": 24, b"cLLI": 8, b"bKGD": 6, b"hIST": 512, b"pHYs": 9, b"acTL": 8, b"fcTL": 26,
} | dict.fromkeys((b"IDAT", b"fdAT", b"iCCP"), (1 << 31) - 1)  # fmt: skip
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_WEBP_KEPT = {b"VP8X", b"ICCP", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L"}
_WEBP_FRAME = {b"ALPH", b"VP8 ", b"VP8L"}
_WEBP_PROFILE, _WEBP_EXIF, _WEBP_XMP = 0x20, 0x08, 0x04
_JPEG_PROFILE, _JPEG_BODY = b"ICC_PROFILE\0", 65_533
_PROFILE_BYTES = 1 << 20
"""A longer profile in PNG is read by nobody: Pillow refuses the picture."""
# What turns colors into others; description, copyright, makers and whatever else a program put beside it are not.
_PROFILE_KEPT = {
    *(f"{color}{kind}".encode() for color in "rgb" for kind in ("XYZ", "TRC")),
    *(f"{way}{intent}".encode() for way in ("A2B", "B2A", "D2B", "B2D") for intent in range(4)),
    *(b"kTRC", b"wtpt", b"bkpt", b"chad", b"cicp"),
}


class PublishedFile(NamedTuple):
    """A photograph's file as it is published.

    Attributes:
        data: its bytes.
        media_type: what they are, such as "image/jpeg".
        taken: when, by the original; as `describe` has it.
        reencoded: why the picture was encoded anew though it is not reduced; "" where it was not.
    """

    data: bytes
    media_type: str
    taken: str
    reencoded: str


def published_file(encoded: bytes, *, longest_side: int | None = None, keep_metadata: bool = False) -> PublishedFile:
    """Make the file that is published of a photograph.

    Place, time, camera, comments, thumbnails, second pictures and whatever else is not the picture stay behind;
    orientation is kept, and of a color profile what turns colors into others. A picture that is larger than
    `longest_side`, or of another format than JPEG, PNG and WebP, becomes a JPEG file, upright, in sRGB.

    Args:
        encoded: the content of an image file.
        longest_side: most pixels of the longer side; None for no limit.
        keep_metadata: a picture that is not reduced is published byte for byte, whatever its format.

    Returns:
        `PublishedFile`.

    Raises:
        FormatError: not a picture that can be read.
        ValueError: `longest_side` is below 1.

    Example:
        >>> picture, noted = io.BytesIO(), Image.Exif()
        >>> noted[0x010F] = "Camera & Sons"
        >>> Image.new("RGB", (30, 20), "red").save(picture, "JPEG", exif=noted)
        >>> published = published_file(picture.getvalue())
        >>> b"Sons" in picture.getvalue(), b"Sons" in published.data, published.media_type
        (True, False, 'image/jpeg')
    """
    if longest_side is not None and longest_side < 1:
        raise ValueError(f"longest_side: must be at least 1, got {longest_side!r}")
    about, reason = describe(encoded), ""
    if longest_side is None or max(about.width, about.height) <= longest_side:
        if keep_metadata:
            return PublishedFile(encoded, about.media_type, about.taken, "")
        try:
            stripped = strip_metadata(encoded, orientation=about.orientation)
            return PublishedFile(stripped, about.media_type, about.taken, "")
        except FormatError as error:
            reason = f"its metadata cannot be taken out otherwise: {error}"
    return PublishedFile(
        encode_jpeg(decode_whole(encoded, longest_side=longest_side)), "image/jpeg", about.taken, reason
    )


def encode_jpeg(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Encode a picture as JPEG, of quality 92.

    Args:
        image: sRGB.

    Returns:
        The bytes of a file.

    Raises:
        ValueError: another type or number of channels, or an empty picture.

    Example:
        >>> decode_whole(encode_jpeg(np.full((8, 9, 3), 128, np.uint8))).shape
        (8, 9, 3)
    """
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ValueError(f"image: must be uint8[h, w, 3] with a pixel, got {array.dtype}{list(array.shape)}")
    picture = io.BytesIO()
    Image.fromarray(array).save(picture, "JPEG", quality=QUALITY)
    return picture.getvalue()


def strip_metadata(encoded: bytes, *, orientation: int) -> bytes:
    """Leave out of a JPEG, PNG or WebP file what the picture does not need; no pixel is touched.

    Args:
        encoded: the content of an image file.
        orientation: EXIF orientation to write back, 1 to 8; 1 needs no record.

    Returns:
        The file; the same bytes where there was nothing to leave out.

    Raises:
        FormatError: of another format, or the file cannot be followed to its end.

    Example:
        >>> picture = io.BytesIO()
        >>> Image.new("L", (3, 2)).save(picture, "PNG")
        >>> strip_metadata(picture.getvalue() + b"and a secret", orientation=1) == picture.getvalue()
        True
    """
    if encoded[:2] == b"\xff\xd8":
        return _strip_jpeg(encoded, orientation)
    if encoded[:8] == _PNG_SIGNATURE:
        return _strip_png(encoded, orientation)
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return _strip_webp(encoded, orientation)
    raise FormatError(f"encoded: must be JPEG, PNG or WebP, got a file that begins {encoded[:12]!r}")


def _strip_jpeg(encoded: bytes, orientation: int) -> bytes:
    """The first picture of a JPEG file up to its end marker."""
    kept, tables, profile = [encoded[:2]], [], []
    for marker, segment, body in _jpeg_segments(encoded):
        if marker == 0xE0 and body[:5] == b"JFIF\0" and len(body) >= 14 and len(kept) == 1:
            # Without its thumbnail: it may show what was cut away.
            kept.append(segment if len(body) == 14 else b"\xff\xe0\0\x10" + body[:12] + b"\0\0")
        elif marker == 0xE2 and body.startswith(_JPEG_PROFILE):
            profile.append(body)
        elif marker in _JPEG_KEPT or marker == 0xD9:
            tables.append(segment)
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            # How the colors are coded.
            tables.append(segment if len(body) == 12 else b"\xff\xee\0\x0e" + body[:12])
    if orientation != 1:
        kept.append(_jpeg_segment(0xE1, b"Exif\0\0" + _exif(orientation)))
    return b"".join(kept + _jpeg_profile(profile) + tables)


def _jpeg_profile(bodies: list[bytes]) -> list[bytes]:
    """The segments of a profile anew; none where one of them is missing."""
    parts = sorted(bodies)
    if not parts or list(parts[0][13:14]) != [len(parts)]:
        return []
    plain = _plain_profile(b"".join(part[14:] for part in parts))
    most = _JPEG_BODY - 14
    pieces = [plain[place : place + most] for place in range(0, len(plain), most)]
    if len(pieces) > 255:
        return []
    return [
        _jpeg_segment(0xE2, _JPEG_PROFILE + bytes([number, len(pieces)]) + piece)
        for number, piece in enumerate(pieces, 1)
    ]


def _jpeg_segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (2 + len(body)).to_bytes(2) + body


def _jpeg_segments(encoded: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Marker, all bytes and body of each segment; those of a scan go to the next marker."""
    place = 2
    while True:
        found = JPEG_MARKER.search(encoded, place)
        if not found or encoded[place : found.start()].strip(b"\xff"):
            raise FormatError(f"encoded: must be JPEG to its end, got no marker at byte {place}")
        marker, body = encoded[found.end() - 1], found.end() + 2
        if marker == 0xD9:
            yield marker, encoded[place : found.end()], b""
            return
        end = found.end() + int.from_bytes(encoded[found.end() : body])
        if marker in (0x01, 0xD8) or end < body or end > len(encoded):
            raise FormatError(f"encoded: must be JPEG to its end, got marker {marker:#x} at byte {place}")
        scan = JPEG_MARKER.search(encoded, end) if marker == 0xDA else None
        following = end if marker != 0xDA else scan.start() if scan else len(encoded)
        yield marker, encoded[place:following], encoded[body:end]
        place = following


def _strip_png(encoded: bytes, orientation: int) -> bytes:
    """Signature and the chunks that a picture needs."""
    kept, place, kind = [_PNG_SIGNATURE], 8, b""
    while kind != b"IEND":
        length, kind = int.from_bytes(encoded[place : place + 4]), encoded[place + 4 : place + 8]
        chunk = encoded[place : place + 12 + length]
        known = length <= _PNG_KEPT.get(kind, -1)
        # A capital letter: without such a chunk the picture would be another one.
        if len(kind) < 4 or len(chunk) < 12 + length or (not known and kind[0] & 0x20 == 0):
            raise FormatError(f"encoded: must be PNG to its end, got chunk {kind!r} at byte {place}")
        if kind == b"iCCP":
            kept += _png_profile(chunk[8:-4])
        elif known:
            kept.append(chunk)
        if kind == b"IHDR" and orientation != 1:
            kept.append(_png_chunk(b"eXIf", _exif(orientation)))
        place += len(chunk)
    return b"".join(kept)


def _png_profile(body: bytes) -> list[bytes]:
    """The chunk of a profile anew, without the name that somebody gave it; none where it cannot be read."""
    try:
        unpacker = zlib.decompressobj()
        plain = _plain_profile(unpacker.decompress(body[body.index(b"\0") + 2 :], _PROFILE_BYTES))
    except (ValueError, zlib.error):
        return []
    return [_png_chunk(b"iCCP", b"profile\0\0" + zlib.compress(plain))] if plain else []


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)


def _strip_webp(encoded: bytes, orientation: int) -> bytes:
    """The chunks of a WebP file that a picture needs, and of an animation's frames."""
    size = int.from_bytes(encoded[4:8], "little")
    if size + 8 > len(encoded):
        raise FormatError(f"encoded: must be WebP of {size + 8} bytes, got {len(encoded)}")
    chunks = [pair for pair in _riff_chunks(encoded, 12, size + 8) if pair[0] in _WEBP_KEPT]
    chunks = [(kind, _riff_profile(chunk) if kind == b"ICCP" else chunk) for kind, chunk in chunks]
    chunks = [(kind, chunk) for kind, chunk in chunks if chunk]
    extended = bool(chunks) and chunks[0][0] == b"VP8X" and len(chunks[0][1]) >= 18
    if orientation != 1 and not extended:
        raise FormatError("encoded: must be WebP with room for an orientation, got one without")
    if extended:
        head = bytearray(chunks[0][1])
        left = _WEBP_EXIF | _WEBP_XMP | (0 if any(kind == b"ICCP" for kind, _ in chunks) else _WEBP_PROFILE)
        head[8] = head[8] & ~left | (_WEBP_EXIF if orientation != 1 else 0)
        chunks[0] = b"VP8X", bytes(head)
    if orientation != 1:
        chunks.append((b"EXIF", _riff_chunk(b"EXIF", _exif(orientation))))
    body = b"WEBP" + b"".join(_strip_frame(chunk) if kind == b"ANMF" else chunk for kind, chunk in chunks)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _riff_profile(chunk: bytes) -> bytes:
    """The chunk of a profile anew; nothing where there is none in it."""
    plain = _plain_profile(chunk[8 : 8 + int.from_bytes(chunk[4:8], "little")])
    return _riff_chunk(b"ICCP", plain) if plain else b""


def _strip_frame(chunk: bytes) -> bytes:
    """A frame of an animation without chunks that nobody knows."""
    end = 8 + int.from_bytes(chunk[4:8], "little")
    parts = [part for kind, part in _riff_chunks(chunk, 24, end) if kind in _WEBP_FRAME]
    return _riff_chunk(b"ANMF", chunk[8:24] + b"".join(parts))


def _riff_chunks(encoded: bytes, place: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Kind and all bytes of each chunk between two places, the odd one with its padding."""
    while place < end:
        length = int.from_bytes(encoded[place + 4 : place + 8], "little")
        following = place + 8 + length + (length & 1)
        if place + 8 > end or following > end:
            raise FormatError(f"encoded: must be WebP to its end, got a chunk beyond it at byte {place}")
        yield encoded[place : place + 4], encoded[place:following]
        place = following


def _riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + bytes(len(body) & 1)


def _plain_profile(profile: bytes) -> bytes:
    """A color profile that converts as it did, and does not say whose it is, what made it or when; b"" for none."""
    count = int.from_bytes(profile[128:132])
    # LittleCMS reads no more tags either, and passes over those that lie beyond the end.
    if profile[36:40] != b"acsp" or not 0 < count <= 100 or len(profile) < 132 + 12 * count:
        return b""
    spans: dict[bytes, tuple[int, int]] = {}
    for name, place, length in struct.iter_unpack(">4sII", profile[132 : 132 + 12 * count]):
        if name in _PROFILE_KEPT and place + length <= len(profile):
            spans.setdefault(name, (place, length))
    # Tags may share their data, and do not overlap otherwise: or a short profile would become a long one.
    if sum(length for _, length in {*spans.values()}) > len(profile):
        return b""
    tags = {name: profile[place : place + length] for name, (place, length) in spans.items()}
    # Every profile must have these two.
    spoken = "color profile".encode("utf-16-be")
    text = b"mluc" + struct.pack(">5I", 0, 1, 12, 0x656E5553, len(spoken)) + struct.pack(">I", 28) + spoken
    if profile[8] < 4:
        text = b"desc" + bytes(4) + struct.pack(">I", 14) + b"color profile\0" + bytes(78)
    tags |= {b"desc": text, b"cprt": text if profile[8] >= 4 else b"text\0\0\0\0none\0"}
    table, data, places = b"", b"", dict.fromkeys(tags.values(), 0)
    for value in places:
        places[value] = 132 + 12 * len(tags) + len(data)
        data += value + bytes(-len(value) % 4)
    for name, value in tags.items():
        table += name + struct.pack(">II", places[value], len(value))
    # Version, class and color spaces; a date that is one; rendering intent and illuminant.
    head = bytes(4) + profile[8:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(24) + profile[64:80]
    body = head + bytes(48) + len(tags).to_bytes(4) + table + data
    return (4 + len(body)).to_bytes(4) + body


def _exif(orientation: int) -> bytes:
    """An EXIF record that says which way is up, and nothing else."""
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
