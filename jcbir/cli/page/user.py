"""`jcbir user open`: a page to search on. Network, keys and what was found stay in memory."""

import asyncio
import contextlib
import io
import secrets
import time
import zipfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from jcbir.cli import options
from jcbir.cli.checks import find_cloud
from jcbir.cli.console import CommandConsole, date
from jcbir.cli.network import NETWORK, Hasher, open_hasher
from jcbir.cli.page.app import (
    MOST_BYTES,
    PageDoor,
    build_page,
    download_response,
    open_door,
    picture_response,
    read_body,
    stated_name,
)
from jcbir.cli.results import describe_match, file_names, free_names, harmless_name, result_files
from jcbir.cli.user import ask_cloud, open_member, used_today
from jcbir.data import decode_image
from jcbir.protocol import user as protocol
from jcbir.protocol.leakage import describe_query
from jcbir.storage import card_fingerprint

KEPT_BYTES = 1 << 30
"""Pictures kept in memory; the oldest queries' are forgotten first."""


class Kept(NamedTuple):
    """An answered query.

    Attributes:
        name: of the query photograph.
        content: of it.
        matches: best first.
        about: what else is noted of the query.
    """

    name: str
    content: bytes
    matches: tuple[protocol.Match, ...]
    about: dict[str, Any]


def open_page(command: options.UserOpen, console: CommandConsole) -> None:
    from jcbir.service.client import connect

    url = find_cloud(command)
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(open_door(command.page))
        member, digits = open_member(command.place)
        hasher = open_hasher(command.place.home / NETWORK, sha256=digits)
        link = stack.enter_context(
            connect(url, certificate=command.certificate, insecure_http=command.insecure_http, timeout=command.timeout)
        )
        page = _Page(command, member, hasher, link, url)
        door.serve(page.app(door), console)


