"""Counts of items and of relevant items by distance: all that a metric with averaged ties needs.

A Hamming distance of k-bit codes takes k + 1 values, so a ranked list of millions is k + 1 pairs of integers, found
without a sort. Tallies of disjoint parts of a database add up to the tally of the whole, which bounds memory.

NumPy arrays are counted by NumPy, JAX arrays by JAX, also under `jit` (give `bits` there).
"""

from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Float, Integer

from jcbir.typing import Array, check_array, check_whole


class Tally(NamedTuple):
    """Counts by distance: bin d of the last axis holds what lies at distance d; leading axes are queries.

    Attributes:
        items: `Integer[*b d]`, items at each distance.
        relevant: `Integer[*b d]`, relevant items at each distance, at most `items`.
    """

    items: Integer[Array, "*b d"]
    relevant: Integer[Array, "*b d"]


def tally(distances: Integer[Array, "*b n"], relevant: Bool[Array, "*b n"], *, bits: int | None = None) -> Tally:
    """Count items by distance: `items_d = #{j: distance_j = d}`, `relevant_d` the relevant ones among them.

    Args:
        distances: Distances of n database items, 0 or more.
        relevant: Which of the items are relevant.
        bits: The largest distance possible, that is the code length; None takes the largest that occurs. Needed under
            `jit`, where a distance beyond it is not counted (it cannot raise).

    Returns:
        Counts of `bits + 1` bins per query: NumPy int64 for NumPy input, JAX int32 otherwise.

    Raises:
        ValueError: shapes differ, there is no item, a distance is negative or above `bits`, or `bits` is missing
            under `jit`.

    Example:
        >>> tally(np.array([0, 2, 2]), np.array([True, False, True])).items.tolist()
        [1, 0, 2]
    """
    check_lists(distances, relevant)
    if bits is not None:
        bits = check_whole("bits", bits, low=0)
    if isinstance(distances, Tracer) or isinstance(relevant, Tracer):
        if bits is None:
            raise ValueError("bits: must be the largest distance possible under jit, got None")
    else:
        # Inside a compiled program JAX traces what is computed of an array, though the array be known.
        with jax.ensure_compile_time_eval():
            low, high = int(distances.min()), int(distances.max())
        if low < 0 or (bits is not None and high > bits):
            bounds = "at least 0" if bits is None else f"from 0 to bits={bits}"
            raise ValueError(f"distances: must be {bounds}, got {low} to {high}")
        bits = high if bits is None else bits
    if isinstance(distances, np.ndarray) and isinstance(relevant, np.ndarray):
        return _tally_numpy(distances, relevant, bits + 1)
    return _tally_jax(jnp.asarray(distances), jnp.asarray(relevant), bits + 1)


def tally_blocks(blocks: Iterable[tuple[Array, Array]], *, bits: int) -> Tally:
    """Tally of a database that comes in blocks; only one block is in memory at a time.

    Args:
        blocks: Pairs of distances `[*b n_i]` and relevance `[*b n_i]` for the same queries and successive parts of the
            database, for example a generator that computes them.
        bits: The largest distance possible.

    Returns:
        The sum of the blocks' tallies.

    Raises:
        ValueError: there is no block, or a block is not what `tally` accepts.

    Example:
        >>> d, r = np.array([[0, 1, 1, 3]]), np.array([[True, False, True, False]])
        >>> parts = ((d[:, i : i + 2], r[:, i : i + 2]) for i in (0, 2))
        >>> tally_blocks(parts, bits=3).items.tolist()
        [[1, 2, 0, 1]]
    """
    total = None
    for distances, relevant in blocks:
        part = tally(distances, relevant, bits=bits)
        total = part if total is None else Tally(total.items + part.items, total.relevant + part.relevant)
    if total is None:
        raise ValueError("blocks: must hold at least one block of the database, got none")
    return total


