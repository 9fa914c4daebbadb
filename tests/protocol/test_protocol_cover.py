"""Covered fetching: the server hands over whole buckets, and cannot tell which of their images were results."""

import secrets

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from protocol_world import BITS, NOW, make_world, new_user, search

from jcbir.protocol import authority, owner, server
from jcbir.protocol.messages import Catalog


def covered(size, *, sentinels=True):
    world = make_world(sentinels=sentinels)
    return world._replace(me=new_user(world.own, cover=size)[0])


def buckets(world, size):
    """Pseudonym to the images that are always fetched with it."""
    found = {}
    for catalog in (line.message for line in world.transcript if isinstance(line.message, Catalog)):
        names, count = catalog.image_ids, max(len(catalog.image_ids) // size, 1)
        for bucket in range(count):
            group = set(names[bucket * size : None if bucket == count - 1 else (bucket + 1) * size])
            found |= dict.fromkeys(group, group)
    return found


@settings(max_examples=12)
@given(size=st.integers(1, 40), code=st.integers(0, 2**BITS - 1), top=st.integers(1, 6))
def test_whole_buckets_are_fetched_and_only_results_open(size, code, top):
    world, query = covered(size), np.array([[code >> place & 1 for place in range(BITS)]], bool)
    found = search(world, query, scheme="packed", top=top)
    of, results = buckets(world, size), {match.image_id for match in found.matches[0]}
    assert set(found.ranking.image_ids) == set().union(*(of[name] for name in results))
    assert len(results) == top and all(match.photograph is not None for match in found.matches[0])
    # Sentinels are fetched like images: that nobody ever opens them does not show.
    plain = search(covered(1), query, scheme="packed", top=top)
    assert [match.distance for match in found.matches[0]] == [match.distance for match in plain.matches[0]]
    sizes = [len(group) for group in of.values()]
    assert min(sizes) >= min(size, 10) and max(sizes) < 2 * max(size, 32)


def test_withdrawn_images_are_not_asked_for():
    world = covered(10)
    own, withdrawal = owner.withdraw(world.own, world.names[:12])
    gone = set(withdrawal.image_ids)
    world = world._replace(
        own=own, cloud=server.withdraw(world.cloud, withdrawal), holder=authority.withdraw(world.holder, withdrawal)
    )
    found = search(world, world.codes[20:21], scheme="bitsliced", top=5)
    assert not gone & set(found.ranking.image_ids) and len(found.matches[0]) == 5


def test_a_grant_without_the_right_to_open_fetches_nothing():
    world = make_world()
    world = world._replace(me=new_user(world.own, cover=8, rights=["rank"])[0])
    assert search(world, world.codes[:1], scheme="packed").ranking.image_ids == ()


@pytest.mark.parametrize("cover", [0, 1025])
def test_what_no_bucket_can_be(cover):
    with pytest.raises(ValueError, match="cover: must be at"):
        owner.admit(
            make_world().own, make_world().me and new_user(make_world().own)[2], now=NOW, draw=secrets.token_bytes,
            cover=cover,
        )  # fmt: skip
