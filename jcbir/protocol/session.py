"""A small system in one call: four parties and every message of one search, for examples. Anyone can break its key."""

import functools
import secrets
from typing import NamedTuple

import numpy as np

from jcbir.paillier.secret import generate_keys, owner_blinders
from jcbir.protocol import authority, owner, server, user
from jcbir.protocol.authority import Authority
from jcbir.protocol.holdings import Delegation, Owner
from jcbir.protocol.messages import Admission, Catalogue, Delivery, Enrollment, Publication, Query, Ranking, ScoreReport
from jcbir.protocol.server import Server
from jcbir.protocol.user import User, UserKeys
from jcbir.typing import Rows

NOW = 1_800_000_000


class System(NamedTuple):
    """Parties and messages; three images `a`, `b` and `c` whose codes differ in two bits, and a search for `b`.

    Fields:
        owner: after publishing and admitting.
        server: after the publication, before the query.
        authority: after the catalogue, before the report.
        user: after asking, before the delivery.
        keys: the user's.
        delegation: owner to authority, secret.
        publication: owner to server.
        catalogue: owner to authority.
        enrollment: user to owner.
        admission: owner to user.
        query: user to server; for the best two.
        blinders: those that the server used for the report.
        report: server to authority.
        ranking: authority to server.
        delivery: server to user.
    """

    owner: Owner
    server: Server
    authority: Authority
    user: User
    keys: UserKeys
    delegation: Delegation
    publication: Publication
    catalogue: Catalogue
    enrollment: Enrollment
    admission: Admission
    query: Query
    blinders: Rows
    report: ScoreReport
    ranking: Ranking
    delivery: Delivery


@functools.cache
def small_system() -> System:
    """Play the protocol through once; the same system at every call.

    Returns:
        The parties as they were before the search, and the messages.

    Example:
        >>> system = small_system()
        >>> _, matches = user.receive(system.user, system.delivery)
        >>> [match.distance for match in matches[0]]
        [0, 2]
    """
    draw = secrets.token_bytes
    key = generate_keys(bits=256, draw=draw, unsafe_small=True)
    codes, images = np.eye(16, dtype=bool)[:3], [np.full((2, 2, 3), shade, np.uint8) for shade in (10, 20, 30)]
    own = owner.create(collection="photos", bits=16, secret=key, draw=draw)
    own, publication, catalogue = owner.publish(own, codes, images, ["a", "b", "c"], cipher="aes-gcm", draw=draw)
    delegation = owner.delegate(own)
    cloud = server.accept(server.Server(own.card), publication)
    holder = authority.catalog(authority.appoint(delegation), catalogue)
    keys = user.make_keys(draw=draw)
    enrollment = user.enroll(keys)
    own, admission = owner.admit(own, enrollment, now=NOW, draw=draw)
    me, query = user.ask(
        user.join(keys, admission, owner_key=own.card.owner_key), codes[1:2], top=2, now=NOW, draw=draw
    )  # fmt: skip
    blinders = owner_blinders(own.secret, server.blinders_needed(cloud, query), draw=draw)
    after, report = server.score_query(cloud, query, blinders=blinders, now=NOW)
    _, ranking = authority.answer(holder, report, now=NOW)
    _, delivery = server.deliver(after, ranking)
    return System(
        own, cloud, holder, me, keys, delegation, publication, catalogue, enrollment, admission, query, blinders,
        report, ranking, delivery,
    )  # fmt: skip


__all__ = ["NOW", "System", "small_system"]
