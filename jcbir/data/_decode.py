"""The one decoder: encoded photographs to RGB arrays, whole or square, by their content and never by their name.

Kept free of JAX, so that a decoding process starts in a fraction of a second.
"""

import contextlib
import functools
import io
import os
import re
import stat
import struct
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, UnidentifiedImageError

from jcbir.errors import FormatError

MAXIMUM_BYTES = 512 << 20
"""Most bytes of a file that is read."""

MAXIMUM_PIXELS = 100_000_000
"""Most pixels that are decoded at once; a JPEG with more is read at a half, a quarter or an eighth of its size."""

MOST_SCANS = 100
"""Most scans of a JPEG that is decoded, as in libtiff: a progressive one has about ten, and each passes over the whole
picture.
"""

JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker that begins a segment, without its fill bytes: to look for a run of those takes quadratic time."""

_IDENTIFIED_FIRST = 16 << 20
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_MEDIA_TYPES = {"HEIF": "image/heic", "MPO": "image/jpeg"}
"""Where Pillow has none, or an odd one."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation to what turns the picture upright."""

_PROFILED = {"RGB": ("RGB", {"1", "L", "P", "RGB", "YCbCr"}), "GRAY": ("L", {"1", "L"}), "CMYK": ("CMYK", {"CMYK"})}
"""Color space of a profile to the mode that it is applied in, and the modes that may carry it."""


class Description(NamedTuple):
    """What a picture file says of itself.

    Attributes:
        media_type: its format, such as "image/jpeg".
        width: pixels, before it is turned upright.
        height: likewise.
        orientation: of EXIF, 1 to 8; what is out of range counts as 1.
        taken: EXIF's time of the original in ISO 8601, with its offset from UTC where that is noted; "" where there is
            none.
    """

    media_type: str
    width: int
    height: int
    orientation: int
    taken: str


def decode_image(encoded: bytes, *, size: int) -> UInt8[np.ndarray, "s s 3"]:
    """Decode a photograph, upright, as the largest centered square, scaled to `size`: what a network sees.

    The first frame counts. Embedded profiles are converted to sRGB, transparency shows white, and gray with more than 8
    bits is scaled by the range of its type: `v * 255 / 65535` at 16 bits, floats from 0 to 1.

    Args:
        encoded: the content of an image file.
        size: pixels a side of the result.

    Returns:
        sRGB, 0 to 255.

    Raises:
        FormatError: the bytes are not a whole picture that Pillow (or `pillow-heif`) reads, or have too many pixels or
            scans.
        ValueError: `size` is below 1.

    Example:
        >>> picture = io.BytesIO()
        >>> Image.new("LA", (30, 20), (0, 0)).save(picture, "PNG")
        >>> decode_image(picture.getvalue(), size=8)[0, 0].tolist()
        [255, 255, 255]
    """
    if size < 1:
        raise ValueError(f"size: must be at least 1, got {size}")
    # JPEG can be read at a fraction of its size, four times as fast on camera photographs. From four times the pixels
    # wanted comes the same picture within a level; from twice as many comes one that is 5 levels off here and there.
    return _decode(encoded, lambda width, height: (4 * size, 4 * size), functools.partial(_square, size))


def decode_whole(
    encoded: bytes, *, longest_side: int | None = None, most_pixels: int = 1 << 26
) -> UInt8[np.ndarray, "h w 3"]:
    """Decode a photograph as `decode_image` does, but all of it: what a person sees.

    Args:
        encoded: the content of an image file.
        longest_side: most pixels of the result's longer side; None for no limit. Nothing is enlarged.
        most_pixels: most pixels of the result; a larger picture is scaled down.

    Returns:
        sRGB, 0 to 255.

    Raises:
        FormatError: as `decode_image`.
        ValueError: `longest_side` or `most_pixels` is below 1.

    Example:
        >>> picture = io.BytesIO()
        >>> Image.new("RGB", (30, 20), "red").save(picture, "PNG")
        >>> decode_whole(picture.getvalue()).shape, decode_whole(picture.getvalue(), longest_side=15).shape
        ((20, 30, 3), (10, 15, 3))
    """
    if most_pixels < 1 or (longest_side is not None and longest_side < 1):
        raise ValueError(f"longest_side, most_pixels: must be at least 1, got {longest_side!r} and {most_pixels!r}")

    def target(width: int, height: int) -> tuple[int, int]:
        scale = min(1.0, (most_pixels / (width * height)) ** 0.5, (longest_side or width + height) / max(width, height))
        return max(1, int(width * scale + 1e-6)), max(1, int(height * scale + 1e-6))

    def shrink(picture: Image.Image, width: int, height: int) -> Image.Image:
        # Lanczos needs little of a picture that is many times too large.
        wanted = target(*picture.size)
        return picture if wanted == picture.size else picture.resize(wanted, Image.Resampling.LANCZOS, reducing_gap=3)

    return _decode(encoded, lambda *size: tuple(2 * side for side in target(*size)), shrink)


