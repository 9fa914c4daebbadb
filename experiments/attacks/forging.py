"""Pictures that the owner did not publish, and signatures that nobody made."""

import dataclasses
import secrets

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from experiments.attacks.parties import refuses
from jcbir.errors import IntegrityError
from jcbir.protocol import authority, owner, server, session, user
from jcbir.protocol._signatures import check_signature
from jcbir.protocol.messages import Delivery, Enrollment, SealedImage
from jcbir.protocol.refusals import ForgedReplyError
from jcbir.protocol.session import NOW
from jcbir.sealing import image_key, open_sealed, seal


def forged_picture(*, trials: int) -> dict[str, float]:
    """Whoever once opened an image has its key, seals another picture under it, and the cloud serves that.

    Before: a user who takes what opens under the key.

    Returns:
        Share of the forgeries that another user shows without an error.
    """
    system = session.small_system()
    image_id = system.ranking.image_ids[0]
    key = _key_of(system, image_id)
    before = after = 0
    for shade in range(trials):
        lie = np.full((7, 9, 3), shade % 256, np.uint8)
        forged = seal(lie, key=key, nonce=secrets.token_bytes(16), image_id=image_id, cipher="aes-gcm")
        before += np.array_equal(open_sealed(forged, key=key, image_id=image_id), lie)
        served = _serve(system.delivery, image_id, forged)
        after += not refuses(lambda served=served: user.receive(system.user, served), IntegrityError)
    return {"forged_picture_shown_before": before / trials, "forged_picture_shown_after": after / trials}


def withdrawn_picture() -> dict[str, float]:
    """An image was withdrawn and another one published under its name; the cloud kept the old one and serves it.

    Before: keys of name and collection alone, and no hash in the catalog. The re-enactment gives both images the key of
    the first segment, as that rule would.

    Returns:
        Whether the user shows the withdrawn picture without an error.
    """
    system = session.small_system()
    own, withdrawal = owner.withdraw(system.owner, ["b"])
    cloud, holder = server.withdraw(system.server, withdrawal), authority.withdraw(system.authority, withdrawal)
    image_id = withdrawal.image_ids[0]
    old = system.server.images[image_id]
    code, new = np.eye(16, dtype=bool)[1:2], np.full((2, 2, 3), 99, np.uint8)
    own, publication, catalog = owner.publish(own, code, [new], ["b"], cipher="aes-gcm", draw=secrets.token_bytes)
    cloud, holder = server.accept(cloud, publication), authority.catalog(holder, catalog)
    state = session.Session(own, cloud, system.cloud, holder, (dataclasses.replace(system.user, pending={}),))
    asked, query = session.ask(state, code, top=1, now=NOW, draw=secrets.token_bytes)
    blinders = owner.blinder_pool(own, server.blinders_needed(cloud, query), draw=secrets.token_bytes)
    cloud, report = server.score_query(cloud, query, blinders=blinders, identity=system.cloud, now=NOW)
    _, delivery = server.deliver(cloud, authority.answer(holder, report, now=NOW)[1])
    served = _serve(delivery, image_id, old)
    shown = open_sealed(old, key=_key_of(system, image_id), image_id=image_id)
    refused = refuses(lambda: user.receive(asked.users[0], served), IntegrityError)
    return {
        "withdrawn_picture_shown_before": float(shown[0, 0, 0] == 20),
        "withdrawn_picture_shown_after": float(not refused),
    }


def small_order(*, trials: int) -> dict[str, float]:
    """A signing key that is the neutral element: one signature, made by nobody, fits every message.

    Before: RFC 8032 verification as the library underneath does it.

    Returns:
        Share of enrollments of other people under which the one signature verifies.
    """
    neutral = (1).to_bytes(32, "little")
    everything = neutral + bytes(32)
    before = after = 0
    for _ in range(trials):
        Ed25519PublicKey.from_public_bytes(neutral).verify(everything, secrets.token_bytes(64))
        before += 1
        enrollment = Enrollment(secrets.token_bytes(32), neutral, everything)
        after += not refuses(lambda it=enrollment: check_signature(it, public=neutral), ForgedReplyError)
    return {"signed_by_nobody_before": before / trials, "signed_by_nobody_after": after / trials}


def _key_of(system: session.System, image_id: str) -> bytes:
    """An image key, as everybody who opened the image has it."""
    return image_key(system.owner.image_master, image_id=image_id, epoch=0, segment=0)


def _serve(delivery: Delivery, image_id: str, sealed: bytes) -> Delivery:
    """The delivery, with other bytes for one image."""
    images = tuple(SealedImage(image_id, sealed) if it.image_id == image_id else it for it in delivery.images)
    return dataclasses.replace(delivery, images=images)
