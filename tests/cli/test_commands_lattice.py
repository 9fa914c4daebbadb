"""A lattice collection by the commands: founded, published, searched, withdrawn from, moved to another epoch."""

import json

import pytest
from command_world import (
    ADDRESSES,
    AUTHORITY_PASSPHRASE,
    IDENTITIES,
    install_services,
    run,
    write_network,
    write_photographs,
)
from page_world import open_page

from jcbir.protocol import owner
from jcbir.storage import _keys as keys

pytestmark = pytest.mark.usefixtures("quick")
INIT = ("owner", "init", "photos", *IDENTITIES, "--network", "net.safetensors", "--cipher", "aes-gcm")


def test_photographs_in_query_out(capsys, tmp_path, monkeypatch):
    write_network(tmp_path / "net.safetensors")
    found = run(capsys, *INIT, "--scheme", "lattice")
    assert found["modulus_bits"] == 145
    services = install_services(
        monkeypatch,
        keys.read_secret(tmp_path / found["delegation"], passphrase=AUTHORITY_PASSPHRASE, expect=owner.Delegation),
    )
    album = write_photographs(tmp_path / "album", 7)
    record = run(capsys, "owner", "publish", "album", "--segment", "4", *ADDRESSES)
    assert (record["published"], record["segments"], record["waiting"]) == (7, 2, 0)
    assert run(capsys, "owner", "info")["schemes"] == ["lattice"]

    def join():
        granted = run(
            capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "gift", "--cloud", "https://cloud"
        )
        assert run(capsys, "user", "join", "gift", "--fingerprint", found["fingerprint"])["grant"] == granted["grant"]

    run(capsys, "user", "init")
    join()
    photograph = sorted(album.iterdir())[2]
    answer = run(capsys, "user", "query", photograph, "--top", "7", "--out", "results")
    assert (answer["scheme"], len(answer["queries"][0]["matches"])) == ("lattice", 7)
    assert answer["queries"][0]["matches"][0]["distance"] == 0
    assert len(json.loads((tmp_path / "results" / "a002" / "results.json").read_text())["matches"]) == 7
    for words, reason in (
        (("--audit", "1"), "audit: must be left out in a collection with lattice keys"),
        (("--scheme", "packed"), "scheme: must be one for the lattice keys of the collection, lattice, got 'packed'"),
    ):
        refused = run(capsys, "user", "query", photograph, "--out", "no", *words, status=2)
        assert reason in refused["reason"]

    run(capsys, "owner", "withdraw", photograph, *ADDRESSES)
    nearest = run(capsys, "user", "query", photograph, "--top", "1", "--out", "without")["queries"][0]["matches"]
    assert len(nearest) == 1

    with open_page(capsys, "owner", "open", *ADDRESSES) as page:
        assert page.enter().get("/state").json()["modulus_bits"] == 145
    before = services.holder.secret
    for dry in ((), ("--dry-run",)):
        refused = run(capsys, "owner", "rekey", "--modulus-bits", "2048", *dry, *ADDRESSES, status=2)
        assert "modulus_bits: must be left out for lattice keys, got 2048" in refused["reason"]
    assert run(capsys, "owner", "rekey", "--dry-run", *ADDRESSES)["modulus_bits"] == 145
    assert run(capsys, "owner", "rekey", *ADDRESSES)["in_collection"] == 6
    # No key of this kind serves two epochs.
    assert services.holder.secret.master != before.master
    assert services.holder.secret.public.seed != before.public.seed
    (tmp_path / "gift").rename(tmp_path / "old-gift")
    (tmp_path / "jcbir-user").rename(tmp_path / "old-user")
    run(capsys, "user", "init")
    found["fingerprint"] = run(capsys, "owner", "info")["fingerprint"]
    join()
    other = sorted(album.iterdir())[3]
    answer = run(capsys, "user", "query", other, "--top", "1", "--out", "again")
    assert answer["queries"][0]["matches"][0]["distance"] == 0


def test_lattice_stands_alone(capsys, tmp_path):
    write_network(tmp_path / "net.safetensors")
    refused = run(capsys, *INIT, "--schemes", "packed", "lattice", status=2)
    assert "schemes: must be for keys of one kind" in refused["reason"]
