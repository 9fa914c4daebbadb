"""Merkle trees over SHA-256: a root for many leaves, and a short path that proves one of them and its place.

Leaves and nodes are hashed under different prefixes; the last node of an odd level goes up as it is.

References: Laurie, Messeri and Stradling, RFC 9162 (2021), section 2.1.
"""

import hashlib
from collections.abc import Sequence

import numpy as np


def leaf_hashes(rows: np.ndarray, *, leaves: int) -> list[bytes]:
    """A leaf for each block of rows, in order."""
    size = len(rows) // leaves
    plain = np.ascontiguousarray(rows)
    return [hashlib.sha256(b"\0" + plain[at * size : at * size + size].tobytes()).digest() for at in range(leaves)]


def _levels(leaves: Sequence[bytes]) -> list[Sequence[bytes]]:
    levels = [leaves]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = [_join(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)]
        levels.append([*pairs, *below[2 * len(pairs) :]])
    return levels


def _join(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root of at least one leaf."""
    return _levels(leaves)[-1][0]


def merkle_path(leaves: Sequence[bytes], place: int) -> tuple[bytes, ...]:
    """The siblings of a leaf on its way to the root, from below."""
    path = []
    for level in _levels(leaves)[:-1]:
        if place ^ 1 < len(level):
            path.append(level[place ^ 1])
        place //= 2
    return tuple(path)


def climb(leaf: bytes, place: int, count: int, path: Sequence[bytes]) -> bytes:
    """The root that a leaf at a place of `count` has by its path; b"" where the path has another length."""
    left = list(path)
    while count > 1:
        if place ^ 1 < count:
            if not left:
                return b""
            sibling = left.pop(0)
            leaf = _join(sibling, leaf) if place & 1 else _join(leaf, sibling)
        place, count = place // 2, (count + 1) // 2
    return b"" if left else leaf
