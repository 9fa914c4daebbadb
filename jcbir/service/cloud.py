"""The cloud as an HTTP service: holds the store, scores in worker processes, asks the authority to rank, delivers.

It has the public key alone. Nothing imported here can decrypt; import-linter proves it.
"""

import asyncio
import contextlib
import dataclasses
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from starlette.applications import Starlette
from starlette.requests import Request

from jcbir.protocol import messages, server, wire
from jcbir.protocol._grants import check_grant, check_request
from jcbir.protocol._signatures import check_signature
from jcbir.protocol.messages import (
    Audit,
    Delivery,
    Head,
    Opened,
    Publication,
    Query,
    Ranking,
    Recall,
    Revocation,
    Succession,
    Withdrawal,
)
from jcbir.protocol.refusals import ForgedReplyError, TamperedQueryError
from jcbir.protocol.server import Identity, Server
from jcbir.service._authority_client import ask_authority, is_up, open_authority
from jcbir.service._http import (
    DeclinedError,
    Limits,
    Pace,
    Rate,
    Reply,
    Work,
    build_app,
    reply_with,
)
from jcbir.service._scoring_pool import ScoringPool, finish, start
from jcbir.service._telemetry import Telemetry, log_event
from jcbir.storage import _store as disk
from jcbir.storage._load import load_server
from jcbir.typing import Rows

LOOK_SECONDS = 5.0
ASK_SECONDS = 10.0
CLIENT_RATE, GRANT_RATE = Rate(50.0, 200.0), Rate(5.0, 50.0)
PACE = Pace(10.0, 16384.0)


@dataclasses.dataclass(frozen=True)
class CloudSettings:
    """How a cloud serves.

    Attributes:
        store: folder of the store.
        identity: what it signs reports with, which the card names; `repr` does not show its secret.
        authority_url: where the authority listens.
        workers: scoring processes.
        authority_certificate: PEM file to trust for the authority; None trusts the system's issuers.
        insecure_http: reach the authority over plain http though it is on another machine; whoever is on the way reads
            and replaces what passes.
        scorer: "pool" scores in processes of this machine, "ray" on a Ray cluster.
        ray_address: address of the cluster; None starts one on this machine.
        engine: arithmetic engine of the scorers.
        most_pending: queries at hand; one more is answered 429.
        work_seconds: most seconds of scoring at hand, predicted with every blinder made on demand; what would take
            longer by itself is answered 413, what has to wait for others 429.
        query_bytes: longest query.
        publication_bytes: longest publication.
        order_bytes: longest order but a publication.
        recalled_bytes: sealed images in one answer to a recall.
        body_budget: bytes of memory that bodies, and what is read of them, take at once.
        client_rate: of each client address.
        grant_rate: queries of each grant.
        pace: how slowly a body may arrive.
        send_seconds: most seconds that one piece of an answer may take to leave.
        job_seconds: most seconds that a worker may take for a job; none is cut longer than a few.
        authority_seconds: most seconds to wait for the authority.
        blinder_pool: blinders to keep made ahead.
        audit_seconds: how long after an answer its user may audit it.
        audit_bytes: most bytes of scores and randomness kept for audits; the oldest go first.
    """

    store: Path
    identity: Identity
    authority_url: str
    workers: int = 2
    authority_certificate: Path | None = None
    insecure_http: bool = False
    scorer: str = "pool"
    ray_address: str | None = None
    engine: str = "auto"
    most_pending: int = 256
    work_seconds: float = 60.0
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
    blinder_pool: int = 4096
    audit_seconds: float = 300.0
    audit_bytes: int = 256 << 20


class Scored(NamedTuple):
    """What an answer was computed from.

    Attributes:
        state: the server's state that scored it.
        query: the query.
        rows: uint8[q, b, w], the scores.
        randomness: uint8[q b, r] of their blinders.
    """

    state: Server
    query: Query
    rows: Rows
    randomness: Rows


