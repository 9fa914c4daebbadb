"""Fixed point in plaintexts: the bound holds for every sum, at the extremes too; what does not fit is refused."""

import secrets
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir.errors import CapacityError, FormatError
from jcbir.paillier import floats, from_ints, generate_keys, secret, to_ints
from jcbir.paillier.floats import Encoded, Layout, decode, encode

# Only sums modulo n are made here, so factors do not matter.
MODULI = (2**64 - 59, 3 * 2**254 + 1, 2**1024 + 643, 2**3072 - 1103717)
KEY = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)


@st.composite
def layouts(draw, modulus=None):
    """Layouts that a plaintext holds, from one slot to hundreds, up to the 2^53 that a float64 counts."""
    fraction_bits = draw(st.integers(0, 60))
    top = draw(st.integers(1 - fraction_bits, 53 - fraction_bits))
    magnitude = draw(st.floats(2.0 ** (top - 1), 2.0**top, exclude_min=True))
    most = 2**53 // max(1, round(Fraction(magnitude) * 2**fraction_bits))
    return Layout(
        modulus=modulus or draw(st.sampled_from(MODULI)),
        fraction_bits=fraction_bits,
        magnitude=magnitude,
        terms=draw(st.integers(1, min(most, 40))),
    )


def numbers(layout, count):
    """Values in range: any, ties between two multiples of 2^-f, and both ends."""
    ends = st.sampled_from([layout.magnitude, -layout.magnitude, 0.0])
    ties = st.integers(-layout.unit, layout.unit - 1).map(lambda k: (k + 0.5) * 2.0**-layout.fraction_bits)
    inside = ties.filter(lambda x: abs(x) <= layout.magnitude)
    anything = st.floats(-layout.magnitude, layout.magnitude)
    return st.lists(st.one_of(ends, inside, anything), min_size=count, max_size=count).map(np.array)


def total(layout, parts, weights=None):
    """The sum modulo n that ciphertexts would hold, on integers."""
    weights = weights or [1] * len(parts)
    columns = zip(*(to_ints(part.rows) for part in parts), strict=True)
    sums = (sum(k * x for k, x in zip(weights, column, strict=True)) % layout.modulus for column in columns)
    return Encoded(layout, parts[0].count, sum(map(abs, weights)), from_ints(sums, width=layout.plaintext_bytes))


def encrypted(plain):
    return plain._replace(rows=secret.encrypt(KEY, plain.rows, draw=secrets.token_bytes))


def decrypted(sent):
    return sent._replace(rows=secret.decrypt(KEY, sent.rows))


def assert_within(layout, found, vectors, weights):
    for i, number in enumerate(found):
        exact = sum(k * Fraction(float(vector[i])) for k, vector in zip(weights, vectors, strict=True))
        assert abs(Fraction(float(number)) - exact) <= sum(map(abs, weights)) * Fraction(layout.error)


@given(st.data())
def test_every_sum_decodes_within_its_bound(data):
    layout = data.draw(layouts())
    count, terms = data.draw(st.integers(1, 40)), data.draw(st.integers(1, layout.terms))
    vectors = [data.draw(numbers(layout, count)) for _ in range(min(terms, 4))]
    vectors = [vectors[i % len(vectors)] for i in range(terms)]
    found = decode(layout, total(layout, [encode(layout, x) for x in vectors]))
    assert found.dtype == np.float64
    assert_within(layout, found, vectors, [1] * terms)


@given(st.data())
def test_public_integers_count_as_terms(data):
    layout = data.draw(layouts())
    weights, left = [], layout.terms
    while left and len(weights) < 4:
        weights.append(data.draw(st.integers(-left, left).filter(bool)))
        left -= abs(weights[-1])
    vectors = [data.draw(numbers(layout, 7)) for _ in weights]
    found = decode(layout, total(layout, [encode(layout, x) for x in vectors], weights))
    assert_within(layout, found, vectors, weights)


@given(layouts(), st.lists(st.sampled_from([1, -1]), min_size=1, max_size=200))
def test_full_slots_keep_to_themselves(layout, signs):
    """All terms at an end of the range, next to any neighbor at either end: nothing is carried over."""
    signs = (signs * layout.slots)[: 2 * layout.slots]
    x = np.array(signs) * float(layout.magnitude)
    found = decode(layout, total(layout, [encode(layout, x)] * layout.terms))
    np.testing.assert_array_equal(found, np.array(signs) * np.ldexp(layout.terms * layout.unit, -layout.fraction_bits))


