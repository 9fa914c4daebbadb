"""Average precision and its mean over queries, with the convention in the name.

"mAP" alone does not name a number: published code divides by the hits inside the cut-off, by all relevant items or by
the smaller of the two, and leaves equal distances in whatever order the sort put them, which moves the mean by 1 to 2 %
on short codes. Here both are arguments, the expected value over the orders of equal distances is the default, and
`convention` spells the choice: `mAP@1000[retrieved,expected]`. The mean published with CSQ divides by the hits
`retrieved` and takes ties in the order of its sort.

Items at one distance have no order of their own. Write, for one bin: n items, r of them relevant, N items and R
relevant ones nearer than the bin, and m the places of the bin that lie inside the cut-off (m = n but in the last bin).
Averaged over all orders of the bin, the sum of precisions at the relevant items among its first m places is

    sum_{i=1..m} r/n (R + 1 + (i - 1) s) / (N + i) = r/n ((R + 1 - s - s N) h(N, m) + s m),   s = (r - 1) / (n - 1),

with h(N, m) = 1/(N+1) + ... + 1/(N+m): a hit at place i has, on average, s (i - 1) other hits of its bin before it.
Dividing by the hits *retrieved* needs more care where the cut-off falls inside a bin, because the divisor is random
too: given that t of the r hits fall into the first m places (hypergeometric), the bin is again one of m items with t
hits, and the average over t is taken of the quotient.
"""

from types import ModuleType
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Float, Integer

from jcbir.metrics._tally import Tally, array_module, check_counts, check_lists, check_top, floats, quotient, tally
from jcbir.typing import Array, check_array, check_whole

Denominator = Literal["retrieved", "relevant", "capped"]
Ties = Literal["expected", "index", "best", "worst"]
Empty = Literal["zero", "skip"]

DENOMINATORS = ("retrieved", "relevant", "capped")
TIES = ("expected", "index", "best", "worst")


class MeanPrecision(NamedTuple):
    """A mean average precision that says what it is.

    Attributes:
        value: The mean, 0 to 1.
        convention: For example `mAP@1000[retrieved,expected]`.
        queries: Queries averaged over.
        empty: Queries without a relevant item in the database.
    """

    value: float
    convention: str
    queries: int
    empty: int


def average_precision(
    distances: Integer[Array, "*b n"],
    relevant: Bool[Array, "*b n"],
    *,
    top: int | None = None,
    denominator: Denominator = "retrieved",
    ties: Ties = "expected",
    bits: int | None = None,
) -> Float[Array, "*b"]:
    """Average precision of ranked lists: `AP = 1/D sum over relevant items in the top R of (hits so far) / rank`.

    Args:
        distances: Distances of the n database items, 0 or more.
        relevant: Which items are relevant.
        top: Cut-off R, 1 to n; None ranks everything.
        denominator: D: `retrieved` the relevant items inside the top R, `relevant` all relevant items, `capped` the
            smaller of R and all relevant items. One and the same when `top` is None.
        ties: `expected` averages over all orders of equal distances, in closed form; `index` keeps the order of the
            database; `best` puts relevant items first among equals, `worst` last.
        bits: The largest distance possible; needed under `jit` only (not for `index`).

    Returns:
        AP per query, 0 to 1; 0 where nothing relevant is in the top R. NumPy float64 for NumPy input, JAX float32 else.

    Raises:
        ValueError: an unknown option, `top` outside 1..n, or lists that do not fit or hold no item.

    Example:
        >>> d, r = np.array([3, 1, 1]), np.array([True, True, False])
        >>> float(average_precision(d, r, ties="index"))  # (1/1 + 2/3) / 2
        0.8333333333333333
        >>> round(float(average_precision(d, r, ties="worst")), 6)  # (1/2 + 2/3) / 2
        0.583333

    References:
        McSherry and Najork, Computing information retrieval performance measures efficiently in the presence of tied
        scores, ECIR 2008; He et al., Hashing as tie-aware learning to rank, CVPR 2018.
    """
    _check_options(denominator=denominator, ties=ties, top=top)
    check_lists(distances, relevant)
    count = distances.shape[-1]
    if top is not None:
        top = check_whole("top", top, low=1, high=count)
    if ties != "index":
        counts = tally(distances, relevant, bits=bits)
        return tied_average_precision(counts, top=top, denominator=denominator, ties=ties)
    xp = array_module(distances, relevant)
    if not isinstance(distances, Tracer):
        with jax.ensure_compile_time_eval():
            low = int(distances.min())
        if low < 0:
            raise ValueError(f"distances: must be 0 or more, got {low}")
    hits = _hits_by_index(distances, relevant)[..., :top]
    total = hits.sum(-1) if denominator == "retrieved" else relevant.sum(-1)
    capped = denominator == "capped" and top is not None
    return listed_precision(hits, xp.asarray(xp.minimum(total, top) if capped else total))


