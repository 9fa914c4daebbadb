"""Stages and whole images: exact inverses for any shape, batch equals loop, NumPy equals JAX equals the oracle."""

import cipher_oracle as oracle
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from jcbir import cipher as image
from jcbir.cipher import _image, _order as order, keystream, stages

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))
PAIRS = {
    "modular": (stages.modular_diffusion, stages.undo_modular_diffusion, 4),
    "scramble": (stages.scramble, stages.undo_scramble, 2),
    "field": (stages.field_diffusion, stages.undo_field_diffusion, 2),
}


def _planes(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("name", PAIRS)
@given(shape=SHAPES, batch=st.integers(1, 3), seed=st.integers(0, 99))
def test_inverse_for_any_shape(name, shape, batch, seed):
    apply, undo, passes = PAIRS[name]
    planes, keys = _planes(seed, batch, *shape), _planes(seed + 1, batch, passes, *shape)
    before = planes.copy()
    assert np.array_equal(undo(apply(planes, keys), keys), planes)
    assert np.array_equal(planes, before)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 256), (300, 2)])
def test_jax_jit_and_vmap_equal_numpy(name, shape):
    apply, undo, passes = PAIRS[name]
    planes, keys = _planes(1, 2, *shape), _planes(2, 2, passes, *shape)
    expected = apply(planes, keys)
    for function, source, target in ((apply, planes, expected), (undo, expected, planes)):
        device = (jnp.asarray(source), jnp.asarray(keys))
        if shape == (3, 5):
            assert np.array_equal(function(*device), target)
        assert np.array_equal(jax.jit(function)(*device), target)
        assert np.array_equal(jax.jit(jax.vmap(function))(*device), target)
        assert np.array_equal(np.stack([function(p, k) for p, k in zip(source, keys, strict=True)]), target)


def test_field_diffusion_is_multiplication_in_gf_257():
    planes, keys = _planes(5, 6, 9), _planes(6, 2, 6, 9)
    values, forward, backward = (a.T.ravel().tolist() for a in (planes, keys[0], keys[1]))
    expected = oracle.both_ways(oracle.multiply, values, forward, backward)
    assert stages.field_diffusion(planes, keys).T.ravel().tolist() == expected


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("n", [1, 1000, 1 << 16, (1 << 16) + 1, 200_000, (1 << 22) + 5])
def test_order_is_a_stable_argsort(n, words, monkeypatch):
    monkeypatch.setattr(order, "_words_are_faster", lambda: words)
    octets, samples = _planes(n, 4, n), _planes(n + 1, n)
    octets[2:] &= 1  # ties
    keys = np.ascontiguousarray(octets.T).view("<u4")[:, 0]
    expected = np.argsort(keys, kind="stable")
    assert np.array_equal(order.stable_order(octets), expected)
    assert np.array_equal(order.in_order(samples, octets), samples[expected])
    assert np.array_equal(order.stable_order(np.zeros((4, n), np.uint8)), np.arange(n))


