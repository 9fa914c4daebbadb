"""What each party saw: computed from a transcript, in numbers, by the party's own means.

The server's view uses nothing but the messages it received. The authority's view uses the Paillier secret key as well,
because the authority has it. Whatever these functions compute, the party can compute; what they cannot, rests on the
assumptions of docs/threat-model.md.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int8, Int32

from jcbir.paillier.secret import SecretKey
from jcbir.protocol.messages import SCHEMES, Delivery, Enrollment, Publication, Query, ScoreReport, Sent
from jcbir.ranking._open import decrypt_scores, open_differences, open_scores
from jcbir.ranking._radix import split
from jcbir.ranking._records import Scores, Trapdoor


class ServerView(NamedTuple):
    """What the server can say after a transcript.

    Attributes:
        images: images published.
        bits: code length.
        sealed_bytes: size of each sealed image; it tells height x width x channels.
        fetched: pseudonym to the number of answers it was part of (access pattern).
        queries: scheme to number of query images.
        query_distances: scheme to the Hamming distances between all its queries, where the server can compute them
            (search pattern: `bitsliced`); schemes with encrypted trapdoors are absent.
    """

    images: int
    bits: int
    sealed_bytes: Mapping[str, int]
    fetched: Mapping[str, int]
    queries: Mapping[str, int]
    query_distances: Mapping[str, Int32[np.ndarray, "q q"]]


class AuthorityView(NamedTuple):
    """What the authority can say after a transcript, decrypting all it was sent.

    Attributes:
        users: grants seen.
        queries: scheme to number of query images.
        distances: scheme to the distances of each query to each image (`integer`: ranks of the difference).
        patterns: for `packed`, `h - q` in -1, 0, 1 for each query, image and *masked* bit.
        differences: for `integer`, the signed difference of the masked codes as numbers.
    """

    users: int
    queries: Mapping[str, int]
    distances: Mapping[str, Int32[np.ndarray, "q n"]]
    patterns: Int8[np.ndarray, "p n k"] | None
    differences: tuple[tuple[int, ...], ...]


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
    distances = {
        scheme: _pairwise(np.stack([_masked_bits(item) for item in items]))
        for scheme, items in trapdoors.items()
        if scheme == "bitsliced"
    }
    queries = {scheme: len(items) for scheme, items in trapdoors.items()}
    bits = publications[0].card.bits if publications else 0
    return ServerView(len(sealed), bits, sealed, fetched, queries, distances)


def authority_view(transcript: Sequence[Sent], secret: SecretKey) -> AuthorityView:
    """Compute what the authority saw, by decrypting every score it received.

    Args:
        transcript: every message of a run, in order.
        secret: the Paillier secret key, which the authority holds.

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
    distances = {
        scheme: np.stack([np.concatenate([open_scores(secret, scores) for scores in row]) for row in items])
        for scheme, items in rows.items()
        if scheme != "integer"
    }
    packed = rows.get("packed", [])
    patterns = (
        np.stack([np.concatenate([_pattern(secret, scores) for scores in row]) for row in packed]) if packed else None
    )
    differences = tuple(
        tuple(value for scores in row for value in open_differences(secret, scores)) for row in rows.get("integer", [])
    )
    users = len({report.request.grant.grant_id for report in reports})
    return AuthorityView(users, {name: len(items) for name, items in rows.items()}, distances, patterns, differences)


def code_distances(pattern: Int8[np.ndarray, "n k"]) -> Int32[np.ndarray, "n n"]:
    """Compute the Hamming distances between all database codes from the pattern of ONE packed query.

    `h_a xor h_b = (h_a xor q) xor (h_b xor q)`: the query cancels out, and the key holder has the database's geometry.

    Args:
        pattern: `h - q` for each image and masked bit, from `AuthorityView.patterns`.

    Returns:
        int32[n, n].

    Example:
        >>> code_distances(np.array([[0, 1, 0], [-1, 1, 0]], np.int8)).tolist()
        [[0, 1], [1, 0]]
    """
    return _pairwise(pattern != 0)


def describe(transcript: Sequence[Sent], *, secret: SecretKey | None = None) -> list[dict[str, str]]:
    """Say in words and numbers what each party learned in a run, scheme by scheme: the leakage table.

    Args:
        transcript: every message of a run, in order.
        secret: the Paillier secret key; with it the authority's figures are measured rather than counted.

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
            _row(scheme, "server", f"{pattern}; {_search_pattern(server, scheme)}"),
            _row(scheme, "authority", _authority_row(server, opened, scheme, count)),
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


def _search_pattern(server: ServerView, scheme: str) -> str:
    if scheme not in server.query_distances:
        return "of the queries nothing: each trapdoor is a fresh encryption"
    distances = server.query_distances[scheme]
    above = distances[np.triu_indices(len(distances), 1)]
    if not above.size:
        return "the masked query"
    equal = int((above == 0).sum())
    return f"distances of {above.size} pairs of masked queries ({above.min()} to {above.max()}, {equal} equal pairs)"


def _authority_row(server: ServerView, opened: AuthorityView | None, scheme: str, count: int) -> str:
    cells = f"{count} x {server.images}"
    if scheme == "integer":
        # Two codes whose difference is known determine one another.
        text = f"{cells} differences of masked codes as numbers"
        known = [value for row in opened.differences for value in row] if opened else []
        return f"{text} ({sum(value == 0 for value in known)} equal codes)" if known else text
    if scheme == "packed":
        text = f"where masked query and code differ, and which is 1: {cells} x {server.bits} digits"
        if opened is None or opened.patterns is None:
            return text
        share = float((opened.patterns != 0).mean())
        return f"{text}, {share:.1%} of them differ; with them all distances between codes"
    text = f"{cells} distances, nothing else"
    if opened is None or scheme not in opened.distances:
        return text
    return f"{text} ({opened.distances[scheme].min()} to {opened.distances[scheme].max()})"


def _masked_bits(trapdoor: Trapdoor) -> Bool[np.ndarray, " k"]:
    return np.unpackbits(trapdoor.body[0])[: trapdoor.bits].astype(bool)


def _pattern(secret: SecretKey, scores: Scores) -> Int8[np.ndarray, "n k"]:
    layout = scores.layout
    digits = split(decrypt_scores(secret, scores), base=layout.base, count=layout.lanes * layout.bits)
    return (digits.reshape(-1, layout.bits)[: layout.count].astype(np.int8) - 1).astype(np.int8)


def _pairwise(codes: np.ndarray) -> np.ndarray:
    plain = codes.astype(np.int32)
    ones = plain.sum(axis=1)
    return (ones[:, None] + ones[None, :] - 2 * plain @ plain.T).astype(np.int32)


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


__all__ = ["AuthorityView", "ServerView", "authority_view", "code_distances", "describe", "server_view", "views"]