@given(layouts())
def test_a_layout_wastes_no_bit(layout):
    reach = layout.terms * layout.unit
    assert 2 ** (layout.slot_bits - 2) <= reach < 2 ** (layout.slot_bits - 1)
    assert 2 ** (layout.slot_bits * layout.slots) < layout.modulus
    assert 2 ** (layout.slot_bits * (layout.slots + 1)) > layout.modulus // 2
    assert layout.plaintexts(layout.slots) == 1 and layout.plaintexts(layout.slots + 1) == 2
    assert layout.plaintexts(0) == 0


def slow_plaintexts(layout, values):
    """A second implementation: exact fractions, one slot after another."""
    found = []
    for start in range(0, len(values), layout.slots):
        digits = [round(Fraction(float(x)) * 2**layout.fraction_bits) for x in values[start : start + layout.slots]]
        found.append(sum(d * 2 ** (layout.slot_bits * j) for j, d in enumerate(digits)) % layout.modulus)
    return found


@given(st.data())
def test_encoding_is_the_formula(data):
    layout = data.draw(layouts())
    values = data.draw(numbers(layout, data.draw(st.integers(0, 30))))
    assert to_ints(encode(layout, values.astype(np.float64)).rows) == slow_plaintexts(layout, values)


def test_vectors():
    """Worked by hand: f = 3, K = 16, m = 2, w = 7; ties go to the even multiple."""
    layout = Layout(modulus=2**64 - 59, fraction_bits=3, magnitude=2.0, terms=2)
    assert (layout.unit, layout.slot_bits, layout.slots, layout.error) == (16, 7, 9, 0.0625)
    halves = np.array([0.0625, 0.1875, -0.0625, -0.1875, -0.0, 5e-324])
    assert to_ints(encode(layout, halves).rows) == [2 * 2**7 - 2 * 2**21 + 2**64 - 59]
    assert to_ints(encode(layout, np.array([0.0] * 9 + [1.0, -2.0])).rows) == [0, 2**64 - 59 + 8 - 16 * 2**7]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, jnp.bfloat16])
def test_every_float_is_taken_exactly(kind):
    layout = Layout(modulus=MODULI[1], fraction_bits=20, magnitude=4.0, terms=5)
    values = np.array([1.5, -3.875, 0.0078125], kind)
    want = encode(layout, values.astype(np.float64)).rows
    np.testing.assert_array_equal(encode(layout, values).rows, want)
    if kind is not np.float64:
        np.testing.assert_array_equal(encode(layout, jnp.asarray(values)).rows, want)


def test_ciphertexts_add_subtract_and_scale():
    """Both halves of the key at work: 3 a + b - c, five terms."""
    layout = Layout(modulus=KEY.public.n, fraction_bits=16, magnitude=1.0, terms=5)
    vectors = np.random.default_rng(0).uniform(-1, 1, (3, 50))
    a, b, c = (encrypted(encode(layout, x)) for x in vectors)
    mixed = floats.subtract(KEY.public, floats.add(KEY.public, floats.multiply(KEY.public, a, 3), b), c)
    assert mixed.terms == 5
    assert_within(layout, decode(layout, decrypted(mixed)), vectors, [3, 1, -1])
    turned = floats.multiply(KEY.public, a, -2)
    assert turned.terms == 2
    assert_within(layout, decode(layout, decrypted(turned)), vectors[:1], [-2])


FIELDS = {"modulus": KEY.public.n, "fraction_bits": 16, "magnitude": 1.0, "terms": 5}


@pytest.mark.parametrize(
    ("field", "value"),
    [("fraction_bits", 20), ("magnitude", 2.0), ("terms", 6), ("modulus", KEY.public.n + 2)],
    ids=["fraction_bits", "magnitude", "terms", "modulus"],
)
def test_another_layout_is_named(field, value):
    """Its numbers would be plausible: slots of the same width, and a point elsewhere."""
    layout, other = Layout(**FIELDS), Layout(**{**FIELDS, field: value})
    x = np.array([0.5, -0.25])
    with pytest.raises(ValueError, match=rf"^encoded: must be of the layout's .*{field}"):
        decode(layout, encode(other, x))
    if field != "modulus":
        for operation in (floats.add, floats.subtract):
            with pytest.raises(ValueError, match=rf"^b: must be of the layout's {field} .*got {field} {value}"):
                operation(KEY.public, encrypted(encode(layout, x)), encrypted(encode(other, x)))
    else:
        with pytest.raises(ValueError, match=r"^a: must be of a layout for this key's modulus"):
            floats.multiply(KEY.public, encode(other, x), 2)


