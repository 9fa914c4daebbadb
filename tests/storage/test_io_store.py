"""The store: what is written comes back, damage is found, strangers are refused, readers are never disturbed."""

import contextlib
import dataclasses
import os
import pathlib
import resource
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from protocol_world import NOW, make_world, search

from jcbir.errors import FormatError, IntegrityError, KeyMismatchError
from jcbir.protocol import authority, owner, server
from jcbir.protocol._grants import WINDOW_SECONDS
from jcbir.protocol.messages import Publication
from jcbir.protocol.owner import announce
from jcbir.storage import _files, _maintenance as maintenance, _store as disk
from jcbir.storage._load import load_server
from jcbir.storage._maintenance import backup_store, compact_store, verify_store


def publications(world):
    return [line.message for line in world.transcript if isinstance(line.message, Publication)]


@pytest.fixture
def filled(tmp_path):
    """A store with both segments of the world."""
    world = make_world()
    disk.create_store(tmp_path / "store", world.own.card, unsafe_small=True)
    with disk.open_store(tmp_path / "store", write=True) as store:
        for publication in publications(world):
            assert disk.append_segment(store, publication)
    return tmp_path / "store"


def withdraw(world, path, names):
    own, withdrawal = owner.withdraw(world.own, names)
    with disk.open_store(path, write=True) as store:
        gone = disk.remove_images(store, withdrawal)
    return world._replace(own=own, holder=authority.withdraw(world.holder, withdrawal)), gone


def loaded(world, path):
    with disk.open_store(path, card=world.own.card) as store:
        return world._replace(cloud=load_server(store))


@pytest.mark.parametrize("scheme", ["integer", "packed", "bitsliced"])
def test_a_search_from_disk_equals_one_from_memory(filled, scheme):
    world = make_world()
    stored = loaded(world, filled)
    for row, expected in zip(
        search(stored, world.codes[:2], scheme=scheme).matches,
        search(world, world.codes[:2], scheme=scheme).matches,
        strict=True,
    ):
        assert [(m.image_id, m.distance) for m in row] == [(m.image_id, m.distance) for m in expected]
        for match, other in zip(row, expected, strict=True):
            assert match.photograph == other.photograph


def test_every_byte_comes_back(filled):
    world = make_world()
    stored = loaded(world, filled).cloud
    assert dict(stored.images) == dict(world.cloud.images)
    for ours, theirs in zip(stored.segments, world.cloud.segments, strict=True):
        assert ours.image_ids == theirs.image_ids
        np.testing.assert_array_equal(ours.indexes["packed"].ciphertexts, theirs.indexes["packed"].ciphertexts)
        np.testing.assert_array_equal(ours.indexes["bitsliced"].table, theirs.indexes["bitsliced"].table)


def test_withdrawn_images_and_compaction(filled):
    world, gone = withdraw(make_world(), filled, make_world().names[:3])
    assert gone == 3
    with disk.open_store(filled, write=True) as store:
        before = verify_store(store)
        freed = compact_store(store)
        after = verify_store(store)
        assert compact_store(store) == 0
    assert (before.images, before.gone, after.images, after.gone) == (27, 3, 27, 3)
    assert freed == before.size - after.size > 0
    assert len(list((filled / disk.SEGMENTS).iterdir())) == 2
    stored = loaded(world, filled)
    assert len(stored.cloud.images) == 27
    matches = search(stored, world.codes[:1], scheme="bitsliced", top=30).matches[0]
    assert len(matches) == 27


def test_a_withdrawn_picture_is_no_longer_in_any_file(filled):
    world = make_world()
    name = world.names[0]
    sealed = world.cloud.images[owner.pseudonym(world.own, name)]
    holding = [path for path in (filled / disk.SEGMENTS).iterdir() if sealed in path.read_bytes()]
    assert len(holding) == 1
    withdraw(world, filled, [name])
    with disk.open_store(filled, write=True) as store:
        compact_store(store)
    assert not any(sealed in path.read_bytes() for path in filled.rglob("*") if path.is_file())


