"""Every way to ask without the right to: refused, with the error that names the reason."""

import dataclasses
import secrets

import numpy as np
import pytest
from protocol_world import BITS, NOW, make_world, new_user, resign, score, search

from jcbir.errors import FormatError, KeyMismatchError
from jcbir.protocol import _grants as grants, authority, owner, refusals, server, session, user
from jcbir.protocol._signatures import sign
from jcbir.protocol.messages import Catalog

DAY = 86400
CODES = np.random.default_rng(5).random((2, BITS)) > 0.5


def ask(world, **options):
    options = {"top": 3, "now": NOW, "scheme": "packed", "draw": secrets.token_bytes} | options
    return user.ask(world.me, CODES, **options)


def report_of(world, **options):
    return score(world, ask(world, **options)[1])[1]


def refused_by_both(world, query, error, *, now=NOW):
    """The server refuses the query; the authority refuses a report that a careless server made of it."""
    with pytest.raises(error):
        score(world, query, now=now)
    honest = report_of(make_world())
    with pytest.raises(error):
        authority.answer(world.holder, resign(world, honest, request=query.request), now=now)


def resigned(world, query, **changes):
    request = dataclasses.replace(query.request, **changes)
    return dataclasses.replace(query, request=sign(request, secret=world.me.keys.signing_secret))


def with_grant(world, query, **changes):
    """A grant that the user altered: the owner's signature no longer fits."""
    return resigned(world, query, grant=dataclasses.replace(query.request.grant, **changes))


def test_forged_grants():
    world = make_world()
    query = ask(world)[1]
    for changes in (
        {"expires": NOW + 900 * DAY},
        {"max_results": 10**6},
        {"collection": "others"},
        {"rights": ("rank", "open", "all")},
        {"signature": bytes(64)},
        {"sealing_key": secrets.token_bytes(32)},
    ):
        refused_by_both(world, with_grant(world, query, **changes), refusals.ForgedGrantError)


def test_a_grant_signed_by_the_user_is_forged():
    world = make_world()
    query = ask(world)[1]
    own_grant = sign(query.request.grant, secret=world.me.keys.signing_secret)
    refused_by_both(world, resigned(world, query, grant=own_grant), refusals.ForgedGrantError)


def test_expired_grant():
    world = make_world()
    later = NOW + 30 * DAY
    query = ask(world, now=later)[1]
    refused_by_both(world, query, refusals.ExpiredGrantError, now=later)
    before = NOW - DAY
    refused_by_both(world, ask(world, now=before)[1], refusals.ExpiredGrantError, now=before)


def test_the_last_second_of_a_grant():
    world = make_world()
    last = NOW + 30 * DAY - 1
    grants.check_request(ask(world, now=last)[1].request, card=world.own.card, now=last)


def test_revoked_grant_and_list_order():
    world = make_world()
    own, revocation = owner.revoke(world.own, [world.me.grant.grant_id])
    own, empty_follows = owner.revoke(own, [secrets.token_bytes(16)])
    assert empty_follows.grant_ids[0] == world.me.grant.grant_id
    after = world._replace(
        cloud=server.revoke(world.cloud, revocation), holder=authority.revoke(world.holder, revocation)
    )
    refused_by_both(after, ask(world)[1], refusals.RevokedGrantError)
    for revoke, state in ((server.revoke, after.cloud), (authority.revoke, after.holder)):
        newer = revoke(state, empty_follows)
        with pytest.raises(refusals.StaleQueryError):
            revoke(newer, revocation)


def test_what_changed_since_a_report_was_admitted_counts():
    """Between admission and ranking lie the seconds of decryption: the grant is looked at again."""
    world = make_world()
    report = report_of(world)
    admitted, _ = authority.admit(world.holder, report, now=NOW)
    plaintexts = authority.decrypt_report(admitted, report)
    revoked = authority.revoke(admitted, owner.revoke(world.own, [world.me.grant.grant_id])[1])
    with pytest.raises(refusals.RevokedGrantError):
        authority.rank(revoked, report, plaintexts, now=NOW)
    with pytest.raises(refusals.ExpiredGrantError):
        authority.rank(admitted, report, plaintexts, now=world.me.grant.expires)
    mine = {world.me.grant.signing_key: bytes(16)}
    with pytest.raises(refusals.SuspendedGrantError):
        authority.rank(dataclasses.replace(admitted, suspended=mine), report, plaintexts, now=NOW)
    many = {bytes([number] * 32): bytes(16) for number in range(authority.MOST_SUSPENDED)}
    with pytest.raises(refusals.HaltedError):
        authority.rank(dataclasses.replace(admitted, suspended=many), report, plaintexts, now=NOW)
    authority.rank(admitted, report, plaintexts, now=NOW)


