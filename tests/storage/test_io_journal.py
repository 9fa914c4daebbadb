"""The authority's journal: a restart forgets no order and answers nothing twice."""

import dataclasses
import itertools
import secrets
import sqlite3

import pytest
from protocol_world import NOW, make_world, search

from jcbir.errors import FormatError, KeyMismatchError
from jcbir.protocol import authority, owner, wire
from jcbir.protocol._signatures import sign
from jcbir.protocol.handover import announce
from jcbir.protocol.messages import Catalogue
from jcbir.protocol.refusals import ForgedReplyError, ReplayedQueryError
from jcbir.storage import journal as memory


def catalogues(world):
    return [line.message for line in world.transcript if isinstance(line.message, Catalogue)]


def restart(path, world):
    with memory.open_journal(path, world.own.card) as journal:
        return memory.load_authority(journal, authority.appoint(owner.delegate(world.own)))


def test_a_restart_forgets_nothing(tmp_path):
    world, path = make_world(), tmp_path / "journal"
    own, withdrawal = owner.withdraw(world.own, world.names[:2])
    own, first = owner.revoke(own, [secrets.token_bytes(16)])
    own, second = owner.revoke(own, [secrets.token_bytes(16)])
    with memory.open_journal(path, world.own.card) as journal:
        for order in (*catalogues(world), withdrawal, first, first, second):
            memory.keep_order(journal, order)
    state = restart(path, world)
    assert state.catalogues == world.holder.catalogues
    assert set(state.withdrawn) == {owner.pseudonym(own, name) for name in world.names[:2]}
    assert state.revoked == set(second.grant_ids)
    found = search(world._replace(holder=state), world.codes[:1], scheme="packed", top=30)
    assert len(found.matches[0]) == 28


def test_answers_are_remembered_over_a_restart(tmp_path):
    world, path = make_world(), tmp_path / "journal"
    found = search(world, world.codes[:1], scheme="packed")
    request = found.report.request
    with memory.open_journal(path, world.own.card) as journal:
        for order in catalogues(world):
            memory.keep_order(journal, order)
        memory.note_answer(journal, request.nonce, issued=request.issued, now=NOW)
    state = restart(path, world)
    with pytest.raises(ReplayedQueryError):
        authority.answer(state, found.report, now=NOW)
    # Another process that answers for the same collection is refused by the file itself.
    with memory.open_journal(path, world.own.card) as journal:
        with pytest.raises(ReplayedQueryError):
            memory.note_answer(journal, request.nonce, issued=request.issued, now=NOW + 1)
        memory.note_answer(journal, bytes(16), issued=NOW + 700, now=NOW + 700)
        assert journal.execute("SELECT nonce FROM answered").fetchall() == [(bytes(16),)]


def test_strangers_and_forgers(tmp_path):
    world, path = make_world(), tmp_path / "journal"
    forged = sign(catalogues(world)[0], secret=bytes(32))
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


def resume(path, own):
    """Start with a key file of this epoch."""
    delegation = owner.delegate(own)
    with memory.open_journal(path, delegation.card) as journal:
        return memory.load_authority(journal, authority.appoint(delegation))


def test_appointments_lead_from_an_old_key_file_to_the_epoch_in_force(tmp_path):
    world, path = make_world(), tmp_path / "journal"
    epochs = [world.own]
    for _ in range(2):
        epochs.append(owner.rekey(epochs[-1], draw=secrets.token_bytes))
    state = resume(path, world.own)
    with memory.open_journal(path, world.own.card) as journal:
        memory.keep_order(journal, catalogues(world)[0])
        memory.note_answer(journal, bytes(16), issued=NOW, now=NOW)
        for old, new in itertools.pairwise(epochs):
            _, appointment = announce(old, new)
            state = authority.succeed(state, appointment)
            memory.keep_appointment(journal, appointment)
    for own in epochs:
        again = resume(path, own)
        assert (again.card, again.image_master) == (state.card, epochs[-1].image_master)
        assert not again.catalogues and not again.answered
    # The journal alone gives nothing away, and an altered one is noticed.
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert epochs[-1].image_master not in content and epochs[-1].authority_secret not in content
    with memory.open_journal(path, world.own.card) as journal:
        journal.execute("DELETE FROM meta WHERE name = 'appointment-0000000002'")
    with pytest.raises(KeyMismatchError, match="of epoch 2, the key is of epoch 1"):
        resume(path, world.own)


def test_a_newer_key_file_begins_the_journal_anew(tmp_path):
    world, path = make_world(), tmp_path / "journal"
    new = owner.rekey(world.own, draw=secrets.token_bytes)
    resume(path, world.own)
    with memory.open_journal(path, world.own.card) as journal:
        memory.keep_order(journal, catalogues(world)[0])
    assert not resume(path, new).catalogues
    # And there is no way back.
    with pytest.raises(KeyMismatchError, match="of epoch 1, the key is of epoch 0"):
        resume(path, world.own)
