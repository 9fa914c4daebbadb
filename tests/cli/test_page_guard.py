"""Who gets into a local page, and what every answer carries."""

import asyncio
import functools
import io
import re

import httpx
import pytest
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route

from jcbir.cli.options import PageServer
from jcbir.cli.page import app as pages
from jcbir.errors import FormatError
from jcbir.protocol.refusals import OverBudgetError

PORT, TOKEN = 4711, "only-once"
BASE = f"http://127.0.0.1:{PORT}"


class Client:
    """A browser's memory for cookies, around an application."""

    def __init__(self, app):
        self.app, self.cookies = app, httpx.Cookies()
        self.get, self.post = (functools.partial(self.request, method) for method in ("GET", "POST"))

    def request(self, method, path, *, follow_redirects=True, **more):
        async def exchange():
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url=BASE, cookies=self.cookies) as client:
                found = await client.request(method, path, follow_redirects=follow_redirects, **more)
                self.cookies = client.cookies
                return found

        return asyncio.run(exchange())


async def probe(request):
    return JSONResponse({"name": pages.stated_name(request)})


async def body(request):
    return JSONResponse({"length": len(await pages.read_body(request, most=10))})


def failing(error):
    async def respond(request):
        raise error

    return respond


@pytest.fixture
def client():
    routes = [
        Route("/probe", probe),
        Route("/body", body, methods=["POST"]),
        Route("/mistake", failing(ValueError("top: must be at least 1, got 0"))),
        Route("/damaged", failing(FormatError("encoded: must be a picture, got 3 bytes"))),
        Route("/refused", failing(OverBudgetError("queries: 200 of 200 were answered today"))),
        Route("/unreachable", failing(ConnectionError("http://cloud: nobody answers"))),
        Route("/gone", failing(HTTPException(404, "query: must be one whose results are still here"))),
    ]
    return Client(pages.build_page("user", routes, port=PORT, token=TOKEN))


@pytest.fixture
def inside(client):
    assert client.get(f"/?token={TOKEN}").status_code == 200
    return client


def test_the_token_is_good_once_and_leaves_the_address(client):
    entered = client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert entered.status_code == 303 and entered.headers["location"] == "/"
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
    assert str(PORT) in cookie.split("=")[0]
    assert client.get("/probe").status_code == 200
    again = client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert again.status_code == 403 and "set-cookie" not in again.headers
    assert client.get("/probe").status_code == 200


@pytest.mark.parametrize("token", ["", "only-onc", "only-oncee", "ONLY-ONCE", "ä"])
def test_another_token_is_worth_nothing(client, token):
    refused = client.get("/", params={"token": token}, follow_redirects=False)
    assert refused.status_code == 403 and "set-cookie" not in refused.headers and "good once" in refused.text
    # And does not use up the right one.
    assert client.get(f"/?token={TOKEN}").status_code == 200


@pytest.mark.parametrize("path", ["/", "/probe", "/user.js", "/page.css", "/no/such", "/probe?token=only-once"])
def test_nothing_without_the_cookie(client, path):
    for cookie in ("", f"jcbir-{PORT}=", f"jcbir-{PORT}=guess", "\x7f=;=", f"jcbir-{PORT + 1}=x"):
        answer = client.get(path, headers={"cookie": cookie})
        assert answer.status_code == 403 and "<" not in answer.text


