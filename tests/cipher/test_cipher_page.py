"""The speed table of docs/cipher.md is made from the committed report."""

import json
import pathlib

from experiments.bench_cipher import speed_table

ROOT = pathlib.Path(__file__).parents[2]


def test_the_speed_table_is_made_from_the_report():
    report = json.loads((ROOT / "experiments/results/bench_cipher.json").read_text())
    assert speed_table(report) in (ROOT / "docs/cipher.md").read_text()
