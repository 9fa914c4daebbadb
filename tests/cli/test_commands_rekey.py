"""`jcbir owner rekey` moves a collection to a new epoch; whatever interrupts it, nothing is lost, nobody is let in."""

import os
import secrets
import shutil
import sys

import pytest
from command_world import (
    ADDRESSES,
    AUTHORITY_PASSPHRASE,
    IDENTITIES,
    install_services,
    once,
    open_workspace,
    run,
    write_network,
    write_photographs,
)
from paillier_vectors import stored_key

from jcbir.cli import owner as owner_commands, publish as publishing, rekey as rekeying, workspace as workspaces
from jcbir.cli.names import read_names, write_names
from jcbir.cli.outbox import pending
from jcbir.protocol import owner
from jcbir.protocol.messages import Appointment, Recalled
from jcbir.storage import _keys as keys
from jcbir.storage._cards import read_card

CHANGES = ("open", "replace", "fsync", "mkdir", "unlink", "rmdir", "link")
REKEY = ("owner", "rekey", *ADDRESSES)
ASK = ("user", "query", "album/a002.png", "album/a004.png", "--cloud", "https://cloud", "--top", "5")


class KilledError(BaseException):
    """Not an Exception: nothing may tidy up after it."""


pytestmark = pytest.mark.usefixtures("quick")


def delegation_of(path):
    return keys.read_secret(path / workspaces.DELEGATION, passphrase=AUTHORITY_PASSPHRASE, expect=owner.Delegation)


@pytest.fixture
def services(capsys, monkeypatch, tmp_path):
    """A collection of five images in three segments, at services that are the pure protocol, and a user of it."""
    write_network(tmp_path / "net.safetensors")
    found = once(
        capsys, "owner", "init", "photos", *IDENTITIES, "--network", "net.safetensors", "--cipher", "aes-gcm",
        "--schemes", "bitsliced",
    )  # fmt: skip
    made = install_services(monkeypatch, delegation_of(tmp_path / "jcbir-owner"))
    write_photographs(tmp_path / "album", 5)
    run(capsys, "owner", "publish", "album", "--segment", "2", *ADDRESSES)
    run(capsys, "user", "init")
    admit(capsys, found["fingerprint"], "first")
    return made


def admit(capsys, fingerprint, folder):
    run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", folder, "--label", folder)
    run(capsys, "user", "join", folder, "--fingerprint", fingerprint)


def check_answers(capsys, services, out):
    """Both queries find their own photograph, and every picture opened is the one in the album."""
    with open_workspace(workspaces.Path("jcbir-owner")) as workspace:
        services.owner_state = workspace.owner
    names = run(capsys, "owner", "info", "--names")["names"]
    assert all(set(entry) == {"sha256", "path"} for entry in names.values())
    answer = run(capsys, *ASK, "--scheme", "bitsliced", "--out", out)
    for asked, query in zip(("a002.png", "a004.png"), answer["queries"], strict=True):
        assert len(query["matches"]) == 5
        assert asked in {names[m["image_id"]]["path"] for m in query["matches"] if m["distance"] == 0}
        for match in query["matches"]:
            original = workspaces.Path("album", names[match["image_id"]]["path"])
            assert workspaces.Path(match["file"]).read_bytes() == original.read_bytes()


def test_rekey_moves_everything(capsys, services):
    check_answers(capsys, services, "before")
    old_images = dict(services.cloud.images)
    services.most_bytes = 2 * max(map(len, old_images.values()))
    # The photographs are not needed.
    os.rename("album", "elsewhere")
    new = run(capsys, *REKEY)
    os.rename("elsewhere", "album")
    assert (new["epoch"], new["in_collection"], new["waiting"]) == (1, 5, 0)
    assert new["segments"] == services.recalls == 3
    assert services.cloud.card == services.holder.card and services.cloud.card.epoch == 1
    # Nobody but the owner sees which image became which.
    assert len(services.living()) == 5 and not services.cloud.images.keys() & old_images.keys()
    assert not set(services.cloud.images.values()) & set(old_images.values())
    assert run(capsys, *ASK, "--scheme", "bitsliced", "--out", "refused", status=3)["error"] == "revoked-grant"
    assert run(capsys, "owner", "info")["grants"][0]["status"] == "ended by rekey"
    admit(capsys, new["fingerprint"], "second")
    check_answers(capsys, services, "after")
    # Life goes on in the new epoch: all is known, and what is new is published.
    write_photographs(workspaces.Path("album"), 1, label="b")
    again = run(capsys, "owner", "publish", "album", *ADDRESSES)
    assert (again["published"], again["already"]) == (1, 5)
    assert not workspaces.Path("jcbir-owner", rekeying.EPOCH).exists()


