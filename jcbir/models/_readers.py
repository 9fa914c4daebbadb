"""Weight files of other libraries read without executing what is in them: PyTorch archives and TensorFlow.js manifests.

A PyTorch checkpoint (`.pth`, `.bin`) holds a pickle program, and a pickle program may call anything. This module
interprets the two dozen opcodes that a dictionary of tensors needs, with three constructors; any other opcode or name
is refused. Both containers are read: the zip of torch 1.6 and later, and the older run of pickles followed by raw
storages. A TensorFlow.js "layers" model is a JSON manifest and shards of little-endian floats.
"""

import io
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jcbir.errors import FormatError

_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_CONVERT = (
    "convert it with torch, where you trust it: "
    "`safetensors.torch.save_file(torch.load(path, weights_only=True), 'weights.safetensors')`"
)
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MARK = object()


class _Global(NamedTuple):
    name: str


class _Storage(NamedTuple):
    kind: str
    key: str
    count: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(archive: bytes) -> dict[str, np.ndarray]:
    """Name to array of a state dictionary saved by `torch.save`.

    Args:
        archive: the whole file.

    Returns:
        Arrays in memory; bfloat16 comes as float32.

    Raises:
        FormatError: the file is not a plain dictionary of tensors, or is damaged.

    Example:
        >>> read_torch(b"not a checkpoint")
        Traceback (most recent call last):
        jcbir.errors.FormatError: archive must be a dictionary of tensors saved by torch; ...
    """
    return _read(archive, _flatten, what="a dictionary of tensors")


def read_torch_tensor(archive: bytes) -> np.ndarray:
    """The tensor of a file that holds one and nothing else, as the hash centers of the official CSQ code do.

    Args:
        archive: the whole file.

    Returns:
        The array in memory; bfloat16 comes as float32.

    Raises:
        FormatError: the file is not a single tensor, or is damaged.

    Example:
        >>> read_torch_tensor(b"not a checkpoint")
        Traceback (most recent call last):
        jcbir.errors.FormatError: archive must be a tensor saved by torch; ...
    """
    return _read(archive, _alone, what="a tensor")[""]


def _read(archive: bytes, flatten: Callable[[Any], dict[str, _Tensor]], *, what: str) -> dict[str, np.ndarray]:
    try:
        tree, load = _open_zip(archive) if archive[:2] == b"PK" else _open_legacy(archive)
        return {name: _materialize(tensor, load) for name, tensor in flatten(tree).items()}
    except (KeyError, IndexError, ValueError, TypeError, struct.error, zipfile.BadZipFile, AttributeError) as error:
        raise FormatError(f"archive must be {what} saved by torch; {error}; {_CONVERT}") from error


def _alone(tree: Any) -> dict[str, _Tensor]:
    if not isinstance(tree, _Tensor):
        raise ValueError(f"its root is {'a dictionary' if isinstance(tree, dict) else 'no tensor'}")
    return {"": tree}


def _open_zip(archive: bytes) -> tuple[Any, Callable[[_Storage], bytes]]:
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        # torch stores its members uncompressed: anything else is not torch's, and might be a bomb.
        if any(m.compress_type != zipfile.ZIP_STORED for m in members.infolist()):
            raise ValueError("a member is compressed")
        contents = {m.filename.split("/", 1)[-1]: members.read(m) for m in members.infolist()}
    if contents.get("byteorder", b"little") != b"little":
        raise ValueError("its byte order is not little-endian")
    tree, _ = _interpret(contents["data.pkl"], 0)
    return tree, lambda storage: contents[f"data/{storage.key}"]


def _open_legacy(archive: bytes) -> tuple[Any, Callable[[_Storage], bytes]]:
    magic, at = _interpret(archive, 0)
    if magic != _LEGACY_MAGIC:
        raise ValueError("it is neither a zip nor torch's older format")
    _, at = _interpret(archive, at)
    system, at = _interpret(archive, at)
    if not system["little_endian"]:
        raise ValueError("its byte order is not little-endian")
    seen: dict[str, _Storage] = {}
    tree, at = _interpret(archive, at, seen=seen)
    keys, at = _interpret(archive, at)
    raw = {}
    for key in keys:
        (count,) = struct.unpack_from("<q", archive, at)
        size = count * _itemsize(seen[key].kind)
        if count < 0 or at + 8 + size > len(archive):
            raise ValueError(f"storage {key} is cut short")
        raw[key] = archive[at + 8 : at + 8 + size]
        at += 8 + size
    return tree, lambda storage: raw[storage.key]


def _itemsize(kind: str) -> int:
    return 2 if kind == "bfloat16" else np.dtype(kind).itemsize


