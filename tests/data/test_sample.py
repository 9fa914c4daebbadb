"""The samples of Caltech-101 and CIFAR-10: complete, balanced, disjoint, and refused when a byte differs."""

import hashlib

import numpy as np
import pytest

from experiments.assets import cifar10
from jcbir.data import _sample as bundled
from jcbir.errors import FormatError, IntegrityError

SIZES = {bundled: (600, 760, 100, 20, 128), cifar10: (2000, 2000, 200, 10, 32)}


@pytest.fixture(scope="module", params=[bundled, cifar10], ids=["caltech101", "cifar10"])
def source(request):
    return request.param


@pytest.fixture(scope="module")
def task(source):
    return source.load_sample()


def test_sizes_and_balance(task, source):
    *counts, kinds, side = SIZES[source]
    assert len(task.names) == kinds
    for part, count in zip((task.train, task.database, task.query), counts, strict=True):
        assert part.images.shape == (count, side, side, 3)
        assert len(part.ids) == len(set(part.ids)) == count
        # Any prefix as long as there are classes holds each once.
        assert np.array_equal(part.labels, np.arange(count) % kinds)


def test_splits_are_disjoint_by_pixels(task, source):
    digests = [
        hashlib.sha256(image).digest() for part in (task.train, task.database, task.query) for image in part.images
    ]
    assert len(set(digests)) == sum(SIZES[source][:3])


def test_no_query_is_almost_in_the_collection(task):
    def thumbnails(images):
        cell = images.shape[1] // 8
        return images.reshape(-1, 8, cell, 8, cell, 3).mean((2, 4), dtype=np.float32).reshape(len(images), -1)

    collection = thumbnails(np.concatenate([task.train.images, task.database.images]))
    # Caltech-101 was compared before its sheets were compressed.
    for thumbnail in thumbnails(task.query.images):
        assert np.sqrt(((collection - thumbnail) ** 2).mean(1)).min() >= 3.9


def test_ids_name_the_kinds():
    task = bundled.load_sample()
    for part in (task.train, task.database, task.query):
        for label, identity in zip(part.labels, part.ids, strict=True):
            assert identity.split("/")[0].lower() == task.names[label]
    assert not any("face" in name for name in task.names)


def test_pixels_are_those_of_the_record():
    task = cifar10.load_sample()
    for name, entry in cifar10.sample_record()["splits"].items():
        pixels = getattr(task, name).images
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == entry["pixels_sha256"]


def test_size_in_the_wheel():
    assert sum(entry["bytes"] for entry in bundled.sample_record()["splits"].values()) <= 14_000_000


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
        bundled.unpack_sheet(np.zeros(shape, np.uint8), count=3, side=32)