def read_encoded(path: str | os.PathLike[str]) -> bytes:
    """The content of a picture file; a pipe or a device never hangs the caller, a film is not read to its end.

    Args:
        path: the file.

    Returns:
        Its bytes.

    Raises:
        FormatError: more than 512 MiB, or a file of more than 16 MiB that is no picture.
        ValueError: not a file.
        OSError: the file cannot be read.

    Example:
        >>> read_encoded("/dev/null")
        Traceback (most recent call last):
        ...
        ValueError: path: must be a file, got '/dev/null', a device
    """
    # Opened without waiting: a named pipe would wait for its writer forever.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError(f"path: must be a file, got {shown_path(path)!r}, {kind_of(about.st_mode)}")
        if about.st_size > MAXIMUM_BYTES:
            raise FormatError(f"path: must be at most {MAXIMUM_BYTES} bytes, got {about.st_size}")
        with open(descriptor, "rb", closefd=False) as stream:
            if about.st_size > _IDENTIFIED_FIRST:
                try:
                    _open(stream)
                except Exception as error:
                    raise FormatError(f"path: must be a picture, got {shown_path(path)!r}: {_reason(error)}") from error
                stream.seek(0)
            return stream.read(MAXIMUM_BYTES)
    finally:
        os.close(descriptor)


