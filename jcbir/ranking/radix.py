"""Digits in any base to big-endian numbers and back, whole batches at a time.

Composing is one exact matrix product: with `base^j` cut into 16-bit limbs, a number is `digits @ limbs`, and every
sum is an integer below `m * base * 2^16 < 2^53`, so float64 holds it exactly whatever the order of summation; one
pass of carries then leaves 16-bit limbs. Splitting goes by halves (divide and conquer on Python integers) down to
chunks below `2^63`, whose digits are peeled off for the whole batch at once.
"""

import itertools

import numpy as np
from jaxtyping import Integer, UInt, UInt8

CHUNK_ROWS = 4096
LIMB_BITS = 16


def compose(digits: Integer[np.ndarray, "n m"], *, base: int, width: int) -> UInt8[np.ndarray, "n w"]:
    """Write digits, least significant first, as big-endian numbers.

    `x_i = sum_j digits_ij base^j`

    Args:
        digits: n numbers of m digits in 0..base-1, least significant first.
        base: the base, 2..65536.
        width: bytes of each number.

    Returns:
        uint8[n, width], big-endian.

    Raises:
        ValueError: a number needs more than `width` bytes.

    Example:
        >>> compose(np.array([[1, 2, 0], [2, 2, 2]]), base=3, width=2).tolist()
        [[0, 7], [0, 26]]

    """
    count, length = digits.shape
    limbs = max(_byte_length(base**length - 1) + 1, width) // 2 + 1
    powers = _power_limbs(base, length, limbs)
    numbers = np.empty((count, 2 * limbs), np.uint8)
    for start in range(0, count, CHUNK_ROWS):
        sums = (powers @ digits[start : start + CHUNK_ROWS].T.astype(np.float64)).astype(np.int64)
        for low, high in itertools.pairwise(sums):
            high += low >> LIMB_BITS
        reduced = (sums & 0xFFFF).astype(">u2")[::-1].T
        numbers[start : start + CHUNK_ROWS] = np.ascontiguousarray(reduced).view(np.uint8)
    if numbers[:, : 2 * limbs - width].any():
        raise ValueError(f"width: {length} digits in base {base} do not fit {width} bytes")
    return np.ascontiguousarray(numbers[:, 2 * limbs - width :])


def split(numbers: UInt8[np.ndarray, "n w"], *, base: int, count: int) -> UInt[np.ndarray, "n m"]:
    """Read big-endian numbers as digits, least significant first: the inverse of `compose`.

    `digits_ij = floor(x_i / base^j) mod base`

    Args:
        numbers: uint8[n, w], big-endian.
        base: the base, 2..65536.
        count: digits of each number (m).

    Returns:
        uint8[n, count] digits in 0..base-1 (uint16 when the base exceeds 256).

    Raises:
        ValueError: a number is `base^count` or more.

    Example:
        >>> split(np.array([[0, 7], [0, 26]], np.uint8), base=3, count=3).tolist()
        [[1, 2, 0], [2, 2, 2]]

    """
    return (
        _split_bits(numbers, base.bit_length() - 1, count) if base & (base - 1) == 0 else _halve(numbers, base, count)
    )


def _byte_length(value: int) -> int:
    return max(1, -(-value.bit_length() // 8))


def _power_limbs(base: int, length: int, limbs: int) -> np.ndarray:
    """float64[limbs, length]: 16-bit limbs, least significant first, of base^0 .. base^(length-1)."""
    power, blob = 1, bytearray()
    for _ in range(length):
        blob += power.to_bytes(2 * limbs, "little")
        power *= base
    return np.frombuffer(bytes(blob), "<u2").reshape(length, limbs).T.astype(np.float64)


def _digit_type(base: int) -> type:
    return np.uint8 if base <= 256 else np.uint16


def _overflow(base: int, count: int) -> ValueError:
    return ValueError(f"numbers: must be below {base}^{count}; these were not made with this layout and key")


def _split_bits(numbers: np.ndarray, log: int, count: int) -> np.ndarray:
    bits = np.unpackbits(numbers[:, ::-1], axis=1, bitorder="little")
    if bits[:, count * log :].any():
        raise _overflow(1 << log, count)
    used = np.zeros((len(numbers), count * log), _digit_type(1 << log))
    used[:, : bits.shape[1]] = bits[:, : count * log]
    weights = (1 << np.arange(log)).astype(used.dtype)
    return used.reshape(len(numbers), count, log) @ weights


def _halve(numbers: np.ndarray, base: int, count: int) -> np.ndarray:
    per_chunk = next(c for c in range(1, 64) if base ** (c + 1) >= 1 << 63)
    chunks = -(-count // per_chunk)
    leaves = 1 << (chunks - 1).bit_length()
    blob, width = numbers.tobytes(), numbers.shape[1]
    values = [int.from_bytes(blob[i : i + width], "big") for i in range(0, len(blob), width)]
    limit = base**count
    if any(value >= limit for value in values):
        raise _overflow(base, count)
    half = leaves // 2
    while half:
        divisor = base ** (per_chunk * half)
        values = [part for value in values for part in reversed(divmod(value, divisor))]
        half //= 2
    rest = np.array(values, np.uint64).reshape(len(numbers), leaves)[:, :chunks]
    digits = np.empty((len(numbers), chunks, per_chunk), _digit_type(base))
    # Small slices keep the strided writes inside the cache.
    for start in range(0, len(numbers), 256):
        part = rest[start : start + 256]
        for position in range(per_chunk):
            quotient = part // np.uint64(base)
            digits[start : start + 256, :, position] = part - quotient * np.uint64(base)
            part = quotient
    return digits.reshape(len(numbers), chunks * per_chunk)[:, :count]
