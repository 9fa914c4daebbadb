"""Both services on localhost under many concurrent users: throughput, latency, processor time, memory, and intruders.

`python -m experiments.service_load --report FILE.json [--schemes lattice packed] [--counts 10000 100000 1000000]
[--users 200] [--cloud-workers 2 1] [--ray-workers 2 1]`: a run for each scheme and number of images, and for further
numbers of scoring processes, those on a Ray cluster too (`jcbir[ray]`). A run that is done is kept in the run folder
and an index that was built beside it, so the same command goes on where it was ended.

First one user is alone. Then each of the users is a thread that sends its queries one after another through
`jcbir.service.client` and waits for each delivery (a closed loop: latency under load is about users / throughput), for
so many seconds; a 429 is waited out and counts as latency, and who waits longer than `patience` gives up.
Meanwhile one more user asks now and then, and intruders send what must be refused. Afterwards every delivery is opened
and compared with the plain Hamming ranking.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.protocol import authority, owner, server, user
from jcbir.protocol._signatures import sign
from jcbir.protocol.refusals import RefusalError
from jcbir.ranking._secret_keys import SECRET_KEY_KINDS
from jcbir.ranking._table import find_scheme
from jcbir.sealing import Photograph
from jcbir.service import client
from jcbir.storage import (
    append_segment,
    create_store,
    keep_order,
    open_journal,
    open_store,
    read_secret,
    write_file,
    write_identity,
    write_secret,
)

HOUR = 3600
# Of random codes and blank photographs: there is nothing to protect.
PASSPHRASE = "an index of noise"
PHOTOGRAPH = Photograph(bytes(range(192)), "image/jpeg")
BUDGET = 1_000_000
# As many as a grant may send at once after a pause.
ALONE = 40


@dataclasses.dataclass(frozen=True)
class Load:
    """Options.

    Attributes:
        where: scale and places; smoke: one run of 10,000 images, 20 users, three seconds.
        schemes: ranking schemes, each with keys of its kind.
        counts: images in the collection.
        users: concurrent users.
        seconds: how long they go on asking, and at most how long the lone user does.
        patience: seconds after which a user who has no answer gives up.
        intrusions: attempts of each kind to get what one has no right to.
        modulus_bits: Paillier key size.
        subgroup_bits: size of the subgroup the blinders live in; 0 for a key without one, whose blinders each take a
            full exponentiation.
        bits: code length.
        top: results of each query.
        segment: images of one publication.
        cloud_workers: scoring processes; after the first number those of further runs of the first scheme with the most
            images.
        ray_workers: of still further runs, on a Ray cluster of this machine.
        authority_workers: decrypting processes, or threads.
        minutes: no run begins later than that; the same command goes on with those that are missing.
    """

    where: At = PLACES
    schemes: tuple[str, ...] = ("lattice", "packed")
    counts: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    users: int = 200
    seconds: float = 20.0
    patience: float = 60.0
    intrusions: int = 20
    modulus_bits: int = 2048
    subgroup_bits: int = 256
    bits: int = 64
    top: int = 10
    segment: int = 50_000
    cloud_workers: tuple[int, ...] = (2, 1)
    ray_workers: tuple[int, ...] = ()
    authority_workers: int = 2
    minutes: float = 11.0


SCALES: dict[Scale, Load] = {
    "cpu": Load(),
    "smoke": Load(schemes=("lattice",), counts=(10_000,), users=20, seconds=3.0, intrusions=2),
}
PACKAGES = ("gmpy2", "cryptography", "starlette", "uvicorn", "httpx", "msgpack")


class Answer(NamedTuple):
    """One query.

    Attributes:
        begun: when it was sent, seconds of a monotonic clock.
        ended: when it was answered.
        state: of the user who asked.
        code: that was asked for.
        delivery: what came, or None.
        fault: what came instead.
    """

    begun: float
    ended: float
    state: Any
    code: np.ndarray
    delivery: Any
    fault: str


def main(config: Load) -> dict[str, Any]:
    """A run for each scheme and size, and for other numbers of workers; those that are done are not done again."""
    run, runs = begin("service_load", config, packages=PACKAGES), []
    for scheme in config.schemes:
        for count in config.counts:
            scorers = [("pool", workers) for workers in dict.fromkeys(config.cloud_workers)]
            scorers += [("ray", workers) for workers in dict.fromkeys(config.ray_workers)]
            further = (scheme, count) == (config.schemes[0], max(config.counts))
            for scorer, workers in scorers if further else scorers[:1]:
                kept = run.folder / f"{scheme}-{count}-{scorer}-{workers}.json"
                if not kept.exists() and time.monotonic() > run.begun + 60 * config.minutes:
                    say(f"{kept.stem}: left to the same command, another time")
                    continue
                if not kept.exists():
                    root = build(config, scheme, count)
                    write_file(kept, json.dumps(one_run(config, root, scheme, count, scorer, workers)).encode())
                runs.append(json.loads(kept.read_bytes()))
    summed = ("errors", "wrong_rankings", "unauthorised_tried", "unauthorised_refused")
    return finish(run, {name: sum(one[name] for one in runs) for name in summed} | {"runs": runs})


def build(config: Load, scheme: str, count: int) -> pathlib.Path:
    """An owner, both identities, a store and a journal over random codes, once for all runs that ask for the same."""
    name = f"{scheme}-{count}-{config.segment}-{config.bits}-{config.modulus_bits}-{config.subgroup_bits}"
    root = config.where.runs / "service_load_indexes" / name
    if (root / "built.json").exists():
        return root
    say(f"{scheme}, {count} images: building")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    own = found(config, root, scheme)
    codes, begun = codes_of(config, count), time.perf_counter()
    with open_store(root / "store", write=True) as store, open_journal(root / "journal", own.card) as journal:
        for start in range(0, count, config.segment):
            part = codes[start : start + config.segment]
            own, publication, catalog = owner.publish(
                own, part, [PHOTOGRAPH] * len(part), [str(start + place) for place in range(len(part))],
                schemes=(scheme,), cipher="aes-gcm", draw=secrets.token_bytes,
            )  # fmt: skip
            append_segment(store, publication)
            keep_order(journal, catalog)
    # Of the names of its images the owner needs none here, and a million are no small file.
    bare = dataclasses.replace(own, image_ids={}, parts=())
    write_secret(root / "owner", bare, passphrase=PASSPHRASE, draw=secrets.token_bytes, work=14)
    size = sum(path.stat().st_size for path in (root / "store").rglob("*") if path.is_file())
    built = {"build_s": round(time.perf_counter() - begun, 1), "store_mb": round(size / 1e6, 1)}
    write_file(root / "built.json", json.dumps(built).encode())
    return root


def found(config: Any, root: pathlib.Path, scheme: str) -> Any:
    """A collection whose services are to run in a folder: identities, delegation and an empty store are written."""
    draw = secrets.token_bytes
    kind = SECRET_KEY_KINDS[find_scheme(scheme).key_kind]
    subgroup = config.subgroup_bits or None
    pair = kind.generate(draw=draw, bits=config.modulus_bits, code_bits=config.bits, subgroup_bits=subgroup)
    cloud, holder = server.make_identity(draw=draw), authority.make_identity(draw=draw)
    for side, identity in (("cloud", cloud), ("authority", holder)):
        write_identity(root / f"{side}.identity", identity, side=side, passphrase=None, draw=draw)
    own = owner.create(
        collection="load", bits=config.bits, secret=pair, cloud_key=cloud.public, authority_key=holder.public,
        authority_sealing_key=holder.sealing_key, draw=draw,
    )  # fmt: skip
    write_secret(root / "delegation", owner.delegate(own), passphrase=PASSPHRASE, draw=draw, work=14)
    create_store(root / "store", own.card)
    return own


def codes_of(config: Load, count: int) -> np.ndarray:
    return np.random.default_rng(count).random((count, config.bits), np.float32) > 0.5


def one_run(
    config: Load, built: pathlib.Path, scheme: str, count: int, scorer: str, workers: int
) -> dict[str, Any]:  # fmt: skip
    here = f"{scheme}, {count} images, {scorer}, {workers} workers"
    own = read_secret(built / "owner", passphrase=PASSPHRASE, expect=owner.Owner)
    people = admit(own, config.users + 2)
    ask(config, people[0], scheme, np.random.default_rng(0))  # compiles
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        root = pathlib.Path(folder)
        for name in ("store", "cloud.identity", "authority.identity", "delegation"):
            (root / name).symlink_to((built / name).resolve())
        # What one run notes as answered is not there in the next.
        shutil.copy(built / "journal", root / "journal")
        holder = stack.enter_context(service(root, "authority", config.authority_workers))
        cloud = stack.enter_context(service(root, "cloud", workers, holder.url, scorer))
        meter = Meter(cloud, holder)
        say(f"{here}: one user alone")
        meter.begin()
        alone = ask_for(config, people[0], scheme, cloud, queries=ALONE, until=time.perf_counter() + config.seconds)
        alone_ms = meter.milliseconds(alone)
        say(f"{here}: {config.users} users")
        meter.begin()
        with concurrent.futures.ThreadPoolExecutor(4) as gang:
            refused = [gang.submit(attack) for attack in intruders(config, own, people, scheme, cloud)]
            begun, answers, beside = ask_all(config, people, scheme, cloud)
            outcome = [attempt.result() for attempt in refused]
        loaded_ms = meter.milliseconds([*answers, *beside])
        memory = {side: memory_mb(running) for side, running in (("cloud", cloud), ("authority", holder))}
    everything = [*alone, *answers, *beside]
    wrong = wrong_rankings(config, own, count, everything)
    # Those that were on their way when the time was over count for latency, not for throughput.
    in_time = sum(one.delivery is not None and one.ended <= begun + config.seconds for one in answers)
    faults = [one.fault for one in everything if one.fault and not gave_up(one)]
    result = {
        "scheme": scheme, "images": count, "users": config.users, "scorer": scorer, "cloud_workers": workers,
        "queries": len(everything), "errors": len(faults), "error_texts": sorted(set(faults))[:5],
        "unanswered": sum(map(gave_up, everything)), "wrong_rankings": wrong,
        "queries_per_s": round(in_time / config.seconds, 3),
        **quantiles(answers), **quantiles(alone, "alone_"), **quantiles(beside, "beside_"),
        "alone_cpu_ms": alone_ms, "cpu_ms": loaded_ms,
        "start_s": {"cloud": cloud.start_s, "authority": holder.start_s}, "memory_mb": memory,
        "unauthorised_tried": len(outcome), "unauthorised_refused": sum(outcome),
        **json.loads((built / "built.json").read_bytes()),
    }  # fmt: skip
    say({key: value for key, value in result.items() if key not in ("error_texts", "memory_mb")})
    return result


@dataclasses.dataclass
class Running:
    """A service that runs.

    Attributes:
        process: it.
        url: where it listens.
        start_s: seconds from its start until it listened.
    """

    process: subprocess.Popen
    url: str
    start_s: float


@contextlib.contextmanager
def service(root: pathlib.Path, side: str, workers: int, *more: str) -> Iterator[Running]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "experiments.service_process", side, str(root), str(port), str(workers)]
    begun = time.perf_counter()
    with open(root / f"{side}.log", "wb") as log:
        process = subprocess.Popen([*command, *more], stdin=subprocess.PIPE, stderr=log)
    process.stdin.write(PASSPHRASE.encode() + b"\n")
    process.stdin.close()
    try:
        # It listens when it is ready.
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                raise ChildProcessError((root / f"{side}.log").read_text())
            time.sleep(0.05)
        yield Running(process, f"http://127.0.0.1:{port}", round(time.perf_counter() - begun, 2))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def admit(own: Any, count: int) -> list:
    people = []
    for _ in range(count):
        keys = user.make_keys(draw=secrets.token_bytes)
        _, admission = owner.admit(
            own, user.enroll(keys), now=int(time.time()), draw=secrets.token_bytes, queries_per_day=BUDGET,
            images_per_day=BUDGET,
        )  # fmt: skip
        people.append(user.join(keys, admission, owner_key=own.card.owner_key))
    return people


def ask(config: Load, me: Any, scheme: str, numbers: np.random.Generator) -> tuple[Any, Any, np.ndarray]:
    code = numbers.random((1, config.bits)) > 0.5
    state, query = user.ask(me, code, top=config.top, now=int(time.time()), scheme=scheme, draw=secrets.token_bytes)
    return state, query, code


def ask_for(
    config: Load, me: Any, scheme: str, cloud: Running, *, queries: int = BUDGET, until: float = float("inf"),
    pause: float = 0.0,
) -> list[Answer]:  # fmt: skip
    """One user's queries, one after another, up to a number or a time."""
    numbers, answers = np.random.default_rng(int.from_bytes(me.grant.grant_id)), []
    with client.connect(cloud.url, timeout=config.patience) as link:
        while len(answers) < queries and time.perf_counter() < until:
            state, query, code = ask(config, me, scheme, numbers)
            begun, delivery, fault = time.perf_counter(), None, ""
            try:
                delivery = client.search(link, query)
            except (ValueError, OSError) as error:
                fault = f"{type(error).__name__}: {error}"[:200]
            answers.append(Answer(begun, time.perf_counter(), state, code, delivery, fault))
            time.sleep(pause)
    return answers


