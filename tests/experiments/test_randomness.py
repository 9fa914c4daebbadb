"""The battery runner on a stand-in for TestU01: streams of their own, resumption, the second try of suspect tests."""

import itertools
import json
import sys

import numpy as np
import pytest

from experiments import randomness
from experiments.randomness import Battery, key_stream, main, run_test
from experiments.running import Where, begin

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
    where = Where(runs=tmp_path / "runs", report=tmp_path / "report.json", allow_dirty=True)
    config = Battery(where, driver=driver)
    first = run_test("smallcrush", "cipher", "step", driver, "1", 0)
    (begin("randomness", config).folder / "results.json").write_text(json.dumps([first]))
    found = main(config)
    assert found["results"][0] == first
    assert sorted(int(r["test"]) for r in found["results"] if r["attempt"] == 0) == list(range(1, 11))
    assert found["suspect"] == found["repeated"] == found["suspect_again"] == ["3"]
    assert json.loads(where.report.read_text()) == json.loads(json.dumps(found))


def test_only_what_changes_the_streams_starts_anew(tmp_path):
    def folder(**options):
        return begin("randomness", Battery(Where(runs=tmp_path), **options)).folder

    assert folder() == folder(workers=4, driver=tmp_path / "driver")
    others = [folder(battery="crush"), folder(layout="lane"), folder(stream="published")]
    assert len({folder(), *others}) == 4


def test_dieharder_lines_are_read():
    text = (
        "#=#\n sts_serial,   2,  100000, 100,0.28106611,  PASSED  \n  test_name ,ntup, tsamples ,psamples,p-value ,A\n"
    )
    assert randomness._dieharder(text) == [{"name": "sts_serial 2", "p": 0.28106611}]
