"""A day with a collection in a real browser: publish, admit, search, compare, save, revoke; and the docs' pictures.

`JCBIR_SCREENSHOTS=docs/images` writes those anew.
"""

import os
import pathlib
import shutil
import zipfile

import pytest
from command_world import (
    ADDRESSES,
    AUTHORITY_PASSPHRASE,
    IDENTITIES,
    install_services,
    run,
    write_features,
    write_kinds,
)
from page_world import open_page
from PIL import Image

from jcbir.data import load_sample
from jcbir.protocol import owner
from jcbir.storage import read_secret
from jcbir.storage._files import file_digest

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'jcbir[browser]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("quick"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
# The last ones keep Chromium from asking its maker for anything.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
PATIENCE = 300_000


@pytest.fixture
def chromium():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def album(tmp_path):
    """Sixty photographs of twenty kinds, with names and dates."""
    sample, folder = load_sample(), tmp_path / "photographs"
    folder.mkdir()
    for number, (pixels, label) in enumerate(
        zip(sample.database.images[:60], sample.database.labels[:60], strict=True)
    ):
        noted = Image.Exif()
        noted.get_ifd(0x8769)[0x9003] = f"2026:{1 + number % 12:02d}:{1 + number % 28:02d} 12:00:00"
        Image.fromarray(pixels).save(folder / f"{sample.names[label]} {number // 20 + 1}.jpg", exif=noted, quality=90)
    return folder


@pytest.fixture
def asked(tmp_path):
    sample, files = load_sample(), []
    for number in (0, 1, 21):
        file = tmp_path / f"{sample.names[sample.query.labels[number]]} asked {number}.png"
        Image.fromarray(sample.query.images[number]).save(file)
        files.append(file)
    return files


@pytest.fixture
def services(capsys, monkeypatch):
    found = run(capsys, "owner", "init", "holidays", *IDENTITIES, "--cipher", "aes-gcm")
    delegation = read_secret(found["delegation"], passphrase=AUTHORITY_PASSPHRASE, expect=owner.Delegation)
    return install_services(monkeypatch, delegation)


class Window:
    """A tab that notes what it complains of and whom it asks."""

    def __init__(self, browser, page, **options):
        self.context = browser.new_context(viewport={"width": 1280, "height": 860}, accept_downloads=True, **options)
        self.context.set_default_timeout(PATIENCE)
        self.tab, self.complaints, self.asked = self.context.new_page(), [], set()
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", lambda request: self.asked.add(request.url))
        self.tab.goto(page.link)
        assert self.tab.url == f"{page.base}/"
        self.base = page.base

    def close(self):
        """End the page by its own button. Nothing went wrong, and nothing left this machine."""
        self.tab.locator("#close").click()
        playwright.expect(self.tab.locator("body")).to_contain_text("forgot its keys")
        self.context.close()
        assert self.complaints == []
        assert all(url.startswith((f"{self.base}/", f"blob:{self.base}/")) for url in self.asked)
        assert not any("token" in url for url in self.asked if not url.startswith(f"{self.base}/?token="))


def draw(tab, name, *, tmp_path, scheme="light", width=1280, height=860):
    """A small picture of the page for the docs, where they are asked for."""
    folder = pathlib.Path(os.environ.get("JCBIR_SCREENSHOTS", tmp_path))
    tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    tab.set_viewport_size({"width": width, "height": height})
    tab.wait_for_timeout(500)
    file = tmp_path / f"{name}-whole.png"
    tab.screenshot(path=file)
    with Image.open(file) as whole:
        assert len(whole.convert("RGB").getcolors(1 << 24)) > 100
        whole.convert("RGB").quantize(256).save(folder / f"{name}.png", optimize=True)
    tab.emulate_media(color_scheme="light")
    tab.set_viewport_size({"width": 1280, "height": 860})


def check_no_overflow(tab):
    """A narrow page scrolls one way only."""
    tab.set_viewport_size({"width": 360, "height": 740})
    body, view = tab.locator("body").bounding_box(), tab.viewport_size
    assert body["width"] <= view["width"]
    for card in tab.locator("main > *:visible").all():
        box = card.bounding_box()
        assert box is None or box["x"] + box["width"] <= view["width"]
    tab.set_viewport_size({"width": 1280, "height": 860})


