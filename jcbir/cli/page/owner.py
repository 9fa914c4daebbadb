"""`jcbir owner open`: a page to look after a collection on. Its orders are the commands of `jcbir owner`, run here."""

import asyncio
import hashlib
import io
import json
import os
import tempfile
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import PIL.Image
import rich.console
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from jcbir.cli import options, owner
from jcbir.cli.console import Advance, CommandConsole
from jcbir.cli.exit_codes import classify
from jcbir.cli.outbox import check_addresses, pending
from jcbir.cli.page.app import (
    MOST_BYTES,
    MOST_FORM,
    PICTURE_POLICY,
    PageDoor,
    build_page,
    read_body,
    stated_name,
)
from jcbir.cli.passphrase import read_passphrase
from jcbir.cli.publish import published_names
from jcbir.cli.workspace import open_workspace
from jcbir.data import decode_image, decode_whole, read_encoded
from jcbir.storage import keys
from jcbir.storage.cards import card_fingerprint
from jcbir.storage.files import PRIVATE, write_file

THUMBNAIL_SIDE = 320
MOST_DEPTH = 16


def open_page(command: options.OwnerOpen, console: CommandConsole) -> None:
    check_addresses(cloud=command.links.cloud, authority=command.links.authority)
    door = PageDoor(command.page)
    passphrase = read_passphrase(command.place.passphrase_file, purpose=owner.KEYS)
    page = _Page(command, passphrase)
    # A wrong passphrase is found before there is a page.
    page.look()
    door.serve(page.app(door), console)


class _Order:
    """A command of the owner at work, as the page sees it."""

    def __init__(self, name: str) -> None:
        self.name, self.phase, self.done, self.total = name, "", 0, None
        self.record: dict[str, Any] | None = None
        self.error: dict[str, str] | None = None
        self.out, self.err = io.StringIO(), io.StringIO()
        self.ended = False

    def console(self) -> CommandConsole:
        """The streams of the command, kept."""

        def stream(file: io.StringIO) -> rich.console.Console:
            return rich.console.Console(file=file, highlight=False, soft_wrap=True, markup=False)

        return CommandConsole(True, stream(self.out), stream(self.err), self.watch)

    def watch(self, phase: str) -> Advance:
        """Take the progress of one phase."""
        self.phase, self.done, self.total = phase, 0, None

        def advance(done: int, total: int | None) -> None:
            self.done, self.total = done, total

        return advance

    def run(self, function: Callable[[CommandConsole], None]) -> None:
        """Run the command to its end; errors are told as on the command line."""
        try:
            function(self.console())
            self.record = json.loads(self.out.getvalue())
        except (ValueError, OSError, ImportError) as error:
            ending = classify(error)
            if ending is None:
                raise
            self.error = {"error": ending.code, "reason": ending.reason}
        finally:
            self.ended = True

    def describe(self) -> dict[str, Any]:
        """What the page is told."""
        return {
            "order": self.name, "phase": self.phase, "done": self.done, "total": self.total, "ended": self.ended,
            "notes": self.err.getvalue().splitlines(), "record": self.record, "error": self.error,
        }  # fmt: skip


