"""HTTP for both services: routes, rates, bodies read under a limit and a deadline, one status and code for every error.

Nothing here knows a key: the cloud and the authority share it.
"""

import asyncio
import contextlib
import errno
import json
import math
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from jcbir.errors import FormatError, KeyMismatchError
from jcbir.protocol import messages, wire
from jcbir.protocol.messages import Refusal
from jcbir.protocol.refusals import (
    EmptyCollectionError,
    ForeignCollectionError,
    OutOfStepError,
    OverBudgetError,
    RefusalError,
    ReplayedQueryError,
    StaleQueryError,
)
from jcbir.service._telemetry import Telemetry, Watch, client_name

MEDIA_TYPE = "application/vnd.jcbir"
CHUNK_BYTES = 1 << 18
EMPTY: Mapping[str, str] = MappingProxyType({})
_HEAD = wire.HEADER.size + wire.CHECK_BYTES
_STATUSES: Mapping[type[RefusalError], int] = MappingProxyType(
    {
        ForeignCollectionError: 404,
        ReplayedQueryError: 409,
        StaleQueryError: 409,
        EmptyCollectionError: 409,
        OverBudgetError: 429,
        OutOfStepError: 503,
    }
)
MOST_KEYS = 1 << 16


class DeclinedError(Exception):
    """A service will not do this now or at all, for a reason of its own (the protocol's are `RefusalError`).

    Attributes:
        status: HTTP status.
        refusal: what the body says.
        retry_after: seconds after which the same may succeed, or None.
    """

    def __init__(self, status: int, code: str, reason: str, *, retry_after: int | float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.refusal = Refusal(code, reason[:1000], math.ceil(retry_after or 0))
        self.retry_after = retry_after


class Budget:
    """Bytes of memory that request bodies, and what is read of them, take in one process at the same time.

    Attributes:
        limit: most bytes.
        used: bytes held now.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, count: int) -> None:
        """Hold more, or decline."""
        if self.used + count > self.limit:
            raise DeclinedError(503, "busy", "too many bodies are here at once", retry_after=1.0)
        self.used += count


class Work:
    """Seconds of work at hand, by prediction; what would make them too many is declined before it begins.

    Attributes:
        limit: most seconds.
        used: seconds at hand.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.used = 0.0

    @contextlib.contextmanager
    def hold(self, seconds: float) -> Iterator[None]:
        """Have work at hand for the length of a block, or decline it."""
        if seconds > self.limit:
            reason = f"{seconds:.3g} s of work, at most {self.limit:g} s: ask fewer at once"
            raise DeclinedError(413, "too-much", reason)
        if self.used + seconds > self.limit:
            wait = self.used + seconds - self.limit
            raise DeclinedError(429, "busy", f"{self.used:.3g} s of work are at hand already", retry_after=wait)
        self.used += seconds
        try:
            yield
        finally:
            self.used -= seconds


class Reply:
    """A response of one message, sent in pieces so that a slow reader is noticed.

    Attributes:
        status: HTTP status.
        body: its bytes.
        code: code of the refusal it carries, or "".
    """

    def __init__(
        self,
        body: bytes = b"",
        *,
        status: int = 200,
        media_type: str = MEDIA_TYPE,
        code: str = "",
        headers: Mapping[str, str] = EMPTY,
    ) -> None:
        self.status, self.body, self.code = status, body, code
        self._headers = [
            (b"content-type", media_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        self._headers += [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self._headers})
        body = self.body if scope["method"] != "HEAD" else b""
        view = memoryview(body)
        for start in range(0, len(body), CHUNK_BYTES):
            await send(
                {"type": "http.response.body", "body": bytes(view[start : start + CHUNK_BYTES]), "more_body": True}
            )
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def reply_with(message: Any) -> Reply:
    """Answer with a message."""
    return Reply(wire.to_bytes(message))


def refuse(error: Exception) -> Reply:
    """Answer an error: its status, and a `Refusal` as the body."""
    declined = _declined(error)
    # Of a method that a route does not have, Starlette says which it has.
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if declined.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(declined.retry_after)))
    body = wire.to_bytes(declined.refusal)
    return Reply(body, status=declined.status, code=declined.refusal.code, headers=headers)


class Pace(NamedTuple):
    """How slowly a sender may send.

    Attributes:
        patience: seconds to wait for the first piece, and for each further one.
        slowest: bytes a second to keep up on average, once `patience` is over.
    """

    patience: float
    slowest: float


