"""From decrypted score plaintexts to distances, for the key holder and for the user who took off a pad."""

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from jcbir.ranking import bitsliced, integer, packed
from jcbir.ranking._layouts import DEAD, Layout


def decode_scores(
    plaintexts: UInt8[np.ndarray, "b w"],
    layout: Layout,
    *,
    modulus: int,
    live: Bool[np.ndarray, " s"] | None = None,
) -> Int32[np.ndarray, " n"]:
    """Decode decrypted scores of a whole index.

    Args:
        plaintexts: one number per block, big-endian.
        layout: the layout of the index.
        modulus: the Paillier modulus n.
        live: which lanes hold an image, as `Scores.live`.

    Returns:
        int32[count], or int32[slots] of a shuffled answer: Hamming distances 0..k, for `integer` dense ranks of
        `|difference|`; `DEAD` where no image is.

    Raises:
        ValueError: a number that is not a score of this layout (the wrong key, a pad not taken off), or another number
            of rows or marks than the layout has.

    Example:
        >>> layout = Layout("bitsliced", 8, 2, 16, 9, 2, 1)
        >>> decode_scores(np.array([[0, 9 * 5 + 3]], np.uint8), layout, modulus=255).tolist()
        [3, 5]

    """
    if len(plaintexts) != layout.blocks:
        raise ValueError(f"plaintexts: must be {layout.blocks} rows as the layout has blocks, got {len(plaintexts)}")
    if live is not None and len(live) not in (layout.count, layout.slots):
        raise ValueError(f"live: must mark {layout.count} images or {layout.slots} slots, got {len(live)}")
    if layout.scheme == "integer":
        values = integer.differences(plaintexts, modulus=modulus)
        bound = (1 << layout.bits) - 1
        if any(abs(value) > bound for value in values):
            raise ValueError(f"plaintexts: a difference beyond +-{bound}; these are not scores of this layout and key")
        return _integer_ranks(values, live)
    slots = {"packed": packed, "bitsliced": bitsliced}[layout.scheme].decode(plaintexts, layout)
    if live is None:
        return slots[: layout.count]
    return np.where(live, slots[: len(live)], DEAD).astype(np.int32)


def _integer_ranks(values: list[int], live: np.ndarray | None) -> np.ndarray:
    """Ranks among the live images only; one lane per block, so `count` and `slots` are the same."""
    if live is None:
        return integer.magnitude_ranks(values)
    ranks = np.full(len(values), DEAD, np.int32)
    positions = np.flatnonzero(live)
    ranks[positions] = integer.magnitude_ranks([values[i] for i in positions])
    return ranks
