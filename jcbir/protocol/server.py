"""The cloud: holds an encrypted index and sealed images, computes on them with the public key alone.

Nothing imported here, directly or not, can decrypt, open an image, or hash one; import-linter proves it in CI.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jcbir.errors import KeyMismatchError
from jcbir.protocol._signatures import check_signature
from jcbir.protocol.grants import check_commitment, check_request, note_answered
from jcbir.protocol.messages import (
    Card,
    Delivery,
    Publication,
    Query,
    Ranking,
    Revocation,
    ScoreReport,
    SealedImage,
    Withdrawal,
)
from jcbir.protocol.refusals import ForeignCollectionError, ForgedReplyError, StaleQueryError
from jcbir.ranking._scheme import Index
from jcbir.ranking._score import prepare, score
from jcbir.ranking._table import SCHEMES, check_layout


@dataclasses.dataclass(frozen=True)
class Segment:
    """One immutable part of the collection.

    Attributes:
        number: its number.
        indexes: ranking scheme to encrypted index, prepared for scoring.
        image_ids: pseudonyms in index order.
    """

    number: int
    indexes: Mapping[str, Any]
    image_ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Server:
    """What the cloud holds. No field of it is a secret.

    Attributes:
        card: the collection.
        segments: in order of their numbers.
        images: pseudonym to sealed image; any mapping, so a store on disk serves as well.
        revoked: revoked grants.
        revocation_serial: number of the revocation list in force.
        answered: nonces of recent requests, with their time.
        awaited: nonces of requests scored and not delivered yet.
    """

    card: Card
    segments: tuple[Segment, ...] = ()
    images: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    revoked: frozenset[bytes] = frozenset()
    revocation_serial: int = 0
    answered: Mapping[bytes, int] = dataclasses.field(default_factory=dict)
    awaited: frozenset[bytes] = frozenset()


def accept(server: Server, publication: Publication) -> Server:
    """Take a segment in: check the owner's signature, build what makes scoring cheap, once for all queries.

    Args:
        server: state.
        publication: from the owner.

    Returns:
        The new state.

    Raises:
        ForeignCollectionError: another collection, epoch or key.
        ForgedReplyError: the owner did not sign it.
        ValueError: its number is not the next, its parts differ in length, or a pseudonym is taken.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> len(accept(Server(small_system().server.card), small_system().publication).images)
        3
    """
    segment = check_publication(server, publication)
    images = {**server.images, **{image.image_id: image.sealed for image in publication.images}}
    return dataclasses.replace(server, segments=(*server.segments, segment), images=images)


def check_publication(server: Server, publication: Publication, *, tables: bool = True) -> Segment:
    """Decide whether a segment may be taken in, and build what makes scoring it cheap.

    Args:
        server: state.
        publication: from the owner.
        tables: whether to build the product tables; a process that does not score needs none.

    Returns:
        The segment as `accept` adds it; a service writes the publication to its store before it does.

    Raises:
        ForeignCollectionError: another collection, epoch or key.
        ForgedReplyError: the owner did not sign it.
        ValueError: its number is not the next, its parts differ in length, or a pseudonym is taken.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> check_publication(Server(small_system().server.card), small_system().publication).number
        0
    """
    _check_card(server, publication.card)
    check_signature(publication, public=server.card.owner_key, refusal=ForgedReplyError)
    number = server.segments[-1].number + 1 if server.segments else 0
    if publication.segment != number:
        raise ValueError(f"publication: segment {publication.segment}, the next one here is {number}")
    image_ids = tuple(image.image_id for image in publication.images)
    taken = server.images.keys() & set(image_ids)
    if taken or len(set(image_ids)) != len(image_ids):
        raise ValueError(f"publication: pseudonyms must be new and differ; {len(taken)} are here already")
    for index in publication.indexes:
        if index.fingerprint != server.card.public.fingerprint:
            raise KeyMismatchError("publication: an index is encrypted under another key")
        check_layout(server.card.public, index.layout)
        shape = SCHEMES[index.layout.scheme].shapes(index.layout).index
        expected = (len(image_ids), server.card.bits, shape)
        if (index.layout.count, index.layout.bits, index.ciphertexts.shape) != expected:
            raise ValueError(
                f"publication: an index must have (codes, bits, ciphertexts) {expected}, got {index.layout}"
            )
    return prepare_segment(server.card, publication.segment, publication.indexes, image_ids, tables=tables)


def prepare_segment(
    card: Card, number: int, indexes: Sequence[Index], image_ids: tuple[str, ...], *, tables: bool = True
) -> Segment:
    """Build the product tables of a segment once, for all queries.

    Args:
        card: the collection.
        number: number of the segment.
        indexes: its encrypted indexes.
        image_ids: pseudonyms in index order.
        tables: whether to build them; without, scoring takes twice the products.

    Returns:
        The segment.

    Example:
        >>> from jcbir.paillier.public import PublicKey
        >>> prepare_segment(Card("photos", 0, 8, PublicKey(n=35, g=36), b"", b""), 0, (), ("a",)).image_ids
        ('a',)
    """
    ready = {
        index.layout.scheme: prepare(card.public, index) if tables and SCHEMES[index.layout.scheme].prepare else index
        for index in indexes
    }
    return Segment(number, ready, image_ids)


def withdraw(server: Server, withdrawal: Withdrawal) -> Server:
    """Forget the sealed images that the owner withdraws; their index entries are skipped by the authority.

    Args:
        server: state, with its images in memory; over a store use `check_withdrawal` and `store.remove_images`.
        withdrawal: from the owner.

    Returns:
        The new state.

    Raises:
        ForeignCollectionError: another collection or epoch.
        ForgedReplyError: the owner did not sign it.

    Example:
        >>> from jcbir.protocol.messages import Withdrawal
        >>> Withdrawal("photos", 0, 1, ("a",)).image_ids
        ('a',)
    """
    gone = check_withdrawal(server, withdrawal)
    kept = {image_id: sealed for image_id, sealed in server.images.items() if image_id not in gone}
    return dataclasses.replace(server, images=kept)


def check_withdrawal(server: Server, withdrawal: Withdrawal) -> frozenset[str]:
    """Decide whether a withdrawal is the owner's, and of which images it speaks.

    Args:
        server: state.
        withdrawal: from the owner.

    Returns:
        The pseudonyms to forget; those published again later are not among them.

    Raises:
        ForeignCollectionError: another collection or epoch.
        ForgedReplyError: the owner did not sign it.

    Example:
        >>> from jcbir.protocol import session as example, owner
        >>> system = example.small_system()
        >>> len(check_withdrawal(system.server, owner.withdraw(system.owner, ["a"])[1]))
        1
    """
    _check_place(server, withdrawal.collection, withdrawal.epoch)
    check_signature(withdrawal, public=server.card.owner_key, refusal=ForgedReplyError)
    later = {name for segment in server.segments if segment.number >= withdrawal.segments for name in segment.image_ids}
    return frozenset(withdrawal.image_ids) - later


def revoke(server: Server, revocation: Revocation) -> Server:
    """Take a revocation list in force: the server need not score for a revoked user.

    Args:
        server: state.
        revocation: from the owner.

    Returns:
        The new state.

    Raises:
        ForeignCollectionError: another collection or epoch.
        ForgedReplyError: the owner did not sign it.
        StaleQueryError: a newer list is in force.

    Example:
        >>> from jcbir.protocol.messages import Revocation
        >>> Revocation("photos", 0, 1, (bytes(16),)).serial
        1
    """
    _check_place(server, revocation.collection, revocation.epoch)
    check_signature(revocation, public=server.card.owner_key, refusal=ForgedReplyError)
    if revocation.serial < server.revocation_serial:
        raise StaleQueryError(f"revocation: list {revocation.serial}, list {server.revocation_serial} is in force")
    return dataclasses.replace(server, revoked=frozenset(revocation.grant_ids), revocation_serial=revocation.serial)


def blinders_needed(server: Server, query: Query) -> int:
    """Count the fresh blinders that scoring a query consumes: one for each ciphertext that leaves.

    Args:
        server: state.
        query: the query.

    Returns:
        Their number.

    Raises:
        ValueError: the collection offers no index of that scheme.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> blinders_needed(small_system().server, small_system().query)
        1
    """
    return len(query.trapdoors) * sum(
        scheme_index(segment, query.request.scheme).layout.blocks for segment in server.segments
    )


def score_query(
    server: Server,
    query: Query,
    *,
    blinders: UInt8[np.ndarray, "m w"],
    now: int,
    engine: str = "auto",
) -> tuple[Server, ScoreReport]:
    """Score a batch of trapdoors against every segment; each ciphertext is re-randomised before it leaves.

    Args:
        server: state.
        query: from the user.
        blinders: at least `blinders_needed(server, query)` fresh encryptions of zero, never used before.
        now: seconds since 1970.
        engine: arithmetic engine.

    Returns:
        The new state and the report for the authority.

    Raises:
        RefusalError: in the form that names the reason; see `jcbir.protocol.grants.check_request`.
        ValueError: too few blinders, or no index of that scheme.

    Example:
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> score_query(system.server, system.query, blinders=system.blinders, now=NOW)[1].segments
        (0,)

    References:
        Wang, Zhang, Meng and Liu (2023), section 3.4: there the server ranks as well, which it cannot without the key.
    """
    request = query.request
    check_request(request, card=server.card, now=now, revoked=server.revoked)
    check_commitment(query)
    answered = note_answered(server.answered, request.nonce, issued=request.issued, now=now)
    needed = blinders_needed(server, query)
    if len(blinders) < needed:
        raise ValueError(f"blinders: {needed} needed, got {len(blinders)}")
    scores, used = [], 0
    for trapdoor in query.trapdoors:
        row = []
        for segment in server.segments:
            index = scheme_index(segment, request.scheme)
            fresh = blinders[used : used + index.layout.blocks]
            row.append(score(server.card.public, index, trapdoor, blinders=fresh, engine=engine))
            used += index.layout.blocks
        scores.append(tuple(row))
    report = ScoreReport(request, tuple(segment.number for segment in server.segments), tuple(scores))
    awaited = {nonce for nonce in server.awaited if nonce in answered} | {request.nonce}
    return dataclasses.replace(server, answered=answered, awaited=frozenset(awaited)), report


def deliver(server: Server, ranking: Ranking) -> tuple[Server, Delivery]:
    """Hand over the sealed images that the authority names.

    Args:
        server: state.
        ranking: from the authority.

    Returns:
        The new state and the delivery for the user.

    Raises:
        ForgedReplyError: the authority did not sign it, or it answers no request that waits here.
        ValueError: an image was withdrawn meanwhile.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> waiting = dataclasses.replace(system.server, awaited=frozenset([system.ranking.nonce]))
        >>> len(deliver(waiting, system.ranking)[1].images)
        2
    """
    check_signature(ranking, public=server.card.authority_key, refusal=ForgedReplyError)
    if ranking.nonce not in server.awaited:
        raise ForgedReplyError(f"ranking: request {ranking.nonce.hex()} does not wait for one")
    missing = [image_id for image_id in ranking.image_ids if image_id not in server.images]
    if missing:
        raise ValueError(f"ranking: {len(missing)} of {len(ranking.image_ids)} images are not here any more; ask again")
    images = tuple(SealedImage(image_id, server.images[image_id]) for image_id in ranking.image_ids)
    return dataclasses.replace(server, awaited=server.awaited - {ranking.nonce}), Delivery(ranking, images)


def scheme_index(segment: Segment, scheme: str) -> Any:
    """A segment's index for a scheme.

    Args:
        segment: the segment.
        scheme: ranking scheme.

    Returns:
        The index.

    Raises:
        ValueError: the segment does not offer the scheme.

    Example:
        >>> scheme_index(Segment(0, {"packed": "index"}, ()), "packed")
        'index'
    """
    if scheme not in segment.indexes:
        raise ValueError(f"scheme: segment {segment.number} offers {sorted(segment.indexes)}, got {scheme!r}")
    return segment.indexes[scheme]


def _check_place(server: Server, collection: str, epoch: int) -> None:
    here: Collection[object] = (server.card.collection, server.card.epoch)
    if (collection, epoch) != here:
        raise ForeignCollectionError(f"message for {collection!r} epoch {epoch}, this is {here}")


def _check_card(server: Server, card: Card) -> None:
    _check_place(server, card.collection, card.epoch)
    if card != server.card:
        raise ForeignCollectionError(f"publication: keys of another system ({card.public.fingerprint[:16]})")


__all__ = [
    "Segment",
    "Server",
    "accept",
    "blinders_needed",
    "check_publication",
    "check_withdrawal",
    "deliver",
    "prepare_segment",
    "revoke",
    "scheme_index",
    "score_query",
    "withdraw",
]
