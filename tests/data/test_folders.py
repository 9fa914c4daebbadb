"""Folders of class folders: every file is an image or a named exception, and splits are disjoint and repeatable."""

import os
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from jcbir.data import class_folders, class_tree, count_by_suffix, divide, folder, load, pictures_below


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
    with pytest.raises(ValueError, match="per_class: must be at least 3"):
        class_folders(tree, size=6, per_class=2)


def test_no_images(tmp_path):
    with pytest.raises(ValueError, match="with none"):
        folder(tmp_path, size=6)
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "a.txt").write_text("no picture")
    with pytest.raises(ValueError, match="1 files skipped"):
        folder(tmp_path, size=6)


def test_one_class_only(tmp_path):
    photograph(tmp_path / "only" / "a.png", number=1)
    with pytest.raises(ValueError, match="with \\['only'\\]"):
        folder(tmp_path, size=6)


def test_two_classes_too_small(tmp_path):
    for name in ("a", "b"):
        photograph(tmp_path / name / "1.png", number=len(name) + ord(name))
    with pytest.raises(ValueError, match="three readable photographs, got 0"):
        class_folders(tmp_path, size=6)


def test_a_file_instead_of_a_folder(tmp_path):
    photograph(tmp_path / "a.png", number=1)
    with pytest.raises(ValueError, match="root: must be a folder"):
        folder(tmp_path / "a.png", size=6)


def ids_of(root) -> list[str]:
    return [file.id for file in pictures_below(root).pictures]


def test_every_file_whatever_its_name(tmp_path):
    names = ["a.png", "b.JFIF", "none", "c.txt", "scans [/2019] list.txt", "[red].png", "two\nlines.png", "a  b.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    listing = pictures_below(tmp_path)
    assert sorted(file.id for file in listing.pictures) == sorted(names)
    assert all(file.path == tmp_path / file.id and file.root == tmp_path for file in listing.pictures)
    assert listing.left_out == listing.unreadable == ()
    with pytest.raises(ValueError, match="root: must be a folder, got"):
        pictures_below(tmp_path / "a.png")


def test_what_network_disks_and_macs_leave_behind(tree):
    for path in ("ant/@eaDir/0.png/THUMB.jpg", "#recycle/deleted.png", "$RECYCLE.BIN/S-1/$R1.png", "ant/._0.png"):
        photograph(tree / path, number=len(path))
    photograph(tree / ".trash" / "x.png", number=7)
    read = folder(tree, size=6)
    assert len(read.ids) == 36
    assert [entry.path for entry in read.skipped] == ["#recycle", "$RECYCLE.BIN", "ant/._0.png", "ant/@eaDir"]
    assert len(class_tree(tree).ids) == 36


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_linked_folders_are_followed_once(tree, tmp_path_factory):
    other = tmp_path_factory.mktemp("disk2")
    for i in range(3):
        photograph(other / f"{i}.png", number=7000 + i)
    os.symlink(other, tree / "linked")
    os.symlink(other, tree / "again")
    os.symlink(tree / "zebra", tree / "aardvark")
    os.symlink(tree, tree / "ant" / "loop")
    os.symlink("/", tree / "cat" / "everything")
    os.symlink(other, other / "inner")
    os.symlink(tree / "cat" / "0.png", tree / "dog.png")
    os.symlink(tree / "gone", tree / "cat" / "gone.png")
    listing = pictures_below(tree)
    found = [file.id for file in listing.pictures]
    assert [name for name in found if name.startswith(("linked/", "again/"))] == [
        "again/0.png",
        "again/1.png",
        "again/2.png",
    ]
    assert sum(name.startswith("zebra/") for name in found) == 12
    assert "dog.png" in found
    reasons = {entry.path: entry.reason for entry in listing.left_out}
    assert reasons["linked"] == "is the folder 'again' again"
    assert reasons["aardvark"] == "is the folder 'zebra' again"
    assert {"ant/loop", "cat/everything", "again/inner"} <= set(reasons)
    assert [entry.path for entry in listing.unreadable] == ["cat/gone.png"]
    assert {"ant", "cat", "zebra", "again"} == set(folder(tree, size=6).names) == set(class_tree(tree).names)


@pytest.mark.skipif(os.name != "posix", reason="no named pipes in folders elsewhere")
def test_pipes_are_named_and_never_hang(tree):
    os.mkfifo(tree / "ant" / "camera.jpg")
    read = folder(tree, size=6)
    assert [(entry.path, entry.reason) for entry in read.skipped] == [("ant/camera.jpg", "is a named pipe")]
    split, skipped = load(class_tree(tree), size=6)
    assert (len(split.ids), skipped) == (36, ())


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="every folder opens to root")
def test_a_folder_that_cannot_be_opened(tree):
    (tree / "ant").chmod(0)
    try:
        assert [entry.path for entry in pictures_below(tree).unreadable] == ["ant"]
    finally:
        (tree / "ant").chmod(0o700)


def test_a_folder_that_fails_is_unreadable(tree, monkeypatch):
    whole = os.scandir

    def scandir(place):
        if os.path.basename(place) == "ant":
            raise PermissionError(13, "Permission denied")
        return whole(place)

    monkeypatch.setattr(os, "scandir", scandir)
    listing = pictures_below(tree)
    assert [tuple(entry) for entry in listing.unreadable] == [("ant", "cannot be opened: Permission denied")]
    assert len(listing.pictures) == 24


def test_names_composed_and_decomposed_give_the_same_splits(tmp_path):
    """A Mac stores e and an accent where Linux stores one letter."""
    found = []
    for form in ("NFC", "NFD"):
        for number, name in enumerate(("caf\u00e9", "na\u00efve")):
            for i in range(6):
                photograph(
                    tmp_path / form / unicodedata.normalize(form, name) / f"{i}\u00e9.png", number=10 * number + i
                )
        task, _ = class_folders(tmp_path / form, size=6)
        found.append([part.ids for part in (task.train, task.database, task.query)])
        assert set(ids_of(tmp_path / form)) == {
            f"{name}/{i}\u00e9.png" for name in ("caf\u00e9", "na\u00efve") for i in range(6)
        }
    assert found[0] == found[1]


@pytest.mark.skipif(os.name != "posix", reason="file names are Unicode elsewhere")
def test_no_two_files_share_an_id(tmp_path):
    for number, form in enumerate(("NFC", "NFD")):
        photograph(tmp_path / unicodedata.normalize(form, "\u00e9.png"), number=number)
    found = ids_of(tmp_path)
    assert len(found) == len(set(found)) == 2 and "\u00e9.png" in found


def test_what_is_not_read_is_counted_by_suffix(tree):
    for name in ("a.CR2", "b.cr2", "film.mov", "none"):
        (tree / "ant" / name).write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(100))
    read = folder(tree, size=6)
    assert {entry.path for entry in read.skipped} >= {"ant/a.CR2", "ant/film.mov"}
    copies = sum("is a copy" in entry.reason for entry in read.skipped)
    assert copies == 0, "what cannot be read is no copy of anything"
    assert count_by_suffix(read.skipped) == {"cr2": 2, "": 1, "mov": 1}
