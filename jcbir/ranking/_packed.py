"""Packed slots: many codes per ciphertext, one digit per bit, both index and query encrypted.

Plaintext b of the index is `sum_l sum_j h_(bL + l, j) base^(k l + j)`; the query holds the digits `1 - q` in every
lane; their homomorphic sum has the digits `h - q + 1`, 0 or 2 where the bits differ and 1 where they agree, so no digit
ever carries into the next:

`distance = #{j : h_j - q_j + 1 != 1}`

In base 3 every digit value is used: with both sides encrypted and no interaction the key holder must receive one of
three values per bit, and log2(3) bits is what they cost. The key holder sees WHERE and in which direction each code
differs from the query, in the coordinates of the keyed isometry. Each lane has an isometry of its own, so these are
other coordinates in each lane: `align_lanes` computes what remains.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int8, Int32

from jcbir.paillier.public import PublicKey
from jcbir.ranking import _digits
from jcbir.ranking._radix import compose, split
from jcbir.ranking._scheme import (
    Index,
    Layout,
    Leakage,
    Operations,
    Scheme,
    Seen,
    Trapdoor,
    Work,
    hamming_distances,
)


def _plan(public: PublicKey, *, count: int, bits: int, base: int | None) -> Layout:
    return _digits.plan_digits(
        public, scheme="packed", count=count, bits=bits, base=base, bases=range(3, 5), digits=bits, top=2
    )


def _encode_index(codes: np.ndarray, layout: Layout) -> np.ndarray:
    lanes = _digits.fill_lanes(codes, layout)
    return compose(lanes.reshape(len(lanes), -1).astype(np.uint8), base=layout.base, width=layout.plaintext_bytes)


def _encode_query(codes: np.ndarray, layout: Layout) -> np.ndarray:
    lanes = np.broadcast_to(~codes, (layout.lanes, layout.bits)).reshape(1, -1)
    return compose(lanes.astype(np.uint8), base=layout.base, width=layout.plaintext_bytes)


def _score(public: PublicKey, index: Index, trapdoor: Trapdoor, *, blinders: np.ndarray, engine: str) -> np.ndarray:
    body = _digits.checked_body(public, trapdoor)
    return _digits.add_query(public, index.ciphertexts, body, blinders=blinders, engine=engine)


def _pattern(plaintexts: np.ndarray, layout: Layout) -> Int8[np.ndarray, "n k"]:
    """`h - q` of each image and masked bit."""
    digits = split(plaintexts, base=layout.base, count=layout.lanes * layout.bits)
    if layout.base > 3 and (digits > 2).any():
        raise ValueError("plaintexts: must be scores of this layout and key, got a digit above 2")
    return digits.reshape(-1, layout.bits)[: layout.count].astype(np.int8) - np.int8(1)


def _decode(pieces: Sequence[tuple[Layout, np.ndarray]], public: PublicKey) -> np.ndarray:
    counts = [np.count_nonzero(_pattern(plaintexts, layout), axis=1) for layout, plaintexts in pieces]
    return np.concatenate(counts).astype(np.int32)


def _cost(layout: Layout, group: int | None) -> Work:
    blocks = layout.blocks
    operations = Operations(blocks, 0, 0, 1, blocks, 2 * blocks, 0, blocks)
    return Work(operations, (("product", blocks), ("product", blocks)), digits=layout.lanes * layout.bits)


def align_lanes(
    patterns: Int8[np.ndarray, "q n k"], lanes: Int32[np.ndarray, " n"]
) -> tuple[Bool[np.ndarray, "n k"], Int32[np.ndarray, " n"]]:
    """Where codes differ from the first query, and which codes share coordinates: what comparing them needs.

    `h_a xor h_b = (h_a xor q) xor (h_b xor q)` if a and b are seen in the same coordinates. From one query those are of
    the same lane. From more, the queries' bits at one place, up to the mask, are that place's name in every lane: lanes
    whose names all differ can be put in one order.
    """
    differ, groups = patterns[0] != 0, lanes.copy()
    orders: dict[bytes, int] = {}
    for lane in np.unique(lanes):
        rows = lanes == lane
        part = patterns[:, rows]
        # h - q is -1 only where the masked query has a one, 1 only where it has a zero.
        known, bits = np.any(part != 0, axis=1), np.any(part < 0, axis=1)
        names = [(column ^ column[0]).tobytes() for column in bits.T]
        if known.all() and len(set(names)) == len(names):
            differ[rows] = differ[rows][:, sorted(range(len(names)), key=names.__getitem__)]
            groups[rows] = orders.setdefault(b"".join(sorted(names)), lane)
    return differ, groups


def _authority(rows: Sequence[Sequence[tuple[Layout, np.ndarray]]], public: PublicKey | None) -> Seen:
    words = "digits for each bit: where masked query and code differ, and which is 1, in each lane's own order"
    if not rows:
        return Seen(words, {})
    patterns = np.stack([np.concatenate([_pattern(plain, layout) for layout, plain in pieces]) for pieces in rows])
    lanes = np.concatenate([np.arange(layout.count) % layout.lanes for layout, _ in rows[0]]).astype(np.int32)
    differ, groups = align_lanes(patterns, lanes)
    comparable = float((np.bincount(groups).astype(float) ** 2).sum()) / len(groups) ** 2
    share = float((patterns != 0).mean())
    return Seen(
        f"{words}; {share:.1%} of them differ; distances between {comparable:.1%} of all pairs of codes",
        {
            "distances": np.count_nonzero(patterns, axis=2).astype(np.int32),
            "patterns": patterns,
            "differ": differ,
            "groups": groups,
        },
    )


PACKED = Scheme(
    name="packed",
    description="packed (one digit per bit, query encrypted)",
    key_kind="paillier",
    encrypted_query=True,
    plan=_plan,
    isometries=lambda layout: layout.lanes,
    shapes=_digits.shapes,
    encode_index=_encode_index,
    encode_query=_encode_query,
    prepare=None,
    score=_score,
    decode=_decode,
    distances=hamming_distances,
    cost=_cost,
    leakage=Leakage(_digits.server_sees_nothing, _authority),
)
"""Exact Hamming distances from an encrypted query."""
