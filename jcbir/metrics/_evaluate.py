"""From codes and labels to the number that a paper's own script would print.

The scripts share one formula and differ in three rules that move the number in the second digit: in which order the
sort left items at equal distance, which queries the mean leaves out, and what stands for "no cut-off". A protocol is a
record of these rules. NumPy's default sort is not stable and its order of equals is its own business, so the published
number comes from the same sort of the same float32 keys; with another NumPy, or another processor, it may differ as it
would for its authors.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Integer, UInt32

from jcbir import codes
from jcbir.metrics._average_precision import MeanPrecision, convention, listed_precision, tied_average_precision
from jcbir.metrics._tally import Tally, tally
from jcbir.typing import Array, check_whole

Skipped = Literal["nothing", "unlabeled", "irrelevant", "missed"]
Order = Callable[[np.ndarray, int], np.ndarray]

# Pairs at a time: their distances, order and marks stay in a few hundred megabytes.
_PAIRS = 1 << 23


class Protocol(NamedTuple):
    """How one code base averages precision; every one divides by the hits retrieved.

    Attributes:
        source: Repository and function.
        order: (distances `[q, n]`, cut-off) -> indices `[q, top]`, nearest first; None averages over equal distances.
        skipped: Queries left out of the mean: `nothing`, `unlabeled` (no label at all), `irrelevant` (nothing relevant
            in the database) or `missed` (nothing relevant inside the cut-off). Others without a hit count as 0.
        spares_last: Whether no cut-off means `[0:-1]`, all items but the one ranked last.
    """

    source: str
    order: Order | None
    skipped: Skipped
    spares_last: bool = False


def _by_sort(distances: np.ndarray, top: int) -> np.ndarray:
    return np.argsort(distances.astype(np.float32), axis=-1)[:, :top]


def _by_partition(distances: np.ndarray, top: int) -> np.ndarray:
    keys = distances.astype(np.float32)
    chosen = np.argpartition(keys, top - 1, axis=-1)[:, :top]
    return np.take_along_axis(chosen, np.argsort(np.take_along_axis(keys, chosen, -1), axis=-1), -1)


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "jcbir": Protocol("this library: no order among equals", None, "nothing"),
        "deephash-pytorch": Protocol("swuxyj/DeepHash-pytorch, CalcTopMap", _by_sort, "nothing", spares_last=True),
        "csq": Protocol("yuanli2333/Hadamard-Matrix-for-hashing, test.py", _by_sort, "unlabeled"),
        "hashnet": Protocol("thuml/HashNet, pytorch/src/test.py", _by_sort, "missed"),
        "hashnet-caffe": Protocol("thuml/HashNet, caffe/models/predict", _by_sort, "irrelevant"),
        "deephash": Protocol("thulab/DeepHash, get_mAPs_after_sign", _by_partition, "missed"),
    }
)
"""Every protocol by the name that `evaluate` takes."""


def evaluate(
    query_codes: Any,
    database_codes: Any,
    query_labels: Any,
    database_labels: Any,
    *,
    top: int | None = None,
    protocol: str = "jcbir",
    bits: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MeanPrecision:
    """Mean average precision from codes and labels, as the code base that is named would compute it.

    `mean over queries of 1/H sum over relevant items in the top R of (hits so far) / rank`, H the hits in the top R;
    two images are relevant to each other where they share a label. It runs on the host, a block of queries at a time.

    Args:
        query_codes: One code a row: booleans, -1 and +1, or 0 and 1; packed where `bits` is given. Any array that NumPy
            can read (`__array__` or DLPack): NumPy, JAX, PyTorch.
        database_codes: Likewise.
        query_labels: Class numbers `[q]`, or one-hot or multi-hot rows `[q, c]` of 0 and 1.
        database_labels: Likewise, in the form of `query_labels`.
        top: Cut-off R, 1 to n; None ranks everything, or what the protocol means by it (see `Protocol.spares_last`).
        protocol: A name of `PROTOCOLS`.
        bits: Code length of packed codes: uint32 words as `jcbir.codes.pack` makes them, or bytes as FAISS holds them.
        progress: Called with (queries done, queries in all) after each block.

    Returns:
        The mean, its name such as `mAP@1000[csq]`, how many queries it is over, and how many found nothing relevant in
        the database.

    Raises:
        ValueError: what is no code or no label, arrays that do not fit, an unknown protocol, `top` outside 1..n, or no
            query left to average over.

    Example:
        >>> signs = np.array([[1, 1, -1, -1], [1, 1, -1, 1], [-1, -1, 1, 1]])
        >>> evaluate(signs, signs, np.array([0, 0, 1]), np.array([0, 1, 1]), top=2, protocol="hashnet")
        MeanPrecision(value=0.8333333333333334, convention='mAP@2[hashnet]', queries=3, empty=0)

    References:
        `PROTOCOLS` names the source of each.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol: must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    rule = PROTOCOLS[protocol]
    pairs = _read(query_codes, database_codes, query_labels, database_labels, bits=bits)
    queries, items = len(pairs.queries), len(pairs.database)
    cut = items - (rule.spares_last and items > 1) if top is None else check_whole("top", top, low=1, high=items)
    values, hits, relevant = (np.zeros(queries) for _ in range(3))
    for rows, distances, marks in _blocks(pairs, progress):
        relevant[rows] = marks.sum(-1)
        if rule.order is None:
            values[rows] = tied_average_precision(tally(distances, marks, bits=pairs.bits), top=cut)
        else:
            found = np.take_along_axis(marks, rule.order(distances, cut), -1)
            hits[rows] = found.sum(-1)
            values[rows] = listed_precision(found, hits[rows])
    kept = {"nothing": relevant >= 0, "unlabeled": pairs.labeled, "irrelevant": relevant > 0, "missed": hits > 0}
    chosen = kept[rule.skipped]
    if not chosen.any():
        raise ValueError(f"protocol: must leave a query to average over, got {protocol!r}, which skips all {queries}")
    name = convention(top=top) if rule.order is None else f"mAP@{_named(top, rule)}[{protocol}]"
    return MeanPrecision(float(values[chosen].mean()), name, int(chosen.sum()), int((relevant == 0).sum()))


