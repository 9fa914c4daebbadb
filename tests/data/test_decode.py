"""Decoding: every mode that Pillow writes, upright, opaque, in sRGB; broken bytes are a FormatError."""

import contextlib
import io
import os
import socket
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageCms

from jcbir.data import decode_image, decode_whole, read_encoded, read_image
from jcbir.errors import FormatError


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
        image = ImageCms.profileToProfile(
            red, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    else:
        image = red.convert(mode)
    shown = decode_image(encode(image, kind), size=8).astype(int)
    assert np.abs(shown - [200, 30, 30]).max() <= 8


@pytest.mark.parametrize(
    ("dtype", "top"),
    [("uint16", 65535), ("int32", 2**31 - 1), ("float32", 1.0)],
)
@pytest.mark.parametrize("share", [0.002, 0.3, 1.0])
def test_gray_of_many_bits_is_scaled_by_its_type(dtype, top, share):
    """The darkest and the brightest value of a picture say nothing about what is black and what is white."""
    values = np.linspace(0, share * top, 64 * 64).astype(dtype).reshape(64, 64)
    shown = decode_whole(encode(Image.fromarray(values), "TIFF"))
    want = np.rint(values.astype(np.float64) / top * 255)
    assert np.array_equal(shown, np.broadcast_to(want[..., None], (64, 64, 3)))
    assert np.array_equal(decode_image(encode(Image.fromarray(values), "TIFF"), size=64), shown)


def test_gray_beyond_its_range_is_clipped():
    values = np.array([[-3, 0.5, 7, np.inf, -np.inf, np.nan]], np.float32)
    assert decode_whole(encode(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == [0, 128, 255, 255, 0, 0]
    below = Image.fromarray(np.array([[-5, 2**31 - 1]], np.int32))
    assert decode_whole(encode(below, "TIFF"))[0, :, 0].tolist() == [0, 255]
    broken = Image.fromarray(np.full((9, 9), np.nan, np.float32))
    with pytest.raises(ValueError, match="finite"):
        decode_image(encode(broken, "TIFF"), size=4)


@pytest.mark.parametrize("top", [257, 1000, 65535])
def test_sixteen_bits_of_netpbm(top):
    values = np.linspace(0, top, 48).astype(">u2").reshape(6, 8)
    shown = decode_whole(b"P5 8 6 %d\n" % top + values.tobytes())
    assert np.abs(shown[..., 0] - values.astype(float) / top * 255).max() <= 0.51


@pytest.mark.parametrize(("bits", "inverted"), [(16, False), (16, True), (32, False)])
def test_unsigned_and_inverted_tiff(bits, inverted):
    """A TIFF written by hand: unsigned samples, and white as zero, which Pillow's own writer does not make."""
    values = np.linspace(0, 2**bits - 1, 12).astype(f"<u{bits // 8}").reshape(3, 4)
    tags = [
        (256, 4),
        (257, 3),
        (258, bits),
        (259, 1),
        (262, 1 - inverted),
        (273, 200),
        (278, 3),
        (279, values.nbytes),
    ]
    tags.append((339, 1))
    body = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    body += b"".join(struct.pack("<HHII", tag, 3 if value < 65536 else 4, 1, value) for tag, value in tags)
    shown = decode_whole(body.ljust(200, b"\0") + values.tobytes())[..., 0].astype(float)
    want = values / (2.0**bits - 1) * 255
    assert np.abs(shown - (255 - want if inverted else want)).max() <= 0.51


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
    assert decode_whole(encode(image, "PNG", **options)).min() == 255


def test_half_transparent_is_half_white():
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = 200, np.arange(16).reshape(4, 4) * 17
    shown = decode_whole(encode(Image.fromarray(pixels), "PNG"))
    share = pixels[..., 3:] / 255
    assert np.abs(shown - (share * pixels[..., :3] + (1 - share) * 255)).max() <= 1


def test_a_transparent_value_of_sixteen_bits():
    values = np.array([[0, 1000, 65535]], np.uint16)
    encoded = encode(Image.fromarray(values), "PNG")
    head = encoded.index(b"IDAT") - 4
    chunk = b"tRNS" + struct.pack(">H", 1000)
    encoded = encoded[:head] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + encoded[head:]
    assert decode_whole(encoded)[0, :, 0].tolist() == [0, 255, 255]


def exif_record(orientation: int, *, order: str = "<", odd: bool = False) -> bytes:
    """A TIFF directory by hand: tag 0x0112, and with `odd` entries that no reader could write again."""
    entries = [struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)]
    if odd:
        entries.insert(0, struct.pack(f"{order}HHII", 0x0100, 99, 7, 0xFFFFFFF0))
        entries.append(struct.pack(f"{order}HHII", 0x8769, 4, 1, 0xFFFFFFF0))
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    return b"Exif\0\0" + start + b"".join(entries) + bytes(4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "MPO", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied(orientation, kind):
    """The reference turns the array: EXIF names the sides on which row 0 and column 0 lie."""
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255
    upright[8:, 16:] = 90
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: upright.swapaxes(0, 1)[::-1],
        7: upright.swapaxes(0, 1)[::-1, ::-1],
        8: upright.swapaxes(0, 1)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    quality = {"quality": 95} if kind in ("JPEG", "MPO", "WEBP", "AVIF") else {}
    shown = decode_whole(encode(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **quality))
    assert shown.shape == upright.shape
    assert np.abs(shown.astype(int) - upright).mean() < 6


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("odd", [False, True])
def test_orientation_among_odd_entries(order, odd):
    picture = Image.new("RGB", (12, 6), "red")
    assert decode_whole(encode(picture, "JPEG", exif=exif_record(6, order=order, odd=odd))).shape == (12, 6, 3)


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff", exif_record(9), exif_record(0)]
)
def test_a_broken_record_leaves_the_picture(exif):
    assert decode_whole(encode(Image.new("RGB", (12, 6)), "JPEG", exif=exif)).shape == (6, 12, 3)


def rgb_profile(red, green, blue, *, gamma=2.2) -> bytes:
    """A matrix profile of ICC version 2 with these primaries (XYZ under D50)."""

    def fixed(*values):
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78), b"cprt": b"text\0\0\0\0none\0"}
    tags[b"wtpt"] = b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)
    for name, primary in ((b"r", red), (b"g", green), (b"b", blue)):
        tags |= {name + b"XYZ": b"XYZ \0\0\0\0" + fixed(*primary), name + b"TRC": curve}
    table, data, start = b"", b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        padded = value.ljust(-(-len(value) // 4) * 4, b"\0")
        table += name + struct.pack(">II", start + len(data), len(value))
        data += padded
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(">I", 128 + len(body)) + bytes(4) + struct.pack(">I", 0x02400000) + b"mntrRGB XYZ "
    return (
        head
        + struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
        + b"acsp"
        + bytes(28)
        + fixed(0.9642, 1, 0.8249)
        + bytes(48)
        + body
    )


PROFILES = {
    "Display P3": rgb_profile((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)),
    "Adobe RGB": rgb_profile((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)),
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_profiles_become_srgb(profile, mode):
    icc = PROFILES[profile]
    picture = Image.new("RGB", (16, 16), (200, 80, 60)).convert(mode, palette=Image.Palette.ADAPTIVE)
    embedded = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    want = ImageCms.profileToProfile(picture.convert("RGB"), embedded, ImageCms.createProfile("sRGB"))
    for shown in (
        decode_whole(encode(picture, "PNG", icc_profile=icc)),
        decode_image(encode(picture, "PNG", icc_profile=icc), size=8),
    ):
        assert np.abs(shown[0, 0].astype(int) - np.asarray(want)[0, 0]).max() <= 1
    assert mode == "L" or np.abs(shown[0, 0].astype(int) - (200, 80, 60)).max() > 5


def test_profiles_that_change_nothing():
    """sRGB keeps every level; a broken profile and one of another color space are as good as none."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    standard = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    foreign = PROFILES["Adobe RGB"].replace(b"mntrRGB ", b"mntrCMYK")
    for icc in (standard, b"broken", standard[:200], foreign):
        assert np.array_equal(decode_whole(encode(Image.fromarray(pixels), "PNG", icc_profile=icc)), pixels)


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


KINDS = ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "AVIF", "MPO", "PPM", "TGA", "ICO"]


def noise(side: int, *, seed: int = 1) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_the_content_says_what_it_is(kind, tmp_path):
    """Whatever the name: JPEG as `.jfif`, as `.png`, or without a suffix."""
    encoded = encode(Image.new("RGB", (32, 32), (200, 30, 30)), kind)
    for name in ("chrome.jfif", "lying.txt", "none"):
        (tmp_path / name).write_bytes(encoded)
        assert np.abs(read_image(tmp_path / name).astype(int) - (200, 30, 30)).max() <= 5


@given(kind=st.sampled_from(KINDS), where=st.floats(0, 1), bits=st.integers(1, 255))
def test_damaged_bytes_never_escape_as_another_error(kind, where, bits):
    whole = encode(noise(16), kind)
    position = int(where * (len(whole) - 1))
    flipped = whole[:position] + bytes([whole[position] ^ bits]) + whole[position + 1 :]
    for damaged in (flipped, whole[:position]):
        for decode in (lambda content: decode_image(content, size=8), decode_whole):
            try:
                shown = decode(damaged)
            except FormatError:
                continue
            assert shown.ndim == 3 and shown.shape[2] == 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG2000", "WEBP", "JPEG", "TIFF", "AVIF", "GIF", "BMP"])
@pytest.mark.parametrize("orientation", [None, 6])
def test_half_a_picture_is_refused(kind, orientation):
    """Pillow reports damage once: who asks for the pixels again gets a black picture, without a word."""
    exif = {} if orientation is None or kind in ("GIF", "BMP", "JPEG2000") else {"exif": exif_record(orientation)}
    whole = encode(noise(64), kind, **exif)
    for part in (0.5, 0.7, 0.9):
        for decode in (lambda content: decode_image(content, size=8), decode_whole):
            with pytest.raises(FormatError, match="must be a picture"):
                decode(whole[: int(part * len(whole))])


def test_damage_inside_png_and_jpeg_2000():
    """50 damaged files of each, checked by Pillow itself: what its first `load` refuses is never shown."""
    for kind in ("PNG", "JPEG2000"):
        whole, refused = encode(noise(48), kind), 0
        rng = np.random.default_rng(5)
        for _ in range(50):
            damaged = bytearray(whole)
            start = int(rng.integers(60, len(whole) - 40))
            damaged[start : start + 24] = rng.bytes(24)
            try:
                with Image.open(io.BytesIO(damaged)) as opened:
                    opened.load()
                continue
            except Exception:  # noqa: BLE001 - whatever Pillow raises
                refused += 1
            with pytest.raises(FormatError):
                decode_image(bytes(damaged), size=8)
            with pytest.raises(FormatError):
                decode_whole(bytes(damaged))
        assert refused > 20 or kind == "JPEG2000"


@pytest.mark.parametrize(
    "error", [RuntimeError("odd"), NotImplementedError(), MemoryError(), KeyError(5), RecursionError()]
)
def test_any_exception_of_a_reader_is_named(monkeypatch, tmp_path, error):
    def fail(*args, **kwargs):
        raise error

    noise(4).save(tmp_path / "odd.png")
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(
        FormatError, match=rf"odd\.png: encoded: must be a picture, got \d+ bytes: {type(error).__name__}"
    ):
        read_image(tmp_path / "odd.png")


def test_what_is_no_photograph():
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nquit\n"
    with pytest.raises(FormatError, match="PostScript"):
        decode_whole(script)
    thumbnail = Image.new("L", (4, 4))
    stream = io.BytesIO()
    thumbnail.save(stream, "TIFF", tiffinfo={254: 1})
    with pytest.raises(FormatError, match="raw photograph"):
        decode_whole(stream.getvalue())


def heic(side: int) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (2 * side, side), (200, 30, 30))).save(stream, quality=95)
    return stream.getvalue()


def test_heic():
    assert np.abs(decode_whole(heic(16)).astype(int) - (200, 30, 30)).max() <= 6
    with pytest.raises(FormatError):
        decode_whole(heic(16)[:200])


def test_heic_without_its_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(FormatError, match=r"jcbir\[heic\]"):
        decode_whole(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few dozen bytes that claims any size."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\0IDAT"


@pytest.mark.parametrize("side", [10_001, 100_000, 2**31 - 1])
def test_bombs_are_named(side):
    with pytest.raises(FormatError, match="at most 100000000"):
        decode_whole(bomb(side, side))
    with pytest.raises(FormatError, match="at most 100000000"):
        decode_image(bomb(side, side), size=8)


def test_a_large_photograph_is_scaled():
    """121 megapixels, more than are decoded at once: as JPEG read at half its size, otherwise named."""
    large = Image.new("L", (11_000, 11_000), 77)
    shown = decode_whole(encode(large, "JPEG", quality=30), most_pixels=10_000)
    assert shown.shape == (100, 100, 3)
    assert np.abs(shown.astype(int) - 77).max() <= 2
    assert decode_image(encode(large, "JPEG", quality=30), size=16).shape == (16, 16, 3)
    with pytest.raises(FormatError, match="at most 100000000"):
        decode_whole(encode(large, "JPEG", quality=30, progressive=True))


def in_scans(count: int, *, between: bytes = b"") -> bytes:
    """A JPEG whose last scan comes again and again, each after bytes that libjpeg skips."""
    whole = encode(Image.fromarray(gradient(24, 16, 1)[..., 0]), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + (between + last) * (count - whole.count(b"\xff\xda")) + whole[-2:]


@pytest.mark.parametrize("between", [b"", b"\0\x17", b"\xff\xff", b"\xff\xd0"])
def test_a_jpeg_of_too_many_scans_is_named(between):
    plain = decode_whole(in_scans(6))
    assert np.array_equal(decode_whole(in_scans(100, between=between)), plain)
    for read in (decode_whole, lambda encoded: decode_image(encoded, size=8)):
        with pytest.raises(FormatError, match="JPEG in 101 scans, at most 100 are decoded"):
            read(in_scans(101, between=between))


@pytest.mark.parametrize("after", [b"\0", b"\xd0", b""])
def test_a_long_run_of_fill_bytes_is_read_once(after):
    """Read again from each of them, a million would take an hour."""
    run = b"\xff" * 1_000_000 + after
    assert np.array_equal(decode_whole(in_scans(8, between=run)), decode_whole(in_scans(8)))


def test_what_looks_like_a_scan_is_none():
    """Inside a segment, and behind the end of the picture, where a telephone puts a film."""
    plain = in_scans(6)
    noted = b"\xff\xe5" + (2 + 400).to_bytes(2) + b"\xff\xda" * 200
    assert np.array_equal(decode_whole(plain[:2] + noted + plain[2:] + b"\xff\xda\0\2" * 200), decode_whole(plain))


@given(width=st.integers(1, 60), height=st.integers(1, 60), side=st.integers(1, 70), pixels=st.integers(1, 4000))
def test_limits_hold_and_shapes_stay(width, height, side, pixels):
    shown = decode_whole(encode(Image.new("RGB", (width, height)), "PNG"), longest_side=side, most_pixels=pixels)
    rows, columns = shown.shape[:2]
    assert 1 <= rows <= height and 1 <= columns <= width
    assert max(rows, columns) <= side
    assert rows * columns <= max(pixels, rows, columns)
    if width * height <= pixels and max(width, height) <= side:
        assert (rows, columns) == (height, width)


def test_the_whole_and_the_square_are_one_picture():
    picture = noise(40).resize((400, 300), Image.Resampling.BICUBIC)
    for kind in ("PNG", "JPEG", "WEBP"):
        encoded = encode(picture, kind)
        whole = Image.fromarray(decode_whole(encoded)[:, 50:350])
        reference = np.asarray(whole.resize((30, 30), Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(decode_image(encoded, size=30) - reference).mean() < 3


@pytest.mark.parametrize("encoded", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_not_an_image(encoded):
    with pytest.raises(ValueError, match=f"got {len(encoded)} bytes"):
        decode_image(encoded, size=8)


@given(
    content=st.binary(max_size=60),
    start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0", b"\0\0\0 ftypheic"]),
)
def test_arbitrary_bytes_are_no_crash(content, start):
    with contextlib.suppress(FormatError):
        assert decode_whole(start + content).shape[-1] == 3


def test_limits_must_be_positive():
    with pytest.raises(ValueError, match="size: must be at least 1"):
        decode_image(b"", size=0)
    for limits in ({"longest_side": 0}, {"most_pixels": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            decode_whole(b"", **limits)


@pytest.mark.skipif(os.name != "posix", reason="pipes and sockets have no names in folders elsewhere")
def test_what_is_no_file_never_hangs(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.jpg"))
        for path, kind in ((tmp_path / "pipe.jpg", "a named pipe"), (tmp_path, "a folder"), ("/dev/zero", "a device")):
            with pytest.raises(ValueError, match=kind):
                read_encoded(path)
        with pytest.raises(OSError):
            read_encoded(tmp_path / "socket.jpg")


def test_a_film_is_not_read_to_its_end(tmp_path):
    for name, size, reason in (
        ("film.mp4", (16 << 20) + 1, "of no known format"),
        ("long.mp4", (512 << 20) + 1, "at most"),
    ):
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(size)
        with pytest.raises(FormatError, match=reason):
            read_encoded(tmp_path / name)
    whole = encode(noise(8), "BMP").ljust((16 << 20) + 1, b"\0")
    (tmp_path / "padded.bmp").write_bytes(whole)
    assert read_encoded(tmp_path / "padded.bmp") == whole


@given(
    st.integers(640, 1400),
    st.integers(640, 1400),
    st.sampled_from([0, 2]),
    st.integers(70, 95),
    st.sampled_from([1, 3, 6]),
)
@settings(max_examples=15, deadline=None)
def test_a_jpeg_read_at_a_fraction_is_the_same_picture_within_a_level(width, height, subsampling, quality, orientation):
    g = np.random.default_rng(width * height)
    coarse = Image.fromarray(g.integers(0, 256, (24, 24, 3), np.uint8))
    picture = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    picture = (picture + g.normal(0, 6, picture.shape)).clip(0, 255).astype(np.uint8)
    tag = struct.pack("<2sHIHHHII", b"II", 42, 8, 1, 0x0112, 3, 1, orientation)
    content = encode(
        Image.fromarray(picture), "JPEG", quality=quality, subsampling=subsampling, exif=b"Exif\0\0" + tag + bytes(4)
    )
    whole = Image.open(io.BytesIO(content)).convert("RGB")
    side = min(width, height)
    box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    wanted = whole.resize((64, 64), Image.Resampling.BICUBIC, box=box)
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270}.get(orientation)
    wanted = np.asarray(wanted if turn is None else wanted.transpose(turn), np.int16)
    apart = np.abs(decode_image(content, size=64) - wanted)
    # Rounded twice: one sample in thousands may be two levels off.
    assert (apart > 1).mean() < 1e-3 and apart.max() <= 2
