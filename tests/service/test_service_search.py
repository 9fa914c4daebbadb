"""A search over HTTP gives what the plain codes give, whatever happens to workers, stores and processes meanwhile."""

import asyncio
import dataclasses
import os
import signal
import threading
import time

import numpy as np
import pytest
from protocol_world import NOW, expected_order, make_world, positions
from service_rig import random_codes, refusal, running

from jcbir.protocol import owner, server, user, wire
from jcbir.protocol.messages import Delivery
from jcbir.sealing import Photograph
from jcbir.storage._maintenance import compact_store
from jcbir.storage._store import open_store

CODES = random_codes(2)


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with running(tmp_path_factory.mktemp("pair"), cloud={"workers": 2}, processes=True) as pair:
        pair.publish()
        yield pair


def right(rig, rows, codes):
    for row, code in zip(rows, codes, strict=True):
        assert positions(rig.world, row) == expected_order(rig.world, code)


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


@pytest.mark.parametrize("scheme", ["packed", "bitsliced"])
def test_search_equals_plain_distances(rig, scheme):
    rows = rig.search(CODES, scheme=scheme)
    right(rig, rows, CODES)
    for row, code in zip(rows, CODES, strict=True):
        for place, match in zip(positions(rig.world, row), row, strict=True):
            assert match.distance == (rig.world.codes[place] ^ code).sum()
            assert match.photograph == rig.world.images[place]


def test_search_integer(rig):
    (row,) = rig.search(rig.world.codes[[4]], scheme="integer")
    assert positions(rig.world, row)[0] == 4 and row[0].distance == 0


def test_orders_may_be_repeated_and_not_contradicted(rig):
    rig.publish()
    right(rig, rig.search(CODES), CODES)
    first = next(sent.message for sent in rig.world.transcript if type(sent.message).__name__ == "Publication")
    other = make_world(label="another draw")
    assert rig.post("cloud", first).status_code == 200
    foreign = next(sent.message for sent in other.transcript if type(sent.message).__name__ == "Publication")
    answer = rig.post("cloud", foreign)
    assert answer.status_code == 403 and refusal(answer).code == "forged-reply"
    assert rig.send("cloud", "GET", "/health").json()["segments"] == 2


def test_many_at_once(rig):
    codes = random_codes(24, seed=11)
    asked = [rig.ask(codes[[i]]) for i in range(24)]

    async def all_of_them():
        send = (rig.send_later("cloud", "POST", "/v1/queries", wire.to_bytes(query)) for _, query in asked)
        return await asyncio.gather(*send)

    for (me, _), response, code in zip(asked, rig.do(all_of_them()), codes, strict=True):
        _, (row,) = user.receive(me, wire.from_bytes(response.content, expect=Delivery))
        assert positions(rig.world, row) == expected_order(rig.world, code)


def test_dead_workers_are_replaced_and_their_share_redone(rig):
    before = rig.metric("cloud", "jcbir_cloud_worker_deaths_total")
    dead = set(rig.worker_ids())
    for process in dead:
        os.kill(process, signal.SIGKILL)
    right(rig, rig.search(CODES), CODES)
    right(rig, rig.search(CODES), CODES)
    assert rig.metric("cloud", "jcbir_cloud_worker_deaths_total") >= before + 1
    assert not dead & set(rig.worker_ids()) or len(dead & set(rig.worker_ids())) < len(dead)


def test_a_worker_killed_at_work(rig):
    workers = rig.worker_ids()
    for process in workers:
        os.kill(process, signal.SIGSTOP)
    found = []
    thread = threading.Thread(target=lambda: found.append(rig.search(CODES)))
    thread.start()
    wait_until(lambda: rig.send("cloud", "GET", "/health").json()["pending"] == 1)
    for process in workers:
        os.kill(process, signal.SIGKILL)
    thread.join(60)
    right(rig, found[0], CODES)


def test_saturation_is_answered_429_and_the_loop_stays_free(tmp_path):
    with running(tmp_path, cloud={"most_pending": 3}, processes=True) as rig:
        rig.publish()
        workers = rig.worker_ids()
        for process in workers:
            os.kill(process, signal.SIGSTOP)
        asked = [rig.ask(CODES[:1]) for _ in range(8)]
        futures = [
            asyncio.run_coroutine_threadsafe(
                rig.send_later("cloud", "POST", "/v1/queries", wire.to_bytes(query)), rig.loop
            )
            for _, query in asked
        ]
        wait_until(lambda: sum(future.done() for future in futures) == 5)
        refused = [future.result() for future in futures if future.done()]
        assert {response.status_code for response in refused} == {429}
        assert {refusal(response).code for response in refused} == {"busy"}
        assert all(int(response.headers["retry-after"]) >= 1 for response in refused)
        # The workers stand still, and the service answers.
        assert rig.send("cloud", "GET", "/health").json()["pending"] == 3
        for process in workers:
            os.kill(process, signal.SIGCONT)
        answers = [future.result(60) for future in futures]
        assert sorted(response.status_code for response in answers) == [200] * 3 + [429] * 5
        # A query that was turned away is no replay when it comes again.
        late = next(i for i, response in enumerate(answers) if response.status_code == 429)
        assert rig.post("cloud", asked[late][1]).status_code == 200