def test_an_order_that_comes_again_changes_nothing():
    """An owner that heard no answer sends again: the second time is no error, and as if it had not been."""
    world = make_world()
    own, revocation = owner.revoke(world.own, [secrets.token_bytes(16)])
    own, withdrawal = owner.withdraw(own, world.names[:2])
    own, head = owner.head(own, now=NOW)
    succession, appointment = owner.announce(owner.rekey(own, draw=secrets.token_bytes))
    catalogs = [line.message for line in world.transcript if isinstance(line.message, Catalog)]
    for state, orders in (
        (world.cloud, [(server.revoke, revocation), (server.withdraw, withdrawal), (server.take_head, head),
                       (server.succeed, succession)]),
        (world.holder, [*((authority.catalog, each) for each in catalogs), (authority.revoke, revocation),
                        (authority.withdraw, withdrawal), (authority.take_head, head),
                        (authority.succeed, appointment)]),
    ):  # fmt: skip
        for take, order in orders:
            once = take(state, order)
            assert take(once, order) == once, take.__name__


def test_revocation_of_another_owner_is_ignored():
    world = make_world()
    _, revocation = owner.revoke(world.own, [world.me.grant.grant_id])
    forged = sign(revocation, secret=secrets.token_bytes(32))
    for revoke, state in ((server.revoke, world.cloud), (authority.revoke, world.holder)):
        with pytest.raises(refusals.ForgedReplyError):
            revoke(state, forged)


def test_grant_of_an_old_epoch():
    world = make_world()
    new = owner.rekey(world.own, draw=secrets.token_bytes)
    moved = world._replace(
        cloud=dataclasses.replace(world.cloud, card=new.card),
        holder=authority.appoint(owner.delegate(new), world.holder.identity),
    )
    refused_by_both(moved, ask(world)[1], refusals.RevokedGrantError)


def test_foreign_collection():
    world = make_world()
    query = ask(world)[1]
    refused_by_both(world, resigned(world, query, collection="others"), refusals.ForeignCollectionError)
    other = session.found(collection="others", bits=BITS, secret=world.own.secret, draw=secrets.token_bytes)
    elsewhere = server.Server(other.owner.card)
    with pytest.raises(refusals.ForgedGrantError):
        server.admit_query(elsewhere, query, now=NOW)


def test_tampered_query():
    world = make_world()
    query = ask(world)[1]
    request = query.request
    for changes in ({"top": 4}, {"nonce": secrets.token_bytes(16)}, {"signature": bytes(64)}, {"queries": 1}):
        tampered = dataclasses.replace(query, request=dataclasses.replace(request, **changes))
        refused_by_both(world, tampered, refusals.TamperedQueryError)


def test_other_trapdoors_than_committed():
    world = make_world()
    first, second = ask(world)[1], ask(world)[1]
    for bad in (
        dataclasses.replace(first, trapdoors=second.trapdoors),
        dataclasses.replace(first, trapdoors=first.trapdoors[::-1]),
        dataclasses.replace(first, trapdoors=first.trapdoors[:1]),
        dataclasses.replace(first, salt=bytes(32)),
    ):
        with pytest.raises(refusals.TamperedQueryError):
            score(world, bad)


def test_replayed_query():
    world = make_world()
    found = search(world, CODES, scheme="packed")
    with pytest.raises(refusals.ReplayedQueryError):
        score(found.world, found.query)
    with pytest.raises(refusals.ReplayedQueryError):
        authority.answer(found.world.holder, found.report, now=NOW)
    with pytest.raises(refusals.ForgedReplyError):
        server.deliver(found.world.cloud, found.ranking)
    with pytest.raises(refusals.ForgedReplyError):
        user.receive(found.world.me, found.delivery)


def test_stale_query():
    world = make_world()
    query = ask(world)[1]
    for now in (NOW + grants.WINDOW_SECONDS + 1, NOW - grants.WINDOW_SECONDS - 1):
        with pytest.raises((refusals.StaleQueryError, refusals.ExpiredGrantError)):
            score(world, query, now=now)
    refused_by_both(world, query, refusals.StaleQueryError, now=NOW + grants.WINDOW_SECONDS + 1)
    score(world, query, now=NOW + grants.WINDOW_SECONDS)


def test_replay_is_remembered_as_long_as_a_query_is_fresh():
    world = make_world()
    early = ask(world, now=NOW + grants.WINDOW_SECONDS)[1]  # a clock that runs ahead
    cloud, _ = score(world, early)
    for now in (NOW, NOW + grants.WINDOW_SECONDS, NOW + 2 * grants.WINDOW_SECONDS):
        with pytest.raises(refusals.ReplayedQueryError):
            score(world._replace(cloud=cloud), early, now=now)


