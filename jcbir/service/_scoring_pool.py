"""What computes for the cloud in one epoch: workers bound to the card, and blinders made ahead under its key."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from jcbir.protocol import wire
from jcbir.protocol.messages import Card, Query
from jcbir.protocol.server import Server
from jcbir.ranking._keys import KEY_KINDS
from jcbir.ranking._scheme import Shapes, score_rows
from jcbir.ranking._table import find_scheme
from jcbir.service._pool import BACKGROUND, InFlight, Pool, pack
from jcbir.service._scoring import Pace, Part, find_runs, make_blinders, predict, split_query
from jcbir.service._telemetry import Telemetry
from jcbir.typing import Rows

BATCH = 64
# What a worker does at a time: its deadline, and the others that wait for a worker, see nothing longer.
PART_SECONDS = 2.0
_PAUSE_SECONDS = 0.05


class BlinderPool:
    """Blinder rows made ahead, while no query waits; each is handed out once.

    Attributes:
        width: bytes of a row.
        target: rows to keep.
    """

    def __init__(
        self, make: Callable[[int], Awaitable[bytes]], *, width: int, target: int, idle: Callable[[], bool]
    ) -> None:
        self.width, self.target = width, target
        self._make, self._idle = make, idle
        self._rows = bytearray()

    @property
    def count(self) -> int:
        """Rows left."""
        return len(self._rows) // self.width

    def take(self, count: int) -> bytes:
        """Hand out up to `count` rows; they leave the pool."""
        size = min(count, self.count) * self.width
        rows = bytes(self._rows[len(self._rows) - size :])
        del self._rows[len(self._rows) - size :]
        return rows

    async def keep_filling(self) -> None:
        """Fill up whenever nothing else waits, forever."""
        while True:
            if self.count < self.target and self._idle():
                self._rows += await self._make(min(BATCH, self.target - self.count))
            else:
                await asyncio.sleep(_PAUSE_SECONDS)


class ScoringPool:
    """Workers and blinders, from `start`.

    Attributes:
        card: the collection in the epoch they work for.
        workers: a `_pool.Pool` or a `_cluster.Cluster`.
        pace: how long one of them takes, as measured at the start.
        blinders: blinders made ahead.
        queries: those at hand; the pool is closed after the last one.
    """

    def __init__(self, card: Card, workers: Any, pace: Pace, blinders: BlinderPool, telemetry: Telemetry) -> None:
        self.card, self.workers, self.pace, self.blinders, self.queries = card, workers, pace, blinders, InFlight()
        self._telemetry = telemetry
        # A long query's parts neither fill the memory nor stand between others and the workers.
        self._turns = asyncio.Semaphore(2 * workers.count)

    def predict(self, state: Server, query: Query) -> float:
        """Predict the seconds that all workers need for a query when each of its blinders is made on demand."""
        shapes = _shapes(state, query)
        each = sum(predict(shapes, self.pace)) + self.pace.blinder * sum(shape.blinders for shape in shapes)
        return len(query.trapdoors) * each / self.workers.count

    async def score(self, state: Server, query: Query) -> tuple[Rows, Rows]:
        """Have a query scored in parts: its rows as `server.finish_query` takes them, and the blinders' randomness."""
        shapes, kind = _shapes(state, query), KEY_KINDS[state.card.public.kind]
        width = kind.blinder_bytes(state.card.public.key)
        # Beside others a query keeps one worker busy: each of its parts would read the query anew.
        workers = max(1, self.workers.count // max(1, self.queries.count))
        parts = split_query(
            shapes, len(query.trapdoors), self.pace, workers=workers, seconds=PART_SECONDS,
            runs=find_runs(state.segments),
        )  # fmt: skip
        made = await self._blind(sum(part.blinders for part in parts))
        fresh = np.frombuffer(made, np.uint8).reshape(-1, self.blinders.width)
        jobs, shares, used = [], [], 0
        for part in parts:
            share = fresh[used : used + part.blinders]
            jobs.append(self._score(state, query, part, share[:, :width].tobytes()))
            shares.append(share[:, width:])
            used += part.blinders
        starts = np.cumsum([0, *score_rows(shapes)])
        firsts = np.cumsum([0, *(shape.blinders for shape in shapes)])
        rows = np.empty((len(query.trapdoors), starts[-1], shapes[0].scores[1]), np.uint8)
        randomness = np.empty((len(rows), firsts[-1], fresh.shape[1] - width), np.uint8)
        for part, share, answer in zip(parts, shares, await asyncio.gather(*jobs), strict=True):
            place = slice(starts[part.segments.start], starts[part.segments.stop])
            some = slice(part.trapdoors.start, part.trapdoors.stop)
            rows[some, place] = np.frombuffer(answer, np.uint8).reshape(len(part.trapdoors), -1, rows.shape[2])
            uses = slice(firsts[part.segments.start], firsts[part.segments.stop])
            randomness[some, uses] = share.reshape(len(part.trapdoors), uses.stop - uses.start, share.shape[1])
        return rows, randomness.reshape(len(rows) * firsts[-1], randomness.shape[2])

    async def _score(self, state: Server, query: Query, part: Part, blinders: bytes) -> bytes:
        trapdoors = query.trapdoors[part.trapdoors.start : part.trapdoors.stop]
        numbers = [state.segments[position].number for position in part.segments]
        async with self._turns:
            body = await asyncio.to_thread(wire.to_bytes, dataclasses.replace(query, trapdoors=trapdoors))
            return await self.workers.run(pack("score", body, numbers, blinders))

    async def _blind(self, count: int) -> bytes:
        """Take blinders from the pool, and have what is missing made by all workers; seeds that are drawn, here."""
        ready = self.blinders.take(count)
        missing = count - len(ready) // self.blinders.width
        self._telemetry.count("blinders_total", amount=count - missing, source="pool")
        self._telemetry.count("blinders_total", amount=missing, source="demand")
        if KEY_KINDS[self.card.public.kind].blind is None:
            return ready + make_blinders(self.card.public.key, missing).tobytes()
        most = max(1, int(PART_SECONDS / self.pace.blinder))
        size = min(most, max(1, -(-missing // self.workers.count)))
        jobs = (min(size, missing - start) for start in range(0, missing, size))
        made = await asyncio.gather(*(self.workers.run(pack("blind", job)) for job in jobs))
        return b"".join([ready, *made])


@contextlib.asynccontextmanager
async def start(
    card: Card,
    *,
    store: Path,
    scorer: str,
    workers: int,
    engine: str,
    ray_address: str | None,
    job_seconds: float,
    blinder_pool: int,
    idle: Callable[[], bool],
    telemetry: Telemetry,
) -> AsyncIterator[ScoringPool]:
    """Start workers for the length of a block, and make blinders ahead while nothing else waits."""
    hello = pack(str(store.resolve()), wire.to_bytes(card), engine)
    async with contextlib.AsyncExitStack() as stack:
        if scorer == "ray":
            from jcbir.service._cluster import Cluster

            made: Any = Cluster(hello, count=workers, address=ray_address, job_seconds=job_seconds)
        elif scorer == "pool":
            made = Pool("jcbir.service._scoring", hello, count=workers, job_seconds=job_seconds)
        else:
            raise ValueError(f"scorer: must be 'pool' or 'ray', got {scorer!r}")
        await stack.enter_async_context(made)
        pace = Pace(*msgpack.unpackb(await made.run(pack("measure"))))

        async def make(count: int) -> bytes:
            return await made.run(pack("blind", count), priority=BACKGROUND)

        width = len(await made.run(pack("blind", 1)))
        blinders = BlinderPool(make, width=width, target=blinder_pool, idle=idle)
        stack.push_async_callback(finish, asyncio.create_task(blinders.keep_filling()))
        pool = ScoringPool(card, made, pace, blinders, telemetry)
        yield pool
        await pool.queries.over()


async def finish(task: asyncio.Task) -> None:
    """End a background task."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _shapes(state: Server, query: Query) -> list[Shapes]:
    """What scoring the query is made of, segment by segment."""
    scheme = query.request.scheme
    return [find_scheme(scheme).shapes(segment.indexes[scheme].layout) for segment in state.segments]
