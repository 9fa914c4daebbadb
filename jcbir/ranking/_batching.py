"""How the key holder cuts a batch of scores: an answer of a few hundred blocks should not be padded to twice its size.

The engine `jax` computes batches of a few fixed sizes and pads to the next; an answer has `ceil(N / lanes)` blocks,
whatever that is. 295 rows alone are padded to 512; as 256 and 39 they are padded to 320.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from jcbir.paillier import batch_slices, choose_engine


def padded_rows(count: int) -> int:
    """Rows the engine `jax` computes for a batch of `count`."""
    return sum(size for _, size in batch_slices(count))


def fill_batches(count: int) -> list[slice]:
    """Cut a batch where that leaves less padding: at the largest power of two, again and again."""
    if count < 2:
        return [slice(0, count)]
    head = 1 << ((count - 1).bit_length() - 1)
    tail = [slice(head + part.start, head + part.stop) for part in fill_batches(count - head)]
    cut = padded_rows(head) + sum(padded_rows(part.stop - part.start) for part in tail)
    return [slice(0, head), *tail] if cut < padded_rows(count) else [slice(0, count)]


def in_filled_batches(
    operation: Callable[..., UInt8[np.ndarray, "m w"]], rows: UInt8[np.ndarray, "n c"], *, engine: str
) -> UInt8[np.ndarray, "n w"]:
    """Apply `operation(rows, engine=engine)`, rows to rows, in parts that fill the engine's batches."""
    name = choose_engine(engine, count=len(rows))
    if name != "jax":
        return operation(rows, engine=name)
    return np.concatenate([operation(rows[part], engine=name) for part in fill_batches(len(rows))])