def test_missing_rights():
    world = make_world()
    query = ask(world)[1]
    refused_by_both(world, resigned(world, query, top=101), refusals.MissingRightError)
    refused_by_both(world, resigned(world, query, top=0), refusals.MissingRightError)
    nobody, *_ = new_user(world.own, rights=["open"])
    refused_by_both(world, ask(world._replace(me=nobody))[1], refusals.MissingRightError)
    with pytest.raises(ValueError, match="top: must be 1 to 100"):
        ask(world, top=101)


@pytest.mark.parametrize(("field", "limit"), [("top", "max_results"), ("queries", "queries_per_day")])
def test_a_grant_allows_from_one_to_its_limits(field, limit):
    world = make_world()
    request, most = ask(world)[1].request, getattr(world.me.grant, limit)

    def check(count):
        asked = dataclasses.replace(request, **{field: count})
        grants.check_request(sign(asked, secret=world.me.keys.signing_secret), card=world.own.card, now=NOW)

    for count in (1, most):
        check(count)
    for count in (0, most + 1):
        with pytest.raises(refusals.MissingRightError):
            check(count)


def test_other_openings_than_signed_are_refused_by_the_server():
    world = make_world(sentinels=True)
    query = ask(world)[1]
    assert query.openings
    score(world, query)
    for openings in (
        b"",
        query.openings[:-1],
        query.openings[:-1] + bytes([query.openings[-1] ^ 1]),
        ask(world)[1].openings,
    ):
        with pytest.raises(refusals.TamperedQueryError, match="the openings are not those"):
            score(world, dataclasses.replace(query, openings=openings))


def test_ranking_forged_by_the_server():
    world = make_world()
    me, query = ask(world)
    cloud, report = score(world, query)
    _, ranking = authority.answer(world.holder, report, now=NOW)
    others = tuple(sorted(world.cloud.images))[:3]
    for forged in (
        dataclasses.replace(ranking, image_ids=others),
        sign(ranking, secret=secrets.token_bytes(32)),
        dataclasses.replace(ranking, nonce=bytes(16)),
    ):
        with pytest.raises(refusals.ForgedReplyError):
            server.deliver(cloud, forged)
    _, delivery = server.deliver(cloud, ranking)
    stranger, *_ = new_user(world.own)
    with pytest.raises(refusals.ForgedReplyError):
        user.receive(stranger, delivery)
    with pytest.raises(refusals.ForgedReplyError):
        user.receive(me, dataclasses.replace(delivery, ranking=dataclasses.replace(ranking, image_ids=others)))


def test_publication_forged():
    world = make_world()
    _, publication, catalog = owner.publish(
        world.own, CODES, world.images[:2], ["a", "b"], cipher="aes-gcm", draw=secrets.token_bytes
    )
    with pytest.raises(refusals.ForgedReplyError):
        server.accept(world.cloud, dataclasses.replace(publication, images=publication.images[::-1]))
    with pytest.raises(refusals.ForgedReplyError):
        authority.catalog(world.holder, dataclasses.replace(catalog, image_ids=catalog.image_ids[::-1]))
    once = server.accept(world.cloud, publication)
    with pytest.raises(ValueError, match="must be segment 3, the next one here, got segment 2"):
        server.accept(once, publication)


def test_admission_is_bound_to_owner_and_user():
    world = make_world()
    keys = user.make_keys(draw=secrets.token_bytes)
    _, admission = owner.admit(world.own, user.enroll(keys), now=NOW, draw=secrets.token_bytes)
    with pytest.raises(refusals.ForgedReplyError):
        user.join(keys, admission, owner_key=secrets.token_bytes(32), unsafe_small=True)
    with pytest.raises(refusals.ForeignCollectionError):
        user.join(world.me.keys, admission, owner_key=world.own.card.owner_key, unsafe_small=True)
    enrollment = dataclasses.replace(user.enroll(keys), sealing_key=secrets.token_bytes(32))
    with pytest.raises(refusals.ForgedReplyError):
        owner.admit(world.own, enrollment, now=NOW, draw=secrets.token_bytes)


