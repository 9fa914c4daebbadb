"""Engine `jax` gives the bytes of the integer engines: edge values, sizes that do not divide, odd key lengths;
exactness."""

import functools
import math
import secrets

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from paillier_vectors import stored_key

from jcbir.errors import KeyMismatchError
from jcbir.paillier import (
    _jax as on_arrays,
    _jax_secret as on_arrays_secret,
    _rns as rns,
    _rows as rows,
    blinders,
    public,
    secret,
)

SMALL = ["small", "small-random-g", "small-subgroup"]
LARGE = ["odd-2046", "odd-2050", "subgroup-2048"]


def replay(material: bytes):
    """A source that hands out the same bytes to every engine."""
    position = 0

    def draw(count: int) -> bytes:
        nonlocal position
        position += count
        assert position <= len(material)
        return material[position - count : position]

    return draw


@pytest.mark.parametrize("name", [*SMALL[:2], pytest.param(SMALL[2], marks=pytest.mark.slow)])
def test_both_primes_at_once_are_both_in_turn(name):
    """An accelerator computes them stacked, a processor one after the other."""
    key = stored_key(name)
    body = on_arrays.padded(secret.encrypt(key, edge_values(key), draw=secrets.token_bytes), on_arrays.BATCHES[0])
    sides = secret._decryption_sides(key, "crt")
    made = on_arrays_secret.make_decryption(key.public.n, key.public.g, sides, ciphertext_bytes=body.shape[1])
    with jax.enable_x64(True):
        turns, sound = on_arrays_secret._logarithms(made.sides, body)
        stacked, all_sound = on_arrays_secret._stacked_logarithms(made.sides, body)
    assert np.array_equal(turns, stacked)
    assert np.array(sound).all() and np.array(all_sound).all()


def edge_values(key: secret.SecretKey) -> list[int]:
    n, p, q = key.public.n, key.p.prime, key.q.prime
    lanes = (1 << (n.bit_length() - 1)) - 1
    return [
        0,
        1,
        2,
        n - 1,
        n - 2,
        n // 2,
        n // 2 + 1,
        p,
        q,
        n - p,
        n - q,
        3 * p,
        5 * q,
        lanes,
        lanes // 255,
        65535,
        65536,
    ]


def agree(key: secret.SecretKey, values: list[int]) -> None:
    n, material = key.public.n, secrets.token_bytes(800 * len(values))
    ours = secret.encrypt(key, values, draw=replay(material), engine="jax")
    assert np.array_equal(ours, secret.encrypt(key, values, draw=replay(material), engine="gmpy2"))
    for method in ("crt", "textbook"):
        assert rows.to_ints(secret.decrypt(key, ours, method=method, engine="jax")) == [v % n for v in values]


