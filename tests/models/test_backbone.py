"""A backbone's record, its change of heads, and its half-size storage."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jcbir.errors import FormatError
from jcbir.models import Preprocessing, _backbone as backbone, _resnet as resnet, _storage as storage

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)


def ready(**options):
    module = resnet.small(**{"stages": (1,), "width": 4, **options})
    return backbone.Backbone(
        module, jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3))), Preprocessing(size=8)
    )


@pytest.mark.parametrize(
    "module",
    [resnet.small(bits=48, hash_hidden=(32, 16)), resnet.resnet50(stride_at="1x1", bias=True, norm_epsilon=1e-3)],
)
def test_record_through_json(module):
    preprocessing = Preprocessing(size=32, channels="bgr", std=(1.0, 2.0, 3.0))
    text = json.dumps(backbone.describe(module, preprocessing))
    assert backbone.parse(json.loads(text)) == (module, preprocessing)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"network": {"stages": [1]}},
        {"network": {"depth": 50}, "preprocessing": {"size": 8}},
        {"network": 3, "preprocessing": 3},
    ],
)
def test_bad_records(record):
    with pytest.raises(FormatError, match="record"):
        backbone.parse(record)


def test_attach_keeps_the_trunk():
    old = ready(classes=5)
    new = backbone.attach(jax.random.key(1), old, old.module.clone(classes=0, bits=16, hash_hidden=(6,)))
    assert set(new.variables["params"]) == {"conv1", "bn1", "layer1_0", "hash", "hash_hidden0"}
    np.testing.assert_array_equal(backbone.run(old, PIXELS).pooled, backbone.run(new, PIXELS).pooled)
    assert backbone.run(new, PIXELS).hash_logits.shape == (2, 16)


@pytest.mark.parametrize("change", [{"width": 8}, {"stages": (2,)}, {"bias": True}])
def test_attach_refuses_another_trunk(change):
    old = ready(classes=5)
    with pytest.raises(ValueError, match="module must"):
        backbone.attach(jax.random.key(1), old, old.module.clone(**change))


def test_floats_are_refused(unchecked):
    with pytest.raises(ValueError, match="uint8"):
        backbone.run(ready(bits=8), PIXELS.astype(np.float32) / 255)


def test_half_size():
    found = ready(bits=8)
    halved = storage.halve(found.variables)
    kernels = [leaf for leaf in jax.tree.leaves(halved) if leaf.ndim > 1]
    vectors = [leaf for leaf in jax.tree.leaves(halved) if leaf.ndim < 2]
    assert all(leaf.dtype == np.float16 for leaf in kernels)
    assert all(leaf.dtype == np.float32 for leaf in vectors)
    full = backbone.run(found, PIXELS).hash_logits
    half = backbone.run(found._replace(variables=storage.widen(halved)), PIXELS).hash_logits
    assert 0 < float(jnp.abs(full - half).max()) < 1e-2 * float(jnp.abs(full).max())


def test_half_size_overflow():
    with pytest.raises(ValueError, match="kernel"):
        storage.halve({"params": {"fc": {"kernel": np.full((2, 2), 1e5, np.float32)}}})
    variance = storage.halve({"batch_stats": {"bn1": {"var": np.full(2, 83_614, np.float32)}}})
    assert variance["batch_stats"]["bn1"]["var"][0] == 83_614
