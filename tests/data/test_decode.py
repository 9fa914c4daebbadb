"""Decoding: every mode that Pillow writes, upright, opaque, square; broken bytes are a ValueError."""

import io

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from jcbir.data import decode_image


def encode(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def gradient(width: int, height: int, channels: int) -> np.ndarray:
    ramp = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, channels))
    return ramp.round().astype(np.uint8)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png_modes_are_close_to_their_gray(mode):
    gray = gradient(64, 64, 1)[..., 0]
    if mode == "I;16":
        image = Image.fromarray(gray.astype(np.uint16) * 257)
        assert image.mode == "I;16"
    else:
        image = Image.fromarray(gray).convert("L").convert(mode)
    shown = decode_image(encode(image, "PNG"), size=32)
    assert shown.shape == (32, 32, 3)
    assert shown.dtype == np.uint8
    want = decode_image(encode(Image.fromarray(gray), "PNG"), size=32)
    # A bilevel picture keeps the gray only on average over its dither.
    near = 20 if mode == "1" else 4
    columns = np.abs(shown.mean(0) - want.mean(0))
    assert columns.max() <= near


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("YCbCr", "JPEG"), ("CMYK", "TIFF"), ("LAB", "TIFF")])
def test_color_spaces(mode, kind):
    red = Image.new("RGB", (40, 40), (200, 30, 30))
    if mode == "LAB":
        from PIL import ImageCms

        image = ImageCms.profileToProfile(
            red, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    else:
        image = red.convert(mode)
    shown = decode_image(encode(image, kind), size=8).astype(int)
    assert np.abs(shown - [200, 30, 30]).max() <= 8


@pytest.mark.parametrize("mode", ["F", "I"])
def test_unbounded_modes_are_stretched(mode):
    values = np.linspace(-5, 2000, 64 * 64).reshape(64, 64)
    image = Image.fromarray(values.astype(np.float32 if mode == "F" else np.int32))
    assert image.mode == mode
    shown = decode_image(encode(image, "TIFF"), size=64)
    assert (shown.min(), shown.max()) == (0, 255)
    constant = Image.fromarray(np.full((9, 9), 7, np.float32))
    assert decode_image(encode(constant, "TIFF"), size=4).max() == 0
    broken = Image.fromarray(np.full((9, 9), np.nan, np.float32))
    with pytest.raises(ValueError, match="finite"):
        decode_image(encode(broken, "TIFF"), size=4)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_shows_white(mode):
    clear = Image.new("RGBA", (12, 12), (0, 0, 0, 0))
    options = {}
    if mode == "P":
        image, options = Image.new("P", (12, 12), 3), {"transparency": 3}
        image.putpalette(bytes(768))
    else:
        image = clear.convert(mode)
    assert decode_image(encode(image, "PNG", **options), size=6).min() == 255


def test_orientation_is_applied():
    image = Image.new("RGB", (30, 30), "black")
    image.paste("white", (0, 0, 30, 15))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = image.rotate(90, expand=True)
    shown = decode_image(encode(stored, "JPEG", exif=exif, quality=95), size=30)
    assert shown[:10].mean() > 240
    assert shown[-10:].mean() < 15


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (10, 10), color) for color in ("white", "black")]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(stream.getvalue(), size=5).min() > 250


@given(width=st.integers(1, 70), height=st.integers(1, 70), size=st.integers(1, 40))
def test_any_size_becomes_square(width, height, size):
    shown = decode_image(encode(Image.fromarray(gradient(width, height, 3)), "PNG"), size=size)
    assert shown.shape == (size, size, 3)


def test_the_centered_square_is_kept():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    assert decode_image(encode(Image.fromarray(wide), "PNG"), size=10).min() == 255


def test_same_size_is_lossless():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(decode_image(encode(Image.fromarray(pixels), "PNG"), size=32), pixels)


@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]), where=st.floats(0, 1), bits=st.integers(1, 255)
)
def test_damaged_bytes_never_escape_as_another_error(kind, where, bits):
    rng = np.random.default_rng(1)
    whole = encode(Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)), kind)
    position = int(where * (len(whole) - 1))
    flipped = whole[:position] + bytes([whole[position] ^ bits]) + whole[position + 1 :]
    for damaged in (flipped, whole[:position]):
        try:
            shown = decode_image(damaged, size=8)
        except ValueError:
            continue
        assert shown.shape == (8, 8, 3)


@pytest.mark.parametrize("encoded", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_not_an_image(encoded):
    with pytest.raises(ValueError, match=f"got {len(encoded)} bytes"):
        decode_image(encoded, size=8)


def test_size_must_be_positive():
    with pytest.raises(ValueError, match="size must be at least 1"):
        decode_image(b"", size=0)
