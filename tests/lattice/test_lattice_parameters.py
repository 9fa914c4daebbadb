"""Parameters: a table whose rows are as large as they may be, bounds that hold, and refusals of what does not fit."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given, strategies as st

from jcbir.errors import CapacityError
from jcbir.lattice import _parameters, public

# docs/lattice.md prints the same table.
GOLDEN = {
    8: (12, 105, 32, 24192),
    16: (9, 107, 16, 9072),
    32: (7, 108, 8, 3528),
    64: (6, 107, 4, 1512),
    128: (5, 108, 4, 620),
    256: (4, 111, 4, 240),
    512: (4, 107, 4, 112),
}


def test_the_primes_are_the_largest_that_serve():
    found, candidate = [], (1 << 29) - (1 << 14) + 1
    while len(found) < 5:
        found += [candidate] * sympy.isprime(candidate)
        candidate -= 1 << 14
    assert tuple(found) == _parameters.PRIMES
    assert 144.99 < math.log2(math.prod(found)) < 145


@pytest.mark.parametrize("bits", GOLDEN)
def test_the_table(bits):
    v = public.parameters(bits=bits)
    assert (v.lanes, v.flood, v.sentinels, v.images) == GOLDEN[bits]
    assert v.degree == 8192 and v.polys == 2


@pytest.mark.parametrize("bits", GOLDEN)
def test_a_row_of_the_table_is_as_large_as_it_may_be(bits):
    v = public.parameters(bits=bits)
    with pytest.raises(CapacityError, match="flood must be small enough"):
        public.bounds(v._replace(flood=v.flood + 1))
    for flood in range(v.flood - 20, v.flood + 1):
        with pytest.raises(CapacityError, match="flood must"):
            public.bounds(v._replace(lanes=v.lanes + 1, flood=flood))


@given(st.integers(8, 512))
def test_every_code_length_has_parameters(bits):
    v = public.parameters(bits=bits)
    found = public.bounds(v)
    assert found.flooding >= 50 and found.margin_q > 0 and found.margin_reply > 0
    assert found.q <= found.quantum < found.classical
    assert v.padded >= bits and v.padded // 2 <= bits  # a zero decodes to a digit
    assert v.width % 8 == 0 and v.t % 2 == 1 and math.gcd(v.t, v.q) == 1
    assert 2 * found.phase < v.primes[0] * v.primes[1]
    assert 22 * v.t < 2**52 and v.lanes * v.t < 2**63


@given(st.integers(8, 512))
def test_the_phase_bound_is_that_of_the_proof(bits):
    """docs/lattice.md, in fractions; and the moduli are split as it says."""
    v = public.parameters(bits=bits)
    n, t, delta = v.degree, v.t, math.prod(v.primes[2:])
    deepest = v.polys * n * (Fraction(t, 2) + 21 * t) * (21 * t + 1) + t * 2**v.flood
    phase = deepest / delta + Fraction(t, 2) * (1 + Fraction(1, 2**27)) * (2 * n + 1)
    found = public.bounds(v)
    assert abs(found.phase - phase) < 3
    assert abs(found.margin_q - math.log2(v.q / 2 / deepest)) < 1e-6


def test_the_flooding_bound_is_what_the_noise_measures():
    """At k = 64: the sum of 16,384 products, drawn 300 times, has the variance that the bound presumes."""
    v, generator = public.parameters(bits=64), np.random.default_rng(0)
    terms = v.polys * v.degree
    draws = (generator.integers(0, 1 << 21, (2, 2, terms), dtype=np.uint64) for _ in range(300))
    bits = (np.bitwise_count(drawn).astype(int) for drawn in draws)
    noise = [float(e @ f) for e, f in (count[0] - count[1] for count in bits)]
    sigma = 10.5 * math.sqrt(terms)
    assert abs(np.std(noise) / sigma - 1) < 0.2
    assert 6 * sigma * v.t < 2 ** public.bounds(v).noise < 18 * sigma * v.t


@pytest.mark.parametrize("bits", [7, 513, 0, -8, 64.0, "64", None])
def test_other_code_lengths_are_refused(bits, unchecked):
    with pytest.raises(ValueError, match="bits: must be an integer from 8 to 512, got"):
        public.parameters(bits=bits)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"degree": 4096}, CapacityError, "degree must be large enough for q"),
        ({"flood": 108}, CapacityError, "flood must be small enough"),
        ({"flood": 99}, CapacityError, "flood must exceed the noise by 50 bits"),
        ({"flood": 121}, CapacityError, "flood must be 2 to 120"),
        ({"lanes": 8}, CapacityError, "lanes must keep t below"),
        ({"lanes": 0}, ValueError, "polys must be at least 2"),
        ({"polys": 1}, ValueError, "polys must be at least 2"),
        ({"polys": 3}, ValueError, "polys must be at least 2"),
        ({"degree": 8000}, ValueError, "degree must be a power of two"),
        ({"degree": 16384}, ValueError, "degree must be a power of two"),
        ({"degree": 128}, ValueError, "degree must be a power of two"),
        ({"primes": _parameters.PRIMES[:2]}, ValueError, "primes must be more than 2"),
        ({"primes": (_parameters.PRIMES[0],) * 5}, ValueError, "primes must be more than 2"),
        ({"primes": (*_parameters.PRIMES[:4], 17)}, ValueError, "primes must be more than 2"),
        ({"sentinels": 0}, CapacityError, "sentinels must leave room"),
        ({"sentinels": 256}, CapacityError, "sentinels must leave room"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, match):
    with pytest.raises(error, match=match):
        public.check_public(public.PublicKey(public.parameters(bits=64)._replace(**change), bytes(32)))


def test_a_small_ring_needs_its_own_word():
    small = public.Parameters(8, 64, _parameters.PRIMES, 2, 2, 118, 2)
    public.bounds(small, unsafe_small=True)
    with pytest.raises(CapacityError, match="guidelines limit to 0"):
        public.bounds(small)


def test_a_seed_of_another_length_is_refused():
    with pytest.raises(ValueError, match="seed: must be 32 bytes, got 31"):
        public.check_public(public.PublicKey(public.parameters(bits=64), bytes(31)))


@given(st.integers(8, 512), st.integers(1, 10**7))
def test_cost_counts_every_block(bits, count):
    v = public.parameters(bits=bits)
    found = public.cost(v, count=count)
    assert (found.blocks - 1) * v.images < count <= found.blocks * v.images
    assert found.index == found.blocks * v.block_bytes
    assert 0 <= found.prepared * 29 - found.index * 32 <= 7 * v.block_bytes * 32
    assert found.reply == found.blocks * v.reply_block_bytes + v.reply_shared_bytes


def test_cost_of_nothing_is_refused():
    with pytest.raises(ValueError, match="count: must be at least 1, got 0"):
        public.cost(public.parameters(bits=64), count=0)


@given(st.integers(1, 10**5))
def test_three_shapes_serve_every_number_of_blocks(blocks):
    """A compiled program per shape: more of them would compile at the first query, not when a service starts."""
    sizes = _parameters.chunk_sizes(blocks)
    assert set(sizes) <= set(_parameters.CHUNKS) and sizes == sorted(sizes, reverse=True)
    assert blocks <= sum(sizes) < blocks + sizes[-1] and len(sizes) - sizes.count(16) <= 2
