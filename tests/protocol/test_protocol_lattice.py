"""A lattice collection among the four parties: exact, each secret used once, and forged scores end it."""

import dataclasses
import functools
import math
import secrets

import jax
import numpy as np
import pytest
from protocol_world import NOW, resign, traces

from jcbir.errors import FormatError, IntegrityError
from jcbir.lattice._bits import unpack
from jcbir.lattice._ring import transform
from jcbir.lattice.public import expand
from jcbir.protocol import audit, authority, owner, server, session, user, wire
from jcbir.protocol._grants import commit, hash_shared
from jcbir.protocol._handover import open_hint
from jcbir.protocol._signatures import sign
from jcbir.protocol.leakage import describe
from jcbir.protocol.messages import Catalog, Publication, Query
from jcbir.protocol.refusals import (
    ForgedScoresError,
    HaltedError,
    ReplayedQueryError,
    RevokedGrantError,
    SuspendedGrantError,
    TamperedQueryError,
)
from jcbir.ranking import DEAD, SCHEMES, SECRET_KEY_KINDS
from jcbir.sealing import Photograph
from jcbir.storage._journal import keep_alarms, keep_appointment, keep_order, load_authority, note_answer, open_journal

BITS, COUNT, SPLIT = 16, 30, 20
DRAW = secrets.token_bytes
NUMBERS = np.random.default_rng(0)
CODES = NUMBERS.random((COUNT, BITS)) < 0.5
CODES[1], CODES[25] = ~CODES[0], CODES[0]
IMAGES = [Photograph(NUMBERS.bytes(300), "image/png", f"{i}.png") for i in range(COUNT)]
NAMES = [f"photo-{i}" for i in range(COUNT)]


def publish(state, part, **options):
    return session.publish(state, CODES[part], IMAGES[part], NAMES[part], cipher="aes-gcm", draw=DRAW, **options)


@functools.cache
def world(*, sentinels=True, cover=1):
    """Thirty images in two segments, one user."""
    key = SECRET_KEY_KINDS["lattice"].generate(code_bits=BITS, draw=DRAW)
    state = session.found(collection="photos", bits=BITS, secret=key, draw=DRAW)
    for part in (slice(0, SPLIT), slice(SPLIT, None)):
        state = publish(state, part, sentinels=sentinels)
    return session.admit(state, now=NOW, draw=DRAW, cover=cover)


def search(state, codes, *, top=5, **options):
    return session.search(state, codes, top=top, now=NOW, draw=DRAW, **options)


def score(state, query):
    needed = server.blinders_needed(state.server, query)
    blinders = owner.blinder_pool(state.owner, needed, draw=DRAW)
    return server.score_query(state.server, query, blinders=blinders, identity=state.cloud, now=NOW)[1]


def ask(state, codes, *, draw=DRAW, **options):
    return user.ask(state.users[0], codes, top=3, now=NOW, draw=draw, **options)[1]


def unwrap(state, catalog):
    """The hint of a catalog: in each row the segment's nonce and what the leaf calls a hint."""
    secret, card = state.authority.identity.secret, state.owner.card
    return open_hint(secret, card, catalog.wrapped[0], segment=catalog.segment, scheme="lattice")


def names_of(state):
    return {owner.pseudonym(state.owner, name): i for i, name in enumerate(NAMES)}


@pytest.mark.parametrize("sentinels", [True, False])
def test_a_search_finds_the_nearest_and_opens_them(sentinels):
    state = world(sentinels=sentinels)
    queries = np.stack([CODES[0], ~CODES[3], CODES[7] ^ (np.arange(BITS) < 2)])
    state, found = search(state, queries, top=COUNT)
    assert found.query.request.scheme == "lattice"
    known = names_of(state)
    for code, row in zip(queries, found.matches, strict=True):
        assert len(row) == COUNT
        for match in row:
            i = known[match.image_id]
            assert match.distance == np.count_nonzero(CODES[i] ^ code)
            assert match.photograph == IMAGES[i]
        assert [match.distance for match in row] == sorted(np.count_nonzero(CODES ^ code, axis=1))
    assert (found.distances == DEAD).sum() == (0 if not sentinels else found.distances.size - 3 * COUNT)


