"""Messages as bytes: magic, version, kind, length, msgpack body of a strict schema, checksum.

    4 bytes  magic b"JCBM"      1 byte  version      1 byte  kind      2 bytes  zero
    8 bytes  length of body     body (msgpack)       16 bytes  SHA-256 of all before, truncated

The checksum finds accidents; who made a message is what its signature says. All integers are big-endian.
"""

import hashlib
import struct
from typing import Any

from jcbir.errors import FormatError, check_version
from jcbir.protocol._envelope import ADMISSION_KIND, ENROLLMENT_KIND, MAGIC as MAGIC, VERSION as VERSION
from jcbir.protocol._schema import (
    Codec,
    Reader,
    building_room as building_room,
    fields,
    many,
    octets,
    optional,
    read_counted,
    record,
    rows,
    text,
    whole,
    write_plain,
)
from jcbir.protocol.messages import (
    Admission,
    Appointment,
    Audit,
    Block,
    Card,
    Catalog,
    Delivery,
    Enrollment,
    Grant,
    Head,
    Hint,
    Inquiry,
    Opened,
    Part,
    Place,
    Publication,
    Query,
    Ranking,
    Recall,
    Recalled,
    Refusal,
    Request,
    Revocation,
    ScoreReport,
    SealedImage,
    Spending,
    Succession,
    Usage,
    Use,
    Withdrawal,
)
from jcbir.ranking._keys import KEY_KINDS, TaggedKey
from jcbir.ranking._scheme import Index, Layout, Scores, Trapdoor

HEADER = struct.Struct(">4sBBHQ")
CHECK_BYTES = 16
START_BYTES = 8192
"""A request, with what stands before it in a query or a report, is no longer than this."""

_MEBI = 1 << 20
_SCHEMES = 16
_TIME = whole(low=0, high=1 << 40)
_COVER = whole(low=1, high=1 << 10)
_COUNT = whole(low=0, high=1 << 31)
_EPOCH = whole(low=0, high=1 << 31)
_NAME = text(low=1, high=100)
_SCHEME = text(low=1, high=16)
_IMAGE_ID = text(low=1, high=64)
_KEY = octets(low=32, high=32)
_SEALING_KEY = octets(low=32, high=4096)
_NONCE = octets(low=16, high=16)
_SIGNATURE = octets(low=64, high=64)
_HASH = octets(low=32, high=32)
_FINGERPRINT = text(low=64, high=64)
_SEALED = octets(low=1, high=256 * _MEBI)
_OPENINGS = octets(low=0, high=256 * _MEBI)
_ROWS = rows(width=_MEBI)


def _parse_key(reader: Reader, name: str) -> TaggedKey:
    kind, values = _TAGGED.parse(reader, name)
    if kind not in KEY_KINDS:
        raise FormatError(f"{name}: must be of a kind among {', '.join(KEY_KINDS)}, got another")
    return TaggedKey(kind, KEY_KINDS[kind].from_fields(values))