def test_a_day_with_a_private_collection(capsys, chromium, services, album, asked, tmp_path):
    expect = playwright.expect
    expect.set_options(timeout=PATIENCE)
    with open_page(capsys, "owner", "open", *ADDRESSES) as served:
        window = Window(chromium, served)
        tab = window.tab
        expect(tab.locator("#cloud")).to_have_text("in step")
        tab.locator("#files").set_input_files(sorted(album.iterdir()))
        expect(tab.get_by_role("heading", name="Published: 60 photographs")).to_be_visible()
        expect(tab.locator("#status")).to_have_text("Published 60 photographs")
        assert len(list((tmp_path / "jcbir-album").iterdir())) == 60

        # Captions, by the keyboard; Escape leaves them as they are.
        for key, words in (("Escape", ""), ("Enter", "The first of all"), ("Enter", "The first of sixty")):
            tab.locator(".photograph input").first.check()
            tab.get_by_role("button", name="Captions 1").click()
            tab.get_by_role("dialog").get_by_role("textbox").fill(words or "not to be kept")
            tab.keyboard.press(key)
            expect(tab.locator(".photograph").first.locator(".caption")).to_have_count(1 if words else 0)
            if words:
                expect(tab.locator("#status")).to_have_text("Changed 1 caption")
                expect(tab.locator(".photograph").first).to_contain_text(words)

        run(capsys, "user", "init")
        tab.get_by_text("Admit someone").click()
        tab.locator("#enrollment").set_input_files(tmp_path / "jcbir-user" / "enrollment.jcbir")
        tab.get_by_label("Name", exact=True).fill("Anna")
        tab.get_by_label("Queries a day").fill("50")
        tab.get_by_role("button", name="Admit").click()
        expect(tab.get_by_role("row", name="Anna")).to_contain_text("in force")
        told = tab.locator("#admitted code")
        fingerprint = told.nth(1).text_content()
        run(capsys, "user", "join", told.nth(0).text_content(), "--fingerprint", fingerprint)
        tab.mouse.move(0, 0)
        draw(tab, "page_owner", tmp_path=tmp_path)
        draw(tab, "page_owner_dark", tmp_path=tmp_path, scheme="dark")
        check_no_overflow(tab)

        # Withdrawing asks first, and Escape takes it back.
        tab.get_by_label("Choose watch 1.jpg").check()
        tab.get_by_role("button", name="Withdraw 1").click()
        tab.keyboard.press("Escape")
        tab.get_by_role("button", name="Withdraw 1").click()
        tab.get_by_role("dialog").get_by_role("button", name="Withdraw").click()
        expect(tab.get_by_role("heading", name="Published: 59 photographs")).to_be_visible()

        search(capsys, chromium, asked, tmp_path, window)
        window.close()


def search(capsys, chromium, asked, tmp_path, owners):
    """The user's part, the owner's page being open."""
    expect = playwright.expect
    with open_page(capsys, "user", "open") as served:
        window = Window(chromium, served)
        tab = window.tab
        expect(tab.locator("#queries")).to_have_text("0 of 50")
        # By the keyboard alone: the first stop skips to the results, the file field is reached and labelled.
        tab.keyboard.press("Tab")
        expect(tab.get_by_role("link", name="Skip to the results")).to_be_focused()
        expect(tab.get_by_label("Choose photographs")).to_have_attribute("type", "file")
        tab.get_by_label("Results for each").fill("6")
        tab.locator("#audit").select_option("2")
        tab.locator("#file").set_input_files(asked)
        cards = tab.locator(".query:not(.waiting)")
        expect(cards).to_have_count(3)
        expect(tab.locator("#queries")).to_have_text("3 of 50")
        expect(cards.first.locator(".about")).to_contain_text("6 results")
        expect(cards.first.locator(".about")).to_contain_text("2 blocks audited")
        expect(cards.first.locator(".title").first).to_contain_text(".jpg")
        expect(cards.first.locator("figcaption").first).to_contain_text("2026")
        for picture in tab.locator(".match img").all():
            picture.scroll_into_view_if_needed()
            expect(picture).to_have_js_property("complete", True)
            assert picture.evaluate("image => image.naturalWidth") > 0
        cards.first.get_by_text("What each party learned").click()
        expect(cards.first.get_by_role("row", name="The cloud")).to_contain_text("nothing")
        cards.first.get_by_text("What each party learned").click()
        tab.get_by_role("heading", name="Search with a photograph").scroll_into_view_if_needed()
        draw(tab, "page_user", tmp_path=tmp_path)
        draw(tab, "page_user_narrow_dark", tmp_path=tmp_path, scheme="dark", width=390, height=860)
        check_no_overflow(tab)
        tab.get_by_role("button", name="Side by side").click()
        draw(tab, "page_user_compare", tmp_path=tmp_path)
        tab.get_by_role("button", name="Side by side").click()

        # Looking closely, by the keyboard.
        cards.first.get_by_role("button", name="Enlarge").first.focus()
        tab.keyboard.press("Enter")
        viewer = tab.get_by_role("dialog")
        first = viewer.get_by_role("heading").text_content()
        tab.keyboard.press("ArrowRight")
        expect(viewer.get_by_role("heading")).not_to_have_text(first)
        with tab.expect_download() as download:
            viewer.get_by_role("link", name="Save").click()
        assert download.value.suggested_filename == viewer.get_by_role("heading").text_content()
        with Image.open(download.value.path()) as saved:
            assert saved.format == "JPEG"
        tab.keyboard.press("Escape")
        expect(viewer).to_be_hidden()
        with tab.expect_download() as download:
            tab.get_by_role("link", name="Save everything").click()
        with zipfile.ZipFile(download.value.path()) as archive:
            assert len({name.split("/")[0] for name in archive.namelist()}) == 3

        # No picture: the command line's own sentence, as text.
        evil = tmp_path / "<img src=x onerror=alert(1)>.png"
        evil.write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
        tab.locator("#file").set_input_files(evil)
        expect(tab.get_by_role("alert")).to_contain_text("onerror=alert(1)>.png: encoded: must be a picture")
        assert window.complaints and all("422" in line for line in window.complaints)
        window.complaints.clear()

        # The cookie outlives a reload, and the owner sees how much was asked.
        owners.tab.reload()
        expect(owners.tab.get_by_role("row", name="Anna")).to_contain_text("3 of 50 queries")
        owners.tab.get_by_role("button", name="Revoke Anna").click()
        owners.tab.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        expect(owners.tab.get_by_role("row", name="Anna")).to_contain_text("revoked")
        tab.locator("#file").set_input_files(asked[0])
        expect(tab.get_by_role("alert")).to_contain_text("is revoked")
        assert all("403" in line for line in window.complaints)
        window.complaints.clear()

        # The link was good once.
        other = chromium.new_context().new_page()
        assert other.goto(served.link).status == 403
        other.context.close()
        window.close()


