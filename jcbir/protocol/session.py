"""Four parties in one process: every message travels as bytes and is noted, as it would between machines.

For demonstrations, examples and tests. `small_system` is one search of three images, under a key that anyone can break.
"""

import contextlib
import dataclasses
import functools
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Int32

from jcbir.paillier._blinding import draw_randomness, raise_randomness
from jcbir.paillier.secret import generate_keys
from jcbir.protocol import audit, authority, owner, server, user, wire
from jcbir.protocol.authority import Authority
from jcbir.protocol.messages import (
    Admission,
    Audit,
    Catalog,
    Delivery,
    Enrollment,
    Head,
    Opened,
    Publication,
    Query,
    Ranking,
    ScoreReport,
    Sent,
)
from jcbir.protocol.owner import Delegation, Owner, Picture
from jcbir.protocol.server import Identity, Server
from jcbir.protocol.user import Match, User, UserKeys
from jcbir.ranking._scheme import Index
from jcbir.typing import Array, Rows

NOW = 1_800_000_000

Message = TypeVar("Message")


@dataclasses.dataclass(frozen=True)
class Session:
    """The four parties, and all that they said.

    Attributes:
        owner: state of the owner.
        server: state of the server.
        cloud: the server's identity.
        authority: state of the authority.
        users: states of the users admitted, in order.
        transcript: every message, in order.
    """

    owner: Owner
    server: Server
    cloud: Identity
    authority: Authority
    users: tuple[User, ...] = ()
    transcript: tuple[Sent, ...] = ()


class Found(NamedTuple):
    """One search: what travelled, and what came out of it.

    Attributes:
        query: user to server.
        blinders: those that the server used for the report.
        report: server to authority.
        distances: int32[q, n], what the authority ranked by, in the order of its catalogs.
        ranking: authority to server.
        delivery: server to user.
        matches: for each query, what the user opened, best first.
    """

    query: Query
    blinders: Rows
    report: ScoreReport
    distances: Int32[np.ndarray, "q n"]
    ranking: Ranking
    delivery: Delivery
    matches: tuple[tuple[Match, ...], ...]


def found(*, collection: str, bits: int, secret: Any, draw: Callable[[int], bytes]) -> Session:
    """Bring owner, server and authority together: identities, the collection, the delegation handed over in person.

    Args:
        collection: its name.
        bits: length of its hash codes.
        secret: the key pair.
        draw: source of secret bytes, `secrets.token_bytes`.

    Returns:
        The session; nothing is published, nobody admitted.

    Example:
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> found(collection="photos", bits=16, secret=key, draw=secrets.token_bytes).authority
        Authority('photos', epoch 0, 0 segments, redacted)
    """
    cloud, holder = server.make_identity(draw=draw), authority.make_identity(draw=draw)
    own = owner.create(
        collection=collection,
        bits=bits,
        secret=secret,
        cloud_key=cloud.public,
        authority_key=holder.public,
        authority_sealing_key=holder.sealing_key,
        draw=draw,
    )
    delegation = owner.delegate(own)
    handed = Sent("owner", "authority", delegation)
    return Session(own, Server(own.card), cloud, authority.appoint(delegation, holder), (), (handed,))


def send(session: Session, message: Message, *, sender: str, receiver: str) -> tuple[Session, Message]:
    """Carry a message from one party to another as bytes, and note it.

    Args:
        session: the session.
        message: a record of `jcbir.protocol.messages`.
        sender: "owner", "server", "authority" or "user".
        receiver: likewise.

    Returns:
        The session, and the message as the receiver reads it.

    Example:
        >>> from jcbir.protocol.messages import Refusal
        >>> session = dataclasses.replace(small_system().session, transcript=())
        >>> session, read = send(session, Refusal("busy", "later"), sender="server", receiver="user")
        >>> read.code, session.transcript[0].size > 0
        ('busy', True)
    """
    blob = wire.to_bytes(message)
    received: Any = wire.from_bytes(blob, expect=type(message))
    line = Sent(sender, receiver, received, len(blob))
    return dataclasses.replace(session, transcript=(*session.transcript, line)), received


