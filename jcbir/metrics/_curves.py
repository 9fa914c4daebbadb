"""Precision and recall at a cut-off, within a Hamming radius, and as a curve, from the counts by distance."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jax.core import Tracer
from jaxtyping import Float, Integer

from jcbir.metrics._average_precision import Empty, mean_over_queries
from jcbir.metrics._tally import Tally, array_module, check_counts, check_top, floats, quotient
from jcbir.typing import Array, check_whole

Order = Literal["expected", "best", "worst"]


class Curve(NamedTuple):
    """A precision-recall curve over Hamming radii.

    Attributes:
        radius: `Integer[d]`, 0 to the largest distance.
        precision: `Float[d]`, relevant share of all pairs within the radius; NaN where there is no pair.
        recall: `Float[d]`, share of all relevant pairs that lie within the radius; not falling.
    """

    radius: Integer[Array, "d"]
    precision: Float[Array, "d"]
    recall: Float[Array, "d"]


class RankCurve(NamedTuple):
    """Precision and recall by rank, each a mean over queries.

    Attributes:
        top: `Integer[t]`, cut-offs.
        precision: `Float[t]`, mean share of relevant items among the first `top`.
        recall: `Float[t]`, mean share of the relevant items that are among the first `top`.
    """

    top: Integer[Array, "t"]
    precision: Float[Array, "t"]
    recall: Float[Array, "t"]


def curve(
    counts: Tally, *, tops: Sequence[int] | Integer[Array, "t"], ties: Order = "expected", empty: Empty = "zero"
) -> RankCurve:
    """Precision and recall over a vector of cut-offs, macro-averaged: a mean over queries at each rank.

    `P_k = mean_q hits_qk / k`, `R_k = mean_q hits_qk / relevant_q`. `precision_recall` is the other usage: pairs of all
    queries pooled, by Hamming radius.

    Args:
        counts: Items and relevant items by distance, of one query or of several.
        tops: Cut-offs, each 1 to the number of items; at least one.
        ties: As in `hits_at`.
        empty: Queries without any relevant item count with 0 (`zero`) or are left out (`skip`), as DeepHash-pytorch's
            curves leave them out.

    Returns:
        One point per cut-off, in the order given.

    Raises:
        ValueError: no cut-off, one outside 1..n, an unknown option, or `skip` leaves no query.

    Example:
        >>> from jcbir.metrics import tally
        >>> points = curve(tally(np.array([0, 1, 1]), np.array([True, True, False])), tops=[1, 2, 3])
        >>> points.precision.round(3).tolist(), points.recall.tolist()
        ([1.0, 0.75, 0.667], [0.5, 0.75, 1.0])
    """
    if np.ndim(tops) != 1 or len(tops) == 0:
        raise ValueError(f"tops: must be cut-offs [t], at least one, got {tops!r}")
    check_counts(counts)
    # Host integers first: they are cut-offs, not figures.
    cuts = [check_top(counts, top, name="tops") for top in np.asarray(tops).tolist()]
    xp, _, relevant = floats(counts)
    total = xp.asarray(relevant.sum(-1)).reshape(-1)
    hits = [hits_at(counts, top=top, ties=ties).reshape(-1) for top in cuts]

    def mean(values: Array) -> Array:
        return mean_over_queries(values, total.astype(np.int32), empty=empty)

    precision = xp.stack([mean(found / top) for found, top in zip(hits, cuts, strict=True)])
    recall = xp.stack([mean(quotient(found, total)) for found in hits])
    return RankCurve(xp.asarray(cuts, dtype=np.int64 if xp is np else np.int32), precision, recall)


def precision_recall(counts: Tally) -> Curve:
    """Precision-recall curve by Hamming radius, micro-averaged: pairs of all queries are pooled, then divided.

    `P_k = sum_q relevant pairs with distance <= k / sum_q pairs with distance <= k`, `R_k` the same over all relevant
    pairs. This is the hash-lookup curve of the deep hashing papers; it has no ties to break. The other usage, a mean
    over queries at each rank, is `curve`.

    Args:
        counts: Items and relevant items by distance.

    Returns:
        One point per radius. Precision is NaN where no pair lies within the radius, recall 0 where nothing is relevant.

    Example:
        >>> from jcbir.metrics import tally
        >>> curve = precision_recall(tally(np.array([[0, 1], [1, 1]]), np.array([[True, False], [True, True]])))
        >>> curve.precision.tolist(), [round(r, 3) for r in curve.recall.tolist()]
        ([1.0, 0.75], [0.333, 1.0])
    """
    check_counts(counts)
    xp, items, relevant = floats(counts)
    bins = items.shape[-1]
    items, relevant = (xp.cumsum(a.reshape(-1, bins).sum(0)) for a in (items, relevant))
    precision = quotient(relevant, items)
    if isinstance(precision, Tracer):
        precision = xp.where(items > 0, precision, xp.nan)
    else:
        # On the host: a NaN that is meant must not stop who debugs those that are not (`jax_debug_nans`).
        precision = xp.asarray(np.where(np.asarray(items) > 0, np.asarray(precision), np.float32("nan")))
    recall = quotient(relevant, xp.broadcast_to(relevant[-1], relevant.shape))
    return Curve(xp.arange(bins, dtype=np.int64 if xp is np else np.int32), precision, recall)


def hits_at(counts: Tally, *, top: int, ties: Order = "expected") -> Float[Array, "*b"]:
    """Relevant items among the first `top`: `sum_bins hits`, the last bin in the share m/n of its places in the top.

    Args:
        counts: Items and relevant items by distance.
        top: Cut-off, 1 to the number of items.
        ties: `expected` over all orders of equal distances, `best` (relevant first) or `worst` (last).

    Returns:
        Hits per query, 0 to `top`; whole numbers but for `expected`.

    Raises:
        ValueError: `top` is outside 1..n, or `ties` is unknown.

    Example:
        >>> from jcbir.metrics import tally
        >>> counts = tally(np.array([0, 1, 1]), np.array([True, True, False]))
        >>> [float(hits_at(counts, top=2, ties=t)) for t in ("expected", "best", "worst")]
        [1.5, 2.0, 1.0]
    """
    if ties not in ("expected", "best", "worst"):
        raise ValueError(f"ties: must be expected, best or worst, got {ties!r}")
    check_counts(counts)
    top = check_top(counts, top)
    xp, n, r = floats(counts)
    m = xp.clip(top - (xp.cumsum(n, -1) - n), 0, n)
    if ties == "expected":
        hits = xp.where(m == n, r, m * r / xp.maximum(n, 1))
    else:
        hits = xp.minimum(m, r) if ties == "best" else xp.maximum(m - (n - r), 0)
    return xp.asarray(hits.sum(-1))


def precision_at(counts: Tally, *, top: int, ties: Order = "expected") -> Float[Array, "*b"]:
    """Precision of the first `top` results: `P@k = hits / k`.

    Args:
        counts: Items and relevant items by distance.
        top: Cut-off k, 1 to the number of items.
        ties: As in `hits_at`.

    Returns:
        Precision per query, 0 to 1.

    Example:
        >>> from jcbir.metrics import tally
        >>> float(precision_at(tally(np.array([0, 1, 1]), np.array([True, True, False])), top=2))
        0.75
    """
    hits = hits_at(counts, top=top, ties=ties)
    return array_module(hits).asarray(hits / top)


def recall_at(counts: Tally, *, top: int, ties: Order = "expected") -> Float[Array, "*b"]:
    """Recall of the first `top` results: `hits / all relevant items`.

    Args:
        counts: Items and relevant items by distance.
        top: Cut-off, 1 to the number of items.
        ties: As in `hits_at`.

    Returns:
        Recall per query, 0 to 1; 0 where a query has no relevant item.

    Example:
        >>> from jcbir.metrics import tally
        >>> float(recall_at(tally(np.array([0, 1, 1]), np.array([True, True, False])), top=1))
        0.5
    """
    xp, _, relevant = floats(counts)
    return quotient(hits_at(counts, top=top, ties=ties), xp.asarray(relevant.sum(-1)))


def precision_within(counts: Tally, *, radius: int = 2) -> Float[Array, "*b"]:
    """Precision of a hash lookup: relevant share of the items within a Hamming radius, `P@H<=radius`.

    Args:
        counts: Items and relevant items by distance.
        radius: Largest distance looked up.

    Returns:
        Precision per query, 0 to 1; a lookup that finds nothing counts as 0, as published tables do.

    Raises:
        ValueError: `radius` is negative.

    Example:
        >>> from jcbir.metrics import tally
        >>> precision_within(tally(np.array([[0, 2, 2, 3], [3, 3, 4, 4]]), np.eye(2, 4) > 0)).round(3).tolist()
        [0.333, 0.0]

    References:
        Cao et al., Deep Cauchy Hashing for Hamming Space Retrieval, CVPR 2018, section 4 (P@H<=2).
    """
    check_counts(counts)
    radius = check_whole("radius", radius, low=0)
    xp, items, relevant = floats(counts)
    return quotient(*(xp.asarray(a[..., : radius + 1].sum(-1)) for a in (relevant, items)))


def recall_within(counts: Tally, *, radius: int = 2) -> Float[Array, "*b"]:
    """Recall of a hash lookup: share of the relevant items within a Hamming radius, `R@H<=radius`.

    Args:
        counts: Items and relevant items by distance.
        radius: Largest distance looked up.

    Returns:
        Recall per query, 0 to 1; 0 where a query has no relevant item.

    Raises:
        ValueError: `radius` is negative.

    Example:
        >>> from jcbir.metrics import tally
        >>> float(recall_within(tally(np.array([0, 2, 2, 3]), np.array([True, False, False, True]))))
        0.5
    """
    check_counts(counts)
    radius = check_whole("radius", radius, low=0)
    xp, _, relevant = floats(counts)
    return quotient(*(xp.asarray(a.sum(-1)) for a in (relevant[..., : radius + 1], relevant)))
