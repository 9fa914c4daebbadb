"""What each party saw: computed from a transcript, in numbers, by the party's own means.

The server's view uses nothing but the messages it received. The authority's view uses what it holds as well, its
secrets included. Whatever these functions compute, the party can compute; what they cannot, rests on the assumptions of
docs/threat-model.md. What is peculiar to a ranking scheme its record says (`Scheme.leakage`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jcbir.protocol.authority import Authority, _split_plaintexts, decrypt_report
from jcbir.protocol.messages import Delivery, Enrollment, Publication, Query, ScoreReport, Sent
from jcbir.ranking._scheme import Seen, Trapdoor
from jcbir.ranking._table import SCHEMES


class ServerView(NamedTuple):
    """What the server can say after a transcript.

    Attributes:
        images: images published.
        bits: code length.
        sealed_bytes: size of each sealed image: that of its file and texts, padded to one of few lengths.
        fetched: pseudonym to the number of answers it was part of (access pattern).
        queries: scheme to number of query images.
        seen: scheme to what its trapdoors give away.
    """

    images: int
    bits: int
    sealed_bytes: Mapping[str, int]
    fetched: Mapping[str, int]
    queries: Mapping[str, int]
    seen: Mapping[str, Seen]


class AuthorityView(NamedTuple):
    """What the authority can say after a transcript, decrypting all it was sent.

    Attributes:
        users: grants seen.
        queries: scheme to number of query images.
        seen: scheme to what its decrypted scores give away.
    """

    users: int
    queries: Mapping[str, int]
    seen: Mapping[str, Seen]


def server_view(transcript: Sequence[Sent]) -> ServerView:
    """Compute what the server saw.

    Args:
        transcript: every message of a run, in order.

    Returns:
        The view.

    Example:
        >>> server_view([]).images
        0
    """
    received = views(transcript, party="server")
    publications = [message for message in received if isinstance(message, Publication)]
    sealed = {image.image_id: len(image.sealed) for message in publications for image in message.images}
    fetched: Counter[str] = Counter()
    for line in transcript:
        if line.sender == "server" and isinstance(line.message, Delivery):
            fetched.update(image.image_id for image in line.message.images)
    trapdoors: dict[str, list[Trapdoor]] = {}
    for message in received:
        if isinstance(message, Query):
            trapdoors.setdefault(message.request.scheme, []).extend(message.trapdoors)
    seen = {scheme: SCHEMES[scheme].leakage.server(items) for scheme, items in trapdoors.items()}
    queries = {scheme: len(items) for scheme, items in trapdoors.items()}
    bits = publications[0].card.bits if publications else 0
    return ServerView(len(sealed), bits, sealed, fetched, queries, seen)


def authority_view(transcript: Sequence[Sent], holder: Authority) -> AuthorityView:
    """Compute what the authority saw, by decrypting every score it received.

    Args:
        transcript: every message of a run of one epoch, in order.
        holder: the authority's state after it.

    Returns:
        The view.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> authority_view([], small_system().authority).users
        0
    """
    reports = [line.message for line in transcript if isinstance(line.message, ScoreReport)]
    rows: dict[str, list] = {}
    for report in reports:
        opened = _split_plaintexts(report, decrypt_report(holder, report))
        rows.setdefault(report.request.scheme, []).extend(opened)
    public = holder.card.public.key
    seen = {scheme: SCHEMES[scheme].leakage.authority(items, public) for scheme, items in rows.items()}
    users = len({report.request.grant.grant_id for report in reports})
    return AuthorityView(users, {scheme: len(items) for scheme, items in rows.items()}, seen)


def describe(transcript: Sequence[Sent], *, holder: Authority | None = None) -> list[dict[str, str]]:
    """Say in words and numbers what each party learned in a run, scheme by scheme: the leakage table.

    Args:
        transcript: every message of a run of one epoch, in order.
        holder: the authority's state after it; with it the authority's figures are measured rather than counted.

    Returns:
        Rows with the keys `scheme`, `party` and `learned`.

    Example:
        >>> [row["party"] for row in describe([])]
        ['server', 'owner']
    """
    server = server_view(transcript)
    opened = None if holder is None else authority_view(transcript, holder)
    sizes = len(set(server.sealed_bytes.values()))
    enrolled = sum(isinstance(line.message, Enrollment) for line in transcript)
    rows = [
        _row("any", "server", f"{server.images} images, {server.bits} bits, {sizes} padded sizes of files, key"),
        _row("any", "owner", f"public keys of {enrolled} users, how much each asks a day; no query"),
    ]
    for scheme in (name for name in SCHEMES if name in server.queries):
        answers = {line.message.request.nonce for line in transcript if _asks(line, scheme)}
        fetched = {
            image.image_id
            for line in transcript
            if isinstance(line.message, Delivery) and line.message.ranking.nonce in answers
            for image in line.message.images
        }
        seen = SCHEMES[scheme].leakage.authority((), None) if opened is None else opened.seen[scheme]
        rows += _scheme_rows(
            scheme, server.queries[scheme], len(fetched), server.images, server.seen[scheme].words, seen.words
        )
    return rows


def describe_query(query: Query, delivery: Delivery) -> list[dict[str, str]]:
    """Say what each party learned from one answered query, by what its user has of it.

    Args:
        query: user to server.
        delivery: server to user.

    Returns:
        Rows with the keys `scheme`, `party` and `learned`. Without a head the user does not know how many images there
        are, and the rows say "all".

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> [row["party"] for row in describe_query(small_system().query, small_system().delivery)]
        ['server', 'authority', 'user', 'owner']
    """
    scheme, head = query.request.scheme, delivery.head
    published = "all" if head is None else sum(part.count for part in head.parts)
    leakage = SCHEMES[scheme].leakage
    words = leakage.server(query.trapdoors).words, leakage.authority((), None).words
    rows = _scheme_rows(scheme, query.request.queries, len(delivery.images), published, *words)
    return [*rows, _row(scheme, "owner", "how much this grant asks a day; nothing of what")]


def views(transcript: Sequence[Sent], *, party: str) -> list[Any]:
    """List the messages a party received.

    Args:
        transcript: every message of a run, in order.
        party: "owner", "server", "authority" or "user".

    Returns:
        The messages, in order.

    Example:
        >>> views([Sent("user", "server", "hello")], party="server")
        ['hello']
    """
    return [line.message for line in transcript if line.receiver == party]


def _scheme_rows(
    scheme: str, queries: int, fetched: int, published: int | str, server: str, authority: str
) -> list[dict[str, str]]:
    """What queries by one scheme told, `fetched` of the `published` images travelling."""
    return [
        _row(scheme, "server", f"{queries} queries, {fetched} images fetched; {server}"),
        _row(scheme, "authority", f"{queries} x {published} {authority}"),
        _row(scheme, "user", f"order, distances and pictures of its results: {fetched} of {published} images"),
    ]


def _row(scheme: str, party: str, learned: str) -> dict[str, str]:
    return {"scheme": scheme, "party": party, "learned": learned}


def _asks(line: Sent, scheme: str) -> bool:
    return isinstance(line.message, Query) and line.receiver == "server" and line.message.request.scheme == scheme