def test_restart_remembers(tmp_path):
    world = make_world()
    own, revocation = owner.revoke(world.own, [bytes(16)])
    with running(tmp_path, world=world) as rig:
        rig.publish()
        _, query = rig.ask(CODES)
        assert rig.post("cloud", query).status_code == 200
        for side in ("cloud", "authority"):
            assert rig.post(side, revocation).status_code == 200
    with running(tmp_path, world=world) as rig:
        right(rig, rig.search(CODES), CODES)
        # The cloud forgot the request; the authority's journal did not.
        answer = rig.post("cloud", query)
        assert answer.status_code == 409 and refusal(answer).code == "replayed-query"
        older = owner.revoke(world.own, [bytes(16)])[1]
        assert older.serial == revocation.serial
        _, newer = owner.revoke(own, [rig.world.me.grant.grant_id])
        for side in ("cloud", "authority"):
            assert rig.post(side, newer).status_code == 200
            stale = rig.post(side, revocation)
            assert stale.status_code == 409 and refusal(stale).code == "stale-query"
    with running(tmp_path, world=world) as rig:
        answer = rig.post("cloud", rig.ask(CODES)[1])
        assert answer.status_code == 403 and refusal(answer).code == "revoked-grant"


def test_readers_beside_a_writer(tmp_path):
    """Queries go on while segments are published and images withdrawn, and compaction runs beside the service."""
    world = make_world()
    with running(tmp_path, world=world, cloud={"workers": 2}, processes=True) as rig:
        rig.publish()
        gone = world.names[::3]
        stop, faults, answered = threading.Event(), [], []

        def read():
            codes = random_codes(1, seed=threading.get_ident() % 1000)
            while not stop.is_set():
                me, query = rig.ask(codes)
                response = rig.post("cloud", query)
                if response.status_code == 503 and refusal(response).code == "out-of-step":
                    continue
                if response.status_code == 409 and "not here any more" in refusal(response).reason:
                    continue
                if response.status_code != 200:
                    faults.append(refusal(response))
                    return
                _, (row,) = user.receive(me, wire.from_bytes(response.content, expect=Delivery))
                distances = [match.distance for match in row]
                if distances != sorted(distances) or len(row) != 5:
                    faults.append(distances)
                answered.append(len(row))

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        own = world.own
        draw = np.random.default_rng(3)
        for number in range(4):
            codes = draw.random((3, 16)) > 0.5
            photographs = [Photograph(draw.bytes(300), "image/png") for _ in codes]
            names = [f"late-{number}-{i}" for i in range(3)]
            own, publication, catalog = owner.publish(
                own, codes, photographs, names, schemes=("bitsliced",), cipher="aes-gcm", draw=os.urandom
            )
            assert rig.post("cloud", publication).status_code == 200
            assert rig.post("authority", catalog).status_code == 200
        own, withdrawal = owner.withdraw(own, gone)
        for side in ("authority", "cloud"):
            assert rig.post(side, withdrawal).status_code == 200
        with open_store(tmp_path / "store", write=True) as store:
            assert compact_store(store) > 0
        before = len(answered)
        wait_until(lambda: len(answered) > before + 3 or faults)
        stop.set()
        for reader in readers:
            reader.join(60)
        assert not faults and len(answered) > 3
        me, query = rig.ask(world.codes[[0]], top=30)
        response = rig.post("cloud", query)
        _, (row,) = user.receive(me, wire.from_bytes(response.content, expect=Delivery))
        withdrawn = {owner.pseudonym(own, name) for name in gone}
        assert not withdrawn & {match.image_id for match in row}
        assert len(row) == 30
        # Each of the four late segments has a sentinel, which the cloud takes for an image.
        assert rig.send("cloud", "GET", "/health").json()["images"] == 30 + 12 + 4 - len(gone)


def test_a_query_on_its_way_while_segments_come_is_answered(tmp_path):
    """A report that lacks the latest segment is answered for a while, and one that lacks an older one is not."""
    world = make_world()
    before = dataclasses.replace(world.cloud, segments=world.cloud.segments[:1])
    after = dataclasses.replace(world.cloud, segments=world.cloud.segments[1:])

    def report_of(state):
        _, query = rig.ask(CODES)
        count = server.blinders_needed(state, query)
        blinders = owner.blinder_pool(world.own, count, draw=os.urandom)
        return server.score_query(state, query, blinders=blinders, identity=world.identity, now=NOW)[1]

    with running(tmp_path, world=world, cloud={"workers": 1}) as rig:
        rig.publish()
        assert rig.post("authority", report_of(before), "/v1/reports").status_code == 200
        answer = rig.post("authority", report_of(after), "/v1/reports")
        assert (answer.status_code, refusal(answer).code) == (503, "out-of-step")
        right(rig, rig.search(CODES), CODES)
    # After a restart, or a while, a cloud that lacks a segment is out of step.
    for options in ({}, {"lag_seconds": 0.0}):
        with running(tmp_path, world=world, cloud={"workers": 1}, authority=options) as rig:
            rig.publish()
            answer = rig.post("authority", report_of(before), "/v1/reports")
            assert (answer.status_code, refusal(answer).code) == (503, "out-of-step")


def test_an_empty_collection_says_so(tmp_path):
    with running(tmp_path) as rig:
        answer = rig.post("cloud", rig.ask(CODES)[1])
        assert answer.status_code == 409 and refusal(answer).code == "empty"
        card = rig.send("cloud", "GET", "/v1/card")
        assert wire.from_bytes(card.content) == rig.world.own.card
        assert NOW