def ask_all(
    config: Load, people: list, scheme: str, cloud: Running
) -> tuple[float, list[Answer], list[Answer]]:  # fmt: skip
    """When it began, what all users but two got, and what the last one got who asks now and then beside them."""
    gate = threading.Barrier(config.users + 1)

    def go_on(me: Any, pause: float) -> list[Answer]:
        gate.wait()
        return ask_for(config, me, scheme, cloud, until=time.perf_counter() + config.seconds, pause=pause)

    with concurrent.futures.ThreadPoolExecutor(config.users + 1) as crowd:
        asking = [crowd.submit(go_on, me, 0.0) for me in people[1:-1]]
        beside = crowd.submit(go_on, people[-1], 0.5)
        found = [one for asked in asking for one in asked.result()]
    return min(one.begun for one in found), found, beside.result()


def intruders(config: Load, own: Any, people: list, scheme: str, cloud: Running) -> list:
    """Attempts without the right to; each gives whether it was refused for its own reason."""

    def changed(me: Any, *, grant: dict | None = None, by_owner: bool = True) -> Any:
        _, query, _ = ask(config, me, scheme, np.random.default_rng(0))
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

    return [lambda me=me, code=code: attack(me, code) for me in people[: config.intrusions] for code in makers]


def gave_up(one: Answer) -> bool:
    """Whether its user's patience was over: told to come again for so long, or not answered at all."""
    return one.fault.startswith("BusyError") or "no answer in time" in one.fault