def test_images_can_come_back(filled):
    world, _ = withdraw(make_world(), filled, [make_world().names[3]])
    withdrawal = owner.withdraw(make_world().own, [make_world().names[3]])[1]
    own, again, catalog = owner.publish(
        world.own, world.codes[3:4], [world.images[9]], [world.names[3]], schemes=["packed"], cipher="aes-gcm",
        sentinels=False, draw=secrets.token_bytes,
    )  # fmt: skip
    with disk.open_store(filled, write=True) as store:
        assert disk.append_segment(store, again)
        verify_store(store)
        # The withdrawal of before, sent again, is not of what was published since.
        assert disk.remove_images(store, withdrawal) == 0
    moved = loaded(world._replace(own=own, holder=authority.catalog(world.holder, catalog)), filled)
    assert len(moved.cloud.images) == 30


def test_a_repeated_upload_is_no_error_and_another_one_is(filled):
    world = make_world()
    first, second = publications(world)
    with disk.open_store(filled, write=True) as store:
        assert not disk.append_segment(store, second)
        with pytest.raises(ValueError, match="must be segment 2, the next one here, got segment 0"):
            disk.append_segment(store, dataclasses.replace(first, images=second.images[:1]))
        with pytest.raises(ValueError, match="got 10 that are here"):
            disk.append_segment(store, dataclasses.replace(second, segment=2))
        assert verify_store(store).segments == 2


def test_revocations_survive(filled):
    world = make_world()
    _, revocation = owner.revoke(world.own, [world.me.grant.grant_id])
    with disk.open_store(filled, write=True) as store:
        disk.keep_revocation(store, revocation)
    assert loaded(world, filled).cloud.revoked == {world.me.grant.grant_id}
    assert server.revoke(world.cloud, revocation).revoked == loaded(world, filled).cloud.revoked


@pytest.mark.parametrize("side", [-1, 1])
def test_recalls_are_remembered_for_two_windows_and_by_a_clock_that_steps_back(filled, side):
    world = make_world()

    def note(now):
        recall = owner.recall(world.own, ["a"], now=now, draw=secrets.token_bytes)
        with disk.open_store(filled, write=True) as store:
            disk.note_recall(store, recall, now=now)
        return recall.nonce

    first = note(NOW)
    for age, kept in ((2 * WINDOW_SECONDS, True), (2 * WINDOW_SECONDS + 1, False)):
        last = note(NOW + side * age)
        with disk.open_store(filled) as store:
            answered = load_server(store).answered
        assert (first in answered) == (kept or side < 0) and last in answered


def test_strangers_are_refused(filled, tmp_path):
    world = make_world()
    for card in (
        dataclasses.replace(world.own.card, epoch=1),
        dataclasses.replace(world.own.card, collection="others"),
        dataclasses.replace(world.own.card, owner_key=bytes(32)),
    ):
        with pytest.raises(KeyMismatchError, match="asked for"), disk.open_store(filled, card=card):
            pass
    with sqlite3.connect(filled / disk.DATABASE) as catalog:
        catalog.execute("UPDATE meta SET value = x'63' WHERE name = 'version'")
    catalog.close()
    with pytest.raises(FormatError, match="version"), disk.open_store(filled):
        pass
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / disk.DATABASE).write_bytes(b"not a database" * 100)
    with pytest.raises(FormatError), disk.open_store(tmp_path / "fake"):
        pass
    with pytest.raises(FileNotFoundError), disk.open_store(tmp_path / "nowhere"):
        pass
    with pytest.raises(FileExistsError):
        disk.create_store(filled, world.own.card, unsafe_small=True)


def test_one_writer(filled):
    with disk.open_store(filled, write=True):
        with pytest.raises(BlockingIOError, match="another process writes"), disk.open_store(filled, write=True):
            pass
        with disk.open_store(filled) as reader:
            with pytest.raises(PermissionError):
                compact_store(reader)
            assert verify_store(reader).images == 30


