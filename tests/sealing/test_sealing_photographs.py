"""Sealed photographs: the file comes back byte for byte, for its key and id; few lengths; other versions by name."""

import hashlib
import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from jcbir import sealing
from jcbir.errors import FormatError, IntegrityError
from jcbir.padding import padded_length
from jcbir.sealing import Photograph, _format as layout, _photographs as photographs, _seal as seals

KEY, NONCE = bytes(range(32)), bytes(range(16))
CIPHERS = ["lorenz", "lorenz-reference50", "aes-gcm"]
BEACH = Photograph(b"\xff\xd8 a file", "image/jpeg", "bêach.jpg", "2024-05-01T12:30:00", "The four of us")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PHOTOGRAPHS = st.builds(Photograph, st.binary(min_size=1, max_size=2000), TEXTS, TEXTS, TEXTS, TEXTS)


def length(photograph):
    return 12 + len(photograph.data) + sum(len(text.encode()) for text in photograph[1:])


@given(PHOTOGRAPHS, st.sampled_from(CIPHERS), st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_open_inverts_seal(photograph, cipher, image_id):
    sealed = sealing.seal_photograph(photograph, key=KEY, nonce=NONCE, image_id=image_id, cipher=cipher)
    assert sealing.open_photograph(sealed, key=KEY, image_id=image_id) == photograph
    size = length(photograph) - 12
    assert len(sealed) == sealing.sealed_length(size, id_bytes=len(image_id.encode()))
    # Rows of 256 fill what the padding takes anyway, where that is more than a row.
    least = 24 + len(image_id.encode()) + 16 + padded_length(12 + length(photograph))
    assert least <= len(sealed) <= least + 256 * 1.13
    if length(photograph) > 4096:
        assert len(sealed) == least


@given(PHOTOGRAPHS)
def test_the_samples_are_what_the_page_says(photograph):
    """A second implementation, by hand."""
    texts = [text.encode() for text in photograph[1:]]
    lengths = b"".join(len(text).to_bytes(2) for text in texts) + len(photograph.data).to_bytes(4)
    packed = lengths + b"".join(texts) + photograph.data
    rows = max(-(-len(packed) // 256), (padded_length(12 + len(packed)) - 12) // 256)
    image = np.frombuffer(packed + bytes(256 * rows - len(packed)), np.uint8).reshape(rows, 256, 1)
    as_pixels = sealing.seal(image, key=KEY, nonce=NONCE, image_id="a", cipher="aes-gcm")
    sealed = sealing.seal_photograph(photograph, key=KEY, nonce=NONCE, image_id="a", cipher="aes-gcm")
    assert len(sealed) == len(as_pixels) and sealed[:5] == b"JCBI\3" and as_pixels[:5] == b"JCBI\2"
    with_version = layout.Header(3, layout.cipher_record("aes-gcm"), NONCE, "a")
    gcm_key = layout.strip_keys(KEY, with_version)[1]
    content = layout.unlock(gcm_key, 0, sealed[:25], sealed[25:]).tobytes()
    assert content == (layout.EXTENTS.pack(rows, 256, 1) + image.tobytes()).ljust(len(content), b"\0")


def test_golden_bytes():
    """As this version first wrote it: an accidental change of the format fails here."""
    digests = {
        cipher: hashlib.sha256(
            sealing.seal_photograph(BEACH, key=KEY, nonce=NONCE, image_id="a", cipher=cipher)
        ).hexdigest()[:16]
        for cipher in CIPHERS
    }
    assert digests == {
        "lorenz": "f3700e867267af5f",
        "lorenz-reference50": "e27532bc9dcd741c",
        "aes-gcm": "0645c489c0da693d",
    }


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_flipped_byte_is_an_error(cipher):
    sealed = sealing.seal_photograph(BEACH, key=KEY, nonce=NONCE, image_id="ab", cipher=cipher)
    for place in range(len(sealed)):
        forged = bytearray(sealed)
        forged[place] ^= 1 << place % 8
        with pytest.raises((IntegrityError, FormatError)):
            sealing.open_photograph(bytes(forged), key=KEY, image_id="ab")
    for wrong in [sealed[:n] for n in range(len(sealed))] + [sealed + b"x", sealed + sealed]:
        with pytest.raises((IntegrityError, FormatError)):
            sealing.open_photograph(wrong, key=KEY, image_id="ab")


def test_wrong_keys_and_ids_are_refused():
    sealed = sealing.seal_photograph(BEACH, key=KEY, nonce=NONCE, image_id="a")
    with pytest.raises(IntegrityError):
        sealing.open_photograph(sealed, key=bytes(32), image_id="a")
    with pytest.raises(IntegrityError, match="is for image 'a', not for 'b'"):
        sealing.open_photograph(sealed, key=KEY, image_id="b")


def test_a_batch_is_the_photographs_one_by_one():
    numbers = np.random.default_rng(3)
    several = [
        Photograph(numbers.bytes(size), "image/png", str(size)) for size in (1, 90, 100, 700, 90, 5000, 4990, 100)
    ]
    keys, nonces = [numbers.bytes(32) for _ in several], [numbers.bytes(16) for _ in several]
    ids = [f"id {place}" for place in range(len(several))]
    batch = sealing.seal_photographs(several, keys=keys, nonces=nonces, image_ids=ids)
    alone = [
        sealing.seal_photograph(p, key=k, nonce=n, image_id=i)
        for p, k, n, i in zip(several, keys, nonces, ids, strict=True)
    ]
    assert batch == alone
    assert sealing.open_photographs(batch, keys=keys, image_ids=ids) == several
    assert sealing.seal_photographs([], keys=[], nonces=[], image_ids=[]) == []
    with pytest.raises(IntegrityError):
        sealing.open_photographs([*batch[:-1], batch[0]], keys=keys, image_ids=ids)


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 9000), st.sampled_from(CIPHERS))
def test_large_files_go_through_strips_and_chunks(size, cipher):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "STRIP_PIXELS", 1024)
        patch.setattr(seals, "CHUNK_BYTES", 512)
        patch.setattr(seals, "BATCH_SAMPLES", 2048)
        patch.setattr(photographs, "BATCH_SAMPLES", 2048)
        large = [Photograph(bytes([number]) * size, "image/jpeg", "a") for number in range(3)]
        keys, ids = [bytes([number]) * 32 for number in range(3)], ["a", "b", "c"]
        sealed = sealing.seal_photographs(large, keys=keys, nonces=[NONCE] * 3, image_ids=ids, cipher=cipher)
        assert sealing.open_photographs(sealed, keys=keys, image_ids=ids) == large
        assert len(sealed[0]) - 25 - padded_length(12 + 256 * photographs._rows(length(large[0]))) in range(
            16, 16 * 60, 16
        )


