"""What the parties say to one another: frozen records of plain fields, free of any code that could use a secret.

Owner to server: `Publication`, `Withdrawal`, `Revocation`, `Succession`, `Recall` (answered by `Recalled`). Owner to
authority: `Delegation` (secret, see `owner`), `Catalogue`, `Withdrawal`, `Revocation`, `Appointment`. User to owner:
`Enrollment`; owner to user: `Admission`. One search: `Query` (user to server), `ScoreReport` (server to authority),
`Ranking` (authority to server), `Delivery` (server to user).
"""

import dataclasses
from typing import Any

from jcbir.paillier.public import PublicKey
from jcbir.ranking._scheme import Index, Scores, Trapdoor
from jcbir.ranking._table import SCHEMES


@dataclasses.dataclass(frozen=True)
class Card:
    """What anybody may know of a collection.

    Attributes:
        collection: its name.
        epoch: counts re-keyings; grants and messages of another epoch are refused.
        bits: length of its hash codes.
        public: the Paillier public key.
        owner_key: Ed25519 public key of the owner (32 bytes): publications, grants, revocations.
        authority_key: Ed25519 public key of the authority (32 bytes): rankings.
    """

    collection: str
    epoch: int
    bits: int
    public: PublicKey
    owner_key: bytes
    authority_key: bytes


@dataclasses.dataclass(frozen=True)
class SealedImage:
    """One image as the server holds it.

    Attributes:
        image_id: keyed pseudonym of the image's name; says nothing of the name.
        sealed: the authenticated envelope.
    """

    image_id: str
    sealed: bytes


@dataclasses.dataclass(frozen=True)
class Publication:
    """Owner to server: one immutable segment of the collection.

    Attributes:
        card: the collection.
        segment: number of the segment, counted from 0 in each epoch.
        indexes: one encrypted index for each ranking scheme offered, over the same images in the same order.
        images: the sealed images, in index order.
        signature: the owner's Ed25519 signature over the rest.
    """

    card: Card
    segment: int
    indexes: tuple[Index, ...]
    images: tuple[SealedImage, ...]
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Owner to authority: which image stands at which position of a segment.

    Attributes:
        collection: name of the collection.
        epoch: epoch of the collection.
        segment: number of the segment.
        image_ids: pseudonyms in index order.
        signature: the owner's Ed25519 signature over the rest.
    """

    collection: str
    epoch: int
    segment: int
    image_ids: tuple[str, ...]
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Withdrawal:
    """Owner to server and authority: these images are no longer part of the collection.

    Attributes:
        collection: name of the collection.
        epoch: epoch of the collection.
        segments: it speaks of the segments below this number; an image published again later is not withdrawn.
        image_ids: pseudonyms of the images to forget.
        signature: the owner's Ed25519 signature over the rest.
    """

    collection: str
    epoch: int
    segments: int
    image_ids: tuple[str, ...]
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Revocation:
    """Owner to authority (and server): the full list of grants taken back in this epoch.

    Attributes:
        collection: name of the collection.
        epoch: epoch of the collection.
        serial: counts the lists; an older list never replaces a newer one.
        grant_ids: identifiers of the revoked grants.
        signature: the owner's Ed25519 signature over the rest.
    """

    collection: str
    epoch: int
    serial: int
    grant_ids: tuple[bytes, ...]
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Enrollment:
    """User to owner: the public halves of the user's two key pairs, signed to prove possession of the second.

    Attributes:
        sealing_key: HPKE public key that results are sealed to.
        signing_key: Ed25519 public key that queries are signed with.
        signature: Ed25519 signature over the rest, by `signing_key`.
    """

    sealing_key: bytes
    signing_key: bytes
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Grant:
    """The owner's permission for one user, presented with every query.

    Attributes:
        grant_id: 16 random bytes.
        collection: the collection it opens.
        epoch: the epoch it is good for.
        sealing_key: HPKE public key of the user.
        signing_key: Ed25519 public key of the user.
        rights: what is allowed: `"rank"` (learn pseudonyms and distances) and `"open"` (receive image keys).
        max_results: most results per query.
        issued: seconds since 1970.
        expires: seconds since 1970; refused from then on.
        signature: the owner's Ed25519 signature over the rest.
    """

    grant_id: bytes
    collection: str
    epoch: int
    sealing_key: bytes
    signing_key: bytes
    rights: tuple[str, ...]
    max_results: int
    issued: int
    expires: int
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Admission:
    """Owner to user: the grant, the collection, and the masking key sealed to the user.

    Attributes:
        card: the collection.
        grant: the user's grant.
        sealed_mask: HPKE of the masking key to the user, with card and grant as context.
        signature: the owner's Ed25519 signature over the rest.
    """

    card: Card
    grant: Grant
    sealed_mask: bytes
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Request:
    """The part of a query that server and authority both see: who asks for what, and a commitment to the trapdoors.

    Attributes:
        collection: name of the collection.
        epoch: epoch of the collection.
        scheme: ranking scheme.
        queries: number of query images in the batch.
        top: most results for each of them.
        nonce: 16 random bytes, the name of this request; never answered twice.
        issued: seconds since 1970.
        commitment: digest of salt and trapdoors; without the salt the authority could guess a short masked code.
        grant: the user's grant.
        signature: the user's Ed25519 signature over the rest.
    """

    collection: str
    epoch: int
    scheme: str
    queries: int
    top: int
    nonce: bytes
    issued: int
    commitment: bytes
    grant: Grant
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Query:
    """User to server: a batch of trapdoors.

    Attributes:
        request: what both server and authority see.
        salt: 32 random bytes that open the commitment, for the server alone.
        trapdoors: one for each query image.
    """

    request: Request
    salt: bytes
    trapdoors: tuple[Trapdoor, ...]


@dataclasses.dataclass(frozen=True)
class ScoreReport:
    """Server to authority: encrypted scores; no trapdoor.

    Attributes:
        request: as the user signed it.
        segments: numbers of the segments scored, in order.
        scores: for each query, one record for each segment.
    """

    request: Request
    segments: tuple[int, ...]
    scores: tuple[tuple[Scores, ...], ...]


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Authority to server: which images to hand over, and what only the user can read.

    Attributes:
        nonce: the request answered.
        image_ids: pseudonyms of all results of the batch, sorted: neither rank nor query can be read off.
        sealed: HPKE to the user, with the request as context: order, distances, image keys.
        signature: the authority's Ed25519 signature over the rest.
    """

    nonce: bytes
    image_ids: tuple[str, ...]
    sealed: bytes
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Delivery:
    """Server to user: the authority's ranking and the sealed images it names.

    Attributes:
        ranking: as the authority signed it.
        images: the sealed images, in the order of `ranking.image_ids`.
    """

    ranking: Ranking
    images: tuple[SealedImage, ...]


