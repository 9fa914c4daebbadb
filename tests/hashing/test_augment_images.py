"""Augmentation against a slow NumPy crop with reflected borders."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jcbir import hashing

crop = jax.jit(hashing.random_crop, static_argnames="padding")
flip = jax.jit(hashing.random_flip)
resized_crop = jax.jit(hashing.random_resized_crop, static_argnames=("least", "size"))


@pytest.fixture(scope="module")
def images():
    return np.asarray(jax.random.randint(jax.random.key(3), (64, 9, 7, 3), 0, 256)).astype(np.uint8)


def test_every_crop_is_a_window_of_the_reflected_image_and_all_windows_occur(images):
    cropped = np.asarray(crop(jax.random.key(0), np.repeat(images[:1], 64, 0), padding=2))
    padded = np.pad(images[0], ((2, 2), (2, 2), (0, 0)), mode="reflect")
    windows = {padded[i : i + 9, j : j + 7].tobytes() for i in range(5) for j in range(5)}
    got = {image.tobytes() for image in cropped}
    assert got <= windows
    assert len(got) > 15


@pytest.mark.parametrize("padding", [1, 2, 3])
def test_every_shift_occurs_to_both_ends(images, padding):
    """As often as every other: 40 draws for each leave one out once in 10^15."""
    side = 2 * padding + 1
    repeated = np.repeat(images[:1], 40 * side**2, 0)
    cropped = np.asarray(crop(jax.random.key(1), repeated, padding=padding))
    padded = np.pad(images[0], ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
    windows = [padded[i : i + 9, j : j + 7].tobytes() for i in range(side) for j in range(side)]
    counts = Counter(image.tobytes() for image in cropped)
    assert set(counts) == set(windows)
    assert all(10 < count < 80 for count in counts.values())


def test_flip_is_the_image_or_its_mirror_about_half_of_the_time(images):
    flipped = np.asarray(flip(jax.random.key(0), images))
    same = (flipped == images).all((1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    assert (same | mirrored).all()
    assert 15 < mirrored.sum() < 49


def test_dtype_and_shape_are_kept_and_jit_equals_eager(images):
    jitted = jax.jit(lambda key, x: hashing.crop_and_flip(key, x, padding=3))
    for dtype in (np.uint8, np.float32):
        batch = images.astype(dtype)
        found = jitted(jax.random.key(5), batch)
        assert found.shape == batch.shape and found.dtype == dtype
    # Of either type the same pixels move.
    np.testing.assert_array_equal(hashing.crop_and_flip(jax.random.key(5), images, padding=3), found)


def test_no_padding_is_the_identity(images):
    np.testing.assert_array_equal(crop(jax.random.key(0), jnp.asarray(images), padding=0), images)


@pytest.mark.parametrize("padding", [-1, 7])
def test_padding_beyond_the_image_is_refused(images, padding):
    with pytest.raises(ValueError, match="padding: must be a whole number from 0 to 6"):
        hashing.random_crop(jax.random.key(0), images, padding=padding)


def test_a_resized_crop_is_a_rectangle_of_the_image_of_the_wanted_area_and_ratio():
    rows, columns = np.meshgrid(np.arange(40.0), np.arange(60.0), indexing="ij")
    ramps = np.stack([rows, columns, np.ones_like(rows)], -1).astype(np.float32)
    crops = np.asarray(resized_crop(jax.random.key(0), np.repeat(ramps[None], 200, 0), least=0.3))
    # Away from the border, where the triangle of the filter is cut, a ramp stays a ramp: its slope is the share.
    inner = crops[:, 5:-5, 5:-5]
    slopes = [np.diff(inner[..., axis], axis=1 + axis) for axis in (0, 1)]
    for slope in slopes:
        np.testing.assert_allclose(
            slope, slope[:, :1, :1].repeat(slope.shape[1], 1).repeat(slope.shape[2], 2), atol=2e-3
        )
    high, wide = (slope[:, 0, 0] for slope in slopes)
    np.testing.assert_allclose(crops[..., 2], 1, atol=1e-5)
    assert (high * wide > 0.29).all() and (high * wide <= 1.001).all() and (high * wide).std() > 0.1
    assert (wide / high < 4 / 3 + 0.01).all() and (wide / high > 3 / 4 - 0.01).all()
    first = inner[:, 0, 0, 0] - (5.5 * high - 0.5)
    assert (first > -1e-2).all() and (first < 40 * (1 - high) + 1e-2).all() and first.std() > 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_resized_crop_keeps_dtype_shape_and_range(images, dtype):
    batch = images.astype(dtype)
    found = jax.jit(hashing.resized_crop_and_flip)(jax.random.key(5), batch)
    assert found.shape == batch.shape and found.dtype == dtype
    if dtype == np.uint8:
        eager = hashing.resized_crop_and_flip(jax.random.key(5), batch)
        assert eager.dtype == dtype
        np.testing.assert_allclose(np.asarray(eager, float), np.asarray(found, float), atol=1)
    assert 20 < np.asarray(found).std() < np.asarray(batch).std()
    for least in (0.0, 1.01, float("nan")):
        with pytest.raises(ValueError, match="least: must be above 0 and at most 1"):
            hashing.random_resized_crop(jax.random.key(0), batch, least=least)


def test_a_crop_at_another_size_is_the_same_rectangle(unchecked):
    """A ramp cut at 20 pixels a side has the slope of the whole size times 60 / 20, and the same middle."""
    columns = np.broadcast_to(np.arange(60.0, dtype=np.float32)[None, :, None], (40, 60, 1))
    batch = np.repeat(columns[None], 50, 0)
    same, small = (resized_crop(jax.random.key(0), batch, size=size) for size in (None, 20))
    assert same.shape == (50, 40, 60, 1) and small.shape == (50, 20, 20, 1)
    steep, flat = (np.diff(np.asarray(x)[:, 5, 5:-5, 0], axis=1) for x in (small, same))
    np.testing.assert_allclose(steep.mean(1), 3 * flat.mean(1), rtol=1e-2)
    np.testing.assert_allclose(
        np.asarray(small)[:, 5, 9:11, 0].mean(1), np.asarray(same)[:, 5, 29:31, 0].mean(1), atol=0.1
    )
    for size in (0, 2.0, True):
        with pytest.raises(ValueError, match="size: must be a whole number of at least 1"):
            hashing.random_resized_crop(jax.random.key(0), batch, size=size)
