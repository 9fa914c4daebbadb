"""Cutting a batch covers it exactly and never pads more."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from ranking_keys import make_key, owner_encrypt

from jcbir.paillier import secret as paillier
from jcbir.ranking._batching import fill_batches, in_filled_batches, padded_rows


@given(st.integers(1, 5000))
def test_parts_cover_the_batch_and_pad_no_more(count):
    parts = fill_batches(count)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(count))
    assert count <= sum(padded_rows(part.stop - part.start) for part in parts) <= padded_rows(count)


@pytest.mark.parametrize("count", [1, 70, 130])
def test_operations_see_the_parts_in_order(count):
    key, seen = make_key(256), []
    rows = owner_encrypt(key)(list(range(count)))

    def decrypt(part, *, engine):
        seen.append((len(part), engine))
        return paillier.decrypt(key, part, engine="python")

    plain = in_filled_batches(decrypt, rows, engine="jax")
    assert [int.from_bytes(row) for row in plain] == list(range(count))
    assert [size for size, _ in seen] == [part.stop - part.start for part in fill_batches(count)]
    assert {engine for _, engine in seen} == {"jax"}


def test_other_engines_take_the_batch_whole():
    seen = []
    in_filled_batches(
        lambda rows, engine: seen.append((len(rows), engine)) or rows, np.zeros((295, 2), np.uint8), engine="python"
    )
    assert seen == [(295, "python")]
