"""What says whether a hash head fits: neighbors of features that are neighbors of codes."""

import numpy as np
from hypothesis import given, strategies as st

from jcbir.cli.features import neighbors_kept


@given(st.integers(0, 2**32 - 1), st.sampled_from([7, 30]))
def test_neighbors_kept_is_counted_by_hand(seed, count):
    g = np.random.default_rng(seed)
    features, codes = g.normal(size=(count, 4)).astype(np.float32), g.integers(0, 2, (count, 3)).astype(bool)
    wanted = []
    for i in range(count):
        others = [j for j in range(count) if j != i]
        cosine = {j: features[i] @ features[j] for j in others}
        apart = {j: int((codes[i] != codes[j]).sum()) for j in others}
        near = sorted(others, key=lambda j: -cosine[j])[:5]
        # Each of those in the tie at the fifth place has the same chance.
        limit = sorted(apart.values())[4]
        inside = [j for j in others if apart[j] < limit]
        tied = [j for j in others if apart[j] == limit]
        chance = (5 - len(inside)) / len(tied)
        wanted.append((len(set(near) & set(inside)) + chance * len(set(near) & set(tied))) / 5)
    np.testing.assert_allclose(neighbors_kept(features, codes), wanted)
