"""A new epoch at running services: searches go on in it, everything of the old one is refused, restarts included."""

import asyncio
import dataclasses
import os
import secrets
import signal
import time

from paillier_vectors import stored_key
from protocol_world import NOW, expected_order, make_world, new_user, positions, resign, score
from service_rig import random_codes, refusal, running

from jcbir.protocol import audit, owner, user, wire
from jcbir.protocol._signatures import sign
from jcbir.protocol.messages import Delivery, Opened, Recalled
from jcbir.protocol.owner import announce
from jcbir.storage._store import open_store

CODES = random_codes(2)


def take_back(rig, world):
    """Recall all images, answer after answer, and open them."""
    left = [owner.pseudonym(world.own, name) for name in world.names]
    images = []
    while left:
        answer = rig.post("cloud", owner.recall(world.own, left, now=NOW, draw=os.urandom), "/v1/recalls")
        assert answer.status_code == 200, refusal(answer)
        got = wire.from_bytes(answer.content, expect=Recalled).images
        images += got
        left = left[len(got) :]
    return owner.unseal(world.own, images)


def turn(rig, world, *, secret=None):
    """The owner's part: a new epoch with the same pictures; gives the world in it and the orders that made it."""
    pictures = take_back(rig, world)
    new = owner.rekey(world.own, draw=secrets.token_bytes, secret=secret)
    succession, appointment = announce(new)
    new, publication, catalog = owner.publish(
        new, world.codes, pictures, world.names, schemes=("packed", "bitsliced"), cipher="aes-gcm",
        draw=secrets.token_bytes,
    )  # fmt: skip
    orders = [("cloud", succession), ("authority", appointment), ("cloud", publication), ("authority", catalog)]
    for side, order in orders:
        answer = rig.post(side, order)
        assert answer.status_code == 200, refusal(answer)
    # The owner draws the order of a segment, and ties are broken by it.
    place = {owner.pseudonym(new, name): i for i, name in enumerate(world.names)}
    order = [place[image_id] for image_id in catalog.image_ids if image_id in place]
    images, names = ([values[i] for i in order] for values in (world.images, world.names))
    after = world._replace(own=new, me=new_user(new)[0], codes=world.codes[order], images=images, names=names)
    return after, orders


def check_search(rig, world):
    for scheme in ("packed", "bitsliced"):
        rows = rig.search(CODES, scheme=scheme, me=world.me)
        for row, code in zip(rows, CODES, strict=True):
            assert positions(world, row) == expected_order(world, code)
            for place, match in zip(positions(world, row), row, strict=True):
                assert match.photograph == world.images[place]


def test_the_next_epoch_over_restarts(tmp_path):
    """First to another key, then to another epoch of that key."""
    world = make_world()
    with running(tmp_path, world=world, cloud={"recalled_bytes": 700}) as rig:
        rig.publish()
        _, old_query = rig.ask(CODES)
        assert rig.post("cloud", old_query).status_code == 200
        after, orders = turn(rig, world, secret=stored_key("medium"))
        check_search(rig, after)
        for side in ("cloud", "authority"):
            health = rig.send(side, "GET", "/health").json()
            assert (health["epoch"], health["segments"]) == (1, 1)
        for message in (old_query, rig.ask(CODES)[1]):
            answer = rig.post("cloud", message)
            assert (answer.status_code, refusal(answer).code) == (403, "revoked-grant")
        # The same words again change nothing.
        for side, order in orders:
            assert rig.post(side, order).status_code == 200
        check_search(rig, after)
        # The workers of the old epoch are gone.
        assert not rig.worker_ids()
    # Both start again with the files of the old epoch, and are in the new one.
    with running(tmp_path, world=world) as rig:
        check_search(rig, after)
        answer = rig.post("cloud", rig.ask(CODES)[1])
        assert (answer.status_code, refusal(answer).code) == (403, "revoked-grant")
        # A second turn from there; the first one's orders are history.
        last, _ = turn(rig, after)
        for side, order in orders[:2]:
            answer = rig.post(side, order)
            assert (answer.status_code, refusal(answer).code) == (409, "stale-query")
        check_search(rig, last)
    with running(tmp_path, world=last) as rig:
        check_search(rig, last)


def test_recalls_are_the_owners(tmp_path):
    world = make_world()
    with running(tmp_path, world=world) as rig:
        rig.publish()
        names = [owner.pseudonym(world.own, name) for name in world.names[:2]]
        honest = owner.recall(world.own, names, now=NOW, draw=os.urandom)
        cases = {
            (403, "forged-reply"): sign(honest, secret=world.me.keys.signing_secret),
            (409, "stale-query"): owner.recall(world.own, names, now=NOW - 1000, draw=os.urandom),
            (409, "conflict"): owner.recall(world.own, ["0" * 32], now=NOW, draw=os.urandom),
            (404, "foreign-collection"): owner.recall(
                owner.rekey(world.own, draw=os.urandom), names, now=NOW, draw=os.urandom
            ),
        }
        for expected, message in cases.items():
            answer = rig.post("cloud", message, "/v1/recalls")
            assert (answer.status_code, refusal(answer).code) == expected
        assert rig.post("cloud", honest, "/v1/recalls").status_code == 200


