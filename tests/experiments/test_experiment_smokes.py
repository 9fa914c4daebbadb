"""Every experiment at its smoke scale on the bundled sample: it runs, resumes, and its figures make sense."""

import json
import math
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments import (
    ablations,
    encrypted_retrieval,
    fig4_fig5_cipher,
    fig6_transfer,
    fig7_pr_curves,
    pages,
    semantic_centers,
    study_csq,
    table1_backbones,
    table2_methods,
    table3_published,
    table4_training_time,
    tuned_backbone,
)
from jcbir.models import bundled
from jcbir.storage._backbones import load_backbone
from jcbir.storage._files import file_digest

pytestmark = pytest.mark.slow
MODULES = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        ablations,
        encrypted_retrieval,
        fig4_fig5_cipher,
        fig6_transfer,
        fig7_pr_curves,
        semantic_centers,
        study_csq,
        table1_backbones,
        table2_methods,
        table3_published,
        table4_training_time,
        tuned_backbone,
    )
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One folder for all, so that the frozen features are computed once."""
    return tmp_path_factory.mktemp("runs")


def smoke(name, runs, tmp_path, **options):
    """Run an experiment, write its report, and put it through its table."""
    module = MODULES[name]
    config = module.SCALES["smoke"]
    where = replace(config.where, runs=runs, report=tmp_path / "report.json", allow_dirty=True)
    found = module.main(replace(config, where=where, **options))
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(found))
    text = pages.heading("report", found) + pages.SECTIONS[name][1](found)
    assert "| --- |" in text and "nan" not in text
    return found


def test_every_experiment_is_here():
    assert set(MODULES) == set(pages.SECTIONS)


def test_table1_and_its_resuming(runs, tmp_path):
    found = smoke("table1_backbones", runs, tmp_path)
    cells = {name: row["16"]["mean"] for name, row in found["map"].items()}
    # Ten balanced classes: chance is 0.1.
    assert 0.1 < cells["untrained"] < cells["bundled"] < 1
    folder = next(runs.glob("table1_backbones-*"))
    states = sorted(folder.rglob("state.safetensors"))
    assert len(states) == 2 and len(list(folder.rglob("codes-16.npz"))) == 2
    times = [path.stat().st_mtime_ns for path in states]
    # A kill while the second network trained: its run is gone, the first is complete.
    for path in (folder / "untrained").rglob("*.safetensors"):
        path.unlink()
    again = smoke("table1_backbones", runs, tmp_path)
    assert again["map"] == found["map"]
    assert states[0].stat().st_mtime_ns == times[0] and states[1].stat().st_mtime_ns != times[1]


def test_a_tuned_backbone_serves_the_table(runs, tmp_path):
    path = tmp_path / "tuned.safetensors"
    found = smoke("tuned_backbone", runs, tmp_path, weights=path)
    assert len(found["validation_by_epoch"]) == 1 and found["weights_sha256"] == file_digest(path)
    before, after = bundled().variables, load_backbone(path).variables
    assert set(after["params"]) == set(before["params"]) - {"fc", "hash"}
    for tree in ("params", "batch_stats"):
        same = {name: all(jax.tree.leaves(jax.tree.map(np.array_equal, leaf, before[tree][name])))
                for name, leaf in after[tree].items()}  # fmt: skip
        # Two leading parts: the stem and the first stage.
        frozen = [name for name in same if not name.startswith("layer") or name.startswith("layer1")]
        assert {name for name in same if same[name]} == set(frozen), tree
    learn = replace(table1_backbones.SCALES["smoke"].learn, epochs=1)
    table = smoke("table1_backbones", runs, tmp_path, learn=learn, backbones=(str(path),))
    assert 0.1 < table["map"][str(path)]["16"]["mean"] < 1


@pytest.mark.parametrize("change", [{"tune": "head"}, {"bits": (16, 32)}, {"seeds": 2}])
def test_a_backbone_is_tuned_by_one_run_of_all_layers(runs, tmp_path, change):
    learn = replace(tuned_backbone.SCALES["smoke"].learn, **change)
    with pytest.raises(SystemExit, match="--tune must be all"):
        smoke("tuned_backbone", runs, tmp_path, learn=learn)


def test_table2(runs, tmp_path):
    found = smoke("table2_methods", runs, tmp_path)
    cells = {name: row["16"]["mean"] for name, row in found["map"].items()}
    assert set(cells) == {"csq", "dch", "itq_cca", "lsh"}
    assert 0.1 < cells["lsh"] < min(cells["csq"], cells["dch"], cells["itq_cca"])


def test_methods_tuned_alike(runs, tmp_path):
    found = smoke("study_csq", runs, tmp_path)["methods"]
    rows = {method: row["16"] for method, row in found.items()}
    assert set(rows) == {"csq", "greedyhash", "csq_drawn"}
    for row in rows.values():
        assert 0.1 < row["map"]["mean"] < 1 and 0 < row["distinct_codes"]["mean"] <= 1
        assert row["ahead_of_csq"]["low"] <= row["ahead_of_csq"]["mean"] <= row["ahead_of_csq"]["high"]
        # The whole database is searched either way.
        assert row["ahead_of_csq"]["mean"] == pytest.approx(row["map"]["mean"] - rows["csq"]["map"]["mean"])
    for method in ("csq", "greedyhash"):
        tried = rows[method]["tried"]
        best = max(tried, key=lambda trial: trial["validation"])
        assert len(tried) == study_csq.SCALES["smoke"].budget
        assert tried[0]["settings"] == study_csq.defaults(method, 16) and tried[0]["rate"] == 2e-3
        assert (rows[method]["rate"], rows[method]["settings"]) == (best["rate"], best["settings"])
    # A variant takes what CSQ chose.
    assert all(rows["csq_drawn"][name] == rows["csq"][name] for name in ("rate", "settings"))
    assert rows["csq_drawn"]["tried"] == []


@pytest.mark.parametrize("change", [{"seeds": 1}, {"tune": "all"}])
def test_methods_are_tuned_on_frozen_features_with_several_seeds(runs, tmp_path, change):
    learn = replace(study_csq.SCALES["smoke"].learn, **change)
    with pytest.raises(SystemExit, match="--tune must be head"):
        smoke("study_csq", runs, tmp_path, learn=learn)


def test_table3(runs, tmp_path):
    found = smoke("table3_published", runs, tmp_path)
    assert found["published"]["csq_official"] is None and len(found["published"]["not_found"]) == 5
    assert 0.1 < found["map"]["16"]["mean"] < 1


def test_table4(runs, tmp_path):
    found = smoke("table4_training_time", runs, tmp_path)
    rows = found["bits"]["16"]
    assert rows["csq"]["ratio_to_csq"] == 1
    assert all(row["seconds_per_step"] > 0 and row["prepare_seconds"] >= 0 for row in rows.values())


def test_fig4_and_fig5(runs, tmp_path):
    found = smoke("fig4_fig5_cipher", runs, tmp_path)
    for row in found["images"].values():
        # Any good cipher gives what the plain histogram fixes, reference [50] included.
        assert abs(row["psnr"] - row["psnr_ideal"]) < 0.5 and abs(row["psnr_reference50"] - row["psnr_ideal"]) < 0.5
        assert row["decrypts"]
    assert len(list(next(runs.glob("fig4_fig5_cipher-*")).glob("*.png"))) == 3


def test_fig6(runs, tmp_path):
    found = smoke("fig6_transfer", runs, tmp_path)
    for start in ("bundled", "untrained"):
        assert [len(curve) for curve in found["validation_by_epoch"][start]["16"]] == [1]
    # An epoch of 300 photographs: only the pretrained network has begun to learn.
    assert found["map"]["bundled"]["16"]["mean"] > found["map"]["untrained"]["16"]["mean"]


def test_fig7(runs, tmp_path):
    rows = smoke("fig7_pr_curves", runs, tmp_path)["bits"]["16"]
    assert set(rows) == {"csq", "csq_by_integer_difference", "lsh"}
    for row in rows.values():
        assert row["recall"] == sorted(row["recall"]) and math.isclose(row["recall"][-1], 1)
        # The whole database: precision is the share of the class.
        assert math.isclose(row["precision"][-1], 0.1, rel_tol=1e-6)
    assert rows["csq_by_integer_difference"]["area"] < rows["csq"]["area"]
    assert rows["lsh"]["area"] < rows["csq"]["area"]


def test_encrypted_retrieval(runs, tmp_path):
    found = smoke("encrypted_retrieval", runs, tmp_path)["bits"]["16"]
    for scheme in ("bitsliced", "packed", "integer"):
        assert found[scheme]["equals_plaintext_arithmetic"], scheme
    assert found["bitsliced"]["map"] == found["packed"]["map"] == found["plaintext"]["map"]
    assert found["integer"]["map"] < found["plaintext"]["map"] and not found["integer"]["hamming_exact"]
    assert found["map_integer_unmasked"] < found["plaintext"]["map"]
    assert found["integer"]["index_bytes_per_code"] > found["bitsliced"]["index_bytes_per_code"] > 2


def test_a_scheme_without_queries_is_left_out(runs, tmp_path):
    found = smoke("encrypted_retrieval", runs, tmp_path, queries=(1, 0, 0))["bits"]["16"]
    assert {"plaintext", "bitsliced"} == {name for name, row in found.items() if isinstance(row, dict)}


def test_semantic_centers(runs, tmp_path):
    found = smoke("semantic_centers", runs, tmp_path)["targets"]
    for by_bits in found.values():
        # One label a photograph: every target tells the classes apart, and there is nothing to weigh.
        row = by_bits["8"]
        assert row["target_map"] == 1 and row["relevant"] == 0 < row["irrelevant"]
        assert 0.1 < row["learned"]["mean"] < 1
    assert found["majority"] == found["by frequency"]


def test_ablations(runs, tmp_path):
    found = smoke("ablations", runs, tmp_path)["map"]
    cells = {name: row["16"]["mean"] for name, row in found.items()}
    assert set(cells) == {"default", "head: linear", "head: ReLU hash layer, as printed"}
    assert cells["default"] > cells["head: linear"] > 0.1
    assert cells["default"] > cells["head: ReLU hash layer, as printed"]