@given(
    st.integers(0, 99),
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 40)),
    st.booleans(),
    st.booleans(),
)
def test_samples_follow_their_keys(seed, shape, words, carried):
    keys = _planes(seed, *shape) & 3  # ties
    samples = np.arange(keys.shape[0] * keys.shape[2], dtype=np.uint8).reshape(keys.shape[0], -1)
    expected = np.stack([s[np.lexsort(k)] for s, k in zip(samples, keys, strict=True)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "_words_are_faster", lambda: words)
        patch.setattr(order, "_CARRIED", 40 if carried else 20)
        patch.setattr(order, "_RADIX", 10)
        assert np.array_equal(order.in_order(samples, keys), expected)


in_order = jax.jit(order.in_order)


@given(st.integers(0, 99), st.sampled_from([(1, 1, 1), (3, 2, 40), (2, 6, 17)]))
def test_samples_follow_their_keys_on_a_device(seed, shape):
    keys = _planes(seed, *shape) & 3
    samples = np.arange(keys.shape[0] * keys.shape[2], dtype=np.uint8).reshape(keys.shape[0], -1)
    expected = np.stack([s[np.lexsort(k)] for s, k in zip(samples, keys, strict=True)])
    assert np.array_equal(in_order(jnp.asarray(samples), jnp.asarray(keys)), expected)


@pytest.mark.parametrize("words", [False, True])
def test_the_faster_sort_is_chosen_once(words, monkeypatch):
    seconds, trials = [0.0], []

    def sort(cost):
        trials.append(cost)
        seconds[0] += cost

    monkeypatch.setattr(order.time, "perf_counter", lambda: seconds[0])
    monkeypatch.setattr(order, "_sorted", lambda keys, samples: sort(1 if words else 3))
    monkeypatch.setattr(order.np, "lexsort", lambda keys: sort(2))
    order._words_are_faster.cache_clear()
    try:
        assert order._words_are_faster() is words
        once = len(trials)
        assert order._words_are_faster() is words and len(trials) == once
    finally:
        order._words_are_faster.cache_clear()


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4))),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=16, max_size=16),
    st.sampled_from(["paper", "reference50"]),
)
def test_image_equals_the_oracle_and_inverts(photo, key, nonce, name):
    noise = image.encrypt(photo, key=key, nonce=nonce, order=name)
    assert noise.tobytes() == oracle.encrypt(photo.tolist(), key, nonce, name)
    assert np.array_equal(image.decrypt(noise, key=key, nonce=nonce, order=name), photo)


@settings(max_examples=10)
@given(shape=st.sampled_from([(1, 1, 1), (5, 3, 3), (64, 65, 1), (1, 300, 4), (300, 1, 2)]), count=st.integers(1, 4))
def test_batch_equals_loop_and_engines_agree(shape, count):
    photos = _planes(count, count, *shape)
    keys, nonces = [bytes([i]) * 32 for i in range(count)], [bytes([i]) * 16 for i in range(count)]
    batch = image.encrypt_batch(photos, keys=keys, nonces=nonces)
    loop = [image.encrypt(p, key=k, nonce=n) for p, k, n in zip(photos, keys, nonces, strict=True)]
    assert np.array_equal(batch, np.stack(loop))
    assert np.array_equal(image.decrypt_batch(batch, keys=keys, nonces=nonces), photos)


def test_engines_agree_on_whole_images():
    photos = _planes(1, 2, 5, 3, 3)
    names = {"keys": [bytes(32)] * 2, "nonces": [bytes(16), b"1" * 16]}
    noise = image.encrypt_batch(photos, **names)
    for engine in ("compiled", "jax"):
        assert np.array_equal(image.encrypt_batch(photos, **names, engine=engine), noise)
        assert np.array_equal(image.decrypt_batch(noise, **names, engine=engine), photos)


def test_large_calls_compile_the_key_stream(monkeypatch):
    engines = []
    expand = _image.expand
    monkeypatch.setattr(_image, "expand", lambda *a, engine, **k: engines.append(engine) or expand(*a, **k))
    monkeypatch.setattr(_image, "_LARGE", 12)
    for photo in (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 2), np.uint8)):
        image.encrypt(photo, key=bytes(32), nonce=bytes(16))
    assert engines == ["compiled", "numpy"]


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("shape", [(2, 200), (17, 193), (26, 256)])
def test_wide_planes_sum_as_numpy_does(shape, backward):
    planes, key = _planes(1, 2, *shape), _planes(2, 2, *shape)
    flip = slice(None, None, -1 if backward else 1)
    sums = (planes + key)[:, flip, flip].transpose(0, 2, 1).reshape(2, -1).cumsum(axis=-1, dtype=np.uint8)
    expected = sums.reshape(2, *shape[::-1]).transpose(0, 2, 1)[:, flip, flip]
    assert np.array_equal(stages._running_sum(planes, key, backward=backward), expected)


