"""A worker for the tests of the pool: squares numbers, dies, hangs."""

import os
import time

from jcbir.errors import FormatError
from jcbir.service._pool import run_worker


def work():
    def prepare(hello):
        if hello:
            raise ValueError("bad hello")
        print("a stray line on standard output")

        def answer(job):
            if job == b"die":
                os._exit(3)
            if job == b"hang":
                time.sleep(60)
            if job == b"slow":
                time.sleep(0.5)
                return b"late"
            if not job.isdigit():
                raise FormatError("no number")
            return str(int(job) ** 2).encode()

        return answer

    run_worker(prepare)
