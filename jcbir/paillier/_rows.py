"""Batches of big numbers as `uint8[n, w]`: n big-endian numbers of w bytes, to slice, memory-map, store and send."""

import operator
from collections.abc import Iterable, Mapping, Sequence, Set

import numpy as np
from jaxtyping import Integer, UInt8

from jcbir.errors import FormatError
from jcbir.typing import Array, Rows

Messages = UInt8[Array, "n w"] | Integer[Array, "n"] | Sequence[int | np.integer]
"""Plaintexts: big-endian rows, an integer array, or any sequence of Python or NumPy integers."""

Ciphertexts = UInt8[Array, "n c"]
"""n ciphertexts, big-endian, all as wide as n^2."""

CiphertextRows = UInt8[np.ndarray, "n c"]
"""Ciphertexts as every function here returns them."""

PlaintextRows = UInt8[np.ndarray, "n p"]
"""Plaintexts as every function here returns them, as wide as n."""


def from_ints(values: Iterable[int | np.integer], *, width: int) -> Rows:
    """Write non-negative integers as big-endian rows: sum_j row[j] 256^(width - 1 - j).

    Args:
        values: integers in [0, 256^width), Python's, NumPy's or gmpy2's, in any order of arrival.
        width: bytes per row.

    Returns:
        Rows of shape [n, width].

    Raises:
        ValueError: a value is no integer, negative, or needs more than `width` bytes.

    Example:
        >>> from_ints([1, 258], width=2).tolist()
        [[0, 1], [1, 2]]
    """
    width = check_int(width, name="width", least=0)
    numbers = check_ints(values, name="values")
    try:
        buffer = b"".join(number.to_bytes(width, "big") for number in numbers)
    except OverflowError:
        bad = next(i for i, number in enumerate(numbers) if not 0 <= number < 1 << (8 * width))
        # The number may be a plaintext: its size is all that an error shows of it.
        sign = "negative " if numbers[bad] < 0 else ""
        raise ValueError(
            f"values[{bad}]: must lie in [0, 2^{8 * width}), got a {sign}number of {numbers[bad].bit_length()} bits"
        ) from None
    return np.frombuffer(buffer, np.uint8).reshape(len(numbers), width)


def to_ints(rows: UInt8[Array, "n w"]) -> list[int]:
    """Read big-endian rows as Python integers: sum_j row[j] 256^(w - 1 - j).

    Args:
        rows: rows of shape [n, w].

    Returns:
        n integers in [0, 256^w).

    Raises:
        ValueError: not a two-dimensional array of bytes.

    Example:
        >>> to_ints(from_ints([1, 258], width=4))
        [1, 258]
    """
    check_rows(rows, name="rows")
    buffer, width = np.ascontiguousarray(rows).tobytes(), rows.shape[1]
    return [int.from_bytes(buffer[i * width : (i + 1) * width], "big") for i in range(len(rows))]


def to_signed_ints(rows: UInt8[Array, "n w"], *, modulus: int) -> list[int]:
    """Read residues as the integers nearest to zero: x if 2x < modulus, else x - modulus.

    Args:
        rows: rows of residues in [0, modulus), as `secret.decrypt` gives them.
        modulus: the plaintext modulus n.

    Returns:
        n integers in (-modulus/2, modulus/2].

    Raises:
        ValueError: a row is not a residue of this modulus.

    Example:
        >>> to_signed_ints(from_ints([3, 18], width=1), modulus=20)
        [3, -2]
    """
    modulus = check_int(modulus, name="modulus", least=1)
    numbers = to_ints(rows)
    check_below(rows, modulus, name="rows")
    return [number - modulus if 2 * number > modulus else number for number in numbers]


def from_messages(messages: Messages, *, modulus: int) -> PlaintextRows:
    """Plaintexts as rows of residues: rows of at most the modulus' width, or integers, -m standing for modulus - m."""
    width = -(-modulus.bit_length() // 8)
    if getattr(messages, "ndim", 1) == 2:
        table = np.asarray(messages)
        if table.dtype != np.uint8 or table.shape[1] > width:
            raise ValueError(
                f"messages: must be uint8[n, w <= {width}] or integers, got {table.dtype} of shape {table.shape}"
            )
        table = np.pad(table, ((0, 0), (width - table.shape[1], 0)))
        check_below(table, modulus, name="messages")
        return table
    numbers = check_ints(messages, name="messages")
    for i, number in enumerate(numbers):
        if abs(number) >= modulus:
            raise ValueError(
                f"messages[{i}]: must lie strictly between -n and n, got a number of {number.bit_length()} bits"
            )
    return from_ints((number % modulus for number in numbers), width=width)


def check_int(value: int | np.integer, *, name: str, least: int) -> int:
    """A Python or NumPy integer of at least so much; True is none."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        shown = type(value).__name__ if number is None else repr(value)
        raise ValueError(f"{name}: must be an integer of at least {least}, got {shown}")
    return number


def check_ints(values: Iterable[int | np.integer], *, name: str) -> list[int]:
    """Python integers from an integer array [n] or any other iterable of integers but text, bytes, sets and mappings.

    An error shows the type of what came, not its value, which may be a plaintext.
    """
    if hasattr(values, "ndim"):
        array = np.asarray(values)
        if array.ndim != 1 or array.dtype.kind not in "iuO":
            raise ValueError(f"{name}: must be an integer array [n], got {array.dtype} of shape {array.shape}")
        values = array.tolist()
    elif not isinstance(values, Iterable) or isinstance(values, str | bytes | bytearray | memoryview | Mapping | Set):
        raise ValueError(f"{name}: must be a sequence of integers, got {type(values).__name__}")
    numbers = []
    for i, value in enumerate(values):
        try:
            numbers.append(int(operator.index(value)))
        except TypeError:
            raise ValueError(f"{name}[{i}]: must be an integer, got {type(value).__name__}") from None
        if isinstance(value, bool):
            raise ValueError(f"{name}[{i}]: must be an integer, got bool")
    return numbers


def check_rows(rows: UInt8[Array, "n w"], *, name: str, width: int | None = None) -> None:
    """Require an array uint8[n, w], of a key's width where one is given."""
    if getattr(rows, "ndim", 0) != 2 or rows.dtype != np.uint8:
        shape = f"{rows.dtype} of shape {tuple(rows.shape)}" if hasattr(rows, "ndim") else type(rows).__name__
        raise ValueError(f"{name}: must be uint8[n, {width or 'w'}] rows, got {shape}")
    if width is not None and rows.shape[1] != width:
        raise FormatError(f"{name}: must be {width} bytes wide for this key, got {rows.shape[1]}")


def check_below(rows: UInt8[Array, "n w"], bound: int, *, name: str = "rows") -> None:
    """Require every row to be below a bound, without turning rows into integers."""
    table, width = np.asarray(rows), rows.shape[1]
    if bound >= 1 << (8 * width) or not len(table):
        return
    limit = np.frombuffer(bound.to_bytes(width, "big"), np.uint8)
    differs = table != limit
    first = differs.argmax(axis=1)
    below = differs.any(axis=1) & (table[np.arange(len(table)), first] < limit[first])
    if not below.all():
        bad = int(np.flatnonzero(~below)[0])
        raise ValueError(f"{name}[{bad}]: must be below a bound of {bound.bit_length()} bits, got a larger number")
