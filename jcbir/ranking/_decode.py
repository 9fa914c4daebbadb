"""From decrypted scores to distances and an order: no secret is needed once the rows are decrypted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, Integer

from jcbir.ranking._scheme import Layout, Scores, check_whole
from jcbir.ranking._table import find_scheme
from jcbir.typing import Array

DEAD = np.iinfo(np.int32).max
"""Distance of an image that is not to be found (withdrawn): after every real distance, never ranked."""


def rows_to_decrypt(scores: Scores, *, hint: np.ndarray | None = None, opening: np.ndarray | None = None) -> np.ndarray:
    """What the closure `decrypt` is given: each score, behind it its block's hint and its query's opening."""
    rows, width = find_scheme(scores.layout.scheme).shapes(scores.layout).scores
    if scores.ciphertexts.shape != (rows, width):
        raise ValueError(f"scores: must be {rows} x {width} bytes, got {scores.ciphertexts.shape}")
    if hint is None and opening is None:
        return scores.ciphertexts
    if hint is not None and len(hint) != rows:
        raise ValueError(f"hint: must be {rows} rows, one for each score, got {len(hint)}")
    parts = (hint, None if opening is None else np.repeat(opening, rows, axis=0))
    return np.concatenate([scores.ciphertexts, *(part for part in parts if part is not None)], axis=1)


def decode_scores(pieces: Sequence[tuple[Layout, np.ndarray]], *, public: Any) -> Int32[np.ndarray, " n"]:
    """Decode one query's decrypted scores of every segment, pairs of layout and rows, into distances that compare."""
    if not pieces or len({(layout.scheme, layout.bits) for layout, _ in pieces}) != 1:
        raise ValueError(f"pieces: must be at least one, all of one scheme and length, got {len(pieces)}")
    scheme = find_scheme(pieces[0][0].scheme)
    for layout, plaintexts in pieces:
        rows = scheme.shapes(layout).plaintexts
        if len(plaintexts) != rows:
            raise ValueError(f"plaintexts: must be {rows} rows as the layout has, got {len(plaintexts)}")
    return scheme.decode(pieces, public)


def rank(distances: Integer[Array, " n"], *, top: int) -> Int32[np.ndarray, " m"]:
    """Positions of the nearest images, equal distances by lower position; `DEAD` images never appear.

    Args:
        distances: distances of n images.
        top: how many positions to return at most.

    Returns:
        int32[m] positions, `m = min(top, images that are not dead)`.

    Raises:
        ValueError: `top` is no whole number of at least 1.

    Example:
        >>> rank(np.array([3, 1, DEAD, 1]), top=3).tolist()
        [1, 3, 0]

    """
    top = check_whole(top, name="top", low=1)
    values = np.asarray(distances)
    live = np.flatnonzero(values != DEAD)
    kept = values[live]
    if top < len(kept):
        # Everything up to the top-th smallest value, then a stable sort of that small part.
        bound = np.partition(kept, top - 1)[top - 1]
        near = np.flatnonzero(kept <= bound)
        live, kept = live[near], kept[near]
    return live[np.argsort(kept, kind="stable")[:top]].astype(np.int32)
