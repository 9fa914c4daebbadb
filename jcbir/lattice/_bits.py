"""Residues at rest: 29 bits each, least significant bit first, eight residues in 29 bytes."""

import numpy as np

from jcbir.errors import FormatError
from jcbir.lattice._ring import PRIME_BITS

GROUP = 8


def packed_bytes(count: int) -> int:
    """Bytes of so many residues, a multiple of eight."""
    return count // GROUP * PRIME_BITS


def pack(residues: np.ndarray) -> np.ndarray:
    """uint32[b, m] to uint8[b, 29 m/8]."""
    rows, count = residues.shape
    groups = residues.size // GROUP
    fields = residues.reshape(groups, GROUP)
    # A field goes into the eight bytes that it begins in, so the last group reaches a few bytes beyond its own.
    flat = np.zeros(groups * PRIME_BITS + 8, np.uint8)
    for field in range(GROUP):
        byte, skip = divmod(field * PRIME_BITS, 8)
        window = np.ndarray((groups,), "<u8", flat, byte, (PRIME_BITS,))
        window |= fields[:, field].astype(np.uint64) << np.uint64(skip)
    return flat[:-8].reshape(rows, packed_bytes(count))


def unpack(packed: np.ndarray, shape: tuple[int, ...], *, primes: tuple[int, ...], name: str) -> np.ndarray:
    """uint8[b, 29 m/8] to uint32[b, *shape], the first axis of shape running over the primes; refuses residues >= p."""
    rows, count = len(packed), int(np.prod(shape))
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != packed_bytes(count):
        expected = f"uint8[n, {packed_bytes(count)}]"
        raise FormatError(f"{name}: must be {expected} of these parameters, got {packed.dtype}{list(packed.shape)}")
    groups = rows * count // GROUP
    # A field is cut out of the eight bytes it begins in, so the last group reads a few bytes beyond its own.
    flat = np.zeros(groups * PRIME_BITS + 8, np.uint8)
    flat[:-8] = packed.reshape(-1)
    fields = np.empty((groups, GROUP), np.uint32)
    for field in range(GROUP):
        byte, skip = divmod(field * PRIME_BITS, 8)
        window = np.ndarray((groups,), "<u8", flat, byte, (PRIME_BITS,))
        fields[:, field] = (window >> np.uint64(skip)) & np.uint64((1 << PRIME_BITS) - 1)
    residues = fields.reshape(rows, *shape)
    for i, p in enumerate(primes):
        if rows and residues[:, i].max() >= p:
            raise FormatError(f"{name}: must hold residues below {p}, got {residues[:, i].max()}")
    return residues