_TAGGED = record(TaggedKey, kind=text(low=1, high=32), key=fields())
PUBLIC_KEY = Codec(
    lambda value: _TAGGED.pack(TaggedKey(value.kind, KEY_KINDS[value.kind].to_fields(value.key))), _parse_key
)
CARD = record(
    Card,
    collection=_NAME,
    epoch=_EPOCH,
    bits=whole(low=8, high=512),
    public=PUBLIC_KEY,
    owner_key=_KEY,
    cloud_key=_KEY,
    authority_key=_KEY,
    authority_sealing_key=_KEY,
)
LAYOUT = record(
    Layout,
    scheme=_SCHEME,
    bits=whole(low=8, high=512),
    count=whole(low=1, high=1 << 31),
    modulus_bits=whole(low=1, high=1 << 15),
    base=whole(low=2, high=1 << 16),
    lanes=whole(low=1, high=1 << 15),
    blocks=whole(low=1, high=1 << 31),
)
INDEX = record(Index, layout=LAYOUT, fingerprint=_FINGERPRINT, ciphertexts=_ROWS)
_TRAPDOOR = record(
    Trapdoor,
    scheme=_SCHEME,
    bits=whole(low=8, high=512),
    base=whole(low=2, high=1 << 16),
    lanes=whole(low=1, high=1 << 15),
    fingerprint=_FINGERPRINT,
    body=_ROWS,
)
_SCORES = record(Scores, layout=LAYOUT, fingerprint=_FINGERPRINT, ciphertexts=_ROWS)
_HINT = record(Hint, scheme=_SCHEME, digest=_HASH)
_SEALED_IMAGE = record(SealedImage, image_id=_IMAGE_ID, sealed=_SEALED)
GRANT = record(
    Grant,
    grant_id=_NONCE,
    collection=_NAME,
    epoch=_EPOCH,
    sealing_key=_SEALING_KEY,
    signing_key=_KEY,
    rights=many(text(low=1, high=16), high=8),
    max_results=_COUNT,
    queries_per_day=_COUNT,
    images_per_day=_COUNT,
    cover=_COVER,
    issued=_TIME,
    expires=_TIME,
    signature=_SIGNATURE,
)
_REQUEST = record(
    Request,
    collection=_NAME,
    epoch=_EPOCH,
    scheme=_SCHEME,
    queries=_COUNT,
    top=_COUNT,
    nonce=_NONCE,
    issued=_TIME,
    commitment=_HASH,
    openings=octets(low=0, high=32),
    shared=octets(low=0, high=32),
    grant=GRANT,
    signature=_SIGNATURE,
)
_BLOCKS = many(many(_HASH), low=1, high=4096)
_RANKING = record(
    Ranking,
    nonce=_NONCE,
    image_ids=many(_IMAGE_ID),
    sealed=_SEALED,
    head=_COUNT,
    segments=many(_COUNT),
    blocks=_BLOCKS,
    signature=_SIGNATURE,
)
_PLACE = {"collection": _NAME, "epoch": _EPOCH}
PART = record(Part, count=_COUNT, schemes=many(_SCHEME, low=1, high=_SCHEMES), index_root=_HASH, images_hash=_HASH)
_USE = record(Use, grant_id=_NONCE, queries=_COUNT, images=_COUNT)
_HEAD = record(Head, **_PLACE, counter=_COUNT, issued=_TIME, parts=many(PART), signature=_SIGNATURE)
_AUDIT = record(
    Audit,
    nonce=_NONCE,
    places=many(record(Place, query=_COUNT, segment=_COUNT, block=_COUNT), low=1, high=4096),
    signature=_SIGNATURE,
)
_PATH = many(_HASH, high=64)
_BLOCK = record(Block, index=_ROWS, index_path=_PATH, randomness=_ROWS, score=_ROWS, score_path=_PATH)

