"""Images under seal: made and opened, whole, in batches and in strips; the layout is in `jcbir.sealing._format`."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jaxtyping import UInt8

from jcbir.cipher import CIPHERS, ImageCipher
from jcbir.errors import FormatError, IntegrityError
from jcbir.sealing._format import (
    CHUNK_BYTES,
    EXTENTS,
    FIXED_BYTES,
    KEY_BYTES,
    TAG_BYTES,
    Cipher,
    Header,
    cipher_record,
    content_length,
    header,
    lock,
    pack_header,
    read_extents,
    strip_keys,
    strip_nonce,
    strip_rows,
    unlock,
)
from jcbir.typing import Image, Images, check_array


def image_key(master: bytes, *, image_id: str, epoch: int, segment: int) -> bytes:
    """Key of one image: `HKDF-SHA-256(ikm = master, info = "jcbir image key v2" || epoch || segment || id)`.

    Args:
        master: 32-byte image master key.
        image_id: id of the image.
        epoch: epoch of the collection.
        segment: segment it is published in: under the same id again, it has another key.

    Returns:
        32 bytes; nothing about the master or another image's key.

    Raises:
        ValueError: the master key is not 32 bytes, or a number is negative.

    Example:
        >>> image_key(bytes(32), image_id="a", epoch=0, segment=0) == image_key(
        ...     bytes(32), image_id="a", epoch=0, segment=1
        ... )
        False
    """
    if len(master) != KEY_BYTES:
        raise ValueError(f"master: must be {KEY_BYTES} bytes, got {len(master)}")
    for name, number in (("epoch", epoch), ("segment", segment)):
        if not 0 <= number < 1 << 64:
            raise ValueError(f"{name}: must be a whole number from 0, got {number!r}")
    # Numbers of fixed width before the id: no two images share an info.
    info = b"jcbir image key v2" + epoch.to_bytes(8) + segment.to_bytes(8) + image_id.encode()
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(master)


def seal(image: Image, *, key: bytes, nonce: bytes, image_id: str, cipher: Cipher = "lorenz") -> bytes:
    """Seal one image for one id.

    Args:
        image: `UInt8[h w c]`, every extent at least 1.
        key: Image key, 32 bytes.
        nonce: 16 fresh random bytes.
        image_id: Id the image is stored under, at most 65,535 bytes of UTF-8.
        cipher: "lorenz" (the paper's stage order), "lorenz-reference50", "aes-gcm" (nothing inside), or a record.

    Returns:
        Header and chunks: 24 + len(id) bytes, the image's and 12, up to 12 % of padding, and 16 a chunk of 16 MiB. Who
        does not hold the key sees the padded length and no extent.

    Raises:
        ValueError: no sample, another dtype, key or nonce of another length, id too long, unknown cipher.

    Example:
        >>> photo = np.zeros((2, 2, 3), np.uint8)
        >>> sealed = seal(photo, key=bytes(32), nonce=bytes(16), image_id="a")
        >>> np.array_equal(open_sealed(sealed, key=bytes(32), image_id="a"), photo)
        True
    """
    array = _image_array(image)
    shape = (array.shape[0], array.shape[1], array.shape[2])
    rows = strip_rows(shape)
    strips = (array[top : top + rows] for top in range(0, shape[0], rows))
    return b"".join(seal_strips(strips, shape=shape, key=key, nonce=nonce, image_id=image_id, cipher=cipher))


def seal_batch(
    images: Images,
    *,
    keys: Sequence[bytes],
    nonces: Sequence[bytes],
    image_ids: Sequence[str],
    cipher: Cipher = "lorenz",
) -> list[bytes]:
    """Seal images of one shape, each under its own key, nonce and id: the bytes of `seal`, sooner for small images.

    Args:
        images: `UInt8[b h w c]`.
        keys: b image keys.
        nonces: b nonces.
        image_ids: b ids.
        cipher: As in `seal`.

    Returns:
        b sealed images.

    Raises:
        ValueError: as `seal`; not one key, nonce and id per image; or a pair of key and nonce twice.

    Example:
        >>> photos = np.zeros((2, 2, 2, 3), np.uint8)
        >>> len(seal_batch(photos, keys=[bytes(32)] * 2, nonces=[bytes(16), bytes(15) + b"1"], image_ids=["a", "b"]))
        2
    """
    check_array("images", images, kind="uint8", form="[b, h, w, c]", rank=4)
    if not len(images) == len(keys) == len(nonces) == len(image_ids):
        raise ValueError(
            f"keys, nonces, image_ids: must be one an image, {len(images)} of each, "
            f"got {len(keys)}, {len(nonces)} and {len(image_ids)}"
        )
    if len(set(zip(keys, nonces, strict=True))) != len(keys):
        raise ValueError("nonces: must never repeat under one key, got a pair of key and nonce twice")
    arrays = [_image_array(image) for image in np.asarray(images)]
    shape = tuple(int(extent) for extent in np.shape(images)[1:])
    if not arrays or shape[0] > strip_rows(shape):
        return [
            seal(a, key=k, nonce=n, image_id=i, cipher=cipher)
            for a, k, n, i in zip(arrays, keys, nonces, image_ids, strict=True)
        ]
    inside = cipher_record(cipher)
    heads = [pack_header(Header(inside, n, i)) for n, i in zip(nonces, image_ids, strict=True)]
    pairs = [strip_keys(k, n, inside) for k, n in zip(keys, nonces, strict=True)]
    bodies = _encrypted(inside, np.asarray(images), [pair[0] for pair in pairs], [strip_nonce(0)] * len(pairs))
    return [
        b"".join((h, *_lock_all([EXTENTS.pack(*shape), body.tobytes()], packed=h, gcm_key=p[1], shape=shape)))
        for h, p, body in zip(heads, pairs, bodies, strict=True)
    ]


def open_sealed(
    sealed: bytes, *, key: bytes, image_id: str, ciphers: Sequence[ImageCipher] = CIPHERS
) -> UInt8[np.ndarray, "h w c"]:
    """Open a sealed image; all of it verifies, or nothing is returned.

    Args:
        sealed: What `seal` returned.
        key: Image key, 32 bytes.
        image_id: Id that was asked for; the seal must be for this id.
        ciphers: The ciphers that may be inside.

    Returns:
        The image `UInt8[h w c]`.

    Raises:
        FormatError: not a sealed image, another version, or of another length than its image has.
        IntegrityError: wrong key, another image's id, or any byte changed.
        ValueError: key of another length.

    Example:
        >>> sealed = seal(np.zeros((2, 2, 1), np.uint8), key=bytes(32), nonce=bytes(16), image_id="a")
        >>> open_sealed(sealed, key=bytes(32), image_id="b")
        Traceback (most recent call last):
        jcbir.errors.IntegrityError: sealed: is for image 'a', not for 'b'
    """
    return open_batch([sealed], keys=[key], image_ids=[image_id], ciphers=ciphers)[0]


def open_batch(
    sealed: Sequence[bytes],
    *,
    keys: Sequence[bytes],
    image_ids: Sequence[str],
    ciphers: Sequence[ImageCipher] = CIPHERS,
) -> list[UInt8[np.ndarray, "h w c"]]:
    """Open several sealed images; those of one shape and cipher are decrypted together.

    Args:
        sealed: Sealed images.
        keys: Their image keys.
        image_ids: Ids that were asked for.
        ciphers: As in `open_sealed`.

    Returns:
        The images, in order.

    Raises:
        FormatError: as `open_sealed`, for the first that fails.
        IntegrityError: as `open_sealed`, for the first that fails.
        ValueError: key of another length; or not one key and id per image.

    Example:
        >>> sealed = seal(np.zeros((2, 2, 1), np.uint8), key=bytes(32), nonce=bytes(16), image_id="a")
        >>> [image.shape for image in open_batch([sealed] * 2, keys=[bytes(32)] * 2, image_ids=["a"] * 2)]
        [(2, 2, 1), (2, 2, 1)]
    """
    if not len(sealed) == len(keys) == len(image_ids):
        raise ValueError(
            f"keys, image_ids: must be one a sealed image, {len(sealed)}, got {len(keys)} and {len(image_ids)}"
        )
    out: list[np.ndarray | None] = [None] * len(sealed)
    groups: dict[tuple, list[tuple[int, bytes, np.ndarray]]] = {}
    for place, (whole, key, image_id) in enumerate(zip(sealed, keys, image_ids, strict=True)):
        head = header(whole, ciphers=ciphers)
        found = _unlock_whole(whole, head, key, image_id)
        if found is None:
            strips = open_strips([whole], key=key, image_id=image_id, ciphers=ciphers)
            out[place] = np.concatenate(list(strips))
            continue
        cipher_key, body = found
        groups.setdefault((head.cipher, body.shape), []).append((place, cipher_key, body))
    for (cipher, _), members in groups.items():
        bodies = np.stack([body for _, _, body in members])
        secrets = [secret for _, secret, _ in members]
        bodies = cipher.decrypt(bodies, keys=secrets, nonces=[strip_nonce(0)] * len(members))
        for (place, _, _), body in zip(members, bodies, strict=True):
            out[place] = body
    return [image for image in out if image is not None]


def seal_strips(
    strips: Iterable[Images | Image],
    *,
    shape: tuple[int, int, int],
    key: bytes,
    nonce: bytes,
    image_id: str,
    cipher: Cipher = "lorenz",
) -> Iterator[bytes]:
    """Seal an image that comes in strips of rows; joined, the pieces are what `seal` makes of the whole image.

    Args:
        strips: Successive strips of `strip_rows(shape)` rows, the last one what remains.
        shape: Extents (h, w, c) of the whole image.
        key: Image key, 32 bytes.
        nonce: 16 fresh random bytes.
        image_id: Id the image is stored under.
        cipher: As in `seal`.

    Yields:
        The header, then one piece per chunk.

    Raises:
        ValueError: as `seal`; or the strips do not make up the shape.

    Example:
        >>> photo = np.zeros((2, 2, 3), np.uint8)
        >>> pieces = seal_strips([photo], shape=(2, 2, 3), key=bytes(32), nonce=bytes(16), image_id="a")
        >>> b"".join(pieces) == seal(photo, key=bytes(32), nonce=bytes(16), image_id="a")
        True
    """
    inside, rows = cipher_record(cipher), strip_rows(shape)
    head = pack_header(Header(inside, nonce, image_id))
    cipher_key, gcm_key = strip_keys(key, nonce, inside)

    def parts() -> Iterator[bytes]:
        yield EXTENTS.pack(*shape)
        done = 0
        for number, strip in enumerate(strips):
            body = _image_array(strip)
            expected = (min(rows, shape[0] - done), *shape[1:])
            if body.shape != expected:
                raise ValueError(f"strips: must be {expected} at strip {number}, got {body.shape}")
            done += len(body)
            (body,) = _encrypted(inside, body[None], [cipher_key], [strip_nonce(number)])
            yield body.tobytes()
        if done != shape[0]:
            raise ValueError(f"strips: must make up {shape[0]} rows, got {done}")

    yield head
    yield from _lock_all(parts(), packed=head, gcm_key=gcm_key, shape=shape)


def open_strips(
    pieces: Iterable[bytes], *, key: bytes, image_id: str, ciphers: Sequence[ImageCipher] = CIPHERS
) -> Iterator[UInt8[np.ndarray, "h w c"]]:
    """Open a sealed image piece by piece; every byte is verified before it is returned.

    The pieces may be cut anywhere. A consumer has the whole image only when the iterator has ended without an error.

    Args:
        pieces: Bytes of the sealed image, in order.
        key: Image key, 32 bytes.
        image_id: Id that was asked for.
        ciphers: As in `open_sealed`.

    Yields:
        Successive strips of rows.

    Raises:
        FormatError: as `open_sealed`.
        IntegrityError: as `open_sealed`.
        ValueError: key of another length.

    Example:
        >>> sealed = seal(np.zeros((2, 2, 1), np.uint8), key=bytes(32), nonce=bytes(16), image_id="a")
        >>> [strip.shape for strip in open_strips([sealed[:9], sealed[9:]], key=bytes(32), image_id="a")]
        [(2, 2, 1)]
    """
    held, source = bytearray(), iter(pieces)
    _pull(held, source, FIXED_BYTES)
    _pull(held, source, FIXED_BYTES + int.from_bytes(held[FIXED_BYTES - 2 : FIXED_BYTES], "big"))
    head = header(bytes(held[: FIXED_BYTES + 0xFFFF]), ciphers=ciphers)
    packed = pack_header(head)
    _check_id(head, image_id)
    cipher_key, gcm_key = strip_keys(key, head.nonce, head.cipher)
    del held[: len(packed)]
    content, opened, number = bytearray(), _unlock_all(held, source, packed=packed, gcm_key=gcm_key), 0
    _pull(content, opened, 1)
    height, width, channels = shape = read_extents(bytes(content[: EXTENTS.size]))
    length, rows = content_length(shape) - EXTENTS.size, strip_rows(shape)
    del content[: EXTENTS.size]
    for number, top in enumerate(range(0, height, rows)):
        part = (min(rows, height - top), width, channels)
        size = math.prod(part)
        _pull(content, opened, size)
        if len(content) < size:
            raise FormatError(f"sealed: strip {number} takes {size} bytes, got {len(content)}")
        body = np.frombuffer(bytes(content[:size]), np.uint8).reshape(part)
        del content[:size]
        length -= size
        yield head.cipher.decrypt(body[None], keys=[cipher_key], nonces=[strip_nonce(number)])[0]
    _pull(content, opened, length + 1)
    _check_padding(content, length)


def _image_array(image: Image) -> np.ndarray:
    check_array("image", image, kind="uint8", form="[h, w, c]", rank=3)
    if 0 in image.shape:
        raise ValueError(f"image: must have no empty axis, got {list(image.shape)}")
    return np.asarray(image)


def _encrypted(
    cipher: ImageCipher, bodies: np.ndarray, keys: Sequence[bytes], nonces: Sequence[bytes]
) -> UInt8[np.ndarray, "b h w c"]:
    """Bodies under a cipher, which may be anybody's: what it gives must fit the header."""
    noise = np.asarray(cipher.encrypt(bodies, keys=keys, nonces=nonces))
    if noise.shape != bodies.shape or noise.dtype != np.uint8:
        raise ValueError(
            f"cipher: must keep uint8{list(bodies.shape)}, got {noise.dtype}{list(noise.shape)} from {cipher.name!r}"
        )
    return noise


def _check_id(head: Header, image_id: str) -> None:
    if head.image_id != image_id:
        raise IntegrityError(f"sealed: is for image {head.image_id!r}, not for {image_id!r}")


def _unlock_whole(sealed: bytes, head: Header, key: bytes, image_id: str) -> tuple[bytes, np.ndarray] | None:
    """Cipher key and encrypted image of one chunk and one strip; None where there are several."""
    _check_id(head, image_id)
    packed = pack_header(head)
    locked = bytes(sealed[len(packed) :])
    if len(locked) <= TAG_BYTES:
        raise FormatError(f"sealed: must have more than {TAG_BYTES} bytes behind its header, got {len(locked)}")
    if len(locked) > CHUNK_BYTES + TAG_BYTES:
        return None
    cipher_key, gcm_key = strip_keys(key, head.nonce, head.cipher)
    content = unlock(gcm_key, 0, packed, locked)
    shape = read_extents(content.tobytes()[: EXTENTS.size])
    if shape[0] > strip_rows(shape):
        return None
    end = EXTENTS.size + math.prod(shape)
    if len(content) < end:
        raise FormatError(f"sealed: the image takes {end} bytes, got {len(content)}")
    _check_padding(content[end:], content_length(shape) - end)
    return cipher_key, content[EXTENTS.size : end].reshape(shape)


def _check_padding(rest: bytearray | np.ndarray, length: int) -> None:
    if len(rest) != length or np.frombuffer(rest, np.uint8).any():
        raise FormatError(f"sealed: must end in {length} zeros, got {len(rest)} other bytes")


def _lock_all(parts: Iterable[bytes], *, packed: bytes, gcm_key: bytes, shape: tuple[int, ...]) -> Iterator[bytes]:
    """The chunks of the content that the parts make up, padded."""
    held, number, left = bytearray(), 0, content_length(shape)
    for part in parts:
        held += part
        while len(held) > CHUNK_BYTES:
            yield lock(gcm_key, number, packed, bytes(held[:CHUNK_BYTES]))
            del held[:CHUNK_BYTES]
            number, left = number + 1, left - CHUNK_BYTES
    held += bytes(left - len(held))
    for start in range(0, len(held), CHUNK_BYTES):
        yield lock(gcm_key, number + start // CHUNK_BYTES, packed, bytes(held[start : start + CHUNK_BYTES]))


def _unlock_all(held: bytearray, source: Iterator[bytes], *, packed: bytes, gcm_key: bytes) -> Iterator[bytes]:
    """The chunks of a content, each verified."""
    for number in itertools.count():
        _pull(held, source, CHUNK_BYTES + TAG_BYTES)
        if not held:
            return
        if len(held) <= TAG_BYTES:
            raise FormatError(f"sealed: chunk {number} takes more than {TAG_BYTES} bytes, got {len(held)}")
        yield unlock(gcm_key, number, packed, bytes(held[: CHUNK_BYTES + TAG_BYTES])).tobytes()
        del held[: CHUNK_BYTES + TAG_BYTES]


def _pull(held: bytearray, source: Iterator[bytes], size: int) -> None:
    while len(held) < size:
        piece = next(source, None)
        if piece is None:
            return
        held += piece
