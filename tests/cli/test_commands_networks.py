"""The network of a collection: founded without photographs, fitted to the first ones, learned from labels, tuned."""

import dataclasses
import functools
import hashlib
import json
import shutil

import jax
import numpy as np
import pytest
from command_world import (
    ADDRESSES,
    AUTHORITY_PASSPHRASE,
    IDENTITIES,
    install_services,
    once,
    open_workspace,
    run,
    write_features,
    write_kinds,
    write_network,
    write_photographs,
)

from jcbir.cli import features as keeping, publish as publishing, rekey as rekeying, training
from jcbir.cli.features import KIND as FEATURES, kept_features
from jcbir.cli.hidden import hidden_name, read_hidden
from jcbir.cli.main import run_command
from jcbir.cli.names import read_names
from jcbir.cli.network import GENERAL, load_network, load_parts, open_features, write_network as write_hashing
from jcbir.cli.publish import published_names
from jcbir.data import decode_image, format_list, load_sample
from jcbir.errors import FormatError, IntegrityError
from jcbir.hashing import encode_images, hash_images
from jcbir.hashing.heads import fit_label_free
from jcbir.models import Head, attach_head, halve, imagenet_resnet50, output_width
from jcbir.protocol import owner
from jcbir.storage import _keys as keys
from jcbir.storage._files import file_digest
from jcbir.storage._weights import read_weights, write_weights

SMALL = ("--backbone", "features.safetensors", "--size", "16")
EACH = 10
"""Photographs of each of three kinds: most heads are fitted to as many, by one compiled program."""


pytestmark = pytest.mark.usefixtures("features")


@functools.cache
def few_photographs():
    """As many research photographs as most heads are fitted to, of the package's hundreds."""
    sample = load_sample()
    few = {name: getattr(sample.train, name)[: 3 * EACH] for name in ("images", "labels", "ids")}
    return dataclasses.replace(sample, train=dataclasses.replace(sample.train, **few))


@pytest.fixture
def features(quick, tmp_path, monkeypatch):
    """A small network in place of a ResNet50."""
    monkeypatch.setattr("jcbir.data.load_sample", few_photographs)
    write_features(tmp_path / "features.safetensors")


@pytest.fixture
def found(capsys):
    options = ("--cipher", "aes-gcm", "--bits", "16")
    return once(capsys, "owner", "init", "photos", *IDENTITIES, *SMALL, *options)


@pytest.fixture
def services(found, monkeypatch, tmp_path):
    path = tmp_path / found["delegation"]
    delegation = keys.read_secret(path, passphrase=AUTHORITY_PASSPHRASE, expect=owner.Delegation)
    return install_services(monkeypatch, delegation)


def test_the_default_is_the_network_of_the_package_and_holds_only_a_head(capsys, tmp_path):
    made = run(capsys, "owner", "init", "photos", *IDENTITIES, "--bits", "32")
    file = tmp_path / made["network"]
    network = load_network(file)
    assert made["bits"] == output_width(network) == 32
    assert network.preprocessing == imagenet_resnet50().preprocessing
    assert file.stat().st_size < 400_000
    parts = load_parts(file, sha256=file_digest(file))
    assert parts.features.preprocessing.size == 160 and not parts.fitted


def test_squares_too_small_for_the_network_are_refused(capsys):
    answer = run(capsys, "owner", "init", "x", *IDENTITIES, "--size", "8", status=2)
    assert "size: must be at least 64" in answer["reason"]


def test_the_first_photographs_teach_the_head(capsys, tmp_path, found, services):
    before = (tmp_path / found["network"]).read_bytes()
    write_kinds(tmp_path / "album", EACH)
    made = run(capsys, "owner", "publish", "album", *ADDRESSES)
    assert made["published"] == made["in_collection"] == 3 * EACH
    with open_workspace(tmp_path / found["home"]) as workspace:
        file = workspace.path / "network.safetensors"
        assert file.read_bytes() != before and workspace.settings.network == file_digest(file)
        codes = [entry["code"] for entry in published_names(workspace).values()]
        assert json.loads((workspace.path / "settings.json").read_text())["network"] == file_digest(file)
    # Label-free bits are balanced over the photographs that they were fitted to.
    bits = np.unpackbits(np.array([list(bytes.fromhex(code)) for code in codes], np.uint8), axis=1)
    shares = bits.mean(axis=0)
    assert (np.minimum(shares, 1 - shares) > 0.1).sum() >= 12
    assert load_parts(file, sha256=file_digest(file)).fitted

    # The next photographs meet the same head.
    write_kinds(tmp_path / "album", 3, start=EACH)
    assert run(capsys, "owner", "publish", "album", *ADDRESSES)["published"] == 9
    assert file_digest(file) == file_digest(tmp_path / found["network"])


