"""The parts of the services, each by itself: limits, numbers, splits, blinders, workers."""

import asyncio
import contextlib
import dataclasses
import errno
import secrets
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import msgpack
import numpy as np
import pytest
from hypothesis import given, strategies as st
from paillier_vectors import stored_key
from protocol_world import NOW, make_world
from starlette.exceptions import HTTPException

from jcbir.errors import FormatError
from jcbir.paillier import _engines as engines, batch_slices, secret
from jcbir.protocol import owner, server, user, wire
from jcbir.protocol.messages import Publication, Query, Refusal
from jcbir.protocol.refusals import REFUSALS, OverBudgetError, ReplayedQueryError
from jcbir.protocol.server import Segment
from jcbir.ranking import KEY_KINDS
from jcbir.ranking._scheme import Index, Shapes
from jcbir.service import (
    _decrypting,
    _http as exchange,
    _scoring,
    authority as authority_service,
    client,
    cloud as cloud_service,
    serving,
)
from jcbir.service._authority_client import is_up
from jcbir.service._http import Buckets, DeclinedError, Rate, Work
from jcbir.service._pool import _SIZE, Pool
from jcbir.service._scoring import (
    RUN_ROWS,
    Pace,
    find_runs,
    make_blinders,
    measure,
    predict,
    split_query,
    split_segments,
)
from jcbir.service._scoring_pool import BlinderPool, ScoringPool
from jcbir.service._telemetry import BOUNDS, Telemetry
from jcbir.service.authority import AuthoritySettings
from jcbir.service.cloud import Recent
from jcbir.storage._database import transaction, write_meta
from jcbir.storage._journal import open_journal


@given(
    times=st.lists(st.floats(0, 100), min_size=1, max_size=60).map(sorted),
    rate=st.floats(0.1, 5),
    burst=st.floats(1, 10),
)
def test_a_bucket_lets_no_more_through(times, rate, burst):
    buckets = Buckets(Rate(rate, burst))
    passed = [time for time in times if buckets.spend("a", time) == 0]
    for i, first in enumerate(passed):
        for j in range(i, len(passed)):
            assert j - i + 1 <= burst + rate * (passed[j] - first) + 1e-6
    # A wait that was kept lets the next one through.
    wait = buckets.spend("a", times[-1])
    assert wait == 0 or buckets.spend("a", times[-1] + wait + 1e-6) == 0


def test_buckets_are_bounded_and_apart():
    buckets = Buckets(Rate(0.001, 1.0), most=2)
    assert [buckets.spend(name, 0.0) for name in "ab"] == [0, 0]
    assert buckets.spend("a", 0.0) > 0
    assert buckets.spend("c", 0.0) == 0
    assert buckets.spend("b", 0.0) == 0, "the one not used longest is forgotten"


@given(blocks=st.lists(st.floats(1, 50), min_size=1, max_size=30), parts=st.integers(1, 8))
def test_split_covers_in_order(blocks, parts):
    spans = split_segments(blocks, parts)
    assert [position for span in spans for position in span] == list(range(len(blocks)))
    assert all(len(span) for span in spans) and len(spans) == min(parts, len(blocks))
    assert max(sum(blocks[i] for i in span) for span in spans) <= sum(blocks) / parts + 2 * max(blocks) + 1e-9


def shape(rows, blinders):
    return Shapes((rows, 64), (1, 64), (blinders, 64), blinders)