def test_rekey_with_another_key_and_again(capsys, services, monkeypatch):
    monkeypatch.setattr(owner_commands, "generate_keys", lambda *, bits, draw: stored_key("full-2048"))
    first = run(capsys, *REKEY, "--modulus-bits", "2048")
    assert first["modulus_bits"] == stored_key("full-2048").public.bits
    second = run(capsys, *REKEY)
    assert (second["epoch"], second["modulus_bits"], second["in_collection"]) == (2, first["modulus_bits"], 5)
    admit(capsys, second["fingerprint"], "second")
    check_answers(capsys, services, "after")


def test_an_empty_collection_has_epochs_too(capsys, tmp_path, monkeypatch):
    write_network(tmp_path / "net.safetensors")
    run(capsys, "owner", "init", "photos", *IDENTITIES, "--network", "net.safetensors")
    services = install_services(monkeypatch, delegation_of(tmp_path / "jcbir-owner"))
    assert run(capsys, *REKEY)["in_collection"] == services.recalls == 0
    assert services.holder.card.epoch == 1


def test_what_is_being_sent_is_not_another_rekey(capsys, tmp_path, services, monkeypatch):
    """The options of the second command were not those of the first: it would end without a word about them."""
    real = services.send_order

    def refuse(url, message):
        if isinstance(message, Appointment):
            raise ConnectionError(f"{url}: nobody answers")
        real(url, message)

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["jcbir.service.client"], "send_order", refuse)
        assert run(capsys, *REKEY, status=4)["error"] == "unreachable"
    write_network(tmp_path / "other.safetensors", key=7)
    refused = run(capsys, *REKEY, "--network", "other.safetensors", status=2)
    assert "an interrupted rekey has another hash head" in refused["reason"]
    refused = run(capsys, *REKEY, "--modulus-bits", "4096", status=2)
    assert "an interrupted rekey has a key of" in refused["reason"]
    made = run(capsys, *REKEY)
    assert (made["epoch"], made["waiting"]) == (1, 0)


def test_what_changed_during_an_interruption(capsys, services, monkeypatch):
    real, calls = rekeying.publish_segment, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(rekeying, "publish_segment", interrupted)
    services.most_bytes = 2 * max(map(len, services.cloud.images.values()))
    assert run(capsys, *REKEY, status=130)["error"] == "interrupted"
    # The old epoch serves on; an image that was moved is withdrawn, another one comes.
    check_answers(capsys, services, "between")
    with open_workspace(workspaces.Path("jcbir-owner", rekeying.EPOCH)) as following:
        moved = {entry["path"] for entry in publishing.published_names(following).values()}
    assert len(moved) == 2
    workspaces.Path("album", min(moved)).unlink()
    write_photographs(workspaces.Path("album"), 1, label="b")
    run(capsys, "owner", "publish", "album", "--withdraw-missing", *ADDRESSES)
    refused = run(capsys, *REKEY, "--modulus-bits", "4096", status=2)
    assert "an interrupted rekey has a key of" in refused["reason"]
    new = run(capsys, *REKEY)
    assert (new["epoch"], new["in_collection"]) == (1, 5)
    names = run(capsys, "owner", "info", "--names")["names"]
    assert {entry["path"] for entry in names.values()} == {file.name for file in workspaces.Path("album").iterdir()}
    assert services.living() == names.keys()


