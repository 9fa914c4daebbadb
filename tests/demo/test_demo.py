"""The main job end to end on a small folder of the user's own photographs; the full one is marked slow."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from jcbir.cli.main import run_command
from jcbir.models import Preprocessing, resnet_backbone, small
from jcbir.storage._weights import write_weights

KEYS = {
    "map_plain",
    "map",
    "order_identical",
    "seconds",
    "bytes",
    "peak_rss_mb",
    "versions",
    "map_random_init",
    "map_label_free",
    "precision_at_5",
    "leakage",
}


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Three classes told apart by color, in modes and sizes that photographs come in, and one broken file."""
    root = tmp_path_factory.mktemp("album")
    random = np.random.default_rng(0)
    for name, color in (("red", (220, 40, 40)), ("green", (40, 200, 60)), ("blue", (30, 60, 210))):
        (root / name).mkdir()
        for i in range(12):
            noise = random.integers(-30, 30, (30 + i, 50 - i, 3))
            picture = Image.fromarray(np.clip(np.array(color) + noise, 0, 255).astype(np.uint8))
            picture = picture.convert("RGBA") if i == 1 else picture
            picture.save(root / name / f"{i}.{'png' if i % 2 else 'jpg'}")
    (root / "red" / "broken.jpg").write_bytes(b"\xff\xd8 cut off")
    return root


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """What colors need in place of a ResNet50."""
    module = small(stages=(1,), width=16)
    variables = jax.jit(module.init)(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))
    path = tmp_path_factory.mktemp("network") / "features.safetensors"
    about = resnet_backbone(module, variables, Preprocessing(size=16)).description
    write_weights(path, jax.tree.map(np.asarray, variables), metadata=about)
    return ["--backbone", str(path), "--size", "16"]


@pytest.fixture(scope="module")
def run(album, network, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    report, picture = out / "deep" / "report.json", out / "picture.png"
    arguments = ["demo", "--images", str(album), *network, "--top", "3", "--bits", "16"]
    status = run_command([*arguments, "--report", str(report), "--out", str(picture)])
    with Image.open(picture) as drawn:
        return status, json.loads(report.read_text()), (drawn.format, drawn.size)


def test_report_has_what_it_promises(run):
    status, report, _ = run
    assert status == 0
    assert set(report) >= KEYS
    assert report["convention"] == "mAP@all[retrieved,expected]"
    assert report["map"].keys() == report["order_identical"].keys() == {"bitsliced", "packed", "integer"}


def test_exact_schemes_rank_as_plaintext_does(run):
    _, report, _ = run
    assert report["order_identical"]["bitsliced"] and report["order_identical"]["packed"]
    assert all(report["decrypted_equal_plain"].values())
    assert report["map"]["bitsliced"] == report["map"]["packed"] == report["map_plain"]
    # Too few photographs are left to train on for a head without labels to compare with.
    assert report["sizes"] == {"train": 18, "database": 15, "query": 3} and report["map_label_free"] is None


def test_every_message_is_counted(run):
    _, report, _ = run
    for scheme in ("bitsliced", "packed", "integer"):
        for topic in ("query", "scores", "ranking", "sealed results"):
            assert report["bytes"][f"{scheme}: {topic}"] > 0
    assert {row["party"] for row in report["leakage"]} == {"owner", "server", "authority", "user"}


def test_picture_is_drawn(run):
    _, _, picture = run
    file_format, (_, height) = picture
    assert file_format == "PNG"
    assert height > 3 * 200


def test_broken_file_is_named_and_counted(album, network, tmp_path, capsys):
    run_command(["demo", "--images", str(album), *network, "--top", "1000", "--out", str(tmp_path / "x.png")])
    printed = capsys.readouterr()
    assert "red/broken.jpg" in printed.out and "1 files skipped" in printed.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--images", "no/such/folder"], ["images", "no/such/folder"]),
        (["--per-class", "0"], ["per_class", "at least 1", "got 0"]),
        (["--top", "5000"], ["top", "760", "got 5000"]),
    ],
)
def test_user_errors_are_one_line_and_status_two(arguments, words, capsys, tmp_path):
    assert run_command(["demo", *arguments, "--out", str(tmp_path / "x.png")]) == 2
    printed = capsys.readouterr().err.replace("\n", " ")
    assert all(word in printed for word in words), printed
    assert "Traceback" not in printed


def test_one_class_is_refused(tmp_path, capsys):
    (tmp_path / "only").mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / "only" / f"{i}.png")
    assert run_command(["demo", "--images", str(tmp_path), "--out", str(tmp_path / "x.png")]) == 2
    assert "at least two class folders" in capsys.readouterr().err


@pytest.mark.slow
def test_main_job(tmp_path):
    """`jcbir demo` as a new user runs it: exact schemes lose nothing, the paper's rule does, pretraining pays."""
    report, picture = tmp_path / "report.json", tmp_path / "picture.png"
    command = [sys.executable, "-m", "jcbir", "demo", "--report", str(report), "--out", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())
    assert figures["order_identical"] == {"bitsliced": True, "packed": True, "integer": False}
    assert all(figures["decrypted_equal_plain"].values())
    assert figures["map_plain"] > 0.95 and figures["precision_at_5"] > 0.95
    assert figures["map_label_free"] > 0.85 > 0.4 > figures["map_random_init"]
    assert figures["map"]["integer"] < figures["map_plain"] - 0.02
    assert figures["peak_rss_mb"] < 4096
    assert picture.stat().st_size > 10_000


def test_lattice_is_a_row_on_request(album, network, tmp_path, capsys):
    report = tmp_path / "report.json"
    arguments = ["demo", "--images", str(album), *network, "--top", "3", "--bits", "16", "--scheme", "lattice"]
    assert run_command([*arguments, "--report", str(report), "--out", str(tmp_path / "picture.png")]) == 0
    found = json.loads(report.read_text())
    assert list(found["map"]) == ["bitsliced", "packed", "integer", "lattice"]
    assert found["order_identical"]["lattice"] and found["decrypted_equal_plain"]["lattice"]
    assert found["map"]["lattice"] == found["map_plain"]
    learned = {(row["scheme"], row["party"]): row["learned"] for row in found["leakage"]}
    assert "of the queries nothing" in learned["lattice", "server"]
    assert "distances, nothing else" in learned["lattice", "authority"]
    # The table may break the line.
    assert "(experimental," in capsys.readouterr().out
