"""The ResNet50 of the package: what its int8 kernels do to the features, what is refused, how its file is made."""

import json
import pathlib
import subprocess
import sys
from importlib import resources

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from experiments.assets.build_resnet50 import LIMIT, quantize
from jcbir.errors import FormatError, IntegrityError
from jcbir.models import (
    Backbone,
    Head,
    Preprocessing,
    _imagenet_file as imagenet,
    attach_head,
    imagenet_record,
    imagenet_resnet50,
    output_width,
    project_head,
    resnet_module,
    restore,
    run,
    shapes,
    stored_variables,
)
from tests.vectors.resnet50_golden_make import SIZE, pictures

GOLDEN = pathlib.Path(__file__).parent.parent / "vectors" / "resnet50_golden.npz"


@pytest.fixture(scope="module")
def network():
    return imagenet_resnet50(size=SIZE)


def pooled(network, images):
    # As an argument: weights that a program closes over are folded for minutes.
    apply = jax.jit(lambda variables, x: run(network._replace(variables=variables), x))
    return np.asarray(apply(network.variables, images))


@pytest.fixture(scope="module")
def features(network):
    return pooled(network, pictures())


def test_features_are_those_of_the_float32_network(features):
    with np.load(GOLDEN) as file:
        golden = file["features"]
    apart = np.linalg.norm(features - golden, axis=1) / np.linalg.norm(golden, axis=1)
    cosine = (features * golden).sum(1) / np.linalg.norm(features, axis=1) / np.linalg.norm(golden, axis=1)
    assert features.shape == (3, 2048)
    # 0.04 in the mean over 500 photographs, 0.08 at most: `measured` in the record.
    assert (apart < 0.1).all() and (apart > 0).all()
    assert (cosine > 0.995).all()


def test_any_size_is_taken(network, features):
    larger = np.pad(pictures().repeat(2, axis=1).repeat(2, axis=2), ((0, 0), (0, 0), (3, 6), (0, 0)), mode="edge")
    again = pooled(network, larger)
    cosine = (features * again).sum(1) / np.linalg.norm(features, axis=1) / np.linalg.norm(again, axis=1)
    assert (cosine > 0.9).all()


def test_variables_are_those_of_the_module(network):
    found = jax.tree.map(np.shape, network.variables)
    assert found == jax.tree.map(lambda leaf: leaf.shape, shapes(resnet_module(network.description)))
    assert {leaf.dtype for leaf in jax.tree.leaves(network.variables)} == {np.dtype(np.float32)}


def test_file_is_small_enough_and_as_recorded():
    record = imagenet_record()
    content = (resources.files("jcbir.models") / "assets" / record["file"]).read_bytes()
    assert len(content) == record["bytes"] <= LIMIT
    assert abs(record["measured"]["int8"]["top1"] - record["measured"]["float32"]["top1"]) < 0.01


_WEIGHTS = arrays(np.float32, (3, 3, 2, 4), elements=st.floats(-10, 10, width=32))


@given(_WEIGHTS)
def test_quantized_kernel_is_within_half_a_step(kernel):
    integers, factors = quantize(kernel)
    assert integers.dtype == np.int8 and factors.shape == (4,) and (factors > 0).all()
    assert (np.abs(integers * factors - kernel) <= factors * 0.5001).all()
    assert np.abs(integers.astype(int)).max() <= 127


@given(_WEIGHTS)
def test_quantizing_twice_changes_nothing(kernel):
    integers, factors = quantize(kernel)
    np.testing.assert_array_equal(quantize(integers * factors)[0], integers)


@pytest.mark.parametrize(
    ("options", "words"), [({"size": 63}, "size: must be at least 64"), ({"dtype": "int8"}, "dtype: must be")]
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        imagenet_resnet50(**options)


def test_float_pictures_are_refused(network, unchecked):
    with pytest.raises(ValueError, match="uint8"):
        run(network, pictures().astype(np.float32))


def _damaged(monkeypatch, change):
    whole = imagenet._asset

    def asset(name):
        return change(whole(name)) if name.endswith(".safetensors") else whole(name)

    monkeypatch.setattr(imagenet, "_asset", asset)


def test_another_file_is_refused(monkeypatch):
    _damaged(monkeypatch, lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=r"resnet50\.safetensors: must have SHA-256"):
        imagenet_resnet50()


def test_a_kernel_without_its_factor_is_refused(monkeypatch):
    import hashlib

    import safetensors.numpy

    content = safetensors.numpy.save({"params/conv1/kernel": np.ones((1, 1, 1, 1), np.int8)})
    record = {**imagenet_record(), "sha256": hashlib.sha256(content).hexdigest()}
    parts = {"resnet50.json": json.dumps(record).encode(), "resnet50.safetensors": content}
    monkeypatch.setattr(imagenet, "_asset", parts.__getitem__)
    with pytest.raises(FormatError, match="must hold a factor for each int8 kernel"):
        imagenet_resnet50()


def test_import_reads_no_file():
    code = "import builtins, pathlib, jcbir.models._imagenet_file as m; m._asset = None; print('read nothing')"
    assert "read nothing" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout


def test_a_head_on_it_travels_without_its_weights(network, features):
    head = Head(*(np.asarray(part, np.float32) for part in (np.eye(2048, 16), np.arange(16))))
    hashing = attach_head(network, head)
    assert output_width(hashing) == 16
    description = json.loads(json.dumps(hashing.description))
    kept = stored_variables(hashing)
    assert set(kept) == {"head"}
    again = restore(description, kept)
    np.testing.assert_allclose(pooled(again, pictures()), project_head(head, features), rtol=1e-4, atol=1e-4)
    with pytest.raises(FormatError, match="ResNet50 of this package"):
        restore({**description, "backbone": {**description["backbone"], "sha256": "0" * 64}}, kept)
    with pytest.raises(FormatError, match="head"):
        restore(description, {})
    with pytest.raises(FormatError, match="must take 2048 features"):
        restore(description, {"head": {"projection": np.eye(3, 16, dtype=np.float32), "bias": head.bias}})


def test_a_network_of_your_own_is_not_written_to_a_file():
    own = Backbone(lambda variables, inputs: inputs.mean(axis=(1, 2)), {}, Preprocessing(size=8))
    with pytest.raises(ValueError, match="network of your own"):
        stored_variables(own)
