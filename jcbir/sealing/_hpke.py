"""Bytes sealed to one recipient's public key: hybrid public-key encryption (HPKE, RFC 9180).

Base mode with HKDF-SHA-256 and AES-256-GCM, from `cryptography`. A key is raw bytes at this seam, and its length says
which of two it is:

    X25519                   secret 32 bytes                              public 32 bytes
    ML-KEM-768 + X25519      secret 64 (ML-KEM seed) + 32 (X25519)        public 1184 (ML-KEM) + 32 (X25519)

The second keeps its secrecy while either half holds: what is recorded today stays closed to a quantum computer later.
"""

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import mlkem
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from jcbir.errors import FormatError, IntegrityError
from jcbir.sealing._format import KEY_BYTES, TAG_BYTES

_NO_HYBRID = "hybrid keys: the installed `cryptography` was built without ML-KEM-768 (OpenSSL 3.5 or later has it)"
VERSION = 1
MLKEM_SEED_BYTES = 64
MLKEM_PUBLIC_BYTES = 1184
MLKEM_CIPHERTEXT_BYTES = 1088
HYBRID_SECRET_BYTES = MLKEM_SEED_BYTES + KEY_BYTES
HYBRID_PUBLIC_BYTES = MLKEM_PUBLIC_BYTES + KEY_BYTES


def seal_to(recipient_public: bytes, plaintext: bytes, *, info: bytes = b"", aad: bytes = b"") -> bytes:
    """Seal bytes to a recipient's public key: HPKE base mode, X25519 (or with ML-KEM-768), HKDF-SHA-256, AES-256-GCM.

    The HPKE context is `"jcbir hpke" || version || length of info (4) || info || aad`: both are authenticated. The
    sender stays anonymous; sign what must have an author.

    Args:
        recipient_public: 32 raw bytes of X25519, or 1216 of ML-KEM-768 + X25519.
        plaintext: What only the recipient shall read.
        info: Context both sides know.
        aad: Further data both sides know.

    Returns:
        Encapsulated key and ciphertext: 48 bytes longer than the plaintext (1136 for the hybrid).

    Raises:
        ValueError: the public key is of neither length, no point of full order, or a hybrid one that the installed
            `cryptography` does not know.

    Example:
        >>> secret = bytes(range(32))
        >>> public = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
        >>> open_from(secret, seal_to(public, b"a key", info=b"test"), info=b"test")
        b'a key'

    References:
        Barnes, Bhargavan, Lipp and Wood, RFC 9180, 2022. NIST, FIPS 203 (ML-KEM), 2024.
    """
    _check_key("recipient_public", recipient_public, HYBRID_PUBLIC_BYTES)
    if len(recipient_public) == KEY_BYTES:
        public = X25519PublicKey.from_public_bytes(recipient_public)
    else:
        public = _hybrid_public(recipient_public)
    try:
        return _suite(len(recipient_public)).encrypt(plaintext, public, info=_context(info, aad))
    except ValueError as error:
        raise ValueError("recipient_public: must be a point of full order, got one of small order") from error


def open_from(recipient_secret: bytes, sealed: bytes, *, info: bytes = b"", aad: bytes = b"") -> bytes:
    """Open what `seal_to` sealed.

    Args:
        recipient_secret: The recipient's private key, 32 raw bytes of X25519 or 96 of ML-KEM-768 + X25519.
        sealed: Encapsulated key and ciphertext.
        info: Context it was sealed with.
        aad: Further data it was sealed with.

    Returns:
        The plaintext.

    Raises:
        FormatError: shorter than an encapsulated key and a tag.
        IntegrityError: another recipient or context, or any byte changed.
        ValueError: the private key is of neither length, or a hybrid one that the installed `cryptography` does not
            know.

    Example:
        >>> open_from(bytes(range(32)), bytes(10))
        Traceback (most recent call last):
        jcbir.errors.FormatError: sealed: must be at least 48 bytes, got 10

    References:
        Barnes, Bhargavan, Lipp and Wood, RFC 9180, 2022.
    """
    secret = _private_key(recipient_secret)
    hybrid = len(recipient_secret) == HYBRID_SECRET_BYTES
    least = KEY_BYTES + TAG_BYTES + (MLKEM_CIPHERTEXT_BYTES if hybrid else 0)
    if len(sealed) < least:
        raise FormatError(f"sealed: must be at least {least} bytes, got {len(sealed)}")
    try:
        return _suite(len(recipient_secret)).decrypt(sealed, secret, info=_context(info, aad))
    except (InvalidTag, ValueError) as error:
        raise IntegrityError("sealed: does not open with this key and context") from error


def public_half(recipient_secret: bytes) -> bytes:
    """Compute the public key of a recipient's private key.

    Args:
        recipient_secret: 32 raw bytes of X25519, or 96 of ML-KEM-768 + X25519; uniformly random ones are a key.

    Returns:
        32 bytes, or 1216.

    Raises:
        ValueError: the private key is of neither length, or a hybrid one that the installed `cryptography` does not
            know.

    Example:
        >>> len(public_half(bytes(range(32))))
        32
    """
    secret = _private_key(recipient_secret)
    if isinstance(secret, X25519PrivateKey):
        return secret.public_key().public_bytes_raw()
    lattice, curve = _hybrid_halves(recipient_secret)
    return lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()


def _private_key(secret: bytes) -> "X25519PrivateKey | hpke.MLKEM768X25519PrivateKey":
    _check_key("recipient_secret", secret, HYBRID_SECRET_BYTES)
    if len(secret) == KEY_BYTES:
        return X25519PrivateKey.from_private_bytes(secret)
    return hpke.MLKEM768X25519PrivateKey(*_hybrid_halves(secret))


def _hybrid_halves(secret: bytes) -> "tuple[mlkem.MLKEM768PrivateKey, X25519PrivateKey]":
    try:
        lattice = mlkem.MLKEM768PrivateKey.from_seed_bytes(secret[:MLKEM_SEED_BYTES])
    except UnsupportedAlgorithm as error:
        raise ValueError(_NO_HYBRID) from error
    return lattice, X25519PrivateKey.from_private_bytes(secret[MLKEM_SEED_BYTES:])


def _hybrid_public(public: bytes) -> "hpke.MLKEM768X25519PublicKey":
    try:
        lattice = mlkem.MLKEM768PublicKey.from_public_bytes(public[:MLKEM_PUBLIC_BYTES])
    except UnsupportedAlgorithm as error:
        raise ValueError(_NO_HYBRID) from error
    return hpke.MLKEM768X25519PublicKey(lattice, X25519PublicKey.from_public_bytes(public[MLKEM_PUBLIC_BYTES:]))


def _suite(length: int) -> hpke.Suite:
    """The suite of a key of that many bytes, public or secret."""
    kem = hpke.KEM.X25519 if length == KEY_BYTES else hpke.KEM.MLKEM768_X25519
    return hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def _context(info: bytes, aad: bytes) -> bytes:
    return b"jcbir hpke" + bytes([VERSION]) + len(info).to_bytes(4, "big") + info + aad


def _check_key(name: str, key: bytes, hybrid: int) -> None:
    if len(key) not in (KEY_BYTES, hybrid):
        raise ValueError(f"{name}: must be {KEY_BYTES} bytes, or {hybrid} for the hybrid, got {len(key)}")