def mean_average_precision(
    distances: Integer[Array, "q n"],
    relevant: Bool[Array, "q n"],
    *,
    top: int | None = None,
    denominator: Denominator = "retrieved",
    ties: Ties = "expected",
    empty: Empty = "zero",
    bits: int | None = None,
) -> MeanPrecision:
    """Mean of the average precision over queries, with the convention it was computed by; a number on the host.

    Args:
        distances: Distances of n database items to q queries.
        relevant: Which items are relevant to which query.
        top: As in `average_precision`.
        denominator: As in `average_precision`.
        ties: As in `average_precision`.
        empty: A query without any relevant item counts as 0 (`zero`) or is left out (`skip`).
        bits: As in `average_precision`.

    Returns:
        The mean and its name.

    Raises:
        ValueError: as `average_precision`; also when `skip` leaves no query.

    Example:
        >>> d, r = np.array([[0, 1], [0, 1]]), np.array([[True, False], [False, False]])
        >>> mean_average_precision(d, r, top=1, empty="skip")
        MeanPrecision(value=1.0, convention='mAP@1[retrieved,expected,skip]', queries=1, empty=1)
    """
    if np.ndim(distances) != 2:
        raise ValueError(f"distances: must be integers [q, n], got {np.ndim(distances)} axes")
    name = convention(top=top, denominator=denominator, ties=ties, empty=empty)
    values = average_precision(distances, relevant, top=top, denominator=denominator, ties=ties, bits=bits)
    counts = relevant.sum(-1)
    without = int((counts == 0).sum())
    mean = float(mean_over_queries(values, counts, empty=empty))
    return MeanPrecision(mean, name, len(counts) - (without if empty == "skip" else 0), without)


def mean_over_queries(
    values: Float[Array, "q"], relevant: Integer[Array, "q"], *, empty: Empty = "zero"
) -> Float[Array, ""]:
    """Mean of a per-query metric, with a rule for the queries that have nothing to find.

    Args:
        values: The metric, per query.
        relevant: How many relevant items the database holds, per query.
        empty: Queries with 0 of them count with their value (`zero`, as their AP is) or are left out (`skip`).

    Returns:
        The mean.

    Raises:
        ValueError: there is no query to average over, or `empty` is unknown.

    Example:
        >>> float(mean_over_queries(np.array([0.5, 0.0]), np.array([3, 0]), empty="skip"))
        0.5
    """
    _check_empty(empty)
    check_array("values", values, kind="floats", form="[q]", rank=1)
    check_array("relevant", relevant, kind="integers", form="[q]", rank=1)
    if len(values) == 0 or len(values) != len(relevant):
        raise ValueError(
            f"values, relevant: must be one a query, of at least one, got {len(values)} and {len(relevant)}"
        )
    xp = array_module(values, relevant)
    if empty == "zero":
        return xp.asarray(values.mean())
    kept = relevant > 0
    if not isinstance(relevant, Tracer):
        with jax.ensure_compile_time_eval():
            left = bool((relevant > 0).any())
        if not left:
            raise ValueError(
                f"empty: must leave a query, got {empty!r}, and none of the {len(values)} has a relevant item"
            )
    return quotient(xp.asarray(xp.where(kept, values, 0).sum()), xp.asarray(kept.sum(), values.dtype))