def test_what_all_blocks_share_travels_once():
    state, found = search(world(), CODES[:1])
    (first, second) = found.report.scores[0]
    v = state.owner.card.public.key.parameters
    assert first.ciphertexts.nbytes == v.reply_shared_bytes + v.reply_block_bytes
    assert second.ciphertexts.nbytes == v.reply_block_bytes


def test_what_is_the_authoritys_goes_past_the_server():
    state, found = search(world(), CODES[:1])
    said = {kind: [x.message for x in state.transcript if type(x.message) is kind] for kind in (Catalog, Publication)}
    hints = [unwrap(state, catalog) for catalog in said[Catalog]]
    _, openings = authority._openings(state.authority, found.report)
    known = b"".join(wire.to_bytes(message) for message in (*said[Publication], found.query, found.report))
    carried = b"".join(wire.to_bytes(catalog) for catalog in said[Catalog])
    for hint in hints:
        # The nonce, and the hint proper; who carries a catalog sees neither.
        for part in (hint[0, :32], hint[0, 32:64]):
            assert part.tobytes() not in known + carried
    assert openings.shape == (1, 32)
    assert openings.tobytes() not in known


def test_withdrawn_images_are_not_found():
    state = world()
    own, withdrawal = owner.withdraw(state.owner, [NAMES[0]])
    state = dataclasses.replace(
        state,
        owner=own,
        server=server.withdraw(state.server, withdrawal),
        authority=authority.withdraw(state.authority, withdrawal),
    )
    _, found = search(state, CODES[:1], top=1)
    assert names_of(state)[found.matches[0][0].image_id] == 25


def test_buckets_cover_a_result():
    _, found = search(world(cover=4), CODES[:1], top=1)
    assert len(found.delivery.images) >= 4
    assert found.matches[0][0].distance == 0


def test_revoked_grants_are_refused():
    state = world()
    query = ask(state, CODES[:1])
    report = score(state, query)
    _, revocation = owner.revoke(state.owner, [state.users[0].grant.grant_id])
    with pytest.raises(RevokedGrantError):
        authority.answer(authority.revoke(state.authority, revocation), report, now=NOW)


def repeating(*, size):
    """A source whose draws of one size are the same each time it is made anew, and whose others are fresh."""
    counter = iter(range(1, 256))
    return lambda count: bytes([next(counter)]) * count if count == size else DRAW(count)


def test_an_opening_opens_one_query():
    state = world()
    seeds = DRAW(64)
    # The same seeds for u and its errors, another code, under another nonce.
    one, two = (ask(state, code[None], draw=lambda n: seeds if n == 64 else DRAW(n)) for code in CODES[:2])
    assert one.request.nonce != two.request.nonce
    holder, _ = authority.answer(state.authority, score(state, one), now=NOW)
    with pytest.raises(ReplayedQueryError, match="what opens its scores was used before"):
        authority.answer(holder, score(state, two), now=NOW)
    twice = ask(state, CODES[:2], draw=lambda n: 2 * seeds if n == 128 else DRAW(n))
    with pytest.raises(ReplayedQueryError, match="what opens its scores was used before"):
        authority.answer(state.authority, score(state, twice), now=NOW)


def test_openings_of_another_request_are_refused():
    state = world()
    one, two = (ask(state, code[None]) for code in CODES[:2])
    report = score(state, one)
    # As a user would sign it who took another's openings.
    request = dataclasses.replace(one.request, openings=two.request.openings)
    request = sign(dataclasses.replace(request, signature=b""), secret=state.users[0].keys.signing_secret)
    stolen = dataclasses.replace(report, request=request, openings=two.openings, signature=b"")
    signed = sign(dataclasses.replace(stolen, openings=b"", scores=()), secret=state.cloud.secret)
    stolen = dataclasses.replace(signed, openings=stolen.openings, scores=stolen.scores)
    with pytest.raises(TamperedQueryError, match="openings: were not sealed for this request"):
        authority.admit(state.authority, stolen, now=NOW)


