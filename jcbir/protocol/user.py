"""The user: turns codes of query images into trapdoors, opens what comes back."""

import dataclasses
import functools
import hmac
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool

from jcbir.errors import FormatError, IntegrityError
from jcbir.paillier._blinding import blinders
from jcbir.paillier.public import PublicKey, encrypt
from jcbir.protocol._digests import digest
from jcbir.protocol._results import Release, read_release
from jcbir.protocol._signatures import check_signature, sign, verifying_key
from jcbir.protocol.grants import commit
from jcbir.protocol.messages import SCHEMES, Admission, Card, Delivery, Enrollment, Grant, Query, Request
from jcbir.protocol.refusals import ForeignCollectionError, ForgedReplyError
from jcbir.ranking._build import trapdoors
from jcbir.ranking._table import plan
from jcbir.ranking.isometry import isometry, mask_codes
from jcbir.sealing import HYBRID_SECRET_BYTES, open_batch, open_from, public_half
from jcbir.typing import Array, Image

NONCE_BYTES = 16
SALT_BYTES = 32
OPEN_BATCH = 256
ADMISSION_DOMAIN = "jcbir admission v1"
RELEASE_DOMAIN = "jcbir release v1"


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
    """

    keys: UserKeys
    card: Card
    grant: Grant
    masking_key: bytes
    pending: Mapping[bytes, Request] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"User({self.card.collection!r}, grant {self.grant.grant_id.hex()}, {len(self.pending)} pending)"


@dataclasses.dataclass(frozen=True)
class Match:
    """One result of one query.

    Attributes:
        image_id: pseudonym of the image.
        distance: Hamming distance of the codes (for `integer` the rank of the difference).
        image: uint8[h, w, c], or None where the grant does not open images.
    """

    image_id: str
    distance: int
    image: Image | None


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


def join(keys: UserKeys, admission: Admission, *, owner_key: bytes) -> User:
    """Take the owner's admission: check who signed it, unseal the masking key.

    Args:
        keys: the user's keys.
        admission: from the owner.
        owner_key: the owner's Ed25519 public key, learned over a channel the user trusts.

    Returns:
        The user's state.

    Raises:
        ForgedReplyError: the owner did not sign it.
        ForeignCollectionError: the grant is for somebody else.
        IntegrityError: the masking key is not sealed to these keys.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> join(system.keys, system.admission, owner_key=system.owner.card.owner_key)
        User('photos', grant ..., 0 pending)
    """
    check_signature(admission, public=owner_key, refusal=ForgedReplyError)
    grant = admission.grant
    if grant.signing_key != verifying_key(keys.signing_secret) or admission.card.owner_key != owner_key:
        raise ForeignCollectionError("admission: the grant is for another user, or the card of another owner")
    info = digest((admission.card, grant), domain=ADMISSION_DOMAIN)
    masking_key = open_from(keys.sealing_secret, admission.sealed_mask, info=info, aad=b"")
    return User(keys, admission.card, grant, masking_key)


def masked_codes(codes: Bool[Array, "n k"], *, card: Card, scheme: str, masking_key: bytes) -> Bool[np.ndarray, "n k"]:
    """Apply the keyed isometry of a collection, epoch and scheme; Hamming distances stay.

    Each scheme has its own: what the server sees of `bitsliced` says nothing of what the authority sees of `packed`.

    Args:
        codes: bool[n, k] codes.
        card: the collection.
        scheme: the ranking scheme.
        masking_key: 32 bytes shared by owner and users.

    Returns:
        bool[n, k].

    Raises:
        ValueError: codes of another length than the collection's.

    Example:
        >>> from jcbir.paillier.public import PublicKey
        >>> card = Card("photos", 0, 8, PublicKey(n=35, g=36), b"", b"")
        >>> codes = np.eye(8, dtype=bool)[:3]
        >>> masked = masked_codes(codes, card=card, scheme="packed", masking_key=bytes(32))
        >>> int((masked[0] ^ masked[1]).sum())
        2

    References:
        The isometry is not in Wang, Zhang, Meng and Liu (2023); it keeps raw code bits from whoever decrypts.
    """
    if codes.shape[-1] != card.bits:
        raise ValueError(f"codes: the collection has codes of {card.bits} bits, got {codes.shape[-1]}")
    context = digest((card.collection, card.epoch, scheme), domain="jcbir isometry v1")
    secret = isometry(hmac.digest(masking_key, context, "sha256"), bits=card.bits)
    return np.asarray(mask_codes(np.asarray(codes), secret))


def ask(
    user: User,
    codes: Bool[Array, "q k"],
    *,
    top: int,
    now: int,
    draw: Callable[[int], bytes],
    scheme: str = "packed",
    engine: str = "auto",
) -> tuple[User, Query]:
    """Ask for the images nearest to each code: one batch, one message.

    Args:
        user: state.
        codes: bool[q, k] codes of the query images.
        top: at most so many results for each.
        now: seconds since 1970.
        draw: source of secret bytes, `secrets.token_bytes`.
        scheme: ranking scheme; the collection must offer it.
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
    if scheme not in SCHEMES:
        raise ValueError(f"scheme: expected one of {tuple(SCHEMES)}, got {scheme!r}")
    if len(codes) == 0:
        raise ValueError("codes: at least one query")
    if not 1 <= top <= user.grant.max_results:
        raise ValueError(f"top: the grant allows 1 to {user.grant.max_results} results, got {top}")
    card = user.card
    layout = plan(card.public, scheme=scheme, count=1, bits=card.bits)
    masked = masked_codes(codes, card=card, scheme=scheme, masking_key=user.masking_key)

    encrypt_rows = functools.partial(_encrypt_rows, card.public, draw=draw, engine=engine)
    doors = trapdoors(masked, layout, encrypt=encrypt_rows, public=card.public)
    salt = draw(SALT_BYTES)
    request = Request(
        collection=card.collection,
        epoch=card.epoch,
        scheme=scheme,
        queries=len(doors),
        top=top,
        nonce=draw(NONCE_BYTES),
        issued=now,
        commitment=commit(salt, doors),
        grant=user.grant,
    )
    request = sign(request, secret=user.keys.signing_secret)
    state = dataclasses.replace(user, pending={**user.pending, request.nonce: request})
    return state, Query(request, salt, doors)


