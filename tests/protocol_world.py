"""A small complete system for the tests: a breakable key, thirty images in two segments, one user."""

import functools
import hashlib
import itertools
import secrets
from typing import NamedTuple

import numpy as np
from paillier_vectors import stored_key

from jcbir.paillier.secret import owner_blinders
from jcbir.protocol import authority, owner, server, user
from jcbir.protocol.messages import SCHEMES, Sent

NOW = 1_800_000_000
BITS = 16
SPLIT = 20
TOP = 5


class World(NamedTuple):
    """The four parties after set-up, and everything they were told."""

    own: owner.Owner
    cloud: server.Server
    holder: authority.Authority
    me: user.User
    codes: np.ndarray
    images: list
    names: list
    transcript: list


def counter_draw(label: str):
    """A reproducible source of uniform bytes."""
    counter = itertools.count()
    return lambda count: hashlib.shake_256(f"{label}/{next(counter)}".encode()).digest(count)


@functools.cache
def make_world(*, schemes: tuple = tuple(SCHEMES), cipher: str = "aes-gcm", label: str = "world") -> World:
    draw = counter_draw(label)
    numbers = np.random.default_rng(0)
    codes = numbers.random((30, BITS)) > 0.5
    images = [numbers.integers(0, 256, (4 + i % 3, 5, 3), np.uint8) for i in range(30)]
    names = [f"class-{i % 3}/photo-{i}.png" for i in range(30)]
    own = owner.create(collection="photos", bits=BITS, secret=stored_key("small"), draw=draw)
    cloud, holder = server.Server(own.card), authority.appoint(owner.delegate(own))
    transcript = [Sent("owner", "authority", owner.delegate(own))]
    for part in (slice(0, SPLIT), slice(SPLIT, None)):
        own, publication, catalogue = owner.publish(
            own, codes[part], images[part], names[part], schemes=schemes, cipher=cipher, draw=draw
        )
        cloud, holder = server.accept(cloud, publication), authority.catalog(holder, catalogue)
        transcript += [Sent("owner", "server", publication), Sent("owner", "authority", catalogue)]
    me, admission, enrollment, own = new_user(own, draw=draw)
    transcript += [Sent("user", "owner", enrollment), Sent("owner", "user", admission)]
    return World(own, cloud, holder, me, codes, images, names, transcript)


def new_user(own, *, draw=secrets.token_bytes, **options):
    keys = user.make_keys(draw=draw)
    enrollment = user.enroll(keys)
    own, admission = owner.admit(own, enrollment, now=NOW, draw=draw, **options)
    return user.join(keys, admission, owner_key=own.card.owner_key), admission, enrollment, own


class Search(NamedTuple):
    """One search and the states after it."""

    query: object
    report: object
    ranking: object
    delivery: object
    matches: tuple
    world: World


def search(world: World, codes: np.ndarray, *, scheme: str, top: int = TOP, now: int = NOW) -> Search:
    me, query = user.ask(world.me, codes, top=top, now=now, scheme=scheme, draw=secrets.token_bytes)
    count = server.blinders_needed(world.cloud, query)
    blinders = owner_blinders(world.own.secret, count, draw=secrets.token_bytes)
    cloud, report = server.score_query(world.cloud, query, blinders=blinders, now=now)
    holder, ranking = authority.answer(world.holder, report, now=now)
    cloud, delivery = server.deliver(cloud, ranking)
    me, matches = user.receive(me, delivery)
    lines = [
        Sent("user", "server", query),
        Sent("server", "authority", report),
        Sent("authority", "server", ranking),
        Sent("server", "user", delivery),
    ]
    after = world._replace(me=me, cloud=cloud, holder=holder, transcript=[*world.transcript, *lines])
    return Search(query, report, ranking, delivery, matches, after)


def positions(world: World, row) -> list:
    """Where the matches of one query stand in publication order."""
    place = {owner.pseudonym(world.own, name): i for i, name in enumerate(world.names)}
    return [place[match.image_id] for match in row]


def expected_order(world: World, code: np.ndarray, *, top: int = TOP) -> list:
    distances = (world.codes ^ code).sum(axis=1)
    return np.argsort(distances, kind="stable")[:top].tolist()
