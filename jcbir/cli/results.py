"""What a user keeps of a query: a folder with the photographs under their own names, a page to look at, a record.

Names and texts come from the owner of the collection, who need not mean well: nothing is written beside the folder,
nothing that a browser would run, and nothing is overwritten.
"""

import base64
import hashlib
import html
import json
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jcbir.cli.console import printable
from jcbir.data import decode_whole, encode_jpeg
from jcbir.protocol.user import Match
from jcbir.sealing import Photograph

PAGE, RECORD, QUERY = "index.html", "results.json", "query.jpg"

NAME_BYTES = 120
"""Of a file name, at most: file systems take 255, and some copy a name with something before or behind it."""

PREVIEW_SIDE = 640
"""Longest side of the query photograph on the page."""

SUFFIXES = {
    "image/jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "image/png": (".png", ".apng"),
    "image/webp": (".webp",),
    "image/gif": (".gif",),
    "image/avif": (".avif",),
    "image/bmp": (".bmp", ".dib"),
    "image/tiff": (".tif", ".tiff"),
    "image/jp2": (".jp2", ".j2k"),
    "image/heic": (".heic", ".heif"),
}
"""Media types that are written as what they are, and the suffixes that each may have; anything else is `.bin`."""

SHOWN = {"image/jpeg", "image/png", "image/webp", "image/gif", "image/avif", "image/bmp"}
"""Media types that every browser shows."""

_RESERVED = re.compile(r"(con|prn|aux|nul|clock\$|conin\$|conout\$|(com|lpt)[0-9\xb9\xb2\xb3])$", re.IGNORECASE)
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.45 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
ol { align-items: start; display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr));
  list-style: none; padding: 0; }
li, .query { border: 1px solid color-mix(in srgb, CanvasText 22%, transparent); border-radius: .5rem;
  padding: .75rem; }
figure { margin: 0; }
img { background: color-mix(in srgb, CanvasText 8%, transparent); border-radius: .25rem; display: block;
  height: 14rem; object-fit: contain; width: 100%; }
.query { max-width: 24rem; }
figcaption { margin-top: .5rem; overflow-wrap: anywhere; }
"""


def file_names(photographs: Sequence[Photograph | None], *, taken: Sequence[str] = ()) -> list[str | None]:
    """Names for photographs in one folder: their own as far as that is harmless, numbered where two would have one."""
    own = ["".join(_stem_and_suffix(photograph)) for photograph in photographs if photograph is not None]
    names = iter(free_names(own, taken=taken))
    return [None if photograph is None else next(names) for photograph in photographs]


def free_names(names: Sequence[str], *, taken: Sequence[str] = ()) -> list[str]:
    """Names for one folder, numbered where two would be one."""
    used, found = {_folded(name) for name in taken}, []
    for name in names:
        stem, suffix = os.path.splitext(name)
        number = 1
        while _folded(name) in used:
            number += 1
            name = f"{stem}-{number}{suffix}"
        used.add(_folded(name))
        found.append(name)
    return found


def harmless_name(name: str) -> str:
    """One path component that is close to a name, whatever the name holds; "" where nothing is left of it."""
    last = unicodedata.normalize("NFC", name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1])
    # Neither controls nor what turns the direction of writing, nor what has no meaning yet.
    kept = "".join(letter for letter in last if unicodedata.category(letter)[0] not in "CZ" or letter == " ")
    kept = re.sub(r'[<>:"|?*]', "_", kept).strip(". ")
    if kept.startswith("-") or _RESERVED.match(kept.split(".")[0].rstrip()):
        kept = f"_{kept}"
    while len(kept.encode()) > NAME_BYTES:
        kept = kept[:-1]
    return kept.rstrip(". ")


def save_results(
    out: Path, photograph: Path, content: bytes, matches: Sequence[Match], *, record: Mapping[str, Any]
) -> tuple[Path, list[str | None]]:
    """Write one query's folder, whole or not at all, under the first name that is free; the folder and its files."""
    asked = os.fsencode(photograph.name).decode("utf-8", "backslashreplace")
    files, names = result_files(asked, content, matches, record=record)
    out.mkdir(parents=True, exist_ok=True)
    draft = out / f".{secrets.token_hex(6)}.part"
    draft.mkdir()
    try:
        for name, held in files.items():
            (draft / name).write_bytes(held)
        return _put(draft, out, harmless_name(os.path.splitext(asked)[0]) or "query"), names
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError) and error.filename is None:
            # Of a full disk the system does not say which.
            error.filename = str(out)
        raise


