"""The paper's layout: one code per ciphertext, read as one integer; the score is a signed difference.

`D(E(t_i) E(t_q)^-1 mod n^2) = t_i - t_q mod n` (Eq. 8), ranked by `|t_i - t_q|`. That is NOT the Hamming distance:
bit k weighs `2^k`, so 0111..1 and 1000..0 differ by 1 although every bit differs, and the ranking degrades with the
first flipped bits. It is kept under its own name to show the gap; `packed` and `bitsliced` are exact.

References: Wang, Zhang, Meng and Liu, CMC 75(3), 2023, section 3.4, Eq. 8.
"""

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from jcbir.ranking._layouts import Layout
from jcbir.typing import Array


def encode_index(codes: Bool[Array, "n k"], layout: Layout) -> UInt8[np.ndarray, "m w"]:
    """Write each code as one integer, bit 0 of the code the most significant.

    `t = sum_j h_j 2^(k - 1 - j)`

    Args:
        codes: n codes of k bits.
        layout: an `integer` layout.

    Returns:
        uint8[n, plaintext_bytes], big-endian.

    Example:
        >>> layout = Layout("integer", 8, 1, 32, 2, 1, 1)
        >>> encode_index(np.array([[0, 0, 0, 0, 0, 1, 0, 1]], bool), layout).tolist()
        [[0, 0, 0, 5]]

    """
    bits = np.asarray(codes, bool)
    padding = -bits.shape[1] % 8
    packed = np.packbits(np.pad(bits, ((0, 0), (padding, 0))), axis=1)
    return np.pad(packed, ((0, 0), (layout.plaintext_bytes - packed.shape[1], 0)))


def encode_query(code: Bool[Array, " k"], layout: Layout) -> UInt8[np.ndarray, "1 w"]:
    """Write the query as the server will subtract it: the same integer as in the index.

    Args:
        code: the query code of k bits.
        layout: an `integer` layout.

    Returns:
        uint8[1, plaintext_bytes], big-endian.

    Example:
        >>> encode_query(np.array([0, 0, 0, 0, 0, 0, 1, 1], bool), Layout("integer", 8, 1, 16, 2, 1, 1)).tolist()
        [[0, 3]]

    """
    return encode_index(np.asarray(code)[None], layout)


def differences(plaintexts: UInt8[np.ndarray, "n w"], *, modulus: int) -> list[int]:
    """Read decrypted scores as signed differences `t_i - t_q`, residues above n/2 being negative.

    Args:
        plaintexts: decrypted scores, uint8[n, w] big-endian.
        modulus: the Paillier modulus n.

    Returns:
        n Python integers in `-(2^k - 1)..2^k - 1`, exact for any code length.

    Example:
        >>> differences(np.array([[0, 3], [3, 231]], np.uint8), modulus=1001)
        [3, -2]

    """
    values = (int.from_bytes(row, "big") for row in plaintexts)
    return [value - modulus if value > modulus // 2 else value for value in values]


def magnitude_ranks(values: list[int]) -> Int32[np.ndarray, " n"]:
    """Dense ranks of `|difference|`: 0 for the smallest, equal magnitudes share a rank.

    Args:
        values: signed differences of n images.

    Returns:
        int32[n] ranks, 0 to the number of distinct magnitudes less one.

    Example:
        >>> magnitude_ranks([-5, 2, 5, 0]).tolist()
        [2, 1, 2, 0]

    """
    magnitudes = [abs(value) for value in values]
    order = {magnitude: position for position, magnitude in enumerate(sorted(set(magnitudes)))}
    return np.array([order[magnitude] for magnitude in magnitudes], np.int32)
