"""Bit-sliced planes: one bit of many images per ciphertext; the finished distances come out of one decryption.

Plane j of block b holds bit j of `lanes` images as digits in base k + 1 (or more), `sum_l h_(bL + l, j) base^l`. The
query's masked bits travel in clear; for each the server picks `E(h_j)` when `q_j = 0` and `E(1 - h_j)` when `q_j = 1`,
both being `E(h_j xor q_j)`, and multiplies:

`sum_l base^l sum_j (h_(l,j) xor q_j) = sum_l base^l distance_l`

No sum exceeds k, so no digit carries. The key holder sees the distances and nothing else; the server sees the masked
query, hence which queries are equal and how far apart two queries are, and nothing of the index or of the distances.

Product tables: `T_1[j, v] = E(h_j xor v)`, and `T_2g[i, v + 2^g w] = T_g[2i, v] T_g[2i + 1, w]`. A query then
multiplies `k / g` rows per block, not k; storage is `2^g / g` times the index: 2 for g = 1 and 2, 4 for g = 4.
"""

from collections.abc import Sequence

import numpy as np

from jcbir.paillier import public as paillier
from jcbir.paillier.public import PublicKey
from jcbir.ranking import _digits
from jcbir.ranking._radix import compose, split
from jcbir.ranking._scheme import (
    Index,
    Layout,
    Leakage,
    Operations,
    Prepared,
    Scheme,
    Seen,
    Shapes,
    Trapdoor,
    Work,
    hamming_distances,
)

MAX_BASE = 1 << 16
GROUPS = (1, 2, 4)


def _plan(public: PublicKey, *, count: int, bits: int, base: int | None) -> Layout:
    bases = range(bits + 1, MAX_BASE + 1)
    return _digits.plan_digits(
        public, scheme="bitsliced", count=count, bits=bits, base=base, bases=bases, digits=1, top=bits
    )


