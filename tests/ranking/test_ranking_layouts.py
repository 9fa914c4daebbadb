"""The capacity bound, exactly: against the modulus itself, one below and one above."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir.errors import CapacityError, KeyMismatchError
from jcbir.paillier.public import PublicKey
from jcbir.ranking import DEAD, SCHEMES, build_index, mask_index, mask_query, plan, rank, trapdoor
from jcbir.ranking._digits import lane_capacity, largest_score
from jcbir.ranking._table import check_fingerprint, check_layout

# Digits of a code, the largest digit of a score, base: packed and bit-sliced.
SHAPES = st.one_of(
    st.tuples(st.integers(8, 64), st.just(2), st.sampled_from([3, 4])),
    st.integers(8, 512).flatmap(
        lambda k: st.tuples(st.just(1), st.just(k), st.sampled_from([k + 1, k + 2, 1024, 65536]))
    ),
)


def toy_public(n: int) -> PublicKey:
    return PublicKey(n=n, g=n + 1)


@given(SHAPES, st.integers(1, 40))
def test_capacity_exactly_at_the_bound(shape, lanes):
    digits, top, base = shape
    largest = largest_score(digits=digits, top=top, base=base, lanes=lanes)
    for modulus, expected in ((largest + 1, lanes), (largest, lanes - 1), (largest + 2, lanes)):
        assert lane_capacity(modulus, digits=digits, top=top, base=base) == expected


@given(SHAPES, st.integers(1, 12))
def test_largest_score_is_every_slot_at_its_top(shape, lanes):
    digits, top, base = shape
    largest = largest_score(digits=digits, top=top, base=base, lanes=lanes)
    assert largest == sum(top * base**j for j in range(digits * lanes))


@given(st.integers(8, 512))
def test_integer_needs_a_sign(bits):
    # The differences -(2^k - 1) .. 2^k - 1 are 2^(k+1) - 1 residues: n must have as many.
    needed = 2 ** (bits + 1) - 1
    assert plan(toy_public(needed), scheme="integer", count=1, bits=bits).lanes == 1
    with pytest.raises(CapacityError):
        plan(toy_public(needed - 2), scheme="integer", count=1, bits=bits)


@pytest.mark.parametrize(
    ("scheme", "bits", "base", "largest"),
    [
        ("integer", 40, 2, 2 * (2**40 - 1)),
        ("packed", 30, 4, 2 * sum(4**j for j in range(30))),
        ("bitsliced", 512, 65536, 512),
    ],
)
def test_plan_raises_at_the_bound(scheme, bits, base, largest):
    fits, short = (n if n % 2 else n - 1 for n in (largest + 2, largest))
    assert plan(toy_public(fits), scheme=scheme, count=5, bits=bits, base=base).lanes == 1
    with pytest.raises(CapacityError, match="longer modulus or a shorter code"):
        plan(toy_public(short), scheme=scheme, count=5, bits=bits, base=base)


def test_two_keys_of_one_length_hold_different_lanes():
    # The bound is n, not its length: 20 * 64 trits need 3^1280, which lies inside the 2029-bit numbers.
    low, high = 2**2028 + 1, 3**1280
    assert low.bit_length() == high.bit_length() == 2029
    assert plan(toy_public(low), scheme="packed", count=1, bits=64).lanes == 19
    assert plan(toy_public(high), scheme="packed", count=1, bits=64).lanes == 20


@pytest.mark.parametrize(
    ("bits", "scheme", "base", "lanes"),
    [
        (2048, "packed", 3, 20),
        (2048, "packed", 4, 16),
        (2048, "bitsliced", None, 340),
        (2048, "bitsliced", 256, 256),
        (3072, "packed", 3, 30),
        (3072, "bitsliced", None, 510),
        (3072, "bitsliced", 256, 384),
    ],
)
def test_published_capacities(bits, scheme, base, lanes):
    # Keys begin with two primes 111..., so n is at least 49/64 of 2^bits.
    modulus = 49 * 2 ** (bits - 6) + 1
    assert plan(toy_public(modulus), scheme=scheme, count=1, bits=64, base=base).lanes == lanes


@given(st.integers(1, 2000))
def test_blocks_cover_the_count(count):
    layout = plan(toy_public(3**80), scheme="packed", count=count, bits=16)
    assert (layout.blocks - 1) * layout.lanes < count <= layout.slots


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"scheme": "euclid"}, "scheme: must be one of"),
        ({"bits": 7}, "bits: must be a whole number 8..512, got 7"),
        ({"bits": 513}, "bits: must be a whole number 8..512, got 513"),
        ({"bits": 16.0}, "bits: must be a whole number 8..512, got 16.0"),
        ({"count": 0}, "count: must be a whole number of at least 1, got 0"),
        ({"count": 2.7}, "count: must be a whole number of at least 1, got 2.7"),
        ({"count": True}, "count: must be a whole number of at least 1, got True"),
        ({"count": np.float32(3)}, "count: must be a whole number of at least 1, got"),
        ({"count": np.True_}, "count: must be a whole number of at least 1, got"),
        ({"base": 5}, "base: must be a whole number 3..4, got 5"),
        ({"base": 3.0}, "base: must be a whole number 3..4, got 3.0"),
        ({"base": 64, "scheme": "bitsliced", "bits": 64}, "base: must be a whole number 65..65536"),
        ({"base": 3, "scheme": "integer"}, "base: must be a whole number 2..2"),
    ],
)
def test_bad_arguments(changes, match, unchecked):
    arguments = {"scheme": "packed", "count": 3, "bits": 16} | changes
    with pytest.raises(ValueError, match=match):
        plan(toy_public(3**600), **arguments)


def test_foreign_layout_is_refused():
    public = toy_public(3**80)
    layout = plan(public, scheme="packed", count=9, bits=16)
    check_layout(public, layout)
    for change in ({"lanes": layout.lanes + 1}, {"blocks": layout.blocks + 1}, {"modulus_bits": 2048}):
        with pytest.raises(ValueError, match="layout: must be Layout"):
            check_layout(public, dataclasses.replace(layout, **change))


def test_foreign_fingerprint_is_refused():
    with pytest.raises(KeyMismatchError, match=r"index: must be of key .*, got one of key 00ff"):
        check_fingerprint(toy_public(15), "00ff", name="index")


@given(st.lists(st.sampled_from([0, 1, 2, 3, DEAD]), min_size=1, max_size=40), st.integers(1, 50))
def test_rank_is_the_stable_sort_of_the_living(values, top):
    expected = [i for _, i in sorted((v, i) for i, v in enumerate(values) if v != DEAD)][:top]
    assert rank(np.array(values, np.int32), top=top).tolist() == expected


@pytest.mark.parametrize("top", [0, 10.0, True, "3", None])
def test_rank_needs_a_whole_top(top, unchecked):
    with pytest.raises(ValueError, match="top: must be a whole number of at least 1, got"):
        rank(np.zeros(3, np.int32), top=top)


def test_whole_numbers_of_any_integer_type_are_taken(unchecked):
    layout = plan(toy_public(3**80), scheme="packed", count=np.int64(9), bits=np.uint8(16))
    assert layout == plan(toy_public(3**80), scheme="packed", count=9, bits=16)
    assert type(layout.count) is type(layout.bits) is int


@pytest.mark.parametrize("scheme", [name for name, scheme in SCHEMES.items() if scheme.key_kind == "paillier"])
@pytest.mark.parametrize(
    "codes",
    [
        np.array([[1, -1] * 4], np.int8),
        np.array([[0, 255] * 4], np.uint8),
        np.array([[0, 1] * 4]),
        np.array([[0.0, 1.0] * 4]),
        [[0, 1] * 4],
    ],
)
def test_codes_that_are_not_booleans_are_refused(codes, scheme, unchecked):
    # Each of them would count -1, 0.1 and 255 as ones.
    public = toy_public(3**80)
    layout = plan(public, scheme=scheme, count=1, bits=8)
    for border in (
        lambda: build_index(codes, layout, encrypt=lambda rows: rows, public=public),
        lambda: trapdoor(np.asarray(codes)[0], layout, encrypt=lambda rows: rows, public=public),
        lambda: mask_index(codes, layout, masking_key=bytes(32)),
        lambda: mask_query(codes, layout, masking_key=bytes(32)),
    ):
        with pytest.raises(ValueError, match="codes: must be a bool array, got"):
            border()
