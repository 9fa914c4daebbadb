"""The cloud: holds an encrypted index and sealed images, computes on them with the public key alone.

Nothing imported here, directly or not, can decrypt, open an image, or hash one; import-linter proves it in CI.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jcbir.errors import KeyMismatchError
from jcbir.padding import padded_length
from jcbir.protocol._digests import index_leaves, score_blocks
from jcbir.protocol._grants import (
    check_commitment,
    check_issued,
    check_order,
    check_request,
    check_revocation,
    check_successor,
    hash_shared,
    note_answered,
)
from jcbir.protocol._merkle import leaf_hashes, merkle_path
from jcbir.protocol._signatures import KEY_BYTES, Identity as Identity, check_signature, sign, verifying_key
from jcbir.protocol.messages import (
    Audit,
    Block,
    Card,
    Delivery,
    Head,
    Opened,
    Publication,
    Query,
    Ranking,
    Recall,
    Recalled,
    Revocation,
    ScoreReport,
    SealedImage,
    Succession,
    Withdrawal,
)
from jcbir.protocol.refusals import (
    EmptyCollectionError,
    ForeignCollectionError,
    ForgedReplyError,
    TamperedQueryError,
)
from jcbir.ranking._keys import KEY_KINDS
from jcbir.ranking._scheme import Index, Scores, Shapes, score_rows
from jcbir.ranking._score import prepare, score
from jcbir.ranking._table import check_layout, find_scheme, plan


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
    """What the cloud holds. No field of it is a secret: its `Identity` it holds beside this.

    Attributes:
        card: the collection.
        segments: in order of their numbers.
        images: pseudonym to sealed image; any mapping, so a store on disk serves as well.
        revoked: revoked grants.
        revocation_serial: number of the revocation list in force.
        answered: nonces of recent requests and recalls, with their time.
        awaited: nonces of requests scored and not delivered yet.
        seen: the latest time seen, seconds since 1970: a clock that steps back does not make old requests fresh.
        head: the owner's latest head, or None.
    """

    card: Card
    segments: tuple[Segment, ...] = ()
    images: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    revoked: frozenset[bytes] = frozenset()
    revocation_serial: int = 0
    answered: Mapping[bytes, int] = dataclasses.field(default_factory=dict)
    awaited: frozenset[bytes] = frozenset()
    seen: int = 0
    head: Head | None = None


def make_identity(*, draw: Callable[[int], bytes]) -> Identity:
    """Make the key that this server signs its reports with, once, at its first start.

    Args:
        draw: source of secret bytes, `secrets.token_bytes`.

    Returns:
        The identity; its `public` goes to the owner, who writes it into the card.

    Example:
        >>> import secrets
        >>> len(make_identity(draw=secrets.token_bytes).public)
        32
    """
    secret = draw(KEY_BYTES)
    return Identity(secret, verifying_key(secret))


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
    card, here = publication.card, (server.card.collection, server.card.epoch)
    if (card.collection, card.epoch) != here:
        raise ForeignCollectionError(f"message for {card.collection!r} epoch {card.epoch}, this is {here}")
    if card != server.card:
        raise ForeignCollectionError(f"publication: keys of another system ({card.public.fingerprint[:16]})")
    check_signature(publication, public=server.card.owner_key, refusal=ForgedReplyError)
    number = server.segments[-1].number + 1 if server.segments else 0
    if publication.segment != number:
        raise ValueError(f"publication: must be segment {number}, the next one here, got segment {publication.segment}")
    image_ids = tuple(image.image_id for image in publication.images)
    taken = server.images.keys() & set(image_ids)
    if taken or len(set(image_ids)) != len(image_ids):
        raise ValueError(f"publication: must have new and different pseudonyms, got {len(taken)} that are here already")
    schemes = [index.layout.scheme for index in publication.indexes]
    if not schemes or len(set(schemes)) != len(schemes):
        raise ValueError(f"publication: must have indexes of different schemes, at least one, got {schemes}")
    for index in publication.indexes:
        if index.fingerprint != server.card.public.fingerprint:
            raise KeyMismatchError("publication: an index is encrypted under another key")
        check_layout(server.card.public.key, index.layout)
        shape = _shapes(index).index
        expected = (len(image_ids), server.card.bits, shape)
        if (index.layout.count, index.layout.bits, index.ciphertexts.shape) != expected:
            raise ValueError(
                f"publication: must have indexes of (codes, bits, ciphertexts) {expected}, got {index.layout}"
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
        >>> from jcbir.protocol.session import small_system
        >>> prepare_segment(small_system().owner.card, 0, (), ("a",)).image_ids
        ('a',)
    """
    ready = {
        index.layout.scheme: prepare(card.public.key, index)
        if tables and find_scheme(index.layout.scheme).prepare is not None
        else index
        for index in indexes
    }
    return Segment(number, ready, image_ids)


