"""A collection turns to its next epoch: announced, taken up once, never turned back; what was sealed is sealed anew."""

import dataclasses
import secrets

import numpy as np
import pytest
from paillier_vectors import stored_key
from protocol_world import NOW, TOP, expected_order, make_world, new_user, positions, search

from jcbir.errors import FormatError, IntegrityError
from jcbir.protocol import authority, epochs, owner, server, user
from jcbir.protocol._signatures import sign
from jcbir.protocol.handover import announce, open_appointment
from jcbir.protocol.messages import Appointment
from jcbir.protocol.refusals import ForeignCollectionError, ForgedReplyError, RevokedGrantError, StaleQueryError


def turned(world, *, secret=None):
    """Everything of the world again in the next epoch, from what the server holds and the owner knows."""
    new = owner.rekey(world.own, draw=secrets.token_bytes, secret=secret)
    succession, appointment = announce(world.own, new)
    image_ids = [owner.pseudonym(world.own, name) for name in world.names]
    message = owner.recall(world.own, image_ids, now=NOW)
    recalled = epochs.recall(world.cloud, message, now=NOW, most_bytes=1 << 20)
    pictures = owner.unseal(world.own, recalled.images)
    new, publication, catalogue = owner.publish(
        new, world.codes, pictures, world.names, schemes=("bitsliced",), cipher="aes-gcm", draw=secrets.token_bytes
    )
    cloud = server.accept(epochs.succeed(world.cloud, succession), publication)
    holder = authority.catalog(authority.succeed(world.holder, appointment), catalogue)
    return world._replace(own=new, cloud=cloud, holder=holder, me=new_user(new)[0]), (succession, appointment)


@pytest.mark.parametrize("secret", [None, "medium"])
def test_a_search_after_it_equals_one_before_it(secret):
    world = make_world()
    after, _ = turned(world, secret=secret and stored_key(secret))
    assert after.own.card.epoch == 1 and (after.own.card.public == world.own.card.public) == (secret is None)
    found = search(after, world.codes[:2], scheme="bitsliced")
    for row, code in zip(found.matches, world.codes, strict=False):
        assert positions(after, row) == expected_order(world, code, top=TOP)
        for place, match in zip(positions(after, row), row, strict=True):
            np.testing.assert_array_equal(match.image, world.images[place])


def test_the_old_epoch_is_over():
    world = make_world()
    after, _ = turned(world)
    for name in ("image_master", "masking_key", "authority_secret"):
        assert getattr(after.own, name) != getattr(world.own, name)
    _, query = user.ask(world.me, world.codes[:1], top=1, now=NOW, scheme="bitsliced", draw=secrets.token_bytes)
    with pytest.raises(RevokedGrantError, match="epoch 0"):
        server.score_query(after.cloud, query, blinders=np.zeros((9, 1), np.uint8), now=NOW)
    old = search(world, world.codes[:1], scheme="bitsliced")
    with pytest.raises(RevokedGrantError, match="epoch 0"):
        authority.answer(after.holder, old.report, now=NOW)
    # The keys that a user had open nothing of what the server holds now.
    image_id = old.matches[0][0].image_id
    image = next(image for image in old.delivery.images if image.image_id == image_id)
    assert len(owner.unseal(world.own, [image])) == 1
    with pytest.raises(IntegrityError):
        owner.unseal(world.own, [dataclasses.replace(image, sealed=after.cloud.images[image_id])])


def test_epochs_follow_one_another_and_never_go_back():
    world = make_world()
    first, orders = turned(world)
    second, later = turned(first)
    for state, take, place in ((second.cloud, epochs.succeed, 0), (second.holder, authority.succeed, 1)):
        assert take(state, later[place]) is state
        with pytest.raises(StaleQueryError):
            take(state, orders[place])
    for state, take, place in ((world.cloud, epochs.succeed, 0), (world.holder, authority.succeed, 1)):
        with pytest.raises(ForeignCollectionError, match="the next one here is 1"):
            take(state, later[place])
        with pytest.raises(ForgedReplyError):
            take(state, sign(orders[place], secret=bytes(32)))
    other = dataclasses.replace(orders[0].card, collection="others")
    with pytest.raises(ForeignCollectionError):
        epochs.succeed(world.cloud, sign(dataclasses.replace(orders[0], card=other), secret=world.own.signing_secret))


def test_an_appointment_opens_for_that_authority_alone():
    world, other = make_world(), make_world(label="others")
    new = owner.rekey(world.own, draw=secrets.token_bytes)
    _, appointment = announce(world.own, new)
    for secret in (new.image_master, new.authority_secret, new.secret.p.prime.to_bytes(16)):
        assert secret not in appointment.sealed
    stranger = dataclasses.replace(owner.delegate(world.own), authority_secret=other.own.authority_secret)
    with pytest.raises(IntegrityError):
        open_appointment(stranger, appointment)
    # Sealed for one card it opens for no other.
    moved = dataclasses.replace(appointment.card, authority_key=bytes(32))
    moved = sign(dataclasses.replace(appointment, card=moved), secret=world.own.signing_secret)
    with pytest.raises(IntegrityError):
        authority.succeed(world.holder, moved)


def test_what_is_sealed_must_be_a_delegation(monkeypatch):
    world = make_world()
    new = owner.rekey(world.own, draw=secrets.token_bytes)
    bodies = [b"", b"\0", b"\0\1", bytes(16), b"\0\x20" + bytes(32)]
    wrong_key = dataclasses.replace(new, secret=stored_key("medium"))
    for body in bodies:
        monkeypatch.setattr("jcbir.protocol.handover._write", lambda _, body=body: body)
        with pytest.raises(FormatError, match="no delegation"):
            authority.succeed(world.holder, announce(world.own, new)[1])
    monkeypatch.undo()
    appointment = announce(world.own, wrong_key)[1]
    assert isinstance(appointment, Appointment)
    with pytest.raises(FormatError, match="not the card's"):
        authority.succeed(world.holder, appointment)


def test_a_recall_is_the_owners_and_fresh():
    world = make_world()
    image_ids = [owner.pseudonym(world.own, name) for name in world.names]
    message = owner.recall(world.own, image_ids, now=NOW)
    sizes = [len(world.cloud.images[image_id]) for image_id in image_ids]
    got = epochs.recall(world.cloud, message, now=NOW, most_bytes=sum(sizes[:7]))
    assert [image.image_id for image in got.images] == image_ids[:7]
    assert len(epochs.recall(world.cloud, message, now=NOW, most_bytes=1).images) == 1
    with pytest.raises(ForgedReplyError):
        epochs.recall(world.cloud, sign(message, secret=bytes(32)), now=NOW, most_bytes=1)
    with pytest.raises(StaleQueryError):
        epochs.recall(world.cloud, message, now=NOW + 301, most_bytes=1)
    with pytest.raises(ValueError, match="1 of 2 images are not here"):
        epochs.recall(world.cloud, owner.recall(world.own, [image_ids[0], "0" * 32], now=NOW), now=NOW, most_bytes=1)
    after, _ = turned(world)
    with pytest.raises(ForeignCollectionError):
        epochs.recall(after.cloud, message, now=NOW, most_bytes=1)