class _Page:
    """The open page: what was seen of the folder last, and the order at work."""

    def __init__(self, command: options.OwnerOpen, passphrase: str) -> None:
        self.command, self.passphrase = command, passphrase
        self.entries: Mapping[str, Mapping[str, str]] = {}
        self.state: dict[str, Any] = {}
        self.order: _Order | None = None
        self.tasks: set[asyncio.Task] = set()

    def app(self, door: PageDoor) -> ASGIApp:
        """The application."""

        async def close(request: Request) -> Response:
            self.check_idle()
            door.close()
            return JSONResponse({"closed": True})

        routes = [
            Route("/state", self.answer_state),
            Route("/services", self.answer_services),
            Route("/thumbnails/{image_id}", self.answer_thumbnail),
            Route("/files", self.answer_file, methods=["POST"]),
            Route("/orders/{name}", self.answer_order, methods=["POST"]),
            Route("/order", self.answer_progress),
            Route("/close", close, methods=["POST"]),
        ]
        return build_page("owner", routes, port=door.port, token=door.token)

    def look(self) -> dict[str, Any]:
        """Read the owner's folder anew."""
        place = self.command.place
        with open_workspace(place.home, passphrase=self.passphrase, work=keys.WORK) as workspace:
            self.entries = published_names(workspace)
            card = workspace.owner.card
            self.state = {
                "collection": card.collection,
                "epoch": card.epoch,
                "bits": card.bits,
                "modulus_bits": card.public.key.bits,
                "fingerprint": card_fingerprint(card),
                "schemes": list(workspace.settings.schemes),
                "cipher": workspace.settings.cipher,
                "waiting": len(pending(workspace.path)),
                "grants": owner.grants_of(workspace),
                "photographs": [
                    {"image_id": image_id, "path": entry["path"], "root": entry.get("root", "")}
                    for image_id, entry in sorted(self.entries.items(), key=lambda pair: pair[1]["path"])
                ],
                "album": str(self.command.album),
                "admissions": str(self.command.admissions),
                "cloud": self.command.links.cloud,
                "authority": self.command.links.authority,
            }
        return self.state

    def busy(self) -> bool:
        """Whether an order is at work."""
        return self.order is not None and not self.order.ended

    def check_idle(self) -> None:
        """Refuse a second order beside the one at work."""
        if self.busy():
            raise ValueError("order: must wait until the one at work is done")

    async def answer_state(self, request: Request) -> Response:
        """GET /state; while an order is at work, as it was before."""
        return JSONResponse(self.state if self.busy() else await run_in_threadpool(self.look))

    async def answer_services(self, request: Request) -> Response:
        """GET /services."""
        return JSONResponse(
            await run_in_threadpool(
                lambda: owner.look_at_services(self.command.links, epoch=self.state["epoch"])
            )
        )  # fmt: skip

    async def answer_thumbnail(self, request: Request) -> Response:
        """GET /thumbnails/ID, from the owner's own file."""
        entry = self.entries.get(request.path_params["image_id"])
        if entry is None:
            raise HTTPException(404, "photograph: must be one that is published")
        return await run_in_threadpool(_thumbnail, entry)

    async def answer_file(self, request: Request) -> Response:
        """POST /files: a photograph for the album; its name may have folders."""
        content = await read_body(request, most=MOST_BYTES)
        return JSONResponse(await run_in_threadpool(_take_file, self.command.album, stated_name(request), content))

    async def answer_order(self, request: Request) -> Response:
        """POST /orders/NAME: begin a command; `/order` tells of it."""
        name = request.path_params["name"]
        if name not in ORDERS:
            raise HTTPException(404, f"order: must be one of {', '.join(ORDERS)}, got {name!r}")
        # An enrollment of 64 KiB in hexadecimal digits, and the rest of the form.
        form = _Form(await read_body(request, most=2 * owner.ENROLLMENT_BYTES + MOST_FORM))
        self.check_idle()
        run = ORDERS[name](self, form)
        self.order = order = _Order(name)
        task = asyncio.create_task(run_in_threadpool(order.run, run))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return JSONResponse(order.describe())

    async def answer_progress(self, request: Request) -> Response:
        """GET /order."""
        return JSONResponse(None if self.order is None else self.order.describe())

    def publish(self, form: "_Form") -> Callable[[CommandConsole], None]:
        """Publish the album, or another folder of this machine."""
        folder = form.text("folder")
        command = options.OwnerPublish(
            Path(folder) if folder else self.command.album, withdraw_missing=form.flag("withdraw_missing"),
            place=self.command.place, links=self.command.links,
        )  # fmt: skip
        return lambda console: owner.publish(command, console, passphrase=self.passphrase)

    def withdraw(self, form: "_Form") -> Callable[[CommandConsole], None]:
        """Withdraw photographs by pseudonym."""
        command = options.OwnerWithdraw(
            form.texts("photographs"), place=self.command.place, links=self.command.links
        )  # fmt: skip
        return lambda console: owner.withdraw(command, console, passphrase=self.passphrase)

    def grant(self, form: "_Form") -> Callable[[CommandConsole], None]:
        """Admit a user into a folder of its own."""
        label = form.text("label")
        try:
            enrollment = bytes.fromhex(form.text("enrollment"))
        except ValueError:
            raise ValueError("enrollment: must be hexadecimal digits, got something else") from None
        rights = ("rank", "open") if form.flag("open") else ("rank",)
        limits = {name: form.whole(name) for name in ("max_results", "queries_per_day", "images_per_day", "cover")}
        days = form.number("days")

        def run(console: CommandConsole) -> None:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "enrollment.jcbir")
                file.write_bytes(enrollment)
                command = options.OwnerGrant(
                    file, out=_free(self.command.admissions / (_safe(label) or "user")), label=label, days=days,
                    rights=rights, cloud=self.command.links.cloud, place=self.command.place, **limits,
                )  # fmt: skip
                owner.grant(command, console, passphrase=self.passphrase)

        return run

    def revoke(self, form: "_Form") -> Callable[[CommandConsole], None]:
        """Revoke grants by identifier."""
        command = options.OwnerRevoke(form.texts("grants"), place=self.command.place, links=self.command.links)
        return lambda console: owner.revoke(command, console, passphrase=self.passphrase)

    def rekey(self, form: "_Form") -> Callable[[CommandConsole], None]:
        """Move to a new epoch."""
        authority = form.text("authority_passphrase")
        if not authority:
            raise ValueError("passphrase of the authority's key: must not be empty, got nothing in the form")
        command = options.OwnerRekey(place=self.command.place, links=self.command.links)
        return lambda console: owner.rekey(command, console, passphrase=self.passphrase, authority=authority)

    def send(self, form: "_Form") -> Callable[[CommandConsole], None]:
        """Send what waits."""
        command = options.OwnerSend(place=self.command.place, links=self.command.links)
        return lambda console: owner.send(command, console, passphrase=self.passphrase)


