"""The pretraining script: a run that is killed and started again ends in the same weights, bit for bit."""

import hashlib
import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from jcbir.errors import KeyMismatchError

pretrain = pytest.importorskip("experiments.assets.pretrain")


def pack(path, *, count: int, first: int) -> None:
    rng = np.random.default_rng(first)
    files = []
    for _ in range(count):
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(stream, "WEBP", lossless=True)
        files.append(stream.getvalue())
    offsets = np.concatenate([[0], np.cumsum([len(file) for file in files])])
    np.savez(path, blob=np.frombuffer(b"".join(files), np.uint8), offsets=offsets, labels=np.arange(count) % 200)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i, name in enumerate((*pretrain.TRAIN_FILES, *pretrain.HELD_OUT_FILES)):
        pack(folder / name, count=16, first=i)
    return folder


def config(images, run, **changes):
    fields = {"stages": (1,), "width": 8, "epochs": 3, "batch": 16, "run": run, "out": run}
    return pretrain.Config(images=images, **{**fields, **changes})


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """The setting of a run of one epoch, and what it gave."""
    setting = config(images, tmp_path_factory.mktemp("run"), epochs=1)
    return setting, pretrain.train(setting, *pretrain.read_packed(images, pretrain.TRAIN_FILES))


class Killed(BaseException):
    """Stands for the signal: nothing in the script catches it."""


def test_interrupted_equals_uninterrupted(images, tmp_path, monkeypatch):
    photographs, labels = pretrain.read_packed(images, pretrain.TRAIN_FILES)
    assert photographs.shape == (32, 32, 32, 3)
    _, whole, _ = pretrain.train(config(images, tmp_path / "whole"), photographs, labels)

    replace, written = os.replace, []

    def die_after_two(source, target):
        replace(source, target)
        written.append(target)
        if len(written) == 2:
            raise Killed

    monkeypatch.setattr(os, "replace", die_after_two)
    with pytest.raises(Killed):
        pretrain.train(config(images, tmp_path / "parts"), photographs, labels)
    monkeypatch.setattr(os, "replace", replace)
    _, parts, _ = pretrain.train(config(images, tmp_path / "parts"), photographs, labels)
    assert int(parts.step) == int(whole.step) == 6
    for name in ("whole", "parts"):
        assert (tmp_path / name / "state.safetensors").exists()
    first, second = (pretrain.weights({"params": s.params, "batch_stats": s.batch_stats}) for s in (whole, parts))
    assert {name: leaf.tobytes() for name, leaf in first.items()} == {n: leaf.tobytes() for n, leaf in second.items()}


def test_a_checkpoint_of_another_recipe_is_refused(images, trained):
    with pytest.raises(KeyMismatchError):
        pretrain.train(config(images, trained[0].run, epochs=2), *pretrain.read_packed(images, pretrain.TRAIN_FILES))


def test_halving_is_area_averaging(images):
    photographs, _ = pretrain.read_packed(images, pretrain.HELD_OUT_FILES)
    with np.load(images / pretrain.HELD_OUT_FILES[0]) as packed:
        first = packed["blob"][: packed["offsets"][1]].tobytes()
    full = np.asarray(Image.open(io.BytesIO(first)), np.float64)
    means = full.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(photographs[0] - means).max() <= 0.5


def test_export_writes_what_the_record_says(trained):
    setting, made = trained
    record = pretrain.export(setting, *made)
    encoded = (setting.out / record["file"]).read_bytes()
    assert hashlib.sha256(encoded).hexdigest() == record["sha256"]
    assert json.loads((setting.out / "small.json").read_text())["held_out"]["images"] == 16
    assert 0 <= record["held_out"]["top1"] <= record["held_out"]["top5"] <= 1
