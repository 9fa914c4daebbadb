"""Image statistics against scikit-image, SciPy, and the noise they are about."""

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from skimage import metrics

from jcbir import cipher as image
from jcbir.cipher import analysis

SHAPES = st.sampled_from([(7, 7), (16, 16), (9, 31)])


def _noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@given(SHAPES, st.integers(0, 999), st.integers(0, 40))
def test_similarity_against_scikit_image(shape, seed, spread):
    a = _noise(seed, *shape)
    b = np.clip(a.astype(int) + np.random.default_rng(seed + 1).integers(-spread - 1, spread + 2, shape), 0, 255)
    b = b.astype(np.uint8)
    assert analysis.mse(a, b) == pytest.approx(metrics.mean_squared_error(a, b))
    if not np.array_equal(a, b):
        assert analysis.psnr(a, b) == pytest.approx(metrics.peak_signal_noise_ratio(a, b))
    # scikit-image averages over the windows that lie inside the image, as ours does.
    assert analysis.ssim(a, b) == pytest.approx(metrics.structural_similarity(a, b), abs=1e-9)


def test_entropy_and_chi_square_against_scipy():
    pixels = _noise(1, 64, 64) // 3
    counts = np.bincount(pixels.ravel(), minlength=256)
    assert analysis.entropy(pixels) == pytest.approx(scipy.stats.entropy(counts, base=2))
    assert analysis.chi_square(pixels) == pytest.approx(scipy.stats.chisquare(counts).statistic)
    assert analysis.chi_square_limit() == pytest.approx(scipy.stats.chi2.ppf(0.95, 255), rel=1e-4)


@pytest.mark.parametrize(("direction", "down", "right"), [("horizontal", 0, 1), ("vertical", 1, 0), ("diagonal", 1, 1)])
def test_correlation_against_numpy(direction, down, right):
    pixels = np.cumsum(_noise(2, 20, 30) // 32, axis=1).astype(np.uint8)
    x, y = pixels[: 20 - down, : 30 - right].ravel(), pixels[down:, right:].ravel()
    assert analysis.adjacent_correlation(pixels, direction=direction) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert np.isnan(analysis.adjacent_correlation(np.zeros((4, 4), np.uint8)))


def test_critical_values_hold_for_noise_and_match_the_publication():
    assert analysis.expected_npcr(256 * 256).low == pytest.approx(99.5693, abs=1e-4)
    assert analysis.expected_npcr(1024 * 1024).low == pytest.approx(99.5994, abs=1e-4)
    low, high = analysis.expected_uaci(256 * 256)[1:]
    assert (low, high) == (pytest.approx(33.2824, abs=2e-4), pytest.approx(33.6447, abs=2e-4))
    rates = [(analysis.npcr(_noise(i, 64, 64), _noise(i + 500, 64, 64))) for i in range(300)]
    outside = np.mean(np.array(rates) < analysis.expected_npcr(64 * 64).low)
    assert 0.02 < outside < 0.09
    levels = [(analysis.uaci(_noise(i, 64, 64), _noise(i + 500, 64, 64))) for i in range(300)]
    low, high = analysis.expected_uaci(64 * 64)[1:]
    assert 0.02 < np.mean([not low < v < high for v in levels]) < 0.09


@given(st.integers(0, 99), st.integers(1, 255))
def test_psnr_of_any_good_cipher_is_fixed_by_the_histogram(seed, top):
    plain = (_noise(seed, 128, 128).astype(np.int32) % (top + 1)).astype(np.uint8)
    assert analysis.psnr(plain, _noise(seed + 1, 128, 128)) == pytest.approx(analysis.ideal_psnr(plain), abs=0.15)


def test_our_cipher_reaches_the_ideal_values():
    row = np.linspace(0, 255, 128)
    plain = np.add.outer(row / 2, row / 2).astype(np.uint8)[..., None]
    names = {"key": bytes(32), "nonce": bytes(16)}
    noise = image.encrypt(plain, **names)
    assert analysis.psnr(plain, noise) == pytest.approx(analysis.ideal_psnr(plain), abs=0.1)
    assert analysis.entropy(noise) > 7.985
    assert analysis.chi_square(noise) < analysis.chi_square_limit(z=3.7)
    assert all(
        abs(analysis.adjacent_correlation(noise[..., 0], direction=d)) < 4 / 128
        for d in ("horizontal", "vertical", "diagonal")
    )
    for other in (
        image.encrypt(plain, key=bytes(31) + b"\1", nonce=bytes(16)),
        image.encrypt(plain, key=bytes(32), nonce=bytes(15) + b"\1"),
    ):
        assert analysis.flipped_bits(noise, other) == pytest.approx(0.5, abs=0.01)
        assert analysis.npcr(noise, other) > analysis.expected_npcr(128 * 128, z=4.0).low


@pytest.mark.parametrize("place", [(0, 0), (63, 63), (31, 7), (0, 63), (63, 0)])
def test_one_changed_pixel_changes_the_cipher_image(place):
    plain = _noise(4, 64, 64, 1)
    changed = plain.copy()
    changed[place] += 1
    names = {"key": bytes(32), "nonce": bytes(16)}
    a, b = image.encrypt(plain, **names), image.encrypt(changed, **names)
    assert analysis.npcr(a, b) > 99


def test_bad_input(unchecked):
    a = np.zeros((8, 8), np.uint8)
    with pytest.raises(ValueError, match="b: must have the shape"):
        analysis.mse(a, a[:4])
    with pytest.raises(ValueError, match="7 x 7"):
        analysis.ssim(a[:4], a[:4])
    with pytest.raises(ValueError, match="direction"):
        analysis.adjacent_correlation(a, direction="up")
    with pytest.raises(ValueError, match="image: must hold a horizontal pair"):
        analysis.adjacent_correlation(a[:, :1])
    with pytest.raises(ValueError, match="samples"):
        analysis.expected_npcr(0)
    with pytest.raises(ValueError, match="samples"):
        analysis.expected_uaci(0)
