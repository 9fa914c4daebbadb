"""The authority's journal: a restart forgets no order and answers nothing twice."""

import dataclasses
import itertools
import secrets
import sqlite3

import pytest
from protocol_world import NOW, make_world, new_user, search

from jcbir.errors import FormatError, KeyMismatchError
from jcbir.protocol import authority, owner, wire
from jcbir.protocol._grants import WINDOW_SECONDS
from jcbir.protocol._signatures import sign
from jcbir.protocol.messages import Catalog, Spending
from jcbir.protocol.owner import announce
from jcbir.protocol.refusals import ForgedReplyError, OverBudgetError, ReplayedQueryError
from jcbir.storage import _journal as memory

SPENDING = Spending(bytes(16), NOW // authority.DAY_SECONDS, 1, ())


def catalogs(world):
    return [line.message for line in world.transcript if isinstance(line.message, Catalog)]


def restart(path, world):
    with memory.open_journal(path, world.own.card) as journal:
        return memory.load_authority(journal, authority.appoint(owner.delegate(world.own), world.holder.identity))


def test_a_restart_forgets_nothing(tmp_path):
    world, path = make_world(), tmp_path / "journal"
    own, withdrawal = owner.withdraw(world.own, world.names[:2])
    own, first = owner.revoke(own, [secrets.token_bytes(16)])
    own, second = owner.revoke(own, [secrets.token_bytes(16)])
    with memory.open_journal(path, world.own.card) as journal:
        for order in (*catalogs(world), withdrawal, first, first, second):
            memory.keep_order(journal, order)
    state = restart(path, world)
    assert state.catalogs == world.holder.catalogs
    assert set(state.withdrawn) == {owner.pseudonym(own, name) for name in world.names[:2]}
    assert state.revoked == set(second.grant_ids)
    found = search(world._replace(holder=state), world.codes[:1], scheme="packed", top=30)
    assert len(found.matches[0]) == 28


def test_answers_are_remembered_over_a_restart(tmp_path):
    world, path = make_world(), tmp_path / "journal"
    found = search(world, world.codes[:1], scheme="packed")
    request = found.report.request
    with memory.open_journal(path, world.own.card) as journal:
        for order in catalogs(world):
            memory.keep_order(journal, order)
        memory.note_answer(journal, request.nonce, issued=request.issued, now=NOW, spending=SPENDING)
    state = restart(path, world)
    with pytest.raises(ReplayedQueryError):
        authority.answer(state, found.report, now=NOW)
    # What is on the disk decides, whatever the state in memory says.
    with memory.open_journal(path, world.own.card) as journal:
        with pytest.raises(ReplayedQueryError):
            memory.note_answer(journal, request.nonce, issued=request.issued, now=NOW + 1, spending=SPENDING)
        memory.note_answer(journal, bytes(16), issued=NOW + 700, now=NOW + 700, spending=SPENDING)
        assert journal.execute("SELECT nonce FROM answered").fetchall() == [(bytes(16),)]


@pytest.mark.parametrize("side", [-1, 1])
def test_names_are_kept_for_two_windows_and_by_a_clock_that_steps_back(tmp_path, side):
    """As long as the request may be fresh, by the latest time seen, and not a second longer: as in memory."""
    path = tmp_path / "journal"
    with memory.open_journal(path, make_world().own.card) as journal:
        memory.note_answer(journal, bytes(16), issued=NOW, now=NOW, spending=SPENDING)
        for age, left in ((2 * WINDOW_SECONDS, True), (2 * WINDOW_SECONDS + 1, side < 0)):
            now = NOW + side * age
            memory.note_answer(journal, secrets.token_bytes(16), issued=now, now=now, spending=SPENDING)
            kept = {nonce for (nonce,) in journal.execute("SELECT nonce FROM answered")}
            assert (bytes(16) in kept) == left


def test_a_clock_that_was_set_back_lets_no_replay_in_after_a_restart(tmp_path):
    world, path = make_world(), tmp_path / "journal"
    report = search(world, world.codes[:1], scheme="packed").report
    request, early = report.request, NOW - 2 * WINDOW_SECONDS - 1
    with memory.open_journal(path, world.own.card) as journal:
        for order in catalogs(world):
            memory.keep_order(journal, order)
        memory.note_answer(journal, request.nonce, issued=request.issued, now=NOW, spending=SPENDING)
        memory.note_answer(journal, bytes(16), issued=early, now=early, spending=SPENDING)
    with pytest.raises(ReplayedQueryError):
        authority.admit(restart(path, world), report, now=early)


def test_an_appointment_that_was_kept_is_kept_again(tmp_path):
    """What came behind its commit may have failed: the owner sends it again, to a state that is still the old one."""
    world = make_world()
    new = owner.rekey(world.own, draw=secrets.token_bytes)
    with memory.open_journal(tmp_path / "journal", world.own.card) as journal:
        for _ in range(2):
            memory.keep_appointment(journal, announce(new)[1])
    assert resume(tmp_path / "journal", new, world.holder.identity).card == new.card


def test_an_answer_that_is_refused_leaves_nothing(tmp_path):
    world, path = make_world(), tmp_path / "journal"
    with memory.open_journal(path, world.own.card) as journal:
        for order in catalogs(world):
            memory.keep_order(journal, order)
        memory.note_answer(journal, bytes(16), issued=NOW, now=NOW, spending=SPENDING, openings=[b"a", b"b"])
    before = restart(path, world)
    with memory.open_journal(path, world.own.card) as journal:
        for nonce, openings in ((bytes(16), [b"c"]), (b"1" * 16, [b"c", b"a"]), (b"2" * 16, [b"d", b"d"])):
            with pytest.raises(ReplayedQueryError):
                memory.note_answer(journal, nonce, issued=NOW, now=NOW + 1, spending=SPENDING, openings=openings)
    assert restart(path, world) == before


def test_strangers_and_forgers(tmp_path):
    world, path = make_world(), tmp_path / "journal"
    forged = sign(catalogs(world)[0], secret=bytes(32))
    with memory.open_journal(path, world.own.card) as journal:
        memory.keep_order(journal, forged)
    with pytest.raises(ForgedReplyError):
        restart(path, world)
    other = make_world(label="others").own.card
    for card in (other, dataclasses.replace(world.own.card, authority_key=other.authority_key)):
        with pytest.raises(KeyMismatchError, match="asked for"), memory.open_journal(path, card):
            pass
    with memory.open_journal(path, world.own.card) as journal:
        journal.execute("DELETE FROM orders")
        journal.execute("INSERT INTO orders (message) VALUES (?)", [wire.to_bytes(world.own.card)])
    with pytest.raises(FormatError, match="no order"):
        restart(path, world)
    with sqlite3.connect(tmp_path / "other") as foreign:
        foreign.execute("CREATE TABLE t (a)")
    foreign.close()
    with pytest.raises(FormatError), memory.open_journal(tmp_path / "other", world.own.card):
        pass
    assert path.stat().st_mode & 0o777 == 0o600


def resume(path, own, identity):
    """Start with a key file of this epoch."""
    delegation = owner.delegate(own)
    with memory.open_journal(path, delegation.card) as journal:
        return memory.load_authority(journal, authority.appoint(delegation, identity))


def test_appointments_lead_from_an_old_key_file_to_the_epoch_in_force(tmp_path):
    world, path = make_world(), tmp_path / "journal"
    epochs = [world.own]
    for _ in range(2):
        epochs.append(owner.rekey(epochs[-1], draw=secrets.token_bytes))
    state = resume(path, world.own, world.holder.identity)
    with memory.open_journal(path, world.own.card) as journal:
        memory.keep_order(journal, catalogs(world)[0])
        memory.note_answer(journal, bytes(16), issued=NOW, now=NOW, spending=SPENDING)
        for _, new in itertools.pairwise(epochs):
            _, appointment = announce(new)
            state = authority.succeed(state, appointment)
            memory.keep_appointment(journal, appointment)
    for own in epochs:
        again = resume(path, own, world.holder.identity)
        assert (again.card, again.image_master) == (state.card, epochs[-1].image_master)
        assert not again.catalogs and not again.answered
    # The journal alone gives nothing away, and an altered one is noticed.
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert epochs[-1].image_master not in content
    with memory.open_journal(path, world.own.card) as journal:
        journal.execute("DELETE FROM meta WHERE name = 'appointment-0000000002'")
    with pytest.raises(KeyMismatchError, match="of epoch 2, the key is of epoch 1"):
        resume(path, world.own, world.holder.identity)


def test_a_newer_key_file_begins_the_journal_anew(tmp_path):
    world, path = make_world(), tmp_path / "journal"
    new = owner.rekey(world.own, draw=secrets.token_bytes)
    resume(path, world.own, world.holder.identity)
    with memory.open_journal(path, world.own.card) as journal:
        memory.keep_order(journal, catalogs(world)[0])
    assert not resume(path, new, world.holder.identity).catalogs
    # And there is no way back.
    with pytest.raises(KeyMismatchError, match="of epoch 1, the key is of epoch 0"):
        resume(path, world.own, world.holder.identity)


def test_one_journal_one_process(tmp_path):
    world, path = make_world(), tmp_path / "journal"
    with (
        memory.open_journal(path, world.own.card),
        pytest.raises(BlockingIOError, match="another process uses this journal"),
        memory.open_journal(path, world.own.card),
    ):
        pass
    with memory.open_journal(path, world.own.card):
        pass


def test_budgets_hold_over_restarts_and_epochs(tmp_path):
    world, path = make_world(), tmp_path / "journal"
    me = new_user(world.own, queries_per_day=3, images_per_day=4)[0]
    world = world._replace(me=me)
    with memory.open_journal(path, world.own.card) as journal:
        for order in catalogs(world):
            memory.keep_order(journal, order)
    state = restart(path, world)
    found = search(world, world.codes[:2], scheme="packed", top=2)
    admitted, spending = authority.admit(state, found.report, now=NOW)
    with memory.open_journal(path, world.own.card) as journal:
        request = found.report.request
        memory.note_answer(journal, request.nonce, issued=request.issued, now=NOW, spending=spending)
        plaintexts = authority.decrypt_report(admitted, found.report)
        after, spending, _ = authority.rank(admitted, found.report, plaintexts, now=NOW)
        memory.note_spending(journal, spending)
    again = restart(path, world)
    assert again.spent == after.spent and again.spent[me.grant.grant_id].rows == 2
    assert 2 <= len(again.spent[me.grant.grant_id].image_ids) <= 4
    later = search(world._replace(holder=again, me=found.world.me), world.codes[:1], scheme="packed", top=1)
    with pytest.raises(OverBudgetError) as error:
        authority.admit(later.world.holder, search(later.world, world.codes[:1], scheme="packed").report, now=NOW)
    assert 0 < error.value.retry_after <= authority.DAY_SECONDS
    # A new epoch forgets orders and nonces, and no spending.
    new = owner.rekey(world.own, draw=secrets.token_bytes)
    with memory.open_journal(path, world.own.card) as journal:
        memory.keep_appointment(journal, announce(new)[1])
    assert resume(path, new, world.holder.identity).spent == again.spent
    # Tomorrow it is still there, for a clock that goes back; the day after what was spent is gone from the disk.
    with memory.open_journal(path, new.card) as journal:
        memory.note_spending(journal, Spending(bytes(16), NOW // authority.DAY_SECONDS + 1, 1, ()))
        assert journal.execute("SELECT rows FROM spent WHERE grant_id = ?", [me.grant.grant_id]).fetchone() == (2,)
    with memory.open_journal(path, new.card) as journal:
        memory.note_spending(journal, Spending(bytes(16), NOW // authority.DAY_SECONDS + 2, 1, ()))
        assert journal.execute("SELECT count(*) FROM spent WHERE grant_id = ?", [me.grant.grant_id]).fetchone() == (0,)
        assert journal.execute("SELECT count(*) FROM opened").fetchone() == (0,)


def test_a_request_from_ahead_does_not_make_the_others_old_after_a_restart(tmp_path):
    """Its time of issue may be 300 s ahead of the clock; what was seen is the clock, and goes only forward."""
    world, path = make_world(), tmp_path / "journal"
    with memory.open_journal(path, world.own.card) as journal:
        for order in catalogs(world):
            memory.keep_order(journal, order)
        memory.note_answer(journal, bytes(16), issued=NOW + 300, now=NOW, spending=SPENDING)
        memory.note_answer(journal, bytes(15) + b"1", issued=NOW - 5, now=NOW - 5, spending=SPENDING)
    state = restart(path, world)
    assert state.seen == NOW
    found = search(world._replace(holder=state), world.codes[:1], scheme="packed", now=NOW - 200)
    assert found.matches
