"""A search through all four parties: exact, batched, and the same for every scheme that claims to be exact."""

import dataclasses
import secrets

import numpy as np
import pytest
from hypothesis import given, strategies as st
from protocol_world import BITS, NOW, SCHEMES, TOP, expected_order, make_world, new_user, positions, score, search

from jcbir.errors import IntegrityError
from jcbir.protocol import authority, owner, server, user
from jcbir.protocol.messages import Publication, SealedImage
from jcbir.ranking import mask_index, mask_query, plan


def draw_codes(count: int, *, seed: int = 1):
    return np.random.default_rng(seed).random((count, BITS)) > 0.5


@pytest.mark.parametrize("scheme", ["packed", "bitsliced"])
@given(seed=st.integers(0, 2**32), count=st.integers(1, 3), top=st.integers(1, 30))
def test_order_is_the_order_of_hamming_distances(scheme, seed, count, top):
    world, codes = make_world(), draw_codes(count, seed=seed)
    found = search(world, codes, scheme=scheme, top=top)
    for code, row in zip(codes, found.matches, strict=True):
        order = expected_order(world, code, top=top)
        assert positions(world, row) == order
        assert [match.distance for match in row] == (world.codes[order] ^ code).sum(axis=1).tolist()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_images_arrive_byte_for_byte(scheme):
    world = make_world()
    for row in search(world, draw_codes(2), scheme=scheme).matches:
        assert len(row) == TOP
        for match, position in zip(row, positions(world, row), strict=True):
            assert match.photograph == world.images[position]


def test_integer_orders_by_difference_of_masked_codes():
    world, codes = make_world(), draw_codes(3)
    masking_key = user.scheme_masking_key(world.own.card, scheme="integer", masking_key=world.own.masking_key)
    layout = plan(world.own.card.public.key, scheme="integer", count=30, bits=BITS)
    weights = 1 << np.arange(BITS)[::-1]
    stored = mask_index(world.codes, layout, masking_key=masking_key) @ weights
    for code, row in zip(codes, search(world, codes, scheme="integer", top=30).matches, strict=True):
        asked = mask_query(code[None], layout, masking_key=masking_key)[0, 0] @ weights
        assert positions(world, row) == np.argsort(abs(stored - asked), kind="stable").tolist()


def test_batch_equals_single_queries():
    world, codes = make_world(), draw_codes(3)
    together = search(world, codes, scheme="packed").matches
    for code, row in zip(codes, together, strict=True):
        (alone,) = search(world, code[None], scheme="packed").matches
        assert positions(world, alone) == positions(world, row)


def test_scores_give_every_distance():
    world, codes = make_world(), draw_codes(2)
    report = search(world, codes, scheme="bitsliced").report
    plaintexts = authority.decrypt_report(world.holder, report)
    for code, distances in zip(codes, authority.read_scores(world.holder, report, plaintexts), strict=True):
        np.testing.assert_array_equal(distances, (world.codes ^ code).sum(axis=1))


def test_fewer_images_than_asked_gives_all():
    world = make_world()
    assert len(search(world, draw_codes(1), scheme="packed", top=100).matches[0]) == 30


def test_lorenz_sealed_images_open():
    world = make_world(schemes=("bitsliced",), cipher="lorenz", label="lorenz world")
    for row in search(world, draw_codes(1), scheme="bitsliced", top=2).matches:
        for match, position in zip(row, positions(world, row), strict=True):
            assert match.photograph == world.images[position]


def test_withdrawn_images_are_never_found_and_can_come_back():
    world = make_world()
    gone = world.names[3]
    own, withdrawal = owner.withdraw(world.own, [gone])
    after = world._replace(
        own=own, cloud=server.withdraw(world.cloud, withdrawal), holder=authority.withdraw(world.holder, withdrawal)
    )
    code = world.codes[3:4]
    assert positions(world, search(world, code, scheme="packed", top=1).matches[0]) == [3]
    assert 3 not in positions(world, search(after, code, scheme="packed", top=30).matches[0])
    assert owner.pseudonym(own, gone) not in after.cloud.images

    own, publication, catalog = owner.publish(
        own, code, [world.images[4]], [gone], schemes=SCHEMES, cipher="aes-gcm", draw=secrets.token_bytes
    )
    back = after._replace(
        own=own, cloud=server.accept(after.cloud, publication), holder=authority.catalog(after.holder, catalog)
    )
    # The old withdrawal, delivered once more, must not touch the new publication.
    back = back._replace(
        cloud=server.withdraw(back.cloud, withdrawal), holder=authority.withdraw(back.holder, withdrawal)
    )
    (row,) = search(back, code, scheme="packed", top=30).matches
    assert positions(world, row).count(3) == 1
    assert row[0].photograph == world.images[4]


