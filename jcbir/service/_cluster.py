"""Scoring on a Ray cluster instead of this machine's processes: the same shares, the same answers (extra `ray`).

Ray schedules: a share whose worker process or machine is lost is run again elsewhere. Every machine must see the store
under the same path. What travels is what travels to a local worker: the public card, queries, blinders, scores.
"""

import asyncio
import functools

import ray

from jcbir.service._pool import DEATHS, URGENT, pack
from jcbir.service._scoring import Worker, open_worker


class Cluster:
    """A Ray cluster that does the jobs of `pool.Pool`: joined on entering an `async with` block, left on leaving it.

    Ray knows one cluster in a process: of several blocks the first joins it and the last leaves.

    Attributes:
        blocks: how many of them are open.
        joined: whether the first one joined, rather than found it joined.
        count: shares that a query is split into.
        waiting: jobs handed to Ray and not answered yet.
        deaths: 0; Ray keeps its own count.
    """

    blocks, joined = 0, False

    def __init__(self, hello: bytes, *, count: int, address: str | None, job_seconds: float) -> None:
        if count < 1:
            raise ValueError(f"count: must be at least 1, got {count}")
        self.count, self.waiting, self.deaths = count, 0, 0
        self._hello, self._address, self._job_seconds = hello, address, job_seconds

    async def __aenter__(self) -> "Cluster":
        if not ray.is_initialized():
            own = {"address": self._address} if self._address else {"num_cpus": self.count, "include_dashboard": False}
            await asyncio.to_thread(functools.partial(ray.init, log_to_driver=False, **own))
            Cluster.joined = True
        Cluster.blocks += 1
        self._task = ray.remote(num_cpus=1, max_retries=DEATHS)(score_job)
        # A store that a worker cannot open shows at the start, not at the first query.
        await self.run(pack("blind", 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        Cluster.blocks -= 1
        if Cluster.joined and not Cluster.blocks:
            Cluster.joined = False
            await asyncio.to_thread(ray.shutdown)

    async def run(self, body: bytes, *, priority: int = URGENT) -> bytes:
        """Have the cluster do a job; Ray has no priorities for tasks."""
        self.waiting += 1
        try:
            async with asyncio.timeout(self._job_seconds):
                return await self._task.remote(self._hello, body)
        except ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except ray.exceptions.RayError as error:
            raise ChildProcessError(f"the cluster lost a job {DEATHS} times: {type(error).__name__}") from None
        finally:
            self.waiting -= 1


def score_job(hello: bytes, job: bytes) -> bytes:
    """Do one job in a worker of the cluster; the store stays open for the next one."""
    return _worker(hello).answer(job)


@functools.lru_cache(maxsize=2)
def _worker(hello: bytes) -> Worker:
    return open_worker(hello)
