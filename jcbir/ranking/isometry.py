"""The keyed isometry: a secret bit permutation and XOR mask shared by owner and users.

`x -> x[permutation] xor mask` keeps every Hamming distance and hides which hash bit is which. It is deterministic:
equal queries stay equal, and biased or correlated hash bits leave statistics that many observed queries can exploit.
It is a mask, not an encryption. Where a key holder sees masked codes bit by bit (`packed`), each lane has an isometry
of its own, so that codes of different lanes are seen in different coordinates.
"""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import Bool, Int, Shaped

from jcbir.ranking._scheme import check_codes, check_whole
from jcbir.typing import Array

KEY_BYTES = 32
DOMAIN = b"jcbir isometry v2"


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Isometry:
    """A secret bit permutation and XOR mask; its `repr` shows neither.

    Attributes:
        permutation: int[k], new bit j is old bit `permutation[j]`.
        mask: bool[k], XORed after the permutation.
    """

    permutation: Int[np.ndarray, " k"]
    mask: Bool[np.ndarray, " k"]

    def __repr__(self) -> str:
        return f"Isometry(bits={len(self.mask)}, permutation=<secret>, mask=<secret>)"


def derive_isometry(masking_key: bytes, *, bits: int, lane: int = 0) -> Isometry:
    """Expand a masking key into a permutation and a mask.

    SHAKE-256(domain, k, lane, masking_key) gives the mask bits, then a Fisher-Yates shuffle whose indices are 16-bit
    words taken modulo `i + 1` after rejecting those at or above the largest multiple of `i + 1`: every permutation is
    equally likely.

    Args:
        masking_key: 32 secret bytes, shared by the owner and its users.
        bits: code length k, 1..65535.
        lane: number of the lane; each lane's isometry is independent of the others.

    Returns:
        The isometry; the same for the same key, length and lane on every machine.

    Raises:
        ValueError: a key of another length, or bits or lane out of range.

    Example:
        >>> derive_isometry(bytes(32), bits=8)
        Isometry(bits=8, permutation=<secret>, mask=<secret>)

    References:
        Durstenfeld, 1964, Algorithm 235: random permutation. FIPS 202, 2015 (SHAKE-256).

    """
    if len(masking_key) != KEY_BYTES:
        raise ValueError(f"masking_key: must be {KEY_BYTES} bytes, got {len(masking_key)}")
    bits = check_whole(bits, name="bits", low=1, high=(1 << 16) - 1)
    lane = check_whole(lane, name="lane", low=0, high=(1 << 32) - 1)
    material = hashlib.shake_256(DOMAIN + bits.to_bytes(2) + lane.to_bytes(4) + masking_key)
    mask_bytes = -(-bits // 8)
    words_needed = 4 * bits
    while True:
        stream = material.digest(mask_bytes + 2 * words_needed)
        words = np.frombuffer(stream, ">u2", offset=mask_bytes).tolist()
        permutation = _shuffle(bits, words)
        if permutation is not None:
            break
        words_needed *= 2
    mask = np.unpackbits(np.frombuffer(stream, np.uint8, count=mask_bytes))[:bits].astype(bool)
    return Isometry(np.array(permutation), mask)


def mask_codes(codes: Bool[Array, "*b k"], secret: Isometry) -> Shaped[Array, "*b k"]:
    """Apply one isometry to codes: permute, then XOR.

    Args:
        codes: codes of k bits, JAX or NumPy.
        secret: the isometry for k bits.

    Returns:
        Bool[*b, k]; every pairwise Hamming distance is unchanged.

    Raises:
        ValueError: the codes are not booleans, or have another length than the isometry.

    Example:
        >>> secret = derive_isometry(bytes(32), bits=8)
        >>> a, b = np.arange(8) > 2, np.arange(8) > 4
        >>> int((mask_codes(a, secret) ^ mask_codes(b, secret)).sum())
        2

    """
    if codes.dtype != bool:
        raise ValueError(f"codes: must be a bool array, got {codes.dtype}")
    if codes.shape[-1] != len(secret.mask):
        raise ValueError(f"codes: must be of {len(secret.mask)} bits as the isometry is, got {codes.shape[-1]}")
    mask = secret.mask.reshape((1,) * (codes.ndim - 1) + (-1,))
    return codes[..., secret.permutation] ^ mask


def mask_lanes(codes: Bool[Array, "n k"], masking_key: bytes, *, lanes: int) -> Bool[np.ndarray, "n k"]:
    """Apply the isometries of the lanes to codes in index order: code i lies in lane `i mod lanes`.

    `x_i -> x_i[permutation_l] xor mask_l`, `l = i mod lanes`

    Args:
        codes: n codes of k bits, JAX or NumPy.
        masking_key: 32 secret bytes, shared by the owner and its users.
        lanes: lanes of the layout; 1 puts all codes under one isometry.

    Returns:
        bool[n, k]; Hamming distances within a lane are unchanged.

    Raises:
        ValueError: codes that are not booleans, a key of another length, or no lane.

    Example:
        >>> codes = np.repeat([[True, False, False, True]], 4, axis=0)
        >>> masked = mask_lanes(codes, bytes(32), lanes=2)
        >>> bool((masked[0] == masked[2]).all())
        True

    """
    lanes = check_whole(lanes, name="lanes", low=1)
    given = check_codes(codes, name="codes")
    masked = np.empty_like(given)
    for lane in range(min(lanes, len(given))):
        masked[lane::lanes] = mask_codes(
            given[lane::lanes], derive_isometry(masking_key, bits=given.shape[1], lane=lane)
        )
    return masked


def _shuffle(bits: int, words: list[int]) -> list[int] | None:
    """Fisher-Yates with rejection; None when the words run out."""
    permutation, stream = list(range(bits)), iter(words)
    for i in range(bits - 1, 0, -1):
        limit = (1 << 16) - (1 << 16) % (i + 1)
        word = next((w for w in stream if w < limit), None)
        if word is None:
            return None
        j = word % (i + 1)
        permutation[i], permutation[j] = permutation[j], permutation[i]
    return permutation
