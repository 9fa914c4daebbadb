"""A stranger, a greedy user, a cheating server and a wrong clock: each does what once succeeded, and is refused."""

import dataclasses
import hashlib
import secrets

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from protocol_world import BITS, NOW, make_world, new_user, resign, score, search

from jcbir.errors import FormatError, IntegrityError, KeyMismatchError
from jcbir.protocol import _grants as grants, authority, owner, server, session, user
from jcbir.protocol._signatures import sign
from jcbir.protocol.messages import Catalog, SealedImage, Spending
from jcbir.protocol.refusals import ForgedReplyError, OverBudgetError, ReplayedQueryError, StaleQueryError
from jcbir.sealing import Photograph, image_key, open_photograph, seal_photograph

DAY = authority.DAY_SECONDS
MIDNIGHT = NOW - NOW % DAY
CODES = np.random.default_rng(11).random((6, BITS)) > 0.5


def asked(world, codes, *, top=3, now=NOW, scheme="packed"):
    """A query of the world's user and the server's report of it."""
    _, query = user.ask(world.me, codes, top=top, now=now, scheme=scheme, draw=secrets.token_bytes)
    return query, score(world, query, now=now)[1]


def never(*arguments, **options):
    raise AssertionError("a byte was decrypted")


def test_a_stranger_with_a_grant_gets_nothing_decrypted(monkeypatch):
    world = make_world()
    query, report = asked(world, CODES[:1])
    header = dataclasses.replace(report, openings=b"", scores=())
    # The user's own key, another cloud's, no signature at all; and a report of the stranger's own making.
    keys = (world.me.keys.signing_secret, secrets.token_bytes(32), world.own.signing_secret)
    forged = [dataclasses.replace(report, signature=sign(header, secret=key).signature) for key in keys]
    forged.append(dataclasses.replace(report, signature=b""))
    monkeypatch.setattr(authority, "decrypt_report", never)
    monkeypatch.setattr(authority, "ciphertext_rows", never)
    for bad in forged:
        with pytest.raises(ForgedReplyError):
            authority.answer(world.holder, bad, now=NOW)
    assert world.holder.answered == {} and world.holder.spent == {}
    assert query.request.nonce not in world.holder.answered


def test_scores_that_the_server_did_not_sign_are_refused():
    world = make_world()
    _, report = asked(world, CODES[:2])
    _, other = asked(world, CODES[:2])
    swapped = dataclasses.replace(report, scores=other.scores)
    turned = dataclasses.replace(report, scores=report.scores[::-1])
    part = report.scores[0][0]
    changed = part.ciphertexts.copy()
    changed[0, -1] ^= 1
    bent = dataclasses.replace(
        report, scores=((part._replace(ciphertexts=changed), *report.scores[0][1:]), *report.scores[1:])
    )
    for bad in (swapped, turned, bent):
        with pytest.raises(FormatError, match="signed header"):
            authority.admit(world.holder, bad, now=NOW)
    authority.admit(world.holder, report, now=NOW)


def test_a_server_that_the_card_does_not_name_cannot_report():
    world, other = make_world(), make_world(label="others")
    _, query = user.ask(world.me, CODES[:1], top=1, now=NOW, draw=secrets.token_bytes)
    with pytest.raises(KeyMismatchError, match="identity: must be the card's"):
        score(world._replace(identity=other.identity), query)


def greedy(**options):
    """A world whose user has this budget."""
    world = make_world()
    return world._replace(me=new_user(world.own, **options)[0])


def test_rows_of_a_day_are_counted_to_the_last():
    world = greedy(queries_per_day=4)
    holder = world.holder
    for count in (3, 1):
        holder, spending = authority.admit(holder, asked(world, CODES[:count])[1], now=NOW)
        assert (spending.rows, spending.image_ids) == (count, ())
    one_more = asked(world, CODES[:1])[1]
    with pytest.raises(OverBudgetError, match="4 of 4") as refused:
        authority.admit(holder, one_more, now=NOW)
    assert refused.value.retry_after == MIDNIGHT + DAY - NOW
    # Another grant has a budget of its own, and the next day begins at midnight, not a second before.
    authority.admit(holder, asked(world._replace(me=new_user(world.own)[0]), CODES)[1], now=NOW)
    last, first = MIDNIGHT + DAY - 1, MIDNIGHT + DAY
    with pytest.raises(OverBudgetError) as refused:
        authority.admit(holder, asked(world, CODES[:1], now=last)[1], now=last)
    assert refused.value.retry_after == 1
    holder, _ = authority.admit(holder, asked(world, CODES[:4], now=first)[1], now=first)
    assert authority._spent_today(holder, world.me.grant.grant_id, now=first).rows == 4


