"""What decrypts for the authority: worker processes that are given the key over their pipe."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import msgpack
import numpy as np

from jcbir.paillier import _engines as engines
from jcbir.paillier.public import PublicKey
from jcbir.paillier.secret import SecretKey, decrypt
from jcbir.protocol._handover import SECRET_KEY
from jcbir.protocol._schema import read_plain, write_plain
from jcbir.service._pool import InFlight, Pool, pack, run_worker
from jcbir.typing import Rows

# Jobs of fewer rows cost more in pipes than they win.
LEAST_ROWS = 16
PART_SECONDS = 2.0


class DecryptionPool:
    """Workers that have the secret half of a key, from `start`.

    Attributes:
        public: the key.
        workers: the processes.
        row_seconds: how long one of them takes for a ciphertext, as measured at the start.
        reports: those at hand; the pool is closed after the last one.
    """

    def __init__(self, public: PublicKey, workers: Pool, row_seconds: float) -> None:
        self.public, self.workers, self.row_seconds, self.reports = public, workers, row_seconds, InFlight()

    def predict(self, count: int) -> float:
        """Predict the seconds that all workers need for so many ciphertexts."""
        return count * self.row_seconds / self.workers.count

    async def decrypt(self, ciphertexts: Rows) -> Rows:
        """Decrypt rows by all workers, in jobs that none of them is long at; ValueError as `secret.decrypt`."""
        even = max(LEAST_ROWS, -(-len(ciphertexts) // self.workers.count))
        size = max(1, min(even, int(PART_SECONDS / self.row_seconds)))
        spans = range(0, len(ciphertexts), size)
        jobs = (self.workers.run(ciphertexts[start : start + size].tobytes()) for start in spans)
        return np.frombuffer(b"".join(await asyncio.gather(*jobs)), np.uint8).reshape(-1, self.public.plaintext_bytes)


@contextlib.asynccontextmanager
async def start(secret: SecretKey, *, workers: int, engine: str, job_seconds: float) -> AsyncIterator[DecryptionPool]:
    """Start workers for the length of a block; "auto" is the number engine, which does not compile in mid-query."""
    name = engines.choose_engine("auto", count=1) if engine == "auto" else engine
    hello = pack(write_plain(SECRET_KEY, secret), name)
    async with Pool("jcbir.service._decrypting", hello, count=workers, job_seconds=job_seconds) as pool:
        rows = np.zeros((LEAST_ROWS, secret.public.ciphertext_bytes), np.uint8)
        # One is an encryption of zero, and takes as long to decrypt as any other.
        rows[:, -1] = 1
        await pool.run(rows.tobytes())
        begun = time.perf_counter()
        await pool.run(rows.tobytes())
        decryption = DecryptionPool(secret.public, pool, (time.perf_counter() - begun) / LEAST_ROWS)
        yield decryption
        await decryption.reports.over()


def work() -> None:
    """Live as a decrypting worker: the first frame is the key, the others are ciphertext rows."""

    def prepare(hello: bytes) -> Callable[[bytes], bytes]:
        plain, engine = msgpack.unpackb(hello)
        secret = read_plain(SECRET_KEY, plain, name="key")
        width = secret.public.ciphertext_bytes

        def answer(job: bytes) -> bytes:
            return decrypt(secret, np.frombuffer(job, np.uint8).reshape(-1, width), engine=engine).tobytes()

        return answer

    run_worker(prepare)