def test_reports_of_another_shape():
    world = make_world()
    report = report_of(world)
    for bad in (
        resign(world, report, scores=report.scores[:1]),
        resign(world, report, scores=tuple(row[:1] for row in report.scores)),
        resign(world, report, scores=tuple(row[::-1] for row in report.scores)),
    ):
        with pytest.raises(FormatError):
            authority.answer(world.holder, bad, now=NOW)
    first = resign(world, report, segments=(0,), scores=tuple(row[:1] for row in report.scores))
    for bad in (first, resign(world, report, segments=(1, 0))):
        with pytest.raises(refusals.OutOfStepError):
            authority.answer(world.holder, bad, now=NOW)
    # Scored before the second segment came, and answered all the same while that is recent.
    authority.admit(world.holder, first, now=NOW, settled=1)
    with pytest.raises(refusals.OutOfStepError):
        authority.admit(world.holder, first, now=NOW, settled=2)
    other_key = tuple(tuple(scores._replace(fingerprint="0" * 64) for scores in row) for row in report.scores)
    with pytest.raises(KeyMismatchError):
        authority.answer(world.holder, resign(world, report, scores=other_key), now=NOW)


def test_bad_arguments_of_publish():
    world = make_world()
    publish = {"draw": secrets.token_bytes, "cipher": "aes-gcm"}
    for codes, images, names, match in (
        (CODES, world.images[:1], ["a", "b"], "one of each"),
        (CODES[:0], [], [], "one of each"),
        (CODES, world.images[:2], ["a", "a"], "twice"),
        (CODES, world.images[:2], ["a", world.names[0]], "published already"),
        (np.zeros((2, 8), bool), world.images[:2], ["a", "b"], "16 bits"),
    ):
        with pytest.raises(ValueError, match=match):
            owner.publish(world.own, codes, images, names, **publish)
    with pytest.raises(ValueError, match="schemes"):
        owner.publish(world.own, CODES, world.images[:2], ["a", "b"], schemes=["fast"], **publish)
    with pytest.raises(ValueError, match="names: must be published"):
        owner.withdraw(world.own, ["never seen"])


def test_too_few_blinders():
    world = make_world()
    query = ask(world)[1]
    blinders = np.zeros((1, 128), np.uint8)
    with pytest.raises(ValueError, match="blinders"):
        server.score_query(world.cloud, query, blinders=blinders, identity=world.identity, now=NOW)


def test_no_secret_in_any_repr():
    world = make_world()
    holders = [world.own, owner.delegate(world.own), world.holder, world.holder.identity, world.me, world.me.keys]
    for holder in holders:
        shown = repr(holder)
        for field in dataclasses.fields(holder):
            value = getattr(holder, field.name)
            if isinstance(value, bytes):
                assert repr(value) not in shown
                assert value.hex() not in shown
        assert str(world.own.secret.p) not in shown


def test_an_empty_collection_and_a_scheme_that_is_not_offered():
    world = make_world()
    query = ask(world)[1]
    with pytest.raises(refusals.EmptyCollectionError):
        server.admit_query(server.Server(world.own.card), query, now=NOW)
    empty = authority.appoint(owner.delegate(world.own), world.holder.identity)
    with pytest.raises(refusals.EmptyCollectionError):
        authority.admit(empty, report_of(world), now=NOW)
    other = make_world(schemes=("bitsliced",), label="one scheme")
    with pytest.raises(ValueError, match="scheme: must be one of"):
        server.admit_query(other.cloud, ask(other)[1], now=NOW)


def test_an_abandoned_query_may_come_again_and_a_delivered_one_may_not():
    world = make_world()
    query = ask(world)[1]
    admitted = server.admit_query(world.cloud, query, now=NOW)
    assert dataclasses.replace(server.abandon_query(admitted, query.request.nonce), seen=0) == world.cloud
    found = search(world, CODES, scheme="packed")
    assert found.query.request.nonce not in found.world.cloud.awaited
    with pytest.raises(refusals.ReplayedQueryError):
        server.admit_query(found.world.cloud, found.query, now=NOW)


@pytest.mark.parametrize("copies", [0, 2])
def test_a_segment_has_one_index_of_each_scheme(copies):
    small = session.small_system()
    indexes = copies * small.publication.indexes
    publication = sign(dataclasses.replace(small.publication, indexes=indexes), secret=small.owner.signing_secret)
    with pytest.raises(ValueError, match="publication: must have indexes of different schemes, at least one"):
        server.accept(server.Server(small.owner.card), publication)


def test_an_enrollment_with_a_sealing_key_of_small_order_is_refused():
    small = session.small_system()
    enrollment = dataclasses.replace(small.enrollment, sealing_key=bytes(32))
    enrollment = sign(enrollment, secret=small.keys.signing_secret)
    with pytest.raises(ValueError, match="recipient_public: must be a point of full order"):
        owner.admit(small.owner, enrollment, now=NOW, draw=secrets.token_bytes)
