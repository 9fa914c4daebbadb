"""The stable order of samples by multi-byte sort keys, with the sorts that NumPy and JAX are fast at."""

import time
from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Integer, UInt8

from jcbir.typing import Array

# Words written at once: each of their bytes comes in turn, and they stay in a level-2 cache meanwhile.
_PIECE = 1 << 16
# A sort key, the index of its sample and the sample itself fit one 64-bit word up to here.
_CARRIED = 1 << 24
# Up to here a radix sort is faster in one go than in parts that stay in the cache.
_RADIX = 1 << 18
# Samples of the trial that chooses a sort.
_TRIAL = 1 << 15


def in_order(samples: UInt8[Array, "*b n"], keys: UInt8[Array, "*b p n"]) -> UInt8[Array, "*b n"]:
    """Samples in the stable order of their sort keys: `samples[stable_order(keys)]`."""
    if isinstance(keys, jax.Array):
        return jnp.take_along_axis(samples, stable_order(keys), axis=-1)
    count, length = keys.shape[-2:]
    if 0 < count <= 4 and 0 < length <= _CARRIED and _words_are_faster():
        # Samples that go with their sort keys need no gather afterwards, which is random access to all of them.
        return _sorted(keys, np.asarray(samples)).astype(np.uint8)
    return np.take_along_axis(samples, np.asarray(stable_order(keys)), axis=-1)


def stable_order(keys: UInt8[Array, "*b p n"]) -> Integer[Array, "*b n"]:
    """Order of n samples by `sum_q keys_q 256^q`, ties by index: a stable argsort."""
    count, samples = keys.shape[-2:]
    if not count or not samples:
        raise ValueError(f"keys: must hold at least one plane and one sample, got {keys.shape}")
    if isinstance(keys, jax.Array):
        planes = [keys[..., q, :] for q in range(count)]
        return _packed_on_device(planes) if count <= 4 else jnp.lexsort(planes)
    if count > 4 or not _words_are_faster():
        return _by_radix(keys)
    words = _sorted(keys, None)
    words &= np.uint64(0xFFFFFFFF)
    return words.view(np.int64)


@cache
def _words_are_faster() -> bool:
    """Does NumPy sort words faster than bytes by radix here? By a third with Intel's AVX-512; by no means on Zen 4."""
    keys = (np.arange(4 * _TRIAL, dtype=np.uint32) * np.uint32(0x9E3779B1) >> np.uint32(24)).astype(np.uint8)
    keys = keys.reshape(4, _TRIAL)

    def seconds(sort: Callable[[np.ndarray], np.ndarray]) -> float:
        clock = []
        for _ in range(4):
            begin = time.perf_counter()
            sort(keys)
            clock.append(time.perf_counter() - begin)
        return min(clock)

    return seconds(lambda keys: _sorted(keys, None)) < seconds(np.lexsort)


def _by_radix(keys: np.ndarray) -> np.ndarray:
    """By NumPy's radix sort of bytes: of a large plane by the most significant byte, then each of its parts."""
    if keys.shape[-1] <= _RADIX or keys.shape[-2] == 1:
        return np.lexsort(np.moveaxis(keys, -2, 0))
    order = np.argsort(keys[..., -1, :], axis=-1, stable=True)
    for place in np.ndindex(order.shape[:-1]):
        whole, rest, begin = order[place], np.take(keys[place][:-1], order[place], axis=1), 0
        for end in np.cumsum(np.bincount(keys[place][-1])):
            whole[begin:end] = whole[begin:end][np.lexsort(rest[:, begin:end])]
            begin = end
    return order


# A sort key above the place of its sample in one 64-bit word: no two are equal, so the fastest sort is stable.


def _sorted(keys: np.ndarray, samples: np.ndarray | None) -> np.ndarray:
    """Sorted `UInt64[*b n]`: key, then index in the low half; with samples the index above them, in 24 bits and 8."""
    length = keys.shape[-1]
    step = 1 if samples is None else 256
    words = np.empty((*keys.shape[:-2], length), "<u8")
    halves, octets = words.view("<u4").reshape(*words.shape, 2), words.view(np.uint8).reshape(*words.shape, 8)
    for begin in range(0, length, _PIECE):
        piece = slice(begin, min(begin + _PIECE, length))
        halves[..., piece, 0] = np.arange(piece.start * step, piece.stop * step, step, dtype=np.uint32)
        octets[..., piece, 4 + keys.shape[-2] :] = 0
        if samples is not None:
            octets[..., piece, 0] = samples[..., piece]
        for q in range(keys.shape[-2]):
            octets[..., piece, 4 + q] = keys[..., q, piece]
    words.sort(axis=-1)
    return words


def _packed_on_device(planes: list[jax.Array]) -> jax.Array:
    with jax.enable_x64(True):
        words = jax.lax.broadcasted_iota(np.uint64, planes[0].shape, planes[0].ndim - 1)
        for q, plane in enumerate(planes):
            words = words + (plane.astype(np.uint64) << np.uint64(32 + 8 * q))
        return jax.lax.sort(words, is_stable=False).astype(np.uint32).astype(np.int32)