def test_groups_do_not_change_the_bytes(monkeypatch):
    photos = _planes(1, 5, 9, 8, 3)
    names = {"keys": [bytes([i]) * 32 for i in range(5)], "nonces": [bytes(16)] * 5}
    whole = image.encrypt_batch(photos, **names)
    for group, cached in ((1, 1), (100, 300), (300, 80), (1 << 20, 150)):
        monkeypatch.setattr(_image, "_GROUP", group)
        monkeypatch.setattr(_image, "_CACHED", cached)
        assert np.array_equal(image.encrypt_batch(photos, **names), whole)
        assert np.array_equal(image.decrypt_batch(whole, **names), photos)


def test_equal_channels_and_equal_images_do_not_look_equal():
    gray = np.repeat(_planes(3, 16, 16, 1), 3, axis=2)
    noise = image.encrypt(gray, key=bytes(32), nonce=bytes(16)).astype(int)
    assert (noise[..., 0] != noise[..., 1]).mean() > 0.9
    other = image.encrypt(gray, key=bytes(32), nonce=b"1" * 16)
    assert (noise != other).mean() > 0.9


def test_a_stage_is_swapped_in_three_lines():
    planes = _planes(1, 1, 8, 8)
    secret = keystream.stream_key(key=bytes(32), nonce=bytes(16), shape=(8, 8, 1), order="mine")
    mine = (image.SCRAMBLING, image.FIELD)
    keys = [image.plane_keys([secret], [0], stage, height=8, width=8) for stage in mine]
    noise = planes
    for stage, k in zip(mine, keys, strict=True):
        noise = stage.apply(noise, k)
    for stage, k in zip(mine[::-1], keys[::-1], strict=True):
        noise = stage.undo(noise, k)
    assert np.array_equal(noise, planes)


def test_repeating_the_diffusion_under_the_same_keys_would_leak():
    """Why every pass has its own stream: for n = 1 mod 3 the doubled map of the keys is singular modulo 2."""
    for n in range(1, 14):
        unit = np.eye(n, dtype=np.uint8)[:, None, :]
        zero = np.zeros((n, 1, n), np.uint8)
        one = stages.modular_diffusion(zero, np.stack([unit, zero], 1))[:, 0, :].astype(int)  # effect of the key
        again = stages.modular_diffusion(one.astype(np.uint8)[:, None], np.stack([zero, zero], 1))[:, 0].astype(int)
        mask = (one + again) % 2  # the key's effect when both rounds use it
        rank = 0
        rows = mask.copy()
        for column in range(n):
            pivot = next((r for r in range(rank, n) if rows[r, column]), None)
            if pivot is None:
                continue
            rows[[rank, pivot]] = rows[[pivot, rank]]
            for r in range(n):
                if r != rank and rows[r, column]:
                    rows[r] = (rows[r] + rows[rank]) % 2
            rank += 1
        assert (rank < n) == (n % 3 == 1), n


@pytest.mark.parametrize("shape", [(0, 3, 3), (3, 0, 3), (3, 3, 0)], ids=["no rows", "no columns", "no channels"])
def test_empty_images_are_refused(shape):
    with pytest.raises(ValueError, match=r"images?: must"):
        image.encrypt(np.zeros(shape, np.uint8), key=bytes(32), nonce=bytes(16))


def test_bad_input(unchecked):
    good = np.zeros((2, 2, 1), np.uint8)
    with pytest.raises(ValueError, match="uint8"):
        image.encrypt(good.astype(np.float32), key=bytes(32), nonce=bytes(16))
    with pytest.raises(ValueError, match="order: must be"):
        image.encrypt(good, key=bytes(32), nonce=bytes(16), order="mine")
    with pytest.raises(ValueError, match="keys, nonces: must"):
        image.encrypt_batch(good[None], keys=[], nonces=[])
    with pytest.raises(ValueError, match="keys: must be pairs"):
        stages.modular_diffusion(good[..., 0], np.zeros((3, 2, 2), np.uint8))
    with pytest.raises(ValueError, match="keys: must be planes"):
        stages.scramble(good[..., 0], np.zeros((4, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="at least one"):
        order.stable_order(np.zeros((0, 3), np.uint8))
    with pytest.raises(ValueError, match="at least one"):
        order.in_order(np.zeros(0, np.uint8), np.zeros((4, 0), np.uint8))
