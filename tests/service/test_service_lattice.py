"""Both services over a lattice collection: exact in parts among workers, and a grant is suspended over a restart."""

import asyncio
import functools
import pathlib
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st
from protocol_world import NOW, expected_order, make_world, positions, resign, score, traces
from service_rig import random_codes, refusal, running
from starlette.applications import Starlette

from jcbir.protocol import audit, authority, owner, user, wire
from jcbir.protocol._signatures import sign
from jcbir.protocol.messages import Audit, Catalog, Delivery, Place
from jcbir.protocol.refusals import ForgedScoresError, RefusalError
from jcbir.service import authority as authority_service
from jcbir.service._scoring import make_blinders, measure
from jcbir.service.authority import AuthoritySettings
from jcbir.storage._journal import open_journal

CODES = random_codes(3)


def lattice_world():
    return make_world(key="lattice", schemes=("lattice",))


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    root = tmp_path_factory.mktemp("lattice")
    with running(root, world=lattice_world(), cloud={"workers": 2}, processes=True) as pair:
        pair.publish()
        yield pair


def forged_report(world):
    _, query = user.ask(world.me, CODES[:1], top=1, now=NOW, draw=secrets.token_bytes)
    honest = score(world, query)[1]
    (first, *others) = honest.scores[0]
    rows = first.ciphertexts.copy()
    rows[-1] = 0
    return resign(world, honest, scores=((first._replace(ciphertexts=rows), *others),))


def test_a_batch_is_exact_among_workers(rig):
    rows = rig.search(CODES, scheme=None)
    for row, code in zip(rows, CODES, strict=True):
        assert positions(rig.world, row) == expected_order(rig.world, code)
        for place, match in zip(positions(rig.world, row), row, strict=True):
            assert match.distance == (rig.world.codes[place] ^ code).sum()
            assert match.photograph == rig.world.images[place]


def test_audits_are_refused_by_name(rig):
    me, query = rig.ask(CODES[:1], scheme=None)
    delivery = wire.from_bytes(rig.post("cloud", query).content, expect=Delivery)
    head = owner.head(rig.world.own, now=NOW)[1]
    with pytest.raises(ValueError, match="card: must have a key of a kind with audits, got lattice"):
        audit.ask_audit(me, query, delivery.ranking, head, blocks=1, draw=secrets.token_bytes)
    asked = sign(Audit(query.request.nonce, (Place(0, 0, 0),)), secret=me.keys.signing_secret)
    answer = rig.post("cloud", asked, "/v1/audits")
    assert (answer.status_code, refusal(answer).code) == (409, "conflict")
    assert "kind with audits, got lattice" in refusal(answer).reason


def test_what_must_not_happen_twice_is_remembered_over_a_restart(tmp_path):
    """An opening that was used, and that scores were forged: until the next epoch that grant is answered no more."""
    world, seeds, one = lattice_world(), secrets.token_bytes(64), {"workers": 1}

    def ask(rig):
        draw = lambda count: seeds if count == 64 else secrets.token_bytes(count)  # noqa: E731
        return rig.post("cloud", user.ask(world.me, CODES[:1], top=1, now=NOW, draw=draw)[1])

    with running(tmp_path, world=world, cloud=one) as rig:
        rig.publish()
        assert ask(rig).status_code == 200
    with running(tmp_path, world=world, cloud=one) as rig:
        answer = ask(rig)
        assert (answer.status_code, refusal(answer).code) == (409, "replayed-query")
        answer = rig.post("authority", forged_report(world), "/v1/reports")
        assert (answer.status_code, refusal(answer).code) == (403, "forged-scores")
        assert rig.metric("authority", "jcbir_authority_forged_scores_total") == 1
        health = rig.send("authority", "GET", "/health").json()
        assert (health["status"], health["suspended"]) == ("ready", 1)
    with running(tmp_path, world=world, cloud=one) as rig:
        answer = rig.post("cloud", rig.ask(CODES[:1], scheme=None)[1])
        assert (answer.status_code, refusal(answer).code) == (403, "suspended-grant")
        succession, appointment = owner.announce(owner.rekey(world.own, draw=secrets.token_bytes))
        assert rig.post("authority", appointment).status_code == 200
        assert rig.post("cloud", succession).status_code == 200
        assert rig.send("authority", "GET", "/health").json()["suspended"] == 0


