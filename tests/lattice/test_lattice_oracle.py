"""Encrypt, serve and open agree bit for bit with the schoolbook in Python integers."""

import hashlib

import lattice_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jcbir.lattice import public, secret
from jcbir.lattice._bits import pack
from jcbir.lattice._parameters import PRIMES

# Even and odd bases, padded codes, two and four polynomials, fewer primes, another order of them.
SETS = [
    public.Parameters(8, 64, PRIMES, 2, 2, 118, 2),
    public.Parameters(6, 32, PRIMES[::-1], 3, 4, 110, 1),
    public.Parameters(9, 128, PRIMES, 5, 2, 105, 3),
    public.Parameters(13, 64, PRIMES[:4], 1, 4, 70, 2),
]


def source(seed: int):
    """A reproducible source of bytes that never repeats."""
    drawn = 0

    def draw(count: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(f"{seed} {drawn}".encode()).digest(count)

    return draw


def small_key(parameters: public.Parameters, draw) -> secret.SecretKey:
    public.bounds(parameters, unsafe_small=True)
    return secret.SecretKey(public.PublicKey(parameters, draw(32)), draw(32))


@settings(max_examples=8)
@given(st.sampled_from(SETS), st.integers(0, 2**32), st.data())
def test_a_search_is_the_schoolbooks(parameters, seed, data):
    ring, draw = oracle.Ring(parameters), source(seed)
    key = small_key(parameters, draw)
    # One block or several: what is compiled is of the set and of the blocks of a chunk.
    least = 1 if parameters == SETS[0] else ring.images + 1
    count = data.draw(st.integers(least, 2 * ring.images + 1))
    generator = np.random.default_rng(seed)
    codes, code = generator.random((count, ring.k)) < 0.5, generator.random(ring.k) < 0.5
    codes[::3] = code
    codes[1::3] = ~code

    nonce, noise, one_time, errors, *floods = (draw(32) for _ in range(9))
    replay = iter([nonce, noise, one_time, errors, *floods])
    index, segment = secret.encrypt_index(key, codes, draw=lambda _: next(replay), used=())
    query, opener = secret.encrypt_query(key.public, code, draw=lambda _: next(replay))
    reply = public.score(key.public, [public.prepare(key.public, index)], query, draw=lambda _: next(replay))
    distances = secret.open_distances(key, [secret.prepare(key, segment)], reply, opener, answered=())

    seed_a, bits = key.public.seed, codes.astype(int).tolist()
    rows, hints = oracle.encrypt_index(ring, seed_a, key.master, nonce, noise, bits)
    assert [row.tobytes() for row in index.rows] == rows
    assert [hint.tobytes() for hint in segment.hints] == hints
    body = oracle.encrypt_query(ring, seed_a, one_time, errors, code.astype(int).tolist())
    assert query.body.tobytes() == body
    replay = iter(floods)
    blocks, shared = oracle.score(ring, seed_a, rows, body, lambda _: next(replay))
    assert [row.tobytes() for row in reply.rows] == blocks
    assert reply.shared.tobytes() == shared
    expected, largest = oracle.open_distances(ring, key.master, nonce, count, hints, blocks, shared, one_time)
    assert distances.tolist() == expected == (codes != code).sum(1).tolist()
    assert largest <= public.bounds(parameters, unsafe_small=True).phase


@pytest.mark.parametrize("parameters", SETS)
@pytest.mark.parametrize("word", [bytes(32), b"\xff" * 32])
def test_the_largest_residues_and_floods_are_served_exactly(parameters, word, monkeypatch):
    """Every residue p - 1, every word of a flood all ones or all zeros: sums are as large as they get."""
    ring = oracle.Ring(parameters)
    key = small_key(parameters, source(1))
    fill = np.repeat(np.array(ring.primes, np.uint32) - np.uint32(1), ring.g * ring.n)
    row = pack(fill[None])
    for module, name in ((public._sampling, "words"), (oracle, "words")):
        drawn = module.words

        def extreme(seed, count, drawn=drawn, module=module):
            if seed != word:
                return drawn(seed, count)
            value = int.from_bytes(word[:8], "little")
            return [value] * count if module is oracle else np.full(count, value, np.uint64)

        monkeypatch.setattr(module, name, extreme)
    index = public.Index(key.public.fingerprint, bytes(32), row)
    query = public.Query(key.public.fingerprint, row[0])
    reply = public.score(key.public, [public.prepare(key.public, index)], query, draw=lambda _: word)
    rows, shared = oracle.score(ring, key.public.seed, [row.tobytes()], row.tobytes(), lambda _: word)
    assert [r.tobytes() for r in reply.rows] == rows
    assert reply.shared.tobytes() == shared