def test_what_cannot_be_added_is_refused(unchecked):
    layout = Layout(**FIELDS)
    one = encrypted(encode(layout, np.ones(3)))
    five = floats.multiply(KEY.public, one, 5)
    for call in (
        lambda: floats.add(KEY.public, five, one),
        lambda: floats.subtract(KEY.public, one, five),
        lambda: floats.multiply(KEY.public, floats.add(KEY.public, one, one), 3),
    ):
        with pytest.raises(CapacityError, match=r"^terms: must be at most the 5 of the layout, got 6"):
            call()
    with pytest.raises(ValueError, match=r"^b: must be 3 numbers as in a, got 2"):
        floats.add(KEY.public, one, encrypted(encode(layout, np.ones(2))))
    for factor in (0, 6, 1.5, True, None):
        with pytest.raises(ValueError, match=r"^factor: must be"):
            floats.multiply(KEY.public, one, factor)
    for call in (
        lambda: floats.add(KEY.public, one, one.rows),
        lambda: floats.multiply(KEY.public, one.rows, 2),
        lambda: decode(layout, one.rows),
    ):
        with pytest.raises(ValueError, match=r": must be Encoded, as `encode` gives it, got ndarray"):
            call()
    # Of fewer than one there would be room for more than the slots hold.
    for wrong, message in (
        *(({"terms": terms}, "terms: must be a whole number from 1 to 5, got") for terms in (0, -3, "1", True, 6)),
        *(({"count": count}, "count: must be a whole number of at least 0, got") for count in (-1, 3.0, None)),
        ({"layout": None}, "[ab].layout: must be a Layout, got NoneType"),
    ):
        for call in (
            lambda bad: floats.add(KEY.public, bad, one),
            lambda bad: floats.subtract(KEY.public, one, bad),
            lambda bad: floats.multiply(KEY.public, bad, 1),
        ):
            with pytest.raises(ValueError, match=f"^{message}"):
                call(one._replace(**wrong))
    for call in (lambda: decode(None, encode(layout, np.ones(3))), lambda: decode(layout, one._replace(layout=None))):
        with pytest.raises(ValueError, match=r"layout: must be a Layout, got NoneType"):
            call()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.nan, "nan"),
        (np.inf, "inf"),
        (-np.inf, "-inf"),
        (2.0000000000000004, "a larger one"),
        (-1e300, "a larger one"),
    ],
)
def test_numbers_that_do_not_fit_are_named_and_not_shown(value, shown):
    layout = Layout(modulus=MODULI[0], fraction_bits=3, magnitude=2.0, terms=2)
    with pytest.raises(ValueError, match=rf"^values\[1\]: must be of magnitude 2.0 at most, got {shown}"):
        encode(layout, np.array([1.0, value, 0.0]))


@pytest.mark.parametrize(
    "values",
    [[0.5], np.array([1, 2]), np.array([True]), np.array(0.5), np.ones((2, 2)), np.array(["1.0"]), np.ones(2, complex)],
)
def test_only_vectors_of_floats(unchecked, values):
    with pytest.raises(ValueError, match=r"^values: must be floats"):
        encode(Layout(modulus=MODULI[0], fraction_bits=3, magnitude=2.0, terms=2), values)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="no longer float here")
def test_longer_floats_are_not_shortened(unchecked):
    with pytest.raises(ValueError, match=r"^values: must be floats of at most 64 bits, got float128"):
        encode(Layout(modulus=MODULI[0], fraction_bits=3, magnitude=2.0, terms=2), np.ones(1, np.longdouble))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("modulus", x) for x in (1, 2.0, "7", True, None)),
        *(("fraction_bits", x) for x in (-1, 1023, 2.0, True)),
        *(
            ("magnitude", x)
            for x in (0.0, -1.0, np.nan, np.inf, 2.0**-11, "1", True, np.float32(1), 2**53 + 1, 10**400)
        ),
        *(("terms", x) for x in (0, 1.0, False)),
    ],
)
def test_a_layout_is_checked(unchecked, field, value):
    fields = {"modulus": MODULI[1], "fraction_bits": 10, "magnitude": 1.0, "terms": 3}
    with pytest.raises(ValueError, match=f"^{field}: must be .* got "):
        Layout(**{**fields, field: value})


