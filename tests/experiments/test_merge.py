"""Reports of one comparison in parts become the report of the whole."""

import json

import pytest

from experiments import merge, table2_methods
from experiments.learning import Learning
from experiments.running import Where


def test_parts_by_length_and_by_method_give_the_whole():
    def part(bits, method, seconds):
        row = {"mean": bits / 100, "values": [bits / 100]}
        return {
            "map": {method: {str(bits): row}},
            "config": {"learn": {"bits": [bits], "seeds": 1}, "methods": [method]},
            "environment": {"commit": "a", "load": seconds, "date": f"2026-01-0{bits // 16}"},
            "seconds": seconds,
        }

    one, two, three = part(16, "csq", 1.0), part(32, "csq", 2.5), part(16, "dch", 0.5)
    joined = merge.join([one, two, three])
    assert joined["map"] == {"csq": one["map"]["csq"] | two["map"]["csq"], "dch": three["map"]["dch"]}
    assert joined["config"] == {"learn": {"bits": [16, 32], "seeds": 1}, "methods": ["csq", "dch"]}
    assert joined["seconds"] == 4.0 and joined["environment"] == {"commit": "a", "load": 2.5, "date": "2026-01-02"}
    assert merge.join([one]) == one


@pytest.mark.parametrize("place", ["commit", "epochs"])
def test_parts_of_different_runs_are_refused(place):
    one = {"environment": {"commit": "a"}, "config": {"epochs": 1}}
    two = json.loads(json.dumps(one))
    two["environment" if place == "commit" else "config"][place] = "b"
    with pytest.raises(ValueError, match=f"agree on .*{place}"):
        merge.join([one, two])


def test_a_comparison_in_two_processes_is_the_comparison(tmp_path):
    learn = Learning(epochs=1, limit=200, searched=200, features=tmp_path / "features")

    def run(name, *methods):
        where = Where(runs=tmp_path / "runs", report=tmp_path / f"{name}.json", allow_dirty=True)
        return table2_methods.main(table2_methods.Comparison(where, learn, methods))

    for method in ("lsh", "itq"):
        run(method, method)
    whole = run("whole", "lsh", "itq")
    joined = merge.main(merge.Config((tmp_path / "lsh.json", tmp_path / "itq.json"), tmp_path / "joined.json"))
    assert json.loads((tmp_path / "joined.json").read_text()) == joined and (tmp_path / "joined.png").exists()
    for name in ("map", "map_validation", "curves", "protocol", "convention", "config"):
        assert joined[name] == json.loads(json.dumps(whole[name]))
