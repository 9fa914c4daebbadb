"""One private search after another, through messages only: what travels is written to bytes, counted and read back."""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from jcbir.protocol import authority, owner, server, user, wire
from jcbir.protocol.messages import Sent


class Parties(NamedTuple):
    """The states of the four parties."""

    owner: owner.Owner
    server: server.Server
    authority: authority.Authority
    user: user.User


class Found(NamedTuple):
    """The answer to a batch of queries, and what an evaluation reads beside it.

    Fields:
        distances: what the authority ranked by, int32[q, n]: Hamming distances, or ranks of |difference| for `integer`.
        matches: what the user opened, best first, for each query.
        trapdoors: the bytes of each query as the server got them.
    """

    distances: Int32[np.ndarray, "q n"]
    matches: tuple[tuple[user.Match, ...], ...]
    trapdoors: tuple[bytes, ...]


class Ledger(NamedTuple):
    """What a run leaves behind: every message in order, its size, and the seconds of each phase."""

    transcript: list[Sent]
    sizes: dict[str, int]
    seconds: dict[str, float]


def send(ledger: Ledger, message: Any, *, sender: str, receiver: str, topic: str) -> Any:
    """Carry a message from one party to another as bytes, and note it."""
    blob = wire.to_bytes(message)
    ledger.sizes[topic] = ledger.sizes.get(topic, 0) + len(blob)
    received = wire.from_bytes(blob, expect=type(message))
    ledger.transcript.append(Sent(sender, receiver, received))
    return received


@contextmanager
def timed(ledger: Ledger, phase: str) -> Iterator[None]:
    """Add the wall-clock seconds of a block to a phase."""
    start = time.perf_counter()
    yield
    ledger.seconds[phase] = ledger.seconds.get(phase, 0.0) + time.perf_counter() - start


def establish(
    own: owner.Owner,
    codes: Bool[np.ndarray, "n k"],
    images: Sequence[UInt8[np.ndarray, "_ _ _"]],
    names: Sequence[str],
    *,
    schemes: Sequence[str],
    top: int,
    ledger: Ledger,
) -> Parties:
    """Publish a collection, appoint the authority, admit one user."""
    draw, now = secrets.token_bytes, int(time.time())
    with timed(ledger, "encrypt index, seal images"):
        own, publication, catalogue = owner.publish(own, codes, images, names, schemes=schemes, draw=draw)
    publication = send(ledger, publication, sender="owner", receiver="server", topic="publication")
    with timed(ledger, "server takes the index in"):
        cloud = server.accept(server.Server(own.card), publication)
    # The delegation is handed over in person: it is the one secret message, and no wire format carries it.
    holder = authority.appoint(owner.delegate(own))
    catalogue = send(ledger, catalogue, sender="owner", receiver="authority", topic="catalogue")
    holder = authority.catalog(holder, catalogue)
    keys = user.make_keys(draw=draw)
    enrollment = send(ledger, user.enroll(keys), sender="user", receiver="owner", topic="admission")
    own, admission = owner.admit(own, enrollment, now=now, max_results=max(top, 1), draw=draw)
    admission = send(ledger, admission, sender="owner", receiver="user", topic="admission")
    return Parties(own, cloud, holder, user.join(keys, admission, owner_key=own.card.owner_key))


def search(
    parties: Parties, codes: Bool[np.ndarray, "q k"], *, scheme: str, top: int, ledger: Ledger
) -> tuple[Parties, Found]:
    """Answer a batch of queries: user, server, authority, server, user."""
    own, cloud, holder, me = parties
    draw, now = secrets.token_bytes, int(time.time())
    with timed(ledger, f"{scheme}: user asks"):
        me, query = user.ask(me, codes, top=top, scheme=scheme, now=now, draw=draw)
    query = send(ledger, query, sender="user", receiver="server", topic=f"{scheme}: query")
    # Made ahead of any query: they depend on nothing but the key.
    with timed(ledger, f"{scheme}: blinders, ahead"):
        blinders = owner.blinder_stock(own, server.blinders_needed(cloud, query), draw=draw)
    with timed(ledger, f"{scheme}: server scores"):
        cloud, report = server.score_query(cloud, query, blinders=blinders, now=now)
    report = send(ledger, report, sender="server", receiver="authority", topic=f"{scheme}: scores")
    with timed(ledger, f"{scheme}: authority opens and ranks"):
        holder = authority.admit(holder, report, now=now)
        distances = authority.open_report(holder, report)
        ranking = authority.release(holder, report, distances)
    ranking = send(ledger, ranking, sender="authority", receiver="server", topic=f"{scheme}: ranking")
    cloud, delivery = server.deliver(cloud, ranking)
    delivery = send(ledger, delivery, sender="server", receiver="user", topic=f"{scheme}: sealed results")
    with timed(ledger, f"{scheme}: user opens"):
        me, matches = user.receive(me, delivery)
    trapdoors = tuple(trapdoor.body.tobytes() for trapdoor in query.trapdoors)
    return Parties(own, cloud, holder, me), Found(np.stack(distances), matches, trapdoors)
