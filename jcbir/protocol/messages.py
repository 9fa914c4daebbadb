"""What the parties say to one another: frozen records of plain fields, free of any code that could use a secret.

Owner to server: `Publication`, `Withdrawal`, `Revocation`, `Succession`, `Recall` (answered by `Recalled`). Owner to
authority: `Delegation` (secret, see `owner`), `Catalog`, `Withdrawal`, `Revocation`, `Appointment`. User to owner:
`Enrollment`; owner to user: `Admission`. One search: `Query` (user to server), `ScoreReport` (server to authority),
`Ranking` (authority to server), `Delivery` (server to user). `Spending` the authority writes to itself.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jcbir.ranking._keys import TaggedKey
from jcbir.ranking._scheme import Index, Scores, Trapdoor


@dataclasses.dataclass(frozen=True)
class Card:
    """What anybody may know of a collection.

    Attributes:
        collection: its name.
        epoch: counts re-keyings; grants and messages of another epoch are refused.
        bits: length of its hash codes.
        public: the public key, with the name of its kind.
        owner_key: Ed25519 public key of the owner (32 bytes): publications, grants, revocations.
        cloud_key: Ed25519 public key of the server (32 bytes), made by it: score reports.
        authority_key: Ed25519 public key of the authority (32 bytes), made by it: rankings.
        authority_sealing_key: HPKE public key of the authority (32 bytes), made by it: what is for it alone.
    """

    collection: str
    epoch: int
    bits: int
    public: TaggedKey
    owner_key: bytes
    cloud_key: bytes
    authority_key: bytes
    authority_sealing_key: bytes


@dataclasses.dataclass(frozen=True)
class SealedImage:
    """One image as the server holds it.

    Attributes:
        image_id: keyed pseudonym of the image's name; says nothing of the name.
        sealed: the image under seal, as `jcbir.sealing` makes it.
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
class Hint:
    """What opens the scores of one index beside the key, where its scheme has something of that kind.

    Attributes:
        scheme: the ranking scheme.
        digest: SHA-256 of it as it travels, sealed to the authority.
    """

    scheme: str
    digest: bytes


@dataclasses.dataclass(frozen=True)
class Catalog:
    """Owner to authority: which image stands at which position of a segment, and what its sealed bytes are.

    Attributes:
        collection: name of the collection.
        epoch: epoch of the collection.
        segment: number of the segment.
        image_ids: pseudonyms in index order.
        hashes: SHA-256 of each sealed image: whoever opened an image knows its key, and could seal another one.
        hints: of the schemes that have them.
        sentinels: positions that hold no image, increasing; the server cannot tell them from the others.
        signature: the owner's Ed25519 signature over all before it.
        wrapped: for each hint, HPKE of it to the authority. Once these bytes are destroyed nobody opens the segment's
            scores, or its codes; the rest of the catalog can be kept.
    """

    collection: str
    epoch: int
    segment: int
    image_ids: tuple[str, ...]
    hashes: tuple[bytes, ...]
    hints: tuple[Hint, ...] = ()
    sentinels: tuple[int, ...] = ()
    signature: bytes = b""
    wrapped: tuple[bytes, ...] = ()


@dataclasses.dataclass(frozen=True)
class Part:
    """What the owner published as one segment, in a few bytes.

    Attributes:
        count: positions of its indexes.
        schemes: ranking schemes of its indexes, in order.
        index_root: root of the Merkle tree over the blocks of its indexes, one index after another.
        images_hash: SHA-256 of the SHA-256 of its sealed images, in index order.
    """

    count: int
    schemes: tuple[str, ...]
    index_root: bytes
    images_hash: bytes


@dataclasses.dataclass(frozen=True)
class Head:
    """Owner to server and authority: all that is published. A server that shows an older one than before went back.

    Attributes:
        collection: name of the collection.
        epoch: epoch of the collection.
        counter: counts the heads of an epoch, from 1.
        issued: seconds since 1970.
        parts: one for each segment, in order.
        signature: the owner's Ed25519 signature over the rest.
    """

    collection: str
    epoch: int
    counter: int
    issued: int
    parts: tuple[Part, ...]
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
        max_results: most results per query image.
        queries_per_day: most query images that are answered on one day (UTC).
        images_per_day: most different images that are opened on one day (UTC).
        cover: images that are fetched together: those of a result's bucket, of which the user opens the result.
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
    queries_per_day: int
    images_per_day: int
    cover: int
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
        openings: SHA-256 of the sealed openings; empty where the scheme has none.
        shared: SHA-256 of what the scores of each query share and its trapdoor alone decides; empty where the scheme
            has none. Server and authority hold what the server computed against it.
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
    openings: bytes
    shared: bytes
    grant: Grant
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Query:
    """User to server: a batch of trapdoors.

    Attributes:
        request: what both server and authority see.
        salt: 32 random bytes that open the commitment, for the server alone.
        trapdoors: one for each query image.
        openings: HPKE to the authority: how far each query is from the codes of the sentinels, and what opens its
            scores beside the key; empty where the scheme has nothing of either kind.
    """

    request: Request
    salt: bytes
    trapdoors: tuple[Trapdoor, ...]
    openings: bytes = b""


