"""The owner: makes the keys, publishes encrypted indexes and sealed images, admits and revokes users, turns epochs."""

import dataclasses
import functools
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from jcbir.protocol._digests import digest, index_leaves
from jcbir.protocol._grants import RIGHTS
from jcbir.protocol._handover import Delegation as Delegation, seal_delegation, seal_hint
from jcbir.protocol._merkle import merkle_root
from jcbir.protocol._signatures import KEY_BYTES, check_signature, is_weak, sign, verifying_key
from jcbir.protocol.messages import (
    Admission,
    Appointment,
    Card,
    Catalog,
    Enrollment,
    Grant,
    Head,
    Hint,
    Inquiry,
    Part,
    Publication,
    Recall,
    Revocation,
    SealedImage,
    Succession,
    Usage,
    Use,
    Withdrawal,
)
from jcbir.protocol.refusals import ForgedReplyError
from jcbir.protocol.user import ADMISSION_DOMAIN, scheme_masking_key
from jcbir.ranking._build import build_index, mask_index
from jcbir.ranking._keys import tag_key
from jcbir.ranking._scheme import Layout
from jcbir.ranking._secret_keys import SECRET_KEY_KINDS
from jcbir.ranking._sentinels import count_beside, place_sentinels, sentinel_codes
from jcbir.ranking._table import SCHEMES, plan, schemes_for
from jcbir.sealing import Cipher, Photograph, image_key, open_photographs, seal_photographs, seal_to
from jcbir.typing import Array, Rows

GRANT_ID_BYTES = 16
NONCE_BYTES = 16
MOST_COVER = 1024


@dataclasses.dataclass(frozen=True, repr=False)
class Owner:
    """Everything the owner holds: all master secrets. Its `repr` shows none of them.

    Attributes:
        card: the public face of the collection.
        secret: the secret key.
        image_master: 32 bytes, image keys derive from it.
        masking_key: 32 bytes, the keyed isometries derive from it.
        naming_key: 32 bytes, pseudonyms of images derive from it.
        signing_secret: 32 bytes, Ed25519.
        segments: segments published in this epoch.
        image_ids: pseudonyms published and not withdrawn, in this epoch, and the segment of each.
        revoked: grants revoked in this epoch, in order.
        revocation_serial: number of the last revocation list.
        parts: what each segment is in a head, in order.
        heads: heads signed in this epoch.
    """

    card: Card
    secret: Any
    image_master: bytes
    masking_key: bytes
    naming_key: bytes
    signing_secret: bytes
    segments: int = 0
    image_ids: Mapping[str, int] = dataclasses.field(default_factory=dict)
    revoked: tuple[bytes, ...] = ()
    revocation_serial: int = 0
    parts: tuple[Part, ...] = ()
    heads: int = 0

    def __repr__(self) -> str:
        return f"Owner({self.card.collection!r}, epoch {self.card.epoch}, {self.segments} segments, secrets redacted)"