def test_readers_keep_what_they_have_while_a_writer_compacts(filled):
    world = make_world()
    before = loaded(world, filled)
    moved, _ = withdraw(world, filled, world.names[:5])
    with disk.open_store(filled) as reader, disk.open_store(filled, write=True) as writer:
        assert compact_store(writer) > 0
        assert len(load_server(reader).images) == 25
    # The old snapshot maps files that have no name any more.
    assert dict(before.cloud.images) == dict(world.cloud.images)
    found = search(before, world.codes[:1], scheme="packed", top=1).matches[0][0]
    assert found.photograph == world.images[0]
    assert len(loaded(moved, filled).cloud.images) == 25


def test_a_second_look_reads_what_changed(filled):
    """Segments as they were are kept as they are; of the others all is as a first look shows it."""
    world = make_world()

    def look(previous, changed):
        found, anew = load_server(reader, previous=previous, tables=False), load_server(reader, tables=False)
        assert dict(found.images) == dict(anew.images)
        assert [segment.image_ids for segment in found.segments] == [segment.image_ids for segment in anew.segments]
        was = {segment.number: segment for segment in previous.segments} if previous else {}
        assert [segment.number for segment in found.segments if was.get(segment.number) is not segment] == changed
        return found

    with disk.open_store(filled) as reader:
        seen = look(look(None, [0, 1]), [])
        _, gone = withdraw(world, filled, world.names[:2])
        assert gone == 2
        seen = look(seen, [0])
        with disk.open_store(filled, write=True) as writer:
            assert compact_store(writer) > 0
        seen = look(seen, [0])
        # Without images, as a scoring process looks, withdrawals change nothing.
        bare = load_server(reader, tables=False, images=False)
        withdraw(world, filled, world.names[2:3])
        again = load_server(reader, previous=bare, tables=False, images=False)
        assert len(again.images) == 0 and all(a is b for a, b in zip(again.segments, bare.segments, strict=True))


def test_damage_is_found(filled):
    path = sorted((filled / disk.SEGMENTS).iterdir())[1]
    good = path.read_bytes()
    for spot in (0, 70, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:spot] + bytes([good[spot] ^ 1]) + good[spot + 1 :])
        with disk.open_store(filled) as store, pytest.raises(IntegrityError, match="not what was written"):
            verify_store(store)
    path.write_bytes(good[:-1])
    with pytest.raises(FormatError, match="the database says"), disk.open_store(filled) as store:
        load_server(store)
    path.unlink()
    with disk.open_store(filled) as store, pytest.raises(IntegrityError, match="segment 1 is missing"):
        verify_store(store)
    path.write_bytes(good)
    with disk.open_store(filled) as store:
        verify_store(store)


def test_a_segment_missing_anywhere_is_found(filled):
    with disk.open_store(filled, write=True) as store:
        for table, column in (("segments", "number"), ("images", "segment"), ("indexes", "segment")):
            store.database.execute(f"DELETE FROM {table} WHERE {column} = 0")
        with pytest.raises(IntegrityError, match="segment 0 is missing"):
            verify_store(store)


@pytest.mark.parametrize("table", ["indexes", "images"])
@pytest.mark.parametrize("offset", [-1, 1 << 30])
def test_places_outside_of_the_file_are_refused(filled, table, offset):
    with disk.open_store(filled, write=True) as store:
        store.database.execute(f"UPDATE {table} SET offset = ? WHERE segment = 1 AND position = 0", [offset])
        with pytest.raises(FormatError, match=r"does not fit its file|lies outside its file"):
            load_server(store)
        with pytest.raises(IntegrityError, match="contradicts itself"):
            verify_store(store)


def test_segments_of_another_store_are_refused(filled, tmp_path):
    world = make_world()
    disk.create_store(tmp_path / "other", world.own.card, unsafe_small=True)
    with disk.open_store(tmp_path / "other", write=True) as store:
        disk.append_segment(store, publications(world)[0])
    theirs = sorted((tmp_path / "other" / disk.SEGMENTS).iterdir())[0]
    ours = sorted((filled / disk.SEGMENTS).iterdir())[0]
    assert theirs.name == ours.name
    ours.write_bytes(theirs.read_bytes())
    with pytest.raises(FormatError, match="not segment 0 of this store"), disk.open_store(filled) as store:
        load_server(store)