def test_a_fresh_start_forgets_what_was_prepared(capsys, services, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(services, "recall", lambda *_: 1 / 0)
        patch.setattr(sys.modules["jcbir.service.client"], "recall", services.recall)
        with pytest.raises(ZeroDivisionError):
            run(capsys, *REKEY)
    path = workspaces.Path("jcbir-owner")
    assert rekeying.prepared_card(path).epoch == 1
    new = run(capsys, "owner", "rekey", "--fresh")
    assert (new["epoch"], new["in_collection"], rekeying.prepared_card(path)) == (1, 0, None)


def test_what_the_cloud_sends_is_checked(capsys, services, monkeypatch):
    honest = services.recall
    shape = {}

    def lying(url, message):
        images = list(honest(url, message).images)
        if shape["lie"] == "order":
            images.reverse()
        elif shape["lie"] == "content":
            body = images[0].sealed
            images[0] = type(images[0])(images[0].image_id, body[:-1] + bytes([body[-1] ^ 1]))
        return Recalled(tuple(images))

    monkeypatch.setattr(sys.modules["jcbir.service.client"], "recall", lying)
    for lie, status in (("order", 5), ("content", 5)):
        shape["lie"] = lie
        assert run(capsys, *REKEY, status=status)["error"] == "damaged"
        assert services.cloud.card.epoch == 0
    shape["lie"] = None
    assert run(capsys, *REKEY)["epoch"] == 1


def test_a_dry_run_says_what_would_be_moved(capsys, services):
    foreseen = run(capsys, "owner", "rekey", "--dry-run")
    assert (foreseen["dry_run"], foreseen["epoch"], foreseen["going_on"]) == (True, 1, False)
    assert foreseen["images_taken_back"] == run(capsys, "owner", "info")["published"] > 0
    assert services.cloud.card.epoch == 0 and not workspaces.Path("jcbir-owner", rekeying.EPOCH).exists()


def test_a_code_that_was_not_kept(capsys, services):
    file = sorted(workspaces.Path("jcbir-owner", workspaces.NAMES).iterdir())[0]
    with open_workspace(workspaces.Path("jcbir-owner")) as workspace:
        entries = read_names(file, workspace.owner)
        plain = {key: {k: v for k, v in e.items() if k != "code"} for key, e in entries.items()}
        write_names(file, plain, workspace.owner)
    refused = run(capsys, *REKEY, status=5)
    assert "no code of 2 images" in refused["reason"] and services.cloud.card.epoch == 0


@pytest.fixture
def kill(monkeypatch):
    """Die before the n-th change to the disk or order to a service, and let no later one happen."""
    real = {name: getattr(os, name) for name in CHANGES}
    left = [None]

    def tick():
        if left[0] is not None:
            if left[0] <= 0:
                raise KilledError
            left[0] -= 1

    def wrap(name):
        def change(*arguments, **options):
            tick()
            return real[name](*arguments, **options)

        return change

    for name in CHANGES:
        monkeypatch.setattr(os, name, wrap(name))
    return left, tick


def rekey(path, services, tick):
    """One run of what the command does."""

    def carrier(side):
        def carry(message):
            tick()
            services.send_order(f"https://{side}", message)
            tick()

        return carry

    with open_workspace(path) as workspace:
        rekeying.rekey_collection(
            workspace,
            lambda: owner.rekey(workspace.owner, draw=secrets.token_bytes),
            carriers={side: carrier(side) for side in ("cloud", "authority")},
            fetch=lambda message: services.recall("https://cloud", message),
            authority_passphrase=AUTHORITY_PASSPHRASE,
        )


def killed_runs(services, kill, tmp_path, limits):
    """Kill a run before its n-th change, for each n; whoever runs it again arrives at the next epoch, complete."""
    left, tick = kill
    source, cloud, holder = tmp_path / "jcbir-owner", services.cloud, services.holder
    pictures = {file.name: file.read_bytes() for file in (tmp_path / "album").iterdir()}
    reached = set()
    for limit in limits:
        path = tmp_path / f"killed-{limit}"
        shutil.copytree(source, path)
        services.cloud, services.holder = cloud, holder
        left[0] = limit
        try:
            rekey(path, services, tick)
            done = True
        except KilledError:
            done = False
        left[0] = None
        reached.add((services.cloud.card.epoch, services.holder.card.epoch))
        # In whatever state it stopped, the owner's folder can be opened, and is in one epoch or the other.
        with open_workspace(path) as workspace:
            assert len(workspace.owner.image_ids) == 5 and workspace.owner.card.epoch in (0, 1)
        assert not done
        rekey(path, services, tick)
        with open_workspace(path) as workspace:
            assert workspace.owner.card == services.cloud.card == services.holder.card
            assert workspace.owner.card.epoch in ((1, 2) if limit else (1,)), "another epoch than the next was opened"
            assert read_card(path / workspaces.CARD) == workspace.owner.card
            assert delegation_of(path).card == workspace.owner.card
            assert not pending(path) and rekeying.prepared_card(path) is None
            names = publishing.published_names(workspace)
            images = [owner.SealedImage(each, services.cloud.images[each]) for each in services.living()]
            for image, opened in zip(images, owner.unseal(workspace.owner, images), strict=True):
                name = names[image.image_id]["path"]
                assert (opened.data, opened.name) == (pictures[name], name)
            assert len(images) == 5
        shutil.rmtree(path)
    return reached


def count_changes(services, kill, tmp_path):
    """How many changes a run makes, and before which of them the cloud had been told of the new epoch."""
    left, tick = kill
    cloud, holder, told = services.cloud, services.holder, []
    shutil.copytree(tmp_path / "jcbir-owner", tmp_path / "counted")
    left[0] = 10**9

    def noting():
        tick()
        if services.cloud.card.epoch == 1 and not told:
            told.append(10**9 - left[0])

    rekey(tmp_path / "counted", services, noting)
    count = 10**9 - left[0]
    left[0], services.cloud, services.holder = None, cloud, holder
    return count, told[0]


def test_killed_at_some_changes(services, kill, tmp_path):
    count, told = count_changes(services, kill, tmp_path)
    limits = [0, count // 4, count // 2, told - 3, told, told + 6, count - 4]
    assert killed_runs(services, kill, tmp_path, limits) == {(0, 0), (1, 0), (1, 1)}


@pytest.mark.slow
def test_killed_at_every_third_change(services, kill, tmp_path):
    count, _ = count_changes(services, kill, tmp_path)
    assert count > 150
    assert killed_runs(services, kill, tmp_path, range(0, count, 3)) == {(0, 0), (1, 0), (1, 1)}