MESSAGES: dict[type, tuple[int, Codec, int]] = {
    Publication: (
        1,
        record(
            Publication,
            card=CARD,
            segment=_COUNT,
            indexes=many(INDEX, low=1, high=_SCHEMES),
            images=many(_SEALED_IMAGE, low=1),
            signature=_SIGNATURE,
        ),
        4096 * _MEBI,
    ),
    Catalog: (
        2,
        record(
            Catalog,
            **_PLACE,
            segment=_COUNT,
            image_ids=many(_IMAGE_ID, low=1),
            hashes=many(_HASH, low=1),
            hints=many(_HINT, high=_SCHEMES),
            sentinels=many(_COUNT),
            signature=_SIGNATURE,
            wrapped=many(_SEALED, high=_SCHEMES),
        ),
        256 * _MEBI,
    ),
    Withdrawal: (
        3,
        record(Withdrawal, **_PLACE, segments=_COUNT, image_ids=many(_IMAGE_ID), signature=_SIGNATURE),
        16 * _MEBI,
    ),
    Revocation: (
        4,
        record(Revocation, **_PLACE, serial=_COUNT, grant_ids=many(_NONCE), signature=_SIGNATURE),
        4 * _MEBI,
    ),
    Enrollment: (
        ENROLLMENT_KIND,
        record(Enrollment, sealing_key=_SEALING_KEY, signing_key=_KEY, signature=_SIGNATURE),
        _MEBI,
    ),
    Admission: (
        ADMISSION_KIND,
        record(Admission, card=CARD, grant=GRANT, sealed_mask=octets(low=1, high=8192), signature=_SIGNATURE),
        _MEBI,
    ),
    Query: (
        7,
        record(Query, request=_REQUEST, salt=_HASH, trapdoors=many(_TRAPDOOR, low=1, high=4096), openings=_OPENINGS),
        16 * _MEBI,
    ),
    ScoreReport: (
        8,
        record(
            ScoreReport,
            request=_REQUEST,
            segments=many(_COUNT),
            blocks=_BLOCKS,
            signature=_SIGNATURE,
            openings=_OPENINGS,
            scores=many(many(_SCORES), low=1, high=4096),
        ),
        4096 * _MEBI,
    ),
    Ranking: (9, _RANKING, 256 * _MEBI),
    Delivery: (
        10,
        record(
            Delivery,
            ranking=_RANKING,
            images=many(_SEALED_IMAGE),
            head=optional(_HEAD),
            padding=octets(low=0, high=512 * _MEBI),
        ),
        4096 * _MEBI,
    ),
    Card: (11, CARD, _MEBI),
    Refusal: (12, record(Refusal, code=text(low=1, high=64), reason=text(high=1000), retry_after=_COUNT), _MEBI),
    Succession: (13, record(Succession, card=CARD, signature=_SIGNATURE), _MEBI),
    Appointment: (
        14,
        record(Appointment, card=CARD, sealed=octets(low=1, high=1 << 16), signature=_SIGNATURE),
        _MEBI,
    ),
    Recall: (
        15,
        record(Recall, **_PLACE, issued=_TIME, nonce=_NONCE, image_ids=many(_IMAGE_ID, low=1), signature=_SIGNATURE),
        16 * _MEBI,
    ),
    Recalled: (16, record(Recalled, images=many(_SEALED_IMAGE, low=1)), 4096 * _MEBI),
    Spending: (17, record(Spending, grant_id=_NONCE, day=_COUNT, rows=_COUNT, image_ids=many(_IMAGE_ID)), 16 * _MEBI),
    Head: (18, _HEAD, 16 * _MEBI),
    Audit: (19, _AUDIT, _MEBI),
    Opened: (20, record(Opened, audit=_AUDIT, blocks=many(_BLOCK, high=4096), signature=_SIGNATURE), 256 * _MEBI),
    Inquiry: (21, record(Inquiry, **_PLACE, issued=_TIME, nonce=_NONCE, signature=_SIGNATURE), _MEBI),
    Usage: (
        22,
        record(Usage, nonce=_NONCE, day=_COUNT, uses=many(_USE), suspended=many(_NONCE), signature=_SIGNATURE),
        16 * _MEBI,
    ),
}
"""Every message that travels: kind, schema, most bytes of its body. `Delegation` is a key file, not a message."""

_KINDS = {kind: message for message, (kind, _, _) in MESSAGES.items()}


def to_bytes(message: Any) -> bytes:
    """Write a message.

    Args:
        message: a record of `jcbir.protocol.messages`.

    Returns:
        Its bytes.

    Raises:
        ValueError: it is no message, or breaks a limit of its schema.

    Example:
        >>> from jcbir.protocol.messages import Refusal
        >>> to_bytes(Refusal("stale-query", "too late"))[:6]
        b'JCBM\\x03\\x0c'
    """
    if type(message) not in MESSAGES:
        raise ValueError(f"message: must be a record of jcbir.protocol.messages, got {type(message).__name__}")
    kind, codec, limit = MESSAGES[type(message)]
    body = write_plain(codec, message)
    if len(body) > limit:
        raise ValueError(
            f"message: must be at most {limit} bytes for a {type(message).__name__}, got {len(body)}; send less at once"
        )
    header = HEADER.pack(MAGIC, VERSION, kind, 0, len(body))
    return b"".join([header, body, _checksum(header, body)])