def join_segments(card: Card, segments: Sequence[Segment]) -> Segment:
    """Join segments that follow each other into one that is scored at once: many short ones take as long as long ones.

    Scoring goes block by block in every scheme, so the scores are those of the segments, one after another.

    Args:
        card: the collection.
        segments: at least one, in order, with indexes that are not prepared.

    Returns:
        A segment of the first one's number, prepared, without images; fit for `score_share` and nothing else.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> parts = [Segment(0, {index.layout.scheme: index}, ()) for index in small_system().publication.indexes]
        >>> join_segments(small_system().owner.card, parts).number
        0
    """
    indexes = []
    # By a scheme that one of them lacks nobody can ask.
    for scheme in (name for name in segments[0].indexes if all(name in segment.indexes for segment in segments)):
        parts = [segment.indexes[scheme] for segment in segments]
        layout = parts[0].layout
        if len(parts) > 1:
            slots = sum(part.layout.slots for part in parts)
            layout = plan(card.public.key, scheme=scheme, count=slots, bits=layout.bits, base=layout.base)
        rows = parts[0].ciphertexts if len(parts) == 1 else np.concatenate([part.ciphertexts for part in parts])
        indexes.append(Index(layout, parts[0].fingerprint, rows))
    return prepare_segment(card, segments[0].number, indexes, ())