def test_codes_of_the_fit_are_those_of_the_network(capsys, tmp_path, found, services, monkeypatch):
    monkeypatch.setattr(publishing, "MOST_FITTED", 3 * EACH)
    write_kinds(tmp_path / "album", 16)
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    network = load_network(tmp_path / found["network"])
    with open_workspace(tmp_path / found["home"]) as workspace:
        entries = published_names(workspace).values()
        codes = publishing.read_codes(list(entries), bits=16)
    size = publishing.pixels_seen(network)
    squares = [decode_image((tmp_path / "album" / entry["path"]).read_bytes(), size=size) for entry in entries]
    again = publishing.hash_images(network, np.stack(squares))
    assert len(codes) == 48 and (codes != again).sum() <= 1


@pytest.mark.parametrize("case", ["keep", "few", "grant", "dry run", "given"])
def test_when_the_head_stays(capsys, tmp_path, monkeypatch, case):
    given = ("--network", str(write_network(tmp_path / "given.safetensors"))) if case == "given" else SMALL
    made = once(capsys, "owner", "init", "photos", *IDENTITIES, *given, "--cipher", "aes-gcm", "--bits", "16")
    before = file_digest(tmp_path / made["network"])
    write_kinds(tmp_path / "album", 7 if case == "few" else 8)
    if case == "grant":
        run(capsys, "user", "init")
        run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "for-anna")
    options = {"keep": ("--keep-network",), "dry run": ("--dry-run",)}.get(case, ())
    run(capsys, "owner", "publish", "album", *options)
    assert file_digest(tmp_path / made["network"]) == before


def test_an_interrupted_publish_keeps_the_head_it_has_fitted(capsys, tmp_path, found, services, monkeypatch):
    write_kinds(tmp_path / "album", EACH)

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "publish_segment", interrupted)
        run(capsys, "owner", "publish", "album", *ADDRESSES, status=130)
    fitted = file_digest(tmp_path / found["network"])
    assert run(capsys, "owner", "publish", "album", *ADDRESSES)["published"] == 3 * EACH
    assert file_digest(tmp_path / found["network"]) == fitted


def test_an_interrupted_look_goes_on_where_it_was(capsys, tmp_path, found, services, monkeypatch):
    write_kinds(tmp_path / "album", 40)
    real, decoded, when_fitted = publishing.prepare, [], []
    monkeypatch.setattr(publishing, "decoding_processes", lambda files: 0)

    def prepare(content, **options):
        if len(decoded) == stop:
            raise KeyboardInterrupt
        decoded.append(content)
        return real(content, **options)

    def fit(*arguments, **options):
        when_fitted.append(len(decoded))
        return fit_label_free(*arguments, **options)

    monkeypatch.setattr(publishing, "prepare", prepare)
    monkeypatch.setattr(publishing, "fit_label_free", fit)
    stop = 100
    run(capsys, "owner", "publish", "album", *ADDRESSES, status=130)
    stop = None
    assert run(capsys, "owner", "publish", "album", *ADDRESSES)["published"] == 120
    # Three batches of 32 were kept, four photographs are looked at again; then all are prepared to be published.
    assert when_fitted == [100 + 24] and len(decoded) == 100 + 24 + 120
    kept = sorted((tmp_path / found["home"] / "features").iterdir())
    with open_workspace(tmp_path / found["home"]) as workspace:
        parts = load_parts(workspace.path / "network.safetensors")
        entries = published_names(workspace).values()
        rows = kept_features(workspace, parts, [entry["sha256"] for entry in entries])
    assert len(kept) == 120 and all(file.stat().st_mode & 0o777 == 0o600 for file in kept)
    assert rows.keys() == {entry["sha256"] for entry in entries}
    # A second way to the same: the network on the pictures.
    files = [tmp_path / "album" / entry["path"] for entry in entries]
    wanted = encode_images(parts.features, np.stack([decode_image(file.read_bytes(), size=16) for file in files]))
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    found_rows = np.stack([rows[entry["sha256"]] for entry in entries]).astype(np.float32)
    np.testing.assert_allclose(found_rows, wanted, atol=1e-3)


