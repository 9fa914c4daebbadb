"""Packed sets and list files: round trips, and every misfit a FormatError that says what is wrong."""

import codecs
import csv
import io
import unicodedata

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from jcbir.data import format_list, label_file, list_file, load, packed, parse_labels, parse_list
from jcbir.errors import FormatError


def pieces(count: int) -> list[bytes]:
    streams = [io.BytesIO() for _ in range(count)]
    for i, stream in enumerate(streams):
        Image.new("RGB", (5 + i, 6), (20 * i, 0, 0)).save(stream, "PNG")
    return [stream.getvalue() for stream in streams]


def arrays(count: int = 4, **changes) -> dict[str, np.ndarray]:
    files = pieces(count)
    made = {
        "blob": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.concatenate([[0], np.cumsum([len(file) for file in files])]),
        "labels": (np.arange(count) % 3).astype(np.uint8),
        "names": np.array(["x", "y", "z"]),
    }
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


def test_packed_reads_what_was_packed(tmp_path):
    np.savez(tmp_path / "set.npz", **{f"train_{k}" if k != "names" else k: v for k, v in arrays().items()})
    source = packed(tmp_path / "set.npz", part="train")
    assert [source.read(i) for i in range(4)] == pieces(4)
    assert source.ids == ("train/00000", "train/00001", "train/00002", "train/00003")
    split, skipped = load(source, size=4)
    assert skipped == ()
    assert split.labels.tolist() == [0, 1, 2, 0]


def test_packed_multi_label_and_ids(tmp_path):
    rows = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], np.uint8)
    np.savez(
        tmp_path / "set.npz", **arrays(labels=rows, names=None, words=np.array(["sky", "sea"]), ids=np.arange(4) * 10)
    )
    source = packed(tmp_path / "set.npz")
    assert source.labels.dtype == bool
    assert source.ids == ("set/0", "set/10", "set/20", "set/30")
    assert source.names == ("sky", "sea")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "must hold \\['labels'\\]"),
        ({"offsets": np.arange(3)}, "one offset more"),
        ({"offsets": np.array([0, 5, 3, 7, 9])}, "rising offsets"),
        ({"offsets": np.array([0, 1, 2, 3, 10**9])}, "rising offsets"),
        ({"offsets": np.array([-1, 1, 2, 3, 4])}, "rising offsets"),
        ({"offsets": np.linspace(0, 1, 5)}, "integer offsets"),
        ({"blob": np.zeros((2, 2), np.uint8)}, "flat uint8"),
        ({"labels": np.array([0.5, 1, 2, 0])}, "class indices"),
        ({"labels": np.array([-1, 1, 2, 0])}, "class indices"),
        ({"labels": np.full((4, 2), 2)}, "class indices"),
        ({"labels": np.array([0, 1, 2, 3])}, "name all of its 4 classes"),
        ({"ids": np.zeros(4, int)}, "name each of its 4 images once"),
        ({"labels": np.array([None] * 4)}, "without pickles"),
    ],
)
def test_packed_misfits(tmp_path, changes, message):
    np.savez(tmp_path / "set.npz", **arrays(**changes))
    with pytest.raises(FormatError, match=message):
        packed(tmp_path / "set.npz")


def test_packed_is_not_a_file(tmp_path):
    with pytest.raises(ValueError, match="is not there"):
        packed(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "bare.npy", np.zeros(3))
    for name in ("text.npz", "bare.npy"):
        with pytest.raises(FormatError, match="must be a packed set"):
            packed(tmp_path / name)
    np.savez(tmp_path / "cut.npz", **arrays())
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="must be a packed set"):
        packed(tmp_path / "cut.npz")


WORD = st.text("abcxyz./_-9", min_size=1, max_size=8)


@given(
    ids=st.lists(st.lists(WORD, min_size=1, max_size=3).map(" ".join), min_size=1, max_size=6, unique=True),
    rows=hnp.arrays(bool, st.tuples(st.just(6), st.integers(1, 5))),
)
def test_list_round_trip(ids, rows):
    parsed, labels = parse_list(format_list(ids, rows[: len(ids)]))
    assert parsed == tuple(ids)
    assert np.array_equal(labels, rows[: len(ids)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one line"),
        ("a.jpg\n", "line 1"),
        ("a.jpg 0 1\nb.jpg 1\n", "line 2"),
        ("a.jpg 0 1\nb.jpg 1 2\n", "line 2"),
        ("a.jpg 0 1\na.jpg 0 1\n", "'a.jpg' again"),
    ],
)
def test_bad_lists(text, message):
    with pytest.raises(FormatError, match=message):
        parse_list(text)


def test_list_file_reads_below_its_root(tmp_path):
    (tmp_path / "images").mkdir()
    for i, piece in enumerate(pieces(2)):
        (tmp_path / "images" / f"{i}.png").write_bytes(piece)
    (tmp_path / "list.txt").write_text("/images/0.png 1 0\n./images/1.png 0 1\nimages/none.png 1 1\n")
    source = list_file(tmp_path / "list.txt", root=tmp_path, names=("sky", "sea"))
    split, skipped = load(source, size=4)
    assert split.ids == ("/images/0.png", "./images/1.png")
    assert [entry.path for entry in skipped] == ["images/none.png"]
    with pytest.raises(ValueError, match="names: must be 2"):
        list_file(tmp_path / "list.txt", root=tmp_path, names=("sky",))


