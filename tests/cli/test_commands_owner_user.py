"""The owner's and the user's commands in one process; both services are the pure protocol behind the client's calls."""

import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import sys
import unicodedata
from datetime import UTC, datetime, timedelta

import PIL.Image
import pytest
from command_world import (
    ADDRESSES,
    AUTHORITY_PASSPHRASE,
    BITS,
    IDENTITIES,
    PASSPHRASE,
    install_services,
    once,
    open_workspace,
    run,
    write_network,
    write_photographs,
)
from paillier_vectors import stored_key

from jcbir.cli import owner as owner_commands, publish as publishing
from jcbir.cli.console import printable
from jcbir.cli.main import run_command
from jcbir.cli.names import read_names
from jcbir.data import read_image
from jcbir.errors import IntegrityError
from jcbir.paillier.public import add
from jcbir.protocol import owner
from jcbir.protocol._digests import score_blocks
from jcbir.protocol._signatures import sign
from jcbir.ranking import KEY_KINDS
from jcbir.storage import _keys as keys
from jcbir.storage._cards import read_card

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def found(capsys, tmp_path):
    write_network(tmp_path / "net.safetensors")
    return once(capsys, "owner", "init", "photos", *IDENTITIES, "--network", "net.safetensors", "--cipher", "aes-gcm")


@pytest.fixture
def services(found, monkeypatch, tmp_path):
    delegation = keys.read_secret(
        tmp_path / found["delegation"], passphrase=AUTHORITY_PASSPHRASE, expect=owner.Delegation
    )  # fmt: skip
    return install_services(monkeypatch, delegation)


def test_photographs_in_query_out(capsys, tmp_path, found, services):
    album = write_photographs(tmp_path / "album", 9)
    record = run(capsys, "owner", "publish", "album", "--segment", "4", *ADDRESSES)
    assert (record["published"], record["segments"], record["sent"], record["waiting"]) == (9, 3, 12, 0)
    assert services.orders[:2] == [("https://cloud", "Publication"), ("https://authority", "Catalog")]

    assert run(capsys, "user", "init", "--hybrid")["hybrid"]
    granted = run(
        capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "gift", "--cloud", "https://cloud"
    )  # fmt: skip
    assert granted["hybrid"]
    joined = run(capsys, "user", "join", "gift", "--fingerprint", found["fingerprint"])
    assert joined["grant"] == granted["grant"]

    with open_workspace(tmp_path / "jcbir-owner") as workspace:
        services.owner_state = workspace.owner
    photographs = sorted(album.iterdir())
    answer = run(capsys, "user", "query", photographs[2], photographs[7], "--top", "9", "--out", "results")
    names = run(capsys, "owner", "info", "--names")["names"]
    for asked, query in zip((photographs[2], photographs[7]), answer["queries"], strict=True):
        assert len(query["matches"]) == 9
        assert query["matches"][0]["distance"] == 0
        assert asked.name in {names[m["image_id"]]["path"] for m in query["matches"] if m["distance"] == 0}
        for match in query["matches"]:
            original = album / names[match["image_id"]]["path"]
            assert (tmp_path / match["file"]).read_bytes() == original.read_bytes()
            assert (tmp_path / match["file"]).name == match["name"] == original.name
        record = json.loads((tmp_path / "results" / asked.stem / "results.json").read_text())
        assert [match["file"] for match in record["matches"]] == [match["name"] for match in query["matches"]]

    # A second query leaves the first answer alone.
    before = {file: file.read_bytes() for file in (tmp_path / "results").rglob("*") if file.is_file()}
    again = run(capsys, "user", "query", photographs[2], "--top", "1")
    assert again["queries"][0]["folder"] == os.path.join("results", "a002-2")
    assert before == {file: file.read_bytes() for file in before}


