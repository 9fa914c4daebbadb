"""One single-threaded worker process per core for large batches of the key holder.

XLA's own threads cost half as much again per number; one process a core does not. A worker that dies is replaced and
its share done again. Jobs and answers are plain bytes over pipes: a key never appears in an argument list, an
environment or a file.
"""

import collections
import os
import selectors
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError

import numpy as np

from jcbir.errors import FormatError, KeyMismatchError
from jcbir.paillier import rows, secret
from jcbir.paillier.primes import StructuredPrime
from jcbir.paillier.public import PublicKey
from jcbir.paillier.rows import CiphertextRows, Ciphertexts, Messages, PlaintextRows
from jcbir.paillier.secret import SecretKey

SHARE = 512
# A share that kills so many workers is at fault itself.
DEATHS = 3
ERRORS = {"KeyMismatchError": KeyMismatchError, "FormatError": FormatError}
SINGLE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
}


class Workers:
    """Worker processes, started on entering a `with` block and ended on leaving it.

    Attributes:
        count: how many.
        processes: the live ones.
    """

    def __init__(self, count: int):
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        self.count = count
        self.processes: list[subprocess.Popen] = []

    def __enter__(self) -> "Workers":
        self.processes = [_start(i) for i in range(self.count)]
        return self

    def __exit__(self, *_) -> None:
        for process in self.processes:
            _end(process)
        self.processes = []


