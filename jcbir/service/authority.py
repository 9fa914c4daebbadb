"""The authority as an HTTP service: takes the owner's orders, answers the cloud's reports, forgets nothing it answered.

What it notes is on the disk before an answer leaves. The key stays in this process and its workers.
"""

import asyncio
import contextlib
import dataclasses
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request

from jcbir.errors import FormatError
from jcbir.paillier.public import PublicKey
from jcbir.protocol import authority, wire
from jcbir.protocol.authority import Authority
from jcbir.protocol.grants import note_answered
from jcbir.protocol.holdings import Delegation
from jcbir.protocol.messages import Appointment, Catalogue, Ranking, Revocation, ScoreReport, Withdrawal
from jcbir.service.app import build_app, limit_client, limit_name
from jcbir.service.decrypting import write_hello
from jcbir.service.http import Budget, DeclinedError, Pace, Reply, receive_body, reply_with
from jcbir.service.limits import Buckets, Rate
from jcbir.service.pool import Pool, Shift
from jcbir.service.telemetry import Telemetry, log_event
from jcbir.storage import journal as memory
from jcbir.typing import Rows

# Shares of fewer rows cost more in pipes than they win.
SHARE_ROWS = 16
CLIENT_RATE, GRANT_RATE = Rate(500.0, 1000.0), Rate(5.0, 50.0)
PACE = Pace(10.0, 16384.0)
_TAKE = {
    Catalogue: authority.catalog,
    Withdrawal: authority.withdraw,
    Revocation: authority.revoke,
    Appointment: authority.succeed,
}


@dataclasses.dataclass(frozen=True)
class AuthoritySettings:
    """How an authority serves. Secret: it holds the delegation, which `repr` does not show.

    Attributes:
        delegation: the owner's secrets for the collection.
        journal: SQLite file of orders and answered requests.
        workers: decrypting processes.
        engine: arithmetic engine of the workers.
        most_pending: reports at hand; one more is answered 429.
        report_bytes: longest report.
        order_bytes: longest order.
        body_budget: bytes of bodies in memory at once.
        client_rate: of each client address; the cloud is one client.
        grant_rate: reports of each grant.
        pace: how slowly a body may arrive.
        send_seconds: most seconds that one piece of an answer may take to leave.
        job_seconds: most seconds that a worker may take for a share.
        lag_seconds: how long after a catalogue a report may still lack its segment: the query was on its way before.
    """

    delegation: Delegation
    journal: Path
    workers: int = 2
    engine: str = "auto"
    most_pending: int = 128
    report_bytes: int = 256 << 20
    order_bytes: int = 16 << 20
    body_budget: int = 1 << 30
    client_rate: Rate = CLIENT_RATE
    grant_rate: Rate = GRANT_RATE
    pace: Pace = PACE
    send_seconds: float = 30.0
    job_seconds: float = 120.0
    lag_seconds: float = 120.0


def create_app(settings: AuthoritySettings, *, clock: Callable[[], float] = time.time) -> Starlette:
    """Make the authority's application.

    Args:
        settings: how it serves.
        clock: seconds since 1970.

    Returns:
        The application, for `serving.serve` or any ASGI server; it opens the journal when it starts.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> app = create_app(AuthoritySettings(small_system().delegation, Path("journal.sqlite")))
        >>> [route.path for route in app.routes]
        ['/v1/catalogues', '/v1/withdrawals', '/v1/revocations', '/v1/appointments', '/v1/reports',
         '/health', '/metrics']
    """
    holder = _Holder(settings, clock)
    return build_app(
        {
            "/v1/catalogues": holder.answer_catalogue,
            "/v1/withdrawals": holder.answer_withdrawal,
            "/v1/revocations": holder.answer_revocation,
            "/v1/appointments": holder.answer_appointment,
            "/v1/reports": holder.answer_report,
        },
        {},
        telemetry=holder.telemetry,
        lifespan=holder.live,
        health=holder.health,
        send_seconds=settings.send_seconds,
    )


class Bench(NamedTuple):
    """What decrypts under one key.

    Attributes:
        public: the key.
        pool: the workers that have its secret half.
        shift: the reports that they are needed for.
    """

    public: PublicKey
    pool: Pool
    shift: Shift


