"""The metrics against programs written by others: ranx on lists without ties, and codes published with a paper."""

import json
import os
import pathlib
import warnings

import numpy as np
import pytest

from jcbir import codes, metrics

RESULTS = pathlib.Path(__file__).parents[2] / "experiments" / "results"


def test_ranx_on_lists_without_ties(monkeypatch):
    # Compiling ranx takes a minute; its plain Python is the same arithmetic.
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranx = pytest.importorskip("ranx", reason="ranx is not installed (pip install ranx)")
        g = np.random.default_rng(0)
        distances = np.stack([g.permutation(60) for _ in range(8)])
        grades = np.where(g.random((8, 60)) < 0.3, g.integers(1, 4, (8, 60)), 0)
        names = [f"d{i}" for i in range(60)]
        qrels = {f"q{q}": {n: int(v) for n, v in zip(names, grades[q], strict=True) if v} for q in range(8)}
        run = {f"q{q}": {n: float(100 - v) for n, v in zip(names, distances[q], strict=True)} for q in range(8)}
        wanted = ["map", "map@10", "precision@10", "recall@10", "ndcg@10", "ndcg_burges@10", "ndcg"]
        theirs = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), wanted)
    relevant = grades > 0
    counts = metrics.tally(distances, relevant)
    for ties in ("expected", "index", "best", "worst"):
        for name, top in (("map", None), ("map@10", 10)):
            ours = metrics.mean_average_precision(distances, relevant, top=top, denominator="relevant", ties=ties)
            np.testing.assert_allclose(ours.value, theirs[name], rtol=1e-12)
    np.testing.assert_allclose(metrics.precision_at(counts, top=10).mean(), theirs["precision@10"])
    np.testing.assert_allclose(metrics.recall_at(counts, top=10).mean(), theirs["recall@10"])
    np.testing.assert_allclose(metrics.ndcg(distances, grades, gain="linear").mean(), theirs["ndcg"])
    np.testing.assert_allclose(metrics.ndcg(distances, grades, top=10, gain="linear").mean(), theirs["ndcg@10"])
    np.testing.assert_allclose(metrics.ndcg(distances, grades, top=10).mean(), theirs["ndcg_burges@10"])


@pytest.mark.skipif("JCBIR_DATA" not in os.environ, reason="JCBIR_DATA names no folder that holds hmdb51_codes")
def test_published_codes():
    folder = pathlib.Path(os.environ["JCBIR_DATA"]) / "hmdb51_codes"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    read = {f: np.load(folder / f"{f}.npy") for f in ("test_hash", "database_hash", "test_label", "database_label")}
    query, database = (codes.pack(np.asarray(codes.binarize(read[f]))) for f in ("test_hash", "database_hash"))
    distances = np.asarray(codes.pairwise(query, database))
    relevant = read["test_label"][:, None] == read["database_label"]
    published = metrics.mean_average_precision(distances, relevant, top=100, ties="index")
    assert round(published.value, 4) == 0.5610
    stored = json.loads((RESULTS / "bench_metrics.json").read_text())["hmdb51"]
    for ties in ("expected", "index", "best", "worst"):
        score = metrics.mean_average_precision(distances, relevant, top=100, ties=ties)
        np.testing.assert_allclose(stored[score.convention], score.value, rtol=1e-6)
