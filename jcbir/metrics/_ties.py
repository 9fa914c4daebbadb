"""Average precision of a ranking with ties, in closed form from the counts by distance.

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

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Float

from jcbir.metrics._tally import Tally
from jcbir.typing import Array

Denominator = Literal["retrieved", "relevant", "capped"]
Ties = Literal["expected", "index", "best", "worst"]

DENOMINATORS = ("retrieved", "relevant", "capped")
TIES = ("expected", "index", "best", "worst")


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
    check_options(denominator=denominator, ties=ties, top=top)
    if ties == "index":
        raise ValueError("ties must be expected, best or worst: a tally has forgotten the index order")
    xp = array_module(*counts)
    if top is not None and not isinstance(counts.items, Tracer) and (counts.items.sum(-1) < top).any():
        raise ValueError(f"top must be at most the number of items {int(counts.items.sum(-1).min())}, got {top}")
    n, r = (c.astype(np.float64 if xp is np else jnp.float32) for c in counts)
    places = Places(n, r, xp.cumsum(n, -1) - n, xp.cumsum(r, -1) - r)
    m = n if top is None else xp.clip(top - places.before, 0, n)
    if ties == "expected" and denominator == "retrieved" and top is not None:
        return _expected_quotient(xp, places, m, int(top))
    if ties == "expected":
        hits, sums = r, _expected_sum(xp, places, m)
    else:
        ahead = xp.zeros_like(n) if ties == "best" else n - r
        hits = xp.clip(m - ahead, 0, r)
        start = places.before + ahead
        sums = hits + (places.hits_before - start) * harmonic(start, hits)
    divisor = (hits if denominator == "retrieved" else r).sum(-1)
    if denominator == "capped" and top is not None:
        divisor = xp.minimum(divisor, top)
    return quotient(xp.asarray(sums.sum(-1)), xp.asarray(divisor))


class Places(NamedTuple):
    """Bins of a ranking as floats, last axis by distance.

    Fields:
        items: n, items in the bin.
        relevant: r, relevant items in the bin.
        before: N, items nearer than the bin.
        hits_before: R, relevant items nearer than the bin.
    """

    items: Array
    relevant: Array
    before: Array
    hits_before: Array


def check_options(*, denominator: str, ties: str, top: int | None) -> None:
    """Refuse an option of the average precision that has no meaning.

    Args:
        denominator: One of `DENOMINATORS`.
        ties: One of `TIES`.
        top: None or at least 1.

    Returns:
        Nothing.

    Raises:
        ValueError: naming the option, what it may be and what came.

    Example:
        >>> check_options(denominator="retrieved", ties="expected", top=None)
    """
    if denominator not in DENOMINATORS:
        raise ValueError(f"denominator must be one of {', '.join(DENOMINATORS)}, got {denominator!r}")
    if ties not in TIES:
        raise ValueError(f"ties must be one of {', '.join(TIES)}, got {ties!r}")
    if top is not None and top < 1:
        raise ValueError(f"top must be at least 1, got {top}")


def harmonic(start: Float[Array, "*b"], count: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Sum of consecutive reciprocals, `h(N, m) = 1/(N+1) + ... + 1/(N+m)`, without a table.

    Eight terms are added as they are; the rest is the difference of two digamma values by their asymptotic series about
    x + 1/2, which is off by less than 1e-11 there and does not cancel, so that float32 keeps its precision.

    Args:
        start: N, whole numbers from 0.
        count: m, whole numbers from 0.

    Returns:
        The sums, in the type of the input.

    Example:
        >>> np.round(harmonic(np.array([1.0]), np.array([2.0])), 12).tolist()  # 1/2 + 1/3
        [0.833333333333]

    References:
        Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, eq. 6.3.18, here about the half point.
    """
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


def quotient(sums: Float[Array, "*b"], divisor: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Quotient that is 0 where the divisor is 0, as retrieval metrics of queries without a hit are.

    Args:
        sums: Dividends.
        divisor: Divisors, 0 or more.

    Returns:
        `sums / divisor`, 0 where `divisor` is 0.

    Example:
        >>> quotient(np.array([1.0, 0.0]), np.array([4.0, 0.0])).tolist()
        [0.25, 0.0]
    """
    xp = array_module(sums, divisor)
    return xp.asarray(xp.where(divisor > 0, sums / xp.where(divisor > 0, divisor, 1), 0))


def array_module(*arrays: Array) -> ModuleType:
    """NumPy where every array is NumPy's, `jax.numpy` otherwise: host figures keep 64 bits without a JAX setting.

    Args:
        *arrays: What the caller was given.

    Returns:
        The module `numpy` or `jax.numpy`.

    Example:
        >>> array_module(np.zeros(2)).__name__
        'numpy'
    """
    return np if all(isinstance(a, np.ndarray | np.generic) for a in arrays) else jnp


def _expected_sum(xp: ModuleType, places: Places, m: Array) -> Array:
    n, r, before, hits_before = places
    s = xp.where(n > 1, (r - 1) / xp.maximum(n - 1, 1), 0)
    return r / xp.maximum(n, 1) * ((hits_before + 1 - s - s * before) * harmonic(before, m) + s * m)


def _expected_quotient(xp: ModuleType, places: Places, m: Array, top: int) -> Array:
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
    sums = _expected_sum(xp, Places(spread[0], t, spread[1], spread[2]), spread[0])
    values = (weights * quotient(whole + sums, spread[2] + t)).sum(-1)
    return quotient(xp.asarray(values), xp.asarray(weights.sum(-1)))