def test_what_users_are_told_is_the_owners_choice(capsys, tmp_path, found, services):
    album = tmp_path / "album"
    album.mkdir()
    noted = PIL.Image.Exif()
    noted[0x010F] = "Camera & Sons"
    noted.get_ifd(0x8769)[0x9003] = "2024:05:01 12:30:00"
    noted.get_ifd(0x8825)[1] = "here"
    for number, kind in enumerate(("jpg", "png", "bmp")):
        options = {} if kind == "bmp" else {"exif": noted}
        PIL.Image.new("RGB", (20, 16), (90 * number, 40, 200)).save(album / f"{number}.{kind}", **options)
    (tmp_path / "captions.csv").write_text('\ufeffpath,caption\r\n0.jpg,"The four of us, at last"\r\n', "utf-8")
    record = run(capsys, "owner", "publish", "album", "--captions", "captions.csv", *ADDRESSES)
    assert [row["path"] for row in record["reencoded"]] == ["2.bmp"] and record["published"] == 3
    PIL.Image.new("RGB", (20, 16), (9, 9, 9)).save(album / "quiet.jpg", exif=noted)
    run(capsys, "owner", "publish", "album", "--no-names", "--no-dates", *ADDRESSES)
    PIL.Image.new("RGB", (20, 16), (99, 9, 9)).save(album / "whole.jpg", exif=noted)
    run(capsys, "owner", "publish", "album", "--keep-metadata", *ADDRESSES)

    run(capsys, "user", "init")
    run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "gift", "--cloud", "http://127.0.0.1:8470")
    run(capsys, "user", "join", "gift", "--fingerprint", found["fingerprint"])
    answer = run(capsys, "user", "query", album / "0.jpg", "--top", "5")
    names = run(capsys, "owner", "info", "--names")["names"]
    told = {names[match["image_id"]]["path"]: match for match in answer["queries"][0]["matches"]}
    date = "2024-05-01T12:30:00"
    assert {path: (match["name"], match["taken"], match["caption"]) for path, match in told.items()} == {
        "0.jpg": ("0.jpg", date, "The four of us, at last"),
        "1.png": ("1.png", date, ""),
        "2.bmp": ("2.jpg", "", ""),
        "quiet.jpg": ("", "", ""),
        "whole.jpg": ("whole.jpg", date, ""),
    }
    for path, match in told.items():
        content = (tmp_path / match["file"]).read_bytes()
        assert (content == (album / path).read_bytes()) == (path == "whole.jpg")
        assert (b"here" in content) == (path == "whole.jpg")
        if path != "2.bmp":
            assert (read_image(tmp_path / match["file"]) == read_image(album / path)).all()
    assert (tmp_path / told["quiet.jpg"]["file"]).name == "photograph.jpg"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a.jpg\n", "captions: must have a path and a caption in each row, got 1 cells in 1"),
        (b"a.jpg,b,c\n", "captions: must have a path and a caption in each row, got 3 cells in 1"),
        (b'a.jpg,"b\n', "captions: must be a CSV file in UTF-8"),
        (b"\xff\xfe", "captions: must be a CSV file in UTF-8"),
    ],
)
def test_captions_are_a_file_of_two_columns(capsys, tmp_path, found, content, said):
    (tmp_path / "album").mkdir()
    (tmp_path / "captions.csv").write_bytes(content)
    refused = run(capsys, "owner", "publish", "album", "--captions", "captions.csv", status=5)
    assert said in refused["reason"]


def captions_found(capsys, photograph, out):
    answer = run(capsys, "user", "query", photograph, "--top", "9", "--cloud", "https://cloud", "--out", out)
    return {match["name"]: match["caption"] for match in answer["queries"][0]["matches"]}


def test_captions_of_published_photographs_change(capsys, tmp_path, found, services):
    album = write_photographs(tmp_path / "album", 3)
    (tmp_path / "captions.csv").write_text("a000.png,the first\na001.png,the second\n")
    publish = ("owner", "publish", "album", "--captions", "captions.csv")
    run(capsys, *publish, *ADDRESSES)
    run(capsys, "user", "init")
    run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "gift")
    run(capsys, "user", "join", "gift", "--fingerprint", found["fingerprint"])
    before = services.living()

    # What the photographs were published from is not needed: the cloud has them.
    album.rename(tmp_path / "elsewhere")
    change = ("owner", "caption", "a000.png", " Anna, at last ", "a001.png", "", "a002.png", "", *ADDRESSES)
    assert run(capsys, *change, "--dry-run")["sent"] == 0
    changed = run(capsys, *change)
    assert {row["path"]: row["caption"] for row in changed["captions"]} == {"a000.png": "Anna, at last", "a001.png": ""}
    assert (changed["unchanged"], changed["waiting"]) == (1, 0) and services.living() == before
    listed = {row["path"]: row["caption"] for row in run(capsys, "owner", "list")["photographs"]}
    told = {"a000.png": "Anna, at last", "a001.png": "", "a002.png": ""}
    assert listed == told == captions_found(capsys, "elsewhere/a000.png", "results")

    # A table that says otherwise changes them too; so does it for photographs that have moved.
    (tmp_path / "captions.csv").write_text("a000.png,the first again\n")
    publish = ("owner", "publish", "elsewhere", "--captions", "captions.csv")
    assert run(capsys, *publish, "--dry-run")["captions_changed"] == 1
    record = run(capsys, *publish, *ADDRESSES)
    assert (record["published"], record["already"], record["moved"], record["captions_changed"]) == (0, 3, 3, 1)
    assert run(capsys, *publish, *ADDRESSES)["captions_changed"] == 0
    told["a000.png"] = "the first again"
    rows = run(capsys, "owner", "list")["photographs"]
    assert {row["path"]: row["caption"] for row in rows} == told == captions_found(capsys, "elsewhere/a001.png", "more")
    assert {row["root"] for row in rows} == {str(tmp_path / "elsewhere")}

    # A new epoch has the words and the places of the old one.
    run(capsys, "owner", "rekey", *ADDRESSES)
    assert [{**row, "image_id": ""} for row in run(capsys, "owner", "list")["photographs"]] == [
        {**row, "image_id": ""} for row in rows
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [((), "at least one photograph and its caption"), (("nowhere.png", "x"), "must each be one that is published"),
     (("a000.png", "x" * 65536), "caption: must be at most 65535 bytes")],
)  # fmt: skip
def test_captions_that_are_none(capsys, tmp_path, found, services, words, said):
    run(capsys, "owner", "publish", write_photographs(tmp_path / "album", 1), *ADDRESSES)
    assert said in run(capsys, "owner", "caption", *words, *ADDRESSES, status=2)["reason"]
    assert "cloud: must be an address" in run(capsys, "owner", "caption", "a000.png", "x", status=2)["reason"]


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_a_change_of_captions_goes_on_where_it_was_interrupted(capsys, tmp_path, found, services, monkeypatch, stop):
    """Its orders are committed together: at no moment is a photograph withdrawn for good."""
    run(capsys, "owner", "publish", write_photographs(tmp_path / "album", 2), *ADDRESSES)
    before, send, left = services.living(), services.send_order, [stop]

    def falter(url, message):
        if not left[0]:
            raise ConnectionError(f"{url}: nobody answers")
        left[0] -= 1
        send(url, message)

    monkeypatch.setattr(sys.modules["jcbir.service.client"], "send_order", falter)
    change = ("owner", "caption", "a000.png", "other", *ADDRESSES)
    stopped = run(capsys, *change, status=4)
    assert "the same command goes on" in stopped["reason"]
    monkeypatch.setattr(sys.modules["jcbir.service.client"], "send_order", send)
    assert run(capsys, *change)["waiting"] == 0 and services.living() == before
    assert run(capsys, "owner", "list")["photographs"][0]["caption"] == "other"