def test_backup_while_serving(filled, tmp_path):
    world = make_world()
    with disk.open_store(filled, write=True) as store:
        assert backup_store(store, tmp_path / "backup").images == 30
        own, withdrawal = owner.withdraw(world.own, world.names[:2])
        disk.remove_images(store, withdrawal)
        with pytest.raises(FileExistsError):
            backup_store(store, tmp_path / "backup")
    with disk.open_store(tmp_path / "backup", card=own.card) as copy:
        assert verify_store(copy).images == 30
    found = search(loaded(world, tmp_path / "backup"), world.codes[:1], scheme="packed", top=1).matches[0][0]
    assert found.photograph == world.images[0]


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(("fault", "error"), [("full", OSError), ("damaged", IntegrityError), ("rename", OSError)])
def test_a_backup_that_fails_leaves_nothing(filled, tmp_path, monkeypatch, fault, error, there):
    def full(*_):
        raise OSError(28, "No space left on device")

    if there:
        (tmp_path / "backup").mkdir()
    if fault == "damaged":
        segment = sorted((filled / disk.SEGMENTS).iterdir())[-1]
        segment.write_bytes(segment.read_bytes()[:-1] + b"x")
    with monkeypatch.context() as patch, disk.open_store(filled) as store:
        if fault != "damaged":
            patch.setattr(*{"full": (shutil, "copyfile"), "rename": (os, "replace")}[fault], full)
        with pytest.raises(error):
            backup_store(store, tmp_path / "backup")
    assert (tmp_path / "backup").exists() == there and not list(tmp_path.glob("backup/*"))
    if fault != "damaged":
        with disk.open_store(filled) as store:
            assert backup_store(store, tmp_path / "backup").images == 30


@pytest.mark.parametrize("make", ["create", "backup"])
def test_a_store_is_made_where_making_one_was_killed(filled, tmp_path, monkeypatch, make):
    """Killed at a call, a process leaves what is there before it: the folder is copied at each."""
    target, left = tmp_path / "made", []

    def copied(call):
        def patched(*arguments, **options):
            if target.exists():
                left.append(shutil.copytree(target, tmp_path / f"left-{len(left)}"))
            return call(*arguments, **options)

        return patched

    def made(path):
        if make == "create":
            disk.create_store(path, make_world().own.card, unsafe_small=True)
        else:
            with disk.open_store(filled) as store:
                backup_store(store, path)
        with disk.open_store(path) as store:
            verify_store(store)
        return sorted(file.relative_to(path).as_posix() for file in path.rglob("*"))

    with monkeypatch.context() as patch:
        for module, name in (
            (os, "replace"),
            (maintenance, "segment_name"),
            (maintenance, "connect"),
            (disk, "connect"),
        ):
            patch.setattr(module, name, copied(getattr(module, name)))
        whole = made(target)
    killed = [path for path in left if not (path / disk.DATABASE).exists()]
    assert killed and all(made(path) == whole for path in killed)
    # Killed at the very end, it left a store, and an empty folder that its first writer clears away.
    (target / disk.DRAFT).mkdir()
    with disk.open_store(target, write=True):
        assert not (target / disk.DRAFT).exists()
    for other in (["note.txt"], [".part", "note.txt"], ["segments"]):
        for name in other:
            (tmp_path / "-".join(other) / name).mkdir(parents=True)
        with pytest.raises(FileExistsError):
            made(tmp_path / "-".join(other))
        assert sorted(path.name for path in (tmp_path / "-".join(other)).iterdir()) == other


