"""Both services on localhost under many concurrent users: throughput, latency, memory, errors, and intruders.

`python -m experiments.service_load --report FILE.json [--users 200] [--counts 10000 100000] [--modulus-bits 2048]`

Each user is a thread that sends its queries one after another through `jcbir.service.client` and waits for each
delivery (a closed loop: latency under load is about users / throughput); a 429 is waited out and counts as latency.
Meanwhile intruders send what must be refused. Afterwards every delivery is opened and compared with the plain Hamming
ranking.
"""

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import numpy as np

from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.paillier.secret import generate_keys
from jcbir.protocol import owner, user
from jcbir.protocol._signatures import sign
from jcbir.protocol.refusals import RefusalError
from jcbir.service import client
from jcbir.storage import create_store, write_secret

SCHEME = "bitsliced"
HOUR = 3600


@dataclasses.dataclass(frozen=True)
class Load:
    """Options.

    Attributes:
        where: scale and places; smoke: one run of 10,000 images, 50 users, one query each.
        users: concurrent users.
        counts: images in the collection, one run each.
        queries: queries of each user, one after another.
        modulus_bits: Paillier key size.
        subgroup_bits: size of the subgroup the blinders live in; 0 for a key without one, whose blinders each take a
            full exponentiation.
        bits: code length.
        top: results of each query.
        segment: images of one publication.
        cloud_workers: scoring processes.
        authority_workers: decrypting processes.
    """

    where: At = PLACES
    users: int = 200
    counts: tuple[int, ...] = (10_000, 100_000)
    queries: int = 2
    modulus_bits: int = 2048
    subgroup_bits: int = 256
    bits: int = 64
    top: int = 10
    segment: int = 25_000
    cloud_workers: int = 2
    authority_workers: int = 2


SCALES: dict[Scale, Load] = {"cpu": Load(), "smoke": Load(counts=(10_000,), users=50, queries=1)}
PACKAGES = ("gmpy2", "cryptography", "starlette", "uvicorn", "httpx", "msgpack")


def main(config: Load) -> dict[str, Any]:
    """A run a size."""
    run = begin("service_load", config, packages=PACKAGES)
    secret = generate_keys(
        bits=config.modulus_bits, draw=secrets.token_bytes, subgroup_bits=config.subgroup_bits or None
    )
    runs = [one_run(config, secret, count) for count in config.counts]
    summed = ("errors", "wrong_rankings", "unauthorised_tried", "unauthorised_refused")
    worst = ("p95_s", "peak_rss_mb")
    return finish(
        run,
        {name: sum(one[name] for one in runs) for name in summed}
        | {name: max(one[name] for one in runs) for name in worst}
        | {"runs": runs},
    )