def test_photographs_of_many_lengths_have_few_sizes():
    sizes = {
        len(
            sealing.seal_photograph(
                Photograph(bytes(size), "image/jpeg"), key=KEY, nonce=NONCE, image_id="a", cipher="aes-gcm"
            )
        )
        for size in range(60_000, 70_000, 7)
    }
    assert len(sizes) <= 10


@given(st.integers(10_000, 1 << 40))
def test_a_store_is_little_larger_than_the_files(size):
    assert size < sealing.sealed_length(size) <= 1.15 * size


def test_pixels_and_files_are_not_taken_for_each_other():
    """Names what is there: a store that an earlier version wrote says so, and is not opened as something else."""
    image = np.zeros((2, 2, 3), np.uint8)
    pixels = sealing.seal(image, key=KEY, nonce=NONCE, image_id="a")
    with pytest.raises(FormatError, match="must be of version 3, got 2, which an earlier jcbir wrote: publish anew"):
        sealing.open_photograph(pixels, key=KEY, image_id="a")
    sealed = sealing.seal_photograph(BEACH, key=KEY, nonce=NONCE, image_id="a")
    with pytest.raises(FormatError, match="must be a sealed image of version 2"):
        sealing.open_sealed(sealed, key=KEY, image_id="a")
    # The version is under the key: an edited header opens neither.
    for forged, opener in (
        (b"JCBI\3" + pixels[5:], sealing.open_photograph),
        (b"JCBI\2" + sealed[5:], sealing.open_sealed),
    ):
        with pytest.raises(IntegrityError):
            opener(forged, key=KEY, image_id="a")