@pytest.mark.parametrize("name", [*SMALL[:2], pytest.param(SMALL[2], marks=pytest.mark.slow)])
def test_edge_values(name):
    agree(stored_key(name), edge_values(stored_key(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LARGE, "full-2048", "full-3072", "full-4096"])
def test_edge_values_of_large_keys(name):
    agree(stored_key(name), edge_values(stored_key(name)))


@pytest.fixture
def of_one_size(monkeypatch):
    """Batches as they are, but of one size: each size is compiled by itself."""
    monkeypatch.setattr(on_arrays, "BATCHES", on_arrays.BATCHES[:1])


@pytest.mark.parametrize("count", [1, 64, 65, 129])
def test_batches_that_are_not_full(count, of_one_size):
    key = stored_key("small")
    agree(key, [(i**7 + i) % key.public.n for i in range(count)])


@pytest.mark.slow
@pytest.mark.parametrize("count", [65, 513])
def test_sizes_that_do_not_divide(count):
    key = stored_key("small")
    agree(key, [(i**7 + i) % key.public.n for i in range(count)])


@pytest.mark.parametrize("name", [*SMALL[:2], pytest.param(SMALL[2], marks=pytest.mark.slow)])
def test_public_operations(name):
    key = stored_key(name)
    n, n2, width = key.public.n, key.public.n_squared, key.public.ciphertext_bytes
    a = [1, 2, n - 1, n + 1, n2 - 1, n2 - 2, n2 // 2, *(secrets.randbelow(n2) | 1 for _ in range(10))]
    a = [x for x in a if x % key.p.prime and x % key.q.prime]
    x, y = rows.from_ints(a, width=width), rows.from_ints(a[::-1], width=width)
    scalars = [0, 1, -1, 2, -3, n, -(2**70), *range(len(a) - 7)]
    picks = np.random.default_rng(1).integers(0, len(a), (5, 3))
    for operation in (
        lambda engine: public.add(key.public, x, y, engine=engine),
        lambda engine: public.subtract(key.public, x, y, engine=engine),
        lambda engine: public.rerandomize(key.public, x, blinders=y, engine=engine),
        lambda engine: public.multiply(key.public, x, scalars, engine=engine),
        lambda engine: public.product(key.public, x, picks, engine=engine),
        lambda engine: public.encrypt(key.public, [i - 5 for i in range(len(a))], blinders=x, engine=engine),
    ):
        assert np.array_equal(operation("jax"), operation("gmpy2"))


@pytest.mark.parametrize("name", SMALL)
def test_public_blinders(name):
    key, material = stored_key(name).public, secrets.token_bytes(4000)
    ours = blinders(key, 9, draw=replay(material), engine="jax")
    assert np.array_equal(ours, blinders(key, 9, draw=replay(material), engine="python"))


def test_owner_blinders_are_encryptions_of_zero(of_one_size):
    key = stored_key("small")
    made = secret.owner_blinders(key, 70, draw=secrets.token_bytes, engine="jax")
    assert len(set(rows.to_ints(made))) == 70
    assert rows.to_ints(secret.decrypt(key, made, engine="jax")) == [0] * 70


def test_refuses_foreign_ciphertexts():
    key = stored_key("small")
    n, width = key.public.n, key.public.ciphertext_bytes
    for bad in (0, key.p.prime, 7 * key.q.prime, n):
        for method in ("crt", "textbook"):
            with pytest.raises(KeyMismatchError, match=r"ciphertexts\[2\]"):
                secret.decrypt(key, rows.from_ints([1, 2, bad, 3], width=width), method=method, engine="jax")
    sub = stored_key("small-subgroup")
    outsider = rows.from_ints([pow(5, sub.public.n, sub.public.n_squared)], width=sub.public.ciphertext_bytes)
    with pytest.raises(KeyMismatchError, match=r"ciphertexts\[0\]"):
        secret.decrypt(sub, outsider, engine="jax")
    with pytest.raises(ValueError, match="factor with n"):
        public.subtract(key.public, rows.from_ints([1], width=width), rows.from_ints([n], width=width), engine="jax")


def test_empty_batches():
    key = stored_key("small")
    empty = secret.encrypt(key, [], draw=secrets.token_bytes, engine="jax")
    assert empty.shape == (0, 64)
    assert secret.decrypt(key, empty, engine="jax").shape == (0, 32)
    assert public.add(key.public, empty, empty, engine="jax").shape == (0, 64)
    assert public.subtract(key.public, empty, empty, engine="jax").shape == (0, 64)
    assert blinders(key.public, 0, draw=secrets.token_bytes, engine="jax").shape == (0, 64)


def test_nothing_leaks_from_the_64_bit_scope():
    key = stored_key("small")
    agree(key, [1, 2])
    assert not jax.config.jax_enable_x64
    assert jax.numpy.ones(2).dtype == np.float32


@pytest.mark.parametrize("bits", [64, 127, 128, 256, 1023, 1024, 1025, 1536, 2048, 3072, 4096])
def test_every_sum_is_below_two_to_the_53(bits):
    """The bound of the docstring, recomputed from the very constants of a modulus, in exact integers."""
    n = (1 << bits) - 1
    while any(n % m == 0 for base in rns.choose_bases(bits) for m in base):
        n -= 2
    m, (a, b) = rns.modulus_constants(n, width=-(-2 * bits // 8)), rns.choose_bases(bits)
    # A stored residue is at most m/2 + 2 in absolute value.
    half_a, half_b = max(a) // 2 + 2, max(b) // 2 + 2
    products = 5 * half_b**2
    assert max(np.abs(m.to_b).sum(axis=1).astype(object)) * half_a + products + half_b**2 < 2**53
    assert max(np.abs(m.to_a[:-1]).sum(axis=1).astype(object)) * half_b + len(b) * half_a < 2**53
    assert 5 * half_a**2 < 2**53
    assert max(half_a, half_b) < 2**24
    # The error of a quotient's estimate, see `exact_residue`.
    assert len(b) ** 2 * 2.0**-53 * m.ratio.item() < rns.DOUBT / 1000
    assert m.out.shape[1] * 65535 * half_b + 2**16 * 2**20 < 2**53
    assert len(set(a) | set(b)) == len(a) + len(b)
    beta2 = len(a) + 6
    radix_a, radix_b = rns.montgomery_radix(n), np.prod(np.array(b, object))
    assert 2 * radix_a > beta2**2 * n
    assert radix_b > 4 * beta2 * n


@jax.jit
def squares(m, x):
    results = [rns.product(m, square, m.unit) for square in (rns.square(m, x), rns.product(m, x, x))]
    return [rns.unload(m, result, width=32) for result in results]


# beta N for the modulus below: K = 6, so digits may reach six times N.
three = st.lists(st.integers(-6 * 2**127, 6 * 2**127), min_size=3, max_size=3)


@settings(max_examples=20)
@given(three, three)
def test_products_of_digits_at_their_bounds(low, high):
    """The kernel against integers, on digits anywhere up to (K/2 + 3) N."""
    n = 2**127 - 1
    m, radix = on_arrays.load_modulus(n, 32), rns.montgomery_radix(n)
    values = [x + y * n for x, y in zip(low, high, strict=True)]
    with jax.enable_x64(True):
        x = rns.Digits(rns.represent(m, low), rns.represent(m, high))
        found = squares(m, x)
    inverse = pow(radix, -2, n * n)
    for square in found:
        assert rows.to_ints(square) == [v * v * inverse % (n * n) for v in values]


@functools.partial(jax.jit, static_argnames="count")
def there_and_back(table, *, count):
    return rns.limbs_to_rows(rns.rows_to_limbs(table, count=count), width=table.shape[1])


@given(st.lists(st.integers(0, 2**80 - 1), min_size=3, max_size=3))
def test_limbs_round_trip(values):
    table = rows.from_ints(values, width=10)
    assert np.array_equal(there_and_back(table, count=5), table)
    odd = rows.from_ints([v >> 8 for v in values], width=9)
    assert np.array_equal(there_and_back(odd, count=7), odd)


def test_batches_come_in_few_sizes():
    pieces = [piece for count in range(1, 3000, 37) for piece in on_arrays.batch_slices(count)]
    assert all(0 < span.stop - span.start <= size for span, size in pieces)
    assert len({size for _, size in pieces}) <= 4
    for count in (1, 511, 512, 513, 2000):
        covered = [i for span, _ in on_arrays.batch_slices(count) for i in range(span.start, span.stop)]
        assert covered == list(range(count))


@pytest.mark.parametrize("bits", [64, 127, 512, 1023, 1024, 1025, 1536, 2046, 2048, 2050, 3072, 4096])
def test_bases_have_no_surplus(bits):
    """x/N is read off float64 fractions of M_B : M_B far above N would spend their precision."""
    a, b = rns.choose_bases(bits)
    assert not set(a) & set(b)
    assert 2 * math.prod(a) > (len(a) + 6) ** 2 << bits
    assert 4 * (len(b) + 6) << bits < math.prod(b) < 1 << (bits + 40)