def one_run(config: Load, secret: Any, count: int) -> dict[str, Any]:
    say(f"{count} images: owner")
    draw, numbers = secrets.token_bytes, np.random.default_rng(count)
    own = owner.create(collection="load", bits=config.bits, secret=secret, draw=draw)
    codes = numbers.random((count, config.bits)) > 0.5
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        root = pathlib.Path(folder)
        passphrase = secrets.token_urlsafe(24)
        write_secret(root / "delegation", owner.delegate(own), passphrase=passphrase, draw=draw, work=14)
        create_store(root / "store", own.card)
        authority = stack.enter_context(service(root, "authority", config.authority_workers, passphrase=passphrase))
        cloud = stack.enter_context(service(root, "cloud", config.cloud_workers, upstream=authority.url))
        started = time.perf_counter()
        own = publish(config, own, codes, cloud, authority)
        published = time.perf_counter() - started
        own, people = admit(config, own)
        say(f"{count} images: one user alone")
        alone = quantiles([latency for latency, *_ in ask_all(config, people[:1] * 10, cloud, queries=1, threads=1)])
        say(f"{count} images: {config.users} users")
        before = processes_seconds(cloud, authority)
        attacks = intruders(own, people, codes, cloud)
        started = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(8) as gang:
            refused = [gang.submit(attack) for attack in attacks]
            answers = ask_all(config, people, cloud, queries=config.queries, threads=config.users)
            loaded = time.perf_counter() - started
            outcome = [attempt.result() for attempt in refused]
        memory = {side: peak_memory(process) for side, process in (("cloud", cloud), ("authority", authority))}
        metrics = {side: scrape(process) for side, process in (("cloud", cloud), ("authority", authority))}
        spent = processes_seconds(cloud, authority) - before
    good = [answer for answer in answers if answer[3] is not None]
    wrong = sum(not right(config, own, codes, answer) for answer in good)
    good_seconds = [latency for latency, *_ in good]
    result = {
        "images": count, "users": config.users, "queries": len(answers), "errors": len(answers) - len(good),
        "error_texts": sorted({answer[4] for answer in answers if answer[4]})[:5],
        "wrong_rankings": wrong, "seconds": round(loaded, 2), "queries_per_s": round(len(good) / loaded, 3),
        **quantiles(good_seconds), "alone_p50_s": alone["p50_s"], "alone_p95_s": alone["p95_s"],
        "publish_s": round(published, 2), "service_cpu_s": round(spent, 2),
        "peak_rss_mb": round(sum(sum(sizes) for sizes in memory.values()), 1), "rss_mb_by_process": memory,
        "unauthorised_tried": len(outcome), "unauthorised_refused": sum(outcome), "metrics": metrics,
    }  # fmt: skip
    say({key: result[key] for key in ("queries_per_s", "p50_s", "p95_s", "p99_s", "errors", "peak_rss_mb")})
    return result


@dataclasses.dataclass
class Running:
    """A service that runs."""

    process: subprocess.Popen
    url: str