def test_rank_right_alone_gives_no_image():
    world = make_world()
    me, *_ = new_user(world.own, rights=["rank"])
    found = search(world._replace(me=me), draw_codes(1), scheme="packed")
    assert all(match.photograph is None for match in found.matches[0])
    assert found.ranking.image_ids == ()
    assert found.delivery.images == ()


def test_keys_of_exactly_the_results_are_released():
    world = make_world()
    found = search(world, draw_codes(2), scheme="packed")
    named = {match.image_id for row in found.matches for match in row}
    assert set(found.ranking.image_ids) == named == {image.image_id for image in found.delivery.images}
    assert list(found.ranking.image_ids) == sorted(named)


def test_an_altered_or_missing_image_is_noticed():
    world = make_world()
    me, query = user.ask(world.me, draw_codes(1), top=3, now=NOW, draw=secrets.token_bytes)
    cloud, report = score(world, query)
    _, ranking = authority.answer(world.holder, report, now=NOW)
    _, delivery = server.deliver(cloud, ranking)
    first, second, *rest = delivery.images
    flipped = SealedImage(first.image_id, first.sealed[:-1] + bytes([first.sealed[-1] ^ 1]))
    swapped = (SealedImage(first.image_id, second.sealed), SealedImage(second.image_id, first.sealed), *rest)
    for images in ((flipped, second, *rest), swapped, (second, *rest)):
        with pytest.raises(IntegrityError):
            user.receive(me, dataclasses.replace(delivery, images=images))


def test_scores_are_fresh_each_time():
    world, codes = make_world(), draw_codes(1)
    me, query = user.ask(world.me, codes, top=3, now=NOW, scheme="bitsliced", draw=secrets.token_bytes)
    reports = []
    for _ in range(2):
        reports.append(score(world, query)[1])
    first, second = (report.scores[0][0].ciphertexts for report in reports)
    assert not (first == second).all(axis=1).any()
    del me


def test_shares_of_segments_join_to_the_whole():
    world, codes = make_world(), draw_codes(2)
    _, query = user.ask(world.me, codes, top=3, now=NOW, scheme="bitsliced", draw=secrets.token_bytes)
    blinders = owner.blinder_pool(world.own, server.blinders_needed(world.cloud, query), draw=secrets.token_bytes)
    shares, used = [], 0
    for number in (0, 1):
        needed = server.blinders_needed(world.cloud, query, segments=[number])
        fresh = blinders[used : used + needed]
        shares.append(server.score_share(world.cloud, query, segments=[number], blinders=fresh))
        used += needed
    assert used == len(blinders)
    report = server.finish_query(world.cloud, query, np.concatenate(shares, axis=1), identity=world.identity)
    plaintexts = authority.decrypt_report(world.holder, report)
    for code, distances in zip(codes, authority.read_scores(world.holder, report, plaintexts), strict=True):
        np.testing.assert_array_equal(distances, (world.codes ^ code).sum(axis=1))
    for rows in (shares[0], np.concatenate(shares[::-1], axis=1)[:1]):
        with pytest.raises(ValueError, match="rows: must be"):
            server.finish_query(world.cloud, query, rows, identity=world.identity)
    with pytest.raises(ValueError, match="segments: must be among the 2"):
        server.score_share(world.cloud, query, segments=[0, 7], blinders=blinders)
    with pytest.raises(ValueError, match="blinders: must be at least"):
        server.score_share(world.cloud, query, segments=[0, 1], blinders=blinders[:1])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_joined_segments_score_as_they_do_one_after_another(scheme):
    world = make_world()
    _, query = user.ask(world.me, draw_codes(2), top=TOP, now=NOW, scheme=scheme, draw=secrets.token_bytes)
    blinders = owner.blinder_pool(world.own, server.blinders_needed(world.cloud, query), draw=secrets.token_bytes)
    expected = server.score_share(world.cloud, query, segments=[0, 1], blinders=blinders)
    published = [line.message for line in world.transcript if isinstance(line.message, Publication)]
    parts = [
        server.Segment(message.segment, {index.layout.scheme: index for index in message.indexes}, ())
        for message in published
    ]
    only = {name: index for name, index in parts[1].indexes.items() if name == scheme}
    assert set(server.join_segments(world.own.card, parts).indexes) == set(SCHEMES)
    # Later segments may offer fewer schemes.
    segment = server.join_segments(world.own.card, [parts[0], dataclasses.replace(parts[1], indexes=only)])
    assert set(segment.indexes) == {scheme}
    joined = dataclasses.replace(world.cloud, segments=(segment,))
    np.testing.assert_array_equal(server.score_share(joined, query, segments=[0], blinders=blinders), expected)