def test_reports_opened_at_once_raise_one_alarm(tmp_path):
    """Of many forged reports of one grant the first tells what it tells, the others nothing."""
    world, codes = lattice_world(), []
    with running(tmp_path, world=world, cloud={"workers": 1}) as rig:
        rig.publish()

        def send(report):
            answer = rig.post("authority", report, "/v1/reports")
            codes.append(refusal(answer).code)

        senders = [threading.Thread(target=send, args=(forged_report(world),)) for _ in range(3)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(60)
        assert sorted(codes) == ["forged-scores", "suspended-grant", "suspended-grant"]


def test_withdrawn_segments_are_shredded_on_the_authoritys_disk(tmp_path):
    world = lattice_world()
    with running(tmp_path, world=world, cloud={"workers": 1}) as rig:
        rig.publish()
        withdrawal = owner.withdraw(world.own, world.names)[1]
        catalogs = [line.message for line in world.transcript if isinstance(line.message, Catalog)]
        assert all(traces(tmp_path, catalog.wrapped[0]) for catalog in catalogs)
        rig.post("cloud", withdrawal), rig.post("authority", withdrawal)
        assert not any(traces(tmp_path, catalog.wrapped[0]) for catalog in catalogs)
        # Sent again, a catalog is known, and not written again.
        assert all(rig.post("authority", catalog).status_code == 200 for catalog in catalogs)
        assert not any(traces(tmp_path, catalog.wrapped[0]) for catalog in catalogs)


def test_a_catalog_behind_its_withdrawal_is_shredded_as_it_comes(tmp_path):
    world = lattice_world()
    catalogs = [line.message for line in world.transcript if isinstance(line.message, Catalog)]
    with running(tmp_path, world=world, cloud={"workers": 1}) as rig:
        for order in (owner.withdraw(world.own, world.names)[1], *catalogs, *catalogs):
            assert rig.post("authority", order).status_code == 200
        assert not any(traces(tmp_path, catalog.wrapped[0]) for catalog in catalogs)
    with running(tmp_path, world=world, cloud={"workers": 1}) as rig:
        assert rig.send("authority", "GET", "/health").json()["segments"] == len(catalogs)


def test_scores_forged_before_an_epoch_do_not_halt_it_and_tell_nothing(tmp_path, monkeypatch):
    world, decrypt = lattice_world(), authority.decrypt_report
    succession, appointment = owner.announce(owner.rekey(world.own, draw=secrets.token_bytes))
    with running(tmp_path, world=world, cloud={"workers": 1}) as rig:
        rig.publish()
        ordering = threading.Thread(target=rig.post, args=("authority", appointment))

        def decrypt_late(state, report, **options):
            # The order is answered after this report: it is only begun here.
            ordering.start()
            while rig.send("authority", "GET", "/health").json()["epoch"] == 0:
                time.sleep(0.02)
            return decrypt(state, report, **options)

        monkeypatch.setattr(authority, "decrypt_report", decrypt_late)
        answer = rig.post("authority", forged_report(world), "/v1/reports")
        ordering.join(60)
        # As an honest report is.
        assert (answer.status_code, refusal(answer).code) == (403, "revoked-grant")
        assert rig.metric("authority", "jcbir_authority_forged_scores_total") == 1
        health = rig.send("authority", "GET", "/health").json()
        assert (health["epoch"], health["status"]) == (1, "ready")
    with open_journal(tmp_path / "journal", succession.card) as journal:
        assert journal.execute("SELECT count(*) FROM suspended").fetchone() == (0,)


@functools.cache
def opening():
    """What a report is opened with, the report, and the owner's next epoch."""
    world = lattice_world()
    appointment = owner.announce(owner.rekey(world.own, draw=secrets.token_bytes))[1]
    query = user.ask(world.me, CODES[:1], top=1, now=NOW, draw=secrets.token_bytes)[1]
    return world.holder, score(world, query)[1], appointment


CHANGES = {
    "epoch": lambda state, _, appointment: authority.succeed(state, appointment),
    "suspended": lambda state, grant, _: authority.suspend(state, grant),
    "halted": lambda state, *_: replace(state, suspended={bytes([number]): b"" for number in range(8)}),
    "revoked": lambda state, grant, _: replace(state, revoked=frozenset([grant.grant_id])),
    "later": lambda state, grant, _: replace(state, seen=grant.expires),
    "late": lambda state, *_: state,
}
"""What may happen while a report is opened, so that it is not answered."""


@given(st.permutations(list(CHANGES)), st.integers(1, len(CHANGES)))
def test_a_forged_report_is_refused_as_an_honest_one_whatever_happened_meanwhile(order, count):
    """Else each report that was at hand then would tell a bit of what its query was made of."""
    state, report, appointment = opening()
    grant, found = report.request.grant, []
    settings = AuthoritySettings(owner.delegate(lattice_world().own), state.identity, pathlib.Path("journal"))

    def forged(*_):
        raise ForgedScoresError("report: forged")

    for end in (lambda it: it._rank(report, np.zeros((0, 1), np.uint8)), lambda it: it._decrypt(state, report)):
        holder = authority_service._Holder(settings, lambda: grant.expires if "late" in order[:count] else NOW)
        holder.state, holder.journal = state, None
        for change in order[:count]:
            holder.state = CHANGES[change](holder.state, grant, appointment)
        with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as holder.writer:
            patch.setattr(authority_service.memory, "keep_alarms", lambda *_: None)
            patch.setattr(authority, "decrypt_report", forged)
            with pytest.raises(RefusalError) as refused:
                end(holder)
        found.append((type(refused.value), str(refused.value), refused.value.retry_after))
    assert found[0] == found[1]


def test_an_alarm_is_kept_though_whoever_waits_for_it_is_cancelled(tmp_path, monkeypatch):
    """As a service does that ends while a report is opened."""
    world, decrypt = lattice_world(), authority.decrypt_report
    settings = AuthoritySettings(owner.delegate(world.own), world.holder.identity, tmp_path / "journal", workers=1)
    begun, going_on = threading.Event(), threading.Event()

    def decrypt_late(state, report):
        begun.set()
        going_on.wait(60)
        return decrypt(state, report)

    async def cut():
        holder = authority_service._Holder(settings, lambda: NOW)
        async with holder.live(Starlette()):
            for order in (line.message for line in world.transcript if isinstance(line.message, Catalog)):
                await holder._step(holder._take, order)
            monkeypatch.setattr(authority, "decrypt_report", decrypt_late)
            asking = asyncio.create_task(holder._answer(forged_report(world)))
            await asyncio.to_thread(begun.wait, 60)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            going_on.set()

    asyncio.run(cut())
    with open_journal(tmp_path / "journal", world.own.card) as journal:
        assert [key for (key,) in journal.execute("SELECT signing_key FROM suspended")] == [world.me.grant.signing_key]


def test_floods_are_the_clouds_own():
    public = lattice_world().own.card.public.key
    rows = make_blinders(public, 20)
    assert rows.shape == (20, 64)
    assert len({row.tobytes() for row in rows}) == 20
    assert min(measure(public)[0]) > 0
