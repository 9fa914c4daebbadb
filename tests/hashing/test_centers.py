"""Hash centers: the three cases of the paper, and semantic centers."""

import jax
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from jcbir.hashing import centers

BITS = [8, 16, 32, 64]


def distances(rows):
    return (rows[:, None] != rows[None]).sum(-1)


@given(st.sampled_from(BITS), st.data())
def test_up_to_q_classes_every_two_centers_differ_in_half_of_the_bits(bits, choose):
    classes = choose.draw(st.integers(1, bits))
    rows = centers.hash_centers(jax.random.key(0), classes, bits=bits)
    assert (distances(rows)[~np.eye(classes, dtype=bool)] == bits // 2).all()


@pytest.mark.parametrize("bits", BITS)
def test_the_second_case_is_h_then_its_negation(bits):
    first = centers.hash_centers(jax.random.key(0), bits, bits=bits)
    both = centers.hash_centers(jax.random.key(0), 2 * bits, bits=bits)
    np.testing.assert_array_equal(both, np.concatenate([first, ~first]))
    signs = np.where(first, 1, -1)
    np.testing.assert_array_equal(signs @ signs.T, bits * np.eye(bits, dtype=int))


def test_hadamard_is_the_parity_of_the_common_one_bits():
    number = np.arange(16)
    parity = np.bitwise_count(number[:, None] & number[None]) % 2
    np.testing.assert_array_equal(centers.hadamard(16, 16), parity == 0)


@pytest.mark.parametrize(("classes", "bits"), [(100, 16), (5, 12), (129, 64), (20, 6), (70, 8)])
def test_the_third_case_is_balanced_and_distinct(classes, bits):
    rows = centers.hash_centers(jax.random.key(1), classes, bits=bits)
    assert rows.shape == (classes, bits)
    assert (rows.sum(1) == bits // 2).all()
    assert len({row.tobytes() for row in rows}) == classes


@pytest.mark.parametrize(("classes", "bits"), [(17, 6), (60, 8), (220, 10)])
@given(seed=st.integers(0, 2**31 - 1))
def test_no_center_comes_twice_where_most_are_taken(classes, bits, seed):
    rows = centers.bernoulli(jax.random.key(seed), classes, bits=bits)
    assert rows.shape == (classes, bits) and (rows.sum(1) == bits // 2).all()
    assert len({row.tobytes() for row in rows}) == classes


def test_another_key_draws_other_centers():
    one, two = (centers.bernoulli(jax.random.key(s), 10, bits=64) for s in (0, 1))
    assert (one != two).any()
    np.testing.assert_array_equal(one, centers.bernoulli(jax.random.key(0), 10, bits=64))


@pytest.mark.parametrize(("classes", "bits"), [(71, 8), (0, 8), (3, 7), (21, 6)])
def test_more_classes_than_centers_is_refused(classes, bits):
    with pytest.raises(ValueError, match=r"(classes|bits): must be"):
        centers.hash_centers(jax.random.key(0), classes, bits=bits)


@pytest.mark.parametrize(("classes", "bits"), [(33, 16), (4, 12), (0, 8)])
def test_hadamard_names_its_bound(classes, bits):
    with pytest.raises(ValueError, match=r"(classes|bits): must be"):
        centers.hadamard(classes, bits)


@given(hnp.arrays(bool, (6, 5)), hnp.arrays(bool, (5, 8)), hnp.arrays(bool, 8))
def test_semantic_is_the_majority_with_ties_from_the_tie_vector(labels, table, ties):
    got = np.asarray(centers.semantic(labels, table, ties=ties))
    for row, code in zip(labels, got, strict=True):
        for k in range(8):
            ones = sum(bool(table[c, k]) for c in range(5) if row[c])
            zeros = row.sum() - ones
            assert code[k] == (ties[k] if ones == zeros else ones > zeros)


@given(hnp.arrays(bool, (4, 16)))
def test_one_label_gives_its_center_and_no_label_gives_the_ties(table):
    ties = np.arange(16) < 5
    got = np.asarray(
        centers.semantic(np.concatenate([np.eye(4, dtype=bool), np.zeros((1, 4), bool)]), table, ties=ties)
    )
    np.testing.assert_array_equal(got, np.concatenate([table, ties[None]]))


@given(hnp.arrays(bool, (6, 4)), hnp.arrays(bool, (4, 16)), st.permutations(range(4)))
def test_renaming_the_classes_changes_nothing(labels, table, order):
    one = centers.semantic(labels, table)
    two = centers.semantic(labels[:, order], table[list(order)])
    np.testing.assert_array_equal(one, two)


def test_semantic_names_what_disagrees(unchecked):
    with pytest.raises(ValueError, match="labels: must have 4 columns"):
        centers.semantic(np.zeros((2, 3), bool), np.zeros((4, 8), bool))
    with pytest.raises(ValueError, match=r"ties: must have shape \(8,\)"):
        centers.semantic(np.zeros((2, 4), bool), np.zeros((4, 8), bool), ties=np.zeros(7, bool))
    with pytest.raises(ValueError, match=r"weights: must have shape \(4,\)"):
        centers.semantic(np.zeros((2, 4), bool), np.zeros((4, 8), bool), weights=np.ones(3, np.float32))
    for wrong, reason in (
        (np.ones(4, int), r"floats \[c\], got int64"),
        (np.full(4, np.nan), "finite, got 4 of 4"),
        (np.array([1.0, -0.5, 1, 1]), "at least 0, got -0.5"),
    ):
        with pytest.raises(ValueError, match=f"weights: must be {reason}"):
            centers.semantic(np.zeros((2, 4), bool), np.zeros((4, 8), bool), weights=wrong)


@given(hnp.arrays(bool, (6, 5)), hnp.arrays(bool, (5, 8)), hnp.arrays(np.int32, 5, elements=st.integers(0, 9)))
def test_votes_count_as_much_as_they_weigh(labels, table, weights):
    votes = [
        [sum(w if m else -w for y, m, w in zip(row, bit, weights, strict=True) if y) for bit in table.T]
        for row in labels
    ]
    wanted = np.where(np.array(votes) == 0, np.arange(8) % 2 == 0, np.array(votes) > 0)
    np.testing.assert_array_equal(centers.semantic(labels, table, weights=weights.astype(np.float32)), wanted)


@given(hnp.arrays(bool, (6, 5)), hnp.arrays(bool, (5, 8)), st.integers(0, 4))
def test_equal_votes_are_the_majority_and_a_heavy_one_decides(labels, table, heavy):
    one = centers.semantic(labels, table)
    np.testing.assert_array_equal(centers.semantic(labels, table, weights=np.full(5, 4, np.float32)), one)
    weights = np.where(np.arange(5) == heavy, 8, 1).astype(np.float32)
    found = np.asarray(centers.semantic(labels, table, weights=weights))
    with_it = labels[:, heavy]
    np.testing.assert_array_equal(found[with_it], np.broadcast_to(table[heavy], found.shape)[with_it])
    np.testing.assert_array_equal(found[~with_it], np.asarray(one)[~with_it])


def test_one_hot_leaves_unknown_classes_empty():
    np.testing.assert_array_equal(centers.one_hot(np.array([2, -1]), classes=3), [[0, 0, 1], [0, 0, 0]])
    for number in (-2, 3):
        with pytest.raises(ValueError, match=f"labels: must be class numbers from -1 to 2, got {number}"):
            centers.one_hot(np.array([0, number]), classes=3)


def test_arrays_that_a_compiled_program_knows_are_looked_at():
    table, ids, weights = np.eye(4, 8, dtype=bool), jax.numpy.arange(4), jax.numpy.ones(4)

    def program(labels):
        rows = centers.one_hot(ids, classes=4) & labels
        return centers.semantic(rows, table, weights=weights)

    np.testing.assert_array_equal(jax.jit(program)(np.ones((4, 4), bool)), program(np.ones((4, 4), bool)))
    below = weights.at[0].set(-1)
    for broken in (lambda _: centers.one_hot(ids, classes=3), lambda one: centers.semantic(one, table, weights=below)):
        with pytest.raises(ValueError, match="must be"):
            jax.jit(broken)(np.eye(4, dtype=bool))
