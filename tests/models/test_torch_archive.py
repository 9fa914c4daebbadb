"""PyTorch files: what is read, and that nothing in a hostile one is executed or crashes the reader."""

import contextlib
import io
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir.errors import FormatError
from jcbir.models import read_torch, read_torch_tensor

VECTORS = pathlib.Path(__file__).parent.parent / "vectors" / "backbone"
ZIPPED, LEGACY = ((VECTORS / f"{name}.pth").read_bytes() for name in ("basic", "bottleneck"))


def archive(program, storages=None, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("a/data.pkl", program)
        for key, content in (storages or {}).items():
            file.writestr(f"a/data/{key}", content)
    return buffer.getvalue()


def tensor_program(*, shape=b"K\x02\x85", strides=b"K\x01\x85", offset=b"K\x00", storage=b"FloatStorage"):
    """{"w": tensor} over one storage "0" of two numbers, written opcode by opcode."""
    return (
        b"\x80\x02}(X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n"
        + storage
        + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ"
        + offset
        + shape
        + strides
        + b"\x89ccollections\nOrderedDict\n)RtRu."
    )


def test_hand_written_program():
    two = np.array([1.5, -2.0], "<f4").tobytes()
    np.testing.assert_array_equal(read_torch(archive(tensor_program(), {"0": two}))["w"], [1.5, -2.0])


def test_a_bare_tensor():
    """What the official CSQ code's center files hold."""
    two = np.array([1.5, -2.0], "<f4").tobytes()
    named = tensor_program()
    bare = b"\x80\x02" + named[named.index(b"ctorch._utils") : -2] + b"."
    np.testing.assert_array_equal(read_torch_tensor(archive(bare, {"0": two})), [1.5, -2.0])
    with pytest.raises(FormatError, match="archive must be a tensor saved by torch; its root is a dictionary"):
        read_torch_tensor(archive(named, {"0": two}))
    with pytest.raises(FormatError, match="its root is no dictionary of tensors"):
        read_torch(archive(bare, {"0": two}))


def test_bfloat16():
    bits = (np.array([1.5, -2.0], "<f4").view("<u4") >> 16).astype("<u2").tobytes()
    got = read_torch(archive(tensor_program(storage=b"BFloat16Storage"), {"0": bits}))["w"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [1.5, -2.0])


@pytest.mark.parametrize("content", [ZIPPED, LEGACY], ids=["zip", "legacy"])
def test_both_containers(content):
    tensors = read_torch(content)
    assert tensors["layer2.0.downsample.0.weight"].ndim == 4
    assert all(np.isfinite(a).all() for a in tensors.values())


@pytest.mark.parametrize(
    "options",
    [
        {"shape": b"K\x03\x85"},
        {"offset": b"K\x01"},
        {"offset": b"J\xff\xff\xff\xff"},
        {"strides": b"K\x09\x85"},
        {"strides": b"J\xff\xff\xff\xff\x85"},
        {"shape": b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", "strides": b"K\x00K\x00\x86"},
        {"storage": b"QInt8Storage"},
    ],
)
def test_tensors_outside_their_storage(options):
    with pytest.raises(FormatError, match="storage"):
        read_torch(archive(tensor_program(**options), {"0": bytes(8)}))


class Hostile:
    def __reduce__(self):
        return (open, ("/nonexistent/jcbir-was-here", "w"))


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_executed(protocol):
    """Executing this would raise FileNotFoundError; refusing it raises FormatError."""
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickle.dumps(Hostile(), protocol))  # noqa: S301
    with pytest.raises(FormatError, match="saved by torch"):
        read_torch(archive(pickle.dumps({"w": Hostile()}, protocol)))


class Calling:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("call", [Calling(open, "w"), Calling(eval, "1"), Calling(getattr, "a", "b"), Calling(print)])
@pytest.mark.parametrize("place", [lambda call: {"w": call}, lambda call: [call], lambda call: {"a": {"b": (1, call)}}])
def test_whatever_it_calls_is_refused_wherever_it_stands(call, place):
    with pytest.raises(FormatError, match=rf"it calls \w+\.{call.call[0].__name__}"):
        read_torch(archive(pickle.dumps(place(call))))


def test_whole_modules_are_refused_with_advice():
    with pytest.raises(FormatError, match=r"weights_only=True"):
        read_torch(archive(pickle.dumps({"w": object()}, 2)))


def test_compressed_members_are_refused():
    with pytest.raises(FormatError, match="compressed"):
        read_torch(archive(tensor_program(), {"0": bytes(8)}, zipfile.ZIP_DEFLATED))


@given(st.data())
def test_damage(data):
    content = bytearray(data.draw(st.sampled_from([ZIPPED, LEGACY])))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        # The head is the program; behind it a changed byte is only another number in the legacy format.
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, 4000))] = data.draw(st.integers(0, 255))
    # Either tensors or the one error: anything else fails the test.
    with contextlib.suppress(FormatError):
        read_torch(bytes(content))


@given(st.binary(max_size=200))
def test_noise_as_a_program(program):
    with pytest.raises(FormatError):
        read_torch(archive(b"\x80\x02" + program, {"0": bytes(8)}))
