"""The three figures of a hashing paper: precision against recall, precision by rank, mAP by code length.

Each function draws on a Matplotlib `Axes` and returns it; Matplotlib (`pip install matplotlib`) is imported when the
first one is called.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jcbir.metrics._average_precision import MeanPrecision
from jcbir.metrics._curves import Curve, RankCurve

# Told apart by shape as well as by color: figures are printed in gray, and read by people who do not see red and green.
_MARKERS = "os^Dv<>Ph*"


def draw_precision_recall(curves: Mapping[str, Curve | RankCurve], *, axes: Any = None) -> Any:
    """Precision against recall, a line per method: points of `metrics.precision_recall` or of `metrics.curve`.

    Args:
        curves: Curves by the name for the legend.
        axes: A Matplotlib `Axes` to draw on; None makes a figure.

    Returns:
        The axes, both from 0 to 1.

    Raises:
        ValueError: no curve, or something else than a curve.

    Example:
        >>> from jcbir import metrics
        >>> counts = metrics.tally(np.array([[0, 1, 1]]), np.array([[True, False, True]]))
        >>> axes = draw_precision_recall({"CSQ": metrics.precision_recall(counts)})
        >>> axes.get_xlabel(), axes.get_legend_handles_labels()[1]
        ('recall', ['CSQ'])
    """
    _check("curves", curves, Curve | RankCurve)
    axes = _axes(axes, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    for place, (name, points) in enumerate(curves.items()):
        # A radius with nothing inside has no precision; the line starts at the first that has.
        seen = ~np.isnan(np.asarray(points.precision))
        _line(axes, place, name, np.asarray(points.recall)[seen], np.asarray(points.precision)[seen])
    return _with_legend(axes)


def draw_precision_at(curves: Mapping[str, RankCurve], *, axes: Any = None) -> Any:
    """Precision of the first k results against k, a line per method: points of `metrics.curve`.

    Args:
        curves: Curves by the name for the legend.
        axes: A Matplotlib `Axes` to draw on; None makes a figure.

    Returns:
        The axes.

    Raises:
        ValueError: no curve, or something else than a curve by rank.

    Example:
        >>> from jcbir import metrics
        >>> counts = metrics.tally(np.array([[0, 1, 1]]), np.array([[True, False, True]]))
        >>> axes = draw_precision_at({"CSQ": metrics.curve(counts, tops=[1, 2, 3])})
        >>> axes.lines[0].get_xdata().tolist()
        [1, 2, 3]
    """
    _check("curves", curves, RankCurve)
    axes = _axes(axes, xlabel="results k", ylabel="precision of the first k", ylim=(0, 1.02))
    for place, (name, points) in enumerate(curves.items()):
        _line(axes, place, name, np.asarray(points.top), np.asarray(points.precision))
    return _with_legend(axes)


def draw_map_by_bits(scores: Mapping[str, Mapping[int, MeanPrecision]], *, axes: Any = None) -> Any:
    """Mean average precision against the code length, a line per method; the axis says by which convention.

    Args:
        scores: Means by code length, by the name for the legend; all of one convention.
        axes: A Matplotlib `Axes` to draw on; None makes a figure.

    Returns:
        The axes, with one tick a code length.

    Raises:
        ValueError: no score, something else than a `MeanPrecision`, or means of two conventions.

    Example:
        >>> from jcbir import metrics
        >>> d, r = np.array([[0, 1, 1]]), np.array([[True, False, True]])
        >>> score = metrics.mean_average_precision(d, r)
        >>> draw_map_by_bits({"CSQ": {16: score, 64: score}}).get_ylabel()
        'mAP@all[retrieved,expected]'
    """
    for by_bits in scores.values():
        _check("scores", by_bits, MeanPrecision)
    names = sorted({score.convention for by_bits in scores.values() for score in by_bits.values()})
    if len(names) != 1:
        raise ValueError(f"scores: must be means of one convention, got {', '.join(names) or 'none'}")
    lengths = sorted({bits for by_bits in scores.values() for bits in by_bits})
    axes = _axes(axes, xlabel="bits", ylabel=names[0], ylim=(0, 1.02))
    # Lengths double: on a logarithmic scale they stand at equal distance.
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [str(bits) for bits in lengths])
    axes.minorticks_off()
    for place, (name, by_bits) in enumerate(scores.items()):
        order = sorted(by_bits)
        _line(axes, place, name, np.asarray(order), np.asarray([by_bits[bits].value for bits in order]))
    return _with_legend(axes)


def _check(argument: str, named: Mapping[Any, Any], kind: Any) -> None:
    wrong = [type(value).__name__ for value in named.values() if not isinstance(value, kind)]
    if wrong or not named:
        expected = " or ".join(part.__name__ for part in getattr(kind, "__args__", (kind,)))
        raise ValueError(f"{argument}: must be at least one {expected} by name, got {wrong[0] if wrong else 'none'}")


def _axes(axes: Any, **labels: Any) -> Any:
    if axes is None:
        from matplotlib import pyplot

        _, axes = pyplot.subplots(figsize=(4.8, 3.6), layout="constrained")
    axes.set(**labels)
    axes.grid(alpha=0.3)
    return axes


def _line(axes: Any, place: int, name: str, x: np.ndarray, y: np.ndarray) -> None:
    few = len(x) <= 12
    axes.plot(
        x,
        y,
        label=name,
        linewidth=1.4,
        marker=_MARKERS[place % len(_MARKERS)],
        markersize=4,
        # A few points are marked each; of many, some, and not the same ones on every line.
        markevery=1 if few else (place % 5, max(1, len(x) // 10)),
    )


def _with_legend(axes: Any) -> Any:
    axes.legend(fontsize=8)
    return axes
