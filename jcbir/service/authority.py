"""The authority as an HTTP service: takes the owner's orders, answers the cloud's reports, forgets nothing it answered.

What it notes is on the disk before an answer leaves. The key stays in this process and its workers.
"""

import asyncio
import contextlib
import dataclasses
import math
import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request

from jcbir.protocol import authority, messages, wire
from jcbir.protocol._grants import check_grant, check_request
from jcbir.protocol.authority import Authority, Delegation, Identity
from jcbir.protocol.messages import Appointment, Catalog, Head, Ranking, Revocation, ScoreReport, Withdrawal
from jcbir.protocol.refusals import ForgedScoresError, RefusalError
from jcbir.service._decrypting import DecryptionPool, OpeningThreads, start
from jcbir.service._http import (
    DeclinedError,
    Limits,
    Pace,
    Rate,
    Reply,
    Work,
    build_app,
)
from jcbir.service._telemetry import Telemetry, log_event
from jcbir.storage import _journal as memory
from jcbir.storage._database import transaction
from jcbir.typing import Rows

CLIENT_RATE, GRANT_RATE = Rate(500.0, 1000.0), Rate(5.0, 50.0)
PACE = Pace(10.0, 16384.0)
_TAKE = {
    Catalog: authority.catalog,
    Withdrawal: authority.withdraw,
    Revocation: authority.revoke,
    Head: authority.take_head,
    Appointment: authority.succeed,
}