@dataclasses.dataclass(frozen=True)
class ScoreReport:
    """Server to authority: encrypted scores; no trapdoor. Request, segments and blocks are a small signed header.

    Attributes:
        request: as the user signed it.
        segments: numbers of the segments scored, in order.
        blocks: for each query and segment, the digest of its scores.
        signature: the server's Ed25519 signature over request, segments and blocks.
        openings: as in the query.
        scores: for each query, one record for each segment.
    """

    request: Request
    segments: tuple[int, ...]
    blocks: tuple[tuple[bytes, ...], ...]
    signature: bytes = b""
    openings: bytes = b""
    scores: tuple[tuple[Scores, ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Authority to server: which images to hand over, and what only the user can read.

    Attributes:
        nonce: the request answered.
        image_ids: pseudonyms of all results of the batch and of the others in their buckets, sorted: neither rank nor
            query can be read off.
        sealed: HPKE to the user, with the request as context: order, distances, image keys, SHA-256 of sealed images.
        head: counter of the owner's latest head that the authority knows, 0 for none.
        segments: as in the report.
        blocks: as in the report.
        signature: the authority's Ed25519 signature over the rest.
    """

    nonce: bytes
    image_ids: tuple[str, ...]
    sealed: bytes
    head: int = 0
    segments: tuple[int, ...] = ()
    blocks: tuple[tuple[bytes, ...], ...] = ()
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Spending:
    """Authority to its own journal: what one step of one answer takes from a grant's budget of a day.

    Attributes:
        grant_id: whose budget.
        day: days since 1970, UTC.
        rows: query images.
        image_ids: pseudonyms of images opened that were not opened before on that day.
    """

    grant_id: bytes
    day: int
    rows: int
    image_ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Delivery:
    """Server to user: the authority's ranking and the sealed images it names.

    Attributes:
        ranking: as the authority signed it.
        images: the sealed images, in the order of `ranking.image_ids`.
        head: the owner's latest head that the server has, or None.
        padding: zeros; who sees only the length of an answer sees one of few.
    """

    ranking: Ranking
    images: tuple[SealedImage, ...]
    head: Head | None = None
    padding: bytes = b""


@dataclasses.dataclass(frozen=True)
class Place:
    """One block of the scores of an answer.

    Attributes:
        query: place of the query in the batch.
        segment: number of the segment.
        block: block of its index.
    """

    query: int
    segment: int
    block: int


@dataclasses.dataclass(frozen=True)
class Audit:
    """User to server: show how you came to these scores.

    Attributes:
        nonce: the request that was answered.
        places: the blocks to show, drawn by the user after the answer.
        signature: the user's Ed25519 signature over the rest.
    """

    nonce: bytes
    places: tuple[Place, ...]
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Block:
    """All that one block of scores was computed from, and the score.

    Attributes:
        index: the block of the index.
        index_path: Merkle path of it to the owner's head.
        randomness: of the blinders; shown in place of them, for it proves that they encrypt zero.
        score: the block of the scores.
        score_path: Merkle path of it to the digest in the signed ranking.
    """

    index: UInt8[np.ndarray, "m c"]
    index_path: tuple[bytes, ...]
    randomness: UInt8[np.ndarray, "v r"]
    score: UInt8[np.ndarray, "b w"]
    score_path: tuple[bytes, ...]


@dataclasses.dataclass(frozen=True)
class Opened:
    """Server to user: the blocks of an audit.

    Attributes:
        audit: what it answers.
        blocks: one for each place, in order.
        signature: the server's Ed25519 signature over the rest.
    """

    audit: Audit
    blocks: tuple[Block, ...]
    signature: bytes = b""


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
        sealed: the new `Delegation`, sealed to the authority that the card names.
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
        nonce: 16 random bytes; a recall is answered once.
        image_ids: pseudonyms of the images.
        signature: the owner's Ed25519 signature over the rest.
    """

    collection: str
    epoch: int
    issued: int
    nonce: bytes
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
class Inquiry:
    """Owner to authority: how much did the grants take today?

    Attributes:
        collection: name of the collection.
        epoch: epoch of the collection.
        issued: seconds since 1970.
        nonce: 16 random bytes, to know the answer by.
        signature: the owner's Ed25519 signature over the rest.
    """

    collection: str
    epoch: int
    issued: int
    nonce: bytes
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Use:
    """What one grant took of a day's budget: how much, and not which.

    Attributes:
        grant_id: whose.
        queries: query images answered.
        images: different images opened.
    """

    grant_id: bytes
    queries: int
    images: int


@dataclasses.dataclass(frozen=True)
class Usage:
    """Authority to owner: what the grants took of this day's budgets.

    Attributes:
        nonce: of the inquiry.
        day: days since 1970, UTC.
        uses: of each grant that asked on this day.
        suspended: grants under which a query was asked whose scores were forged; their users are answered no more in
            this epoch.
        signature: the authority's Ed25519 signature over the rest.
    """

    nonce: bytes
    day: int
    uses: tuple[Use, ...]
    suspended: tuple[bytes, ...] = ()
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Any service to whoever asked: why not.

    Attributes:
        code: `code` of a `jcbir.protocol.refusals` error, or of a service's own.
        reason: one sentence without secrets.
        retry_after: seconds after which the same may succeed; 0 where time alone changes nothing.
    """

    code: str
    reason: str
    retry_after: int = 0


@dataclasses.dataclass(frozen=True)
class Sent:
    """One line of a transcript.

    Attributes:
        sender: "owner", "server", "authority" or "user".
        receiver: likewise.
        message: one of the records of this module (or the owner's `Delegation`).
        size: its bytes on the wire; 0 for what is handed over in person.
    """

    sender: str
    receiver: str
    message: Any
    size: int = 0
