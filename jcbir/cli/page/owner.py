"""`jcbir owner open`: a page to look after a collection on. Its orders are the commands of `jcbir owner`, run here."""

import asyncio
import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import rich.console
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from jcbir.cli import options, owner
from jcbir.cli.checks import MESSAGE_BYTES, check_command
from jcbir.cli.console import Advance, CommandConsole
from jcbir.cli.exit_codes import classify
from jcbir.cli.outbox import pending
from jcbir.cli.page.app import (
    MOST_BYTES,
    MOST_FORM,
    PICTURE_POLICY,
    PageDoor,
    build_page,
    open_door,
    read_body,
    stated_name,
)
from jcbir.cli.passphrase import read_passphrase
from jcbir.cli.publish import published_names
from jcbir.cli.results import harmless_name
from jcbir.cli.workspace import open_workspace
from jcbir.data import decode_image, decode_whole, encode_jpeg, read_encoded
from jcbir.ranking._table import modulus_length
from jcbir.storage import _keys as keys, card_fingerprint, write_file
from jcbir.storage._files import PRIVATE

THUMBNAIL_SIDE = 320
MOST_DEPTH = 16


def open_page(command: options.OwnerOpen, console: CommandConsole) -> None:
    with open_door(command.page) as door, tempfile.TemporaryDirectory() as folder:
        passphrase = read_passphrase(command.place.passphrase_file, purpose=owner.KEYS)
        page = _Page(command, passphrase, Path(folder))
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

    def __init__(self, command: options.OwnerOpen, passphrase: str, folder: Path) -> None:
        self.command, self.passphrase, self.folder = command, passphrase, folder
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
            state, card = workspace.owner, workspace.owner.card
            self.state = {
                "collection": card.collection,
                "epoch": card.epoch,
                "bits": card.bits,
                "modulus_bits": modulus_length(card.public, bits=card.bits),
                "fingerprint": card_fingerprint(card),
                "schemes": list(workspace.settings.schemes),
                "cipher": workspace.settings.cipher,
                "waiting": len(pending(workspace.path)),
                "grants": owner.grants_of(workspace),
                "photographs": [
                    {
                        "image_id": image_id,
                        "path": entry["path"],
                        "root": entry.get("root", ""),
                        "caption": entry.get("caption", ""),
                    }
                    for image_id, entry in sorted(self.entries.items(), key=lambda pair: pair[1]["path"])
                ],
                "album": str(self.command.album),
                "admissions": str(self.command.admissions),
                "cloud": self.command.links.cloud,
                "authority": self.command.links.authority,
            }
        # An authority that is away leaves the use unknown; /services says that it is.
        with contextlib.suppress(ConnectionError):
            self.state["grants"] = owner.with_use(self.state["grants"], state, self.command.links)
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
        form = _Form(await read_body(request, most=2 * MESSAGE_BYTES + MOST_FORM), self.folder)
        self.check_idle()
        build, function = ORDERS[name]
        command, more = build(self.command, form), {"passphrase": self.passphrase}
        if name == "rekey":
            more["authority"] = form.text("authority_passphrase")
            if not more["authority"]:
                raise ValueError("passphrase of the authority's key: must not be empty, got nothing")
        check_command(command)
        self.order = order = _Order(name)
        task = asyncio.create_task(run_in_threadpool(order.run, partial(function, command, **more)))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return JSONResponse(order.describe())

    async def answer_progress(self, request: Request) -> Response:
        """GET /order."""
        return JSONResponse(None if self.order is None else self.order.describe())


class _Form:
    """The fields of an order, each of the kind it must be."""

    def __init__(self, body: bytes, folder: Path) -> None:
        try:
            fields = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise ValueError("form: must be a JSON object, got something else")
        self.fields, self.folder = fields, folder

    def text(self, name: str) -> str:
        """A text, empty where there is none."""
        found = self.fields.get(name, "")
        if not isinstance(found, str):
            raise ValueError(f"{name}: must be a text, got {type(found).__name__}")
        return found

    def file(self, name: str) -> Path:
        """A file, which comes in hexadecimal digits."""
        try:
            content = bytes.fromhex(self.text(name))
        except ValueError:
            raise ValueError(f"{name}: must be hexadecimal digits, got something else") from None
        write_file(self.folder / name, content, mode=PRIVATE)
        return self.folder / name

    def texts(self, name: str) -> tuple[str, ...]:
        """Some texts."""
        found = self.fields.get(name, [])
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise ValueError(f"{name}: must be texts, got {type(found).__name__}")
        return tuple(found)

    def number(self, name: str) -> float:
        """A number."""
        found = self.fields.get(name)
        # JSON as Python reads it has infinity and NaN, which are no whole numbers and no errors of a form.
        if not isinstance(found, int | float) or isinstance(found, bool) or not abs(found) < 1 << 53:
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


