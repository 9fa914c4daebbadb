"""The owner's key holder: checks grants, decrypts scores, ranks, releases the image keys of the results only."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int32

from jcbir.errors import FormatError
from jcbir.paillier import secret as paillier
from jcbir.paillier.secret import SecretKey
from jcbir.protocol._digests import digest
from jcbir.protocol._results import Release, write_release
from jcbir.protocol._signatures import check_signature, sign
from jcbir.protocol.grants import check_request, note_answered
from jcbir.protocol.handover import open_appointment
from jcbir.protocol.holdings import Delegation
from jcbir.protocol.messages import Appointment, Card, Catalogue, Ranking, Revocation, ScoreReport, Withdrawal
from jcbir.protocol.refusals import ForeignCollectionError, ForgedReplyError, StaleQueryError
from jcbir.protocol.user import RELEASE_DOMAIN
from jcbir.ranking._decode import DEAD, decode_scores, rank
from jcbir.ranking._open import Decrypt
from jcbir.ranking._table import check_layout
from jcbir.sealing import image_key, seal_to


@dataclasses.dataclass(frozen=True, repr=False)
class Authority:
    """What the key holder holds; `repr` shows no secret. No image, no query, no masking key.

    Attributes:
        card: the collection.
        secret: Paillier secret key.
        image_master: 32 bytes, image keys derive from it.
        signing_secret: 32 bytes, Ed25519 key that rankings are signed with.
        catalogues: number of a segment to its pseudonyms in index order.
        withdrawn: pseudonym to the number of segments that its withdrawal speaks of.
        revoked: revoked grants.
        revocation_serial: number of the revocation list in force.
        answered: nonces of recent requests, with their time.
    """

    card: Card
    secret: SecretKey
    image_master: bytes
    signing_secret: bytes
    catalogues: Mapping[int, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    withdrawn: Mapping[str, int] = dataclasses.field(default_factory=dict)
    revoked: frozenset[bytes] = frozenset()
    revocation_serial: int = 0
    answered: Mapping[bytes, int] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"Authority({self.card.collection!r}, epoch {self.card.epoch}, {len(self.catalogues)} segments, redacted)"
        )


def appoint(delegation: Delegation) -> Authority:
    """Become the authority of a collection.

    Args:
        delegation: the owner's secrets for it.

    Returns:
        The state.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> appoint(small_system().delegation)
        Authority('photos', epoch 0, 0 segments, redacted)
    """
    return Authority(delegation.card, delegation.secret, delegation.image_master, delegation.authority_secret)


def succeed(authority: Authority, appointment: Appointment) -> Authority:
    """Turn to the next epoch with the secrets that the owner sends: nothing catalogued, nothing revoked.

    Args:
        authority: state.
        appointment: from the owner.

    Returns:
        The state of the new epoch; the old one for a repeated message.

    Raises:
        RefusalError: see `jcbir.protocol.epochs.check_successor`.
        IntegrityError: it was sealed to another authority.

    Example:
        >>> import secrets
        >>> from jcbir.protocol import handover as appointments, session as example, owner
        >>> system = example.small_system()
        >>> new = owner.rekey(system.owner, draw=secrets.token_bytes)
        >>> succeed(system.authority, appointments.announce(system.owner, new)[1])
        Authority('photos', epoch 1, 0 segments, redacted)
    """
    held = Delegation(authority.card, authority.secret, authority.image_master, authority.signing_secret)
    following = open_appointment(held, appointment)
    return authority if following is held else appoint(following)


def catalog(authority: Authority, catalogue: Catalogue) -> Authority:
    """Learn which image stands where in a segment.

    Args:
        authority: state.
        catalogue: from the owner.

    Returns:
        The new state.

    Raises:
        ForeignCollectionError: another collection or epoch.
        ForgedReplyError: the owner did not sign it.
        ValueError: another catalogue of that segment is known.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> catalog(appoint(system.delegation), system.catalogue)
        Authority('photos', epoch 0, 1 segments, redacted)
    """
    _check_order(authority, catalogue)
    known = authority.catalogues.get(catalogue.segment, catalogue.image_ids)
    if known != catalogue.image_ids:
        raise ValueError(f"catalogue: segment {catalogue.segment} is known with other images")
    catalogues = {**authority.catalogues, catalogue.segment: catalogue.image_ids}
    return dataclasses.replace(authority, catalogues=catalogues)


def withdraw(authority: Authority, withdrawal: Withdrawal) -> Authority:
    """Stop ranking images that the owner withdraws.

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
    _check_order(authority, withdrawal)
    bounds = {name: max(withdrawal.segments, authority.withdrawn.get(name, 0)) for name in withdrawal.image_ids}
    return dataclasses.replace(authority, withdrawn={**authority.withdrawn, **bounds})


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
    _check_order(authority, revocation)
    if revocation.serial < authority.revocation_serial:
        raise StaleQueryError(f"revocation: list {revocation.serial}, list {authority.revocation_serial} is in force")
    return dataclasses.replace(authority, revoked=frozenset(revocation.grant_ids), revocation_serial=revocation.serial)


def admit(authority: Authority, report: ScoreReport, *, now: int) -> Authority:
    """Decide whether a report may be answered, and note that it is.

    Args:
        authority: state.
        report: from the server.
        now: seconds since 1970.

    Returns:
        The new state, in which the same request is refused.

    Raises:
        RefusalError: in the form that names the reason; see `jcbir.protocol.grants.check_request`.
        FormatError: the report does not have one row of scores per query and one record per segment.

    Example:
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> admitted = admit(system.authority, system.report, now=NOW)
        >>> admit(admitted, system.report, now=NOW)
        Traceback (most recent call last):
        ...
        jcbir.protocol.refusals.ReplayedQueryError: query: ... was answered before
    """
    request = report.request
    check_request(request, card=authority.card, now=now, revoked=authority.revoked)
    _check_shape(authority, report)
    answered = note_answered(authority.answered, request.nonce, issued=request.issued, now=now)
    return dataclasses.replace(authority, answered=answered)


