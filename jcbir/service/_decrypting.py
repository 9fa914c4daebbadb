"""What decrypts for the authority: worker processes that are given the key over their pipe, or threads."""

import asyncio
import contextlib
import dataclasses
import functools
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import numpy as np

from jcbir.paillier import _engines as engines
from jcbir.paillier._jax import BATCHES
from jcbir.paillier.public import PublicKey
from jcbir.paillier.secret import decrypt
from jcbir.protocol import authority
from jcbir.protocol._handover import SECRET_KEY
from jcbir.protocol._schema import read_plain, write_plain
from jcbir.protocol.authority import Authority
from jcbir.protocol.messages import ScoreReport
from jcbir.ranking._keys import tag_key
from jcbir.ranking._secret_keys import SECRET_KEY_KINDS
from jcbir.service._pool import InFlight, Pool, pack, run_worker
from jcbir.typing import Rows

# Jobs of fewer rows cost more in pipes than they win.
LEAST_ROWS = 16
# Rows that take longer by a number engine are worth what it takes to compile the array engine's, once.
SLOW_SECONDS = 3e-4
PART_SECONDS = 2.0


class DecryptionPool:
    """Workers that have the secret half of a key, from `start`.

    Attributes:
        public: the key.
        workers: the processes.
        row_seconds: how long one of them takes for a ciphertext, as measured at the start.
        least_rows: of a job.
        reports: those at hand; the pool is closed after the last one.
    """

    def __init__(self, public: PublicKey, workers: Pool, row_seconds: float, *, least_rows: int) -> None:
        self.public, self.workers, self.row_seconds, self.least_rows = public, workers, row_seconds, least_rows
        self.reports = InFlight()

    def predict(self, count: int) -> float:
        """Predict the seconds that all workers need for so many ciphertexts."""
        return count * self.row_seconds / self.workers.count

    async def open(self, state: Authority, report: ScoreReport) -> Rows:
        """Decrypt the scores of a report; ValueError as `authority.ciphertext_rows` and `secret.decrypt`."""
        return await self.decrypt(authority.ciphertext_rows(state, report))

    async def decrypt(self, ciphertexts: Rows) -> Rows:
        """Decrypt rows by all workers, in jobs that none of them is long at; ValueError as `secret.decrypt`."""
        even = max(self.least_rows, -(-len(ciphertexts) // self.workers.count))
        size = max(1, min(even, int(PART_SECONDS / self.row_seconds)))
        spans = range(0, len(ciphertexts), size)
        jobs = (self.workers.run(ciphertexts[start : start + size].tobytes()) for start in spans)
        return np.frombuffer(b"".join(await asyncio.gather(*jobs)), np.uint8).reshape(-1, self.public.plaintext_bytes)


@dataclasses.dataclass
class OpeningThreads:
    """Threads that open all scores of a query together, with what the state holds prepared, from `start`.

    Attributes:
        public: the key.
        threads: their executor.
        count: how many; the arithmetic leaves Python's lock to others.
        row_seconds: how long one takes for a row of scores, as measured at the start.
        decrypt_report: opens the scores of a report, in a thread.
        workers: themselves, as something that waits and never dies.
        reports: those at hand; the threads end after the last one.
    """

    public: Any
    threads: ThreadPoolExecutor
    count: int
    row_seconds: float
    decrypt_report: Callable[[Authority, ScoreReport], Rows]
    reports: InFlight = dataclasses.field(default_factory=InFlight)
    deaths: int = 0

    @property
    def workers(self) -> "OpeningThreads":
        return self

    @property
    def waiting(self) -> int:
        """Reports that nobody has begun."""
        return max(0, self.reports.count - self.count)

    def predict(self, count: int) -> float:
        """Predict the seconds that all threads need for so many rows."""
        return count * self.row_seconds / self.count

    async def open(self, state: Authority, report: ScoreReport) -> Rows:
        """Open the scores of a report; ValueError as `authority.decrypt_report`. Once begun, it is not cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, self.decrypt_report, state, report)


@contextlib.asynccontextmanager
async def start(
    secret: Any,
    *,
    workers: int,
    engine: str,
    job_seconds: float,
    decrypt_report: Callable[[Authority, ScoreReport], Rows],
) -> AsyncIterator[DecryptionPool | OpeningThreads]:
    """Start what decrypts for the length of a block; whatever compiles does so before the first query.

    `decrypt_report` opens a report where that is done as a whole.
    """
    kind = SECRET_KEY_KINDS[tag_key(secret.public).kind]
    if kind.row_seconds is not None:
        with ThreadPoolExecutor(workers, "opening") as threads:
            measure = functools.partial(kind.row_seconds, secret, clock=time.perf_counter)
            row_seconds = await asyncio.get_running_loop().run_in_executor(threads, measure)
            opening = OpeningThreads(secret.public, threads, workers, row_seconds, decrypt_report)
            yield opening
            await opening.reports.over()
        return
    hello = pack(write_plain(SECRET_KEY, secret), engine)
    async with Pool("jcbir.service._decrypting", hello, count=workers, job_seconds=job_seconds) as pool:
        # Each of them knows by now which engine it takes, and has compiled what there is to compile.
        row_seconds, least_rows = msgpack.unpackb(await pool.run(b""))
        decryption = DecryptionPool(secret.public, pool, row_seconds, least_rows=least_rows)
        yield decryption
        await decryption.reports.over()


def work() -> None:
    """Live as a decrypting worker: the first frame is the key, the others are ciphertext rows, none for the pace."""

    def prepare(hello: bytes) -> Callable[[bytes], bytes]:
        plain, engine = msgpack.unpackb(hello)
        secret = read_plain(SECRET_KEY, plain, name="key")
        width = secret.public.ciphertext_bytes
        engine, least_rows, row_seconds = _settle_engine(secret, engine)

        def answer(job: bytes) -> bytes:
            if not job:
                return pack(row_seconds, least_rows)
            return decrypt(secret, np.frombuffer(job, np.uint8).reshape(-1, width), engine=engine).tobytes()

        return answer

    run_worker(prepare)


def _settle_engine(secret: Any, engine: str) -> tuple[str, int, float]:
    """The engine to take, the least rows of a job and the seconds for a row; "auto" compiles for a key that is slow."""

    def seconds(count: int, name: str) -> float:
        rows = np.zeros((count, secret.public.ciphertext_bytes), np.uint8)
        # One is an encryption of zero, and takes as long to decrypt as any other.
        rows[:, -1] = 1
        taken = []
        # The first may compile; of the others the least, for the machine may be busy with something else.
        for _ in range(3):
            begun = time.perf_counter()
            decrypt(secret, rows, engine=name)
            taken.append(time.perf_counter() - begun)
        return min(taken) / count

    name = engines.choose_engine("auto", count=1) if engine == "auto" else engine
    row_seconds = seconds(LEAST_ROWS, name)
    if engine != "auto" or row_seconds < SLOW_SECONDS:
        return name, LEAST_ROWS, row_seconds
    # Fewer rows than an array engine is worth go by numbers; whatever size it computes them at, it has compiled.
    return "auto", engines.JAX_BATCH, min(seconds(size, "jax") for size in BATCHES)
