"""The keyed isometry: distances unchanged, keys told apart, the same on every machine."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir.ranking.isometry import derive_isometry, mask_codes, mask_lanes

KEYS = st.binary(min_size=32, max_size=32)


@given(KEYS, st.sampled_from([8, 9, 64, 512]), st.integers(0, 2**32 - 1))
def test_distances_are_kept(masking_key, bits, seed):
    codes = np.random.default_rng(seed).random((6, bits)) < 0.5
    masked = mask_codes(codes, derive_isometry(masking_key, bits=bits))
    assert np.array_equal((codes[:, None] ^ codes).sum(-1), (masked[:, None] ^ masked).sum(-1))


@given(KEYS, st.integers(1, 600))
def test_permutation_is_one(masking_key, bits):
    secret = derive_isometry(masking_key, bits=bits)
    assert sorted(secret.permutation.tolist()) == list(range(bits))


@pytest.mark.parametrize(
    ("masking_key", "bits", "lane", "rejected"),
    [(bytes(range(32)), 16, 0, 0), (bytes(range(32)), 16, 3, 0), (bytes([6]) + bytes(31), 512, 0, 3)],
)
def test_independent_reading_agrees(masking_key, bits, lane, rejected):
    # A change would orphan every stored index. Without the rejection the last of these keys gives another permutation.
    secret = derive_isometry(masking_key, bits=bits, lane=lane)
    permutation, mask, words = independent(masking_key, bits, lane)
    assert secret.permutation.tolist() == permutation
    assert secret.mask.tolist() == mask
    assert words == bits - 1 + rejected


def independent(masking_key: bytes, bits: int, lane: int):
    """The definition written again, from the byte stream upwards."""
    import hashlib

    prefix = b"jcbir isometry v2" + bits.to_bytes(2, "big") + lane.to_bytes(4, "big")
    stream = hashlib.shake_256(prefix + masking_key).digest(10_000)
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
    return permutation, mask, (place - head) // 2


@given(KEYS, st.integers(1, 40), st.integers(1, 9))
def test_each_code_has_the_isometry_of_its_lane(masking_key, count, lanes):
    codes = np.random.default_rng(count).random((count, 16)) < 0.5
    alone = [mask_codes(c, derive_isometry(masking_key, bits=16, lane=i % lanes)) for i, c in enumerate(codes)]
    assert np.array_equal(mask_lanes(codes, masking_key, lanes=lanes), np.array(alone))


def test_lanes_do_not_share_an_isometry():
    codes = np.zeros((200, 64), bool)
    codes[:, 5] = True
    masked = mask_lanes(codes, bytes(32), lanes=200)
    assert len({row.tobytes() for row in masked}) == 200
    # Where bit 5 goes is uniform over the lanes: 200 lanes, 64 places, 3.1 each; more than 14 has a chance below 1e-4.
    places = [derive_isometry(bytes(32), bits=64, lane=lane).permutation.tolist().index(5) for lane in range(200)]
    assert max(np.bincount(places)) <= 14


def test_shuffle_is_uniform():
    # Over 2000 keys each of 6 bits lands in each place about 333 times; 5 standard deviations are 84.
    places = np.zeros((6, 6), int)
    for number in range(2000):
        permutation = derive_isometry(number.to_bytes(32), bits=6).permutation
        places[np.arange(6), permutation] += 1
    assert abs(places - 2000 / 6).max() < 84


def test_jax_and_numpy_codes_agree():
    secret = derive_isometry(bytes(32), bits=16)
    codes = np.random.default_rng(1).random((3, 4, 16)) < 0.5
    assert np.array_equal(np.asarray(mask_codes(jnp.asarray(codes), secret)), mask_codes(codes, secret))
    assert np.array_equal(mask_codes(codes[0, 0], secret), mask_codes(codes, secret)[0, 0])


def test_secrets_stay_out_of_the_repr():
    secret = derive_isometry(bytes(32), bits=8)
    assert repr(secret) == "Isometry(bits=8, permutation=<secret>, mask=<secret>)"
    assert str(secret) == repr(secret)


def test_bad_arguments(unchecked):
    with pytest.raises(ValueError, match="masking_key: must be 32 bytes, got 31"):
        derive_isometry(bytes(31), bits=8)
    with pytest.raises(ValueError, match=r"bits: must be a whole number 1\.\.65535, got 0"):
        derive_isometry(bytes(32), bits=0)
    with pytest.raises(ValueError, match="lane: must be a whole number"):
        derive_isometry(bytes(32), bits=8, lane=-1)
    with pytest.raises(ValueError, match="lanes: must be a whole number of at least 1, got 0"):
        mask_lanes(np.zeros((2, 8), bool), bytes(32), lanes=0)
    with pytest.raises(ValueError, match="codes: must be of 8 bits"):
        mask_codes(np.zeros((2, 9), bool), derive_isometry(bytes(32), bits=8))
    for codes in (np.zeros((2, 8), np.uint8), np.ones((2, 8), np.float32)):
        with pytest.raises(ValueError, match="codes: must be a bool array, got"):
            mask_codes(codes, derive_isometry(bytes(32), bits=8))