def open_report(
    authority: Authority, report: ScoreReport, *, engine: str = "auto", decrypt: Decrypt | None = None
) -> tuple[Int32[np.ndarray, " n"], ...]:
    """Decrypt a report: for each query the distances to all images, segment after segment.

    Args:
        authority: state.
        report: from the server, admitted.
        engine: arithmetic engine.
        decrypt: what decrypts the rows instead, such as a pool of workers; `engine` is then not used.

    Returns:
        For each query int32[n] Hamming distances (`integer`: dense ranks of the absolute differences);
        `jcbir.ranking.DEAD` for images that are withdrawn.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> open_report(small_system().authority, small_system().report)[0].tolist()
        [2, 0, 2]
    """
    # One decryption for the whole batch: an array engine is several times faster on many rows than on few.
    parts = [scores for row in report.scores for scores in row]
    rows = np.concatenate([scores.ciphertexts for scores in parts])
    plaintexts = decrypt(rows) if decrypt else paillier.decrypt(authority.secret, rows, engine=engine)
    ends = np.cumsum([len(scores.ciphertexts) for scores in parts])
    pieces = iter(zip(parts, np.split(plaintexts, ends[:-1]), strict=True))
    dead = _dead(authority, report.segments)
    opened = []
    for row in report.scores:
        opened_row = [(scores.layout, plain) for scores, plain in (next(pieces) for _ in row)]
        distances = decode_scores(opened_row, public=authority.card.public)
        opened.append(np.where(dead, np.int32(DEAD), distances))
    return tuple(opened)


def release(authority: Authority, report: ScoreReport, distances: Sequence[Int32[np.ndarray, " n"]]) -> Ranking:
    """Rank, and seal order, distances and the image keys of the results to the user.

    Args:
        authority: state.
        report: the report, admitted.
        distances: for each query, from `open_report`.

    Returns:
        The ranking for the server to relay: sorted pseudonyms in the clear, the rest for the user alone.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> len(release(system.authority, system.report, open_report(system.authority, system.report)).image_ids)
        2
    """
    request = report.request
    image_ids = [image_id for number in report.segments for image_id in authority.catalogues[number]]
    orders = [rank(row, top=request.top) for row in distances]
    chosen = sorted({image_ids[position] for order in orders for position in order})
    place = {image_id: number for number, image_id in enumerate(chosen)}
    opens = "open" in request.grant.rights
    keys = [image_key(authority.image_master, image_id=image_id) for image_id in chosen] if opens else []
    # All rows have the same length: every query ranks the same living images.
    sealed = Release(
        tuple(chosen),
        np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32),
        np.array([[place[image_ids[position]] for position in order] for order in orders], np.int32).reshape(
            len(orders), -1
        ),
        np.array([row[order] for row, order in zip(distances, orders, strict=True)], np.int32).reshape(len(orders), -1),
    )
    info = digest(request, domain=RELEASE_DOMAIN)
    body = seal_to(request.grant.sealing_key, write_release(sealed), info=info, aad=b"")
    ranking = Ranking(request.nonce, tuple(chosen) if opens else (), body)
    return sign(ranking, secret=authority.signing_secret)


def answer(authority: Authority, report: ScoreReport, *, now: int, engine: str = "auto") -> tuple[Authority, Ranking]:
    """Answer a report: `admit`, `open_report`, `release`.

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
    state = admit(authority, report, now=now)
    return state, release(state, report, open_report(state, report, engine=engine))


def _dead(authority: Authority, segments: Sequence[int]) -> np.ndarray:
    return np.array(
        [number < authority.withdrawn.get(name, 0) for number in segments for name in authority.catalogues[number]],
        bool,
    )


def _check_order(authority: Authority, message: Catalogue | Withdrawal | Revocation) -> None:
    here = (authority.card.collection, authority.card.epoch)
    if (message.collection, message.epoch) != here:
        raise ForeignCollectionError(f"message for {message.collection!r} epoch {message.epoch}, this is {here}")
    check_signature(message, public=authority.card.owner_key, refusal=ForgedReplyError)


def _check_shape(authority: Authority, report: ScoreReport) -> None:
    request = report.request
    if len(report.scores) != request.queries:
        raise FormatError(f"report: scores of {len(report.scores)} queries, the user asked {request.queries}")
    if list(report.segments) != sorted(authority.catalogues):
        raise FormatError(f"report: segments {report.segments}, the catalogue has {sorted(authority.catalogues)}")
    for row in report.scores:
        if len(row) != len(report.segments):
            raise FormatError(f"report: scores of {len(row)} segments, expected {len(report.segments)}")
        for number, scores in zip(report.segments, row, strict=True):
            expected = (request.scheme, len(authority.catalogues[number]), authority.card.bits)
            got = (scores.layout.scheme, scores.layout.count, scores.layout.bits)
            if got != expected:
                raise FormatError(f"report: segment {number} is {got}, expected scheme, count, bits {expected}")
            check_layout(authority.card.public, scores.layout)
            if len(scores.ciphertexts) != scores.layout.blocks:
                raise FormatError(f"report: {len(scores.ciphertexts)} scores, {scores.layout.blocks} blocks")
            if scores.fingerprint != authority.card.public.fingerprint:
                raise ForeignCollectionError("report: scores under another key")


__all__ = [
    "Authority",
    "admit",
    "answer",
    "appoint",
    "catalog",
    "open_report",
    "release",
    "revoke",
    "succeed",
    "withdraw",
]
