"""Lattice ranking: query and index are both encrypted, and a query tells the key holder distances and nothing else.

A block of a layout is a block of `jcbir.lattice`, its lanes the images in all of its coefficients. The scores of a
query begin with what all blocks share, Q, in rows as long as a block's; opened rows are distances. In place of blinders
the server draws seeds of floods, one for each segment and query. docs/lattice.md says what this promises.
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from jcbir.lattice import public as lattice
from jcbir.lattice._sampling import SEED_BYTES
from jcbir.lattice.public import PublicKey, parameters
from jcbir.ranking._digits import sees_distances, server_sees_nothing
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
    check_whole,
    hamming_distances,
)
from jcbir.typing import Rows

DISTANCE = np.dtype(">u2")
"""How an opened row holds a distance."""
# The authority names segments by their nonces; the server needs no name.
_NAMELESS = bytes(32)


def _plan(public: PublicKey, *, count: int, bits: int, base: int | None) -> Layout:
    v = public.parameters
    check_whole(bits, name="bits", low=v.bits, high=v.bits)
    check_whole(v.base if base is None else base, name="base", low=v.base, high=v.base)
    return Layout(LATTICE.name, bits, count, v.q.bit_length(), v.base, v.images, -(-count // v.images))


def _shapes(layout: Layout) -> Shapes:
    v = parameters(bits=layout.bits)
    return Shapes(
        index=(layout.blocks, v.block_bytes),
        query=(1, v.query_bytes),
        scores=(layout.blocks, v.reply_block_bytes),
        blinders=1,
        shared=v.reply_shared_bytes // v.reply_block_bytes,
        opened=layout.count,
    )


def _pack_bits(codes: np.ndarray, layout: Layout) -> Rows:
    return np.packbits(codes, axis=1)


def _prepare(public: PublicKey, index: Index, *, group: int, engine: str) -> Prepared:
    blocks = lattice.Index(public.fingerprint, _NAMELESS, index.ciphertexts)
    return Prepared(index.layout, index.fingerprint, group, lattice.prepare(public, blocks))


def _score(
    public: PublicKey, index: Index | Prepared, trapdoor: Trapdoor, *, blinders: np.ndarray, engine: str
) -> Rows:
    if blinders.dtype != np.uint8 or blinders.shape[1:] != (2 * SEED_BYTES,):
        # Of a shorter seed the floods would look as any others, and hide nothing.
        raise ValueError(f"blinders: must be uint8[m, {2 * SEED_BYTES}], got {blinders.dtype}{list(blinders.shape)}")
    part = index if isinstance(index, Prepared) else _prepare(public, index, group=1, engine=engine)
    return lattice.score_blocks(public, part.table, _query(trapdoor), draw=_expand(blinders[0].tobytes()))


def _share(public: PublicKey, trapdoor: Trapdoor) -> Rows:
    return lattice.score_shared(public, _query(trapdoor)).reshape(-1, public.parameters.reply_block_bytes)


def _query(trapdoor: Trapdoor) -> lattice.Query:
    return lattice.Query(trapdoor.fingerprint, trapdoor.body[0])


def _expand(seed: bytes) -> Callable[[int], bytes]:
    """A source of bytes that never repeats, as long as its seed does not."""
    drawn = 0

    def draw(count: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(b"jcbir lattice flood" + drawn.to_bytes(8) + seed).digest(count)

    return draw


def _decode(pieces: Sequence[tuple[Layout, np.ndarray]], public: PublicKey) -> np.ndarray:
    for _, rows in pieces:
        if rows.dtype != np.uint8 or rows.shape[1:] != (DISTANCE.itemsize,):
            raise ValueError(f"plaintexts: must be uint8[n, {DISTANCE.itemsize}], got {rows.dtype}{list(rows.shape)}")
    found = np.concatenate([np.ascontiguousarray(rows).view(DISTANCE)[:, 0] for _, rows in pieces]).astype(np.int32)
    if (found > public.parameters.bits).any():
        raise ValueError(f"plaintexts: must be scores of this layout and key, got a distance above {found.max()}")
    return found


def _cost(layout: Layout, group: int | None) -> Work:
    v, blocks = parameters(bits=layout.bits), layout.blocks
    operations = Operations(blocks, 0, 0, 1, 1, blocks, 0, blocks)
    held = 0 if group is None else lattice.cost(v, count=layout.count).prepared
    return Work(operations, (), digits=0, prepared_bytes=held)


def _authority(rows: Sequence[Sequence[tuple[Layout, np.ndarray]]], public: PublicKey | None) -> Seen:
    return sees_distances([] if public is None else [_decode(pieces, public) for pieces in rows])


LATTICE = Scheme(
    name="lattice",
    description="lattice (distances only, query encrypted; experimental, not reviewed)",
    key_kind="lattice",
    encrypted_query=True,
    plan=_plan,
    isometries=lambda layout: 1,
    shapes=_shapes,
    encode_index=_pack_bits,
    encode_query=_pack_bits,
    prepare=_prepare,
    score=_score,
    decode=_decode,
    distances=hamming_distances,
    cost=_cost,
    leakage=Leakage(server_sees_nothing, _authority),
    share=_share,
)
"""Exact Hamming distances from an encrypted query and an encrypted index; experimental."""
