"""The tables of docs/cipher.md are made from the committed reports."""

import json
import pathlib

import pytest

from experiments.bench_cipher import speed_table

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["bench_cipher", "bench_cipher_gpu"])
def test_the_speed_tables_are_made_from_the_reports(name):
    report = json.loads((ROOT / f"experiments/results/{name}.json").read_text())
    assert report["bit_exact"] and all(report["ciphertext_as_on_the_first_machine"].values())
    assert speed_table(report) in (ROOT / "docs/cipher.md").read_text()


@pytest.mark.parametrize("name", ["crush_cipher_lane", "dieharder_cipher_lane", "smallcrush_published"])
def test_the_randomness_table_says_what_the_reports_say(name):
    report = json.loads((ROOT / f"experiments/results/randomness_{name}.json").read_text())
    first = [v["p"] for r in report["results"] if r["attempt"] == 0 for v in r["p_values"]]
    outside = [p for p in first if not 1e-4 < p < 1 - 1e-4]
    assert report["statistics"] == len(first)
    assert f"| {len(first)} | {len(outside)} |" in (ROOT / "docs/cipher.md").read_text()


def test_the_table_of_two_reports_has_the_columns_of_both():
    host = {"device": "host", "runs": {"8": {"shape": [1, 8, 8, 3], "encrypt_mb_s": 1.6}}}
    device = {"device": "card", "runs": {"8": {"shape": [1, 8, 8, 3], "encrypt_on_device_mb_s": 20.2}}}
    assert speed_table(host, device).splitlines() == [
        "| MB/s | 1 x 8 x 8 x 3, host | 1 x 8 x 8 x 3, card |",
        "|---|---|---|",
        "| encrypt | 2 | - |",
        "| encrypt, images and seeds on the device | - | 20 |",
    ]
