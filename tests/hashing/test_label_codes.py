"""Target codes learned from label rows."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jcbir.hashing import centers, shallow
from jcbir.hashing.centers import label_codes


def rows_of(seed, count=300, classes=60):
    """Rows of two to five labels, some frequent, most rare."""
    g = np.random.default_rng(seed)
    share = 1 / (1 + np.arange(classes))
    labels = np.zeros((count, classes), bool)
    for row in labels:
        row[g.choice(classes, g.integers(2, 6), replace=False, p=share / share.sum())] = True
    return labels


def codes_of(hash, labels):
    return np.asarray(shallow.project(hash, labels.astype(np.float32))) >= 0


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_equal_rows_have_equal_codes_and_sharing_rows_are_nearer_than_by_majority(seed):
    labels = rows_of(seed)
    found = codes_of(label_codes(jax.random.key(seed % 7), labels, bits=16), labels)
    assert found.shape == (300, 16) and 0 < found.mean() < 1
    _, first, again = np.unique(labels, axis=0, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(found, found[first[again]])
    majority = np.asarray(centers.semantic(labels, centers.hash_centers(jax.random.key(0), 60, bits=16)))
    shared = labels.astype(int) @ labels.T.astype(int) > 0

    def gap(codes):
        distances = (codes[:, None] != codes[None]).mean(-1)
        return distances[~shared].mean() - distances[shared].mean()

    assert gap(found) > gap(majority) > 0


def test_it_is_itq_of_the_label_rows_and_takes_rows_it_has_not_seen():
    labels = rows_of(0)
    hash = label_codes(jax.random.key(1), labels, bits=8, iterations=5)
    wanted = shallow.itq(jax.random.key(1), labels.astype(np.float32), bits=8, iterations=5).hash
    np.testing.assert_array_equal(hash.projection, wanted.projection)
    np.testing.assert_allclose(hash.mean, labels.mean(0), rtol=1e-6)
    assert codes_of(hash, rows_of(1)).shape == (300, 8)


@pytest.mark.parametrize("bits", [0, 61])
def test_the_bound_on_the_bits_is_named(bits):
    with pytest.raises(ValueError, match=f"bits: must be a whole number from 1 to 60, got {bits}"):
        label_codes(jax.random.key(0), rows_of(0), bits=bits)
