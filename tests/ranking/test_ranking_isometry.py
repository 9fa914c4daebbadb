"""The keyed isometry: distances unchanged, keys told apart, the same on every machine."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir.ranking.isometry import isometry, mask_codes

KEYS = st.binary(min_size=32, max_size=32)


@given(KEYS, st.sampled_from([8, 9, 64, 512]), st.integers(0, 2**32 - 1))
def test_distances_are_kept(masking_key, bits, seed):
    codes = np.random.default_rng(seed).random((6, bits)) < 0.5
    masked = mask_codes(codes, isometry(masking_key, bits=bits))
    assert np.array_equal((codes[:, None] ^ codes).sum(-1), (masked[:, None] ^ masked).sum(-1))


@given(KEYS, st.integers(1, 600))
def test_permutation_is_one(masking_key, bits):
    secret = isometry(masking_key, bits=bits)
    assert sorted(secret.permutation.tolist()) == list(range(bits))


@pytest.mark.parametrize("bits", [16, 512])
def test_independent_reading_agrees(bits):
    # A change would orphan every stored index. At 512 bits some words are rejected.
    secret = isometry(bytes(range(32)), bits=bits)
    permutation, mask = independent(bytes(range(32)), bits)
    assert secret.permutation.tolist() == permutation
    assert secret.mask.tolist() == mask


def independent(masking_key: bytes, bits: int):
    """The definition written again, from the byte stream upwards."""
    import hashlib

    stream = hashlib.shake_256(b"jcbir isometry v1" + bits.to_bytes(2, "big") + masking_key).digest(10_000)
    head = -(-bits // 8)
    mask = [bool(stream[i // 8] >> (7 - i % 8) & 1) for i in range(bits)]
    permutation, place = list(range(bits)), head
    for i in reversed(range(1, bits)):
        while True:
            word, place = stream[place] * 256 + stream[place + 1], place + 2
            if word < 65536 // (i + 1) * (i + 1):
                break
        j = word % (i + 1)
        permutation[i], permutation[j] = permutation[j], permutation[i]
    return permutation, mask


def test_shuffle_is_uniform():
    # Over 2000 keys each of 6 bits lands in each place about 333 times; 5 standard deviations are 84.
    places = np.zeros((6, 6), int)
    for number in range(2000):
        permutation = isometry(number.to_bytes(32), bits=6).permutation
        places[np.arange(6), permutation] += 1
    assert abs(places - 2000 / 6).max() < 84


def test_jax_and_numpy_codes_agree():
    secret = isometry(bytes(32), bits=16)
    codes = np.random.default_rng(1).random((3, 4, 16)) < 0.5
    assert np.array_equal(np.asarray(mask_codes(jnp.asarray(codes), secret)), mask_codes(codes, secret))
    assert np.array_equal(mask_codes(codes[0, 0], secret), mask_codes(codes, secret)[0, 0])


def test_secrets_stay_out_of_the_repr():
    secret = isometry(bytes(32), bits=8)
    assert repr(secret) == "Isometry(bits=8, permutation=<secret>, mask=<secret>)"
    assert str(secret) == repr(secret)


def test_bad_arguments():
    with pytest.raises(ValueError, match="masking_key: must be 32 bytes, got 31"):
        isometry(bytes(31), bits=8)
    with pytest.raises(ValueError, match="bits: must be 1"):
        isometry(bytes(32), bits=0)
    with pytest.raises(ValueError, match="codes: must have 8 bits"):
        mask_codes(np.zeros((2, 9), bool), isometry(bytes(32), bits=8))