def wrong_rankings(config: Load, own: Any, count: int, answers: list[Answer]) -> int:
    """How many deliveries are not the nearest images with their distances; among equal ones the catalog chooses."""
    words = np.packbits(codes_of(config, count), axis=1).view(">u8" if config.bits == 64 else np.uint8)
    places = {owner.pseudonym(own, str(place)): place for place in range(count)}
    wrong = 0
    for one in answers:
        if one.delivery is None:
            continue
        _, (row,) = user.receive(one.state, one.delivery)
        asked = np.packbits(one.code, axis=1).view(words.dtype)
        distances = np.bitwise_count(words ^ asked).sum(axis=1)
        shown = [match.distance for match in row]
        true = [int(distances[places[match.image_id]]) for match in row]
        nearest = np.sort(np.partition(distances, config.top)[: config.top]).tolist()
        wrong += not (shown == true == nearest and len({match.image_id for match in row}) == config.top)
        wrong += any(match.photograph != PHOTOGRAPH for match in row)
    return wrong


def quantiles(answers: list[Answer], prefix: str = "") -> dict[str, float | None]:
    seconds = [one.ended - one.begun for one in answers if one.delivery is not None]
    shown = np.quantile(seconds, [0.5, 0.95, 0.99]) if seconds else [None] * 3
    names = [f"{prefix}p{name}_s" for name in (50, 95, 99)]
    return {name: None if value is None else round(float(value), 4) for name, value in zip(names, shown, strict=True)}


