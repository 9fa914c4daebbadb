"""Pictures and weights: what is written comes back; what cannot be written is a clear error."""

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, strategies as st

from jcbir.data import decode_whole
from jcbir.errors import FormatError, IntegrityError, KeyMismatchError
from jcbir.storage import _files as files, _images as images, _weights as weights


@given(
    height=st.integers(1, 9), width=st.integers(1, 9), channels=st.sampled_from([1, 3, 4]), fill=st.integers(0, 2**32)
)
def test_png_round_trip(height, width, channels, fill):
    image = np.random.default_rng(fill).integers(0, 256, (height, width, channels), np.uint8)
    if channels == 4:
        image[..., 3] = 255
    expected = np.broadcast_to(image[..., :3] if channels > 1 else image, (height, width, 3))
    np.testing.assert_array_equal(decode_whole(images.encode_image(image)), expected)


def test_bad_images_to_write(unchecked):
    for bad in (np.zeros((2, 2, 2), np.uint8), np.zeros((0, 2, 3), np.uint8), np.zeros((2, 2, 3), np.float32)):
        with pytest.raises(ValueError, match="image: must be uint8"):
            images.encode_image(bad)


NAMES = st.text("abcdefg_0", min_size=1, max_size=5)
LEAVES = st.sampled_from([np.ones(3, np.float32), np.zeros((2, 2), np.float32), np.arange(4, dtype=np.int32)])
TREES = st.dictionaries(NAMES, LEAVES | st.dictionaries(NAMES, LEAVES, min_size=1, max_size=3), min_size=1, max_size=4)


@given(tree=TREES)
def test_flatten_is_undone(tree):
    again = weights.unflatten(weights.flatten(tree))
    assert sorted(again) == sorted(tree)
    assert weights.flatten(again).keys() == weights.flatten(tree).keys()


def test_weights_round_trip_and_hash(tmp_path):
    tree = {
        "params": {"a": {"kernel": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)}},
        "stats": {"n": np.int32([3])},
    }
    digest = weights.write_weights(tmp_path / "w", tree, metadata={"accuracy": 0.5})
    again, metadata = weights.read_weights(tmp_path / "w", like=tree, sha256=digest)
    np.testing.assert_array_equal(again["params"]["a"]["kernel"], tree["params"]["a"]["kernel"])
    assert metadata == {"accuracy": 0.5}
    with pytest.raises(IntegrityError, match="SHA-256"):
        weights.read_weights(tmp_path / "w", sha256="0" * 64)


def test_weights_of_another_network(tmp_path):
    tree = {"params": {"a": np.ones(3, np.float32)}}
    weights.write_weights(tmp_path / "w", tree)
    for other, match in (
        ({"params": {"b": np.ones(3, np.float32)}}, "only in the"),
        ({"params": {"a": np.ones(4, np.float32)}}, "the network has"),
        ({"params": {"a": np.ones(3, np.float16)}}, "the network has"),
    ):
        with pytest.raises(KeyMismatchError, match=match):
            weights.read_weights(tmp_path / "w", like=other)


def test_bad_weights(tmp_path):
    with pytest.raises(ValueError, match="NaN"):
        weights.write_weights(tmp_path / "w", {"a": np.float32([np.nan])})
    (tmp_path / "nan").write_bytes(safetensors.numpy.save({"a": np.float32([np.inf])}))
    with pytest.raises(FormatError, match="infinity"):
        weights.read_weights(tmp_path / "nan")
    (tmp_path / "clash").write_bytes(safetensors.numpy.save({"a": np.float32([1]), "a/b": np.float32([1])}))
    with pytest.raises(FormatError):
        weights.read_weights(tmp_path / "clash")
    with pytest.raises(ValueError, match="name"):
        weights.flatten({"a/b": np.zeros(1)})
    good = safetensors.numpy.save({"a": np.ones(3, np.float32)}, metadata={"jcbir": json.dumps({})})
    for size in range(0, len(good), 5):
        (tmp_path / "cut").write_bytes(good[:size])
        with pytest.raises(FormatError):
            weights.read_weights(tmp_path / "cut")


def test_writing_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_file(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