@dataclasses.dataclass(frozen=True)
class AuthoritySettings:
    """How an authority serves. Secret: it holds delegation and identity, whose `repr` shows nothing.

    Attributes:
        delegation: the owner's secrets for the collection.
        identity: the authority's own, which the card names.
        journal: SQLite file of orders and answered requests.
        workers: decrypting processes, or threads where the kind of keys opens a query as a whole.
        engine: arithmetic engine of the workers.
        most_pending: reports at hand; one more is answered 429.
        work_seconds: most seconds of decryption at hand, predicted; what would take longer by itself is answered 413,
            what has to wait for others 429.
        report_bytes: longest report.
        order_bytes: longest order.
        body_budget: bytes of memory that bodies, and what is read of them, take at once.
        client_rate: of each client address; the cloud is one client.
        grant_rate: reports of each grant.
        pace: how slowly a body may arrive.
        send_seconds: most seconds that one piece of an answer may take to leave.
        job_seconds: most seconds that a worker may take for a job; none is cut longer than a few.
        lag_seconds: how long after a catalog a report may still lack its segment: the query was on its way before.
    """

    delegation: Delegation
    identity: Identity
    journal: Path
    workers: int = 2
    engine: str = "auto"
    most_pending: int = 128
    work_seconds: float = 60.0
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
        >>> system = small_system()
        >>> app = create_app(AuthoritySettings(system.delegation, system.authority.identity, Path("journal.sqlite")))
        >>> [route.path for route in app.routes]
        ['/v1/catalogs', '/v1/withdrawals', '/v1/revocations', '/v1/appointments', '/v1/heads', '/v1/reports',
         '/v1/inquiries', '/health', '/live', '/metrics']
    """
    holder = _Holder(settings, clock)
    return build_app(
        {
            "/v1/catalogs": partial(holder.order, Catalog),
            "/v1/withdrawals": partial(holder.order, Withdrawal),
            "/v1/revocations": partial(holder.order, Revocation),
            "/v1/appointments": partial(holder.order, Appointment),
            "/v1/heads": partial(holder.order, Head),
            "/v1/reports": holder.answer_report,
            "/v1/inquiries": holder.answer_inquiry,
        },
        {},
        telemetry=holder.telemetry,
        lifespan=holder.live,
        health=holder.health,
        send_seconds=settings.send_seconds,
    )


class _Holder:
    """The running service: the state, replaced as a whole by every step, its journal, and what decrypts."""

    state: Authority
    journal: sqlite3.Connection
    decryption: DecryptionPool | OpeningThreads

    def __init__(self, settings: AuthoritySettings, clock: Callable[[], float]) -> None:
        self.settings, self.clock = settings, clock
        self.telemetry = Telemetry("jcbir_authority", times=False)
        self.work, self.ready, self.ordering = Work(settings.work_seconds), False, asyncio.Lock()
        self.limits = Limits(
            body_budget=settings.body_budget, client_rate=settings.client_rate, grant_rate=settings.grant_rate,
            pace=settings.pace, most_pending=settings.most_pending,
        )  # fmt: skip
        self.pools = contextlib.AsyncExitStack()
        self.since: dict[int, float] = {}

    @contextlib.asynccontextmanager
    async def live(self, app: Starlette) -> AsyncIterator[None]:
        """Open journal and workers; close them in the other order."""
        async with contextlib.AsyncExitStack() as stack:
            delegation = self.settings.delegation
            self.journal = stack.enter_context(memory.open_journal(self.settings.journal, delegation.card))
            # Left before the journal is closed: SQLite does not survive a connection closed under its feet. Each step
            # from state to state is taken in this one thread, after it is on the disk.
            self.writer = stack.enter_context(ThreadPoolExecutor(1, "journal"))
            self.waiting: deque[tuple[Callable[[], Any], asyncio.Future]] = deque()
            self.state = memory.load_authority(self.journal, authority.appoint(delegation, self.settings.identity))
            self.since = dict.fromkeys(self.state.catalogs, -math.inf)
            stack.push_async_callback(lambda: self.pools.aclose())
            await self._replace()
            self.telemetry.gauge("pending_reports", lambda: self.limits.pending)
            self.telemetry.gauge("waiting_jobs", lambda: self.decryption.workers.waiting)
            self.telemetry.gauge("worker_deaths_total", lambda: self.decryption.workers.deaths)
            self.telemetry.gauge("body_bytes", lambda: self.limits.budget.used)
            self.ready = True
            log_event("started", segments=len(self.state.catalogs), workers=self.decryption.workers.count)
            yield
            self.ready = False

    def health(self) -> dict[str, Any]:
        """What /health says."""
        if not self.ready:
            return {"ok": False, "service": "authority", "status": "starting"}
        return {
            "ok": True, "service": "authority", "status": "halted" if self.state.halted else "ready",
            "segments": len(self.state.catalogs), "epoch": self.state.card.epoch, "pending": self.limits.pending,
            "suspended": len(self.state.suspended),
        }  # fmt: skip

    async def answer_report(self, request: Request) -> Reply:
        """POST /v1/reports: check, note, decrypt, rank."""
        now = int(self.clock())

        def check(asked: messages.Request) -> None:
            check_request(asked, card=self.state.card, now=now, revoked=self.state.revoked)

        async with self.limits.receive_asked(request, ScoreReport, self.settings.report_bytes, check=check) as report:
            return Reply(await asyncio.to_thread(wire.to_bytes, await self._answer(report)))

    async def answer_inquiry(self, request: Request) -> Reply:
        """POST /v1/inquiries: what the grants took today."""
        async with self.limits.receive(request, messages.Inquiry, self.settings.order_bytes) as inquiry:
            return Reply(wire.to_bytes(authority.usage(self.state, inquiry, now=int(self.clock()))))

    async def _step(self, step: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.writer, step, *arguments)

    async def _join(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """Take a step of an answer in the journal's thread; all that wait there take theirs in one commit."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self.waiting.append((partial(step, *arguments), done))
        # What goes wrong there is told as well.
        await asyncio.gather(self._step(self._take_steps, loop), return_exceptions=True)
        return await done

    def _take_steps(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take all steps that wait; what they give is told when it is on the disk, and undone where it cannot be."""
        before, steps, taken = self.state, [], []
        while self.waiting:
            steps.append(self.waiting.popleft())
        if not steps:
            return
        try:
            with transaction(self.journal):
                for step, done in steps:
                    try:
                        taken.append((done, step(), None))
                    except (ValueError, DeclinedError) as error:
                        # A refusal: it has undone what it wrote, and concerns nobody else.
                        taken.append((done, None, error))
                # Those as well that a commit before could not keep.
                memory.keep_alarms(self.journal, self.state.suspended)
        except BaseException as error:
            # What nobody may be told did not happen; but an alarm did.
            self.state = dataclasses.replace(before, suspended={**before.suspended, **self.state.suspended})
            taken = [(done, None, error) for _, done in steps]
            raise
        finally:
            loop.call_soon_threadsafe(_tell, taken)

    async def _answer(self, report: ScoreReport) -> Ranking:
        pool = self.decryption
        count = sum(len(scores.ciphertexts) for row in report.scores for scores in row)
        with pool.reports.working(), self.work.hold(pool.predict(count)):
            # The next epoch may have begun since: what opens the report is of the state that admitted it.
            admitted = await self._join(self._admit, report, self._settled())
            try:
                plaintexts = await pool.open(admitted, report)
            except RefusalError:
                raise
            except ValueError:
                # The error's text may speak of what was decrypted.
                raise DeclinedError(422, "malformed", "the scores do not decrypt under this key") from None
            return await self._join(self._rank, report, plaintexts)

    def _admit(self, report: ScoreReport, settled: int) -> Authority:
        asked, now = report.request, int(self.clock())
        try:
            state, spending = authority.admit(self.state, report, now=now, settled=settled)
        except ForgedScoresError as error:
            # Seen before anything was opened, and by the server as well: it told the report's forger nothing.
            self._tell(report, error)
            raise
        # A replay never gets here, so it cannot spend what is the grant's.
        self.limits.count_grant(asked)
        openings = authority.opening_names(state, report)
        memory.note_answer(
            self.journal, asked.nonce, issued=asked.issued, now=now, spending=spending, openings=openings
        )  # fmt: skip
        self.state = state
        return state

    def _rank(self, report: ScoreReport, plaintexts: Rows) -> Ranking:
        try:
            state, spending, ranking = authority.rank(self.state, report, plaintexts, now=int(self.clock()))
        except ForgedScoresError as error:
            self._alarm(report, error)
            raise
        except RefusalError:
            raise
        except ValueError:
            raise DeclinedError(422, "malformed", "the scores do not decode") from None
        memory.note_spending(self.journal, spending)
        self.state = state
        return ranking

    def _decrypt(self, state: Authority, report: ScoreReport) -> Rows:
        """Open scores, in a thread that ends with the service alone: who waits for it may be cancelled before."""
        try:
            return authority.decrypt_report(state, report)
        except ForgedScoresError as error:
            self.writer.submit(self._keep_alarm, report, error).result()
            # So `rank` refuses an honest one whose epoch is over: else each report at hand then would tell a bit.
            state = self.state
            now = max(int(self.clock()), state.seen)
            check_grant(report.request.grant, card=state.card, now=now, revoked=state.revoked)
            raise

    def _keep_alarm(self, report: ScoreReport, error: ForgedScoresError) -> None:
        self._alarm(report, error)
        memory.keep_alarms(self.journal, self.state.suspended)

    def _alarm(self, report: ScoreReport, error: ForgedScoresError) -> None:
        """The owner's affair: either the cloud or this user cheats."""
        grant = report.request.grant
        # Of reports that were opened at once the first alarm is the last that tells anything; in the next epoch, too.
        authority.check_serving(self.state, grant)
        # One that was opened while the next epoch began says nothing of that one's key.
        if report.request.epoch == self.state.card.epoch:
            self.state = authority.suspend(self.state, grant)
        self._tell(report, error)

    def _tell(self, report: ScoreReport, error: ForgedScoresError) -> None:
        self.telemetry.count("forged_scores_total")
        log_event("alarm", code=error.code, reason=str(error), grant=report.request.grant.grant_id.hex())

    async def order(self, kind: type, request: Request) -> Reply:
        """POST /v1/catalogs and the like: what the owner orders."""
        # An order is judged by the state that the one before it left.
        async with self.limits.receive(request, kind, self.settings.order_bytes) as order, self.ordering:
            await self._step(self._take, order)
            self.since = {number: self.since.get(number, time.monotonic()) for number in self.state.catalogs}
            former = await self._replace() if self.decryption.public != self.state.card.public.key else None
        if former is not None:
            await former.aclose()
        log_event("order", kind=kind.__name__, segments=len(self.state.catalogs))
        return Reply()

    def _settled(self) -> int:
        """How many segments every report must have by now."""
        end = time.monotonic() - self.settings.lag_seconds
        return sum(self.since.get(number, -math.inf) <= end for number in self.state.catalogs)

    def _take(self, order: Any) -> None:
        state = _TAKE[type(order)](self.state, order)
        if isinstance(order, Head):
            # One that is not the latest changes nothing.
            if state.head == order.counter:
                memory.keep_head(self.journal, order)
        elif isinstance(order, Appointment):
            if state is not self.state:
                memory.keep_appointment(self.journal, order)
        elif state is not self.state:
            # A catalog that is known may have been shredded since: it is not written again.
            openings = frozenset().union(*state.opened).difference(*self.state.opened)
            shredded = self.state.prepared.keys() - state.prepared.keys()
            if isinstance(order, Catalog) and order.hints and order.segment not in state.prepared:
                # Withdrawn before it came.
                shredded = {order.segment}
            memory.keep_order(self.journal, order, openings=openings, shredded=shredded)
        self.state = state

    async def _replace(self) -> contextlib.AsyncExitStack:
        """Start a decryption pool for the key in force; gives the former one, to be closed after its reports."""
        stack, asked = contextlib.AsyncExitStack(), self.settings
        self.decryption = await stack.enter_async_context(
            start(
                self.state.secret, workers=asked.workers, engine=asked.engine, job_seconds=asked.job_seconds,
                decrypt_report=self._decrypt,
            )
        )  # fmt: skip
        former, self.pools = self.pools, stack
        return former


def _tell(taken: Sequence[tuple[asyncio.Future, Any, BaseException | None]]) -> None:
    for done, found, error in taken:
        if done.cancelled():
            continue
        if error is None:
            done.set_result(found)
        else:
            done.set_exception(error)
