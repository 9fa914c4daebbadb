"""An owner's folder is interrupted before every change it makes to the disk; nothing is lost, no number used twice."""

import os
import secrets
import shutil

import numpy as np
import pytest
from command_world import PASSPHRASE, open_workspace, write_network
from paillier_vectors import stored_key

from jcbir.cli import workspace as workspaces
from jcbir.cli.outbox import deliver, pending, post
from jcbir.protocol import owner, session, wire
from jcbir.sealing import Photograph

pytestmark = pytest.mark.usefixtures("derived")
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
def prepared(derived, tmp_path_factory):
    """A founded folder, and two different publications of its first segment."""
    root = tmp_path_factory.mktemp("prepared")
    state = session.found(
        collection="photos", bits=16, secret=stored_key("small"), draw=secrets.token_bytes
    ).owner  # fmt: skip
    settings = workspaces.Settings(("packed",), "aes-gcm", "0" * 64, None)
    network = write_network(root / "net.safetensors")
    passphrases = {"passphrase": PASSPHRASE, "authority_passphrase": PASSPHRASE}
    workspaces.create_workspace(root / "home", state, settings, network, **passphrases, work=14)
    images = [Photograph(text, "image/png") for text in (b"one", b"two")]
    codes = np.eye(16, dtype=bool)[:2]
    options = {"draw": secrets.token_bytes, "cipher": "aes-gcm"}
    return root / "home", [owner.publish(state, codes, images, ["a", "b"], **options) for _ in range(2)]


def attempt(path, made, log):
    state, publication, catalog = made
    carriers = {"cloud": log.append, "authority": log.append}
    with open_workspace(path) as workspace:
        deliver(workspace, carriers)
        if workspace.owner.segments == 0:
            workspace = workspaces.commit(workspace, state, post(workspace, [publication, catalog]))
            deliver(workspace, carriers)


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
        kinds = [{wire.to_bytes(m) for m in log if type(m).__name__ == name} for name in ("Publication", "Catalog")]
        assert [len(kind) for kind in kinds] == [1, 1], f"killed before change {limit}"
        with open_workspace(path) as workspace:
            assert workspace.owner.segments == 1 and not pending(path)
        assert not (path / workspaces.NEXT).exists()
        outcomes.append((before, kinds[0] == {wire.to_bytes(first[1])}))
        if done:
            break
        shutil.rmtree(path)
    assert done
    # Some were killed before the commit (the second publication went out), some after it, some after sending.
    assert {was_first for _, was_first in outcomes} == {True, False}
    assert {sent for sent, _ in outcomes} == {0, 1, 2}


def test_every_order_waits_in_its_turn(prepared, tmp_path):
    """Orders of one kind, over several commits: none takes the place of another."""
    shutil.copytree(prepared[0], tmp_path / "home")
    posted, sent = [], []
    with open_workspace(tmp_path / "home") as workspace:
        for kinds in ("r", "r", "rh", "h", "hr", "r"):
            state, orders = workspace.owner, []
            for kind in kinds:
                made = owner.revoke(state, [bytes([len(posted)] * 16)]) if kind == "r" else owner.head(state, now=0)
                state, posted, orders = made[0], [*posted, made[1]], [*orders, made[1]]
            workspace = workspaces.commit(workspace, state, post(workspace, orders))
        deliver(workspace, {"cloud": sent.append, "authority": lambda message: None})
    assert list(map(wire.to_bytes, sent)) == list(map(wire.to_bytes, posted))


def test_a_draft_half_thrown_away_does_not_count(prepared, tmp_path, kill):
    (source, (first, second)), (arm, disarm) = prepared, kill
    draft = tmp_path / "home" / workspaces.NEXT
    shutil.copytree(source, tmp_path / "home")
    (draft / "outbox").mkdir(parents=True)
    shutil.copy(tmp_path / "home" / workspaces.SECRET, draft / workspaces.SECRET)
    (draft / "outbox" / "00000000-publication.cloud").write_bytes(wire.to_bytes(first[1]))
    for limit in range(100):
        arm(limit)
        try:
            workspaces.recover(tmp_path / "home")
            break
        except KilledError:
            disarm()
            assert not pending(tmp_path / "home")
    disarm()
    log = []
    attempt(tmp_path / "home", second, log)
    assert wire.to_bytes(log[1] if type(log[0]).__name__ == "Catalog" else log[0]) == wire.to_bytes(second[1])


def test_one_process_at_a_time_and_no_second_owner(prepared, tmp_path):
    shutil.copytree(prepared[0], tmp_path / "home")
    with open_workspace(tmp_path / "home") as workspace:
        assert PASSPHRASE not in repr(workspace)
        with pytest.raises(BlockingIOError), open_workspace(tmp_path / "home"):
            pass
    with pytest.raises(FileExistsError):
        workspaces.check_vacant(tmp_path / "home")


def test_a_full_disk_leaves_the_old_state(prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared[0], tmp_path / "home")
    state, publication, catalog = prepared[1][0]

    def full(path):
        raise OSError(28, "No space left on device", str(path))

    with open_workspace(tmp_path / "home") as workspace:
        with pytest.raises(OSError, match="No space left"):
            workspaces.commit(workspace, state, {"outbox/00000000-publication.cloud": full})
        assert not pending(tmp_path / "home")
    with open_workspace(tmp_path / "home") as workspace:
        assert workspace.owner.segments == 0
        workspace = workspaces.commit(workspace, state, post(workspace, [publication, catalog]))
        assert len(pending(tmp_path / "home")) == 2