def test_a_new_epoch_whose_head_is_fitted_if_that_is_asked_for(capsys, chromium, monkeypatch, tmp_path):
    """The box is empty again after each order: it says what is meant now."""
    expect = playwright.expect
    expect.set_options(timeout=PATIENCE)
    write_features(tmp_path / "features.safetensors")
    small = ("--backbone", "features.safetensors", "--size", "16", "--cipher", "aes-gcm", "--bits", "16")
    found = run(capsys, "owner", "init", "photos", *IDENTITIES, *small)
    delegation = read_secret(found["delegation"], passphrase=AUTHORITY_PASSPHRASE, expect=owner.Delegation)
    install_services(monkeypatch, delegation)
    for count, kinds in ((12, ("red", "green")), (4, ("red", "green", "blue"))):
        run(capsys, "owner", "publish", write_kinds(tmp_path / "album", count, kinds=kinds), *ADDRESSES)
    heads = [file_digest(found["network"])]
    with open_page(capsys, "owner", "open", *ADDRESSES) as served:
        window = Window(chromium, served)
        tab = window.tab
        tab.get_by_text("Re-key", exact=True).first.click()
        box = tab.get_by_role("checkbox", name="Fit what photographs are found by to all that is published")
        for epoch, refit in ((1, True), (2, False)):
            expect(box).not_to_be_checked()
            tab.get_by_label("Passphrase of the authority's key").fill(AUTHORITY_PASSPHRASE)
            box.set_checked(refit)
            check_no_overflow(tab)
            tab.locator("#rekey").get_by_role("button", name="Re-key").click()
            tab.get_by_role("dialog").get_by_role("button", name="Re-key").click()
            expect(tab.locator("#epoch")).to_have_text(str(epoch))
            heads.append(file_digest(found["network"]))
        assert heads[0] != heads[1] == heads[2]
        for picture in tab.locator(".photograph img").all():
            picture.scroll_into_view_if_needed()
            expect(picture).to_have_js_property("complete", True)
        window.close()


DROP = """([name, bytes, type, kind]) => {
  const carried = new DataTransfer();
  carried.items.add(new File([new Uint8Array(bytes)], name, { type }));
  const event = kind === "drop"
    ? new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: carried, bubbles: true });
  document.body.dispatchEvent(event);
}"""
"""Browsers let no program drag a file; the events are made here, which the page's own policy would not allow."""


def test_dropped_and_pasted(capsys, chromium, services, album, asked, tmp_path):
    expect = playwright.expect
    expect.set_options(timeout=PATIENCE)
    with open_page(capsys, "owner", "open", *ADDRESSES) as served:
        window = Window(chromium, served, bypass_csp=True)
        tab = window.tab
        expect(tab.locator("#cloud")).to_have_text("in step")
        one = sorted(album.iterdir())[0]
        tab.evaluate(DROP, [one.name, list(one.read_bytes()), "image/jpeg", "drop"])
        expect(tab.get_by_role("heading", name="Published: 1 photograph")).to_be_visible()
        window.close()
    run(capsys, "user", "init")
    given = run(capsys, "owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "gift", "--cloud", "https://cloud")
    run(capsys, "user", "join", "gift", "--fingerprint", given["fingerprint"])
    with open_page(capsys, "user", "open") as served:
        window = Window(chromium, served, bypass_csp=True)
        for number, kind in enumerate(("drop", "paste"), 1):
            window.tab.evaluate(DROP, [asked[0].name, list(asked[0].read_bytes()), "image/png", kind])
            expect(window.tab.locator(".query:not(.waiting)")).to_have_count(number)
        expect(window.tab.locator(".also").first).to_contain_text("also for")
        window.close()
