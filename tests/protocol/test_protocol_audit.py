"""Heads and audits: a server that goes back is noticed, one that computes wrongly is caught as often as it must be."""

import dataclasses
import secrets

import numpy as np
import pytest
from hypothesis import given, strategies as st
from paillier_vectors import stored_key
from protocol_world import BITS, NOW, SCHEMES, make_world, resign

from jcbir.padding import padded_length
from jcbir.paillier.public import encrypt
from jcbir.paillier.secret import decrypt
from jcbir.protocol import audit, authority, owner, server, user, wire
from jcbir.protocol._merkle import climb, merkle_path, merkle_root
from jcbir.protocol._signatures import sign
from jcbir.protocol.messages import Audit, Catalog, Place, Publication
from jcbir.protocol.refusals import ForgedReplyError, ForgedScoresError, RolledBackError, TamperedQueryError
from jcbir.ranking import KEY_KINDS

CODES = np.random.default_rng(3).random((4, BITS)) > 0.5
KIND = KEY_KINDS["paillier"]


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40, unique=True), st.data())
def test_a_path_proves_one_leaf_at_one_place(leaves, data):
    root = merkle_root(leaves)
    place = data.draw(st.integers(0, len(leaves) - 1))
    path = merkle_path(leaves, place)
    assert climb(leaves[place], place, len(leaves), path) == root
    for other in range(len(leaves)):
        if other != place:
            assert climb(leaves[place], other, len(leaves), path) != root
            assert climb(leaves[other], place, len(leaves), path) != root
    assert climb(leaves[place], place, len(leaves), (*path, bytes(32))) != root
    if path:
        assert climb(leaves[place], place, len(leaves), path[:-1]) != root