def _flatten(tree: Any) -> dict[str, _Tensor]:
    # Training scripts wrap the weights once, under one of these names.
    for wrapper in ("state_dict", "model"):
        if isinstance(tree, dict) and isinstance(tree.get(wrapper), dict):
            tree = tree[wrapper]
    if not isinstance(tree, dict) or not all(isinstance(t, _Tensor) for t in tree.values()):
        raise ValueError("its root is no dictionary of tensors")
    return {name.removeprefix("module."): tensor for name, tensor in tree.items()}


def _materialize(tensor: _Tensor, load: Callable[[_Storage], bytes]) -> np.ndarray:
    raw, kind = load(tensor.storage), tensor.storage.kind
    values = np.frombuffer(raw, "<u2" if kind == "bfloat16" else kind)
    # A stride that leaves the storage would read memory that is not the file's.
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    empty = math.prod(tensor.shape) == 0
    outside = last >= len(values) or math.prod(tensor.shape) > len(values)
    if min((tensor.offset, *tensor.shape, *tensor.strides)) < 0 or (not empty and outside):
        raise ValueError(f"a tensor of shape {tensor.shape} exceeds its storage of {len(values)}")
    if empty:
        return np.zeros(tensor.shape, np.float32 if kind == "bfloat16" else kind)
    view = np.lib.stride_tricks.as_strided(
        values[tensor.offset :], tensor.shape, [s * values.itemsize for s in tensor.strides], writeable=False
    )
    if kind == "bfloat16":
        return (view.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return view.copy()


def _construct(function: Any, arguments: Any) -> Any:
    name = function.name if isinstance(function, _Global) else repr(function)
    if name == "collections.OrderedDict":
        return dict(*arguments)
    if name == "torch._utils._rebuild_tensor_v2":
        storage, offset, shape, strides = arguments[:4]
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor has no storage")
        return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))
    if name == "torch._utils._rebuild_parameter":
        return arguments[0]
    raise ValueError(f"it calls {name}")


def _persistent(identity: Any, seen: dict[str, _Storage]) -> _Storage:
    kind = identity[1].name if isinstance(identity[1], _Global) else ""
    if identity[0] != "storage" or kind.removeprefix("torch.") not in _STORAGES:
        raise ValueError(f"its storage {kind or identity!r} is not one of numbers")
    storage = _Storage(_STORAGES[kind.removeprefix("torch.")], str(identity[2]), int(identity[4]))
    return seen.setdefault(storage.key, storage)


class _Machine:
    """Stack, memo and position of one pickle program; each opcode below is one of its transitions."""

    def __init__(self, program: bytes, at: int, seen: dict[str, _Storage]) -> None:
        self.program, self.at, self.seen = program, at, seen
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def take(self, layout: str) -> Any:
        (value,) = struct.unpack_from(layout, self.program, self.at)
        self.at += struct.calcsize(layout)
        return value

    def text(self, count: int) -> bytes:
        if self.at + count > len(self.program):
            raise ValueError("its program is cut short")
        self.at += count
        return self.program[self.at - count : self.at]

    def line(self) -> str:
        end = self.program.index(b"\n", self.at)
        return self.text(end + 1 - self.at)[:-1].decode("ascii")

    def above_mark(self) -> list[Any]:
        mark = len(self.stack) - 1 - next(i for i, v in enumerate(reversed(self.stack)) if v is _MARK)
        items, self.stack[mark:] = self.stack[mark + 1 :], []
        return items

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("its program takes more than it put")
        items, self.stack[len(self.stack) - count :] = self.stack[len(self.stack) - count :], []
        return items


def _fill_dict(machine: _Machine, items: list[Any]) -> None:
    if not isinstance(machine.stack[-1], dict):
        raise ValueError("it sets an item of something else than a dictionary")
    machine.stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _fill_list(machine: _Machine, items: list[Any]) -> None:
    if not isinstance(machine.stack[-1], list):
        raise ValueError("it appends to something else than a list")
    machine.stack[-1].extend(items)