def publish(
    session: Session,
    codes: Bool[Array, "n k"],
    images: Sequence[Picture],
    names: Sequence[str],
    *,
    draw: Callable[[int], bytes],
    phase: Callable[[str], AbstractContextManager] = contextlib.nullcontext,
    **options: Any,
) -> Session:
    """Publish a segment, to the server and to the authority.

    Args:
        session: the session.
        codes: bool[n, k] hash codes of the images.
        images: uint8[h, w, c] each.
        names: their names.
        draw: source of secret bytes, `secrets.token_bytes`.
        phase: makes a context for each piece of work by its name, to time it.
        **options: of `jcbir.protocol.owner.publish`.

    Returns:
        The session.

    Example:
        >>> codes, images = np.zeros((1, 16), bool), [np.zeros((2, 2, 3), np.uint8)]
        >>> len(publish(small_system().session, codes, images, ["d"], draw=secrets.token_bytes).owner.image_ids)
        4
    """
    with phase("publish"):
        own, publication, catalog = owner.publish(session.owner, codes, images, names, draw=draw, **options)
    session, publication = send(session, publication, sender="owner", receiver="server")
    session, catalog = send(session, catalog, sender="owner", receiver="authority")
    with phase("accept"):
        cloud = server.accept(session.server, publication)
    return dataclasses.replace(
        session, owner=own, server=cloud, authority=authority.catalog(session.authority, catalog)
    )


def admit(session: Session, *, now: int, draw: Callable[[int], bytes], hybrid: bool = False, **options: Any) -> Session:
    """Admit a new user.

    Args:
        session: the session.
        now: seconds since 1970.
        draw: source of secret bytes, `secrets.token_bytes`.
        hybrid: of `jcbir.protocol.user.make_keys`.
        **options: of `jcbir.protocol.owner.admit`.

    Returns:
        The session, with one user more.

    Example:
        >>> len(admit(small_system().session, now=NOW, draw=secrets.token_bytes).users)
        2
    """
    keys = user.make_keys(draw=draw, hybrid=hybrid)
    session, enrollment = send(session, user.enroll(keys), sender="user", receiver="owner")
    own, admission = owner.admit(session.owner, enrollment, now=now, draw=draw, **options)
    session, admission = send(session, admission, sender="owner", receiver="user")
    # The key is the session's own, whatever its size.
    me = user.join(keys, admission, owner_key=own.card.owner_key, unsafe_small=True)
    return dataclasses.replace(session, owner=own, users=(*session.users, me))


def ask(
    session: Session,
    codes: Bool[Array, "q k"],
    *,
    top: int,
    now: int,
    draw: Callable[[int], bytes],
    asker: int = 0,
    **options: Any,
) -> tuple[Session, Query]:
    """Have a user ask; the query arrives at the server.

    Args:
        session: the session.
        codes: bool[q, k] codes of the query images.
        top: at most so many results for each.
        now: seconds since 1970.
        draw: source of secret bytes, `secrets.token_bytes`.
        asker: place of the user in `users`.
        **options: of `jcbir.protocol.user.ask`.

    Returns:
        The session, and the query as the server reads it.

    Example:
        >>> codes = np.zeros((2, 16), bool)
        >>> ask(small_system().session, codes, top=1, now=NOW, draw=secrets.token_bytes)[1].request.queries
        2
    """
    me, query = user.ask(session.users[asker], codes, top=top, now=now, draw=draw, **options)
    session, query = send(session, query, sender="user", receiver="server")
    return _with_user(session, asker, me), query


def search(
    session: Session,
    codes: Bool[Array, "q k"],
    *,
    top: int,
    now: int,
    draw: Callable[[int], bytes],
    asker: int = 0,
    engine: str = "auto",
    phase: Callable[[str], AbstractContextManager] = contextlib.nullcontext,
    **options: Any,
) -> tuple[Session, Found]:
    """Search: user, server, authority, server, user.

    Args:
        session: the session.
        codes: bool[q, k] codes of the query images.
        top: at most so many results for each.
        now: seconds since 1970.
        draw: source of secret bytes, `secrets.token_bytes`.
        asker: place of the user in `users`.
        engine: arithmetic engine.
        phase: makes a context for each piece of work by its name (`ask`, `blinders`, `score`, `rank`, `receive`), to
            time it.
        **options: of `jcbir.protocol.user.ask`.

    Returns:
        The session, and what came of it.

    Raises:
        RefusalError: a party refuses, in the form that names the reason.

    Example:
        >>> code = np.eye(16, dtype=bool)[:1]
        >>> _, answer = search(small_system().session, code, top=1, now=NOW, draw=secrets.token_bytes)
        >>> [match.distance for match in answer.matches[0]]
        [0]
    """
    with phase("ask"):
        session, query = ask(
            session, codes, top=top, now=now, draw=draw, asker=asker, engine=engine, **options
        )  # fmt: skip
    # Made ahead of any query: they depend on nothing but the key.
    with phase("blinders"):
        needed = server.blinders_needed(session.server, query)
        blinders = owner.blinder_pool(session.owner, needed, draw=draw, engine=engine)
    with phase("score"):
        cloud, report = server.score_query(
            session.server, query, blinders=blinders, identity=session.cloud, now=now, engine=engine
        )
    session, report = send(session, report, sender="server", receiver="authority")
    with phase("rank"):
        holder, _ = authority.admit(session.authority, report, now=now)
        plaintexts = authority.decrypt_report(holder, report, engine=engine)
        holder, _, ranking = authority.rank(holder, report, plaintexts, now=now)
    distances = np.stack(authority.read_scores(holder, report, plaintexts))
    session, ranking = send(session, ranking, sender="authority", receiver="server")
    cloud, delivery = server.deliver(cloud, ranking)
    session, delivery = send(session, delivery, sender="server", receiver="user")
    with phase("receive"):
        me, matches = user.receive(session.users[asker], delivery)
    session = dataclasses.replace(session, server=cloud, authority=holder)
    return _with_user(session, asker, me), Found(query, blinders, report, distances, ranking, delivery, matches)


