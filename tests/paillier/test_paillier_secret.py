"""Laws of the secret half: keys, decryption both ways, the owner's encryption, refusals."""

import math
import secrets

import numpy as np
import pytest
from hypothesis import given, strategies as st
from paillier_vectors import PATH, stored_key

from jcbir.errors import FormatError, KeyMismatchError
from jcbir.paillier import (
    _primes as primes,
    _rows as rows,
    _sampling as sampling,
    blinders,
    public,
    secret,
)

KEYS = ["tiny", "small", "small-random-g", "small-subgroup", "medium"]


@pytest.mark.parametrize("name", [*KEYS, "odd-2046", "odd-2050", "subgroup-2048", "full-3072"])
def test_both_methods_decrypt(name):
    key = stored_key(name)
    n, p = key.public.n, key.p.prime
    values = [0, 1, n - 1, p, n - p, n // 2, 7 * key.q.prime]
    ciphertexts = secret.encrypt(key, values, draw=secrets.token_bytes)
    assert rows.to_ints(secret.decrypt(key, ciphertexts)) == values
    assert rows.to_ints(secret.decrypt(key, ciphertexts, method="textbook")) == values


@pytest.mark.parametrize("name", KEYS)
def test_engines_give_the_same_bytes(name):
    key = stored_key(name)
    material = secrets.token_bytes(20_000)

    def replay():
        """A source that hands out the same bytes to every engine."""
        position = 0

        def draw(count):
            nonlocal position
            position += count
            return material[position - count : position]

        return draw

    # Fewer and more than the comb's threshold: powers and tables must not be told apart.
    for count in (1, 3, 17, 33):
        values = list(range(-1, count - 1))
        ours = [secret.encrypt(key, values, draw=replay(), engine=engine) for engine in ("python", "gmpy2")]
        anyone = [blinders(key.public, count, draw=replay(), engine=engine) for engine in ("python", "gmpy2")]
        assert np.array_equal(*ours)
        assert np.array_equal(*anyone)
        assert rows.to_ints(secret.decrypt(key, ours[0], engine="python")) == [v % key.public.n for v in values]


LARGE = ["odd-2046", "odd-2050", "subgroup-2048", "full-2048", "full-3072", "full-4096"]


@pytest.mark.parametrize("name", [*KEYS, *LARGE])
def test_stored_keys_obey_the_rules(name):
    key = stored_key(name)
    n, p, q = key.public.n, key.p.prime, key.q.prime
    bits = n.bit_length()
    secret.check_secret(key, minimum_bits=min(bits, 2048 if bits > 2040 else bits))
    assert math.gcd(p * q, (p - 1) * (q - 1)) == 1
    delta = math.lcm(p - 1, q - 1)
    assert math.gcd((pow(key.public.g, delta, n * n) - 1) // n, n) == 1
    assert 3 * n > 2 << bits, "16 lanes of 64 two-bit slots must fit"
    assert p >> (p.bit_length() - 3) == q >> (q.bit_length() - 3) == 0b111
    assert abs(p - q).bit_length() > bits // 2 - 100


@given(st.sampled_from([64, 66, 128, 254]))
def test_generated_keys_obey_the_rules(bits):
    key = secret.generate_keys(bits=bits, draw=secrets.token_bytes, unsafe_small=True)
    assert key.public.bits == bits
    secret.check_secret(key, minimum_bits=bits)


@pytest.mark.parametrize("subgroup", [False, True])
def test_generator_is_one(subgroup):
    for name in ("small", "small-subgroup"):
        for factor in (stored_key(name).p, stored_key(name).q):
            p, s, t = factor
            h = secret._generator(factor, subgroup=subgroup)
            order = s if subgroup else p - 1
            assert pow(h, order, p * p) == 1
            assert all(pow(h, order // r, p * p) != 1 for r in ((s,) if subgroup else (2, s, t)))


def test_owner_blinders_reach_the_whole_group():
    """A base of index 2 would reach only one half of the group of order p - 1: both halves come equally often."""
    key = stored_key("tiny")
    p = key.p.prime
    made = rows.to_ints(secret.owner_blinders(key, 2000, draw=secrets.token_bytes, engine="python"))
    assert len(set(made)) == 2000
    nonresidues = sum(pow(c, (p - 1) // 2, p) == p - 1 for c in made)
    assert abs(nonresidues - 1000) < 6 * math.sqrt(500)


@pytest.mark.parametrize("name", ["small", "small-subgroup"])
def test_exponents_of_blinders_are_64_bits_longer_than_the_order_of_their_group(name):
    """So many bits modulo the order are uniform to within 2^-64; as many as the order has are not."""
    key, sizes = stored_key(name), []
    secret.owner_blinders(key, 1, draw=lambda count: sizes.append(count) or secrets.token_bytes(count))
    orders = [factor.small if key.subgroup else factor.prime for factor in (key.p, key.q)]
    assert all(8 * size >= order.bit_length() + 64 for size, order in zip(sizes, orders, strict=True))


def test_redacted():
    key = stored_key("small")
    for text in (repr(key), str(key), f"{key}"):
        assert "redacted" in text
        assert not any(str(x) in text for x in (*key.p, *key.q))


def test_refuses_weak_sizes():
    for bits in (1024, 2046, 2049, 0):
        with pytest.raises(ValueError, match="bits: must be"):
            secret.generate_keys(bits=bits, draw=secrets.token_bytes)
    for bits in (25, 223):
        with pytest.raises(ValueError, match="subgroup_bits: must be an integer of at least 224"):
            secret.generate_keys(subgroup_bits=bits, draw=secrets.token_bytes)
    with pytest.raises(ValueError, match="random_g"):
        secret.generate_keys(subgroup_bits=256, random_g=True, draw=secrets.token_bytes)


def test_refuses_wrong_halves():
    key, other = stored_key("small"), stored_key("medium")
    with pytest.raises(KeyMismatchError, match="different key"):
        secret.SecretKey(key.public, other.p, other.q)
    with pytest.raises(ValueError, match="2 \\* small"):
        secret.SecretKey(key.public, key.p._replace(small=3), key.q)
    n = key.public.n
    with pytest.raises(ValueError, match=r"Eq\. 7"):
        secret.check_secret(secret.SecretKey(public.PublicKey(n, 1 + n * key.p.prime), key.p, key.q), minimum_bits=256)
    weak = stored_key("small-subgroup")
    broken = public.PublicKey(weak.public.n, weak.public.g, weak.public.h + 1, weak.public.h_bits)
    with pytest.raises(ValueError, match="h: must have order"):
        secret.check_secret(secret.SecretKey(broken, weak.p, weak.q), minimum_bits=512)


def test_refuses_foreign_ciphertexts():
    key = stored_key("small")
    n, width = key.public.n, key.public.ciphertext_bytes
    for bad in (0, key.p.prime, n, n * n):
        for method in ("crt", "textbook"):
            with pytest.raises(KeyMismatchError, match=r"ciphertexts\[1\]"):
                secret.decrypt(key, rows.from_ints([1, bad], width=width), method=method)
    with pytest.raises(FormatError):
        secret.decrypt(stored_key("medium"), rows.from_ints([1], width=width))
    with pytest.raises(ValueError, match="method"):
        secret.decrypt(key, rows.from_ints([1], width=width), method="guess")
    # A blinder outside the subgroup would decrypt to nonsense under the short exponent.
    sub = stored_key("small-subgroup")
    outsider = pow(5, sub.public.n, sub.public.n_squared)
    with pytest.raises(KeyMismatchError, match=r"ciphertexts\[0\]"):
        secret.decrypt(sub, rows.from_ints([outsider], width=sub.public.ciphertext_bytes))


def test_empty_batches():
    key = stored_key("small")
    empty = secret.encrypt(key, [], draw=secrets.token_bytes)
    assert empty.shape == (0, key.public.ciphertext_bytes)
    assert secret.decrypt(key, empty).shape == (0, key.public.plaintext_bytes)
    assert public.add(key.public, empty, empty).shape == empty.shape
    public.check_ciphertexts(key.public, empty)


def test_broken_sources_are_noticed():
    with pytest.raises(ValueError, match="uniform source"):
        secret.generate_keys(bits=128, draw=lambda count: bytes([255] * count), unsafe_small=True)
    with pytest.raises(ValueError, match="uniform source"):
        sampling.integer_below(2**64 - 2**60, draw=lambda count: b"\xff" * count)
    with pytest.raises(ValueError, match="no unit"):
        sampling.unit_below(9, draw=lambda count: b"\x03" * count)
    with pytest.raises(ValueError, match="bound"):
        sampling.integer_below(0, draw=secrets.token_bytes)
    with pytest.raises(ValueError, match="factor_bits"):
        primes.structured_prime(64, factor_bits=60, draw=secrets.token_bytes)


def test_sieve_keeps_every_prime():
    """What the sieve strikes out is composite, and small primes themselves survive."""
    for start in (3, 101, 10_007, 2**40 + 1):
        alive = set(primes._survivors(start, lambda s: (s,)))
        for x in range(start, start + 2000, 2):
            if primes.is_prime(x):
                assert x in alive
    assert primes.small_primes()[:5] == [3, 5, 7, 11, 13]
    assert all(primes.is_prime(p) for p in primes.small_primes())


def test_without_gmpy2_the_same_primes(monkeypatch):
    """sympy and gmpy2 decide alike, so the same source gives the same key."""
    material = secrets.token_bytes(4000)

    def generate():
        position = 0

        def draw(count):
            nonlocal position
            position += count
            return material[position - count : position]

        return secret.generate_keys(bits=256, draw=draw, unsafe_small=True)

    fast = generate()
    monkeypatch.setitem(__import__("sys").modules, "gmpy2", None)
    assert generate() == fast


def test_phe_agrees():
    phe = pytest.importorskip("phe")
    key = stored_key("full-2048")
    theirs = phe.PaillierPrivateKey(phe.PaillierPublicKey(key.public.n), key.p.prime, key.q.prime)
    values = [0, 1, 12345, key.public.n - 1]
    ciphertexts = secret.encrypt(key, values, draw=secrets.token_bytes)
    assert [theirs.raw_decrypt(c) for c in rows.to_ints(ciphertexts)] == values
    their_rows = rows.from_ints([theirs.public_key.raw_encrypt(v) for v in values], width=512)
    assert rows.to_ints(secret.decrypt(key, their_rows)) == values


def test_vectors_have_provenance():
    assert "paillier_keys_make.py" in PATH.read_text()
