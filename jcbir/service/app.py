"""What both services have in common: routes around handlers, refusals for every error, health and metrics."""

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from jcbir.service.http import DeclinedError, Reply, refuse
from jcbir.service.limits import Buckets
from jcbir.service.telemetry import Telemetry, Watch, client_name

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
    """Put an application together.

    Args:
        posts: path to handler of POST.
        gets: path to handler of GET.
        telemetry: where to count.
        lifespan: what lives as long as the application.
        health: what /health says; its `ok` decides between 200 and 503.
        send_seconds: most seconds that one piece of an answer may take to leave.

    Returns:
        The application; each error becomes a `Refusal`.

    Example:
        >>> import contextlib
        >>> async def answer(request):
        ...     return Reply(b"pong")
        >>> app = build_app(
        ...     {"/v1/ping": answer}, {}, telemetry=Telemetry("demo"), lifespan=contextlib.nullcontext,
        ...     health=lambda: {"ok": True}, send_seconds=5.0,
        ... )
        >>> [route.path for route in app.routes]
        ['/v1/ping', '/health', '/metrics']
    """

    async def answer_health(request: Request) -> Reply:
        state = health()
        return Reply(json.dumps(state).encode(), status=200 if state["ok"] else 503, media_type="application/json")

    async def answer_metrics(request: Request) -> Reply:
        return Reply(telemetry.text().encode(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def on_error(request: Request, error: Exception) -> Any:
        reply = refuse(error)
        request.scope["jcbir"] = {**request.scope.get("jcbir", {}), "code": reply.code}
        telemetry.count("refusals_total", code=reply.code)
        return reply

    own = {"/health": answer_health, "/metrics": answer_metrics}
    routes = [Route(path, _Endpoint(handler), methods=["POST"]) for path, handler in posts.items()]
    routes += [Route(path, _Endpoint(handler), methods=["GET"]) for path, handler in {**gets, **own}.items()]
    known = frozenset((*posts, *gets, *own))
    handlers = dict.fromkeys((DeclinedError, ValueError, OSError, HTTPException, Exception), on_error)
    watch = Middleware(Watch, telemetry=telemetry, routes=known, send_seconds=send_seconds)  # type: ignore[arg-type]
    app = Starlette(routes=routes, middleware=[watch], exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False
    return app


def limit_client(request: Request, buckets: Buckets, now: float) -> None:
    """Refuse an address that asks too often.

    Args:
        request: the request.
        buckets: one for each address.
        now: monotonic seconds.

    Returns:
        Nothing.

    Raises:
        DeclinedError: too often.

    Example:
        >>> from jcbir.service.limits import Rate
        >>> request, buckets = Request({"type": "http", "client": ("192.0.2.1", 5000)}), Buckets(Rate(1, 1))
        >>> limit_client(request, buckets, 0.0)
        >>> limit_client(request, buckets, 0.1)
        Traceback (most recent call last):
        ...
        jcbir.service.http.DeclinedError: slow down
    """
    limit_name(client_name(request.scope), buckets, now)


def limit_name(name: str, buckets: Buckets, now: float) -> None:
    """Refuse a name that asks too often.

    Args:
        name: whose bucket.
        buckets: one for each name.
        now: monotonic seconds.

    Returns:
        Nothing.

    Raises:
        DeclinedError: too often.

    Example:
        >>> from jcbir.service.limits import Rate
        >>> limit_name("grant", Buckets(Rate(1, 1)), 0.0)
    """
    wait = buckets.spend(name, now)
    if wait:
        raise DeclinedError(429, "too-often", "slow down", retry_after=wait)


class _Endpoint:
    """An endpoint as an ASGI application, so that Starlette sends the reply as it is."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply: ASGIApp = await self._handler(Request(scope, receive))
        await reply(scope, receive, send)


__all__ = ["Handler", "build_app", "limit_client", "limit_name"]