def test_a_caption_of_no_photograph_is_named(capsys, tmp_path, found):
    write_photographs(tmp_path / "album", 1)
    (tmp_path / "captions.csv").write_text("a000.png,here\n\nb\\none.png,nowhere\n")
    assert run_command(["owner", "publish", "album", "--captions", "captions.csv", "--dry-run"]) == 0
    told = capsys.readouterr().err
    assert "captions: nothing at b/none.png" in told and "nothing at a000.png" not in told


def test_a_query_is_audited_and_a_rollback_is_noticed(capsys, tmp_path, found, services):
    album = write_photographs(tmp_path / "album", 5)
    run(capsys, "owner", "publish", "album", "--segment", "3", *ADDRESSES)
    run(capsys, "user", "init")
    run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "gift", "--cloud", "https://cloud")
    run(capsys, "user", "join", "gift", "--fingerprint", found["fingerprint"])
    photograph, before = sorted(album.iterdir())[0], services.cloud
    answer = run(capsys, "user", "query", photograph, "--top", "1", "--out", "first", "--audit", "4")
    assert (answer["audited"], answer["head"]) == (4, 2)
    sign_anew = services.cheat

    def shift(report):
        """Blind the scores once more: the same numbers, so that no sentinel sees it, and not what was computed."""
        public = services.cloud.card.public.key
        scores = tuple(
            tuple(
                part._replace(
                    ciphertexts=add(
                        public, part.ciphertexts,
                        KEY_KINDS["paillier"].blinders(public, len(part.ciphertexts), draw=secrets.token_bytes),
                    )
                )
                for part in row
            )
            for row in report.scores
        )  # fmt: skip
        header = dataclasses.replace(report, blocks=score_blocks(scores), openings=b"", scores=(), signature=b"")
        signed = sign(header, secret=services.identity.secret)
        return dataclasses.replace(signed, openings=report.openings, scores=scores)

    services.cheat = shift
    run(capsys, "user", "query", photograph, "--top", "1", "--out", "unaudited")
    refused = run(capsys, "user", "query", photograph, "--top", "1", "--out", "second", "--audit", "1", status=3)
    assert "not those of this query against this index" in refused["reason"]
    assert not (tmp_path / "second").exists()
    services.cheat = sign_anew
    run(capsys, "owner", "publish", write_photographs(tmp_path / "more", 1, label="b"), *ADDRESSES)
    assert run(capsys, "user", "query", photograph, "--top", "1", "--out", "third")["head"] == 3
    # Cloud and authority together go back: the user remembers.
    services.cloud = dataclasses.replace(services.cloud, head=before.head)
    services.holder = dataclasses.replace(services.holder, head=2)
    refused = run(capsys, "user", "query", photograph, "--top", "1", "--out", "fourth", status=3)
    assert "shows head 2, head 3 is known" in refused["reason"]


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
    planned = run(capsys, "owner", "publish", "album", "--withdraw-missing", "--dry-run", *ADDRESSES)
    assert [row["path"] for row in planned["missing"]] == ["b000.png"] and len(services.living()) == 7
    assert planned["missing"][0]["root"] == str(album.resolve())
    third = run(capsys, "owner", "publish", "album", "--withdraw-missing", *ADDRESSES)
    assert (third["withdrawn"], third["in_collection"]) == (1, 6)
    assert len(services.living()) == 6 and services.holder.withdrawn
    # What comes back is published again.
    write_photographs(album, 2, label="b")
    assert run(capsys, "owner", "publish", "album", *ADDRESSES)["published"] == 1

    # Another folder says nothing of this one; this one, empty, is rather not mounted than emptied.
    (tmp_path / "empty").mkdir()
    assert run(capsys, "owner", "publish", "empty", "--withdraw-missing", *ADDRESSES)["withdrawn"] == 0
    album.rename(tmp_path / "away")
    album.mkdir()
    refused = run(capsys, "owner", "publish", "album", "--withdraw-missing", *ADDRESSES, status=2)
    assert "must hold a photograph" in refused["reason"] and len(services.living()) == 7


def test_an_alarm_shows_at_every_grant_of_its_user(capsys, tmp_path, found, services):
    given = {}
    for label, home in (("one", "her"), ("two", "her"), ("three", "his")):
        if not (tmp_path / home).exists():
            run(capsys, "user", "init", "--home", home)
        granted = run(capsys, "owner", "grant", f"{home}/enrollment.jcbir", "--out", f"for-{label}", "--label", label)
        given[label] = granted["grant"], granted["user"]
    grant, user = (bytes.fromhex(value) for value in given["one"])
    services.holder = dataclasses.replace(services.holder, suspended={user: grant})
    rows = run(capsys, "owner", "grants", *ADDRESSES)["grants"]
    assert {row["label"]: row["suspended"] for row in rows} == {"one": True, "two": True, "three": False}


