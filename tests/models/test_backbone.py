"""A backbone's record, its change of heads, and its half-size storage."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jcbir import models
from jcbir.errors import FormatError
from jcbir.models import Preprocessing

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)


def ready(**options):
    module = models.small(**{"stages": (1,), "width": 4, **options})
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    return models.resnet_backbone(module, variables, Preprocessing(size=8))


@pytest.mark.parametrize(
    "module",
    [models.small(bits=48, hash_hidden=(32, 16)), models.resnet50(stride_at="1x1", bias=True, norm_epsilon=1e-3)],
)
def test_description_through_json(module):
    preprocessing = Preprocessing(size=32, channels="bgr", std=(1.0, 2.0, 3.0))
    variables = models.shapes(module)
    text = json.dumps(models.resnet_backbone(module, variables, preprocessing).description)
    restored = models.restore(json.loads(text), variables)
    assert models.resnet_module(restored.description) == module and restored.preprocessing == preprocessing
    assert models.output_width(restored) == (module.bits or 2048)


def test_a_description_of_before_is_a_resnet():
    found = ready(bits=8)
    older = {name: part for name, part in found.description.items() if name != "architecture"}
    assert models.restore(older, found.variables).description == found.description


def test_variables_of_another_network_are_refused():
    with pytest.raises(FormatError, match="variables: must be those"):
        models.restore(ready(bits=8).description, ready(bits=16).variables)


def test_a_network_of_your_own():
    own = models.Backbone(lambda weights, inputs: inputs.mean(axis=(1, 2)) @ weights, np.eye(3), Preprocessing(size=8))
    assert models.output_width(own) == 3 and models.run(own, PIXELS).shape == (2, 3)
    with pytest.raises(ValueError, match="one row a photograph"):
        models.output_width(own._replace(apply=lambda weights, inputs: inputs))


def test_stages_in_a_list_are_stages():
    listed, wanted = (models.small(stages=kind([1]), width=4) for kind in (list, tuple))
    assert models.shapes(listed) == models.shapes(wanted)
    variables = jax.jit(wanted.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    assert models.output_width(models.resnet_backbone(listed, variables, models.Preprocessing(size=16))) == 4


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"network": {"stages": [1]}},
        {"network": {"depth": 50}, "preprocessing": {"size": 8}},
        {"network": 3, "preprocessing": 3},
        {"architecture": "vit", "network": {}, "preprocessing": {"size": 8}},
    ],
)
def test_bad_records(record):
    with pytest.raises(FormatError, match="description: "):
        models.restore(record, {})


HONEST = {"network": {"stages": [1], "width": 4, "block": "basic", "bits": 8}, "preprocessing": {"size": 8}}


def nested(depth):
    inner = HONEST
    for _ in range(depth):
        inner = {"architecture": "linear_head", "backbone": inner, "preprocessing": HONEST["preprocessing"]}
    return inner


@pytest.mark.parametrize(
    "record",
    [
        [1],
        None,
        {**HONEST, "architecture": ["resnet"]},
        *({**HONEST, "network": {**HONEST["network"], **field}} for field in (
            {"stages": 3}, {"stages": ["a"]}, {"stages": [10**9]}, {"stages": [1] * 200}, {"width": 10**12},
            {"width": "4"}, {"width": -4}, {"bits": -1}, {"bits": True}, {"hash_hidden": [None]},
            {"block": "x"}, {"stem": "y"}, {"padding": "z"}, {"stride_at": "q"}, {"stem_stride": -3},
            {"stem_stride": "a"}, {"norm_epsilon": -1}, {"norm_epsilon": "a"}, {"norm_momentum": None},
        )),
        *({**HONEST, "preprocessing": {"size": 8, **field}} for field in (
            {"size": "8"}, {"size": -1}, {"size": 10**12}, {"size": None}, {"resize": 2}, {"interpolation": "x"},
            {"channels": 3}, {"mean": [1]}, {"mean": 1}, {"std": [0, 0, 0]}, {"scale": float("nan")}, {"scale": "1"},
        )),
    ],
)  # fmt: skip
def test_a_hostile_description_ends_in_a_format_error(record, unchecked):
    with pytest.raises(FormatError, match="description: "):
        models.restore(record, {})


@pytest.mark.parametrize("depth", [2, 100_000])
def test_a_head_on_a_head_is_refused_however_deep(depth):
    with pytest.raises(FormatError, match="description: `backbone` must give features"):
        models.restore(nested(depth), {})


@pytest.mark.parametrize("variables", [None, [1], {"params": "x"}])
def test_variables_that_are_no_arrays_are_refused(variables):
    with pytest.raises(FormatError):
        models.restore(HONEST, variables)


@pytest.mark.parametrize(
    "head",
    [
        models.Head(np.zeros((3, 16), np.float32), np.zeros(7, np.float32)),
        models.Head(np.zeros((3, 16), np.float32), np.float32(0)),
        models.Head(np.zeros((3, 16), int), np.zeros(16, int)),
        models.Head([[0.0] * 16] * 3, [0.0] * 16),
        models.Head(np.zeros(3, np.float32), np.zeros(16, np.float32)),
    ],
)
def test_a_head_of_other_arrays_is_not_attached(head):
    features = models.Backbone(lambda weights, inputs: inputs.mean(axis=(1, 2)), {}, Preprocessing(size=8))
    with pytest.raises(ValueError, match=r"head\.(projection|bias): must be "):
        models.attach_head(features, head)


def test_attach_keeps_the_trunk():
    old = ready(classes=5)
    module = models.resnet_module(old.description).clone(classes=0, bits=16, hash_hidden=(6,))
    new = models.resnet_backbone(module, models.attach(jax.random.key(1), old.variables, module), old.preprocessing)
    assert set(new.variables["params"]) == {"conv1", "bn1", "layer1_0", "hash", "hash_hidden0"}
    pooled = module.apply(new.variables, models.preprocess(PIXELS, new.preprocessing)).pooled
    np.testing.assert_array_equal(models.run(old, PIXELS), pooled)
    assert models.run(new, PIXELS).shape == (2, 16)


@pytest.mark.parametrize("change", [{"width": 8}, {"stages": (2,)}, {"bias": True}])
def test_attach_refuses_another_trunk(change):
    old = ready(classes=5)
    with pytest.raises(ValueError, match="module: must"):
        models.attach(jax.random.key(1), old.variables, models.resnet_module(old.description).clone(**change))


def test_floats_are_refused(unchecked):
    with pytest.raises(ValueError, match="uint8"):
        models.run(ready(bits=8), PIXELS.astype(np.float32) / 255)


def test_half_size():
    found = ready(bits=8)
    halved = models.halve(found.variables)
    kernels = [leaf for leaf in jax.tree.leaves(halved) if leaf.ndim > 1]
    vectors = [leaf for leaf in jax.tree.leaves(halved) if leaf.ndim < 2]
    assert all(leaf.dtype == np.float16 for leaf in kernels)
    assert all(leaf.dtype == np.float32 for leaf in vectors)
    full = models.run(found, PIXELS)
    half = models.run(found._replace(variables=models.widen(halved)), PIXELS)
    assert 0 < float(jnp.abs(full - half).max()) < 1e-2 * float(jnp.abs(full).max())


def test_half_size_overflow():
    with pytest.raises(ValueError, match="kernel"):
        models.halve({"params": {"fc": {"kernel": np.full((2, 2), 1e5, np.float32)}}})
    variance = models.halve({"batch_stats": {"bn1": {"var": np.full(2, 83_614, np.float32)}}})
    assert variance["batch_stats"]["bn1"]["var"][0] == 83_614