@pytest.mark.parametrize(
    "names", [[".part/film"], [".part/segments/film"], [".part"], [".part/", "segments/00000000-0000.seg"]]
)
@pytest.mark.parametrize("lock", [False, True])
def test_what_is_a_strangers_stays(tmp_path, names, lock):
    """A folder that looks like one where making a store was killed, but for what is in it, or for the lock."""
    target = tmp_path / "foreign"
    for name in names:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_bytes(b"theirs")
    if lock:
        (target / disk.LOCK).write_bytes(b"theirs")
    before = sorted(target.rglob("*"))
    with pytest.raises(FileExistsError):
        disk.create_store(target, make_world().own.card, unsafe_small=True)
    assert sorted(target.rglob("*")) == before


@pytest.mark.parametrize("call", range(10))
def test_a_store_whose_making_is_interrupted_is_none(filled, tmp_path, monkeypatch, call):
    """At each change of the folder: there is nothing afterwards, and no half of a store."""
    target, calls = tmp_path / "made", iter(range(99))

    def interrupted(done):
        def patched(*arguments, **options):
            done(*arguments, **options)
            if next(calls) == call:
                raise KeyboardInterrupt

        return patched

    with disk.open_store(filled) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", interrupted(os.replace))
            patch.setattr(disk, "sync", interrupted(disk.sync))
            patch.setattr(shutil, "rmtree", interrupted(shutil.rmtree))
            with pytest.raises(KeyboardInterrupt):
                backup_store(store, target)
        # Whatever is left is cleared away.
        assert not (target / disk.DATABASE).exists()
        assert backup_store(store, target) == verify_store(store)


@pytest.mark.parametrize("place", ["segments/copy", ".part", "copy"])
def test_a_backup_inside_of_the_store_is_refused(filled, place):
    with disk.open_store(filled) as store, pytest.raises(ValueError, match="outside"):
        backup_store(store, filled / place)
    with disk.open_store(filled, write=True) as store:
        verify_store(store)


def test_a_lock_that_was_unlinked_since_it_was_opened_is_none(tmp_path, monkeypatch):
    """Who failed to make a store took its lock away, and another holds the next one."""
    path = tmp_path / disk.LOCK
    monkeypatch.setattr(_files.fcntl, "flock", lambda *_: (path.unlink(), path.touch()))
    with pytest.raises(BlockingIOError), _files.locked(path, use="writes"):
        pass


def test_what_a_crash_left_is_swept_up(filled):
    for name in (".00000002-0000.seg.abc.part", "00000002-0000.seg", "00000000-0007.seg"):
        (filled / disk.SEGMENTS / name).write_bytes(b"half")
    with disk.open_store(filled):
        pass
    assert len(list((filled / disk.SEGMENTS).iterdir())) == 5
    with disk.open_store(filled, write=True) as store:
        assert verify_store(store).segments == 2
    assert len(list((filled / disk.SEGMENTS).iterdir())) == 2


