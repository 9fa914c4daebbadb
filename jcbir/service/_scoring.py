"""What scores for the cloud, with the public key alone: a worker process that opens the store by its path and maps it.

A job is a share of a query (some of its trapdoors, against some segments), blinders to make, or to measure how long
the two take. The worker looks into the store again when it does not know a segment.
"""

import contextlib
import dataclasses
import math
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgpack
import numpy as np

from jcbir.paillier import _engines as engines
from jcbir.paillier._jax import BATCHES
from jcbir.protocol import server, wire
from jcbir.protocol.messages import Card, Query
from jcbir.ranking._keys import KEY_KINDS, tag_key
from jcbir.ranking._scheme import Shapes
from jcbir.service._pool import pack, run_worker
from jcbir.storage._load import load_server
from jcbir.storage._store import open_store
from jcbir.typing import Rows

_MEASURED_BLINDERS = 16
# Blinders that take longer by a number engine are worth what it takes to compile the array engine's, once.
SLOW_SECONDS = 3e-4
# Shorter segments are scored together: as one, they take what their rows take.
RUN_ROWS = 64


class Pace(NamedTuple):
    """How long a worker takes.

    Attributes:
        blinder: seconds for a fresh encryption of zero.
        product: seconds for a row of an index: under Paillier's keys a product modulo n^2.
    """

    blinder: float
    product: float


class Part(NamedTuple):
    """A part of a query's work.

    Attributes:
        segments: positions of the segments to score.
        trapdoors: which trapdoors to score.
        blinders: fresh encryptions of zero that it uses up.
        seconds: predicted seconds in a worker, its blinders apart.
    """

    segments: range
    trapdoors: range
    blinders: int
    seconds: float


class Worker:
    """A worker's hold on a store: opened once, looked into again when a share names an unknown segment.

    Attributes:
        state: the server's state as of the last look, nothing of it prepared.
        pace: how long this process takes.
    """

    def __init__(self, path: str, card: Card, *, engine: str) -> None:
        self._stack = contextlib.ExitStack()
        self._store = self._stack.enter_context(open_store(path, card=card))
        self._engine = engine
        # Whatever compiles does so before the first query.
        self.pace, self._arrays = measure(card.public.key)
        self.state: server.Server = load_server(self._store, tables=False, images=False)
        self._runs: dict[int, tuple[list[int], server.Segment]] = {}
        self._join([segment.number for segment in self.state.segments])

    def close(self) -> None:
        """Close the store."""
        self._stack.close()

    def answer(self, job: bytes) -> bytes:
        """Do one job."""
        match msgpack.unpackb(job):
            case ["score", query, segments, blinders]:
                return self._score(query, segments, blinders)
            case ["blind", count]:
                return make_blinders(self.state.card.public.key, count, arrays=self._arrays).tobytes()
            case ["measure"]:
                return pack(*self.pace)
        raise ValueError("job: must be one of score, blind and measure, got another")

    def _score(self, body: bytes, segments: list[int], blinders: bytes) -> bytes:
        if not self._known(segments):
            self.state = load_server(self._store, previous=self.state, tables=False, images=False)
            if not self._known(segments):
                raise ValueError(f"segments: must be in the store, got {segments}; the next epoch has begun")
        query = wire.from_bytes(body, expect=Query)
        public = self.state.card.public
        fresh = np.frombuffer(blinders, np.uint8).reshape(-1, KEY_KINDS[public.kind].blinder_bytes(public.key))
        joined, first = self._join(segments), self.state.segments[0]
        # What all segments share stands before the first of the collection.
        known = joined if joined[0].number == first.number else (first, *joined)
        state, numbers = dataclasses.replace(self.state, segments=known), [run.number for run in joined]
        return server.score_share(state, query, segments=numbers, blinders=fresh, engine=self._engine).tobytes()

    def _known(self, numbers: list[int]) -> bool:
        return {segment.number for segment in self.state.segments}.issuperset(numbers)

    def _join(self, numbers: list[int]) -> tuple[server.Segment, ...]:
        """The prepared runs of consecutive segments that begin where a run begins; the last one may have grown."""
        segments = {segment.number: segment for segment in self.state.segments}
        found = []
        for run in find_runs([segments[number] for number in numbers]):
            here = numbers[run.start : run.stop]
            if self._runs.get(here[0], ([], None))[0] != here:
                joined = server.join_segments(self.state.card, [segments[number] for number in here])
                self._runs[here[0]] = (here, joined)
            found.append(self._runs[here[0]][1])
        return tuple(found)