@dataclasses.dataclass(frozen=True)
class Succession:
    """Owner to server: the next epoch begins, with this card; all that was published in the one before is to go.

    Attributes:
        card: the collection in its new epoch.
        signature: the owner's Ed25519 signature over the rest.
    """

    card: Card
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Appointment:
    """Owner to authority: the next epoch begins, with this card and these secrets.

    Attributes:
        card: the collection in its new epoch.
        sealed: the new `Delegation`, sealed to a key that derives from the secret of the epoch before.
        signature: the owner's Ed25519 signature over the rest.
    """

    card: Card
    sealed: bytes
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Recall:
    """Owner to server: send me these sealed images.

    Attributes:
        collection: name of the collection.
        epoch: epoch of the collection.
        issued: seconds since 1970.
        image_ids: pseudonyms of the images.
        signature: the owner's Ed25519 signature over the rest.
    """

    collection: str
    epoch: int
    issued: int
    image_ids: tuple[str, ...]
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Recalled:
    """Server to owner: the first of the images recalled, as many as fit into one answer.

    Attributes:
        images: the sealed images, in the order of the recall.
    """

    images: tuple[SealedImage, ...]


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Any service to whoever asked: why not.

    Attributes:
        code: `code` of a `jcbir.protocol.refusals` error, or of a service's own.
        reason: one sentence without secrets.
    """

    code: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Sent:
    """One line of a transcript.

    Attributes:
        sender: "owner", "server", "authority" or "user".
        receiver: likewise.
        message: one of the records of this module (or the owner's `Delegation`).
    """

    sender: str
    receiver: str
    message: Any


__all__ = [
    "SCHEMES",
    "Admission",
    "Appointment",
    "Card",
    "Catalogue",
    "Delivery",
    "Enrollment",
    "Grant",
    "Publication",
    "Query",
    "Ranking",
    "Recall",
    "Recalled",
    "Refusal",
    "Request",
    "Revocation",
    "ScoreReport",
    "SealedImage",
    "Sent",
    "Succession",
    "Withdrawal",
]
