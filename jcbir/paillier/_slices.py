"""How the `jax` engine cuts a batch: slices of a handful of sizes, computed as many at a time as there are cores."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jaxtyping import Integer, UInt8

from jcbir.typing import Array

# Beyond 256 numbers the residues of a product outgrow a core's own cache, and each number takes longer, not shorter.
BATCHES = (64, 128, 256)
# On an H100 a number of 3072 bits takes as long in a batch of 2048 as in one of 4096: the arithmetic is busy then.
ACCELERATOR_BATCHES = (64, 512, 2048)


def batch_slices(count: int) -> Iterator[tuple[slice, int]]:
    """Cut a batch into slices, each with the padded size it is computed at.

    Args:
        count: numbers in the batch.

    Returns:
        Slices that cover it in order, and their sizes from a short fixed list.

    Example:
        >>> sum(part.stop - part.start for part, _ in batch_slices(600))
        600
    """
    sizes = BATCHES if jax.default_backend() == "cpu" else ACCELERATOR_BATCHES
    for start in range(0, count, sizes[-1]):
        stop = min(start + sizes[-1], count)
        yield slice(start, stop), next(size for size in sizes if size >= stop - start)


def over_slices(compute: Callable[[slice, int], Any], count: int) -> list[Any]:
    """Compute the slices of a batch, as many at a time as there are cores.

    XLA runs one program of this size on little more than one core whatever its threads, and releases the interpreter
    meanwhile: two slices side by side take hardly longer than one.

    Args:
        compute: from a slice and its padded size to NumPy values; called with 64 bits enabled.
        count: numbers in the batch.

    Returns:
        The values, in the order of the slices.

    Example:
        >>> sum(over_slices(lambda part, size: part.stop - part.start, 600))
        600
    """

    def run(piece: tuple[slice, int]) -> Any:
        # The width of JAX's numbers is a setting of each thread.
        with jax.enable_x64(True):
            return compute(*piece)

    slices = list(batch_slices(count))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(min(len(slices), cores)) as threads:
        return list(threads.map(run, slices))


def padded(rows: Integer[Array, "n w"], size: int) -> Integer[np.ndarray, "m w"]:
    """Repeat the last row until there are `size`.

    Args:
        rows: at least one row.
        size: rows to give.

    Returns:
        The longer array.

    Example:
        >>> padded(np.array([[1, 2]]), 3).tolist()
        [[1, 2], [1, 2], [1, 2]]
    """
    return np.pad(np.asarray(rows), ((0, size - len(rows)), (0, 0)), mode="edge")


def in_batches(
    compute: Callable[..., Array], inputs: Sequence[Integer[Array, "n _"]], width: int
) -> UInt8[np.ndarray, "n w"]:
    """Run a compiled function over slices of its inputs and collect rows.

    Args:
        compute: from padded inputs to rows.
        inputs: arrays of n rows.
        width: bytes of a row of the result.

    Returns:
        Rows of shape [n, width].

    Example:
        >>> in_batches(lambda x: x, [np.array([[3, 2], [0, 1]], np.uint8)], 2).tolist()
        [[3, 2], [0, 1]]
    """
    count = len(inputs[0])
    if not count:
        return np.zeros((0, width), np.uint8)

    def rows(part: slice, size: int) -> np.ndarray:
        return np.asarray(compute(*(padded(array[part], size) for array in inputs)))[: part.stop - part.start]

    return np.concatenate(over_slices(rows, count))