def test_a_query_at_hand_is_finished_by_those_who_began_it(tmp_path):
    world = make_world()
    with running(tmp_path, world=world, processes=True) as rig:
        rig.publish()
        _, query = rig.ask(CODES)
        stopped = rig.worker_ids()
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        at_hand = asyncio.run_coroutine_threadsafe(
            rig.send_later("cloud", "POST", "/v1/queries", wire.to_bytes(query)), rig.loop
        )
        while rig.send("cloud", "GET", "/health").json()["pending"] == 0:
            time.sleep(0.01)
        new = owner.rekey(world.own, draw=secrets.token_bytes)
        succession, _ = announce(new)
        turning = asyncio.run_coroutine_threadsafe(
            rig.send_later("cloud", "POST", "/v1/successions", wire.to_bytes(succession)), rig.loop
        )
        while rig.send("cloud", "GET", "/health").json()["epoch"] == 0:
            time.sleep(0.01)
        assert not at_hand.done()
        for process in stopped:
            os.kill(process, signal.SIGCONT)
        answer = at_hand.result(60)
        assert (answer.status_code, refusal(answer).code) == (403, "revoked-grant")
        assert turning.result(60).status_code == 200
        assert rig.metric("cloud", "jcbir_cloud_worker_deaths_total") == 0
        with open_store(tmp_path / "store", card=new.card):
            pass


def test_a_recall_is_answered_once_over_a_restart(tmp_path):
    world = make_world()
    asked = owner.recall(world.own, list(world.cloud.images)[:2], now=NOW, draw=os.urandom)
    for place in range(2):
        with running(tmp_path, world=world) as rig:
            if not place:
                rig.publish()
                assert rig.post("cloud", asked, "/v1/recalls").status_code == 200
            answer = rig.post("cloud", asked, "/v1/recalls")
            assert (answer.status_code, refusal(answer).code) == (409, "replayed-query")


def test_substituted_scores_raise_an_alarm(tmp_path, monkeypatch):
    """A cloud that signs the scores of another query: refused before anything is sealed, counted and told."""
    world = make_world(sentinels=True, schemes=("packed",))
    with running(tmp_path, world=world) as rig:
        rig.publish()
        _, query = rig.ask(~world.codes[:1], scheme="packed")
        _, other = rig.ask(world.codes[:1], scheme="packed")
        honest, instead = (score(world, each)[1] for each in (query, other))
        answer = rig.post("authority", resign(world, honest, scores=instead.scores), "/v1/reports")
        assert (answer.status_code, refusal(answer).code) == (403, "forged-scores")
        assert rig.metric("authority", "jcbir_authority_forged_scores_total") == 1
        rig.search(world.codes[:1], scheme="packed")
        assert rig.metric("authority", "jcbir_authority_forged_scores_total") == 1


def test_a_user_audits_a_running_cloud(tmp_path):
    """Many parts in many workers: each blinder's randomness is at its block, for every query of a batch."""
    world = make_world()
    with running(tmp_path, world=world, cloud={"audit_seconds": 100.0, "workers": 2}, processes=True) as rig:
        rig.publish()
        _, head = owner.head(world.own, now=NOW)
        for side in ("cloud", "authority", "cloud"):
            assert rig.post(side, head).status_code == 200
        for scheme in ("packed", "bitsliced", "integer"):
            me, query = rig.ask(world.codes[:3], scheme=scheme, top=1)
            delivery = wire.from_bytes(rig.post("cloud", query).content, expect=Delivery)
            me, _ = user.receive(me, delivery)
            assert me.head == delivery.ranking.head == 1
            asked = audit.ask_audit(me, query, delivery.ranking, delivery.head, blocks=40, draw=secrets.token_bytes)
            opened = wire.from_bytes(rig.post("cloud", asked, "/v1/audits").content, expect=Opened)
            audit.check_opened(world.own.card, query, delivery.ranking, delivery.head, opened, audit=asked)
        forged = sign(dataclasses.replace(asked, signature=b""), secret=world.own.signing_secret)
        unknown = sign(dataclasses.replace(asked, nonce=bytes(16), signature=b""), secret=me.keys.signing_secret)
        for message, expected in ((forged, (403, "tampered-query")), (unknown, (409, "too-late"))):
            answer = rig.post("cloud", message, "/v1/audits")
            assert (answer.status_code, refusal(answer).code) == expected
    # The head is on both disks, what can be audited is not.
    with running(tmp_path, world=world) as rig:
        answer = rig.post("cloud", asked, "/v1/audits")
        assert (answer.status_code, refusal(answer).code) == (409, "too-late")
        me, query = rig.ask(world.codes[:1], top=1)
        delivery = wire.from_bytes(rig.post("cloud", query).content, expect=Delivery)
        assert delivery.head == head and delivery.ranking.head == 1
