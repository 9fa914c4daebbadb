"""One private search after another, through messages only: what travels is written to bytes, counted and read back."""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from jcbir.paillier.secret import owner_blinders
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
    """Carry a message from one party to another as bytes, and note it.

    Args:
        ledger: where to note it.
        message: a record of `jcbir.protocol.messages`.
        sender: "owner", "server", "authority" or "user".
        receiver: likewise.
        topic: what to count its bytes under.

    Returns:
        The message as the receiver reads it.

    Example:
        >>> from jcbir.protocol.messages import Withdrawal
        >>> ledger = Ledger([], {}, {})
        >>> letter = Withdrawal("photos", 0, 1, ("a",), bytes(64))
        >>> got = send(ledger, letter, sender="owner", receiver="server", topic="x")
        >>> got.image_ids, ledger.sizes["x"] > 0
        (('a',), True)
    """
    blob = wire.to_bytes(message)
    ledger.sizes[topic] = ledger.sizes.get(topic, 0) + len(blob)
    received = wire.from_bytes(blob, expect=type(message))
    ledger.transcript.append(Sent(sender, receiver, received))
    return received


@contextmanager
def timed(ledger: Ledger, phase: str) -> Iterator[None]:
    """Add the wall-clock seconds of a block to a phase.

    Args:
        ledger: where to add them.
        phase: name of the phase.

    Yields:
        Nothing.

    Example:
        >>> ledger = Ledger([], {}, {})
        >>> with timed(ledger, "nothing"):
        ...     pass
        >>> ledger.seconds["nothing"] < 1
        True
    """
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
    """Publish a collection, appoint the authority, admit one user.

    Args:
        own: the owner's fresh state.
        codes: hash codes of the images.
        images: the photographs.
        names: their names.
        schemes: ranking schemes to build an index for.
        top: most results a query may ask for.
        ledger: notes messages and seconds.

    Returns:
        The four parties, ready to search.

    Raises:
        ValueError: as `jcbir.protocol.owner.publish`.

    Example:
        >>> from jcbir.paillier.secret import generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> own = owner.create(collection="demo", bits=8, secret=key, draw=secrets.token_bytes)
        >>> photos = [np.zeros((4, 4, 3), np.uint8)] * 2
        >>> parties = establish(
        ...     own, np.eye(8, dtype=bool)[:2], photos, ["a", "b"], schemes=["packed"], top=1, ledger=Ledger([], {}, {})
        ... )
        >>> len(parties.server.images)
        2
    """
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
    """Answer a batch of queries: user, server, authority, server, user.

    Args:
        parties: the four parties.
        codes: hash codes of the query photographs.
        scheme: a ranking scheme the collection offers.
        top: results for each query.
        ledger: notes messages and seconds under the scheme's name.

    Returns:
        The parties after it, and the answer.

    Raises:
        ValueError: as `jcbir.protocol.user.ask`.

    Example:
        >>> from jcbir.paillier.secret import generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> own = owner.create(collection="demo", bits=8, secret=key, draw=secrets.token_bytes)
        >>> photos, codes, ledger = [np.zeros((4, 4, 3), np.uint8)] * 2, np.eye(8, dtype=bool)[:2], Ledger([], {}, {})
        >>> parties = establish(own, codes, photos, ["a", "b"], schemes=["packed"], top=1, ledger=ledger)
        >>> parties, answer = search(parties, codes[:1], scheme="packed", top=1, ledger=ledger)
        >>> answer.distances.tolist()
        [[0, 2]]
    """
    own, cloud, holder, me = parties
    draw, now = secrets.token_bytes, int(time.time())
    with timed(ledger, f"{scheme}: user asks"):
        me, query = user.ask(me, codes, top=top, scheme=scheme, now=now, draw=draw)
    query = send(ledger, query, sender="user", receiver="server", topic=f"{scheme}: query")
    # Made ahead of any query: they depend on nothing but the key.
    with timed(ledger, f"{scheme}: blinders, ahead"):
        blinders = owner_blinders(own.secret, server.blinders_needed(cloud, query), draw=draw)
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