def test_a_batch_beyond_the_day_is_refused_by_both_at_once():
    world = greedy(queries_per_day=2)
    with pytest.raises(ValueError, match="codes: must be at most 2 a day"):
        asked(world, CODES[:3])


def answered_by(world, holder, codes, *, top, now=NOW):
    report = asked(world, codes, top=top, now=now)[1]
    holder, first = authority.admit(holder, report, now=now)
    plaintexts = authority.decrypt_report(holder, report)
    holder, second, ranking = authority.rank(holder, report, plaintexts, now=now)
    return holder, (first, second), ranking


def test_different_images_of_a_day_are_counted_and_nothing_is_sealed_beyond(monkeypatch):
    world = greedy(images_per_day=5)
    holder, (_, spending), ranking = answered_by(world, world.holder, CODES[:1], top=4)
    assert set(spending.image_ids) == set(ranking.image_ids) and len(spending.image_ids) == 4
    # The same images again cost nothing.
    holder, (_, again), _ = answered_by(world, holder, CODES[:1], top=4)
    assert again.image_ids == ()
    report = asked(world, CODES[1:2], top=5)[1]
    admitted, _ = authority.admit(holder, report, now=NOW)
    plaintexts = authority.decrypt_report(admitted, report)
    monkeypatch.setattr(authority, "seal_to", never)
    monkeypatch.setattr(authority, "image_key", never)
    for _ in range(2):
        with pytest.raises(OverBudgetError, match="4 of 5 were opened today") as refused:
            authority.rank(admitted, report, plaintexts, now=NOW)
        assert refused.value.retry_after == MIDNIGHT + DAY - NOW
    monkeypatch.undo()
    # Nothing was spent by the refusal: one image more still fits.
    missing = next(code for code in world.codes if code_finds_new(world, code, ranking))
    holder, (_, last), _ = answered_by(world, admitted, missing[None], top=1)
    assert len(last.image_ids) == 1
    assert len(authority._spent_today(holder, world.me.grant.grant_id, now=NOW).image_ids) == 5
    # The next day all are new again.
    tomorrow = MIDNIGHT + DAY
    _, (_, fresh), _ = answered_by(world, holder, CODES[:1], top=4, now=tomorrow)
    assert len(fresh.image_ids) == 4


def code_finds_new(world, code, ranking):
    distances = (world.codes ^ code).sum(axis=1)
    nearest = owner.pseudonym(world.own, world.names[int(np.argmin(distances))])
    return nearest not in ranking.image_ids and (distances == 0).sum() == 1


def test_a_batch_of_many_queries_does_not_open_the_collection():
    """Honest queries in one message once opened nearly all pictures."""
    world = greedy(queries_per_day=30, images_per_day=10)
    report = asked(world, np.random.default_rng(0).random((30, BITS)) > 0.5, top=10, scheme="bitsliced")[1]
    holder, _ = authority.admit(world.holder, report, now=NOW)
    with pytest.raises(OverBudgetError):
        authority.rank(holder, report, authority.decrypt_report(holder, report), now=NOW)


def test_a_grant_that_opens_nothing_spends_no_image():
    world = greedy(rights=["rank"], images_per_day=1)
    _, (_, spending), ranking = answered_by(world, world.holder, CODES[:2], top=5)
    assert spending.image_ids == () and ranking.image_ids == ()


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 4), st.sets(st.sampled_from("abcdef"))),
        max_size=12,
    )
)
@settings(max_examples=60)
def test_what_the_journal_reads_back_is_what_was_spent(steps):
    """Spending taken in one by one, in the journal's sums, and counted by hand."""
    state = make_world().holder
    days, rows, images = {}, {}, {}
    for grant, day, count, names in steps:
        grant_id = bytes([grant] * 16)
        state = authority.spend(state, Spending(grant_id, day, count, tuple(names)))
        if day >= days.get(grant, day):
            if day > days.get(grant, day):
                rows[grant], images[grant] = 0, set()
            days[grant] = day
            rows[grant] = rows.get(grant, 0) + count
            images[grant] = images.get(grant, set()) | names
    for grant, day in days.items():
        found = authority._spent_today(state, bytes([grant] * 16), now=day * DAY)
        assert (found.rows, found.image_ids) == (rows[grant], images[grant])
        assert authority._spent_today(state, bytes([grant] * 16), now=(day + 1) * DAY).rows == 0