def decrypt(
    key: SecretKey,
    ciphertexts: Ciphertexts,
    *,
    workers: Workers,
    method: str = "crt",
    engine: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> PlaintextRows:
    """`secret.decrypt`, its batch shared among worker processes.

    Args:
        key: the key pair.
        ciphertexts: rows of shape [n, ciphertext_bytes].
        workers: running workers.
        method: as for `secret.decrypt`.
        engine: as for `secret.decrypt`, for each share of at most 512 rows.
        progress: called with (rows done, rows in all) after each share.
        cancelled: asked ten times a second; True ends the work.

    Returns:
        Plaintext rows of shape [n, plaintext_bytes].

    Raises:
        ValueError: what `secret.decrypt` would raise.
        CancelledError: `cancelled` said so; the workers are replaced and can be used again.
        ChildProcessError: a share ended three workers in turn.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import encrypt as encrypt_alone, generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> body = encrypt_alone(key, [5, 6], draw=secrets.token_bytes)
        >>> with Workers(1) as workers:
        ...     rows.to_ints(decrypt(key, body, workers=workers, engine="python"))
        [5, 6]
    """
    body = np.ascontiguousarray(ciphertexts)
    options = [b"decrypt", *_key_fields(key), method.encode(), engine.encode(), str(body.shape[1]).encode()]
    spans = list(_shares(len(body), workers.count))
    jobs = [_pack([*options, body[span].tobytes()]) for span in spans]
    return _gather(workers, jobs, spans, key.public.plaintext_bytes, progress, cancelled)


def encrypt(
    key: SecretKey,
    messages: Messages,
    *,
    workers: Workers,
    draw: Callable[[int], bytes],
    engine: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CiphertextRows:
    """`secret.encrypt`, its batch shared among worker processes; all randomness is drawn here.

    Args:
        key: the key pair.
        messages: integers or rows, as for `secret.encrypt`.
        workers: running workers.
        draw: source of uniform bytes, such as `secrets.token_bytes`.
        engine: as for `secret.encrypt`, for each share of at most 512 rows.
        progress: called with (rows done, rows in all) after each share.
        cancelled: asked ten times a second; True ends the work.

    Returns:
        Ciphertext rows of shape [n, ciphertext_bytes].

    Raises:
        ValueError: what `secret.encrypt` would raise.
        CancelledError: `cancelled` said so.
        ChildProcessError: a share ended three workers in turn.

    Example:
        >>> import secrets
        >>> key = secret.generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> with Workers(1) as workers:
        ...     encrypt(key, [5, 6], workers=workers, draw=secrets.token_bytes, engine="python").shape
        (2, 64)
    """
    body = rows.from_messages(messages, modulus=key.public.n)
    sizes = [secret.exponent_bytes(factor, subgroup=key.subgroup) for factor in (key.p, key.q)]
    options = [b"encrypt", *_key_fields(key), b"", engine.encode(), str(body.shape[1]).encode()]
    spans = list(_shares(len(body), workers.count))
    jobs = [_pack([*options, body[s].tobytes(), draw(sum(sizes) * len(body[s]))]) for s in spans]
    return _gather(workers, jobs, spans, key.public.ciphertext_bytes, progress, cancelled)


def run_jobs(
    workers: Workers,
    jobs: Sequence[bytes],
    *,
    progress: Callable[[int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[bytes]:
    """Hand jobs to workers as they come free, and collect the answers in order.

    Args:
        workers: running workers.
        jobs: what `answer` understands.
        progress: called with the number of each job done.
        cancelled: asked ten times a second; True ends the work.

    Returns:
        One answer per job.

    Raises:
        ValueError: a job failed; the message is the worker's.
        CancelledError: `cancelled` said so.
        ChildProcessError: a job ended three workers in turn.

    Example:
        >>> with Workers(1) as workers:
        ...     run_jobs(workers, [])
        []
    """
    if len(workers.processes) != workers.count:
        raise ValueError("workers must be running: use them in a `with` block")
    waiting, answers, deaths = collections.deque(range(len(jobs))), {}, collections.Counter()
    busy: dict[int, int] = {}
    try:
        while len(answers) < len(jobs):
            for i in range(workers.count):
                if i not in busy and waiting:
                    busy[i] = waiting.popleft()
                    if not _send(workers.processes[i], jobs[busy[i]]):
                        _bury(workers, i, busy, waiting, deaths)
            if cancelled is not None and cancelled():
                raise CancelledError(f"cancelled with {len(answers)} of {len(jobs)} shares done")
            for i in _ready(workers, busy):
                status = _receive(workers.processes[i])
                if status is None:
                    _bury(workers, i, busy, waiting, deaths)
                    continue
                if status[:1] != b"+":
                    kind, message = status[1:].decode().split("\n", 1)
                    raise ERRORS.get(kind, ValueError)(f"share {busy[i]} of {len(jobs)}: {message}")
                done = busy.pop(i)
                answers[done] = status[1:]
                if progress is not None:
                    progress(done)
    finally:
        # A worker still at work would answer the next call's first job.
        for i in busy:
            _end(workers.processes[i])
            workers.processes[i] = _start(i)
    return [answers[i] for i in range(len(jobs))]


def answer(job: bytes) -> bytes:
    """Do one job: the worker's side.

    Args:
        job: fields of a decryption or an encryption, packed.

    Returns:
        "+" and the rows, or "-" and an error's kind and message.

    Example:
        >>> answer(b"")
        b'-ValueError\\njob must begin with decrypt or encrypt'
    """
    name, *fields = _unpack(job) or [b""]
    if name not in (b"decrypt", b"encrypt"):
        return b"-ValueError\njob must begin with decrypt or encrypt"
    numbers = [int.from_bytes(field, "big") for field in fields[:10]]
    method, engine, width = fields[10].decode(), fields[11].decode(), int(fields[12])
    try:
        public = PublicKey(numbers[0], numbers[1], numbers[2] or None, numbers[3])
        key = SecretKey(public, StructuredPrime(*numbers[4:7]), StructuredPrime(*numbers[7:10]))
        body = np.frombuffer(fields[13], np.uint8).reshape(-1, width)
        if name == b"decrypt":
            return b"+" + secret.decrypt(key, body, method=method, engine=engine).tobytes()
        stream = memoryview(fields[14])
        position = 0

        def draw(count: int) -> bytes:
            nonlocal position
            position += count
            return bytes(stream[position - count : position])

        return b"+" + secret.encrypt(key, body, draw=draw, engine=engine).tobytes()
    except ValueError as error:
        return b"-" + type(error).__name__.encode() + b"\n" + str(error).encode()


def _gather(workers, jobs, spans, width, progress, cancelled) -> np.ndarray:
    total, done = sum(span.stop - span.start for span in spans), 0

    def report(i: int) -> None:
        nonlocal done
        done += spans[i].stop - spans[i].start
        if progress is not None:
            progress(done, total)

    answers = run_jobs(workers, jobs, progress=report, cancelled=cancelled)
    return np.frombuffer(b"".join(answers), np.uint8).reshape(-1, width)


def _shares(count: int, workers: int) -> Iterator[slice]:
    size = max(1, min(SHARE, -(-count // workers)))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _key_fields(key: SecretKey) -> list[bytes]:
    public = key.public
    numbers = [public.n, public.g, public.h or 0, public.h_bits, *key.p, *key.q]
    return [number.to_bytes(-(-number.bit_length() // 8), "big") for number in numbers]


def _pack(fields: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


def _unpack(packed: bytes) -> list[bytes]:
    fields, position = [], 0
    while position < len(packed):
        (size,) = struct.unpack_from(">I", packed, position)
        fields.append(packed[position + 4 : position + 4 + size])
        position += 4 + size
    return fields


def _start(index: int) -> subprocess.Popen:
    import jax

    environment = {**os.environ, **SINGLE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    cache = jax.config.jax_compilation_cache_dir
    if cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    command = [sys.executable, "-c", f"from jcbir.paillier.workers import _serve; _serve({index})"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _serve(index: int) -> None:
    """A worker's life: pin itself to a core, then answer until its input ends."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[index % len(cores)]})
    while (job := _frame(sys.stdin.buffer)) is not None:
        reply = answer(job)
        sys.stdout.buffer.write(struct.pack(">Q", len(reply)) + reply)
        sys.stdout.buffer.flush()


def _frame(stream) -> bytes | None:
    header = stream.read(8)
    if len(header) < 8:
        return None
    (size,) = struct.unpack(">Q", header)
    body = stream.read(size)
    return body if len(body) == size else None


def _send(process: subprocess.Popen, job: bytes) -> bool:
    try:
        process.stdin.write(struct.pack(">Q", len(job)) + job)
        process.stdin.flush()
    except OSError:
        return False
    return True


def _receive(process: subprocess.Popen) -> bytes | None:
    return _frame(process.stdout)


def _ready(workers: Workers, busy: dict[int, int]) -> list[int]:
    with selectors.DefaultSelector() as selector:
        for i in busy:
            selector.register(workers.processes[i].stdout, selectors.EVENT_READ, i)
        return [key.data for key, _ in selector.select(timeout=0.1)] if busy else []


def _bury(workers: Workers, i: int, busy: dict, waiting: collections.deque, deaths: collections.Counter) -> None:
    job = busy.pop(i)
    deaths[job] += 1
    _end(workers.processes[i])
    workers.processes[i] = _start(i)
    if deaths[job] == DEATHS:
        raise ChildProcessError(f"share {job} ended {DEATHS} workers in turn")
    waiting.appendleft(job)


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        try:
            stream.close()
        except OSError:
            # Closing flushes what a dead worker never read.
            continue
