"""Folders of class folders: every file is an image or a named exception, and splits are disjoint and repeatable."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from jcbir.data import class_folders, folder
from jcbir.data._sources import divide


def photograph(path, *, number: int, size=(11, 7), mode="RGB", kind="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, kind)


@pytest.fixture
def tree(tmp_path):
    for label, name in enumerate(("zebra", "ant", "cat")):
        for i in range(12):
            photograph(tmp_path / name / f"{i}.png", number=100 * label + i, size=(8 + i, 9))
    return tmp_path


def test_reads_every_photograph(tree):
    read = folder(tree, size=6)
    assert read.images.shape == (36, 6, 6, 3)
    assert read.names == ("ant", "cat", "zebra")
    assert [read.names[label] for label in read.labels] == [identity.split("/")[0] for identity in read.ids]
    assert read.skipped == ()


def test_unreadable_files_are_named_and_counted(tree):
    (tree / "ant" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    (tree / "ant" / "empty.png").write_bytes(b"")
    whole = (tree / "cat" / "3.png").read_bytes()
    (tree / "cat" / "half.png").write_bytes(whole[: len(whole) // 2])
    (tree / "stray.png").write_bytes(whole)
    (tree / "cat" / ".hidden").write_bytes(b"x")
    (tree / "cat" / "Thumbs.db").write_bytes(b"x")
    read = folder(tree, size=6)
    assert [entry.path for entry in read.skipped] == ["ant/broken.jpg", "ant/empty.png", "cat/half.png", "stray.png"]
    assert len(read.ids) == 36
    assert "beside the class folders" in read.skipped[-1].reason


def test_copies_are_passed_over(tree):
    shutil.copy(tree / "ant" / "0.png", tree / "zebra" / "copy.png")
    read = folder(tree, size=6)
    assert [(e.path, e.reason) for e in read.skipped] == [("zebra/copy.png", "is a copy of ant/0.png")]


def test_deeper_folders_belong_to_their_class(tree):
    photograph(tree / "ant" / "deep" / "er" / "x.png", number=999)
    read = folder(tree, size=6)
    assert read.names[read.labels[read.ids.index("ant/deep/er/x.png")]] == "ant"


@pytest.mark.skipif(os.name != "posix", reason="file names are Unicode elsewhere")
def test_a_name_that_is_not_utf8(tree):
    os.rename(os.fsencode(tree / "ant" / "0.png"), os.fsencode(tree / "ant") + b"/\xff.png")
    read = folder(tree, size=6)
    assert "ant/\\xff.png" in read.ids
    assert class_folders(tree, size=6)[0].names == read.names


def test_splits_are_disjoint_complete_and_repeatable(tree):
    task, left_out = class_folders(tree, size=6)
    again, _ = class_folders(str(tree), size=6)
    parts = (task.train, task.database, task.query)
    ids = [identity for part in parts for identity in part.ids]
    assert len(ids) == len(set(ids)) == 36
    assert left_out == ()
    for part, other in zip(parts, (again.train, again.database, again.query), strict=True):
        assert part.ids == other.ids
        assert np.array_equal(part.images, other.images)
        assert set(part.labels.tolist()) == {0, 1, 2}
        assert [task.names[label] for label in part.labels] == [identity.split("/")[0] for identity in part.ids]


def test_images_stay_with_their_ids(tree):
    read = folder(tree, size=6)
    task, _ = divide(read)
    for part in (task.train, task.database, task.query):
        for image, identity in zip(part.images, part.ids, strict=True):
            assert np.array_equal(image, read.images[read.ids.index(identity)])


def test_small_classes_are_left_out_by_name(tree):
    for i in range(2):
        photograph(tree / "few" / f"{i}.png", number=5000 + i)
    task, left_out = class_folders(tree, size=6)
    assert task.names == ("ant", "cat", "zebra")
    assert {entry.path for entry in left_out} == {"few/0.png", "few/1.png"}
    assert set(task.query.labels.tolist()) == {0, 1, 2}


def test_per_class_limits(tree):
    task, _ = class_folders(tree, size=6, per_class=3)
    assert [len(part.ids) for part in (task.train, task.database, task.query)] == [3, 3, 3]
    with pytest.raises(ValueError, match="per_class must be at least 3"):
        class_folders(tree, size=6, per_class=2)


def test_no_images(tmp_path):
    with pytest.raises(ValueError, match="has none"):
        folder(tmp_path, size=6)
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "a.txt").write_text("no picture")
    with pytest.raises(ValueError, match="1 files skipped"):
        folder(tmp_path, size=6)


def test_one_class_only(tmp_path):
    photograph(tmp_path / "only" / "a.png", number=1)
    with pytest.raises(ValueError, match="only \\['only'\\]"):
        folder(tmp_path, size=6)


def test_two_classes_too_small(tmp_path):
    for name in ("a", "b"):
        photograph(tmp_path / name / "1.png", number=len(name) + ord(name))
    with pytest.raises(ValueError, match="three readable photographs; got 0"):
        class_folders(tmp_path, size=6)


def test_a_file_instead_of_a_folder(tmp_path):
    photograph(tmp_path / "a.png", number=1)
    with pytest.raises(ValueError, match="must be a folder"):
        folder(tmp_path / "a.png", size=6)