class Rate(NamedTuple):
    """How often something may be asked.

    Attributes:
        per_second: requests a second in the long run; 0 switches the limit off.
        burst: requests at once after a pause.
    """

    per_second: float
    burst: float


class Buckets:
    """Token buckets by name; the ones not used longest are forgotten first.

    Attributes:
        rate: of each bucket.
    """

    def __init__(self, rate: Rate, *, most: int = MOST_KEYS) -> None:
        self.rate = rate
        self._most = most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, name: str, now: float) -> float:
        """Take one token: 0 if there was one, else the seconds until there is."""
        if not self.rate.per_second:
            return 0.0
        level, since = self._levels.pop(name, (self.rate.burst, now))
        level = min(self.rate.burst, level + (now - since) * self.rate.per_second)
        allowed = level >= 1
        self._levels[name] = (level - 1 if allowed else level, now)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return 0.0 if allowed else (1 - level) / self.rate.per_second


class Limits:
    """What one process takes at once and of one client or grant; more is declined before it is read or begun.

    Attributes:
        budget: of the bodies.
        pending: queries or reports at hand.
    """

    def __init__(self, *, body_budget: int, client_rate: Rate, grant_rate: Rate, pace: Pace, most_pending: int) -> None:
        self.budget, self.pending = Budget(body_budget), 0
        self._clients, self._grants = Buckets(client_rate), Buckets(grant_rate)
        self._pace, self._most_pending = pace, most_pending

    def count_client(self, request: Request) -> None:
        """Count a request of its address, or decline it: the address asks too often."""
        _spend(self._clients, client_name(request.scope))

    def count_grant(self, asked: messages.Request) -> None:
        """Count a query of its grant, or decline it."""
        _spend(self._grants, asked.grant.grant_id.hex())

    def receive(self, request: Request, kind: type, limit: int) -> AbstractAsyncContextManager[Any]:
        """Read one message of a client that does not ask too often; it is at hand for the length of a block."""
        self.count_client(request)
        return _receive_message(request, kind=kind, limit=limit, pace=self._pace, budget=self.budget)

    @contextlib.asynccontextmanager
    async def receive_asked(
        self, request: Request, kind: type, limit: int, *, check: Callable[[messages.Request], None]
    ) -> AsyncIterator[Any]:
        """Read a query or a report and have it pending for the length of a block, if not too many are already."""
        self.count_client(request)
        self._check_room()
        reading = _receive_message(request, kind=kind, limit=limit, pace=self._pace, budget=self.budget, check=check)
        async with reading as message:
            # Others came in while this one arrived.
            self._check_room()
            asked = message.request
            request.scope["jcbir"] = {"grant": asked.grant.grant_id.hex(), "queries": asked.queries}
            self.pending += 1
            try:
                yield message
            finally:
                self.pending -= 1

    def _check_room(self) -> None:
        if self.pending >= self._most_pending:
            raise DeclinedError(429, "busy", f"{self.pending} requests are at hand already", retry_after=1.0)


def _spend(buckets: Buckets, name: str) -> None:
    wait = buckets.spend(name, time.monotonic())
    if wait:
        raise DeclinedError(429, "too-often", "slow down", retry_after=wait)


