"""What a user keeps of a query: whatever an owner calls a photograph, it stays in the folder and does nothing."""

import html.parser
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir.cli import results
from jcbir.cli.results import PAGE, QUERY, RECORD, contact_page, file_names, harmless_name, save_results
from jcbir.data import encode_jpeg
from jcbir.protocol.user import Match
from jcbir.sealing import Photograph

ASKED = encode_jpeg(np.zeros((4, 6, 3), np.uint8))
ABOUT = {"collection": "holidays", "scheme": "packed", "head": 1, "audited": 0}
HOSTILE = [
    "../../x.jpg", "/etc/passwd", "..", ".", "", "a/../../b.jpg", "..\\..\\x.jpg", "C:\\x.jpg", "C:x.jpg",
    "x.jpg\0.html", "CON", "con.jpg", "NUL.tar.jpg", "LPT1 .jpg", "COM\xb9.jpg", "aux", "clock$.jpg", ".bashrc",
    "-rf.jpg", " x.jpg ", "x.jpg.", "x. . .", "a" * 5000 + ".jpg", "\u20ac" * 400 + ".jpg", "a\nb.jpg",
    "\x1b[31mred.jpg", "\u202egpj.exe", "x.html", "x.svg", "x.jpg.exe", "index.html", "results.json", "query.jpg",
    "QUERY.JPG", "a<b>'\"&.jpg", "x?*|:.jpg", "\ufeff.jpg", "\u2028.jpg", "\ud7ff\ue000.jpg", "e\u0301.jpg",
    "\xe9.jpg", "\ufb01.jpg", "javascript:alert(1)", "%2e%2e%2fx.jpg", "~", "~root/x.jpg", "$(id).jpg", "`id`.jpg",
    "desktop.ini", "Thumbs.db", "#x.jpg", "x#y?z.jpg",
]  # fmt: skip
TAGS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "bdi", "figure", "img", "figcaption", "ol", "li", "a",
    "strong", "br", "span", "p",
}  # fmt: skip
ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "class", "src", "alt", "href", "loading"}
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
TYPES = st.one_of(st.sampled_from([*results.SUFFIXES, "text/html", "image/svg+xml", "image/jpeg\nx", ""]), TEXTS)
PHOTOGRAPHS = st.builds(Photograph, st.just(b"..."), TYPES, TEXTS, TEXTS, TEXTS)


def match(photograph, place=0):
    return Match(f"{place:032x}", place, photograph)


@given(st.lists(st.one_of(st.none(), PHOTOGRAPHS), max_size=8))
def test_names_stay_in_their_folder_and_differ(photographs):
    names = file_names(photographs, taken=(PAGE, RECORD, QUERY))
    assert [name is None for name in names] == [photograph is None for photograph in photographs]
    given = [name for name in names if name is not None]
    folded = [unicodedata.normalize("NFC", name).casefold() for name in (*given, PAGE, RECORD, QUERY)]
    assert len(set(folded)) == len(folded)
    suffixes = {".bin", *(suffix for each in results.SUFFIXES.values() for suffix in each)}
    for name in given:
        assert Path(name).name == name and name not in ("", ".", "..")
        assert os.path.splitext(name)[1].lower() in suffixes
        assert not set(name) & set('/\\:<>"|?*\0') and name[0] not in ".- " and name[-1] not in ". "
        assert all(unicodedata.category(letter)[0] != "C" for letter in name)
        reserved = {"CON", "PRN", "AUX", "NUL", "CLOCK$", "LPT1", "COM" + "\xb9"}
        assert name.split(".")[0].strip().upper() not in reserved
        assert len(name.encode()) <= 200


@pytest.mark.parametrize(
    ("name", "media_type", "want"),
    [
        ("beach.jpg", "image/jpeg", "beach.jpg"),
        ("B\xeaach 2024 (final).JPEG", "image/jpeg", "B\xeaach 2024 (final).JPEG"),
        ("e\u0301.png", "image/png", "\xe9.png"),
        ("no suffix", "image/webp", "no suffix.webp"),
        ("photo.heic", "image/jpeg", "photo.heic.jpg"),
        ("page.html", "text/html", "page.html.bin"),
        ("../../x", "image/png", "x.png"),
        ("CON", "image/png", "_CON.png"),
        ("-rf.png", "image/png", "_-rf.png"),
        (".png", "image/png", "png.png"),
        ("", "image/png", "photograph.png"),
    ],
)
def test_a_harmless_name_is_kept(name, media_type, want):
    assert file_names([Photograph(b"...", media_type, name)]) == [want]


def test_names_that_collide_are_numbered():
    names = ["a.jpg", "A.JPG", "a.jpg", "a-2.jpg", "query.jpg", "a" * 300, "a" * 301]
    found = file_names([Photograph(b"...", "image/jpeg", name) for name in names], taken=[QUERY])
    assert found == [
        "a.jpg", "A-2.JPG", "a-3.jpg", "a-2-2.jpg", "query-2.jpg", "a" * 120 + ".jpg", "a" * 120 + "-2.jpg",
    ]  # fmt: skip
    assert harmless_name("a/b/c/") == "c"


