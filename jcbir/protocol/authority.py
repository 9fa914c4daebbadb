"""The owner's key holder: checks grants, decrypts scores, ranks, releases the image keys of the results only."""

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from jcbir.errors import FormatError, IntegrityError, KeyMismatchError
from jcbir.protocol._digests import digest, score_blocks
from jcbir.protocol._grants import (
    check_grant,
    check_issued,
    check_order,
    check_request,
    check_revocation,
    check_successor,
    hash_openings,
    hash_shared,
    note_answered,
)
from jcbir.protocol._handover import CLAIM, Delegation, open_delegation, open_hint, open_openings, sealing_secret
from jcbir.protocol._results import DOMAIN as RESULTS_DOMAIN, Results, write_results
from jcbir.protocol._signatures import KEY_BYTES, Identity as Identity, check_signature, sign, verifying_key
from jcbir.protocol.messages import (
    Appointment,
    Card,
    Catalog,
    Grant,
    Head,
    Inquiry,
    Ranking,
    Revocation,
    ScoreReport,
    Spending,
    Usage,
    Use,
    Withdrawal,
)
from jcbir.protocol.refusals import (
    EmptyCollectionError,
    ForeignCollectionError,
    ForgedReplyError,
    ForgedScoresError,
    HaltedError,
    OutOfStepError,
    OverBudgetError,
    ReplayedQueryError,
    SuspendedGrantError,
    TamperedQueryError,
)
from jcbir.ranking._decode import DEAD, decode_scores, rank as nearest, rows_to_decrypt
from jcbir.ranking._keys import KEY_KINDS
from jcbir.ranking._scheme import Layout, score_rows
from jcbir.ranking._secret_keys import SECRET_KEY_KINDS
from jcbir.ranking._sentinels import sentinel_count
from jcbir.ranking._table import check_layout, find_scheme, plan
from jcbir.sealing import image_key, public_half, seal_to
from jcbir.typing import Rows

DAY_SECONDS = 86400
MOST_SUSPENDED = 8
"""Users who may raise an alarm before answering halts: each alarm tells who made it one bit of a block's secret."""


class Spent(NamedTuple):
    """What a grant has used up on one day.

    Attributes:
        day: days since 1970, UTC.
        rows: query images.
        image_ids: images opened.
    """

    day: int
    rows: int = 0
    image_ids: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, repr=False)
class Authority:
    """What the key holder holds; `repr` shows no secret. No image, no query, no masking key.

    Attributes:
        card: the collection.
        secret: the secret key.
        image_master: 32 bytes, image keys derive from it.
        identity: what rankings are signed with.
        catalogs: number of a segment to its catalog.
        withdrawn: pseudonym to the number of segments that its withdrawal speaks of.
        revoked: revoked grants.
        revocation_serial: number of the revocation list in force.
        answered: nonces of recent requests, with their time.
        spent: grant to what it has used up on the last day it asked.
        seen: the latest time seen, seconds since 1970: a clock that steps back does not make old requests fresh.
        head: counter of the owner's latest head, 0 for none.
        prepared: number of a segment, of those that have hints, to scheme to what opens its scores beside the key; of
            a segment that was shredded nothing is here.
        opened: names of all hints and openings of this epoch, where the kind of keys takes each once, in sets of
            falling sizes.
        dead: number of a segment to bool[n], which of its positions are never found: withdrawn, or sentinels.
        suspended: signing key of a user who is answered no more in this epoch, for scores of a query of theirs were
            forged, to the grant that it was asked under.
    """

    card: Card
    secret: Any
    image_master: bytes
    identity: Identity
    catalogs: Mapping[int, Catalog] = dataclasses.field(default_factory=dict)
    withdrawn: Mapping[str, int] = dataclasses.field(default_factory=dict)
    revoked: frozenset[bytes] = frozenset()
    revocation_serial: int = 0
    answered: Mapping[bytes, int] = dataclasses.field(default_factory=dict)
    spent: Mapping[bytes, Spent] = dataclasses.field(default_factory=dict)
    seen: int = 0
    head: int = 0
    prepared: Mapping[int, Mapping[str, Any]] = dataclasses.field(default_factory=dict, compare=False)
    opened: tuple[frozenset[bytes], ...] = ()
    dead: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict, compare=False)
    suspended: Mapping[bytes, bytes] = dataclasses.field(default_factory=dict)

    @property
    def halted(self) -> bool:
        """Whether nothing is answered until the next epoch, for scores were forged too often."""
        return len(self.suspended) >= MOST_SUSPENDED

    def __repr__(self) -> str:
        return f"Authority({self.card.collection!r}, epoch {self.card.epoch}, {len(self.catalogs)} segments, redacted)"