class _Holder:
    """The running service: the state, replaced as a whole by every order, its journal, and what decrypts."""

    state: Authority
    journal: sqlite3.Connection
    bench: "Bench"

    def __init__(self, settings: AuthoritySettings, clock: Callable[[], float]) -> None:
        self.settings, self.clock = settings, clock
        self.telemetry = Telemetry("jcbir_authority")
        self.budget = Budget(settings.body_budget)
        self.clients, self.grants = Buckets(settings.client_rate), Buckets(settings.grant_rate)
        self.pending, self.ready, self.ordering = 0, False, asyncio.Lock()
        self.benches = contextlib.AsyncExitStack()
        self.since: dict[int, float] = {}

    @contextlib.asynccontextmanager
    async def live(self, app: Starlette) -> AsyncIterator[None]:
        """Open journal and workers; close them in the other order."""
        async with contextlib.AsyncExitStack() as stack:
            delegation = self.settings.delegation
            self.journal = stack.enter_context(memory.open_journal(self.settings.journal, delegation.card))
            # Left before the journal is closed: SQLite does not survive a connection closed under its feet.
            self.writer = stack.enter_context(ThreadPoolExecutor(1, "journal"))
            self.state = memory.load_authority(self.journal, authority.appoint(delegation))
            self.since = dict.fromkeys(self.state.catalogues, -math.inf)
            stack.push_async_callback(self._dismiss)
            await self._engage()
            self.telemetry.gauge("pending_reports", lambda: self.pending)
            self.telemetry.gauge("waiting_jobs", lambda: self.bench.pool.waiting)
            self.telemetry.gauge("worker_deaths", lambda: self.bench.pool.deaths)
            self.telemetry.gauge("body_bytes", lambda: self.budget.used)
            self.ready = True
            log_event("started", segments=len(self.state.catalogues), workers=self.bench.pool.count)
            yield
            self.ready = False

    def health(self) -> dict[str, Any]:
        """What /health says."""
        if not self.ready:
            return {"ok": False}
        return {
            "ok": True, "segments": len(self.state.catalogues), "epoch": self.state.card.epoch,
            "pending": self.pending,
        }  # fmt: skip

    async def answer_catalogue(self, request: Request) -> Reply:
        """POST /v1/catalogues."""
        return await self._order(request, Catalogue)

    async def answer_withdrawal(self, request: Request) -> Reply:
        """POST /v1/withdrawals."""
        return await self._order(request, Withdrawal)

    async def answer_revocation(self, request: Request) -> Reply:
        """POST /v1/revocations."""
        return await self._order(request, Revocation)

    async def answer_appointment(self, request: Request) -> Reply:
        """POST /v1/appointments."""
        return await self._order(request, Appointment)

    async def answer_report(self, request: Request) -> Reply:
        """POST /v1/reports: check, note, decrypt, rank, release."""
        limit_client(request, self.clients, time.monotonic())
        self._check_room()
        options = {"limit": self.settings.report_bytes, "pace": self.settings.pace, "budget": self.budget}
        async with receive_body(request, kind=ScoreReport, **options) as body:
            # Others came in while this body arrived.
            self._check_room()
            self.pending += 1
            try:
                return reply_with(await self._answer(request, body))
            finally:
                self.pending -= 1

    def _check_room(self) -> None:
        if self.pending >= self.settings.most_pending:
            raise DeclinedError(429, "busy", f"{self.pending} reports are at hand already", retry_after=1.0)

    async def _answer(self, request: Request, body: bytes) -> Ranking:
        state, bench, now = self.state, self.bench, int(self.clock())
        with bench.shift.working():
            report = await asyncio.to_thread(_check_report, state, body, now, self._settled(state))
            asked = report.request
            request.scope["jcbir"] = {"grant": asked.grant.grant_id.hex(), "queries": asked.queries}
            limit_name(asked.grant.grant_id.hex(), self.grants, time.monotonic())
            answered = note_answered(self.state.answered, asked.nonce, issued=asked.issued, now=now)
            self.state = dataclasses.replace(self.state, answered=answered)
            await asyncio.get_running_loop().run_in_executor(
                self.writer, lambda: memory.note_answer(self.journal, asked.nonce, issued=asked.issued, now=now)
            )
            started = time.monotonic()
            ciphertexts = np.concatenate([scores.ciphertexts for row in report.scores for scores in row])
            plaintexts = await _decrypt(bench, ciphertexts)
            self.telemetry.observe("decrypt_seconds", time.monotonic() - started)
            return await asyncio.to_thread(_release, state, report, plaintexts)

    async def _order(self, request: Request, kind: type) -> Reply:
        limit_client(request, self.clients, time.monotonic())
        options = {"limit": self.settings.order_bytes, "pace": self.settings.pace, "budget": self.budget}
        # An order is judged by the state that the one before it left.
        async with receive_body(request, kind=kind, **options) as body, self.ordering:
            taken = await asyncio.get_running_loop().run_in_executor(self.writer, self._take, kind, body)
            self.state = dataclasses.replace(taken, answered=self.state.answered)
            self.since = {number: self.since.get(number, time.monotonic()) for number in taken.catalogues}
            former = await self._engage() if self.bench.public != self.state.card.public else None
        if former is not None:
            await former.aclose()
        log_event("order", kind=kind.__name__, segments=len(self.state.catalogues))
        return Reply()

    def _settled(self, state: Authority) -> int:
        """How many segments every report must have by now."""
        end = time.monotonic() - self.settings.lag_seconds
        return sum(self.since.get(number, -math.inf) <= end for number in state.catalogues)

    def _take(self, kind: type, body: bytes) -> Authority:
        """In the one writing thread: decide, write, and only then is it true."""
        order = wire.from_bytes(body, expect=kind)
        taken = _TAKE[kind](self.state, order)
        if not isinstance(order, Appointment):
            memory.keep_order(self.journal, order)
        elif taken is not self.state:
            memory.keep_appointment(self.journal, order)
        return taken

    async def _engage(self) -> contextlib.AsyncExitStack:
        """Have workers for the key in force; gives the former ones, to be dismissed when their reports are done."""
        hello = write_hello(self.state.secret, engine=self.settings.engine)
        pool = Pool(
            "jcbir.service.decrypting", hello, count=self.settings.workers, job_seconds=self.settings.job_seconds
        )
        bench, stack = Bench(self.state.card.public, pool, Shift()), contextlib.AsyncExitStack()
        await stack.enter_async_context(pool)
        stack.push_async_callback(bench.shift.over)
        self.bench = bench
        former, self.benches = self.benches, stack
        return former

    async def _dismiss(self) -> None:
        await self.benches.aclose()


