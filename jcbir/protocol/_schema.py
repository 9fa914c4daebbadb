"""Strict schemas: what a field of a message or key file may be, in both directions, with a limit on everything.

A codec turns a value into plain msgpack material (integers, text, bytes, lists) and back. Nothing is built that the
schema does not name, so a foreign byte string can never make an object of its own choosing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack
import numpy as np

from jcbir.errors import FormatError

MAX_ITEMS = 1 << 16
"""Longest list in any message; longer collections travel as several messages."""

# Numbers beyond this are not keys that anybody uses, and would cost the reader time.
MAX_NUMBER_BYTES = 4096
_MAX_ROWS = 1 << 28


class Codec(NamedTuple):
    """Both directions of one field.

    Attributes:
        pack: value to plain material.
        parse: plain material and the field's name to value; FormatError where it does not fit.
    """

    pack: Callable[[Any], Any]
    parse: Callable[[Any, str], Any]


def whole(*, low: int, high: int) -> Codec:
    """Describe an integer in `low..high`.

    Args:
        low: least value.
        high: largest value, below 2^63.

    Returns:
        The codec.

    Raises:
        FormatError: from `parse`, where the material does not fit; from `pack`, where the value does not.

    Example:
        >>> whole(low=0, high=9).parse(7, "digit")
        7
    """

    def parse(plain: Any, name: str) -> int:
        if type(plain) is not int or not low <= plain <= high:
            raise FormatError(f"{name}: expected an integer from {low} to {high}, got {_shown(plain)}")
        return plain

    return Codec(lambda value: parse(int(value), "value"), parse)


def text(*, low: int = 0, high: int = 255) -> Codec:
    """Describe text of `low..high` characters.

    Args:
        low: least length.
        high: largest length.

    Returns:
        The codec.

    Raises:
        FormatError: from `parse`, where the material does not fit; from `pack`, where the value does not.

    Example:
        >>> text(high=5).parse("photo", "name")
        'photo'
    """

    def parse(plain: Any, name: str) -> str:
        if type(plain) is not str or not low <= len(plain) <= high:
            raise FormatError(f"{name}: expected text of {low} to {high} characters, got {_shown(plain)}")
        return plain

    return Codec(lambda value: parse(value, "value"), parse)


def octets(*, low: int, high: int) -> Codec:
    """Describe a byte string of `low..high` bytes.

    Args:
        low: least length.
        high: largest length.

    Returns:
        The codec.

    Raises:
        FormatError: from `parse`, where the material does not fit; from `pack`, where the value does not.

    Example:
        >>> octets(low=2, high=2).parse(b"ab", "pair")
        b'ab'
    """

    def parse(plain: Any, name: str) -> bytes:
        if type(plain) is not bytes or not low <= len(plain) <= high:
            raise FormatError(f"{name}: expected {low} to {high} bytes, got {_shown(plain)}")
        return plain

    return Codec(lambda value: parse(bytes(value), "value"), parse)


def number() -> Codec:
    """Describe a non-negative integer of key size: its shortest big-endian bytes.

    Returns:
        The codec.

    Raises:
        FormatError: from `parse`, where the material does not fit; from `pack`, where the value does not.

    Example:
        >>> number().parse(number().pack(2**100), "n") == 2**100
        True
    """

    def pack(value: int) -> bytes:
        return value.to_bytes((value.bit_length() + 7) // 8)

    def parse(plain: Any, name: str) -> int:
        if type(plain) is not bytes or len(plain) > MAX_NUMBER_BYTES or plain[:1] == b"\0":
            raise FormatError(f"{name}: expected at most {MAX_NUMBER_BYTES} bytes without leading zeros")
        return int.from_bytes(plain)

    return Codec(pack, parse)


def optional(codec: Codec) -> Codec:
    """Describe a field that may be absent.

    Args:
        codec: what it is where it is present.

    Returns:
        The codec.

    Example:
        >>> optional(text()).parse(None, "name") is None
        True
    """
    return Codec(
        lambda value: None if value is None else codec.pack(value),
        lambda plain, name: None if plain is None else codec.parse(plain, name),
    )


def many(codec: Codec, *, low: int = 0, high: int = MAX_ITEMS) -> Codec:
    """Describe a tuple of `low..high` items of one kind.

    Args:
        codec: what each item is.
        low: least number.
        high: largest number.

    Returns:
        The codec.

    Raises:
        FormatError: from `parse`, where the material does not fit; from `pack`, where the value does not.

    Example:
        >>> many(text()).parse(["a", "b"], "names")
        ('a', 'b')
    """

    def check(plain: Any, name: str) -> None:
        if not isinstance(plain, list) or not low <= len(plain) <= high:
            raise FormatError(f"{name}: expected {low} to {high} items, got {_shown(plain)}")

    def pack(values: tuple) -> list:
        check(list(values), "value")
        return [codec.pack(value) for value in values]

    def parse(plain: Any, name: str) -> tuple:
        check(plain, name)
        return tuple(codec.parse(item, name) for item in plain)

    return Codec(pack, parse)


def rows(*, width: int) -> Codec:
    """Describe byte rows `uint8[n, w]`, `1 <= w <= width`.

    Args:
        width: widest row.

    Returns:
        The codec; what it parses is a read-only view of the message.

    Raises:
        FormatError: from `parse`, where the material does not fit; from `pack`, where the value does not.

    Example:
        >>> rows(width=4).parse(rows(width=4).pack(np.zeros((2, 3), np.uint8)), "rows").shape
        (2, 3)
    """

    def pack(value: np.ndarray) -> list:
        plain = np.ascontiguousarray(value)
        return [*plain.shape, plain.tobytes()]

    def parse(plain: Any, name: str) -> np.ndarray:
        if not isinstance(plain, list) or [type(item) for item in plain] != [int, int, bytes]:
            raise FormatError(f"{name}: expected count, width and bytes")
        count, columns, body = plain
        if not (0 <= count <= _MAX_ROWS and 1 <= columns <= width and count * columns == len(body)):
            raise FormatError(f"{name}: {count} rows of {columns} bytes (at most {width}) are not {len(body)} bytes")
        return np.frombuffer(body, np.uint8).reshape(count, columns)

    return Codec(pack, parse)


def record(kind: Callable[..., Any], **fields: Codec) -> Codec:
    """Describe a record: the fields in order, as a list.

    Args:
        kind: the class; its constructor may refuse as well.
        **fields: codec of each field, in the order of the class.

    Returns:
        The codec.

    Raises:
        FormatError: from `parse`, where the material does not fit; from `pack`, where the value does not.

    Example:
        >>> class Pair(NamedTuple):
        ...     a: str
        ...     b: int
        >>> record(Pair, a=text(), b=whole(low=0, high=9)).parse(["x", 3], "pair")
        Pair(a='x', b=3)
    """
    label = getattr(kind, "__name__", "record")

    def parse(plain: Any, name: str) -> Any:
        if not isinstance(plain, list) or len(plain) != len(fields):
            raise FormatError(f"{name}: expected the {len(fields)} fields of a {label}, got {_shown(plain)}")
        values = [codec.parse(item, key) for (key, codec), item in zip(fields.items(), plain, strict=True)]
        try:
            return kind(*values)
        except FormatError:
            raise
        except ValueError as error:
            raise FormatError(f"{name}: {error}") from None

    return Codec(lambda value: [codec.pack(getattr(value, key)) for key, codec in fields.items()], parse)


def write_plain(codec: Codec, value: Any) -> bytes:
    """Write a value as msgpack.

    Args:
        codec: its schema.
        value: the value.

    Returns:
        The bytes.

    Raises:
        ValueError: the value breaks a limit of its schema.

    Example:
        >>> write_plain(text(), "a")
        b'\xa1a'
    """
    return msgpack.packb(codec.pack(value), use_bin_type=True)


def read_plain(codec: Codec, body: bytes, *, name: str) -> Any:
    """Read a value back from msgpack.

    Args:
        codec: its schema.
        body: the bytes, all of them.
        name: what it is, for messages.

    Returns:
        The value.

    Raises:
        FormatError: the bytes are not one value of the schema.

    Example:
        >>> read_plain(text(), write_plain(text(), "a"), name="letter")
        'a'
    """
    try:
        plain = msgpack.unpackb(body, raw=False, max_array_len=MAX_ITEMS, max_map_len=0, max_ext_len=0)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise FormatError(f"{name}: not msgpack of this schema ({type(error).__name__})") from None
    return codec.parse(plain, name)


def _shown(plain: Any) -> str:
    """A short description: content of a refused message does not belong into an error text."""
    size = f" of {len(plain)}" if isinstance(plain, (str, bytes, list)) else ""
    return f"{type(plain).__name__}{size}"


__all__ = [
    "MAX_ITEMS",
    "Codec",
    "many",
    "number",
    "octets",
    "optional",
    "read_plain",
    "record",
    "rows",
    "text",
    "whole",
    "write_plain",
]