def _with_user(session: Session, place: int, me: User) -> Session:
    users = (*session.users[:place], me, *session.users[place + 1 :])
    return dataclasses.replace(session, users=users)


class System(NamedTuple):
    """Parties and messages; three images `a`, `b` and `c` whose codes differ in two bits, and a search for `b`.

    Attributes:
        session: as it was before the search.
        owner: after publishing and admitting.
        server: after the publication, before the query.
        cloud: the server's identity.
        authority: after the catalog, before the report.
        user: after asking, before the delivery.
        keys: the user's.
        delegation: owner to authority, secret.
        publication: owner to server.
        catalog: owner to authority.
        enrollment: user to owner.
        admission: owner to user.
        query: user to server; for the best two.
        blinders: those that the server used for the report.
        report: server to authority.
        ranking: authority to server.
        delivery: server to user.
    """

    session: Session
    owner: Owner
    server: Server
    cloud: Identity
    authority: Authority
    user: User
    keys: UserKeys
    delegation: Delegation
    publication: Publication
    catalog: Catalog
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
    before = found(collection="photos", bits=16, secret=key, draw=draw)
    before = publish(before, codes, images, ["a", "b", "c"], cipher="aes-gcm", sentinels=False, draw=draw)
    before = admit(before, now=NOW, draw=draw)
    after, one = search(before, codes[1:2], top=2, now=NOW, draw=draw)
    said = {type(line.message): line.message for line in after.transcript}
    me = dataclasses.replace(before.users[0], pending={one.query.request.nonce: one.query.request})
    return System(
        before, before.owner, before.server, before.cloud, before.authority, me, me.keys, said[Delegation],
        said[Publication], said[Catalog], said[Enrollment], said[Admission], one.query, one.blinders, one.report,
        one.ranking, one.delivery,
    )  # fmt: skip


class Audited(NamedTuple):
    """A search of two queries in `small_system` under a head, and an audit of two of its blocks.

    Attributes:
        user: who asked.
        server: after scoring.
        cloud: the server's identity.
        query: user to server.
        rows: uint8[q, b, w], the scores.
        randomness: what the server's blinders were made of.
        indexes: of each segment, as published.
        ranking: authority to server.
        head: the owner's.
        audit: user to server.
        opened: server to user.
    """

    user: User
    server: Server
    cloud: Identity
    query: Query
    rows: Rows
    randomness: Rows
    indexes: Mapping[int, tuple[Index, ...]]
    ranking: Ranking
    head: Head
    audit: Audit
    opened: Opened


@functools.cache
def audited_system() -> Audited:
    """Play a search and its audit through once.

    Returns:
        The messages, and what the server kept to answer the audit.

    Example:
        >>> audited_system().head.counter
        1
    """
    draw, system = secrets.token_bytes, small_system()
    public = system.owner.card.public.key
    _, head = owner.head(system.owner, now=NOW)
    cloud, holder = server.take_head(system.server, head), authority.take_head(system.authority, head)
    me, query = user.ask(system.session.users[0], np.eye(16, dtype=bool)[:2], top=1, now=NOW, draw=draw)
    randomness = draw_randomness(public, server.blinders_needed(cloud, query), draw=draw)
    blinders = raise_randomness(public, randomness)
    cloud, report = server.score_query(cloud, query, blinders=blinders, identity=system.cloud, now=NOW)
    rows = np.stack([np.concatenate([part.ciphertexts for part in row]) for row in report.scores])
    _, ranking = authority.answer(holder, report, now=NOW)
    indexes = {system.publication.segment: system.publication.indexes}
    asked = audit.ask_audit(me, query, ranking, head, blocks=2, draw=draw)
    opened = server.open_blocks(
        cloud, query, asked, indexes=indexes, rows=rows, randomness=randomness, identity=system.cloud
    )
    return Audited(me, cloud, system.cloud, query, rows, randomness, indexes, ranking, head, asked, opened)