def test_the_edge_of_exactness_and_of_the_modulus():
    exact = Layout(modulus=MODULI[0], fraction_bits=50, magnitude=4.0, terms=2)
    x = np.array([4.0 - 2.0**-50])
    assert decode(exact, total(exact, [encode(exact, x)] * 2))[0] == 2 * float(x[0])
    with pytest.raises(CapacityError, match=r"^terms: must satisfy"):
        Layout(modulus=MODULI[0], fraction_bits=50, magnitude=4.0, terms=3)
    assert Layout(modulus=2**55, fraction_bits=50, magnitude=4.0, terms=2).slots == 1
    with pytest.raises(CapacityError, match=r"^modulus: must have more than 55 bits for one slot, got 55"):
        Layout(modulus=2**55 - 1, fraction_bits=50, magnitude=4.0, terms=2)
    fine = Layout(modulus=MODULI[0], fraction_bits=1022, magnitude=2.0**-1000, terms=9)
    assert decode(fine, encode(fine, np.array([2.0**-1022])))[0] == 2.0**-1022


def test_numpy_integers_are_integers(unchecked):
    layout = Layout(modulus=np.int64(2**40), fraction_bits=np.int32(3), magnitude=1, terms=np.int8(100))
    assert layout == Layout(modulus=2**40, fraction_bits=3, magnitude=1.0, terms=100)
    assert (layout.slot_bits, layout.slots) == (11, 3)


def test_wrong_counts_are_refused(unchecked):
    layout = Layout(modulus=MODULI[0], fraction_bits=3, magnitude=2.0, terms=2)
    plain = encode(layout, np.full(11, 2.0))
    for count, message in [(9, "rows: must be 1 for"), (19, "rows: must be 3 for"), (10, "count: must be")]:
        with pytest.raises(ValueError, match=f"^{message}"):
            decode(layout, plain._replace(count=count))
    for count in (-1, 11.0, True, None):
        with pytest.raises(ValueError, match=r"^count: must be"):
            decode(layout, plain._replace(count=count))
    for terms in (0, 3, 1.0, True):
        with pytest.raises(ValueError, match=r"^terms: must be"):
            decode(layout, plain._replace(terms=terms))
    with pytest.raises(ValueError, match=r"^rows\[0\]: must be a sum of 1 encodings, got a larger one"):
        decode(layout, total(layout, [plain] * 2)._replace(terms=1))
    # Carried into the next slot, or past the last one.
    for overfull in ([plain] * 5, [plain] * 9):
        with pytest.raises(ValueError, match=r"^rows\[0\]: must be a sum of 2 encodings"):
            decode(layout, total(layout, overfull)._replace(terms=2))


def test_what_is_no_plaintext_is_refused(unchecked):
    layout = Layout(modulus=MODULI[0], fraction_bits=3, magnitude=2.0, terms=2)

    def read(rows):
        return decode(layout, Encoded(layout, 9, 2, rows))

    with pytest.raises(FormatError, match=r"^rows: must be 8 bytes wide"):
        read(np.zeros((1, 7), np.uint8))
    with pytest.raises(ValueError, match=r"^rows: must be uint8"):
        read(np.zeros((1, 8), np.int64))
    with pytest.raises(ValueError, match=r"^rows\[0\]: must be below"):
        read(np.full((1, 8), 255, np.uint8))
    # Half the modulus: beyond every slot.
    with pytest.raises(ValueError, match=r"^rows\[0\]: must be a sum of 2 encodings"):
        read(from_ints([2**63], width=8))


@given(layouts(), st.data())
def test_no_slot_holds_more_than_its_terms(layout, data):
    """At the bound a sum is read, one beyond it is refused, in each slot and with either sign."""
    bound, slot = layout.terms * layout.unit, data.draw(st.integers(0, layout.slots - 1))
    sign = data.draw(st.sampled_from([-1, 1]))

    def read(number):
        plaintext = (sign * number << slot * layout.slot_bits) % layout.modulus
        rows = from_ints([plaintext], width=layout.plaintext_bytes)
        return decode(layout, Encoded(layout, layout.slots, layout.terms, rows))

    assert read(bound)[slot] == sign * np.ldexp(bound, -layout.fraction_bits)
    with pytest.raises(ValueError, match=rf"^rows\[0\]: must be a sum of {layout.terms} encodings"):
        read(bound + 1)


def test_nothing_is_encoded_as_nothing():
    layout = Layout(modulus=MODULI[2], fraction_bits=3, magnitude=2.0, terms=2)
    nothing = encode(layout, np.zeros(0))
    assert nothing.rows.shape == (0, layout.plaintext_bytes)
    assert decode(layout, nothing).shape == (0,)


def test_the_face_offers_it():
    assert floats.encode is encode
