"""Ed25519 signatures of messages: over the canonical digest of everything but the signature itself."""

import dataclasses
from typing import Any, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from jcbir.protocol._digests import digest
from jcbir.protocol.refusals import ForgedReplyError, RefusalError

DOMAIN = "jcbir signature v1"
KEY_BYTES = 32

Signed = TypeVar("Signed")


def verifying_key(secret: bytes) -> bytes:
    """Compute the public half of a signing secret.

    Args:
        secret: Ed25519 private key, 32 uniformly random bytes.

    Returns:
        32 bytes.

    Example:
        >>> len(verifying_key(bytes(32)))
        32

    References:
        Josefsson and Liusvaara, RFC 8032 (2017), section 5.1.5.
    """
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def sign(message: Signed, *, secret: bytes) -> Signed:
    """Sign a message: its `signature` field becomes `Ed25519(secret, digest(all other fields))`.

    Args:
        message: a record of `jcbir.protocol.messages` with a `signature` field.
        secret: Ed25519 private key, 32 bytes.

    Returns:
        The message with its signature.

    Example:
        >>> from jcbir.protocol.messages import Revocation
        >>> signed = sign(Revocation("photos", 0, 1, ()), secret=bytes(32))
        >>> check_signature(signed, public=verifying_key(bytes(32)))

    References:
        Josefsson and Liusvaara, RFC 8032 (2017), section 5.1.6.
    """
    signature = Ed25519PrivateKey.from_private_bytes(secret).sign(_signed_bytes(message))
    return _with_signature(message, signature)


def check_signature(message: Any, *, public: bytes, refusal: type[RefusalError] = ForgedReplyError) -> None:
    """Check that a message carries the signature of `public`.

    Args:
        message: a record with a `signature` field.
        public: Ed25519 public key of the party that must have made the message.
        refusal: the error to raise.

    Returns:
        Nothing.

    Raises:
        RefusalError: in the form `refusal`, where the signature does not verify.

    Example:
        >>> from jcbir.protocol.messages import Revocation
        >>> check_signature(Revocation("photos", 0, 1, (), bytes(64)), public=verifying_key(bytes(32)))
        Traceback (most recent call last):
        ...
        jcbir.protocol.refusals.ForgedReplyError: the signature of the Revocation does not verify

    References:
        Josefsson and Liusvaara, RFC 8032 (2017), section 5.1.7.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(message.signature, _signed_bytes(message))
    except (InvalidSignature, ValueError):
        raise refusal(f"the signature of the {type(message).__name__} does not verify") from None


def _with_signature(message: Any, signature: bytes) -> Any:
    return dataclasses.replace(message, signature=signature)


def _signed_bytes(message: Any) -> bytes:
    return digest(_with_signature(message, b""), domain=DOMAIN)


__all__ = ["KEY_BYTES", "check_signature", "sign", "verifying_key"]