def tally_codes(
    query_codes: Any,
    database_codes: Any,
    query_labels: Any,
    database_labels: Any,
    *,
    bits: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tally:
    """Counts by distance from codes and labels: `tally` of all pairs, a block of queries at a time, on the host.

    Args:
        query_codes: As in `evaluate`.
        database_codes: As in `evaluate`.
        query_labels: As in `evaluate`.
        database_labels: As in `evaluate`.
        bits: As in `evaluate`.
        progress: As in `evaluate`.

    Returns:
        Counts of k + 1 bins per query, from which every metric of this package but `ndcg` follows.

    Raises:
        ValueError: as `evaluate`.

    Example:
        >>> from jcbir import metrics
        >>> signs, labels = np.array([[1, 1], [1, -1], [-1, -1]]), np.array([0, 0, 1])
        >>> counts = metrics.tally_codes(signs, signs, labels, labels)
        >>> float(metrics.precision_within(counts, radius=1).mean().round(3))
        0.722
    """
    pairs = _read(query_codes, database_codes, query_labels, database_labels, bits=bits)
    parts = [tally(distances, marks, bits=pairs.bits) for _, distances, marks in _blocks(pairs, progress)]
    return Tally(*(np.concatenate(part) for part in zip(*parts, strict=True)))


class _Pairs(NamedTuple):
    """Codes and labels, checked; labels are class numbers or float32 rows."""

    queries: UInt32[np.ndarray, "q w"]
    database: UInt32[np.ndarray, "n w"]
    query_labels: np.ndarray
    database_labels: np.ndarray
    bits: int

    @property
    def labeled(self) -> Bool[np.ndarray, " q"]:
        if self.query_labels.ndim == 1:
            return np.ones(len(self.query_labels), bool)
        return np.asarray(self.query_labels.any(-1))


def _named(top: int | None, rule: Protocol) -> str:
    return str(top) if top is not None else "0:-1" if rule.spares_last else "all"


def _blocks(
    pairs: _Pairs, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[slice, Integer[np.ndarray, "b n"], Bool[np.ndarray, "b n"]]]:
    """Distances and relevance of so many queries at a time as memory allows."""
    total = len(pairs.queries)
    size = min(total, max(1, _PAIRS // len(pairs.database)))
    database = jnp.asarray(pairs.database)
    narrow = np.uint8 if pairs.bits < 256 else np.uint16 if pairs.bits < 65536 else np.int32
    for start in range(0, total, size):
        rows = slice(start, min(start + size, total))
        asked = pairs.queries[rows]
        # Padded to one shape, so that the last block is no program of its own.
        asked = np.pad(asked, [(0, size - len(asked)), (0, 0)])
        distances = np.asarray(_distances(asked, database, narrow=narrow))[: rows.stop - start]
        yield rows, distances, _shared(pairs.query_labels[rows], pairs.database_labels)
        if progress is not None:
            progress(rows.stop, total)


def _shared(labels: np.ndarray, others: np.ndarray) -> Bool[np.ndarray, "b n"]:
    """Which pairs have a label in common."""
    return labels[:, None] == others if labels.ndim == 1 else labels @ others.T > 0


def _pairwise(queries: Array, database: Array, *, narrow: Any) -> jax.Array:
    """Distances in the fewest bytes: what counts them is bound by reading."""
    return codes.pairwise(queries, database).astype(narrow)


_distances = jax.jit(_pairwise, static_argnames="narrow")


def _read(
    query_codes: Any, database_codes: Any, query_labels: Any, database_labels: Any, *, bits: int | None
) -> _Pairs:
    bits = None if bits is None else check_whole("bits", bits, low=1)
    queries, k = _packed("query_codes", query_codes, bits)
    database, other = _packed("database_codes", database_codes, bits)
    if k != other:
        raise ValueError(f"database_codes: must have the {k} bits of query_codes, got {other}")
    asked, stored = _labels("query_labels", query_labels), _labels("database_labels", database_labels)
    for name, labels, packed in (("query_labels", asked, queries), ("database_labels", stored, database)):
        if len(labels) != len(packed):
            raise ValueError(f"{name}: must be one row a code, that is {len(packed)}, got {len(labels)}")
    if asked.shape[1:] != stored.shape[1:]:
        form = ("class numbers", f"rows of {asked.shape[-1]}")[asked.ndim - 1]
        raise ValueError(f"database_labels: must be {form} like query_labels, got {list(stored.shape)}")
    return _Pairs(queries, database, asked, stored, k)


def _host(name: str, value: Any) -> np.ndarray:
    """The array on the host, whoever made it; a list is no array."""
    if hasattr(value, "__array__"):
        return np.asarray(value)
    if hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    raise ValueError(f"{name}: must be an array that NumPy can read, got {type(value).__name__}")


def _numbers(name: str, value: Any, *, form: str, ranks: tuple[int, ...]) -> np.ndarray:
    array = _host(name, value)
    real = any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating))
    if not real or array.ndim not in ranks or array.size == 0:
        raise ValueError(f"{name}: must be {form}, got {array.dtype}{list(array.shape)}")
    return array


def _packed(name: str, value: Any, bits: int | None) -> tuple[UInt32[np.ndarray, "n w"], int]:
    form = "codes [n, k] of booleans, -1/+1 or 0/1" if bits is None else "packed codes [n, w] in uint32 or uint8"
    array = _numbers(name, value, form=form, ranks=(2,))
    if bits is not None:
        if array.dtype == np.uint8:
            return codes.from_bytes(array, bits=bits), bits
        if array.dtype == np.uint32:
            return codes.from_bytes(codes.to_bytes(array, bits=bits), bits=bits), bits
        raise ValueError(f"{name}: must be {form} with bits={bits}, got {array.dtype}{list(array.shape)}")
    if array.dtype == np.uint32:
        raise ValueError(f"{name}: must come with bits= where it is packed, got {array.dtype}{list(array.shape)}")
    wrong = array[(array != 1) & (array != (-1 if (array < 0).any() else 0))]
    if wrong.size:
        raise ValueError(f"{name}: must be {form}, got {wrong.flat[0]}")
    return np.asarray(codes.pack(array > 0)), array.shape[1]


def _labels(name: str, value: Any) -> np.ndarray:
    """Class numbers as int64, rows as float32 (whose products BLAS makes)."""
    form = "class numbers [n], or rows [n, c] of 0 and 1 with c of at least 2"
    array = _numbers(name, value, form=form, ranks=(1, 2))
    if array.ndim == 2:
        wrong = array[(array != 0) & (array != 1)]
        if wrong.size or array.shape[1] < 2:
            got = wrong.flat[0] if wrong.size else f"{array.dtype}{list(array.shape)}"
            raise ValueError(f"{name}: must be {form}, got {got}")
        return array.astype(np.float32)
    if array.dtype == bool:
        raise ValueError(f"{name}: must be {form}, got booleans [n]")
    # What int64 cannot hold would become one class; a float16 cannot even be compared with its bound.
    wide = array.astype(np.float64) if array.dtype == np.float16 else array
    wrong = array[~((wide >= 0) & (wide < 2**63) & (wide == np.floor(wide)))]
    if wrong.size:
        raise ValueError(f"{name}: must be {form}, got {wrong[0]}")
    return array.astype(np.int64)