def take_head(server: Server, message: Head) -> Server:
    """Take the owner's latest head, which every delivery shows.

    Args:
        server: state.
        message: from the owner.

    Returns:
        The new state; the old one for a head that is not the latest.

    Raises:
        ForeignCollectionError: another collection or epoch.
        ForgedReplyError: the owner did not sign it.

    Example:
        >>> from jcbir.protocol import owner
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> take_head(system.server, owner.head(system.owner, now=NOW)[1]).head.counter
        1
    """
    check_order(server.card, message)
    known = 0 if server.head is None else server.head.counter
    return dataclasses.replace(server, head=message) if message.counter > known else server


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
        >>> from jcbir.protocol import owner
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> len(withdraw(system.server, owner.withdraw(system.owner, ["a"])[1]).images)
        2
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
    check_order(server.card, withdrawal)
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
        >>> from jcbir.protocol import owner
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> revocation = owner.revoke(system.owner, [system.admission.grant.grant_id])[1]
        >>> revoke(system.server, revocation).revocation_serial
        1
    """
    check_revocation(server.card, revocation, serial=server.revocation_serial)
    return dataclasses.replace(server, revoked=frozenset(revocation.grant_ids), revocation_serial=revocation.serial)


def admit_query(server: Server, query: Query, *, now: int) -> Server:
    """Decide whether a query may be scored, and note that it waits for a ranking: a second one is refused meanwhile.

    Args:
        server: state.
        query: from the user.
        now: seconds since 1970.

    Returns:
        The new state.

    Raises:
        RefusalError: in the form that names the reason; see `jcbir.protocol.refusals`.
        EmptyCollectionError: nothing is published yet.
        ValueError: no index of that scheme.

    Example:
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> admitted = admit_query(system.server, system.query, now=NOW)
        >>> admit_query(admitted, system.query, now=NOW)
        Traceback (most recent call last):
        ...
        jcbir.protocol.refusals.ReplayedQueryError: query: ... was answered before
    """
    request, now = query.request, max(now, server.seen)
    check_request(request, card=server.card, now=now, revoked=server.revoked)
    check_commitment(query)
    if not server.segments:
        raise EmptyCollectionError("query: the collection has no images yet")
    for segment in server.segments:
        _index(segment, request.scheme)
    answered = note_answered(server.answered, request.nonce, issued=request.issued, now=now)
    awaited = {nonce for nonce in server.awaited if nonce in answered} | {request.nonce}
    return dataclasses.replace(server, answered=answered, awaited=frozenset(awaited), seen=now)


def abandon_query(server: Server, nonce: bytes) -> Server:
    """Forget a query that could not be delivered, so that its user may try again; the authority has its own memory.

    Args:
        server: state.
        nonce: the request's name.

    Returns:
        The new state.

    Example:
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> admitted = admit_query(system.server, system.query, now=NOW)
        >>> len(admitted.awaited), len(abandon_query(admitted, system.query.request.nonce).awaited)
        (1, 0)
    """
    answered = dict(server.answered)
    answered.pop(nonce, None)
    return dataclasses.replace(server, answered=answered, awaited=server.awaited - {nonce})


def succeed(server: Server, succession: Succession) -> Server:
    """Turn to the next epoch: nothing published, nothing revoked; grants of the old one are refused from now on.

    Args:
        server: state.
        succession: from the owner.

    Returns:
        The state of the new epoch; the old one for a repeated message.

    Raises:
        RefusalError: not signed by the owner, or not of the epoch after this one; see `jcbir.protocol.refusals`.

    Example:
        >>> import secrets
        >>> from jcbir.protocol import owner
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> succession, _ = owner.announce(owner.rekey(system.owner, draw=secrets.token_bytes))
        >>> succeed(system.server, succession).card.epoch
        1
    """
    return Server(succession.card) if check_successor(server.card, succession) else server


def admit_recall(server: Server, message: Recall, *, now: int) -> Server:
    """Decide whether the owner may have sealed images back, and note the recall: a second one is refused.

    Args:
        server: state.
        message: from the owner.
        now: seconds since 1970.

    Returns:
        The new state.

    Raises:
        ForeignCollectionError: another collection or epoch.
        ForgedReplyError: the owner did not sign it.
        StaleQueryError: issued too long ago, or in the future.
        ReplayedQueryError: it was answered before.

    Example:
        >>> import secrets
        >>> from jcbir.protocol import owner
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> asked = owner.recall(system.owner, list(system.server.images), now=NOW, draw=secrets.token_bytes)
        >>> asked.nonce in admit_recall(system.server, asked, now=NOW).answered
        True
    """
    check_order(server.card, message)
    now = max(now, server.seen)
    check_issued(message.issued, now=now, name="recall")
    answered = note_answered(server.answered, message.nonce, issued=message.issued, now=now)
    return dataclasses.replace(server, answered=answered, seen=now)


def recalled(server: Server, message: Recall, *, most_bytes: int) -> Recalled:
    """Take the first of the recalled images that fit into one answer; the owner asks again for the rest.

    Args:
        server: state.
        message: from the owner, admitted.
        most_bytes: of all images together; one image goes whatever its size.

    Returns:
        The images.

    Raises:
        ValueError: an image is not here.

    Example:
        >>> import secrets
        >>> from jcbir.protocol import owner
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> asked = owner.recall(system.owner, list(system.server.images), now=NOW, draw=secrets.token_bytes)
        >>> len(recalled(system.server, asked, most_bytes=10).images)
        1
    """
    missing = sum(image_id not in server.images for image_id in message.image_ids)
    if missing:
        raise ValueError(f"recall: must name images that are here, got {missing} of {len(message.image_ids)} others")
    images: list[SealedImage] = []
    size = 0
    for image_id in message.image_ids:
        sealed = server.images[image_id]
        size += len(sealed)
        if images and size > most_bytes:
            break
        images.append(SealedImage(image_id, sealed))
    return Recalled(tuple(images))


def recall(server: Server, message: Recall, *, now: int, most_bytes: int) -> tuple[Server, Recalled]:
    """Hand sealed images back to the owner: `admit_recall`, `recalled`.

    Args:
        server: state.
        message: from the owner.
        now: seconds since 1970.
        most_bytes: of all images together; one image goes whatever its size.

    Returns:
        The new state and the images.

    Raises:
        RefusalError: in the form that names the reason.
        ValueError: an image is not here.

    Example:
        >>> import secrets
        >>> from jcbir.protocol import owner
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> asked = owner.recall(system.owner, list(system.server.images), now=NOW, draw=secrets.token_bytes)
        >>> len(recall(system.server, asked, now=NOW, most_bytes=1 << 20)[1].images)
        3
    """
    return admit_recall(server, message, now=now), recalled(server, message, most_bytes=most_bytes)


def blinders_needed(server: Server, query: Query, *, segments: Sequence[int] | None = None) -> int:
    """Count the fresh blinders that scoring a query consumes.

    Args:
        server: state.
        query: the query.
        segments: numbers of the segments to score; None is all.

    Returns:
        Their number.

    Raises:
        ValueError: the collection offers no index of that scheme, or has no such segment.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> blinders_needed(small_system().server, small_system().query)
        1
    """
    indexes = _indexes(server, query.request.scheme, segments)
    return len(query.trapdoors) * sum(_shapes(index).blinders for index in indexes)


def score_share(
    server: Server,
    query: Query,
    *,
    segments: Sequence[int],
    blinders: UInt8[np.ndarray, "m v"],
    engine: str = "auto",
) -> UInt8[np.ndarray, "q b w"]:
    """Score a batch of trapdoors against some segments; each ciphertext is re-randomized before it leaves.

    Args:
        server: state.
        query: from the user, admitted.
        segments: numbers of the segments, in order.
        blinders: at least `blinders_needed(server, query, segments=segments)` fresh encryptions of zero, never used
            before.
        engine: arithmetic engine.

    Returns:
        uint8[q, b, w]: for each trapdoor the ciphertexts of all scores, segment after segment; before those of the
            collection's first segment what all segments share, in a scheme that has such rows.

    Raises:
        ValueError: too few blinders, no index of that scheme or no such segment, or a trapdoor that does not fit.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> score_share(system.server, system.query, segments=[0], blinders=system.blinders).shape
        (1, 1, 64)

    References:
        Wang, Zhang, Meng and Liu (2023), section 3.4: there the server ranks as well, which it cannot without the key.
    """
    needed = blinders_needed(server, query, segments=segments)
    if len(blinders) < needed:
        raise ValueError(f"blinders: must be at least {needed}, got {len(blinders)}")
    indexes = _indexes(server, query.request.scheme, segments)
    public, used, rows = server.card.public.key, 0, []
    for trapdoor in query.trapdoors:
        for number, index in zip(segments, indexes, strict=True):
            fresh = blinders[used : used + _shapes(index).blinders]
            used += len(fresh)
            first = number == server.segments[0].number
            rows.append(score(public, index, trapdoor, blinders=fresh, engine=engine, share=first).ciphertexts)
    return np.concatenate(rows).reshape(len(query.trapdoors), -1, rows[0].shape[1])


def finish_query(server: Server, query: Query, rows: UInt8[np.ndarray, "q b w"], *, identity: Identity) -> ScoreReport:
    """Make the report for the authority of the scores of all segments, and sign it.

    Args:
        server: the state that admitted the query.
        query: from the user, admitted.
        rows: uint8[q, b, w] of `score_share` over all segments; shares of spans of segments join along their blocks.
        identity: the server's.

    Returns:
        The report.

    Raises:
        KeyMismatchError: the card names another server.
        TamperedQueryError: what the scores share is not what the user signed: with a report of it this server would
            stand there as the forger.
        ValueError: other rows than the query and the segments give.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> rows = score_share(system.server, system.query, segments=[0], blinders=system.blinders)
        >>> finish_query(system.server, system.query, rows, identity=system.cloud).segments
        (0,)
    """
    if identity.public != server.card.cloud_key:
        raise KeyMismatchError(
            f"identity: must be the card's {server.card.cloud_key.hex()}, got {identity.public.hex()}"
        )
    indexes = _indexes(server, query.request.scheme, None)
    shapes = [_shapes(index) for index in indexes]
    counts = score_rows(shapes)
    expected = (len(query.trapdoors), sum(counts), shapes[0].scores[1])
    if rows.shape != expected:
        raise ValueError(f"rows: must be uint8{list(expected)}, got {rows.dtype}{list(rows.shape)}")
    if hash_shared(list(rows[:, : shapes[0].shared])) != query.request.shared:
        raise TamperedQueryError("query: the user signed another value of what its scores share")
    ends = np.cumsum(counts)[:-1]
    scores = tuple(
        tuple(
            Scores(index.layout, index.fingerprint, part)
            for index, part in zip(indexes, np.split(row, ends), strict=True)
        )
        for row in rows
    )
    header = ScoreReport(query.request, tuple(segment.number for segment in server.segments), score_blocks(scores))
    return dataclasses.replace(sign(header, secret=identity.secret), openings=query.openings, scores=scores)


def score_query(
    server: Server,
    query: Query,
    *,
    blinders: UInt8[np.ndarray, "m v"],
    identity: Identity,
    now: int,
    engine: str = "auto",
) -> tuple[Server, ScoreReport]:
    """Answer a query in one process: `admit_query`, `score_share` over all segments, `finish_query`.

    Args:
        server: state.
        query: from the user.
        blinders: at least `blinders_needed(server, query)` fresh encryptions of zero, never used before.
        identity: the server's.
        now: seconds since 1970.
        engine: arithmetic engine.

    Returns:
        The new state and the report for the authority.

    Raises:
        RefusalError: in the form that names the reason.
        ValueError: too few blinders, or no index of that scheme.

    Example:
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> _, report = score_query(
        ...     system.server, system.query, blinders=system.blinders, identity=system.cloud, now=NOW
        ... )
        >>> report.segments
        (0,)
    """
    state = admit_query(server, query, now=now)
    segments = [segment.number for segment in state.segments]
    rows = score_share(state, query, segments=segments, blinders=blinders, engine=engine)
    return state, finish_query(state, query, rows, identity=identity)


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
        raise ValueError(
            f"ranking: must name images that are here, got {len(missing)} of {len(ranking.image_ids)} gone; ask again"
        )
    images = tuple(SealedImage(image_id, server.images[image_id]) for image_id in ranking.image_ids)
    length = sum(len(image.sealed) for image in images)
    delivery = Delivery(ranking, images, server.head, bytes(padded_length(length) - length))
    return dataclasses.replace(server, awaited=server.awaited - {ranking.nonce}), delivery


def open_blocks(
    server: Server,
    query: Query,
    audit: Audit,
    *,
    indexes: Mapping[int, Sequence[Index]],
    rows: UInt8[np.ndarray, "q b w"],
    randomness: UInt8[np.ndarray, "m r"],
    identity: Identity,
) -> Opened:
    """Show how the scores of some blocks were computed: index, randomness of the blinders, score, and both paths.

    Args:
        server: the state that scored the query.
        query: the query, admitted.
        audit: from its user.
        indexes: the indexes of each segment that the audit names, as published.
        rows: what `score_share` gave for all segments.
        randomness: what the blinders that it used were made of, `KeyKind.randomness`.
        identity: the server's.

    Returns:
        The opening, for the user.

    Raises:
        TamperedQueryError: the query's user did not sign the audit, or it is of another query.
        ValueError: a place that the answer does not have, or a key kind that has no audits.

    Example:
        >>> from jcbir.protocol import audit as auditing, user
        >>> from jcbir.protocol.session import audited_system
        >>> shown = audited_system()
        >>> opened = open_blocks(
        ...     shown.server, shown.query, shown.audit, indexes=shown.indexes, rows=shown.rows,
        ...     randomness=shown.randomness, identity=shown.cloud,
        ... )
        >>> len(opened.blocks)
        2
    """
    kind = KEY_KINDS[server.card.public.kind]
    if kind.blind is None:
        raise ValueError(f"audit: must be of a collection with keys of a kind with audits, got {kind.name}")
    if audit.nonce != query.request.nonce:
        raise TamperedQueryError("audit: names another query")
    check_signature(audit, public=query.request.grant.signing_key, refusal=TamperedQueryError)
    numbers = [segment.number for segment in server.segments]
    layouts = {
        number: index.layout
        for number, index in zip(numbers, _indexes(server, query.request.scheme, numbers), strict=True)
    }
    starts = dict(zip(numbers, np.cumsum([0, *(layout.blocks for layout in layouts.values())]), strict=False))
    total = sum(layout.blocks for layout in layouts.values())
    trees: dict[int, list[bytes]] = {}
    blocks = []
    for place in audit.places:
        if place.query >= len(query.trapdoors) or place.segment not in layouts:
            raise ValueError(f"places: must be in the answer, got query {place.query} of segment {place.segment}")
        layout = layouts[place.segment]
        if place.block >= layout.blocks:
            raise ValueError(f"places: must be one of {layout.blocks} blocks, got {place.block}")
        published = indexes[place.segment]
        position = [index.layout.scheme for index in published].index(layout.scheme)
        offset = sum(index.layout.blocks for index in published[:position])
        if place.segment not in trees:
            trees[place.segment] = index_leaves(published)
        first = starts[place.segment]
        share = rows[place.query][first : first + layout.blocks]
        used = place.query * total + first + place.block
        blocks.append(
            Block(
                _block(published[position].ciphertexts, layout.blocks, place.block),
                merkle_path(trees[place.segment], offset + place.block),
                randomness[used : used + 1],
                share[place.block : place.block + 1],
                merkle_path(leaf_hashes(share, leaves=layout.blocks), place.block),
            )
        )
    return sign(Opened(audit, tuple(blocks)), secret=identity.secret)


def _index(segment: Segment, scheme: str) -> Any:
    if scheme not in segment.indexes:
        raise ValueError(
            f"scheme: must be one of {sorted(segment.indexes)} in segment {segment.number}, got {scheme!r}"
        )
    return segment.indexes[scheme]


def _block(rows: np.ndarray, blocks: int, place: int) -> np.ndarray:
    size = len(rows) // blocks
    return rows[place * size : place * size + size]


def _shapes(index: Any) -> Shapes:
    return find_scheme(index.layout.scheme).shapes(index.layout)


def _indexes(server: Server, scheme: str, segments: Sequence[int] | None) -> list[Any]:
    """Indexes of the numbered segments, in that order."""
    known = {segment.number: segment for segment in server.segments}
    numbers = list(known) if segments is None else segments
    missing = [number for number in numbers if number not in known]
    if missing:
        raise ValueError(f"segments: must be among the {len(known)} published, got {missing}")
    return [_index(known[number], scheme) for number in numbers]