def test_a_segments_nonce_is_taken_once():
    key = SECRET_KEY_KINDS["lattice"].generate(code_bits=BITS, draw=DRAW)
    state = session.found(collection="photos", bits=BITS, secret=key, draw=DRAW)
    holder, own = state.authority, state.owner
    catalogs = []
    for i in range(2):
        own, _, catalog = owner.publish(
            own, CODES[i : i + 1], IMAGES[i : i + 1], NAMES[i : i + 1], cipher="aes-gcm", sentinels=False,
            draw=repeating(size=32),
        )  # fmt: skip
        catalogs.append(catalog)
    holder = authority.catalog(holder, catalogs[0])
    assert authority.catalog(holder, catalogs[0]) is holder
    with pytest.raises(ValueError, match="hints: must be of another nonce than other segments', got segment 1"):
        authority.catalog(holder, catalogs[1])
    for count in (0, 2):
        other = dataclasses.replace(catalogs[1], hints=catalogs[1].hints * count, signature=b"", wrapped=())
        signed = sign(other, secret=own.signing_secret)
        with pytest.raises(ValueError, match="hints: must be of one scheme for lattice keys"):
            authority.catalog(holder, dataclasses.replace(signed, wrapped=catalogs[1].wrapped * count))
    # The nonce of a segment that was shredded is not taken again either.
    gone = authority.withdraw(holder, owner.withdraw(own, NAMES[:1])[1])
    assert gone.prepared == {}
    with pytest.raises(ValueError, match="hints: must be of another nonce than other segments', got segment 1"):
        authority.catalog(gone, catalogs[1])


def test_hints_are_those_that_the_owner_signed():
    state = world()
    first, second = (line.message for line in state.transcript if type(line.message) is Catalog)
    fresh = authority.appoint(owner.delegate(state.owner), state.authority.identity)
    for wrapped in ((), second.wrapped, (first.wrapped[0][:-1] + b"?",), first.wrapped * 2):
        with pytest.raises(ValueError, match="wrapped: must be the 1 hints that the owner signed, got others"):
            authority.catalog(fresh, dataclasses.replace(first, wrapped=wrapped))
    # Sealed for one segment, signed for another.
    moved = dataclasses.replace(first, segment=1, signature=b"", wrapped=())
    moved = dataclasses.replace(sign(moved, secret=state.owner.signing_secret), wrapped=first.wrapped)
    with pytest.raises(IntegrityError):
        authority.catalog(fresh, moved)


def test_a_segment_without_images_is_shredded(tmp_path):
    """Master key, the server's blocks and all that is kept: none of it opens the segment, and the rest goes on."""
    state, appointed = world(), authority.appoint(owner.delegate(world().owner), world().authority.identity)
    first, second = (line.message for line in state.transcript if type(line.message) is Catalog)
    report = score(state, ask(state, CODES[:1]))
    own, withdrawal = owner.withdraw(state.owner, NAMES[:SPLIT])
    with open_journal(tmp_path / "journal", state.owner.card) as journal:
        holder = appointed
        for catalog in (first, second):
            holder = authority.catalog(holder, catalog)
            before = load_authority(journal, appointed).opened
            keep_order(journal, catalog, openings=frozenset().union(*holder.opened).difference(*before))
        assert traces(tmp_path, first.wrapped[0]) > 0 == traces(tmp_path, unwrap(state, first)[0].tobytes())
        # All but one: nothing is shredded yet.
        _, some = owner.withdraw(state.owner, NAMES[1:SPLIT])
        assert set(authority.withdraw(holder, some).prepared) == {0, 1}
        after = authority.withdraw(holder, withdrawal)
        assert set(after.prepared) == {1}
        keep_order(journal, withdrawal, shredded=holder.prepared.keys() - after.prepared.keys())
        assert traces(tmp_path, second.wrapped[0]) > 0 == traces(tmp_path, first.wrapped[0])
        loaded = load_authority(journal, appointed)
    assert traces(tmp_path, first.wrapped[0]) == 0
    assert (set(loaded.prepared), loaded.opened) == ({1}, (frozenset().union(*after.opened),))
    # The server scores the segment still; nothing of it is opened, and the other one is exact.
    cloud = server.withdraw(state.server, withdrawal)
    state = dataclasses.replace(state, owner=own, server=cloud, authority=loaded)
    _, found = search(state, CODES[:1], top=COUNT)
    assert [names_of(state)[match.image_id] for match in found.matches[0]][:1] == [25]
    assert len(found.matches[0]) == COUNT - SPLIT
    # A report of before, which names the segment's images as living, is refused by its name.
    kept = dataclasses.replace(first, wrapped=())
    fresh = authority.catalog(authority.catalog(appointed, kept, shredded=True), second)
    with pytest.raises(FormatError, match="what opens the scores of segment 0 was destroyed, and images of it live"):
        authority.answer(fresh, report, now=NOW)
    with pytest.raises(ValueError, match="wrapped: must be the 1 hints"):
        authority.catalog(appointed, kept)
    # Sent again by whoever recorded it, the catalog brings nothing back.
    assert authority.catalog(loaded, first) is loaded


