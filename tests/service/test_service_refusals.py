"""Every way to ask either service without the right to: one typed refusal each, and nothing else happens."""

import asyncio
import dataclasses
import secrets
import tracemalloc

import httpx
import pytest
from protocol_world import NOW, make_world, new_user
from service_rig import random_codes, refusal, running

from jcbir.protocol import audit, owner, server, wire
from jcbir.protocol._digests import score_blocks
from jcbir.protocol._signatures import sign
from jcbir.protocol.messages import Delivery, Publication, Query, Ranking, ScoreReport, Withdrawal
from jcbir.service._http import Pace, Rate

DAY = 86400
CODES = random_codes(1)


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


CLOCK = Clock()


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    limits = {"pace": Pace(0.2, 1 << 20)}
    with running(tmp_path_factory.mktemp("pair"), clock=CLOCK, cloud=limits, authority=limits) as pair:
        pair.publish()
        yield pair


def resigned(rig, query, **changes):
    request = dataclasses.replace(query.request, **changes)
    return dataclasses.replace(query, request=sign(request, secret=rig.world.me.keys.signing_secret))


def with_grant(rig, query, **changes):
    """A grant that the owner really signed, other than the user's own."""
    grant = sign(dataclasses.replace(query.request.grant, **changes), secret=rig.world.own.signing_secret)
    return resigned(rig, query, grant=grant)


def report_of(rig, query):
    """What a careless cloud would send: the scores of an honest query under this request."""
    world = rig.world
    _, honest = rig.ask(CODES)
    blinders = owner.blinder_pool(world.own, server.blinders_needed(world.cloud, honest), draw=secrets.token_bytes)
    options = {"blinders": blinders, "identity": world.identity, "now": NOW}
    report = server.score_query(world.cloud, honest, **options)[1]
    return dataclasses.replace(signed_again(rig, report, request=query.request), openings=query.openings)


def signed_again(rig, report, **changes):
    """A report that the cloud really signed, other than it should be."""
    header = sign(dataclasses.replace(report, openings=b"", scores=(), **changes), secret=rig.world.identity.secret)
    return dataclasses.replace(header, openings=report.openings, scores=report.scores)


def with_scores(rig, report, scores):
    signed = signed_again(rig, report, blocks=score_blocks(scores))
    return dataclasses.replace(signed, scores=scores)


CASES = {
    "forged-grant": lambda rig, q: resigned(rig, q, grant=dataclasses.replace(q.request.grant, max_results=10**6)),
    "expired-grant": lambda rig, q: with_grant(rig, q, issued=NOW - 2 * DAY, expires=NOW - DAY),
    "revoked-grant": lambda rig, q: with_grant(rig, q, epoch=1),
    "foreign-collection": lambda rig, q: with_grant(rig, q, collection="others"),
    "stale-query": lambda rig, q: resigned(rig, q, issued=NOW - 301),
    "missing-right": lambda rig, q: resigned(rig, q, top=10**6),
    "tampered-query": lambda rig, q: dataclasses.replace(q, request=dataclasses.replace(q.request, top=4)),
}
STATUS = {"foreign-collection": 404, "stale-query": 409, "replayed-query": 409}


@pytest.mark.parametrize("code", CASES)
def test_each_refusal_at_both_services(rig, code):
    query = CASES[code](rig, rig.ask(CODES)[1])
    for side, message, path in (
        ("cloud", query, "/v1/queries"),
        ("authority", report_of(rig, query), "/v1/reports"),
    ):
        answer = rig.post(side, message, path)
        assert (answer.status_code, refusal(answer).code) == (STATUS.get(code, 403), code)


def test_replay_at_both_services(rig):
    _, query = rig.ask(CODES)
    assert rig.post("cloud", query).status_code == 200
    answer = rig.post("cloud", query)
    assert (answer.status_code, refusal(answer).code) == (409, "replayed-query")
    answer = rig.post("authority", report_of(rig, query), "/v1/reports")
    assert (answer.status_code, refusal(answer).code) == (409, "replayed-query")


def test_replays_at_the_same_moment(rig):
    _, query = rig.ask(CODES)
    body = wire.to_bytes(query)

    async def twice():
        return await asyncio.gather(*(rig.send_later("cloud", "POST", "/v1/queries", body) for _ in range(6)))

    answers = rig.do(twice())
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5


def test_other_trapdoors_than_signed(rig):
    _, query = rig.ask(CODES)
    _, other = rig.ask(~CODES)
    answer = rig.post("cloud", dataclasses.replace(query, trapdoors=other.trapdoors))
    assert (answer.status_code, refusal(answer).code) == (403, "tampered-query")


