"""docs/cipher.md says what the committed reports say; its speed tables are written by `experiments.pages`."""

import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["bench_cipher", "bench_cipher_gpu"])
def test_the_ciphertexts_of_the_benches_are_right(name):
    report = json.loads((ROOT / f"experiments/results/{name}.json").read_text())
    assert report["bit_exact"] and all(report["ciphertext_as_on_the_first_machine"].values())


@pytest.mark.parametrize("name", ["crush_cipher_lane", "dieharder_cipher_lane", "smallcrush_published"])
def test_the_randomness_table_says_what_the_reports_say(name):
    report = json.loads((ROOT / f"experiments/results/randomness_{name}.json").read_text())
    first = [v["p"] for r in report["results"] if r["attempt"] == 0 for v in r["p_values"]]
    outside = [p for p in first if not 1e-4 < p < 1 - 1e-4]
    assert report["statistics"] == len(first)
    assert f"| {len(first)} | {len(outside)} |" in (ROOT / "docs/cipher.md").read_text()
