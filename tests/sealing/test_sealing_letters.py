"""HPKE letters against a second implementation of RFC 9180, from the primitives alone."""

import hashlib
import hmac

import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given

from jcbir.errors import FormatError, IntegrityError
from jcbir.sealing import open_from, seal_to

SECRET = bytes(range(1, 33))
PUBLIC = X25519PrivateKey.from_private_bytes(SECRET).public_key().public_bytes_raw()


def _extract(salt: bytes, key: bytes) -> bytes:
    return hmac.new(salt or bytes(32), key, hashlib.sha256).digest()


def _expand(pseudo: bytes, info: bytes, length: int) -> bytes:
    return hmac.new(pseudo, info + b"\1", hashlib.sha256).digest()[:length]


def _labeled(suite: bytes):
    def extract(salt, label, key):
        return _extract(salt, b"HPKE-v1" + suite + label + key)

    def expand(pseudo, label, info, length):
        return _expand(pseudo, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, length)

    return extract, expand


def _open(sealed: bytes, info: bytes, aad: bytes) -> bytes:
    """Base mode, DHKEM(X25519, HKDF-SHA-256), HKDF-SHA-256, AES-256-GCM, sections 4.1 and 5.1 of RFC 9180."""
    enc, body = sealed[:32], sealed[32:]
    extract, expand = _labeled(b"KEM" + (0x20).to_bytes(2, "big"))
    shared = X25519PrivateKey.from_private_bytes(SECRET).exchange(X25519PublicKey.from_public_bytes(enc))
    secret = expand(extract(b"", b"eae_prk", shared), b"shared_secret", enc + PUBLIC, 32)
    extract, expand = _labeled(b"HPKE" + bytes([0, 0x20, 0, 1, 0, 2]))
    context_info = b"jcbir hpke\1" + len(info).to_bytes(4, "big") + info + aad
    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", context_info)
    pseudo = extract(secret, b"secret", b"")
    key, nonce = expand(pseudo, b"key", context, 32), expand(pseudo, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, body, b"")


@given(st.binary(max_size=200), st.binary(max_size=20), st.binary(max_size=20))
def test_letters_open_here_and_in_a_second_implementation(plaintext, info, aad):
    sealed = seal_to(PUBLIC, plaintext, info=info, aad=aad)
    assert open_from(SECRET, sealed, info=info, aad=aad) == plaintext
    assert _open(sealed, info, aad) == plaintext
    assert len(sealed) == len(plaintext) + 48


def test_context_is_bound_and_unambiguous():
    sealed = seal_to(PUBLIC, b"key", info=b"ab", aad=b"c")
    for info, aad in ((b"a", b"bc"), (b"abc", b""), (b"ab", b""), (b"", b"abc"), (b"", b"")):
        with pytest.raises(IntegrityError):
            open_from(SECRET, sealed, info=info, aad=aad)
    with pytest.raises(IntegrityError):
        open_from(bytes(range(32, 64)), sealed, info=b"ab", aad=b"c")


def test_every_flipped_byte_and_truncation():
    sealed = seal_to(PUBLIC, b"key")
    for place in range(len(sealed)):
        forged = bytearray(sealed)
        forged[place] ^= 1
        with pytest.raises(IntegrityError):
            open_from(SECRET, bytes(forged))
        with pytest.raises((FormatError, IntegrityError)):
            open_from(SECRET, sealed[:place])


def test_bad_keys():
    with pytest.raises(ValueError, match="recipient_public must be 32"):
        seal_to(b"short", b"")
    with pytest.raises(ValueError, match="recipient_secret must be 32"):
        open_from(b"short", bytes(48))
    with pytest.raises(ValueError):
        seal_to(bytes(32), b"")  # the point of order 2: the shared secret would be public
    with pytest.raises(IntegrityError):
        open_from(SECRET, bytes(48))
