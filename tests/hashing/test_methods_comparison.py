"""The comparison of methods as a smoke run: two methods, one seed, one length, from the command line."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_two_methods_from_the_command_line(tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "experiments.table2_methods", "--methods", "csq", "itq"]
    command += ["--report", str(report), "--allow-dirty", "--runs", str(tmp_path / "runs")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(report.read_text())
    assert found["convention"] == "mAP@1000[retrieved,expected]"
    best, other = (found["map"][method]["16"]["mean"] for method in ("csq", "itq"))
    # Ten balanced classes: chance is 0.1. Labels must help.
    assert 0.15 < other < best < 1
    assert report.with_suffix(".png").stat().st_size > 10_000
    assert "CSQ" in run.stdout
    (metrics,) = (tmp_path / "runs").glob("table2_methods-*/bundled-head-csq-16-0/metrics.jsonl")
    assert len(metrics.read_text().splitlines()) == 3


def test_an_unknown_method_is_named():
    command = [sys.executable, "-m", "experiments.table2_methods", "--methods", "cqs"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode != 0
    assert "got cqs" in run.stderr