@contextlib.asynccontextmanager
async def _receive_message(
    request: Request,
    *,
    kind: type,
    limit: int,
    pace: Pace,
    budget: Budget,
    check: Callable[[messages.Request], None] | None = None,
) -> AsyncIterator[Any]:
    """Read one message, in a thread; hold no more than the limit and the budget, wait no longer than the pace allows.

    The first bytes name the message and its length, and of a query or a report `check` sees the request that it begins
    with: what does not belong here is refused before it has arrived. What is held, is held until the end of the block.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)
    body, held = bytearray(), 0
    try:
        try:
            async with contextlib.aclosing(_pieces(request, pace)) as pieces:
                async for piece in pieces:
                    if len(body) + len(piece) > limit:
                        raise _too_large(limit)
                    budget.take(len(piece))
                    held += len(piece)
                    seen = len(body)
                    body += piece
                    if seen < _HEAD <= len(body):
                        _check_head(bytes(body[:_HEAD]), kind, limit)
                    if check and seen < wire.START_BYTES <= len(body):
                        await asyncio.to_thread(check, wire.read_request(bytes(body[: wire.START_BYTES])))
        except TimeoutError:
            raise DeclinedError(408, "too-slow", "the body did not arrive in time") from None
        except ClientDisconnect:
            raise DeclinedError(400, "gone", "the sender went away") from None
        room = wire.building_room(len(body))
        budget.take(room)
        held += room
        message, filled = await asyncio.to_thread(wire.read_message, memoryview(body), expect=kind)
        # What was kept free for the worst of messages is there again for others.
        budget.used -= room - filled
        held -= room - filled
        yield message
    finally:
        budget.used -= held


async def _pieces(request: Request, pace: Pace) -> AsyncGenerator[bytes, None]:
    """The pieces of a body, or TimeoutError."""
    started, size = time.monotonic(), 0
    pieces = request.stream().__aiter__()
    while True:
        left = started + pace.patience + size / pace.slowest - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(pace.patience, left))):
                piece = await pieces.__anext__()
        except StopAsyncIteration:
            return
        size += len(piece)
        yield piece


def _check_head(head: bytes, kind: type, limit: int) -> None:
    found, _ = wire.read_header(head, limit=limit)
    if found is not kind:
        raise FormatError(f"message: must be a {kind.__name__}, got a {found.__name__}")


def _too_large(limit: int) -> DeclinedError:
    return DeclinedError(413, "too-large", f"a body here has at most {limit} bytes")


def _declined(error: Exception) -> DeclinedError:
    match error:
        case DeclinedError():
            return error
        case RefusalError():
            status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), 403)
            return DeclinedError(status, error.code, str(error), retry_after=error.retry_after)
        case FormatError():
            return DeclinedError(422, "malformed", str(error))
        case KeyMismatchError():
            return DeclinedError(404, ForeignCollectionError.code, str(error))
        case HTTPException():
            code = {404: "no-such-route", 405: "no-such-method"}.get(error.status_code, "refused")
            return DeclinedError(error.status_code, code, str(error.detail))
        case ValueError():
            return DeclinedError(409, "conflict", str(error))
        case ChildProcessError():
            return DeclinedError(500, "internal", "a worker ended over this, several times")
        case OSError(errno=errno.ENOSPC):
            return DeclinedError(507, "disk-full", "the disk of the service is full")
        case OSError():
            # The text of a disk's error names paths, which are nobody's business; it is in the log.
            return DeclinedError(503, "unavailable", "the service cannot do this at the moment", retry_after=5.0)
    return DeclinedError(500, "internal", "an error inside the service; see its log")


Handler = Callable[[Request], Awaitable[Reply]]


def build_app(
    posts: Mapping[str, Handler],
    gets: Mapping[str, Handler],
    *,
    telemetry: Telemetry,
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]],
    health: Callable[[], dict[str, Any]],
    send_seconds: float,
) -> Starlette:
    """Put an application together."""

    async def answer_health(request: Request) -> Reply:
        state = health()
        return Reply(json.dumps(state).encode(), status=200 if state["ok"] else 503, media_type="application/json")

    async def answer_live(request: Request) -> Reply:
        return Reply(b'{"live": true}', media_type="application/json")

    async def answer_metrics(request: Request) -> Reply:
        return Reply(telemetry.text().encode(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def on_error(request: Request, error: Exception) -> Any:
        reply = refuse(error)
        request.scope["jcbir"] = {**request.scope.get("jcbir", {}), "code": reply.code}
        telemetry.count("refusals_total", code=reply.code)
        return reply

    own = {"/health": answer_health, "/live": answer_live, "/metrics": answer_metrics}
    routes = [Route(path, _Endpoint(handler), methods=["POST"]) for path, handler in posts.items()]
    routes += [Route(path, _Endpoint(handler), methods=["GET"]) for path, handler in {**gets, **own}.items()]
    known = frozenset((*posts, *gets, *own))
    handlers = dict.fromkeys((DeclinedError, ValueError, OSError, HTTPException, Exception), on_error)
    watch = Middleware(Watch, telemetry=telemetry, routes=known, send_seconds=send_seconds)  # type: ignore[arg-type]
    app = Starlette(routes=routes, middleware=[watch], exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False
    return app


class _Endpoint:
    """An endpoint as an ASGI application, so that Starlette sends the reply as it is."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply: ASGIApp = await self._handler(Request(scope, receive))
        await reply(scope, receive, send)
