"""What the server computes: encrypted scores of a whole index, with the public key alone.

Trust is an import rule: nothing here can reach the secret half of the key, the cipher or the network. Every
ciphertext that leaves is re-randomised, so that the key holder cannot recompute from its randomness which index
entries went into it.
"""

import numpy as np
from jaxtyping import Integer, UInt8

from jcbir.paillier import public as paillier
from jcbir.paillier.public import PublicKey
from jcbir.ranking import bitsliced
from jcbir.ranking._layouts import Layout, check_fingerprint, check_layout
from jcbir.ranking._records import Index, Prepared, Scores, Trapdoor
from jcbir.ranking.pads import pad_scores
from jcbir.ranking.shuffle import check_order, shuffle_live
from jcbir.typing import Rows

GROUPS = (1, 2, 4)


def score(
    public: PublicKey,
    index: Index | Prepared,
    trapdoor: Trapdoor,
    *,
    blinders: UInt8[np.ndarray, "m c"],
    engine: str = "auto",
    pad: UInt8[np.ndarray, "l p"] | None = None,
    order: Integer[np.ndarray, " b"] | None = None,
) -> Scores:
    """Score every image of an index against one query, without a secret.

    `integer`: `E(t_i) E(t_q)^-1`. `packed`: `E(h) E(1 - q)`. `bitsliced`: the product over the bits of `E(h_j xor
    q_j)`, k products per block from an `Index`, `k / g` from a `Prepared` one. Each result is multiplied by a fresh
    encryption of zero.

    Args:
        public: the key of the index.
        index: an encrypted index, or a prepared one.
        trapdoor: the query.
        blinders: at least `layout.blocks` fresh encryptions of zero (`blinding.blinders` or a pool), each used once.
        engine: Paillier engine.
        pad: one-time pad, one uniform number below n per block (`pads.expand_pad`): the key holder then decrypts
            noise.
        order: permutation of the blocks; result i is block `order[i]` (`shuffle.restore` and `shuffle.locate` undo
            it).

    Returns:
        `layout.blocks` encrypted scores.

    Raises:
        KeyMismatchError: the index or the trapdoor belongs to another key.
        ValueError: a trapdoor of another scheme, length or layout; too few blinders or pads; an order that is no
            permutation.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import encrypt, generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> seal = lambda rows: encrypt(key, rows, draw=secrets.token_bytes)
        >>> from jcbir.paillier import blinders
        >>> from jcbir.ranking import build_index, trapdoor
        >>> from jcbir.ranking import plan
        >>> layout = plan(key.public, scheme="packed", count=3, bits=8)
        >>> index = build_index(np.eye(8, dtype=bool)[:3], layout, encrypt=seal, public=key.public)
        >>> query = trapdoor(np.arange(8) > 3, layout, encrypt=seal, public=key.public)
        >>> fresh = blinders(key.public, layout.blocks, draw=secrets.token_bytes)
        >>> len(score(key.public, index, query, blinders=fresh).ciphertexts) == layout.blocks
        True

    """
    layout = index.layout
    check_fingerprint(public, index.fingerprint, name="index")
    check_fingerprint(public, trapdoor.fingerprint, name="trapdoor")
    check_layout(public, layout)
    _check_index(index)
    _check_trapdoor(public, layout, trapdoor)
    for name, rows in (("blinders", blinders), ("pad", pad)):
        if rows is not None and len(rows) < layout.blocks:
            raise ValueError(f"{name}: must be at least one row for each of {layout.blocks} blocks, got {len(rows)}")
    order = None if order is None else check_order(order, blocks=layout.blocks)
    raw = _SCORERS[layout.scheme](public, index, trapdoor, engine)
    raw = raw if order is None else raw[order]
    fresh = paillier.rerandomize(public, raw, blinders=blinders[: layout.blocks], engine=engine)
    live = index.live if order is None else shuffle_live(index.live, order, layout)
    scores = Scores(layout, public.fingerprint, fresh, live)
    return scores if pad is None else pad_scores(public, scores, pad, engine=engine)


