"""What is published of a photograph: the same pixels, the same way up, in the same colors; nothing else of the file."""

import contextlib
import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from jcbir.data import decode_image, decode_whole, describe, encode_jpeg, published_file, strip_metadata
from jcbir.errors import FormatError

SECRET = b"S3cretPlace"
NUMBERS = np.random.default_rng(7)
# Smooth, so that JPEG files of it are small; not symmetric, so that a turn shows.
SLOPE = np.add.outer(np.arange(24) * 5, np.arange(32) * 4).astype(np.uint8)
PIXELS = np.stack([SLOPE, 255 - SLOPE, SLOPE // 2], axis=-1)


def exif(orientation=1, *, taken="2024:05:01 12:30:00", offset=None):
    noted = Image.Exif()
    noted[0x010F] = SECRET.decode()
    if orientation != 1:
        noted[0x0112] = orientation
    inner = noted.get_ifd(0x8769)
    inner[0x9003] = taken
    if offset is not None:
        inner[0x9011] = offset
    noted.get_ifd(0x8825)[1] = SECRET.decode()
    return noted


def save(kind, *, mode="RGB", pixels=PIXELS, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def icc(*, version=2, extra=b"", curve=(2.2,)):
    """Display P3's primaries, with a secret in every place where a program may note one."""

    def fixed(*values):
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    def xyz(*values):
        return b"XYZ \0\0\0\0" + fixed(*values)

    tone = b"curv" + struct.pack(">II", 0, len(curve)) + b"".join(struct.pack(">H", round(v * 256)) for v in curve)
    text = b"desc" + bytes(4) + struct.pack(">I", 1 + len(SECRET)) + SECRET + bytes(79)
    tags = {
        b"desc": text, b"cprt": b"text\0\0\0\0" + SECRET, b"dmnd": text, b"meta": SECRET, b"vcgt": SECRET + extra,
        b"wtpt": xyz(0.9642, 1, 0.8249), b"rXYZ": xyz(0.5151, 0.2412, -0.0011), b"gXYZ": xyz(0.292, 0.6922, 0.0419),
        b"bXYZ": xyz(0.1571, 0.0666, 0.7841), b"rTRC": tone, b"gTRC": tone, b"bTRC": tone,
    }  # fmt: skip
    table, data = b"", b""
    for name, value in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(value))
        data += value.ljust(-(-len(value) // 4) * 4, b"\0")
    head = bytes(4) + bytes([version, 0, 0, 0]) + b"mntrRGB XYZ " + struct.pack(">6H", 2024, 5, 1, 12, 30, 0) + b"acsp"
    made = head + b"APPL" + bytes(4) + SECRET[:8] + bytes(8) + bytes(4) + fixed(0.9642, 1, 0.8249) + SECRET[:4]
    body = made.ljust(124, b"\0") + struct.pack(">I", len(tags)) + table + data
    return struct.pack(">I", 4 + len(body)) + body


def jpeg(orientation=1, **options):
    xmp = b"<x:xmpmeta><exif:GPSLatitude>" + SECRET + b"</exif:GPSLatitude></x:xmpmeta>"
    told = {"exif": exif(orientation), "comment": SECRET, "xmp": xmp, "dpi": (72, 72), "quality": 90}
    return save("JPEG", **{**told, **options})


def segment(marker, body):
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body


def png(orientation=1, **options):
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", SECRET.decode())
    text.add_text("Description", SECRET.decode(), zip=True)
    text.add_itxt("XML:com.adobe.xmp", SECRET.decode())
    return save("PNG", **{"exif": exif(orientation), "pnginfo": text, "dpi": (72, 72), **options})


def png_chunk(kind, body):
    return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)


def webp(orientation=1, **options):
    return save("WEBP", **{"exif": exif(orientation), "xmp": SECRET, "quality": 90, **options})


def mpo(orientation=1):
    """Two pictures in one file, each with an EXIF record; the second one behind the end of the first."""
    stream, second = io.BytesIO(), Image.fromarray(255 - PIXELS)
    Image.fromarray(PIXELS).save(
        stream, "MPO", save_all=True, append_images=[second], exif=exif(orientation), quality=90
    )  # fmt: skip
    return stream.getvalue()


def late_exif(orientation=1):
    """PNG whose record lies behind its pixels, as the standard allows."""
    plain = save("PNG")
    return plain[:-12] + png_chunk(b"eXIf", exif(orientation).tobytes()[6:]) + plain[-12:]


def with_thumbnail(orientation=1):
    """JFIF with a thumbnail of 4 x 4 pixels."""
    whole = jpeg(orientation)
    thumbnail = (SECRET * 5)[:48]
    head = segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1" + bytes([4, 4]) + thumbnail)
    extension = segment(0xE0, b"JFXX\0\x13" + bytes([2, 2]) + (SECRET * 2)[:12])
    return whole[:2] + head + extension + whole[20:]


FILES = {
    "baseline": jpeg,
    "progressive": lambda o=1: jpeg(o, progressive=True),
    "restarts": lambda o=1: jpeg(o, restart_marker_blocks=1),
    "profile": lambda o=1: jpeg(o, icc_profile=icc()),
    "gray": lambda o=1: jpeg(o, mode="L"),
    "four colors": lambda o=1: jpeg(o, mode="CMYK"),
    "two pictures": mpo,
    "thumbnail": with_thumbnail,
    "behind the end": lambda o=1: jpeg(o) + SECRET + jpeg(),
    "between scans": lambda o=1: insert_in_scans(jpeg(o, progressive=True)),
    "fill bytes": lambda o=1: jpeg(o)[:2] + b"\xff\xff" + jpeg(o)[2:],
    "png": png,
    "png palette": lambda o=1: png(o, mode="P", transparency=3),
    "png profile": lambda o=1: png(o, icc_profile=icc()),
    "png 16 bits": lambda o=1: save("PNG", mode="I;16", pixels=PIXELS[..., 0].astype(np.uint16), exif=exif(o)),
    "png late": late_exif,
    "png behind the end": lambda o=1: png(o) + SECRET,
    "png film": lambda o=1: png(o, save_all=True, append_images=[Image.fromarray(255 - PIXELS)]),
    "webp": webp,
    "webp lossless": lambda o=1: webp(o, lossless=True),
    "webp transparent": lambda o=1: webp(o, mode="RGBA", icc_profile=icc()),
    "webp film": lambda o=1: webp(o, save_all=True, append_images=[Image.fromarray(255 - PIXELS)]),
    "webp behind the end": lambda o=1: webp(o) + SECRET,
}


def insert_in_scans(whole):
    places = [place for place in range(len(whole)) if whole[place : place + 2] == b"\xff\xda"]
    for place in places[:0:-1]:
        whole = whole[:place] + segment(0xFE, SECRET) + segment(0xE5, SECRET) + whole[place:]
    assert len(places) > 2
    return whole


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_stays_and_nothing_else(name, orientation):
    original = FILES[name](orientation)
    published = published_file(original)
    assert SECRET in original and SECRET not in published.data and published.reencoded == ""
    assert np.array_equal(decode_whole(published.data), decode_whole(original))
    assert np.array_equal(decode_image(published.data, size=8), decode_image(original, size=8))
    assert describe(published.data)[:4] == describe(original)[:4] and describe(published.data).taken == ""
    if name != "png 16 bits":
        assert describe(original).orientation == orientation
    assert published.taken == describe(original).taken == "2024-05-01T12:30:00"
    # Pillow sees no more than the decoder: a second reader of the same file.
    with Image.open(io.BytesIO(published.data)) as opened:
        opened.load()
        noted = opened.getexif()
        assert set(noted) <= {0x0112} and noted.get(0x0112, 1) == orientation
        assert not {"comment", "xmp", "XML:com.adobe.xmp", "Comment"} & set(opened.info)
        with Image.open(io.BytesIO(original)) as before:
            before.load()
            assert ("icc_profile" in opened.info) == ("icc_profile" in before.info)
            assert opened.tobytes() == before.tobytes()
            if name != "two pictures":
                assert getattr(opened, "n_frames", 1) == getattr(before, "n_frames", 1)


@pytest.mark.parametrize("name", FILES)
def test_what_is_published_is_published_again_as_it_is(name):
    once = published_file(FILES[name](6)).data
    assert published_file(once).data == once


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("longest_side", [None, 32, 4000])
def test_a_file_without_metadata_comes_back_byte_for_byte(kind, longest_side):
    plain = save(kind)
    assert published_file(plain, longest_side=longest_side) == (plain, f"image/{kind.lower()}", "", "")


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("make", [jpeg, png, webp])
def test_a_profile_converts_as_it_did_and_says_nothing_else(make, version):
    """LittleCMS is the second reader: the colors that it makes, and what it finds of the tags."""
    noted = icc(version=version, extra=SECRET * 9000, curve=np.linspace(0, 255, 700) ** 2 / 255)
    original = make(icc_profile=noted)
    published = published_file(original).data
    with Image.open(io.BytesIO(published)) as opened:
        kept = opened.info["icc_profile"]
    assert SECRET[:4] not in kept and b"\x07\xe8" not in kept[24:36] and len(kept) < 2000
    before, after = (ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile for profile in (noted, kept))
    for name in ("red_colorant", "green_colorant", "blue_colorant", "media_white_point", "version", "rendering_intent"):
        assert getattr(before, name) == getattr(after, name), name
    assert after.profile_description == "color profile" and after.manufacturer is None
    shown = decode_whole(published)
    assert np.array_equal(shown, decode_whole(original))
    assert np.abs(shown.astype(int) - decode_whole(make())).max() > 5


def test_a_long_profile_is_in_many_segments():
    table = np.random.default_rng(1).random(60_000) * 255
    noted, kept = icc(curve=table), None
    for make in (jpeg, png, webp):
        with Image.open(io.BytesIO(published_file(make(icc_profile=noted)).data)) as opened:
            assert kept in (None, opened.info["icc_profile"])
            kept = opened.info["icc_profile"]
    assert 65_533 < len(kept) < len(noted)


def overlapping(size):
    """A profile in which the many tags that tables may have each begin one byte after another, and go to its end."""
    names = [f"{way}{intent}".encode() for way in ("A2B", "B2A", "D2B", "B2D") for intent in range(4)]
    begin = 132 + 12 * len(names)
    table = b"".join(name + struct.pack(">II", begin + n, size - begin - n) for n, name in enumerate(names))
    head = struct.pack(">I", size) + icc()[4:128] + struct.pack(">I", len(names))
    return (head + table).ljust(size, b"\x07")


@pytest.mark.parametrize("make", [jpeg, png, webp])
def test_a_profile_does_not_grow(make):
    size = 2_000_000 if make is jpeg else 200_000
    original = make(icc_profile=overlapping(size))
    published = published_file(original).data
    assert len(published) < len(original) + 200
    with Image.open(io.BytesIO(published)) as opened:
        assert "icc_profile" not in opened.info


@pytest.mark.parametrize("count", [255, 256, 511])
def test_a_profile_in_more_segments_than_can_be_counted_is_none(count):
    """Pillow compares the same two numbers."""
    whole = icc()
    cuts = [whole[len(whole) * n // count : len(whole) * (n + 1) // count] for n in range(count)]
    parts = [segment(0xE2, b"ICC_PROFILE\0" + bytes([1 + n & 255, count & 255]) + cut) for n, cut in enumerate(cuts)]
    plain = jpeg()
    with Image.open(io.BytesIO(published_file(plain[:2] + b"".join(parts) + plain[2:]).data)) as opened:
        assert ("icc_profile" in opened.info) == (count == 255)


@pytest.mark.parametrize("make", [jpeg, png, webp])
@pytest.mark.parametrize("noted", [SECRET, icc()[:200], icc()[:36] + SECRET + icc()[36:]])
def test_what_is_no_profile_stays_behind(make, noted):
    """The decoder takes such a one for none."""
    published = published_file(make(icc_profile=noted)).data
    with Image.open(io.BytesIO(published)) as opened:
        assert "icc_profile" not in opened.info
    assert published == published_file(make()).data


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "BMP", "JPEG2000", "PPM"])
def test_other_formats_become_jpeg_by_name(kind):
    options = {"exif": exif()} if kind == "TIFF" else {"comment": SECRET} if kind in ("GIF", "JPEG2000") else {}
    original = save(kind, **options)
    assert (SECRET in original) == bool(options)
    published = published_file(original)
    assert published.media_type == "image/jpeg" and "must be JPEG, PNG or WebP" in published.reencoded
    assert SECRET not in published.data
    shown, before = decode_whole(published.data).astype(int), decode_whole(original).astype(int)
    assert shown.shape == before.shape and np.abs(shown - before).mean() < 6
    assert published_file(original, keep_metadata=True).data == original


def test_kept_metadata_are_the_file_itself():
    for name, make in FILES.items():
        kept = published_file(make(3), keep_metadata=True, longest_side=32)
        assert kept.data == make(3) and kept.reencoded == "", name
    # What is reduced is another picture.
    assert SECRET not in published_file(jpeg(), keep_metadata=True, longest_side=31).data


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_larger_picture_is_reduced_upright(orientation):
    original = jpeg(orientation)
    published = published_file(original, longest_side=16)
    assert (published.media_type, published.reencoded, published.taken) == ("image/jpeg", "", "2024-05-01T12:30:00")
    upright = decode_whole(original, longest_side=16)
    assert describe(published.data)[:4] == ("image/jpeg", *upright.shape[1::-1], 1)
    assert np.abs(decode_whole(published.data).astype(int) - upright).mean() < 6
    with pytest.raises(ValueError, match="longest_side: must be at least 1, got 0"):
        published_file(original, longest_side=0)


@pytest.mark.parametrize(
    ("taken", "offset", "want"),
    [
        ("2024:05:01 12:30:00", "+02:00", "2024-05-01T12:30:00+02:00"),
        ("2024:05:01 12:30:00", "later", "2024-05-01T12:30:00"),
        ("2024:13:01 12:30:00", None, ""),
        ("    :  :     :  :  ", None, ""),
        ("0000:00:00 00:00:00", None, ""),
        ("<b>", None, ""),
        ("2024:05:01 12:30:00 and more", None, "2024-05-01T12:30:00"),
    ],
)
def test_dates_are_dates_or_nothing(taken, offset, want):
    for kind in ("JPEG", "PNG"):
        made = save(kind, exif=exif(taken=taken, offset=offset))
        assert describe(made).taken == want == published_file(made).taken


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(FILES)), st.integers(1, 8), st.floats(0, 1), st.integers(0, 9), st.binary(max_size=9))
def test_a_damaged_file_is_refused_or_shows_what_it_showed(name, orientation, share, length, put):
    whole = FILES[name](orientation)
    place = int(share * len(whole))
    hostile = whole[:place] + put + whole[place + length :]
    try:
        before = decode_whole(hostile)
    except FormatError:
        # What cannot be read is refused, or stripped of what nobody reads.
        with contextlib.suppress(FormatError):
            assert len(published_file(hostile).data) <= len(hostile) + 60
        return
    published = published_file(hostile)
    if not published.reencoded:
        assert np.array_equal(decode_whole(published.data), before)


@settings(max_examples=500)
@given(st.sampled_from([b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP", b""]), st.binary(max_size=90))
def test_any_bytes_end_in_a_file_or_an_error(begin, rest):
    with contextlib.suppress(FormatError):
        stripped = strip_metadata(begin + rest, orientation=1)
        assert len(stripped) <= len(begin + rest) and strip_metadata(stripped, orientation=1) == stripped


@pytest.mark.parametrize("make", [jpeg, png, webp])
def test_every_cut_is_an_error_or_the_whole_picture(make):
    whole = make()
    stripped = strip_metadata(whole, orientation=1)
    for end in range(len(whole)):
        with contextlib.suppress(FormatError):
            assert strip_metadata(whole[:end], orientation=1) == stripped


def test_what_decides_how_a_picture_looks_is_not_left_out():
    """A chunk without which the picture would be another one, and an orientation that has no place."""
    plain = save("PNG")
    with pytest.raises(FormatError, match="chunk b'CgBI'"):
        strip_metadata(plain[:33] + png_chunk(b"CgBI", b"\0" * 4) + plain[33:], orientation=1)
    with pytest.raises(FormatError, match="room for an orientation"):
        strip_metadata(save("WEBP"), orientation=6)
    # Two start markers, a marker without a length, a length below its own two bytes.
    for odd in (b"\xff\xd8", b"\xff\x01", b"\xff\xe1\0\1"):
        with pytest.raises(FormatError, match="must be JPEG to its end"):
            strip_metadata(b"\xff\xd8" + odd + save("JPEG")[2:], orientation=1)


@pytest.mark.parametrize("kind", [b"pHYs", b"gAMA", b"sRGB", b"sBIT", b"bKGD", b"cICP", b"cLLI", b"acTL"])
def test_a_chunk_that_is_longer_than_its_kind_stays_behind(kind):
    plain = save("PNG")
    assert published_file(plain[:33] + png_chunk(kind, SECRET) + plain[33:]).data == plain


def test_what_stands_in_a_mark_without_content_stays_behind():
    plain, segments = save("PNG"), save("JPEG")
    ended = plain[:-12] + png_chunk(b"IEND", SECRET)
    with pytest.raises(FormatError, match="chunk b'IEND'"):
        strip_metadata(ended, orientation=1)
    assert SECRET not in published_file(ended).data
    assert strip_metadata(segments[:2] + segment(0xDF, SECRET) + segments[2:], orientation=1) == segments


def test_a_frame_of_a_film_hides_nothing():
    film = webp(save_all=True, append_images=[Image.fromarray(255 - PIXELS)])
    place = film.index(b"ANMF")
    size = struct.unpack_from("<I", film, place + 4)[0]
    body = film[place + 8 : place + 8 + size] + b"note" + struct.pack("<I", 12) + SECRET + b"."
    longer = film[:place] + b"ANMF" + struct.pack("<I", len(body)) + body + film[place + 8 + size + (size & 1) :]
    longer = b"RIFF" + struct.pack("<I", len(longer) - 8) + longer[8:]
    assert SECRET in longer and SECRET not in published_file(longer).data
    assert published_file(longer).data == published_file(film).data


def test_bad_pictures_to_encode(unchecked):
    wrong = [np.zeros(shape, np.uint8) for shape in ((2, 2), (0, 2, 3), (2, 2, 4))]
    for bad in (*wrong, np.zeros((2, 2, 3))):
        with pytest.raises(ValueError, match="image: must be uint8"):
            encode_jpeg(bad)


def test_publishing_needs_no_jax():
    probe = "import sys; from jcbir.data import published_file; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False, env=dict(os.environ)).returncode == 0