def test_a_clock_that_steps_back_lets_no_replay_in():
    world, window = make_world(), grants.WINDOW_SECONDS
    old, report = asked(world, CODES[:1])
    cloud, holder = server.admit_query(world.cloud, old, now=NOW), authority.answer(world.holder, report, now=NOW)[0]
    # Time goes on until the name of the first could be forgotten; then the clock is set back.
    later = NOW + 3 * window
    other, other_report = asked(world, CODES[:1], now=later)
    cloud, holder = server.admit_query(cloud, other, now=later), authority.answer(holder, other_report, now=later)[0]
    assert old.request.nonce not in cloud.answered and old.request.nonce not in holder.answered
    for now in (NOW, NOW + window, later):
        with pytest.raises(StaleQueryError):
            server.admit_query(cloud, old, now=now)
        with pytest.raises(StaleQueryError):
            authority.admit(holder, report, now=now)
    recall = owner.recall(world.own, list(cloud.images)[:1], now=NOW, draw=secrets.token_bytes)
    with pytest.raises(StaleQueryError):
        server.admit_recall(cloud, recall, now=NOW)


@pytest.mark.parametrize("age", [0, 1, 2])
def test_names_are_kept_for_two_windows(age):
    window = grants.WINDOW_SECONDS
    held = grants.note_answered({}, b"first", issued=NOW, now=NOW)
    edge = NOW + 2 * window + age - 1
    after = grants.note_answered(held, b"second", issued=edge, now=edge)
    assert (b"first" in after) == (age < 2)
    # A name from ahead of the clock stays as long.
    ahead = grants.note_answered({}, b"ahead", issued=NOW + window, now=NOW)
    assert b"ahead" in grants.note_answered(ahead, b"x", issued=NOW, now=NOW + 3 * window)
    assert b"ahead" not in grants.note_answered(ahead, b"x", issued=NOW, now=NOW + 3 * window + 1)


@pytest.mark.parametrize("side", [-1, 1])
def test_both_sides_and_the_boundary_of_every_window(side):
    world, window = make_world(), grants.WINDOW_SECONDS
    query, report = asked(world, CODES[:1])
    recall = owner.recall(world.own, list(world.cloud.images)[:1], now=NOW, draw=secrets.token_bytes)
    doors = (
        lambda now: server.admit_query(world.cloud, query, now=now),
        lambda now: authority.admit(world.holder, report, now=now),
        lambda now: server.admit_recall(world.cloud, recall, now=now),
    )
    for door in doors:
        door(NOW + side * window)
        with pytest.raises((StaleQueryError, grants.ExpiredGrantError)):
            door(NOW + side * (window + 1))
    card, grant = world.own.card, world.me.grant
    for now in (grant.issued - window, grant.expires - 1):
        grants.check_grant(grant, card=card, now=now)
    for now in (grant.issued - window - 1, grant.expires):
        with pytest.raises(grants.ExpiredGrantError):
            grants.check_grant(grant, card=card, now=now)


def test_rate_can_be_spent_after_freshness():
    """A replay is refused by the decision itself, so a service that counts afterwards counts no replay."""
    world = make_world()
    query, report = asked(world, CODES[:1])
    cloud = server.admit_query(world.cloud, query, now=NOW)
    holder, _ = authority.admit(world.holder, report, now=NOW)
    with pytest.raises(ReplayedQueryError):
        server.admit_query(cloud, query, now=NOW)
    with pytest.raises(ReplayedQueryError):
        authority.admit(holder, report, now=NOW)
    assert authority._spent_today(holder, world.me.grant.grant_id, now=NOW).rows == 1


def test_who_opened_an_image_cannot_forge_it_for_others():
    """The forger's image opens under the shared key, with no error; the catalog's hash tells it apart."""
    world = make_world()
    found = search(world, world.codes[:1], scheme="packed", top=1)
    image_id = found.ranking.image_ids[0]
    segment = world.own.image_ids[image_id]
    key = image_key(world.own.image_master, image_id=image_id, epoch=0, segment=segment)
    lie = Photograph(b"a lie", "image/png")
    forged = seal_photograph(lie, key=key, nonce=secrets.token_bytes(16), image_id=image_id, cipher="aes-gcm")
    assert open_photograph(forged, key=key, image_id=image_id) == lie
    me, query = user.ask(world.me, world.codes[:1], top=1, now=NOW, draw=secrets.token_bytes)
    cloud, report = score(world, query)
    cloud = dataclasses.replace(cloud, images={**cloud.images, image_id: forged})
    _, ranking = authority.answer(world.holder, report, now=NOW)
    _, delivery = server.deliver(cloud, ranking)
    with pytest.raises(IntegrityError, match=f"image {image_id} is not the one"):
        user.receive(me, delivery)