def make_identity(*, draw: Callable[[int], bytes]) -> Identity:
    """Make the keys of this authority, once, at its first start: the owner never has their secret.

    Args:
        draw: source of secret bytes, `secrets.token_bytes`.

    Returns:
        The identity; its `public` and `sealing_key` go to the owner, who writes them into the card.

    Example:
        >>> import secrets
        >>> len(make_identity(draw=secrets.token_bytes).sealing_key)
        32
    """
    secret = draw(KEY_BYTES)
    return Identity(secret, verifying_key(secret), public_half(sealing_secret(secret)))


def appoint(delegation: Delegation, identity: Identity) -> Authority:
    """Become the authority of a collection.

    Args:
        delegation: the owner's secrets for it.
        identity: the authority's own.

    Returns:
        The state.

    Raises:
        KeyMismatchError: the card names another authority.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> appoint(small_system().delegation, small_system().authority.identity)
        Authority('photos', epoch 0, 0 segments, redacted)
    """
    card = delegation.card
    if (identity.public, identity.sealing_key) != (card.authority_key, card.authority_sealing_key):
        raise KeyMismatchError(f"identity: must be the card's {card.authority_key.hex()}, got {identity.public.hex()}")
    return Authority(card, delegation.secret, delegation.image_master, identity)


def succeed(authority: Authority, appointment: Appointment) -> Authority:
    """Turn to the next epoch with the secrets that the owner sends: nothing in the catalog, nothing revoked.

    What grants have used up today stays: the owner may grant the same user anew, under another identifier.

    Args:
        authority: state.
        appointment: from the owner.

    Returns:
        The state of the new epoch; the old one for a repeated message.

    Raises:
        RefusalError: not signed by the owner, or not of the epoch after this one; see `jcbir.protocol.refusals`.
        IntegrityError: it was sealed to another authority.
        FormatError: what it holds is no delegation of that card.

    Example:
        >>> import secrets
        >>> from jcbir.protocol import owner
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> new = owner.rekey(system.owner, draw=secrets.token_bytes)
        >>> succeed(system.authority, owner.announce(new)[1])
        Authority('photos', epoch 1, 0 segments, redacted)
    """
    if not check_successor(authority.card, appointment):
        return authority
    delegation = open_delegation(authority.identity.secret, appointment.card, appointment.sealed)
    following = appoint(delegation, authority.identity)
    return dataclasses.replace(following, spent=authority.spent, seen=authority.seen)


def catalog(authority: Authority, message: Catalog, *, shredded: bool = False) -> Authority:
    """Learn which image stands where in a segment.

    Args:
        authority: state.
        message: from the owner.
        shredded: accept one whose wrapped hints are gone, as a journal keeps it of a segment that was shredded.

    Returns:
        The new state; the old one for a segment that is known.

    Raises:
        ForeignCollectionError: another collection or epoch.
        ForgedReplyError: the owner did not sign it.
        IntegrityError: its hints are wrapped for another authority, or for another segment.
        ValueError: another catalog of that segment is known, it does not have one hash per image, its sentinels are
            not among its positions, or its hints are none, others than the owner signed, or known.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> catalog(appoint(system.delegation, system.authority.identity), system.catalog)
        Authority('photos', epoch 0, 1 segments, redacted)
    """
    bare = dataclasses.replace(message, wrapped=())
    check_order(authority.card, bare)
    gone = shredded and message == bare
    if not gone and [hashlib.sha256(body).digest() for body in message.wrapped] != [it.digest for it in message.hints]:
        raise ValueError(f"wrapped: must be the {len(message.hints)} hints that the owner signed, got others")
    if len(message.hashes) != len(message.image_ids):
        raise ValueError(f"catalog: must have {len(message.image_ids)} hashes, got {len(message.hashes)}")
    places, count = message.sentinels, len(message.image_ids)
    if list(places) != sorted(set(places)) or (places and places[-1] >= count):
        raise ValueError(f"sentinels: must be increasing positions below {count}, got {len(places)} others")
    known = authority.catalogs.get(message.segment, message)
    if (known.image_ids, known.hashes, known.sentinels) != (message.image_ids, message.hashes, places):
        raise ValueError(f"catalog: must be new, got segment {message.segment}, which is known with other images")
    if message.segment in authority.catalogs:
        return authority
    state = dataclasses.replace(
        authority,
        catalogs={**authority.catalogs, message.segment: bare},
        dead={**authority.dead, message.segment: _dead(bare, authority.withdrawn)},
    )
    if gone and message.hints:
        return state
    prepared, kind = _prepare_hints(authority, message), SECRET_KEY_KINDS[authority.card.public.kind]
    if not prepared:
        return state
    names = frozenset(() if kind.prepare is None else (opener.name for opener in prepared.values()))
    if _known(authority.opened, names):
        raise ValueError(f"hints: must be of another nonce than other segments', got segment {message.segment}")
    state = dataclasses.replace(state, opened=_note_openings(authority.opened, names))
    if kind.open is not None and state.dead[message.segment].all():
        # Withdrawn before it came.
        return state
    return dataclasses.replace(state, prepared={**authority.prepared, message.segment: prepared})


