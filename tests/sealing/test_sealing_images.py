"""Sealed images: they open for their key and id, and for nothing else, whatever byte is touched."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from jcbir import sealing
from jcbir.errors import FormatError, IntegrityError
from jcbir.padding import padded_length
from jcbir.sealing import _format as layout, _seal as seals

KEY, NONCE = bytes(range(32)), bytes(range(16))
PHOTO = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
CIPHERS = ["lorenz", "lorenz-reference50", "aes-gcm"]
NUMBERS = st.integers(0, 300)


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))),
    st.sampled_from(CIPHERS),
    st.text(max_size=12),
)
def test_open_inverts_seal(photo, cipher, image_id):
    sealed = sealing.seal(photo, key=KEY, nonce=NONCE, image_id=image_id, cipher=cipher)
    assert np.array_equal(sealing.open_sealed(sealed, key=KEY, image_id=image_id), photo)
    assert len(sealed) == 24 + len(image_id.encode()) + padded_length(12 + photo.size) + 16
    assert layout.header(sealed, version=layout.IMAGE) == (layout.IMAGE, layout.cipher_record(cipher), NONCE, image_id)


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
        # Where it should end is inside the seal: a cut or longer chunk does not verify.
        with pytest.raises((FormatError, IntegrityError)):
            sealing.open_sealed(wrong, key=KEY, image_id="ab")
        with pytest.raises((FormatError, IntegrityError)):
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
    assert layout.header(bytes(sealed), version=layout.IMAGE).cipher.name == "aes-gcm"
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
    for module in (layout, seals):
        monkeypatch.setattr(module, "CHUNK_BYTES", 32)
    names = {"key": KEY, "image_id": "a"}
    sealed = sealing.seal(PHOTO, nonce=NONCE, cipher=cipher, **names)
    assert sealing.strip_rows(PHOTO.shape) == 2
    assert np.array_equal(sealing.open_sealed(sealed, **names), PHOTO)
    batch = sealing.seal_batch(PHOTO[None], keys=[KEY], nonces=[NONCE], image_ids=["a"], cipher=cipher)
    assert batch == [sealed]
    for cut in (1, 7, 64):
        pieces = [sealed[i : i + cut] for i in range(0, len(sealed), cut)]
        assert np.array_equal(np.concatenate(list(sealing.open_strips(pieces, **names))), PHOTO)
    # Chunks neither move nor disappear: 12 + 60 bytes, all of them without padding.
    head, size = 25, 32 + 16
    first, second, last = sealed[head : head + size], sealed[head + size : head + 2 * size], sealed[head + 2 * size :]
    assert len(last) == 8 + 16
    for forged in (second + first + last, first + last, first + second, first + first + last, first, b""):
        with pytest.raises((IntegrityError, FormatError)):
            list(sealing.open_strips([sealed[:head] + forged], **names))


@pytest.mark.parametrize("cipher", CIPHERS)
def test_equal_pieces_of_an_image_do_not_look_equal(cipher, monkeypatch):
    """No two chunks under one GCM nonce, no two strips under one stream, no two images or ciphers under one key."""
    monkeypatch.setattr(layout, "STRIP_PIXELS", 16)
    for module in (layout, seals):
        monkeypatch.setattr(module, "CHUNK_BYTES", 32)
    plain = np.zeros((16, 8, 2), np.uint8)
    sealed = sealing.seal(plain, key=KEY, nonce=NONCE, image_id="a", cipher=cipher)
    head = layout.header(sealed, version=layout.IMAGE)
    packed, pair = layout.pack_header(head), layout.strip_keys(KEY, head)
    chunks = [sealed[start : start + 48] for start in range(len(packed), len(sealed), 48)]
    assert len(chunks) > 4 and len({chunk[:16] for chunk in chunks}) == len(chunks)
    content = b"".join(layout.unlock(pair[1], number, packed, chunk) for number, chunk in enumerate(chunks))
    strips = {content[12:][start : start + 32] for start in range(0, plain.size, 32)}
    assert len(strips) == (1 if cipher == "aes-gcm" else plain.size // 32)
    others = [head._replace(nonce=bytes(16)), *(head._replace(cipher=layout.cipher_record(name)) for name in CIPHERS)]
    keys = {key for other in {head, *others} for key in layout.strip_keys(KEY, other)}
    assert len(keys) == 2 * len({head, *others})


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
        sealing.image_key(b"short", image_id="a", epoch=0, segment=0)
    with pytest.raises(ValueError, match="segment: must be"):
        sealing.image_key(bytes(32), image_id="a", epoch=0, segment=-1)
    with pytest.raises(ValueError, match="at strip 0"):
        list(sealing.seal_strips([PHOTO[:2]], shape=PHOTO.shape, **names))
    with pytest.raises(ValueError, match="must make up 5 rows"):
        list(sealing.seal_strips([], shape=PHOTO.shape, **names))
    with pytest.raises(ValueError, match="and 0"):
        sealing.open_batch([b"x"], keys=[], image_ids=[])


@settings(max_examples=200)
@given(st.binary(max_size=120))
def test_any_bytes_are_refused_cleanly(junk):
    for begin in (b"", b"JCBI\1", b"JCBI\2", b"JCBI\2\1" + bytes(16) + b"\0\1a"):
        with pytest.raises((FormatError, IntegrityError)):
            sealing.open_sealed(begin + junk, key=KEY, image_id="a")


@given(*(st.lists(kind, min_size=2, max_size=4, unique=True) for kind in (st.text(max_size=3), NUMBERS, NUMBERS)))
def test_every_image_epoch_and_segment_has_a_key_of_its_own(names, epochs, segments):
    places = list(itertools.product(names, epochs, segments))
    keys = {sealing.image_key(KEY, image_id=name, epoch=epoch, segment=segment) for name, epoch, segment in places}
    assert len(keys) == len(places)


@given(st.integers(2, 1 << 40))
def test_padding_is_short_and_tells_few_lengths(length):
    """Padme: never shorter, 12 % longer at most, the same again, and `O(log log l)` significant bits."""
    padded = padded_length(length)
    assert length <= padded <= 1.12 * length and padded_length(padded) == padded
    assert padded_length(padded - 1) <= padded
    assert len(bin(padded)[2:].rstrip("0")) <= (padded.bit_length() - 1).bit_length() + 1


def test_images_of_many_extents_have_few_sizes():
    """What a server sees of 3 x 400 different pictures; before, each extent had a size of its own."""
    shapes = [(h, w, 3) for h in range(40, 60) for w in range(40, 60)]
    before = {h * w * c for h, w, c in shapes}
    after = {
        len(sealing.seal(np.zeros(s, np.uint8), key=KEY, nonce=NONCE, image_id="a", cipher="aes-gcm")) for s in shapes
    }
    assert len(before) > 100 and len(after) <= 20
    header = sealing.seal(np.zeros((41, 43, 3), np.uint8), key=KEY, nonce=NONCE, image_id="a")[:25]
    assert (41).to_bytes(4) not in header


def test_what_an_earlier_version_sealed_is_refused_by_name():
    old = b"JCBI" + bytes([1, 2]) + b"".join(n.to_bytes(4) for n in (1, 1, 1, 1)) + NONCE + b"\0\1a" + bytes(17)
    with pytest.raises(FormatError, match="got 1, which an earlier jcbir wrote"):
        sealing.open_sealed(old, key=KEY, image_id="a")


def locked(content):
    """Content of anybody's making under a good tag: the owner of the key is not always careful."""
    head = layout.Header(layout.IMAGE, layout.cipher_record("aes-gcm"), NONCE, "a")
    packed = layout.pack_header(head)
    return packed + layout.lock(layout.strip_keys(KEY, head)[1], 0, packed, content)


@pytest.mark.parametrize(
    "content",
    [
        bytes(5),
        layout.EXTENTS.pack(1, 1, 0) + bytes(4),
        layout.EXTENTS.pack(1, 1, 0),
        layout.EXTENTS.pack(0, 1, 1),
        layout.EXTENTS.pack(1, 0, 1),
        layout.EXTENTS.pack(1, 1, 1) + bytes(5),
        layout.EXTENTS.pack(1, 1, 1) + b"p" + b"x",
        layout.EXTENTS.pack(1, 1, 1 << 31) + bytes(9),
        layout.EXTENTS.pack(2, 2, 2) + bytes(7),
    ],
)
def test_contents_that_do_not_fit_their_extents_are_refused(content):
    for opened in (
        lambda: sealing.open_sealed(locked(content), key=KEY, image_id="a"),
        lambda: list(sealing.open_strips([locked(content)], key=KEY, image_id="a")),
    ):
        with pytest.raises(FormatError, match="sealed: "):
            opened()
    good = layout.EXTENTS.pack(1, 1, 1) + b"p" + bytes(padded_length(13) - 13)
    assert sealing.open_sealed(locked(good), key=KEY, image_id="a").tolist() == [[[ord("p")]]]
