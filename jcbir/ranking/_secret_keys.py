"""Kinds of secret keys: what the owner and the authority do with theirs. The server cannot import this module."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jcbir.errors import FormatError
from jcbir.lattice import secret as lattice
from jcbir.lattice._parameters import CHUNKS
from jcbir.lattice._sampling import SEED_BYTES, derive
from jcbir.lattice.public import PublicKey as LatticeKey, Reply, check_public
from jcbir.paillier._primes import StructuredPrime
from jcbir.paillier.public import PublicKey
from jcbir.paillier.secret import SecretKey, check_secret, decrypt, encrypt, generate_keys, owner_blinders
from jcbir.ranking import _keys
from jcbir.ranking._keys import Fields, check_fields
from jcbir.ranking._lattice import DISTANCE, LATTICE as RANKING
from jcbir.ranking._scheme import Layout
from jcbir.typing import Rows


class SecretKeyKind(NamedTuple):
    """The secret half of a kind of key. A secret key has its public half as `public`, and a `repr` without secrets.

    Attributes:
        name: of the kind.
        generate: `generate(draw=, bits=, code_bits=, ...)`: a fresh secret key with a modulus of `bits`, for codes of
            `code_bits`; a kind takes what it depends on.
        to_fields: `to_fields(secret)`: what the public half does not say, as whole numbers and bytes by name. SECRET.
        from_fields: `from_fields(public, fields)`: the key back, or FormatError without a word of the secret.
        check: `check(secret, unsafe_small=)`: refuses a key pair that decrypts wrongly or is weak; a short one passes
            with `unsafe_small`.
        encrypt: `encrypt(secret, rows, draw=, engine=)`: plaintext rows to ciphertext rows, as the owner can.
        blinders: `blinders(secret, count, draw=, engine=)`: blinders, as the owner can make them.
        decrypt: `decrypt(secret, rows, engine=)`: ciphertext rows to plaintext rows. Each row is a score, followed by
            its block's hint and its query's opening where the scheme has them. Not called where there is `open`.
        prepare: None, or `prepare(secret, layout, hint)`: what opens the scores of one segment, made once from its hint
            and held in memory; its `name` says of which segment it is.
        open: None, or `open(secret, prepared, layouts, rows, opening)`: all score rows of one query, segment after
            segment, to opened rows, where those of a query are opened together. Those of a segment whose `prepared` is
            None open to zeros. IntegrityError for rows that no honest server sends for an honest query.
        row_seconds: None, or `row_seconds(secret, clock=)`: how long `open` takes for a score row in this process, once
            it has compiled what there is to compile.
        renew: None, or `renew(secret, draw=)`: the key pair of the next epoch, where no key may serve two.
    """

    name: str
    generate: Callable[..., Any]
    to_fields: Callable[[Any], Fields]
    from_fields: Callable[[Any, Fields], Any]
    check: Callable[..., None]
    encrypt: Callable[..., Rows]
    blinders: Callable[..., Rows]
    decrypt: Callable[..., Rows]
    prepare: Callable[..., Any] | None = None
    open: Callable[..., Rows] | None = None
    row_seconds: Callable[..., float] | None = None
    renew: Callable[..., Any] | None = None


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


def _generate_paillier(*, code_bits: int = 0, **options: Any) -> SecretKey:
    return generate_keys(**options)


PAILLIER = SecretKeyKind(
    name=_keys.PAILLIER.name,
    generate=_generate_paillier,
    to_fields=_paillier_fields,
    from_fields=_paillier_key,
    check=_check_paillier,
    encrypt=encrypt,
    blinders=owner_blinders,
    decrypt=decrypt,
)


def _lattice_key(public: LatticeKey, fields: Fields) -> lattice.SecretKey:
    check_fields(fields, name="secret key", types={"master": bytes})
    if len(fields["master"]) != SEED_BYTES:
        raise FormatError(f"secret key: must have a master of {SEED_BYTES} bytes, got {len(fields['master'])}")
    return lattice.SecretKey(public, fields["master"])


def _check_lattice(secret: lattice.SecretKey, *, unsafe_small: bool = False) -> None:
    check_public(secret.public, unsafe_small=unsafe_small)


def _generate_lattice(*, draw: Callable[[int], bytes], code_bits: int, **_: Any) -> lattice.SecretKey:
    return lattice.generate_key(bits=code_bits, draw=draw)


def _encrypt_codes(
    secret: lattice.SecretKey, rows: np.ndarray, *, draw: Callable[[int], bytes], engine: str = "auto"
) -> np.ndarray:
    """Packed codes to blocks. Behind each block its hint: the nonce of the segment, and what the leaf calls so."""
    codes = np.unpackbits(rows, axis=1, count=secret.public.parameters.bits).astype(bool)
    # The authority knows the names of all segments and refuses one that comes again.
    index, segment = lattice.encrypt_index(secret, codes, draw=draw, used=())
    nonce = np.frombuffer(segment.nonce, np.uint8)
    return np.concatenate([index.rows, np.tile(nonce, (len(index.rows), 1)), segment.hints], axis=1)


def _prepare_segment(secret: lattice.SecretKey, layout: Layout, hint: Rows | None) -> lattice.PreparedSegment:
    expected = (layout.blocks, SEED_BYTES + secret.public.parameters.hint_bytes)
    if hint is None or hint.shape != expected:
        raise FormatError(f"hint: must be {expected} bytes, got {None if hint is None else hint.shape}")
    nonces, hints = np.split(hint, [SEED_BYTES], axis=1)
    if (nonces != nonces[0]).any():
        raise FormatError("hint: must be of one segment, got blocks of several")
    nonce, hints = nonces[0].tobytes(), np.ascontiguousarray(hints)
    name = derive(nonce, "segment name")
    return lattice.prepare(secret, lattice.Segment(secret.public.fingerprint, name, layout.count, nonce, hints))


def _open_query(
    secret: lattice.SecretKey,
    prepared: Sequence[lattice.PreparedSegment | None],
    layouts: Sequence[Layout],
    rows: np.ndarray,
    opening: np.ndarray | None,
) -> np.ndarray:
    v = secret.public.parameters
    if opening is None or opening.shape[-1] != SEED_BYTES:
        raise FormatError(f"opening: must be {SEED_BYTES} bytes, got {None if opening is None else opening.shape}")
    shared = v.reply_shared_bytes // v.reply_block_bytes
    parts = np.split(rows[shared:], np.cumsum([layout.blocks for layout in layouts])[:-1])
    living = [(segment, part) for segment, part in zip(prepared, parts, strict=True) if segment is not None]
    found = np.zeros(sum(layout.count for layout in layouts), np.int32)
    if living:
        opened, kept = zip(*living, strict=True)
        # Whose scores these are, the signed report says.
        names = tuple((segment.name, len(segment.sentinels)) for segment in opened)
        reply = Reply(secret.public.fingerprint, b"", names, np.concatenate(kept), rows[:shared].reshape(-1))
        one_time = lattice.QuerySecret(opening.tobytes(), b"")
        here = np.repeat([segment is not None for segment in prepared], [layout.count for layout in layouts])
        found[here] = lattice.open_distances(secret, opened, reply, one_time, answered=())
    return found.astype(DISTANCE).view(np.uint8).reshape(-1, DISTANCE.itemsize)


def _open_seconds(secret: lattice.SecretKey, *, clock: Callable[[], float]) -> float:
    """Of zeros, which open as if every distance were half of the longest, in chunks of every size."""
    v, blocks = secret.public.parameters, sum(CHUNKS)
    layout = RANKING.plan(secret.public, count=blocks * v.images, bits=v.bits, base=None)
    hint = np.zeros((blocks, SEED_BYTES + v.hint_bytes), np.uint8)
    prepared, layouts = [_prepare_segment(secret, layout, hint)], [layout]
    rows = np.zeros((v.reply_shared_bytes // v.reply_block_bytes + blocks, v.reply_block_bytes), np.uint8)
    opening = np.zeros((1, SEED_BYTES), np.uint8)
    _open_query(secret, prepared, layouts, rows, opening)
    start = clock()
    _open_query(secret, prepared, layouts, rows, opening)
    return (clock() - start) / len(rows)


def _decrypt_nothing(*_: Any, **__: Any) -> Rows:
    raise ValueError("rows: must be opened a query at a time, got single ones")


LATTICE = SecretKeyKind(
    name=_keys.LATTICE.name,
    generate=_generate_lattice,
    to_fields=lambda secret: {"master": secret.master},
    from_fields=_lattice_key,
    check=_check_lattice,
    encrypt=_encrypt_codes,
    blinders=lambda secret, count, **options: _keys.LATTICE.blinders(secret.public, count, **options),
    decrypt=_decrypt_nothing,
    prepare=_prepare_segment,
    open=_open_query,
    row_seconds=_open_seconds,
    renew=lambda secret, *, draw: lattice.generate_key(bits=secret.public.parameters.bits, draw=draw),
)

SECRET_KEY_KINDS = {kind.name: kind for kind in (PAILLIER, LATTICE)}
"""The secret half of every kind of key, by name."""
