"""Key streams: HKDF-SHA-256 (image key, nonce) -> SHAKE-256 lane seeds -> Lorenz lanes -> mixed bytes.

Every stage, channel and pass of an image has a stream of its own, of one byte per sample, under a key that depends on
image key, nonce, image shape, stage order and format version. HKDF-SHA-256 ends after 8,160 bytes, so it derives
one key and SHAKE-256 expands it to the lanes. A stream of n bytes has `ceil(n / 4096)` lanes: a function of the size
alone.

The same bytes come out of NumPy on the host (the default: nothing to compile), of one loop compiled for the host
(half a second once per process, then faster) and of JAX on any device.
"""

import hashlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jaxtyping import UInt8

from jcbir.cipher.lorenz import (
    COUNTER,
    DITHER,
    LANE_BYTES,
    SEED_BYTES,
    STEP,
    STEP_BYTES,
    TRANSIENT_STEP,
    TRANSIENT_STEPS,
    VERSION,
    Integrator,
    State,
    advance,
    advance_xy,
    advance_zw,
    counter,
    dither,
    drop_transient,
    mix,
    start,
)
from jcbir.typing import Array, check_whole

KEY_BYTES = 32
"""Length of an image key and of a stream key."""

NONCE_BYTES = 16
"""Length of the nonce; fixed, because HKDF pads its salt with zeros: a short nonce and its padded form would be one."""

_KEY_LABEL = b"jcbir cipher stream key"
_LANE_LABEL = b"jcbir cipher lanes"
# Wide enough to drown the cost of a NumPy call, narrow enough for the work arrays to stay in cache.
_BLOCK_LANES = 16384
# The compiled loop has one shape, so that a process compiles it once: these lanes, and the steps of a full lane.
_COMPILED_LANES = 1024
_COMPILED_STEPS = LANE_BYTES // STEP_BYTES

Engine = Literal["numpy", "compiled", "jax"]