def test_what_moved_was_withdrawn_and_comes_back_is_listed_where_it_is(capsys, tmp_path, found, services):
    album = write_photographs(tmp_path / "album", 2)
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    (album / "a000.png").rename(album / "moved.png")
    assert run(capsys, "owner", "publish", "album", *ADDRESSES)["moved"] == 1
    run(capsys, "owner", "withdraw", "moved.png", *ADDRESSES)
    (album / "moved.png").rename(album / "back.png")
    assert run(capsys, "owner", "publish", "album", *ADDRESSES)["published"] == 1
    listed = run(capsys, "owner", "list")["photographs"]
    assert [row["path"] for row in listed] == ["a001.png", "back.png"]


@pytest.mark.parametrize("way", ["unreadable", "damaged", "dead link", "pipe", "recycled"])
def test_what_cannot_be_read_is_not_taken_for_deleted(capsys, tmp_path, found, services, monkeypatch, way):
    album = write_photographs(tmp_path / "album", 3)
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    photograph = album / "a001.png"
    if way == "unreadable":
        real = publishing.read_encoded

        def read(path):
            if path.name == photograph.name:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(publishing, "read_encoded", read)
    elif way == "damaged":
        photograph.write_bytes(photograph.read_bytes()[:60])
    else:
        photograph.unlink()
    if way == "dead link":
        (album / "elsewhere").symlink_to(tmp_path / "not-mounted")
    elif way == "pipe":
        os.mkfifo(photograph)
    elif way == "recycled":
        (album / "@eaDir").mkdir()
    refused = ("owner", "publish", "album", "--withdraw-missing", *ADDRESSES)
    if way == "recycled":
        assert run(capsys, *refused)["withdrawn"] == 1
    else:
        assert "nothing is withdrawn" in run(capsys, *refused, status=2)["reason"]
        assert len(services.living()) == 3


def test_what_moved_behind_a_link_is_not_deleted(capsys, tmp_path, found, services):
    album = write_photographs(tmp_path / "album", 3)
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    (tmp_path / "elsewhere").mkdir()
    (album / "a001.png").rename(tmp_path / "elsewhere" / "a001.png")
    (album / "linked").symlink_to(tmp_path / "elsewhere")
    again = run(capsys, "owner", "publish", "album", "--withdraw-missing", *ADDRESSES)
    assert (again["withdrawn"], again["moved"]) == (0, 1) and len(services.living()) == 3
    assert "linked/a001.png" in [row["path"] for row in run(capsys, "owner", "list")["photographs"]]


def test_a_photograph_that_moved_to_another_folder_belongs_there(capsys, tmp_path, found, services):
    album, other = write_photographs(tmp_path / "album", 3), write_photographs(tmp_path / "other", 1, label="o")
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    (album / "a001.png").rename(other / "new.png")
    (other / "copy.png").write_bytes((album / "a000.png").read_bytes())
    assert run(capsys, "owner", "publish", "other", *ADDRESSES)["moved"] == 1
    rows = {row["path"]: row["root"] for row in run(capsys, "owner", "list")["photographs"]}
    assert rows == {"a000.png": str(album), "a002.png": str(album), "o000.png": str(other), "new.png": str(other)}
    assert run(capsys, "owner", "publish", "album", "--withdraw-missing", *ADDRESSES)["withdrawn"] == 0
    (other / "new.png").unlink()
    assert run(capsys, "owner", "publish", "other", "--withdraw-missing", *ADDRESSES)["withdrawn"] == 1


def test_withdraw_by_path_and_by_pseudonym(capsys, tmp_path, found, services):
    write_photographs(tmp_path / "album", 4)
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    ids = {row["path"]: row["image_id"] for row in run(capsys, "owner", "list")["photographs"]}
    planned = run(capsys, "owner", "withdraw", "a000.png", "--dry-run", *ADDRESSES)
    assert [row["image_id"] for row in planned["withdrawn"]] == [ids["a000.png"]] and len(services.living()) == 4
    done = run(capsys, "owner", "withdraw", "album/a000.png", ids["a002.png"], *ADDRESSES)
    assert (len(done["withdrawn"]), done["in_collection"], done["sent"]) == (2, 2, 4)
    assert services.living() == {ids["a001.png"], ids["a003.png"]}
    assert "got none called 'a000.png'" in run(capsys, "owner", "withdraw", "a000.png", status=2)["reason"]


@pytest.mark.parametrize("place", ["album/copy.png", "copy.png", "other/deep/copy.png", "elsewhere.png"])
def test_a_photograph_in_two_places_is_found_by_either(capsys, tmp_path, found, services, place):
    """Each shows the same photograph, wherever it lies and whichever of them was published."""
    album, other = write_photographs(tmp_path / "album", 2), tmp_path / "other" / "deep"
    other.mkdir(parents=True)
    for file in (album / "copy.png", other / "copy.png", tmp_path / "elsewhere.png"):
        shutil.copy(album / "a000.png", file)
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    for words in (("withdraw", place, "--dry-run"), ("caption", place, "a caption"), ("withdraw", place)):
        assert run_command(["owner", *words, *ADDRESSES]) == 0
        streams = capsys.readouterr()
        assert streams.err == f"{place} shows the same photograph as a000.png, published from {album}\n"
        assert "a000.png" in streams.out
    assert [row["path"] for row in run(capsys, "owner", "list")["photographs"]] == ["a001.png"]