def test_features_are_the_owners_alone(capsys, tmp_path, found, services):
    write_kinds(tmp_path / "album", EACH)
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    folder = tmp_path / found["home"] / "features"
    digest = hashlib.sha256((tmp_path / "album" / "red" / "000.png").read_bytes()).hexdigest()
    with open_workspace(tmp_path / found["home"]) as workspace:
        file = folder / hidden_name(digest, kind=FEATURES, owner=workspace.owner)
        other = dataclasses.replace(workspace.owner, naming_key=bytes(32))
    content, moved = file.read_bytes(), next(each for each in folder.iterdir() if each != file).read_bytes()
    assert hidden_name(digest, kind=FEATURES, owner=other) != file.name
    for altered in (content[:-1] + bytes([content[-1] ^ 1]), content[:30], moved):
        file.write_bytes(altered)
        refused = run(capsys, "owner", "rekey", "--refit", *ADDRESSES, status=5)
        assert "must be as this owner wrote it" in refused["reason"]
        assert "it may be deleted: its photograph is looked at again the next time it is published" in refused["reason"]
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match="as this owner wrote it"):
        read_hidden(file, kind=FEATURES, owner=other)
    # Names are read for names, features for features.
    (names,) = (tmp_path / found["home"] / "names").iterdir()
    with pytest.raises(FormatError, match="must be a file of features of version 2"):
        read_hidden(names, kind=FEATURES, owner=other)
    # As it is told, so it is.
    file.unlink()
    assert "got none of 1, " in run(capsys, "owner", "rekey", "--refit", *ADDRESSES, status=2)["reason"]
    run(capsys, "owner", "withdraw", "red/000.png", *ADDRESSES)
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    assert len(file.read_bytes()) == len(content)


def test_of_features_only_those_are_read_that_are_needed(capsys, tmp_path, found, services, monkeypatch):
    opened, real = [], keeping.read_hidden
    monkeypatch.setattr(keeping, "read_hidden", lambda file, **_: opened.append(file.name) or real(file, **_))
    monkeypatch.setattr(publishing, "MOST_FITTED", 24)
    publish = ("owner", "publish", write_kinds(tmp_path / "album", 24), *ADDRESSES)
    run(capsys, *publish)
    assert len(opened) == 24, "the head was fitted to these before they were published"
    opened.clear()
    run(capsys, *publish)
    assert not opened
    write_kinds(tmp_path / "album", 1, start=50)
    run(capsys, *publish)
    assert not opened, "three are too few to be compared"
    write_kinds(tmp_path / "album", 10, start=60)
    assert "nearness" in run(capsys, *publish)
    # What was published before is compared by a sample, and so is what is new.
    assert len(opened) == len(set(opened)) == 24 + 24


