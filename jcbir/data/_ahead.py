"""Work done in processes ahead of who needs it: a few items at a time, in order, stopped with the caller.

Kept free of JAX, so that a process starts in a fraction of a second.
"""

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 32
"""Items a process that are begun before they are needed, at most."""


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, processes: int, most_bytes: int = 64 << 20
) -> Iterator[tuple[Item, Result]]:
    """`map` in order, in spawned processes that run a little ahead of the caller.

    Items and results travel through pipes and are never in shared memory, so that nothing is left behind by a process
    that dies. The processes end with the iterator, whether it is exhausted, closed or interrupted.

    Args:
        work: a function of a module, since processes find it by name.
        items: read one after another, no further ahead than the bounds allow.
        processes: how many; 0 works here. With processes, the calling script needs its main guard.
        most_bytes: no more items are begun while those before have so many bytes.

    Returns:
        An iterator of each item with its result.

    Raises:
        Exception: what `work` raises, at the item's turn.

    Example:
        >>> list(ahead(len, [b"a", b"bc"], processes=0))
        [(b'a', 1), (b'bc', 2)]
    """
    if not processes:
        yield from ((item, work(item)) for item in items)
        return
    # Spawned, not forked: a fork of a process that runs JAX can deadlock.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_leave_interrupts_to_the_caller)
    begun: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            with _interrupts_held():
                begun.append((item, pool.submit(work, item)))
            while len(begun) > AHEAD * processes or (len(begun) > 1 and _weight(begun) > most_bytes):
                yield _finished(begun)
        while begun:
            yield _finished(begun)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _finished(begun: "deque[tuple[Item, Future[Result]]]") -> tuple[Item, Result]:
    item, future = begun.popleft()
    return item, future.result()


def _weight(begun: "deque[tuple[Item, Future[Result]]]") -> int:
    return sum(len(item) for item, _ in begun if isinstance(item, bytes))


def _leave_interrupts_to_the_caller() -> None:
    # Ctrl-C reaches every process of a terminal; the caller stops the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let no interrupt meet a process that starts here before it leaves them to the caller: it inherits the mask."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