@contextlib.contextmanager
def longest_file(size):
    """No file can become longer for the length of a block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", ["nothing", "half a segment", "the segment alone"])
def test_a_full_disk_is_a_clear_error_and_harmless(tmp_path, room):
    world = make_world()
    disk.create_store(tmp_path / "measure", world.own.card, unsafe_small=True)
    with disk.open_store(tmp_path / "measure", write=True) as store:
        disk.append_segment(store, publications(world)[0])
        size = verify_store(store).size
        # The write-ahead log needs more room than this small segment: there the catalog is what fails.
        assert os.path.getsize(store.path / "catalogue.sqlite-wal") > size
    disk.create_store(tmp_path / "store", world.own.card, unsafe_small=True)
    limit = {"nothing": 1, "half a segment": size // 2, "the segment alone": size}[room]
    # The disk is full until the store is closed.
    with contextlib.ExitStack() as full, disk.open_store(tmp_path / "store", write=True) as store:
        full.enter_context(longest_file(limit))
        with pytest.raises(OSError):
            disk.append_segment(store, publications(world)[0])
        left = list((store.path / disk.SEGMENTS).iterdir())
    # Where the catalog failed, the file stays, unspoken of, until the next writer.
    assert (left == []) == (room != "the segment alone")
    with disk.open_store(tmp_path / "store", write=True) as store:
        assert verify_store(store).segments == 0
        disk.append_segment(store, publications(world)[0])
        assert verify_store(store).segments == 1


def test_a_read_only_catalogue_is_a_clear_error(filled):
    world = make_world()
    _, withdrawal = owner.withdraw(world.own, world.names[:1])
    with disk.open_store(filled, write=True) as store:
        store.database.execute("PRAGMA query_only = ON")
        with pytest.raises(OSError, match="read-only"):
            disk.remove_images(store, withdrawal)
    with disk.open_store(filled) as store:
        assert verify_store(store).images == 30


def test_the_next_epoch_begins_empty_under_another_card(filled):
    world = make_world()
    new = owner.rekey(world.own, draw=secrets.token_bytes)
    succession, _ = announce(new)
    sealed = list(world.cloud.images.values())
    with disk.open_store(filled) as reader, disk.open_store(filled, write=True) as writer:
        before = load_server(reader)
        disk.keep_revocation(writer, owner.revoke(world.own, [bytes(16)])[1])
        disk.keep_head(writer, owner.head(world.own, now=NOW)[1])
        turned = disk.turn_store(writer, succession)
        assert turned.card == new.card and turned.store_id != writer.store_id
        # Who has it mapped can still read; nobody else can.
        assert dict(before.images) == dict(world.cloud.images)
        assert not list((filled / disk.SEGMENTS).iterdir())
        new, publication, _ = owner.publish(
            new, world.codes[:3], world.images[:3], world.names[:3], schemes=["packed"], cipher="aes-gcm",
            sentinels=False, draw=secrets.token_bytes,
        )  # fmt: skip
        assert disk.append_segment(turned, publication)
        with pytest.raises(KeyMismatchError):
            disk.append_segment(turned, dataclasses.replace(publications(world)[0], segment=1))
    with disk.open_store(filled, card=new.card) as store:
        found = load_server(store)
        assert (verify_store(store).images, found.revoked, found.revocation_serial) == (3, frozenset(), 0)
        assert found.head is None
    with pytest.raises(KeyMismatchError), disk.open_store(filled, card=world.own.card):
        pass
    content = b"".join(path.read_bytes() for path in filled.rglob("*") if path.is_file())
    assert not any(body in content for body in sealed)


@pytest.mark.parametrize("name", ["file:x", ":memory:", "a?mode=ro", "a#b", "a%41", "-x", "ä b"])
def test_a_store_of_any_name_opens(tmp_path, monkeypatch, name):
    """SQLite takes a relative path that begins with `file:` for a URI."""
    monkeypatch.chdir(tmp_path)
    world = make_world()
    for path in (name, tmp_path / f"absolute {name}"):
        disk.create_store(path, world.own.card, unsafe_small=True)
        with disk.open_store(path, write=True) as store:
            disk.keep_revocation(store, owner.revoke(world.own, [bytes(16)])[1])
        with disk.open_store(path) as store:
            assert load_server(store).revocation_serial == 1


def test_a_store_on_a_read_only_medium_is_read():
    """In a child of another user, for root writes whatever the modes say; pytest's own folders keep others out."""
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder).chmod(0o755)
        check_read_only(make_world(), pathlib.Path(folder, "store"))


def check_read_only(world, path):
    disk.create_store(path, world.own.card, unsafe_small=True)
    probe = """
import os, sys
from jcbir.storage._load import load_server
from jcbir.storage._store import open_store
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
with open_store(sys.argv[1]) as store:
    print(store.card.collection)
try:
    with open_store(sys.argv[1], write=True):
        print("written")
except OSError as error:
    print(type(error).__name__)
"""
    for file in (path, *path.rglob("*")):
        file.chmod(0o555 if file.is_dir() else 0o444)
    run = subprocess.run([sys.executable, "-c", probe, str(path)], capture_output=True, text=True)
    for folder in (path, path / disk.SEGMENTS):
        folder.chmod(0o755)
    assert run.stdout.split() == ["photos", "PermissionError"], run.stderr