@given(
    sizes=st.lists(st.builds(shape, st.integers(1, 500), st.integers(1, 50)), min_size=1, max_size=12),
    trapdoors=st.integers(1, 40),
    workers=st.integers(1, 6),
    seconds=st.floats(0.01, 100),
)
def test_parts_cover_a_query_and_none_is_long(sizes, trapdoors, workers, seconds):
    pace = Pace(blinder=0.01, product=0.001)
    costs = predict(sizes, pace)
    rows = [Segment(0, {"any": Index(None, "", np.empty((size.index[0], 1), np.uint8))}, ()) for size in sizes]
    runs = find_runs(rows)
    assert [place for run in runs for place in run] == list(range(len(sizes)))
    held = [sum(sizes[place].index[0] for place in run) for run in runs]
    assert all(count >= RUN_ROWS for count in held[:-1])
    parts = split_query(sizes, trapdoors, pace, workers=workers, seconds=seconds, runs=runs)
    done = [(t, s) for part in parts for t in part.trapdoors for s in part.segments]
    assert sorted(done) == [(t, s) for t in range(trapdoors) for s in range(len(sizes))]
    for part in parts:
        assert part.blinders == len(part.trapdoors) * sum(sizes[s].blinders for s in part.segments)
        cost = sum(costs[s] for s in part.segments)
        assert part.seconds == pytest.approx(len(part.trapdoors) * cost)
        # A half trapdoor more by rounding, or more runs than their mean by one.
        longest = max(sum(costs[place] for place in run) for run in runs)
        assert part.seconds <= 1.5 * seconds + 2 * longest or len(part.trapdoors) == 1


def test_work_at_hand_is_bounded():
    work = Work(10.0)
    with pytest.raises(DeclinedError) as error, work.hold(10.5):
        pass
    assert (error.value.status, error.value.refusal.code) == (413, "too-much")
    with work.hold(6.0):
        with pytest.raises(DeclinedError) as error, work.hold(5.0):
            pass
        assert (error.value.status, error.value.refusal.code, error.value.retry_after) == (429, "busy", 1.0)
        with work.hold(4.0):
            assert work.used == 10.0
    assert work.used == 0.0


@pytest.mark.parametrize("error", [RuntimeError, DeclinedError(422, "malformed", "no scores"), asyncio.CancelledError])
def test_work_that_fails_is_no_longer_at_hand(error):
    work = Work(10.0)
    for _ in range(3):
        with contextlib.suppress(BaseException), work.hold(6.0):
            raise error
        assert work.used == 0.0