LINES = "images/0.png 1 0\nimages/1.png 0 1\n"


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (LINES.encode(), "1.png"),
        (LINES.replace("\n", "\r\n").encode(), "1.png"),
        (codecs.BOM_UTF8 + LINES.encode(), "1.png"),
        (LINES.replace("/", "\\").encode(), "1.png"),
        (LINES.replace(" ", "\t").encode(), "1.png"),
        (LINES.replace("1.png", "a  b.png").encode(), "a  b.png"),
        (LINES.replace("1.png", "l\u2028m.png").encode(), "l\u2028m.png"),
        (LINES.replace("1.png", "n\x85o.png").encode(), "n\x85o.png"),
        (LINES.replace("1.png", "caf\u00e9.png").encode(), unicodedata.normalize("NFD", "caf\u00e9.png")),
    ],
)
def test_lists_of_other_systems(tmp_path, raw, name):
    (tmp_path / "images").mkdir()
    for file, piece in zip(("0.png", name), pieces(2), strict=True):
        (tmp_path / "images" / file).write_bytes(piece)
    (tmp_path / "list.txt").write_bytes(raw)
    split, skipped = load(list_file(tmp_path / "list.txt", root=tmp_path), size=4)
    assert (len(split.ids), skipped) == (2, ())
    assert split.labels.tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize("raw", [LINES.encode("utf-16"), "images/\u00e9.png 1 0\n".encode("latin-1")])
def test_lists_in_another_encoding_are_named(tmp_path, raw):
    (tmp_path / "words.txt").write_bytes(raw)
    with pytest.raises(FormatError, match=r"words\.txt: must be UTF-8"):
        list_file(tmp_path / "words.txt", root=tmp_path)


@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        ("a.jpg sea\nb c.jpg sky\n", ("sea", "sky"), [[1, 0], [0, 1]]),
        ("a.jpg\tsea\nb c.jpg\topen sky\n", ("open sky", "sea"), [[0, 1], [1, 0]]),
        ("a.jpg,sea\r\n\r\nb c.jpg,sky\r\n", ("sea", "sky"), [[1, 0], [0, 1]]),
        ("Image,Label\na.jpg,sea\nb c.jpg,sky\n", ("sea", "sky"), [[1, 0], [0, 1]]),
        ("path label\na.jpg sea\nb\tc.jpg sky\n", ("sea", "sky"), [[1, 0], [0, 1]]),
        ("a.jpg,sea;sky\nb c.jpg,sky\n", ("sea", "sky"), [[1, 1], [0, 1]]),
        ("a.jpg,sea,sky\nb c.jpg,sky\n", ("sea", "sky"), [[1, 1], [0, 1]]),
        ('"a,1.jpg","sea"\n"b c.jpg",sky\n', ("sea", "sky"), [[1, 0], [0, 1]]),
        ("file,sky,sea\na.jpg,0,1\nb c.jpg,1,1\n", ("sky", "sea"), [[0, 1], [1, 1]]),
        ("a.jpg 10\nb.jpg 9\n", ("9", "10"), [[0, 1], [1, 0]]),
        ("a.jpg 0\nb.jpg 1\n", ("0", "1"), [[1, 0], [0, 1]]),
        ("a.jpg 0 1\nb.jpg 1 1\n", ("0", "1"), [[0, 1], [1, 1]]),
    ],
)
def test_labels_in_every_layout(text, names, rows):
    ids, labels, found = parse_labels(text)
    assert found == names
    assert labels.astype(int).tolist() == rows
    assert len(ids) == 2 and ids[0].startswith("a") and ids[1].endswith(".jpg")


@given(
    ids=st.lists(st.text("abcxyz,;\"' ./_-9", min_size=1, max_size=8).map(lambda t: f"p{t}q"), min_size=1, unique=True),
    data=st.data(),
)
def test_a_table_that_csv_writes_is_read_back(ids, data):
    words = st.lists(st.sampled_from(["sea", "open sky", "a,b", "7"]), min_size=1, max_size=3, unique=True)
    labels = [data.draw(words) for _ in ids]
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(
        [["file", "labels"], *zip(ids, map(";".join, labels), strict=True)]
    )
    found, rows, names = parse_labels(stream.getvalue())
    assert found == tuple(ids)
    assert [{names[i] for i in np.flatnonzero(row)} for row in rows] == [set(each) for each in labels]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one line"),
        ("file,label\n", "a header only"),
        ("a.jpg\nb.jpg sea\n", r"labels\.csv: line 1: must be a path and a label, got 'a.jpg'"),
        ("a.jpg,sea\n\nb.jpg,\n", r"labels\.csv: line 3: must be a path and a label, got 'b.jpg' and no label"),
        ("a.jpg,sea\n,sky\n", r"labels\.csv: line 2: must be a path and a label"),
        ("a.jpg,sea\nb.jpg sky\n", r"labels\.csv: line 2: must be a path and a label, got 'b.jpg sky'"),
        ('a.jpg,sea\n"b.jpg,sky\n', r"labels\.csv: line 2: must be a row of a table"),
        ("file,sky,sea\na.jpg,0,1\nb.jpg,1\n", r"labels\.csv: line 3: must be a path and 2 zeros and ones, got 1"),
        ("a.jpg 0 1\n\nb.jpg 1\n", r"labels\.csv: line 3: must be a path and 2 zeros and ones"),
        ("a.jpg sea\na.jpg sky\n", r"labels\.csv: text: must name each file once, got 'a.jpg' again"),
    ],
)
def test_labels_that_are_refused_name_file_and_line(tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(FormatError, match=message):
        label_file(tmp_path / "labels.csv", root=tmp_path)
