"""Statistics that papers on image encryption print, with the value an ideal cipher gives beside each.

None of them proves security. The key stream of reference [50] passes nearly all, and seven chosen images undo it. The
PSNR least of all: for *any* cipher whose output is uniform and independent of the image, it is fixed by the plain
histogram alone (`ideal_psnr`), so "lowest PSNR" compares photographs, not ciphers.

All functions take uint8 images of one channel or many, and NumPy or JAX arrays; they compute in NumPy float64.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from jcbir.typing import Array, check_array, check_whole


class Expected(NamedTuple):
    """What an ideal cipher gives, and how far chance takes it.

    Attributes:
        mean: expected value.
        low: lower critical value (minus infinity for a one-sided test).
        high: upper critical value (infinity for a one-sided test).
    """

    mean: float
    low: float
    high: float


def mse(a: UInt8[Array, "*s"], b: UInt8[Array, "*s"]) -> float:
    """Mean squared error: `mean((a - b)^2)`.

    Args:
        a: Image.
        b: Image of the same shape.

    Returns:
        Error in squared gray levels, 0 to 65,025.

    Raises:
        ValueError: not uint8, or shapes differ.

    Example:
        >>> mse(np.zeros((2, 2), np.uint8), np.full((2, 2), 3, np.uint8))
        9.0

    References:
        The reimplemented paper, Eq. (9).
    """
    x, y = _pair(a, b)
    return float(np.mean((x - y) ** 2))


def psnr(a: UInt8[Array, "*s"], b: UInt8[Array, "*s"]) -> float:
    """Peak signal-to-noise ratio: `10 log10(255^2 / MSE)`.

    Args:
        a: Image.
        b: Image of the same shape.

    Returns:
        Decibels; infinity for equal images.

    Raises:
        ValueError: not uint8, or shapes differ.

    Example:
        >>> round(psnr(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)), 2)
        0.0

    References:
        The reimplemented paper, Eq. (10).
    """
    error = mse(a, b)
    return 10 * math.log10(255**2 / error) if error else math.inf


def ideal_psnr(plain: UInt8[Array, "*s"]) -> float:
    """PSNR between an image and any uniform, independent noise: `MSE = mean((P - 127.5)^2) + (256^2 - 1) / 12`.

    Args:
        plain: Plain image.

    Returns:
        Decibels, 4.8 (black and white) to 10.8 (all mid-gray): a property of the photograph, not of the cipher.

    Raises:
        ValueError: not uint8, or no sample.

    Example:
        >>> round(ideal_psnr(np.array([0, 255], np.uint8)), 1), round(ideal_psnr(np.array([127, 128], np.uint8)), 1)
        (4.8, 10.8)
    """
    x = _samples("plain", plain).astype(np.float64)
    return 10 * math.log10(255**2 / (float(np.mean((x - 127.5) ** 2)) + (256**2 - 1) / 12))


def ssim(a: UInt8[Array, "h w"], b: UInt8[Array, "h w"]) -> float:
    """Mean structural similarity over 7 x 7 windows, `K1 = 0.01, K2 = 0.03`, sample covariances.

    Args:
        a: One-channel image, at least 7 x 7.
        b: Image of the same shape.

    Returns:
        -1 to 1; 1 for equal images, near 0 for unrelated ones.

    Raises:
        ValueError: not uint8, or shapes differ or are below 7 x 7.

    Example:
        >>> ssim(np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8))
        1.0

    References:
        Wang, Bovik, Sheikh and Simoncelli, Image Quality Assessment, 2004, Eq. (13).
    """
    check_array("a", a, kind="uint8", form="[h, w]", rank=2)
    x, y = _pair(a, b)
    if min(x.shape) < 7:
        raise ValueError(f"a: must be at least 7 x 7, got {x.shape}")
    mx, my = _window_mean(x), _window_mean(y)
    sample = 49 / 48
    vx, vy = sample * (_window_mean(x * x) - mx * mx), sample * (_window_mean(y * y) - my * my)
    covariance = sample * (_window_mean(x * y) - mx * my)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mx * my + c1) * (2 * covariance + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(similarity.mean())


def entropy(image: UInt8[Array, "*s"]) -> float:
    """Shannon entropy of the gray levels: `-sum_v p_v log2 p_v`.

    Args:
        image: Image.

    Returns:
        Bits per sample, 0 to 8; n ideal samples give about `8 - 255 / (2 n ln 2)`.

    Raises:
        ValueError: not uint8, or no sample.

    Example:
        >>> entropy(np.arange(256, dtype=np.uint8))
        8.0
    """
    counts = np.bincount(_samples("image", image).ravel(), minlength=256)
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum()) + 0.0


def chi_square(image: UInt8[Array, "*s"]) -> float:
    """Chi-square of the histogram against uniform: `sum_v (n_v - n / 256)^2 / (n / 256)`.

    Args:
        image: Image.

    Returns:
        About 255 for uniform noise; above `chi_square_limit()` at a significance of 5 % it is not uniform.

    Raises:
        ValueError: not uint8, or no sample.

    Example:
        >>> chi_square(np.arange(256, dtype=np.uint8))
        0.0
    """
    counts = np.bincount(_samples("image", image).ravel(), minlength=256)
    expected = counts.sum() / 256
    return float(((counts - expected) ** 2).sum() / expected)


def chi_square_limit(*, z: float = 1.6449) -> float:
    """Critical value of `chi_square` with 255 degrees of freedom (Wilson and Hilferty's approximation).

    Args:
        z: Normal quantile of the significance; 1.6449 is 5 %.

    Returns:
        The limit.

    Example:
        >>> round(chi_square_limit(), 1)
        293.2
    """
    d = 255.0
    return d * (1 - 2 / (9 * d) + z * math.sqrt(2 / (9 * d))) ** 3


def adjacent_correlation(image: UInt8[Array, "h w"], *, direction: str = "horizontal") -> float:
    """Correlation of every pixel with its neighbor: `cov(x, y) / (sd(x) sd(y))` over all pairs.

    Args:
        image: One-channel image.
        direction: "horizontal", "vertical" or "diagonal".

    Returns:
        -1 to 1; n ideal pairs stay within `2 / sqrt(n)` of 0 in 95 % of images. NaN for a constant image.

    Raises:
        ValueError: not uint8, unknown direction, or no pair.

    Example:
        >>> round(adjacent_correlation(np.tile(np.arange(16, dtype=np.uint8), (4, 1))), 6)
        1.0
    """
    steps = {"horizontal": (0, 1), "vertical": (1, 0), "diagonal": (1, 1)}
    if direction not in steps:
        raise ValueError(f"direction: must be one of {sorted(steps)}, got {direction!r}")
    down, right = steps[direction]
    check_array("image", image, kind="uint8", form="[h, w]", rank=2)
    pixels = np.asarray(image, np.float64)
    x, y = pixels[: pixels.shape[0] - down, : pixels.shape[1] - right], pixels[down:, right:]
    if not x.size:
        raise ValueError(f"image: must hold a {direction} pair, got {list(pixels.shape)}")
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float((x * x).mean() * (y * y).mean()))
    return float((x * y).mean()) / scale if scale else math.nan


def npcr(a: UInt8[Array, "*s"], b: UInt8[Array, "*s"]) -> float:
    """Number of pixels change rate: `100 mean(a != b)`.

    Args:
        a: Cipher image.
        b: Cipher image of the same shape, of a plain image or key that differs a little.

    Returns:
        Percent; `expected_npcr` tells what two independent noises give.

    Raises:
        ValueError: not uint8, or shapes differ.

    Example:
        >>> npcr(np.array([1, 2], np.uint8), np.array([1, 3], np.uint8))
        50.0

    References:
        Wu, Noonan and Agaian, NPCR and UACI Randomness Tests for Image Encryption, 2011, Eq. (2).
    """
    x, y = _pair(a, b)
    return 100.0 * float((x != y).mean())


def uaci(a: UInt8[Array, "*s"], b: UInt8[Array, "*s"]) -> float:
    """Unified average changing intensity: `100 mean(|a - b|) / 255`.

    Args:
        a: Cipher image.
        b: Cipher image of the same shape.

    Returns:
        Percent; `expected_uaci` tells what two independent noises give.

    Raises:
        ValueError: not uint8, or shapes differ.

    Example:
        >>> uaci(np.array([0, 0], np.uint8), np.array([0, 255], np.uint8))
        50.0

    References:
        Wu, Noonan and Agaian 2011, Eq. (4).
    """
    x, y = _pair(a, b)
    return 100.0 * float(np.abs(x - y).mean()) / 255


def expected_npcr(samples: int, *, z: float = 1.6449) -> Expected:
    """NPCR of two independent uniform images: mean `100 * 255 / 256`, standard deviation from n Bernoulli draws.

    Args:
        samples: Samples n of an image.
        z: Normal quantile; 1.6449 is one-sided 5 %.

    Returns:
        Mean and critical values in percent; only a value below `low` speaks against the cipher.

    Raises:
        ValueError: `samples` is below 1.

    Example:
        >>> [round(v, 4) for v in expected_npcr(512 * 512)[:2]]
        [99.6094, 99.5893]

    References:
        Wu, Noonan and Agaian 2011, Eq. (10).
    """
    samples = check_whole("samples", samples, low=1)
    p = 255 / 256
    return Expected(100 * p, 100 * (p - z * math.sqrt(p * (1 - p) / samples)), math.inf)


def expected_uaci(samples: int, *, z: float = 1.9600) -> Expected:
    """UACI of two independent uniform images: mean `100 (257 / 768)`, standard deviation from n draws of |a - b|.

    Args:
        samples: Samples n of an image.
        z: Normal quantile; 1.96 is two-sided 5 %.

    Returns:
        Mean and critical values in percent.

    Raises:
        ValueError: `samples` is below 1.

    Example:
        >>> [round(v, 4) for v in expected_uaci(512 * 512)]
        [33.4635, 33.373, 33.5541]

    References:
        Wu, Noonan and Agaian 2011, Eq. (16).
    """
    samples = check_whole("samples", samples, low=1)
    gap = np.abs(np.subtract.outer(np.arange(256), np.arange(256))) / 255
    mean, spread = float(gap.mean()), float(gap.std()) / math.sqrt(samples)
    return Expected(100 * mean, 100 * (mean - z * spread), 100 * (mean + z * spread))


def flipped_bits(a: UInt8[Array, "*s"], b: UInt8[Array, "*s"]) -> float:
    """Share of differing bits: `mean(popcount(a xor b)) / 8`; the measure of key and plaintext sensitivity.

    Args:
        a: Cipher image.
        b: Cipher image of the same shape, under a key or of an image one bit away.

    Returns:
        0 to 1; 0.5 for unrelated images.

    Raises:
        ValueError: not uint8, or shapes differ.

    Example:
        >>> flipped_bits(np.array([0], np.uint8), np.array([3], np.uint8))
        0.25
    """
    _pair(a, b)
    return float(np.bitwise_count(np.asarray(a) ^ np.asarray(b)).mean()) / 8


def _samples(name: str, image: Array) -> np.ndarray:
    check_array(name, image, kind="uint8", form="[...]")
    if not np.size(image):
        raise ValueError(f"{name}: must hold a sample, got {list(np.shape(image))}")
    return np.asarray(image)


def _pair(a: Array, b: Array) -> tuple[np.ndarray, np.ndarray]:
    check_array("a", a, kind="uint8", form="[...]")
    check_array("b", b, kind="uint8", form="[...]")
    if np.shape(a) != np.shape(b) or not np.size(a):
        raise ValueError(f"b: must have the shape of a, not empty, got {list(np.shape(b))} for {list(np.shape(a))}")
    return np.asarray(a, np.float64), np.asarray(b, np.float64)


def _window_mean(values: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(values, (7, 7))
    return windows.mean(axis=(-2, -1))