@given(
    answers=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), min_size=1, max_size=15),
    seconds=st.integers(0, 60),
    limit=st.integers(0, 120),
)
def test_what_can_be_audited_is_recent_and_fits(answers, seconds, limit):
    """The latest answers that fit together, each for so many seconds."""
    recent, times, now = Recent(float(seconds), limit), [], 0.0

    def findable(number, now):
        with contextlib.suppress(DeclinedError):
            return recent.find(bytes([number]), now).query.request.nonce == bytes([number])
        return False

    for number, (pause, size) in enumerate(answers):
        now += pause
        times.append(now)
        query = SimpleNamespace(request=SimpleNamespace(nonce=bytes([number])))
        rows = np.zeros(size // 2, np.uint8), np.zeros(size - size // 2, np.uint8)
        recent.keep(cloud_service.Scored(None, query, *rows), now)  # type: ignore[arg-type]
        fit = [first for first in range(number + 2) if sum(size for _, size in answers[first : number + 1]) <= limit]
        for later in (0, seconds, seconds + 1):
            wanted = [i for i in range(fit[0], number + 1) if now + later <= times[i] + seconds]
            assert [i for i in range(number + 1) if findable(i, now + later)] == wanted


def test_pace_is_measured():
    pace, arrays = measure(stored_key("small").public)
    assert pace.product > 0 and pace.blinder > 0 and not arrays


@pytest.mark.parametrize(
    ("name", "count", "arrays"),
    [("small", 3, False), ("small", 20, False), ("small-subgroup", 3, False), ("small-subgroup", 64, True)],
)
def test_blinders_are_fresh_encryptions_of_zero(name, count, arrays):
    key = stored_key(name)
    pairs = make_blinders(key.public, count, arrays=arrays)
    rows, randomness = np.split(pairs, [key.public.ciphertext_bytes], axis=1)
    np.testing.assert_array_equal(KEY_KINDS["paillier"].blind(key.public, randomness, engine="python"), rows)
    assert not secret.decrypt(key, rows, engine="python").any()
    assert len({row.tobytes() for row in rows}) == count


def test_a_slow_key_is_worth_compiling_for(monkeypatch):
    key, asked = stored_key("small"), []
    monkeypatch.setattr(_decrypting, "decrypt", lambda secret, rows, engine: asked.append((len(rows), engine)))
    numbers = engines.choose_engine("auto", count=1)
    assert _decrypting._settle_engine(key, "auto")[:2] == (numbers, 16)
    monkeypatch.setattr(_decrypting, "SLOW_SECONDS", 0.0)
    assert _decrypting._settle_engine(key, "python")[:2] == ("python", 16)
    assert "jax" not in {engine for _, engine in asked}
    name, least, _ = _decrypting._settle_engine(key, "auto")
    # From so many rows on that engine takes arrays, of sizes that are compiled by now.
    assert (name, engines.choose_engine(name, count=least)) == ("auto", "jax")
    assert {size for _, size in batch_slices(1000)} <= {count for count, engine in asked if engine == "jax"}


def test_blinder_pool_hands_out_each_row_once():
    made = []

    async def make(count):
        rows = [secrets.token_bytes(8) for _ in range(count)]
        made.extend(rows)
        return b"".join(rows)

    async def run():
        pool = BlinderPool(make, width=8, target=40, idle=lambda: True)
        task = asyncio.create_task(pool.keep_filling())
        given_out = []
        while len(given_out) < 200:
            rows = pool.take(7)
            given_out += [rows[i : i + 8] for i in range(0, len(rows), 8)]
            assert pool.count <= 40
            await asyncio.sleep(0)
        task.cancel()
        return given_out

    rows = asyncio.run(run())
    assert len(set(rows)) == len(rows) and set(rows) <= set(made)


@given(stock=st.integers(0, 12), takes=st.lists(st.integers(0, 9), max_size=6))
def test_a_take_is_as_many_rows_as_asked_or_all_that_are_left(stock, takes):
    made = []

    async def make(count):
        made.extend(secrets.token_bytes(8) for _ in range(count))
        return b"".join(made[-count:])

    async def run():
        pool = BlinderPool(make, width=8, target=stock, idle=lambda: True)
        task = asyncio.create_task(pool.keep_filling())
        while pool.count < stock:
            await asyncio.sleep(0)
        task.cancel()
        left, given_out = stock, b""
        for count in takes:
            rows = pool.take(count)
            assert len(rows) == 8 * min(count, left)
            left, given_out = left - len(rows) // 8, given_out + rows
            assert pool.count == left
        rows = [given_out[i : i + 8] for i in range(0, len(given_out), 8)]
        assert len(set(rows)) == len(rows) and set(rows) <= set(made)

    asyncio.run(run())


@pytest.mark.parametrize("scheme", ["packed", "bitsliced", "integer"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_parts_of_a_query_are_the_whole(monkeypatch, scheme, count):
    """Each row stands where its block does, beside the randomness it is blinded with, which is never used twice."""
    monkeypatch.setattr(_scoring, "RUN_ROWS", 1)
    world, jobs = make_world(), []
    card, public = world.own.card, world.own.card.public.key
    segments = tuple(
        server.prepare_segment(card, each.segment, each.indexes, (), tables=False)
        for each in (line.message for line in world.transcript)
        if isinstance(each, Publication)
    )
    state = dataclasses.replace(world.cloud, segments=segments)
    query = user.ask(world.me, world.codes[:3], top=1, now=NOW, scheme=scheme, draw=secrets.token_bytes)[1]

    class Workers:
        def __init__(self):
            self.count = count

        async def run(self, job):
            jobs.append(msgpack.unpackb(job))
            match jobs[-1]:
                case ["blind", size]:
                    return make_blinders(public, size).tobytes()
                case ["score", body, numbers, blinders]:
                    fresh = np.frombuffer(blinders, np.uint8).reshape(-1, public.ciphertext_bytes)
                    part = wire.from_bytes(body, expect=Query)
                    return server.score_share(state, part, segments=numbers, blinders=fresh).tobytes()

    async def run():
        width = make_blinders(public, 1).shape[1]
        blinders = BlinderPool(no_blinders, width=width, target=0, idle=lambda: False)
        pool = ScoringPool(card, Workers(), Pace(1.0, 1.0), blinders, Telemetry("x"))
        return await pool.score(state, query)

    async def no_blinders(count):
        raise AssertionError("made ahead")

    rows, randomness = asyncio.run(run())
    assert len([job for job in jobs if job[0] == "score"]) >= count
    assert len({row.tobytes() for row in randomness}) == len(randomness)
    fresh = KEY_KINDS["paillier"].blind(public, randomness, engine="python")
    whole = server.score_share(state, query, segments=[segment.number for segment in segments], blinders=fresh)
    np.testing.assert_array_equal(rows, whole)


def test_blinder_pool_waits_while_queries_do():
    async def run():
        async def make(count):
            raise ValueError("made a blinder although a query waits")

        pool = BlinderPool(make, width=8, target=40, idle=lambda: False)
        task = asyncio.create_task(pool.keep_filling())
        await asyncio.sleep(0.1)
        assert not task.done()
        task.cancel()

    asyncio.run(run())


def test_prometheus_text():
    telemetry = Telemetry("x")
    telemetry.count("requests_total", route="/v1")
    telemetry.count("requests_total", amount=2, route="/v1")
    for seconds in (0.001, 0.3, 100.0):
        telemetry.observe("score_duration_seconds", seconds)
    telemetry.gauge("images", lambda: 2.5)
    telemetry.gauge("worker_deaths_total", lambda: 1)
    lines = telemetry.text().splitlines()
    assert 'x_requests_total{route="/v1"} 3' in lines and "x_images 2.5" in lines
    times = [line.removeprefix("x_score_duration_seconds_") for line in lines if "_seconds_" in line]
    assert {'bucket{le="0.005"} 1', 'bucket{le="0.5"} 2', 'bucket{le="60.0"} 2'} <= set(times)
    assert {'bucket{le="+Inf"} 3', "count 3"} <= set(times)
    assert [line for line in lines if line.startswith("# TYPE")] == [
        "# TYPE x_requests_total counter", "# TYPE x_score_duration_seconds histogram", "# TYPE x_images gauge",
        "# TYPE x_worker_deaths_total counter", "# TYPE x_build_info gauge",
    ]  # fmt: skip
    # Each has a sentence, and none is said twice.
    helped = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert helped == [line.split()[2] for line in lines if line.startswith("# TYPE")] and len(helped) == len({*helped})


@given(st.lists(st.sampled_from(BOUNDS) | st.floats(0, 100), min_size=1, max_size=20))
def test_a_bucket_counts_what_is_at_most_its_bound(seconds):
    telemetry = Telemetry("x")
    for each in seconds:
        telemetry.observe("score_duration_seconds", each)
    lines = telemetry.text().splitlines()
    for bound in BOUNDS:
        count = sum(each <= bound for each in seconds)
        assert f'x_score_duration_seconds_bucket{{le="{bound}"}} {count}' in lines


def test_every_refusal_has_a_status_and_comes_back_as_itself():
    for error in REFUSALS:
        reply = exchange.refuse(error("because"))
        assert 400 <= reply.status < 500 or reply.status == 503
        again = client._rebuild_error(wire.from_bytes(reply.body, expect=Refusal))
        assert type(again) is error and str(again) == "because"
    assert isinstance(client._rebuild_error(Refusal("malformed", "x")), FormatError)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOENT, errno.EACCES, errno.EIO, errno.EROFS, errno.EAGAIN])
def test_what_the_system_says_stays_inside(number):
    reply = exchange.refuse(OSError(number, "a secret detail", "/home/x"))
    assert reply.status == (507 if number == errno.ENOSPC else 503)
    assert b"secret" not in reply.body and b"/home" not in reply.body


@pytest.mark.parametrize("error", [RuntimeError, KeyError, TypeError, ChildProcessError, ZeroDivisionError])
def test_what_a_defect_says_stays_inside(error):
    reply = exchange.refuse(error("a secret detail"))
    assert reply.status == 500 and b"secret" not in reply.body


@pytest.mark.parametrize(("ok", "status"), [(True, 200), (False, 503)])
def test_health_is_the_status_as_well(ok, status):
    """What looks at a service looks at the status alone."""

    @contextlib.asynccontextmanager
    async def live(app):
        yield

    app = exchange.build_app(
        {}, {}, telemetry=Telemetry("x"), lifespan=live, health=lambda: {"ok": ok, "service": "x"}, send_seconds=1.0
    )

    async def look():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as asking:
            return await asking.get("/health"), await asking.get("/live")

    health, alive = asyncio.run(look())
    assert (health.status_code, health.json()["ok"], alive.status_code) == (status, ok, 200)


def test_a_job_that_ends_workers_is_given_up(tmp_path):
    async def run():
        async with Pool("service_workers", b"", count=2, job_seconds=5.0) as pool:
            with pytest.raises(ChildProcessError, match="3 workers"):
                await pool.run(b"die")
            assert await pool.run(b"5") == b"25" and pool.deaths == 3
            with pytest.raises(FormatError, match="no number"):
                await pool.run(b"no number")
            answers = await asyncio.gather(*(pool.run(str(i).encode()) for i in range(30)))
            assert answers == [str(i * i).encode() for i in range(30)]
        with pytest.raises(ChildProcessError):
            await pool.run(b"5")

    asyncio.run(run())


def test_a_worker_that_hangs_is_replaced():
    async def run():
        async with Pool("service_workers", b"", count=1, job_seconds=0.3) as pool:
            with pytest.raises(ChildProcessError):
                await pool.run(b"hang")
            assert pool.deaths == 3

    asyncio.run(run())


def test_a_worker_that_cannot_start():
    async def run():
        async with Pool("service_workers", b"bad", count=2, job_seconds=5.0):
            raise RuntimeError("started")

    with pytest.raises(ValueError, match="bad hello"):
        asyncio.run(run())


def test_a_caller_that_goes_away_leaves_the_pool_in_step():
    async def run():
        async with Pool("service_workers", b"", count=1, job_seconds=5.0) as pool:
            gone = asyncio.create_task(pool.run(b"slow"))
            await asyncio.sleep(0.1)
            gone.cancel()
            assert await pool.run(b"7") == b"49" and pool.deaths == 0

    asyncio.run(run())


class Scripted(httpx.BaseTransport):
    """Answers a client from a list."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def handle_request(self, request):
        self.asked.append((request.method, request.url.path))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def busy(seconds="0"):
    body = wire.to_bytes(Refusal("busy", "come back"))
    return httpx.Response(429, content=body, headers={"retry-after": seconds})


def linked(*answers, timeout=5.0, most=1 << 20):
    transport = Scripted(*answers)
    return client.Link(
        "http://cloud", httpx.Client(transport=transport, base_url="http://cloud"), timeout, most
    ), transport


def test_client_comes_back_when_told():
    card = make_world().own.card
    link, transport = linked(
        busy(), httpx.Response(503, content=b"busy"), httpx.Response(200, content=wire.to_bytes(card))
    )
    assert client.fetch_card(link) == card and len(transport.asked) == 3
    link, _ = linked(busy("30"), timeout=1.0)
    with pytest.raises(client.BusyError, match=r"http://cloud.*come back"):
        client.fetch_card(link)
    link, _ = linked(httpx.ConnectError("refused"))
    with pytest.raises(client.UnreachableError, match="http://cloud"):
        client.fetch_card(link)
    link, _ = linked(httpx.Response(200, content=bytes(100)), most=50)
    with pytest.raises(FormatError, match="more than 50"):
        client.fetch_card(link)
    link, _ = linked(httpx.Response(409, content=exchange.refuse(ReplayedQueryError("x")).body))
    with pytest.raises(ReplayedQueryError):
        client.fetch_card(link)
    link, _ = linked(httpx.Response(404, content=b"<html>not found</html>"))
    with pytest.raises(client.DeclinedRequestError, match="404"):
        client.fetch_card(link)


def test_a_spent_budget_is_not_waited_for():
    body = wire.to_bytes(Refusal("over-budget", "3 of 3 were answered today", 7000))
    link, transport = linked(httpx.Response(429, content=body, headers={"retry-after": "7000"}))
    with pytest.raises(OverBudgetError, match="today") as error:
        client.fetch_card(link)
    assert error.value.retry_after == 7000 and len(transport.asked) == 1


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:80", "http://cloud.example", "http://localhost.example", "ftp://127.0.0.1"]
)
def test_plain_http_only_to_this_machine(url):
    with pytest.raises(ValueError, match="url: must be https"), client.connect(url):
        pass
    if url.startswith("http:"):
        with pytest.warns(UserWarning, match="plain http"), client.connect(url, insecure_http=True):
            pass


@pytest.mark.parametrize("seconds", [0.0, -5.0, float("nan"), float("inf"), 1e10])
def test_a_timeout_that_is_none_is_no_fault_of_the_service(seconds):
    with pytest.raises(ValueError, match="timeout: must be above 0"), client.connect("http://[::1]", timeout=seconds):
        pass


@pytest.mark.parametrize("url", ["https://cloud.example", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost"])
def test_https_and_this_machine_need_no_leave(url):
    client.check_url(url)


def test_no_session_key_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    for url in ("https://cloud.example", "http://127.0.0.1:1"):
        context = client.trusted_context(url)
        assert context.keylog_filename is None
        assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname
    assert not list(tmp_path.iterdir())


def test_a_telemetry_without_times_shows_none():
    telemetry = Telemetry("x", times=False)
    telemetry.observe("request_duration_seconds", 0.3)
    telemetry.count("refusals_total")
    assert "seconds" not in telemetry.text() and "x_refusals_total 1" in telemetry.text()


def test_client_sends_orders_only(unchecked):
    link, transport = linked()
    with pytest.raises(ValueError, match="order"):
        client.send_order(link, Refusal("a", "b"))  # type: ignore[arg-type]
    assert not transport.asked


@pytest.mark.parametrize(
    ("health", "said"),
    [
        ({"service": "authority"}, ", which is an authority"),
        ({"service": "cloud"}, ", which is a cloud"),
        ([], ""),
        ({}, ""),
    ],
)
def test_the_address_of_another_service_is_named(health, said):
    def answer(request):
        if request.url.path == "/health":
            return httpx.Response(200, json=health)
        return httpx.Response(404, content=exchange.refuse(HTTPException(404)).body)

    with httpx.Client(base_url="http://here", transport=httpx.MockTransport(answer)) as http:
        link = client.Link("http://here", http, 5.0, 1 << 20)
        with pytest.raises(ValueError, match="url: must be of a service that has /v1/card, got http://here") as error:
            client.fetch_card(link)
    assert str(error.value).endswith(f"http://here{said}") and not hasattr(error.value, "code")


@pytest.mark.parametrize(
    ("status", "content", "up"),
    [
        (200, b'{"ok": true, "service": "authority"}', True),
        (503, b'{"ok": false, "service": "authority"}', False),
        # A cloud that was given its own address, or that of anything else.
        (200, b'{"ok": true, "service": "cloud"}', False),
        (200, b"<html>", False),
        (200, b"[]", False),
    ],
)
def test_an_authority_is_up_when_it_says_so(status, content, up):
    async def ask():
        transport = httpx.MockTransport(lambda request: httpx.Response(status, content=content))
        async with httpx.AsyncClient(base_url="http://there", transport=transport) as http:
            return await is_up(http)

    assert asyncio.run(ask()) is up


def test_tls_needs_both_files():
    with pytest.raises(ValueError, match="certificate: must come with"):
        serving.serve(lambda: None, host="127.0.0.1", port=0, certificate="a.pem")


def test_a_service_may_open_as_many_files_as_the_system_allows():
    probe = """
import resource
from jcbir.service.serving import _allow_files
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
raise SystemExit(0 if _allow_files() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most > 64 else 1)
"""
    assert subprocess.run([sys.executable, "-c", probe]).returncode == 0


def test_a_worker_whose_service_was_killed_ends_without_a_word():
    program = "from jcbir.service._pool import run_worker; run_worker(lambda hello: lambda job: bytes(1 << 20))"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as worker:
        for frame in (b"hello", b"job"):
            worker.stdin.write(_SIZE.pack(len(frame)) + frame)
        worker.stdin.flush()
        worker.stdout.read(1)
        worker.stdout.close()
        assert worker.stderr.read() == b""


@pytest.fixture
def holder(tmp_path):
    """An authority's service without its workers: state, journal and the thread that takes the steps."""
    world = make_world()
    settings = AuthoritySettings(owner.delegate(world.own), world.holder.identity, tmp_path / "journal")
    made = authority_service._Holder(settings, time.time)
    with open_journal(settings.journal, world.own.card) as journal, ThreadPoolExecutor(1) as writer:
        made.journal, made.writer, made.waiting, made.state = journal, writer, deque(), world.holder
        yield made


def take_together(holder, steps):
    """What the steps give that were waiting while another one was taken, and how many commits that took."""
    commits, gate = [], threading.Event()
    holder.journal.set_trace_callback(lambda line: commits.append(line) if line == "COMMIT" else None)

    async def run():
        first = asyncio.create_task(holder._join(gate.wait))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(holder._join(*step)) for step in steps]
        await asyncio.sleep(0.05)
        gate.set()
        await first
        return await asyncio.gather(*others, return_exceptions=True)

    return asyncio.run(run()), len(commits)


