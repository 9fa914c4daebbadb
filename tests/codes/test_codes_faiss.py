"""Order and distances of FAISS's exhaustive binary index, on the bytes that `to_bytes` gives it."""

import jax
import numpy as np
import pytest

from jcbir import codes

pack, nearest = jax.jit(codes.pack), jax.jit(codes.nearest, static_argnames="top")
faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")


@pytest.mark.parametrize("bits", [8, 24, 64, 128])
def test_nearest_is_the_order_of_faiss(bits):
    g = np.random.default_rng(bits)
    packed = np.asarray(pack(g.random((520, bits)) < 0.5))
    raw = codes.to_bytes(packed, bits=bits)
    index = faiss.IndexBinaryFlat(bits)
    index.add(raw[20:])
    for top in (10, 500):
        distance, order = nearest(packed[:20], packed[20:], top=top)
        theirs, their_order = index.search(raw[:20], top)
        np.testing.assert_array_equal(distance, theirs)
        np.testing.assert_array_equal(order, their_order)
