"""Maps from torch and Keras names: logits by PyTorch, both generations of Keras names, every tensor used once."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jcbir import models
from jcbir.errors import FormatError
from jcbir.models import read_torch, shapes
from jcbir.models._pretrained import from_keras, torch_name

VECTORS = pathlib.Path(__file__).parent.parent / "vectors" / "backbone"
KINDS = {
    "basic": {"block": "basic"},
    "bottleneck": {},
    "v1": {"stride_at": "1x1", "bias": True, "norm_epsilon": 1e-3},
}


def tiny(kind):
    return models.ResNet(stages=(1, 2, 1, 1), width=2, classes=5, **KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_pytorch(kind):
    """The vectors were written by `experiments.assets.make_backbone_vectors`; see provenance.json beside them."""
    module = tiny(kind)
    variables = models.from_torch(read_torch((VECTORS / f"{kind}.pth").read_bytes()), module)
    with np.load(VECTORS / "logits.npz") as vectors:
        images, wanted = vectors["images"], vectors[kind]
    got = jax.jit(lambda v, x: module.apply(v, x).logits)(variables, jnp.asarray(images))
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


def state(kind="bottleneck"):
    return read_torch((VECTORS / f"{kind}.pth").read_bytes())


def test_round_trip():
    tensors = {name: a for name, a in state().items() if not name.endswith("num_batches_tracked")}
    back = models.to_torch(models.from_torch(tensors, tiny("bottleneck")))
    assert set(back) == set(tensors)
    for name in tensors:
        np.testing.assert_array_equal(back[name], tensors[name])


def test_every_tensor_is_asked_for_once():
    for make, options in ((models.resnet101, {}), (models.resnet18, {}), (models.resnet50, {"bias": True})):
        names = [torch_name(path) for path in flatten_dict(shapes(make(classes=1000, **options)))]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("layer2.1.conv2.weight"), r"1 missing \(layer2_1/conv2/kernel: layer2\.1\.conv2\.weight\)"),
        (lambda t: t.update(stray=np.zeros(1, np.float32)), r"1 left over \(stray\)"),
        (
            lambda t: t.update({"bn1.bias": np.zeros(9, np.float32)}),
            r"1 of the wrong shape \(bn1\.bias: \(9,\) for \(2,\)",
        ),
    ],
)
def test_problems_are_named(change, message):
    tensors = state()
    change(tensors)
    with pytest.raises(FormatError, match=message):
        models.from_torch(tensors, tiny("bottleneck"))


def test_a_head_left_out():
    module = tiny("bottleneck").clone(classes=0)
    with pytest.raises(FormatError, match=r"2 left over \(fc"):
        models.from_torch(state(), module)
    assert "fc" not in models.from_torch(state(), module, ignore=("fc.",))["params"]


def keras_names(tensors, generation):
    """An independent map, from torch names by string surgery as Keras' own conversion scripts do it."""
    named = {}
    for name, array in tensors.items():
        if name.endswith("num_batches_tracked"):
            continue
        *layer, leaf = name.split(".")
        norm = layer[-1].startswith("bn") or layer[-2:] == ["downsample", "1"]
        rename = {"running_mean": "moving_mean", "running_var": "moving_variance", "weight": "gamma", "bias": "beta"}
        leaf = (rename if norm else {"weight": "kernel", "bias": "bias"})[leaf]
        found = re.fullmatch(r"layer(\d)\.(\d)\.(?:(?:conv|bn)(\d)|downsample\.\d)", ".".join(layer))
        if found:
            stage, block, which = int(found[1]) + 1, int(found[2]), int(found[3] or 0)
            if generation == "old":
                branch = f"2{'_abc'[which]}" if which else "1"
                place = f"{'bn' if norm else 'res'}{stage}{'abc'[block]}_branch{branch}"
            else:
                place = f"conv{stage}_block{block + 1}_{which}_{'bn' if norm else 'conv'}"
        elif layer == ["fc"]:
            place = "fc1000" if generation == "old" else "predictions"
        elif generation == "old":
            place = "bn_conv1" if norm else "conv1"
        else:
            place = "conv1_bn" if norm else "conv1_conv"
        turned = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        named[f"{place}/{leaf}"] = turned
    return named


@pytest.mark.parametrize("generation", ["old", "new"])
def test_keras(generation):
    module, tensors = tiny("v1"), state("v1")
    ours = from_keras(keras_names(tensors, generation), module)
    jax.tree.map(np.testing.assert_array_equal, ours, models.from_torch(tensors, module))


@pytest.mark.parametrize(("layout", "epsilon"), [("keras", 1e-3), ("keras2019", 1.001e-5), ("torch", 1e-5)])
def test_each_layout_has_the_epsilon_of_its_library(layout, epsilon):
    """Keras' layer has 1e-3, the ResNet of keras_applications 1.0.7 (2019) 1.001e-5, PyTorch's layer 1e-5."""
    for depth in (50, 101):
        assert models.network(depth, layout)[0].norm_epsilon == epsilon


def test_keras_leftover():
    named = keras_names(state("v1"), "old") | {"extra/kernel": np.zeros((1, 1), np.float32)}
    with pytest.raises(FormatError, match=r"left over \(extra/kernel\)"):
        from_keras(named, tiny("v1"))
