"""`experiments.bench_search` compares like with like, and says what it did not run."""

import numpy as np
import pytest

from experiments import bench_search, pages


def row(contender, scheme, seconds, **more):
    return {"contender": contender, "scheme": scheme, "count": 100_000, "query_s": seconds, "build_s": seconds} | more


OURS = [row("jcbir auto", "lattice", 0.03), row("jcbir auto", "bitsliced", 0.6), row("jcbir auto", "packed", 9.0)]


def test_a_ratio_below_one_says_that_the_lattice_is_faster():
    found = bench_search.compared([*OURS, row("TenSEAL BFV", "packed", 0.2), row("TenSEAL BFV", "bitsliced", 0.01)])
    assert found["lattice_query_ms_100k"] == 30
    assert found["ratio_lattice_vs_tenseal_packed_100k"] == pytest.approx(0.15)
    assert found["ratio_lattice_vs_tenseal_bitsliced_100k"] == pytest.approx(3)
    assert found["ratio_lattice_vs_bitsliced_100k"] == pytest.approx(0.05)
    assert found["build_ratio_lattice_vs_packed_100k"] == pytest.approx(1 / 300)


def test_where_it_ran_alone_there_are_no_ratios():
    alone = [row("jcbir auto", "lattice", 0.2, count=1_000_000)]
    assert bench_search.compared(alone) == {"lattice_query_ms_1000k": 200}


def test_a_peer_that_is_missing_says_so(monkeypatch):
    monkeypatch.setattr(bench_search, "present", lambda name: False)
    assert bench_search.installed(("phe", "tenseal")) == {
        "python-paillier": "not installed",
        "TenSEAL BFV": "not installed",
    }
    gone = bench_search.absent(("phe", "tenseal"))
    assert [pages.query_cells(it)[:2] for it in gone] == [
        ["python-paillier", "not installed"],
        ["TenSEAL BFV", "not installed"],
    ]
    found = bench_search.compared([*OURS, *(it | {"count": 100_000} for it in gone)])
    assert found["ratio_lattice_vs_tenseal_packed_100k"] is None and found["ratio_lattice_vs_phe_100k"] is None


@pytest.mark.slow
def test_every_distance_of_the_lattice_is_checked():
    codes = np.random.default_rng(0).random((40, 64)) < 0.5
    expected = bench_search.popcount_distances(codes, codes[3])
    watch = bench_search.Stopwatch("cpu")
    for wrong in (0, 1):
        made, stages = bench_search.lattice(watch, codes, codes[3])
        expected[7] += wrong
        (timed,) = bench_search.timed(watch, [(made, stages)], expected, 1)
        assert timed["exact"] is (wrong == 0)
        assert all(timed[f"{stage}_s"] > 0 for stage in bench_search.STAGES)
