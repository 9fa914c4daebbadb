"""HPKE against a second implementation of RFC 9180, from the primitives alone."""

import hashlib
import hmac

import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from protocol_world import counter_draw, make_world

from jcbir.errors import FormatError, IntegrityError
from jcbir.protocol import owner, user, wire
from jcbir.protocol.messages import Enrollment
from jcbir.sealing import HYBRID_SECRET_BYTES, open_from, public_half, seal_to

SECRET = bytes(range(1, 33))
HYBRID = bytes(range(HYBRID_SECRET_BYTES))
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
def test_sealed_bytes_open_here_and_in_a_second_implementation(plaintext, info, aad):
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


def test_what_is_too_short_to_be_sealed_bytes_says_so():
    empty = seal_to(PUBLIC, b"")
    for length in range(len(empty)):
        with pytest.raises(FormatError, match=f"must be at least {len(empty)} bytes, got {length}"):
            open_from(SECRET, empty[:length])
    with pytest.raises(IntegrityError):
        open_from(SECRET, bytes(len(empty)))


def test_bad_keys():
    with pytest.raises(ValueError, match="recipient_public: must be 32"):
        seal_to(b"short", b"")
    with pytest.raises(ValueError, match="recipient_secret: must be 32"):
        open_from(b"short", bytes(48))
    with pytest.raises(ValueError):
        seal_to(bytes(32), b"")  # the point of order 2: the shared secret would be public
    with pytest.raises(IntegrityError):
        open_from(SECRET, bytes(48))


def _open_hybrid(sealed: bytes, info: bytes, aad: bytes) -> bytes:
    """X-Wing (draft-connolly-cfrg-xwing-kem, HPKE KEM 0x647a) and the key schedule of RFC 9180, from the primitives."""
    lattice_sealed, curve_sealed, body = sealed[:1088], sealed[1088:1120], sealed[1120:]
    lattice, curve = MLKEM768PrivateKey.from_seed_bytes(HYBRID[:64]), X25519PrivateKey.from_private_bytes(HYBRID[64:])
    agreed = curve.exchange(X25519PublicKey.from_public_bytes(curve_sealed))
    parts = (lattice.decapsulate(lattice_sealed), agreed, curve_sealed, curve.public_key().public_bytes_raw())
    secret = hashlib.sha3_256(b"".join(parts) + bytes.fromhex("5c2e2f2f5e5c")).digest()
    extract, expand = _labeled(b"HPKE" + bytes([0x64, 0x7A, 0, 1, 0, 2]))
    context_info = b"jcbir hpke\1" + len(info).to_bytes(4, "big") + info + aad
    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", context_info)
    pseudo = extract(secret, b"secret", b"")
    key, nonce = expand(pseudo, b"key", context, 32), expand(pseudo, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, body, b"")


@given(st.binary(max_size=200), st.binary(max_size=20), st.binary(max_size=20))
def test_hybrid_sealed_bytes_open_here_and_in_a_second_implementation(plaintext, info, aad):
    sealed = seal_to(public_half(HYBRID), plaintext, info=info, aad=aad)
    assert open_from(HYBRID, sealed, info=info, aad=aad) == plaintext
    assert _open_hybrid(sealed, info, aad) == plaintext
    assert len(sealed) == len(plaintext) + 1136


def test_hybrid_needs_both_halves():
    sealed = seal_to(public_half(HYBRID), b"key", info=b"ab")
    other = bytes(range(100, 196))
    for secret in (other, HYBRID[:64] + other[64:], other[:64] + HYBRID[64:]):
        with pytest.raises(IntegrityError):
            open_from(secret, sealed, info=b"ab")
    with pytest.raises(IntegrityError):
        open_from(HYBRID, sealed, info=b"a")
    with pytest.raises((FormatError, IntegrityError)):
        open_from(HYBRID[64:], sealed, info=b"ab")  # X25519 alone does not open it
    for place in range(0, len(sealed), 37):
        with pytest.raises(IntegrityError):
            open_from(HYBRID, sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :], info=b"ab")
        with pytest.raises((FormatError, IntegrityError)):
            open_from(HYBRID, sealed[:place], info=b"ab")


def test_a_hybrid_user_is_admitted_and_joins():
    world = make_world()
    keys = user.make_keys(draw=counter_draw("hybrid"), hybrid=True)
    enrollment = wire.from_bytes(wire.to_bytes(user.enroll(keys)), expect=Enrollment)
    assert len(enrollment.sealing_key) == 1216
    own, admission = owner.admit(world.own, enrollment, now=0, draw=counter_draw("grant"))
    admission = wire.from_bytes(wire.to_bytes(admission))
    assert user.join(keys, admission, owner_key=own.card.owner_key, unsafe_small=True).masking_key == own.masking_key
