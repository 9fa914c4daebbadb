"""Laws of the public half: homomorphisms, edge values, validation, the same on every engine."""

import dataclasses
import secrets

import numpy as np
import pytest
from hypothesis import given, strategies as st
from paillier_vectors import stored_key

from jcbir.errors import FormatError
from jcbir.paillier import _engines as engines, _rows as rows, blinders, public, secret
from jcbir.paillier._primes import is_prime

ENGINES = ["python", "gmpy2", "jax"]
KEYS = ["tiny", "small", "small-random-g", "small-subgroup"]
key_names = st.sampled_from(KEYS)
engine_names = st.sampled_from(["python", "gmpy2"])
wide = st.integers(-(2**600), 2**600)


def reference_decrypt(key: secret.SecretKey, ciphertexts) -> list[int]:
    """Textbook decryption from n, g and phi alone, in Python integers: an independent second implementation."""
    n, g = key.public.n, key.public.g
    phi = (key.p.prime - 1) * (key.q.prime - 1)
    scale = pow((pow(g, phi, n * n) - 1) // n, -1, n)
    return [(pow(c, phi, n * n) - 1) // n * scale % n for c in rows.to_ints(ciphertexts)]


def edge_values(key: secret.SecretKey) -> list[int]:
    n, p = key.public.n, key.p.prime
    return [0, 1, 2, n - 1, n - 2, n // 2, n // 2 + 1, p, n - p, 3 * p, -1, -(n - 1)]


def fresh(key, count):
    return secret.owner_blinders(key, count, draw=secrets.token_bytes)


def seal(key, messages, engine="auto"):
    return public.encrypt(key.public, messages, blinders=fresh(key, len(messages)), engine=engine)


@given(name=key_names, engine=engine_names, values=st.lists(wide, min_size=1, max_size=5))
def test_decrypt_inverts_encrypt(name, engine, values):
    key = stored_key(name)
    n = key.public.n
    messages = [value % n * (1 if value >= 0 else -1) % n for value in values]
    ciphertexts = seal(key, messages, engine)
    public.check_ciphertexts(key.public, ciphertexts)
    assert reference_decrypt(key, ciphertexts) == messages


@given(name=key_names, engine=engine_names, a=st.lists(wide, min_size=1, max_size=5), b=wide, k=st.integers(-300, 300))
def test_homomorphisms(name, engine, a, b, k):
    key = stored_key(name)
    n = key.public.n
    x, y = [value % n for value in a], [(b + i) % n for i in range(len(a))]
    cx, cy = seal(key, x), seal(key, y)
    total = public.add(key.public, cx, cy, engine=engine)
    difference = public.subtract(key.public, cx, cy, engine=engine)
    scaled = public.multiply(key.public, cx, [k] * len(x), engine=engine)
    assert reference_decrypt(key, total) == [(u + v) % n for u, v in zip(x, y, strict=True)]
    assert reference_decrypt(key, difference) == [(u - v) % n for u, v in zip(x, y, strict=True)]
    assert reference_decrypt(key, scaled) == [k * u % n for u in x]


@given(name=key_names, a=st.integers(-(2**60), 2**60), b=st.integers(-(2**60), 2**60))
def test_signed_differences(name, a, b):
    key = stored_key(name)
    difference = public.subtract(key.public, seal(key, [a]), seal(key, [b]))
    assert rows.to_signed_ints(secret.decrypt(key, difference), modulus=key.public.n) == [a - b]


@given(name=key_names, engine=engine_names, value=wide)
def test_rerandomize_changes_bytes_not_value(name, engine, value):
    key = stored_key(name)
    before = seal(key, [value % key.public.n])
    after = public.rerandomize(key.public, before, blinders=fresh(key, 1), engine=engine)
    assert not np.array_equal(before, after)
    assert reference_decrypt(key, after) == reference_decrypt(key, before)


@given(name=key_names, engine=engine_names, size=st.integers(1, 6), length=st.integers(1, 9), seed=st.integers(0, 99))
def test_product_is_sum_of_picks(name, engine, size, length, seed):
    key = stored_key(name)
    values = [(seed * 7 + i) ** 9 % key.public.n for i in range(size)]
    picks = np.random.default_rng(seed).integers(0, size, (3, length))
    sums = public.product(key.public, seal(key, values), picks, engine=engine)
    assert reference_decrypt(key, sums) == [sum(values[i] for i in line) % key.public.n for line in picks]


@pytest.mark.parametrize("name", KEYS)
def test_edge_values_and_number_types(name):
    key = stored_key(name)
    values, n = edge_values(key), key.public.n
    assert reference_decrypt(key, seal(key, values)) == [value % n for value in values]
    for messages in (np.array([3, 250, 0], np.uint8), np.array([-3, 250, 2**62]), [np.int64(-3), 5, np.uint8(9)]):
        assert reference_decrypt(key, seal(key, messages)) == [int(m) % n for m in messages]
    narrow = rows.from_ints([0, 65535], width=2)
    assert reference_decrypt(key, seal(key, narrow)) == [0, 65535]


def test_random_g_agrees_with_n_plus_one():
    key, other = stored_key("small"), stored_key("small-random-g")
    assert other.public.g != other.public.n + 1
    for pair in (key, other):
        assert reference_decrypt(pair, seal(pair, [12345, -1])) == [12345, pair.public.n - 1]


def test_blinders_are_encryptions_of_zero_and_do_not_repeat():
    for name in KEYS:
        key = stored_key(name)
        made = blinders(key.public, 40, draw=secrets.token_bytes)
        public.check_ciphertexts(key.public, made)
        assert reference_decrypt(key, made) == [0] * 40
        assert rows.to_ints(secret.decrypt(key, made)) == [0] * 40
        assert len(set(rows.to_ints(made))) == 40


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [3, 20])
def test_blinders_of_a_subgroup_key_are_powers_of_h(engine, count):
    """Fewer and more than a comb repays: the exponents drawn and nothing else."""
    key, drawn = stored_key("small-subgroup").public, secrets.token_bytes(24 * count)
    made = blinders(key, count, draw=lambda size: drawn[:size], engine=engine)
    exponents = [int.from_bytes(drawn[24 * i : 24 * (i + 1)], "big") for i in range(count)]
    assert key.h_bits == 8 * 24
    assert rows.to_ints(made) == [pow(key.h, x, key.n_squared) for x in exponents]


def test_refuses_bad_ciphertexts():
    key = stored_key("small")
    n, width = key.public.n, key.public.ciphertext_bytes
    good = seal(key, [1, 2, 3])
    public.check_ciphertexts(key.public, good)
    for bad in (0, n, key.p.prime, 5 * key.q.prime, n * n, n * n + 1, 2 ** (8 * width) - 1):
        with pytest.raises(ValueError, match=r"ciphertexts\[3\]"):
            public.check_ciphertexts(key.public, np.concatenate([good, rows.from_ints([bad], width=width)]))
    public.check_ciphertexts(key.public, rows.from_ints([n * n - 1, 1], width=width))
    with pytest.raises(FormatError, match="64 bytes wide"):
        public.check_ciphertexts(key.public, good[:, 1:])
    with pytest.raises(FormatError, match="64 bytes wide"):
        public.add(key.public, good[:, 1:], good[:, 1:])
    with pytest.raises(ValueError, match="factor with n"):
        public.subtract(key.public, good, rows.from_ints([1, key.p.prime, 2], width=width))


def test_refuses_bad_messages():
    key = stored_key("small").public
    one = blinders(key, 1, draw=secrets.token_bytes)
    for bad in ([key.n], [-key.n], rows.from_ints([key.n], width=key.plaintext_bytes)):
        with pytest.raises(ValueError, match=r"messages\[0\]"):
            public.encrypt(key, bad, blinders=one)
    assert public.encrypt(key, [key.n - 1], blinders=one).shape == (1, key.ciphertext_bytes)


@pytest.mark.usefixtures("unchecked")
def test_refuses_wrong_shapes_by_its_own_errors():
    key = stored_key("small").public
    two = blinders(key, 2, draw=secrets.token_bytes)
    with pytest.raises(ValueError, match="one row per row"):
        public.encrypt(key, [1], blinders=two)
    with pytest.raises(ValueError, match="one row per row"):
        public.add(key, two, two[:1])
    with pytest.raises(ValueError, match="one integer per row"):
        public.multiply(key, two, [1])
    with pytest.raises(ValueError, match="picks"):
        public.product(key, two, np.array([[2]]))
    with pytest.raises(ValueError, match="picks"):
        public.product(key, two, np.zeros((2, 0), int))
    with pytest.raises(ValueError, match="must be uint8"):
        public.add(key, [1], [2])
    with pytest.raises(ValueError, match="messages: must be uint8"):
        public.encrypt(key, np.zeros((2, 99), np.uint8), blinders=two)
    with pytest.raises(ValueError, match="engine"):
        public.add(key, two, two, engine="abacus")
    with pytest.raises(ValueError, match=r"messages\[0\]: must be an integer"):
        public.encrypt(key, [1.5, 2.0], blinders=two)


def test_refuses_bad_public_keys():
    n = stored_key("full-2048").public.n
    public.check_public(stored_key("full-2048").public)
    small = stored_key("small").public
    with pytest.raises(ValueError, match="2048"):
        public.check_public(small)
    prime = next(x for x in range(2**256 + 1, 2**257, 2) if is_prime(x))
    for bad, reason in ((prime, "prime"), (small.n**2, "power"), (small.n * 101, "multiple of 101")):
        with pytest.raises(ValueError, match=reason):
            public.check_public(public.PublicKey(bad, bad + 1), minimum_bits=256)
    for g in (0, 1, n, n * n, stored_key("full-2048").p.prime):
        with pytest.raises(ValueError, match="g: must"):
            public.PublicKey(n, g)
    with pytest.raises(ValueError, match="h_bits"):
        public.PublicKey(n, n + 1, h=4)


def test_fingerprint_tells_keys_apart():
    keys = [stored_key(name).public for name in [*KEYS, "full-2048"]]
    assert len({key.fingerprint for key in keys}) == len(keys)
    assert public.PublicKey(keys[0].n, keys[0].g).fingerprint == keys[0].fingerprint


@pytest.mark.parametrize("place", range(3))
def test_a_row_that_shares_a_factor_is_named_wherever_it_stands(place):
    key = stored_key("small")
    made = secret.encrypt(key, [1, 2, 3], draw=secrets.token_bytes)
    public.check_ciphertexts(key.public, made)
    bad = made.copy()
    bad[place] = rows.from_ints([5 * key.p.prime], width=key.public.ciphertext_bytes)[0]
    with pytest.raises(ValueError, match=rf"ciphertexts\[{place}\]: must be a unit"):
        public.check_ciphertexts(key.public, bad)


def test_every_field_of_a_key_is_in_its_fingerprint():
    key = stored_key("small-subgroup").public
    others = [
        dataclasses.replace(key, n=key.n + 2),
        dataclasses.replace(key, g=key.g + 2),
        dataclasses.replace(key, h=key.h + 2),
        dataclasses.replace(key, h_bits=key.h_bits + 1),
        dataclasses.replace(key, h=None, h_bits=0),
        dataclasses.replace(key, g=key.h, h=key.g),
    ]
    assert len({each.fingerprint for each in (key, *others)}) == 7


def test_engine_choice():
    assert engines.choose_engine("auto", count=1) in ("gmpy2", "python")
    for engine in ENGINES:
        assert engines.choose_engine(engine, count=1) == engine
    with pytest.raises(ValueError, match="engine: must"):
        engines.number_type("jax")


def test_missing_gmpy2_is_named(monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    assert engines.choose_engine("auto", count=1) == "python"
    with pytest.raises(ValueError, match=r"jcbir\[fast\]"):
        engines.choose_engine("gmpy2", count=1)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=4), st.integers(8, 12))
def test_rows_round_trip(values, width):
    assert rows.to_ints(rows.from_ints(values, width=width)) == values


def test_rows_refuse():
    with pytest.raises(ValueError, match=r"values\[1\]"):
        rows.from_ints([1, 256], width=1)
    with pytest.raises(ValueError, match=r"values\[0\]"):
        rows.from_ints([-1], width=1)
    with pytest.raises(ValueError, match=r"rows\[0\]"):
        rows.to_signed_ints(rows.from_ints([9], width=1), modulus=9)
    for bound in (0, 1, 255, 256, 257, 2**16 - 1, 2**16):
        for x in (0, 1, 254, 255, 256, 257, 2**16 - 2, 2**16 - 1):
            table = rows.from_ints([x], width=2)
            if x < bound:
                rows.check_below(table, bound)
            else:
                with pytest.raises(ValueError, match=r"rows\[0\]"):
                    rows.check_below(table, bound)
