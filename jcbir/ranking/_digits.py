"""What the Paillier layouts share: digits of one base in a number below n, and the bound that no digit carries.

A number carries digits in one base. With `s` digits per code and `L` lanes (codes per plaintext), a score that the
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

from collections.abc import Sequence

import numpy as np

from jcbir.errors import CapacityError
from jcbir.paillier import public as paillier
from jcbir.paillier.public import PublicKey
from jcbir.ranking._scheme import Layout, Seen, Shapes, Trapdoor, check_whole


def largest_score(*, digits: int, top: int, base: int, lanes: int) -> int:
    """Largest number that `lanes` codes of `digits` digits can spell, each at most `top`."""
    return top * (base ** (digits * lanes) - 1) // (base - 1)


def lane_capacity(modulus: int, *, digits: int, top: int, base: int) -> int:
    """Most codes one plaintext holds: the largest L with `largest_score(L) < modulus`, exactly, 0 if not even one."""
    low, high = 0, modulus.bit_length() // ((base.bit_length() - 1) * digits) + 1
    while low < high:
        middle = (low + high + 1) // 2
        fits = largest_score(digits=digits, top=top, base=base, lanes=middle) < modulus
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def plan_digits(
    public: PublicKey,
    *,
    scheme: str,
    count: int,
    bits: int,
    base: int | None,
    bases: range,
    digits: int,
    top: int,
    most: int | None = None,
) -> Layout:
    """As many lanes per plaintext as n holds, `most` at most; a base outside `bases` is refused, None is the first."""
    base = check_whole(bases[0] if base is None else base, name="base", low=bases[0], high=bases[-1])
    lanes = lane_capacity(public.n, digits=digits, top=top, base=base)
    if lanes < 1:
        need = largest_score(digits=digits, top=top, base=base, lanes=1).bit_length()
        raise CapacityError(
            f"bits: one {scheme} code of {bits} bits in base {base} needs a score range of {need} bits below n, "
            f"and n has {public.n.bit_length()} bits: take a longer modulus or a shorter code"
        )
    lanes = lanes if most is None else min(lanes, most)
    return Layout(scheme, bits, count, public.bits, base, lanes, -(-count // lanes))


def shapes(layout: Layout) -> Shapes:
    """One ciphertext per block in the index and in the scores, and one in the query."""
    width = layout.ciphertext_bytes
    return Shapes((layout.blocks, width), (1, width), (layout.blocks, width), layout.blocks)


def fill_lanes(codes: np.ndarray, layout: Layout) -> np.ndarray:
    """bool[blocks, lanes, k]: the codes by block and lane, zeros beyond the last."""
    blocks = -(-len(codes) // layout.lanes)
    lanes = np.zeros((blocks * layout.lanes, layout.bits), bool)
    lanes[: len(codes)] = codes
    return lanes.reshape(blocks, layout.lanes, layout.bits)


def complement(public: PublicKey, rows: np.ndarray, plaintext: np.ndarray, *, engine: str) -> np.ndarray:
    """E(plaintext - x) for each row E(x)."""
    one = np.zeros((1, rows.shape[1]), np.uint8)
    one[0, -1] = 1
    constant = paillier.encrypt(public, plaintext, blinders=one, engine=engine)
    return paillier.subtract(public, np.broadcast_to(constant, rows.shape), rows, engine=engine)


def add_query(
    public: PublicKey, ciphertexts: np.ndarray, body: np.ndarray, *, blinders: np.ndarray, engine: str
) -> np.ndarray:
    """E(x + q) for each row E(x), blinded afresh so that its randomness does not tell which entry went into it."""
    sums = paillier.add(public, ciphertexts, np.broadcast_to(body, ciphertexts.shape), engine=engine)
    return paillier.rerandomize(public, sums, blinders=blinders, engine=engine)


def checked_body(public: PublicKey, trapdoor: Trapdoor) -> np.ndarray:
    """The encrypted query, a ciphertext of this key for certain."""
    paillier.check_ciphertexts(public, trapdoor.body)
    return trapdoor.body


def server_sees_nothing(trapdoors: Sequence[Trapdoor]) -> Seen:
    """Of an encrypted query the server learns nothing."""
    return Seen("of the queries nothing: each trapdoor is a fresh encryption", {})


def sees_distances(found: Sequence[np.ndarray]) -> Seen:
    """Where each lane decodes to its distance, an authority learns the distances; of no query there are none."""
    words = "distances, nothing else"
    if not found:
        return Seen(words, {})
    distances = np.stack(found)
    return Seen(f"{words} ({distances.min()} to {distances.max()})", {"distances": distances})
