"""Strict schemas: what a field of a message or key file may be, in both directions, with a limit on everything.

A codec turns a value into plain msgpack material (integers, text, bytes, lists) and back. Nothing is built that the
schema does not name, so a foreign byte string can never make an object of its own choosing.
"""

import operator
from collections.abc import Callable, Mapping
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
    """An integer in `low..high`."""

    def parse(plain: Any, name: str) -> int:
        if type(plain) is not int or not low <= plain <= high:
            raise FormatError(f"{name}: expected an integer from {low} to {high}, got {_shown(plain)}")
        return plain

    return Codec(lambda value: parse(operator.index(value), "value"), parse)


def text(*, low: int = 0, high: int = 255) -> Codec:
    """Text of `low..high` characters."""

    def parse(plain: Any, name: str) -> str:
        if type(plain) is not str or not low <= len(plain) <= high:
            raise FormatError(f"{name}: expected text of {low} to {high} characters, got {_shown(plain)}")
        return plain

    return Codec(lambda value: parse(value, "value"), parse)


def octets(*, low: int, high: int) -> Codec:
    """A byte string of `low..high` bytes."""

    def parse(plain: Any, name: str) -> bytes:
        if type(plain) is not bytes or not low <= len(plain) <= high:
            raise FormatError(f"{name}: expected {low} to {high} bytes, got {_shown(plain)}")
        return plain

    return Codec(lambda value: parse(bytes(value), "value"), parse)


def number() -> Codec:
    """A non-negative integer of key size: its shortest big-endian bytes."""

    def pack(value: int) -> bytes:
        return value.to_bytes((value.bit_length() + 7) // 8)

    def parse(plain: Any, name: str) -> int:
        if type(plain) is not bytes or len(plain) > MAX_NUMBER_BYTES or plain[:1] == b"\0":
            raise FormatError(f"{name}: expected at most {MAX_NUMBER_BYTES} bytes without leading zeros")
        return int.from_bytes(plain)

    return Codec(pack, parse)


def optional(codec: Codec) -> Codec:
    """A field that may be absent."""
    return Codec(
        lambda value: None if value is None else codec.pack(value),
        lambda plain, name: None if plain is None else codec.parse(plain, name),
    )


def many(codec: Codec, *, low: int = 0, high: int = MAX_ITEMS) -> Codec:
    """A tuple of `low..high` items of one kind."""

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
    """Byte rows `uint8[n, w]`, `1 <= w <= width`; what is parsed is a read-only view of the message."""

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


def record(kind: Callable[..., Any], /, **fields: Codec) -> Codec:
    """A record: the fields in the order of the class, as a list; its constructor may refuse as well."""
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


def fields() -> Codec:
    """The fields of a key by name, in order: whole numbers and bytes, each as name, `"n"` or `"b"`, bytes."""
    name_of, integer, body = text(low=1, high=64), number(), octets(low=0, high=1 << 26)

    def pack(values: Mapping[str, int | bytes]) -> list:
        return [
            [name, "b", body.pack(value)] if isinstance(value, bytes) else [name, "n", integer.pack(value)]
            for name, value in values.items()
        ]

    def parse(plain: Any, name: str) -> dict[str, int | bytes]:
        if not isinstance(plain, list) or not 1 <= len(plain) <= 64:
            raise FormatError(f"{name}: expected 1 to 64 fields, got {_shown(plain)}")
        found: dict[str, int | bytes] = {}
        for item in plain:
            if not isinstance(item, list) or len(item) != 3 or item[1] not in ("n", "b"):
                raise FormatError(f"{name}: expected name, kind and bytes of a field, got {_shown(item)}")
            key = name_of.parse(item[0], name)
            found[key] = (integer if item[1] == "n" else body).parse(item[2], name)
        if len(found) != len(plain):
            raise FormatError(f"{name}: a field appears twice")
        return found

    return Codec(pack, parse)


def write_plain(codec: Codec, value: Any) -> bytes:
    """The value as msgpack; ValueError where it breaks a limit of its schema."""
    return msgpack.packb(codec.pack(value), use_bin_type=True)


def read_plain(codec: Codec, body: bytes, *, name: str) -> Any:
    """The value back from msgpack; FormatError where the bytes are not one value of the schema."""
    try:
        plain = msgpack.unpackb(body, raw=False, max_array_len=MAX_ITEMS, max_map_len=0, max_ext_len=0)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise FormatError(f"{name}: not msgpack of this schema ({type(error).__name__})") from None
    return codec.parse(plain, name)


def write_versioned(codec: Codec, value: Any, *, version: int) -> bytes:
    """A version byte and the value as msgpack: the form of what is sealed."""
    return bytes([version]) + write_plain(codec, value)


def read_versioned(codec: Codec, body: bytes, *, version: int, name: str) -> Any:
    """The value back; FormatError for another version."""
    if body[:1] != bytes([version]):
        raise FormatError(f"{name}: must be of version {version}, got {body[0] if body else 'nothing'}")
    return read_plain(codec, body[1:], name=name)


def _shown(plain: Any) -> str:
    """A short description: content of a refused message does not belong into an error text."""
    size = f" of {len(plain)}" if isinstance(plain, (str, bytes, list)) else ""
    return f"{type(plain).__name__}{size}"