def _publish(page: options.OwnerOpen, form: _Form) -> options.OwnerPublish:
    """The album, or another folder of this machine."""
    bare = form.flag("bare")
    return options.OwnerPublish(
        Path(form.text("folder") or page.album), withdraw_missing=form.flag("withdraw_missing"), no_names=bare,
        no_dates=bare, place=page.place, links=page.links,
    )  # fmt: skip


def _withdraw(page: options.OwnerOpen, form: _Form) -> options.OwnerWithdraw:
    return options.OwnerWithdraw(form.texts("photographs"), place=page.place, links=page.links)


def _caption(page: options.OwnerOpen, form: _Form) -> options.OwnerCaption:
    """The photographs and their captions, in one order."""
    photographs, texts = form.texts("photographs"), form.texts("captions")
    if len(photographs) != len(texts):
        raise ValueError(f"captions: must be one for each photograph, got {len(texts)} for {len(photographs)}")
    return options.OwnerCaption(
        tuple(zip(photographs, texts, strict=True)), place=page.place, links=page.links
    )  # fmt: skip


def _grant(page: options.OwnerOpen, form: _Form) -> options.OwnerGrant:
    """Into a folder of its own."""
    label = form.text("label")
    return options.OwnerGrant(
        form.file("enrollment"),
        out=_free(page.admissions / (harmless_name(label) or "user")),
        label=label,
        days=form.number("days"),
        max_results=form.whole("max_results"),
        queries_per_day=form.whole("queries_per_day"),
        images_per_day=form.whole("images_per_day"),
        cover=form.whole("cover"),
        rights=("rank", "open") if form.flag("open") else ("rank",),
        cloud=page.links.cloud,
        place=page.place,
    )


def _revoke(page: options.OwnerOpen, form: _Form) -> options.OwnerRevoke:
    return options.OwnerRevoke(form.texts("grants"), place=page.place, links=page.links)


def _rekey(page: options.OwnerOpen, form: _Form) -> options.OwnerRekey:
    return options.OwnerRekey(refit=form.flag("refit"), place=page.place, links=page.links)


def _send(page: options.OwnerOpen, form: _Form) -> options.OwnerSend:
    return options.OwnerSend(place=page.place, links=page.links)


ORDERS: dict[str, tuple[Callable[[options.OwnerOpen, _Form], Any], Callable[..., None]]] = {
    "publish": (_publish, owner.publish),
    "withdraw": (_withdraw, owner.withdraw),
    "caption": (_caption, owner.caption),
    "grant": (_grant, owner.grant),
    "revoke": (_revoke, owner.revoke),
    "rekey": (_rekey, owner.rekey),
    "send": (_send, owner.send),
}
"""What the page may order: the options made of a form, and the command that takes them."""


def _thumbnail(entry: Mapping[str, str]) -> Response:
    """What was published, if it lies where it lay: another picture of that name is not shown for it."""
    try:
        content = read_encoded(Path(entry.get("root", ""), entry.get("file", entry["path"])))
    except (OSError, ValueError):
        raise HTTPException(404, "photograph: is not where it was published from") from None
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise HTTPException(404, "photograph: was changed since it was published")
    small = encode_jpeg(decode_whole(content, longest_side=THUMBNAIL_SIDE))
    return Response(small, media_type="image/jpeg", headers={"content-security-policy": PICTURE_POLICY})


def _take_file(album: Path, name: str, content: bytes) -> dict[str, Any]:
    """Put a photograph into the album, beside what is there; what is no photograph stays outside."""
    parts = [harmless_name(part) for part in PurePosixPath(name).parts if part not in ("/", ".", "..")]
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