ORDERS = {
    "publish": _Page.publish,
    "withdraw": _Page.withdraw,
    "grant": _Page.grant,
    "revoke": _Page.revoke,
    "rekey": _Page.rekey,
    "send": _Page.send,
}


class _Form:
    """The fields of an order, each of the kind it must be."""

    def __init__(self, body: bytes) -> None:
        try:
            self.fields = json.loads(body or b"{}")
        except ValueError:
            self.fields = None
        if not isinstance(self.fields, dict):
            raise ValueError("form: must be a JSON object, got something else")

    def text(self, name: str) -> str:
        """A text, empty where there is none."""
        found = self.fields.get(name, "")
        if not isinstance(found, str):
            raise ValueError(f"{name}: must be a text, got {type(found).__name__}")
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """Some texts."""
        found = self.fields.get(name, [])
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise ValueError(f"{name}: must be texts, got {type(found).__name__}")
        return tuple(found)

    def number(self, name: str) -> float:
        """A number."""
        found = self.fields.get(name)
        if not isinstance(found, int | float) or isinstance(found, bool):
            raise ValueError(f"{name}: must be a number, got {found!r}")
        return float(found)

    def whole(self, name: str) -> int:
        """A whole number."""
        found = self.number(name)
        if found != int(found):
            raise ValueError(f"{name}: must be a whole number, got {found}")
        return int(found)

    def flag(self, name: str) -> bool:
        """Yes or no."""
        found = self.fields.get(name, False)
        if not isinstance(found, bool):
            raise ValueError(f"{name}: must be true or false, got {found!r}")
        return found


def _thumbnail(entry: Mapping[str, str]) -> Response:
    """What was published, if it lies where it lay: another picture of that name is not shown for it."""
    try:
        content = read_encoded(Path(entry.get("root", ""), entry.get("file", entry["path"])))
    except (OSError, ValueError):
        raise HTTPException(404, "photograph: is not where it was published from") from None
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise HTTPException(404, "photograph: was changed since it was published")
    body = io.BytesIO()
    PIL.Image.fromarray(decode_whole(content, longest_side=THUMBNAIL_SIDE)).save(body, "JPEG", quality=80)
    return Response(body.getvalue(), media_type="image/jpeg", headers={"content-security-policy": PICTURE_POLICY})


def _take_file(album: Path, name: str, content: bytes) -> dict[str, Any]:
    """Put a photograph into the album, beside what is there; what is no photograph stays outside."""
    parts = [_safe(part) for part in PurePosixPath(name).parts if part not in ("/", ".", "..")]
    if not parts or not all(parts) or len(parts) > MOST_DEPTH:
        raise ValueError(f"name: must be that of a photograph, got {name!r}")
    decode_image(content, size=8)
    folder = album.joinpath(*parts[:-1])
    if not folder.resolve().is_relative_to(album.resolve()):
        raise ValueError(f"name: must lead into the album, got {name!r}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / parts[-1]
    if file.is_file() and file.stat().st_size == len(content) and file.read_bytes() == content:
        return {"path": str(file.relative_to(album)), "known": True}
    file = _free(file)
    write_file(file, content, mode=PRIVATE, replace=False)
    return {"path": str(file.relative_to(album)), "known": False}


def _free(path: Path) -> Path:
    """A path where nothing is yet: the one given, or a numbered one."""
    number, found = 2, path
    while os.path.lexists(found):
        found, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return found


def _safe(part: str) -> str:
    """A name as one part of a path: no separators, not hidden, of a length that every disk takes."""
    found = "".join("_" if letter in '/\\:*?"<>|' else letter for letter in unicodedata.normalize("NFC", part))
    stem, suffix = os.path.splitext(found.strip().lstrip("."))
    while len((stem + suffix).encode(errors="replace")) > 200:
        stem, suffix = stem[:-1], suffix[:20]
    return (stem + suffix).strip()
