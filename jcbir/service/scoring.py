"""What scores for the cloud, with the public key alone: shares of a query, one for each worker and span of segments.

A worker opens the store by its path and maps it into memory; it gets the query's bytes and the numbers of the segments
to score, and looks into the store again when it does not know one of them.
"""

import contextlib
import functools
import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgpack
import numpy as np

from jcbir.errors import FormatError
from jcbir.paillier._blinding import blinders
from jcbir.paillier._engines import choose_engine
from jcbir.paillier.public import PublicKey
from jcbir.protocol import wire
from jcbir.protocol.messages import Card, Query
from jcbir.protocol.server import Server, scheme_index
from jcbir.ranking._score import score
from jcbir.service.pool import run_worker
from jcbir.storage.load import load_server
from jcbir.storage.store import open_store
from jcbir.typing import Rows


class Share(NamedTuple):
    """A part of a query's work.

    Attributes:
        query: the query's bytes as they came.
        segments: numbers of the segments to score.
        blinders: blinder rows made ahead, as bytes; the worker makes what is missing.
    """

    query: bytes
    segments: tuple[int, ...]
    blinders: bytes


class Desk:
    """A worker's hold on a store: opened once, looked into again when a share names an unknown segment.

    Attributes:
        state: the server's state as of the last look.
    """

    def __init__(self, path: str, card: Card, *, engine: str) -> None:
        self._stack = contextlib.ExitStack()
        self._store = self._stack.enter_context(open_store(path, card=card))
        self._engine = engine
        self.state: Server = load_server(self._store)

    def close(self) -> None:
        """Close the store."""
        self._stack.close()

    def score(self, share: Share) -> bytes:
        """Score a share: ciphertext rows, trapdoor after trapdoor, segment after segment."""
        if not {segment.number for segment in self.state.segments}.issuperset(share.segments):
            self.state = load_server(self._store, previous=self.state)
        query = wire.from_bytes(share.query, expect=Query)
        return score_share(self.state, query, share, engine=self._engine).tobytes()

    def blinders(self, count: int) -> bytes:
        """Make blinders."""
        return _blinders(self.state.card.public, count).tobytes()


def score_share(server: Server, query: Query, share: Share, *, engine: str = "auto") -> Rows:
    """Score a query against some segments; every ciphertext that comes out is freshly blinded.

    Args:
        server: state over a store.
        query: what `share.query` says.
        share: which segments, and blinders made ahead.
        engine: arithmetic engine.

    Returns:
        uint8[ciphertexts, ciphertext_bytes], trapdoor after trapdoor, segment after segment.

    Raises:
        FormatError: a segment is not in the store.
        ValueError: a segment does not offer the scheme, or the trapdoor does not fit it.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> share = Share(wire.to_bytes(system.query), (0,), system.blinders.tobytes())
        >>> score_share(system.server, system.query, share, engine="python").shape
        (1, 64)
    """
    public = server.card.public
    known = {segment.number: segment for segment in server.segments}
    missing = [number for number in share.segments if number not in known]
    if missing:
        raise FormatError(f"share: segments {missing} are not in the store")
    indexes = [scheme_index(known[number], query.request.scheme) for number in share.segments]
    needed = len(query.trapdoors) * sum(index.layout.blocks for index in indexes)
    stock = np.frombuffer(share.blinders, np.uint8).reshape(-1, public.ciphertext_bytes)[:needed]
    if len(stock) < needed:
        stock = np.concatenate([stock, _blinders(public, needed - len(stock))])
    rows, used = [], 0
    for trapdoor in query.trapdoors:
        for index in indexes:
            fresh = stock[used : used + index.layout.blocks]
            used += index.layout.blocks
            rows.append(score(public, index, trapdoor, blinders=fresh, engine=engine).ciphertexts)
    return np.concatenate(rows)


def _blinders(public: PublicKey, count: int) -> Rows:
    """Blinders by the number engine: the array engine would compile in the middle of a query."""
    return blinders(public, count, draw=secrets.token_bytes, engine=choose_engine("auto", count=1))


def write_share(share: Share) -> bytes:
    """Write a share for the pipe.

    Args:
        share: the share.

    Returns:
        Its bytes.

    Example:
        >>> len(write_share(Share(b"q", (0, 1), b"")))
        9
    """
    return msgpack.packb([share.query, list(share.segments), share.blinders])


def work() -> None:
    """Live as a scoring worker: the first frame says which store, the others are shares or counts of blinders.

    Returns:
        Nothing.

    Example:
        >>> callable(work)
        True
    """

    def prepare(hello: bytes) -> Callable[[bytes], bytes]:
        path, card, engine = msgpack.unpackb(hello)
        return functools.partial(answer_job, Desk(path, wire.from_bytes(card, expect=Card), engine=engine))

    run_worker(prepare)


def answer_job(desk: Desk, job: bytes) -> bytes:
    """Do one job: a share, or so many blinders.

    Args:
        desk: the worker's hold on the store.
        job: from `write_share`, or msgpack of a count.

    Returns:
        Ciphertext rows as bytes.

    Raises:
        ValueError: the query does not fit the index.

    Example:
        >>> import tempfile
        >>> from jcbir.storage.store import create_store
        >>> from jcbir.protocol.session import small_system
        >>> card = small_system().server.card
        >>> with tempfile.TemporaryDirectory() as path:
        ...     create_store(path, card)
        ...     with contextlib.closing(Desk(path, card, engine="python")) as desk:
        ...         len(answer_job(desk, msgpack.packb(3))) // card.public.ciphertext_bytes
        3
    """
    fields = msgpack.unpackb(job)
    if isinstance(fields, int):
        return desk.blinders(fields)
    return desk.score(Share(fields[0], tuple(fields[1]), fields[2]))


def split_segments(blocks: Sequence[int], parts: int) -> list[range]:
    """Split segments into spans of about equal work.

    Args:
        blocks: work of each segment.
        parts: most spans.

    Returns:
        Spans that cover all segments in order, none empty.

    Example:
        >>> split_segments([1, 1, 2, 4], 2)
        [range(0, 3), range(3, 4)]
    """
    total, parts = sum(blocks), min(parts, len(blocks))
    spans, start, done = [], 0, 0
    for position, work_here in enumerate(blocks):
        done += work_here
        behind = len(blocks) - position - 1
        wanted = parts - len(spans) - 1
        if position >= start and wanted and (done * parts >= total * (len(spans) + 1) or behind == wanted):
            spans.append(range(start, position + 1))
            start = position + 1
    return [*spans, range(start, len(blocks))] if start < len(blocks) else spans


__all__ = ["Desk", "Share", "answer_job", "score_share", "split_segments", "work", "write_share"]
