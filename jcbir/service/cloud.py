"""The cloud as an HTTP service: holds the store, scores in worker processes, asks the authority to rank, delivers.

It has the public key alone. Nothing imported here can decrypt; import-linter proves it.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request

from jcbir.protocol import epochs, server, wire
from jcbir.protocol._signatures import check_signature
from jcbir.protocol.grants import check_commitment, check_grant, check_request, note_answered
from jcbir.protocol.messages import Publication, Query, Recall, Revocation, Succession, Withdrawal
from jcbir.protocol.refusals import ForgedReplyError
from jcbir.protocol.server import Server
from jcbir.service.app import build_app, limit_client, limit_name
from jcbir.service.authority_client import ask_authority, open_upstream
from jcbir.service.http import Budget, DeclinedError, Pace, Reply, receive_body, reply_with
from jcbir.service.limits import Buckets, Rate
from jcbir.service.scoring_pool import Crew, finish, muster
from jcbir.service.telemetry import Telemetry, log_event
from jcbir.storage import store as disk
from jcbir.storage.load import load_server

LOOK_SECONDS = 5.0
CLIENT_RATE, GRANT_RATE = Rate(50.0, 200.0), Rate(5.0, 50.0)
PACE = Pace(10.0, 16384.0)


@dataclasses.dataclass(frozen=True)
class CloudSettings:
    """How a cloud serves.

    Attributes:
        store: folder of the store.
        authority_url: where the authority listens.
        workers: scoring processes.
        authority_certificate: PEM file to trust for the authority; None trusts the system's issuers.
        scorer: "pool" scores in processes of this machine, "ray" on a Ray cluster.
        ray_address: address of the cluster; None starts one on this machine.
        engine: arithmetic engine of the scorers.
        most_pending: queries at hand; one more is answered 429.
        most_ciphertexts: ciphertexts that one query may make the cloud compute.
        query_bytes: longest query.
        publication_bytes: longest publication.
        order_bytes: longest order but a publication.
        recalled_bytes: sealed images in one answer to a recall.
        body_budget: bytes of bodies in memory at once.
        client_rate: of each client address.
        grant_rate: queries of each grant.
        pace: how slowly a body may arrive.
        send_seconds: most seconds that one piece of an answer may take to leave.
        job_seconds: most seconds that a worker may take for a share.
        authority_seconds: most seconds to wait for the authority.
        blinder_stock: blinders to keep made ahead.
    """

    store: Path
    authority_url: str
    workers: int = 2
    authority_certificate: Path | None = None
    scorer: str = "pool"
    ray_address: str | None = None
    engine: str = "auto"
    most_pending: int = 128
    most_ciphertexts: int = 1 << 16
    query_bytes: int = 8 << 20
    publication_bytes: int = 256 << 20
    order_bytes: int = 16 << 20
    recalled_bytes: int = 64 << 20
    body_budget: int = 1 << 30
    client_rate: Rate = CLIENT_RATE
    grant_rate: Rate = GRANT_RATE
    pace: Pace = PACE
    send_seconds: float = 30.0
    job_seconds: float = 120.0
    authority_seconds: float = 120.0
    blinder_stock: int = 4096


def create_app(
    settings: CloudSettings,
    *,
    clock: Callable[[], float] = time.time,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Starlette:
    """Make the cloud's application.

    Args:
        settings: how it serves.
        clock: seconds since 1970.
        transport: how to reach the authority; None is by network.

    Returns:
        The application, for `serving.serve` or any ASGI server; it opens the store when it starts.

    Example:
        >>> app = create_app(CloudSettings(Path("store"), "http://127.0.0.1:8001"))
        >>> sorted(route.path for route in app.routes)[:3]
        ['/health', '/metrics', '/v1/card']
    """
    cloud = _Cloud(settings, clock, transport)
    return build_app(
        {
            "/v1/publications": cloud.answer_publication,
            "/v1/withdrawals": cloud.answer_withdrawal,
            "/v1/revocations": cloud.answer_revocation,
            "/v1/successions": cloud.answer_succession,
            "/v1/recalls": cloud.answer_recall,
            "/v1/queries": cloud.answer_query,
        },
        {"/v1/card": cloud.answer_card},
        telemetry=cloud.telemetry,
        lifespan=cloud.live,
        health=cloud.health,
        send_seconds=settings.send_seconds,
    )


class _Cloud:
    """The running service: the state, replaced as a whole by every order, and what computes on it."""

    state: Server
    crew: Crew
    upstream: httpx.AsyncClient
    reader: disk.Store

    def __init__(
        self, settings: CloudSettings, clock: Callable[[], float], transport: httpx.AsyncBaseTransport | None
    ) -> None:
        self.settings, self.clock, self.transport = settings, clock, transport
        self.telemetry = Telemetry("jcbir_cloud")
        self.budget = Budget(settings.body_budget)
        self.clients, self.grants = Buckets(settings.client_rate), Buckets(settings.grant_rate)
        self.pending, self.ready, self.ordering = 0, False, asyncio.Lock()
        self.crews = contextlib.AsyncExitStack()

    @contextlib.asynccontextmanager
    async def live(self, app: Starlette) -> AsyncIterator[None]:
        """Open store, workers and connections; close them in the other order."""
        async with contextlib.AsyncExitStack() as stack:
            self.readers = stack.enter_context(contextlib.ExitStack())
            self.reader = self.readers.enter_context(disk.open_store(self.settings.store))
            # Left before the store is closed: SQLite does not survive a connection closed under its feet.
            self.writer = stack.enter_context(ThreadPoolExecutor(1, "store"))
            self.state = load_server(self.reader, tables=False)
            self.upstream = await stack.enter_async_context(
                open_upstream(
                    self.settings.authority_url,
                    certificate=self.settings.authority_certificate,
                    seconds=self.settings.authority_seconds,
                    most=self.settings.most_pending,
                    transport=self.transport,
                )
            )
            stack.push_async_callback(self._dismiss)
            await self._engage()
            stack.push_async_callback(finish, asyncio.create_task(self._keep_looking()))
            self._gauges()
            self.ready = True
            log_event("started", segments=len(self.state.segments), workers=self.crew.scorer.count)
            yield
            self.ready = False

    def health(self) -> dict[str, Any]:
        """What /health says."""
        if not self.ready:
            return {"ok": False}
        return {
            "ok": True, "segments": len(self.state.segments), "images": len(self.state.images),
            "epoch": self.state.card.epoch, "pending": self.pending,
        }  # fmt: skip

    async def answer_card(self, request: Request) -> Reply:
        """GET /v1/card."""
        limit_client(request, self.clients, time.monotonic())
        return reply_with(self.state.card)

    async def answer_publication(self, request: Request) -> Reply:
        """POST /v1/publications."""
        return await self._order(request, Publication, self.settings.publication_bytes, self._publish)

    async def answer_withdrawal(self, request: Request) -> Reply:
        """POST /v1/withdrawals."""
        return await self._order(request, Withdrawal, self.settings.order_bytes, self._withdraw)

    async def answer_revocation(self, request: Request) -> Reply:
        """POST /v1/revocations."""
        return await self._order(request, Revocation, self.settings.order_bytes, self._revoke)

    async def answer_succession(self, request: Request) -> Reply:
        """POST /v1/successions."""
        return await self._order(request, Succession, self.settings.order_bytes, self._succeed)

    async def answer_recall(self, request: Request) -> Reply:
        """POST /v1/recalls: the owner takes back sealed images."""
        limit_client(request, self.clients, time.monotonic())
        options = {"limit": self.settings.order_bytes, "pace": self.settings.pace, "budget": self.budget}
        async with receive_body(request, kind=Recall, **options) as body:
            return await asyncio.to_thread(_recall, self.state, body, int(self.clock()), self.settings.recalled_bytes)

    async def answer_query(self, request: Request) -> Reply:
        """POST /v1/queries: check, score, have it ranked, deliver."""
        limit_client(request, self.clients, time.monotonic())
        self._check_room()
        options = {"limit": self.settings.query_bytes, "pace": self.settings.pace, "budget": self.budget}
        async with receive_body(request, kind=Query, **options) as body:
            # Others came in while this body arrived.
            self._check_room()
            self.pending += 1
            try:
                return await self._search(request, body)
            finally:
                self.pending -= 1

    def _check_room(self) -> None:
        if self.pending >= self.settings.most_pending:
            raise DeclinedError(429, "busy", f"{self.pending} queries are at hand already", retry_after=1.0)

    async def _search(self, request: Request, body: bytes) -> Reply:
        state, crew, now = self.state, self.crew, int(self.clock())
        with crew.shift.working():
            query = await asyncio.to_thread(_check_query, state, body, now)
            asked = query.request
            request.scope["jcbir"] = {"grant": asked.grant.grant_id.hex(), "queries": asked.queries}
            limit_name(asked.grant.grant_id.hex(), self.grants, time.monotonic())
            self._check_work(state, query)
            # From here to the delivery the request is noted: the same one a second time is refused meanwhile.
            answered = note_answered(self.state.answered, asked.nonce, issued=asked.issued, now=now)
            awaited = frozenset(nonce for nonce in self.state.awaited if nonce in answered) | {asked.nonce}
            self.state = dataclasses.replace(self.state, answered=answered, awaited=awaited)
            delivered = False
            try:
                started = time.monotonic()
                report = await crew.score(state, query, body)
                self.telemetry.observe("score_seconds", time.monotonic() - started)
                ranking = await ask_authority(self.upstream, report)
                _, delivery = await asyncio.to_thread(server.deliver, self.state, ranking)
                delivered = True
                self.telemetry.count("delivered_images_total", amount=len(delivery.images))
                return Reply(await asyncio.to_thread(wire.to_bytes, delivery))
            except (ValueError, DeclinedError):
                # Where the epoch ended meanwhile, that is the reason.
                check_grant(asked.grant, card=self.state.card, now=now)
                raise
            finally:
                left = dict(self.state.answered)
                if not delivered:
                    # The authority's journal decides whether it was answered; here the user may try again.
                    left.pop(asked.nonce, None)
                self.state = dataclasses.replace(
                    self.state, answered=left, awaited=self.state.awaited - {asked.nonce}
                )  # fmt: skip

    def _check_work(self, state: Server, query: Query) -> None:
        if not state.segments:
            raise DeclinedError(409, "empty", "the collection has no images yet")
        needed, most = server.blinders_needed(state, query), self.settings.most_ciphertexts
        if needed > most:
            raise DeclinedError(413, "too-much", f"{needed} ciphertexts to compute, at most {most}: ask fewer at once")

    async def _order(self, request: Request, kind: type, limit: int, act: Callable[[Any], str]) -> Reply:
        limit_client(request, self.clients, time.monotonic())
        async with receive_body(request, kind=kind, limit=limit, pace=self.settings.pace, budget=self.budget) as body:
            run = asyncio.get_running_loop().run_in_executor
            # An order is judged by the state that the one before it left.
            async with self.ordering:
                done = await run(self.writer, lambda: act(wire.from_bytes(body, expect=kind)))
                self._turn_to(await run(self.writer, self._look))
                former = await self._engage() if self.crew.card != self.state.card else None
        if former is not None:
            await former.aclose()
        log_event("order", kind=kind.__name__, done=done, segments=len(self.state.segments))
        return Reply()

    def _publish(self, publication: Publication) -> str:
        if publication.segment < len(self.state.segments):
            # The store tells a repeated upload from another publication under the same number.
            check_signature(publication, public=self.state.card.owner_key, refusal=ForgedReplyError)
        else:
            server.check_publication(self.state, publication, tables=False)
        with self._writing() as store:
            return "added" if disk.append_segment(store, publication) else "repeated"

    def _withdraw(self, withdrawal: Withdrawal) -> str:
        server.check_withdrawal(self.state, withdrawal)
        with self._writing() as store:
            return f"{disk.remove_images(store, withdrawal)} images"

    def _revoke(self, revocation: Revocation) -> str:
        server.revoke(self.state, revocation)
        with self._writing() as store:
            disk.keep_revocation(store, revocation)
        return f"list {revocation.serial}"

    def _succeed(self, succession: Succession) -> str:
        if epochs.succeed(self.state, succession) is self.state:
            return "repeated"
        with self._writing() as store:
            disk.turn_store(store, succession)
        self.readers.close()
        self.reader = self.readers.enter_context(disk.open_store(self.settings.store))
        return f"epoch {succession.card.epoch}"

    def _writing(self) -> contextlib.AbstractContextManager[disk.Store]:
        # The writer's lock is held for one order only, so that `jcbir store compact` can run beside the service.
        return disk.open_store(self.settings.store, card=self.state.card, write=True)

    def _look(self) -> Server:
        return load_server(self.reader, tables=False)

    def _turn_to(self, seen: Server) -> None:
        self.state = dataclasses.replace(seen, answered=self.state.answered, awaited=self.state.awaited)

    async def _keep_looking(self) -> None:
        """Notice what another process did to the store: let go of files that a compaction replaced."""
        run, version = asyncio.get_running_loop().run_in_executor, None
        while True:
            found = await run(self.writer, lambda: self.reader.catalogue.execute("PRAGMA data_version").fetchone())
            if version is not None and found != version:
                async with self.ordering:
                    self._turn_to(await run(self.writer, self._look))
            version = found
            await asyncio.sleep(LOOK_SECONDS)

    async def _engage(self) -> contextlib.AsyncExitStack:
        """Have a crew for the epoch; gives the former one, to be dismissed when its queries are done."""
        asked, stack = self.settings, contextlib.AsyncExitStack()
        self.crew = await stack.enter_async_context(
            muster(
                self.state.card, store=asked.store, scorer=asked.scorer, workers=asked.workers, engine=asked.engine,
                ray_address=asked.ray_address, job_seconds=asked.job_seconds, blinder_stock=asked.blinder_stock,
                idle=lambda: not self.pending, telemetry=self.telemetry,
            )
        )  # fmt: skip
        former, self.crews = self.crews, stack
        return former

    async def _dismiss(self) -> None:
        await self.crews.aclose()

    def _gauges(self) -> None:
        self.telemetry.gauge("pending_queries", lambda: self.pending)
        self.telemetry.gauge("waiting_jobs", lambda: self.crew.scorer.waiting)
        self.telemetry.gauge("worker_deaths", lambda: self.crew.scorer.deaths)
        self.telemetry.gauge("blinder_stock", lambda: self.crew.stock.count)
        self.telemetry.gauge("body_bytes", lambda: self.budget.used)
        self.telemetry.gauge("images", lambda: len(self.state.images))


def _check_query(state: Server, body: bytes, now: int) -> Query:
    query = wire.from_bytes(body, expect=Query)
    check_request(query.request, card=state.card, now=now, revoked=state.revoked)
    check_commitment(query)
    return query


def _recall(state: Server, body: bytes, now: int, most_bytes: int) -> Reply:
    return reply_with(epochs.recall(state, wire.from_bytes(body, expect=Recall), now=now, most_bytes=most_bytes))


__all__ = ["CloudSettings", "create_app"]