def create(
    *,
    collection: str,
    bits: int,
    secret: Any,
    cloud_key: bytes,
    authority_key: bytes,
    authority_sealing_key: bytes,
    draw: Callable[[int], bytes],
) -> Owner:
    """Found a collection: draw every master secret beside the key pair.

    Args:
        collection: its name, 1 to 100 characters.
        bits: length of its hash codes, 8 to 512.
        secret: the key pair, from `jcbir.paillier.secret.generate_keys` or another kind's.
        cloud_key: `public` of the server's identity, from `jcbir.protocol.server.make_identity`.
        authority_key: `public` of the authority's identity, from `jcbir.protocol.authority.make_identity`.
        authority_sealing_key: `sealing_key` of the same.
        draw: source of secret bytes, `secrets.token_bytes`.

    Returns:
        The owner's state.

    Raises:
        ValueError: name or code length out of range, or a key that is none.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import generate_keys
        >>> from jcbir.protocol import authority, server
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> cloud = server.make_identity(draw=secrets.token_bytes)
        >>> holder = authority.make_identity(draw=secrets.token_bytes)
        >>> create(
        ...     collection="photos", bits=16, secret=key, cloud_key=cloud.public, authority_key=holder.public,
        ...     authority_sealing_key=holder.sealing_key, draw=secrets.token_bytes,
        ... )
        Owner('photos', epoch 0, 0 segments, secrets redacted)
    """
    if not 1 <= len(collection) <= 100:
        raise ValueError(f"collection: must be a name of 1 to 100 characters, got {len(collection)}")
    if not 8 <= bits <= 512:
        raise ValueError(f"bits: must be 8 to 512, got {bits}")
    _check_services(cloud_key, authority_key, authority_sealing_key)
    signing = draw(KEY_BYTES)
    card = Card(
        collection,
        0,
        bits,
        tag_key(secret.public),
        verifying_key(signing),
        cloud_key,
        authority_key,
        authority_sealing_key,
    )
    return Owner(card, secret, draw(32), draw(32), draw(32), signing)


def delegate(owner: Owner) -> Delegation:
    """Hand the authority what it needs: the key pair and the image master key; not the masking key.

    Args:
        owner: state.

    Returns:
        The delegation: secret.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> delegate(small_system().owner)
        Delegation('photos', epoch 0, secrets redacted)
    """
    return Delegation(owner.card, owner.secret, owner.image_master)


def pseudonym(owner: Owner, name: str) -> str:
    """Name an image so that the name says nothing: `HMAC-SHA256(naming key, epoch, name)`, 32 hexadecimal digits.

    Args:
        owner: state.
        name: the image's name, its path say.

    Returns:
        The pseudonym; another one in every epoch, so that nobody else sees which image became which.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> len(pseudonym(small_system().owner, "photo.png"))
        32
    """
    context = b"jcbir name v2\0" + owner.card.epoch.to_bytes(8) + name.encode()
    return hmac.digest(owner.naming_key, context, "sha256")[:16].hex()