def locked(samples):
    """Samples of anybody's making under a good tag: the owner of the key need not mean well."""
    head = layout.Header(layout.PHOTOGRAPH, layout.cipher_record("aes-gcm"), NONCE, "a")
    return seals._seal_whole(samples, key=KEY, head=head)


def packed(*texts, data=b"d", tail=b"", size=None, rows=1):
    lengths = b"".join(len(text).to_bytes(2) for text in texts)
    body = lengths + (len(data) if size is None else size).to_bytes(4) + b"".join(texts) + data + tail
    return np.frombuffer(body.ljust(rows * 256, b"\0"), np.uint8).reshape(rows, 256, 1)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros((1, 1, 1), np.uint8),
        np.zeros((1, 256, 1), np.uint8),
        packed(b"", b"", b"", b"", data=b""),
        packed(b"", b"", b"", b"", size=500),
        packed(b"", b"", b"", b"", size=(1 << 32) - 1),
        packed(b"", b"", b"", b"", tail=b"x"),
        packed(b"", b"", b"", b"", rows=2),
        packed(b"\xff", b"", b"", b""),
        packed(b"", b"", b"", b"").reshape(256, 1, 1),
    ],
    ids=["no lengths", "all zeros", "no file", "short", "gigabytes", "tail", "rows", "not UTF-8", "columns"],
)
def test_contents_that_are_no_photograph_are_refused(samples):
    with pytest.raises(FormatError, match="sealed: must hold"):
        sealing.open_photograph(locked(samples), key=KEY, image_id="a")
    good = packed(b"", b"", b"", b"")
    assert sealing.open_photograph(locked(good), key=KEY, image_id="a") == Photograph(b"d", "")


def test_what_cannot_be_sealed_is_refused(unchecked):
    names = {"key": KEY, "nonce": NONCE, "image_id": "a"}
    for wrong, said in [
        (np.zeros((2, 2, 3), np.uint8), "photograph: must be a Photograph, got ndarray"),
        (Photograph(b"", "image/png"), "data: must be 1 to 4294967295 bytes, got 0"),
        (Photograph(bytearray(b"a"), "image/png"), "data: must be 1 to 4294967295 bytes, got bytearray"),
        (BEACH._replace(name=None), "name: must be a text, got NoneType"),
        (BEACH._replace(taken=b"2024"), "taken: must be a text, got bytes"),
        (BEACH._replace(caption="x" * 65_536), "caption: must be at most 65535 bytes of UTF-8, got 65536"),
        (BEACH._replace(name="\udcff"), "name: must be a text that UTF-8 can hold"),
    ]:
        with pytest.raises(ValueError, match=said):
            sealing.seal_photograph(wrong, **names)
    with pytest.raises(ValueError, match="one an image"):
        sealing.seal_photographs([BEACH], keys=[], nonces=[NONCE], image_ids=["a"])
    # The same length or another one: a nonce never repeats under a key.
    for pair in itertools.product([BEACH], [BEACH, BEACH._replace(data=bytes(9999))]):
        with pytest.raises(ValueError, match="never repeat"):
            sealing.seal_photographs(pair, keys=[KEY] * 2, nonces=[NONCE] * 2, image_ids=["a", "b"])
