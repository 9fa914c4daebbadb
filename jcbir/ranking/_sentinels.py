"""Sentinels: lanes of an index that hold no image but a code that owner and users know, and the server does not.

The codes derive from a masking key, the lanes are drawn; the owner tells the key holder which they are, and the user
tells it, sealed, how far the query is from each code. Scores of another query, of another index or of numbers made up
show a wrong distance in a sentinel's lane. A scheme of one lane has none: each would be a ciphertext of its own, which
protects no other.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Int

from jcbir.ranking._scheme import Layout
from jcbir.ranking._table import find_scheme

DOMAIN = b"jcbir sentinels v1"
# Two queries are equally far from one code of 64 bits once in ten times, from eight of them hardly ever.
LEAST_CODES = 8
# No more than one lane in eleven: index, scores and images grow by 10 % at most. Long blocks have several.
LEAST_SPACING, SPACING = 11, 128


def sentinel_count(layout: Layout) -> int:
    """How many codes a scheme's sentinels have, 0 if it has none; position i holds code `i mod count`."""
    if layout.lanes == 1:
        return 0
    # A multiple of the isometries: no code is seen under two of them, which would tell them apart.
    isometries = find_scheme(layout.scheme).isometries(layout)
    return isometries * -(-LEAST_CODES // isometries)


def sentinel_codes(layout: Layout, *, masking_key: bytes) -> Bool[np.ndarray, "c k"]:
    """The codes, before the isometry: bits of SHAKE-256 of the masking key of the scheme."""
    count = sentinel_count(layout)
    context = DOMAIN + layout.bits.to_bytes(2) + count.to_bytes(4)
    stream = hashlib.shake_256(context + masking_key).digest(-(-count * layout.bits // 8))
    return np.unpackbits(np.frombuffer(stream, np.uint8))[: count * layout.bits].reshape(count, layout.bits) == 1


def _spans(layouts: Sequence[Layout]) -> Iterator[int]:
    """Lengths of successive stretches of an index that have one sentinel each; nothing where no scheme has lanes."""
    lanes = min((layout.lanes for layout in layouts if layout.lanes > 1), default=0)
    if 0 < lanes < LEAST_SPACING:
        lanes *= -(-LEAST_SPACING // lanes)
    parts = max(1, -(-lanes // SPACING))
    while lanes:
        yield from (lanes * (part + 1) // parts - lanes * part // parts for part in range(parts))


def place_sentinels(count: int, layouts: Sequence[Layout], *, draw: Callable[[int], bytes]) -> Int[np.ndarray, " s"]:
    """Positions of the sentinels among `count` images, increasing: one at a random place of each stretch."""
    places, start = [], 0
    for span in _spans(layouts):
        if not count:
            break
        size = min(span, count + 1)
        places.append(start + int.from_bytes(draw(16)) % size)
        start, count = start + size, count - size + 1
    return np.array(places, np.int64)


def count_beside(positions: int, layouts: Sequence[Layout]) -> int:
    """How many images so many positions hold, the sentinels beside them counted."""
    images, left = positions, positions
    for span in _spans(layouts):
        if left <= 1:
            return images - left
        images, left = images - 1, left - span
        if left <= 0:
            break
    return images