def publish(
    owner: Owner,
    codes: Bool[Array, "n k"],
    photographs: Sequence[Photograph],
    names: Sequence[str],
    *,
    draw: Callable[[int], bytes],
    schemes: Sequence[str] | None = None,
    cipher: Cipher = "lorenz",
    sentinels: bool = True,
    engine: str = "auto",
) -> tuple[Owner, Publication, Catalog]:
    """Publish a segment: mask and encrypt the codes, seal the photographs, in an order that is drawn afresh.

    Among the images are sentinels, by which the authority notices scores that are not those of the query against this
    index: one for ten images or more, in each ciphertext of the scheme that has the fewest lanes, if those are 11. With
    the scheme `integer` alone there are none, for it has one lane a ciphertext.

    Args:
        owner: state.
        codes: bool[n, k] hash codes of the images.
        photographs: what users get: files, and what is said of them.
        names: names of the images, new in this collection; the server sees pseudonyms.
        draw: source of secret bytes, `secrets.token_bytes`.
        schemes: ranking schemes to offer, one encrypted index for each; None is the default one of the key.
        cipher: image cipher, "lorenz" or "aes-gcm".
        sentinels: whether to put sentinels among the images; without, scores are believed.
        engine: arithmetic engine.

    Returns:
        The new state, the publication for the server and the catalog for the authority, which names the images in the
        order of the segment.

    Raises:
        ValueError: no image, lengths differ, a name twice or published before, codes of another length, no such scheme,
            an empty file.

    Example:
        >>> import secrets
        >>> from jcbir.protocol.session import small_system
        >>> codes, photographs = np.zeros((1, 16), bool), [Photograph(b"...", "image/jpeg")]
        >>> state, publication, catalog = publish(
        ...     small_system().owner, codes, photographs, ["d"], draw=secrets.token_bytes
        ... )
        >>> publication.segment, state.segments
        (1, 2)
        >>> len(state.image_ids), len(publication.images), len(catalog.sentinels)
        (4, 2, 1)
    """
    given = [pseudonym(owner, name) for name in names]
    card, segment = owner.card, owner.segments
    schemes = schemes_for(card.public.kind)[:1] if schemes is None else schemes
    _check_batch(owner, codes, photographs, given, schemes)
    lanes = _lanes(card, schemes) if sentinels else ()
    places = place_sentinels(len(given), lanes, draw=draw)
    order = np.full(len(given) + len(places), -1)
    living = np.setdiff1d(np.arange(len(order)), places)
    order[living] = _draw_order(len(given), draw=draw)
    # In a sentinel's place goes what could be a photograph, of the size of one that is drawn.
    models = [int.from_bytes(draw(16)) % len(given) for _ in places]
    image_ids = tuple(draw(16).hex() if place < 0 else given[place] for place in order)
    shown = [photographs[place] for place in order]
    for place, model in zip(places, models, strict=True):
        shown[place] = _blank(photographs[model])
    public, kind = card.public.key, SECRET_KEY_KINDS[card.public.kind]
    encrypt_rows = functools.partial(kind.encrypt, owner.secret, draw=draw, engine=engine)
    indexes = []
    for scheme in schemes:
        layout = plan(public, scheme=scheme, count=len(image_ids), bits=card.bits)
        masking_key = scheme_masking_key(card, scheme=scheme, masking_key=owner.masking_key)
        arranged = np.asarray(codes)[order]
        known = sentinel_codes(layout, masking_key=masking_key)
        # Where a scheme has no sentinels, the place holds the code of an image: a copy changes no rank.
        arranged[places] = known[places % len(known)] if len(known) else np.asarray(codes)[models]
        masked = mask_index(arranged, layout, masking_key=masking_key)
        indexes.append(build_index(masked, layout, encrypt=encrypt_rows, public=public))
    hinted = {index.layout.scheme: index.hint for index in indexes if index.hint is not None}
    wrapped = tuple(seal_hint(card, hint, segment=segment, scheme=scheme) for scheme, hint in hinted.items())
    hints = tuple(Hint(scheme, hashlib.sha256(body).digest()) for scheme, body in zip(hinted, wrapped, strict=True))
    sealed = _seal(owner, shown, image_ids, draw=draw, cipher=cipher)
    hashes = tuple(hashlib.sha256(image.sealed).digest() for image in sealed)
    publication = Publication(card, segment, tuple(index._replace(hint=None) for index in indexes), sealed)
    catalog = Catalog(card.collection, card.epoch, segment, image_ids, hashes, hints, tuple(places.tolist()))
    published = {**owner.image_ids, **dict.fromkeys(given, segment)}
    root = merkle_root(index_leaves(publication.indexes))
    part = Part(len(image_ids), tuple(schemes), root, hashlib.sha256(b"".join(hashes)).digest())
    state = dataclasses.replace(owner, segments=segment + 1, image_ids=published, parts=(*owner.parts, part))
    catalog = dataclasses.replace(sign(catalog, secret=owner.signing_secret), wrapped=wrapped)
    return state, sign(publication, secret=owner.signing_secret), catalog


def head(owner: Owner, *, now: int) -> tuple[Owner, Head]:
    """Sign what is published, after each publication or withdrawal: by it a user notices a server that went back.

    Args:
        owner: state.
        now: seconds since 1970.

    Returns:
        The new state and the head, for server and authority.

    Example:
        >>> from jcbir.protocol.session import NOW, small_system
        >>> state, signed = head(small_system().owner, now=NOW)
        >>> signed.counter, len(signed.parts), head(state, now=NOW)[1].counter
        (1, 1, 2)
    """
    state = dataclasses.replace(owner, heads=owner.heads + 1)
    signed = Head(owner.card.collection, owner.card.epoch, state.heads, now, owner.parts)
    return state, sign(signed, secret=owner.signing_secret)


