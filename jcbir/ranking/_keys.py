"""Kinds of public keys: what the parties must know of a key to carry it, encrypt under it and blind with it.

The secret half of each kind is in `_secret_keys`, which the server cannot import.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jcbir.errors import FormatError
from jcbir.lattice import _query as lattice, public as lattice_public
from jcbir.lattice._parameters import CHUNKS
from jcbir.lattice._sampling import SEED_BYTES
from jcbir.paillier import _engines as engines
from jcbir.paillier._blinding import blinders, draw_randomness, raise_randomness
from jcbir.paillier.public import PublicKey, check_public, encrypt
from jcbir.typing import Rows

MEASURED_PRODUCTS = 256

Fields = Mapping[str, int | bytes]


class KeyKind(NamedTuple):
    """The public half of a kind of key. A public key is any hashable value with a hexadecimal `fingerprint`.

    Attributes:
        name: as schemes and tagged keys spell it.
        key_type: class of the public key.
        to_fields: `to_fields(public)`: the key as whole numbers of any length and bytes, by name.
        from_fields: `from_fields(fields)`: the key back, or FormatError.
        check: `check(public, unsafe_small=)`: refuses a foreign key that is visibly weak; a short one passes with
            `unsafe_small`.
        blinder_bytes: `blinder_bytes(public)`: bytes of a blinder.
        blinders: `blinders(public, count, draw=, engine=)`: fresh blinders, each for one use.
        encrypt: `encrypt(public, rows, blinders=, engine=)`: plaintext rows to ciphertext rows.
        example: `example(bits=, code_bits=)`: a key that nobody holds, of the size of one with a modulus of `bits` for
            codes of `code_bits`, to plan with.
        randomness: `randomness(public, count, draw=)`: what blinders are made of, one row each, or None where a search
            under such keys cannot be audited.
        blind: `blind(public, randomness, engine=)`: the blinders of it, which encrypt zero whatever it is.
        row_seconds: `row_seconds(public, clock=)`: how long this process takes for a row of an index and a query, once
            it has compiled what there is to compile; None where nobody serves such keys.
        opening_name: `opening_name(opening)`: what the authority notes of a query's opening, so that none comes twice;
            None where it may.
    """

    name: str
    key_type: type
    to_fields: Callable[[Any], Fields]
    from_fields: Callable[[Fields], Any]
    check: Callable[..., None]
    blinder_bytes: Callable[[Any], int]
    blinders: Callable[..., Rows]
    encrypt: Callable[..., Rows]
    example: Callable[..., Any]
    randomness: Callable[..., Rows] | None = None
    blind: Callable[..., Rows] | None = None
    row_seconds: Callable[..., float] | None = None
    opening_name: Callable[..., bytes] | None = None


class TaggedKey(NamedTuple):
    """A public key that says of which kind it is.

    Attributes:
        kind: name of the kind, in `KEY_KINDS`.
        key: the public key.
    """

    kind: str
    key: Any

    @property
    def fingerprint(self) -> str:
        """The key's own fingerprint, in hexadecimal."""
        return self.key.fingerprint


def check_fields(fields: Fields, *, name: str, types: Mapping[str, type]) -> None:
    """Refuse fields of other names or types than a kind writes; the values are not shown, for they may be secret."""
    if list(fields) != list(types) or any(type(value) is not types[field] for field, value in fields.items()):
        raise FormatError(f"{name}: must have the fields {', '.join(types)}, got {', '.join(map(str, fields))}")


def _paillier_fields(public: PublicKey) -> Fields:
    return {"n": public.n, "g": public.g, "h": public.h or 0, "h_bits": public.h_bits}


def _paillier_key(fields: Fields) -> PublicKey:
    check_fields(fields, name="public key", types={"n": int, "g": int, "h": int, "h_bits": int})
    try:
        return PublicKey(fields["n"], fields["g"], fields["h"] or None, fields["h_bits"])
    except ValueError as error:
        raise FormatError(f"public key: {error}") from None


def _check_paillier(public: PublicKey, *, unsafe_small: bool = False) -> None:
    if unsafe_small:
        check_public(public, minimum_bits=0, minimum_exponent_bits=1)
    else:
        check_public(public)


def _product_seconds(public: PublicKey, *, clock: Callable[[], float]) -> float:
    number = engines.number_type(engines.choose_engine("auto", count=1))
    modulus = number(public.n_squared)
    product = factor = modulus // 3
    start = clock()
    for _ in range(MEASURED_PRODUCTS):
        product = product * factor % modulus
    return (clock() - start) / MEASURED_PRODUCTS