@pytest.mark.parametrize("key", ["small", "small-subgroup"])
@pytest.mark.parametrize("engine", ["python", "gmpy2"])
def test_randomness_makes_its_blinders_and_only_encryptions_of_zero(key, engine):
    secret = stored_key(key)
    randomness = KIND.randomness(secret.public, 3, draw=secrets.token_bytes)
    rows = KIND.blind(secret.public, randomness, engine=engine)
    assert not decrypt(secret, rows).any()
    np.testing.assert_array_equal(rows, KIND.blind(secret.public, randomness, engine="python"))
    assert not decrypt(secret, KIND.blind(secret.public, randomness * 0 + 255 // 4)).any()
    with pytest.raises(ValueError, match="randomness: must"):
        KIND.blind(secret.public, randomness[:, 1:])


class Shown:
    """A search under a head, by a server that may cheat, and all that an audit of it needs."""

    def __init__(self, *, scheme="packed", cheat=None, key="small", schemes=SCHEMES, queries=1):
        self.world = world = make_world(schemes=schemes, key=key)
        self.public = world.own.card.public.key
        said = [line.message for line in world.transcript]
        self.indexes = {part.segment: part.indexes for part in said if isinstance(part, Publication)}
        _, self.head = owner.head(world.own, now=NOW)
        cloud = server.take_head(world.cloud, wire.from_bytes(wire.to_bytes(self.head)))
        holder = authority.take_head(world.holder, self.head)
        self.me, self.query = user.ask(
            world.me, CODES[:queries], top=3, now=NOW, scheme=scheme, draw=secrets.token_bytes
        )
        count = server.blinders_needed(cloud, self.query)
        self.randomness = KIND.randomness(self.public, count, draw=secrets.token_bytes)
        blinders = KIND.blind(self.public, self.randomness)
        self.cloud, report = server.score_query(cloud, self.query, blinders=blinders, identity=world.identity, now=NOW)
        self.report = report if cheat is None else resign(world, report, scores=cheat(report.scores))
        self.rows = np.stack([np.concatenate([part.ciphertexts for part in row]) for row in self.report.scores])
        _, self.ranking = authority.answer(holder, self.report, now=NOW)
        self.delivery = server.deliver(self.cloud, self.ranking)[1]

    def ask(self, blocks):
        return audit.ask_audit(self.me, self.query, self.ranking, self.head, blocks=blocks, draw=secrets.token_bytes)

    def open(self, asked):
        opened = server.open_blocks(
            self.cloud, self.query, asked, indexes=self.indexes, rows=self.rows, randomness=self.randomness,
            identity=self.world.identity,
        )  # fmt: skip
        return wire.from_bytes(wire.to_bytes(opened))

    def check(self, asked, opened):
        audit.check_opened(self.world.own.card, self.query, self.ranking, self.head, opened, audit=asked)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("key", ["small", "small-subgroup"])
def test_an_honest_server_passes_every_audit(scheme, key):
    shown = Shown(scheme=scheme, queries=2, key=key)
    every = [
        Place(row, number, block)
        for row in range(2)
        for number, segment in enumerate(shown.cloud.segments)
        for block in range(segment.indexes[scheme].layout.blocks)
    ]
    asked = sign(Audit(shown.query.request.nonce, tuple(every)), secret=shown.me.keys.signing_secret)
    shown.check(asked, shown.open(asked))
    assert user.receive(shown.me, shown.delivery)[0].head == 1


def shifted(world, part, block):
    """The scores with one block moved by an encryption of a number: the attack that sentinels may miss."""
    public = world.own.card.public.key
    number = np.zeros((1, part.layout.plaintext_bytes), np.uint8)
    number[0, -1] = 1
    one = encrypt(public, number, blinders=KIND.blinders(public, 1, draw=secrets.token_bytes))
    n_squared = public.n**2
    value = int.from_bytes(part.ciphertexts[block].tobytes()) * int.from_bytes(one[0].tobytes()) % n_squared
    rows = part.ciphertexts.copy()
    rows[block] = np.frombuffer(value.to_bytes(rows.shape[1]), np.uint8)
    return part._replace(ciphertexts=rows)


def test_a_block_that_was_moved_is_caught_by_its_audit():
    world = make_world()

    def cheat(scores):
        return ((shifted(world, scores[0][0], 1), *scores[0][1:]),)

    shown = Shown(cheat=cheat)
    for block, honest in ((0, True), (1, False)):
        asked = sign(Audit(shown.query.request.nonce, (Place(0, 0, block),)), secret=shown.me.keys.signing_secret)
        opened = shown.open(asked)
        if honest:
            shown.check(asked, opened)
            continue
        with pytest.raises(ForgedScoresError, match="not those of this query against this index"):
            shown.check(asked, opened)
        # Nor does it help to show another search that was right.
        other = Shown()
        right = other.open(sign(Audit(other.query.request.nonce, asked.places), secret=other.me.keys.signing_secret))
        forged = sign(dataclasses.replace(opened, blocks=right.blocks, signature=b""), secret=world.identity.secret)
        with pytest.raises(ForgedScoresError):
            shown.check(asked, forged)


def test_a_cheat_is_caught_as_often_as_the_formula_says():
    """c of B blocks are wrong; m are drawn: caught with probability 1 - (1 - c/B)^m, measured over 400 audits."""
    world = make_world()
    wrong = {0, 3, 7}

    def cheat(scores):
        first = scores[0][0]
        for block in wrong:
            first = shifted(world, first, block)
        return ((first, *scores[0][1:]),)

    shown = Shown(cheat=cheat, scheme="integer")
    total = sum(segment.indexes["integer"].layout.blocks for segment in shown.cloud.segments)
    verdicts = {}
    for number, segment in enumerate(shown.cloud.segments):
        for block in range(segment.indexes["integer"].layout.blocks):
            place = Place(0, number, block)
            asked = sign(Audit(shown.query.request.nonce, (place,)), secret=shown.me.keys.signing_secret)
            try:
                shown.check(asked, shown.open(asked))
                verdicts[place] = False
            except ForgedScoresError:
                verdicts[place] = True
    assert {place.block for place, bad in verdicts.items() if bad} == wrong and sum(verdicts.values()) == len(wrong)
    drawn, rounds = 5, 400
    caught = sum(any(verdicts[place] for place in shown.ask(drawn).places) for _ in range(rounds))
    expected = 1 - (1 - len(wrong) / total) ** drawn
    # Five standard deviations.
    assert abs(caught / rounds - expected) < 5 * (expected * (1 - expected) / rounds) ** 0.5


def test_what_is_shown_must_be_what_was_published_ranked_and_signed():
    shown = Shown()
    asked = shown.ask(2)
    opened = shown.open(asked)
    shown.check(asked, opened)
    block = opened.blocks[0]

    def bent(rows):
        other = rows.copy()
        other[0, -1] ^= 1
        return other

    lies = {
        "not what the owner published": [
            dataclasses.replace(block, index=bent(block.index)), dataclasses.replace(block, index_path=()),
            dataclasses.replace(block, index=opened.blocks[0].score),
        ],
        "not those that were ranked": [
            dataclasses.replace(block, score=bent(block.score)),
            dataclasses.replace(block, score_path=(bytes(32), *block.score_path)),
        ],
        "not those of this query": [dataclasses.replace(block, randomness=bent(block.randomness))],
        "cannot be computed again": [dataclasses.replace(block, randomness=block.randomness[:, 1:])],
    }  # fmt: skip
    for reason, blocks in lies.items():
        for lie in blocks:
            bad = dataclasses.replace(opened, blocks=(lie, *opened.blocks[1:]), signature=b"")
            with pytest.raises(ForgedScoresError, match=reason):
                shown.check(asked, sign(bad, secret=shown.world.identity.secret))
    fewer = sign(
        dataclasses.replace(opened, blocks=opened.blocks[:1], signature=b""), secret=shown.world.identity.secret
    )
    with pytest.raises(ForgedScoresError, match="shows 1 of 2"):
        shown.check(asked, fewer)
    for bad in (dataclasses.replace(opened, signature=bytes(64)), shown.open(shown.ask(3))):
        with pytest.raises(ForgedReplyError):
            shown.check(asked, bad)


def test_only_the_user_who_asked_may_audit():
    shown, other = Shown(), Shown()
    asked = shown.ask(1)
    with pytest.raises(TamperedQueryError):
        shown.open(dataclasses.replace(asked, signature=bytes(64)))
    with pytest.raises(TamperedQueryError):
        shown.open(other.ask(1))
    for place in (Place(1, 0, 0), Place(0, 7, 0), Place(0, 0, 10_000)):
        bad = sign(dataclasses.replace(asked, places=(place,), signature=b""), secret=shown.me.keys.signing_secret)
        with pytest.raises(ValueError, match="places: must be"):
            shown.open(bad)
    with pytest.raises(ValueError, match="blocks: must be at least 1"):
        shown.ask(0)


def test_a_rollback_is_noticed():
    """A server that shows the collection as it was: alone, or with an authority that was set back as well."""
    shown = Shown()
    world, me = shown.world, shown.me
    own, old = owner.head(world.own, now=NOW)
    _, new = owner.head(own, now=NOW + 5)
    cloud = server.take_head(server.take_head(world.cloud, new), old)
    holder = authority.take_head(authority.take_head(world.holder, new), old)
    assert (cloud.head.counter, holder.head) == (2, 2)

    def deliver(me, head, told):
        me, query = user.ask(me, CODES[:1], top=1, now=NOW, draw=secrets.token_bytes)
        blinders = owner.blinder_pool(world.own, server.blinders_needed(cloud, query), draw=secrets.token_bytes)
        state, report = server.score_query(cloud, query, blinders=blinders, identity=world.identity, now=NOW)
        _, ranking = authority.answer(dataclasses.replace(world.holder, head=told), report, now=NOW)
        return user.receive(me, server.deliver(dataclasses.replace(state, head=head), ranking)[1])[0]

    me = deliver(me, old, 0)
    me = deliver(me, new, 2)
    assert me.head == 2
    for head, told in ((old, 2), (old, 1), (None, 0)):
        with pytest.raises(RolledBackError, match="head 2 is known"):
            deliver(me, head, told)
    forged = sign(dataclasses.replace(new, counter=9, signature=b""), secret=secrets.token_bytes(32))
    foreign = sign(dataclasses.replace(new, epoch=4, signature=b""), secret=world.own.signing_secret)
    for head in (forged, foreign):
        with pytest.raises(ForgedReplyError):
            deliver(me, head, 2)


def test_a_head_names_what_the_owner_published():
    world = make_world()
    _, head = owner.head(world.own, now=NOW)
    catalogs = [line.message for line in world.transcript if isinstance(line.message, Catalog)]
    assert [part.count for part in head.parts] == [len(catalog.image_ids) for catalog in catalogs] == [20, 10]
    assert len({part.images_hash for part in head.parts}) == len({part.index_root for part in head.parts}) == 2
    turned = sign(dataclasses.replace(head, parts=head.parts[::-1], signature=b""), secret=world.own.signing_secret)
    with pytest.raises(ValueError, match="head: must be of the images in the catalog"):
        authority.take_head(world.holder, turned)
    assert owner.rekey(world.own, draw=secrets.token_bytes).parts == ()


def test_answers_are_padded():
    shown = Shown()
    images = sum(len(image.sealed) for image in shown.delivery.images)
    assert images + len(shown.delivery.padding) == padded_length(images) and not any(shown.delivery.padding)
