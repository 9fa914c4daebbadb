"""Whether a message may be answered: grant, signature, time, collection, revocation, replay, epoch. Free of secrets."""

import hashlib
import hmac
from collections.abc import Collection, Mapping

from jcbir.protocol._digests import digest
from jcbir.protocol._signatures import check_signature
from jcbir.protocol.messages import Appointment, Card, Grant, Query, Request, Succession
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

RIGHTS = ("rank", "open")
"""`rank`: learn pseudonyms and distances of the best results. `open`: receive their image keys as well."""

WINDOW_SECONDS = 300
"""How old, or how far in the future, the clock on a query may be."""


def check_grant(grant: Grant, *, card: Card, now: int, revoked: Collection[bytes] = ()) -> None:
    """Check that a grant is the owner's, for this collection and epoch, in force and not revoked.

    Args:
        grant: the grant presented.
        card: the collection it is presented to.
        now: seconds since 1970.
        revoked: identifiers of revoked grants.

    Raises:
        ForgedGrantError: the owner did not sign this.
        ForeignCollectionError: it is for another collection.
        RevokedGrantError: it is on the list, or of another epoch.
        ExpiredGrantError: it is not valid yet, or no more.

    Example:
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> grant = system.admission.grant
        >>> check_grant(grant, card=system.server.card, now=NOW)
        >>> check_grant(grant, card=system.server.card, now=NOW, revoked=[grant.grant_id])
        Traceback (most recent call last):
        ...
        jcbir.protocol.refusals.RevokedGrantError: grant: ... is revoked
    """
    # The signature comes first: of an unsigned grant no field means anything.
    check_signature(grant, public=card.owner_key, refusal=ForgedGrantError)
    if grant.collection != card.collection:
        raise ForeignCollectionError(f"grant: for collection {grant.collection!r}, presented to {card.collection!r}")
    if grant.epoch != card.epoch:
        raise RevokedGrantError(f"grant: of epoch {grant.epoch}, the collection is in epoch {card.epoch}")
    if grant.grant_id in revoked:
        raise RevokedGrantError(f"grant: {grant.grant_id.hex()} is revoked")
    if not grant.issued - WINDOW_SECONDS <= now < grant.expires:
        raise ExpiredGrantError(f"grant: valid from {grant.issued} until {grant.expires}, it is {now}")


def check_request(request: Request, *, card: Card, now: int, revoked: Collection[bytes] = ()) -> None:
    """Check a request: its grant, its user's signature, its clock, and that the grant allows what it asks.

    Args:
        request: the request.
        card: the collection asked.
        now: seconds since 1970.
        revoked: identifiers of revoked grants.

    Raises:
        RefusalError: in the form that names the reason; see `check_grant` for those of the grant, and
            TamperedQueryError, ForeignCollectionError, StaleQueryError, MissingRightError for the request's own.

    Example:
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> check_request(system.query.request, card=system.server.card, now=NOW)
        >>> check_request(system.query.request, card=system.server.card, now=NOW + 301)
        Traceback (most recent call last):
        ...
        jcbir.protocol.refusals.StaleQueryError: query: issued at 1800000000, it is 1800000301; at most 300 s apart
    """
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


def check_issued(issued: int, *, now: int, name: str) -> None:
    """Check that a message is fresh: `|now - issued| <= WINDOW_SECONDS`.

    Args:
        issued: its time, seconds since 1970.
        now: seconds since 1970.
        name: what it is, for the refusal.

    Raises:
        StaleQueryError: issued too long ago, or in the future.

    Example:
        >>> check_issued(1000, now=1300, name="query")
        >>> check_issued(1000, now=699, name="query")
        Traceback (most recent call last):
        ...
        jcbir.protocol.refusals.StaleQueryError: query: issued at 1000, it is 699; at most 300 s apart
    """
    if abs(now - issued) > WINDOW_SECONDS:
        raise StaleQueryError(f"{name}: issued at {issued}, it is {now}; at most {WINDOW_SECONDS} s apart")


