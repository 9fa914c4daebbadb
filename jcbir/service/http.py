"""HTTP bodies in and out: read under a limit and a deadline, answered as messages; every error has one status and code.

Nothing here knows a key: the cloud and the authority share it.
"""

import asyncio
import contextlib
import errno
import time
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from jcbir.errors import FormatError, KeyMismatchError
from jcbir.protocol import wire
from jcbir.protocol.messages import Refusal
from jcbir.protocol.refusals import ForeignCollectionError, RefusalError, ReplayedQueryError, StaleQueryError

MEDIA_TYPE = "application/vnd.jcbir"
CHUNK_BYTES = 1 << 18
EMPTY: Mapping[str, str] = MappingProxyType({})
_HEAD = wire.HEADER.size + wire.CHECK_BYTES
_CONFLICTS = (ReplayedQueryError, StaleQueryError)


class DeclinedError(Exception):
    """A service will not do this now or at all, for a reason of its own (the protocol's are `RefusalError`).

    Attributes:
        status: HTTP status.
        refusal: what the body says.
        retry_after: seconds after which the same may succeed, or None.
    """

    def __init__(self, status: int, code: str, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.refusal = Refusal(code, reason[:1000])
        self.retry_after = retry_after


class Budget:
    """Bytes of request bodies that one process holds in memory at the same time.

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
    """Answer with a message.

    Args:
        message: a record of `jcbir.protocol.messages`.

    Returns:
        The response.

    Example:
        >>> reply_with(Refusal("busy", "later")).status
        200
    """
    return Reply(wire.to_bytes(message))


def refuse(error: Exception) -> Reply:
    """Answer an error: its status, and a `Refusal` as the body.

    Args:
        error: what went wrong.

    Returns:
        The response; an error that nobody foresaw says nothing but "internal".

    Example:
        >>> refuse(ReplayedQueryError("query: answered before")).status
        409
    """
    declined = _declined(error)
    # Of a method that a route does not have, Starlette says which it has.
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if declined.retry_after is not None:
        headers["retry-after"] = str(max(1, round(declined.retry_after + 0.5)))
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


@contextlib.asynccontextmanager
async def receive_body(request: Request, *, kind: type, limit: int, pace: Pace, budget: Budget) -> AsyncIterator[bytes]:
    """Read one message's bytes; never hold more than the limit, never wait longer than the pace allows.

    The first bytes name the message and its length: a body of another kind or beyond the limit is refused before it
    has arrived.

    Args:
        request: the request.
        kind: the class of message that belongs here.
        limit: most bytes.
        pace: how slowly it may arrive.
        budget: bytes held by all requests together; these are held until the end of the block.

    Yields:
        The body.

    Raises:
        DeclinedError: too large, too slow, gone away, or too much at once.
        FormatError: not the message that belongs here.

    Example:
        >>> async def read(message):
        ...     async def receive():
        ...         return {"type": "http.request", "body": wire.to_bytes(message)}
        ...     request, budget = Request({"type": "http", "headers": []}, receive), Budget(99)
        ...     async with receive_body(request, kind=Refusal, limit=99, pace=Pace(5.0, 1.0), budget=budget) as body:
        ...         return wire.from_bytes(body)
        >>> asyncio.run(read(Refusal("busy", "later")))
        Refusal(code='busy', reason='later')
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        try:
            await _fill(body, request, kind, limit, pace, budget)
        except TimeoutError:
            raise DeclinedError(408, "too-slow", "the body did not arrive in time") from None
        except ClientDisconnect:
            raise DeclinedError(400, "gone", "the sender went away") from None
        yield bytes(body)
    finally:
        budget.used -= len(body)


async def _fill(body: bytearray, request: Request, kind: type, limit: int, pace: Pace, budget: Budget) -> None:
    started, checked = time.monotonic(), False
    pieces = request.stream().__aiter__()
    while True:
        left = started + pace.patience + len(body) / pace.slowest - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(pace.patience, left))):
                piece = await pieces.__anext__()
        except StopAsyncIteration:
            return
        if len(body) + len(piece) > limit:
            raise _too_large(limit)
        budget.take(len(piece))
        body += piece
        if not checked and len(body) >= _HEAD:
            _check_head(bytes(body[:_HEAD]), kind, limit)
            checked = True


def _check_head(head: bytes, kind: type, limit: int) -> None:
    found, _ = wire.read_header(head, limit=limit)
    if found is not kind:
        raise FormatError(f"message: expected a {kind.__name__}, got a {found.__name__}")


def _too_large(limit: int) -> DeclinedError:
    return DeclinedError(413, "too-large", f"a body here has at most {limit} bytes")


def _declined(error: Exception) -> DeclinedError:
    match error:
        case DeclinedError():
            return error
        case ForeignCollectionError():
            return DeclinedError(404, error.code, str(error))
        case RefusalError():
            return DeclinedError(409 if isinstance(error, _CONFLICTS) else 403, error.code, str(error))
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


__all__ = ["MEDIA_TYPE", "Budget", "DeclinedError", "Pace", "Reply", "receive_body", "refuse", "reply_with"]