def check_lists(distances: Array, relevant: Array) -> None:
    """Refuse a pair of lists that is not one ranking: unequal shapes, no item, wrong types."""
    check_array("distances", distances, kind="integers", form="[..., n]")
    check_array("relevant", relevant, kind="booleans", form="[..., n]")
    if np.shape(distances) != np.shape(relevant):
        raise ValueError(
            f"relevant: must have the shape {list(distances.shape)} of distances, got {list(relevant.shape)}"
        )
    if distances.size == 0:
        raise ValueError(f"distances: must hold at least one query and one item, got {list(distances.shape)}")


def check_counts(counts: Tally) -> None:
    """Refuse what is no tally, whose bins come from elsewhere."""
    if not isinstance(counts, Tally):
        raise ValueError(f"counts: must be a Tally, got {type(counts).__name__}")
    for name, value in zip(("counts.items", "counts.relevant"), counts, strict=True):
        check_array(name, value, kind="integers", form="[..., d]")
    if np.shape(counts.items) != np.shape(counts.relevant):
        raise ValueError(
            f"counts: must have one shape, got {list(counts.items.shape)} and {list(counts.relevant.shape)}"
        )
    if any(isinstance(c, Tracer) for c in counts):
        return
    with jax.ensure_compile_time_eval():
        if bool(((counts.relevant < 0) | (counts.relevant > counts.items)).any()):
            raise ValueError("counts: must have 0 to items relevant ones at each distance, got others")


def check_top(counts: Tally, top: int, *, name: str = "top") -> int:
    """The cut-off, 1 to the number of items of the query with the fewest."""
    if isinstance(counts.items, Tracer):
        return check_whole(name, top, low=1)
    with jax.ensure_compile_time_eval():
        fewest = int(counts.items.sum(-1).min())
    return check_whole(name, top, low=1, high=fewest)


def array_module(*arrays: Array) -> ModuleType:
    """NumPy where every array is NumPy's, `jax.numpy` otherwise: host figures keep 64 bits without a JAX setting."""
    return np if all(isinstance(a, np.ndarray | np.generic) for a in arrays) else jnp


def floats(counts: Tally) -> tuple[ModuleType, Array, Array]:
    """The module that computes, and the counts in its floats: float64 on the host, float32 in JAX."""
    xp = array_module(*counts)
    items, relevant = (c.astype(np.float64 if xp is np else jnp.float32) for c in counts)
    return xp, items, relevant


def quotient(sums: Float[Array, "*b"], divisor: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Quotient that is 0 where the divisor is 0, as retrieval metrics of queries without a hit are."""
    xp = array_module(sums, divisor)
    return xp.asarray(xp.where(divisor > 0, sums / xp.where(divisor > 0, divisor, 1), 0))


def _tally_numpy(distances: np.ndarray, relevant: np.ndarray, bins: int) -> Tally:
    lists, marks = distances.reshape(-1, distances.shape[-1]), relevant.reshape(-1, relevant.shape[-1])
    # The narrowest type that holds 2 distance + 1: NumPy reads half the memory, and counts bytes fastest of all.
    narrow = np.min_scalar_type(2 * bins)
    both = np.empty((len(lists), bins, 2), np.int64)
    for i, (row, mark) in enumerate(zip(lists, marks, strict=True)):
        slots = (row.astype(narrow) << 1) | mark
        both[i] = np.bincount(slots, minlength=2 * bins).reshape(bins, 2)
    both = both.reshape(*distances.shape[:-1], bins, 2)
    return Tally(both.sum(-1), both[..., 1])


def _tally_jax(distances: jax.Array, relevant: jax.Array, bins: int) -> Tally:
    def count(row: jax.Array, mark: jax.Array) -> jax.Array:
        slot = jnp.where((row >= 0) & (row < bins), row.astype(jnp.int32) * 2 + mark.astype(jnp.int32), 2 * bins)
        return jnp.zeros(2 * bins, jnp.int32).at[slot].add(1, mode="drop")

    lists, marks = distances.reshape(-1, distances.shape[-1]), relevant.reshape(-1, relevant.shape[-1])
    both = jax.vmap(count)(lists, marks).reshape(*distances.shape[:-1], bins, 2)
    return Tally(both.sum(-1, dtype=jnp.int32), both[..., 1])
