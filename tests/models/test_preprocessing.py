"""Preprocessing against Pillow, and the refusal of anything but uint8 RGB."""

import numpy as np
import PIL.Image
import pytest

from jcbir.models import Preprocessing, preprocess
from jcbir.models._pretrained import IMAGENET_KERAS, IMAGENET_TORCH


def smooth(height, width, entropy=0):
    g = np.random.default_rng(entropy)
    small = PIL.Image.fromarray(g.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), PIL.Image.Resampling.BICUBIC))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(50, 40), (20, 33), (24, 24)])
def test_against_pillow(shape, interpolation):
    record = Preprocessing(
        size=20, resize=24, interpolation=interpolation, scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    image = smooth(*shape)
    factor = 24 / min(shape)
    target = (round(shape[1] * factor), round(shape[0] * factor))
    wanted = PIL.Image.fromarray(image).resize(target, getattr(PIL.Image.Resampling, interpolation.upper()))
    left, top = (target[0] - 20) // 2, (target[1] - 20) // 2
    wanted = np.asarray(wanted.crop((left, top, left + 20, top + 20))).astype(int)
    got = np.asarray(preprocess(image[None], record)[0])
    assert got.min() >= 0
    assert got.max() <= 255
    # Pillow's cubic kernel has a=-0.5 as JAX's, and rounds after each axis.
    assert np.abs(got - wanted).max() <= 2
    assert np.abs(got - wanted).mean() < 0.3


def test_published_constants():
    pixels = np.full((1, 224, 224, 3), (10, 20, 30), np.uint8)
    keras = np.asarray(preprocess(pixels, IMAGENET_KERAS))[0, 0, 0]
    np.testing.assert_allclose(keras, [30 - 103.939, 20 - 116.779, 10 - 123.68], rtol=1e-5)
    torch = np.asarray(preprocess(pixels, IMAGENET_TORCH))[0, 0, 0]
    np.testing.assert_allclose(
        torch, [(10 / 255 - 0.485) / 0.229, (20 / 255 - 0.456) / 0.224, (30 / 255 - 0.406) / 0.225], rtol=1e-5
    )


@pytest.mark.parametrize(
    "images", [np.zeros((1, 8, 8, 3), np.float32), np.zeros((1, 8, 8, 1), np.uint8), np.zeros((8, 8, 3), np.uint8)]
)
def test_refusals(unchecked, images):
    with pytest.raises(ValueError, match="uint8"):
        preprocess(images, Preprocessing(size=8))


def test_wrong_size():
    with pytest.raises(ValueError, match="8 px"):
        preprocess(np.zeros((1, 9, 8, 3), np.uint8), Preprocessing(size=8))
    with pytest.raises(ValueError, match="at least size"):
        preprocess(np.zeros((1, 9, 8, 3), np.uint8), Preprocessing(size=8, resize=4))