def noted(holder):
    return {name for (name,) in holder.journal.execute("SELECT name FROM meta")}


def write_and(holder, name, error=None):
    with transaction(holder.journal):
        write_meta(holder.journal, name, b"")
        holder.state = dataclasses.replace(holder.state, head=holder.state.head + 1)
        if error is not None:
            raise error
    return name


def test_steps_that_wait_are_on_the_disk_in_one_commit(holder):
    refused = ReplayedQueryError("query: was answered before")
    steps = [(write_and, holder, "a"), (write_and, holder, "refused", refused), (write_and, holder, "b")]
    assert take_together(holder, steps) == (["a", refused, "b"], 2)
    assert {"a", "b"} <= noted(holder) and "refused" not in noted(holder)


@pytest.mark.parametrize("suspended", [{}, {bytes(32): bytes(16)}])
def test_what_is_not_on_the_disk_did_not_happen(holder, suspended):
    """But an alarm did, and is on the disk with the next step that can be."""
    before, full = holder.state, sqlite3.OperationalError("database or disk is full")

    def alarm():
        holder.state = dataclasses.replace(holder.state, suspended=suspended)

    found, _ = take_together(holder, [(write_and, holder, "a"), (alarm,), (write_and, holder, "b", full)])
    assert found == [full] * 3
    assert holder.state == dataclasses.replace(before, suspended=suspended)
    assert not {"a", "b"} & noted(holder)
    assert take_together(holder, [(write_and, holder, "c")])[0] == ["c"]
    assert dict(holder.journal.execute("SELECT signing_key, grant_id FROM suspended")) == suspended
