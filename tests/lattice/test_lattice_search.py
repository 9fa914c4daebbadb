"""Searches of full size are exact; forged, foreign, truncated and repeated input is refused, and nothing comes out."""

import functools
import hashlib
import math
import subprocess
import sys
from typing import NamedTuple

import jax.numpy as jnp
import lattice_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from test_lattice_oracle import SETS, small_key, source

from jcbir.errors import FormatError, IntegrityError, KeyMismatchError
from jcbir.lattice import _sampling, public, secret

SMALL = SETS[0]


class World(NamedTuple):
    """A collection with all that its parties hold, and one query on its way."""

    key: secret.SecretKey
    codes: np.ndarray
    index: public.Index
    segment: secret.Segment
    served: public.Prepared
    opener: secret.PreparedSegment
    query: public.Query
    one_time: secret.QuerySecret
    reply: public.Reply


def world(parameters: public.Parameters, codes: np.ndarray, seed: int) -> World:
    draw = source(seed)
    key = small_key(parameters, draw)
    index, segment = secret.encrypt_index(key, codes, draw=draw, used=())
    served, opener = public.prepare(key.public, index), secret.prepare(key, segment)
    query, one_time = secret.encrypt_query(key.public, codes[0], draw=draw)
    reply = public.score(key.public, [served], query, draw=draw)
    return World(key, codes, index, segment, served, opener, query, one_time, reply)


@functools.cache
def small_world(seed: int = 0, blocks: int = 20) -> World:
    """Twenty blocks and a bit: two chunks at the server, forty sentinels and more."""
    count = blocks * oracle.Ring(SMALL).images + 5
    return world(SMALL, np.random.default_rng(seed).random((count, SMALL.bits)) < 0.5, seed)