async def _decrypt(bench: Bench, ciphertexts: Rows) -> Rows:
    size = max(SHARE_ROWS, -(-len(ciphertexts) // bench.pool.count))
    spans = range(0, len(ciphertexts), size)
    jobs = (bench.pool.run(ciphertexts[start : start + size].tobytes()) for start in spans)
    try:
        parts = await asyncio.gather(*jobs)
    except ValueError:
        # The error's text may speak of what was decrypted.
        raise DeclinedError(422, "malformed", "the scores do not decrypt under this key") from None
    return np.frombuffer(b"".join(parts), np.uint8).reshape(-1, bench.public.plaintext_bytes)


def _check_report(state: Authority, body: bytes, now: int, settled: int) -> ScoreReport:
    report = wire.from_bytes(body, expect=ScoreReport)
    known, told = sorted(state.catalogues), list(report.segments)
    if settled <= len(told) and told == known[: len(told)]:
        # Scored before the latest segments came: were it refused, no query would be answered while the owner publishes.
        state = dataclasses.replace(state, catalogues={number: state.catalogues[number] for number in told})
    try:
        authority.admit(state, report, now=now)
    except FormatError:
        if told != sorted(state.catalogues):
            # The owner is between telling the cloud and telling the authority.
            reason = "cloud and authority know other segments"
            raise DeclinedError(503, "out-of-step", reason, retry_after=1.0) from None
        raise
    if not told:
        raise DeclinedError(409, "empty", "the collection has no images yet")
    return report


def _release(state: Authority, report: ScoreReport, plaintexts: Rows) -> Ranking:
    try:
        distances = authority.open_report(state, report, decrypt=lambda _: plaintexts)
    except ValueError:
        raise DeclinedError(422, "malformed", "the scores do not decode") from None
    return authority.release(state, report, distances)


__all__ = ["AuthoritySettings", "create_app"]