def take_head(authority: Authority, message: Head) -> Authority:
    """Learn the owner's latest head, which every ranking names.

    Args:
        authority: state.
        message: from the owner.

    Returns:
        The new state; the old one for a head that is not the latest.

    Raises:
        ForeignCollectionError: another collection or epoch.
        ForgedReplyError: the owner did not sign it.
        ValueError: it tells of other images than a catalog does.

    Example:
        >>> from jcbir.protocol import session as example, owner
        >>> system = example.small_system()
        >>> take_head(system.authority, owner.head(system.owner, now=example.NOW)[1]).head
        1
    """
    check_order(authority.card, message)
    for number, part in enumerate(message.parts):
        known = authority.catalogs.get(number)
        if known is not None and hashlib.sha256(b"".join(known.hashes)).digest() != part.images_hash:
            raise ValueError(f"head: must be of the images in the catalog, got others in segment {number}")
    return dataclasses.replace(authority, head=max(authority.head, message.counter))


def withdraw(authority: Authority, withdrawal: Withdrawal) -> Authority:
    """Stop ranking images that the owner withdraws, and shred segments of which no image is left.

    Where the scores of a query are opened together, what opens those of such a segment is gone from the new state; a
    service destroys it on its disk as well.

    Args:
        authority: state.
        withdrawal: from the owner.

    Returns:
        The new state.

    Raises:
        ForeignCollectionError: another collection or epoch.
        ForgedReplyError: the owner did not sign it.

    Example:
        >>> from jcbir.protocol import session as example, owner
        >>> system = example.small_system()
        >>> list(withdraw(system.authority, owner.withdraw(system.owner, ["a"])[1]).withdrawn.values())
        [1]
    """
    check_order(authority.card, withdrawal)
    bounds = {name: max(withdrawal.segments, authority.withdrawn.get(name, 0)) for name in withdrawal.image_ids}
    withdrawn = {**authority.withdrawn, **bounds}
    dead = {
        number: authority.dead[number] if bounds.keys().isdisjoint(part.image_ids) else _dead(part, withdrawn)
        for number, part in authority.catalogs.items()
    }
    state = dataclasses.replace(authority, withdrawn=withdrawn, dead=dead)
    if SECRET_KEY_KINDS[authority.card.public.kind].open is None:
        return state
    living = {number: opener for number, opener in authority.prepared.items() if not dead[number].all()}
    return dataclasses.replace(state, prepared=living)


def revoke(authority: Authority, revocation: Revocation) -> Authority:
    """Take a revocation list in force.

    Args:
        authority: state.
        revocation: from the owner.

    Returns:
        The new state.

    Raises:
        ForeignCollectionError: another collection or epoch.
        ForgedReplyError: the owner did not sign it.
        StaleQueryError: a newer list is in force.

    Example:
        >>> from jcbir.protocol import session as example, owner
        >>> system = example.small_system()
        >>> revocation = owner.revoke(system.owner, [system.admission.grant.grant_id])[1]
        >>> revoke(system.authority, revocation).revocation_serial
        1
    """
    check_revocation(authority.card, revocation, serial=authority.revocation_serial)
    return dataclasses.replace(authority, revoked=frozenset(revocation.grant_ids), revocation_serial=revocation.serial)


