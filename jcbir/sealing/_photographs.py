"""Photographs under seal: the file as it is, with what is said of it, as samples of the sealed format's version 3.

    samples  rows of 256: lengths (2 bytes each, of the file 4) | media type | name | taken | caption | file | zeros

The rows are as many as the padding of the format leaves room for: lengths that pad to the same make arrays of one
shape, which go through the cipher together.
"""

import itertools
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from jcbir.cipher import CIPHERS, ImageCipher
from jcbir.errors import FormatError
from jcbir.padding import padded_length
from jcbir.sealing._format import (
    BATCH_SAMPLES,
    CHUNK_BYTES,
    EXTENTS,
    FIXED_BYTES,
    PHOTOGRAPH,
    TAG_BYTES,
    Cipher,
    content_length,
)
from jcbir.sealing._seal import check_batch, open_arrays, seal_arrays
from jcbir.typing import check_whole

_LENGTHS = struct.Struct(">HHHHI")
_WIDTH = 256


class Photograph(NamedTuple):
    """A photograph as it is published.

    Attributes:
        data: its file.
        media_type: what the file is, such as "image/jpeg".
        name: of the file, or "".
        taken: date and time in ISO 8601, or "".
        caption: what its owner says of it, or "".
    """

    data: bytes
    media_type: str
    name: str = ""
    taken: str = ""
    caption: str = ""


def seal_photograph(
    photograph: Photograph, *, key: bytes, nonce: bytes, image_id: str, cipher: Cipher = "lorenz"
) -> bytes:
    """Seal one photograph for one id: its file, byte for byte, and what is said of it.

    Args:
        photograph: The photograph; each text at most 65,535 bytes of UTF-8.
        key: Image key, 32 bytes.
        nonce: 16 fresh random bytes.
        image_id: Id it is stored under.
        cipher: As in `jcbir.sealing.seal`; it takes the bytes as an image of 256 columns.

    Returns:
        Header and chunks: 24 + len(id) bytes, the file and the texts and 24 bytes, up to 12 % of padding, and 16 a
        chunk of 16 MiB. Who does not hold the key sees the padded length.

    Raises:
        ValueError: an empty file, a text that is too long, or as `jcbir.sealing.seal`.

    Example:
        >>> beach = Photograph(b"...", "image/jpeg", "beach.jpg", "2024-05-01T12:30:00", "The four of us")
        >>> sealed = seal_photograph(beach, key=bytes(32), nonce=bytes(16), image_id="a")
        >>> open_photograph(sealed, key=bytes(32), image_id="a").name
        'beach.jpg'
    """
    return seal_photographs([photograph], keys=[key], nonces=[nonce], image_ids=[image_id], cipher=cipher)[0]