def segment_capacity(owner: Owner, positions: int, *, schemes: Sequence[str]) -> int:
    """Count the images of a segment that takes so many positions of an index, its sentinels among them.

    Args:
        owner: state.
        positions: lanes of a whole number of ciphertexts, say.
        schemes: ranking schemes to offer.

    Returns:
        Their number.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> segment_capacity(small_system().owner, 100, schemes=["packed", "integer"])
        95
    """
    return count_beside(positions, _lanes(owner.card, schemes))


def blinder_pool(owner: Owner, count: int, *, draw: Callable[[int], bytes], engine: str = "auto") -> Rows:
    """Make blinders for the server with the secret key, many times faster than the server could.

    Args:
        owner: state.
        count: how many.
        draw: source of secret bytes, `secrets.token_bytes`.
        engine: arithmetic engine.

    Returns:
        uint8[count, w] fresh encryptions of zero. The owner knows them: they hide the server's sums from anybody else.

    Example:
        >>> import secrets
        >>> from jcbir.protocol.session import small_system
        >>> blinder_pool(small_system().owner, 2, draw=secrets.token_bytes).shape
        (2, 64)
    """
    kind = SECRET_KEY_KINDS[owner.card.public.kind]
    return kind.blinders(owner.secret, count, draw=draw, engine=engine)


def admit(
    owner: Owner,
    enrollment: Enrollment,
    *,
    now: int,
    draw: Callable[[int], bytes],
    lifetime: int = 30 * 86400,
    rights: Sequence[str] = RIGHTS,
    max_results: int = 100,
    queries_per_day: int = 200,
    images_per_day: int = 500,
    cover: int = 1,
) -> tuple[Owner, Admission]:
    """Admit a user: sign a grant, seal the masking key to the user.

    Args:
        owner: state.
        enrollment: the user's public keys.
        now: seconds since 1970.
        draw: source of random bytes, `secrets.token_bytes`.
        lifetime: seconds the grant is good for.
        rights: subset of `("rank", "open")`.
        max_results: most results per query image.
        queries_per_day: most query images that are answered on one day (UTC).
        images_per_day: most different images that are opened on one day (UTC).
        cover: images of a bucket, 1 to 1024: for each result the server hands over its bucket, and cannot tell which
            of them it was. Answers are so many times longer.

    Returns:
        The state and the admission for the user.

    Raises:
        ForgedReplyError: the enrollment is not signed by its own key.
        ValueError: no such right, or lifetime, number of results or a budget below 1.

    Example:
        >>> import secrets
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> admit(system.owner, system.enrollment, now=NOW, draw=secrets.token_bytes)[1].grant.rights
        ('rank', 'open')
    """
    check_signature(enrollment, public=enrollment.signing_key)
    if not set(rights) <= set(RIGHTS):
        raise ValueError(f"rights: must be a subset of {RIGHTS}, got {tuple(rights)}")
    limits = {
        "lifetime": lifetime,
        "max_results": max_results,
        "queries_per_day": queries_per_day,
        "images_per_day": images_per_day,
        "cover": cover,
    }
    for name, limit in limits.items():
        if limit < 1:
            raise ValueError(f"{name}: must be at least 1, got {limit}")
    if cover > MOST_COVER:
        raise ValueError(f"cover: must be at most {MOST_COVER}, got {cover}")
    grant = Grant(
        grant_id=draw(GRANT_ID_BYTES),
        collection=owner.card.collection,
        epoch=owner.card.epoch,
        sealing_key=enrollment.sealing_key,
        signing_key=enrollment.signing_key,
        rights=tuple(rights),
        max_results=max_results,
        queries_per_day=queries_per_day,
        images_per_day=images_per_day,
        cover=cover,
        issued=now,
        expires=now + lifetime,
    )
    grant = sign(grant, secret=owner.signing_secret)
    info = digest((owner.card, grant), domain=ADMISSION_DOMAIN)
    sealed_mask = seal_to(grant.sealing_key, owner.masking_key, info=info, aad=b"")
    return owner, sign(Admission(owner.card, grant, sealed_mask), secret=owner.signing_secret)


