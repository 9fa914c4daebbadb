"""Normalized discounted cumulative gain for graded relevance (multi-label data), with ties averaged in closed form.

An item of grade g, such as the number of labels it shares with the query, is worth `2^g - 1` (or g) at a discount of
`1 / log2(1 + rank)`. Items at one distance share the mean gain of their bin, which is the average over their orders.
So the counts by distance and grade are enough, and they add up over the parts of a database as other tallies do.
"""

from types import ModuleType
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Float, Integer

from jcbir.metrics._tally import array_module, quotient, tally
from jcbir.typing import Array, check_array, check_whole

Gain = Literal["exponential", "linear"]


def grade_tally(
    distances: Integer[Array, "*b n"],
    grades: Integer[Array, "*b n"],
    *,
    bits: int | None = None,
    highest: int | None = None,
) -> Integer[Array, "*b g d"]:
    """Count items by grade and distance; counts of disjoint parts of a database add up.

    Args:
        distances: Distances of n database items, 0 or more.
        grades: Relevance grades, 0 (irrelevant) or more.
        bits: The largest distance possible; needed under `jit`, and to add up parts.
        highest: The highest grade possible; needed under `jit`, and to add up parts.

    Returns:
        Items per grade (0 to `highest`) and distance (0 to `bits`).

    Raises:
        ValueError: lists that do not fit or hold no item, a grade outside 0..`highest`, a missing bound under `jit`.

    Example:
        >>> grade_tally(np.array([0, 1, 1]), np.array([2, 0, 2])).tolist()
        [[0, 1], [0, 0], [1, 1]]
    """
    check_array("distances", distances, kind="integers", form="[..., n]")
    check_array("grades", grades, kind="integers", form="[..., n]")
    if highest is not None:
        highest = check_whole("highest", highest, low=0)
    if isinstance(grades, Tracer):
        if highest is None:
            raise ValueError("highest: must be the highest grade possible under jit, got None")
    elif grades.size:
        with jax.ensure_compile_time_eval():
            low, high = int(grades.min()), int(grades.max())
        if low < 0 or (highest is not None and high > highest):
            bounds = "at least 0" if highest is None else f"from 0 to highest={highest}"
            raise ValueError(f"grades: must be {bounds}, got {low} to {high}")
        highest = high if highest is None else highest
    if bits is None and not isinstance(distances, Tracer) and distances.size:
        with jax.ensure_compile_time_eval():
            bits = int(distances.max())
    # Grades are few (labels shared): one tally each keeps to the counting that `tally` does well.
    counts = [tally(distances, grades == g, bits=bits).relevant for g in range((highest or 0) + 1)]
    return array_module(*counts).stack(counts, -2)


def tallied_ndcg(
    counts: Integer[Array, "*b g d"], *, top: int | None = None, gain: Gain = "exponential", items: int | None = None
) -> Float[Array, "*b"]:
    """NDCG from counts by grade and distance: `DCG@R / ideal DCG@R`, averaged over the orders of equal distances.

    `DCG@R = sum_{i=1..R} gain_i / log2(1 + i)`; the ideal is the same sum with the highest grades first.

    Args:
        counts: Items per grade and distance.
        top: Cut-off R, 1 to the number of items; None ranks everything.
        gain: `exponential` is `2^g - 1`, `linear` is g.
        items: Number of database items, needed under `jit` only.

    Returns:
        NDCG per query, 0 to 1; 0 where every grade is 0. NumPy float64 for NumPy counts, JAX float32 otherwise.

    Raises:
        ValueError: an unknown gain, `top` outside 1..n, or `items` missing under `jit`.

    Example:
        >>> counts = grade_tally(np.array([0, 1]), np.array([0, 1]))
        >>> round(float(tallied_ndcg(counts)), 4)  # (1 / log2(3)) / (1 / log2(2))
        0.6309

    References:
        Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, ACM TOIS 20(4), 2002; McSherry and
        Najork, ECIR 2008 (ties).
    """
    if gain not in ("exponential", "linear"):
        raise ValueError(f"gain: must be exponential or linear, got {gain!r}")
    check_array("counts", counts, kind="integers", form="[..., g, d]")
    if counts.ndim < 2 or counts.size == 0:
        raise ValueError(f"counts: must be integers [..., g, d] without an empty axis, got {list(counts.shape)}")
    if items is None and isinstance(counts, Tracer):
        raise ValueError("items: must be the number of database items under jit, got None")
    if items is not None:
        fewest = most = check_whole("items", items, low=1)
    if not isinstance(counts, Tracer):
        with jax.ensure_compile_time_eval():
            each = counts.sum((-2, -1))
            fewest, most = int(each.min()), int(each.max())
        if items is not None and not fewest == most == items:
            raise ValueError(f"items: must be the {fewest} to {most} that are counted, got {items}")
    top = None if top is None else check_whole("top", top, low=1, high=fewest)
    xp = array_module(counts)
    dtype = np.float64 if xp is np else jnp.float32
    level = np.arange(counts.shape[-2], dtype=np.float64)
    worth = xp.asarray(np.exp2(level) - 1 if gain == "exponential" else level, dtype)
    reach = most if top is None else top
    table = xp.asarray(np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(2, reach + 2)))]), dtype)
    by_distance, by_grade = counts.sum(-2), counts.sum(-1)
    mean_gain = quotient((counts.astype(dtype) * _column(xp, worth, counts)).sum(-2), by_distance.astype(dtype))
    found = (mean_gain * _discounts(xp, table, by_distance)).sum(-1)
    best_first = xp.flip(by_grade, -1)
    ideal = xp.broadcast_to(xp.flip(worth, -1), best_first.shape) * _discounts(xp, table, best_first)
    return quotient(xp.asarray(found), xp.asarray(ideal.sum(-1)))


def ndcg(
    distances: Integer[Array, "*b n"],
    grades: Integer[Array, "*b n"],
    *,
    top: int | None = None,
    gain: Gain = "exponential",
    bits: int | None = None,
    highest: int | None = None,
) -> Float[Array, "*b"]:
    """NDCG of ranked lists with graded relevance, averaged over the orders of equal distances.

    Args:
        distances: Distances of n database items, 0 or more.
        grades: Relevance grades, 0 or more; on multi-label data the number of labels shared with the query.
        top: Cut-off R, 1 to n; None ranks everything.
        gain: `exponential` is `2^g - 1`, `linear` is g.
        bits: The largest distance possible; needed under `jit` only.
        highest: The highest grade possible; needed under `jit` only.

    Returns:
        NDCG per query, 0 to 1; 0 where every grade is 0. NumPy float64 for NumPy input, JAX float32 otherwise.

    Raises:
        ValueError: as `grade_tally` and `tallied_ndcg`.

    Example:
        >>> float(ndcg(np.array([5, 7, 9]), np.array([3, 1, 0])))
        1.0

    References:
        As `tallied_ndcg`.
    """
    counts = grade_tally(distances, grades, bits=bits, highest=highest)
    return tallied_ndcg(counts, top=top, gain=gain, items=distances.shape[-1])


def _discounts(xp: ModuleType, table: Array, sizes: Array) -> Array:
    """Sum of the discounts of successive bins of the given sizes, cut off at the end of the table."""
    after = xp.cumsum(sizes, -1)
    last = table.shape[0] - 1
    return table[xp.minimum(after, last)] - table[xp.minimum(after - sizes, last)]


def _column(xp: ModuleType, worth: Array, counts: Array) -> Array:
    return xp.broadcast_to(worth[:, None], counts.shape)
