"""Kinds of secret keys: what the owner and the authority do with theirs. The server cannot import this module."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jcbir.errors import FormatError
from jcbir.paillier._primes import StructuredPrime
from jcbir.paillier.public import PublicKey
from jcbir.paillier.secret import SecretKey, check_secret, decrypt, encrypt, generate_keys, owner_blinders
from jcbir.ranking._keys import Fields, check_fields
from jcbir.typing import Rows


class SecretKeyKind(NamedTuple):
    """The secret half of a kind of key. A secret key has its public half as `public`, and a `repr` without secrets.

    Attributes:
        name: of the kind.
        generate: `generate(draw=, bits=, ...)`: a fresh secret key.
        to_fields: `to_fields(secret)`: what the public half does not say, as whole numbers and bytes by name. SECRET.
        from_fields: `from_fields(public, fields)`: the key back, or FormatError without a word of the secret.
        check: `check(secret, unsafe_small=)`: refuses a key pair that decrypts wrongly or is weak; a short one passes
            with `unsafe_small`.
        encrypt: `encrypt(secret, rows, draw=, engine=)`: plaintext rows to ciphertext rows, as the owner can.
        blinders: `blinders(secret, count, draw=, engine=)`: blinders, as the owner can make them.
        decrypt: `decrypt(secret, rows, engine=)`: ciphertext rows to plaintext rows. Each row is a score, followed by
            its block's hint and its query's opening where the scheme has them.
    """

    name: str
    generate: Callable[..., Any]
    to_fields: Callable[[Any], Fields]
    from_fields: Callable[[Any, Fields], Any]
    check: Callable[..., None]
    encrypt: Callable[..., Rows]
    blinders: Callable[..., Rows]
    decrypt: Callable[..., Rows]


_FACTORS = [f"{name}_{part}" for name in "pq" for part in StructuredPrime._fields]


def _paillier_fields(secret: SecretKey) -> Fields:
    return dict(zip(_FACTORS, (*secret.p, *secret.q), strict=True))


def _paillier_key(public: PublicKey, fields: Fields) -> SecretKey:
    check_fields(fields, name="secret key", types=dict.fromkeys(_FACTORS, int))
    numbers = list(fields.values())
    try:
        return SecretKey(public, StructuredPrime(*numbers[:3]), StructuredPrime(*numbers[3:]))
    except ValueError:
        # The reason would speak of the primes.
        raise FormatError("secret key: must belong to the public key, got another one") from None


def _check_paillier(secret: SecretKey, *, unsafe_small: bool = False) -> None:
    if unsafe_small:
        check_secret(secret, minimum_bits=0)
    else:
        check_secret(secret)


PAILLIER = SecretKeyKind(
    name="paillier",
    generate=generate_keys,
    to_fields=_paillier_fields,
    from_fields=_paillier_key,
    check=_check_paillier,
    encrypt=encrypt,
    blinders=owner_blinders,
    decrypt=decrypt,
)

SECRET_KEY_KINDS = {kind.name: kind for kind in (PAILLIER,)}
"""The secret half of every kind of key, by name."""
