"""The user: turns codes of query images into trapdoors, opens what comes back."""

import dataclasses
import hashlib
import hmac
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool

from jcbir.errors import IntegrityError
from jcbir.protocol._digests import digest
from jcbir.protocol._grants import commit, hash_openings, hash_shared
from jcbir.protocol._handover import CLAIM, seal_openings
from jcbir.protocol._results import DOMAIN as RESULTS_DOMAIN, Results, read_results
from jcbir.protocol._signatures import check_signature, sign, verifying_key
from jcbir.protocol.messages import Admission, Card, Delivery, Enrollment, Grant, Query, Request
from jcbir.protocol.refusals import ForeignCollectionError, ForgedReplyError, RolledBackError
from jcbir.ranking._build import mask_query, trapdoors
from jcbir.ranking._keys import KEY_KINDS, check_key
from jcbir.ranking._sentinels import sentinel_codes
from jcbir.ranking._table import find_scheme, plan, schemes_for
from jcbir.sealing import HYBRID_SECRET_BYTES, Photograph, open_from, open_photographs, public_half
from jcbir.typing import Array

NONCE_BYTES = 16
SALT_BYTES = 32
ADMISSION_DOMAIN = "jcbir admission v2"


@dataclasses.dataclass(frozen=True, repr=False)
class UserKeys:
    """A user's two secret keys; `repr` shows neither.

    Attributes:
        sealing_secret: HPKE private key that results are sealed to: 32 bytes of X25519, or 96 with ML-KEM-768.
        signing_secret: Ed25519 private key that queries are signed with (32 bytes).
    """

    sealing_secret: bytes
    signing_secret: bytes

    def __repr__(self) -> str:
        return "UserKeys(secrets redacted)"


@dataclasses.dataclass(frozen=True, repr=False)
class User:
    """An admitted user; `repr` shows no secret.

    Attributes:
        keys: the user's secret keys.
        card: the collection.
        grant: the owner's grant.
        masking_key: 32 bytes shared by the owner and all users.
        pending: nonce to request, of queries not answered yet.
        head: counter of the latest head that the authority or the server showed.
    """

    keys: UserKeys
    card: Card
    grant: Grant
    masking_key: bytes
    pending: Mapping[bytes, Request] = dataclasses.field(default_factory=dict)
    head: int = 0

    def __repr__(self) -> str:
        return f"User({self.card.collection!r}, grant {self.grant.grant_id.hex()}, {len(self.pending)} pending)"


@dataclasses.dataclass(frozen=True)
class Match:
    """One result of one query.

    Attributes:
        image_id: pseudonym of the image.
        distance: Hamming distance of the codes (for `integer` the rank of the difference).
        photograph: as the owner published it, or None where the grant does not open images.
    """

    image_id: str
    distance: int
    photograph: Photograph | None


def make_keys(*, draw: Callable[[int], bytes], hybrid: bool = False) -> UserKeys:
    """Draw a user's keys.

    Args:
        draw: source of secret bytes, `secrets.token_bytes`.
        hybrid: results are sealed to ML-KEM-768 + X25519 instead of X25519 alone.

    Returns:
        The keys.

    Example:
        >>> import secrets
        >>> make_keys(draw=secrets.token_bytes)
        UserKeys(secrets redacted)
    """
    return UserKeys(draw(HYBRID_SECRET_BYTES if hybrid else 32), draw(32))


def enroll(keys: UserKeys) -> Enrollment:
    """Ask to be admitted: the public halves of the keys.

    Args:
        keys: the user's keys.

    Returns:
        The message for the owner.

    Example:
        >>> len(enroll(UserKeys(bytes(32), bytes(32))).sealing_key)
        32
    """
    enrollment = Enrollment(public_half(keys.sealing_secret), verifying_key(keys.signing_secret))
    return sign(enrollment, secret=keys.signing_secret)


