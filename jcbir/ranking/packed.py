"""Packed slots: many codes per ciphertext, one digit per bit, both index and query encrypted.

The index holds the digits `h`, the query the digits `1 - q` in every lane; their homomorphic sum has the digits
`h - q + 1`, 0 or 2 where the bits differ and 1 where they agree, so no digit ever carries into the next:

`distance = #{j : h_j - q_j + 1 != 1}`

In base 3 every digit value is used: with both sides encrypted and no interaction the key holder must receive one of
three values per bit, and log2(3) bits is what they cost. The key holder sees WHERE and in which direction each code
differs (in the coordinates of the keyed isometry), not only how much.
"""

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from jcbir.ranking._layouts import Layout
from jcbir.ranking._radix import compose, split
from jcbir.typing import Array


def encode_index(codes: Bool[Array, "n k"], layout: Layout) -> UInt8[np.ndarray, "m w"]:
    """Write codes side by side, `lanes` of them per plaintext; empty lanes hold zeros.

    `x_b = sum_l sum_j h_(bL + l, j) base^(k l + j)`

    Args:
        codes: n codes of k bits.
        layout: a `packed` layout.

    Returns:
        uint8[blocks, plaintext_bytes], big-endian.

    Example:
        >>> layout = Layout("packed", 8, 2, 32, 3, 2, 1)
        >>> codes = np.zeros((2, 8), bool)
        >>> codes[0, 1] = codes[1, 0] = True
        >>> int.from_bytes(encode_index(codes, layout)[0]) == 3**1 + 3**8
        True

    """
    bits = np.asarray(codes, bool)
    blocks = -(-len(bits) // layout.lanes)
    digits = np.zeros((blocks * layout.lanes, layout.bits), np.uint8)
    digits[: len(bits)] = bits
    return compose(digits.reshape(blocks, -1), base=layout.base, width=layout.plaintext_bytes)


def encode_query(code: Bool[Array, " k"], layout: Layout) -> UInt8[np.ndarray, "1 w"]:
    """Write the query's digits `1 - q` into every lane.

    Args:
        code: the query code of k bits.
        layout: a `packed` layout.

    Returns:
        uint8[1, plaintext_bytes], big-endian.

    Example:
        >>> layout = Layout("packed", 8, 1, 16, 3, 1, 1)
        >>> int.from_bytes(encode_query(np.arange(8) > 0, layout)[0])  # 1 - q is 1 in the first digit alone
        1

    """
    digits = np.tile(~np.asarray(code, bool), layout.lanes)[None].astype(np.uint8)
    return compose(digits, base=layout.base, width=layout.plaintext_bytes)


def decode(plaintexts: UInt8[np.ndarray, "m w"], layout: Layout) -> Int32[np.ndarray, " s"]:
    """Count the digits that differ from 1, lane by lane.

    Args:
        plaintexts: m decrypted scores, big-endian.
        layout: the layout of the index.

    Returns:
        int32[m * lanes] Hamming distances, 0..k; empty lanes give values without meaning.

    Raises:
        ValueError: a number is not a score of this layout.

    Example:
        >>> layout = Layout("packed", 8, 1, 16, 3, 1, 1)
        >>> ones = sum(3**j for j in range(8))
        >>> decode(np.frombuffer((ones + 3).to_bytes(2), np.uint8)[None], layout).tolist()
        [1]

    """
    digits = split(plaintexts, base=layout.base, count=layout.lanes * layout.bits)
    if layout.base > 3 and (digits > 2).any():
        raise ValueError("plaintexts: a digit above 2; these are not scores of this layout and key")
    differ = (digits != 1).reshape(-1, layout.bits)
    return np.count_nonzero(differ, axis=1).astype(np.int32)