class Reader(html.parser.HTMLParser):
    """Every tag with its attributes, and the text."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@given(st.lists(PHOTOGRAPHS, max_size=4), TEXTS)
def test_the_page_is_static_whatever_the_texts(photographs, asked):
    names = file_names(photographs, taken=(PAGE, RECORD, QUERY))
    lines = [results.describe_match(match(each), name) for each, name in zip(photographs, names, strict=True)]
    reader = Reader()
    reader.feed(contact_page({**ABOUT, "collection": asked, "image": asked, "matches": lines}))
    assert {tag for tag, _ in reader.tags} <= TAGS
    for _, attributes in reader.tags:
        assert set(attributes) <= ATTRIBUTES
        for place in ("src", "href"):
            # Relative, of one component: neither a scheme nor a way out of the folder.
            assert ":" not in attributes.get(place, "") and "/" not in attributes.get(place, "")
    assert sum(tag == "style" for tag, _ in reader.tags) == 1
    assert sum(tag == "li" for tag, _ in reader.tags) == len(photographs)
    policy = next(a["content"] for tag, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "script" not in policy


@given(TEXTS)
def test_a_pseudonym_is_a_text_like_any_other(image_id):
    # The owner's authority names it, and a grant that only ranks shows nothing else.
    reader = Reader()
    line = results.describe_match(Match(f"<meta http-equiv=refresh content=0;//a>{image_id}", 0, None), None)
    reader.feed(contact_page({**ABOUT, "image": "a", "matches": [line]}))
    assert sum(tag == "meta" for tag, _ in reader.tags) == 4 and "<meta http-equiv=refresh" in reader.text


def test_a_folder_holds_files_page_and_record(tmp_path):
    evil = Photograph(b"evil", "text/html", "../../x.html", "<i>", "<script>alert(1)</script>")
    beach = Photograph(ASKED, "image/jpeg", "beach.jpg", "2024-05-01T12:30:00", "The four of us")
    found = [match(beach), match(evil, 1), match(beach, 2), match(None, 3)]
    folder, names = save_results(tmp_path / "results", Path("holiday.jpg"), ASKED, found, record=ABOUT)
    assert folder == tmp_path / "results" / "holiday"
    assert names == ["beach.jpg", "x.html.bin", "beach-2.jpg", None]
    assert sorted(file.name for file in tmp_path.rglob("*")) == sorted(
        ["results", "holiday", "beach.jpg", "x.html.bin", "beach-2.jpg", QUERY, PAGE, RECORD]
    )
    assert (folder / "beach.jpg").read_bytes() == ASKED and (folder / "x.html.bin").read_bytes() == b"evil"
    record = json.loads((folder / RECORD).read_text())
    assert record["image"] == "holiday.jpg" and record["scheme"] == "packed"
    assert record["matches"][0] == {
        "image_id": "0" * 32, "distance": 0, "file": "beach.jpg", "media_type": "image/jpeg", "name": "beach.jpg",
        "taken": "2024-05-01T12:30:00", "caption": "The four of us",
    }  # fmt: skip
    assert record["matches"][3] == {"image_id": f"{3:032x}", "distance": 3, "file": None}
    page = (folder / PAGE).read_text()
    assert "The four of us" in page and "2024-05-01 12:30:00" in page and "<script" not in page and "<i>" not in page
    assert "the grant only ranks" in page
    # Asked again, it is another folder; the first one is as it was.
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    for number in (2, 3):
        again, _ = save_results(tmp_path / "results", Path("elsewhere/holiday.png"), ASKED, found[:1], record=ABOUT)
        assert again.name == f"holiday-{number}"
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_folder_that_cannot_be_finished_is_none(tmp_path, monkeypatch):
    def fail(record):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "contact_page", fail)
    with pytest.raises(OSError, match="No space"):
        save_results(tmp_path, Path("a.jpg"), ASKED, [match(Photograph(ASKED, "image/jpeg", "b.jpg"))], record=ABOUT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path, monkeypatch, written):
    real, left = Path.write_bytes, [written]

    def write(file, content):
        if not left[0]:
            raise OSError(28, "No space left on device")
        left[0] -= 1
        return real(file, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(OSError, match="No space"):
        save_results(tmp_path, Path("a.jpg"), ASKED, [match(Photograph(ASKED, "image/jpeg", "b.jpg"))], record=ABOUT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["..", "CON.jpg", "\udcff.jpg", "a" * 250, "-x.jpg", "\n.jpg"])
def test_a_query_may_have_any_name(tmp_path, name):
    folder, _ = save_results(tmp_path, Path(name), ASKED, [], record=ABOUT)
    assert folder.parent == tmp_path and folder.name not in ("", ".", "..") and (folder / RECORD).is_file()
