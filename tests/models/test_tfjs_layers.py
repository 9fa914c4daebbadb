"""TensorFlow.js manifests: shards cut anywhere give the same tensors; a bad manifest is refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir.errors import FormatError
from jcbir.models._tfjs_layers import read_tensors

ARRAYS = {
    "a/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a/bias": np.ones(3, np.float32),
    "b/scalar": np.float32(7),
}
CONTENT = b"".join(np.asarray(a).tobytes() for a in ARRAYS.values())


def manifest(paths, **change):
    weights = [{"name": n, "shape": list(np.shape(a)), "dtype": "float32"} for n, a in ARRAYS.items()]
    weights[0] |= change
    return {"weightsManifest": [{"paths": paths, "weights": weights}]}


@given(st.lists(st.integers(0, len(CONTENT)), max_size=4))
def test_any_cut(cuts):
    edges = [0, *sorted(cuts), len(CONTENT)]
    shards = {str(i): CONTENT[a:b] for i, (a, b) in enumerate(itertools.pairwise(edges))}
    got = read_tensors(manifest(list(shards)), shards.__getitem__)
    assert list(got) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "uint8"}, "float32"),
        ({"quantization": {"scale": 1.0}}, "quantized"),
        ({"shape": [99, 99]}, "within"),
        ({"shape": [1]}, "shards must hold"),
        ({"name": "a/bias"}, "once"),
    ],
)
def test_bad_manifests(change, message):
    with pytest.raises(FormatError, match=message):
        read_tensors(manifest(["0"], **change), {"0": CONTENT}.__getitem__)


@pytest.mark.parametrize("model", [{}, {"weightsManifest": [{}]}, {"weightsManifest": [3]}, manifest(["gone"])])
def test_not_a_model(model):
    with pytest.raises(FormatError, match="model must"):
        read_tensors(model, {}.__getitem__)