def seal_photographs(
    photographs: Sequence[Photograph],
    *,
    keys: Sequence[bytes],
    nonces: Sequence[bytes],
    image_ids: Sequence[str],
    cipher: Cipher = "lorenz",
) -> list[bytes]:
    """Seal photographs, each under its own key, nonce and id: the bytes of `seal_photograph`, sooner for small ones.

    Args:
        photographs: The photographs.
        keys: Their image keys.
        nonces: Their nonces.
        image_ids: Their ids.
        cipher: As in `seal_photograph`.

    Returns:
        The sealed photographs, in order.

    Raises:
        ValueError: as `seal_photograph`; not one key, nonce and id per photograph; or a pair of key and nonce twice.

    Example:
        >>> both = [Photograph(b"one", "image/png"), Photograph(b"two", "image/png")]
        >>> nonces = [bytes(16), bytes(15) + b"1"]
        >>> len(seal_photographs(both, keys=[bytes(32)] * 2, nonces=nonces, image_ids=["a", "b"]))
        2
    """
    check_batch(len(photographs), keys=keys, nonces=nonces, image_ids=image_ids)
    places: dict[int, list[int]] = {}
    for place, photograph in enumerate(photographs):
        places.setdefault(_rows(_LENGTHS.size + sum(map(len, _parts(photograph)))), []).append(place)
    sealed: dict[int, bytes] = {}
    for rows, members in places.items():
        most = max(1, BATCH_SAMPLES // (rows * _WIDTH))
        for start in range(0, len(members), most):
            batch = members[start : start + most]
            bodies = seal_arrays(
                np.stack([_samples(photographs[place], rows) for place in batch]),
                keys=[keys[place] for place in batch],
                nonces=[nonces[place] for place in batch],
                image_ids=[image_ids[place] for place in batch],
                cipher=cipher,
                version=PHOTOGRAPH,
            )
            sealed.update(zip(batch, bodies, strict=True))
    return [sealed[place] for place in range(len(photographs))]


def open_photograph(
    sealed: bytes, *, key: bytes, image_id: str, ciphers: Sequence[ImageCipher] = CIPHERS
) -> Photograph:
    """Open a sealed photograph; all of it verifies, or nothing is returned.

    Args:
        sealed: What `seal_photograph` returned.
        key: Image key, 32 bytes.
        image_id: Id that was asked for; the seal must be for this id.
        ciphers: The ciphers that may be inside.

    Returns:
        The photograph, its file byte for byte. It is as trustworthy as who holds the key: neither file nor texts are
        looked into.

    Raises:
        FormatError: not a sealed photograph; the pixels that an earlier jcbir published, say.
        IntegrityError: wrong key, another image's id, or any byte changed.
        ValueError: key of another length.

    Example:
        >>> sealed = seal_photograph(Photograph(b"...", "image/png"), key=bytes(32), nonce=bytes(16), image_id="a")
        >>> open_photograph(sealed, key=bytes(32), image_id="a")
        Photograph(data=b'...', media_type='image/png', name='', taken='', caption='')
    """
    return open_photographs([sealed], keys=[key], image_ids=[image_id], ciphers=ciphers)[0]


def open_photographs(
    sealed: Sequence[bytes],
    *,
    keys: Sequence[bytes],
    image_ids: Sequence[str],
    ciphers: Sequence[ImageCipher] = CIPHERS,
) -> list[Photograph]:
    """Open several sealed photographs; small ones of about one length are decrypted together.

    Args:
        sealed: Sealed photographs.
        keys: Their image keys.
        image_ids: Ids that were asked for.
        ciphers: As in `open_photograph`.

    Returns:
        The photographs, in order.

    Raises:
        FormatError: as `open_photograph`, for the first that fails.
        IntegrityError: as `open_photograph`, for the first that fails.
        ValueError: key of another length; or not one key and id per photograph.

    Example:
        >>> sealed = seal_photograph(Photograph(b"...", "image/png"), key=bytes(32), nonce=bytes(16), image_id="a")
        >>> [each.data for each in open_photographs([sealed] * 2, keys=[bytes(32)] * 2, image_ids=["a"] * 2)]
        [b'...', b'...']
    """
    arrays = open_arrays(sealed, keys=keys, image_ids=image_ids, ciphers=ciphers, version=PHOTOGRAPH)
    return [_photograph(array) for array in arrays]


def sealed_length(size: int, *, id_bytes: int = 32) -> int:
    """Count the bytes of a sealed photograph: what a store of them takes.

    Args:
        size: Bytes of its file and its texts.
        id_bytes: Bytes of its id; 32 are those of a pseudonym.

    Returns:
        Bytes.

    Raises:
        ValueError: no bytes, or a negative number of them.

    Example:
        >>> sealed_length(2_000_000)
        2031688
    """
    check_whole("size", size, low=1)
    check_whole("id_bytes", id_bytes, low=0)
    content = content_length((_rows(_LENGTHS.size + size), _WIDTH, 1))
    return FIXED_BYTES + id_bytes + content + TAG_BYTES * -(-content // CHUNK_BYTES)


def _parts(photograph: Photograph) -> list[bytes]:
    """The texts in UTF-8, and the file last."""
    if not isinstance(photograph, Photograph):
        raise ValueError(f"photograph: must be a Photograph, got {type(photograph).__name__}")
    if not isinstance(photograph.data, bytes) or not 0 < len(photograph.data) < 1 << 32:
        got = f"{len(photograph.data)}" if isinstance(photograph.data, bytes) else type(photograph.data).__name__
        raise ValueError(f"data: must be 1 to {(1 << 32) - 1} bytes, got {got}")
    texts = []
    for name, text in photograph._asdict().items():
        if name == "data":
            continue
        if not isinstance(text, str):
            raise ValueError(f"{name}: must be a text, got {type(text).__name__}")
        try:
            texts.append(text.encode())
        except UnicodeEncodeError:
            raise ValueError(f"{name}: must be a text that UTF-8 can hold, got {text!r}") from None
        if len(texts[-1]) > 0xFFFF:
            raise ValueError(f"{name}: must be at most 65535 bytes of UTF-8, got {len(texts[-1])}")
    return [*texts, photograph.data]


def _rows(length: int) -> int:
    """Rows that hold so many bytes: those that the padding would take anyway, and one where they are too few."""
    return max((padded_length(EXTENTS.size + length) - EXTENTS.size) // _WIDTH, -(-length // _WIDTH))


def _samples(photograph: Photograph, rows: int) -> UInt8[np.ndarray, "r 256 1"]:
    parts = _parts(photograph)
    packed = _LENGTHS.pack(*map(len, parts)) + b"".join(parts)
    return np.frombuffer(packed.ljust(rows * _WIDTH, b"\0"), np.uint8).reshape(rows, _WIDTH, 1)


def _photograph(samples: np.ndarray) -> Photograph:
    packed = samples.tobytes()
    if len(packed) < _LENGTHS.size:
        raise FormatError(f"sealed: must hold the {_LENGTHS.size} bytes of its lengths, got {len(packed)}")
    lengths = _LENGTHS.unpack_from(packed)
    ends = np.cumsum((_LENGTHS.size, *lengths)).tolist()
    if lengths[-1] == 0 or samples.shape != (_rows(ends[-1]), _WIDTH, 1) or packed[ends[-1] :].strip(b"\0"):
        raise FormatError(f"sealed: must hold a file and its texts, got lengths {lengths} in {len(packed)} bytes")
    *texts, data = (packed[start:end] for start, end in itertools.pairwise(ends))
    try:
        return Photograph(data, *(text.decode() for text in texts))
    except UnicodeDecodeError as error:
        raise FormatError("sealed: must hold its texts in UTF-8, got something else") from error
