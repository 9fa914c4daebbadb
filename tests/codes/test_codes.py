"""Codes: bit order, round trips, distances against NumPy, ties, and the errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir import codes

# Few lengths, each on or beside a word or byte border: every one costs a compile.
LENGTHS = st.sampled_from([1, 8, 33, 64, 512])
pack, pairwise, hamming = map(jax.jit, (codes.pack, codes.pairwise, codes.hamming))
unpack, nearest = jax.jit(codes.unpack, static_argnames="bits"), jax.jit(codes.nearest, static_argnames="top")


def bits_of(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < 0.5


@given(LENGTHS, st.integers(0, 2**32 - 1))
def test_round_trip_and_bit_order(k, seed):
    b = bits_of(seed, 3, 2, k)
    packed = np.asarray(pack(b))
    assert packed.dtype == np.uint32
    assert packed.shape == (3, 2, -(-k // 32))
    np.testing.assert_array_equal(unpack(packed, bits=k), b)
    raw = codes.to_bytes(packed, bits=k)
    np.testing.assert_array_equal(raw, np.packbits(b, axis=-1))
    np.testing.assert_array_equal(codes.from_bytes(raw, bits=k), packed)


def test_bit_order_by_hand():
    b = np.zeros(40, bool)
    b[[0, 33]] = True
    assert np.asarray(codes.pack(b)).tolist() == [1 << 31, 1 << 30]


@given(LENGTHS, st.integers(0, 2**32 - 1))
def test_distances(k, seed):
    q, d = bits_of(seed, 4, k), bits_of(seed + 1, 9, k)
    expected = (q[:, None] != d[None]).sum(-1)
    pq, pd = np.asarray(pack(q)), np.asarray(pack(d))
    found = pairwise(pq, pd)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(hamming(pq, pd[:4]), (q != d[:4]).sum(-1))
    assert found.dtype == jnp.int32


@given(st.sampled_from([8, 64]), st.integers(0, 2**32 - 1), st.sampled_from([1, 5, 40]))
def test_nearest_is_stable(k, seed, top):
    # 8 bits and 40 items: every list holds ties.
    q, d = pack(bits_of(seed, 3, k)), pack(bits_of(seed + 1, 40, k))
    distance, index = nearest(q, d, top=top)
    full = np.asarray(pairwise(q, d))
    order = np.argsort(full, axis=-1, kind="stable")[:, :top]
    np.testing.assert_array_equal(index, order)
    np.testing.assert_array_equal(distance, np.take_along_axis(full, order, -1))


def test_jit_and_vmap():
    q, d = bits_of(0, 6, 33), bits_of(1, 6, 33)
    pq, pd = jax.jit(codes.pack)(q), codes.pack(d)
    np.testing.assert_array_equal(jax.vmap(codes.hamming)(pq, pd), codes.hamming(pq, pd))
    np.testing.assert_array_equal(jax.jit(codes.pairwise)(pq, pd), codes.pairwise(pq, pd))
    one = jax.jit(lambda a, b: codes.nearest(a, b, top=3))(pq, pd)
    np.testing.assert_array_equal(one[1], codes.nearest(pq, pd, top=3)[1])
    np.testing.assert_array_equal(jax.vmap(lambda p: codes.unpack(p, bits=33))(pq), q)


def test_binarize():
    logits = np.array([-0.0, 0.0, 1e-30, -1e-30, np.nan], np.float32)
    assert codes.binarize(logits).tolist() == [True, True, True, False, False]
    assert codes.binarize(jnp.zeros((2, 3, 8))).shape == (2, 3, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda u: codes.pack(np.zeros(8, np.uint8)), "codes: must be booleans"),
        (lambda u: codes.pack(np.zeros((3, 0), bool)), "bits: must be a whole number of at least 1, got 0"),
        (lambda u: codes.unpack(u((2, 2)), bits=65), "packed: must have 3 words for bits=65, got 2"),
        (lambda u: codes.unpack(np.zeros((2, 2)), bits=64), "packed: must be uint32"),
        (lambda u: codes.to_bytes(u((2, 2)), bits=32), "packed: must have 1 words"),
        (lambda u: codes.from_bytes(np.zeros((2, 2), np.uint8), bits=17), "rows: must have 3 bytes"),
        (lambda u: codes.from_bytes(np.array([1], np.uint8), bits=7), "beyond bits=7"),
        (lambda u: codes.unpack(u((2, 2)) + np.uint32(1), bits=63), "no bit set beyond bits=63"),
        (lambda u: codes.to_bytes(u((2, 2)) + np.uint32(1), bits=63), "no bit set beyond bits=63"),
        (lambda u: codes.hamming(u((2, 2)), u((3, 2))), "b: must have the shape"),
        (lambda u: codes.hamming(np.zeros((2, 2), np.int32), u((2, 2))), "a: must be uint32"),
        (lambda u: codes.pairwise(u((2, 1)), u((3, 2))), "database: must have the 1 words of queries, got 2"),
        (lambda u: codes.pairwise(u(2), u((3, 2))), "queries: must be uint32"),
        (lambda u: codes.nearest(u((2, 2)), u((3, 2)), top=4), "top: must be a whole number from 1 to 3, got 4"),
        (lambda u: codes.nearest(u((2, 2)), u((3, 2)), top=0), "got 0"),
        (lambda u: codes.nearest(u((2, 2)), u((0, 2)), top=1), "from 1 to 0"),
    ],
)
def test_bad_input(unchecked, call, message):
    with pytest.raises(ValueError, match=message):
        call(lambda shape: np.zeros(shape, np.uint32))


def test_signs_and_bits_have_doors_of_their_own():
    rows = np.random.default_rng(0).random((3, 37)) < 0.5
    for dtype in (np.int8, np.int32, np.float32):
        for module in (np, jnp):
            assert np.array_equal(codes.from_signs(module.asarray(2.0 * rows - 1, dtype)), rows)
            assert np.array_equal(codes.from_bits(module.asarray(rows, dtype)), rows)
    assert np.array_equal(codes.from_bits(rows), rows)
    assert np.array_equal(jax.jit(codes.from_signs)(2 * rows.astype(np.int32) - 1), rows)


@pytest.mark.parametrize(
    ("call", "values", "message"),
    [
        (codes.binarize, np.array([0, 1, 1]), "logits: must be floats"),
        (codes.binarize, np.array([-1, 1]), "logits: must be floats"),
        (codes.binarize, np.array([True, False]), "logits: must be floats"),
        (codes.from_signs, np.array([0, 1]), "signs: must be -1 or 1, got 0"),
        (codes.from_signs, np.array([1.0, np.nan]), "signs: must be -1 or 1, got nan"),
        (codes.from_signs, np.array([True, False]), "signs: must be integers"),
        (codes.from_bits, np.array([-1, 1]), "bits: must be 0 or 1, got -1"),
        (codes.from_bits, np.array([0, 255], np.uint8), "bits: must be 0 or 1, got 255"),
        (codes.from_bits, np.array([0.0, 0.5]), "bits: must be 0 or 1, got 0.5"),
        (codes.from_bits, [0, 1], "bits: must be integers .* got list"),
    ],
)
def test_no_door_takes_what_belongs_to_another(unchecked, call, values, message):
    with pytest.raises(ValueError, match=message):
        call(values)


def test_the_smallest_outputs_keep_their_sign():
    smallest = np.array([np.finfo(np.float64).smallest_subnormal, -np.finfo(np.float64).smallest_subnormal, -1e-200])
    for x64 in (False, True):
        with jax.enable_x64(x64):
            assert codes.binarize(smallest).tolist() == [True, False, False]
