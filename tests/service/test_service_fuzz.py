"""Whatever is posted: a typed refusal, soon, and the service is as it was. 10^5 bodies in the nightly profile."""

import hashlib
import os
import time
import urllib.parse

import hypothesis
import pytest
from hypothesis import given, strategies as st
from protocol_world import NOW
from service_rig import random_codes, refusal, running

from jcbir.protocol import owner, session, wire
from jcbir.protocol.messages import Catalog, Publication
from jcbir.protocol.owner import announce
from jcbir.protocol.refusals import REFUSALS

CODES = random_codes(1)
OWN_CODES = {
    "malformed",
    "too-late",
    "conflict",
    "too-large",
    "no-such-route",
    "no-such-method",
    "out-of-step",
}
KNOWN = OWN_CODES | {error.code for error in REFUSALS}
COUNT = max(1000, hypothesis.settings().max_examples)
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "QUERY")


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with running(tmp_path_factory.mktemp("pair"), cloud={"workers": 1}, processes=True) as pair:
        pair.publish()
        yield pair


@pytest.fixture(scope="module")
def seeds(rig):
    """One honest body for each route; the query and the report were answered already."""
    world = rig.world
    _, query = rig.ask(CODES)
    assert rig.post("cloud", query).status_code == 200
    sent = {type(line.message): line.message for line in world.transcript}
    report = b"".join(rig.authority.seen).split(b"JCBM\x03\x08")[1]
    own, withdrawal = owner.withdraw(world.own, world.names[:2])
    revocation = owner.revoke(own, [bytes(16)])[1]
    succession, appointment = announce(owner.rekey(own, draw=os.urandom))
    bodies = {
        ("cloud", "/v1/queries"): wire.to_bytes(query),
        ("cloud", "/v1/publications"): wire.to_bytes(sent[Publication]),
        ("cloud", "/v1/withdrawals"): wire.to_bytes(withdrawal),
        ("cloud", "/v1/revocations"): wire.to_bytes(revocation),
        ("cloud", "/v1/successions"): wire.to_bytes(succession),
        ("cloud", "/v1/heads"): wire.to_bytes(owner.head(own, now=NOW)[1]),
        ("authority", "/v1/heads"): wire.to_bytes(owner.head(own, now=NOW)[1]),
        ("cloud", "/v1/audits"): wire.to_bytes(session.audited_system().audit),
        ("cloud", "/v1/recalls"): wire.to_bytes(owner.recall(own, list(world.cloud.images), now=NOW, draw=os.urandom)),
        ("authority", "/v1/inquiries"): wire.to_bytes(owner.inquire(own, now=NOW, draw=os.urandom)),
        ("authority", "/v1/catalogs"): wire.to_bytes(sent[Catalog]),
        ("authority", "/v1/withdrawals"): wire.to_bytes(withdrawal),
        ("authority", "/v1/revocations"): wire.to_bytes(revocation),
        ("authority", "/v1/appointments"): wire.to_bytes(appointment),
        ("authority", "/v1/reports"): b"JCBM\x03\x08" + report.split(b"JCBM")[0],
    }
    posts = {
        route.path for app in (rig.cloud.app, rig.authority.app) for route in app.routes if "POST" in route.methods
    }
    assert {path for _, path in bodies} == posts, "a route without a seed"
    return list(bodies.items())


def sealed(body):
    """Make length and checksum fit again, so that a mutation reaches the schema and the signatures."""
    if len(body) < 32:
        return body
    kind = body[5]
    inner = body[wire.HEADER.size : -wire.CHECK_BYTES]
    head = wire.HEADER.pack(wire.MAGIC, wire.VERSION, kind, 0, len(inner))
    return head + inner + hashlib.sha256(head + inner).digest()[: wire.CHECK_BYTES]


@st.composite
def mutations(draw):
    """A function from bytes to changed bytes."""
    kind = draw(st.sampled_from(["flip", "cut", "insert", "repeat", "overwrite", "nothing"]))
    place, amount = draw(st.floats(0, 1)), draw(st.integers(1, 64))
    noise, fixed = draw(st.binary(min_size=1, max_size=16)), draw(st.booleans())

    def mutate(body):
        at = int(place * (len(body) - 1))
        changed = {
            "flip": lambda: body[:at] + bytes([body[at] ^ (1 + amount)]) + body[at + 1 :],
            "cut": lambda: body[:at] + body[at + amount :],
            "insert": lambda: body[:at] + noise + body[at:],
            "repeat": lambda: body[:at] + body[at : at + amount] * 3 + body[at + amount :],
            "overwrite": lambda: body[:at] + noise + body[at + len(noise) :],
            "nothing": lambda: noise,
        }[kind]()
        return sealed(changed) if fixed else changed

    return mutate


def state_of(rig):
    return [
        {key: value for key, value in rig.send(side, "GET", "/health").json().items() if key != "pending"}
        for side in ("cloud", "authority")
    ]


@hypothesis.settings(max_examples=COUNT, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@given(pick=st.integers(0, 10), mutate=mutations())
def test_mutated_bodies(rig, seeds, pick, mutate):
    (side, path), honest = seeds[pick]
    body = mutate(honest)
    # A change that the new checksum took back.
    hypothesis.assume(body != honest)
    started = time.monotonic()
    answer = rig.send(side, "POST", path, body)
    # Only an order that says the same in other bytes could pass, and the schema allows none.
    assert answer.status_code in (403, 404, 409, 413, 422, 503), (path, answer.status_code, body)
    assert refusal(answer).code in KNOWN
    assert time.monotonic() - started < 60


def test_state_is_as_before(rig, seeds):
    """Runs after the mutations: whatever they did, searches are right and nothing was added or lost."""
    assert state_of(rig)[0]["images"] == 30 and state_of(rig)[1]["segments"] == 2
    assert rig.send("cloud", "GET", "/health").json()["pending"] == 0
    assert rig.metric("cloud", "jcbir_cloud_body_bytes") == 0
    assert rig.metric("cloud", "jcbir_cloud_worker_deaths_total") == 0
    assert rig.search(CODES)[0]


@hypothesis.settings(max_examples=200, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@given(
    side=st.sampled_from(["cloud", "authority"]),
    method=st.sampled_from(METHODS),
    path=st.one_of(
        st.sampled_from(["/v1/queries", "/v1/reports", "/health", "/metrics", "/v1/card", "/v1/publications"]),
        st.lists(st.text(max_size=8), max_size=4).map(lambda parts: "/" + "/".join(parts)),
    ),
    headers=st.dictionaries(
        st.sampled_from(["content-type", "content-length", "accept", "x-forwarded-for", "transfer-encoding"]),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20),
    ),
    body=st.binary(max_size=64),
)
def test_any_request(rig, side, method, path, headers, body):
    answer = rig.send(side, method, quoted(path), body, headers)
    assert answer.status_code in (200, 404, 405, 413, 422)
    if answer.status_code != 200 and method != "HEAD":
        assert refusal(answer).code in KNOWN


def quoted(path):
    return urllib.parse.quote(path, errors="replace")