def revoke(owner: Owner, grant_ids: Sequence[bytes]) -> tuple[Owner, Revocation]:
    """Revoke grants. It ends future answers; image keys a user has, and the masking key, only `rekey` takes back.

    Args:
        owner: state.
        grant_ids: identifiers of the grants.

    Returns:
        The new state and the full list, for authority and server.

    Raises:
        ValueError: an identifier is not 16 bytes long.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> revoke(system.owner, [system.admission.grant.grant_id])[1].serial
        1
    """
    if any(len(grant_id) != GRANT_ID_BYTES for grant_id in grant_ids):
        raise ValueError(f"grant_ids: must have {GRANT_ID_BYTES} bytes each, got {sorted({*map(len, grant_ids)})}")
    revoked = tuple(dict.fromkeys((*owner.revoked, *grant_ids)))
    state = dataclasses.replace(owner, revoked=revoked, revocation_serial=owner.revocation_serial + 1)
    revocation = Revocation(owner.card.collection, owner.card.epoch, state.revocation_serial, revoked)
    return state, sign(revocation, secret=owner.signing_secret)


def withdraw(owner: Owner, names: Sequence[str]) -> tuple[Owner, Withdrawal]:
    """Withdraw images from the collection.

    Args:
        owner: state.
        names: names of the images.

    Returns:
        The new state and the withdrawal, for server and authority.

    Raises:
        ValueError: a name is not published.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> state, _ = withdraw(small_system().owner, ["a"])
        >>> len(state.image_ids)
        2
    """
    image_ids = tuple(pseudonym(owner, name) for name in names)
    unknown = [name for name, image_id in zip(names, image_ids, strict=True) if image_id not in owner.image_ids]
    if unknown:
        raise ValueError(f"names: must be published, got {len(unknown)} that are not, the first is {unknown[0]!r}")
    left = {image_id: segment for image_id, segment in owner.image_ids.items() if image_id not in set(image_ids)}
    state = dataclasses.replace(owner, image_ids=left)
    withdrawal = Withdrawal(owner.card.collection, owner.card.epoch, owner.segments, image_ids)
    return state, sign(withdrawal, secret=owner.signing_secret)


def rekey(
    owner: Owner,
    *,
    draw: Callable[[int], bytes],
    secret: Any | None = None,
    cloud_key: bytes | None = None,
    authority_key: bytes | None = None,
    authority_sealing_key: bytes | None = None,
) -> Owner:
    """Open a new epoch: new image master and masking keys, a new key pair if given or needed, nothing published.

    All grants end. `announce` tells the others; then publish again, from the photographs or from what `recall` brings
    and `unseal` opens. Pseudonyms are others than before.

    Args:
        owner: state.
        draw: source of secret bytes, `secrets.token_bytes`.
        secret: a new key pair; without it the old one stays, or is drawn anew where a kind of keys serves one epoch.
        cloud_key: of another server; without it the old one stays.
        authority_key: of another authority; without it the old one stays. It gets the delegation by hand.
        authority_sealing_key: of the same.

    Returns:
        The state of the new epoch.

    Raises:
        ValueError: a key that is none.

    Example:
        >>> import secrets
        >>> from jcbir.protocol.session import small_system
        >>> rekey(small_system().owner, draw=secrets.token_bytes)
        Owner('photos', epoch 1, 0 segments, secrets redacted)
    """
    renew = SECRET_KEY_KINDS[owner.card.public.kind].renew
    pair = secret or (owner.secret if renew is None else renew(owner.secret, draw=draw))
    old = owner.card
    card = dataclasses.replace(
        old,
        epoch=old.epoch + 1,
        public=tag_key(pair.public),
        cloud_key=old.cloud_key if cloud_key is None else cloud_key,
        authority_key=old.authority_key if authority_key is None else authority_key,
        authority_sealing_key=old.authority_sealing_key if authority_sealing_key is None else authority_sealing_key,
    )
    _check_services(card.cloud_key, card.authority_key, card.authority_sealing_key)
    return Owner(card, pair, draw(32), draw(32), owner.naming_key, owner.signing_secret)


