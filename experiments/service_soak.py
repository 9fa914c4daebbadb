"""Both services on localhost for minutes of everything at once: what grows, and what goes wrong.

`python -m experiments.service_soak --report FILE.json [--minutes 8]`

Users query without pause, each on its own thread; the owner publishes, withdraws, compacts, revokes, and after so many
segments turns to a new epoch, for which all users are admitted anew; intruders with revoked grants, and queries sent a
second time, must be refused. Meanwhile resident memory, file descriptors and threads of every process are sampled. The
report compares the first third of the time with the last: a service that leaks grows from one to the other.
"""

import collections
import contextlib
import dataclasses
import os
import pathlib
import secrets
import tempfile
import threading
import time
from typing import Any

import numpy as np

from experiments.running import PLACES, At, Scale, begin, command_line, finish
from experiments.service_load import PACKAGES, Running, family, found, say, service
from jcbir.protocol import owner, user
from jcbir.protocol.owner import announce
from jcbir.protocol.refusals import RefusalError
from jcbir.sealing import Photograph
from jcbir.service import client
from jcbir.storage import compact_store, open_store, verify_store

SCHEMES = ("bitsliced", "packed")
PICTURE = Photograph(bytes(range(256)) * 7, "image/jpeg")
# Refusals that the course of things explains: between the two halves of an order, or of an image withdrawn meanwhile.
EXPECTED = ("out-of-step", "conflict", "empty")


@dataclasses.dataclass(frozen=True)
class Course:
    """What happens, and for how long.

    Attributes:
        where: places.
        minutes: how long.
        users: users who query at the same time.
        images: images in the collection, about.
        segment: images of one publication.
        segments: segments of an epoch; then the next one begins.
        pause: seconds between two orders of the owner.
        modulus_bits: Paillier key size.
        subgroup_bits: size of the subgroup the blinders live in.
        bits: code length.
        top: results of each query.
    """

    where: At = PLACES
    minutes: float = 8.0
    users: int = 4
    images: int = 1000
    segment: int = 100
    segments: int = 16
    pause: float = 2.0
    modulus_bits: int = 2048
    subgroup_bits: int = 256
    bits: int = 64
    top: int = 5


SCALES: dict[Scale, Course] = {"cpu": Course()}


class Soak:
    """What the threads share: the collection as its owner knows it, the users' grants, and what happened."""

    def __init__(self, config: Course, root: pathlib.Path, own: Any) -> None:
        self.config, self.root, self.own = config, root, own
        self.codes: dict[str, np.ndarray] = {}
        self.people: list[Any] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        self.latencies: list[float] = []
        self.samples: list[dict[str, Any]] = []
        self.over, self.named = threading.Event(), 0
        # Revoked, and both services were told so: from then on, and not before, an answer would be a fault.
        self.told: frozenset[bytes] = frozenset()

    def fault(self, what: str, error: Exception) -> None:
        self.counts["errors"] += 1
        self.faults.append(f"{what}: {type(error).__name__}: {error}"[:300])


def main(config: Course) -> dict[str, Any]:
    """Everything at once."""
    run = begin("service_soak", config, packages=PACKAGES)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        root = pathlib.Path(folder)
        soak = Soak(config, root, found(config, root, SCHEMES[0]))
        authority = stack.enter_context(service(root, "authority", 1))
        cloud = stack.enter_context(service(root, "cloud", 1, authority.url))
        with client.connect(cloud.url, timeout=300.0) as to_cloud, client.connect(authority.url) as to_authority:
            while len(soak.codes) < config.images:
                publish(soak, to_cloud, to_authority)
            admit_all(soak)
            say(f"{config.minutes:g} minutes with {len(soak.codes)} images")
            threads = [threading.Thread(target=query, args=(soak, cloud, place)) for place in range(config.users)]
            threads += [threading.Thread(target=work, args=(soak, cloud)) for work in (intrude, repeat)]
            threads.append(threading.Thread(target=sample, args=(soak, cloud, authority)))
            for thread in threads:
                thread.start()
            end = time.monotonic() + 60 * config.minutes
            try:
                while time.monotonic() < end:
                    order(soak, to_cloud, to_authority)
                    time.sleep(config.pause)
            finally:
                soak.over.set()
                for thread in threads:
                    thread.join()
        with open_store(root / "store") as store:
            health = verify_store(store)
        logs = "".join((root / f"{side}.log").read_text() for side in ("cloud", "authority"))
    report = {
        "errors": soak.counts["errors"],
        "error_texts": sorted(set(soak.faults))[:10],
        "logged_errors": sum('"level": "error"' in line for line in logs.splitlines()),
        "counts": dict(sorted(soak.counts.items())),
        "unauthorised_tried": soak.counts["unauthorised_tried"],
        "unauthorised_refused": soak.counts["unauthorised_refused"],
        "p50_s": round(float(np.quantile(soak.latencies, 0.5)), 3),
        "p95_s": round(float(np.quantile(soak.latencies, 0.95)), 3),
        "store": {"segments": health.segments, "images": health.images, "withdrawn": health.gone},
        "samples": len(soak.samples), **growth(soak.samples),
    }  # fmt: skip
    return finish(run, report)


