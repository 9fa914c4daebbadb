"""The network of a collection: founded without photographs, fitted to the first ones, learned from labels, tuned."""

import json

import jax
import numpy as np
import pytest
from command_world import (
    ADDRESSES,
    AUTHORITY_PASSPHRASE,
    IDENTITIES,
    install_services,
    open_workspace,
    run,
    write_features,
    write_kinds,
    write_network,
    write_photographs,
)

from jcbir.cli import publish as publishing, training
from jcbir.cli.network import load_network, load_unfitted
from jcbir.cli.publish import published_names
from jcbir.data import format_list
from jcbir.errors import IntegrityError
from jcbir.models import halve, imagenet_resnet50, output_width
from jcbir.protocol import owner
from jcbir.storage import _keys as keys
from jcbir.storage._files import file_digest
from jcbir.storage._weights import read_weights, write_weights

SMALL = ("--backbone", "features.safetensors", "--size", "16")


pytestmark = pytest.mark.usefixtures("features")


@pytest.fixture
def features(quick, tmp_path):
    """A small network in place of a ResNet50."""
    write_features(tmp_path / "features.safetensors")


@pytest.fixture
def found(capsys):
    options = ("--cipher", "aes-gcm", "--bits", "16")
    return run(capsys, "owner", "init", "photos", *IDENTITIES, *SMALL, *options)


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
    assert load_unfitted(file, sha256=file_digest(file)).preprocessing.size == 160


def test_squares_too_small_for_the_network_are_refused(capsys):
    answer = run(capsys, "owner", "init", "x", *IDENTITIES, "--size", "8", status=2)
    assert "size: must be at least 64" in answer["reason"]


def test_the_first_photographs_teach_the_head(capsys, tmp_path, found, services):
    before = (tmp_path / found["network"]).read_bytes()
    write_kinds(tmp_path / "album", 12)
    made = run(capsys, "owner", "publish", "album", *ADDRESSES)
    assert made["published"] == made["in_collection"] == 36
    with open_workspace(tmp_path / found["home"]) as workspace:
        file = workspace.path / "network.safetensors"
        assert file.read_bytes() != before and workspace.settings.network == file_digest(file)
        codes = [entry["code"] for entry in published_names(workspace).values()]
        assert json.loads((workspace.path / "settings.json").read_text())["network"] == file_digest(file)
    # Label-free bits are balanced over the photographs that they were fitted to.
    bits = np.unpackbits(np.array([list(bytes.fromhex(code)) for code in codes], np.uint8), axis=1)
    shares = bits.mean(axis=0)
    assert (np.minimum(shares, 1 - shares) > 0.1).sum() >= 12
    assert load_unfitted(file, sha256=file_digest(file)) is None

    # The next photographs meet the same head.
    write_kinds(tmp_path / "album", 3, start=12)
    assert run(capsys, "owner", "publish", "album", *ADDRESSES)["published"] == 9
    assert file_digest(file) == file_digest(tmp_path / found["network"])


def test_codes_of_the_fit_are_those_of_the_network(capsys, tmp_path, found, services, monkeypatch):
    monkeypatch.setattr(publishing, "MOST_FITTED", 26)
    write_kinds(tmp_path / "album", 16)
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    network = load_network(tmp_path / found["network"])
    with open_workspace(tmp_path / found["home"]) as workspace:
        entries = published_names(workspace).values()
        codes = publishing.read_codes(list(entries), bits=16)
    squares = [publishing.square((tmp_path / "album" / entry["path"]).read_bytes(), network) for entry in entries]
    again = publishing.hash_images(network, np.stack(squares))
    assert len(codes) == 48 and (codes != again).sum() <= 1


@pytest.mark.parametrize("case", ["keep", "few", "grant", "dry run", "given"])
def test_when_the_head_stays(capsys, tmp_path, monkeypatch, case):
    given = ("--network", str(write_network(tmp_path / "given.safetensors"))) if case == "given" else SMALL
    made = run(capsys, "owner", "init", "photos", *IDENTITIES, *given, "--cipher", "aes-gcm", "--bits", "16")
    before = file_digest(tmp_path / made["network"])
    write_kinds(tmp_path / "album", 7 if case == "few" else 8)
    if case == "grant":
        run(capsys, "user", "init")
        run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "for-anna")
    options = {"keep": ("--keep-network",), "dry run": ("--dry-run",)}.get(case, ())
    run(capsys, "owner", "publish", "album", *options)
    assert file_digest(tmp_path / made["network"]) == before


def test_an_interrupted_publish_keeps_the_head_it_has_fitted(capsys, tmp_path, found, services, monkeypatch):
    write_kinds(tmp_path / "album", 10)

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "publish_segment", interrupted)
        run(capsys, "owner", "publish", "album", *ADDRESSES, status=130)
    fitted = file_digest(tmp_path / found["network"])
    assert run(capsys, "owner", "publish", "album", *ADDRESSES)["published"] == 30
    assert file_digest(tmp_path / found["network"]) == fitted


def test_a_user_takes_the_fitted_network_and_finds_the_kind(capsys, tmp_path, found, services):
    write_kinds(tmp_path / "album", 12)
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    run(capsys, "user", "init")
    grant = ("owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "for-anna", "--cloud", "http://cloud")
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
