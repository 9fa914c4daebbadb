"""A collection turns to its next epoch: announced, taken up once, never turned back; what was sealed is sealed anew."""

import dataclasses
import secrets

import pytest
from paillier_vectors import stored_key
from protocol_world import NOW, TOP, expected_order, make_world, new_user, positions, score, search

from jcbir.errors import FormatError, IntegrityError, KeyMismatchError
from jcbir.protocol import authority, owner, server, user
from jcbir.protocol._digests import digest
from jcbir.protocol._handover import DOMAIN
from jcbir.protocol._signatures import sign
from jcbir.protocol.messages import Appointment
from jcbir.protocol.owner import announce
from jcbir.protocol.refusals import (
    ForeignCollectionError,
    ForgedReplyError,
    ReplayedQueryError,
    RevokedGrantError,
    StaleQueryError,
)
from jcbir.sealing import seal_to


def turned(world, *, secret=None):
    """Everything of the world again in the next epoch, from what the server holds and the owner knows."""
    new = owner.rekey(world.own, draw=secrets.token_bytes, secret=secret)
    succession, appointment = announce(new)
    image_ids = [owner.pseudonym(world.own, name) for name in world.names]
    message = owner.recall(world.own, image_ids, now=NOW, draw=secrets.token_bytes)
    _, recalled = server.recall(world.cloud, message, now=NOW, most_bytes=1 << 20)
    pictures = owner.unseal(world.own, recalled.images)
    new, publication, catalog = owner.publish(
        new, world.codes, pictures, world.names, schemes=("bitsliced",), cipher="aes-gcm", draw=secrets.token_bytes
    )
    cloud = server.accept(server.succeed(world.cloud, succession), publication)
    holder = authority.catalog(authority.succeed(world.holder, appointment), catalog)
    place = {owner.pseudonym(new, name): i for i, name in enumerate(world.names)}
    order = [place[image_id] for image_id in catalog.image_ids if image_id in place]
    after = world._replace(
        own=new, cloud=cloud, holder=holder, me=new_user(new)[0], codes=world.codes[order],
        images=[world.images[i] for i in order], names=[world.names[i] for i in order],
    )  # fmt: skip
    return after, (succession, appointment)


@pytest.mark.parametrize("secret", [None, "medium"])
def test_a_search_after_it_equals_one_before_it(secret):
    world = make_world()
    after, _ = turned(world, secret=secret and stored_key(secret))
    assert after.own.card.epoch == 1 and (after.own.card.public == world.own.card.public) == (secret is None)
    found = search(after, world.codes[:2], scheme="bitsliced")
    for row, code in zip(found.matches, world.codes, strict=False):
        assert positions(after, row) == expected_order(after, code, top=TOP)
        for place, match in zip(positions(after, row), row, strict=True):
            assert match.photograph == after.images[place]
    # Nobody but the owner sees which image of the new epoch is which of the old one.
    assert not set(after.cloud.images) & set(world.cloud.images)
    assert after.names != world.names


def test_a_day_does_not_end_with_an_epoch():
    """What grants took today is told of in the next one, and the clock stays where it was."""
    world = make_world()
    _, query = user.ask(world.me, world.codes[:2], top=3, now=NOW, draw=secrets.token_bytes)
    holder, ranking = authority.answer(world.holder, score(world, query)[1], now=NOW)
    new = owner.rekey(world.own, draw=secrets.token_bytes)
    following = authority.succeed(holder, announce(new)[1])
    asked = owner.inquire(new, now=NOW, draw=secrets.token_bytes)
    (use,) = owner.check_usage(new, asked, authority.usage(following, asked, now=NOW)).values()
    assert (use.grant_id, use.queries, use.images) == (world.me.grant.grant_id, 2, len(ranking.image_ids))
    assert following.seen == holder.seen == NOW


def test_the_old_epoch_is_over():
    world = make_world()
    after, _ = turned(world)
    for name in ("image_master", "masking_key"):
        assert getattr(after.own, name) != getattr(world.own, name)
    _, query = user.ask(world.me, world.codes[:1], top=1, now=NOW, scheme="bitsliced", draw=secrets.token_bytes)
    with pytest.raises(RevokedGrantError, match="epoch 0"):
        server.admit_query(after.cloud, query, now=NOW)
    old = search(world, world.codes[:1], scheme="bitsliced")
    with pytest.raises(RevokedGrantError, match="epoch 0"):
        authority.answer(after.holder, old.report, now=NOW)
    # The keys that a user had open nothing of what the server holds now.
    image_id = old.matches[0][0].image_id
    image = next(image for image in old.delivery.images if image.image_id == image_id)
    assert len(owner.unseal(world.own, [image])) == 1
    for sealed in after.cloud.images.values():
        with pytest.raises(IntegrityError):
            owner.unseal(world.own, [dataclasses.replace(image, sealed=sealed)])


