"""The paper's layout: one code per ciphertext, read as one integer; the score is a signed difference.

`t = sum_j h_j 2^(k - 1 - j)`, `D(E(t_i) E(t_q)^-1 mod n^2) = t_i - t_q mod n` (Eq. 8), ranked by `|t_i - t_q|`. That
is NOT the Hamming distance: bit k weighs `2^k`, so 0111..1 and 1000..0 differ by 1 although every bit differs, and the
ranking degrades with the first flipped bits. It is kept under its own name to show the gap; `packed` and `bitsliced`
are exact.

References: Wang, Zhang, Meng and Liu, CMC 75(3), 2023, section 3.4, Eq. 8.
"""

from collections.abc import Sequence

import numpy as np

from jcbir.paillier.public import PublicKey
from jcbir.ranking import _digits
from jcbir.ranking._scheme import Index, Layout, Leakage, Operations, Scheme, Seen, Trapdoor, Work


def _plan(public: PublicKey, *, count: int, bits: int, base: int | None) -> Layout:
    # The differences are signed: a range of 2 (2^k - 1) must lie below n.
    return _digits.plan_digits(
        public, scheme="integer", count=count, bits=bits, base=base, bases=range(2, 3), digits=bits, top=2, most=1
    )


def _encode_index(codes: np.ndarray, layout: Layout) -> np.ndarray:
    padding = -codes.shape[1] % 8
    packed = np.packbits(np.pad(codes, ((0, 0), (padding, 0))), axis=1)
    return np.pad(packed, ((0, 0), (layout.plaintext_bytes - packed.shape[1], 0)))


def _score(public: PublicKey, index: Index, trapdoor: Trapdoor, *, blinders: np.ndarray, engine: str) -> np.ndarray:
    zero = np.zeros((1, index.layout.plaintext_bytes), np.uint8)
    negated = _digits.complement(public, _digits.checked_body(public, trapdoor), zero, engine=engine)
    return _digits.add_query(public, index.ciphertexts, negated, blinders=blinders, engine=engine)


def differences(plaintexts: np.ndarray, layout: Layout, public: PublicKey) -> list[int]:
    """Decrypted scores as exact signed differences `t_i - t_q`, residues above n/2 being negative."""
    values = [int.from_bytes(row.tobytes(), "big") for row in plaintexts]
    values = [value - public.n if value > public.n // 2 else value for value in values]
    bound = (1 << layout.bits) - 1
    if any(abs(value) > bound for value in values):
        raise ValueError(f"plaintexts: must be scores of this layout and key, got a difference beyond +-{bound}")
    return values


def _ranks(values: Sequence[int]) -> np.ndarray:
    """Dense ranks of `|difference|`: 0 for the smallest, equal magnitudes share one."""
    magnitudes = [abs(value) for value in values]
    order = {magnitude: position for position, magnitude in enumerate(sorted(set(magnitudes)))}
    return np.array([order[magnitude] for magnitude in magnitudes], np.int32)


def _row(pieces: Sequence[tuple[Layout, np.ndarray]], public: PublicKey) -> list[int]:
    return [value for layout, plaintexts in pieces for value in differences(plaintexts, layout, public)]


def _distances(codes: np.ndarray, code: np.ndarray) -> np.ndarray:
    numbers = [int.from_bytes(np.packbits(row).tobytes(), "big") for row in (*codes, code)]
    # Codes of one length are all shifted alike by the last byte's padding, which no rank notices.
    return _ranks([number - numbers[-1] for number in numbers[:-1]])


def _cost(layout: Layout, group: int | None) -> Work:
    blocks = layout.blocks
    operations = Operations(blocks, 0, 0, 1, blocks, 2 * blocks + 1, 1, blocks)
    return Work(operations, (("product", blocks), ("product", blocks), ("invert", 1)), digits=0)


def _authority(rows: Sequence[Sequence[tuple[Layout, np.ndarray]]], public: PublicKey | None) -> Seen:
    words = "differences of masked codes as numbers"
    if not rows:
        return Seen(words, {})
    found = tuple(tuple(_row(pieces, public)) for pieces in rows)
    # Two codes whose difference is known determine one another.
    equal = sum(value == 0 for row in found for value in row)
    return Seen(f"{words} ({equal} equal codes)", {"differences": found})


INTEGER = Scheme(
    name="integer",
    description="integer (the paper's |difference|)",
    key_kind="paillier",
    encrypted_query=True,
    plan=_plan,
    isometries=lambda layout: 1,
    shapes=_digits.shapes,
    encode_index=_encode_index,
    encode_query=_encode_index,
    prepare=None,
    score=_score,
    decode=lambda pieces, public: _ranks(_row(pieces, public)),
    distances=_distances,
    cost=_cost,
    leakage=Leakage(_digits.server_sees_nothing, _authority),
)
"""The paper's scheme."""