def from_bytes(blob: bytes | memoryview, *, expect: type | None = None, limit: int | None = None) -> Any:
    """Read a message back.

    Args:
        blob: all bytes of one message.
        expect: the class it must be.
        limit: most bytes to read; the message's own limit holds besides.

    Returns:
        The message. Its byte rows are read-only views of `blob`.

    Raises:
        FormatError: truncated, altered, another version, another message, or outside its schema.

    Example:
        >>> from jcbir.protocol.messages import Refusal
        >>> from_bytes(to_bytes(Refusal("stale-query", "too late"))).code
        'stale-query'
        >>> from_bytes(b"JCBM")
        Traceback (most recent call last):
        ...
        jcbir.errors.FormatError: message: 4 bytes are less than a header and a checksum
    """
    return read_message(blob, expect=expect, limit=limit)[0]


def read_message(blob: bytes | memoryview, *, expect: type | None = None, limit: int | None = None) -> tuple[Any, int]:
    """Read a message back as `from_bytes` does, and count what it fills, for whoever holds many at once.

    Args:
        blob: all bytes of one message.
        expect: the class it must be.
        limit: most bytes to read; the message's own limit holds besides.

    Returns:
        The message, and bytes of memory that are filled beside `blob`, at most `building_room(len(blob))`.

    Raises:
        FormatError: as `from_bytes`.

    Example:
        >>> from jcbir.protocol.messages import Refusal
        >>> blob = to_bytes(Refusal("stale-query", "too late"))
        >>> 0 < read_message(blob)[1] <= building_room(len(blob))
        True
    """
    kind, length = read_header(blob[: HEADER.size + CHECK_BYTES], limit=limit)
    if len(blob) != HEADER.size + length + CHECK_BYTES:
        raise FormatError(f"message: {len(blob)} bytes, its header says {HEADER.size + length + CHECK_BYTES}")
    if expect is not None and kind is not expect:
        raise FormatError(f"message: expected a {expect.__name__}, got a {kind.__name__}")
    view = memoryview(blob)
    header, body = view[: HEADER.size], view[HEADER.size : HEADER.size + length]
    if _checksum(header, body) != view[HEADER.size + length :]:
        raise FormatError(f"message: the checksum of the {kind.__name__} does not match")
    return read_counted(MESSAGES[kind][1], body, name=kind.__name__)


def read_header(start: bytes | memoryview, *, limit: int | None = None) -> tuple[type, int]:
    """Read what a message says of itself, before the rest has arrived.

    Args:
        start: its first bytes, at least header and checksum (32).
        limit: most bytes to accept in all.

    Returns:
        The class of the message and the length of its body.

    Raises:
        FormatError: no message of this version, or longer than allowed.

    Example:
        >>> from jcbir.protocol.messages import Refusal
        >>> kind, length = read_header(to_bytes(Refusal("stale-query", "too late")))
        >>> kind.__name__
        'Refusal'
    """
    if len(start) < HEADER.size + CHECK_BYTES:
        raise FormatError(f"message: {len(start)} bytes are less than a header and a checksum")
    magic, version, number, reserved, length = HEADER.unpack_from(start)
    if magic != MAGIC:
        raise FormatError(f"message: must begin with {MAGIC!r}")
    check_version(version, version=VERSION, name="message", remedy="have it written anew")
    if reserved or number not in _KINDS:
        raise FormatError(f"message: must be of a kind that this version has, got {number}")
    kind = _KINDS[number]
    most = MESSAGES[kind][2] if limit is None else min(limit - HEADER.size - CHECK_BYTES, MESSAGES[kind][2])
    if length > most:
        raise FormatError(f"message: a {kind.__name__} of {length} bytes, at most {most} are accepted")
    return kind, length


def read_request(start: bytes | memoryview) -> Request:
    """Read the request that a query or a report begins with, before the rest has arrived.

    Args:
        start: its first `START_BYTES`, or all of it.

    Returns:
        The request; nothing says yet that the rest belongs to it.

    Raises:
        FormatError: no request stands there.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> query = small_system().query
        >>> read_request(to_bytes(query)[:START_BYTES]) == query.request
        True
    """
    reader = Reader(memoryview(start)[HEADER.size :], room=building_room(START_BYTES))
    if reader.head("message")[0] != "list":
        raise FormatError("message: must be a record, got something else")
    return _REQUEST.parse(reader, "request")


def _checksum(header: bytes | memoryview, body: bytes | memoryview) -> bytes:
    state = hashlib.sha256(header)
    state.update(body)
    return state.digest()[:CHECK_BYTES]