def test_what_is_withdrawn_is_forgotten(capsys, tmp_path, found, services, monkeypatch):
    """Features and names of it leave the owner's disk; those of what stays do not."""
    home = tmp_path / found["home"]
    write_kinds(tmp_path / "album", 10)
    run(capsys, "owner", "publish", "album", "--segment", "20", *ADDRESSES)

    def named():
        with open_workspace(home) as workspace:
            files = sorted((home / "names").iterdir())
            names = [entry["sha256"] for file in files for entry in read_names(file, workspace.owner).values()]
            kept = {file.name for file in (home / "features").iterdir()}
            assert kept == {hidden_name(name, kind=FEATURES, owner=workspace.owner) for name in names}
        return sorted(names)

    before = named()
    gone = hashlib.sha256((tmp_path / "album" / "red" / "003.png").read_bytes()).hexdigest()
    withdraw = ("owner", "withdraw", "red/003.png", *ADDRESSES)
    assert run(capsys, *withdraw, "--dry-run")["sent"] == 0 and named() == before

    def interrupted(*command):
        with monkeypatch.context() as patch:
            patch.setattr(publishing, "forget_features", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                run(capsys, *command)

    interrupted(*withdraw)
    assert len(services.living()) == 30, "the order waits"
    # What an interruption left is removed by the next withdrawal.
    run(capsys, "owner", "withdraw", "red/004.png", *ADDRESSES)
    left = named()
    assert len(left) == 28 and gone not in left and set(left) < set(before)
    # So is a whole file of names, and with the next epoch those of this one.
    shutil.rmtree(tmp_path / "album" / "red")
    run(capsys, "owner", "publish", "album", "--withdraw-missing", *ADDRESSES)
    assert len(named()) == 20
    interrupted("owner", "withdraw", "green/003.png", *ADDRESSES)
    run(capsys, "owner", "rekey", *ADDRESSES)
    assert len(named()) == 19
    run(capsys, "owner", "withdraw", *(entry["image_id"] for entry in run(capsys, "owner", "list")["photographs"]))
    assert named() == []


@pytest.mark.parametrize(("still", "warned"), [(0.0, False), (9.0, True)])
def test_a_head_that_no_longer_fits_is_said(capsys, tmp_path, found, services, monkeypatch, still, warned):
    monkeypatch.setattr(publishing, "STILL_FITS", still)
    write_kinds(tmp_path / "album", 15, kinds=("red", "green"))
    assert "nearness" not in run(capsys, "owner", "publish", "album", *ADDRESSES)
    write_kinds(tmp_path / "album", 23, kinds=("none", "none", "blue"))
    shutil.rmtree(tmp_path / "album" / "none")
    assert "nearness" not in run(capsys, "owner", "publish", "album", *ADDRESSES)
    write_kinds(tmp_path / "album", 24, kinds=("red",), start=50)
    capsys.readouterr()
    assert run_command(["owner", "publish", "album", *ADDRESSES, "--json"]) == 0
    streams = capsys.readouterr()
    made = json.loads(streams.out)
    assert 0 < made["nearness"] <= 1 and 0 < made["nearness_before"] <= 1
    assert ("`jcbir owner rekey --refit`" in streams.err) == warned


def later_kinds(capsys, tmp_path):
    """A head fitted to red and green, with blue published after it, and a user of the collection."""
    write_kinds(tmp_path / "album", 15, kinds=("red", "green"))
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    write_kinds(tmp_path / "album", 15)
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    run(capsys, "user", "init")
    run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "for-anna")


def check_refitted(capsys, tmp_path, services, made):
    """Every code is that of the new network, and a user finds by it."""
    assert (made["epoch"], made["in_collection"], made["waiting"]) == (1, 45, 0)
    assert services.cloud.card.epoch == services.holder.card.epoch == 1
    file = tmp_path / "jcbir-owner" / "network.safetensors"
    with open_workspace(tmp_path / "jcbir-owner") as workspace:
        assert workspace.settings.network == file_digest(file)
        entries = list(published_names(workspace).values())
        codes = publishing.read_codes(entries, bits=16)
        services.owner_state = workspace.owner
    squares = [decode_image((tmp_path / "album" / entry["path"]).read_bytes(), size=16) for entry in entries]
    assert (codes != hash_images(load_network(file), np.stack(squares))).sum() <= 1
    fingerprint = run(
        capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "again", "--cloud", "https://cloud"
    )["fingerprint"]
    run(capsys, "user", "join", "again", "--fingerprint", fingerprint)
    asked = run(capsys, "user", "query", "album/blue/003.png", "--top", "1", "--out", "results")
    (match,) = asked["queries"][0]["matches"]
    assert match["distance"] <= 1


