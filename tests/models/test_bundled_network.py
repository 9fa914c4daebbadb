"""The bundled network: weights, module and preprocessing belong together, and damage is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.assets.cifar10 import load_sample
from jcbir.errors import FormatError, IntegrityError
from jcbir.models import _bundled as network, bundled, resnet_module, run, untrained
from jcbir.models._bundled import record


def test_tree_is_that_of_the_module():
    found = bundled(bits=16, key=jax.random.key(0))
    variables, size = found.variables, found.preprocessing.size
    expected = jax.eval_shape(resnet_module(found.description).init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), dict(expected)
    )


def test_key_decides_the_head_and_nothing_else():
    first, again, other = (bundled(bits=16, key=jax.random.key(number)).variables["params"] for number in (0, 0, 1))
    assert np.array_equal(first["hash"]["kernel"], again["hash"]["kernel"])
    assert not np.array_equal(first["hash"]["kernel"], other["hash"]["kernel"])
    assert np.array_equal(first["conv1"]["kernel"], other["conv1"]["kernel"])


def test_weights_are_finite_and_small():
    about = record()
    assert len(network._asset(about["file"])) <= 2_500_000
    variables = bundled().variables
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))
    assert "hash" not in variables["params"]


def test_record_says_where_the_weights_come_from():
    about = record()
    assert about["script"] == "experiments/assets/pretrain.py"
    assert set(about) >= {"config", "date", "source", "held_out", "sha256", "versions"}
    assert all(len(digest) == 64 for digest in about["source"]["sha256"].values())


def pooled_precision(pooled, task) -> float:
    """Share of the ten nearest training images that are of the query's class."""
    train, query = (part - pooled[:200].mean(0) for part in (pooled[:200], pooled[200:]))
    scores = query @ (train / np.linalg.norm(train, axis=1, keepdims=True)).T
    nearest = np.argsort(-scores, axis=1)[:, :10]
    return float((task.database.labels[nearest] == task.query.labels[:, None]).mean())


def test_pretraining_helps_on_another_domain():
    task, backbone = load_sample(), bundled()
    images = np.concatenate([task.database.images[:200], task.query.images])
    # One program for both: weights and images are arguments.
    apply = jax.jit(lambda variables, images: run(backbone._replace(variables=variables), images))
    trained, scratch = (
        pooled_precision(np.asarray(apply(found.variables, images)), task)
        for found in (backbone, untrained(jax.random.key(0)))
    )
    assert trained > scratch + 0.05


def test_a_flipped_byte_is_refused(monkeypatch):
    whole = network._asset

    def damaged(name):
        encoded = whole(name)
        return encoded if name.endswith(".json") else encoded[:-1] + bytes([encoded[-1] ^ 1])

    monkeypatch.setattr(network, "_asset", damaged)
    with pytest.raises(IntegrityError, match="must have SHA-256"):
        bundled()


@pytest.mark.parametrize("content", [b"", b"\x00" * 40])
def test_something_else_with_the_right_hash_is_refused(monkeypatch, content):
    import hashlib
    import json

    about = {**record(), "sha256": hashlib.sha256(content).hexdigest()}
    monkeypatch.setattr(
        network, "_asset", lambda name: json.dumps(about).encode() if name.endswith("json") else content
    )
    with pytest.raises(FormatError, match="safetensors"):
        bundled()


def test_bits_need_a_key():
    with pytest.raises(ValueError, match="key: must be"):
        bundled(bits=16)
    for call in (lambda: bundled(bits=0, key=jax.random.key(0)), lambda: untrained(jax.random.key(0), bits=0)):
        with pytest.raises(ValueError, match="bits: must be at least 1"):
            call()