def announce(owner: Owner) -> tuple[Succession, Appointment]:
    """Tell server and authority that the owner's epoch begins.

    Args:
        owner: the state that `rekey` made.

    Returns:
        The message for the server, and the one for the authority, which holds the new delegation sealed to it.

    Example:
        >>> import secrets
        >>> from jcbir.protocol import authority
        >>> from jcbir.protocol.session import small_system
        >>> system = small_system()
        >>> _, appointment = announce(rekey(system.owner, draw=secrets.token_bytes))
        >>> authority.succeed(system.authority, appointment)
        Authority('photos', epoch 1, 0 segments, redacted)
    """
    appointment = Appointment(owner.card, seal_delegation(delegate(owner)))
    return sign(Succession(owner.card), secret=owner.signing_secret), sign(appointment, secret=owner.signing_secret)


def recall(owner: Owner, image_ids: Sequence[str], *, now: int, draw: Callable[[int], bytes]) -> Recall:
    """Ask the server for sealed images.

    Args:
        owner: state.
        image_ids: their pseudonyms.
        now: seconds since 1970.
        draw: source of random bytes, `secrets.token_bytes`.

    Returns:
        The message for the server; it answers with the first of them.

    Example:
        >>> import secrets
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> len(recall(system.owner, system.catalog.image_ids, now=NOW, draw=secrets.token_bytes).image_ids)
        3
    """
    message = Recall(owner.card.collection, owner.card.epoch, now, draw(NONCE_BYTES), tuple(image_ids))
    return sign(message, secret=owner.signing_secret)


def inquire(owner: Owner, *, now: int, draw: Callable[[int], bytes]) -> Inquiry:
    """Ask the authority how much the grants took today.

    Args:
        owner: state.
        now: seconds since 1970.
        draw: source of random bytes, `secrets.token_bytes`.

    Returns:
        The message for the authority.

    Example:
        >>> import secrets
        >>> from jcbir.protocol.session import NOW, small_system
        >>> len(inquire(small_system().owner, now=NOW, draw=secrets.token_bytes).nonce)
        16
    """
    message = Inquiry(owner.card.collection, owner.card.epoch, now, draw(NONCE_BYTES))
    return sign(message, secret=owner.signing_secret)


def check_usage(owner: Owner, inquiry: Inquiry, usage: Usage) -> dict[bytes, Use]:
    """Take the authority's answer to an inquiry.

    Args:
        owner: state.
        inquiry: what was asked.
        usage: the answer.

    Returns:
        Grant to what it took today; of one that did not ask today there is none.

    Raises:
        ForgedReplyError: the authority did not sign it, or it answers another inquiry.

    Example:
        >>> import secrets
        >>> from jcbir.protocol import authority
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> asked = inquire(system.owner, now=NOW, draw=secrets.token_bytes)
        >>> check_usage(system.owner, asked, authority.usage(system.authority, asked, now=NOW))
        {}
    """
    check_signature(usage, public=owner.card.authority_key, refusal=ForgedReplyError)
    if usage.nonce != inquiry.nonce:
        raise ForgedReplyError(f"usage: answers inquiry {usage.nonce.hex()}, this is {inquiry.nonce.hex()}")
    return {use.grant_id: use for use in usage.uses}


