"""The figures hold the points they were given."""

import matplotlib as mpl
import numpy as np
import pytest

from jcbir import metrics
from jcbir.metrics import plot

mpl.use("Agg")

COUNTS = metrics.tally(np.array([[1, 2, 2, 3], [1, 1, 3, 3]]), np.array([[True, False, True, True]] * 2))


@pytest.fixture(autouse=True)
def closed():
    yield
    mpl.pyplot.close("all")


def test_precision_recall_leaves_out_radii_that_hold_nothing():
    axes = plot.draw_precision_recall({"a": metrics.precision_recall(COUNTS), "b": metrics.curve(COUNTS, tops=[1, 4])})
    pooled, by_rank = axes.lines
    np.testing.assert_allclose(pooled.get_xydata(), [[2 / 6, 2 / 3], [3 / 6, 3 / 5], [1, 3 / 4]])
    np.testing.assert_allclose(by_rank.get_xydata()[-1], [1, 3 / 4])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


def test_given_axes_are_drawn_on():
    _, axes = mpl.pyplot.subplots()
    assert plot.draw_precision_at({"a": metrics.curve(COUNTS, tops=range(1, 5))}, axes=axes) is axes
    assert axes.lines[0].get_xdata().tolist() == [1, 2, 3, 4]


def test_map_by_bits_is_of_one_convention():
    d, r = np.array([[0, 1]]), np.array([[False, True]])
    short, long = (metrics.mean_average_precision(d, r, top=top) for top in (2, 2))
    axes = plot.draw_map_by_bits({"a": {64: long, 16: short}})
    assert axes.lines[0].get_xdata().tolist() == [16, 64]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["16", "64"]
    with pytest.raises(ValueError, match=r"scores: must be means of one convention, got mAP@2\[.*, mAP@all"):
        plot.draw_map_by_bits({"a": {16: short, 64: metrics.mean_average_precision(d, r)}})


@pytest.mark.parametrize("draw", [plot.draw_precision_recall, plot.draw_precision_at])
def test_what_is_no_curve_is_named(unchecked, draw):
    for wrong in ({}, {"a": COUNTS}):
        with pytest.raises(ValueError, match=r"curves: must be at least one .*RankCurve by name, got"):
            draw(wrong)