def convention(
    *,
    top: int | None = None,
    denominator: Denominator = "retrieved",
    ties: Ties = "expected",
    empty: Empty = "zero",
) -> str:
    """Name of a mean average precision: what to print beside the number.

    Args:
        top: Cut-off R or None.
        denominator: As in `average_precision`.
        ties: As in `average_precision`.
        empty: As in `mean_average_precision`; printed only where it is `skip`.

    Returns:
        `mAP@R[denominator,ties]`, with `all` for no cut-off.

    Raises:
        ValueError: an unknown option.

    Example:
        >>> convention(top=1000)
        'mAP@1000[retrieved,expected]'
    """
    _check_options(denominator=denominator, ties=ties, top=top)
    _check_empty(empty)
    rules = [denominator, ties] + (["skip"] if empty == "skip" else [])
    return f"mAP@{'all' if top is None else top}[{','.join(rules)}]"


def tied_average_precision(
    counts: Tally,
    *,
    top: int | None = None,
    denominator: Denominator = "retrieved",
    ties: Literal["expected", "best", "worst"] = "expected",
) -> Float[Array, "*b"]:
    """Average precision from a tally: `AP = 1/D sum over relevant items in the top R of precision at their rank`.

    Args:
        counts: Items and relevant items by distance.
        top: Cut-off R; None ranks everything.
        denominator: D: `retrieved` the relevant items inside the top R (0 of them gives AP 0), `relevant` all relevant
            items, `capped` the smaller of R and all relevant items.
        ties: `expected` averages over all orders of equal distances; `best` puts relevant items first among equals,
            `worst` last. With `retrieved`, `best` can be below `worst`: a late hit lowers a mean over hits.

    Returns:
        AP per query, 0 to 1; 0 where a query has no relevant item. NumPy float64 for a NumPy tally, JAX float32 else.

    Raises:
        ValueError: an unknown denominator or tie rule, or `top` below 1 or above the number of items.

    Example:
        >>> from jcbir.metrics import tally
        >>> counts = tally(np.array([1, 1]), np.array([True, False]))
        >>> float(tied_average_precision(counts))  # (1/1 + 1/2) / 2
        0.75

    References:
        McSherry and Najork, Computing information retrieval performance measures efficiently in the presence of tied
        scores, ECIR 2008 (averages over the orders of a bin); He et al., Hashing as tie-aware learning to rank, 2018.
    """
    _check_options(denominator=denominator, ties=ties, top=top)
    if ties == "index":
        raise ValueError("ties: must be expected, best or worst, got 'index', which a tally has forgotten")
    check_counts(counts)
    top = None if top is None else check_top(counts, top)
    xp, n, r = floats(counts)
    places = _Places(n, r, xp.cumsum(n, -1) - n, xp.cumsum(r, -1) - r)
    m = n if top is None else xp.clip(top - places.before, 0, n)
    if ties == "expected" and denominator == "retrieved" and top is not None:
        return _expected_quotient(xp, places, m, top)
    if ties == "expected":
        hits, sums = r, _expected_sum(xp, places, m)
    else:
        ahead = xp.zeros_like(n) if ties == "best" else n - r
        hits = xp.clip(m - ahead, 0, r)
        start = places.before + ahead
        sums = hits + (places.hits_before - start) * _harmonic(start, hits)
    divisor = (hits if denominator == "retrieved" else r).sum(-1)
    if denominator == "capped" and top is not None:
        divisor = xp.minimum(divisor, top)
    return quotient(xp.asarray(sums.sum(-1)), xp.asarray(divisor))


def listed_precision(hits: Bool[Array, "*b r"], divisor: Array) -> Float[Array, "*b"]:
    """Sum of the precisions at the hits of a list in its order, over the divisor; 0 where that is 0."""
    xp = array_module(hits)
    dtype = np.float64 if xp is np else jnp.float32
    ranks = xp.broadcast_to(xp.arange(1, hits.shape[-1] + 1, dtype=dtype), hits.shape)
    sums = (xp.cumsum(hits, -1, dtype=np.int32).astype(dtype) / ranks * hits.astype(dtype)).sum(-1)
    return quotient(xp.asarray(sums), divisor.astype(dtype))


def _hits_by_index(distances: Array, relevant: Array) -> Array:
    if array_module(distances, relevant) is np:
        # NumPy's stable sort of integers of 8 or 16 bits is a radix sort, several times faster than any other.
        narrow = distances.astype(np.min_scalar_type(int(distances.max())), copy=False)
        return np.take_along_axis(relevant, np.argsort(narrow, axis=-1, kind="stable"), -1)
    return jax.lax.sort((jnp.asarray(distances), jnp.asarray(relevant)), dimension=-1, is_stable=True, num_keys=1)[1]


