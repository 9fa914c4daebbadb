"""What is acknowledged is on the disk: bytes before their name, the name before the answer."""

import os
import secrets

import pytest
from protocol_world import make_world

from jcbir.protocol import owner
from jcbir.protocol.messages import Publication
from jcbir.storage import (
    _cards as cards,
    _files as files,
    _identities as identities,
    _journal as memory,
    _store as disk,
)
from jcbir.storage._maintenance import compact_store

WORK = 14


def publication(world):
    return next(line.message for line in world.transcript if isinstance(line.message, Publication))


def store_at(world, folder):
    disk.create_store(folder / "store", world.own.card, unsafe_small=True)
    with disk.open_store(folder / "store", write=True) as store:
        disk.append_segment(store, publication(world))


def compact(world, folder):
    store_at(world, folder)
    with disk.open_store(folder / "store", write=True) as store:
        disk.remove_images(store, owner.withdraw(world.own, world.names[:1])[1])
        assert compact_store(store)


def identity_at(world, folder):
    identities.write_identity(
        folder / "identity", world.identity, side="cloud", passphrase=None, draw=secrets.token_bytes, work=WORK
    )


WRITERS = {
    "a file": lambda world, folder: files.write_file(folder / "file", b"content"),
    "a file that is not replaced": lambda world, folder: files.write_file(folder / "file", b"content", replace=False),
    "a card": lambda world, folder: cards.write_card(folder / "card", world.own.card),
    "an identity": identity_at,
    "a segment": store_at,
    "a compaction": compact,
}


@pytest.mark.parametrize("name", WRITERS)
def test_bytes_are_flushed_before_they_get_their_name_and_the_name_before_the_end(name, tmp_path, monkeypatch):
    """A file gets its name by a rename or a link: all of it was flushed by then, and its folder is flushed after."""
    flushed, named, real = {}, [], {call: getattr(os, call) for call in ("fsync", "replace", "link")}

    def fsync(descriptor):
        real["fsync"](descriptor)
        about = os.fstat(descriptor)
        flushed[about.st_ino] = about.st_size
        # Of a folder: the names that it has by now.
        named[:] = [folder for folder in named if folder != about.st_ino]

    def naming(call):
        def patched(source, target, **options):
            about = os.stat(source)
            if os.path.isfile(source):
                assert flushed.get(about.st_ino) == about.st_size, f"{target} is named before it is flushed"
            real[call](source, target, **options)
            named.append(os.stat(os.path.dirname(target)).st_ino)

        return patched

    monkeypatch.setattr(os, "fsync", fsync)
    for call in ("replace", "link"):
        monkeypatch.setattr(os, call, naming(call))
    WRITERS[name](make_world(), tmp_path)
    assert flushed and not named, "a folder is not flushed after its last change"


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    path, real = tmp_path / "file", os.fsync

    def late(descriptor):
        if not path.exists():
            path.write_bytes(b"theirs")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", late)
    with pytest.raises(FileExistsError):
        files.write_file(path, b"ours", replace=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"] and path.read_bytes() == b"theirs"


@pytest.mark.parametrize("error", [OSError("full"), ValueError("no"), KeyboardInterrupt()])
def test_what_is_interrupted_leaves_nothing_beside_it(tmp_path, error):
    files.write_file(tmp_path / "file", b"before")

    def interrupted():
        with files.written_beside(tmp_path / "file") as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)):
        interrupted()
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_bytes() == b"before"


def test_every_commit_waits_for_the_disk(tmp_path):
    """SQLite's `synchronous` is FULL, 2: with less, a commit that was acknowledged is lost with the power."""
    world = make_world()
    store_at(world, tmp_path)
    with disk.open_store(tmp_path / "store", write=True) as store:
        assert store.database.execute("PRAGMA synchronous").fetchone() == (2,)
    with memory.open_journal(tmp_path / "journal", world.own.card) as journal:
        assert journal.execute("PRAGMA synchronous").fetchone() == (2,)