def test_epochs_follow_one_another_and_never_go_back():
    world = make_world()
    first, orders = turned(world)
    second, later = turned(first)
    for state, take, place in ((second.cloud, server.succeed, 0), (second.holder, authority.succeed, 1)):
        assert take(state, later[place]) is state
        with pytest.raises(StaleQueryError):
            take(state, orders[place])
    for state, take, place in ((world.cloud, server.succeed, 0), (world.holder, authority.succeed, 1)):
        with pytest.raises(ForeignCollectionError, match="the next one here is 1"):
            take(state, later[place])
        with pytest.raises(ForgedReplyError):
            take(state, sign(orders[place], secret=bytes(32)))
    other = dataclasses.replace(orders[0].card, collection="others")
    with pytest.raises(ForeignCollectionError):
        server.succeed(world.cloud, sign(dataclasses.replace(orders[0], card=other), secret=world.own.signing_secret))


def test_an_appointment_opens_for_that_authority_alone():
    world, other = make_world(), make_world(label="others")
    new = owner.rekey(world.own, draw=secrets.token_bytes)
    _, appointment = announce(new)
    for secret in (new.image_master, new.secret.p.prime.to_bytes(16)):
        assert secret not in appointment.sealed
    stranger = dataclasses.replace(world.holder, identity=other.holder.identity)
    with pytest.raises(IntegrityError):
        authority.succeed(stranger, appointment)
    # Sealed for one card it opens for no other.
    moved = dataclasses.replace(appointment.card, cloud_key=other.identity.public)
    moved = sign(dataclasses.replace(appointment, card=moved), secret=world.own.signing_secret)
    with pytest.raises(IntegrityError):
        authority.succeed(world.holder, moved)


def test_an_authority_takes_a_delegation_that_names_it_only():
    world, other = make_world(), make_world(label="others")
    with pytest.raises(KeyMismatchError, match="identity: must be the card's"):
        authority.appoint(owner.delegate(world.own), other.holder.identity)
    replaced = owner.rekey(
        world.own, draw=secrets.token_bytes, authority_key=other.holder.identity.public,
        authority_sealing_key=other.holder.identity.sealing_key,
    )  # fmt: skip
    with pytest.raises(IntegrityError):
        authority.succeed(world.holder, announce(replaced)[1])
    assert authority.appoint(owner.delegate(replaced), other.holder.identity).card.epoch == 1


def test_what_is_sealed_must_be_a_delegation():
    world = make_world()
    new = owner.rekey(world.own, draw=secrets.token_bytes)
    old_version = b"JCBR" + bytes(80)
    for body in (b"", b"\2", b"\2\0\1", bytes(16), b"\2\x93" + bytes(32), old_version):
        sealed = seal_to(new.card.authority_sealing_key, body, info=digest(new.card, domain=DOMAIN), aad=b"")
        with pytest.raises(FormatError, match="no delegation"):
            authority.succeed(world.holder, sign(Appointment(new.card, sealed), secret=new.signing_secret))
    wrong_key = dataclasses.replace(new, secret=stored_key("medium"))
    with pytest.raises(FormatError, match="not the card's"):
        authority.succeed(world.holder, announce(wrong_key)[1])


def test_a_recall_is_the_owners_fresh_and_answered_once():
    world, draw = make_world(), secrets.token_bytes
    image_ids = [owner.pseudonym(world.own, name) for name in world.names]
    message = owner.recall(world.own, image_ids, now=NOW, draw=draw)
    sizes = [len(world.cloud.images[image_id]) for image_id in image_ids]
    cloud, got = server.recall(world.cloud, message, now=NOW, most_bytes=sum(sizes[:7]))
    assert [image.image_id for image in got.images] == image_ids[:7]
    assert len(server.recall(world.cloud, message, now=NOW, most_bytes=1)[1].images) == 1
    with pytest.raises(ReplayedQueryError):
        server.recall(cloud, message, now=NOW, most_bytes=1)
    server.recall(cloud, owner.recall(world.own, image_ids, now=NOW, draw=draw), now=NOW, most_bytes=1)
    with pytest.raises(ForgedReplyError):
        server.recall(world.cloud, sign(message, secret=bytes(32)), now=NOW, most_bytes=1)
    for now in (NOW + 301, NOW - 301):
        with pytest.raises(StaleQueryError):
            server.recall(world.cloud, message, now=now, most_bytes=1)
    for now in (NOW + 300, NOW - 300):
        server.recall(world.cloud, message, now=now, most_bytes=1)
    lost = owner.recall(world.own, [image_ids[0], "0" * 32], now=NOW, draw=draw)
    with pytest.raises(ValueError, match="got 1 of 2 others"):
        server.recall(world.cloud, lost, now=NOW, most_bytes=1)
    after, _ = turned(world)
    with pytest.raises(ForeignCollectionError):
        server.recall(after.cloud, message, now=NOW, most_bytes=1)
