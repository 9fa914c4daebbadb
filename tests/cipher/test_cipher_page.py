"""The speed table of docs/cipher.md is made from the committed report."""

import json
import pathlib

from experiments.bench_cipher import speed_table

ROOT = pathlib.Path(__file__).parents[2]


def test_the_speed_table_is_made_from_the_report():
    report = json.loads((ROOT / "experiments/results/bench_cipher.json").read_text())
    assert speed_table(report) in (ROOT / "docs/cipher.md").read_text()


def test_the_table_of_two_reports_has_the_columns_of_both():
    host = {"device": "host", "runs": {"8": {"shape": [1, 8, 8, 3], "encrypt_mb_s": 1.6}}}
    device = {"device": "card", "runs": {"8": {"shape": [1, 8, 8, 3], "encrypt_on_device_mb_s": 20.2}}}
    assert speed_table(host, device).splitlines() == [
        "| MB/s | 1 x 8 x 8 x 3, host | 1 x 8 x 8 x 3, card |",
        "|---|---|---|",
        "| encrypt | 2 | - |",
        "| encrypt, images and seeds on the device | - | 20 |",
    ]