def test_a_new_epoch_with_a_head_fitted_to_all(capsys, tmp_path, found, services, monkeypatch):
    later_kinds(capsys, tmp_path)
    before = file_digest(tmp_path / found["network"])
    fits = []
    monkeypatch.setattr(publishing, "fit_label_free", lambda *a, **k: fits.append(len(a[1])) or fit_label_free(*a, **k))
    with monkeypatch.context() as patch:
        patch.setattr(rekeying, "publish_segment", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(capsys, "owner", "rekey", "--refit", *ADDRESSES)
    # The old epoch goes on with the old head, and so does what is published in it.
    assert file_digest(tmp_path / found["network"]) == before
    (tmp_path / "album" / "blue" / "000.png").unlink()
    write_kinds(tmp_path / "album", 1, kinds=("red",), start=40)
    run(capsys, "owner", "publish", "album", "--withdraw-missing", *ADDRESSES)
    refused = run(capsys, "owner", "rekey", "--network", found["network"], *ADDRESSES, status=2)
    assert "an interrupted rekey has another hash head" in refused["reason"]
    made = run(capsys, "owner", "rekey", "--refit", *ADDRESSES)
    assert fits == [45] and file_digest(tmp_path / found["network"]) != before
    check_refitted(capsys, tmp_path, services, made)


def test_a_new_epoch_with_a_trained_head(capsys, tmp_path, found, services):
    later_kinds(capsys, tmp_path)
    train(capsys, "album")
    made = run(capsys, "owner", "rekey", "--network", "trained.safetensors", *ADDRESSES)
    check_refitted(capsys, tmp_path, services, made)
    assert file_digest(tmp_path / found["network"]) == file_digest(tmp_path / "trained.safetensors")


def test_what_cannot_be_refitted(capsys, tmp_path, found, services):
    write_kinds(tmp_path / "album", EACH)
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    write_network(tmp_path / "whole.safetensors")
    write_features(tmp_path / "strange.safetensors", key=1)
    for backbone, bits in (("strange", 16), ("features", 32)):
        below = open_features(str(tmp_path / f"{backbone}.safetensors"), size=16)
        head = Head(np.eye(output_width(below), bits, dtype=np.float32), np.zeros(bits, np.float32))
        write_hashing(tmp_path / f"{backbone}-{bits}.safetensors", attach_head(below, head), {"head": GENERAL})
    for words, reason in (
        (("--refit", "--fresh"), "must be given one at a time"),
        (("--network", "strange-16.safetensors"), "by one network at one size"),
        (("--network", "whole.safetensors"), "by one network at one size"),
        (("--network", "features-32.safetensors"), "must give codes of 16 bits, got 32"),
        (("--refit",), "features: must be kept of every published photograph, got none of 30"),
    ):
        if words == ("--refit",):
            shutil.rmtree(tmp_path / found["home"] / "features")
        assert reason in run(capsys, "owner", "rekey", *words, *ADDRESSES, status=2)["reason"]
        assert rekeying.prepared_card(tmp_path / found["home"]) is None


def test_a_user_takes_the_fitted_network_and_finds_the_kind(capsys, tmp_path, found, services):
    write_kinds(tmp_path / "album", EACH)
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    run(capsys, "user", "init")
    grant = ("owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "for-anna", "--cloud", "https://cloud")
    fingerprint = run(capsys, *grant)["fingerprint"]
    run(capsys, "user", "join", "for-anna", "--fingerprint", fingerprint)
    with open_workspace(tmp_path / found["home"]) as workspace:
        services.owner_state = workspace.owner
        names = {image_id: entry["path"] for image_id, entry in published_names(workspace).items()}
    write_kinds(tmp_path / "asked", 1, start=50)
    answer = run(
        capsys, "user", "query", *sorted((tmp_path / "asked").rglob("*.png")), "--top", "5", "--out", "results"
    )
    right = [
        names[match["image_id"]].split("/")[0] == query["image"].split("/")[-2]
        for query in answer["queries"]
        for match in query["matches"]
    ]
    assert len(right) == 15 and np.mean(right) >= 0.8


def train(capsys, *arguments, **options):
    return run(capsys, "owner", "train", *arguments, *SMALL, "--bits", "16", "--out", "trained.safetensors", **options)


def test_class_folders_teach_a_network(capsys, tmp_path):
    write_kinds(tmp_path / "album", 14)
    (tmp_path / "album" / "note.txt").write_text("beside")
    copy = tmp_path / "album" / "red" / "zcopy.png"
    copy.write_bytes((tmp_path / "album" / "red" / "000.png").read_bytes())
    (tmp_path / "album" / "blue" / "cut.png").write_bytes(copy.read_bytes()[:100])
    made = train(capsys, "album")
    assert (made["photographs"], made["kept_out"], made["classes"]) == (24, 18, 3)
    assert {entry["path"] for entry in made["skipped"]} == {"note.txt", "red/zcopy.png", "blue/cut.png"}
    assert set(made["figures"]) == {"trained", "label-free"}
    assert made["figures"]["trained"]["p@5"] >= 0.9 and made["figures"]["trained"]["top-1"] >= 0.9
    network = load_network(tmp_path / "trained.safetensors")
    assert output_width(network) == 16
    _, about = read_weights(tmp_path / "trained.safetensors", sha256=made["sha256"])
    assert about["head"] == "trained" and about["classes"] == ["blue", "green", "red"]
    founded = run(capsys, "owner", "init", "x", *IDENTITIES, "--network", "trained.safetensors")
    assert founded["bits"] == 16


def test_a_label_file_teaches_as_the_folders_do(capsys, tmp_path):
    write_kinds(tmp_path / "album", 14)
    files = sorted((tmp_path / "album").rglob("*.png"))
    ids = [str(file.relative_to(tmp_path / "album")) for file in files]
    rows = np.array([[identity.startswith(kind) for kind in ("blue", "green", "red")] for identity in ids])
    (tmp_path / "labels.txt").write_text(format_list(ids, rows))
    by_file = train(capsys, "album", "--labels", "labels.txt")
    by_folder = train(capsys, "album")
    assert by_file["figures"] == by_folder["figures"] and by_file["classes"] == 3


def test_without_labels_and_from_few(capsys, tmp_path):
    write_photographs(tmp_path / "flat", 30)
    made = train(capsys, "flat", "--label-free")
    assert made["photographs"] + made["kept_out"] == 30 and made["figures"] == {}
    assert read_weights(tmp_path / "trained.safetensors")[1]["head"] == "label-free"
    write_photographs(tmp_path / "handful", 8)
    assert "at least 24" in train(capsys, "handful", "--label-free", status=2)["reason"]
    write_kinds(tmp_path / "few", 4)
    made = train(capsys, "few")
    assert set(made["figures"]) == {"trained"} and made["kept_out"] == 6 and "p@1" in made["figures"]["trained"]


@pytest.mark.parametrize("part", ["last", "all"])
def test_a_tuned_network_is_in_its_file(capsys, tmp_path, part):
    write_kinds(tmp_path / "album", 14)
    train(capsys, "album", "--tune", part, "--epochs", "30")
    plain, _ = read_weights(tmp_path / "features.safetensors")
    tuned, _ = read_weights(tmp_path / "trained.safetensors")
    before, after = dict(halve(plain)["params"]), dict(tuned["backbone"]["params"])
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), before, after)
    stem, stage = all(jax.tree.leaves(same["conv1"])), all(jax.tree.leaves(same["layer1_0"]))
    assert stem == (part == "last") and not stage
    assert output_width(load_network(tmp_path / "trained.safetensors")) == 16


