"""What an earlier version wrote: converted where that needs nobody's secret, else refused with a word of what to do."""

import base64
import hashlib
import json
import pathlib
import zlib

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
from protocol_world import make_world

from jcbir.errors import FormatError
from jcbir.protocol import wire
from jcbir.protocol.owner import Delegation
from jcbir.storage import _cards, _journal, _keys as keys, _store
from jcbir.storage._database import write_meta

FILES = json.loads((pathlib.Path(__file__).parents[1] / "vectors" / "earlier_formats.json").read_text())


@pytest.fixture
def earlier(tmp_path):
    """A folder with a file of each kind, made by tests/vectors/earlier_formats_make.py."""
    for name, deflated in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(zlib.decompress(base64.b64decode(deflated)))
        file.chmod(0o600)
    return tmp_path


def open_store(folder):
    with _store.open_store(folder / "store", write=True):
        pass


def open_journal(folder):
    with _journal.open_journal(folder / "journal.sqlite", make_world().own.card):
        pass


READERS = [
    (open_store, 3, "begin an empty store, and let the owner publish anew"),
    (open_journal, 4, "begin an empty journal with the key file of today's collection"),
    (lambda folder: _cards.read_card(folder / "collection.public"), 2, "its owner founds the collection anew"),
    (
        lambda folder: keys.read_secret(folder / "authority.secret", passphrase="any other one", expect=Delegation),
        2,
        "make it anew by the `init` of whoever has it",
    ),
    (lambda folder: wire.from_bytes((folder / "enrollment.jcbir").read_bytes()), 3, "have it written anew"),
]


@pytest.mark.parametrize(("read", "version", "remedy"), READERS)
def test_what_cannot_be_taken_over_says_what_to_do_and_stays_as_it_is(earlier, read, version, remedy):
    with pytest.raises(
        FormatError, match=f"must be of version {version}, got 1, which an earlier jcbir wrote: {remedy}"
    ):
        read(earlier)
    for name, deflated in FILES.items():
        assert (earlier / name).read_bytes() == zlib.decompress(base64.b64decode(deflated))


def of_version(message, version):
    """A message as that version began it; that one's checksum was made like today's."""
    blob = bytearray(wire.to_bytes(message)[: -wire.CHECK_BYTES])
    blob[4] = version
    return bytes(blob) + hashlib.sha256(blob).digest()[: wire.CHECK_BYTES]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("version", [1, 2])
def test_an_enrollment_and_an_outbox_of_the_version_before_are_told_by_name(
    capsys, monkeypatch, tmp_path, version
):  # fmt: skip
    write_network(tmp_path / "net.safetensors")
    found = run(capsys, "owner", "init", "photos", *IDENTITIES, "--network", "net.safetensors", "--cipher", "aes-gcm")
    services = install_services(
        monkeypatch, keys.read_secret(found["delegation"], passphrase=AUTHORITY_PASSPHRASE, expect=Delegation)
    )
    run(capsys, "user", "init")
    enrollment = tmp_path / "jcbir-user" / "enrollment.jcbir"
    enrollment.write_bytes(of_version(wire.from_bytes(enrollment.read_bytes()), version))
    refused = run(capsys, "owner", "grant", enrollment, "--out", "gift", status=2)
    assert "got a message that an earlier jcbir wrote" in refused["reason"] and not (tmp_path / "gift").exists()
    with pytest.raises(FormatError, match=f"got {version}, which an earlier jcbir wrote: have it written anew"):
        wire.from_bytes(enrollment.read_bytes())

    run(capsys, "owner", "publish", write_photographs(tmp_path / "album", 1))
    waiting = sorted((tmp_path / "jcbir-owner" / "outbox").iterdir())
    waiting[1].write_bytes(of_version(wire.from_bytes(waiting[1].read_bytes()), version))
    for words in (("owner", "send"), ("owner", "publish", "album")):
        refused = run(capsys, *words, *ADDRESSES, status=5)
        assert f"{waiting[1].name}: message: must be of version 3, got {version}" in refused["reason"]
    # What stands behind it waits as well: orders are taken in their order.
    assert len(services.orders) == 1 and sorted((tmp_path / "jcbir-owner" / "outbox").iterdir()) == waiting[1:]


def test_a_journal_of_the_version_before_is_told_by_name(tmp_path):
    """It suspended grants where today's suspends users."""
    card = make_world().own.card
    with _journal.open_journal(tmp_path / "journal.sqlite", card) as journal:
        write_meta(journal, "version", bytes([3]))
    with pytest.raises(FormatError, match="must be of version 4, got 3, which an earlier jcbir wrote: begin an empty"):
        open_journal(tmp_path)


def test_a_later_version_is_not_taken_for_damage(earlier):
    content = bytearray((earlier / "collection.public").read_bytes())
    content[4] = 3
    (earlier / "collection.public").write_bytes(content)
    with pytest.raises(FormatError, match="must be of version 2, got 3, which a later jcbir wrote: install that"):
        _cards.read_card(earlier / "collection.public")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("store", "verify", "store"), "let the owner publish anew"),
        (("serve", "authority", "--delegation", "authority.secret", "--journal", "journal.sqlite"), "make it anew"),
        (
            ("serve", "cloud", "--card", "collection.public", "--store", "store", "--authority", "http://127.0.0.1:1"),
            "its owner founds the collection anew",
        ),
    ],
)
def test_the_commands_say_so_too(capsys, earlier, words, remedy):
    port = ("--port", "0") if words[0] == "serve" else ()
    refused = run(capsys, *words, *port, status=5)
    assert refused["error"] == "damaged" and remedy in refused["reason"]
