"""Block shuffling: the server permutes the blocks of its answer, so that the key holder cannot tell which images a
distance is of.

Lanes inside a block cannot be permuted without the secret key; the owner therefore builds the index in an image order
of its own choosing. The permutation is drawn at the edge (`draw_order` from uniform bytes), used once, and never
leaves the server.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int, Integer

from jcbir.ranking._layouts import Layout
from jcbir.typing import Array


def draw_order(blocks: int, *, draw: Callable[[int], bytes]) -> Int[np.ndarray, " b"]:
    """Draw a uniform permutation of the blocks: the order of 16 random bytes per block.

    Args:
        blocks: how many blocks.
        draw: uniform random bytes, `draw(count) -> bytes` (callers pass `secrets.token_bytes`).

    Returns:
        int[blocks], a permutation (uniform but for ties of 128-bit numbers).

    Raises:
        ValueError: `blocks` below 1.

    Example:
        >>> import secrets
        >>> sorted(draw_order(4, draw=secrets.token_bytes).tolist())
        [0, 1, 2, 3]

    """
    if blocks < 1:
        raise ValueError(f"blocks: must be at least 1, got {blocks}")
    words = np.frombuffer(draw(16 * blocks), ">u8").reshape(blocks, 2)
    return np.lexsort((words[:, 0], words[:, 1]))


def check_order(order: Integer[np.ndarray, " b"], *, blocks: int) -> Int[np.ndarray, " b"]:
    """Refuse an order that is no permutation of the blocks.

    Args:
        order: the order to check.
        blocks: how many blocks.

    Returns:
        The order as int64[blocks].

    Raises:
        ValueError: not a permutation of `0..blocks-1`.

    Example:
        >>> check_order(np.array([2, 0, 1]), blocks=3).tolist()
        [2, 0, 1]

    """
    values = np.asarray(order, np.int64)
    if values.shape != (blocks,) or not np.array_equal(np.sort(values), np.arange(blocks)):
        raise ValueError(f"order: must be a permutation of 0..{blocks - 1}, got shape {values.shape}")
    return values


def shuffle_live(
    live: Bool[np.ndarray, " n"] | None, order: Int[np.ndarray, " b"], layout: Layout
) -> Bool[np.ndarray, " s"]:
    """Which lanes hold an image after shuffling, those beyond the last image being empty.

    Args:
        live: bool[count] marks of the index, or None.
        order: permutation of the blocks.
        layout: the layout of the index.

    Returns:
        bool[slots] in shuffled order.

    Example:
        >>> layout = Layout("packed", 8, 3, 32, 3, 2, 2)
        >>> shuffle_live(None, np.array([1, 0]), layout).tolist()
        [True, False, True, True]

    """
    slots = np.zeros(layout.slots, bool)
    slots[: layout.count] = True if live is None else live
    return slots.reshape(layout.blocks, layout.lanes)[order].reshape(-1)


def restore(distances: Integer[Array, " s"], order: Int[np.ndarray, " b"], layout: Layout) -> Integer[np.ndarray, " n"]:
    """Put the distances of a shuffled answer back into the order of the index: undoes `order` exactly.

    Args:
        distances: distances of all slots in shuffled order.
        order: the permutation the server used.
        layout: the layout of the index.

    Returns:
        Distances of the `count` images in index order, `DEAD` where deleted.

    Example:
        >>> restore(np.array([7, 0, 1, 2]), np.array([1, 0]), Layout("packed", 8, 3, 32, 3, 2, 2)).tolist()
        [1, 2, 7]

    """
    blocks = np.asarray(distances).reshape(layout.blocks, layout.lanes)
    return blocks[np.argsort(order)].reshape(-1)[: layout.count]


def locate(positions: Integer[Array, " m"], order: Int[np.ndarray, " b"], layout: Layout) -> Int[np.ndarray, " m"]:
    """Turn positions in a shuffled answer into positions in the index.

    Args:
        positions: slots of the shuffled answer, as the key holder ranked them.
        order: the permutation the server used.
        layout: the layout of the index.

    Returns:
        int[m] positions in the index.

    Raises:
        ValueError: a position that is no image of the index.

    Example:
        >>> locate(np.array([0, 3]), np.array([1, 0]), Layout("packed", 8, 3, 32, 3, 2, 2)).tolist()
        [2, 1]

    """
    slots = np.asarray(positions)
    if slots.size and not (slots.min() >= 0 and slots.max() < layout.slots):
        raise ValueError(f"positions: must be 0..{layout.slots - 1}, got {slots.min()}..{slots.max()}")
    found = order[slots // layout.lanes] * layout.lanes + slots % layout.lanes
    if slots.size and found.max() >= layout.count:
        raise ValueError(f"positions: slot beyond the last of {layout.count} images")
    return found