def publish(soak: Soak, to_cloud: client.Link, to_authority: client.Link) -> None:
    numbers = np.random.default_rng(soak.named)
    names = [str(soak.named + place) for place in range(soak.config.segment)]
    codes = numbers.random((len(names), soak.config.bits)) > 0.5
    soak.named += len(names)
    send_segment(soak, dict(zip(names, codes, strict=True)), [PICTURE] * len(names), to_cloud, to_authority)
    soak.codes |= dict(zip(names, codes, strict=True))
    soak.counts["publications"] += 1


def send_segment(soak: Soak, codes: dict, pictures: list, to_cloud: client.Link, to_authority: client.Link) -> None:
    own, publication, catalog = owner.publish(
        soak.own, np.stack(list(codes.values())), pictures, list(codes), schemes=SCHEMES, cipher="aes-gcm",
        draw=secrets.token_bytes,
    )  # fmt: skip
    client.send_order(to_cloud, publication)
    client.send_order(to_authority, catalog)
    soak.own = own


def admit(soak: Soak) -> Any:
    keys = user.make_keys(draw=secrets.token_bytes)
    _, admission = owner.admit(soak.own, user.enroll(keys), now=int(time.time()), draw=secrets.token_bytes)
    return user.join(keys, admission, owner_key=soak.own.card.owner_key)


def admit_all(soak: Soak) -> None:
    # The last two are the intruder, whose grant is revoked, and the one that repeats itself.
    soak.people = [admit(soak) for _ in range(soak.config.users + 2)]


def order(soak: Soak, to_cloud: client.Link, to_authority: client.Link) -> None:
    """One order of the owner: publish and withdraw in turn, with compaction and revocations; or a new epoch."""
    try:
        if soak.own.segments >= soak.config.segments:
            turn(soak, to_cloud, to_authority)
            return
        publish(soak, to_cloud, to_authority)
        oldest = list(soak.codes)[: len(soak.codes) - soak.config.images]
        if oldest:
            soak.own, withdrawal = owner.withdraw(soak.own, oldest)
            client.send_order(to_authority, withdrawal)
            client.send_order(to_cloud, withdrawal)
            for name in oldest:
                del soak.codes[name]
            soak.counts["withdrawn"] += len(oldest)
        grant = soak.people[-2].grant.grant_id
        soak.own, revocation = owner.revoke(soak.own, [grant])
        client.send_order(to_cloud, revocation)
        client.send_order(to_authority, revocation)
        soak.told = frozenset(soak.own.revoked)
        soak.counts["revocations"] += 1
        with contextlib.suppress(BlockingIOError), open_store(soak.root / "store", write=True) as store:
            compact_store(store)
            soak.counts["compactions"] += 1
    except (ValueError, OSError) as error:
        soak.fault("order", error)


def turn(soak: Soak, to_cloud: client.Link, to_authority: client.Link) -> None:
    names = {owner.pseudonym(soak.own, name): name for name in soak.codes}
    left, parts = list(names), []
    while left:
        message = owner.recall(soak.own, left[:500], now=int(time.time()), draw=secrets.token_bytes)
        images = client.recall(to_cloud, message).images
        parts.append(([names[image.image_id] for image in images], owner.unseal(soak.own, images)))
        left = left[len(images) :]
    following = owner.rekey(soak.own, draw=secrets.token_bytes)
    succession, appointment = announce(following)
    soak.own = following
    client.send_order(to_cloud, succession)
    client.send_order(to_authority, appointment)
    for part, pictures in parts:
        if any(picture != PICTURE for picture in pictures):
            raise ValueError("recalled: another picture than was published")
        send_segment(soak, {name: soak.codes[name] for name in part}, pictures, to_cloud, to_authority)
    admit_all(soak)
    soak.counts["epochs"] += 1