def prepare(public: PublicKey, index: Index, *, group: int = 2, engine: str = "auto") -> Prepared:
    """Build the product tables of a bit-sliced index: each query then multiplies `k / g` ciphertexts per block, not k.

    `T_1[j, v] = E(h_j xor v)`, and `T_2g[i, v + 2^g w] = T_g[2i, v] T_g[2i + 1, w]`. Storage is `2^g / g` times the
    index: 2 for g = 1 and 2, 4 for g = 4.

    Args:
        public: the key of the index.
        index: a `bitsliced` index.
        group: query bits per table group g: 1, 2 (pair tables) or 4.
        engine: Paillier engine.

    Returns:
        The prepared index; scores from it are the same numbers.

    Raises:
        KeyMismatchError: the index belongs to another key.
        ValueError: another scheme, or another group.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import encrypt, generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> seal = lambda rows: encrypt(key, rows, draw=secrets.token_bytes)
        >>> from jcbir.ranking import build_index
        >>> from jcbir.ranking import plan
        >>> layout = plan(key.public, scheme="bitsliced", count=3, bits=8)
        >>> index = build_index(np.eye(8, dtype=bool)[:3], layout, encrypt=seal, public=key.public)
        >>> len(prepare(key.public, index).table) == 2 * len(index.ciphertexts)
        True

    """
    layout = index.layout
    check_fingerprint(public, index.fingerprint, name="index")
    check_layout(public, layout)
    _check_index(index)
    if layout.scheme != "bitsliced":
        raise ValueError(f"index: only a bitsliced index has product tables, got {layout.scheme}")
    if group not in GROUPS:
        raise ValueError(f"group: must be one of {GROUPS}, got {group}")
    width = index.ciphertexts.shape[1]
    flipped = _complement(public, index.ciphertexts, bitsliced.ones(layout), engine)
    table = np.stack([index.ciphertexts, flipped], axis=1).reshape(layout.blocks, layout.bits, 2, width)
    size = 1
    while size < group:
        table = _pair(public, table, engine)
        size *= 2
    return Prepared(layout, index.fingerprint, group, table.reshape(-1, width), index.live)


def _check_index(index: Index | Prepared) -> None:
    layout = index.layout
    if isinstance(index, Prepared):
        rows, expected = index.table, layout.blocks * -(-layout.bits // index.group) * (1 << index.group)
    else:
        rows, expected = index.ciphertexts, layout.ciphertexts
    if rows.shape != (expected, layout.ciphertext_bytes):
        raise ValueError(f"index: must hold {expected} x {layout.ciphertext_bytes} bytes, got {rows.shape}")
    if index.live is not None and index.live.shape != (layout.count,):
        raise ValueError(f"index: live must mark {layout.count} images, got shape {index.live.shape}")


def _check_trapdoor(public: PublicKey, layout: Layout, trapdoor: Trapdoor) -> None:
    for field in ("scheme", "bits", "base", "lanes"):
        expected, given = getattr(layout, field), getattr(trapdoor, field)
        if expected != given:
            raise ValueError(f"trapdoor: its {field} must be {expected} as the index has, got {given}")
    width = -(-layout.bits // 8) if layout.scheme == "bitsliced" else layout.ciphertext_bytes
    if trapdoor.body.shape != (1, width):
        raise ValueError(f"trapdoor: its body must be 1 x {width} bytes, got {trapdoor.body.shape}")
    if layout.scheme != "bitsliced":
        paillier.check_ciphertexts(public, trapdoor.body)


def _complement(public: PublicKey, rows: np.ndarray, plaintext: np.ndarray, engine: str) -> np.ndarray:
    """E(plaintext - x) for each row E(x)."""
    one = np.zeros((1, rows.shape[1]), np.uint8)
    one[0, -1] = 1
    constant = paillier.encrypt(public, plaintext, blinders=one, engine=engine)
    return paillier.subtract(public, np.broadcast_to(constant, rows.shape), rows, engine=engine)


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


def _score_integer(public: PublicKey, index: Index, trapdoor: Trapdoor, engine: str) -> Rows:
    zero = np.zeros((1, index.layout.plaintext_bytes), np.uint8)
    negated = _complement(public, trapdoor.body, zero, engine)
    return paillier.add(public, index.ciphertexts, np.broadcast_to(negated, index.ciphertexts.shape), engine=engine)


def _score_packed(public: PublicKey, index: Index, trapdoor: Trapdoor, engine: str) -> Rows:
    return paillier.add(
        public, index.ciphertexts, np.broadcast_to(trapdoor.body, index.ciphertexts.shape), engine=engine
    )


def _score_bitsliced(public: PublicKey, index: Index | Prepared, trapdoor: Trapdoor, engine: str) -> Rows:
    layout = index.layout
    bits = bitsliced.query_bits(trapdoor.body, layout)
    if isinstance(index, Prepared):
        picks = bitsliced.table_picks(bits, group=index.group, blocks=layout.blocks)
        return _product(public, index.table, picks, engine)
    # sum over q = 0 of h, plus sum over q = 1 of (1 - h): the second part is one inversion per block, not one per bit.
    planes = np.arange(layout.blocks)[:, None] * layout.bits
    kept, flipped = planes + np.flatnonzero(~bits), planes + np.flatnonzero(bits)
    scale = int(bits.sum())
    if not scale:
        return _product(public, index.ciphertexts, kept, engine)
    negative = _product(public, index.ciphertexts, flipped, engine)
    total = bitsliced.ones(layout, scale=scale)
    complement = _complement(public, negative, total, engine)
    if scale == layout.bits:
        return complement
    return paillier.add(public, _product(public, index.ciphertexts, kept, engine), complement, engine=engine)


def _product(public: PublicKey, table: np.ndarray, picks: np.ndarray, engine: str) -> np.ndarray:
    # The engine converts every row it is given: hand it the picked ones alone.
    chosen = np.arange(picks.size).reshape(picks.shape)
    return paillier.product(public, table[picks.reshape(-1)], chosen, engine=engine)


_SCORERS = {"integer": _score_integer, "packed": _score_packed, "bitsliced": _score_bitsliced}
