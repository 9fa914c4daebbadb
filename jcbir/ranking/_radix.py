"""Digits in any base to big-endian numbers and back, whole batches at a time.

Composing is one exact matrix product: with `base^j` cut into 16-bit limbs, a number is `digits @ limbs`, and every
sum is an integer below `m * base * 2^16 < 2^53`, so float64 holds it exactly whatever the order of summation; one
pass of carries then leaves 16-bit limbs.

Splitting is a matrix product too, of fractions: `f_j = x / B^(j+1) mod 1` is `sum_i limb_i (2^(16 i) / B^(j+1) mod 1)`
modulo 1, with no division of long numbers. As `B f_j = d_j + f_(j-1)` modulo B, the digits follow from the lowest up:
`d_j = round(B f_j - f_(j-1)) mod B` with `f_(j-1) = (d_(j-1) + f_(j-2)) / B` from the digits already known. With L
limbs the computed `f_j` err by less than `L (L + 2) 2^16 2^-53` (L products below 2^16, each off by half a unit of its
weight's last place and by half a unit of each sum's), so every digit is exact while `B L (L + 2) 2^-37 <= 1/4`.
"""

import functools
import itertools

import numpy as np
from jaxtyping import Float, Int, Integer, UInt, UInt8

from jcbir.paillier._rows import check_below

CHUNK_ROWS = 4096
CHUNK_VALUES = 1 << 16
LIMB_BITS = 16


def compose(digits: Integer[np.ndarray, "n m"], *, base: int, width: int) -> UInt8[np.ndarray, "n w"]:
    """Write digits, least significant first, as big-endian numbers of `width` bytes: `x_i = sum_j digits_ij base^j`."""
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
        raise ValueError(f"width: must be enough bytes for {length} digits in base {base}, got {width}")
    return np.ascontiguousarray(numbers[:, 2 * limbs - width :])


def split(numbers: UInt8[np.ndarray, "n w"], *, base: int, count: int) -> UInt[np.ndarray, "n m"]:
    """Read big-endian numbers as `count` digits, least significant first, uint8 or uint16: the inverse of `compose`."""
    check_below(numbers, base**count, name="numbers not made with this layout and key: numbers")
    if base & (base - 1) == 0:
        return _split_bits(numbers, base.bit_length() - 1, count)
    limbs = np.pad(numbers, ((0, 0), (numbers.shape[1] % 2, 0))).view(">u2")[:, ::-1]
    # Several digits at once while a chunk of them, like a single digit, is read exactly.
    largest = min(0.25 / (limbs.shape[1] * (limbs.shape[1] + 2) * 2.0**-37), CHUNK_VALUES)
    digits = max(c for c in range(17) if base**c <= largest)
    if not digits:
        raise ValueError(f"base: must be at most {largest:.0f} for numbers of {numbers.shape[1]} bytes, got {base}")
    size, chunks = base**digits, -(-count // digits)
    weights, table = _fraction_weights(size, chunks, limbs.shape[1]), _digit_table(base, digits)
    split_rows = np.empty((len(numbers), chunks * digits), table.dtype)
    for start in range(0, len(numbers), CHUNK_ROWS):
        values = _chunk_values(weights @ limbs[start : start + CHUNK_ROWS].T.astype(np.float64), size)
        split_rows[start : start + CHUNK_ROWS] = table[values.T].reshape(-1, chunks * digits)
    return split_rows[:, :count]


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


def _split_bits(numbers: np.ndarray, log: int, count: int) -> np.ndarray:
    bits = np.unpackbits(numbers[:, ::-1], axis=1, bitorder="little")
    used = np.zeros((len(numbers), count * log), _digit_type(1 << log))
    used[:, : bits.shape[1]] = bits[:, : count * log]
    weights = (1 << np.arange(log)).astype(used.dtype)
    return used.reshape(len(numbers), count, log) @ weights


def _chunk_values(sums: Float[np.ndarray, "m n"], size: int) -> Int[np.ndarray, "m n"]:
    """The digits in base `size` of numbers whose fractions `sums` are known up to whole numbers, lowest first."""
    sums -= np.floor(sums)
    sums *= size
    below = np.zeros(sums.shape[1])
    for row in sums:
        row -= below
        np.rint(row, out=row)
        # A fraction just below 1 that should be just above 0, or the other way round.
        row[row == size] = 0
        row[row < 0] += size
        below = (row + below) / size
    return sums.astype(np.int64)


@functools.lru_cache(maxsize=16)
def _fraction_weights(size: int, count: int, limbs: int) -> Float[np.ndarray, "m l"]:
    """2^(16 i) / size^(j + 1) modulo 1, in row j and column i."""
    weights = np.empty((count, limbs))
    power = 1
    for j in range(count):
        power *= size
        # 128 bits make the nearest float as well as all of them.
        rest, short = 1, max(power.bit_length() - 128, 0)
        for i in range(limbs):
            weights[j, i] = (rest >> short) / (power >> short)
            rest = (rest << LIMB_BITS) % power
    return weights


@functools.lru_cache(maxsize=16)
def _digit_table(base: int, count: int) -> UInt[np.ndarray, "v c"]:
    """The digits of every number below base^count, lowest first."""
    values = np.arange(base**count)[:, None] // base ** np.arange(count) % base
    return values.astype(_digit_type(base))
