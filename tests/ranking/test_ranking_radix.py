"""Digits to numbers and back, against Python's own integers."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir.ranking._radix import compose, split

BASES = [2, 3, 4, 5, 9, 16, 17, 65, 128, 256, 257, 513, 65536]


@st.composite
def batches(draw):
    base = draw(st.sampled_from(BASES))
    rows, length = draw(st.integers(1, 5)), draw(st.integers(1, 90))
    seed = draw(st.integers(0, 2**32 - 1))
    top = draw(st.sampled_from([1, base - 1]))
    return base, np.random.default_rng(seed).integers(0, top + 1, (rows, length))


@given(batches())
def test_compose_is_the_polynomial(batch):
    base, digits = batch
    width = -(-(base ** digits.shape[1]).bit_length() // 8)
    numbers = compose(digits, base=base, width=width)
    expected = [sum(int(d) * base**j for j, d in enumerate(row)) for row in digits]
    assert [int.from_bytes(row.tobytes(), "big") for row in numbers] == expected


@given(batches(), st.integers(0, 3))
def test_split_inverts_compose(batch, slack):
    base, digits = batch
    width = -(-(base ** digits.shape[1]).bit_length() // 8) + slack
    assert np.array_equal(split(compose(digits, base=base, width=width), base=base, count=digits.shape[1]), digits)


@pytest.mark.parametrize(("base", "count"), [(3, 1920), (65, 510), (65, 680), (257, 380), (65535, 192)])
def test_runs_of_extreme_digits_do_not_hide_a_carry(base, count):
    """A fraction close to 0 and one close to 1 are neighbors: only the digits below tell them apart."""
    g = np.random.default_rng(count)
    runs = np.repeat(g.choice([0, 1, base - 2, base - 1], (40, 1 + count // 12)), 12, axis=1)[:, :count]
    rows = np.concatenate([runs, np.zeros((1, count), int), np.full((1, count), base - 1)])
    width = -(-(base**count).bit_length() // 8)
    numbers = [int.from_bytes(row.tobytes()) for row in compose(rows, base=base, width=width)]
    digits = split(compose(rows, base=base, width=width), base=base, count=count)
    assert np.array_equal(digits, rows)
    assert [digits[i, j] for i, j in ((0, 7), (3, count - 1))] == [
        numbers[i] // base**j % base for i, j in ((0, 7), (3, count - 1))
    ]


def test_numbers_too_long_for_floats_are_refused():
    with pytest.raises(ValueError, match="base: must be at most"):
        split(np.zeros((1, 1 << 11), np.uint8), base=65535, count=1000)


@pytest.mark.parametrize("base", [3, 4, 65, 256])
def test_largest_number_fits_and_the_next_does_not(base):
    count = 17
    largest = base**count - 1
    width = -(-(largest + 1).bit_length() // 8)
    rows = np.frombuffer(b"".join(v.to_bytes(width) for v in (largest, largest + 1)), np.uint8).reshape(2, width)
    assert (split(rows[:1], base=base, count=count) == base - 1).all()
    with pytest.raises(ValueError, match="must be below"):
        split(rows[1:], base=base, count=count)


def test_width_too_small():
    with pytest.raises(ValueError, match="width: must be enough bytes for 6 digits in base 3, got 1"):
        compose(np.full((1, 6), 2), base=3, width=1)


def test_chunks_of_rows_do_not_touch_each_other():
    digits = np.random.default_rng(5).integers(0, 3, (4099, 11))
    assert np.array_equal(split(compose(digits, base=3, width=3), base=3, count=11), digits)
