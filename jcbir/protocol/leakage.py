"""What each party saw: computed from a transcript, in numbers, by the party's own means.

The server's view uses nothing but the messages it received. The authority's view uses the Paillier secret key as well,
because the authority has it. Whatever these functions compute, the party can compute; what they cannot, rests on the
assumptions of docs/threat-model.md.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jcbir.protocol.messages import Delivery, Enrollment, Publication, Query, ScoreReport, Sent
from jcbir.ranking._open import decrypt_scores
from jcbir.ranking._scheme import Scores, Seen, Trapdoor
from jcbir.ranking._table import SCHEMES


class ServerView(NamedTuple):
    """What the server can say after a transcript.

    Attributes:
        images: images published.
        bits: code length.
        sealed_bytes: size of each sealed image; it tells height x width x channels.
        fetched: pseudonym to the number of answers it was part of (access pattern).
        queries: scheme to number of query images.
        seen: scheme to what its trapdoors show the server (`Leakage.server`): in `bitsliced` the distances between all
            queries, the search pattern.
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
        seen: scheme to what its scores show the authority (`Leakage.authority`): distances in `bitsliced`, patterns as
            well in `packed`, differences of the masked codes as numbers in `integer`.
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
    received = [line.message for line in transcript if line.receiver == "server"]
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


def authority_view(transcript: Sequence[Sent], secret: Any) -> AuthorityView:
    """Compute what the authority saw, by decrypting every score it received.

    Args:
        transcript: every message of a run, in order.
        secret: the secret key, which the authority holds.

    Returns:
        The view.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> authority_view([], key).users
        0
    """
    reports = [line.message for line in transcript if isinstance(line.message, ScoreReport)]
    rows: dict[str, list[tuple[Scores, ...]]] = {}
    for report in reports:
        rows.setdefault(report.request.scheme, []).extend(report.scores)
    seen = {
        scheme: SCHEMES[scheme].leakage.authority(
            [[(scores.layout, decrypt_scores(secret, scores)) for scores in row] for row in items], secret.public
        )
        for scheme, items in rows.items()
    }
    users = len({report.request.grant.grant_id for report in reports})
    return AuthorityView(users, {name: len(items) for name, items in rows.items()}, seen)


def describe(transcript: Sequence[Sent], *, secret: Any = None) -> list[dict[str, str]]:
    """Say in words and numbers what each party learned in a run, scheme by scheme: the leakage table.

    Args:
        transcript: every message of a run, in order.
        secret: the secret key; with it the authority's figures are measured rather than counted.

    Returns:
        Rows with the keys `scheme`, `party` and `learned`.

    Example:
        >>> [row["party"] for row in describe([])]
        ['server', 'owner']
    """
    server = server_view(transcript)
    opened = None if secret is None else authority_view(transcript, secret)
    sizes = len(set(server.sealed_bytes.values()))
    enrolled = sum(isinstance(line.message, Enrollment) for line in transcript)
    rows = [
        _row("any", "server", f"{server.images} images, {server.bits} bits, sealed sizes ({sizes} different), key"),
        _row("any", "owner", f"public keys of {enrolled} users; no query"),
    ]
    for scheme in SCHEMES:
        asked = [line.message for line in transcript if _asks(line, scheme)]
        if not asked:
            continue
        answers = {query.request.nonce for query in asked}
        fetched = {
            image.image_id
            for line in transcript
            if isinstance(line.message, Delivery) and line.message.ranking.nonce in answers
            for image in line.message.images
        }
        count = server.queries[scheme]
        pattern = f"{count} queries, {len(fetched)} images fetched"
        rows += [
            _row(scheme, "server", f"{pattern}; {server.seen[scheme].words}"),
            _row(scheme, "authority", f"{count} x {server.images} {_shown(opened, scheme).words}"),
            _row(
                scheme,
                "user",
                f"order, distances and pictures of its results: {len(fetched)} of {server.images} images",
            ),
        ]
    return rows


def _row(scheme: str, party: str, learned: str) -> dict[str, str]:
    return {"scheme": scheme, "party": party, "learned": learned}


def _asks(line: Sent, scheme: str) -> bool:
    return isinstance(line.message, Query) and line.receiver == "server" and line.message.request.scheme == scheme


def _shown(opened: AuthorityView | None, scheme: str) -> Seen:
    if opened is None or scheme not in opened.seen:
        return SCHEMES[scheme].leakage.authority([], None)
    return opened.seen[scheme]


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


__all__ = ["AuthorityView", "ServerView", "authority_view", "describe", "server_view", "views"]