PAILLIER = KeyKind(
    name="paillier",
    key_type=PublicKey,
    to_fields=_paillier_fields,
    from_fields=_paillier_key,
    check=_check_paillier,
    blinder_bytes=lambda public: public.ciphertext_bytes,
    blinders=blinders,
    encrypt=encrypt,
    example=lambda *, bits, code_bits: PublicKey(n=(1 << (bits - 1)) + 1, g=2),
    randomness=draw_randomness,
    blind=raise_randomness,
    row_seconds=_product_seconds,
)


def _lattice_key(fields: Fields) -> lattice_public.PublicKey:
    check_fields(fields, name="public key", types={"bits": int, "seed": bytes})
    try:
        public = lattice_public.PublicKey(lattice_public.parameters(bits=fields["bits"]), fields["seed"])
        lattice_public.check_public(public)
    except ValueError as error:
        raise FormatError(f"public key: {error}") from None
    return public


def _draw_seeds(public: lattice_public.PublicKey, count: int, *, draw: Callable[[int], bytes], **_: Any) -> Rows:
    """Two seeds a row: those of a query's secret and its errors, or what a flood is expanded from."""
    return np.frombuffer(draw(2 * SEED_BYTES * count), np.uint8).reshape(count, 2 * SEED_BYTES)


def _encrypt_queries(
    public: lattice_public.PublicKey, rows: np.ndarray, *, blinders: np.ndarray, engine: str = "auto"
) -> np.ndarray:
    """Behind each query the seed of its secret, which is for the authority alone."""
    made = []
    for row, seeds in zip(rows, blinders, strict=True):
        source = io.BytesIO(seeds.tobytes())
        code = np.unpackbits(row, count=public.parameters.bits).astype(bool)
        query, opener = lattice.encrypt_query(public, code, draw=source.read)
        made.append(np.concatenate([query.body, np.frombuffer(opener.seed, np.uint8)]))
    return np.stack(made)


def _block_seconds(public: lattice_public.PublicKey, *, clock: Callable[[], float]) -> float:
    """Of zeros, in chunks of every size, so that no query compiles."""
    v, blocks = public.parameters, sum(CHUNKS)
    rows = np.zeros((blocks, v.block_bytes), np.uint8)
    part = lattice_public.prepare(public, lattice_public.Index(public.fingerprint, bytes(SEED_BYTES), rows))
    query = lattice_public.Query(public.fingerprint, np.zeros(v.query_bytes, np.uint8))
    lattice_public.score_shared(public, query)
    lattice_public.score_blocks(public, part, query, draw=bytes)
    start = clock()
    lattice_public.score_blocks(public, part, query, draw=bytes)
    return (clock() - start) / blocks


LATTICE = KeyKind(
    name="lattice",
    key_type=lattice_public.PublicKey,
    to_fields=lambda public: {"bits": public.parameters.bits, "seed": public.seed},
    from_fields=_lattice_key,
    check=lambda public, *, unsafe_small=False: lattice_public.check_public(public, unsafe_small=unsafe_small),
    blinder_bytes=lambda public: 2 * SEED_BYTES,
    blinders=_draw_seeds,
    encrypt=_encrypt_queries,
    example=lambda *, bits, code_bits: lattice_public.PublicKey(
        lattice_public.parameters(bits=code_bits), bytes(SEED_BYTES)
    ),
    row_seconds=_block_seconds,
    opening_name=lambda opening: lattice.QuerySecret(opening.tobytes(), b"").name,
)

KEY_KINDS = {kind.name: kind for kind in (PAILLIER, LATTICE)}
"""Every kind of key, by name."""


def tag_key(public: Any) -> TaggedKey:
    """The key with the name of its kind."""
    for kind in KEY_KINDS.values():
        if isinstance(public, kind.key_type):
            return TaggedKey(kind.name, public)
    raise ValueError(f"public: must be a key of a kind among {', '.join(KEY_KINDS)}, got {type(public).__name__}")


def check_key(tagged: TaggedKey, *, unsafe_small: bool) -> None:
    """Refuse a foreign key that is visibly weak, by the check of its kind: at every door that a card comes in by."""
    KEY_KINDS[tagged.kind].check(tagged.key, unsafe_small=unsafe_small)
