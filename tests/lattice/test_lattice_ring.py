"""Ring arithmetic is exact: random and extreme residues against Python integers; sampling; residues at rest."""

import jax
import jax.numpy as jnp
import lattice_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jcbir.errors import FormatError
from jcbir.lattice import _bits, _ring, _sampling
from jcbir.lattice._parameters import DEGREE, PRIMES

P = PRIMES[0]


def transform(x, p=P, *, degree=None, inverse=False):
    with jax.enable_x64(True):
        x = np.asarray(x)[None, None]
        return np.asarray(_ring.transform(x, (p,), degree=degree or x.shape[-1], inverse=inverse))[0, 0]


def extremes(generator, p, shape):
    """Residues at both ends, and in the middle where a carry between limbs sits."""
    return generator.choice(np.array([0, 1, p - 1, p - 2, p // 2, p // 2 + 1, (1 << 15) - 1, 1 << 15]), shape)


@settings(max_examples=15)
@given(st.sampled_from(PRIMES[::4]), st.sampled_from([8, 16, 64]), st.integers(0, 2**32))
def test_transform_evaluates_in_natural_order(p, n, seed):
    x = extremes(np.random.default_rng(seed), p, n)
    assert transform(x, p).tolist() == oracle.evaluate(x.tolist(), p)


@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_primes_and_batches_do_not_mix(seed, shared, inverse):
    x = np.random.default_rng(seed).integers(0, PRIMES[-1], (1 if shared else 5, 3, 64))
    with jax.enable_x64(True):
        together = np.asarray(_ring.transform(x, PRIMES, degree=DEGREE, inverse=inverse))
    for i, p in enumerate(PRIMES):
        for j in range(3):
            alone = transform(x[0 if shared else i, j], p, degree=DEGREE, inverse=inverse)
            assert together[i, j].tolist() == alone.tolist()


@given(st.integers(0, 2**32))
def test_products_of_values_are_negacyclic_products(seed):
    generator = np.random.default_rng(seed)
    x, y = (extremes(generator, P, 64) for _ in range(2))
    values = transform(x).astype(object) * transform(y).astype(object) % P
    ring = type("Ring", (), {"n": 64})
    assert transform(values.astype(np.uint32), inverse=True).tolist() == oracle.Ring.multiply(
        ring, x.tolist(), y.tolist(), P
    )


@pytest.mark.parametrize("fill", ["largest", "extremes", "alternating", "uniform"])
@pytest.mark.parametrize("p", PRIMES)
def test_the_full_transform_is_exact_at_extreme_residues(p, fill):
    """At n = 8192: against evaluation in Python integers at a few points, and back again."""
    generator = np.random.default_rng(p)
    x = {
        "largest": np.full(DEGREE, p - 1),
        "extremes": extremes(generator, p, DEGREE),
        "alternating": np.where(np.arange(DEGREE) % 2, p - 1, 0),
        "uniform": generator.integers(0, p, DEGREE),
    }[fill]
    values = transform(x, p)
    for i in (0, 1, 127, 4096, DEGREE - 1):
        at, total = oracle.points(p, DEGREE)[i], 0
        for c in reversed(x.tolist()):
            total = (total * at + c) % p
        assert values[i] == total
    assert (transform(values, p, inverse=True) == x).all()


@given(st.integers(0, 2**32))
def test_signed_coefficients_below_2_to_the_52_enter(seed):
    generator = np.random.default_rng(seed)
    x = generator.integers(-(2**52) + 1, 2**52, 64)
    x[:4] = 2**52 - 1, -(2**52) + 1, -1, -P
    assert transform(x).tolist() == oracle.evaluate([c % P for c in x.tolist()], P)


@given(st.integers(0, 2**32), st.sampled_from([2, 4, 8]))
def test_sums_over_points_keep_the_multiples_of_kappa(seed, kappa):
    x = np.random.default_rng(seed).integers(0, P, 64)
    sums = transform(x).reshape(kappa, -1).astype(np.int64).sum(0) % P
    assert transform(sums, degree=64, inverse=True).tolist() == x[::kappa].tolist()


@given(st.integers(0, 2**32))
def test_mod_is_exact_at_the_edges(seed):
    generator = np.random.default_rng(seed)
    multiples = generator.integers(-(2**52) // P + 1, 2**52 // P, 50) * P
    x = np.concatenate([multiples, multiples + 1, multiples - 1, [2**52 - 1, -(2**52) + 1, 0]])
    with jax.enable_x64(True):
        assert np.asarray(_ring.mod(jnp.asarray(x, jnp.float64)[None], (P,)))[0].tolist() == [int(c) % P for c in x]


@given(st.integers(0, 2**32), st.sampled_from(PRIMES))
def test_rem_is_exact_for_any_64_bits(seed, p):
    generator = np.random.default_rng(seed)
    multiples = generator.integers(0, 2**64 // p, 50, np.uint64) * np.uint64(p)
    edges = np.array([0, 1, p - 1, p, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1, 2**64 // p * p - 1], np.uint64)
    x = np.concatenate([multiples, multiples + np.uint64(1), multiples - np.uint64(1), edges])
    with jax.enable_x64(True):
        found = np.asarray(_ring.rem(jnp.asarray(x)[None], PRIMES))
    for i, prime in enumerate(PRIMES):
        assert found[i].tolist() == [int(c) % prime for c in x]


@pytest.mark.parametrize("terms", [1, 8, 64, 128, 512])
def test_inner_products_of_the_largest_residues_fit(terms):
    rows = np.full((5, terms, 8), np.array(PRIMES, np.uint32)[:, None, None] - 1, np.uint32)
    with jax.enable_x64(True):
        found = np.asarray(_ring.inner(np.stack([rows, rows // 2]), rows, PRIMES))
    assert found[:, 0].tolist() == [[terms % p] * 8 for p in PRIMES]
    assert found[:, 1].tolist() == [[terms * (p // 2) * (p - 1) % p] * 8 for p in PRIMES]


@given(st.integers(0, 2**32), st.sampled_from([3, 65**6, 9**12, 513**4]))
def test_switching_divides_and_keeps_the_message(seed, t):
    generator = np.random.default_rng(seed)
    residues = [extremes(generator, p, 8).astype(np.uint32) for p in PRIMES]
    residues[0][:2] = residues[1][:2] = generator.integers(0, PRIMES[-1], 2)
    with jax.enable_x64(True):
        kept = np.asarray(_ring.switch(jnp.stack(residues), PRIMES, t, keep=2)).tolist()
    ring = type("Ring", (), {"primes": PRIMES, "kept": PRIMES[:2], "t": t})
    whole = oracle.join([r.tolist() for r in residues], PRIMES)
    switched = oracle.switch(whole, ring)
    assert oracle.join(kept, PRIMES[:2]) == switched
    q, small = np.prod(np.array(PRIMES, object)), PRIMES[0] * PRIMES[1]
    for x, y in zip(whole, switched, strict=True):
        # One lift of the result is x/divisor to within t/2 (1 + 2^-27), and congruent to it modulo t.
        error = (y * (q // small) - x + q // 2) % q - q // 2
        assert 2 * abs(error) * (1 << 27) <= t * ((1 << 27) + 1) * (q // small)
        assert error % t == 0


@given(st.integers(0, 2**32), st.integers(1, 3), st.sampled_from([8, 16, 64]))
def test_packed_residues_are_one_little_endian_number(seed, rows, count):
    x = extremes(np.random.default_rng(seed), P, (rows, 1, count)).astype(np.uint32)
    packed = _bits.pack(x.reshape(rows, -1))
    assert [row.tobytes() for row in packed] == [oracle.pack(row.ravel().tolist()) for row in x]
    assert (_bits.unpack(packed, (1, count), primes=(P,), name="x") == x).all()


def test_residues_that_are_none_are_refused():
    packed = _bits.pack(np.full((2, 16), PRIMES[0] - 1, np.uint32))
    with pytest.raises(FormatError, match="x: must hold residues below"):
        _bits.unpack(packed, (2, 8), primes=PRIMES[:2], name="x")
    with pytest.raises(FormatError, match="x: must be uint8"):
        _bits.unpack(packed[:, :-1], (2, 8), primes=PRIMES[:2], name="x")
    with pytest.raises(FormatError, match="x: must be uint8"):
        _bits.unpack(packed.astype(np.int32), (2, 8), primes=PRIMES[:2], name="x")


@pytest.mark.parametrize("place", range(0, 32, 5))
@pytest.mark.parametrize("over", [-1, 0, 1])
def test_every_residue_is_held_below_its_own_prime(place, over):
    primes = PRIMES[:2]
    residues = np.repeat(np.array(primes, np.uint32) - 1, 8)[None].repeat(2, 0)
    residues.reshape(-1)[place] += 1 + over
    packed, wanted = _bits.pack(residues), residues.reshape(2, 2, 8)
    if over < 0:
        np.testing.assert_array_equal(_bits.unpack(packed, (2, 8), primes=primes, name="x"), wanted)
    else:
        prime = primes[place // 8 % 2]
        with pytest.raises(FormatError, match=f"x: must hold residues below {prime}, got {prime + over}"):
            _bits.unpack(packed, (2, 8), primes=primes, name="x")


@given(st.binary(min_size=32, max_size=32), st.integers(1, 40))
def test_samples_are_the_oracles(seed, count):
    assert _sampling.words(seed, count).tolist() == oracle.words(seed, count)
    assert _sampling.ternary(seed, (count,)).tolist() == oracle.ternary(seed, count)
    assert _sampling.binomial(seed, (count,)).tolist() == oracle.binomial(seed, count)
    assert _sampling.derive(seed, "x", count) == oracle.derive(seed, "x", count)


@settings(max_examples=3)
@given(st.binary(min_size=32, max_size=32))
def test_samples_have_their_distribution(seed):
    """Means and variances within 8 standard errors."""
    count = 1 << 16
    e, s = _sampling.binomial(seed, (count,)).astype(int), _sampling.ternary(seed, (count,)).astype(int)
    assert abs(e.mean()) < 8 * (10.5 / count) ** 0.5 and abs(e.var() - 10.5) < 8 * 10.5 * (2 / count) ** 0.5
    assert abs(s.mean()) < 8 * (2 / 3 / count) ** 0.5 and abs(s.var() - 2 / 3) < 8 * (1 / count) ** 0.5
    assert abs(e).max() <= _sampling.ETA and set(s) == {-1, 0, 1}
    assert _sampling.derive(seed, "a") != _sampling.derive(seed, "b") != _sampling.derive(seed, "b", 1)
