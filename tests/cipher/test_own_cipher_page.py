"""docs/bring-your-own-cipher.md, executed; and what a cipher of one's own may not do."""

import numpy as np
import pytest

from jcbir.cipher import CIPHERS, DIFFUSION, Chain, ImageCipher, chain, encrypt, encrypt_batch
from jcbir.errors import FormatError, IntegrityError
from jcbir.sealing import open_sealed, seal, seal_batch

PHOTO = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
NAMES = {"key": bytes(32), "nonce": bytes(16), "image_id": "a"}


def test_what_the_page_seals_needs_its_cipher(run_page):
    found = run_page("bring-your-own-cipher.md")
    sealed, whitened = found["sealed"], found["whitened"]
    assert sealed[5] == 200
    with pytest.raises(FormatError, match="algorithm 200"):
        open_sealed(sealed, key=bytes(32), image_id="a")
    with pytest.raises(IntegrityError):
        open_sealed(sealed[:-1] + bytes([sealed[-1] ^ 1]), key=bytes(32), image_id="a", ciphers=(whitened,))


def test_numbers_and_names_are_never_shared():
    assert len({cipher.code for cipher in CIPHERS}) == len({cipher.name for cipher in CIPHERS}) == len(CIPHERS)
    other = Chain("other", chain("paper").stages)
    key = {"key": bytes(32), "nonce": bytes(16)}
    assert not np.array_equal(encrypt(PHOTO, order=other, **key), encrypt(PHOTO, order="paper", **key))


def test_what_a_cipher_may_not_do(unchecked):
    wrong = ImageCipher("wrong", 201, lambda images, **names: images[:, :1], lambda images, **names: images)
    with pytest.raises(ValueError, match="cipher: must keep"):
        seal(PHOTO, cipher=wrong, **NAMES)
    for code in (0, 256, 1.0):
        with pytest.raises(ValueError, match=r"cipher\.code: must be"):
            seal(PHOTO, cipher=wrong._replace(code=code), **NAMES)
    with pytest.raises(ValueError, match="cipher: must be one of"):
        seal(PHOTO, cipher="rot13", **NAMES)
    for order in ("mine", Chain("twice", (DIFFUSION, DIFFUSION)), Chain("none", ())):
        with pytest.raises(ValueError, match="order: must be"):
            encrypt(PHOTO, key=bytes(32), nonce=bytes(16), order=order)


def test_a_nonce_never_repeats_under_one_key():
    photos = np.stack([PHOTO, PHOTO])
    pairs = {"keys": [bytes(32)] * 2, "nonces": [bytes(16)] * 2}
    with pytest.raises(ValueError, match="nonces: must never repeat"):
        encrypt_batch(photos, **pairs)
    for cipher in CIPHERS:
        with pytest.raises(ValueError, match="nonces: must never repeat"):
            seal_batch(photos, image_ids=["a", "b"], cipher=cipher, **pairs)
    other = {**pairs, "keys": [bytes(32), bytes(31) + b"1"]}
    assert encrypt_batch(photos, **other).shape == photos.shape
