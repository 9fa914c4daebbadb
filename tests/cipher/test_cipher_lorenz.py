"""The fixed-point system: one source, the same integers everywhere, and within its stated bounds."""

import cipher_oracle as oracle
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from jcbir.cipher import keystream, lorenz

WORD = st.integers(-(2**31), 2**31 - 1)
STATES = st.lists(st.tuples(WORD, WORD, WORD, WORD), min_size=3, max_size=3)


def _state(rows) -> lorenz.State:
    return lorenz.State(*(np.array(column, np.int64) for column in zip(*rows, strict=True)))


@given(STATES, st.integers(0, 2**20))
def test_step_is_big_integer_arithmetic_for_any_state(rows, number):
    for integrator, constants in ((lorenz.STEP, oracle.FINE), (lorenz.TRANSIENT_STEP, oracle.COARSE)):
        ours = lorenz.advance(_state(rows), lorenz.dither(number), integrator=integrator)
        theirs = [oracle.step(list(row), number, constants) for row in rows]
        assert np.array_equal(np.stack(ours, -1), np.array(theirs))


@given(STATES, st.integers(0, 2**20))
def test_mixing_is_big_integer_arithmetic(rows, number):
    ours = lorenz.mix(_state(rows), np.uint64(lorenz.counter(number)))
    assert [tuple(int(v) for v in pair) for pair in zip(*ours, strict=True)] == [
        oracle.mix(list(row), number) for row in rows
    ]


def test_constants_are_the_rounded_polynomials():
    from fractions import Fraction

    def p(s):
        return 1 + s + s**2 / 2 + s**3 / 6 + s**4 / 24

    def q(s):
        return 1 + s / 2 + s**2 / 6 + s**3 / 24

    for h, constants in ((Fraction(2, 1000), lorenz.STEP), (Fraction(25, 1000), lorenz.TRANSIENT_STEP)):
        rates = (Fraction(-10), Fraction(-1), Fraction(-8, 3), Fraction(-1))
        values = [v for k, sign in zip(rates, (1, 1, 1, -1), strict=True) for v in (p(k * h), sign * h * q(k * h))]
        # The integers were rounded from float64: the last place is theirs.
        assert all(abs(c - v * 2**32) < 1 for c, v in zip(constants, values, strict=True))


def test_state_products_fit_int64():
    top = 2**31
    assert top * top < 2**63
    assert top * (top + lorenz.C) < 2**63


def test_trajectories_stay_inside_the_format():
    seeds = np.frombuffer(np.random.default_rng(0).bytes(16 * 20_000), np.uint8).reshape(-1, 16)
    state, worst = lorenz.start(seeds), np.zeros(4)
    for number in range(64 + 256):
        integrator = lorenz.TRANSIENT_STEP if number < 64 else lorenz.STEP
        state = lorenz.advance(state, lorenz.dither(number), integrator=integrator)
        worst = np.maximum(worst, [np.abs(v).max() / 2**22 for v in state])
    assert (worst < [36, 32, 58, 320]).all(), worst


@pytest.mark.parametrize("length", [1, 64, 4097])
def test_numpy_eager_and_compiled_streams_agree(length):
    seeds = keystream.lane_seeds(bytes(32), stage=1, channel=0, streams=2, length=length)
    host = keystream.expand(seeds, length=length)
    device = keystream.expand(seeds, length=length, engine="jax")
    assert np.array_equal(host, np.asarray(device))
    assert np.array_equal(host, keystream.expand(seeds, length=length, engine="compiled"))
    with jax.enable_x64(True):
        state = lorenz.State(*(jnp.asarray(v) for v in lorenz.start(seeds)))
        state = lorenz.drop_transient(state)
        state = lorenz.advance(state, lorenz.dither(64))
        eager = np.stack([np.asarray(v) for v in lorenz.mix(state, np.uint64(lorenz.counter(64)))], 1)
    head = np.ascontiguousarray(eager).view(np.uint8).reshape(2, -1)[:, :length]
    assert np.array_equal(head, host[:, : head.shape[1]])


