"""The stable order of samples by multi-byte sort keys: a radix sort, in the parts of NumPy that are one."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Integer, UInt8

from jcbir.typing import Array

# Index and key arrays of this many samples stay in a level-2 cache, where a radix sort is five times as fast.
_CACHED = 1 << 16
# Samples that are dealt to the buckets at once: enough to drown the cost of two NumPy calls per bucket.
_DEALT = 1 << 18


def stable_order(keys: UInt8[Array, "*b p n"]) -> Integer[Array, "*b n"]:
    """Order of n samples by `sum_q keys_q 256^q`, ties by index: a stable argsort.

    Args:
        keys: Bytes of the sort keys, least significant plane first.

    Returns:
        Permutation of 0 to n - 1; NumPy for NumPy keys, JAX for JAX keys.

    Raises:
        ValueError: no key plane, or no sample.

    Example:
        >>> stable_order(np.array([[3, 1, 3, 2]], np.uint8)).tolist()
        [1, 3, 0, 2]
    """
    if keys.shape[-1] < 1 or keys.shape[-2] < 1:
        raise ValueError(f"keys: must hold at least one plane and one sample, got {keys.shape}")
    planes = [keys[..., q, :] for q in range(keys.shape[-2])]
    if isinstance(keys, jax.Array):
        return _packed(planes) if len(planes) <= 4 else jnp.lexsort(planes)
    if keys.shape[-1] <= _CACHED or len(planes) != 4:
        return np.lexsort(planes)
    batch = keys.shape[:-2]
    rows = [_distributed(row) for row in keys.reshape(-1, *keys.shape[-2:])]
    return np.stack(rows).reshape(*batch, keys.shape[-1]) if batch else rows[0]


def _packed(planes: list[jax.Array]) -> jax.Array:
    """Sort one array of 64-bit words, sort key above and place below: no two are equal, so no sort need be stable."""
    with jax.enable_x64(True):
        words = jax.lax.broadcasted_iota(np.uint64, planes[0].shape, planes[0].ndim - 1)
        for q, plane in enumerate(planes):
            words = words + (plane.astype(np.uint64) << np.uint64(32 + 8 * q))
        return jax.lax.sort(words, is_stable=False).astype(np.uint32).astype(np.int32)


def _distributed(keys: np.ndarray) -> np.ndarray:
    """Move 32-bit keys and places to buckets by leading bits, chunk by chunk, so that every sort runs in the cache."""
    samples = keys.shape[-1]
    bits = min(8, samples.bit_length() - 14)
    octets = np.empty((samples, 4), np.uint8)
    for q in range(4):
        octets[:, q] = keys[q]
    words = octets.view("<u4")[:, 0]
    leading = keys[3] >> np.uint8(8 - bits)
    ends = np.cumsum(np.bincount(leading, minlength=1 << bits)).tolist()
    filled = [0, *ends[:-1]]
    moved, places = np.empty(samples, np.uint32), np.empty(samples, np.uint32)
    for begin in range(0, samples, _DEALT):
        chunk = leading[begin : begin + _DEALT]
        order = np.argsort(chunk, kind="stable")
        part = words[begin : begin + _DEALT][order]
        order = order.astype(np.uint32) + np.uint32(begin)
        left = 0
        for bucket, right in enumerate(np.cumsum(np.bincount(chunk, minlength=1 << bits)).tolist()):
            target = slice(filled[bucket], filled[bucket] + right - left)
            moved[target], places[target] = part[left:right], order[left:right]
            filled[bucket], left = target.stop, right
    # With 256 buckets the last byte is dealt with.
    rest = moved.view(np.uint8).reshape(-1, 4).T[: 3 if bits == 8 else 4]
    out = np.empty(samples, np.int64)
    for left, right in zip([0, *ends[:-1]], ends, strict=True):
        if right > left:
            out[left:right] = places[left:right][np.lexsort(rest[:, left:right])]
    return out
