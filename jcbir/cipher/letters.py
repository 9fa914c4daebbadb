"""Bytes sealed to one recipient's public key: hybrid public-key encryption (HPKE, RFC 9180).

X25519, HKDF-SHA-256 and AES-256-GCM in base mode, from `cryptography`; keys are 32 raw bytes at this seam.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from jcbir.cipher.envelope import KEY_BYTES, TAG_BYTES, VERSION
from jcbir.errors import FormatError, IntegrityError


def seal_to(recipient_public: bytes, plaintext: bytes, *, info: bytes = b"", aad: bytes = b"") -> bytes:
    """Seal bytes to a recipient's X25519 public key: HPKE base mode, X25519, HKDF-SHA-256, AES-256-GCM.

    The HPKE context is `"jcbir hpke" || version || length of info (4) || info || aad`: both are authenticated. The
    sender stays anonymous; sign what must have an author.

    Args:
        recipient_public: 32 raw bytes.
        plaintext: What only the recipient shall read.
        info: Context both sides know.
        aad: Further data both sides know.

    Returns:
        Encapsulated key and ciphertext: 48 bytes longer than the plaintext.

    Raises:
        ValueError: the public key is not 32 bytes, or no point of full order.

    Example:
        >>> secret = bytes(range(32))
        >>> public = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
        >>> open_from(secret, seal_to(public, b"a key", info=b"test"), info=b"test")
        b'a key'

    References:
        Barnes, Bhargavan, Lipp and Wood, RFC 9180, 2022.
    """
    public = X25519PublicKey.from_public_bytes(_raw_key("recipient_public", recipient_public))
    return _suite().encrypt(plaintext, public, info=_context(info, aad))


def open_from(recipient_secret: bytes, sealed: bytes, *, info: bytes = b"", aad: bytes = b"") -> bytes:
    """Open what `seal_to` sealed.

    Args:
        recipient_secret: The recipient's X25519 private key, 32 raw bytes.
        sealed: Encapsulated key and ciphertext.
        info: Context it was sealed with.
        aad: Further data it was sealed with.

    Returns:
        The plaintext.

    Raises:
        FormatError: shorter than an encapsulated key and a tag.
        IntegrityError: another recipient or context, or any byte changed.
        ValueError: the private key is not 32 bytes.

    Example:
        >>> open_from(bytes(range(32)), bytes(10))
        Traceback (most recent call last):
        jcbir.errors.FormatError: sealed: must be at least 48 bytes, got 10

    References:
        Barnes, Bhargavan, Lipp and Wood, RFC 9180, 2022.
    """
    secret = X25519PrivateKey.from_private_bytes(_raw_key("recipient_secret", recipient_secret))
    if len(sealed) < KEY_BYTES + TAG_BYTES:
        raise FormatError(f"sealed: must be at least {KEY_BYTES + TAG_BYTES} bytes, got {len(sealed)}")
    try:
        return _suite().decrypt(sealed, secret, info=_context(info, aad))
    except (InvalidTag, ValueError) as error:
        raise IntegrityError("sealed: does not open with this key and context") from error


def _suite() -> hpke.Suite:
    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def _context(info: bytes, aad: bytes) -> bytes:
    return b"jcbir hpke" + bytes([VERSION]) + len(info).to_bytes(4, "big") + info + aad


def _raw_key(name: str, key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise ValueError(f"{name} must be {KEY_BYTES} bytes, got {len(key)}")
    return key
