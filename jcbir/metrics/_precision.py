"""Average precision and its mean over queries, with the convention in the name.

"mAP" alone does not name a number: published code divides by the hits inside the cut-off, by all relevant items or by
the smaller of the two, and leaves equal distances in whatever order the sort put them, which moves the mean by 1 to 2 %
on short codes. Here both are arguments, the expected value over the orders of equal distances is the default, and
`convention` spells the choice: `mAP@1000[retrieved,expected]`. The mean published with CSQ divides by the hits
`retrieved` and takes ties in the order of its sort.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Float, Integer

from jcbir.metrics._tally import check_lists, tally
from jcbir.metrics._ties import Denominator, Ties, array_module, check_options, quotient, tied_average_precision
from jcbir.typing import Array

Empty = Literal["zero", "skip"]


class MeanPrecision(NamedTuple):
    """A mean average precision that says what it is.

    Fields:
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
    check_options(denominator=denominator, ties=ties, top=top)
    check_lists(distances, relevant)
    count = distances.shape[-1]
    if top is not None and top > count:
        raise ValueError(f"top must be at most the {count} items of the database, got {top}")
    if ties != "index":
        counts = tally(distances, relevant, bits=bits)
        return tied_average_precision(counts, top=top, denominator=denominator, ties=ties)
    xp = array_module(distances, relevant)
    if not isinstance(distances, Tracer) and int(distances.min()) < 0:
        raise ValueError(f"distances must be 0 or more, got {int(distances.min())}")
    dtype = np.float64 if xp is np else jnp.float32
    hits = _hits_by_index(distances, relevant)[..., :top]
    ranks = xp.broadcast_to(xp.arange(1, hits.shape[-1] + 1, dtype=dtype), hits.shape)
    sums = (xp.cumsum(hits, -1, dtype=np.int32).astype(dtype) / ranks * hits.astype(dtype)).sum(-1)
    total = relevant.sum(-1).astype(dtype)
    if denominator == "capped" and top is not None:
        total = xp.minimum(total, top)
    divisor = hits.sum(-1).astype(dtype) if denominator == "retrieved" else total
    return quotient(xp.asarray(sums), xp.asarray(divisor))


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
    """Mean of the average precision over queries, with the convention it was computed by.

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
    if empty not in ("zero", "skip"):
        raise ValueError(f"empty must be zero or skip, got {empty!r}")
    if len(values) == 0:
        raise ValueError("values must hold at least one query, got 0")
    xp = array_module(values, relevant)
    if empty == "zero":
        return xp.asarray(values.mean())
    kept = relevant > 0
    if not isinstance(relevant, Tracer) and not kept.any():
        raise ValueError(f"empty='skip' leaves no query: none of the {len(values)} has a relevant item")
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
    check_options(denominator=denominator, ties=ties, top=top)
    rules = [denominator, ties] + (["skip"] if empty == "skip" else [])
    return f"mAP@{'all' if top is None else top}[{','.join(rules)}]"


def _hits_by_index(distances: Array, relevant: Array) -> Array:
    if array_module(distances, relevant) is np:
        # NumPy's stable sort of integers of 8 or 16 bits is a radix sort, several times faster than any other.
        narrow = distances.astype(np.min_scalar_type(int(distances.max())), copy=False)
        return np.take_along_axis(relevant, np.argsort(narrow, axis=-1, kind="stable"), -1)
    return jax.lax.sort((jnp.asarray(distances), jnp.asarray(relevant)), dimension=-1, is_stable=True, num_keys=1)[1]
