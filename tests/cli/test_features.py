"""What says whether a hash head fits: how near the photographs are that it finds."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir.cli import publish as publishing
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


@pytest.mark.parametrize("alike", [True, False])
def test_where_all_photographs_look_alike_nothing_is_compared(unchecked, monkeypatch, alike):
    """There is nothing to be near to, and a share of nothing would be no number."""
    features = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
    features = np.tile(features[:1], (60, 1)) if alike else features
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    rows = {f"{number:064x}": row.astype("<f2") for number, row in enumerate(features)}
    monkeypatch.setattr(publishing, "published_names", lambda _: {name: {"sha256": name} for name in rows})
    monkeypatch.setattr(publishing, "kept_features", lambda *_: rows)
    monkeypatch.setattr(publishing, "hash_rows", lambda _, rows: {name: row > 0 for name, row in rows.items()})
    found = publishing.compare_fit(SimpleNamespace(), SimpleNamespace(head=None), {*list(rows)[:30]})
    assert (found is None) == alike


@pytest.mark.parametrize(("caption", "message"), [("\udcff", "Unicode text"), ("a" * 65_536, "at most 65535 bytes")])
def test_captions_that_are_none(caption, message):
    with pytest.raises(ValueError, match=f"caption: must be {message}"):
        publishing.check_caption(caption)
