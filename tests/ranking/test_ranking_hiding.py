"""Shuffled blocks and one-time pads: undone exactly by who holds the order or the pad, meaningless to the others."""

import functools
import secrets

import numpy as np
import pytest
from hypothesis import given, strategies as st
from ranking_keys import fresh_blinders, hamming, make_key, owner_encrypt

from jcbir.errors import KeyMismatchError
from jcbir.ranking import build_index, open_scores as open_auto, plan, rank, score, trapdoor
from jcbir.ranking._build import delete
from jcbir.ranking._layouts import DEAD
from jcbir.ranking._open import decrypt_scores as decrypt_auto
from jcbir.ranking.pads import expand_pad, pad_scores, unpad
from jcbir.ranking.shuffle import draw_order, locate, restore

# Larger batches would go to the engine `jax` and compile, which has tests of its own.
decrypt_scores = functools.partial(decrypt_auto, engine="python")
open_scores = functools.partial(open_auto, engine="python")
SCHEMES = ["integer", "packed", "bitsliced"]


def prepared_case(scheme: str, count: int, seed: int):
    key = make_key(256)
    generator = np.random.default_rng(seed)
    codes, query = generator.random((count, 16)) < 0.5, generator.random(16) < 0.5
    layout = plan(key.public, scheme=scheme, count=count, bits=16)
    index = build_index(codes, layout, encrypt=owner_encrypt(key), public=key.public)
    question = trapdoor(query, layout, encrypt=owner_encrypt(key), public=key.public)
    return key, index, question, hamming(codes, query)


@given(st.sampled_from(SCHEMES), st.integers(1, 150), st.integers(0, 2**32 - 1), st.booleans())
def test_order_is_undone_exactly(scheme, count, seed, deleting):
    key, index, question, _ = prepared_case(scheme, count, seed)
    index = delete(index, np.arange(0, count, 4)) if deleting else index
    layout = index.layout
    order = draw_order(layout.blocks, draw=secrets.token_bytes)
    blinders = fresh_blinders(key, layout.blocks)
    plain = open_scores(key, score(key.public, index, question, blinders=blinders))
    shuffled = open_scores(key, score(key.public, index, question, blinders=blinders, order=order))
    assert shuffled.shape == (layout.slots,)
    assert np.count_nonzero(shuffled == DEAD) == layout.slots - np.count_nonzero(plain != DEAD)
    assert restore(shuffled, order, layout).tolist() == plain.tolist()
    found = locate(rank(shuffled, top=count), order, layout)
    assert plain[found].tolist() == np.sort(plain[plain != DEAD]).tolist()


@given(st.sampled_from(SCHEMES), st.integers(1, 60), st.integers(0, 2**32 - 1), st.booleans())
def test_pad_is_undone_exactly(scheme, count, seed, shuffling):
    key, index, question, expected = prepared_case(scheme, count, seed)
    layout = index.layout
    order = draw_order(layout.blocks, draw=secrets.token_bytes) if shuffling else None
    blinders = fresh_blinders(key, layout.blocks)
    pad = expand_pad(key.public, secrets.token_bytes(32), count=layout.blocks)
    clear = score(key.public, index, question, blinders=blinders, order=order)
    padded = score(key.public, index, question, blinders=blinders, order=order, pad=pad)
    distances = unpad(key.public, decrypt_scores(key, padded), pad, padded)
    assert distances.tolist() == open_scores(key, clear).tolist()
    if scheme != "integer":
        back = distances if order is None else restore(distances, order, layout)
        assert back.tolist() == expected.tolist()


def test_the_key_holder_sees_the_pad_plus_the_score():
    key, index, question, _ = prepared_case("bitsliced", 20, 1)
    blinders = fresh_blinders(key, index.layout.blocks)
    pad = expand_pad(key.public, secrets.token_bytes(32), count=index.layout.blocks)
    plain = decrypt_scores(key, score(key.public, index, question, blinders=blinders))
    noise = decrypt_scores(key, score(key.public, index, question, blinders=blinders, pad=pad))
    for s, r, x in zip(plain, pad, noise, strict=True):
        assert (int.from_bytes(s) + int.from_bytes(r)) % key.public.n == int.from_bytes(x)


def test_the_pad_is_uniform_below_n():
    # Sixteenths of [0, n): 3000 draws, expected 187.5 each; 5 standard deviations are 66.
    public = make_key(256).public
    values = [int.from_bytes(row) for row in expand_pad(public, bytes(32), count=3000)]
    assert max(values) < public.n
    counts = np.bincount([16 * v // public.n for v in values], minlength=16)
    assert abs(counts - 3000 / 16).max() < 66


def test_the_pad_depends_on_its_key_and_on_the_public_key():
    first, second = make_key(256).public, make_key(256, label="another system").public
    rows = [expand_pad(p, k, count=2).tobytes() for p in (first, second) for k in (bytes(32), b"\1" * 32)]
    assert len({row[i : i + 32] for row in rows for i in (0, 32)}) == 8


def test_wrong_pads_are_refused():
    key, index, question, _ = prepared_case("packed", 20, 3)
    blocks = index.layout.blocks
    pad = expand_pad(key.public, bytes(32), count=blocks)
    padded = score(key.public, index, question, blinders=fresh_blinders(key, blocks), pad=pad)
    noise = decrypt_scores(key, padded)
    with pytest.raises(ValueError, match="not made with this layout"):
        unpad(key.public, noise, expand_pad(key.public, b"\1" * 32, count=blocks), padded)
    with pytest.raises(ValueError, match="noise: must be"):
        unpad(key.public, noise[:-1], pad, padded)
    with pytest.raises(ValueError, match="pad: must be at least one row"):
        pad_scores(key.public, padded, pad[:0])
    with pytest.raises(KeyMismatchError, match="scores: made under key"):
        unpad(make_key(256, label="another system").public, noise, pad, padded)
    with pytest.raises(ValueError, match="pad_key: must be 32 bytes"):
        expand_pad(key.public, b"short", count=1)
    with pytest.raises(ValueError, match="count: must be at least 1"):
        expand_pad(key.public, bytes(32), count=0)


@pytest.mark.parametrize("order", [[0, 0], [0], [1, 2], [0, 1, 2]])
def test_orders_that_are_no_permutation_are_refused(order):
    key, index, question, _ = prepared_case("integer", 2, 4)
    with pytest.raises(ValueError, match="order: must be a permutation of"):
        score(key.public, index, question, blinders=fresh_blinders(key, 2), order=np.array(order))


def test_positions_outside_are_refused():
    _, index, _, _ = prepared_case("packed", 21, 5)
    order = np.arange(index.layout.blocks)
    with pytest.raises(ValueError, match="positions: must be"):
        locate(np.array([index.layout.slots]), order, index.layout)
    with pytest.raises(ValueError, match="beyond the last"):
        locate(np.array([index.layout.slots - 1]), order, index.layout)


def test_draw_order_is_a_permutation():
    assert sorted(draw_order(50, draw=secrets.token_bytes).tolist()) == list(range(50))
    with pytest.raises(ValueError, match="blocks: must be at least 1"):
        draw_order(0, draw=secrets.token_bytes)
