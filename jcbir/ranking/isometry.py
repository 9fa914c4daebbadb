"""The keyed isometry: a secret bit permutation and XOR mask shared by owner and users.

`x -> x[permutation] xor mask` keeps every Hamming distance and hides which hash bit is which. It is deterministic:
equal queries stay equal, and biased or correlated hash bits leave statistics that many observed queries can exploit.
It is a mask, not an encryption.
"""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import Bool, Int, Shaped

from jcbir.typing import Array

KEY_BYTES = 32
DOMAIN = b"jcbir isometry v1"


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


def isometry(masking_key: bytes, *, bits: int) -> Isometry:
    """Expand a masking key into a permutation and a mask.

    SHAKE-256(domain, k, masking_key) gives the mask bits, then a Fisher-Yates shuffle whose indices are 16-bit words
    taken modulo `i + 1` after rejecting those at or above the largest multiple of `i + 1`: every permutation is
    equally likely.

    Args:
        masking_key: 32 secret bytes, shared by the owner and its users.
        bits: code length k, 1..65535.

    Returns:
        The isometry; the same for the same key and length on every machine.

    Raises:
        ValueError: a key of another length, or bits out of range.

    Example:
        >>> isometry(bytes(32), bits=8)
        Isometry(bits=8, permutation=<secret>, mask=<secret>)

    References:
        Durstenfeld, 1964, Algorithm 235: random permutation. FIPS 202, 2015 (SHAKE-256).

    """
    if len(masking_key) != KEY_BYTES:
        raise ValueError(f"masking_key: must be {KEY_BYTES} bytes, got {len(masking_key)}")
    if not 1 <= bits < 1 << 16:
        raise ValueError(f"bits: must be 1..65535, got {bits}")
    material = hashlib.shake_256(DOMAIN + bits.to_bytes(2) + masking_key)
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
    """Apply the isometry to codes: permute, then XOR.

    Args:
        codes: codes of k bits, JAX or NumPy.
        secret: the isometry for k bits.

    Returns:
        Bool[*b, k]; every pairwise Hamming distance is unchanged.

    Raises:
        ValueError: the codes have another length than the isometry.

    Example:
        >>> secret = isometry(bytes(32), bits=8)
        >>> a, b = np.arange(8) > 2, np.arange(8) > 4
        >>> int((mask_codes(a, secret) ^ mask_codes(b, secret)).sum())
        2

    """
    if codes.shape[-1] != len(secret.mask):
        raise ValueError(f"codes: must have {len(secret.mask)} bits as the isometry has, got {codes.shape[-1]}")
    mask = secret.mask.reshape((1,) * (codes.ndim - 1) + (-1,))
    return codes[..., secret.permutation] ^ mask


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