def test_what_training_makes_worse_is_said():
    good = {"map": 0.9, "p@5": 0.9, "top-1": 0.95, "distinct codes": 90, "photographs": 100}
    assert training.worse({"trained": good, "label-free": {**good, "map": 0.91}}) == []
    lost = training.worse({"trained": {**good, "p@5": 0.5}, "label-free": good})
    assert len(lost) == 1 and "p@5 worse" in lost[0] and "0.500" in lost[0]
    assert (
        "40 distinct codes of 90" in training.worse({"trained": {**good, "distinct codes": 40}, "label-free": good})[0]
    )
    assert training.worse({"trained": good}) == []


def test_measured_by_hand():
    codes = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1]], bool)
    rows = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool)
    found = training.measure(codes, rows)
    # Each has one of its kind; 000 and 111 meet it first, 001 and 011 in a tie of two with one of the other kind.
    assert found == {"map": 0.875, "p@1": 0.75, "top-1": 0.75, "distinct codes": 4, "photographs": 4}


def test_kept_out_of_each_kind():
    labels = np.repeat(np.arange(5), [100, 20, 12, 5, 3])
    learned, kept_out = training.keep_out(jax.random.key(0), np.eye(5, dtype=bool)[labels])
    assert np.bincount(labels[kept_out], minlength=5).tolist() == [20, 6, 6, 2, 0]
    assert sorted([*learned, *kept_out]) == list(range(140))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--label-free", "--tune", "all"), "tune: must be none without labels"),
        (("--bits", "4"), "bits: must be 8 to 512"),
        (("--epochs", "0"), "epochs: must be at least 1"),
        (("--labels", "no.txt"), "labels: must be a file"),
        (("--backbone", "no/such"), "no/such"),
        (("--backbone", "hashing.safetensors"), "backbone: must give features"),
    ],
)
def test_mistakes_are_named(capsys, tmp_path, words, reason):
    write_kinds(tmp_path / "album", 4)
    write_network(tmp_path / "hashing.safetensors")
    assert reason in run(capsys, "owner", "train", "album", "--out", "x", *words, status=2)["reason"]


def test_a_file_of_another_network_of_the_package_is_refused(capsys, tmp_path):
    made = run(capsys, "owner", "init", "photos", *IDENTITIES, "--bits", "16")
    variables, about = read_weights(tmp_path / made["network"])
    about["backbone"]["sha256"] = "0" * 64
    write_weights(tmp_path / "other.safetensors", variables, metadata=about)
    with pytest.raises(Exception, match="must name the ImageNet ResNet50") as raised:
        load_network(tmp_path / "other.safetensors")
    assert not isinstance(raised.value, IntegrityError)