def test_a_withdrawn_image_is_not_served_again():
    world = make_world()
    name, code = world.names[0], world.codes[:1]
    old = world.cloud.images[owner.pseudonym(world.own, name)]
    own, withdrawal = owner.withdraw(world.own, [name])
    cloud, holder = server.withdraw(world.cloud, withdrawal), authority.withdraw(world.holder, withdrawal)
    new = Photograph(b"new", "image/png")
    own, publication, catalog = owner.publish(own, code, [new], [name], cipher="aes-gcm", draw=secrets.token_bytes)
    cloud, holder = server.accept(cloud, publication), authority.catalog(holder, catalog)
    world = world._replace(own=own, cloud=cloud, holder=holder)
    cheating = dataclasses.replace(cloud, images={**cloud.images, owner.pseudonym(own, name): old})
    # The new segment offers `packed` alone, and so the search is in it.
    me, query = user.ask(world.me, code, top=1, now=NOW, draw=secrets.token_bytes)
    state, report = score(world, query)
    _, ranking = authority.answer(holder, report, now=NOW)
    assert ranking.image_ids == (owner.pseudonym(own, name),)
    honest = server.deliver(state, ranking)[1]
    assert user.receive(me, honest)[1][0][0].photograph == new
    served = dataclasses.replace(
        honest, images=(SealedImage(ranking.image_ids[0], cheating.images[ranking.image_ids[0]]),)
    )
    with pytest.raises(IntegrityError, match="is not the one"):
        user.receive(me, served)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0), (1, 0, 0, 1)])
def test_withdrawals_come_in_any_order_and_again(order):
    """One of an image that came back in between brings nothing back, whoever holds it up."""
    world, own, withdrawals = make_world(), make_world().own, []
    cloud, holder, name = world.cloud, world.holder, owner.pseudonym(own, world.names[0])
    for _ in range(2):
        own, withdrawal = owner.withdraw(own, [world.names[0]])
        withdrawals.append(withdrawal)
        cloud = server.withdraw(cloud, withdrawal)
        if len(withdrawals) == 1:
            own, publication, catalog = owner.publish(
                own, CODES[:1], world.images[:1], world.names[:1], schemes=("bitsliced",), cipher="aes-gcm",
                draw=secrets.token_bytes,
            )  # fmt: skip
            cloud, holder = server.accept(cloud, publication), authority.catalog(holder, catalog)
    for each in order:
        cloud, holder = server.withdraw(cloud, withdrawals[each]), authority.withdraw(holder, withdrawals[each])
    assert name not in cloud.images
    places = [(number, ids.index(name)) for number, ids in published(holder) if name in ids]
    assert len(places) == 2 and all(holder.dead[number][place] for number, place in places)


def published(holder):
    return [(number, part.image_ids) for number, part in holder.catalogs.items()]


def test_the_catalog_hashes_what_the_server_holds():
    world = make_world()
    for line in world.transcript:
        if isinstance(line.message, Catalog):
            pairs = zip(line.message.image_ids, line.message.hashes, strict=True)
            assert all(hashlib.sha256(world.cloud.images[name]).digest() == known for name, known in pairs)


def test_the_order_of_a_segment_is_drawn_and_says_nothing():
    world = make_world()
    names = [f"photo-{i}" for i in range(8)]
    orders = set()
    for _ in range(20):
        _, publication, catalog = owner.publish(
            world.own, CODES[[0] * 8], world.images[:1] * 8, names, schemes=["bitsliced"], cipher="aes-gcm",
            draw=secrets.token_bytes,
        )  # fmt: skip
        assert tuple(image.image_id for image in publication.images) == catalog.image_ids
        place = {owner.pseudonym(world.own, name): i for i, name in enumerate(names)}
        orders.add(tuple(place[image_id] for image_id in catalog.image_ids if image_id in place))
    assert len(orders) > 18
    assert len({order[0] for order in orders}) > 3


def test_each_epoch_has_pseudonyms_of_its_own():
    world = make_world()
    new = owner.rekey(world.own, draw=secrets.token_bytes)
    before, after = ({owner.pseudonym(own, name) for name in world.names} for own in (world.own, new))
    assert len(before) == len(after) == 30 and not before & after


def test_a_cheating_server_that_reports_for_another_request_is_refused():
    world = make_world()
    first, report = asked(world, CODES[:1])
    second, _ = asked(world, CODES[1:2])
    # Signed as it should be, by the right server: what the user signed does not change hands.
    for bad in (
        resign(world, report, request=dataclasses.replace(first.request, top=4)),
        resign(world, report, request=dataclasses.replace(second.request, nonce=first.request.nonce)),
    ):
        with pytest.raises(grants.TamperedQueryError):
            authority.admit(world.holder, bad, now=NOW)


def test_the_session_runs_a_search_with_hybrid_keys():
    world = make_world()
    state = session.Session(world.own, world.cloud, world.identity, world.holder)
    state = session.admit(state, now=NOW, draw=secrets.token_bytes, hybrid=True)
    _, found = session.search(state, world.codes[:1], top=1, now=NOW, draw=secrets.token_bytes)
    assert found.matches[0][0].distance == 0 and found.distances.shape == (1, 30)