def find_runs(segments: Sequence[server.Segment]) -> list[range]:
    """Put consecutive segments together until they have `RUN_ROWS` rows: where one run ends, those before it decide."""
    runs, start, held = [], 0, 0
    for position, segment in enumerate(segments):
        held += max(len(index.ciphertexts) for index in segment.indexes.values())
        if held >= RUN_ROWS:
            runs.append(range(start, position + 1))
            start, held = position + 1, 0
    return [*runs, range(start, len(segments))] if start < len(segments) else runs


def make_blinders(public: Any, count: int, *, arrays: bool = False) -> Rows:
    """Make blinders with the public key, behind each the randomness it is made of where an audit shows that.

    By a number engine, unless the array engine has compiled what it needs: it would compile in mid-query.
    """
    kind = KEY_KINDS[tag_key(public).kind]
    if kind.randomness is None or kind.blind is None:
        return kind.blinders(public, count, draw=secrets.token_bytes)
    randomness = kind.randomness(public, count, draw=secrets.token_bytes)
    blinders = kind.blind(public, randomness, engine=engines.choose_engine("auto", count=count if arrays else 1))
    return np.concatenate([blinders, randomness], axis=1)


def measure(public: Any) -> tuple[Pace, bool]:
    """Measure how long this process takes for what scoring is made of, and have it compile what it will need.

    Returns:
        The pace, and whether blinders are the array engine's.
    """
    kind = KEY_KINDS[tag_key(public).kind]
    if kind.row_seconds is None:
        raise ValueError(f"public: must be a key of a kind that is served, got {kind.name}")
    # The first batch builds the table of a fixed base.
    make_blinders(public, _MEASURED_BLINDERS)
    blinder = _seconds(lambda: make_blinders(public, _MEASURED_BLINDERS)) / _MEASURED_BLINDERS
    arrays = blinder > SLOW_SECONDS
    if arrays:
        for size in BATCHES:
            make_blinders(public, size, arrays=True)
        # Of the smallest: by the blinder they take about as long, and a service that starts is waited for.
        blinder = _seconds(lambda: make_blinders(public, BATCHES[0], arrays=True)) / BATCHES[0]
    return Pace(blinder, kind.row_seconds(public, clock=time.perf_counter)), arrays


def _seconds(action: Callable[[], object]) -> float:
    """The least of three: the machine may be busy with something else."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return min(taken)


def predict(shapes: Sequence[Shapes], pace: Pace) -> list[float]:
    """Predict the seconds that one trapdoor costs in each segment, its blinders apart."""
    return [pace.product * (shape.index[0] + 2 * shape.blinders) for shape in shapes]


def split_query(
    shapes: Sequence[Shapes],
    trapdoors: int,
    pace: Pace,
    *,
    workers: int,
    seconds: float,
    runs: Sequence[range],
) -> list[Part]:
    """Split a query's work evenly among the workers, by whole runs, no part longer than `seconds` unless it must be."""
    each = predict(shapes, pace)
    costs = [sum(each[position] for position in run) for run in runs]
    longest = min(seconds, trapdoors * sum(costs) / workers)
    parts = []
    for span in split_segments(costs, max(workers, math.ceil(sum(costs) / seconds))):
        segments = range(runs[span.start].start, runs[span.stop - 1].stop)
        cost, fresh = sum(each[position] for position in segments), sum(shapes[i].blinders for i in segments)
        size = min(trapdoors, max(1, round(longest / cost)))
        for first in range(0, trapdoors, size):
            some = range(first, min(first + size, trapdoors))
            parts.append(Part(segments, some, len(some) * fresh, len(some) * cost))
    return parts


def split_segments(costs: Sequence[float], parts: int) -> list[range]:
    """Split segments into at most `parts` spans of about equal work that cover all in order, none empty."""
    total, parts = sum(costs), min(parts, len(costs))
    spans, start, done = [], 0, 0.0
    for position, cost in enumerate(costs):
        done += cost
        behind = len(costs) - position - 1
        wanted = parts - len(spans) - 1
        if position >= start and wanted and (done * parts >= total * (len(spans) + 1) or behind == wanted):
            spans.append(range(start, position + 1))
            start = position + 1
    return [*spans, range(start, len(costs))] if start < len(costs) else spans


def open_worker(hello: bytes) -> Worker:
    """Make a worker from the first frame: path of the store, card, engine."""
    path, card, engine = msgpack.unpackb(hello)
    return Worker(path, wire.from_bytes(card, expect=Card), engine=engine)


def work() -> None:
    """Live as a scoring worker: the first frame says which store, the others are jobs."""

    def prepare(hello: bytes) -> Callable[[bytes], bytes]:
        return open_worker(hello).answer

    run_worker(prepare)
