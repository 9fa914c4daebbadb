"""Images and image keys under seal: what a stranger may store, and nobody may alter unseen.

A sealed image is a header in the clear and one or more strips. Each strip is the image rows it names, encrypted
(Lorenz cipher, or nothing further), then AES-256-GCM with header and strip number as associated data. So a wrong key, a
swapped id, an edited header, a missing, moved or changed byte end in an error, never in a wrong picture. The bytes
are laid out in `jcbir.sealing._format`.

The GCM key is fresh with every (image key, nonce), so strip numbers never repeat under it. An image of up to 2^22
pixels is one strip; larger ones are cut into strips of at most that (the STREAM construction: numbered, the count fixed
by the authenticated header), so that 100 megapixels stream through a small memory. The Lorenz layer adds
no security we can prove; confidentiality and integrity rest on AES-GCM.

References:
    McGrew and Viega, The Galois/Counter Mode of Operation, 2004; Hoang, Reyhanitabar, Rogaway and Vizár, Online
    Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance, CRYPTO 2015 (STREAM); Barnes et al., RFC 9180, 2022.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jaxtyping import UInt8

from jcbir.cipher import _image as lorenz
from jcbir.errors import FormatError, IntegrityError
from jcbir.sealing._format import (
    FIXED_BYTES,
    KEY_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    VERSION,
    Cipher,
    Header,
    header,
    lock,
    pack_header,
    strip_keys,
    strip_nonce,
    strip_rows,
    unlock,
)
from jcbir.sealing._hpke import HYBRID_SECRET_BYTES, open_from, public_half, seal_to
from jcbir.typing import Image, Images

_ORDERS: dict[str, lorenz.Order] = {"lorenz": "paper", "lorenz-reference50": "reference50"}


def image_key(master: bytes, *, image_id: str) -> bytes:
    """Key of one image: `HKDF-SHA-256(ikm = master, info = "jcbir image key" || version || id)`.

    Args:
        master: 32-byte image master key.
        image_id: Id of the image.

    Returns:
        32 bytes; nothing about the master or another image's key.

    Raises:
        ValueError: the master key is not 32 bytes.

    Example:
        >>> image_key(bytes(32), image_id="a") == image_key(bytes(32), image_id="b")
        False
    """
    if len(master) != KEY_BYTES:
        raise ValueError(f"master must be {KEY_BYTES} bytes, got {len(master)}")
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"jcbir image key" + bytes([VERSION]) + image_id.encode()).derive(
        master
    )


def seal(image: Image, *, key: bytes, nonce: bytes, image_id: str, cipher: Cipher = "lorenz") -> bytes:
    """Seal one image for one id.

    Args:
        image: `UInt8[h w c]`, every extent at least 1.
        key: Image key, 32 bytes.
        nonce: 16 fresh random bytes.
        image_id: Id the image is stored under, at most 65,535 bytes of UTF-8.
        cipher: "lorenz" (the paper's stage order), "lorenz-reference50", or "aes-gcm" (no Lorenz layer).

    Returns:
        Header and strips; the image's bytes plus 40 + len(id), plus 16 a strip.

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
        ValueError: as `seal`; or not one key, nonce and id per image.

    Example:
        >>> photos = np.zeros((2, 2, 2, 3), np.uint8)
        >>> len(seal_batch(photos, keys=[bytes(32)] * 2, nonces=[bytes(16)] * 2, image_ids=["a", "b"]))
        2
    """
    if not len(images) == len(keys) == len(nonces) == len(image_ids):
        raise ValueError(
            f"keys, nonces and image_ids: {len(images)} images take as many of each, "
            f"got {len(keys)}, {len(nonces)} and {len(image_ids)}"
        )
    arrays = [_image_array(image) for image in np.asarray(images)]
    shape = tuple(int(extent) for extent in np.shape(images)[1:])
    if not arrays or shape[0] > strip_rows(shape):
        return [
            seal(a, key=k, nonce=n, image_id=i, cipher=cipher)
            for a, k, n, i in zip(arrays, keys, nonces, image_ids, strict=True)
        ]
    heads = [pack_header(Header(cipher, shape, shape[0], n, i)) for n, i in zip(nonces, image_ids, strict=True)]
    pairs = [strip_keys(k, n, cipher) for k, n in zip(keys, nonces, strict=True)]
    bodies = np.asarray(images)
    if cipher in _ORDERS:
        inner = [strip_nonce(0)] * len(bodies)
        bodies = lorenz.encrypt_batch(bodies, keys=[p[0] for p in pairs], nonces=inner, order=_ORDERS[cipher])
    return [h + lock(p[1], 0, h, body.tobytes()) for h, p, body in zip(heads, pairs, bodies, strict=True)]


def open_sealed(sealed: bytes, *, key: bytes, image_id: str) -> UInt8[np.ndarray, "h w c"]:
    """Open a sealed image; all of it verifies, or nothing is returned.

    Args:
        sealed: What `seal` returned.
        key: Image key, 32 bytes.
        image_id: Id that was asked for; the seal must be for this id.

    Returns:
        The image `UInt8[h w c]`.

    Raises:
        FormatError: not a sealed image, another version, or of another length than its header says.
        IntegrityError: wrong key, another image's id, or any byte changed.
        ValueError: key of another length.

    Example:
        >>> sealed = seal(np.zeros((2, 2, 1), np.uint8), key=bytes(32), nonce=bytes(16), image_id="a")
        >>> open_sealed(sealed, key=bytes(32), image_id="b")
        Traceback (most recent call last):
        jcbir.errors.IntegrityError: sealed: is for image 'a', not for 'b'
    """
    return open_batch([sealed], keys=[key], image_ids=[image_id])[0]


def open_batch(
    sealed: Sequence[bytes], *, keys: Sequence[bytes], image_ids: Sequence[str]
) -> list[UInt8[np.ndarray, "h w c"]]:
    """Open several sealed images; those of one shape and cipher are decrypted together.

    Args:
        sealed: Sealed images.
        keys: Their image keys.
        image_ids: Ids that were asked for.

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
        raise ValueError(f"sealed, keys and image_ids: got {len(sealed)}, {len(keys)} and {len(image_ids)}")
    out: list[np.ndarray | None] = [None] * len(sealed)
    groups: dict[tuple, list[tuple[int, bytes, np.ndarray]]] = {}
    for place, (envelope, key, image_id) in enumerate(zip(sealed, keys, image_ids, strict=True)):
        head = header(envelope)
        if head.shape[0] > head.strip_rows:
            strips = open_strips(iter([envelope]), key=key, image_id=image_id)
            out[place] = np.concatenate(list(strips))
            continue
        cipher_key, body = _unlock_whole(envelope, head, key, image_id)
        groups.setdefault((head.cipher, head.shape), []).append((place, cipher_key, body))
    for (cipher, _), members in groups.items():
        bodies = np.stack([body for _, _, body in members])
        if cipher in _ORDERS:
            secrets = [secret for _, secret, _ in members]
            inner = [strip_nonce(0)] * len(members)
            bodies = lorenz.decrypt_batch(bodies, keys=secrets, nonces=inner, order=_ORDERS[cipher])
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
        The header, then one piece per strip.

    Raises:
        ValueError: as `seal`; or the strips do not make up the shape.

    Example:
        >>> photo = np.zeros((2, 2, 3), np.uint8)
        >>> pieces = seal_strips([photo], shape=(2, 2, 3), key=bytes(32), nonce=bytes(16), image_id="a")
        >>> b"".join(pieces) == seal(photo, key=bytes(32), nonce=bytes(16), image_id="a")
        True
    """
    rows = strip_rows(shape)
    head = pack_header(Header(cipher, shape, rows, nonce, image_id))
    cipher_key, gcm_key = strip_keys(key, nonce, cipher)
    yield head
    done = 0
    for number, strip in enumerate(strips):
        body = _image_array(strip)
        expected = (min(rows, shape[0] - done), *shape[1:])
        if body.shape != expected:
            raise ValueError(f"strips: strip {number} must be {expected}, got {body.shape}")
        done += len(body)
        if cipher in _ORDERS:
            body = lorenz.encrypt(body, key=cipher_key, nonce=strip_nonce(number), order=_ORDERS[cipher])
        yield lock(gcm_key, number, head, body.tobytes())
    if done != shape[0]:
        raise ValueError(f"strips: must make up {shape[0]} rows, got {done}")


def open_strips(pieces: Iterable[bytes], *, key: bytes, image_id: str) -> Iterator[UInt8[np.ndarray, "h w c"]]:
    """Open a sealed image piece by piece; each strip is verified before it is returned.

    The pieces may be cut anywhere. A consumer has the whole image only when the iterator has ended without an error.

    Args:
        pieces: Bytes of the sealed image, in order.
        key: Image key, 32 bytes.
        image_id: Id that was asked for.

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
    head = header(bytes(held[: FIXED_BYTES + 0xFFFF]))
    packed = pack_header(head)
    _check_id(head, image_id)
    cipher_key, gcm_key = strip_keys(key, head.nonce, head.cipher)
    del held[: len(packed)]
    height, width, channels = head.shape
    for number, top in enumerate(range(0, height, head.strip_rows)):
        shape = (min(head.strip_rows, height - top), width, channels)
        size = shape[0] * width * channels + TAG_BYTES
        _pull(held, source, size)
        if len(held) < size:
            raise FormatError(f"sealed: strip {number} takes {size} bytes, got {len(held)}")
        body = unlock(gcm_key, number, packed, bytes(held[:size])).reshape(shape)
        del held[:size]
        if head.cipher in _ORDERS:
            body = lorenz.decrypt(body, key=cipher_key, nonce=strip_nonce(number), order=_ORDERS[head.cipher])
        yield body
    _pull(held, source, 1)
    if held:
        raise FormatError("sealed: bytes follow the last strip")


def _image_array(image: Image) -> np.ndarray:
    array = np.asarray(image)
    if array.ndim != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise ValueError(
            f"image must be uint8 of shape h x w x c without an empty axis, got {array.dtype} {array.shape}"
        )
    return array


def _check_id(head: Header, image_id: str) -> None:
    if head.image_id != image_id:
        raise IntegrityError(f"sealed: is for image {head.image_id!r}, not for {image_id!r}")


def _unlock_whole(sealed: bytes, head: Header, key: bytes, image_id: str) -> tuple[bytes, np.ndarray]:
    _check_id(head, image_id)
    packed = pack_header(head)
    size = head.shape[0] * head.shape[1] * head.shape[2] + TAG_BYTES
    if len(sealed) != len(packed) + size:
        raise FormatError(f"sealed: the header tells of {len(packed) + size} bytes, got {len(sealed)}")
    cipher_key, gcm_key = strip_keys(key, head.nonce, head.cipher)
    return cipher_key, unlock(gcm_key, 0, packed, bytes(sealed[len(packed) :])).reshape(head.shape)


def _pull(held: bytearray, source: Iterator[bytes], size: int) -> None:
    while len(held) < size:
        piece = next(source, None)
        if piece is None:
            return
        held += piece


__all__ = [
    "HYBRID_SECRET_BYTES",
    "NONCE_BYTES",
    "Cipher",
    "Header",
    "header",
    "image_key",
    "open_batch",
    "open_from",
    "open_sealed",
    "open_strips",
    "public_half",
    "seal",
    "seal_batch",
    "seal_strips",
    "seal_to",
    "strip_rows",
]