def test_a_segment_that_was_withdrawn_before_it_came_is_shredded():
    state, appointed = world(), authority.appoint(owner.delegate(world().owner), world().authority.identity)
    first, second = (line.message for line in state.transcript if type(line.message) is Catalog)
    holder = authority.withdraw(appointed, owner.withdraw(state.owner, NAMES[:SPLIT])[1])
    for catalog in (first, second):
        holder = authority.catalog(holder, catalog)
    assert (set(holder.catalogs), set(holder.prepared)) == ({0, 1}, {1})
    assert len(frozenset().union(*holder.opened)) == 2


def test_all_segments_shredded_finds_nothing():
    state = world()
    own, withdrawal = owner.withdraw(state.owner, NAMES)
    state = dataclasses.replace(
        state,
        owner=own,
        server=server.withdraw(state.server, withdrawal),
        authority=authority.withdraw(state.authority, withdrawal),
    )
    assert state.authority.prepared == {}
    assert search(state, CODES[:2])[1].matches == ((), ())
    # And what is published under the same names again is a segment of its own.
    state = publish(state, slice(0, 3))
    assert search(state, CODES[:1], top=1)[1].matches[0][0].distance == 0


def largest_difference(public, one, two):
    """log2 of the largest coefficient of c_0 - c'_0, and of a_1 (c_0 - c'_0) - a_0 (c_1 - c'_1), modulo q."""
    v = public.parameters
    rows = [
        unpack(index.ciphertexts[:1], (len(v.primes), v.polys, v.degree), primes=v.primes, name="index")[0].astype(int)
        for index in (one, two)
    ]
    a, apart = expand(public).astype(int), rows[0] - rows[1]
    both = np.stack([apart[:, 0], a[:, 1] * apart[:, 0] - a[:, 0] * apart[:, 1]], axis=1)
    with jax.enable_x64(True):
        residues = np.asarray(
            transform(both % np.array(v.primes)[:, None, None], v.primes, degree=v.degree, inverse=True)
        )
    weights = np.array([v.q // p * pow(v.q // p, -1, p) for p in v.primes], object)[:, None, None]
    lifted = (residues.astype(object) * weights).sum(axis=0) % v.q
    return [math.log2(max(part.max(), 1)) for part in np.minimum(lifted, v.q - lifted)]


def test_two_builds_share_nothing():
    """Of one secret used twice c - c' is m - m' + t (e - e'), and small; of errors used twice m - m' is left."""
    key = SECRET_KEY_KINDS["lattice"].generate(code_bits=BITS, draw=DRAW)
    own = session.found(collection="photos", bits=BITS, secret=key, draw=DRAW).owner

    def build(own, names, draw):
        own, publication, _ = owner.publish(
            own, CODES[:3], IMAGES[:3], names, cipher="aes-gcm", sentinels=False, draw=draw
        )  # fmt: skip
        return own, publication.indexes[0]

    # Appended, published again after it was withdrawn, and restored from an older state: all under one key.
    after, first = build(own, NAMES[:3], DRAW)
    appended, second = build(after, NAMES[3:6], DRAW)
    _, third = build(owner.withdraw(appended, NAMES[:3])[0], NAMES[:3], DRAW)
    _, restored = build(own, NAMES[:3], DRAW)
    public = key.public
    for other in (second, third, restored):
        assert min(largest_difference(public, first, other)) > 140
    # What the test would see, were they the same.
    replayed = [build(own, NAMES[:3], repeating(size=32))[1] for _ in range(2)]
    assert largest_difference(public, *replayed)[0] < public.parameters.t.bit_length()
    other_errors = iter([b"n" * 32, b"1" * 32, b"n" * 32, b"2" * 32])
    nonces = [build(own, NAMES[:3], lambda n: next(other_errors) if n == 32 else DRAW(n))[1] for _ in range(2)]
    assert largest_difference(public, *nonces)[0] < 45


def forgeries(state):
    """Name to what a server could report in place of the honest scores of one query."""
    query, other = (ask(state, code[None]) for code in CODES[:2])
    honest, instead = score(state, query), score(state, other)
    (row,), (wrong,) = honest.scores, instead.scores
    q = row[0].ciphertexts.copy()
    q[0, 0] ^= 1
    p = row[0].ciphertexts.copy()
    p[-1] = 0
    return honest, {
        "Q": (row[0]._replace(ciphertexts=q), row[1]),
        "P": (row[0]._replace(ciphertexts=p), row[1]),
        "another query": wrong,
        "another query's Q": (
            row[0]._replace(ciphertexts=np.concatenate([wrong[0].ciphertexts[:-1], row[0].ciphertexts[-1:]])), row[1],
        ),
        "segments exchanged": (
            row[0]._replace(ciphertexts=np.concatenate([row[0].ciphertexts[:-1], row[1].ciphertexts])),
            row[1]._replace(ciphertexts=row[0].ciphertexts[-1:]),
        ),
        "zeros": (row[0]._replace(ciphertexts=np.zeros_like(q)), row[1]),
        "residues beyond p": (row[0]._replace(ciphertexts=np.full_like(q, 255)), row[1]),
    }  # fmt: skip


@pytest.mark.parametrize("sentinels", [True, False])
def test_forged_scores_are_refused_before_any_ranking(sentinels):
    """By the scheme's own zeros, so without sentinels among the images too."""
    state = world(sentinels=sentinels)
    honest, forged = forgeries(state)
    for name, row in forged.items():
        report = resign(state_world(state), honest, scores=(row,))
        refused = ValueError if name == "residues beyond p" else ForgedScoresError
        with pytest.raises(refused) as caught:
            authority.answer(state.authority, report, now=NOW)
        # Where it went wrong would help the server along.
        assert not any(word in str(caught.value) for word in ("phase", "zero", "decode")), name
    authority.answer(state.authority, honest, now=NOW)


def state_world(state):
    class World:
        identity = state.cloud

    return World


def lying_query(state, me, codes):
    """What a grant's holder can sign and an honest server scores: a d that has nothing to do with its u."""
    me, honest = user.ask(me, codes, top=3, now=NOW, draw=DRAW)
    (door,) = user.ask(me, codes, top=3, now=NOW, draw=DRAW)[1].trapdoors
    shared = hash_shared([SCHEMES["lattice"].share(state.owner.card.public.key, door)])
    request = dataclasses.replace(
        honest.request, commitment=commit(honest.salt, (door,)), shared=shared, signature=b""
    )  # fmt: skip
    signed = sign(request, secret=me.keys.signing_secret)
    return dataclasses.replace(honest, request=signed, trapdoors=(door,))


def test_a_lying_user_stops_itself_and_nobody_else():
    state = session.admit(world(), now=NOW, draw=DRAW)
    liar, honest = (person.grant for person in state.users)
    report = score(state, lying_query(state, state.users[0], CODES[:1]))
    with pytest.raises(ForgedScoresError):
        authority.answer(state.authority, report, now=NOW)
    holder = authority.suspend(state.authority, liar)
    with pytest.raises(SuspendedGrantError, match="scores of a query of this user were forged before"):
        authority.answer(holder, score(state, ask(state, CODES[:1])), now=NOW)
    state = dataclasses.replace(state, authority=holder)
    me, query = user.ask(state.users[1], CODES[:1], top=1, now=NOW, draw=DRAW)
    _, ranking = authority.answer(holder, score(state, query), now=NOW)
    _, delivery = server.deliver(server.admit_query(state.server, query, now=NOW), ranking)
    assert user.receive(me, delivery)[1][0][0].distance == 0
    # The owner hears whose query it was.
    asked = owner.inquire(state.owner, now=NOW, draw=DRAW)
    told = authority.usage(holder, asked, now=NOW)
    owner.check_usage(state.owner, asked, told)
    assert told.suspended == (liar.grant_id,) and honest.grant_id not in told.suspended


def test_whatever_grants_a_user_holds_it_has_one_alarm():
    """Eight grants of one user are no eight users: they neither halt answering for others, nor tell eight bits."""
    state = world()
    liar, halted = state.users[0].grant, state.authority
    for number in range(2 * authority.MOST_SUSPENDED):
        halted = authority.suspend(halted, dataclasses.replace(liar, grant_id=bytes([number]) * 16))
    assert not halted.halted and halted.suspended == {liar.signing_key: bytes(16)}
    own, admission = owner.admit(state.owner, user.enroll(state.users[0].keys), now=NOW, draw=DRAW)
    me = user.join(state.users[0].keys, admission, owner_key=own.card.owner_key)
    again = dataclasses.replace(state, users=(me,))
    with pytest.raises(SuspendedGrantError):
        authority.answer(halted, score(again, ask(again, CODES[:1])), now=NOW)


def test_what_scores_share_is_the_users_word():
    """A server that answers with another Q stands alone as the forger, and one that is given another Q notices."""
    state = world()
    _, forged = forgeries(state)
    lying = ask(state, CODES[:1])
    request = dataclasses.replace(lying.request, shared=bytes(32), signature=b"")
    request = sign(request, secret=state.users[0].keys.signing_secret)
    with pytest.raises(TamperedQueryError, match="the user signed another value of what its scores share"):
        score(state, dataclasses.replace(lying, request=request))
    honest = score(state, ask(state, CODES[:1]))
    report = resign(state_world(state), honest, scores=(forged["Q"],))
    with pytest.raises(ForgedScoresError, match="what its scores share is not what the user signed"):
        authority.admit(state.authority, report, now=NOW)


def test_answering_halts_after_many_alarms_until_the_next_epoch():
    state = world()
    honest = score(state, ask(state, CODES[:1]))
    halted = state.authority
    for i in range(authority.MOST_SUSPENDED):
        assert not halted.halted
        halted = authority.suspend(halted, dataclasses.replace(state.users[0].grant, signing_key=bytes([i]) * 32))
    with pytest.raises(HaltedError, match="scores were forged too often"):
        authority.answer(halted, honest, now=NOW)
    # What was admitted before is not ranked either, nor is it of a grant that was suspended meanwhile.
    admitted, _ = authority.admit(state.authority, honest, now=NOW)
    plaintexts = authority.decrypt_report(admitted, honest)
    with pytest.raises(HaltedError):
        authority.rank(dataclasses.replace(admitted, suspended=halted.suspended), honest, plaintexts, now=NOW)
    with pytest.raises(SuspendedGrantError):
        authority.rank(authority.suspend(admitted, honest.request.grant), honest, plaintexts, now=NOW)
    new = owner.rekey(state.owner, draw=DRAW)
    assert authority.succeed(halted, owner.announce(new)[1]).suspended == {}


def test_a_new_epoch_has_a_new_key_and_nothing_of_the_old():
    state = world()
    old = state.owner.secret
    new = owner.rekey(state.owner, draw=DRAW)
    assert new.secret.master != old.master
    assert new.card.public.key.seed != old.public.seed
    succession, appointment = owner.announce(new)
    cloud, holder = server.succeed(state.server, succession), authority.succeed(state.authority, appointment)
    assert (holder.prepared, holder.opened) == ({}, ())
    state = dataclasses.replace(state, owner=new, server=cloud, authority=holder, users=())
    state = session.admit(publish(state, slice(0, 5)), now=NOW, draw=DRAW)
    _, found = search(state, CODES[2:3], top=1)
    assert found.matches[0][0].distance == 0


def test_audits_are_refused_by_name():
    state, found = search(world(), CODES[:1])
    _, head = owner.head(state.owner, now=NOW)
    with pytest.raises(ValueError, match="card: must have a key of a kind with audits, got lattice"):
        audit.ask_audit(state.users[0], found.query, found.ranking, head, blocks=1, draw=DRAW)


def test_the_journal_remembers_openings_and_the_alarm(tmp_path):
    state = world()
    report = score(state, ask(state, CODES[:1]))
    appointed = authority.appoint(owner.delegate(state.owner), state.authority.identity)
    admitted, spending = authority.admit(state.authority, report, now=NOW)
    with open_journal(tmp_path / "journal", state.owner.card) as journal:
        for line in state.transcript:
            if isinstance(line.message, Catalog):
                keep_order(journal, line.message)
        note = {"issued": NOW, "now": NOW, "spending": spending, "openings": authority.opening_names(admitted, report)}
        note_answer(journal, b"1" * 16, **note)
        with pytest.raises(ReplayedQueryError):
            note_answer(journal, b"2" * 16, **note)
        loaded = load_authority(journal, appointed)
        assert (loaded.opened, loaded.suspended) == ((frozenset(note["openings"]),), {})
        with pytest.raises(ReplayedQueryError, match="what opens its scores"):
            authority.admit(loaded, report, now=NOW)
        # Prepared anew from the catalogs.
        authority.answer(dataclasses.replace(loaded, opened=()), report, now=NOW)
        for _ in range(2):
            keep_alarms(journal, {bytes(32): bytes(16)})
        assert load_authority(journal, appointed).suspended == {bytes(32): bytes(16)}
        keep_appointment(journal, owner.announce(owner.rekey(state.owner, draw=DRAW))[1])
        after = load_authority(journal, appointed)
        assert (after.opened, after.suspended, after.card.epoch) == ((frozenset(),), {}, 1)


def test_the_leakage_table_says_what_each_party_learned():
    state, _ = search(world(), CODES[:2])
    rows = {(row["scheme"], row["party"]): row["learned"] for row in describe(state.transcript, holder=state.authority)}
    assert "of the queries nothing" in rows["lattice", "server"]
    assert "distances, nothing else (0 to" in rows["lattice", "authority"]


def test_other_schemes_are_refused_in_a_lattice_collection():
    state = world()
    with pytest.raises(
        ValueError, match="scheme: must be one for the lattice keys of the collection, lattice, got 'packed'"
    ):
        ask(state, CODES[:1], scheme="packed")
    with pytest.raises(ValueError, match="public: must be a paillier key for packed"):
        owner.publish(
            state.owner, CODES[:1], IMAGES[:1], ["new"], schemes=["lattice", "packed"], cipher="aes-gcm", draw=DRAW
        )
    query = ask(state, CODES[:1])
    asked = sign(dataclasses.replace(query.request, scheme="packed"), secret=state.users[0].keys.signing_secret)
    with pytest.raises(ValueError, match="scheme: must be one for lattice keys, got 'packed'"):
        server.admit_query(state.server, dataclasses.replace(query, request=asked), now=NOW)
    assert isinstance(query, Query)
