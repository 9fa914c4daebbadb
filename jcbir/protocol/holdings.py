"""What the owner holds, and what the authority gets of it: all master secrets, and what derives from them."""

import dataclasses
import hmac
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

from jcbir.paillier.secret import SecretKey
from jcbir.protocol._signatures import KEY_BYTES, verifying_key
from jcbir.protocol.messages import Card, SealedImage
from jcbir.sealing import Cipher, image_key, seal_batch
from jcbir.typing import Array

# Images of one call may differ in size, so their axes have no names.
Picture = UInt8[Array, "_ _ _"]

NONCE_BYTES = 16
SEAL_BATCH = 256


@dataclasses.dataclass(frozen=True, repr=False)
class Owner:
    """Everything the owner holds: all master secrets. Its `repr` shows none of them.

    Attributes:
        card: the public face of the collection.
        secret: Paillier secret key.
        image_master: 32 bytes, image keys derive from it.
        masking_key: 32 bytes, the keyed isometries derive from it.
        naming_key: 32 bytes, pseudonyms of images derive from it.
        signing_secret: 32 bytes, Ed25519.
        authority_secret: 32 bytes, Ed25519 of the authority.
        segments: segments published in this epoch.
        image_ids: pseudonyms published and not withdrawn, in this epoch.
        revoked: grants revoked in this epoch, in order.
        revocation_serial: number of the last revocation list.
    """

    card: Card
    secret: SecretKey
    image_master: bytes
    masking_key: bytes
    naming_key: bytes
    signing_secret: bytes
    authority_secret: bytes
    segments: int = 0
    image_ids: frozenset[str] = frozenset()
    revoked: tuple[bytes, ...] = ()
    revocation_serial: int = 0

    def __repr__(self) -> str:
        return f"Owner({self.card.collection!r}, epoch {self.card.epoch}, {self.segments} segments, secrets redacted)"


@dataclasses.dataclass(frozen=True, repr=False)
class Delegation:
    """Owner to authority, over a channel nobody else reads: what the authority needs to answer queries. Secret.

    Attributes:
        card: the collection.
        secret: Paillier secret key.
        image_master: 32 bytes, image keys derive from it.
        authority_secret: 32 bytes, Ed25519 key that rankings are signed with.
    """

    card: Card
    secret: SecretKey
    image_master: bytes
    authority_secret: bytes

    def __repr__(self) -> str:
        return f"Delegation({self.card.collection!r}, epoch {self.card.epoch}, secrets redacted)"


def create(*, collection: str, bits: int, secret: SecretKey, draw: Callable[[int], bytes]) -> Owner:
    """Found a collection: draw every master secret beside the Paillier key.

    Args:
        collection: its name, 1 to 100 characters.
        bits: length of its hash codes, 8 to 512.
        secret: the Paillier key pair, from `jcbir.paillier.secret.generate_keys`.
        draw: source of secret bytes, `secrets.token_bytes`.

    Returns:
        The owner's state.

    Raises:
        ValueError: name or code length out of range.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> create(collection="photos", bits=16, secret=key, draw=secrets.token_bytes)
        Owner('photos', epoch 0, 0 segments, secrets redacted)
    """
    if not 1 <= len(collection) <= 100:
        raise ValueError(f"collection: a name of 1 to 100 characters, got {len(collection)}")
    if not 8 <= bits <= 512:
        raise ValueError(f"bits: expected 8 to 512, got {bits}")
    signing, authority = draw(KEY_BYTES), draw(KEY_BYTES)
    card = Card(collection, 0, bits, secret.public, verifying_key(signing), verifying_key(authority))
    return Owner(card, secret, draw(32), draw(32), draw(32), signing, authority)


def delegate(owner: Owner) -> Delegation:
    """Hand the authority what it needs: the Paillier key, the image master key, its signing key; not the masking key.

    Args:
        owner: state.

    Returns:
        The delegation: secret.

    Example:
        >>> import jcbir.protocol.holdings as owner
        >>> [field.name for field in dataclasses.fields(owner.Delegation)]
        ['card', 'secret', 'image_master', 'authority_secret']
    """
    return Delegation(owner.card, owner.secret, owner.image_master, owner.authority_secret)


def pseudonym(owner: Owner, name: str) -> str:
    """Name an image so that the name says nothing: `HMAC-SHA256(naming key, name)`, 32 hexadecimal digits.

    Args:
        owner: state.
        name: the image's name, its path say.

    Returns:
        The pseudonym; the same in every epoch.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> own = create(collection="photos", bits=16, secret=key, draw=secrets.token_bytes)
        >>> len(pseudonym(own, "photo.png"))
        32
    """
    return hmac.digest(owner.naming_key, b"jcbir name v1\0" + name.encode(), "sha256")[:16].hex()


def seal_images(
    owner: Owner, images: Sequence[Picture], image_ids: Sequence[str], *, draw: Callable[[int], bytes], cipher: Cipher
) -> tuple[SealedImage, ...]:
    """Seal images, those of one shape together: the cipher's arrays pay off in batches.

    Args:
        owner: state; its image master key gives each image its key.
        images: uint8[h, w, c] each, of any sizes.
        image_ids: their pseudonyms.
        draw: source of random bytes, `secrets.token_bytes`.
        cipher: image cipher, "lorenz" or "aes-gcm".

    Returns:
        The sealed images, in order.

    Example:
        >>> import jcbir.protocol.holdings as holdings
        >>> holdings.SEAL_BATCH
        256
    """
    groups: dict[tuple, list[int]] = {}
    for place, image in enumerate(images):
        groups.setdefault(np.shape(image), []).append(place)
    sealed: dict[int, bytes] = {}
    for places in groups.values():
        for start in range(0, len(places), SEAL_BATCH):
            batch = places[start : start + SEAL_BATCH]
            bodies = seal_batch(
                np.stack([np.asarray(images[place]) for place in batch]),
                keys=[image_key(owner.image_master, image_id=image_ids[place]) for place in batch],
                nonces=[draw(NONCE_BYTES) for _ in batch],
                image_ids=[image_ids[place] for place in batch],
                cipher=cipher,
            )
            sealed.update(zip(batch, bodies, strict=True))
    return tuple(SealedImage(image_id, sealed[place]) for place, image_id in enumerate(image_ids))


__all__ = ["Delegation", "Owner", "Picture", "create", "delegate", "pseudonym", "seal_images"]