def join(keys: UserKeys, admission: Admission, *, owner_key: bytes, unsafe_small: bool = False) -> User:
    """Take the owner's admission: check who signed it, unseal the masking key.

    Args:
        keys: the user's keys.
        admission: from the owner.
        owner_key: the owner's Ed25519 public key, learned over a channel the user trusts.
        unsafe_small: permit a key so short that anyone can break it, for tests.

    Returns:
        The user's state.

    Raises:
        ForgedReplyError: the owner did not sign it.
        ForeignCollectionError: the grant is for somebody else.
        IntegrityError: the masking key is not sealed to these keys.
        ValueError: the collection's key is visibly weak.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> join(system.keys, system.admission, owner_key=system.owner.card.owner_key, unsafe_small=True)
        User('photos', grant ..., 0 pending)
    """
    check_signature(admission, public=owner_key, refusal=ForgedReplyError)
    grant = admission.grant
    if grant.signing_key != verifying_key(keys.signing_secret) or admission.card.owner_key != owner_key:
        raise ForeignCollectionError("admission: the grant is for another user, or the card of another owner")
    check_key(admission.card.public, unsafe_small=unsafe_small)
    info = digest((admission.card, grant), domain=ADMISSION_DOMAIN)
    masking_key = open_from(keys.sealing_secret, admission.sealed_mask, info=info, aad=b"")
    return User(keys, admission.card, grant, masking_key)


def scheme_masking_key(card: Card, *, scheme: str, masking_key: bytes) -> bytes:
    """Derive the masking key of a collection, epoch and scheme: what is seen of one scheme says nothing of another.

    `HMAC-SHA256(masking key, collection, epoch, scheme)`

    Args:
        card: the collection.
        scheme: the ranking scheme.
        masking_key: 32 bytes shared by the owner and all users.

    Returns:
        32 bytes, for `jcbir.ranking.mask_index` and `mask_query`.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> len(scheme_masking_key(small_system().owner.card, scheme="any", masking_key=bytes(32)))
        32

    References:
        The isometry is not in Wang, Zhang, Meng and Liu (2023); it keeps raw code bits from whoever decrypts.
    """
    context = digest((card.collection, card.epoch, scheme), domain="jcbir isometry v1")
    return hmac.digest(masking_key, context, "sha256")


def ask(
    user: User,
    codes: Bool[Array, "q k"],
    *,
    top: int,
    now: int,
    draw: Callable[[int], bytes],
    scheme: str | None = None,
    engine: str = "auto",
) -> tuple[User, Query]:
    """Ask for the images nearest to each code: one batch, one message.

    Args:
        user: state.
        codes: bool[q, k] codes of the query images.
        top: at most so many results for each.
        now: seconds since 1970.
        draw: source of secret bytes, `secrets.token_bytes`.
        scheme: ranking scheme; the collection must offer it. None is the default one of its key.
        engine: arithmetic engine.

    Returns:
        The new state and the query for the server.

    Raises:
        ValueError: no code, codes of another length, `top` beyond the grant, no such scheme.

    Example:
        >>> import secrets
        >>> from jcbir.protocol.session import NOW, small_system
        >>> me, query = ask(small_system().user, np.zeros((2, 16), bool), top=1, now=NOW, draw=secrets.token_bytes)
        >>> query.request.queries, len(me.pending)
        (2, 2)
    """
    if len(codes) == 0:
        raise ValueError("codes: must be at least one, got 0")
    if not 1 <= top <= user.grant.max_results:
        raise ValueError(f"top: must be 1 to {user.grant.max_results} by the grant, got {top}")
    if len(codes) > user.grant.queries_per_day:
        raise ValueError(f"codes: must be at most {user.grant.queries_per_day} a day by the grant, got {len(codes)}")
    card = user.card
    public, kind = card.public.key, KEY_KINDS[card.public.kind]
    scheme = schemes_for(kind.name)[0] if scheme is None else scheme
    if find_scheme(scheme).key_kind != kind.name:
        fitting = ", ".join(schemes_for(kind.name))
        raise ValueError(f"scheme: must be one for the {kind.name} keys of the collection, {fitting}, got {scheme!r}")
    layout = plan(public, scheme=scheme, count=1, bits=card.bits)
    masking_key = scheme_masking_key(card, scheme=scheme, masking_key=user.masking_key)
    masked = mask_query(codes, layout, masking_key=masking_key)

    def encrypt(rows: np.ndarray) -> np.ndarray:
        fresh = kind.blinders(public, len(rows), draw=draw, engine=engine)
        return kind.encrypt(public, rows, blinders=fresh, engine=engine)

    made = trapdoors(masked, layout, encrypt=encrypt, public=public)
    doors = tuple(door._replace(opening=None) for door in made)
    # What only the true scores of this query show in the sentinels' lanes.
    known = sentinel_codes(layout, masking_key=masking_key)
    stated = (np.asarray(codes)[:, None] ^ known).sum(axis=2).astype(CLAIM)
    openings = b"".join(
        row.tobytes() + (b"" if door.opening is None else door.opening.tobytes())
        for row, door in zip(stated, made, strict=True)
    )
    share = find_scheme(scheme).share
    shared = () if share is None else [share(public, door) for door in doors]
    salt, nonce = draw(SALT_BYTES), draw(NONCE_BYTES)
    sealed = seal_openings(card, openings, scheme=scheme, nonce=nonce) if openings else b""
    request = Request(
        collection=card.collection,
        epoch=card.epoch,
        scheme=scheme,
        queries=len(doors),
        top=top,
        nonce=nonce,
        issued=now,
        commitment=commit(salt, doors),
        openings=hash_openings(sealed),
        shared=hash_shared(shared),
        grant=user.grant,
    )
    request = sign(request, secret=user.keys.signing_secret)
    state = dataclasses.replace(user, pending={**user.pending, request.nonce: request})
    return state, Query(request, salt, doors, sealed)