def unseal(owner: Owner, images: Sequence[SealedImage]) -> list[Photograph]:
    """Open sealed images of the owner's own.

    Args:
        owner: state of the epoch they were sealed in.
        images: the sealed images, published and not withdrawn.

    Returns:
        The photographs, in order.

    Raises:
        ValueError: an image is not published.
        IntegrityError: altered, or not sealed in this epoch.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> photographs = unseal(small_system().owner, small_system().publication.images)
        >>> sorted(each.name for each in photographs)
        ['a.jpg', 'b.jpg', 'c.jpg']
    """
    image_ids = [image.image_id for image in images]
    unknown = sum(image_id not in owner.image_ids for image_id in image_ids)
    if unknown:
        raise ValueError(f"images: must be published, got {unknown} that are not")
    keys = [_image_key(owner, image_id, owner.image_ids[image_id]) for image_id in image_ids]
    return open_photographs([image.sealed for image in images], keys=keys, image_ids=image_ids)


def _image_key(owner: Owner, image_id: str, segment: int) -> bytes:
    return image_key(owner.image_master, image_id=image_id, epoch=owner.card.epoch, segment=segment)


def _seal(
    owner: Owner,
    photographs: Sequence[Photograph],
    image_ids: Sequence[str],
    *,
    draw: Callable[[int], bytes],
    cipher: Cipher,
) -> tuple[SealedImage, ...]:
    """The photographs of the next segment."""
    keys = [_image_key(owner, image_id, owner.segments) for image_id in image_ids]
    nonces = [draw(NONCE_BYTES) for _ in image_ids]
    sealed = seal_photographs(photographs, keys=keys, nonces=nonces, image_ids=image_ids, cipher=cipher)
    return tuple(map(SealedImage, image_ids, sealed))


def _blank(model: Photograph) -> Photograph:
    """A photograph that shows nothing, as long as another one."""
    texts = sum(len(text.encode()) for text in model[1:])
    return Photograph(bytes(len(model.data) + texts), "")


def _lanes(card: Card, schemes: Sequence[str]) -> tuple[Layout, ...]:
    return tuple(plan(card.public.key, scheme=scheme, count=1, bits=card.bits) for scheme in schemes)


def _draw_order(count: int, *, draw: Callable[[int], bytes]) -> list[int]:
    """A uniformly random order: that of random 128-bit numbers, no two of which are equal."""
    numbers = draw(16 * count)
    return sorted(range(count), key=lambda place: numbers[16 * place : 16 * place + 16])


def _check_services(cloud_key: bytes, authority_key: bytes, authority_sealing_key: bytes) -> None:
    for name, key in (("cloud_key", cloud_key), ("authority_key", authority_key)):
        if is_weak(key):
            raise ValueError(f"{name}: must be an Ed25519 key of full order, got {key.hex()}")
    if len(authority_sealing_key) != KEY_BYTES:
        raise ValueError(f"authority_sealing_key: must be {KEY_BYTES} bytes, got {len(authority_sealing_key)}")


def _check_batch(
    owner: Owner, codes: Array, photographs: Sequence[Photograph], image_ids: Sequence[str], schemes: Sequence[str]
) -> None:
    if not len(codes) == len(photographs) == len(image_ids) > 0:
        raise ValueError(
            f"codes, photographs and names: must be one of each per image, got {len(codes)}, {len(photographs)} and "
            f"{len(image_ids)}"
        )
    if len(set(image_ids)) != len(image_ids):
        raise ValueError(f"names: must differ, got {len(image_ids) - len(set(image_ids))} twice")
    again = owner.image_ids.keys() & set(image_ids)
    if again:
        raise ValueError(f"names: must be new, got {len(again)} of {len(image_ids)} that are published already")
    if not schemes or not set(schemes) <= set(SCHEMES) or len(set(schemes)) != len(schemes):
        raise ValueError(f"schemes: must be different ones of {', '.join(SCHEMES)}, got {tuple(schemes)}")
    if codes.shape[1] != owner.card.bits:
        raise ValueError(f"codes: must have {owner.card.bits} bits in this collection, got {codes.shape[1]}")