class _Page:
    """The open page: the user's state, replaced by every query, and what was found."""

    def __init__(self, command: options.UserOpen, member: protocol.User, hasher: Hasher, link: Any, url: str) -> None:
        self.command, self.member, self.hasher, self.link, self.url = command, member, hasher, link, url
        self.kept: OrderedDict[int, Kept] = OrderedDict()
        self.asked, self.asking = 0, asyncio.Lock()

    def app(self, door: PageDoor) -> ASGIApp:
        """The application."""

        @contextlib.asynccontextmanager
        async def live(app: Starlette) -> AsyncIterator[None]:
            # The first query need not wait for compilation.
            task = asyncio.create_task(self.warm())
            yield
            task.cancel()

        async def close(request: Request) -> Response:
            door.close()
            return JSONResponse({"closed": True})

        routes = [
            Route("/state", self.answer_state),
            Route("/queries", self.answer_query, methods=["POST"]),
            Route("/queries/{query:int}", self.answer_forget, methods=["DELETE"]),
            Route("/queries/{query:int}/{place:int}", self.answer_picture),
            Route("/queries/{query:int}.zip", self.answer_archive),
            Route("/queries.zip", self.answer_archive),
            Route("/close", close, methods=["POST"]),
        ]
        return build_page("user", routes, port=door.port, token=door.token, lifespan=live)

    async def warm(self) -> None:
        """Compile what a query needs, asking nobody."""
        side = self.hasher.size

        def compile_all() -> None:
            codes = self.hasher.hash(np.zeros((1, side, side, 3), np.uint8))
            protocol.ask(
                self.member, codes, top=1, now=int(time.time()), draw=secrets.token_bytes, scheme=self.command.scheme
            )

        async with self.asking:
            await run_in_threadpool(compile_all)

    async def answer_state(self, request: Request) -> Response:
        """GET /state."""
        card, grant = self.member.card, self.member.grant
        return JSONResponse(
            {
                "collection": card.collection,
                "epoch": card.epoch,
                "bits": card.bits,
                "fingerprint": card_fingerprint(card),
                "cloud": self.url,
                "rights": list(grant.rights),
                "expires": date(grant.expires),
                "cover": grant.cover,
                "max_results": grant.max_results,
                "budget": self.budget(),
            }
        )

    async def answer_query(self, request: Request) -> Response:
        """POST /queries: a photograph in, its matches out."""
        top, blocks = _whole(request, "top", least=1), _whole(request, "audit", least=0)
        content = await read_body(request, most=MOST_BYTES)
        name = PurePosixPath(stated_name(request)).name or "photograph"
        async with self.asking:
            return JSONResponse(await run_in_threadpool(self.ask, content, name, top, blocks))

    def ask(self, content: bytes, name: str, top: int, blocks: int) -> dict[str, Any]:
        """Hash, ask, open, keep; what the page is told."""
        begin = time.perf_counter()
        codes = self.hasher.hash(decode_image(content, size=self.hasher.size)[None])
        hashed = time.perf_counter()
        answered = ask_cloud(
            self.link, self.member, codes, home=self.command.place.home, top=top, scheme=self.command.scheme,
            blocks=blocks,
        )  # fmt: skip
        self.member = answered.member
        matches = answered.matches[0]
        about = {
            "collection": self.member.card.collection,
            "scheme": answered.query.request.scheme,
            "head": self.member.head,
            "audited": blocks,
        }
        kept = Kept(name, content, matches, about)
        self.asked += 1
        self.keep(self.asked, kept)
        spent = time.perf_counter() - begin
        return {
            "query": self.asked,
            "name": name,
            **about,
            "learned": describe_query(answered.query, answered.delivery),
            "budget": self.budget(),
            "seconds": {
                "all": round(spent, 3), "services": round(answered.waited, 3), "hash": round(hashed - begin, 3),
                "own": round(spent - answered.waited, 3),
            },
            "matches": [_describe(match) for match in matches],
        }  # fmt: skip

    def keep(self, number: int, kept: Kept) -> None:
        """Keep an answer, and forget the oldest where memory would run out."""
        self.kept[number] = kept
        while len(self.kept) > 1 and sum(_bytes(each) for each in self.kept.values()) > KEPT_BYTES:
            self.kept.popitem(last=False)

    def budget(self) -> dict[str, int]:
        """What the grant allows in a day and what this folder's queries took of it."""
        grant, used = self.member.grant, used_today(self.command.place.home, self.member)
        return {
            "queries": used["queries"],
            "queries_per_day": grant.queries_per_day,
            "images": len(used["images"]),
            "images_per_day": grant.images_per_day,
        }

    async def answer_forget(self, request: Request) -> Response:
        """DELETE /queries/N."""
        self.kept.pop(request.path_params["query"], None)
        return JSONResponse({"kept": len(self.kept)})

    async def answer_picture(self, request: Request) -> Response:
        """GET /queries/N/PLACE, to look at; with `?save` to save."""
        kept = self.find(request)
        place = request.path_params["place"]
        photograph = kept.matches[place].photograph if place < len(kept.matches) else None
        if photograph is None:
            raise HTTPException(404, "place: no picture was opened there")
        if "save" in request.query_params:
            return download_response(photograph.data, "application/octet-stream", file_names([photograph])[0] or "")
        return await run_in_threadpool(picture_response, photograph.data, photograph.media_type)

    async def answer_archive(self, request: Request) -> Response:
        """GET /queries/N.zip or /queries.zip: what one query found, or all of them."""
        chosen = [self.find(request)] if "query" in request.path_params else list(self.kept.values())
        name = f"{PurePosixPath(chosen[0].name).stem}.zip" if len(chosen) == 1 else "results.zip"
        return download_response(await run_in_threadpool(_archive, chosen), "application/zip", name)

    def find(self, request: Request) -> Kept:
        """The answered query that a path names."""
        kept = self.kept.get(request.path_params["query"])
        if kept is None:
            raise HTTPException(404, "query: must be one whose results are still here; ask again")
        return kept


def _describe(match: protocol.Match) -> dict[str, Any]:
    """A match as the page shows it."""
    return {**describe_match(match, None), "opened": match.photograph is not None}


def _archive(chosen: Sequence[Kept]) -> bytes:
    """What the command line writes, a folder for each query."""
    body = io.BytesIO()
    folders = free_names([harmless_name(PurePosixPath(kept.name).stem) or "query" for kept in chosen])
    with zipfile.ZipFile(body, "w") as archive:
        for folder, kept in zip(folders, chosen, strict=True):
            files, _ = result_files(kept.name, kept.content, kept.matches, record=kept.about)
            for name, content in files.items():
                archive.writestr(f"{folder}/{name}", content)
    return body.getvalue()


def _bytes(kept: Kept) -> int:
    opened = (match.photograph for match in kept.matches)
    return len(kept.content) + sum(len(photograph.data) for photograph in opened if photograph is not None)


def _whole(request: Request, name: str, *, least: int) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
        raise ValueError(f"{name}: must be a whole number of at least {least}, got {text!r}")
    return int(text)
