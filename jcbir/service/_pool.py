"""Worker processes beside an event loop: each does one job at a time; one that dies is replaced, its job redone.

Jobs and answers are plain bytes over pipes, so a key never stands in an argument list, an environment or a file.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

import msgpack

from jcbir.errors import FormatError, IntegrityError, KeyMismatchError
from jcbir.service._telemetry import log_event

# A job that ends so many workers is at fault itself.
DEATHS = 3
URGENT, BACKGROUND = 0, 1
_PAUSE_SECONDS = 0.02
_SIZE = struct.Struct(">Q")
_ERRORS = {error.__name__: error for error in (FormatError, IntegrityError, KeyMismatchError)}
_SINGLE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
}


@dataclasses.dataclass
class Job:
    """One piece of work that waits or is being done.

    Attributes:
        body: what the worker gets.
        answer: what it gives.
        deaths: workers that ended over it.
    """

    body: bytes
    answer: asyncio.Future
    deaths: int = 0


class InFlight:
    """Who is at work with something that is to be replaced: counted, and waited for.

    Attributes:
        count: how many.
    """

    def __init__(self) -> None:
        self.count = 0

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Be at work for the length of a block."""
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    async def over(self) -> None:
        """Wait until nobody is at work any more."""
        while self.count:
            await asyncio.sleep(_PAUSE_SECONDS)


class Pool:
    """Processes that live from entering an `async with` block to leaving it.

    Attributes:
        count: how many.
        processes: the live ones, by place.
        deaths: workers lost so far.
    """

    def __init__(self, entry: str, hello: bytes, *, count: int, job_seconds: float) -> None:
        if count < 1:
            raise ValueError(f"count: must be at least 1, got {count}")
        self.count, self.deaths = count, 0
        self.processes: dict[int, asyncio.subprocess.Process] = {}
        self._entry, self._hello, self._job_seconds = entry, hello, job_seconds
        self._order, self._closed = itertools.count(), False

    async def __aenter__(self) -> "Pool":
        self._waiting: asyncio.PriorityQueue[tuple[int, int, Job]] = asyncio.PriorityQueue()
        started = await asyncio.gather(*(self._start(place) for place in range(self.count)), return_exceptions=True)
        failed = [error for error in started if isinstance(error, BaseException)]
        if failed:
            await self._end_all()
            raise failed[0]
        self._tasks = [asyncio.create_task(self._attend(place)) for place in range(self.count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while not self._waiting.empty():
            self._waiting.get_nowait()[2].answer.cancel()
        await self._end_all()

    @property
    def waiting(self) -> int:
        """Jobs that no worker has begun."""
        return self._waiting.qsize()

    async def run(self, body: bytes, *, priority: int = URGENT) -> bytes:
        """Have a worker do a job."""
        if self._closed:
            raise ChildProcessError("the workers have been ended")
        job = Job(body, asyncio.get_running_loop().create_future())
        self._waiting.put_nowait((priority, next(self._order), job))
        return await job.answer

    async def _attend(self, place: int) -> None:
        while True:
            priority, number, job = await self._waiting.get()
            if job.answer.cancelled():
                continue
            try:
                if place not in self.processes:
                    await self._start(place)
                async with asyncio.timeout(self._job_seconds):
                    answer = await _exchange(self.processes[place], job.body)
            except (OSError, EOFError):
                # TimeoutError is an OSError: a worker that hangs is ended like one that died.
                await self._replace(place, job, priority, number)
                continue
            except ValueError as error:
                # A worker that cannot start, as when the store has gone on: the job fails, and is not waited for.
                if not job.answer.cancelled():
                    job.answer.set_exception(error)
                continue
            except asyncio.CancelledError:
                job.answer.cancel()
                raise
            if not job.answer.cancelled():
                _settle(job.answer, answer)

    async def _replace(self, place: int, job: Job, priority: int, number: int) -> None:
        self.deaths += 1
        job.deaths += 1
        log_event("worker died", place=place, deaths=job.deaths)
        process = self.processes.pop(place, None)
        if process is not None:
            await _end(process)
        if job.answer.cancelled():
            return
        if job.deaths == DEATHS:
            job.answer.set_exception(ChildProcessError(f"a job ended {DEATHS} workers in turn"))
        else:
            self._waiting.put_nowait((priority, number, job))

    async def _start(self, place: int) -> None:
        environment = {**os.environ, **_SINGLE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        code = f"from {self._entry} import work; work()"
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdin=pipe, stdout=pipe, env=environment
        )
        self.processes[place] = process
        try:
            ready = await _exchange(process, self._hello)
        except (OSError, EOFError):
            self.processes.pop(place, None)
            await _end(process)
            raise ChildProcessError(f"worker {place} ended before it was ready") from None
        if ready[:1] != b"+":
            self.processes.pop(place, None)
            await _end(process)
            raise _error(ready)

    async def _end_all(self) -> None:
        for process in self.processes.values():
            await _end(process)
        self.processes.clear()


def pack(*parts: Any) -> bytes:
    """What a worker is told, or tells, as bytes."""
    return cast(bytes, msgpack.packb(parts))


def run_worker(prepare: Callable[[bytes], Callable[[bytes], bytes]]) -> None:
    """Live as a worker process: `answer_frames` over standard input and output."""
    # A service that was killed reads no more: the worker ends as quietly as when its input ends.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # Ctrl-C goes to the whole foreground group; the service ends its workers when it is done with them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # A stray print must not land among the answers.
    os.dup2(2, 1)
    answer_frames(prepare, source, sink)


def answer_frames(prepare: Callable[[bytes], Callable[[bytes], bytes]], source: BinaryIO, sink: BinaryIO) -> None:
    """Prepare from the first frame and answer each further one, until the input ends."""
    hello = _read_frame(source)
    if hello is None:
        return
    try:
        answer = prepare(hello)
    except (ValueError, OSError) as error:
        _write_frame(sink, _failure(error))
        return
    _write_frame(sink, b"+")
    while (job := _read_frame(source)) is not None:
        try:
            reply = b"+" + answer(job)
        except (ValueError, OSError) as error:
            reply = _failure(error)
        _write_frame(sink, reply)


def _failure(error: Exception) -> bytes:
    return f"-{type(error).__name__}\n{error}".encode()


def _error(answer: bytes) -> ValueError:
    kind, _, text = answer[1:].decode().partition("\n")
    return _ERRORS.get(kind, ValueError)(text)


def _settle(future: asyncio.Future, answer: bytes) -> None:
    if answer[:1] == b"+":
        future.set_result(answer[1:])
    else:
        future.set_exception(_error(answer))


async def _exchange(process: asyncio.subprocess.Process, body: bytes) -> bytes:
    if process.stdin is None or process.stdout is None:
        raise EOFError("worker without pipes")
    process.stdin.write(_SIZE.pack(len(body)))
    process.stdin.write(body)
    await process.stdin.drain()
    (size,) = _SIZE.unpack(await process.stdout.readexactly(_SIZE.size))
    return await process.stdout.readexactly(size)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    if process.stdin is not None:
        process.stdin.close()
    await process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            await process.stdin.wait_closed()


def _read_frame(source: BinaryIO) -> bytes | None:
    head = source.read(_SIZE.size)
    if len(head) < _SIZE.size:
        return None
    (size,) = _SIZE.unpack(head)
    body = source.read(size)
    return body if len(body) == size else None


def _write_frame(sink: BinaryIO, body: bytes) -> None:
    sink.write(_SIZE.pack(len(body)))
    sink.write(body)
    sink.flush()
