"""Coded centers: at least as far apart as every published table, and a linear code at every power of two."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from jcbir.hashing import centers

KEY = jax.random.key(0)

# Parsed from the center files of the official code of Yuan et al. 2020: (classes, bits, minimum distance).
PUBLISHED = [
    (100, 16, 2),
    (100, 32, 8),
    (100, 64, 32),
    (80, 16, 2),
    (80, 32, 8),
    (80, 64, 20),
    (21, 16, 4),
    (21, 64, 32),
]

# (bits, dimension, distance) of extended BCH codes: MacWilliams and Sloane, The Theory of Error-Correcting Codes, 1977.
SHORT = [(16, 5, 8), (16, 7, 6), (16, 11, 4), (32, 6, 16), (32, 11, 12), (32, 16, 8)]
LONG = [(64, 7, 32), (64, 10, 28), (64, 16, 24), (128, 8, 64), (128, 15, 56)]


@pytest.mark.parametrize(("classes", "bits", "distance"), PUBLISHED)
def test_at_least_as_far_apart_as_the_published_centers(classes, bits, distance):
    found = centers.separation(centers.separated_centers(KEY, classes, bits=bits))
    assert found.minimum >= distance
    assert found.mean >= bits / 2


@pytest.mark.parametrize(("bits", "dimension", "distance"), SHORT + LONG)
def test_minimum_distance_is_the_one_of_the_code_table(bits, dimension, distance):
    rows = centers.separated_centers(KEY, 2**dimension, bits=bits)
    assert rows[0].all()
    # The complement of a linear code with all-ones is the code itself, so weights are the distances to the row of ones.
    assert (~rows[1:]).sum(1).min() == distance
    assert len({row.tobytes() for row in rows}) == 2**dimension


@pytest.mark.parametrize("bits", [2, 4, 8, 16, 32, 64, 128, 256, 512])
def test_the_sequence_begins_with_the_hadamard_rows_and_is_nested(bits):
    rows = centers.separated_centers(KEY, min(2 * bits + 6, 2**bits), bits=bits)
    np.testing.assert_array_equal(rows[: 2 * bits], centers.hadamard(min(2 * bits, len(rows)), bits)[: len(rows)])
    np.testing.assert_array_equal(rows[:5], centers.separated_centers(KEY, min(5, 2**bits), bits=bits))


@pytest.mark.parametrize(("classes", "bits"), [(7, 12), (20, 24), (100, 48), (30, 10), (3, 3), (2, 5)])
@pytest.mark.parametrize("seed", range(4))
def test_other_lengths_give_distinct_rows_no_closer_than_random_ones(classes, bits, seed):
    rows = centers.separated_centers(jax.random.key(seed), classes, bits=bits)
    assert rows.shape == (classes, bits)
    found = centers.separation(rows)
    assert found.minimum >= 1
    if bits % 2 == 0 and bits >= 10:
        drawn = centers.separation(centers.bernoulli(jax.random.key(seed), classes, bits=bits))
        assert found.minimum >= drawn.minimum


@given(hnp.arrays(bool, (7, 70)))
def test_separation_equals_the_loop_over_pairs(rows):
    pairs = [(a != b).sum() for i, a in enumerate(rows) for b in rows[i + 1 :]]
    found = centers.separation(rows)
    assert found == (min(pairs), pytest.approx(np.mean(pairs)), max(pairs))


def test_separation_across_blocks_sees_every_pair():
    rows = np.array(jax.random.bernoulli(KEY, 0.5, (1300, 300)))
    rows[1200] = rows[10]
    rows[1201, 1:] = ~rows[700, 1:]
    rows[1201, 0] = rows[700, 0]
    found = centers.separation(rows)
    assert (found.minimum, found.maximum) == (0, 299)


def test_forty_thousand_classes_of_64_bits_are_24_apart():
    rows = centers.separated_centers(KEY, 40_000, bits=64)
    ones = (~rows[1:]).sum(1)
    assert ones.min() == 24
    assert len(centers.distinct(rows)) == 40_000


@pytest.mark.parametrize(("classes", "bits"), [(0, 8), (257, 8), (5, 1), (5, 513)])
def test_impossible_tables_are_refused(classes, bits):
    with pytest.raises(ValueError, match=r"(classes|bits): must be (from|a whole number)"):
        centers.separated_centers(KEY, classes, bits=bits)


def test_one_row_is_not_apart_from_anything():
    with pytest.raises(ValueError, match="at least two rows"):
        centers.separation(np.ones((1, 8), bool))