def commit(salt: bytes, trapdoors: tuple) -> bytes:
    """Commit to a batch of trapdoors: `SHA-256(salt, trapdoors)`.

    Args:
        salt: 32 random bytes; they keep the authority from guessing a short masked code.
        trapdoors: the trapdoors.

    Returns:
        32 bytes.

    Example:
        >>> commit(bytes(32), ()) == commit(bytes(32), ())
        True
    """
    return digest((salt, trapdoors), domain="jcbir trapdoors v1")


def hash_openings(openings: bytes) -> bytes:
    """Hash sealed openings: `SHA-256(openings)`, and nothing of nothing.

    Args:
        openings: as in a query or a report.

    Returns:
        32 bytes, or none.

    Example:
        >>> len(hash_openings(b"sealed")), hash_openings(b"")
        (32, b'')
    """
    return hashlib.sha256(openings).digest() if openings else b""


def check_commitment(query: Query) -> None:
    """Check that a query carries the trapdoors and openings its user committed to.

    Args:
        query: the query.

    Raises:
        TamperedQueryError: it does not.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> check_commitment(small_system().query)
        >>> check_commitment(Query(small_system().query.request, bytes(32), ()))
        Traceback (most recent call last):
        ...
        jcbir.protocol.refusals.TamperedQueryError: query: 0 trapdoors, the user signed 1
    """
    if len(query.trapdoors) != query.request.queries:
        raise TamperedQueryError(f"query: {len(query.trapdoors)} trapdoors, the user signed {query.request.queries}")
    if not hmac.compare_digest(commit(query.salt, query.trapdoors), query.request.commitment):
        raise TamperedQueryError("query: the trapdoors are not those the user committed to")
    if hash_openings(query.openings) != query.request.openings:
        raise TamperedQueryError("query: the openings are not those the user committed to")


def note_answered(answered: Mapping[bytes, int], nonce: bytes, *, issued: int, now: int) -> dict[bytes, int]:
    """Note a request as answered, and forget those so old that `check_request` refuses them anyway.

    Kept for two windows: a clock that was set back by up to one lets no replay in.

    Args:
        answered: nonce to time of issue.
        nonce: the request's name.
        issued: the request's time of issue, seconds since 1970.
        now: seconds since 1970.

    Returns:
        The new mapping.

    Raises:
        ReplayedQueryError: the request was answered before.

    Example:
        >>> first = note_answered({}, b"1", issued=1000, now=1000)
        >>> note_answered(first, b"2", issued=1601, now=1601)
        {b'2': 1601}
    """
    if nonce in answered:
        raise ReplayedQueryError(f"query: {nonce.hex()} was answered before")
    kept = {old: time for old, time in answered.items() if now - time <= 2 * WINDOW_SECONDS}
    return {**kept, nonce: issued}


def same_collection(first: Card, second: Card) -> bool:
    """Tell whether two cards are of one collection, in whatever epochs.

    Args:
        first: a card.
        second: a card.

    Returns:
        Whether name, owner and code length are the same.

    Example:
        >>> import dataclasses
        >>> from jcbir.protocol.session import small_system
        >>> card = small_system().owner.card
        >>> same_collection(card, dataclasses.replace(card, epoch=1))
        True
    """
    return (first.collection, first.owner_key, first.bits) == (second.collection, second.owner_key, second.bits)


def check_successor(card: Card, message: Succession | Appointment) -> bool:
    """Decide whether a message opens the epoch after this one.

    Args:
        card: the collection as it is now.
        message: from the owner.

    Returns:
        True if it does, False if the epoch it speaks of is open already (a repeated message).

    Raises:
        ForgedReplyError: the owner did not sign it.
        ForeignCollectionError: another collection or owner, another code length, or not the very next epoch.
        StaleQueryError: of an epoch that is over.

    Example:
        >>> import secrets
        >>> from jcbir.protocol import owner
        >>> from jcbir.protocol.session import small_system
        >>> old = small_system().owner
        >>> succession, _ = owner.announce(owner.rekey(old, draw=secrets.token_bytes))
        >>> check_successor(old.card, succession), check_successor(succession.card, succession)
        (True, False)
    """
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
