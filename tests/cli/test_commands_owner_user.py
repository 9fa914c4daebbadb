"""The owner's and the user's commands in one process; both services are the pure protocol behind the client's calls."""

import json

import pytest
from command_world import (
    ADDRESSES,
    BITS,
    PASSPHRASE,
    install_services,
    open_home,
    run,
    write_network,
    write_photographs,
)
from paillier_vectors import stored_key

from jcbir.cli import owner as owner_commands, publish as publishing
from jcbir.cli.main import run_command
from jcbir.data import read_image
from jcbir.protocol import owner
from jcbir.storage import keys


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """A stored key instead of seconds of primes, the least scrypt, a passphrase in the environment, a folder."""
    monkeypatch.setattr(keys, "WORK", 14)
    monkeypatch.setattr(owner_commands, "generate_keys", lambda *, bits, draw: stored_key("medium"))
    monkeypatch.setenv("JCBIR_PASSPHRASE", PASSPHRASE)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def found(capsys, tmp_path):
    write_network(tmp_path / "net.safetensors")
    return run(capsys, "owner", "init", "photos", "--network", "net.safetensors", "--cipher", "aes-gcm")


@pytest.fixture
def services(found, monkeypatch, tmp_path):
    delegation = keys.read_secret(
        tmp_path / found["delegation"], passphrase=PASSPHRASE, expect=owner.Delegation
    )  # fmt: skip
    return install_services(monkeypatch, delegation)


def test_photographs_in_query_out(capsys, tmp_path, found, services):
    album = write_photographs(tmp_path / "album", 9)
    record = run(capsys, "owner", "publish", "album", "--segment", "4", *ADDRESSES)
    assert (record["published"], record["segments"], record["sent"], record["waiting"]) == (9, 3, 6, 0)
    assert services.orders[:2] == [("http://cloud", "Publication"), ("http://authority", "Catalogue")]

    assert run(capsys, "user", "init", "--hybrid")["hybrid"]
    granted = run(
        capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "gift", "--cloud", "http://cloud"
    )  # fmt: skip
    assert granted["hybrid"]
    joined = run(capsys, "user", "join", "gift", "--fingerprint", found["fingerprint"])
    assert joined["grant"] == granted["grant"]

    with open_home(tmp_path / "jcbir-owner") as home:
        services.owner_state = home.owner
    photographs = sorted(album.iterdir())
    answer = run(capsys, "user", "query", photographs[2], photographs[7], "--top", "9", "--out", "results")
    names = run(capsys, "owner", "info", "--names")["names"]
    for asked, query in zip((photographs[2], photographs[7]), answer["queries"], strict=True):
        assert len(query["matches"]) == 9
        assert query["matches"][0]["distance"] == 0
        assert asked.name in {names[m["image_id"]]["path"] for m in query["matches"] if m["distance"] == 0}
        for match in query["matches"]:
            original = album / names[match["image_id"]]["path"]
            assert (read_image(match["file"]) == read_image(original)).all()
    assert json.loads((tmp_path / "results" / "results.json").read_text())["queries"]

    # A second query into the same folder would mix two answers.
    refused = run(capsys, "user", "query", photographs[2], photographs[7], "--out", "results", status=2)
    assert refused["error"] == "mistake"


def test_publish_is_incremental_and_withdraws(capsys, tmp_path, found, services):
    album = write_photographs(tmp_path / "album", 5)
    (album / "broken.jpg").write_bytes(b"no picture")
    (album / "copy.png").write_bytes((album / "a000.png").read_bytes())
    first = run(capsys, "owner", "publish", "album", *ADDRESSES)
    assert (first["published"], first["copies"], [s["path"] for s in first["skipped"]]) == (5, 1, ["broken.jpg"])

    # A moved file is the same photograph, a changed one is another.
    (album / "a001.png").rename(album / "moved.png")
    write_photographs(album, 2, label="b")
    second = run(capsys, "owner", "publish", "album", *ADDRESSES)
    assert (second["published"], second["already"], second["withdrawn"]) == (2, 5, 0)
    assert run(capsys, "owner", "publish", "album", *ADDRESSES)["published"] == 0

    (album / "b000.png").unlink()
    third = run(capsys, "owner", "publish", "album", "--withdraw-missing", *ADDRESSES)
    assert (third["withdrawn"], third["in_collection"]) == (1, 6)
    assert len(services.cloud.images) == 6 and services.holder.withdrawn
    # What comes back is published again.
    write_photographs(album, 2, label="b")
    assert run(capsys, "owner", "publish", "album", *ADDRESSES)["published"] == 1

    (tmp_path / "empty").mkdir()
    refused = run(capsys, "owner", "publish", "empty", "--withdraw-missing", *ADDRESSES, status=2)
    assert "withdraw the whole collection" in refused["reason"]