class Recent:
    """Answers that may still be audited: for some time, and in so many bytes.

    Attributes:
        seconds: how long.
        limit: most bytes.
    """

    def __init__(self, seconds: float, limit: int) -> None:
        self.seconds, self.limit, self._size = seconds, limit, 0
        self._kept: OrderedDict[bytes, tuple[float, Scored]] = OrderedDict()

    def keep(self, scored: Scored, now: float) -> None:
        """Keep one more; those too old go, and the oldest beyond the limit."""
        self._kept[scored.query.request.nonce] = (now + self.seconds, scored)
        self._size += _bytes(scored)
        while self._kept and (self._size > self.limit or next(iter(self._kept.values()))[0] < now):
            _, (_, gone) = self._kept.popitem(last=False)
            self._size -= _bytes(gone)

    def find(self, nonce: bytes, now: float) -> Scored:
        """One of them, or decline."""
        until, scored = self._kept.get(nonce, (-math.inf, None))
        if scored is None or until < now:
            raise DeclinedError(409, "too-late", f"answers can be audited for {self.seconds:g} s, as long as they fit")
        return scored


def _bytes(scored: Scored) -> int:
    return scored.rows.nbytes + scored.randomness.nbytes


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
        >>> from jcbir.protocol.session import small_system
        >>> app = create_app(CloudSettings(Path("store"), small_system().cloud, "http://127.0.0.1:8001"))
        >>> sorted(route.path for route in app.routes)[:3]
        ['/health', '/live', '/metrics']
    """
    cloud = _Cloud(settings, clock, transport)
    return build_app(
        {
            "/v1/publications": partial(cloud.order, Publication),
            "/v1/withdrawals": partial(cloud.order, Withdrawal),
            "/v1/revocations": partial(cloud.order, Revocation),
            "/v1/successions": partial(cloud.order, Succession),
            "/v1/heads": partial(cloud.order, Head),
            "/v1/audits": cloud.answer_audit,
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
    """The running service: the state, replaced as a whole by every step, and what computes on it."""

    state: Server
    scoring: ScoringPool
    authority: httpx.AsyncClient
    reader: disk.Store

    def __init__(
        self, settings: CloudSettings, clock: Callable[[], float], transport: httpx.AsyncBaseTransport | None
    ) -> None:
        self.settings, self.clock, self.transport = settings, clock, transport
        self.telemetry = Telemetry("jcbir_cloud")
        self.work, self.ready, self.ordering = Work(settings.work_seconds), False, asyncio.Lock()
        self.limits = Limits(
            body_budget=settings.body_budget, client_rate=settings.client_rate, grant_rate=settings.grant_rate,
            pace=settings.pace, most_pending=settings.most_pending,
        )  # fmt: skip
        self.pools = contextlib.AsyncExitStack()
        self.recent = Recent(settings.audit_seconds, settings.audit_bytes)
        self.authority_up = True

    @contextlib.asynccontextmanager
    async def live(self, app: Starlette) -> AsyncIterator[None]:
        """Open store, workers and connections; close them in the other order."""
        async with contextlib.AsyncExitStack() as stack:
            self.readers = stack.enter_context(contextlib.ExitStack())
            self.reader = self.readers.enter_context(disk.open_store(self.settings.store))
            # Left before the store is closed: SQLite does not survive a connection closed under its feet.
            self.writer = stack.enter_context(ThreadPoolExecutor(1, "store"))
            # Each step from state to state is taken in this one thread, so none is lost.
            self.stepper = stack.enter_context(ThreadPoolExecutor(1, "state"))
            self.state = load_server(self.reader, tables=False)
            self.authority = await stack.enter_async_context(
                open_authority(
                    self.settings.authority_url,
                    certificate=self.settings.authority_certificate,
                    insecure_http=self.settings.insecure_http,
                    seconds=self.settings.authority_seconds,
                    transport=self.transport,
                )
            )
            stack.push_async_callback(lambda: self.pools.aclose())
            await self._replace()
            stack.push_async_callback(finish, asyncio.create_task(self._keep_looking()))
            stack.push_async_callback(finish, asyncio.create_task(self._keep_asking()))
            self._gauges()
            self.ready = True
            log_event("started", segments=len(self.state.segments), workers=self.scoring.workers.count)
            yield
            self.ready = False

    def health(self) -> dict[str, Any]:
        """What /health says."""
        if not self.ready:
            return {"ok": False, "service": "cloud", "status": "starting"}
        return {
            "ok": True, "service": "cloud", "status": "ready" if self.authority_up else "degraded",
            "segments": len(self.state.segments), "images": len(self.state.images),
            "epoch": self.state.card.epoch, "pending": self.limits.pending,
        }  # fmt: skip

    async def answer_card(self, request: Request) -> Reply:
        """GET /v1/card."""
        self.limits.count_client(request)
        return reply_with(self.state.card)

    async def answer_audit(self, request: Request) -> Reply:
        """POST /v1/audits: show how some blocks of a recent answer were computed."""
        async with self.limits.receive(request, Audit, self.settings.query_bytes) as audit:
            scored = self.recent.find(audit.nonce, time.monotonic())
            asked = scored.query.request
            check_signature(audit, public=asked.grant.signing_key, refusal=TamperedQueryError)
            # Each makes this process hash whole segments.
            self.limits.count_grant(asked)
            opened = await asyncio.to_thread(self._open, scored, audit)
            return Reply(await asyncio.to_thread(wire.to_bytes, opened))

    def _open(self, scored: Scored, audit: Audit) -> Opened:
        return server.open_blocks(
            scored.state,
            scored.query,
            audit,
            indexes={segment.number: tuple(segment.indexes.values()) for segment in scored.state.segments},
            rows=scored.rows,
            randomness=scored.randomness,
            identity=self.settings.identity,
        )

    async def answer_recall(self, request: Request) -> Reply:
        """POST /v1/recalls: the owner takes back sealed images."""
        most = self.settings.recalled_bytes
        async with self.limits.receive(request, Recall, self.settings.order_bytes) as recall:
            state = await self._step(self._admit_recall, recall)
            await asyncio.get_running_loop().run_in_executor(self.writer, self._note_recall, recall)
            recalled = await asyncio.to_thread(server.recalled, state, recall, most_bytes=most)
            return Reply(await asyncio.to_thread(wire.to_bytes, recalled))

    async def answer_query(self, request: Request) -> Reply:
        """POST /v1/queries: check, score, have it ranked, deliver."""
        now = int(self.clock())

        def check(asked: messages.Request) -> None:
            check_request(asked, card=self.state.card, now=now, revoked=self.state.revoked)

        async with self.limits.receive_asked(request, Query, self.settings.query_bytes, check=check) as query:
            return Reply(await asyncio.to_thread(wire.to_bytes, await self._search(query)))

    async def _step(self, step: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.stepper, step, *arguments)

    async def _search(self, query: Query) -> Delivery:
        pool, nonce = self.scoring, query.request.nonce
        with pool.queries.working():
            # From here to the delivery the request is noted: the same one a second time is refused meanwhile.
            state = await self._step(self._admit, query)
            delivered = False
            try:
                with self.work.hold(pool.predict(state, query)):
                    started = time.monotonic()
                    rows, randomness = await pool.score(state, query)
                    self.telemetry.observe("score_duration_seconds", time.monotonic() - started)
                    report = server.finish_query(state, query, rows, identity=self.settings.identity)
                    ranking = await ask_authority(self.authority, report)
                    delivery = await self._step(self._deliver, ranking)
                delivered = True
                self.recent.keep(Scored(state, query, rows, randomness), time.monotonic())
                self.telemetry.count("delivered_images_total", amount=len(delivery.images))
                return delivery
            except (ValueError, DeclinedError):
                # Where the epoch ended meanwhile, that is the reason.
                check_grant(query.request.grant, card=self.state.card, now=int(self.clock()))
                raise
            finally:
                if not delivered:
                    # The authority's journal decides whether it was answered; here the user may try again.
                    await asyncio.shield(self._step(self._abandon, nonce))

    def _admit(self, query: Query) -> Server:
        state = server.admit_query(self.state, query, now=int(self.clock()))
        # A replay never gets here, so it cannot spend what is the grant's.
        self.limits.count_grant(query.request)
        self.state = state
        return state

    def _admit_recall(self, recall: Recall) -> Server:
        self.state = server.admit_recall(self.state, recall, now=int(self.clock()))
        return self.state

    def _note_recall(self, recall: Recall) -> None:
        with self._writing() as store:
            disk.note_recall(store, recall, now=int(self.clock()))

    def _deliver(self, ranking: Ranking) -> Delivery:
        self.state, delivery = server.deliver(self.state, ranking)
        return delivery

    def _abandon(self, nonce: bytes) -> None:
        self.state = server.abandon_query(self.state, nonce)

    async def order(self, kind: type, request: Request) -> Reply:
        """POST /v1/publications and the like: what the owner orders."""
        limit = self.settings.publication_bytes if kind is Publication else self.settings.order_bytes
        act: Callable[[Any], str] = {
            Publication: self._publish,
            Withdrawal: self._withdraw,
            Revocation: self._revoke,
            Succession: self._succeed,
            Head: self._take_head,
        }[kind]
        async with self.limits.receive(request, kind, limit) as order:
            run = asyncio.get_running_loop().run_in_executor
            # An order is judged by the state that the one before it left.
            async with self.ordering:
                done = await run(self.writer, act, order)
                await self._look()
                former = await self._replace() if self.scoring.card != self.state.card else None
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

    def _take_head(self, head: Head) -> str:
        if server.take_head(self.state, head) is self.state:
            return "not the latest"
        with self._writing() as store:
            disk.keep_head(store, head)
        return f"head {head.counter}"

    def _revoke(self, revocation: Revocation) -> str:
        server.revoke(self.state, revocation)
        with self._writing() as store:
            disk.keep_revocation(store, revocation)
        return f"list {revocation.serial}"

    def _succeed(self, succession: Succession) -> str:
        if server.succeed(self.state, succession) is self.state:
            return "repeated"
        with self._writing() as store:
            disk.turn_store(store, succession)
        self.readers.close()
        self.reader = self.readers.enter_context(disk.open_store(self.settings.store))
        return f"epoch {succession.card.epoch}"

    def _writing(self) -> contextlib.AbstractContextManager[disk.Store]:
        # The writer's lock is held for one order only, so that `jcbir store compact` can run beside the service.
        return disk.open_store(self.settings.store, card=self.state.card, write=True)

    async def _look(self) -> None:
        """Read the state anew that is on the disk."""
        run = asyncio.get_running_loop().run_in_executor
        previous = self.state if self.reader.card == self.state.card else None
        seen = await run(self.writer, lambda: load_server(self.reader, previous=previous, tables=False))
        await self._step(self._turn_to, seen)

    def _turn_to(self, seen: Server) -> None:
        # What the disk does not keep: who asked, and when.
        now = self.state
        self.state = dataclasses.replace(seen, answered=now.answered, awaited=now.awaited, seen=now.seen)

    async def _keep_looking(self) -> None:
        """Notice what another process did to the store: let go of files that a compaction replaced."""
        run, version = asyncio.get_running_loop().run_in_executor, None
        while True:
            found = await run(self.writer, lambda: self.reader.database.execute("PRAGMA data_version").fetchone())
            if version is not None and found != version:
                async with self.ordering:
                    await self._look()
            version = found
            await asyncio.sleep(LOOK_SECONDS)

    async def _keep_asking(self) -> None:
        """Notice whether the authority answers: without it orders are taken, and queries are not."""
        while True:
            up = await is_up(self.authority)
            if up != self.authority_up:
                log_event("authority-answers" if up else "authority-silent")
            self.authority_up = up
            await asyncio.sleep(ASK_SECONDS)

    async def _replace(self) -> contextlib.AsyncExitStack:
        """Start a scoring pool for the epoch; gives the former one, to be closed when its queries are done."""
        asked, stack = self.settings, contextlib.AsyncExitStack()
        self.scoring = await stack.enter_async_context(
            start(
                self.state.card, store=asked.store, scorer=asked.scorer, workers=asked.workers, engine=asked.engine,
                ray_address=asked.ray_address, job_seconds=asked.job_seconds, blinder_pool=asked.blinder_pool,
                idle=lambda: not self.limits.pending, telemetry=self.telemetry,
            )
        )  # fmt: skip
        former, self.pools = self.pools, stack
        return former

    def _gauges(self) -> None:
        self.telemetry.gauge("authority_up", lambda: self.authority_up)
        self.telemetry.gauge("pending_queries", lambda: self.limits.pending)
        self.telemetry.gauge("predicted_work_seconds", lambda: self.work.used)
        self.telemetry.gauge("waiting_jobs", lambda: self.scoring.workers.waiting)
        self.telemetry.gauge("worker_deaths_total", lambda: self.scoring.workers.deaths)
        self.telemetry.gauge("blinder_pool", lambda: self.scoring.blinders.count)
        self.telemetry.gauge("body_bytes", lambda: self.limits.budget.used)
        self.telemetry.gauge("images", lambda: len(self.state.images))