def test_only_what_happened_is_told(capsys, tmp_path, found, services):
    def told(*words):
        assert run_command(["owner", *words, *ADDRESSES]) == 0
        return capsys.readouterr().out.splitlines()

    album = write_photographs(tmp_path / "album", 3)
    assert told("publish", "album", "--dry-run") == ["dry run: True", "published: 3", "in collection: 0"]
    assert told("publish", "album") == ["published: 3", "segments: 1", "in collection: 3", "sent: 4"]
    assert told("publish", "album") == ["already: 3", "in collection: 3"]
    write_photographs(album, 2, label="b")
    (album / "a001.png").unlink()
    shutil.copy(album / "a000.png", album / "copy.png")
    (album / "a002.png").rename(album / "moved.png")
    assert told("publish", "album", "--withdraw-missing") == [
        "published: 2", "already: 2", "copies: 1", "moved: 1", "withdrawn: 1", "segments: 1", "in collection: 4",
        "sent: 8", f"withdrawn from {album}: a001.png",
    ]  # fmt: skip
    assert told("withdraw", "a000.png")[1:] == ["withdrawn: 1", "in collection: 3", "sent: 4"]


@pytest.mark.parametrize("name", [b"caf\xe9.jpg", b"two\nlines.jpg", b"[red] old [b].jpg", "e\u0301.jpg".encode()])
def test_names_that_no_line_can_hold(capsys, tmp_path, found, services, name):
    album = write_photographs(tmp_path / "album", 2)
    shown = printable(unicodedata.normalize("NFC", os.fsdecode(name)))
    bad = os.fsencode(album) + b"/" + name
    with open(bad, "wb") as file:
        file.write(b"no picture")
    first = run(capsys, "owner", "publish", "album", *ADDRESSES)
    assert first["published"] == 1 + 1 and len(first["skipped"]) == 1
    assert printable(first["skipped"][0]["path"]) == shown
    assert run_command(["owner", "publish", "album"]) == 0
    assert f"skipped {shown}: " in capsys.readouterr().err
    os.rename(album / "a001.png", bad)
    assert run(capsys, "owner", "publish", "album", *ADDRESSES)["moved"] == 1
    assert shown in [printable(row["path"]) for row in run(capsys, "owner", "list")["photographs"]]
    assert run_command(["owner", "list"]) == 0 and f"  {shown}\n" in capsys.readouterr().out
    assert run(capsys, "owner", "info", "--names")["published"] == 2
    done = run(capsys, "owner", "withdraw", os.fsdecode(name), *ADDRESSES)
    assert len(done["withdrawn"]) == 1


def test_status_says_who_is_in_step(capsys, tmp_path, found, services, monkeypatch):
    write_photographs(tmp_path / "album", 2)
    run(capsys, "owner", "publish", "album")
    assert run(capsys, "owner", "status")["waiting"] == [
        "00000000-publication.cloud", "00000001-catalog.authority", "00000002-head.authority", "00000002-head.cloud",
    ]  # fmt: skip
    told = run(capsys, "owner", "status", *ADDRESSES)
    assert told["cloud"]["reachable"] and told["cloud"]["in_step"] and told["authority"]["in_step"]
    # What a service says of itself is not what was found of it.
    boast = {"service": "cloud", "epoch": 0, "status": "halted", "in_step": True, "reachable": False}
    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["jcbir.service.client"], "fetch_health", lambda link: boast)
        told = run(capsys, "owner", "status", *ADDRESSES)["authority"]
        assert (told["reachable"], told["in_step"], told["status"]) == (True, False, "halted")
        capsys.readouterr()
        assert run_command(["owner", "status", *ADDRESSES]) == 0
        assert "refused until `jcbir owner rekey`" in capsys.readouterr().out
    run(capsys, "owner", "rekey", "--fresh")
    assert not run(capsys, "owner", "status", *ADDRESSES)["cloud"]["in_step"]
    services.unreachable = True
    assert run(capsys, "owner", "status", *ADDRESSES)["cloud"] == {
        "reachable": False, "in_step": False, "reason": "https://cloud: nobody answers",
    }  # fmt: skip


def test_a_label_names_one_grant(capsys, tmp_path, found, services):
    run(capsys, "user", "init")
    give = ("owner", "grant", "jcbir-user/enrollment.jcbir", "--label", "anna")
    first = run(capsys, *give, "--out", "one")
    assert "no grant in force has" in run(capsys, *give, "--out", "two", status=2)["reason"]
    assert not (tmp_path / "two").exists()
    run(capsys, "owner", "revoke", "anna")
    second = run(capsys, *give, "--out", "two")
    assert [(g["grant"], g["status"]) for g in run(capsys, "owner", "grants")["grants"]] == [
        (first["grant"], "revoked"), (second["grant"], "in force"),
    ]  # fmt: skip
    # Who has one is the owner's affair.
    assert not (tmp_path / "jcbir-owner" / "grants.json").stat().st_mode & 0o077
    run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "three")
    assert len(run(capsys, "owner", "revoke", "--all")["revoked"]) == 2
    assert {g["status"] for g in run(capsys, "owner", "grants")["grants"]} == {"revoked"}
    run(capsys, "owner", "revoke", "--all", status=2)
    run(capsys, "owner", "revoke", status=2)


