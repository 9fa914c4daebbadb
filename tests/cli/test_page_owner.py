"""The owner's page by its own requests: a real server and client, cloud and authority behind the client's calls."""

import io
import threading
import urllib.parse

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

from jcbir.cli.page import owner as owner_page
from jcbir.protocol import owner
from jcbir.storage import read_secret

pytestmark = pytest.mark.usefixtures("quick")
LIMITS = {"days": 30, "max_results": 10, "queries_per_day": 20, "images_per_day": 50, "cover": 1}


@pytest.fixture
def services(capsys, monkeypatch, tmp_path):
    """A collection with nothing in it."""
    write_network(tmp_path / "net.safetensors")
    found = once(capsys, "owner", "init", "photos", *IDENTITIES, "--network", "net.safetensors", "--cipher", "aes-gcm")
    delegation = read_secret(found["delegation"], passphrase=AUTHORITY_PASSPHRASE, expect=owner.Delegation)
    return install_services(monkeypatch, delegation)


def upload(client, name, content):
    return client.post("/files", content=content, headers={"x-name": name})


def picture(color=(200, 10, 10), kind="PNG"):
    content = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(content, kind)
    return content.getvalue()


def test_a_day_of_an_owner(capsys, services, tmp_path):
    elsewhere = write_photographs(tmp_path / "elsewhere", 3)
    with open_page(capsys, "owner", "open", "--album", "dropped", *ADDRESSES) as page:
        client = page.enter()
        state = client.get("/state").json()
        assert (state["collection"], state["photographs"], state["grants"], state["waiting"]) == ("photos", [], [], 0)
        assert {name: each["in_step"] for name, each in client.get("/services").json().items()} == {
            "cloud": True,
            "authority": True,
        }

        # Dropped photographs are copied to the album and published from there.
        assert upload(client, "trip/red.png", picture()).json() == {"path": "trip/red.png", "known": False}
        assert upload(client, "trip/red.png", picture()).json() == {"path": "trip/red.png", "known": True}
        assert upload(client, "trip/red.png", picture((1, 2, 3))).json() == {"path": "trip/red-2.png", "known": False}
        done = page.order("publish")
        assert (done["record"]["published"], done["error"]) == (2, None)
        assert page.order("publish", folder=str(elsewhere))["record"]["published"] == 3
        rows = client.get("/state").json()["photographs"]
        assert [row["path"] for row in rows] == ["a000.png", "a001.png", "a002.png", "trip/red-2.png", "trip/red.png"]
        assert services.living() == {row["image_id"] for row in rows}

        thumbnail = client.get(f"/thumbnails/{rows[-1]['image_id']}")
        assert thumbnail.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(thumbnail.content)).size == (40, 30)
        assert client.get("/thumbnails/none").status_code == 404
        # Another picture under that name is not shown for the published one.
        (tmp_path / "dropped" / "trip" / "red.png").write_bytes(picture((9, 9, 9)))
        assert client.get(f"/thumbnails/{rows[-1]['image_id']}").status_code == 404

        run(capsys, "user", "init")
        enrollment = (tmp_path / "jcbir-user" / "enrollment.jcbir").read_bytes().hex()
        given = page.order("grant", enrollment=enrollment, label="Anna", open=True, **LIMITS)["record"]
        assert (given["rights"], given["queries_per_day"], given["folder"]) == (
            ["rank", "open"],
            20,
            "jcbir-admissions/Anna",
        )
        refused = page.order("grant", enrollment=enrollment, label="Anna", open=False, **LIMITS)
        assert "that no grant in force has" in refused["error"]["reason"] and refused["record"] is None
        joined = run(capsys, "user", "join", given["folder"], "--fingerprint", given["fingerprint"])
        assert joined["grant"] == given["grant"]
        assert [grant["status"] for grant in client.get("/state").json()["grants"]] == ["in force"]

        # What Anna took of her day; not what she looked for.
        run(
            capsys,
            "user",
            "query",
            "dropped/trip/red-2.png",
            "--top",
            "2",
            "--out",
            "results",
            "--cloud",
            "https://cloud",
        )
        used = client.get("/state").json()["grants"][0]
        assert (used["queries_today"], used["images_today"], used["queries_per_day"]) == (1, 2, 20)

        # The command line works beside the page, which sees what it did.
        run(capsys, "owner", "withdraw", "a000.png", *ADDRESSES)
        assert page.order("withdraw", photographs=[rows[1]["image_id"]])["record"]["in_collection"] == 3
        assert page.order("revoke", grants=[given["grant"]])["record"]["revoked"] == [given["grant"]]
        refused = page.order("rekey", authority_passphrase=AUTHORITY_PASSPHRASE, refit=True)
        assert "network: must be of features and a linear head" in refused["error"]["reason"]
        rekeyed = page.order("rekey", authority_passphrase=AUTHORITY_PASSPHRASE)["record"]
        assert (rekeyed["epoch"], rekeyed["in_collection"]) == (1, 3)
        state = client.get("/state").json()
        assert (state["epoch"], [grant["status"] for grant in state["grants"]]) == (1, ["ended by rekey"])
        assert services.living() == {row["image_id"] for row in state["photographs"]}
        told = capsys.readouterr()
        assert PASSPHRASE not in told.out + told.err and AUTHORITY_PASSPHRASE not in told.out + told.err


