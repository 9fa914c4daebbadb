"""Plans of how codes sit inside Paillier plaintexts, with the capacity checked exactly when the plan is made.

Every scheme writes digits in one base. With `s` digits per code and `L` lanes (codes per plaintext), a score that the
key holder will decrypt has at most the value

`largest = top * (base^(s L) - 1) / (base - 1)`

and it decodes exactly if and only if `largest < n`. The three schemes:

| scheme | base | s | top | a score digit is |
|---|---|---|---|---|
| `integer` | 2 | k | 1, signed | the code difference itself (one lane, needs `2 * largest < n`) |
| `packed` | 3 or 4 | k | 2 | `h - q + 1` of one bit |
| `bitsliced` | k + 1 or more | 1 | k | the finished distance of one image |

With base 3, and with base k + 1, `largest = base^(s L) - 1`: no layout of that kind fits more codes into n.
"""

import dataclasses

import numpy as np
from jaxtyping import Int32, Integer

from jcbir.errors import CapacityError, KeyMismatchError
from jcbir.paillier.public import PublicKey
from jcbir.typing import Array

SCHEMES = ("integer", "packed", "bitsliced")
MIN_BITS, MAX_BITS = 8, 512
MAX_BASE = 1 << 16

DEAD = np.iinfo(np.int32).max
"""Distance of a lane that holds no image (deleted, or beyond the last one): after every real distance, never
ranked."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How `count` codes of `bits` bits sit in ciphertexts under one key; made by `plan`.

    Attributes:
        scheme: `integer`, `packed` or `bitsliced`.
        bits: code length k.
        count: images in the index.
        modulus_bits: bits of n, which fixes the byte widths.
        base: base of the digits.
        lanes: images per plaintext.
        blocks: groups of `lanes` images: `ceil(count / lanes)`.
    """

    scheme: str
    bits: int
    count: int
    modulus_bits: int
    base: int
    lanes: int
    blocks: int

    @property
    def plaintext_bytes(self) -> int:
        """Bytes of one plaintext row: `ceil(modulus_bits / 8)`."""
        return -(-self.modulus_bits // 8)

    @property
    def ciphertext_bytes(self) -> int:
        """Bytes of one ciphertext row: `ceil(2 * modulus_bits / 8)`."""
        return -(-2 * self.modulus_bits // 8)

    @property
    def block_ciphertexts(self) -> int:
        """Ciphertexts of one block of the index: one per bit when bit-sliced, else one."""
        return self.bits if self.scheme == "bitsliced" else 1

    @property
    def ciphertexts(self) -> int:
        """Ciphertexts of the whole index."""
        return self.blocks * self.block_ciphertexts

    @property
    def slots(self) -> int:
        """Lanes of all blocks, those beyond the last image included."""
        return self.blocks * self.lanes

    @property
    def lane_digits(self) -> int:
        """Digits that one image takes in a plaintext: k when packed, 1 when bit-sliced."""
        return 1 if self.scheme == "bitsliced" else self.bits


def largest_score(*, scheme: str, bits: int, base: int, lanes: int) -> int:
    """Largest value a score of the layout can take, as an integer to compare with n.

    `top * (base^(s L) - 1) / (base - 1)`; for `integer`, whose differences are signed, the width `2 (2^k - 1)` of
    their range.

    Args:
        scheme: `integer`, `packed` or `bitsliced`.
        bits: code length k.
        base: base of the digits.
        lanes: images per plaintext.

    Returns:
        The bound; the layout decodes exactly if and only if it is below n.

    Example:
        >>> largest_score(scheme="packed", bits=8, base=3, lanes=2) == 3**16 - 1
        True

    """
    digits, top = {"integer": (bits, 2), "packed": (bits * lanes, 2), "bitsliced": (lanes, bits)}[scheme]
    return top * (base**digits - 1) // (base - 1)


def lane_capacity(modulus: int, *, scheme: str, bits: int, base: int) -> int:
    """Most images one plaintext can hold: the largest L with `largest_score(L) < n`.

    Args:
        modulus: the Paillier modulus n itself, not its length: near a power of two one lane more or less fits.
        scheme: `integer`, `packed` or `bitsliced`.
        bits: code length k.
        base: base of the digits.

    Returns:
        Lanes per plaintext; 0 when not even one fits. At most 1 for `integer`.

    Example:
        >>> n = 3**16
        >>> lane_capacity(n, scheme="packed", bits=8, base=3), lane_capacity(n - 1, scheme="packed", bits=8, base=3)
        (2, 1)

    """

    def fits(lanes: int) -> bool:
        return largest_score(scheme=scheme, bits=bits, base=base, lanes=lanes) < modulus

    if scheme == "integer":
        return int(fits(1))
    digit_floor = base.bit_length() - 1
    low, high = 0, modulus.bit_length() // (digit_floor * (1 if scheme == "bitsliced" else bits)) + 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def plan(public: PublicKey, *, scheme: str, count: int, bits: int, base: int | None = None) -> Layout:
    """Plan the layout of an index: as many lanes per plaintext as n holds, exactly.

    Args:
        public: the key the codes will be encrypted under.
        scheme: `integer` (the paper's Eq. 8), `packed` or `bitsliced`.
        count: images N, at least 1.
        bits: code length k, 8..512.
        base: base of the digits. `packed`: 3 (default) or 4. `bitsliced`: `bits + 1` (default: the most lanes) up to
            65536; 256 gives byte lanes. `integer`: 2.

    Returns:
        The layout; `blocks = ceil(count / lanes)`.

    Raises:
        ValueError: an argument outside its range.
        CapacityError: not one code fits below n.

    Example:
        >>> from jcbir.paillier.public import PublicKey
        >>> toy = PublicKey(n=3**16, g=3**16 + 1)  # not a key anyone holds: only its size matters here
        >>> plan(toy, scheme="packed", count=5, bits=8).blocks
        3

    References:
        Wang, Zhang, Meng and Liu, 2023, Eq. 8 (`integer`). Sadeghi, Schneider and Wehrenberg, 2009 (packing).

    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme: must be one of {', '.join(SCHEMES)}, got {scheme!r}")
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ValueError(f"bits: must be {MIN_BITS}..{MAX_BITS}, got {bits}")
    if count < 1:
        raise ValueError(f"count: must be at least 1 image, got {count}")
    allowed = {"integer": range(2, 3), "packed": range(3, 5), "bitsliced": range(bits + 1, MAX_BASE + 1)}[scheme]
    base = allowed[0] if base is None else base
    if base not in allowed:
        raise ValueError(f"base: must be {allowed[0]}..{allowed[-1]} for {scheme} codes of {bits} bits, got {base}")
    lanes = lane_capacity(public.n, scheme=scheme, bits=bits, base=base)
    if lanes < 1:
        need = largest_score(scheme=scheme, bits=bits, base=base, lanes=1).bit_length()
        raise CapacityError(
            f"bits: one {scheme} code of {bits} bits in base {base} needs a score range of {need} bits below n, "
            f"and n has {public.n.bit_length()} bits: take a longer modulus or a shorter code"
        )
    return Layout(scheme, bits, count, public.bits, base, lanes, -(-count // lanes))


def check_layout(public: PublicKey, layout: Layout) -> None:
    """Refuse a layout that `plan` would not make under this key (one that came over a wire, say).

    Args:
        public: the key.
        layout: the layout to check.

    Raises:
        ValueError: the plan for its scheme, count, bits and base is another one.

    Example:
        >>> from jcbir.paillier.public import PublicKey
        >>> toy = PublicKey(n=3**16, g=3**16 + 1)
        >>> check_layout(toy, plan(toy, scheme="packed", count=5, bits=8))

    """
    expected = plan(public, scheme=layout.scheme, count=layout.count, bits=layout.bits, base=layout.base)
    if layout != expected:
        raise ValueError(f"layout: under this key it must be {expected}, got {layout}")


def check_fingerprint(public: PublicKey, fingerprint: str, *, name: str) -> None:
    """Refuse a record made under another key.

    Args:
        public: the key in use.
        fingerprint: the fingerprint the record carries.
        name: what the record is, for the message.

    Raises:
        KeyMismatchError: the fingerprints differ.

    Example:
        >>> from jcbir.paillier.public import PublicKey
        >>> toy = PublicKey(n=3**16, g=3**16 + 1)
        >>> check_fingerprint(toy, toy.fingerprint, name="index")

    """
    if fingerprint != public.fingerprint:
        raise KeyMismatchError(
            f"{name}: made under key {fingerprint[:16]}, and the key in use is {public.fingerprint[:16]}"
        )


def rank(distances: Integer[Array, " n"], *, top: int) -> Int32[np.ndarray, " m"]:
    """Positions of the nearest images, equal distances by lower position; `DEAD` lanes never appear.

    Args:
        distances: distances of n images.
        top: how many positions to return at most.

    Returns:
        int32[m] positions, `m = min(top, live images)`.

    Raises:
        ValueError: `top` below 1.

    Example:
        >>> rank(np.array([3, 1, DEAD, 1]), top=3).tolist()
        [1, 3, 0]

    """
    if top < 1:
        raise ValueError(f"top: must be at least 1, got {top}")
    values = np.asarray(distances)
    live = np.flatnonzero(values != DEAD)
    kept = values[live]
    if top < len(kept):
        # Everything up to the top-th smallest value, then a stable sort of that small part.
        bound = np.partition(kept, top - 1)[top - 1]
        near = np.flatnonzero(kept <= bound)
        live, kept = live[near], kept[near]
    return live[np.argsort(kept, kind="stable")[:top]].astype(np.int32)
