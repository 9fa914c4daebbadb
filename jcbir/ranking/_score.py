"""What the server computes: encrypted scores of a whole index, with the public key alone.

Trust is an import rule: nothing here can reach the secret half of a key, the cipher or the network. Every ciphertext
that leaves is blinded afresh, so that the key holder cannot recompute from its randomness which index entries went
into it.
"""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from jcbir.ranking._scheme import Index, Layout, Prepared, Scores, Trapdoor
from jcbir.ranking._table import check_fingerprint, check_layout, find_scheme
from jcbir.typing import Array


def score(
    public: Any,
    index: Index | Prepared,
    trapdoor: Trapdoor,
    *,
    blinders: UInt8[Array, "m c"],
    engine: str = "auto",
    share: bool = True,
) -> Scores:
    """Score every image of an index against one query, without a secret.

    `integer`: `E(t_i) E(t_q)^-1`. `packed`: `E(h) E(1 - q)`. `bitsliced`: the product over the bits of `E(h_j xor
    q_j)`, k products per block from an `Index`, `k / g` from a `Prepared` one. Each result is multiplied by a fresh
    encryption of zero. `lattice`: see `jcbir.lattice.public.score`.

    Args:
        public: the key of the index.
        index: an encrypted index, or a prepared one.
        trapdoor: the query.
        blinders: at least `Shapes.blinders` fresh encryptions of zero (`paillier.blinders` or a pool), each used once.
        engine: arithmetic engine.
        share: whether the rows that all segments of an index share come first, where the scheme has such.

    Returns:
        The encrypted scores, `layout.blocks` of them in a Paillier scheme.

    Raises:
        KeyMismatchError: the index or the trapdoor belongs to another key.
        ValueError: a trapdoor of another scheme, length or layout; an index of another shape; too few blinders.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import encrypt, generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> seal = lambda rows: encrypt(key, rows, draw=secrets.token_bytes)
        >>> from jcbir.paillier import blinders
        >>> from jcbir.ranking import build_index, plan, trapdoor
        >>> from jcbir.ranking._packed import PACKED
        >>> layout = plan(key.public, scheme=PACKED.name, count=3, bits=8)
        >>> index = build_index(np.eye(8, dtype=bool)[:3], layout, encrypt=seal, public=key.public)
        >>> query = trapdoor(np.arange(8) > 3, layout, encrypt=seal, public=key.public)
        >>> fresh = blinders(key.public, layout.blocks, draw=secrets.token_bytes)
        >>> len(score(key.public, index, query, blinders=fresh).ciphertexts) == layout.blocks
        True

    """
    layout = index.layout
    _check_index(public, index)
    check_fingerprint(public, trapdoor.fingerprint, name="trapdoor")
    _check_trapdoor(layout, trapdoor)
    scheme = find_scheme(layout.scheme)
    needed = scheme.shapes(layout).blinders
    if len(blinders) < needed:
        raise ValueError(f"blinders: must be at least {needed} rows, one for each score, got {len(blinders)}")
    rows = scheme.score(public, index, trapdoor, blinders=blinders[:needed], engine=engine)
    if share and scheme.share is not None:
        rows = np.concatenate([scheme.share(public, trapdoor), rows])
    return Scores(layout, public.fingerprint, rows)


def prepare(public: Any, index: Index, *, group: int = 2, engine: str = "auto") -> Prepared:
    """Build the product tables of an index: each query then multiplies `k / g` ciphertexts per block, not k.

    Args:
        public: the key of the index.
        index: an index of a scheme that has tables (`Scheme.prepare`): `bitsliced`.
        group: query bits per table group g: 1, 2 (pair tables) or 4. Storage is `2^g / g` times the index.
        engine: arithmetic engine.

    Returns:
        The prepared index; scores from it are the same numbers.

    Raises:
        KeyMismatchError: the index belongs to another key.
        ValueError: another scheme, or another group.

    Example:
        >>> import secrets
        >>> import numpy as np
        >>> from jcbir.paillier.secret import encrypt, generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> seal = lambda rows: encrypt(key, rows, draw=secrets.token_bytes)
        >>> from jcbir.ranking import build_index, plan
        >>> from jcbir.ranking._bitsliced import BITSLICED
        >>> layout = plan(key.public, scheme=BITSLICED.name, count=3, bits=8)
        >>> index = build_index(np.eye(8, dtype=bool)[:3], layout, encrypt=seal, public=key.public)
        >>> len(prepare(key.public, index).table) == 2 * len(index.ciphertexts)
        True

    """
    _check_index(public, index)
    scheme = find_scheme(index.layout.scheme)
    if scheme.prepare is None:
        raise ValueError(f"index: must be of a scheme with product tables, got {scheme.name}")
    return scheme.prepare(public, index, group=group, engine=engine)


def _check_index(public: Any, index: Index | Prepared) -> None:
    check_fingerprint(public, index.fingerprint, name="index")
    check_layout(public, index.layout)
    if isinstance(index, Index):
        rows, width = find_scheme(index.layout.scheme).shapes(index.layout).index
        if index.ciphertexts.shape != (rows, width):
            raise ValueError(f"index: must be {rows} x {width} bytes, got {index.ciphertexts.shape}")


def _check_trapdoor(layout: Layout, trapdoor: Trapdoor) -> None:
    for field in ("scheme", "bits", "base", "lanes"):
        expected, given = getattr(layout, field), getattr(trapdoor, field)
        if expected != given:
            raise ValueError(f"trapdoor.{field}: must be {expected!r} as in the index, got {given!r}")
    expected = find_scheme(layout.scheme).shapes(layout).query
    if trapdoor.body.shape != expected:
        raise ValueError(f"trapdoor.body: must be 1 x {expected[1]} bytes, got {trapdoor.body.shape}")