_OPCODES: dict[int, Callable[[_Machine], Any]] = {
    0x80: lambda m: m.take("<B"),
    0x95: lambda m: m.take("<Q"),
    ord("}"): lambda m: m.stack.append({}),
    ord("]"): lambda m: m.stack.append([]),
    ord(")"): lambda m: m.stack.append(()),
    ord("("): lambda m: m.stack.append(_MARK),
    ord("N"): lambda m: m.stack.append(None),
    0x88: lambda m: m.stack.append(True),
    0x89: lambda m: m.stack.append(False),
    ord("J"): lambda m: m.stack.append(m.take("<i")),
    ord("K"): lambda m: m.stack.append(m.take("<B")),
    ord("M"): lambda m: m.stack.append(m.take("<H")),
    ord("G"): lambda m: m.stack.append(m.take(">d")),
    0x8A: lambda m: m.stack.append(int.from_bytes(m.text(m.take("<B")), "little", signed=True)),
    ord("X"): lambda m: m.stack.append(m.text(m.take("<I")).decode()),
    0x8C: lambda m: m.stack.append(m.text(m.take("<B")).decode()),
    ord("q"): lambda m: m.memo.__setitem__(m.take("<B"), m.stack[-1]),
    ord("r"): lambda m: m.memo.__setitem__(m.take("<I"), m.stack[-1]),
    0x94: lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    ord("h"): lambda m: m.stack.append(m.memo[m.take("<B")]),
    ord("j"): lambda m: m.stack.append(m.memo[m.take("<I")]),
    ord("c"): lambda m: m.stack.append(_Global(f"{m.line()}.{m.line()}")),
    0x93: lambda m: m.stack.append(_Global(".".join(map(str, m.pop(2))))),
    ord("t"): lambda m: m.stack.append(tuple(m.above_mark())),
    0x85: lambda m: m.stack.append(tuple(m.pop(1))),
    0x86: lambda m: m.stack.append(tuple(m.pop(2))),
    0x87: lambda m: m.stack.append(tuple(m.pop(3))),
    ord("R"): lambda m: m.stack.append(_construct(*m.pop(2))),
    ord("Q"): lambda m: m.stack.append(_persistent(m.pop(1)[0], m.seen)),
    ord("u"): lambda m: _fill_dict(m, m.above_mark()),
    ord("s"): lambda m: _fill_dict(m, m.pop(2)),
    ord("e"): lambda m: _fill_list(m, m.above_mark()),
    ord("a"): lambda m: _fill_list(m, m.pop(1)),
    # State of an ordered dictionary (its version metadata): of no use here.
    ord("b"): lambda m: m.pop(1),
}


def _interpret(program: bytes, at: int, *, seen: dict[str, _Storage] | None = None) -> tuple[Any, int]:
    machine = _Machine(program, at, {} if seen is None else seen)
    while machine.at < len(program):
        opcode = machine.take("<B")
        if opcode == ord("."):
            return machine.pop(1)[0], machine.at
        if opcode not in _OPCODES:
            raise ValueError(f"it has opcode {opcode:#04x}, which tensors do not need")
        try:
            _OPCODES[opcode](machine)
        except StopIteration as error:
            raise ValueError("its program has no mark to go back to") from error
    raise ValueError("its program does not end")


def read_tfjs(model: Mapping[str, Any], shard: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    """Name to array of a model, its shards concatenated in manifest order and cut by its shapes.

    Args:
        model: the parsed `model.json`.
        shard: bytes of a shard by its path in the manifest.

    Returns:
        float32 arrays named `layer/variable`.

    Raises:
        FormatError: the manifest is not one, a tensor is quantized or not float32, or the shards are too short or long.

    Example:
        >>> entry = {"name": "fc/bias", "shape": [2], "dtype": "float32"}
        >>> model = {"weightsManifest": [{"paths": ["a", "b"], "weights": [entry]}]}
        >>> shards = {"a": np.float32(1).tobytes(), "b": np.float32(2).tobytes()}
        >>> read_tfjs(model, shards.__getitem__)["fc/bias"]
        array([1., 2.], dtype=float32)
    """
    tensors: dict[str, np.ndarray] = {}
    try:
        groups = [(g["weights"], list(g["paths"])) for g in model["weightsManifest"]]
        for weights, paths in groups:
            content, at = b"".join(shard(path) for path in paths), 0
            for entry in weights:
                name, shape = entry["name"], tuple(entry["shape"])
                if entry["dtype"] != "float32" or "quantization" in entry:
                    raise FormatError(f"{name} must be plain float32; got {entry['dtype']}, perhaps quantized")
                size = 4 * math.prod(shape)
                if name in tensors or at + size > len(content):
                    raise FormatError(f"{name} must come once and lie within its {len(content)} bytes of shards")
                tensors[name] = np.frombuffer(content, "<f4", size // 4, at).reshape(shape)
                at += size
            if at != len(content):
                raise FormatError(f"shards must hold {at} bytes as the manifest says; got {len(content)}")
    except (KeyError, TypeError) as error:
        raise FormatError(f"model must have a weightsManifest of paths and weights; {error!r}") from error
    return tensors