def stream_key(*, key: bytes, nonce: bytes, shape: tuple[int, int, int], order: str) -> bytes:
    """Derive the key of all streams of one image: `HKDF-SHA-256(ikm = key, salt = nonce, info)`.

    `info = "jcbir cipher stream key" || version || length of order || order || h || w || c`, one byte for version and
    length, four big-endian bytes for each extent.

    Args:
        key: Image key, 32 bytes.
        nonce: 16 bytes, never twice under one key.
        shape: Image extents (h, w, c).
        order: Name of the stage order.

    Returns:
        32 bytes.

    Raises:
        ValueError: key or nonce of another length.

    Example:
        >>> stream_key(key=bytes(32), nonce=bytes(16), shape=(8, 8, 3), order="paper").hex()[:16]
        '...'

    References:
        Krawczyk and Eronen, RFC 5869, 2010.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"key: must be {KEY_BYTES} bytes, got {len(key)}")
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"nonce: must be {NONCE_BYTES} bytes, got {len(nonce)}")
    extents = b"".join(extent.to_bytes(4, "big") for extent in shape)
    info = _KEY_LABEL + bytes([VERSION, len(order)]) + order.encode() + extents
    return HKDF(SHA256(), KEY_BYTES, salt=nonce, info=info).derive(key)


def lane_count(length: int) -> int:
    """Lanes of a stream: `ceil(length / 4096)`.

    Args:
        length: Bytes of the stream, at least 1.

    Returns:
        Number of lanes.

    Raises:
        ValueError: `length` is below 1.

    Example:
        >>> lane_count(4096), lane_count(4097)
        (1, 2)
    """
    length = check_whole("length", length, low=1)
    return -(-length // LANE_BYTES)


def lane_seeds(secret: bytes, *, stage: int, channel: int, streams: int, length: int) -> UInt8[np.ndarray, "p l s"]:
    """Seeds of the lanes of one stage and channel.

    `SHAKE-256("jcbir cipher lanes" || secret || stage || channel)`, one byte for the stage, two big-endian bytes for
    the channel, cut into streams, lanes and 16 bytes.

    Args:
        secret: `stream_key` of the image.
        stage: Code of the stage, 1 to 255.
        channel: Channel index.
        streams: Streams of the stage.
        length: Bytes of each stream.

    Returns:
        `UInt8[streams lanes 16]`.

    Example:
        >>> lane_seeds(bytes(32), stage=1, channel=0, streams=2, length=5000).shape
        (2, 2, 16)
    """
    lanes = lane_count(length)
    message = _LANE_LABEL + secret + bytes([stage]) + channel.to_bytes(2, "big")
    digest = hashlib.shake_256(message).digest(streams * lanes * SEED_BYTES)
    return np.frombuffer(digest, np.uint8).reshape(streams, lanes, SEED_BYTES)


def expand(seeds: UInt8[Array, "*b l s"], *, length: int, engine: Engine = "numpy") -> UInt8[Array, "*b n"]:
    """Key-stream bytes of streams whose lanes are seeded: the trajectory after the transient, mixed.

    Byte order of a stream: step, then word (first, second of `mix`), then lane, then the word's bytes from the least
    significant; the last step may be cut.

    Args:
        seeds: `UInt8[*b lanes 16]` with `lanes = lane_count(length)`.
        length: Bytes of each stream.
        engine: "numpy" (host; nothing to compile), "compiled" (host; compiles once per process) or "jax" (the device of
            the seeds, or the default one; compiles once per shape; works under `jit`).

    Returns:
        `UInt8[*b length]`; JAX array for "jax", else NumPy; the same bytes.

    Raises:
        ValueError: another number of lanes, or an unknown engine.

    Example:
        >>> expand(lane_seeds(bytes(32), stage=1, channel=0, streams=2, length=10), length=10).shape
        (2, 10)
    """
    lanes = lane_count(length)
    if seeds.shape[-2] != lanes:
        raise ValueError(f"seeds: must be {lanes} lanes for {length} bytes, got {seeds.shape[-2]}")
    if engine not in _EXPANSIONS:
        raise ValueError(f"engine: must be one of {sorted(_EXPANSIONS)}, got {engine!r}")
    batch = seeds.shape[:-2]
    flat = seeds.reshape(-1, lanes, SEED_BYTES)
    steps = -(-length // (STEP_BYTES * lanes))
    return _EXPANSIONS[engine](flat, steps)[:, :length].reshape(*batch, length)


def whole_blocks(planes: int, *, streams: int, length: int) -> int:
    """Planes to hand to `expand` at once, so that engine "compiled" computes few lanes that nobody asked for.

    Args:
        planes: As many as there is room for.
        streams: Streams of a plane.
        length: Bytes of a stream.

    Returns:
        The largest number up to `planes` whose streams fill whole blocks of lanes; `planes` if there is none.

    Example:
        >>> whole_blocks(41, streams=12, length=224 * 224)
        39
    """
    # Streams of a block; one longer than a block is cut anyway.
    rows = max(1, _COMPILED_LANES // lane_count(length))
    step = rows // math.gcd(rows, streams)
    return planes - planes % step or planes


def _expand_host(seeds: np.ndarray, steps: int) -> np.ndarray:
    return _in_blocks(seeds, steps, _BLOCK_LANES, _fill)


def _expand_compiled(seeds: np.ndarray, steps: int) -> np.ndarray:
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        # One buffer that every call hands on: fresh pages would cost a third of the time.
        loop = [jnp.zeros((_COMPILED_STEPS, 2, _COMPILED_LANES), np.uint64)]

        def fill(words: np.ndarray, state: State) -> None:
            rows, steps, _, columns = words.shape
            padding = (0, _COMPILED_LANES - rows * columns)
            loop.append(_trajectories_host(loop.pop(), State(*(np.pad(v.ravel(), padding) for v in state))))
            kept = np.asarray(loop[0])[:steps, :, : rows * columns].reshape(steps, 2, rows, columns)
            # Lanes of a stream as one item: NumPy moves a short run word by word.
            run = np.dtype((np.void, columns * words.itemsize))
            words.view(run)[...] = kept.view(run).transpose(2, 0, 1, 3)

        return _in_blocks(seeds, steps, _COMPILED_LANES, fill)


def _in_blocks(seeds: np.ndarray, steps: int, size: int, fill: Callable[[np.ndarray, State], None]) -> np.ndarray:
    count, lanes = seeds.shape[:2]
    words = np.empty((count, steps, 2, lanes), "<u8")
    rows, columns = max(1, size // lanes), min(lanes, size)
    for top in range(0, count, rows):
        for left in range(0, lanes, columns):
            block = words[top : top + rows, :, :, left : left + columns]
            fill(block, start(seeds[top : top + rows, left : left + columns]))
    return words.reshape(count, -1).view(np.uint8)


def _fill(words: np.ndarray, state: State) -> None:
    state = drop_transient(state)
    for step in range(words.shape[1]):
        number = TRANSIENT_STEPS + step
        state = advance(state, dither(number))
        words[:, step, 0], words[:, step, 1] = mix(state, np.uint64(counter(number)))


def _expand_device(seeds: Array, steps: int) -> jax.Array:
    with jax.enable_x64(True):
        return _bytes(jnp.asarray(seeds), steps)


@partial(jax.jit, static_argnums=1)
def _bytes(seeds: jax.Array, steps: int) -> jax.Array:
    words = _trajectories(jnp.zeros((steps, 2, *seeds.shape[:2]), np.uint64), start(seeds))
    octets = jax.lax.bitcast_convert_type(words.transpose(2, 0, 1, 3), np.uint8)
    return octets.reshape(len(seeds), -1)


def _trajectories(words: jax.Array, state: State) -> jax.Array:
    """Fill `UInt64[steps 2 *b]` with the mixed words of each step after the transient."""
    # As loops: unrolled, the transient alone takes seconds to compile.
    begin, end = np.int64(0), np.int64(TRANSIENT_STEPS)
    packed = _packed(state.x, state.y), _packed(state.z, state.w)
    packed = jax.lax.fori_loop(begin, end, partial(_step, integrator=TRANSIENT_STEP), packed)

    def body(number: Any, carry: Any) -> Any:
        packed, words = carry
        packed = _step(number, packed, integrator=STEP)
        mixed = mix(_unpacked(*packed), number.astype(np.uint64) * np.uint64(COUNTER))
        for half, word in enumerate(mixed):
            place = (number - TRANSIENT_STEPS, np.int64(half), *[begin] * word.ndim)
            words = jax.lax.dynamic_update_slice(words, word[None, None], place)
        return packed, words

    return jax.lax.fori_loop(end, end + words.shape[0], body, (packed, words))[1]


# XLA keeps to 256-bit vectors where 512 are there; the products of this loop gain half again from them.
_trajectories_host = jax.jit(_trajectories, donate_argnums=0, compiler_options={"xla_cpu_prefer_vector_width": 512})


def _step(number: Any, packed: tuple[Any, Any], *, integrator: Integrator) -> tuple[Any, Any]:
    """A step of states packed into two words: XLA computes all that leads to a value once for every value that a loop
    carries, so there are two of them, and the second begins where the first ended."""
    half = advance_xy(_unpacked(*packed), number * DITHER & 0xFFFFFFFF, integrator=integrator)
    first = jax.lax.optimization_barrier(_packed(half.x, half.y))
    whole = advance_zw(_unpacked(first, packed[1]), integrator=integrator)
    return first, jax.lax.optimization_barrier(_packed(whole.z, whole.w))


def _packed(high: Any, low: Any) -> Any:
    return (high << 32) | (low & 0xFFFFFFFF)


def _unpacked(first: Any, second: Any) -> State:
    return State(first >> 32, (first << 32) >> 32, second >> 32, (second << 32) >> 32)


_EXPANSIONS: dict[str, Callable[[Any, int], Any]] = {
    "numpy": _expand_host,
    "compiled": _expand_compiled,
    "jax": _expand_device,
}
