"""The user's page by its own requests: a real server and client, cloud and authority behind the client's calls."""

import io
import json
import sys
import zipfile

import numpy as np
import pytest
from command_world import (
    ADDRESSES,
    AUTHORITY_PASSPHRASE,
    IDENTITIES,
    PASSPHRASE,
    install_services,
    once,
    run,
    write_network,
    write_photographs,
)
from page_world import open_page
from PIL import Image

from jcbir.cli.page import app as pages, user as user_page
from jcbir.data import read_image
from jcbir.protocol import owner
from jcbir.storage import read_secret

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def album(tmp_path):
    return write_photographs(tmp_path / "album", 9)


@pytest.fixture
def services(capsys, monkeypatch, tmp_path, album):
    """A collection of nine photographs, and a user who has joined it."""
    write_network(tmp_path / "net.safetensors")
    found = once(capsys, "owner", "init", "photos", *IDENTITIES, "--network", "net.safetensors", "--cipher", "aes-gcm")
    delegation = read_secret(found["delegation"], passphrase=AUTHORITY_PASSPHRASE, expect=owner.Delegation)
    made = install_services(monkeypatch, delegation)
    run(capsys, "owner", "publish", album, *ADDRESSES)
    run(capsys, "user", "init")
    grant = ("--queries-per-day", 4, "--images-per-day", 12, "--cloud", "https://cloud", "--out", "gift")
    run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", *grant)
    run(capsys, "user", "join", "gift", "--fingerprint", found["fingerprint"])
    return made


def ask(client, content, *, top=3, audit=0, name="asked.png"):
    return client.post(f"/queries?top={top}&audit={audit}", content=content, headers={"x-name": name})


def test_a_photograph_in_its_matches_out(capsys, services, album):
    asked = sorted(album.iterdir())[4]
    with open_page(capsys, "user", "open") as page:
        client = page.enter()
        state = client.get("/state").json()
        assert (state["collection"], state["bits"], state["cloud"]) == ("photos", 16, "https://cloud")
        assert state["budget"] == {"queries": 0, "queries_per_day": 4, "images": 0, "images_per_day": 12}
        answer = ask(client, asked.read_bytes(), name="my%20asked.png").json()
        assert answer["name"] == "my asked.png" and len(answer["matches"]) == 3
        distances = [match["distance"] for match in answer["matches"]]
        assert distances == sorted(distances) and distances[0] == 0
        assert [row["party"] for row in answer["learned"]] == ["server", "authority", "user", "owner"]
        assert answer["budget"]["queries"] == 1 and answer["budget"]["images"] == 3
        # The same photographs again cost no picture, as at the authority.
        again = ask(client, asked.read_bytes(), audit=2).json()
        assert (again["audited"], again["budget"]["queries"], again["budget"]["images"]) == (2, 2, 3)

        for place, match in enumerate(answer["matches"]):
            picture = client.get(f"/queries/{answer['query']}/{place}")
            assert match["opened"] and picture.headers["content-type"] == match["media_type"]
            assert picture.headers["content-security-policy"] == pages.PICTURE_POLICY
            assert (np.asarray(Image.open(io.BytesIO(picture.content))) == read_image(album / match["name"])).all()
            saved = client.get(f"/queries/{answer['query']}/{place}?save")
            assert saved.headers["content-disposition"] == f"attachment; filename*=UTF-8''{match['name']}"
            assert saved.content == picture.content

        archive = zipfile.ZipFile(io.BytesIO(client.get("/queries.zip").content))
        own = {"index.html", "results.json", "query.jpg", *(match["name"] for match in answer["matches"])}
        assert set(archive.namelist()) == {f"{folder}/{name}" for folder in ("my asked", "asked") for name in own}
        record = json.loads(archive.read("asked/results.json"))
        assert record["audited"] == 2 and [match["file"] for match in record["matches"]] == [
            match["name"] for match in again["matches"]
        ]
        one = client.get(f"/queries/{answer['query']}.zip")
        assert one.headers["content-disposition"].endswith("my%20asked.zip")

        assert client.delete(f"/queries/{answer['query']}").json() == {"kept": 1}
        assert client.get(f"/queries/{answer['query']}/0").status_code == 404
        assert client.get(f"/queries/{answer['query']}.zip").status_code == 404
        assert client.get(f"/queries/{again['query']}/3").status_code == 404
    # What was counted here outlives the page, and the command line counts on.
    run(capsys, "user", "query", asked, "--top", "5", "--out", "results")
    with open_page(capsys, "user", "open") as page:
        budget = page.enter().get("/state").json()["budget"]
        assert (budget["queries"], budget["images"]) == (3, 5)