def test_an_interrupted_publish_is_gone_on_with(capsys, tmp_path, found, services, monkeypatch):
    write_photographs(tmp_path / "album", 7)
    real, calls = publishing.hash_squares, []

    def interrupted(network, squares):
        calls.append(len(squares))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(network, squares)

    monkeypatch.setattr(publishing, "hash_squares", interrupted)
    stopped = run(capsys, "owner", "publish", "album", "--segment", "2", *ADDRESSES, status=130)
    assert stopped["error"] == "interrupted" and len(services.cloud.segments) == 2
    rest = run(capsys, "owner", "publish", "album", "--segment", "2", *ADDRESSES)
    assert (rest["already"], rest["published"], rest["in_collection"], rest["waiting"]) == (4, 3, 7, 0)
    assert [segment.number for segment in services.cloud.segments] == [0, 1, 2, 3]
    assert len(services.cloud.images) == 7


def test_without_a_network_the_bundled_one_is_trained(capsys, monkeypatch):
    asked = {}

    def train(key, path, *, folder, bits, epochs, progress):
        asked.update(folder=folder, bits=bits, epochs=epochs)
        write_network(path, bits=bits)
        return {"skipped": []}

    monkeypatch.setattr(owner_commands, "train_network", train)
    assert run(capsys, "owner", "init", "photos", "--bits", "24")["bits"] == 24
    assert asked == {"folder": None, "bits": 24, "epochs": 4}


def test_what_cannot_be_sent_waits_in_order(capsys, tmp_path, found, services):
    write_photographs(tmp_path / "album", 5)
    offline = run(capsys, "owner", "publish", "album", "--segment", "2")
    assert (offline["segments"], offline["sent"], offline["waiting"]) == (3, 0, 6)
    services.unreachable = True
    assert run(capsys, "owner", "send", *ADDRESSES, status=4)["error"] == "unreachable"
    services.unreachable = False
    half = run(capsys, "owner", "send", "--cloud", "http://cloud")
    assert (half["sent"], half["waiting"]) == (3, 3)
    assert run(capsys, "owner", "send", *ADDRESSES)["waiting"] == 0
    assert [segment.number for segment in services.cloud.segments] == [0, 1, 2]
    assert sorted(services.holder.catalogues) == [0, 1, 2]