def _shapes(layout: Layout) -> Shapes:
    rows, width = layout.blocks, layout.ciphertext_bytes
    return Shapes((rows * layout.bits, width), (1, -(-layout.bits // 8)), (rows, width), rows)


def _encode_index(codes: np.ndarray, layout: Layout) -> np.ndarray:
    planes = _digits.fill_lanes(codes, layout).swapaxes(1, 2).reshape(-1, layout.lanes)
    return compose(planes.astype(np.uint8), base=layout.base, width=layout.plaintext_bytes)


def _encode_query(codes: np.ndarray, layout: Layout) -> np.ndarray:
    return np.packbits(codes, axis=1)


def _query_bits(body: np.ndarray, bits: int) -> np.ndarray:
    return np.unpackbits(body[0])[:bits].astype(bool)


def _ones(layout: Layout, *, scale: int = 1) -> np.ndarray:
    """The plaintext with one number in every lane: what `1 - h` subtracts from."""
    return compose(np.full((1, layout.lanes), scale), base=layout.base, width=layout.plaintext_bytes)


def _prepare(public: PublicKey, index: Index, *, group: int, engine: str) -> Prepared:
    layout = index.layout
    _check_group(group)
    width = index.ciphertexts.shape[1]
    flipped = _digits.complement(public, index.ciphertexts, _ones(layout), engine=engine)
    table = np.stack([index.ciphertexts, flipped], axis=1).reshape(layout.blocks, layout.bits, 2, width)
    size = 1
    while size < group:
        table = _pair(public, table, engine)
        size *= 2
    return Prepared(layout, index.fingerprint, group, table.reshape(-1, width))


def _check_group(group: int) -> None:
    if type(group) is not int or group not in GROUPS:
        raise ValueError(f"group: must be one of {GROUPS}, got {group!r}")


def _pair(public: PublicKey, table: np.ndarray, engine: str) -> np.ndarray:
    """Tables of twice the group size, the last group padded with encryptions of zero."""
    blocks, groups, entries, width = table.shape
    if groups % 2:
        neutral = np.zeros((blocks, 1, entries, width), np.uint8)
        neutral[..., -1] = 1
        table = np.concatenate([table, neutral], axis=1)
    low = np.repeat(table[:, 0::2, None, :, :], entries, axis=2)
    high = np.repeat(table[:, 1::2, :, None, :], entries, axis=3)
    product = paillier.add(public, low.reshape(-1, width), high.reshape(-1, width), engine=engine)
    return product.reshape(blocks, -1, entries * entries, width)


def _table_rows(layout: Layout, group: int) -> int:
    return layout.blocks * -(-layout.bits // group) << group


def _table_picks(bits: np.ndarray, *, group: int, blocks: int) -> np.ndarray:
    """Rows of the table that a query multiplies, for each block: `(b G + group) 2^g + v`, `v = sum_i q_i 2^i`."""
    padded = np.pad(bits, (0, -len(bits) % group)).reshape(-1, group)
    values = padded @ (1 << np.arange(group))
    groups = len(padded)
    return (np.arange(blocks)[:, None] * groups + np.arange(groups)) * (1 << group) + values


def _score(
    public: PublicKey, index: Index | Prepared, trapdoor: Trapdoor, *, blinders: np.ndarray, engine: str
) -> np.ndarray:
    bits = _query_bits(trapdoor.body, index.layout.bits)
    summed = _sum_table if isinstance(index, Prepared) else _sum_planes
    return paillier.rerandomize(public, summed(public, index, bits, engine), blinders=blinders, engine=engine)


def _sum_table(public: PublicKey, index: Prepared, bits: np.ndarray, engine: str) -> np.ndarray:
    expected = (_table_rows(index.layout, index.group), index.layout.ciphertext_bytes)
    if index.table.shape != expected:
        raise ValueError(f"index: must be {expected[0]} x {expected[1]} bytes, got {index.table.shape}")
    return _product(public, index.table, _table_picks(bits, group=index.group, blocks=index.layout.blocks), engine)


def _sum_planes(public: PublicKey, index: Index, bits: np.ndarray, engine: str) -> np.ndarray:
    layout = index.layout
    # sum over q = 0 of h, plus sum over q = 1 of (1 - h): the second part is one inversion per block, not one per bit.
    planes = np.arange(layout.blocks)[:, None] * layout.bits
    kept, flipped = planes + np.flatnonzero(~bits), planes + np.flatnonzero(bits)
    scale = int(bits.sum())
    if not scale:
        return _product(public, index.ciphertexts, kept, engine)
    negative = _product(public, index.ciphertexts, flipped, engine)
    complement = _digits.complement(public, negative, _ones(layout, scale=scale), engine=engine)
    if scale == layout.bits:
        return complement
    return paillier.add(public, _product(public, index.ciphertexts, kept, engine), complement, engine=engine)


def _product(public: PublicKey, table: np.ndarray, picks: np.ndarray, engine: str) -> np.ndarray:
    # The engine converts every row it is given: hand it the picked ones alone.
    chosen = np.arange(picks.size).reshape(picks.shape)
    return paillier.product(public, table[picks.reshape(-1)], chosen, engine=engine)


def _read(plaintexts: np.ndarray, layout: Layout) -> np.ndarray:
    digits = split(plaintexts, base=layout.base, count=layout.lanes)
    if (digits > layout.bits).any():
        raise ValueError(f"plaintexts: must be scores of this layout and key, got a lane above {layout.bits}")
    return digits.reshape(-1)[: layout.count]


def _decode(pieces: Sequence[tuple[Layout, np.ndarray]], public: PublicKey) -> np.ndarray:
    return np.concatenate([_read(plaintexts, layout) for layout, plaintexts in pieces]).astype(np.int32)


def _cost(layout: Layout, group: int | None) -> Work:
    blocks, bits = layout.blocks, layout.bits
    planes = blocks * bits
    tables, inversions, held = 0, 0, 0
    products, inverted = blocks * (bits + 1), blocks
    batches = (("pick", planes), ("invert", blocks), ("product", blocks), ("product", blocks))
    if group is not None:
        _check_group(group)
        # The inversion of each plane ends in a product; each doubling of the group multiplies every entry once.
        tables, inversions, held = planes, planes, _table_rows(layout, group) * layout.ciphertext_bytes
        size = 1
        while size < group:
            size *= 2
            tables += _table_rows(layout, size)
        picks = blocks * -(-bits // group)
        products, inverted = picks, 0
        batches = (("pick", picks), ("product", blocks))
    operations = Operations(planes, tables, inversions, 0, blocks, products, inverted, blocks)
    return Work(operations, batches, digits=layout.lanes, prepared_bytes=held)


def _server(trapdoors: Sequence[Trapdoor]) -> Seen:
    bits = np.stack([_query_bits(item.body, item.bits) for item in trapdoors]).astype(np.int32)
    ones = bits.sum(axis=1)
    distances = (ones[:, None] + ones - 2 * bits @ bits.T).astype(np.int32)
    above = distances[np.triu_indices(len(distances), 1)]
    if not above.size:
        return Seen("the masked query", {"query_distances": distances})
    span, equal = f"{above.min()} to {above.max()}", int((above == 0).sum())
    words = f"distances of {above.size} pairs of masked queries ({span}, {equal} equal pairs)"
    return Seen(words, {"query_distances": distances})


def _authority(rows: Sequence[Sequence[tuple[Layout, np.ndarray]]], public: PublicKey | None) -> Seen:
    return _digits.sees_distances([_decode(pieces, public) for pieces in rows])


BITSLICED = Scheme(
    name="bitsliced",
    description="bitsliced (distances only, masked query in clear)",
    key_kind="paillier",
    encrypted_query=False,
    plan=_plan,
    isometries=lambda layout: 1,
    shapes=_shapes,
    encode_index=_encode_index,
    encode_query=_encode_query,
    prepare=_prepare,
    score=_score,
    decode=_decode,
    distances=hamming_distances,
    cost=_cost,
    leakage=Leakage(_server, _authority),
    table_bits=2,
)
"""Exact Hamming distances, the fastest."""