def test_orders_of_somebody_else(rig):
    thief = secrets.token_bytes(32)
    own, publication, catalog = owner.publish(
        rig.world.own, CODES, [rig.world.images[0]], ["new"], schemes=("bitsliced",), cipher="aes-gcm",
        draw=secrets.token_bytes,
    )  # fmt: skip
    orders = {
        "cloud": [publication, owner.withdraw(own, ["new"])[1], owner.revoke(own, [bytes(16)])[1]],
        "authority": [catalog, owner.withdraw(own, ["new"])[1], owner.revoke(own, [bytes(16)])[1]],
    }
    before = [rig.send(side, "GET", "/health").json() for side in orders]
    for side, messages in orders.items():
        for message in messages:
            answer = rig.post(side, sign(message, secret=thief))
            assert (answer.status_code, refusal(answer).code) == (403, "forged-reply")
    assert [rig.send(side, "GET", "/health").json() for side in orders] == before


def test_a_publication_of_another_key(rig):
    other = make_world(label="another owner")
    message = next(sent.message for sent in other.transcript if isinstance(sent.message, Publication))
    moved = dataclasses.replace(message, segment=2)
    answer = rig.post("cloud", sign(moved, secret=rig.world.own.signing_secret))
    assert (answer.status_code, refusal(answer).code) == (404, "foreign-collection")


def test_report_that_does_not_decrypt(rig):
    report = report_of(rig, rig.ask(CODES)[1])
    (first, *rest), *_ = report.scores
    zeros = first._replace(ciphertexts=first.ciphertexts * 0)
    answer = rig.post("authority", with_scores(rig, report, ((zeros, *rest),)), "/v1/reports")
    assert (answer.status_code, refusal(answer).code) == (422, "malformed")
    assert not any(character.isdigit() for character in refusal(answer).reason)


def test_scheme_that_is_not_offered(rig):
    _, query = rig.ask(CODES)
    answer = rig.post("cloud", resigned(rig, query, scheme="bit-sliced"))
    assert (answer.status_code, refusal(answer).code) == (409, "conflict")


def test_routes_and_methods(rig):
    for side in ("cloud", "authority"):
        for method, path, status in (
            ("GET", "/", 404), ("POST", "/v1/queries/", 404), ("GET", "/v1/withdrawals", 405),
            ("DELETE", "/health", 405), ("POST", "/metrics", 405), ("PUT", "/v1/revocations", 405),
        ):  # fmt: skip
            answer = rig.send(side, method, path)
            assert answer.status_code == status and refusal(answer).code.startswith("no-such")
            # RFC 9110, section 15.5.6: who asks by a wrong method is told the right ones.
            allowed = {"GET", "HEAD"} if path in ("/health", "/metrics") else {"POST"}
            assert status == 404 or set(answer.headers["allow"].split(", ")) == allowed
    assert rig.send("authority", "GET", "/v1/card").status_code == 404
    assert rig.send("cloud", "POST", "/v1/reports").status_code == 404


def test_a_message_of_another_kind(rig):
    _, query = rig.ask(CODES)
    for side, path in (("cloud", "/v1/publications"), ("authority", "/v1/reports"), ("authority", "/v1/revocations")):
        answer = rig.post(side, query, path)
        assert (answer.status_code, refusal(answer).code) == (422, "malformed")
    assert rig.send("cloud", "POST", "/v1/queries").status_code == 422