@given(st.integers(1, 5000), st.binary(min_size=32, max_size=32), st.integers(0, 3))
def test_stream_equals_the_oracle(length, secret, channel):
    length = min(length, 400) if length < 4000 else 4100 + length % 50
    seeds = keystream.lane_seeds(secret, stage=2, channel=channel, streams=1, length=length)
    assert keystream.expand(seeds, length=length)[0].tobytes() == oracle.streams(secret, 2, channel, 1, length)[0]


def test_any_lane_batching_gives_the_same_bytes(monkeypatch):
    seeds = keystream.lane_seeds(bytes(32), stage=1, channel=0, streams=4, length=9000)
    whole = keystream.expand(seeds, length=9000)
    for block in (1, 2, 5):
        monkeypatch.setattr(keystream, "_BLOCK_LANES", block)
        assert np.array_equal(keystream.expand(seeds, length=9000), whole)


def test_compiled_blocks_of_several_streams_and_of_parts_of_one():
    for streams, length in ((1100, 20), (2, 4096 * 1030)):
        seeds = keystream.lane_seeds(bytes(32), stage=1, channel=0, streams=streams, length=length)
        assert np.array_equal(
            keystream.expand(seeds, length=length, engine="compiled"), keystream.expand(seeds, length=length)
        )


@given(st.integers(1, 500), st.integers(1, 12), st.integers(1, 1 << 24))
def test_whole_blocks_leave_no_lane_idle_that_could_be_used(planes, streams, length):
    chosen = keystream.whole_blocks(planes, streams=streams, length=length)
    rows = max(1, keystream._COMPILED_LANES // keystream.lane_count(length))
    full = [n for n in range(1, planes + 1) if n * streams % rows == 0]
    assert chosen == (full[-1] if full else planes)


def test_streams_differ_by_every_name():
    base = {"key": bytes(32), "nonce": bytes(16), "shape": (8, 8, 3), "order": "paper"}
    changes = [{"key": bytes(31) + b"\1"}, {"nonce": bytes(15) + b"\1"}, {"shape": (8, 3, 8)}, {"order": "reference50"}]
    keys = {keystream.stream_key(**{**base, **change}) for change in [{}, *changes]}
    assert len(keys) == 5
    seeds = {
        keystream.lane_seeds(bytes(32), stage=s, channel=c, streams=1, length=1).tobytes()
        for s in (1, 2)
        for c in (0, 1)
    }
    assert len(seeds) == 4


@pytest.mark.parametrize("lanes", [1, 2, 3, 100])
def test_a_lane_serves_4096_bytes(lanes):
    assert keystream.lane_count(4096 * lanes) == lanes
    assert keystream.lane_count(4096 * lanes + 1) == keystream.lane_count(4096 * lanes + 4096) == lanes + 1


def test_bad_lengths(unchecked):
    with pytest.raises(ValueError, match="key: must be 32"):
        keystream.stream_key(key=bytes(31), nonce=bytes(16), shape=(1, 1, 1), order="paper")
    with pytest.raises(ValueError, match="nonce: must be 16"):
        keystream.stream_key(key=bytes(32), nonce=bytes(12), shape=(1, 1, 1), order="paper")
    with pytest.raises(ValueError, match="nonce: must be 16"):
        keystream.stream_key(key=bytes(32), nonce=bytes(17), shape=(1, 1, 1), order="paper")
    with pytest.raises(ValueError, match="length: must be a whole number"):
        keystream.lane_count(0)
    with pytest.raises(ValueError, match="must be 2 lanes"):
        keystream.expand(np.zeros((1, 16), np.uint8), length=5000)
    with pytest.raises(ValueError, match="engine"):
        keystream.expand(np.zeros((1, 16), np.uint8), length=5, engine="cuda")
    with pytest.raises(ValueError, match="16 bytes"):
        lorenz.start(np.zeros((2, 15), np.uint8))
