"""Ed25519 signatures of messages: over the canonical digest of everything but the signature itself (RFC 8032)."""

import dataclasses
from typing import Any, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from jcbir.protocol._digests import digest
from jcbir.protocol.refusals import ForgedReplyError, RefusalError

DOMAIN = "jcbir signature v2"
KEY_BYTES = 32

Signed = TypeVar("Signed")

# Under a key of small order one signature verifies for many messages. These are all points of order 1, 2, 4 and 8, by
# their y, canonical or not; the sign of x is cut off before the comparison (RFC 8032, 5.1; Chalkias, Garillot and
# Nikolaenko, Taming the many EdDSAs, 2020, table 1).
_PRIME = 2**255 - 19
_ORDER_EIGHT = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)  # fmt: skip
_SMALL_ORDER = frozenset((0, 1, _PRIME - 1, _PRIME, _PRIME + 1, _ORDER_EIGHT, _PRIME - _ORDER_EIGHT))


@dataclasses.dataclass(frozen=True, repr=False)
class Identity:
    """What a service signs with, made by itself at its first start; `repr` does not show the secret.

    Attributes:
        secret: 32 bytes, Ed25519.
        public: 32 bytes, for the owner, who writes it into the card.
        sealing_key: 32 bytes, HPKE, likewise; of an authority only.
    """

    secret: bytes
    public: bytes
    sealing_key: bytes = b""

    def __repr__(self) -> str:
        return f"Identity({self.public.hex()[:16]}, secret redacted)"


def verifying_key(secret: bytes) -> bytes:
    """The public half of a signing secret, 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def is_weak(public: bytes) -> bool:
    """Whether a public key is of small order or not 32 bytes long."""
    return len(public) != KEY_BYTES or int.from_bytes(public, "little") & ~(1 << 255) in _SMALL_ORDER


def sign(message: Signed, *, secret: bytes) -> Signed:
    """The message with its `signature` field set to `Ed25519(secret, digest(all other fields))`."""
    signature = Ed25519PrivateKey.from_private_bytes(secret).sign(_signed_bytes(message))
    return _with_signature(message, signature)


def check_signature(message: Any, *, public: bytes, refusal: type[RefusalError] = ForgedReplyError) -> None:
    """Raise `refusal` unless the message carries the signature of `public`, a key that is not weak."""
    try:
        if is_weak(public):
            raise refusal(f"the key that should have signed the {type(message).__name__} is of small order")
        Ed25519PublicKey.from_public_bytes(public).verify(message.signature, _signed_bytes(message))
    except InvalidSignature:
        raise refusal(f"the signature of the {type(message).__name__} does not verify") from None


def _with_signature(message: Any, signature: bytes) -> Any:
    return dataclasses.replace(message, signature=signature)


def _signed_bytes(message: Any) -> bytes:
    return digest(_with_signature(message, b""), domain=DOMAIN)