def stream(rig, side, path, pieces, headers=()):
    """Post a body piece by piece by hand; give status, body and how many pieces were taken."""
    taken, sent = 0, []

    async def receive():
        nonlocal taken
        piece = await anext(pieces, None)
        if piece is None:
            await asyncio.sleep(3600)
        taken += 1
        return {"type": "http.request", "body": piece, "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": list(headers), "client": ("10.0.0.1", 1), "server": ("service", 80), "scheme": "http",
        "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    rig.do(getattr(rig, side)(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent), taken


def head(kind, length):
    number = wire.MESSAGES[kind][0]
    return wire.HEADER.pack(wire.MAGIC, wire.VERSION, number, 0, length) + bytes(wire.CHECK_BYTES)


async def endless(first):
    yield first
    piece = bytes(1 << 20)
    while True:
        yield piece


async def slow(first):
    while True:
        yield first[:1]
        first = first[1:]
        await asyncio.sleep(0.15)


def test_oversize_is_refused_without_being_held(rig):
    tracemalloc.start()
    try:
        status, _, taken = stream(rig, "cloud", "/v1/queries", endless(b""))
        assert (status, taken) == (422, 2)
        status, body, taken = stream(rig, "cloud", "/v1/queries", endless(head(Query, 8 << 20)))
        assert status == 422 and b"at most" in body and taken == 1
        # A header that lies about its length: the limit of the body holds.
        status, body, taken = stream(rig, "cloud", "/v1/withdrawals", endless(head(Withdrawal, 1000)))
        assert status == 413 and taken <= 17
        assert wire.from_bytes(body).code == "too-large"
        # Of a query its request is read first.
        status, _, taken = stream(rig, "cloud", "/v1/queries", endless(head(Query, 1000)))
        assert (status, taken) == (422, 2)
        length = [(b"content-length", b"9" * 30)]
        status, _, taken = stream(rig, "authority", "/v1/reports", endless(head(ScoreReport, 1000)), length)
        assert (status, taken) == (413, 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 << 20
    assert rig.metric("cloud", "jcbir_cloud_body_bytes") == 0


def test_a_slow_body_is_given_up(rig):
    status, body, taken = stream(rig, "cloud", "/v1/queries", slow(head(Query, 1000)))
    assert status == 408 and wire.from_bytes(body).code == "too-slow" and taken < 5
    assert rig.metric("cloud", "jcbir_cloud_body_bytes") == 0
    assert rig.send("cloud", "GET", "/health").json()["pending"] == 0


def test_a_reader_that_stalls_is_given_up(tmp_path, caplog):
    caplog.set_level("INFO")
    with running(tmp_path, cloud={"workers": 1, "send_seconds": 0.2}) as rig:
        sent = []

        async def send(message):
            sent.append(message["type"])
            if message["type"] == "http.response.body":
                await asyncio.sleep(3600)

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {
            "type": "http", "method": "GET", "path": "/v1/card", "raw_path": b"/v1/card", "query_string": b"",
            "headers": [], "client": ("10.0.0.1", 1), "server": ("service", 80), "scheme": "http",
            "http_version": "1.1", "root_path": "",
        }  # fmt: skip
        rig.do(rig.cloud(scope, receive, send))
        assert sent == ["http.response.start", "http.response.body"]
    assert "stalled" in [record.getMessage() for record in caplog.records]


def test_bodies_at_once_are_bounded(tmp_path):
    with running(tmp_path, cloud={"body_budget": 100, "workers": 1}) as rig:
        answer = rig.post("cloud", rig.ask(CODES)[1])
        assert (answer.status_code, refusal(answer).code) == (503, "busy")
        assert rig.metric("cloud", "jcbir_cloud_body_bytes") == 0


def test_rates_and_work_are_limited(tmp_path):
    cloud = {"grant_rate": Rate(0.01, 2.0), "client_rate": Rate(0.01, 12.0), "work_seconds": 0.03, "workers": 1}
    with running(tmp_path, cloud=cloud) as rig:
        rig.publish()
        answers = [rig.post("cloud", rig.ask(CODES)[1]) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert refusal(answers[2]).code == "too-often" and int(answers[2].headers["retry-after"]) > 50
        # Another grant has a bucket of its own; its query is too much work.
        me = new_user(rig.world.own, queries_per_day=10**6)[0]
        answer = rig.post("cloud", rig.ask(random_codes(1000), me=me)[1])
        assert (answer.status_code, refusal(answer).code) == (413, "too-much")
        # The address has spent its twelve in the end.
        codes = [rig.post("cloud", rig.ask(CODES, me=me)[1]).status_code for _ in range(8)]
        assert codes[-1] == 429 and 200 in codes
        # Whoever is not let in cannot spend a grant's tokens.
        assert rig.send("cloud", "GET", "/health").status_code == 200


def test_a_budget_is_kept_over_a_restart(tmp_path):
    world = make_world()
    me = new_user(world.own, queries_per_day=2)[0]
    with running(tmp_path, cloud={"workers": 1}) as rig:
        rig.publish()
        assert rig.search(CODES, me=me)
    with running(tmp_path, cloud={"workers": 1}) as rig:
        assert rig.search(CODES, me=me)
        answer = rig.post("cloud", rig.ask(CODES, me=me)[1])
        assert (answer.status_code, refusal(answer).code) == (429, "over-budget")
        assert 0 < int(answer.headers["retry-after"]) == refusal(answer).retry_after <= DAY
        assert "seconds" not in rig.send("authority", "GET", "/metrics").text


def test_a_replay_does_not_spend_a_rate(tmp_path):
    with running(tmp_path, cloud={"grant_rate": Rate(0.01, 2.0), "workers": 1}) as rig:
        rig.publish()
        query = rig.ask(CODES)[1]
        assert [rig.post("cloud", query).status_code for _ in range(4)] == [200, 409, 409, 409]
        assert rig.post("cloud", rig.ask(CODES)[1]).status_code == 200
        assert rig.post("cloud", rig.ask(CODES)[1]).status_code == 429


def test_images_opened_are_counted_over_a_restart(tmp_path):
    world = make_world()
    me = new_user(world.own, images_per_day=5)[0]
    with running(tmp_path, world=world, cloud={"workers": 1}) as rig:
        rig.publish()
        assert rig.search(world.codes[:1], me=me, top=5)
    with running(tmp_path, world=world, cloud={"workers": 1}) as rig:
        # The nearest to the opposite are others.
        answer = rig.post("cloud", rig.ask(~world.codes[:1], me=me, top=5)[1])
        assert (answer.status_code, refusal(answer).code) == (429, "over-budget")
        assert rig.search(world.codes[:1], me=me, top=5)


def test_what_is_refused_spends_no_rate_of_the_grant(tmp_path):
    """An audit that somebody else asks for at the cloud, and a report that comes again at the authority."""
    slow = {"grant_rate": Rate(0.001, 2.0)}
    with running(tmp_path, cloud={"workers": 1} | slow, authority=slow) as rig:
        rig.publish()
        head = owner.head(rig.world.own, now=NOW)[1]
        assert [rig.post(side, head).status_code for side in ("authority", "cloud")] == [200, 200]
        me, query = rig.ask(CODES, top=1)
        delivery = wire.from_bytes(rig.post("cloud", query).content, expect=Delivery)
        asked = audit.ask_audit(me, query, delivery.ranking, delivery.head, blocks=1, draw=secrets.token_bytes)
        forged = sign(dataclasses.replace(asked, signature=b""), secret=rig.world.own.signing_secret)
        messages = [forged, forged, asked, asked]
        answers = [rig.post("cloud", message, "/v1/audits").status_code for message in messages]
        assert answers == [403, 403, 200, 429]
        reports = [report_of(rig, each) for each in (query, query, rig.ask(CODES)[1], rig.ask(CODES)[1])]
        answers = [rig.post("authority", report, "/v1/reports").status_code for report in reports]
        assert answers == [409, 409, 200, 429]


def test_a_report_that_the_cloud_did_not_sign(rig):
    """Whoever has a grant and the authority's address gets nothing by it."""
    report = report_of(rig, rig.ask(CODES)[1])
    forged = dataclasses.replace(report, openings=b"", scores=())
    signed = sign(forged, secret=rig.world.me.keys.signing_secret)
    forged = dataclasses.replace(signed, openings=report.openings, scores=report.scores)
    (first, *rest), *_ = report.scores
    other = first._replace(ciphertexts=first.ciphertexts[::-1] if len(first.ciphertexts) > 1 else first.ciphertexts ^ 1)
    for message in (forged, dataclasses.replace(report, scores=((other, *rest),))):
        answer = rig.post("authority", message, "/v1/reports")
        assert answer.status_code in (403, 422) and refusal(answer).code in ("forged-reply", "malformed")
    assert rig.post("authority", report, "/v1/reports").status_code == 200


def test_no_authority(tmp_path):
    with running(tmp_path, cloud={"workers": 1}) as rig:
        rig.publish()
        _, query = rig.ask(CODES)
        real, rig.authority.app = rig.authority.app, None

        async def silent(scope, receive, send):
            raise httpx.ConnectError("nobody there")

        rig.authority.app = silent
        answer = rig.post("cloud", query)
        assert (answer.status_code, refusal(answer).code) == (503, "no-authority")

        async def babble(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"<html>"})

        rig.authority.app = babble
        answer = rig.post("cloud", query)
        assert (answer.status_code, refusal(answer).code) == (502, "bad-authority")
        rig.authority.app = real
        assert rig.post("cloud", query).status_code == 200


def test_a_forged_ranking_is_not_delivered(tmp_path):
    with running(tmp_path, cloud={"workers": 1}) as rig:
        rig.publish()
        _, query = rig.ask(CODES)
        forged = wire.to_bytes(
            sign(Ranking(query.request.nonce, tuple(rig.world.cloud.images)[:5], b"x", blocks=((),)), secret=bytes(32))
        )

        async def thief(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": forged})

        rig.authority.app = thief
        answer = rig.post("cloud", query)
        assert (answer.status_code, refusal(answer).code) == (403, "forged-reply")