class _Places(NamedTuple):
    """Bins of a ranking as floats, last axis by distance.

    Attributes:
        items: n, items in the bin.
        relevant: r, relevant items in the bin.
        before: N, items nearer than the bin.
        hits_before: R, relevant items nearer than the bin.
    """

    items: Array
    relevant: Array
    before: Array
    hits_before: Array


def _check_options(*, denominator: str, ties: str, top: int | None) -> None:
    if denominator not in DENOMINATORS:
        raise ValueError(f"denominator: must be one of {', '.join(DENOMINATORS)}, got {denominator!r}")
    if ties not in TIES:
        raise ValueError(f"ties: must be one of {', '.join(TIES)}, got {ties!r}")
    if top is not None:
        check_whole("top", top, low=1)


def _check_empty(empty: str) -> None:
    if empty not in ("zero", "skip"):
        raise ValueError(f"empty: must be zero or skip, got {empty!r}")


def _harmonic(start: Float[Array, "*b"], count: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Sum of consecutive reciprocals, `h(N, m) = 1/(N+1) + ... + 1/(N+m)`, without a table."""
    # Eight terms are added as they are; the rest is the difference of two digamma values by their asymptotic series
    # about x + 1/2 (Abramowitz and Stegun 6.3.18, here about the half point), which is off by less than 1e-11 there and
    # does not cancel, so that float32 keeps its precision.
    xp = array_module(start, count)
    total = xp.zeros_like(start)
    for i in range(1, 9):
        total = total + xp.where(count >= i, 1 / (start + i), 0)
    x = start + 8.5
    rest = xp.maximum(count - 8, 0)

    def correction(y: Array) -> Array:
        z = 1 / (y * y)
        return z * (1 / 24 - z * (7 / 960 - z * (31 / 8064 - z * (127 / 30720))))

    return xp.asarray(total + (xp.log1p(rest / x) + (correction(x + rest) - correction(x))))


def _expected_sum(xp: ModuleType, places: _Places, m: Array) -> Array:
    n, r, before, hits_before = places
    s = xp.where(n > 1, (r - 1) / xp.maximum(n - 1, 1), 0)
    return r / xp.maximum(n, 1) * ((hits_before + 1 - s - s * before) * _harmonic(before, m) + s * m)


def _expected_quotient(xp: ModuleType, places: _Places, m: Array, top: int) -> Array:
    n, r, before, _ = places
    whole = xp.where(m == n, _expected_sum(xp, places, m), 0).sum(-1, keepdims=True)
    found = xp.where(m == n, r, 0).sum(-1, keepdims=True)
    # At most one bin is cut; a query without one gets a bin of no items, and the sum over t has its one term t = 0.
    cut = (m > 0) & (m < n)
    n, r, before, m = (xp.where(cut, a, 0).sum(-1, keepdims=True) for a in (n, r, before, m))
    low, high = xp.maximum(m - (n - r), 0), xp.minimum(r, m)
    steps = int(high.max()) if xp is np else top
    t = xp.broadcast_to(xp.arange(steps + 1, dtype=n.dtype), (*n.shape[:-1], steps + 1))
    inside = (t >= low) & (t <= high)
    # Hypergeometric weights by the ratio of neighbors, whose logs sum without the cancellation of large factorials.
    ratio = (r - t + 1) * (m - t + 1) / (xp.maximum(t, 1) * xp.maximum(n - r - m + t, 1))
    logs = xp.cumsum(xp.where(inside & (t > low), xp.log(xp.where(ratio > 0, ratio, 1)), 0), -1)
    peak = xp.where(inside, logs, -xp.inf).max(-1, keepdims=True)
    weights = xp.where(inside, xp.exp(xp.where(inside, logs - peak, 0)), 0)
    spread = [xp.broadcast_to(a, t.shape) for a in (m, before, found)]
    sums = _expected_sum(xp, _Places(spread[0], t, spread[1], spread[2]), spread[0])
    values = (weights * quotient(whole + sums, spread[2] + t)).sum(-1)
    return quotient(xp.asarray(values), xp.asarray(weights.sum(-1)))