def receive(user: User, delivery: Delivery) -> tuple[User, tuple[tuple[Match, ...], ...]]:
    """Open a delivery: check the authority's signature, unseal order and keys, open each image once.

    Args:
        user: state.
        delivery: from the server.

    Returns:
        The new state and, for each query, its matches, best first.

    Raises:
        ForgedReplyError: the authority did not sign it, it answers no pending request, or its head is not the owner's.
        RolledBackError: server or authority went back to an older head than was shown before.
        IntegrityError: an image is missing or is not the one that the owner published, or the results are not for
            this request.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> _, matches = receive(small_system().user, small_system().delivery)
        >>> [(match.distance, match.photograph.name) for match in matches[0]]
        [(0, 'b.jpg'), (2, ...)]
    """
    ranking = delivery.ranking
    check_signature(ranking, public=user.card.authority_key, refusal=ForgedReplyError)
    if ranking.nonce not in user.pending:
        raise ForgedReplyError(f"delivery: answers request {ranking.nonce.hex()}, which is not pending here")
    latest = _check_head(user, delivery)
    info = digest(user.pending[ranking.nonce], domain=RESULTS_DOMAIN)
    results = read_results(open_from(user.keys.sealing_secret, ranking.sealed, info=info, aad=b""))
    photographs = _open_images(results, {image.image_id: image.sealed for image in delivery.images})
    matches = tuple(
        tuple(
            Match(results.image_ids[place], int(distance), photographs[place] if photographs else None)
            for place, distance in zip(places, distances, strict=True)
        )
        for places, distances in zip(results.order, results.distances, strict=True)
    )
    pending = {nonce: request for nonce, request in user.pending.items() if nonce != ranking.nonce}
    return dataclasses.replace(user, pending=pending, head=latest), matches


def _check_head(user: User, delivery: Delivery) -> int:
    """The latest head shown so far."""
    shown, told = delivery.head, delivery.ranking.head
    if shown is not None:
        check_signature(shown, public=user.card.owner_key, refusal=ForgedReplyError)
        if (shown.collection, shown.epoch) != (user.card.collection, user.card.epoch):
            raise ForgedReplyError("delivery: shows a head of another collection or epoch")
    counter = 0 if shown is None else shown.counter
    # The authority may hear of a publication later than the server, not the other way round.
    if counter < max(user.head, told):
        raise RolledBackError(
            f"delivery: shows head {counter}, head {max(user.head, told)} is known; the server went back, or has not "
            "heard from the owner yet"
        )
    return counter


def _open_images(results: Results, sealed: Mapping[str, bytes]) -> tuple[Photograph, ...]:
    if not results.keys:
        return ()
    missing = [image_id for image_id in results.image_ids if image_id not in sealed]
    if missing:
        raise IntegrityError(f"delivery: {len(missing)} of {len(results.image_ids)} images are missing")
    for image_id, expected in zip(results.image_ids, results.hashes, strict=True):
        # Whoever opened an image before knows its key: that it opens does not say who sealed it.
        if not hmac.compare_digest(hashlib.sha256(sealed[image_id]).digest(), expected):
            raise IntegrityError(f"delivery: image {image_id} is not the one that the owner published")
    image_ids = results.image_ids
    return tuple(open_photographs([sealed[image_id] for image_id in image_ids], keys=results.keys, image_ids=image_ids))
