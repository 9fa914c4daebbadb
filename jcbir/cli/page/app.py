"""Who may speak to a local page, and what every answer carries.

Only this machine reaches it, yet the browser brings the whole web along: a foreign page may send requests here (Origin
and Sec-Fetch-Site are checked, the cookie is SameSite=Strict), or come under a name that it lets point here (Host is
checked). The link that the command prints holds a token; the first who brings it gets the session's cookie, and then
the token is worth nothing.
"""

import contextlib
import hmac
import secrets
import socket
import unicodedata
import urllib.parse
import webbrowser
from collections.abc import Iterator, Sequence
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jcbir.cli.console import CommandConsole, answer
from jcbir.cli.exit_codes import DAMAGED, MISTAKE, REFUSED, UNREACHABLE, classify
from jcbir.cli.options import PageServer
from jcbir.data import decode_whole, encode_jpeg

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
SAFE = ("GET", "HEAD")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
"""On every answer; nothing is kept on the disk, nothing is embedded elsewhere, no code but the page's own runs."""

PICTURE_POLICY = "default-src 'none'; sandbox"
MOST_BYTES = 64 << 20
"""Longest photograph taken from the page."""

MOST_FORM = 1 << 16
SHOWN = {
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
}
"""What a browser may show as it is, by how it begins; all else is decoded here and shown as JPEG."""

STATUSES = {MISTAKE: 400, REFUSED: 403, UNREACHABLE: 502, DAMAGED: 422}
CLOSED = (
    "This page is closed to you. Its link is good once: end the command with Ctrl-C and run it again for another.\n"
)


class Guard:
    """Lets in who has the session's cookie, and gives it to the first who has the token."""

    def __init__(self, app: ASGIApp, *, port: int, token: str) -> None:
        self.app, self.token = app, token
        self.host = f"127.0.0.1:{port}"
        # Cookies do not know ports: another page of jcbir has a name of its own.
        self.cookie, self.session = f"jcbir-{port}", secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            # Starlette itself declines the rest; a page has no sockets.
            await self.app(scope, receive, send)
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        app = self.refuse(Request(scope)) or self.app
        await app(scope, receive, dressed)

    def refuse(self, request: Request) -> Response | None:
        """What is answered in place of the page; None for a request of the session."""
        headers = request.headers
        if headers.getlist("host") != [self.host]:
            return PlainTextResponse("host: not the name of this page\n", 421)
        origin = headers.get("origin")
        if origin not in ((f"http://{self.host}", None) if request.method in SAFE else (f"http://{self.host}",)):
            return PlainTextResponse("origin: another page asks\n", 403)
        entering = request.url.path == "/" and request.method == "GET"
        if not entering and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return PlainTextResponse("origin: another page asks\n", 403)
        brought = request.query_params.get("token")
        if entering and brought is not None:
            return self.enter(brought)
        if not hmac.compare_digest(_cookie(headers, self.cookie).encode(), self.session.encode()):
            return PlainTextResponse(CLOSED, 403)
        return None

    def enter(self, brought: str) -> Response:
        """Exchange the token for the cookie, once."""
        if not self.token or not hmac.compare_digest(brought.encode(), self.token.encode()):
            return PlainTextResponse(CLOSED, 403)
        self.token = ""
        response = RedirectResponse("/", 303)
        response.set_cookie(self.cookie, self.session, httponly=True, samesite="strict")
        return response


def build_page(name: str, routes: Sequence[BaseRoute], *, port: int, token: str, lifespan: Any = None) -> ASGIApp:
    """Make the application of a page: its files, its routes, and the guard before all of them."""
    files = {"/": f"{name}.html", **{f"/{file}": file for file in ("icon.svg", "page.css", "page.js", f"{name}.js")}}
    served = [Route(path, _file_answer(STATIC / file)) for path, file in files.items()]
    handlers: dict[Any, Any] = {HTTPException: _answer_http}
    handlers |= dict.fromkeys((ValueError, OSError, ImportError), _answer_error)
    return Guard(
        Starlette(routes=[*served, *routes], exception_handlers=handlers, lifespan=lifespan), port=port, token=token
    )


class PageDoor:
    """The way to a page: a socket that listens from the start, so that its port is known before there is a page."""

    def __init__(self, listener: socket.socket, *, browser: bool) -> None:
        self.listener, self.browser = listener, browser
        self.port, self.token = listener.getsockname()[1], secrets.token_urlsafe(32)
        self.server: uvicorn.Server | None = None

    def serve(self, app: ASGIApp, console: CommandConsole) -> None:
        """Print the link and serve until Ctrl-C, SIGTERM or `close`."""
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, proxy_headers=False, ws="none",
            lifespan="on", loop="asyncio", limit_concurrency=64, timeout_graceful_shutdown=5,
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        link = f"http://127.0.0.1:{self.port}/?token={self.token}"
        record = {"page": link, "port": self.port}
        answer(console, record, lines=[f"open {link}", "the link is good once; Ctrl-C closes the page"])
        if self.browser:
            webbrowser.open(link)
        with contextlib.suppress(KeyboardInterrupt):
            self.server.run(sockets=[self.listener])

    def close(self) -> None:
        """End serving."""
        if self.server is not None:
            self.server.should_exit = True


@contextlib.contextmanager
def open_door(place: PageServer) -> Iterator[PageDoor]:
    """Listen on this machine alone, for the length of a block."""
    if not 0 <= place.port <= 65535:
        raise ValueError(f"port: must be 0 to 65535, got {place.port}")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", place.port))
            listener.listen()
        except OSError as error:
            raise OSError(f"port: must be free, got 127.0.0.1:{place.port}: {error.strerror}") from None
        yield PageDoor(listener, browser=place.browser)


async def read_body(request: Request, *, most: int) -> bytes:
    """The body of a request, up to a length."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise HTTPException(413, f"body: must be at most {most} bytes")
    return bytes(body)


def stated_name(request: Request) -> str:
    """The name of the file that a request carries, percent-encoded in the header `x-name`; one line, no folder."""
    name = urllib.parse.unquote(request.headers.get("x-name", "")).replace("\\", "/")
    letters = (letter for letter in name if unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
    return "".join(letters)


def picture_response(data: bytes, media_type: str) -> Response:
    """A picture that can be nothing else: shown as it is if it begins as its type does, else decoded and made JPEG."""
    if not data.startswith(SHOWN.get(media_type, ())):
        data, media_type = encode_jpeg(decode_whole(data, longest_side=2048)), "image/jpeg"
    return Response(data, media_type=media_type, headers={"content-security-policy": PICTURE_POLICY})


def download_response(data: bytes, media_type: str, name: str) -> Response:
    """A file to save: never shown, whatever it holds."""
    quoted = urllib.parse.quote(name, safe="")
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{quoted}",
        "content-security-policy": PICTURE_POLICY,
    }
    return Response(data, media_type=media_type, headers=headers)


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _file_answer(file: Path) -> Any:
    content, media_type = file.read_bytes(), TYPES[file.suffix]

    async def respond(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return respond


def _answer_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": "mistake", "reason": str(error.detail)}, error.status_code)


def _answer_error(request: Request, error: Exception) -> Response:
    """The command line's own sentence."""
    ending = classify(error)
    if ending is None:
        raise error
    return JSONResponse({"error": ending.code, "reason": ending.reason}, STATUSES.get(ending.status, 400))