class Meter:
    """Processor time a query, by whom: of the services their own processes and their workers, and the users."""

    def __init__(self, cloud: Running, holder: Running) -> None:
        self._sides = {"cloud": cloud, "authority": holder}

    def _seconds(self) -> dict[str, float]:
        spent = {"users": time.process_time()}
        for side, running in self._sides.items():
            first, *workers = family(running.process)
            spent |= {side: cpu_seconds(first), f"{side}_workers": sum(map(cpu_seconds, workers))}
        return spent

    def begin(self) -> None:
        self._before = self._seconds()

    def milliseconds(self, answers: list[Answer]) -> dict[str, float]:
        count = max(1, sum(one.delivery is not None for one in answers))
        after = self._seconds()
        return {name: round((after[name] - self._before[name]) * 1e3 / count, 2) for name in after}


def family(process: subprocess.Popen) -> list[int]:
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [process.pid, *map(int, children)]


def memory_mb(running: Running) -> list[dict[str, float]]:
    """Of a service's process and of its workers: the most it had in memory, and what of it is no map of a file."""
    shown = []
    for process in family(running.process):
        lines = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines())
        peak, own = (round(int(lines[name].split()[0]) / 1024, 1) for name in ("VmHWM", "RssAnon"))
        shown.append({"peak": peak, "own": own})
    return shown


def cpu_seconds(process: int) -> float:
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def say(text: Any) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(command_line(SCALES))