def test_revoked_and_rekeyed(capsys, tmp_path, found, services):
    write_photographs(tmp_path / "album", 3)
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    run(capsys, "user", "init")
    run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "gift", "--label", "anna")
    run(capsys, "user", "join", "gift", "--fingerprint", found["fingerprint"])
    with open_home(tmp_path / "jcbir-owner") as home:
        services.owner_state = home.owner
    ask = ("user", "query", "album/a000.png", "--cloud", "http://cloud", "--top", "1")
    run(capsys, *ask, "--out", "one")
    assert run(capsys, *ask, "--scheme", "integer", "--out", "no", status=2)["error"] == "mistake"
    assert run(capsys, "owner", "revoke", "nobody", status=2)["error"] == "mistake"
    assert run(capsys, "owner", "revoke", "anna", *ADDRESSES)["serial"] == 1
    assert run(capsys, *ask, "--out", "two", status=3)["error"] == "revoked-grant"
    assert run(capsys, "owner", "info")["grants"][0]["status"] == "revoked"

    run(capsys, "owner", "publish", "album")
    write_photographs(tmp_path / "album", 1, label="late")
    run(capsys, "owner", "publish", "album")  # waits, and must not reach the next epoch
    assert "both addresses" in run(capsys, "owner", "rekey", status=2)["reason"]
    new = run(capsys, "owner", "rekey", "--fresh")
    assert new["epoch"] == 1 and new["fingerprint"] != found["fingerprint"]
    assert keys.read_card(tmp_path / found["card"]).epoch == 1
    delegation = keys.read_secret(tmp_path / found["delegation"], passphrase=PASSPHRASE, expect=owner.Delegation)
    assert delegation.card.epoch == 1
    services.__init__(delegation)
    again = run(capsys, "owner", "publish", "album", *ADDRESSES)
    assert (again["published"], again["sent"], again["waiting"]) == (4, 2, 0)
    assert run(capsys, "owner", "info")["grants"][0]["status"] == "ended by rekey"


def test_an_admission_of_somebody_else_is_refused(capsys, tmp_path, found):
    run(capsys, "user", "init")
    run(capsys, "user", "init", "--home", "other")
    run(capsys, "owner", "grant", "other/enrollment.jcbir", "--out", "gift")
    join = ("user", "join", "gift")
    assert run(capsys, *join, "--fingerprint", found["fingerprint"], status=3)["error"] == "foreign-collection"
    assert run(capsys, *join, "--fingerprint", "0000 1111", status=5)["error"] == "damaged"
    assert "no terminal" in run(capsys, *join, status=2)["reason"]
    other = (*join, "--fingerprint", found["fingerprint"], "--home", "other")
    network = tmp_path / "gift" / "network.safetensors"
    kept = network.read_bytes()
    write_network(network, key=1)
    assert "the owner vouched for" in run(capsys, *other, status=5)["reason"]
    voucher = tmp_path / "gift" / "network.json"
    kept_voucher = voucher.read_text()
    forged = json.loads(kept_voucher) | {"sha256": "0" * 64}
    voucher.write_text(json.dumps(forged))
    assert run(capsys, *other, status=3)["error"] == "forged-reply"
    network.write_bytes(kept)
    voucher.write_text(kept_voucher)
    assert run(capsys, *other)["collection"] == "photos"
    assert run(capsys, "user", "info", "--home", "other")["rights"] == ["rank", "open"]


def test_mistakes_end_in_a_line_and_a_status(capsys, tmp_path, found, monkeypatch):
    assert run(capsys, "owner", "init", "photos", status=2)["error"] == "mistake"
    monkeypatch.setenv("JCBIR_PASSPHRASE", "another one")
    assert "wrong passphrase" in run(capsys, "owner", "info", status=5)["reason"]
    monkeypatch.delenv("JCBIR_PASSPHRASE")
    assert "no terminal" in run(capsys, "owner", "info", status=2)["reason"]
    (tmp_path / "secret.txt").write_text(PASSPHRASE + "\nsecond line\n")
    record = run(capsys, "owner", "info", "--passphrase-file", "secret.txt")
    assert (record["collection"], record["bits"]) == ("photos", BITS)
    assert run(capsys, "user", "query", "no.png", "--out", "x", "--cloud", "http://x", status=2)["error"] == "mistake"
    assert run(capsys, "store", "verify", "nowhere", status=2)["error"] == "mistake"


def test_the_default_modulus_has_3072_bits(capsys, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        owner_commands, "generate_keys", lambda *, bits, draw: asked.append(bits) or stored_key("small")
    )  # fmt: skip
    write_network(tmp_path / "net.safetensors")
    run(capsys, "owner", "init", "photos", "--network", "net.safetensors")
    assert asked == [3072]


def test_answers_for_people(capsys, found):
    assert run_command(["owner", "info"]) == 0
    streams = capsys.readouterr()
    assert f"fingerprint: {found['fingerprint']}" in streams.out
    assert PASSPHRASE not in streams.out + streams.err
