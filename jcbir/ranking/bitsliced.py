"""Bit-sliced planes: one bit of many images per ciphertext; the finished distances come out of one decryption.

Plane j of a block holds bit j of `lanes` images as digits in base k + 1 (or more). The query's masked bits travel in
clear; for each the server picks `E(h_j)` when `q_j = 0` and `E(1 - h_j)` when `q_j = 1`, both being `E(h_j xor q_j)`,
and multiplies:

`sum_l base^l sum_j (h_(l,j) xor q_j) = sum_l base^l distance_l`

No sum exceeds k, so no digit carries. The key holder sees the distances and nothing else; the server sees the masked
query, hence which queries are equal and how far apart two queries are, and nothing of the index or of the distances.
"""

import numpy as np
from jaxtyping import Bool, Int, Int32, UInt8

from jcbir.ranking._layouts import Layout
from jcbir.ranking._radix import compose, split
from jcbir.typing import Array


def encode_index(codes: Bool[Array, "n k"], layout: Layout) -> UInt8[np.ndarray, "m w"]:
    """Write the bit planes of each block: plaintext `b k + j` holds bit j of the images `b L .. b L + L - 1`.

    `x_(b,j) = sum_l h_(bL + l, j) base^l`; empty lanes hold zeros.

    Args:
        codes: n codes of k bits.
        layout: a `bitsliced` layout.

    Returns:
        uint8[blocks * k, plaintext_bytes], big-endian, block by block.

    Example:
        >>> layout = Layout("bitsliced", 8, 2, 32, 9, 10, 1)
        >>> codes = np.zeros((2, 8), bool)
        >>> codes[1, 0] = True
        >>> encode_index(codes, layout)[:, -1].tolist()
        [9, 0, 0, 0, 0, 0, 0, 0]

    """
    bits = np.asarray(codes, bool)
    blocks = -(-len(bits) // layout.lanes)
    lanes = np.zeros((blocks * layout.lanes, layout.bits), np.uint8)
    lanes[: len(bits)] = bits
    planes = lanes.reshape(blocks, layout.lanes, layout.bits).swapaxes(1, 2).reshape(-1, layout.lanes)
    return compose(planes, base=layout.base, width=layout.plaintext_bytes)


def ones(layout: Layout, *, scale: int = 1) -> UInt8[np.ndarray, "1 w"]:
    """The plaintext with one number in every lane, `scale * sum_l base^l`: what `1 - h` subtracts from.

    Args:
        layout: a `bitsliced` layout.
        scale: the number, 0..k.

    Returns:
        uint8[1, plaintext_bytes], big-endian.

    Example:
        >>> int.from_bytes(ones(Layout("bitsliced", 8, 1, 16, 9, 2, 1))[0])
        10

    """
    return compose(np.full((1, layout.lanes), scale), base=layout.base, width=layout.plaintext_bytes)


def encode_query(code: Bool[Array, " k"], layout: Layout) -> UInt8[np.ndarray, "1 c"]:
    """Pack the masked query bits as bytes, first bit most significant. They travel IN CLEAR: mask them first.

    Args:
        code: the masked query code of k bits.
        layout: a `bitsliced` layout.

    Returns:
        uint8[1, ceil(k / 8)].

    Example:
        >>> encode_query(np.arange(8) > 5, Layout("bitsliced", 8, 1, 16, 9, 2, 1)).tolist()
        [[3]]

    """
    return np.packbits(np.asarray(code, bool))[None]


def query_bits(body: UInt8[np.ndarray, "1 w"], layout: Layout) -> Bool[np.ndarray, " k"]:
    """Read the masked query bits back: the inverse of `encode_query`.

    Args:
        body: what `encode_query` made.
        layout: a `bitsliced` layout.

    Returns:
        bool[k].

    Example:
        >>> query_bits(np.array([[3]], np.uint8), Layout("bitsliced", 8, 1, 16, 9, 2, 1)).astype(int).tolist()
        [0, 0, 0, 0, 0, 0, 1, 1]

    """
    return np.unpackbits(body[0])[: layout.bits].astype(bool)


def table_picks(bits: Bool[np.ndarray, " k"], *, group: int, blocks: int) -> Int[np.ndarray, "b m"]:
    """Rows of a prepared table that one query multiplies, for each block.

    Entry `v` of a group of g bits is `E(sum_i (h_i xor v_i))`, `v = sum_i q_i 2^i`, at row `(b G + group) 2^g + v`.

    Args:
        bits: the masked query, k bits.
        group: bits per table group g.
        blocks: blocks of the index.

    Returns:
        int[blocks, ceil(k / g)] row numbers.

    Example:
        >>> table_picks(np.array([1, 0, 1], bool), group=2, blocks=2).tolist()
        [[1, 5], [9, 13]]

    """
    padded = np.pad(bits, (0, -len(bits) % group)).reshape(-1, group)
    values = padded @ (1 << np.arange(group))
    groups = len(padded)
    return (np.arange(blocks)[:, None] * groups + np.arange(groups)) * (1 << group) + values


def decode(plaintexts: UInt8[np.ndarray, "m w"], layout: Layout) -> Int32[np.ndarray, " s"]:
    """Read the digits: they are the distances.

    Args:
        plaintexts: m decrypted scores, big-endian.
        layout: the layout of the index.

    Returns:
        int32[m * lanes] Hamming distances, 0..k; empty lanes give values without meaning.

    Raises:
        ValueError: a number is not a score of this layout.

    Example:
        >>> layout = Layout("bitsliced", 8, 2, 16, 9, 2, 1)
        >>> decode(np.array([[0, 9 * 5 + 3]], np.uint8), layout).tolist()
        [3, 5]

    """
    digits = split(plaintexts, base=layout.base, count=layout.lanes)
    if (digits > layout.bits).any():
        raise ValueError(f"plaintexts: a lane above {layout.bits}; these are not scores of this layout and key")
    return digits.reshape(-1).astype(np.int32)