def read_image(path: str | os.PathLike[str], *, longest_side: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """`decode_whole` of a file.

    Args:
        path: the file.
        longest_side: as `decode_whole`.

    Returns:
        sRGB, 0 to 255.

    Raises:
        FormatError: not a picture, damaged or too large; the message names the file.
        OSError: the file cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (3, 2), "red").save(f"{folder}/a.png")
        ...     read_image(f"{folder}/a.png")[1, 2].tolist()
        [255, 0, 0]
    """
    try:
        return decode_whole(read_encoded(path), longest_side=longest_side)
    except FormatError as error:
        raise FormatError(f"{shown_path(path)}: {error}") from error


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path as text that can be printed, hashed and sent, whatever bytes it holds."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def kind_of(mode: int) -> str:
    """What stands in a folder in place of a file."""
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def describe(encoded: bytes) -> Description:
    """Read what a picture file says of itself, without decoding the picture.

    Args:
        encoded: the content of an image file.

    Returns:
        `Description`.

    Raises:
        FormatError: the bytes are not a picture that Pillow (or `pillow-heif`) reads.

    Example:
        >>> picture, noted = io.BytesIO(), Image.Exif()
        >>> noted.get_ifd(0x8769)[0x9003] = "2024:05:01 12:30:00"
        >>> Image.new("RGB", (30, 20)).save(picture, "JPEG", exif=noted)
        >>> describe(picture.getvalue())
        Description(media_type='image/jpeg', width=30, height=20, orientation=1, taken='2024-05-01T12:30:00')
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _open(io.BytesIO(encoded)) as opened:
                # What `pillow-heif` opened has no format.
                kind = opened.format or "HEIF"
                media_type = _MEDIA_TYPES.get(kind) or Image.MIME.get(kind, "application/octet-stream")
                if kind == "PNG" and (b"eXIf" in encoded or b"Raw profile type exif" in encoded):
                    # The record may lie behind the pixels.
                    opened.load()
                orientation = _orientation(opened.info)
                return Description(
                    media_type,
                    *opened.size,
                    orientation if orientation in _UPRIGHT else 1,
                    _taken(opened.info),
                )
    except Exception as error:
        raise FormatError(f"encoded: must be a picture, got {len(encoded)} bytes: {_reason(error)}") from error


def _decode(
    encoded: bytes, draft: Callable[[int, int], tuple[int, int]], finish: Callable[[Image.Image, int, int], Image.Image]
) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            # A large photograph or odd metadata is no reason to bother the user; what cannot be read is named anyway.
            warnings.simplefilter("ignore")
            with _open(io.BytesIO(encoded)) as opened:
                size = opened.size
                if encoded[:2] == b"\xff\xd8":
                    _check_scans(encoded)
                _draft(opened, draft(*size))
                # Only once: Pillow's second `load` after an error is silent, and the picture black.
                opened.load()
                turn = _UPRIGHT.get(_orientation(opened.info))
                picture = finish(_rgb(opened), *size)
                return np.array(picture if turn is None else picture.transpose(turn))
    except Exception as error:
        # Pillow's readers raise nearly everything on files that are cut, forged or of another format.
        raise FormatError(f"encoded: must be a picture, got {len(encoded)} bytes: {_reason(error)}") from error


def _square(size: int, picture: Image.Image, width: int, height: int) -> Image.Image:
    """The largest centered square of a picture of `width` x `height` that was perhaps read at a fraction of it."""
    # In pixels of the whole picture: the last row and column of a fraction stand for less than the others.
    side, factor = min(width, height), round(width / picture.width)
    edges = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    box = tuple(edge / factor for edge in edges)
    return picture.resize((size, size), Image.Resampling.BICUBIC, box=box)


def _open(stream: io.BufferedIOBase) -> Image.Image:
    head = stream.read(64)
    stream.seek(0)
    brands = {head[i : i + 4] for i in range(8, 64, 4)} if head[4:8] == b"ftyp" else set()
    if brands & _HEIC and not brands & {b"avif", b"avis"}:
        try:
            import pillow_heif
        except ModuleNotFoundError as error:
            raise ValueError("HEIC, which needs the package pillow-heif: pip install 'jcbir[heic]'") from error
        heif = pillow_heif.open_heif(stream)
        _check_pixels(*heif.size)
        return heif.to_pillow()
    opened = Image.open(stream)
    if opened.format == "EPS":
        # Pillow would run Ghostscript on it.
        raise ValueError("PostScript, which is a program")
    if opened.format == "TIFF" and opened.tag_v2.get(254, 0) & 1:  # type: ignore[attr-defined]
        raise ValueError("a raw photograph, whose first picture is a reduced one")
    return opened


def _draft(opened: Image.Image, size: tuple[int, int]) -> None:
    """Choose the fraction at which a JPEG is read, and refuse what would take too much memory even so."""
    width, height = opened.size
    if not opened.info.get("progressive"):
        # The coefficients of a progressive JPEG are kept in memory at full size.
        limit = int((width * height / MAXIMUM_PIXELS) ** 0.5) + 1
        opened.draft("RGB", (min(size[0], max(1, width // limit)), min(size[1], max(1, height // limit))))
    elif width * height <= MAXIMUM_PIXELS:
        opened.draft("RGB", size)
    _check_pixels(*opened.size)


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAXIMUM_PIXELS:
        raise ValueError(f"{width} x {height} pixels, at most {MAXIMUM_PIXELS} are decoded")


def _check_scans(encoded: bytes) -> None:
    """Refuse a JPEG that would take minutes; what lies between two segments is skipped, as libjpeg does."""
    scans, place = 0, 2
    while (found := JPEG_MARKER.search(encoded, place)) and encoded[found.end() - 1] != 0xD9:
        marker, place = encoded[found.end() - 1], found.end()
        if marker not in (0x01, 0xD8):
            place += max(2, int.from_bytes(encoded[place : place + 2]))
        scans += marker == 0xDA
    if scans > MOST_SCANS:
        raise ValueError(f"JPEG in {scans} scans, at most {MOST_SCANS} are decoded")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        # Pillow's own message names a memory address here.
        return "of no known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"more pixels than anybody takes, at most {MAXIMUM_PIXELS} are decoded"
    text = " ".join(str(error).split())
    return text if text and isinstance(error, (OSError, ValueError)) else f"{type(error).__name__} {text}".strip()


def _orientation(info: dict) -> int:
    """Tag 0x0112 in the first directory of the EXIF record; 1 where there is none, or the record is broken."""
    body, order, first = _exif(info)
    try:
        for tag, kind, place in _entries(body, order, first):
            if tag == 0x0112:
                return struct.unpack_from(order + {1: "B", 4: "I"}.get(kind, "H"), body, place)[0]
    except struct.error:
        pass
    return 1


def _taken(info: dict) -> str:
    """Tags 0x9003 and 0x9011 in the directory that tag 0x8769 leads to, in ISO 8601; "" where there is no such date."""
    body, order, first = _exif(info)
    texts = {}
    try:
        (inner,) = [place for tag, _, place in _entries(body, order, first) if tag == 0x8769]
        for tag, _, place in _entries(body, order, *struct.unpack_from(f"{order}I", body, inner)):
            if tag in (0x9003, 0x9011):
                count, start = struct.unpack_from(f"{order}II", body, place - 4)
                texts[tag] = body[start : start + min(count, 20)].decode("ascii").strip("\0 ")
        moment = datetime.strptime(texts[0x9003], "%Y:%m:%d %H:%M:%S").isoformat()
    except (struct.error, ValueError, KeyError):
        return ""
    offset = texts.get(0x9011, "")
    return moment + (offset if re.fullmatch(r"[+-]\d\d:\d\d", offset, re.ASCII) else "")


def _exif(info: dict) -> tuple[bytes, str, int]:
    """The EXIF record of a picture, its byte order and the place of its first directory."""
    exif = info.get("exif") or b""
    if not exif and "Raw profile type exif" in info:
        with contextlib.suppress(ValueError):
            exif = bytes.fromhex("".join(str(info["Raw profile type exif"]).split("\n")[3:]))
    body = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(body[:2], "<")
    return body, order, int.from_bytes(body[4:8], "little" if order == "<" else "big")


def _entries(body: bytes, order: str, first: int) -> Iterator[tuple[int, int, int]]:
    """Tag, type and place of the value of each entry of a directory."""
    (count,) = struct.unpack_from(f"{order}H", body, first)
    for entry in range(first + 2, first + 2 + 12 * count, 12):
        yield *struct.unpack_from(f"{order}HH", body, entry), entry + 8


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode as opaque sRGB."""
    profile, alpha = image.info.get("icc_profile"), None
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image, alpha = _eight_bits(image)
    elif image.mode == "LAB":
        standard = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, ImageCms.createProfile("LAB"), standard, outputMode="RGB")
    elif image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        gray = image.mode in ("1", "L", "LA", "La")
        straight = image.convert("RGBA")
        image, alpha = straight.getchannel("R") if gray else straight.convert("RGB"), straight.getchannel("A")
    image = _standard(image, profile)
    return image if alpha is None else Image.composite(image, Image.new("RGB", image.size, "white"), alpha)


