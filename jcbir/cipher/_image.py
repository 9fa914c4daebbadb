"""Whole images through the four stages, in a named order, one or a batch of equal shape at once.

`paper` is the order the reimplemented paper's text prints: modular diffusion, scrambling, GF(257) diffusion, modular
diffusion twice. `reference50` is the order in which the published code of its reference [50] runs: modular diffusion
twice, scrambling, GF(257) diffusion. Channels are encrypted apart, each stage and channel under its own key streams.

The result is not authenticated: use `jcbir.sealing`. A nonce must never repeat under one image key.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from jcbir.cipher import keystream, stages
from jcbir.cipher.keystream import expand, lane_seeds, stream_key
from jcbir.typing import Array, Image, Images, check_array

Engine = Literal["auto", "numpy", "compiled", "jax"]
"""Who computes: "numpy"; "compiled", which is NumPy but for the key stream; "jax" on its default device; or "auto":
"compiled" for calls of at least 2^23 samples, where half a second of compilation per process is soon won back."""

_LARGE = 1 << 23
# The keys of a group of planes exist together, up to this many samples (12 bytes each).
_GROUP = 1 << 21
# Samples of a batch that a device is given at once: few long loops of the key stream, and 0.5 GB of keys and sort keys.
_ON_DEVICE = 1 << 24
# Planes go through the stages together up to this many samples: a level-2 cache holds them and their keys in turn.
_CACHED = 1 << 19


class Stage(NamedTuple):
    """One stage of a cipher: what it does, how it is undone, which key streams are its own.

    Attributes:
        apply: Function of (planes, keys).
        undo: Its inverse.
        code: Number of the stage in the key derivation, 1 to 255.
        streams: Key planes it takes.
    """

    apply: Callable[[Array, Array], Array]
    undo: Callable[[Array, Array], Array]
    code: int
    streams: int


class Chain(NamedTuple):
    """An order of stages. Its name is part of the key derivation: two chains never share a key stream.

    Attributes:
        name: at most 255 bytes of UTF-8.
        stages: first to last, no number twice.
    """

    name: str
    stages: tuple[Stage, ...]


Order = Literal["paper", "reference50"] | Chain
"""A chain, or the name of one of `CHAINS`."""

DIFFUSION = Stage(stages.modular_diffusion, stages.undo_modular_diffusion, 1, 2)
SCRAMBLING = Stage(stages.scramble, stages.undo_scramble, 2, 4)
FIELD = Stage(stages.field_diffusion, stages.undo_field_diffusion, 3, 2)
REPEATED = Stage(stages.modular_diffusion, stages.undo_modular_diffusion, 4, 4)

CHAINS = (
    Chain("paper", (DIFFUSION, SCRAMBLING, FIELD, REPEATED)),
    Chain("reference50", (REPEATED, SCRAMBLING, FIELD)),
)
"""The orders that have a name."""


def chain(order: Order) -> Chain:
    """The chain of a name, or a chain as it is.

    Args:
        order: "paper", "reference50", or a chain.

    Returns:
        The chain.

    Raises:
        ValueError: an unknown name, or a chain without stages or with a stage's number twice.

    Example:
        >>> [stage.code for stage in chain("paper").stages]
        [1, 2, 3, 4]
    """
    if isinstance(order, Chain):
        codes = [stage.code for stage in order.stages]
        if not codes or len(set(codes)) != len(codes):
            raise ValueError(f"order: must be stages with a number of their own each, got {codes}")
        return order
    for known in CHAINS:
        if known.name == order:
            return known
    raise ValueError(f"order: must be one of {[known.name for known in CHAINS]} or a Chain, got {order!r}")


def plane_keys(
    secrets: Sequence[bytes],
    channels: Sequence[int],
    stage: Stage,
    *,
    height: int,
    width: int,
    engine: keystream.Engine = "numpy",
) -> UInt8[Array, "m p h w"]:
    """Key planes of one stage for m planes, each named by its image's stream key and its channel.

    Args:
        secrets: `stream_key` of each plane's image.
        channels: Channel index of each plane.
        stage: The stage.
        height: Rows of a plane.
        width: Columns of a plane.
        engine: Where the key stream is computed; the bytes are the same.

    Returns:
        `UInt8[m streams h w]`.

    Example:
        >>> plane_keys([bytes(32)], [0], DIFFUSION, height=2, width=3).shape
        (1, 2, 2, 3)
    """
    return _stage_keys(secrets, channels, (stage,), height, width, engine)[0]


def encrypt(
    image: Image, *, key: bytes, nonce: bytes, order: Order = "paper", engine: Engine = "auto"
) -> UInt8[np.ndarray, "h w c"]:
    """Encrypt one image: the stages of the order, channel by channel, under streams of (key, nonce).

    Args:
        image: `UInt8[h w c]`, every extent at least 1.
        key: Image key, 32 bytes.
        nonce: 16 bytes, never twice under one key.
        order: "paper", "reference50" or a `Chain`.
        engine: See `Engine`; the bytes are the same.

    Returns:
        Cipher image, same shape, values close to uniform.

    Raises:
        ValueError: no sample, another dtype, key or nonce of another length, unknown order.

    Example:
        >>> photo = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
        >>> noise = encrypt(photo, key=bytes(32), nonce=bytes(16))
        >>> np.array_equal(decrypt(noise, key=bytes(32), nonce=bytes(16)), photo)
        True

    References:
        Lin and Li 2021; the reimplemented paper, section 4.1.
    """
    check_array("image", image, kind="uint8", form="[h, w, c]", rank=3)
    return encrypt_batch(np.asarray(image)[None], keys=[key], nonces=[nonce], order=order, engine=engine)[0]


def decrypt(
    image: Image, *, key: bytes, nonce: bytes, order: Order = "paper", engine: Engine = "auto"
) -> UInt8[np.ndarray, "h w c"]:
    """Inverse of `encrypt`. A wrong key gives noise, not an error: `jcbir.sealing` tells the two apart.

    Args:
        image: Cipher image `UInt8[h w c]`.
        key: Image key, 32 bytes.
        nonce: Nonce it was encrypted with.
        order: Order it was encrypted in.
        engine: See `Engine`; the bytes are the same.

    Returns:
        The image.

    Raises:
        ValueError: no sample, another dtype, key or nonce of another length, unknown order.

    Example:
        >>> decrypt(np.zeros((1, 1, 1), np.uint8), key=bytes(32), nonce=bytes(16)).shape
        (1, 1, 1)
    """
    check_array("image", image, kind="uint8", form="[h, w, c]", rank=3)
    return decrypt_batch(np.asarray(image)[None], keys=[key], nonces=[nonce], order=order, engine=engine)[0]


def encrypt_batch(
    images: Images,
    *,
    keys: Sequence[bytes],
    nonces: Sequence[bytes],
    order: Order = "paper",
    engine: Engine = "auto",
) -> UInt8[np.ndarray, "b h w c"]:
    """Encrypt a batch of images of one shape, each under its own key and nonce; the bytes of `encrypt`, sooner.

    Args:
        images: `UInt8[b h w c]`.
        keys: b image keys.
        nonces: b nonces.
        order: "paper", "reference50" or a `Chain`.
        engine: See `Engine`; the bytes are the same.

    Returns:
        Cipher images `UInt8[b h w c]`.

    Raises:
        ValueError: as `encrypt`; not one key and nonce per image; or a pair of key and nonce twice.

    Example:
        >>> photos = np.zeros((2, 4, 4, 1), np.uint8)
        >>> encrypt_batch(photos, keys=[bytes(32)] * 2, nonces=[bytes(16), b"another nonce..."]).shape
        (2, 4, 4, 1)
    """
    return _run(images, keys, nonces, order, engine, forward=True)


def decrypt_batch(
    images: Images,
    *,
    keys: Sequence[bytes],
    nonces: Sequence[bytes],
    order: Order = "paper",
    engine: Engine = "auto",
) -> UInt8[np.ndarray, "b h w c"]:
    """Inverse of `encrypt_batch`.

    Args:
        images: Cipher images `UInt8[b h w c]`.
        keys: b image keys.
        nonces: b nonces.
        order: "paper", "reference50" or a `Chain`.
        engine: See `Engine`; the bytes are the same.

    Returns:
        Images `UInt8[b h w c]`.

    Raises:
        ValueError: as `encrypt`; or not one key and nonce per image.

    Example:
        >>> decrypt_batch(np.zeros((2, 4, 4, 1), np.uint8), keys=[bytes(32)] * 2, nonces=[bytes(16)] * 2).shape
        (2, 4, 4, 1)
    """
    return _run(images, keys, nonces, order, engine, forward=False)


def batch_seeds(
    keys: Sequence[bytes], nonces: Sequence[bytes], *, shape: tuple[int, int, int], order: Order = "paper"
) -> UInt8[np.ndarray, "b c p l s"]:
    """Seeds of all key streams of a batch: what `transform` needs of the keys. As secret as they are.

    Args:
        keys: b image keys.
        nonces: b nonces.
        shape: Extents (h, w, c) of an image.
        order: "paper", "reference50" or a `Chain`.

    Returns:
        `UInt8[b c streams lanes 16]`, streams in the order of the stages.

    Raises:
        ValueError: key or nonce of another length, unknown order.

    Example:
        >>> batch_seeds([bytes(32)], [bytes(16)], shape=(64, 96, 3)).shape
        (1, 3, 12, 2, 16)
    """
    height, width, channels = shape
    secrets = _stream_keys(keys, nonces, shape, order)
    owners, names = [s for s in secrets for _ in range(channels)], list(range(channels)) * len(secrets)
    seeds = _plane_seeds(owners, names, chain(order).stages, height * width)
    return seeds.reshape(len(secrets), channels, *seeds.shape[1:])


def transform(
    images: UInt8[Array, "b h w c"],
    seeds: UInt8[Array, "b c p l s"],
    *,
    order: Order = "paper",
    forward: bool = True,
) -> UInt8[jax.Array, "b h w c"]:
    """The cipher as one function of arrays, for `jit`: nothing leaves the device. What engine "jax" compiles and calls.

    Args:
        images: `UInt8[b h w c]`.
        seeds: `batch_seeds` of the same shape and order.
        order: "paper", "reference50" or a `Chain`.
        forward: Encrypt; False decrypts.

    Returns:
        `UInt8[b h w c]` on the device: the bytes of `encrypt_batch` or `decrypt_batch`.

    Raises:
        ValueError: seeds of another shape, unknown order.

    Example:
        >>> photos, seeds = np.zeros((1, 4, 4, 1), np.uint8), batch_seeds([bytes(32)], [bytes(16)], shape=(4, 4, 1))
        >>> noise = transform(photos, seeds)
        >>> bool((transform(noise, seeds, forward=False) == photos).all())
        True
    """
    steps = chain(order).stages
    planes = jnp.moveaxis(jnp.asarray(images), -1, 1)
    keys = expand(seeds, length=planes.shape[-2] * planes.shape[-1], engine="jax")
    by_stage = list(zip(steps, _by_stage(keys.reshape(*keys.shape[:-1], *planes.shape[-2:]), steps), strict=True))
    for stage, plane_key in by_stage if forward else by_stage[::-1]:
        planes = (stage.apply if forward else stage.undo)(planes, plane_key)
    return jnp.moveaxis(planes, 1, -1)


_transform = jax.jit(transform, static_argnames=("order", "forward"))


def _run(
    images: Images, keys: Sequence[bytes], nonces: Sequence[bytes], order: Order, engine: Engine, *, forward: bool
) -> np.ndarray:
    check_array("images", images, kind="uint8", form="[b, h, w, c]", rank=4)
    shape = np.shape(images)
    if 0 in shape:
        raise ValueError(f"images: must have no empty axis, got {list(shape)}")
    if engine not in ("auto", "numpy", "compiled", "jax"):
        raise ValueError(f"engine: must be auto, numpy, compiled or jax, got {engine!r}")
    count, height, width, channels = shape
    if len(keys) != count or len(nonces) != count:
        raise ValueError(f"keys, nonces: must be one an image, {count} of each, got {len(keys)} and {len(nonces)}")
    if forward and len(set(zip(keys, nonces, strict=True))) != count:
        raise ValueError("nonces: must never repeat under one key, got a pair of key and nonce twice")
    if engine == "jax":
        size = max(1, _ON_DEVICE // (height * width * channels))
        parts = [slice(begin, begin + size) for begin in range(0, count, size)]
        seeds = [batch_seeds(keys[p], nonces[p], shape=(height, width, channels), order=order) for p in parts]
        results = [_transform(images[p], s, order=order, forward=forward) for p, s in zip(parts, seeds, strict=True)]
        return np.concatenate([np.asarray(r) for r in results])
    steps = chain(order).stages
    secrets = _stream_keys(keys, nonces, (height, width, channels), order)
    chosen: keystream.Engine = engine if engine != "auto" else "compiled" if np.size(images) >= _LARGE else "numpy"
    planes = np.ascontiguousarray(np.moveaxis(np.asarray(images), -1, 1)).reshape(-1, height, width)
    out = np.empty_like(planes)
    size = max(1, _GROUP // (height * width))
    if chosen == "compiled":
        size = keystream.whole_blocks(size, streams=sum(stage.streams for stage in steps), length=height * width)
    for begin in range(0, len(planes), size):
        group = range(begin, min(begin + size, len(planes)))
        owners, names = [secrets[plane // channels] for plane in group], [plane % channels for plane in group]
        out[begin : group.stop] = _chain_planes(planes[begin : group.stop], owners, names, steps, chosen, forward)
    mixed = np.empty(shape, np.uint8)
    # Channel by channel: at once, NumPy's innermost loop would be the channels.
    for channel in range(channels):
        mixed[..., channel] = out[channel::channels]
    return mixed


def _chain_planes(
    planes: np.ndarray,
    secrets: list[bytes],
    channels: list[int],
    steps: tuple[Stage, ...],
    engine: keystream.Engine,
    forward: bool,
) -> np.ndarray:
    height, width = planes.shape[-2:]
    chosen = steps if forward else steps[::-1]
    # Streams of all stages advance together where they fit: four times as many lanes for the same number of calls.
    bundles = [chosen] if planes.size <= _GROUP else [(stage,) for stage in chosen]
    part = max(1, _CACHED // (height * width))
    for bundle in bundles:
        keys = _stage_keys(secrets, channels, bundle, height, width, engine)
        pieces = []
        for begin in range(0, len(planes), part):
            piece = planes[begin : begin + part]
            for stage, plane_key in zip(bundle, keys, strict=True):
                piece = (stage.apply if forward else stage.undo)(piece, plane_key[begin : begin + part])
            pieces.append(piece)
        planes = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return planes


def _stage_keys(
    secrets: Sequence[bytes],
    channels: Sequence[int],
    steps: tuple[Stage, ...],
    height: int,
    width: int,
    engine: keystream.Engine,
) -> list[Array]:
    seeds = _plane_seeds(secrets, channels, steps, height * width)
    octets = expand(seeds, length=height * width, engine=engine)
    return _by_stage(octets.reshape(len(secrets), -1, height, width), steps)


def _stream_keys(
    keys: Sequence[bytes], nonces: Sequence[bytes], shape: tuple[int, int, int], order: Order
) -> list[bytes]:
    name = chain(order).name
    return [stream_key(key=k, nonce=n, shape=shape, order=name) for k, n in zip(keys, nonces, strict=True)]


def _plane_seeds(
    secrets: Sequence[bytes], channels: Sequence[int], steps: tuple[Stage, ...], samples: int
) -> np.ndarray:
    return np.stack(
        [
            np.concatenate([lane_seeds(s, stage=t.code, channel=c, streams=t.streams, length=samples) for t in steps])
            for s, c in zip(secrets, channels, strict=True)
        ]
    )


def _by_stage(keys: Array, steps: tuple[Stage, ...]) -> list[Array]:
    ends = np.cumsum([stage.streams for stage in steps]).tolist()
    return [keys[..., end - stage.streams : end, :, :] for stage, end in zip(steps, ends, strict=True)]


class ImageCipher(NamedTuple):
    """What turns the bytes of sealed images into noise and back, inside the authenticated seal.

    Attributes:
        name: what `seal` is asked for.
        code: number in the header of a sealed image and in its key derivation, 1 to 255; never used again for another.
        encrypt: function of (images, keys=, nonces=): `UInt8[b h w c]` to the same shape, one key and nonce an image.
        decrypt: its inverse.
    """

    name: str
    code: int
    encrypt: Callable[..., UInt8[np.ndarray, "b h w c"]]
    decrypt: Callable[..., UInt8[np.ndarray, "b h w c"]]


def _as_they_are(images: Images, *, keys: Sequence[bytes], nonces: Sequence[bytes]) -> UInt8[np.ndarray, "b h w c"]:
    """No cipher: the seal's AES-GCM alone."""
    return np.asarray(images)


CIPHERS = (
    ImageCipher("lorenz", 1, partial(encrypt_batch, order="paper"), partial(decrypt_batch, order="paper")),
    ImageCipher("aes-gcm", 2, _as_they_are, _as_they_are),
    ImageCipher(
        "lorenz-reference50",
        3,
        partial(encrypt_batch, order="reference50"),
        partial(decrypt_batch, order="reference50"),
    ),
)
"""The ciphers that every party knows."""