@functools.cache
def full_world(bits: int) -> World:
    """Two blocks and a bit: equal codes, complements, all zeros, all ones, alternating, lanes of opposite extremes."""
    v, generator = public.parameters(bits=bits), np.random.default_rng(bits)
    codes = generator.random((2 * v.images + 3, bits)) < 0.5
    fill = np.array([codes[-1], ~codes[-1], codes[-1] & False, codes[-1] | True, np.arange(bits) % 2 == 0])
    for i in range(5):
        codes[i * v.images // 5 : (i + 1) * v.images // 5] = fill[i]
    codes[v.images : 2 * v.images : 3] = codes[-1]
    codes[v.images + 1 : 2 * v.images : 3] = ~codes[-1]
    return world(v, codes, bits)


def answer(w: World, code: np.ndarray, seed: int) -> np.ndarray:
    draw = source(seed)
    query, one_time = secret.encrypt_query(w.key.public, code, draw=draw)
    reply = public.score(w.key.public, [w.served], query, draw=draw)
    return secret.open_distances(w.key, [w.opener], reply, one_time, answered=())


def open_it(w: World, *, segments=None, reply=None, query=None, answered=()) -> np.ndarray:
    return secret.open_distances(
        w.key, [w.opener] if segments is None else segments, reply or w.reply, query or w.one_time, answered=answered
    )


@pytest.mark.parametrize("bits", [8, 64, 512])
def test_distances_are_exact_for_extreme_codes(bits):
    w = full_world(bits)
    alternating = np.arange(bits) % 2 == 0
    for seed, code in enumerate([w.codes[-1], ~w.codes[-1], alternating & False, alternating | True, alternating]):
        found = answer(w, code, seed)
        assert found.dtype == np.int32
        assert (found == (w.codes != code).sum(1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("bits", [16, 32, 45, 100, 128, 256])
def test_distances_are_exact_for_other_lengths(bits):
    test_distances_are_exact_for_extreme_codes(bits)


@settings(max_examples=10)
@given(st.integers(0, 2**32))
def test_distances_are_exact_for_any_query(seed):
    w, generator = full_world(64), np.random.default_rng(seed)
    code = w.codes[generator.integers(len(w.codes))] ^ (generator.random(64) < generator.random())
    assert (answer(w, code, seed) == (w.codes != code).sum(1)).all()


def test_segments_and_parts_of_them_join():
    """An appended segment, and workers that each hold a range of blocks."""
    w, draw = small_world(), source(77)
    more = np.random.default_rng(7).random((40, SMALL.bits)) < 0.5
    index, segment = secret.encrypt_index(w.key, more, draw=draw, used={w.segment.name})
    rows = [w.index.rows[:9], w.index.rows[9:]]
    parts = [public.prepare(w.key.public, w.index._replace(rows=part)) for part in rows]
    parts.append(public.prepare(w.key.public, index))
    reply = public.score(w.key.public, parts, w.query, draw=draw)
    assert reply.segments == ((w.segment.name, len(w.index.rows)), (segment.name, len(index.rows)))
    found = open_it(w, segments=[w.opener, secret.prepare(w.key, segment)], reply=reply)
    assert (found == (np.concatenate([w.codes, more]) != w.codes[0]).sum(1)).all()


@functools.cache
def short_segments() -> list[tuple[np.ndarray, public.Prepared, secret.PreparedSegment]]:
    """Segments of so many blocks under the key of `small_world`, the last of them hardly begun."""
    w, made = small_world(), []
    for blocks in (1, 1, 2, 3, 5, 9, 16, 17):
        count = (blocks - 1) * oracle.Ring(SMALL).images + 1
        codes = np.random.default_rng(100 + len(made)).random((count, SMALL.bits)) < 0.5
        index, segment = secret.encrypt_index(w.key, codes, draw=source(100 + len(made)), used=())
        made.append((codes, public.prepare(w.key.public, index), secret.prepare(w.key, segment)))
    return made


@settings(max_examples=20)
@given(st.permutations(range(8)), st.integers(1, 8))
def test_segments_of_any_length_open_in_any_order(order, count):
    """Blocks of short ones are opened together: which ones are, and where chunks are filled up, changes nothing."""
    w, chosen = small_world(), [short_segments()[i] for i in order[:count]]
    reply = public.score(w.key.public, [served for _, served, _ in chosen], w.query, draw=source(5))
    found = open_it(w, segments=[opener for _, _, opener in chosen], reply=reply)
    assert (found == (np.concatenate([codes for codes, _, _ in chosen]) != w.codes[0]).sum(1)).all()


def test_a_memory_mapped_index_is_served(tmp_path):
    w, draw = small_world(), source(3)
    w.index.rows.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.uint8, "r", shape=w.index.rows.shape)
    served = public.prepare(w.key.public, w.index._replace(rows=mapped))
    reply = public.score(w.key.public, [served], w.query, draw=draw)
    assert (open_it(w, reply=reply) == open_it(w)).all()


# What leaves a party tells nothing twice.


def largest_difference(one: public.Index, other: public.Index) -> float:
    """log2 of the largest coefficient of c - c', centered."""
    ring = oracle.Ring(SMALL)
    q, pairs = ring.q, zip(*(oracle.polynomials(ring, x.rows[0].tobytes()) for x in (one, other)), strict=True)
    return max(math.log2(abs(oracle.center(x - y, q)) + 1) for a, b in pairs for x, y in zip(a, b, strict=True))


def test_two_builds_of_a_collection_share_nothing():
    """c - c' is small, and m - m' modulo t, exactly when a block secret is used twice."""
    draw, codes = source(5), np.random.default_rng(5).random((20, SMALL.bits)) < 0.5
    key = small_key(SMALL, draw)
    one, first = secret.encrypt_index(key, codes, draw=draw, used=())
    other, second = secret.encrypt_index(key, ~codes, draw=draw, used={first.name})
    bits = math.log2(oracle.Ring(SMALL).q)
    assert largest_difference(one, other) > bits - 8
    assert first.nonce != second.nonce and first.name != second.name
    assert not (first.hints == second.hints).all()

    replay = iter([first.nonce, bytes(32)])
    reused, _ = secret.encrypt_index(key, ~codes, draw=lambda _: next(replay), used=())
    assert largest_difference(one, reused) < bits / 2


def test_no_seed_is_expanded_twice(monkeypatch):
    """Secrets, errors, places of sentinels, floods: of all blocks, segments, queries and answers each has its own."""
    seen, real = [], _sampling.words
    monkeypatch.setattr(_sampling, "words", lambda seed, count: seen.append((seed, count)) or real(seed, count))
    draw, count = source(11), 3 * oracle.Ring(SMALL).images + 1
    key, codes = small_key(SMALL, draw), np.zeros((count, SMALL.bits), bool)
    for _ in range(2):
        index, _ = secret.encrypt_index(key, codes, draw=draw, used=())
        query, _ = secret.encrypt_query(key.public, codes[0], draw=draw)
        before = len(seen)
        public.score(key.public, [public.prepare(key.public, index)], query, draw=draw)
        # Four words flood a coefficient, in every block.
        assert sum(words for _, words in seen[before:]) >= len(index.rows) * SMALL.width * 4
    assert len({seed for seed, _ in seen}) == len(seen) > 2 * 3 * 4


def test_errors_are_of_what_nobody_is_told():
    """The authority has the nonce, and the master secret; errors come from the other half of what was drawn."""
    key, codes = small_key(SMALL, source(12)), np.zeros((3, SMALL.bits), bool)

    def rows(noise):
        drawn = iter([bytes([1]) * 32, bytes([noise]) * 32])
        return secret.encrypt_index(key, codes, draw=lambda _: next(drawn), used=())[0].rows

    assert (rows(2) == rows(2)).all() and (rows(2) != rows(3)).any()


def test_a_nonce_that_comes_again_is_refused():
    draw, codes = source(6), np.zeros((3, SMALL.bits), bool)
    key = small_key(SMALL, draw)
    _, segment = secret.encrypt_index(key, codes, draw=draw, used=())
    replay = iter([segment.nonce, bytes(32)])
    with pytest.raises(ValueError, match="draw: must give a fresh nonce"):
        secret.encrypt_index(key, codes, draw=lambda _: next(replay), used={segment.name})


def test_a_stuck_source_is_refused():
    key = small_world().key
    for act in (
        lambda draw: secret.generate_key(bits=64, draw=draw),
        lambda draw: secret.encrypt_index(key, np.zeros((3, SMALL.bits), bool), draw=draw, used=()),
        lambda draw: secret.encrypt_query(key.public, np.zeros(SMALL.bits, bool), draw=draw),
    ):
        with pytest.raises(ValueError, match="draw: must give 32 fresh bytes, got a repeat"):
            act(lambda count: b"a" * count)


def test_equal_queries_look_different():
    w, draw = small_world(), source(8)
    queries = [secret.encrypt_query(w.key.public, w.codes[0], draw=draw)[0].body for _ in range(2)]
    assert np.mean(queries[0] == queries[1]) < 0.05


def test_equal_searches_are_flooded_afresh():
    w = small_world()
    replies = [public.score(w.key.public, [w.served], w.query, draw=source(seed)) for seed in (1, 2)]
    assert (replies[0].shared == replies[1].shared).all()
    assert np.mean(replies[0].rows == replies[1].rows) < 0.05


def test_no_secret_is_printed():
    w = small_world()
    for record in (w.key, w.segment, w.opener, w.one_time):
        assert "redacted" in repr(record)
        for hidden in (w.key.master, w.segment.nonce, w.one_time.seed):
            assert repr(hidden) not in repr(record) and hidden.hex()[:8] not in repr(record)


# What a server that deviates meets.


def add_to(rows: np.ndarray, changes, width: int) -> np.ndarray:
    """Packed rows with numbers added to coefficients, modulo both primes of a reply."""
    out = rows.copy()
    for row, where, value in changes:
        residues = oracle.unpack(rows[row].tobytes(), 2 * width)
        for i, p in enumerate(SMALL.primes[:2]):
            residues[i * width + where] = (residues[i * width + where] + value) % p
        out[row] = np.frombuffer(oracle.pack(residues), np.uint8)
    return out


@settings(max_examples=15)
@given(st.integers(0, SMALL.degree - 1), st.integers(-(2**20), 2**20))
def test_a_forged_shared_part_is_caught_by_a_zero(where, value):
    """The phase stays within its bound, as c s_b is no larger than honest noise; a multiple of t tells nothing."""
    w = small_world()
    forged = w.reply._replace(shared=add_to(w.reply.shared[None], [(0, where, value)], SMALL.degree)[0])
    if value % SMALL.t == 0:
        assert (open_it(w, reply=forged) == open_it(w)).all()
        return
    with pytest.raises(IntegrityError, match="must decode to 4 at every zero"):
        open_it(w, reply=forged)


def test_a_forged_slot_is_caught_where_it_is_a_sentinel():
    w, width = small_world(), oracle.Ring(SMALL).width
    for block in (0, 19):
        for slot in range(width):
            forged = w.reply._replace(rows=add_to(w.reply.rows, [(block, slot, 1)], width))
            if w.opener.sentinels[block, slot]:
                with pytest.raises(IntegrityError):
                    open_it(w, reply=forged)
            else:
                # What sentinels cannot see: audits of blocks are for this.
                assert (open_it(w, reply=forged) != open_it(w)).sum() <= SMALL.lanes


def test_a_slot_without_an_image_is_a_sentinel_too():
    """One image: of the block's 28 slots in 14 coefficients, and 2 sentinels, all but one slot are zeros."""
    w = world(SMALL, np.ones((1, SMALL.bits), bool), 9)
    assert open_it(w).tolist() == [0]
    for slot in range(oracle.Ring(SMALL).width):
        forged = w.reply._replace(rows=add_to(w.reply.rows, [(0, slot, SMALL.base)], oracle.Ring(SMALL).width))
        with pytest.raises(IntegrityError):
            open_it(w, reply=forged)


def test_a_digit_beyond_the_code_length_is_caught():
    """With k odd, t is (k + 1)^L + 1: one value modulo t is no sum of digits, and would read as zeros."""
    parameters = SETS[2]
    codes = np.random.default_rng(4).random((40, parameters.bits)) < 0.5
    w = world(parameters, codes, 4)
    found = open_it(w)[: parameters.lanes]
    value = parameters.base**parameters.lanes - sum(int(d) * parameters.base**i for i, d in enumerate(found))
    slot = int(np.flatnonzero(~w.opener.sentinels[0])[0])
    forged = w.reply._replace(rows=add_to(w.reply.rows, [(0, slot, value)], oracle.Ring(parameters).width))
    with pytest.raises(IntegrityError, match="must decode to 8"):
        open_it(w, reply=forged)


@pytest.mark.parametrize("field", ["rows", "shared"])
def test_noise_instead_of_a_reply_is_caught(field):
    w = small_world()
    noise = np.random.default_rng(1).integers(0, SMALL.primes[1], getattr(w.reply, field).size // 29 * 8)
    packed = np.frombuffer(oracle.pack(noise.tolist()), np.uint8).reshape(getattr(w.reply, field).shape)
    with pytest.raises(IntegrityError, match=r"must have phases up to \d+, got"):
        open_it(w, reply=w.reply._replace(**{field: packed}))


def test_another_secret_of_the_user_is_caught():
    w = small_world()
    with pytest.raises(IntegrityError):
        open_it(w, query=secret.QuerySecret(bytes(32), w.query.digest))


def test_swapped_blocks_are_caught():
    w = small_world()
    rows = w.reply.rows[np.r_[1, 0, 2 : len(w.reply.rows)]]
    with pytest.raises(IntegrityError):
        open_it(w, reply=w.reply._replace(rows=rows))


def test_a_query_is_answered_once():
    w = small_world()
    with pytest.raises(ValueError, match="query: must be one not answered before"):
        open_it(w, answered={w.one_time.name})
    assert w.one_time.name != w.one_time.seed


def test_the_reply_to_another_query_is_refused():
    w = small_world()
    other, _ = secret.encrypt_query(w.key.public, w.codes[0], draw=source(11))
    reply = public.score(w.key.public, [w.served], other, draw=source(12))
    with pytest.raises(KeyMismatchError, match="reply: must answer query"):
        open_it(w, reply=reply)
    with pytest.raises(IntegrityError):
        open_it(w, reply=reply._replace(query=w.query.digest))


# Foreign, truncated and malformed input.


def test_foreign_records_are_refused():
    w, other = small_world(), small_world(1, 1)
    public_key, draw = w.key.public, source(0)
    for act in (
        lambda: public.prepare(public_key, other.index),
        lambda: public.score(public_key, [other.served], w.query, draw=draw),
        lambda: public.score(public_key, [w.served], other.query, draw=draw),
        lambda: public.score_shared(public_key, other.query),
        lambda: secret.prepare(w.key, other.segment),
        lambda: open_it(w, reply=other.reply),
        lambda: open_it(w, segments=[other.opener]),
    ):
        with pytest.raises(KeyMismatchError, match="must be of key"):
            act()


def test_segments_of_another_reply_are_refused():
    w = small_world()
    index, segment = secret.encrypt_index(w.key, w.codes[:3], draw=source(20), used={w.segment.name})
    opener = secret.prepare(w.key, segment)
    for segments in ([opener], [w.opener, opener], [w.opener, w.opener]):
        with pytest.raises(KeyMismatchError, match="reply: must be of segments"):
            open_it(w, segments=segments)
    twice = public.score(
        w.key.public, [w.served, public.prepare(w.key.public, index), w.served], w.query, draw=source(0)
    )
    with pytest.raises(KeyMismatchError, match="reply: must be of segments"):
        open_it(w, segments=[w.opener, opener, w.opener], reply=twice)
    with pytest.raises(ValueError, match="segments: must be at least one"):
        open_it(w, segments=[])
    with pytest.raises(ValueError, match="parts: must be at least one"):
        public.score(w.key.public, [], w.query, draw=source(0))


def test_the_nonce_of_another_segment_is_refused():
    w = small_world()
    wrong = secret.Segment(w.segment.fingerprint, w.segment.name, w.segment.count, bytes(32), w.segment.hints)
    with pytest.raises(KeyMismatchError, match="segment: must have the nonce"):
        secret.prepare(w.key, wrong)


def test_truncated_records_are_refused(unchecked):
    w, draw = small_world(), source(0)
    name, public_key, reply = w.segment.name, w.key.public, w.reply
    fewer = secret.Segment(w.segment.fingerprint, name, w.segment.count, w.segment.nonce, w.segment.hints[:-1])
    narrow = secret.Segment(w.segment.fingerprint, name, w.segment.count, w.segment.nonce, w.segment.hints[:, :-1])
    nothing = secret.Segment(w.segment.fingerprint, name, 0, w.segment.nonce, w.segment.hints[:0])
    for act in (
        lambda: public.prepare(public_key, w.index._replace(rows=w.index.rows[:, :-1])),
        lambda: public.score(public_key, [w.served], w.query._replace(body=w.query.body[:-1]), draw=draw),
        lambda: secret.prepare(w.key, fewer),
        lambda: secret.prepare(w.key, narrow),
        lambda: secret.prepare(w.key, nothing),
        lambda: open_it(w, reply=reply._replace(rows=reply.rows[:-1])),
        lambda: open_it(w, reply=reply._replace(rows=reply.rows[:, :-1])),
        lambda: open_it(w, reply=reply._replace(rows=reply.rows[:-1], segments=((name, len(reply.rows) - 1),))),
        lambda: open_it(w, reply=reply._replace(shared=reply.shared[:-1])),
    ):
        with pytest.raises(FormatError):
            act()


def test_residues_at_the_prime_are_refused():
    w = small_world()

    def raised(rows):
        rows = rows.copy()
        rows[..., :4] = 255
        return rows

    for name, act in (
        ("index", lambda: public.prepare(w.key.public, w.index._replace(rows=raised(w.index.rows)))),
        ("query", lambda: public.score_shared(w.key.public, w.query._replace(body=raised(w.query.body)))),
        ("reply", lambda: open_it(w, reply=w.reply._replace(rows=raised(w.reply.rows)))),
        ("reply", lambda: open_it(w, reply=w.reply._replace(shared=raised(w.reply.shared)))),
    ):
        with pytest.raises(FormatError, match=f"{name}: must hold residues below"):
            act()


@pytest.mark.parametrize(
    "codes",
    [
        np.zeros((3, 8), np.int8),
        np.zeros((3, 8), np.uint8),
        np.ones((3, 8), np.int64) - 2,
        np.zeros((3, 8), np.float32),
        np.zeros((3, 8), object),
        np.zeros((3, 9), bool),
        np.zeros((3, 7), bool),
        np.zeros((0, 8), bool),
        np.zeros(8, bool),
        np.zeros((1, 3, 8), bool),
        [[False] * 8] * 3,
        None,
    ],
)
def test_only_codes_are_encrypted(codes, unchecked):
    key = small_world().key
    with pytest.raises(ValueError, match=r"codes: must be bool\[n, 8\], got"):
        secret.encrypt_index(key, codes, draw=source(0), used=())
    with pytest.raises(ValueError, match=r"code: must be bool\[8\], got"):
        secret.encrypt_query(key.public, codes if np.ndim(codes) != 1 else codes.astype(int), draw=source(0))


def test_jax_codes_are_codes():
    w = small_world()
    arrays = [
        secret.encrypt_query(w.key.public, code, draw=source(1))[0] for code in (w.codes[0], jnp.asarray(w.codes[0]))
    ]
    assert (arrays[0].body == arrays[1].body).all()


def test_a_server_loads_no_secret_half_and_flips_no_switch():
    program = """
import sys, jax
from jcbir.lattice import public
assert "jcbir.lattice.secret" not in sys.modules and not jax.config.jax_enable_x64
assert not jax._src.xla_bridge._backends
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_fingerprints_tell_keys_apart():
    key = small_world().key.public
    changed = [key._replace(seed=hashlib.sha256(key.seed).digest())]
    changed += [
        key._replace(parameters=SMALL._replace(**{f: getattr(SMALL, f) + 1})) for f in ("bits", "flood", "lanes")
    ]
    changed += [key._replace(parameters=SMALL._replace(primes=SMALL.primes[::-1]))]
    assert len({key.fingerprint, *(other.fingerprint for other in changed)}) == 6
