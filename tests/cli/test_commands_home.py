"""An owner's folder is interrupted before every change it makes to the disk; nothing is lost, no number used twice."""

import os
import secrets
import shutil

import numpy as np
import pytest
from command_world import PASSPHRASE, open_home, write_network
from paillier_vectors import stored_key

from jcbir.cli import workspace as homes
from jcbir.cli.outbox import deliver, pending, post
from jcbir.protocol import owner, wire

CHANGES = ("open", "replace", "fsync", "mkdir", "unlink", "rmdir", "link")


class KilledError(BaseException):
    """Not an Exception: nothing may tidy up after it."""


@pytest.fixture
def kill(monkeypatch):
    """Die before the n-th change, and let no later one happen."""
    real = {name: getattr(os, name) for name in CHANGES}

    def arm(limit):
        left = [limit]

        def wrap(name):
            def change(*arguments, **options):
                if left[0] <= 0:
                    raise KilledError
                left[0] -= 1
                return real[name](*arguments, **options)

            return change

        for name in CHANGES:
            monkeypatch.setattr(os, name, wrap(name))

    def disarm():
        for name in CHANGES:
            monkeypatch.setattr(os, name, real[name])

    return arm, disarm


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A founded folder, and two different publications of its first segment."""
    root = tmp_path_factory.mktemp("prepared")
    state = owner.create(collection="photos", bits=16, secret=stored_key("small"), draw=secrets.token_bytes)
    settings = homes.Settings(("packed",), "aes-gcm", "0" * 64, None)
    network = write_network(root / "net.safetensors")
    passphrases = {"passphrase": PASSPHRASE, "authority_passphrase": PASSPHRASE}
    homes.create_home(root / "home", state, settings, network, **passphrases, work=14)
    images = [np.full((2, 2, 3), value, np.uint8) for value in (1, 2)]
    codes = np.eye(16, dtype=bool)[:2]
    options = {"draw": secrets.token_bytes, "cipher": "aes-gcm"}
    return root / "home", [owner.publish(state, codes, images, ["a", "b"], **options) for _ in range(2)]


def attempt(path, made, log):
    state, publication, catalogue = made
    carriers = {"cloud": log.append, "authority": log.append}
    with open_home(path) as home:
        deliver(home, carriers)
        if home.owner.segments == 0:
            home = homes.commit(home, state, post(home, [publication, catalogue]))
            deliver(home, carriers)


def test_killed_before_every_change(prepared, tmp_path, kill):
    (source, (first, second)), (arm, disarm) = prepared, kill
    outcomes = []
    for limit in range(1000):
        path, log = tmp_path / str(limit), []
        shutil.copytree(source, path)
        arm(limit)
        try:
            attempt(path, first, log)
            done = True
        except KilledError:
            done = False
        disarm()
        before = len(log)
        attempt(path, second, log)
        attempt(path, second, log)
        # Whoever received the segment received one and the same, however often, and the state counts it.
        kinds = [{wire.to_bytes(m) for m in log if type(m).__name__ == name} for name in ("Publication", "Catalogue")]
        assert [len(kind) for kind in kinds] == [1, 1], f"killed before change {limit}"
        with open_home(path) as home:
            assert home.owner.segments == 1 and not pending(path)
        assert not (path / homes.NEXT).exists()
        outcomes.append((before, kinds[0] == {wire.to_bytes(first[1])}))
        if done:
            break
        shutil.rmtree(path)
    assert done
    # Some were killed before the commit (the second publication went out), some after it, some after sending.
    assert {was_first for _, was_first in outcomes} == {True, False}
    assert {sent for sent, _ in outcomes} == {0, 1, 2}


def test_a_draft_half_thrown_away_does_not_count(prepared, tmp_path, kill):
    (source, (first, second)), (arm, disarm) = prepared, kill
    draft = tmp_path / "home" / homes.NEXT
    shutil.copytree(source, tmp_path / "home")
    (draft / "outbox").mkdir(parents=True)
    shutil.copy(tmp_path / "home" / homes.SECRET, draft / homes.SECRET)
    (draft / "outbox" / "00000000-publication.cloud").write_bytes(wire.to_bytes(first[1]))
    for limit in range(100):
        arm(limit)
        try:
            homes.recover(tmp_path / "home")
            break
        except KilledError:
            disarm()
            assert not pending(tmp_path / "home")
    disarm()
    log = []
    attempt(tmp_path / "home", second, log)
    assert wire.to_bytes(log[1] if type(log[0]).__name__ == "Catalogue" else log[0]) == wire.to_bytes(second[1])


def test_one_process_at_a_time_and_no_second_owner(prepared, tmp_path):
    shutil.copytree(prepared[0], tmp_path / "home")
    with open_home(tmp_path / "home") as home:
        assert PASSPHRASE not in repr(home)
        with pytest.raises(BlockingIOError), open_home(tmp_path / "home"):
            pass
    with pytest.raises(FileExistsError):
        homes.check_vacant(tmp_path / "home")


def test_a_full_disk_leaves_the_old_state(prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared[0], tmp_path / "home")
    state, publication, catalogue = prepared[1][0]

    def full(path):
        raise OSError(28, "No space left on device", str(path))

    with open_home(tmp_path / "home") as home:
        with pytest.raises(OSError, match="No space left"):
            homes.commit(home, state, {"outbox/00000000-publication.cloud": full})
        assert not pending(tmp_path / "home")
    with open_home(tmp_path / "home") as home:
        assert home.owner.segments == 0
        home = homes.commit(home, state, post(home, [publication, catalogue]))
        assert len(pending(tmp_path / "home")) == 2
