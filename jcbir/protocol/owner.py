"""The owner: makes the keys, publishes encrypted indexes and sealed images, admits and revokes users."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, UInt8

from jcbir.paillier.secret import SecretKey, encrypt
from jcbir.protocol._digests import digest
from jcbir.protocol._signatures import KEY_BYTES, check_signature, sign, verifying_key
from jcbir.protocol.grants import RIGHTS
from jcbir.protocol.holdings import Delegation, Owner, Picture, create, delegate, pseudonym, seal_images
from jcbir.protocol.messages import (
    SCHEMES,
    Admission,
    Catalogue,
    Enrollment,
    Grant,
    Publication,
    Recall,
    Revocation,
    SealedImage,
    Withdrawal,
)
from jcbir.protocol.user import masked_codes
from jcbir.ranking._build import build_index
from jcbir.ranking._table import plan
from jcbir.sealing import Cipher, image_key, open_batch, seal_to
from jcbir.typing import Array

GRANT_ID_BYTES = 16
ADMISSION_DOMAIN = "jcbir admission v1"


def publish(
    owner: Owner,
    codes: Bool[Array, "n k"],
    images: Sequence[Picture],
    names: Sequence[str],
    *,
    draw: Callable[[int], bytes],
    schemes: Sequence[str] = ("packed",),
    cipher: Cipher = "lorenz",
    engine: str = "auto",
) -> tuple[Owner, Publication, Catalogue]:
    """Publish a segment: mask and encrypt the codes, seal the images.

    Args:
        owner: state.
        codes: bool[n, k] hash codes of the images.
        images: uint8[h, w, c] each, of any sizes.
        names: names of the images, new in this collection; the server sees pseudonyms.
        draw: source of secret bytes, `secrets.token_bytes`.
        schemes: ranking schemes to offer, one encrypted index for each.
        cipher: image cipher, "lorenz" or "aes-gcm".
        engine: arithmetic engine.

    Returns:
        The new state, the publication for the server and the catalogue for the authority.

    Raises:
        ValueError: no image, lengths differ, a name twice or published before, codes of another length, no such scheme.

    Example:
        >>> import secrets
        >>> from jcbir.protocol.session import small_system
        >>> codes, images = np.zeros((1, 16), bool), [np.zeros((2, 2, 3), np.uint8)]
        >>> state, publication, _ = publish(small_system().owner, codes, images, ["d"], draw=secrets.token_bytes)
        >>> publication.segment, state.segments
        (1, 2)
    """
    image_ids = tuple(pseudonym(owner, name) for name in names)
    _check_batch(owner, codes, images, image_ids, schemes)

    encrypt_rows = functools.partial(encrypt, owner.secret, draw=draw, engine=engine)
    indexes = []
    for scheme in schemes:
        layout = plan(owner.card.public, scheme=scheme, count=len(image_ids), bits=owner.card.bits)
        masked = masked_codes(codes, card=owner.card, scheme=scheme, masking_key=owner.masking_key)
        indexes.append(build_index(masked, layout, encrypt=encrypt_rows, public=owner.card.public))
    sealed = seal_images(owner, images, image_ids, draw=draw, cipher=cipher)
    publication = Publication(owner.card, owner.segments, tuple(indexes), sealed)
    catalogue = Catalogue(owner.card.collection, owner.card.epoch, owner.segments, image_ids)
    state = dataclasses.replace(owner, segments=owner.segments + 1, image_ids=owner.image_ids | set(image_ids))
    return state, sign(publication, secret=owner.signing_secret), sign(catalogue, secret=owner.signing_secret)


def admit(
    owner: Owner,
    enrollment: Enrollment,
    *,
    now: int,
    draw: Callable[[int], bytes],
    lifetime: int = 30 * 86400,
    rights: Sequence[str] = RIGHTS,
    max_results: int = 100,
) -> tuple[Owner, Admission]:
    """Admit a user: sign a grant, seal the masking key to the user.

    Args:
        owner: state.
        enrollment: the user's public keys.
        now: seconds since 1970.
        draw: source of random bytes, `secrets.token_bytes`.
        lifetime: seconds the grant is good for.
        rights: subset of `("rank", "open")`.
        max_results: most results per query.

    Returns:
        The state and the admission for the user.

    Raises:
        ForgedReplyError: the enrollment is not signed by its own key.
        ValueError: no such right, lifetime or number of results below 1.

    Example:
        >>> import secrets
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> admit(system.owner, system.enrollment, now=NOW, draw=secrets.token_bytes)[1].grant.rights
        ('rank', 'open')
    """
    check_signature(enrollment, public=enrollment.signing_key)
    if not set(rights) <= set(RIGHTS):
        raise ValueError(f"rights: a subset of {RIGHTS}, got {tuple(rights)}")
    if lifetime < 1 or max_results < 1:
        raise ValueError(f"lifetime and max_results: at least 1, got {lifetime} and {max_results}")
    grant = Grant(
        grant_id=draw(GRANT_ID_BYTES),
        collection=owner.card.collection,
        epoch=owner.card.epoch,
        sealing_key=enrollment.sealing_key,
        signing_key=enrollment.signing_key,
        rights=tuple(rights),
        max_results=max_results,
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
        raise ValueError(f"grant_ids: identifiers have {GRANT_ID_BYTES} bytes")
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
        raise ValueError(f"names: {len(unknown)} are not published, the first is {unknown[0]!r}")
    state = dataclasses.replace(owner, image_ids=owner.image_ids - set(image_ids))
    withdrawal = Withdrawal(owner.card.collection, owner.card.epoch, owner.segments, image_ids)
    return state, sign(withdrawal, secret=owner.signing_secret)


def rekey(owner: Owner, *, draw: Callable[[int], bytes], secret: SecretKey | None = None) -> Owner:
    """Open a new epoch: new image master, masking and authority keys, a new Paillier key if given, nothing published.

    All grants end. `jcbir.protocol.handover.announce` tells the others; then publish again, from the photographs or
    from what `recall` brings and `unseal` opens.

    Args:
        owner: state.
        draw: source of secret bytes, `secrets.token_bytes`.
        secret: a new Paillier key pair; without it the old one stays.

    Returns:
        The state of the new epoch.

    Example:
        >>> import secrets
        >>> from jcbir.protocol.session import small_system
        >>> rekey(small_system().owner, draw=secrets.token_bytes)
        Owner('photos', epoch 1, 0 segments, secrets redacted)
    """
    pair = owner.secret if secret is None else secret
    authority = draw(KEY_BYTES)
    card = dataclasses.replace(
        owner.card, epoch=owner.card.epoch + 1, public=pair.public, authority_key=verifying_key(authority)
    )
    return Owner(card, pair, draw(32), draw(32), owner.naming_key, owner.signing_secret, authority)


def recall(owner: Owner, image_ids: Sequence[str], *, now: int) -> Recall:
    """Ask the server for sealed images.

    Args:
        owner: state.
        image_ids: their pseudonyms.
        now: seconds since 1970.

    Returns:
        The message for the server; it answers with the first of them.

    Example:
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> len(recall(system.owner, system.catalogue.image_ids, now=NOW).image_ids)
        3
    """
    card = owner.card
    return sign(Recall(card.collection, card.epoch, now, tuple(image_ids)), secret=owner.signing_secret)


def unseal(owner: Owner, images: Sequence[SealedImage]) -> list[UInt8[np.ndarray, "_ _ _"]]:
    """Open sealed images of the owner's own.

    Args:
        owner: state of the epoch they were sealed in.
        images: the sealed images.

    Returns:
        uint8[h, w, c] each, in order.

    Raises:
        IntegrityError: altered, or not sealed in this epoch.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> [image[0, 0].tolist() for image in unseal(small_system().owner, small_system().publication.images[:2])]
        [[10, 10, 10], [20, 20, 20]]
    """
    image_ids = [image.image_id for image in images]
    image_keys = [image_key(owner.image_master, image_id=image_id) for image_id in image_ids]
    return open_batch([image.sealed for image in images], keys=image_keys, image_ids=image_ids)


def _check_batch(
    owner: Owner, codes: Array, images: Sequence[Picture], image_ids: tuple[str, ...], schemes: Sequence[str]
) -> None:
    if not len(codes) == len(images) == len(image_ids) > 0:
        raise ValueError(
            f"codes, images and names: one of each per image, got {len(codes)}, {len(images)} and {len(image_ids)}"
        )
    if len(set(image_ids)) != len(image_ids):
        raise ValueError("names: a name appears twice")
    again = owner.image_ids & set(image_ids)
    if again:
        raise ValueError(f"names: {len(again)} of {len(image_ids)} are published already")
    if not schemes or not set(schemes) <= set(SCHEMES) or len(set(schemes)) != len(schemes):
        raise ValueError(f"schemes: expected different ones of {tuple(SCHEMES)}, got {tuple(schemes)}")


__all__ = [
    "Delegation",
    "Owner",
    "admit",
    "create",
    "delegate",
    "pseudonym",
    "publish",
    "recall",
    "rekey",
    "revoke",
    "unseal",
    "withdraw",
]