def test_orders_that_are_none_and_services_that_are_away(capsys, services, tmp_path):
    with open_page(capsys, "owner", "open", *ADDRESSES) as page:
        client = page.enter()
        for name, form, reason in (
            ("publish", {}, "folder: must be a folder, got nothing"),
            ("publish", {"folder": 1}, "folder: must be a text"),
            ("publish", [], "form: must be a JSON object"),
            ("publish", {"withdraw_missing": "yes"}, "must be true or false"),
            ("withdraw", {"photographs": []}, "must be at least one"),
            ("withdraw", {"photographs": "all"}, "must be texts"),
            ("grant", {}, "days: must be a number, got None"),
            ("grant", {**LIMITS, "days": "1"}, "days: must be a number, got '1'"),
            ("grant", {**LIMITS, "enrollment": ""}, "the `enrollment.jcbir` of a user"),
            ("grant", {**LIMITS, "cover": 1.5}, "cover: must be a whole number"),
            ("grant", {**LIMITS, "enrollment": "xyz"}, "must be hexadecimal digits"),
            ("grant", {**LIMITS, "enrollment": b"JCBM\x03\x06".hex()}, "the `enrollment.jcbir` of a user"),
            ("grant", {**LIMITS, "days": -1}, "days: must be above 0"),
            ("revoke", {}, "grants: must be named"),
            ("rekey", {}, "must not be empty"),
            ("rekey", {"refit": 1}, "refit: must be true or false"),
        ):
            refused = client.post(f"/orders/{name}", json=form)
            assert refused.status_code in (400, 422) and reason in refused.json()["reason"], refused.text
        assert client.post("/orders/train", json={}).status_code == 404
        assert client.post("/orders/publish", content=b"{").status_code == 400
        assert client.post("/orders/publish", content=b"x" * (1 << 19)).status_code == 413

        services.unreachable = True
        assert not client.get("/services").json()["cloud"]["reachable"]
        upload(client, "one.png", picture())
        stopped = page.order("publish")
        assert stopped["error"]["error"] == "unreachable" and "the same command goes on" in stopped["error"]["reason"]
        assert client.get("/state").json()["waiting"] > 0
        services.unreachable = False
        assert page.order("send")["record"]["waiting"] == 0
        assert len(client.get("/state").json()["photographs"]) == 1


def test_one_order_at_a_time(capsys, services, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setitem(owner_page.ORDERS, "send", (owner_page.ORDERS["send"][0], lambda *_, **__: go_on.wait(60)))
    with open_page(capsys, "owner", "open") as page:
        client = page.enter()
        assert client.post("/orders/send", json={}).json()["ended"] is False
        for path in ("/orders/send", "/close"):
            refused = client.post(path, json={})
            assert refused.status_code == 400 and "must wait" in refused.json()["reason"]
        assert client.get("/state").status_code == 200
        go_on.set()
        while not client.get("/order").json()["ended"]:
            pass


@pytest.mark.parametrize(
    ("name", "path"),
    [("..%2F..%2Fevil.png", "evil.png"), ("%2Fetc%2Fcron.d%2Fx.png", "etc/cron.d/x.png"), ("a%5C..%5Cb.png", "a/b.png"),
     (".bashrc.png", "bashrc.png"), ("c%3A%2Fx.png", "c_/x.png"), ("%20%20x.png%20", "x.png"), ("-rf.png", "_-rf.png")],
)  # fmt: skip
def test_no_name_leads_out_of_the_album(tmp_path, name, path):
    album = tmp_path / "in" / "album"
    stated = urllib.parse.unquote(name).replace("\\", "/")
    assert owner_page._take_file(album, stated, picture()) == {"path": path, "known": False}
    assert [file for file in (tmp_path / "in").rglob("*") if file.is_file()] == [album / path]
    assert (album / path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["", "..", "/", "a/ /b.png", "/".join(["d"] * 20), "."])
def test_names_that_are_none(tmp_path, name):
    with pytest.raises(ValueError, match="name: must be that of a photograph"):
        owner_page._take_file(tmp_path, name, picture())


def test_what_is_no_photograph_stays_outside(tmp_path):
    for content in (b"", b"<svg/>", b"#!/bin/sh\n", picture()[:60]):
        with pytest.raises(ValueError, match="must be a picture"):
            owner_page._take_file(tmp_path / "album", "a.png", content)
    (tmp_path / "out").mkdir()
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "link").symlink_to(tmp_path / "out")
    with pytest.raises(ValueError, match="must lead into the album"):
        owner_page._take_file(tmp_path / "album", "link/a.png", picture())
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "body", [b'{"days": Infinity}', b'{"days": NaN}', b'{"days": 1e400}', b'{"days": 1%s}' % (b"0" * 400)]
)
def test_numbers_of_a_form_are_numbers(body, tmp_path):
    with pytest.raises(ValueError, match="days: must be a number"):
        owner_page._Form(body, tmp_path).whole("days")
    with pytest.raises(ValueError, match="form: must be a JSON object"):
        owner_page._Form(b"[" * 100_000, tmp_path)