def result_files(
    asked: str, content: bytes, matches: Sequence[Match], *, record: Mapping[str, Any]
) -> tuple[dict[str, bytes], list[str | None]]:
    """The files of one query's folder, and which is whose."""
    names = file_names([match.photograph for match in matches], taken=(PAGE, RECORD, QUERY))
    lines = [describe_match(match, name) for match, name in zip(matches, names, strict=True)]
    whole = {"image": asked, **record, "matches": lines}
    opened = zip(names, (match.photograph for match in matches), strict=True)
    files = {name: photograph.data for name, photograph in opened if name is not None and photograph is not None}
    files[QUERY] = encode_jpeg(decode_whole(content, longest_side=PREVIEW_SIDE))
    files[RECORD] = (json.dumps(whole, indent=1) + "\n").encode()
    files[PAGE] = contact_page(whole).encode()
    return files, names


def describe_match(match: Match, file: str | Path | None) -> dict[str, Any]:
    """A match as records have it; `file` is None where the grant does not open images."""
    about = {"image_id": match.image_id, "distance": match.distance, "file": file}
    if match.photograph is not None:
        about |= {field: told for field, told in match.photograph._asdict().items() if field != "data"}
    return about


def contact_page(record: Mapping[str, Any]) -> str:
    """The page of one query: a static file that shows what lies beside it, and can do nothing."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src 'self' file:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    asked = html.escape(printable(record["image"]))
    figures = "\n".join(_figure(place, match) for place, match in enumerate(record["matches"], 1))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{html.escape(policy, quote=True)}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{asked}: {len(record["matches"])} results</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Results for <bdi>{asked}</bdi></h1>
<figure class="query"><img src="{QUERY}" alt="the photograph that was asked with">
<figcaption>asked in <bdi>{html.escape(printable(str(record.get("collection", ""))))}</bdi></figcaption></figure>
<h2>{len(record["matches"])} results, nearest first</h2>
<ol>
{figures}
</ol>
</body>
</html>
"""


def _figure(place: int, match: Mapping[str, Any]) -> str:
    def shown(field: str) -> str:
        return html.escape(printable(match.get(field) or ""))

    name, link = shown("name") or shown("file") or shown("image_id"), quote(match["file"] or "")
    lines = [f"<strong>{place}. <bdi>{name}</bdi></strong>", f"distance {match['distance']}"]
    lines += [f"<bdi>{told}</bdi>" for told in (shown("taken").replace("T", " "), shown("caption")) if told]
    if not link:
        picture = "<p>not opened: the grant only ranks</p>"
    elif match["media_type"] in SHOWN:
        alt = shown("caption") or name
        picture = f'<a href="{link}"><img src="{link}" alt="{alt}" loading="lazy"></a>'
    else:
        picture = f'<p><a href="{link}">{html.escape(match["file"])}</a></p>'
    return f"<li><figure>{picture}<figcaption>{'<br>'.join(lines)}</figcaption></figure></li>"


def _stem_and_suffix(photograph: Photograph) -> tuple[str, str]:
    name = harmless_name(photograph.name)
    allowed = SUFFIXES.get(photograph.media_type, (".bin",))
    stem, suffix = os.path.splitext(name)
    if suffix.lower() in allowed and stem:
        return stem.rstrip(". ") or "photograph", suffix
    return name or "photograph", allowed[0]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _put(draft: Path, out: Path, name: str) -> Path:
    """Move a folder to the first name that is free."""
    number = 1
    while True:
        folder = out / (name if number == 1 else f"{name}-{number}")
        try:
            # Made first: a rename would put it in the place of an empty folder.
            folder.mkdir()
        except FileExistsError:
            number += 1
            continue
        os.replace(draft, folder)
        return folder
