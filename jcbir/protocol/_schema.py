"""Strict schemas: what a field of a message or key file may be, in both directions, with a limit on everything.

A codec turns a value into plain msgpack material (integers, text, bytes, lists) and reads it back. Reading goes along
the schema: nothing is built that the schema does not name, rows stay views of what was read, each value has one
encoding only, and what is built of a body never exceeds `building_room` of its length.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import msgpack
import numpy as np

from jcbir.errors import FormatError

MAX_ITEMS = 1 << 16
"""Longest list in any message; longer collections travel as several messages."""

# Numbers beyond this are not keys that anybody uses, and would cost the reader time.
MAX_NUMBER_BYTES = 4096
_MAX_ROWS = 1 << 28
# What objects take in memory beside their content, as CPython lays them out, rounded up.
_VALUE_BYTES, _FIELD_BYTES, _ROWS_BYTES = 64, 24, 400
_NOTHING = 0xC0
# Tag to kind, bytes of the number that follows, and the least number that needs so many.
_TAGS = {
    _NOTHING: ("nothing", 0, 0),
    0xC4: ("bytes", 1, 0), 0xC5: ("bytes", 2, 1 << 8), 0xC6: ("bytes", 4, 1 << 16),
    0xCC: ("integer", 1, 1 << 7), 0xCD: ("integer", 2, 1 << 8), 0xCE: ("integer", 4, 1 << 16),
    0xCF: ("integer", 8, 1 << 32),
    0xD9: ("text", 1, 1 << 5), 0xDA: ("text", 2, 1 << 8), 0xDB: ("text", 4, 1 << 16),
    0xDC: ("list", 2, 1 << 4), 0xDD: ("list", 4, 1 << 16),
}  # fmt: skip


class Reader:
    """A cursor over msgpack material that reads what its caller expects and counts what is built of it.

    Attributes:
        view: the material.
        at: first byte not read yet.
        room: bytes of memory that may still be filled.
    """

    def __init__(self, body: bytes | memoryview, *, room: int) -> None:
        self.view = memoryview(body).toreadonly()
        self.at, self.room = 0, room

    def take(self, size: int, name: str) -> memoryview:
        """Read so many bytes."""
        if size > len(self.view) - self.at:
            raise FormatError(f"{name}: must be {size} bytes more, got {len(self.view) - self.at}")
        self.at += size
        return self.view[self.at - size : self.at]

    def spend(self, size: int, name: str) -> None:
        """Count memory that a value fills."""
        self.room -= size
        if self.room < 0:
            raise FormatError(f"{name}: must be of fewer parts for a message of {len(self.view)} bytes")

    def head(self, name: str) -> tuple[str, int]:
        """Read the kind of a value, and its number or length; "other" is whatever no schema names."""
        tag = self.take(1, name)[0]
        if tag < 0x80:
            return "integer", tag
        if 0x90 <= tag < 0xA0:
            return "list", tag & 0x0F
        if 0xA0 <= tag < _NOTHING:
            return "text", tag & 0x1F
        kind, size, least = _TAGS.get(tag, ("other", 0, 0))
        value = int.from_bytes(self.take(size, name))
        if value < least:
            raise FormatError(f"{name}: must be in its shortest form, got {value} in {size} bytes")
        return kind, value

    def absent(self) -> bool:
        """Read over a nothing, if that is next."""
        here = self.at < len(self.view) and self.view[self.at] == _NOTHING
        self.at += here
        return here


class Codec(NamedTuple):
    """Both directions of one field.

    Attributes:
        pack: value to plain material.
        parse: reader and the field's name to value; FormatError where what comes next does not fit.
    """

    pack: Callable[[Any], Any]
    parse: Callable[[Reader, str], Any]


def building_room(length: int) -> int:
    """Bytes of memory that may be filled with what is read of a body of so many bytes: as many again, and objects."""
    return length + min(64 * length, 16 << 20)


def whole(*, low: int, high: int) -> Codec:
    """An integer in `low..high`, `0 <= low`, `high < 2^63`."""

    def check(value: int, name: str) -> int:
        if not low <= value <= high:
            raise FormatError(f"{name}: must be an integer from {low} to {high}, got {value}")
        return value

    def parse(reader: Reader, name: str) -> int:
        kind, value = reader.head(name)
        if kind != "integer":
            raise FormatError(f"{name}: must be an integer from {low} to {high}, got {kind}")
        return check(value, name)

    return Codec(lambda value: check(operator.index(value), "value"), parse)


def text(*, low: int = 0, high: int = 255) -> Codec:
    """Text of `low..high` characters."""

    def check(value: str, name: str) -> str:
        if type(value) is not str or not low <= len(value) <= high:
            raise FormatError(f"{name}: must be text of {low} to {high} characters, got {_shown(value)}")
        return value

    def parse(reader: Reader, name: str) -> str:
        kind, size = reader.head(name)
        if kind != "text" or size > 4 * high:
            raise FormatError(f"{name}: must be text of {low} to {high} characters, got {kind} of {size}")
        try:
            value = str(reader.take(size, name), "utf-8")
        except UnicodeDecodeError:
            raise FormatError(f"{name}: must be text in UTF-8, got other bytes") from None
        reader.spend(_VALUE_BYTES + size * (1 if value.isascii() else 4), name)
        return check(value, name)

    return Codec(lambda value: check(value, "value"), parse)


def octets(*, low: int, high: int) -> Codec:
    """A byte string of `low..high` bytes."""

    def check(size: int, name: str, kind: str = "bytes") -> None:
        if kind != "bytes" or not low <= size <= high:
            raise FormatError(f"{name}: must be {low} to {high} bytes, got {kind} of {size}")

    def pack(value: Any) -> bytes:
        check(len(value), "value")
        return bytes(value)

    def parse(reader: Reader, name: str) -> bytes:
        kind, size = reader.head(name)
        check(size, name, kind)
        reader.spend(_VALUE_BYTES + size, name)
        return bytes(reader.take(size, name))

    return Codec(pack, parse)


def number() -> Codec:
    """A non-negative integer of key size: its shortest big-endian bytes."""
    plain = octets(low=0, high=MAX_NUMBER_BYTES)

    def parse(reader: Reader, name: str) -> int:
        body = plain.parse(reader, name)
        if body[:1] == b"\0":
            raise FormatError(f"{name}: must be bytes without leading zeros, got {len(body)} with one")
        return int.from_bytes(body)

    return Codec(lambda value: plain.pack(value.to_bytes((value.bit_length() + 7) // 8)), parse)


def optional(codec: Codec) -> Codec:
    """A field that may be absent."""
    return Codec(
        lambda value: None if value is None else codec.pack(value),
        lambda reader, name: None if reader.absent() else codec.parse(reader, name),
    )


def many(codec: Codec, *, low: int = 0, high: int = MAX_ITEMS) -> Codec:
    """A tuple of `low..high` items of one kind."""

    def check(count: int, name: str, kind: str = "list") -> None:
        if kind != "list" or not low <= count <= high:
            raise FormatError(f"{name}: must be {low} to {high} items, got {kind} of {count}")

    def pack(values: tuple) -> list:
        check(len(values), "value")
        return [codec.pack(value) for value in values]

    def parse(reader: Reader, name: str) -> tuple:
        kind, count = reader.head(name)
        check(count, name, kind)
        reader.spend(_VALUE_BYTES, name)
        items = []
        for _ in range(count):
            # Item by item: a count by itself reserves nothing.
            reader.spend(_FIELD_BYTES, name)
            items.append(codec.parse(reader, name))
        return tuple(items)

    return Codec(pack, parse)


def rows(*, width: int) -> Codec:
    """Byte rows `uint8[n, w]`, `1 <= w <= width`; what is parsed is a read-only view of the message."""
    count_codec, columns_codec = whole(low=0, high=_MAX_ROWS), whole(low=1, high=width)

    def pack(value: np.ndarray) -> list:
        plain = np.ascontiguousarray(value)
        return [*plain.shape, plain.tobytes()]

    def parse(reader: Reader, name: str) -> np.ndarray:
        if reader.head(name) != ("list", 3):
            raise FormatError(f"{name}: must be count, width and bytes, got something else")
        count, columns = count_codec.parse(reader, name), columns_codec.parse(reader, name)
        kind, size = reader.head(name)
        if kind != "bytes" or count * columns != size:
            raise FormatError(f"{name}: must be {count} rows of {columns} bytes, got {kind} of {size}")
        reader.spend(_ROWS_BYTES, name)
        return np.frombuffer(reader.take(size, name), np.uint8).reshape(count, columns)

    return Codec(pack, parse)


def fields() -> Codec:
    """The fields of a key by name, in order: whole numbers and bytes, each as name, `"n"` or `"b"`, content."""
    name_codec, kind_codec = text(low=1, high=64), text(low=1, high=1)
    contents = {"n": number(), "b": octets(low=0, high=1 << 26)}

    def pack(values: Mapping[str, int | bytes]) -> list:
        kinds = {name: "b" if isinstance(value, bytes) else "n" for name, value in values.items()}
        return [[name, kinds[name], contents[kinds[name]].pack(value)] for name, value in values.items()]

    def parse(reader: Reader, name: str) -> dict[str, int | bytes]:
        found, count = reader.head(name)
        if found != "list" or not 1 <= count <= 64:
            raise FormatError(f"{name}: must be 1 to 64 fields, got {found} of {count}")
        values: dict[str, int | bytes] = {}
        for _ in range(count):
            if reader.head(name) != ("list", 3):
                raise FormatError(f"{name}: must be name, kind and content of a field, got something else")
            key, kind = name_codec.parse(reader, name), kind_codec.parse(reader, name)
            if kind not in contents or key in values:
                raise FormatError(f"{name}: must be fields of different names and a known kind, got others")
            values[key] = contents[kind].parse(reader, key)
        return values

    return Codec(pack, parse)


def record(kind: Callable[..., Any], /, **fields: Codec) -> Codec:
    """A record: the fields in order, as a list; the constructor of `kind` may refuse as well."""
    label = getattr(kind, "__name__", "record")

    def parse(reader: Reader, name: str) -> Any:
        found, count = reader.head(name)
        if found != "list" or count != len(fields):
            raise FormatError(f"{name}: must be the {len(fields)} fields of a {label}, got {found} of {count}")
        reader.spend(2 * _VALUE_BYTES + _FIELD_BYTES * count, name)
        values = [codec.parse(reader, key) for key, codec in fields.items()]
        try:
            return kind(*values)
        except FormatError:
            raise
        except ValueError as error:
            raise FormatError(f"{name}: {error}") from None

    return Codec(lambda value: [codec.pack(getattr(value, key)) for key, codec in fields.items()], parse)


def write_plain(codec: Codec, value: Any) -> bytes:
    """Write a value as msgpack; ValueError where it breaks a limit of its schema."""
    return cast(bytes, msgpack.packb(codec.pack(value), use_bin_type=True))


def read_plain(codec: Codec, body: bytes | memoryview, *, name: str, room: int | None = None) -> Any:
    """Read a value back from all of `body`; FormatError where that is not one value of the schema."""
    return read_counted(codec, body, name=name, room=room)[0]


def read_counted(codec: Codec, body: bytes | memoryview, *, name: str, room: int | None = None) -> tuple[Any, int]:
    """Read a value back as `read_plain` does, and count the bytes of memory that it fills."""
    given = building_room(len(body)) if room is None else room
    reader = Reader(body, room=given)
    value = codec.parse(reader, name)
    if reader.at != len(body):
        raise FormatError(f"{name}: must end after {reader.at} bytes, got {len(body)}")
    return value, given - reader.room


def write_versioned(codec: Codec, value: Any, *, version: int) -> bytes:
    """A version byte and the value as msgpack: the form of what is sealed."""
    return bytes([version]) + write_plain(codec, value)


def read_versioned(codec: Codec, body: bytes, *, version: int, name: str) -> Any:
    """The value back; FormatError for another version."""
    if body[:1] != bytes([version]):
        raise FormatError(f"{name}: must be of version {version}, got {body[0] if body else 'nothing'}")
    return read_plain(codec, memoryview(body)[1:], name=name)


def _shown(value: Any) -> str:
    """A short description: content of a refused message does not belong into an error text."""
    size = f" of {len(value)}" if isinstance(value, (str, bytes, list)) else ""
    return f"{type(value).__name__}{size}"
