"""What the comparison of methods is made of: tasks, kept features, and the page that is written from reports."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments import datasets, learning, methods, pages, study_csq
from experiments.assets.cifar10 import load_sample
from jcbir.data import load
from jcbir.hashing.centers import separation
from jcbir.models import Preprocessing, preprocess, resnet_backbone, small

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def test_the_bundled_task_keeps_its_parts_apart_and_its_pixels():
    task = datasets.load_task("bundled", source=None, validation=200, limit=300)
    assert {part: len(rows) for part, rows in task.rows.items()} == {
        "train": 300,
        "validation": 200,
        "database": 2000,
        "query": 200,
    }
    every = np.concatenate(list(task.rows.values()))
    assert len(set(every.tolist())) == len(every)
    # Each ten photographs hold the ten classes, so every part is balanced.
    assert all(np.ptp(task.labels[rows].sum(0)) == 0 for rows in task.rows.values())
    whole = datasets.load_task("bundled", source=None, validation=200, limit=0)
    assert whole.rows["train"].tolist() == list(range(1800))
    wanted = load_sample()
    found = datasets.pixels(task, size=32)
    np.testing.assert_array_equal(found["query"], wanted.query.images)
    np.testing.assert_array_equal(found["validation"], wanted.train.images[-200:])


def test_the_networks_of_the_package_go_by_name():
    found = datasets.open_backbone("imagenet", size=64)
    assert (found.preprocessing.size, found.preprocessing.resize) == (64, None)
    assert found.variables["params"]["conv1"]["kernel"].shape == (7, 7, 3, 64)


def test_a_part_of_the_database_is_the_same_photographs():
    whole = datasets.load_task("bundled", source=None, validation=200, limit=300)
    some = datasets.load_task("bundled", source=None, validation=200, limit=300, searched=100)
    assert len(some.source.ids) == len(some.labels) == 300 + 200 + 100 + 200
    ids = {part: [some.source.ids[row] for row in rows] for part, rows in some.rows.items()}
    for part in ("train", "validation", "query"):
        assert ids[part] == [whole.source.ids[row] for row in whole.rows[part]]
        np.testing.assert_array_equal(some.labels[some.rows[part]], whole.labels[whole.rows[part]])
    assert len(set(ids["database"])) == 100
    assert set(ids["database"]) < {whole.source.ids[row] for row in whole.rows["database"]}


@pytest.mark.parametrize("validation", [0, 2000])
def test_a_validation_part_that_leaves_nothing_is_named(validation):
    with pytest.raises(ValueError, match=f"validation: must be from 1 to 1999, got {validation}"):
        datasets.load_task("bundled", source=None, validation=validation, limit=0)


def test_features_are_kept_by_piece_and_never_stale(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "PIECE", 4)
    g = np.random.default_rng(0)
    images, ids = g.integers(0, 256, (10, 8, 8, 3), np.uint8), tuple(f"train/{i}" for i in range(10))
    source = datasets.from_pixels(images, np.arange(10, dtype=np.int32), ids, tuple("0123456789"))
    module = small(stages=(1,), width=4)
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    backbone = resnet_backbone(module, variables, Preprocessing(size=8))
    done: list[int] = []

    def found(network):
        done.clear()
        return datasets.pooled_features(
            source, network, folder=tmp_path, label="ten", batch=5, progress=lambda count, total: done.append(count)
        )

    first = found(backbone)
    direct = module.apply(backbone.variables, preprocess(images, backbone.preprocessing)).pooled
    np.testing.assert_allclose(first, direct, rtol=1e-5, atol=1e-6)
    assert done == [4, 8, 10]
    (place,) = tmp_path.iterdir()
    (place / "0000004.npy").unlink()
    np.testing.assert_array_equal(found(backbone), first)
    assert done == [8]
    other = backbone._replace(variables=jax.tree.map(lambda leaf: leaf + 0.1, backbone.variables))
    assert np.abs(found(other) - first).max() > 1e-3
    assert done == [4, 8, 10]


def test_drawn_rows_are_as_far_apart_and_say_more():
    first, drawn = (methods.class_centers(10, bits=64, method=name) for name in ("csq", "csq_drawn"))
    assert separation(drawn).minimum == separation(first).minimum == 32
    assert len(np.unique(first, axis=1).T) == 16
    assert len(np.unique(drawn, axis=1).T) == 32


def test_the_codes_of_cnnh_are_centers_and_better_spread_ones():
    """One code a class, every bit splits ten classes five to five, and the mean distance is the largest there is."""
    labels = np.eye(10, dtype=bool)[np.arange(200) % 10]
    codes = methods.targets_of("cnnh", jax.random.key(0), labels, bits=64)
    table = codes[:10]
    np.testing.assert_array_equal(codes, np.tile(table, (20, 1)))
    assert (table.sum(0) == 5).all()
    assert len(np.unique(table ^ table[0], axis=1).T) > 3 * 16
    distances = (table[:, None] != table[None]).sum(-1)[~np.eye(10, dtype=bool)]
    # Plotkin: 10 codes of 64 bits differ in 64 / 2 * 10 / 9 bits on average at most.
    assert distances.mean() == pytest.approx(32 * 10 / 9) and distances.min() >= 28
    np.testing.assert_array_equal(methods.targets_of("csq_class", jax.random.key(0), labels, bits=64), codes)


def made_up(**means: tuple[float, float]) -> dict:
    return {"map": {method: {"64": {"mean": mean, "spread": spread}} for method, (mean, spread) in means.items()}}


@pytest.mark.parametrize(
    ("means", "says"),
    [
        ({"csq": (0.8, 0.01), "dch": (0.7, 0.01), "itq": (0.5, 0.0)}, ["CSQ is first.", "ITQ, 0.3000 below CSQ"]),
        ({"csq": (0.8, 0.03), "dch": (0.84, 0.04)}, ["CSQ is number 2, 0.0400 behind: within", "deviation 0.0500"]),
        (
            {"csq": (0.8, 0.01), "dch": (0.84, 0.01), "sdh": (0.9, 0.0)},
            ["number 3", "outside", "SDH, 0.1000 above CSQ"],
        ),
    ],
)
def test_the_verdict_is_that_of_the_figures(means, says):
    found = pages.verdict(made_up(**means), "64")
    assert all(text in found for text in says), found


def test_a_cell_is_mean_and_sample_deviation():
    found = learning.spread([0.1, 0.2, 0.6])
    assert found["mean"] == pytest.approx(0.3)
    assert found["spread"] == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1))
    assert learning.spread([0.1])["spread"] is None


def test_reports_are_of_the_metric_they_name():
    for path in (DOCS.parent / "experiments" / "results").glob("hashing_methods*.json"):
        report = json.loads(path.read_text())
        learn = pages.learned(report)
        assert report["convention"] == f"mAP@{learn['top']}[retrieved,expected]"
        for row in report["map"].values():
            assert all(len(cell["values"]) == learn["seeds"] for cell in row.values())


def test_two_reports_of_one_column_must_agree():
    pair = {
        "hashing_methods": made_up(csq=(0.8, 0.01)),
        "hashing_methods_added": made_up(csq=(0.8, 0.01), dsh=(0.7, 0)),
    }
    assert "| DSH | 0.700 |" in pages.which_method(pair)[0]
    pair["hashing_methods"] = made_up(csq=(0.81, 0.01))
    with pytest.raises(ValueError, match="hashing_methods_added: must have csq as the other reports"):
        pages.which_method(pair)


def test_cifar10_may_come_packed(tmp_path):
    g = np.random.default_rng(0)
    images, arrays = g.integers(0, 256, (5, 32, 32, 3), np.uint8), {"names": np.array(list("0123456789"))}
    for part, rows in (("train", slice(0, 3)), ("test", slice(3, 5))):
        files = [b"P6 32 32 255\n" + image.tobytes() for image in images[rows]]
        arrays[f"{part}_blob"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{part}_offsets"] = np.arange(len(files) + 1) * len(files[0])
        arrays[f"{part}_labels"] = np.arange(len(files)) % 10
    np.savez(tmp_path / "cifar10.npz", **arrays)
    source = datasets.open_source("cifar10", tmp_path / "cifar10.npz")
    assert source.ids == ("train/00000", "train/00001", "train/00002", "test/00000", "test/00001")
    split, skipped = load(source, size=32)
    assert not skipped
    np.testing.assert_array_equal(split.images, images)


@pytest.mark.parametrize(("seeds", "queries"), [(0.05, 0.02), (0.01, 0.2), (0.02, 0.1)])
def test_the_interval_of_a_difference_holds_the_truth(seeds, queries):
    """Of 400 made-up studies with a difference of 0.02, seeds and queries drawn anew, about 95 % hold it."""
    g = np.random.default_rng(0)
    held = []
    for _ in range(400):
        both = seeds * g.normal(size=(5, 1)) + queries * g.normal(size=(1, 100))
        gaps = 0.02 + both + 0.02 * g.normal(size=(5, 100))
        found = study_csq.difference(0.5 + gaps, np.full_like(gaps, 0.5))
        assert found["mean"] == pytest.approx(gaps.mean())
        held.append(found["low"] < 0.02 < found["high"])
    assert 0.93 < np.mean(held) < 0.98


def test_the_interval_of_equal_runs_is_a_point_and_that_of_equal_queries_students():
    same = np.full((5, 100), 0.5)
    assert study_csq.difference(same, same) == {"mean": 0.0, "low": 0.0, "high": 0.0}
    five = np.array([0.1, 0.2, 0.3, 0.4, 0.5])[:, None].repeat(7, 1)
    half = stats.t.ppf(0.975, 4) * np.std([1, 2, 3, 4, 5], ddof=1) / 10 / 5**0.5
    assert study_csq.difference(five, 0 * five)["high"] == pytest.approx(0.3 + half)


def test_a_method_climbs_to_the_best_of_its_neighbors(monkeypatch):
    def hill(prepared, method, bits, rate, settings):
        # The top is at 0.5 and 0.0125: a rate of 4 steps up, a weight of 1 step down.
        away = abs(np.log(rate / 0.512)), abs(np.log(settings.get("quantization_weight", 0.0125) / 0.0125))
        return study_csq.Trial(rate, settings, -sum(away))

    monkeypatch.setattr(study_csq, "validated", hill)
    prepared = learning.Bench(learning.Learning(rate=2e-3), *[None] * 7)
    trials = study_csq.climb(prepared, "csq", 64, budget=100)
    assert trials[0] == (2e-3, {"quantization_weight": 0.05}, trials[0].validation)
    best = max(trials, key=lambda trial: trial.validation)
    assert best.rate == pytest.approx(0.512) and best.settings == {"quantization_weight": pytest.approx(0.0125)}
    # Nothing twice, and all neighbors of the best.
    assert len({(trial.rate, *trial.settings.values()) for trial in trials}) == len(trials) < 25
    assert len(study_csq.climb(prepared, "csq", 64, budget=7)) == 7
    assert len(study_csq.climb(prepared, "cnnh", 64, budget=100)) == 7