@contextlib.contextmanager
def service(root: pathlib.Path, side: str, workers: int, *, passphrase: str = "", upstream: str = ""):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "experiments.service_process", side, str(root), str(port), str(workers)]
    with open(root / f"{side}.log", "wb") as log:
        process = subprocess.Popen([*command, *filter(None, [upstream])], stdin=subprocess.PIPE, stderr=log)
    process.stdin.write(passphrase.encode() + b"\n")
    process.stdin.close()
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                raise ChildProcessError((root / f"{side}.log").read_text())
            time.sleep(0.1)
        yield Running(process, f"http://127.0.0.1:{port}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def publish(config: Load, own: Any, codes: np.ndarray, cloud: Running, authority: Running) -> Any:
    picture = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    with client.connect(cloud.url, timeout=600.0) as first, client.connect(authority.url, timeout=600.0) as second:
        for start in range(0, len(codes), config.segment):
            part = codes[start : start + config.segment]
            names = [str(start + place) for place in range(len(part))]
            own, publication, catalog = owner.publish(
                own, part, [picture] * len(part), names, schemes=(SCHEME,), cipher="aes-gcm", draw=secrets.token_bytes
            )
            client.send_order(first, publication)
            client.send_order(second, catalog)
    return own


def admit(config: Load, own: Any) -> tuple[Any, list]:
    people = []
    for _ in range(config.users):
        keys = user.make_keys(draw=secrets.token_bytes)
        own, admission = owner.admit(own, user.enroll(keys), now=int(time.time()), draw=secrets.token_bytes)
        people.append(user.join(keys, admission, owner_key=own.card.owner_key))
    return own, people


def ask_all(config: Load, people: list, cloud: Running, *, queries: int, threads: int) -> list[tuple]:
    """(latency, state, code, delivery or None, error) of each query; users start together."""
    gate = threading.Barrier(threads)

    def one(me: Any, seed: int) -> list[tuple]:
        numbers, found = np.random.default_rng(seed), []
        with client.connect(cloud.url, timeout=900.0) as link:
            gate.wait()
            for _ in range(queries):
                code = numbers.random((1, config.bits)) > 0.5
                state, query = user.ask(
                    me, code, top=config.top, now=int(time.time()), scheme=SCHEME, draw=secrets.token_bytes
                )
                begun = time.perf_counter()
                try:
                    delivery, fault = client.search(link, query), ""
                except (ValueError, OSError) as error:
                    delivery, fault = None, f"{type(error).__name__}: {error}"[:200]
                found.append((time.perf_counter() - begun, state, code, delivery, fault))
        return found

    with concurrent.futures.ThreadPoolExecutor(threads) as crowd:
        return [answer for found in crowd.map(one, people, range(len(people))) for answer in found]


def intruders(own: Any, people: list, codes: np.ndarray, cloud: Running) -> list:
    """Attempts without the right to, five for each user; each gives whether it was refused for its own reason."""

    def changed(me: Any, *, grant: dict | None = None, by_owner: bool = True) -> Any:
        _, query = user.ask(me, codes[:1], top=1, now=int(time.time()), scheme=SCHEME, draw=secrets.token_bytes)
        asked = query.request
        if grant is not None:
            forged = dataclasses.replace(asked.grant, **grant)
            asked = dataclasses.replace(asked, grant=sign(forged, secret=own.signing_secret) if by_owner else forged)
        return dataclasses.replace(query, request=sign(asked, secret=me.keys.signing_secret))

    def expired() -> dict:
        now = int(time.time())
        return {"issued": now - 9 * HOUR, "expires": now - HOUR}

    makers = {
        "forged-grant": lambda me: changed(me, grant={"max_results": 10**6}, by_owner=False),
        "expired-grant": lambda me: changed(me, grant=expired()),
        "revoked-grant": lambda me: changed(me, grant={"epoch": 1}),
        "foreign-collection": lambda me: changed(me, grant={"collection": "others"}),
        "tampered-query": lambda me: dataclasses.replace(changed(me), salt=secrets.token_bytes(32)),
    }

    def attack(me: Any, code: str) -> bool:
        with client.connect(cloud.url, timeout=900.0) as link:
            try:
                # Made at the last moment: an old query would be refused for being old.
                client.search(link, makers[code](me))
            except RefusalError as error:
                return error.code == code
        return False

    return [lambda me=me, code=code: attack(me, code) for me in people for code in makers]


def right(config: Load, own: Any, codes: np.ndarray, answer: tuple) -> bool:
    _, state, code, delivery, _ = answer
    _, (row,) = user.receive(state, delivery)
    distances = (codes ^ code).sum(axis=1)
    best = np.argsort(distances, kind="stable")[: config.top]
    expected = [(owner.pseudonym(own, str(place)), int(distances[place])) for place in best]
    return [(match.image_id, match.distance) for match in row] == expected


def quantiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {"p50_s": float("inf"), "p95_s": float("inf"), "p99_s": float("inf")}
    found = np.quantile(values, [0.5, 0.95, 0.99])
    return {f"p{name}_s": round(float(value), 4) for name, value in zip((50, 95, 99), found, strict=True)}


def family(process: subprocess.Popen) -> list[int]:
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [process.pid, *map(int, children)]


def peak_memory(running: Running) -> list[float]:
    """Peak resident memory of a service's process and its workers, MB."""
    sizes = []
    for process in family(running.process):
        lines = pathlib.Path(f"/proc/{process}/status").read_text().splitlines()
        sizes.append(round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1))
    return sizes


def processes_seconds(*services: Running) -> float:
    """Processor seconds that services and workers have used."""
    ticks = 0
    for running in services:
        for process in family(running.process):
            fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def scrape(running: Running) -> dict[str, float]:
    """The services' own counters."""
    with client.connect(running.url) as link:
        lines = link.client.get("/metrics").text.splitlines()
    keep = ("requests_total", "refusals_total", "blinders_total", "_seconds_sum", "_seconds_count", "worker_deaths")
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs if any(part in name for part in keep)}


def say(text: Any) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(command_line(SCALES))