def test_a_label_that_two_grants_share_means_both(capsys, tmp_path, found, services):
    run(capsys, "user", "init")
    for number in ("one", "two", "three"):
        run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", number, "--label", number)
    # An earlier version let two share one.
    file = tmp_path / "jcbir-owner" / "grants.json"
    lines = json.loads(file.read_text())
    file.write_text(json.dumps([{**line, "label": line["label"].replace("two", "one")} for line in lines]))
    foreseen = run(capsys, "owner", "revoke", "one", "--dry-run")
    assert foreseen["dry_run"] and foreseen["revoked"] == [line["grant"] for line in lines[:2]]
    assert {g["status"] for g in run(capsys, "owner", "grants")["grants"]} == {"in force"}
    assert run(capsys, "owner", "revoke", "one", *ADDRESSES)["revoked"] == foreseen["revoked"]
    assert [g["status"] for g in run(capsys, "owner", "grants")["grants"]] == ["revoked", "revoked", "in force"]
    assert "got none called 'one'" in run(capsys, "owner", "revoke", "one", status=2)["reason"]


def test_dates_are_dates(capsys, found):
    run(capsys, "user", "init")
    given = run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "one", "--days", "2")
    until = datetime.fromisoformat(given["expires"])
    assert until.tzinfo is not None and timedelta(days=1.9) < until - datetime.now(UTC) <= timedelta(days=2)
    run(capsys, "user", "join", "one", "--fingerprint", found["fingerprint"])
    assert run(capsys, "user", "info")["expires"] == given["expires"]
    assert run(capsys, "owner", "grants")["grants"][0]["expires"] == given["expires"]


def test_nothing_in_the_owners_folder_says_what_is_published(capsys, tmp_path, found):
    write_photographs(tmp_path / "album", 3, label="holiday")
    run(capsys, "owner", "publish", "album")
    rows = run(capsys, "owner", "list")["photographs"]
    assert sorted(row["path"] for row in rows) == [f"holiday{number:03d}.png" for number in range(3)]
    digests = [hashlib.sha256(file.read_bytes()) for file in (tmp_path / "album").iterdir()]
    telling = [b"holiday", *(form for digest in digests for form in (digest.digest(), digest.hexdigest().encode()))]
    for file in (tmp_path / "jcbir-owner").rglob("*"):
        assert file.is_dir() or not any(each in file.read_bytes() for each in telling)
    # Altered, or another file's content under this one's name, it is found out.
    file = next((tmp_path / "jcbir-owner" / "names").iterdir())
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert run(capsys, "owner", "list", status=5)["error"] == "damaged"
    file.unlink()
    file.with_name("000000-00000007.names").write_bytes(content)
    assert run(capsys, "owner", "list", status=5)["error"] == "damaged"


def test_names_of_an_earlier_version_are_encrypted_when_the_folder_is_opened(capsys, tmp_path, found):
    write_photographs(tmp_path / "album", 2, label="holiday")
    run(capsys, "owner", "publish", "album")
    before = run(capsys, "owner", "list")
    file = next((tmp_path / "jcbir-owner" / "names").iterdir())
    with open_workspace(tmp_path / "jcbir-owner") as workspace:
        plain = read_names(file, workspace.owner)
    file.unlink()
    file.with_suffix(".json").write_text(json.dumps(plain))
    assert run(capsys, "owner", "list") == before
    assert [each.suffix for each in file.parent.iterdir()] == [".names"]
    # Who can write here, but has no passphrase, puts nothing in the place of what the owner encrypted.
    swapped = dict(zip(plain, reversed(plain.values()), strict=True))
    file.with_suffix(".json").write_text(json.dumps(swapped))
    assert run(capsys, "owner", "list") == before
    assert [each.suffix for each in file.parent.iterdir()] == [".names"]
    file.with_suffix(".json").write_text("no json")
    assert run(capsys, "owner", "list", status=5)["error"] == "damaged"


def test_a_large_network_is_handed_over_once(capsys, tmp_path, found, services, monkeypatch):
    monkeypatch.setattr("jcbir.cli.owner.SMALL_NETWORK", 0)
    monkeypatch.setenv("JCBIR_CACHE", str(tmp_path / "cache"))
    run(capsys, "user", "init")
    given = run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "one")
    assert (
        given["network"] == "jcbir-owner/network.safetensors"
        and not (tmp_path / "one" / "network.safetensors").exists()
    )
    join = ("user", "join", "one", "--fingerprint", found["fingerprint"])
    assert "network: must be given as --network" in run(capsys, *join, status=2)["reason"]
    write_network(tmp_path / "other.safetensors", key=1)
    assert "the owner vouched for" in run(capsys, *join, "--network", "other.safetensors", status=5)["reason"]
    run(capsys, *join, "--network", given["network"])
    kept = next((tmp_path / "cache" / "networks").iterdir())
    assert kept.samefile(tmp_path / "jcbir-user" / "network.safetensors")
    # The next admission, and another user of this machine, find it.
    run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "two")
    run(capsys, "user", "join", "two", "--fingerprint", found["fingerprint"])
    assert run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "three", "--with-network")
    assert (tmp_path / "three" / "network.safetensors").exists()


def test_a_folder_of_query_photographs(capsys, tmp_path, found, services):
    write_photographs(tmp_path / "album", 4)
    (tmp_path / "album" / "notes.txt").write_text("no photograph")
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    run(capsys, "user", "init")
    run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "gift", "--cloud", "https://cloud")
    run(capsys, "user", "join", "gift", "--fingerprint", found["fingerprint"])
    answered = run(capsys, "user", "query", "album", "album/a001.png", "--top", "1")
    assert [query["image"] for query in answered["queries"]] == [f"album/a{number:03d}.png" for number in range(4)]
    assert all(query["matches"][0]["distance"] == 0 for query in answered["queries"])
    (tmp_path / "empty").mkdir()
    assert "must hold a photograph" in run(capsys, "user", "query", "empty", status=2)["reason"]