def admit(
    authority: Authority, report: ScoreReport, *, now: int, settled: int | None = None
) -> tuple[Authority, Spending]:
    """Decide whether a report may be answered, and note that it is.

    Args:
        authority: state.
        report: from the server.
        now: seconds since 1970.
        settled: how many segments every report must have; None is all. The latest ones may be missing from a query
            that was scored before they came: were it refused, nothing would be answered while the owner publishes.

    Returns:
        The new state, in which the same request is refused, and what it takes from the grant's budget: a service has
        both on its disk before it goes on.

    Raises:
        ForgedReplyError: the card's server did not sign it.
        RefusalError: in the form that names the reason; see `jcbir.protocol.refusals`.
        OverBudgetError: more query images than the grant allows on this day.
        EmptyCollectionError: nothing is published yet.
        OutOfStepError: the server scored other segments than the owner's catalogs name.
        FormatError: the report does not have one row of scores per query and one record per segment.
        ForgedScoresError: what the scores share is not what the user signed, as the server could see itself.
        SuspendedGrantError: scores of a query of this user were forged, in a collection whose kind of keys heeds that.
        HaltedError: scores of queries of too many users were forged.

    Example:
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> admitted, spending = admit(system.authority, system.report, now=NOW)
        >>> spending.rows
        1
        >>> admit(admitted, system.report, now=NOW)
        Traceback (most recent call last):
        ...
        jcbir.protocol.refusals.ReplayedQueryError: query: ... was answered before
    """
    # Of a report that the server did not sign no field means anything; no score is looked at before.
    header = dataclasses.replace(report, openings=b"", scores=())
    check_signature(header, public=authority.card.cloud_key, refusal=ForgedReplyError)
    request, now = report.request, max(now, authority.seen)
    check_serving(authority, request.grant)
    check_request(request, card=authority.card, now=now, revoked=authority.revoked)
    _check_segments(authority, report, len(authority.catalogs) if settled is None else settled)
    _check_shape(authority, report)
    answered = note_answered(authority.answered, request.nonce, issued=request.issued, now=now)
    grant, spending = request.grant, Spending(request.grant.grant_id, now // DAY_SECONDS, request.queries, ())
    rows = _spent_today(authority, grant.grant_id, now=now).rows
    if rows + request.queries > grant.queries_per_day:
        raise OverBudgetError(
            f"queries: {rows} of {grant.queries_per_day} were answered today, {request.queries} more are asked",
            retry_after=float(DAY_SECONDS - now % DAY_SECONDS),
        )
    opened = _note_openings(authority.opened, _check_fresh(authority, opening_names(authority, report)))
    return spend(dataclasses.replace(authority, answered=answered, opened=opened, seen=now), spending), spending


def opening_names(authority: Authority, report: ScoreReport) -> tuple[bytes, ...]:
    """Name what opens the scores of a report, without telling it: a service notes the names with the request.

    Args:
        authority: state.
        report: from the server.

    Returns:
        A name for each query, none where the kind of keys takes an opening more than once.

    Raises:
        TamperedQueryError: the openings were not sealed for this request.
        FormatError: openings of another number than the queries.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> opening_names(small_system().authority, small_system().report)
        ()
    """
    name = KEY_KINDS[authority.card.public.kind].opening_name
    if name is None:
        return ()
    try:
        _, openings = _openings(authority, report)
    except IntegrityError:
        raise TamperedQueryError("openings: were not sealed for this request") from None
    return () if openings is None else tuple(name(row) for row in openings)


def check_serving(authority: Authority, grant: Grant) -> None:
    """Check that forged scores have not ended the answers to a user: before a report is opened, and once it is.

    Args:
        authority: state.
        grant: the user's.

    Raises:
        SuspendedGrantError: scores of a query of this user were forged, under this grant or another.
        HaltedError: scores of queries of too many users were.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> check_serving(system.authority, system.admission.grant)
    """
    if authority.halted:
        raise HaltedError("report: scores were forged too often; the owner's next epoch is waited for")
    if grant.signing_key in authority.suspended:
        raise SuspendedGrantError("report: scores of a query of this user were forged before; the owner knows of it")


def suspend(authority: Authority, grant: Grant) -> Authority:
    """Answer a user no more after forged scores, where each further answer could give a key away.

    Server and user look the same from here: with a query that is no query a user makes an honest server send what no
    honest query has. So it is the one user who is suspended, whatever grants this one holds, and only when many are
    does answering halt: nobody halts it alone, and nobody has a second alarm.

    Args:
        authority: state.
        grant: under which the query was asked that the forged scores answer.

    Returns:
        The new state; the old one where the kind of keys need not stop.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> suspend(small_system().authority, small_system().admission.grant).suspended
        {}
    """
    if SECRET_KEY_KINDS[authority.card.public.kind].open is None:
        return authority
    return dataclasses.replace(authority, suspended={grant.signing_key: grant.grant_id, **authority.suspended})


def _spent_today(authority: Authority, grant_id: bytes, *, now: int) -> Spent:
    """Say what a grant has used up on the day of `now`."""
    day = now // DAY_SECONDS
    held = authority.spent.get(grant_id, Spent(day))
    return held if held.day == day else Spent(day)


def spend(authority: Authority, spending: Spending) -> Authority:
    """Take from a grant's budget: what `admit` and `rank` do, and what a restart does again from its journal.

    Args:
        authority: state.
        spending: what one step took; of an earlier day than the last one it changes nothing.

    Returns:
        The new state.

    Example:
        >>> from jcbir.protocol.session import NOW, small_system
        >>> again = spend(small_system().authority, Spending(bytes(16), NOW // DAY_SECONDS, 3, ("a",)))
        >>> again.spent[bytes(16)].rows
        3
    """
    held = authority.spent.get(spending.grant_id, Spent(spending.day))
    if spending.day < held.day:
        return authority
    if spending.day > held.day:
        held = Spent(spending.day)
    after = Spent(held.day, held.rows + spending.rows, held.image_ids.union(spending.image_ids))
    return dataclasses.replace(authority, spent={**authority.spent, spending.grant_id: after})


def usage(authority: Authority, inquiry: Inquiry, *, now: int) -> Usage:
    """Tell the owner how much each grant took today; not which images, which are the users' affair.

    Args:
        authority: state.
        inquiry: from the owner.
        now: seconds since 1970.

    Returns:
        The answer.

    Raises:
        ForeignCollectionError: it speaks of another collection or epoch.
        ForgedReplyError: the owner did not sign it.
        StaleQueryError: it was issued too long ago, or in the future.

    Example:
        >>> import secrets
        >>> from jcbir.protocol import owner
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> holder, _ = answer(system.authority, system.report, now=NOW)
        >>> asked = owner.inquire(system.owner, now=NOW, draw=secrets.token_bytes)
        >>> [(use.queries, use.images) for use in usage(holder, asked, now=NOW).uses]
        [(1, 2)]
    """
    check_order(authority.card, inquiry)
    check_issued(inquiry.issued, now=now, name="inquiry")
    day = now // DAY_SECONDS
    uses = tuple(
        Use(grant_id, spent.rows, len(spent.image_ids))
        for grant_id, spent in sorted(authority.spent.items())
        if spent.day == day
    )
    return sign(
        Usage(inquiry.nonce, day, uses, tuple(sorted(authority.suspended.values()))), secret=authority.identity.secret
    )


def ciphertext_rows(authority: Authority, report: ScoreReport) -> Rows:
    """All that is to be decrypted of a report, at once: an array engine is several times faster on many rows.

    Args:
        authority: state.
        report: from the server, admitted.

    Returns:
        uint8[m, w], query after query, segment after segment: each score, behind it what its scheme needs beside the
        key to open it (hints of the catalog, openings of the request).

    Raises:
        IntegrityError: openings that were not sealed for this request.
        FormatError: hints or openings of another number than the scores.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> ciphertext_rows(small_system().authority, small_system().report).shape
        (1, 64)
    """
    request = report.request
    _, openings = _openings(authority, report)
    hints = [authority.prepared.get(number, {}).get(request.scheme) for number in report.segments]
    try:
        return np.concatenate(
            [
                rows_to_decrypt(scores, hint=hint, opening=None if openings is None else openings[place : place + 1])
                for place, row in enumerate(report.scores)
                for scores, hint in zip(row, hints, strict=True)
            ]
        )
    except ValueError as error:
        raise FormatError(f"report: {error}") from None


def decrypt_report(authority: Authority, report: ScoreReport, *, engine: str = "auto") -> Rows:
    """Decrypt the scores of a report in this process.

    Args:
        authority: state.
        report: from the server, admitted.
        engine: arithmetic engine.

    Returns:
        uint8[m, w], a plaintext for each of `ciphertext_rows(authority, report)`; where the scores of a query are
        opened together, what they open to.

    Raises:
        ForgedScoresError: what no honest server sends for an honest query; then `suspend`.
        FormatError: as `ciphertext_rows`; what opens a segment was destroyed though images of it live.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> decrypt_report(small_system().authority, small_system().report).shape
        (1, 32)
    """
    kind = SECRET_KEY_KINDS[authority.card.public.kind]
    if kind.open is None:
        return kind.decrypt(authority.secret, ciphertext_rows(authority, report), engine=engine)
    for number in report.segments:
        if not _opens(authority, authority.catalogs[number]) and not authority.dead[number].all():
            raise FormatError(f"report: what opens the scores of segment {number} was destroyed, and images of it live")
    prepared = [authority.prepared.get(number, {}).get(report.request.scheme) for number in report.segments]
    _, openings = _openings(authority, report)
    opened = []
    for place, row in enumerate(report.scores):
        layouts, rows = [scores.layout for scores in row], np.concatenate([scores.ciphertexts for scores in row])
        opening = None if openings is None else openings[place : place + 1]
        try:
            opened.append(kind.open(authority.secret, prepared, layouts, rows, opening))
        except IntegrityError:
            # Where it went wrong is not for the server to know.
            raise ForgedScoresError("report: its scores open to what none of this collection can be") from None
    return np.concatenate(opened)


def _split_plaintexts(report: ScoreReport, plaintexts: Rows) -> list[list[tuple[Layout, np.ndarray]]]:
    """Say which decrypted rows belong to which query and segment."""
    layouts = [scores.layout for row in report.scores for scores in row]
    counts = [find_scheme(layout.scheme).shapes(layout).plaintexts for layout in layouts]
    if len(plaintexts) != sum(counts):
        raise ValueError(f"plaintexts: must be {sum(counts)} rows, got {len(plaintexts)}")
    parts = iter(np.split(plaintexts, np.cumsum(counts)[:-1]))
    return [[(scores.layout, next(parts)) for scores in row] for row in report.scores]


def read_scores(authority: Authority, report: ScoreReport, plaintexts: Rows) -> tuple[Int32[np.ndarray, " i"], ...]:
    """Read the distances off decrypted scores, for each query to all images, segment after segment.

    Args:
        authority: state.
        report: from the server, admitted.
        plaintexts: a plaintext for each of `ciphertext_rows(authority, report)`.

    Returns:
        For each query int32[i], distances that compare (Hamming distances in most schemes); `jcbir.ranking.DEAD` for
        images that are withdrawn, and for sentinels.

    Raises:
        ForgedScoresError: a sentinel is not as far from the query as its user says.
        ValueError: other numbers than scores of these layouts.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> plaintexts = decrypt_report(system.authority, system.report)
        >>> sorted(read_scores(system.authority, system.report, plaintexts)[0].tolist())
        [0, 2, 2]
    """
    dead, public = np.concatenate([authority.dead[number] for number in report.segments]), authority.card.public.key
    decoded = [decode_scores(pieces, public=public) for pieces in _split_plaintexts(report, plaintexts)]
    _check_sentinels(authority, report, decoded)
    return tuple(np.where(dead, np.int32(DEAD), distances) for distances in decoded)


def rank(
    authority: Authority, report: ScoreReport, plaintexts: Rows, *, now: int
) -> tuple[Authority, Spending, Ranking]:
    """Rank, and seal order, distances and the image keys of the results to the user.

    Args:
        authority: state, at the moment of ranking: what was withdrawn or spent since the admission counts.
        report: the report, admitted.
        plaintexts: a plaintext for each of `ciphertext_rows(authority, report)`.
        now: seconds since 1970.

    Returns:
        The new state, what the answer takes from the grant's budget, and the ranking for the server to relay: sorted
        pseudonyms in the clear, the rest for the user alone.

    Raises:
        RefusalError: the epoch or the grant ended, or the user was suspended, since the admission.
        ForgedScoresError: see `read_scores`.
        OverBudgetError: it would open more images than the grant allows on this day; nothing is sealed or spent then.
        ValueError: the plaintexts are no scores.

    Example:
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> plaintexts = decrypt_report(system.authority, system.report)
        >>> len(rank(system.authority, system.report, plaintexts, now=NOW)[2].image_ids)
        2
    """
    request, grant, now = report.request, report.request.grant, max(now, authority.seen)
    check_serving(authority, grant)
    check_grant(grant, card=authority.card, now=now, revoked=authority.revoked)
    distances = read_scores(authority, report, plaintexts)
    catalogs = [authority.catalogs[number] for number in report.segments]
    starts = np.cumsum([0, *(len(part.image_ids) for part in catalogs)])
    orders = [nearest(row, top=request.top) for row in distances]
    # Of a million images a query finds ten: only those are looked up.
    found = {position: _find(catalogs, starts, position) for position in sorted({*np.concatenate(orders).tolist()})}
    image_ids = {position: part.image_ids[inside] for position, (part, inside) in found.items()}
    positions = {image_id: position for position, image_id in image_ids.items()}
    chosen = sorted(positions)
    spending = Spending(grant.grant_id, now // DAY_SECONDS, 0, ())
    keys: tuple[bytes, ...] = ()
    hashes: tuple[bytes, ...] = ()
    if "open" in grant.rights:
        spending = _spend_images(authority, grant, chosen, now)
        master, epoch = authority.image_master, authority.card.epoch
        places = [found[positions[name]] for name in chosen]
        keys = tuple(
            image_key(master, image_id=part.image_ids[inside], epoch=epoch, segment=part.segment)
            for part, inside in places
        )
        hashes = tuple(part.hashes[inside] for part, inside in places)
    place = {image_id: number for number, image_id in enumerate(chosen)}
    # All rows have the same length: every query ranks the same living images.
    results = Results(
        tuple(chosen),
        keys,
        hashes,
        np.array([[place[image_ids[position]] for position in order] for order in orders], np.int32).reshape(
            len(orders), -1
        ),
        np.array([row[order] for row, order in zip(distances, orders, strict=True)], np.int32).reshape(len(orders), -1),
    )
    info = digest(request, domain=RESULTS_DOMAIN)
    body = seal_to(grant.sealing_key, write_results(results), info=info, aad=b"")
    fetched = _cover(authority, catalogs, list(found), grant.cover) if keys else ()
    ranking = Ranking(request.nonce, fetched, body, authority.head, report.segments, report.blocks)
    state = spend(dataclasses.replace(authority, seen=now), spending)
    return state, spending, sign(ranking, secret=authority.identity.secret)


def answer(authority: Authority, report: ScoreReport, *, now: int, engine: str = "auto") -> tuple[Authority, Ranking]:
    """Answer a report in one process: `admit`, `decrypt_report`, `rank`.

    Args:
        authority: state.
        report: from the server.
        now: seconds since 1970.
        engine: arithmetic engine.

    Returns:
        The new state and the ranking for the server to relay.

    Raises:
        RefusalError: in the form that names the reason.

    Example:
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> _, ranking = answer(system.authority, system.report, now=NOW)
        >>> ranking.nonce == system.query.request.nonce
        True
    """
    admitted, _ = admit(authority, report, now=now)
    state, _, ranking = rank(admitted, report, decrypt_report(admitted, report, engine=engine), now=now)
    return state, ranking


def _spend_images(authority: Authority, grant: Grant, chosen: Sequence[str], now: int) -> Spending:
    """What opening these images takes from the day's budget; an image opened before on that day costs nothing."""
    opened = _spent_today(authority, grant.grant_id, now=now).image_ids
    fresh = tuple(image_id for image_id in chosen if image_id not in opened)
    if len(opened) + len(fresh) > grant.images_per_day:
        raise OverBudgetError(
            f"images: {len(opened)} of {grant.images_per_day} were opened today, {len(fresh)} more would be",
            retry_after=float(DAY_SECONDS - now % DAY_SECONDS),
        )
    return Spending(grant.grant_id, now // DAY_SECONDS, 0, fresh)


def _check_sentinels(authority: Authority, report: ScoreReport, decoded: Sequence[Int32[np.ndarray, " i"]]) -> None:
    claims, _ = _openings(authority, report)
    if claims is None:
        return
    catalogs = [authority.catalogs[number] for number in report.segments]
    starts = np.cumsum([0, *(len(part.image_ids) for part in catalogs)])
    # Scores of a segment that was shredded do not open, and count for nothing.
    inside = [np.array(part.sentinels if _opens(authority, part) else (), np.int64) for part in catalogs]
    places = np.concatenate([start + some for start, some in zip(starts, inside, strict=False)])
    codes = np.concatenate(inside) % claims.shape[1]
    wrong = sum(int((row[places] != claim[codes]).sum()) for row, claim in zip(decoded, claims, strict=True))
    if wrong:
        raise ForgedScoresError(
            f"report: {wrong} of {len(decoded) * len(places)} sentinels are not as far from the query as its user says"
        )


def _find(catalogs: Sequence[Catalog], starts: np.ndarray, position: int) -> tuple[Catalog, int]:
    """In which catalog a position is, and where."""
    number = int(np.searchsorted(starts, position, side="right")) - 1
    return catalogs[number], position - int(starts[number])


def _cover(authority: Authority, catalogs: Sequence[Catalog], positions: Sequence[int], size: int) -> tuple[str, ...]:
    """The images in the buckets of these positions; a segment's order is random, so runs of it are random buckets."""
    fetched: set[str] = set()
    start = 0
    for part in catalogs:
        count = len(part.image_ids)
        # What is left at the end belongs to the last bucket: none is smaller than `size` unless the segment is.
        last = max(count // size - 1, 0)
        inside = [position - start for position in positions if start <= position < start + count]
        for bucket in {min(place // size, last) for place in inside}:
            names = part.image_ids[bucket * size : count if bucket == last else bucket * size + size]
            fetched |= {name for name in names if part.segment >= authority.withdrawn.get(name, 0)}
        start += count
    return tuple(sorted(fetched))


def _openings(authority: Authority, report: ScoreReport) -> tuple[Int32[np.ndarray, "q c"] | None, Rows | None]:
    """What the user says of each query: distances to the sentinels' codes, and what opens its scores."""
    request, secret = report.request, authority.identity.secret
    width = CLAIM.itemsize * sentinel_count(report.scores[0][0].layout)
    if not report.openings and not width:
        return None, None
    body = b""
    if report.openings:
        body = open_openings(secret, authority.card, report.openings, scheme=request.scheme, nonce=request.nonce)
    if not body or len(body) % request.queries or len(body) < width * request.queries:
        raise FormatError(f"openings: must be one for each of {request.queries} queries, got {len(body)} bytes")
    rows = np.frombuffer(body, np.uint8).reshape(request.queries, -1)
    claims = np.ascontiguousarray(rows[:, :width]).view(CLAIM).astype(np.int32) if width else None
    return claims, rows[:, width:] if rows.shape[1] > width else None


def _check_fresh(authority: Authority, names: Sequence[bytes]) -> frozenset[bytes]:
    """Refuse openings of which one came before: each opens one query, in all of an epoch."""
    if len(names) != len(set(names)) or _known(authority.opened, names):
        raise ReplayedQueryError("query: what opens its scores was used before")
    return frozenset(names)


def _prepare_hints(authority: Authority, part: Catalog) -> dict[str, Any]:
    """What opens the scores of a segment beside the key, by scheme: the hints, or what their kind makes of them."""
    card, kind = authority.card, SECRET_KEY_KINDS[authority.card.public.kind]
    if kind.prepare is not None and len(part.hints) != 1:
        raise ValueError(f"hints: must be of one scheme for {kind.name} keys, got {len(part.hints)}")
    opened = {}
    for hint, body in zip(part.hints, part.wrapped, strict=True):
        rows = open_hint(authority.identity.secret, card, body, segment=part.segment, scheme=hint.scheme)
        opened[hint.scheme] = rows
        if kind.prepare is not None:
            layout = plan(card.public.key, scheme=hint.scheme, count=len(part.image_ids), bits=card.bits)
            opened[hint.scheme] = kind.prepare(authority.secret, layout, rows)
    return opened


def _opens(authority: Authority, part: Catalog) -> bool:
    """Whether nothing that opens a segment's scores was destroyed."""
    return not part.hints or part.segment in authority.prepared


def _known(opened: Sequence[frozenset[bytes]], names: Collection[bytes]) -> bool:
    return not all(noted.isdisjoint(names) for noted in opened)


def _note_openings(opened: tuple[frozenset[bytes], ...], names: frozenset[bytes]) -> tuple[frozenset[bytes], ...]:
    """Add names. Sets of like sizes become one: on the whole a name is copied log2 n times, not at each query."""
    sets = [*opened, names] if names else list(opened)
    while len(sets) > 1 and len(sets[-2]) <= len(sets[-1]):
        sets[-2:] = [sets[-2] | sets[-1]]
    return tuple(sets)


def _dead(part: Catalog, withdrawn: Mapping[str, int]) -> np.ndarray:
    """bool[n], which positions of a segment are withdrawn or sentinels: once an order, not at each query."""
    dead = np.array([part.segment < withdrawn.get(name, 0) for name in part.image_ids], bool)
    dead[list(part.sentinels)] = True
    return dead


def _check_segments(authority: Authority, report: ScoreReport, settled: int) -> None:
    known, told = sorted(authority.catalogs), list(report.segments)
    if not known:
        raise EmptyCollectionError("report: the collection has no images yet")
    if len(told) < max(settled, 1) or told != known[: len(told)]:
        raise OutOfStepError(f"report: segments {told} are scored, segments {known} are known")


def _check_shape(authority: Authority, report: ScoreReport) -> None:
    request = report.request
    if len(report.scores) != request.queries:
        raise FormatError(f"report: scores of {len(report.scores)} queries, the user asked {request.queries}")
    if report.blocks != score_blocks(report.scores):
        raise FormatError("report: the scores are not those that its signed header names")
    if hash_openings(report.openings) != request.openings:
        raise FormatError("report: the openings are not those that the user signed")
    for row in report.scores:
        if len(row) != len(report.segments):
            raise FormatError(f"report: scores of {len(row)} segments, expected {len(report.segments)}")
        for number, scores in zip(report.segments, row, strict=True):
            expected = (request.scheme, len(authority.catalogs[number].image_ids), authority.card.bits)
            got = (scores.layout.scheme, scores.layout.count, scores.layout.bits)
            if got != expected:
                raise FormatError(f"report: segment {number} is {got}, expected scheme, count, bits {expected}")
            check_layout(authority.card.public.key, scores.layout)
            if scores.fingerprint != authority.card.public.fingerprint:
                raise ForeignCollectionError("report: scores under another key")
        shapes = [find_scheme(request.scheme).shapes(scores.layout) for scores in row]
        for count, shape, scores in zip(score_rows(shapes), shapes, row, strict=True):
            if scores.ciphertexts.shape != (count, shape.scores[1]):
                expected = (count, shape.scores[1])
                raise FormatError(f"report: scores must be {expected} bytes, got {scores.ciphertexts.shape}")
    # Every row has as many shared ones: all are of one scheme and length.
    if hash_shared([row[0].ciphertexts[: shapes[0].shared] for row in report.scores]) != request.shared:
        raise ForgedScoresError("report: what its scores share is not what the user signed")
