"""A collection turns to its next epoch: what server and authority check, and what the server does. Free of secrets.

Epochs follow one another by the owner's signed word alone, one at a time, and never go back.
"""

from jcbir.protocol._signatures import check_signature
from jcbir.protocol.grants import WINDOW_SECONDS
from jcbir.protocol.messages import Appointment, Card, Recall, Recalled, SealedImage, Succession
from jcbir.protocol.refusals import ForeignCollectionError, ForgedReplyError, StaleQueryError
from jcbir.protocol.server import Server


def same_collection(first: Card, second: Card) -> bool:
    """Tell whether two cards are of one collection, in whatever epochs.

    Args:
        first: a card.
        second: a card.

    Returns:
        Whether name, owner and code length are the same.

    Example:
        >>> import dataclasses
        >>> from jcbir.paillier.public import PublicKey
        >>> card = Card("photos", 0, 8, PublicKey(n=35, g=36), bytes(32), bytes(32))
        >>> same_collection(card, dataclasses.replace(card, epoch=1))
        True
    """
    return (first.collection, first.owner_key, first.bits) == (second.collection, second.owner_key, second.bits)


def check_successor(card: Card, message: Succession | Appointment) -> bool:
    """Decide whether a message opens the epoch after this one.

    Args:
        card: the collection as it is now.
        message: from the owner.

    Returns:
        True if it does, False if the epoch it speaks of is open already (a repeated message).

    Raises:
        ForgedReplyError: the owner did not sign it.
        ForeignCollectionError: another collection or owner, another code length, or not the very next epoch.
        StaleQueryError: of an epoch that is over.

    Example:
        >>> import dataclasses
        >>> from jcbir.paillier.public import PublicKey
        >>> from jcbir.protocol._signatures import sign, verifying_key
        >>> card = Card("photos", 0, 8, PublicKey(n=35, g=36), verifying_key(bytes(32)), bytes(32))
        >>> following = sign(Succession(dataclasses.replace(card, epoch=1)), secret=bytes(32))
        >>> check_successor(card, following), check_successor(following.card, following)
        (True, False)
    """
    check_signature(message, public=card.owner_key, refusal=ForgedReplyError)
    following = message.card
    if not same_collection(following, card):
        raise ForeignCollectionError(f"message for {following.collection!r}, this is {card.collection!r}")
    if following == card:
        return False
    if following.epoch <= card.epoch:
        raise StaleQueryError(f"message opens epoch {following.epoch}, the collection is in epoch {card.epoch}")
    if following.epoch != card.epoch + 1:
        raise ForeignCollectionError(f"message opens epoch {following.epoch}, the next one here is {card.epoch + 1}")
    return True


def succeed(server: Server, succession: Succession) -> Server:
    """Turn to the next epoch: nothing published, nothing revoked; grants of the old one are refused from now on.

    Args:
        server: state.
        succession: from the owner.

    Returns:
        The state of the new epoch; the old one for a repeated message.

    Raises:
        RefusalError: see `check_successor`.

    Example:
        >>> import dataclasses
        >>> from jcbir.paillier.public import PublicKey
        >>> from jcbir.protocol._signatures import sign, verifying_key
        >>> card = Card("photos", 0, 8, PublicKey(n=35, g=36), verifying_key(bytes(32)), bytes(32))
        >>> following = sign(Succession(dataclasses.replace(card, epoch=1)), secret=bytes(32))
        >>> succeed(Server(card, revocation_serial=3), following).revocation_serial
        0
    """
    return Server(succession.card) if check_successor(server.card, succession) else server


def recall(server: Server, message: Recall, *, now: int, most_bytes: int) -> Recalled:
    """Hand sealed images back to the owner, the first that fit; the owner asks again for the rest.

    Args:
        server: state.
        message: from the owner.
        now: seconds since 1970.
        most_bytes: of all images together; one image goes whatever its size.

    Returns:
        The images.

    Raises:
        ForeignCollectionError: another collection or epoch.
        ForgedReplyError: the owner did not sign it.
        StaleQueryError: issued too long ago, or in the future.
        ValueError: an image is not here.

    Example:
        >>> from jcbir.paillier.public import PublicKey
        >>> from jcbir.protocol._signatures import sign, verifying_key
        >>> card = Card("photos", 0, 8, PublicKey(n=35, g=36), verifying_key(bytes(32)), bytes(32))
        >>> held = Server(card, images={"a": b"sealed", "b": b"sealed too"})
        >>> asked = sign(Recall("photos", 0, 1000, ("a", "b")), secret=bytes(32))
        >>> [image.image_id for image in recall(held, asked, now=1000, most_bytes=10).images]
        ['a']
    """
    if (message.collection, message.epoch) != (server.card.collection, server.card.epoch):
        raise ForeignCollectionError(
            f"recall: for {message.collection!r} epoch {message.epoch}, "
            f"this is {server.card.collection!r} epoch {server.card.epoch}"
        )
    check_signature(message, public=server.card.owner_key, refusal=ForgedReplyError)
    if abs(now - message.issued) > WINDOW_SECONDS:
        raise StaleQueryError(f"recall: issued at {message.issued}, it is {now}; at most {WINDOW_SECONDS} s apart")
    missing = sum(image_id not in server.images for image_id in message.image_ids)
    if missing:
        raise ValueError(f"recall: {missing} of {len(message.image_ids)} images are not here")
    images: list[SealedImage] = []
    size = 0
    for image_id in message.image_ids:
        sealed = server.images[image_id]
        size += len(sealed)
        if images and size > most_bytes:
            break
        images.append(SealedImage(image_id, sealed))
    return Recalled(tuple(images))


__all__ = ["check_successor", "recall", "same_collection", "succeed"]
