"""What computes for the cloud in one epoch: scorers bound to the card, and the stock of blinders under its key."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from jcbir.protocol import wire
from jcbir.protocol.messages import Card, Query, ScoreReport
from jcbir.protocol.server import Server
from jcbir.ranking._scheme import Scores
from jcbir.service.blinder_pool import Stock
from jcbir.service.pool import BACKGROUND, Pool, Shift
from jcbir.service.scoring import Share, split_segments, write_share
from jcbir.service.telemetry import Telemetry


class Crew:
    """Scorers and stock, from `muster`.

    Attributes:
        card: the collection in the epoch they work for.
        scorer: a `pool.Pool` or a `cluster.Cluster`.
        stock: blinders made ahead.
        shift: the queries that it is needed for; it is dismissed after the last one.
    """

    def __init__(self, card: Card, scorer: Any, stock: Stock, telemetry: Telemetry) -> None:
        self.card, self.scorer, self.stock, self.shift = card, scorer, stock, Shift()
        self._telemetry = telemetry

    async def score(self, state: Server, query: Query, body: bytes) -> ScoreReport:
        """Have a query scored, a share of the segments by each worker."""
        scheme = query.request.scheme
        layouts = [segment.indexes[scheme].layout for segment in state.segments]
        queries, width = len(query.trapdoors), state.card.public.ciphertext_bytes
        spans = split_segments([layout.blocks for layout in layouts], self.scorer.count)
        jobs = []
        for span in spans:
            needed = queries * sum(layouts[position].blocks for position in span)
            numbers = tuple(state.segments[position].number for position in span)
            stocked = self.stock.take(needed)
            self._telemetry.count("blinders_total", amount=len(stocked) // width, source="stock")
            self._telemetry.count("blinders_total", amount=needed - len(stocked) // width, source="demand")
            jobs.append(write_share(Share(body, numbers, stocked)))
        answers = await asyncio.gather(*(self.scorer.run(job) for job in jobs))
        fingerprint = state.card.public.fingerprint
        rows: list[list[Scores]] = [[] for _ in range(queries)]
        for span, answer in zip(spans, answers, strict=True):
            block = np.frombuffer(answer, np.uint8).reshape(queries, -1, width)
            start = 0
            for position in span:
                end = start + layouts[position].blocks
                for row, part in zip(rows, block[:, start:end], strict=True):
                    row.append(Scores(layouts[position], fingerprint, part))
                start = end
        return ScoreReport(query.request, tuple(segment.number for segment in state.segments), tuple(map(tuple, rows)))


@contextlib.asynccontextmanager
async def muster(
    card: Card,
    *,
    store: Path,
    scorer: str,
    workers: int,
    engine: str,
    ray_address: str | None,
    job_seconds: float,
    blinder_stock: int,
    idle: Callable[[], bool],
    telemetry: Telemetry,
) -> AsyncIterator[Crew]:
    """Start scorers for the length of a block, and fill the stock while nothing else waits.

    Args:
        card: the collection; the store must be in its epoch.
        store: folder of the store.
        scorer: "pool" scores in processes of this machine, "ray" on a Ray cluster.
        workers: scoring processes.
        engine: arithmetic engine.
        ray_address: address of the cluster; None starts one on this machine.
        job_seconds: most seconds that a worker may take for a share.
        blinder_stock: blinders to keep made ahead.
        idle: whether no query waits.
        telemetry: where to count.

    Yields:
        The crew.

    Raises:
        ValueError: no such scorer, or the store is not of this card.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> async def start(scorer):
        ...     async with muster(
        ...         small_system().server.card, store=Path("no/such"), scorer=scorer, workers=1, engine="auto",
        ...         ray_address=None, job_seconds=60.0, blinder_stock=0, idle=lambda: True, telemetry=Telemetry("demo"),
        ...     ):
        ...         pass
        >>> asyncio.run(start("threads"))
        Traceback (most recent call last):
        ...
        ValueError: scorer: 'pool' or 'ray', got 'threads'
    """
    hello = msgpack.packb([str(store.resolve()), wire.to_bytes(card), engine])
    async with contextlib.AsyncExitStack() as stack:
        if scorer == "ray":
            from jcbir.service.cluster import Cluster

            made: Any = Cluster(hello, count=workers, address=ray_address, job_seconds=job_seconds)
        elif scorer == "pool":
            made = Pool("jcbir.service.scoring", hello, count=workers, job_seconds=job_seconds)
        else:
            raise ValueError(f"scorer: 'pool' or 'ray', got {scorer!r}")
        await stack.enter_async_context(made)

        async def make(count: int) -> bytes:
            return await made.run(msgpack.packb(count), priority=BACKGROUND)

        stock = Stock(make, width=card.public.ciphertext_bytes, target=blinder_stock, idle=idle)
        stack.push_async_callback(finish, asyncio.create_task(stock.keep_filling()))
        crew = Crew(card, made, stock, telemetry)
        yield crew
        await crew.shift.over()


async def finish(task: asyncio.Task) -> None:
    """End a background task.

    Args:
        task: the task.

    Returns:
        Nothing.

    Example:
        >>> async def begin_and_end():
        ...     task = asyncio.create_task(asyncio.sleep(60))
        ...     await finish(task)
        ...     return task.cancelled()
        >>> asyncio.run(begin_and_end())
        True
    """
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


__all__ = ["Crew", "finish", "muster"]