def _standard(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Embedded profile to sRGB; one that is broken, or of another color space, is as good as none."""
    if icc:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            mode, carriers = _PROFILED.get(profile.profile.xcolor_space.strip(), ("", set()))
            if image.mode in carriers:
                image = image.convert(mode)
                transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
                if not _is_identity(transform, mode):
                    return ImageCms.applyTransform(image, transform)
        except (OSError, ImageCms.PyCMSError):
            pass
    return image.convert("RGB")


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a profile is sRGB up to its rounding, as most are: pixels then stay as they are."""
    if mode == "CMYK":
        return False
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    probe = Image.fromarray(cube if mode == "RGB" else cube[..., 0])
    shown = np.asarray(ImageCms.applyTransform(probe, transform), int)
    return int(np.abs(shown - np.asarray(probe.convert("RGB"), int)).max()) <= 1


def _eight_bits(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Gray of more than 8 bits, scaled by the range of its type, and its mask where a value means transparent."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    bits, signed = tags.get(258, (16,))[0], tags.get(339, (1,))[0] == 2
    if image.mode == "F":
        if not any(np.isfinite(row).any() for row in values):
            raise ValueError("no pixel is a finite number")
        top = 1.0
    else:
        top = float((1 << (bits - signed)) - 1)
        if bits == 32 and not signed:
            values = values.view(np.uint32)
    gray = np.empty(values.shape, np.uint8)
    for row, scaled in zip(values, gray, strict=True):
        # A row at a time: the float64 of a whole picture would take eight times its memory.
        scaled[:] = np.rint(np.clip(np.nan_to_num(row.astype(np.float64), posinf=top) / top, 0, 1) * 255)
    if tags.get(262) == 0:
        gray = 255 - gray
    key = image.info.get("transparency")
    mask = Image.fromarray(np.where(values == key, np.uint8(0), np.uint8(255))) if isinstance(key, int) else None
    return Image.fromarray(gray), mask