def query(soak: Soak, cloud: Running, place: int) -> None:
    """One user: queries without pause, each answer opened and looked at."""
    numbers = np.random.default_rng(place)
    with client.connect(cloud.url, timeout=300.0) as link:
        while not soak.over.is_set():
            me, code = soak.people[place], numbers.random((1, soak.config.bits)) > 0.5
            scheme = SCHEMES[int(numbers.integers(len(SCHEMES)))]
            state, message = user.ask(
                me, code, top=soak.config.top, now=int(time.time()), scheme=scheme, draw=secrets.token_bytes
            )
            begun = time.perf_counter()
            try:
                _, (row,) = user.receive(state, client.search(link, message))
            except RefusalError as error:
                # An epoch that ends, ends the grants of its users.
                ended = error.code == "revoked-grant" and me.card.epoch < soak.own.card.epoch
                if not ended and error.code not in EXPECTED:
                    soak.fault("query", error)
                soak.counts[f"passing_{error.code.replace('-', '_')}"] += 1
                time.sleep(1.0)
                continue
            except (ValueError, OSError) as error:
                soak.fault("query", error)
                continue
            soak.latencies.append(time.perf_counter() - begun)
            soak.counts["queries"] += 1
            distances = [match.distance for match in row]
            opened = all(match.photograph == PICTURE for match in row)
            if len(row) != soak.config.top or distances != sorted(distances) or not opened:
                soak.fault("query", ValueError(f"a wrong answer: {distances}"))


def intrude(soak: Soak, cloud: Running) -> None:
    """A user whose grant is revoked goes on asking."""
    with client.connect(cloud.url, timeout=300.0) as link:
        while not soak.over.is_set():
            me = soak.people[-2]
            if me.grant.grant_id in soak.told:
                _, message = user.ask(
                    me, np.zeros((1, soak.config.bits), bool), top=1, now=int(time.time()), scheme=SCHEMES[0],
                    draw=secrets.token_bytes,
                )  # fmt: skip
                expect_refusal(soak, link, message, "revoked-grant")
            time.sleep(0.2)


def repeat(soak: Soak, cloud: Running) -> None:
    """A query that was answered is sent again."""
    with client.connect(cloud.url, timeout=300.0) as link:
        while not soak.over.is_set():
            _, message = user.ask(
                soak.people[-1], np.ones((1, soak.config.bits), bool), top=1, now=int(time.time()), scheme=SCHEMES[0],
                draw=secrets.token_bytes,
            )  # fmt: skip
            with contextlib.suppress(RefusalError):
                client.search(link, message)
                expect_refusal(soak, link, message, "replayed-query")
            time.sleep(0.5)


def expect_refusal(soak: Soak, link: client.Link, message: Any, code: str) -> None:
    try:
        client.search(link, message)
    except RefusalError as error:
        # The new epoch is another good reason.
        if error.code in (code, "revoked-grant"):
            soak.counts["unauthorised_tried"] += 1
            soak.counts["unauthorised_refused"] += 1
        elif error.code not in EXPECTED:
            soak.fault("intruder", error)
        return
    except OSError as error:
        soak.fault("intruder", error)
        return
    soak.counts["unauthorised_tried"] += 1
    soak.fault("intruder", ValueError(f"answered where {code} was due"))


def sample(soak: Soak, cloud: Running, authority: Running) -> None:
    """Every two seconds: memory, descriptors and threads of each service and of its workers."""
    while not soak.over.wait(2.0):
        entry: dict[str, Any] = {}
        # A worker may end between two looks.
        with contextlib.suppress(OSError):
            for side, running in (("cloud", cloud), ("authority", authority)):
                first, *workers = family(running.process)
                entry |= {f"{side}_rss_mb": memory(first), f"{side}_files": len(os.listdir(f"/proc/{first}/fd"))}
                entry |= {f"{side}_threads": len(os.listdir(f"/proc/{first}/task"))}
                entry |= {f"{side}_workers_rss_mb": sum(map(memory, workers)), f"{side}_workers": len(workers)}
            soak.samples.append(entry)


def memory(process: int) -> float:
    lines = pathlib.Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def growth(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the first and the last third of the time, their ratio, and the peak."""
    third, found = max(1, len(samples) // 3), {}
    for name in samples[0]:
        values = [entry[name] for entry in samples]
        first, last = (float(np.median(part)) for part in (values[:third], values[-third:]))
        found[name] = {
            "first_third": round(first, 1), "last_third": round(last, 1), "ratio": round(last / first, 3),
            "peak": round(float(max(values)), 1),
        }  # fmt: skip
    return {"growth": found}


if __name__ == "__main__":
    main(command_line(SCALES))
