r"""Real numbers in Paillier plaintexts: fixed point, signed, many to a plaintext, with room for sums.

A number x becomes the integer q(x) nearest to x * 2^f, of two the even one. A plaintext holds s of them as balanced
digits base 2^w, P = sum_j q(x_j) * 2^(w j) mod n: adding ciphertexts adds every slot at once, and what a negative slot
borrows of the next, decoding gives back. With |x| <= `magnitude`, K = q(`magnitude`) and sums of at most m terms,

    |slot| <= m K <= 2^(w-1) - 1  and  |P| < 2^(w s - 1) < n/2:

no slot and no plaintext wraps. A sum of t terms is off by at most t * 2^-(f+1), reached where every x is a tie, and by
nothing else: as m K <= 2^53, decoded numbers are exact float64. A term may be multiplied by a public integer k: it
counts as |k| terms, and so a negated or subtracted one as one.

Read by another layout, the same plaintext gives other numbers, as plausible ones. So what is encoded carries its
layout, the count of its numbers and of its terms, encrypted or not (`Encoded`); `add` and `decode` compare them.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, UInt8

from jcbir.errors import CapacityError
from jcbir.paillier import public as public_half
from jcbir.paillier._rows import check_below, check_rows, from_ints, to_ints
from jcbir.paillier.public import PublicKey
from jcbir.typing import Array, check_array, check_whole

EXACT = 1 << 53
# 2^-1023 is still a float64.
MAXIMUM_FRACTION_BITS = 1022


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How numbers lie in the plaintexts of one modulus: the same for all who encode and decode.

    Attributes:
        modulus: the plaintext modulus n.
        fraction_bits: bits after the point, f: a number is kept to the nearest multiple of 2^-f.
        magnitude: the largest |x| that can be encoded.
        terms: the most encodings that a sum may hold, m.

    Raises:
        CapacityError: sums of m terms would not be exact in float64, or not fit a plaintext.
        ValueError: a field is of another type or out of range.

    Example:
        >>> layout = Layout(modulus=2**2047 + 1, fraction_bits=20, magnitude=8.0, terms=1000)
        >>> layout.slots, layout.slot_bits, layout.error
        (60, 34, 4.76837158203125e-07)
    """

    modulus: int
    fraction_bits: int
    magnitude: float
    terms: int

    def __post_init__(self):
        for name, low, high in (("modulus", 2, None), ("fraction_bits", 0, MAXIMUM_FRACTION_BITS), ("terms", 1, None)):
            # NumPy's integers overflow.
            object.__setattr__(self, name, check_whole(name, getattr(self, name), low=low, high=high))
        known = isinstance(self.magnitude, float | int) and not isinstance(self.magnitude, bool)
        if not known or not self.error < self.magnitude <= EXACT:
            raise ValueError(
                f"magnitude: must be a Python number above 2^-{self.fraction_bits + 1} and at most 2^53, "
                f"got {self.magnitude!r}"
            )
        if self.terms * self.unit > EXACT:
            raise CapacityError(
                f"terms: must satisfy terms * magnitude * 2^fraction_bits <= 2^53, "
                f"got {self.terms} * {self.magnitude} * 2^{self.fraction_bits}"
            )
        if not self.slots:
            raise CapacityError(
                f"modulus: must have more than {self.slot_bits} bits for one slot, got {self.modulus.bit_length()}"
            )

    @property
    def unit(self) -> int:
        """The largest |slot| of one encoding, K: `magnitude` * 2^f as an integer."""
        return round(Fraction(self.magnitude) * 2**self.fraction_bits)

    @property
    def slot_bits(self) -> int:
        """Bits of a slot, w: the least with m K <= 2^(w-1) - 1."""
        return (self.terms * self.unit).bit_length() + 1

    @property
    def slots(self) -> int:
        """Numbers in a plaintext, s: the most with 2^(w s) < n."""
        return (self.modulus.bit_length() - 1) // self.slot_bits

    @property
    def plaintext_bytes(self) -> int:
        """Width of a plaintext row."""
        return -(-self.modulus.bit_length() // 8)

    @property
    def error(self) -> float:
        """The largest error of one term, 2^-(f+1); a sum of t terms is off by t times it at most."""
        return 2.0 ** -(self.fraction_bits + 1)

    def plaintexts(self, count: int) -> int:
        """Plaintexts that `count` numbers fill: ceil(count / s)."""
        return -(-count // self.slots)


class Encoded(NamedTuple):
    """Numbers in rows, and how they lie there: `_replace(rows=...)` puts ciphertexts for plaintexts, and back.

    Attributes:
        layout: by which they were encoded.
        count: of the numbers, n.
        terms: encodings that were added, each multiplied by k counting |k| times.
        rows: `UInt8[r w]`, `layout.plaintexts(count)` plaintexts or ciphertexts.
    """

    layout: Layout
    count: int
    terms: int
    rows: UInt8[Array, "r w"]


def encode(layout: Layout, values: Float[Array, "n"]) -> Encoded:
    """Write numbers as plaintexts: sum_j rint(x_j 2^f) 2^(w j) mod n, the first number in the lowest slot.

    Args:
        layout: where the numbers go.
        values: floats of 64 bits or less in [-magnitude, magnitude].

    Returns:
        One term: rows of shape [ceil(n / slots), plaintext_bytes] to encrypt; the last one's free slots hold zero.

    Raises:
        ValueError: not floats, or a number is not finite or out of range; the message does not show it.

    Example:
        >>> layout = Layout(modulus=2**64 - 59, fraction_bits=2, magnitude=2.0, terms=3)
        >>> encode(layout, np.array([0.25, 1.1, -0.375])).rows.tolist()  # digits 1, 4, -2 base 2^6
        [[255, 255, 255, 255, 255, 255, 224, 198]]
    """
    check_array("values", values, kind="floats", form="[n]", rank=1)
    numbers = np.asarray(values)
    if numbers.dtype.itemsize > 8:
        raise ValueError(f"values: must be floats of at most 64 bits, got {numbers.dtype}")
    numbers = numbers.astype(np.float64)
    inside = np.abs(numbers) <= layout.magnitude
    if not inside.all():
        bad = int(np.argmin(inside))
        found = "a larger one" if np.isfinite(numbers[bad]) else f"{numbers[bad]}"
        raise ValueError(f"values[{bad}]: must be of magnitude {layout.magnitude} at most, got {found}")
    slots, width = layout.slots, layout.slot_bits
    digits = np.zeros(layout.plaintexts(len(numbers)) * slots, np.int64)
    digits[: len(numbers)] = np.rint(np.ldexp(numbers, layout.fraction_bits))
    # Half a slot more makes every digit positive: then slots are bits side by side.
    shifted = (digits + (1 << (width - 1))).reshape(-1, slots)[:, ::-1].astype(">u8", order="C")
    bits = np.unpackbits(shifted.view(np.uint8).reshape(-1, slots, 8), axis=2)[:, :, 64 - width :]
    lines = bits.reshape(-1, slots * width)
    table = np.packbits(np.pad(lines, ((0, 0), (-lines.shape[1] % 8, 0))), axis=1)
    offset = _offset(layout)
    rows = from_ints(((x - offset) % layout.modulus for x in to_ints(table)), width=layout.plaintext_bytes)
    return Encoded(layout, len(numbers), 1, rows)


def add(public: PublicKey, a: Encoded, b: Encoded) -> Encoded:
    """Add encrypted numbers, one by one: Enc(x) Enc(y) = Enc(x + y).

    Args:
        public: the key of both.
        a: encrypted numbers.
        b: as many by the same layout.

    Returns:
        Encrypted sums, of as many terms as both together.

    Raises:
        CapacityError: more terms than the layout has room for.
        ValueError: another layout or count, or rows that are no ciphertexts of this key.

    Example:
        >>> import secrets
        >>> from jcbir.paillier import generate_keys, secret
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> layout = Layout(modulus=key.public.n, fraction_bits=8, magnitude=1.0, terms=2)
        >>> plain = encode(layout, np.array([0.5]))
        >>> sent = plain._replace(rows=secret.encrypt(key, plain.rows, draw=secrets.token_bytes))
        >>> total = add(key.public, sent, sent)
        >>> total.terms, decode(layout, total._replace(rows=secret.decrypt(key, total.rows))).tolist()
        (2, [1.0])
    """
    return _joined(a, b, public_half.add(public, *_rows(public, a, b)))


def subtract(public: PublicKey, a: Encoded, b: Encoded) -> Encoded:
    """Subtract encrypted numbers, one by one; the result counts the terms of both, as `add` does.

    Args:
        public: the key of both.
        a: encrypted numbers.
        b: as many by the same layout.

    Returns:
        Encrypted differences, of as many terms as both together.

    Raises:
        CapacityError: more terms than the layout has room for.
        ValueError: another layout or count, or rows that are no ciphertexts of this key.

    Example:
        >>> import secrets
        >>> from jcbir.paillier import generate_keys, secret
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> plain = encode(Layout(modulus=key.public.n, fraction_bits=8, magnitude=1.0, terms=2), np.array([0.5]))
        >>> sent = plain._replace(rows=secret.encrypt(key, plain.rows, draw=secrets.token_bytes))
        >>> found = subtract(key.public, sent, sent)
        >>> decode(plain.layout, found._replace(rows=secret.decrypt(key, found.rows))).tolist()
        [0.0]
    """
    return _joined(a, b, public_half.subtract(public, *_rows(public, a, b)))


def multiply(public: PublicKey, a: Encoded, factor: int) -> Encoded:
    """Multiply encrypted numbers by a public integer k: Enc(x)^k = Enc(k x), |k| times the terms.

    Args:
        public: the key.
        a: encrypted numbers.
        factor: k, not 0.

    Returns:
        Encrypted products.

    Raises:
        CapacityError: more terms than the layout has room for.
        ValueError: `factor` is 0 or no whole number, or the rows are no ciphertexts of this key.

    Example:
        >>> import secrets
        >>> from jcbir.paillier import generate_keys, secret
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> plain = encode(Layout(modulus=key.public.n, fraction_bits=8, magnitude=1.0, terms=3), np.array([0.5]))
        >>> sent = plain._replace(rows=secret.encrypt(key, plain.rows, draw=secrets.token_bytes))
        >>> thrice = multiply(key.public, sent, -3)
        >>> thrice.terms, decode(plain.layout, thrice._replace(rows=secret.decrypt(key, thrice.rows))).tolist()
        (3, [-1.5])
    """
    (rows,) = _rows(public, a)
    factor = check_whole("factor", factor, low=-a.layout.terms, high=a.layout.terms)
    if not factor:
        raise ValueError("factor: must be another number than 0, got 0")
    terms = _terms(a.layout, a.terms * abs(factor))
    return a._replace(terms=terms, rows=public_half.multiply(public, rows, [factor] * len(rows)))


def decode(layout: Layout, encoded: Encoded) -> Float64[np.ndarray, "n"]:
    """Read sums of encodings: the balanced digits of P, times 2^-f.

    What exceeds the terms shows where a slot does, not where it happens to stay small.

    Args:
        layout: of all that was added, as the reader knows it.
        encoded: with plaintexts, as `secret.decrypt` gives them, for its rows.

    Returns:
        The n sums, each within terms * 2^-(f+1) of the exact one.

    Raises:
        FormatError: the rows have another width than the layout's.
        ValueError: another layout, naming the fields that differ; more terms than planned; a row that is no sum of so
            many encodings; or another count of rows or of numbers in the last of them.

    Example:
        >>> layout = Layout(modulus=2**64 - 59, fraction_bits=2, magnitude=2.0, terms=3)
        >>> decode(layout, encode(layout, np.array([0.25, 1.1, -0.375]))).tolist()
        [0.25, 1.0, -0.5]
    """
    _check_encoded("encoded", encoded)
    _check_layout("encoded", encoded.layout, layout)
    count, terms = encoded.count, encoded.terms
    check_rows(encoded.rows, name="rows", width=layout.plaintext_bytes)
    check_below(encoded.rows, layout.modulus, name="rows")
    if len(encoded.rows) != layout.plaintexts(count):
        raise ValueError(f"rows: must be {layout.plaintexts(count)} for {count} numbers, got {len(encoded.rows)}")
    slots, width = layout.slots, layout.slot_bits
    offset, used = _offset(layout), slots * width
    shifted = [(x + offset) % layout.modulus for x in to_ints(encoded.rows)]
    beyond = np.array([x >> used != 0 for x in shifted], bool)
    table = from_ints((x % (1 << used) for x in shifted), width=-(-used // 8))
    bits = np.unpackbits(table, axis=1)[:, -used:].reshape(-1, slots, width)
    digits = np.packbits(np.pad(bits, ((0, 0), (0, 0), (64 - width, 0))), axis=2).reshape(-1, 8 * slots).view(">u8")
    sums = digits[:, ::-1].astype(np.int64) - (1 << (width - 1))
    beyond |= (np.abs(sums) > terms * layout.unit).any(axis=1)
    if beyond.any():
        raise ValueError(f"rows[{int(np.argmax(beyond))}]: must be a sum of {terms} encodings, got a larger one")
    numbers = sums.reshape(-1)
    if numbers[count:].any():
        raise ValueError(f"count: must be that of the numbers encoded, got {count} and a number after them")
    return np.ldexp(numbers[:count].astype(np.float64), -layout.fraction_bits)


def _check_encoded(name: str, value: Encoded) -> None:
    """Rows alone do not say how to read them."""
    if not isinstance(value, Encoded):
        raise ValueError(f"{name}: must be Encoded, as `encode` gives it, got {type(value).__name__}")
    if not isinstance(value.layout, Layout):
        raise ValueError(f"{name}.layout: must be a Layout, got {type(value.layout).__name__}")
    check_whole("count", value.count, low=0)
    check_whole("terms", value.terms, low=1, high=value.layout.terms)


def _check_layout(name: str, found: Layout, wanted: Layout) -> None:
    """Two layouts agree in every field."""
    if not isinstance(wanted, Layout):
        raise ValueError(f"layout: must be a Layout, got {type(wanted).__name__}")
    differing = [field for field in Layout.__dataclass_fields__ if getattr(found, field) != getattr(wanted, field)]
    if differing:
        said = ", ".join(
            f"another {field}" if field == "modulus" else f"{field} {getattr(found, field)}" for field in differing
        )
        known = ", ".join(f"{field} {getattr(wanted, field)}" for field in differing if field != "modulus")
        raise ValueError(f"{name}: must be of the layout's {known or 'modulus'}, got {said}")


def _rows(public: PublicKey, *encoded: Encoded) -> list[UInt8[Array, "r w"]]:
    """The rows of numbers that lie alike under this key."""
    for name, each in zip("ab", encoded, strict=False):
        _check_encoded(name, each)
    first = encoded[0]
    if first.layout.modulus != public.n:
        raise ValueError("a: must be of a layout for this key's modulus, got another")
    for other in encoded[1:]:
        _check_layout("b", other.layout, first.layout)
        if other.count != first.count:
            raise ValueError(f"b: must be {first.count} numbers as in a, got {other.count}")
    return [each.rows for each in encoded]


def _joined(a: Encoded, b: Encoded, rows: UInt8[Array, "r w"]) -> Encoded:
    return a._replace(terms=_terms(a.layout, a.terms + b.terms), rows=rows)


def _terms(layout: Layout, terms: int) -> int:
    """A number of terms that the layout has room for."""
    if terms > layout.terms:
        raise CapacityError(f"terms: must be at most the {layout.terms} of the layout, got {terms}")
    return terms


def _offset(layout: Layout) -> int:
    """Half of every slot: sum_j 2^(w j + w - 1)."""
    width = layout.slot_bits
    return ((1 << width * layout.slots) - 1) // ((1 << width) - 1) << (width - 1)
