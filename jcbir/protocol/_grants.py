"""Whether a message may be answered: grant, signature, time, collection, revocation, replay, epoch. Free of secrets."""

import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from jcbir.protocol._digests import digest
from jcbir.protocol._signatures import check_signature
from jcbir.protocol.messages import (
    Appointment,
    Card,
    Catalog,
    Grant,
    Head,
    Inquiry,
    Query,
    Recall,
    Request,
    Revocation,
    Succession,
    Withdrawal,
)
from jcbir.protocol.refusals import (
    ExpiredGrantError,
    ForeignCollectionError,
    ForgedGrantError,
    ForgedReplyError,
    MissingRightError,
    ReplayedQueryError,
    RevokedGrantError,
    StaleQueryError,
    TamperedQueryError,
)
from jcbir.ranking._table import find_scheme
from jcbir.typing import Rows

RIGHTS = ("rank", "open")
"""`rank`: learn pseudonyms and distances of the best results. `open`: receive their image keys as well."""

WINDOW_SECONDS = 300
"""How old, or how far in the future, the clock on a query may be."""


def check_grant(grant: Grant, *, card: Card, now: int, revoked: Collection[bytes] = ()) -> None:
    """Check that a grant is the owner's, for this collection and epoch, in force and not revoked."""
    # The signature comes first: of an unsigned grant no field means anything.
    check_signature(grant, public=card.owner_key, refusal=ForgedGrantError)
    if grant.collection != card.collection:
        raise ForeignCollectionError(f"grant: for collection {grant.collection!r}, presented to {card.collection!r}")
    if grant.epoch != card.epoch:
        raise RevokedGrantError(f"grant: of epoch {grant.epoch}, the collection is in epoch {card.epoch}")
    if grant.grant_id in revoked:
        raise RevokedGrantError(f"grant: {grant.grant_id.hex()} is revoked")
    if not grant.issued - WINDOW_SECONDS <= now < grant.expires:
        span = f"from {_date(grant.issued)} until {_date(grant.expires)}"
        raise ExpiredGrantError(f"grant: valid {span}, and here it is {_date(now)}")


def check_request(request: Request, *, card: Card, now: int, revoked: Collection[bytes] = ()) -> None:
    """Check a request: its grant, its user's signature, its clock, and that the grant allows what it asks."""
    grant = request.grant
    check_grant(grant, card=card, now=now, revoked=revoked)
    check_signature(request, public=grant.signing_key, refusal=TamperedQueryError)
    if (request.collection, request.epoch) != (card.collection, card.epoch):
        raise ForeignCollectionError(
            f"query: for {request.collection!r} epoch {request.epoch}, sent to {card.collection!r} epoch {card.epoch}"
        )
    check_issued(request.issued, now=now, name="query")
    if "rank" not in grant.rights:
        raise MissingRightError(f"grant: rights are {grant.rights}, a query needs 'rank'")
    if not 1 <= request.top <= grant.max_results:
        raise MissingRightError(f"top: {request.top} results asked, the grant allows 1 to {grant.max_results}")
    if not 1 <= request.queries <= grant.queries_per_day:
        raise MissingRightError(f"queries: {request.queries} asked, the grant allows {grant.queries_per_day} a day")
    if find_scheme(request.scheme).key_kind != card.public.kind:
        raise ValueError(f"scheme: must be one for {card.public.kind} keys, got {request.scheme!r}")


def check_order(card: Card, order: Catalog | Head | Withdrawal | Revocation | Recall | Inquiry) -> None:
    """Check that what the owner orders is signed by the owner, for this collection and epoch."""
    here = (card.collection, card.epoch)
    if (order.collection, order.epoch) != here:
        raise ForeignCollectionError(f"message for {order.collection!r} epoch {order.epoch}, this is {here}")
    check_signature(order, public=card.owner_key, refusal=ForgedReplyError)


def check_revocation(card: Card, revocation: Revocation, *, serial: int) -> None:
    """Check that a revocation list is the owner's and not older than the one in force."""
    check_order(card, revocation)
    if revocation.serial < serial:
        raise StaleQueryError(f"revocation: list {revocation.serial}, list {serial} is in force")


def check_issued(issued: int, *, now: int, name: str) -> None:
    """Check that a message is fresh: `|now - issued| <= WINDOW_SECONDS`."""
    if abs(now - issued) > WINDOW_SECONDS:
        apart = f"issued at {_date(issued)}, and here it is {_date(now)}"
        raise StaleQueryError(f"{name}: {apart}; clocks may be at most {WINDOW_SECONDS} s apart")


def _date(seconds: int) -> str:
    """ISO 8601, universal time; what no calendar has, as it is."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def commit(salt: bytes, trapdoors: tuple) -> bytes:
    """Commit to a batch of trapdoors: `SHA-256(salt, trapdoors)`."""
    return digest((salt, trapdoors), domain="jcbir trapdoors v1")


def hash_openings(openings: bytes) -> bytes:
    """Hash sealed openings: `SHA-256(openings)`, and nothing of nothing."""
    return hashlib.sha256(openings).digest() if openings else b""


def hash_shared(rows: Sequence[Rows]) -> bytes:
    """Hash what the scores of each query of a batch share, and nothing of nothing."""
    return hashlib.sha256(b"".join(part.tobytes() for part in rows)).digest() if any(map(len, rows)) else b""


def check_commitment(query: Query) -> None:
    """Check that a query carries the trapdoors and openings its user committed to."""
    if len(query.trapdoors) != query.request.queries:
        raise TamperedQueryError(f"query: {len(query.trapdoors)} trapdoors, the user signed {query.request.queries}")
    if not hmac.compare_digest(commit(query.salt, query.trapdoors), query.request.commitment):
        raise TamperedQueryError("query: the trapdoors are not those the user committed to")
    if hash_openings(query.openings) != query.request.openings:
        raise TamperedQueryError("query: the openings are not those the user committed to")


def note_answered(answered: Mapping[bytes, int], nonce: bytes, *, issued: int, now: int) -> dict[bytes, int]:
    """Note a request as answered, and forget those so old that `check_request` refuses them anyway.

    Kept for two windows: a clock that was set back by up to one lets no replay in. Who came first goes first, so that
    a query does not look through all of them: one issued ahead keeps those behind it for a window longer.
    """
    if nonce in answered:
        raise ReplayedQueryError(f"query: {nonce.hex()} was answered before")
    kept = dict(answered)
    for old, time in answered.items():
        if now - time <= 2 * WINDOW_SECONDS:
            break
        del kept[old]
    return {**kept, nonce: issued}


def same_collection(first: Card, second: Card) -> bool:
    """Tell whether two cards are of one collection, in whatever epochs."""
    return (first.collection, first.owner_key, first.bits) == (second.collection, second.owner_key, second.bits)


def check_successor(card: Card, message: Succession | Appointment) -> bool:
    """Decide whether a message opens the epoch after this one."""
    check_signature(message, public=card.owner_key, refusal=ForgedReplyError)
    following = message.card
    if not same_collection(following, card):
        raise ForeignCollectionError(f"message for {following.collection!r}, this is {card.collection!r}")
    if following == card:
        return False
    if following.epoch <= card.epoch:
        raise StaleQueryError(f"message opens epoch {following.epoch}, the collection is in epoch {card.epoch}")
    if following.epoch != card.epoch + 1:
        raise ForeignCollectionError(f"message opens epoch {following.epoch}, the next one here is {card.epoch + 1}")
    return True