def receive(user: User, delivery: Delivery) -> tuple[User, tuple[tuple[Match, ...], ...]]:
    """Open a delivery: check the authority's signature, unseal order and keys, open each image once.

    Args:
        user: state.
        delivery: from the server.

    Returns:
        The new state and, for each query, its matches, best first.

    Raises:
        ForgedReplyError: the authority did not sign it, or it answers no pending request.
        IntegrityError: an image is missing or was altered, or the release is not for this request.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> _, matches = receive(small_system().user, small_system().delivery)
        >>> [(match.distance, match.image[0, 0].tolist()) for match in matches[0]]
        [(0, [20, 20, 20]), (2, [10, 10, 10])]
    """
    ranking = delivery.ranking
    check_signature(ranking, public=user.card.authority_key, refusal=ForgedReplyError)
    if ranking.nonce not in user.pending:
        raise ForgedReplyError(f"delivery: answers request {ranking.nonce.hex()}, which is not pending here")
    info = digest(user.pending[ranking.nonce], domain=RELEASE_DOMAIN)
    release = read_release(open_from(user.keys.sealing_secret, ranking.sealed, info=info, aad=b""))
    images = _open_images(release, {image.image_id: image.sealed for image in delivery.images})
    matches = tuple(
        tuple(
            Match(release.image_ids[place], int(distance), images[place] if images else None)
            for place, distance in zip(places, distances, strict=True)
        )
        for places, distances in zip(release.order, release.distances, strict=True)
    )
    pending = {nonce: request for nonce, request in user.pending.items() if nonce != ranking.nonce}
    return dataclasses.replace(user, pending=pending), matches


def _encrypt_rows(public: PublicKey, messages: np.ndarray, *, draw: Callable[[int], bytes], engine: str) -> np.ndarray:
    fresh = blinders(public, len(messages), draw=draw, engine=engine)
    return encrypt(public, messages, blinders=fresh, engine=engine)


def _open_images(release: Release, sealed: Mapping[str, bytes]) -> tuple[Image, ...]:
    if not len(release.keys):
        return ()
    if len(release.keys) != len(release.image_ids):
        raise FormatError(f"release: {len(release.keys)} keys for {len(release.image_ids)} images")
    missing = [image_id for image_id in release.image_ids if image_id not in sealed]
    if missing:
        raise IntegrityError(f"delivery: {len(missing)} of {len(release.image_ids)} images are missing")
    images: list[Image] = []
    for start in range(0, len(release.image_ids), OPEN_BATCH):
        image_ids = release.image_ids[start : start + OPEN_BATCH]
        keys = [key.tobytes() for key in release.keys[start : start + OPEN_BATCH]]
        images += open_batch([sealed[image_id] for image_id in image_ids], keys=keys, image_ids=image_ids)
    return tuple(images)


__all__ = ["Match", "User", "UserKeys", "ask", "enroll", "join", "make_keys", "masked_codes", "receive"]