def lose(url, query):
    raise ConnectionError(f"{url}: nobody answers")


def test_refusals_and_mistakes_are_told_and_the_page_goes_on(capsys, services, album, monkeypatch):
    content = sorted(album.iterdir())[0].read_bytes()
    with open_page(capsys, "user", "open") as page:
        client = page.enter()
        for top, audit, status in ((0, 0, 400), (101, 0, 400), ("x", 0, 400), (3, -1, 400), ("٣", 0, 400)):
            refused = ask(client, content, top=top, audit=audit)
            assert refused.status_code == status, refused.text
        with monkeypatch.context() as away:
            away.setattr(sys.modules["jcbir.service.client"], "search", lose)
            refused = ask(client, content)
            assert (refused.status_code, refused.json()["error"]) == (502, "unreachable")
        for _ in range(4):
            assert ask(client, content).status_code == 200
        refused = ask(client, content)
        assert (refused.status_code, refused.json()["error"]) == (403, "over-budget")
        assert "4 of 4 were answered today" in refused.json()["reason"]


HOSTILE = (
    b"",
    b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    b"<html><script>1</script>",
    b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
    b"\xff\xd8\xff" * 10,
    b"GIF89a" + b"\xff" * 50,
    b"%!PS-Adobe-3.0 EPSF-3.0\n",
)


def test_hostile_uploads_are_no_pictures(capsys, services):
    with open_page(capsys, "user", "open") as page:
        client = page.enter()
        for content in HOSTILE:
            refused = ask(client, content, name="%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E.png")
            assert (refused.status_code, refused.json()["error"]) == (422, "damaged")
            assert refused.headers["content-type"] == "application/json"
        assert client.get("/state").json()["budget"]["queries"] == 0


def test_a_bomb_of_pixels_and_a_body_too_long(capsys, services, monkeypatch):
    monkeypatch.setattr(user_page, "MOST_BYTES", 2000)
    bomb = io.BytesIO()
    Image.new("1", (20000, 20000)).save(bomb, "PNG")
    with open_page(capsys, "user", "open") as page:
        client = page.enter()
        assert ask(client, b"x" * 2001).status_code == 413
        monkeypatch.setattr(user_page, "MOST_BYTES", 1 << 20)
        refused = ask(client, bomb.getvalue())
        assert refused.status_code == 422 and "pixels" in refused.json()["reason"]


def test_the_oldest_answers_are_forgotten_where_memory_would_run_out(capsys, services, album, monkeypatch):
    content = sorted(album.iterdir())[0].read_bytes()
    monkeypatch.setattr(user_page, "KEPT_BYTES", 1)
    with open_page(capsys, "user", "open") as page:
        client = page.enter()
        first, second = (ask(client, content).json()["query"] for _ in range(2))
        assert client.get(f"/queries/{first}/0").status_code == 404
        assert client.get(f"/queries/{second}/0").status_code == 200


def test_nothing_secret_is_written_or_told(capsys, services, album, tmp_path):
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    with open_page(capsys, "user", "open") as page:
        client = page.enter()
        cookie = next(iter(client.cookies.jar)).value
        ask(client, sorted(album.iterdir())[0].read_bytes())
        told = client.get("/state").text + client.get("/").text
        assert cookie not in told and PASSPHRASE not in told and page.link.split("=")[1] not in told
        streams = capsys.readouterr()
        assert streams.out + streams.err == ""
    after = {file for file in tmp_path.rglob("*") if file.is_file()}
    assert {file.name for file in after - before} == {"head.json", "use.json"}
    image_ids = run(capsys, "owner", "list")["photographs"]
    assert not any(row["image_id"] in (tmp_path / "jcbir-user" / "use.json").read_text() for row in image_ids)


def test_a_wrong_passphrase_opens_no_page(capsys, services, monkeypatch):
    monkeypatch.setenv("JCBIR_PASSPHRASE", "wrong")
    assert run(capsys, "user", "open", status=5)["error"] == "damaged"
    monkeypatch.setenv("JCBIR_PASSPHRASE", PASSPHRASE)
    assert "nothing" in run(capsys, "user", "open", "--home", "nowhere", status=2)["reason"]