def test_a_service_that_is_down_leaves_what_is_committed(capsys, tmp_path, found, services):
    write_photographs(tmp_path / "album", 3)
    services.unreachable = True
    refused = run(capsys, "owner", "publish", "album", *ADDRESSES, status=4)
    assert "3 photographs in all, waits in 4 orders of the outbox, and the same command goes on" in refused["reason"]
    run(capsys, "user", "init")
    run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "one", "--label", "anna")
    refused = run(capsys, "owner", "revoke", "anna", *ADDRESSES, status=4)
    assert "`jcbir owner send` goes on" in refused["reason"]
    services.unreachable = False
    assert run(capsys, "owner", "send", *ADDRESSES)["waiting"] == 0


def test_the_authority_has_a_passphrase_of_its_own(capsys, tmp_path, monkeypatch):
    write_network(tmp_path / "net.safetensors")
    init = ("owner", "init", "photos", *IDENTITIES, "--network", "net.safetensors")
    monkeypatch.delenv("JCBIR_AUTHORITY_PASSPHRASE")
    refused = run(capsys, *init, status=2)["reason"]
    assert "--authority-passphrase-file or JCBIR_AUTHORITY_PASSPHRASE" in refused
    assert not (tmp_path / "jcbir-owner").exists()
    (tmp_path / "second").write_text("battery staple\n")
    assert "readable by you alone" in run(capsys, *init, "--authority-passphrase-file", "second", status=2)["reason"]
    (tmp_path / "second").chmod(0o600)
    run(capsys, *init, "--authority-passphrase-file", "second")
    sealed = tmp_path / "jcbir-owner" / "authority.secret"
    assert keys.read_secret(sealed, passphrase="battery staple", expect=owner.Delegation)
    with pytest.raises(IntegrityError):
        keys.read_secret(sealed, passphrase=PASSPHRASE, expect=owner.Delegation)


def test_results_keep_to_the_umask_and_overwrite_nothing(capsys, tmp_path, found, services):
    write_photographs(tmp_path / "album", 2)
    (tmp_path / "more").mkdir()
    shutil.copy(tmp_path / "album" / "a000.png", tmp_path / "more" / "a000.png")
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    run(capsys, "user", "init")
    run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "gift", "--cloud", "https://cloud")
    run(capsys, "user", "join", "gift", "--fingerprint", found["fingerprint"])
    with open_workspace(tmp_path / "jcbir-owner") as workspace:
        services.owner_state = workspace.owner
    ask = ("user", "query", "album/a000.png", "more/a000.png", "--out", "results", "--top", "2")
    before = os.umask(0o077)
    try:
        answer = run(capsys, *ask)
    finally:
        os.umask(before)
    assert [query["folder"] for query in answer["queries"]] == ["results/a000", "results/a000-2"]
    files = [file for file in (tmp_path / "results").rglob("*") if file.is_file()]
    # Two photographs, the one asked with, page and record.
    assert len(files) == 2 * 5 and {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert {file.parent.stat().st_mode & 0o777 for file in files} == {0o700}
    kept = {file: file.read_bytes() for file in files}
    # The same name again, and another one: folders of their own.
    for name, folder in (("a000", "results/a000-3"), ("a001", "results/a001")):
        assert run(capsys, "user", "query", f"album/{name}.png", "--top", "1")["queries"][0]["folder"] == folder
    assert kept == {file: file.read_bytes() for file in files}
    run(capsys, "owner", "revoke", "--all", *ADDRESSES)
    run(capsys, "user", "query", "album/a001.png", "--out", "refused", status=3)
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("owner", "publish", "album", "--cloud", "localhost:8470"), "cloud: must be an address like https://"),
        (("owner", "publish", "album", "--cloud", "http://elsewhere"), "cloud: must be https, or http to this machine"),
        (("owner", "publish", "album", "--cloud", "https://here:many"), "cloud: must be an address like https://"),
        (("owner", "publish", "album", "--certificate", "no.pem"), "certificate: must be a file, got nothing at"),
        (
            ("owner", "publish", "album", "--home", "elsewhere"),
            "home: must be an owner's folder, which `jcbir owner init`",
        ),
        (("owner", "publish", "a.txt"), "folder: must be a folder, got the file 'a.txt'"),
        (("owner", "publish", "nowhere"), "folder: must be a folder, got nothing"),
        (("owner", "publish", "album", "--segment", "0"), "segment: must be at least 1"),
        (("owner", "grant", "a.txt", "--out", "x", "--days", "0"), "days: must be above 0"),
        (("owner", "grant", "a.txt", "--out", "a.txt"), "out: must be a folder, got the file"),
        (("owner", "grant", "a.txt", "--out", "x"), "enrollment: must be the `enrollment.jcbir` of a user, got a text"),
        (
            ("owner", "grant", "no", "--out", "x"),
            "enrollment: must be the `enrollment.jcbir` of a user, got nothing at",
        ),
        (("user", "join", "a.txt"), "folder: must be the folder that `jcbir owner grant` wrote, got the file 'a.txt'"),
        (("user", "join", "album"), "got 'album', which has no admission.jcbir"),
        (("user", "query", "no.png", "--out", "x"), "images: must be photographs or folders of them, got nothing at"),
        (("user", "query", "a.txt", "--out", "x"), "images: must be photographs, got a text, 'a.txt'"),
        (("user", "query", "empty.png", "--out", "x"), "images: must be photographs, got an empty file, 'empty.png'"),
        (("user", "query", "jcbir-cloud/identity.secret", "--out", "x"), "got a secret file of jcbir"),
        (
            ("user", "query", "album/a000.png", "--out", "x"),
            "home: must hold an admission, which `jcbir user join` takes",
        ),
        (("store", "info", "album"), "store: must be a folder of `jcbir serve cloud`, got the folder 'album'"),
        (("cost", "--images", "0"), "images: must be at least 1"),
        (("user", "query", "a.txt", "--out", "x", "--top", "0"), "top: must be at least 1, got 0"),
        (("user", "query", "album/a000.png", "--out", "a.txt"), "out: must be a folder, got the file"),
        (("owner", "train", "--out", "n", "a.txt"), "folder: must be a folder, got the file"),
    ],
)
def test_cheap_checks_come_before_the_passphrase(capsys, tmp_path, monkeypatch, words, reason):
    """No key is opened: there is none, nor a passphrase to open one with."""
    monkeypatch.delenv("JCBIR_PASSPHRASE")
    write_photographs(tmp_path / "album", 1)
    (tmp_path / "a.txt").write_text("a text")
    (tmp_path / "empty.png").touch()
    refused = run(capsys, *words, status=2)
    assert refused["error"] == "mistake" and reason in refused["reason"]


