"""Augmentation against a slow NumPy crop with reflected borders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jcbir import hashing


@pytest.fixture(scope="module")
def images():
    return np.asarray(jax.random.randint(jax.random.key(3), (64, 9, 7, 3), 0, 256)).astype(np.uint8)


def test_every_crop_is_a_window_of_the_reflected_image_and_all_windows_occur(images):
    cropped = np.asarray(hashing.random_crop(jax.random.key(0), np.repeat(images[:1], 64, 0), padding=2))
    padded = np.pad(images[0], ((2, 2), (2, 2), (0, 0)), mode="reflect")
    windows = {padded[i : i + 9, j : j + 7].tobytes() for i in range(5) for j in range(5)}
    got = {image.tobytes() for image in cropped}
    assert got <= windows
    assert len(got) > 15


def test_flip_is_the_image_or_its_mirror_about_half_of_the_time(images):
    flipped = np.asarray(hashing.random_flip(jax.random.key(0), images))
    same = (flipped == images).all((1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    assert (same | mirrored).all()
    assert 15 < mirrored.sum() < 49


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_dtype_and_shape_are_kept_and_jit_equals_eager(images, dtype):
    batch = images.astype(dtype)
    eager = hashing.crop_and_flip(jax.random.key(5), batch, padding=3)
    assert eager.shape == batch.shape
    assert eager.dtype == dtype
    jitted = jax.jit(lambda key, x: hashing.crop_and_flip(key, x, padding=3))(jax.random.key(5), batch)
    np.testing.assert_array_equal(eager, jitted)


def test_no_padding_is_the_identity(images):
    np.testing.assert_array_equal(hashing.random_crop(jax.random.key(0), jnp.asarray(images), padding=0), images)


@pytest.mark.parametrize("padding", [-1, 7])
def test_padding_beyond_the_image_is_refused(images, padding):
    with pytest.raises(ValueError, match="padding: must be from 0 to 6"):
        hashing.random_crop(jax.random.key(0), images, padding=padding)
