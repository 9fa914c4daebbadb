"""Batches of big numbers as `uint8[n, w]`: n big-endian numbers of w bytes, to slice, memory-map, store and send."""

import operator
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Integer, UInt8

from jcbir.typing import Array, Rows

Messages = UInt8[Array, "n w"] | Integer[Array, "n"] | Sequence[int | np.integer]
"""Plaintexts: big-endian rows, an integer array, or any sequence of Python or NumPy integers."""

Ciphertexts = UInt8[Array, "n c"]
"""n ciphertexts, big-endian, all as wide as n^2."""

CiphertextRows = UInt8[np.ndarray, "n c"]
"""Ciphertexts as every function of this room returns them."""

PlaintextRows = UInt8[np.ndarray, "n p"]
"""Plaintexts as every function of this room returns them, as wide as n."""


def from_ints(values: Iterable[int | np.integer], *, width: int) -> Rows:
    """Write non-negative integers as big-endian rows.

    Args:
        values: integers in [0, 256^width), Python's, NumPy's or gmpy2's.
        width: bytes per row.

    Returns:
        Rows of shape [n, width].

    Raises:
        ValueError: a value is negative or needs more than `width` bytes.

    Example:
        >>> from_ints([1, 258], width=2).tolist()
        [[0, 1], [1, 2]]
    """
    numbers = [int(operator.index(value)) for value in values]
    try:
        buffer = b"".join(number.to_bytes(width, "big") for number in numbers)
    except OverflowError:
        bad = next(i for i, number in enumerate(numbers) if not 0 <= number < 1 << (8 * width))
        raise ValueError(
            f"values[{bad}] must lie in [0, 2^{8 * width}), got {numbers[bad].bit_length()} bits"
            f"{' and a minus sign' if numbers[bad] < 0 else ''}"
        ) from None
    return np.frombuffer(buffer, np.uint8).reshape(len(numbers), width)


def to_ints(rows: UInt8[Array, "n w"]) -> list[int]:
    """Read big-endian rows as Python integers.

    Args:
        rows: rows of shape [n, w].

    Returns:
        n integers in [0, 256^w).

    Example:
        >>> to_ints(from_ints([1, 258], width=4))
        [1, 258]
    """
    buffer, width = np.ascontiguousarray(rows).tobytes(), rows.shape[1]
    return [int.from_bytes(buffer[i * width : (i + 1) * width], "big") for i in range(len(rows))]


def integer_limbs(value: int, count: int) -> Float[np.ndarray, "m 1"]:
    """Little-endian 16-bit limbs of a number, as a column of floats.

    Args:
        value: a number in [0, 2^(16 count)).
        count: limbs.

    Returns:
        The column.

    Example:
        >>> integer_limbs(65537, 3).ravel().tolist()
        [1.0, 1.0, 0.0]
    """
    return np.frombuffer(value.to_bytes(2 * count, "little"), "<u2").astype(np.float64).reshape(-1, 1)


def to_signed_ints(rows: UInt8[Array, "n w"], *, modulus: int) -> list[int]:
    """Read residues as the integers nearest to zero: x if 2x < modulus, else x - modulus.

    Args:
        rows: rows of residues in [0, modulus).
        modulus: the plaintext modulus n.

    Returns:
        n integers in (-modulus/2, modulus/2].

    Raises:
        ValueError: a row is not a residue of this modulus.

    Example:
        >>> to_signed_ints(from_ints([3, 18], width=1), modulus=20)
        [3, -2]
    """
    numbers = to_ints(rows)
    for i, number in enumerate(numbers):
        if number >= modulus:
            raise ValueError(f"rows[{i}] must be below the modulus of {modulus.bit_length()} bits, got {number:#x}")
    return [number - modulus if 2 * number > modulus else number for number in numbers]


def from_messages(messages: Messages, *, modulus: int) -> PlaintextRows:
    """Write plaintexts as rows of residues; a negative m stands for modulus - |m|.

    Args:
        messages: rows of at most the modulus' width, or integers in (-modulus, modulus).
        modulus: the plaintext modulus n.

    Returns:
        Rows of shape [n, ceil(bits(modulus)/8)], each below the modulus.

    Raises:
        ValueError: a message is out of range, or the array is neither uint8[n, w] nor a list of integers.

    Example:
        >>> from_messages([5, -1], modulus=1000).tolist()
        [[0, 5], [3, 231]]
    """
    width = -(-modulus.bit_length() // 8)
    if getattr(messages, "ndim", 1) == 2:
        table = np.asarray(messages)
        if table.dtype != np.uint8 or table.shape[1] > width:
            raise ValueError(f"messages must be uint8[n, w <= {width}] or integers, got {table.dtype}{table.shape}")
        table = np.pad(table, ((0, 0), (width - table.shape[1], 0)))
        check_below(table, modulus, name="messages")
        return table
    items = np.asarray(messages) if hasattr(messages, "ndim") else messages
    numbers = [int(operator.index(message)) for message in items]
    for i, number in enumerate(numbers):
        if abs(number) >= modulus:
            raise ValueError(f"messages[{i}] must lie strictly between -n and n, got {number.bit_length()} bits")
    return from_ints((number % modulus for number in numbers), width=width)


def check_below(rows: UInt8[Array, "n w"], bound: int, *, name: str = "rows") -> None:
    """Require every row to be below a bound, without turning rows into integers.

    Args:
        rows: rows of shape [n, w].
        bound: first forbidden value.
        name: what the caller calls these rows.

    Returns:
        Nothing.

    Raises:
        ValueError: a row is at least `bound`.

    Example:
        >>> check_below(from_ints([7, 8], width=1), 9)
    """
    table, width = np.asarray(rows), rows.shape[1]
    if bound >= 1 << (8 * width) or not len(table):
        return
    limit = np.frombuffer(bound.to_bytes(width, "big"), np.uint8)
    differs = table != limit
    first = differs.argmax(axis=1)
    below = differs.any(axis=1) & (table[np.arange(len(table)), first] < limit[first])
    if not below.all():
        bad = int(np.flatnonzero(~below)[0])
        raise ValueError(f"{name}[{bad}] must be below a bound of {bound.bit_length()} bits, got a larger number")
