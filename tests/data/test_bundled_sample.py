"""The bundled CIFAR-10 sample: complete, balanced, disjoint, and refused when a byte differs."""

import hashlib

import numpy as np
import pytest

from jcbir.data import _sample as bundled
from jcbir.errors import FormatError, IntegrityError


@pytest.fixture(scope="module")
def task():
    return bundled.load_sample()


def test_sizes_and_balance(task):
    for part, count in ((task.train, 2000), (task.database, 2000), (task.query, 200)):
        assert part.images.shape == (count, 32, 32, 3)
        assert len(part.ids) == len(set(part.ids)) == count
        assert np.bincount(part.labels, minlength=10).tolist() == [count // 10] * 10
        # Any prefix of ten holds each class once.
        assert np.array_equal(part.labels, np.arange(count) % 10)


def test_splits_are_disjoint_by_pixels(task):
    digests = [
        hashlib.sha256(image).digest() for part in (task.train, task.database, task.query) for image in part.images
    ]
    assert len(set(digests)) == 4200


def test_no_query_is_almost_in_the_collection(task):
    def thumbnails(images):
        return images.reshape(-1, 8, 4, 8, 4, 3).mean((2, 4), dtype=np.float32).reshape(len(images), -1)

    collection = thumbnails(np.concatenate([task.train.images, task.database.images]))
    for thumbnail in thumbnails(task.query.images):
        assert np.sqrt(((collection - thumbnail) ** 2).mean(1)).min() >= 4


def test_pixels_are_those_of_the_record(task):
    for name, entry in bundled.sample_record()["splits"].items():
        pixels = getattr(task, name).images
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == entry["pixels_sha256"]


def test_size_in_the_wheel():
    assert sum(entry["bytes"] for entry in bundled.sample_record()["splits"].values()) <= 12_000_000


def test_a_flipped_byte_is_refused(monkeypatch):
    whole = bundled._asset

    def damaged(name):
        encoded = whole(name)
        return encoded if name.endswith(".json") else encoded[:-1] + bytes([encoded[-1] ^ 1])

    monkeypatch.setattr(bundled, "_asset", damaged)
    with pytest.raises(IntegrityError, match="must have SHA-256"):
        bundled.load_sample()


@pytest.mark.parametrize("shape", [(33, 32, 3), (32, 31, 3), (32, 64, 3)])
def test_a_sheet_of_another_size_is_refused(shape):
    with pytest.raises(FormatError, match="3 tiles"):
        bundled.unpack_sheet(np.zeros(shape, np.uint8), count=3)
