"""Worker processes: the same bytes in order; a killed worker is replaced, its share redone; cancellation; errors."""

import os
import secrets
import signal
from concurrent.futures import CancelledError

import numpy as np
import pytest
from paillier_vectors import stored_key

from jcbir.errors import KeyMismatchError
from jcbir.paillier import rows, secret, workers


@pytest.fixture(scope="module")
def pool():
    with workers.Workers(2) as running:
        yield running


def test_workers_agree_with_one_process(pool):
    key, seen = stored_key("small"), []
    values = list(range(1100))
    ciphertexts = workers.encrypt(key, values, workers=pool, draw=secrets.token_bytes, engine="python")
    assert rows.to_ints(secret.decrypt(key, ciphertexts, engine="gmpy2")) == values
    found = workers.decrypt(
        key, ciphertexts, workers=pool, engine="python", progress=lambda done, total: seen.append((done, total))
    )
    assert rows.to_ints(found) == values
    assert [total for _, total in seen] == [1100] * 3
    assert sorted(done for done, _ in seen)[-1] == 1100
    assert workers.decrypt(key, ciphertexts[:0], workers=pool).shape == (0, key.public.plaintext_bytes)


def test_a_killed_worker_is_replaced(pool):
    key = stored_key("small")
    ciphertexts = secret.encrypt(key, list(range(1500)), draw=secrets.token_bytes, engine="gmpy2")
    before = [process.pid for process in pool.processes]
    killed = []

    def kill_once(done, total):
        if not killed:
            killed.append(pool.processes[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    found = workers.decrypt(key, ciphertexts, workers=pool, engine="python", progress=kill_once)
    assert rows.to_ints(found) == list(range(1500))
    # It may have died idle; the next batch then meets a closed pipe.
    assert np.array_equal(workers.decrypt(key, ciphertexts, workers=pool, engine="python"), found)
    assert killed[0] in before
    assert killed[0] not in [process.pid for process in pool.processes]


def test_a_share_that_kills_is_given_up(pool, monkeypatch):
    monkeypatch.setattr(workers, "_receive", lambda process: None)
    key = stored_key("tiny")
    body = secret.encrypt(key, [1], draw=secrets.token_bytes, engine="python")
    with pytest.raises(ChildProcessError, match="3 workers"):
        workers.decrypt(key, body, workers=pool, engine="python")


def test_cancellation_leaves_usable_workers(pool):
    key = stored_key("small")
    ciphertexts = secret.encrypt(key, list(range(64)), draw=secrets.token_bytes, engine="gmpy2")
    with pytest.raises(CancelledError):
        workers.decrypt(key, ciphertexts, workers=pool, engine="python", cancelled=lambda: True)
    assert rows.to_ints(workers.decrypt(key, ciphertexts, workers=pool, engine="python")) == list(range(64))


def test_errors_come_back(pool):
    key = stored_key("small")
    foreign = rows.from_ints([0], width=key.public.ciphertext_bytes)
    with pytest.raises(KeyMismatchError, match=r"ciphertexts\[0\]"):
        workers.decrypt(key, foreign, workers=pool, engine="python")
    with pytest.raises(ValueError, match="running"):
        workers.run_jobs(workers.Workers(1), [b""])
    with pytest.raises(ValueError, match="at least 1"):
        workers.Workers(0)
