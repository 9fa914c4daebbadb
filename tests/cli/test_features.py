"""What says whether a hash head fits: how near the photographs are that it finds."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir.cli.features import nearness


@given(st.integers(0, 2**32 - 1), st.sampled_from([6, 7, 30]))
def test_nearness_is_counted_by_hand(seed, count):
    g = np.random.default_rng(seed)
    features, codes = g.normal(size=(count, 4)), g.integers(0, 2, (count, 3)).astype(bool)
    wanted = []
    for i in range(count):
        others = [j for j in range(count) if j != i]
        near = {j: features[i] @ features[j] for j in others}
        # Ties at the fifth place in every order: the mean over many shuffles, exactly.
        apart = sorted((int((codes[i] != codes[j]).sum()), j) for j in others)
        limit = apart[4][0]
        sure = [near[j] for distance, j in apart if distance < limit]
        tied = [near[j] for distance, j in apart if distance == limit]
        found = (sum(sure) + (5 - len(sure)) * np.mean(tied)) / 5
        average, best = np.mean(list(near.values())), np.mean(sorted(near.values())[-5:])
        wanted.append((found - average, best - average))
    np.testing.assert_allclose(nearness(features, codes), wanted, atol=1e-12)


def test_nearness_of_heads_that_keep_all_and_nothing():
    angles = np.linspace(0, 1, 40)
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # Thermometer codes: as many ones as the place in the row.
    everything = nearness(features, np.tri(40, dtype=bool))
    assert everything[:, 0] == pytest.approx(everything[:, 1]) and everything.min() > 0
    assert nearness(features, np.zeros((40, 8), bool))[:, 0] == pytest.approx(np.zeros(40))
