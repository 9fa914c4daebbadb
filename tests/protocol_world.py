"""A small complete system for the tests: a breakable key, thirty images in two segments, one user."""

import dataclasses
import functools
import hashlib
import itertools
import secrets
from typing import NamedTuple

import numpy as np
from paillier_vectors import stored_key

from jcbir.lattice.secret import generate_key
from jcbir.protocol import authority, owner, server, session, user
from jcbir.protocol._digests import score_blocks
from jcbir.protocol._signatures import sign
from jcbir.protocol.messages import Catalog
from jcbir.protocol.session import Found, Session
from jcbir.ranking import SCHEMES as TABLE
from jcbir.sealing import Photograph

SCHEMES = tuple(name for name, scheme in TABLE.items() if scheme.key_kind == "paillier")
NOW = 1_800_000_000
BITS = 16
SPLIT = 20
TOP = 5


class World(NamedTuple):
    """The four parties after set-up, and everything they were told; codes, images and names in the catalogs' order."""

    own: owner.Owner
    cloud: server.Server
    holder: authority.Authority
    me: user.User
    codes: np.ndarray
    images: list
    names: list
    transcript: list
    identity: server.Identity


def counter_draw(label: str):
    """A reproducible source of uniform bytes."""
    counter = itertools.count()
    return lambda count: hashlib.shake_256(f"{label}/{next(counter)}".encode()).digest(count)


@functools.cache
def make_world(
    *,
    schemes: tuple = SCHEMES,
    cipher: str = "aes-gcm",
    label: str = "world",
    key: str = "small",
    sentinels: bool = False,
) -> World:
    """Without sentinels unless they are asked for: positions are then those of the images."""
    draw = counter_draw(label)
    numbers = np.random.default_rng(0)
    codes = numbers.random((30, BITS)) > 0.5
    names = [f"class-{i % 3}/photo-{i}.png" for i in range(30)]
    images = [Photograph(numbers.bytes(200 * (1 + i % 3)), "image/png", f"{i}.png") for i in range(30)]
    pair = generate_key(bits=BITS, draw=draw) if key == "lattice" else stored_key(key)
    state = session.found(collection="photos", bits=BITS, secret=pair, draw=draw)
    for part in (slice(0, SPLIT), slice(SPLIT, None)):
        state = session.publish(
            state,
            codes[part],
            images[part],
            names[part],
            schemes=schemes,
            cipher=cipher,
            sentinels=sentinels,
            draw=draw,
        )
    state = session.admit(state, now=NOW, draw=draw)
    # The owner draws the order of a segment.
    place = {owner.pseudonym(state.owner, name): i for i, name in enumerate(names)}
    listed = [line.message for line in state.transcript if isinstance(line.message, Catalog)]
    order = [place[image_id] for catalog in listed for image_id in catalog.image_ids if image_id in place]
    return World(
        state.owner,
        state.server,
        state.authority,
        state.users[0],
        codes[order],
        [images[i] for i in order],
        [names[i] for i in order],
        list(state.transcript),
        state.cloud,
    )


def new_user(own, *, draw=secrets.token_bytes, **options):
    keys = user.make_keys(draw=draw)
    enrollment = user.enroll(keys)
    own, admission = owner.admit(own, enrollment, now=NOW, draw=draw, **options)
    return user.join(keys, admission, owner_key=own.card.owner_key, unsafe_small=True), admission, enrollment, own


class Search(NamedTuple):
    """One search and the states after it."""

    query: object
    report: object
    ranking: object
    delivery: object
    matches: tuple
    world: World


def session_of(world: World) -> Session:
    return Session(world.own, world.cloud, world.identity, world.holder, (world.me,), tuple(world.transcript))


def search(world: World, codes: np.ndarray, *, scheme: str, top: int = TOP, now: int = NOW) -> Search:
    state, found = session.search(
        session_of(world), codes, top=top, now=now, scheme=scheme, draw=secrets.token_bytes
    )  # fmt: skip
    assert isinstance(found, Found)
    after = world._replace(
        me=state.users[0], cloud=state.server, holder=state.authority, transcript=list(state.transcript)
    )  # fmt: skip
    return Search(found.query, found.report, found.ranking, found.delivery, found.matches, after)


def score(world: World, query, *, now: int = NOW):
    """The server's answer to a query: its next state and the report."""
    blinders = owner.blinder_pool(world.own, server.blinders_needed(world.cloud, query), draw=secrets.token_bytes)
    return server.score_query(world.cloud, query, blinders=blinders, identity=world.identity, now=now)


def resign(world: World, report, **changes):
    """A report as the world's server would have signed it."""
    header = dataclasses.replace(report, **changes)
    header = dataclasses.replace(header, blocks=score_blocks(header.scores))
    signed = sign(dataclasses.replace(header, openings=b"", scores=()), secret=world.identity.secret)
    return dataclasses.replace(signed, openings=header.openings, scores=header.scores)


def traces(folder, body: bytes) -> int:
    """Count the pieces of some bytes that lie in the files of a folder: a database cuts what it holds into pages."""
    held = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    return sum(body[start : start + 32] in held for start in range(0, len(body), 1000))


def positions(world: World, row) -> list:
    """Where the matches of one query stand in publication order."""
    place = {owner.pseudonym(world.own, name): i for i, name in enumerate(world.names)}
    return [place[match.image_id] for match in row]


def expected_order(world: World, code: np.ndarray, *, top: int = TOP) -> list:
    distances = (world.codes ^ code).sum(axis=1)
    return np.argsort(distances, kind="stable")[:top].tolist()


def numbers_of(value):
    """The integers of a secret record, as bytes in both orders and as digits."""
    for field in dataclasses.fields(value) if dataclasses.is_dataclass(value) else ():
        yield from numbers_of(getattr(value, field.name))
    if isinstance(value, tuple):
        for item in value:
            yield from numbers_of(item)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 60:
        width = (value.bit_length() + 7) // 8
        yield from (value.to_bytes(width, "big"), value.to_bytes(width, "little"), str(value).encode())
