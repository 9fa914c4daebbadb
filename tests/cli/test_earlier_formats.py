"""What an earlier version wrote: converted where that needs nobody's secret, else refused with a word of what to do."""

import base64
import json
import pathlib
import zlib

import pytest
from command_world import run
from protocol_world import make_world

from jcbir.errors import FormatError
from jcbir.protocol import wire
from jcbir.protocol.owner import Delegation
from jcbir.storage import _cards, _journal, _keys as keys, _store

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
    (open_journal, 3, "begin an empty journal with the key file of today's collection"),
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
