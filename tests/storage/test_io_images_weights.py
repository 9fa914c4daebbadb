"""Pictures and weights: any mode in, RGB out; damaged, huge or foreign files are clear errors."""

import contextlib
import json
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import safetensors.numpy
from hypothesis import given, strategies as st

from jcbir.errors import FormatError, IntegrityError, KeyMismatchError
from jcbir.storage import files, images, weights


@given(
    height=st.integers(1, 9), width=st.integers(1, 9), channels=st.sampled_from([1, 3, 4]), fill=st.integers(0, 2**32)
)
def test_png_round_trip(height, width, channels, fill):
    image = np.random.default_rng(fill).integers(0, 256, (height, width, channels), np.uint8)
    if channels == 4:
        image[..., 3] = 255
    expected = np.broadcast_to(image[..., :3] if channels > 1 else image, (height, width, 3))
    np.testing.assert_array_equal(images.decode_image(images.encode_image(image)), expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "LA", "I;16"])
def test_every_mode_becomes_rgb(mode, tmp_path):
    gray = PIL.Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8) * 5)
    picture = (
        PIL.Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8) * 1365)
        if mode == "I;16"
        else gray.convert(mode)
    )
    name = {"CMYK": "a.jpg", "YCbCr": "a.jpg", "F": "a.tiff", "I": "a.tiff"}.get(mode, "a.png")
    picture.save(tmp_path / name)
    image = images.read_image(tmp_path / name)
    assert image.shape == (6, 8, 3)
    assert image.dtype == np.uint8
    assert int(image.max()) > 200


def test_transparency_is_white_and_orientation_is_applied(tmp_path):
    clear = PIL.Image.new("RGBA", (4, 2), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert (images.read_image(tmp_path / "clear.png") == 255).all()
    lying = PIL.Image.new("RGB", (4, 2), "red")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    lying.save(tmp_path / "lying.jpg", exif=exif)
    assert images.read_image(tmp_path / "lying.jpg").shape == (4, 2, 3)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few dozen bytes that claims any size."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\0IDAT"


def test_bombs_and_damage(tmp_path):
    for side in (10_001, 100_000, 2**31 - 1):
        with pytest.raises(FormatError, match="at most"):
            images.decode_image(bomb(side, side))
    good = images.encode_image(np.random.default_rng(0).integers(0, 256, (10, 10, 3), np.uint8))
    for size in range(0, len(good) // 2, 7):
        with pytest.raises(FormatError):
            images.decode_image(good[:size])
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(FormatError, match=r"a\.png"):
        images.read_image(tmp_path / "a.png")


@given(
    content=st.binary(max_size=60),
    start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0"]),
)
def test_arbitrary_bytes_are_no_crash(content, start):
    with contextlib.suppress(FormatError):
        assert images.decode_image(start + content).shape[-1] == 3


def test_bad_images_to_write(unchecked):
    for bad in (np.zeros((2, 2, 2), np.uint8), np.zeros((0, 2, 3), np.uint8), np.zeros((2, 2, 3), np.float32)):
        with pytest.raises(ValueError, match="expected uint8"):
            images.encode_image(bad)


def test_list_images(tmp_path):
    for name in ("b/2.JPG", "a/1.png", ".hidden/3.png", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [str(path.relative_to(tmp_path)) for path in images.list_images(tmp_path)] == ["a/1.png", "b/2.JPG"]
    with pytest.raises(NotADirectoryError):
        images.list_images(tmp_path / "nowhere")


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
