"""Sealed images: they open for their key and id, and for nothing else, whatever byte is touched."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from jcbir import sealing
from jcbir.errors import FormatError, IntegrityError
from jcbir.sealing import _format as layout

KEY, NONCE = bytes(range(32)), bytes(range(16))
PHOTO = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
CIPHERS = ["lorenz", "lorenz-reference50", "aes-gcm"]


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))),
    st.sampled_from(CIPHERS),
    st.text(max_size=12),
)
def test_open_inverts_seal(photo, cipher, image_id):
    sealed = sealing.seal(photo, key=KEY, nonce=NONCE, image_id=image_id, cipher=cipher)
    assert np.array_equal(sealing.open_sealed(sealed, key=KEY, image_id=image_id), photo)
    assert len(sealed) == 40 + len(image_id.encode()) + photo.size + 16
    assert layout.header(sealed) == (layout.cipher_record(cipher), photo.shape, len(photo), NONCE, image_id)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_flipped_bit_of_every_byte_is_an_error(cipher):
    sealed = sealing.seal(PHOTO, key=KEY, nonce=NONCE, image_id="ab", cipher=cipher)
    for place in range(len(sealed)):
        for bit in range(8):
            forged = bytearray(sealed)
            forged[place] ^= 1 << bit
            with pytest.raises((IntegrityError, FormatError)):
                sealing.open_sealed(bytes(forged), key=KEY, image_id="ab")
            with pytest.raises((IntegrityError, FormatError)):
                list(sealing.open_strips([bytes(forged)], key=KEY, image_id="ab"))


def test_every_truncation_and_every_tail_is_an_error():
    sealed = sealing.seal(PHOTO, key=KEY, nonce=NONCE, image_id="ab")
    for wrong in [sealed[:n] for n in range(len(sealed))] + [sealed + b"x", sealed + sealed]:
        with pytest.raises(FormatError):
            sealing.open_sealed(wrong, key=KEY, image_id="ab")
        with pytest.raises(FormatError):
            list(sealing.open_strips([wrong], key=KEY, image_id="ab"))


def test_wrong_key_and_swapped_id():
    a, b = (sealing.seal(PHOTO, key=KEY, nonce=NONCE, image_id=i) for i in "ab")
    with pytest.raises(IntegrityError, match="does not verify"):
        sealing.open_sealed(a, key=bytes(32), image_id="a")
    with pytest.raises(IntegrityError, match="is for image 'b'"):
        sealing.open_sealed(b, key=KEY, image_id="a")
    # A server that rewrites the id to match the request gains nothing: the id is authenticated.
    forged = b.replace(b"b", b"a", 1)
    with pytest.raises(IntegrityError, match="does not verify"):
        sealing.open_sealed(forged, key=KEY, image_id="a")


def test_algorithm_cannot_be_downgraded():
    sealed = bytearray(sealing.seal(PHOTO, key=KEY, nonce=NONCE, image_id="a"))
    sealed[5] = 2
    assert layout.header(bytes(sealed)).cipher.name == "aes-gcm"
    with pytest.raises(IntegrityError):
        sealing.open_sealed(bytes(sealed), key=KEY, image_id="a")


@pytest.mark.parametrize("cipher", CIPHERS)
def test_batch_equals_loop(cipher):
    photos = np.random.default_rng(1).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    keys, nonces, ids = [bytes([i]) * 32 for i in range(3)], [bytes([i]) * 16 for i in range(3)], ["x", "yy", "z"]
    batch = sealing.seal_batch(photos, keys=keys, nonces=nonces, image_ids=ids, cipher=cipher)
    loop = [
        sealing.seal(p, key=k, nonce=n, image_id=i, cipher=cipher)
        for p, k, n, i in zip(photos, keys, nonces, ids, strict=True)
    ]
    assert batch == loop
    other = sealing.seal(PHOTO, key=KEY, nonce=NONCE, image_id="p")
    opened = sealing.open_batch(
        [batch[0], other, *batch[1:]], keys=[keys[0], KEY, *keys[1:]], image_ids=["x", "p", "yy", "z"]
    )
    for got, expected in zip(opened, [photos[0], PHOTO, *photos[1:]], strict=True):
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_strips(cipher, monkeypatch):
    monkeypatch.setattr(layout, "STRIP_PIXELS", 8)
    names = {"key": KEY, "image_id": "a"}
    sealed = sealing.seal(PHOTO, nonce=NONCE, cipher=cipher, **names)
    assert layout.header(sealed).strip_rows == 2
    assert np.array_equal(sealing.open_sealed(sealed, **names), PHOTO)
    batch = sealing.seal_batch(PHOTO[None], keys=[KEY], nonces=[NONCE], image_ids=["a"], cipher=cipher)
    assert batch == [sealed]
    for cut in (1, 7, 64):
        pieces = [sealed[i : i + cut] for i in range(0, len(sealed), cut)]
        assert np.array_equal(np.concatenate(list(sealing.open_strips(pieces, **names))), PHOTO)
    # Strips neither move nor disappear.
    head, size = 41, 2 * 4 * 3 + 16
    first, second, last = sealed[head : head + size], sealed[head + size : head + 2 * size], sealed[head + 2 * size :]
    for forged in (second + first + last, first + last, first + second, first + first + last):
        with pytest.raises((IntegrityError, FormatError)):
            list(sealing.open_strips([sealed[:head] + forged], **names))


def test_bad_input(unchecked):
    names = {"key": KEY, "nonce": NONCE, "image_id": "a"}
    for wrong in (PHOTO[:0], PHOTO[..., 0], PHOTO.astype(np.float32)):
        with pytest.raises(ValueError, match="image: must"):
            sealing.seal(wrong, **names)
    with pytest.raises(ValueError, match="cipher: must be"):
        sealing.seal(PHOTO, **names, cipher="rot13")
    with pytest.raises(ValueError, match="nonce: must be 16"):
        sealing.seal(PHOTO, **{**names, "nonce": bytes(12)})
    with pytest.raises(ValueError, match="key: must be 32"):
        sealing.seal(PHOTO, **{**names, "key": bytes(16)})
    with pytest.raises(ValueError, match="image_id"):
        sealing.seal(PHOTO, **{**names, "image_id": "x" * 70_000})
    with pytest.raises(ValueError, match="master: must be 32"):
        sealing.image_key(b"short", image_id="a")
    with pytest.raises(ValueError, match="strip 0 must be"):
        list(sealing.seal_strips([PHOTO[:2]], shape=PHOTO.shape, **names))
    with pytest.raises(ValueError, match="must make up 5 rows"):
        list(sealing.seal_strips([], shape=PHOTO.shape, **names))
    with pytest.raises(ValueError, match="and 0"):
        sealing.open_batch([b"x"], keys=[], image_ids=[])


@settings(max_examples=200)
@given(st.binary(max_size=120))
def test_any_bytes_are_refused_cleanly(junk):
    for begin in (b"", b"JCBI\1", b"JCBI\1\1" + bytes(3) + b"\1" + bytes(3) + b"\1" + bytes(3) + b"\1"):
        with pytest.raises((FormatError, IntegrityError)):
            sealing.open_sealed(begin + junk, key=KEY, image_id="a")
