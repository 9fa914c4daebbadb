"""Hostile bodies at real services: refused, while the process stays within twice its budget and answers /health."""

import json
import threading
import time

import httpx
import pytest
from test_service_sockets import Process, write_certificate

from jcbir.protocol import wire
from jcbir.protocol.messages import Catalog, Query, ScoreReport, Withdrawal

MEBI = 1 << 20
BUDGET = 48 * MEBI
LIMIT = 12 * MEBI
EACH = 6


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    write_certificate(root)
    limits = {"body_budget": BUDGET, "report_bytes": LIMIT, "order_bytes": LIMIT, "client_rate": [0.0, 0.0]}
    process = Process("authority", root, limits=json.dumps(limits))
    try:
        process.wait(root)
        yield process, str(root / "cert.pem")
    finally:
        process.end()


def frame(kind, body):
    """A body whose length and checksum are right, whatever stands in it."""
    head = wire.HEADER.pack(wire.MAGIC, wire.VERSION, wire.MESSAGES[kind][0], 0, len(body))
    return head + body + wire._checksum(head, body)


def lists_of_lists():
    """Empty lists, one byte each on the way and 64 in memory: what a reader without a schema builds first."""
    inner = b"\xdc\xff\xff" + b"\x90" * 0xFFFF
    count = LIMIT // len(inner) - 1
    return b"\xdc" + count.to_bytes(2) + inner * count


def names(kind):
    """An order that fits its schema as long as it can: empty texts are refused, the shortest are not."""
    place = b"\xa6photos\x00\x00"
    some = b"\xdc\xff\xff" + b"\xa1a" * 0xFFFF
    rest = b"\xdc\xff\xff" + (b"\xc4\x20" + bytes(32)) * 0xFFFF if kind is Catalog else b""
    return (b"\x96" if kind is Catalog else b"\x95") + place + some + rest + b"\xc4\x40" + bytes(64)


def scores():
    """A report of rows without end, after a request that no grant backs."""
    layout = b"\x97\xa9bitsliced\x10\x01\x64\x02\x01\x01"
    each = b"\x94" + layout + b"\xd9\x40" + b"0" * 64 + b"\x93\x00\x01\xc4\x00\xc0"
    row = b"\xdc\xff\xff" + each * 0xFFFF
    return b"\x95\xc0\x90\x90\xc4\x40" + bytes(64) + b"\x91" + row


def kibibytes(process, field):
    with open(f"/proc/{process.process.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


@pytest.mark.parametrize(
    ("kind", "path", "body"),
    [
        (ScoreReport, "/v1/reports", lists_of_lists),
        (ScoreReport, "/v1/reports", scores),
        (Withdrawal, "/v1/withdrawals", lists_of_lists),
        (Withdrawal, "/v1/withdrawals", lambda: names(Withdrawal)),
        (Catalog, "/v1/catalogs", lambda: names(Catalog)),
        (Query, "/v1/reports", lists_of_lists),
    ],
)
def test_memory_is_bounded_whatever_is_sent(authority, kind, path, body):
    process, certificate = authority
    content, answers, healthy, stop = frame(kind, body()), [], [], threading.Event()

    def client():
        return httpx.Client(base_url=process.url, verify=certificate, timeout=60, trust_env=False)

    def attack():
        with client() as link:
            try:
                answers.append(link.post(path, content=content).status_code)
            except httpx.WriteError:
                # Refused and closed before all of it was sent.
                answers.append(0)

    def watch():
        with client() as link:
            while not stop.is_set():
                started = time.monotonic()
                assert link.get("/health").json()["ok"]
                healthy.append(time.monotonic() - started)

    with client() as link:
        link.get("/health")
    before = kibibytes(process, "VmRSS")
    threads = [threading.Thread(target=attack) for _ in range(EACH)]
    watcher = threading.Thread(target=watch)
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    watcher.join()
    assert len(answers) == EACH and set(answers) <= {0, 403, 404, 409, 413, 422, 503}
    assert healthy
    grown = kibibytes(process, "VmHWM") - before
    print(f"{path} {kind.__name__} {len(content)} bytes: +{grown >> 10} MiB, /health at most {max(healthy):.3f} s")
    assert grown < 2 * BUDGET >> 10
