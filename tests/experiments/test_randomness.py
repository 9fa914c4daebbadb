"""The battery runner on a stand-in for TestU01: streams of their own, resumption, the second try of suspect tests."""

import itertools
import json
import sys

import numpy as np
import pytest

from experiments import randomness
from experiments.randomness import Config, key_stream, run, run_test

# Test 3 is suspect at every try; the others give a p-value that their first word decides.
STAND_IN = f"""#!{sys.executable}
import sys
first = int.from_bytes(sys.stdin.buffer.read(4), "little")
p = 1e-9 if sys.argv[2] == "3" else 0.25 + first / 2**33
print("noise")
print(f"p-value,Stand-in, t = {{sys.argv[2]}},{{p:.17g}}")
"""


@pytest.fixture
def driver(tmp_path):
    path = tmp_path / "driver"
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return path


def test_layouts_are_orders_of_the_same_words():
    step, lane = (next(key_stream("a", layout, batch=1)).view(np.uint64).ravel() for layout in ("step", "lane"))
    assert not np.array_equal(step, lane) and np.array_equal(np.sort(step), np.sort(lane))
    assert np.array_equal(lane[:4], step.reshape(-1, 2, 256)[:2, :, 0].ravel())


def test_no_two_tests_share_a_stream(driver):
    found = [run_test("smallcrush", "cipher", "step", driver, *which) for which in (("1", 0), ("2", 0), ("1", 1))]
    values = [f["p_values"][0]["p"] for f in found]
    assert all(a != b for a, b in itertools.combinations(values, 2))
    assert found[1]["p_values"][0]["name"] == "Stand-in, t = 2"


def test_a_run_goes_on_and_repeats_what_is_suspect(driver, tmp_path):
    config = Config(driver=driver, report=tmp_path / "report.json")
    run_test_one = run_test("smallcrush", "cipher", "step", driver, "1", 0)
    begun = {"battery": "smallcrush", "source": "cipher", "layout": "step", "results": [run_test_one]}
    config.report.write_text(json.dumps(begun))
    found = run(config)
    assert found["results"][0] == run_test_one
    assert sorted(int(r["test"]) for r in found["results"] if r["attempt"] == 0) == list(range(1, 11))
    assert found["suspect"] == found["repeated"] == found["suspect_again"] == ["3"]
    assert json.loads(config.report.read_text()) == json.loads(json.dumps(found))


def test_the_report_of_another_run_is_not_touched(driver, tmp_path):
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"battery": "crush", "source": "cipher", "layout": "step", "results": []}))
    with pytest.raises(SystemExit, match="another run"):
        run(Config(driver=driver, report=report))


def test_dieharder_lines_are_read():
    text = (
        "#=#\n sts_serial,   2,  100000, 100,0.28106611,  PASSED  \n  test_name ,ntup, tsamples ,psamples,p-value ,A\n"
    )
    assert randomness._dieharder(text) == [{"name": "sts_serial 2", "p": 0.28106611}]