@pytest.mark.parametrize(
    "host",
    ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"localhost:{PORT}", f"127.0.0.1:{PORT}.evil.example", ""],
)
def test_a_name_that_was_made_to_point_here_is_refused(inside, host):
    assert inside.get("/probe", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("origin", ["null", "http://evil.example", f"https://127.0.0.1:{PORT}", "http://127.0.0.1", ""])
def test_another_origin_is_refused(inside, origin):
    assert inside.post("/body", headers={"origin": origin}).status_code == 403
    assert inside.get("/probe", headers={"origin": origin}).status_code == 403


def test_what_changes_something_states_its_origin(inside):
    assert inside.post("/body", content=b"1").status_code == 403
    assert inside.post("/body", content=b"1", headers={"origin": BASE}).json() == {"length": 1}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_embeds_nothing(inside, site):
    # 127.0.0.1 at another port is the same site: its pages would bring the cookie along.
    assert inside.get("/probe", headers={"sec-fetch-site": site}).status_code == 403
    assert inside.get("/probe", headers={"sec-fetch-site": "same-origin"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/user.js", "/probe", "/mistake", "/no/such"])
def test_every_answer_is_dressed(inside, path):
    headers = inside.get(path).headers
    policy = dict(line.split(" ", 1) for line in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"] and "http" not in headers["content-security-policy"]
    assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    assert headers["cross-origin-resource-policy"] == headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["referrer-policy"] == "no-referrer"


def test_refusals_are_dressed_too(client):
    assert client.get("/probe").headers["x-content-type-options"] == "nosniff"
    assert "content-security-policy" in client.get("/probe", headers={"host": "evil.example"}).headers


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("/mistake", 400, "mistake"), ("/damaged", 422, "damaged"), ("/refused", 403, "over-budget"),
     ("/unreachable", 502, "unreachable"), ("/gone", 404, "mistake"), ("/no/such", 404, "mistake")],
)  # fmt: skip
def test_errors_are_the_sentences_of_the_command_line(inside, path, status, code):
    answer = inside.get(path)
    assert (answer.status_code, answer.json()["error"]) == (status, code) and answer.json()["reason"]
    assert answer.headers["content-type"] == "application/json"


def test_a_body_has_a_limit_whatever_it_states(inside):
    headers = {"origin": BASE}
    assert inside.post("/body", content=b"x" * 10, headers=headers).json() == {"length": 10}
    assert inside.post("/body", content=b"x" * 11, headers=headers).status_code == 413

    async def pieces():
        for _ in range(4):
            yield b"x" * 8

    assert inside.post("/body", content=pieces(), headers=headers).status_code == 413


@pytest.mark.parametrize(
    ("sent", "taken"),
    [("a%20b.jpg", "a b.jpg"), ("%0d%0aset-cookie:%20x", "set-cookie: x"), ("a\\b", "a/b"), ("%e2%80%ae", ""),
     ("%ff", "\ufffd"), ("%3Cimg%20onerror%3D1%3E", "<img onerror=1>")],
)  # fmt: skip
def test_names_are_one_line(inside, sent, taken):
    assert inside.get("/probe", headers={"x-name": sent}).json() == {"name": taken}


def test_no_file_of_a_page_asks_elsewhere_or_holds_code_beside_the_scripts():
    for file in pages.STATIC.iterdir():
        text = file.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "http:" not in text and "https:" not in text and "//cdn" not in text, file
        if file.suffix == ".html":
            assert not re.search(r"<style\b|\bstyle=|\bon[a-z]+=|javascript:", text)
            assert text.count("<script") == text.count('<script type="module" src=') == 1
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage"):
            assert word not in text, (file, word)


def picture(kind="PNG"):
    content = io.BytesIO()
    Image.new("RGB", (4, 3), (200, 10, 10)).save(content, kind)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_picture_is_shown_as_it_is(kind):
    answer = pages.picture_response(picture(kind), f"image/{kind.lower()}")
    assert (answer.body, answer.media_type) == (picture(kind), f"image/{kind.lower()}")
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"


@pytest.mark.parametrize(
    ("kind", "stated"),
    [("TIFF", "image/tiff"), ("PNG", "text/html"), ("PNG", "image/jpeg"), ("PNG", "image/svg+xml"), ("JPEG", "")],
)
def test_any_other_is_shown_as_a_picture_of_its_own(kind, stated):
    answer = pages.picture_response(picture(kind), stated)
    assert answer.media_type == "image/jpeg" and answer.body[:2] == b"\xff\xd8" and answer.body != picture(kind)
    assert Image.open(io.BytesIO(answer.body)).size == (4, 3)
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"


@pytest.mark.parametrize("media_type", ["image/svg+xml", "text/html", "image/png", ""])
@pytest.mark.parametrize("content", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<script>1</script>", b""])
def test_what_is_no_picture_is_not_shown(content, media_type):
    with pytest.raises(FormatError, match="must be a picture"):
        pages.picture_response(content, media_type)


def test_a_file_to_save_is_never_shown():
    answer = pages.download_response(b"<script>", "application/octet-stream", 'a"; x=\r\n.html')
    stated = answer.headers["content-disposition"]
    assert stated == "attachment; filename*=UTF-8''a%22%3B%20x%3D%0D%0A.html"


def test_a_port_in_use_and_a_port_that_is_none():
    with pages.open_door(PageServer()) as door:
        assert door.listener.getsockname()[0] == "127.0.0.1"
        with (
            pytest.raises(OSError, match=f"port: must be free, got 127.0.0.1:{door.port}"),
            pages.open_door(PageServer(port=door.port)),
        ):
            pass
    with pytest.raises(ValueError, match="port: must be 0 to 65535, got 65536"), pages.open_door(PageServer(65536)):
        pass


def luminance(color):
    """Relative luminance of WCAG 2.2 of `#rrggbb`."""
    parts = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_text_stands_out(scheme):
    """Contrast of at least 4.5, what WCAG 2.2 asks of text (AA)."""
    found = re.findall(r"--([a-z-]+): light-dark\((#\w{6}), (#\w{6})\)", (pages.STATIC / "page.css").read_text())
    color = {name: luminance(both[scheme]) for name, *both in found}
    pairs = [(text, ground) for text in ("text", "quiet", "accent", "bad") for ground in ("ground", "card", "raised")]
    pairs += [("on-accent", "accent"), ("accent", "tint"), ("text", "tint"), ("quiet", "tint"), ("bad", "bad-tint")]
    for text, ground in pairs:
        low, high = sorted((color[text], color[ground]))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)