def test_an_interrupted_publish_is_gone_on_with(capsys, tmp_path, found, services, monkeypatch):
    write_photographs(tmp_path / "album", 7)
    real, calls = publishing.hash_images, []

    def interrupted(network, squares, **options):
        calls.append(len(squares))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(network, squares, **options)

    monkeypatch.setattr(publishing, "hash_images", interrupted)
    stopped = run(capsys, "owner", "publish", "album", "--segment", "2", *ADDRESSES, status=130)
    assert stopped["error"] == "interrupted" and len(services.cloud.segments) == 2
    rest = run(capsys, "owner", "publish", "album", "--segment", "2", *ADDRESSES)
    assert (rest["already"], rest["published"], rest["in_collection"], rest["waiting"]) == (4, 3, 7, 0)
    assert [segment.number for segment in services.cloud.segments] == [0, 1, 2, 3]
    assert len(services.living()) == 7


def test_what_cannot_be_sent_waits_in_order(capsys, tmp_path, found, services):
    write_photographs(tmp_path / "album", 5)
    offline = run(capsys, "owner", "publish", "album", "--segment", "2")
    assert (offline["segments"], offline["sent"], offline["waiting"]) == (3, 0, 12)
    services.unreachable = True
    assert run(capsys, "owner", "send", *ADDRESSES, status=4)["error"] == "unreachable"
    services.unreachable = False
    half = run(capsys, "owner", "send", "--cloud", "https://cloud")
    assert (half["sent"], half["waiting"]) == (6, 6)
    assert run(capsys, "owner", "send", *ADDRESSES)["waiting"] == 0
    assert [segment.number for segment in services.cloud.segments] == [0, 1, 2]
    assert sorted(services.holder.catalogs) == [0, 1, 2]


def test_revoked_and_rekeyed(capsys, tmp_path, found, services):
    write_photographs(tmp_path / "album", 3)
    run(capsys, "owner", "publish", "album", *ADDRESSES)
    run(capsys, "user", "init")
    run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "gift", "--label", "anna")
    run(capsys, "user", "join", "gift", "--fingerprint", found["fingerprint"])
    with open_workspace(tmp_path / "jcbir-owner") as workspace:
        services.owner_state = workspace.owner
    ask = ("user", "query", "album/a000.png", "--cloud", "https://cloud", "--top", "1")
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
    assert read_card(tmp_path / found["card"]).epoch == 1
    delegation = keys.read_secret(
        tmp_path / found["delegation"], passphrase=AUTHORITY_PASSPHRASE, expect=owner.Delegation
    )
    assert delegation.card.epoch == 1
    services.__init__(delegation)
    again = run(capsys, "owner", "publish", "album", *ADDRESSES)
    assert (again["published"], again["sent"], again["waiting"]) == (4, 4, 0)
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
    assert run(capsys, "owner", "init", "photos", *IDENTITIES, status=2)["error"] == "mistake"
    monkeypatch.setenv("JCBIR_PASSPHRASE", "another one")
    assert "wrong passphrase" in run(capsys, "owner", "info", status=5)["reason"]
    monkeypatch.delenv("JCBIR_PASSPHRASE")
    assert "no terminal" in run(capsys, "owner", "info", status=2)["reason"]
    (tmp_path / "secret.txt").write_text(PASSPHRASE + "\nsecond line\n")
    (tmp_path / "secret.txt").chmod(0o640)
    assert "got mode 640" in run(capsys, "owner", "info", "--passphrase-file", "secret.txt", status=2)["reason"]
    (tmp_path / "secret.txt").chmod(0o600)
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
    run(capsys, "owner", "init", "photos", *IDENTITIES, "--network", "net.safetensors")
    assert asked == [3072]


def test_answers_for_people(capsys, found):
    assert run_command(["owner", "info"]) == 0
    streams = capsys.readouterr()
    assert f"fingerprint: {found['fingerprint']}" in streams.out
    assert PASSPHRASE not in streams.out + streams.err
