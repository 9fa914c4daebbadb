"""The owner's index and the user's trapdoor.

`encrypt` is a closure from plaintext rows to ciphertext rows, so that the same function serves the owner, who
encrypts fast with the secret key, and anyone with the public key alone:

    encrypt = lambda rows: public.encrypt(public_key, rows, blinders=public_blinders)
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool

from jcbir.ranking._scheme import Index, Layout, Trapdoor, check_codes
from jcbir.ranking._table import check_layout, find_scheme
from jcbir.ranking.isometry import mask_lanes
from jcbir.typing import Array, Rows

Encrypt = Callable[[Rows], Rows]


def mask_index(codes: Bool[Array, "n k"], layout: Layout, *, masking_key: bytes) -> Bool[np.ndarray, "n k"]:
    """Mask the codes of an index as its scheme wants: under one isometry, or under one for each lane.

    `x_i -> x_i[permutation_l] xor mask_l`, `l = i mod isometries`

    Args:
        codes: n codes of k bits, in index order.
        layout: of the index.
        masking_key: 32 secret bytes, shared by the owner and its users.

    Returns:
        bool[n, k], what `build_index` encrypts.

    Raises:
        ValueError: codes that are not booleans or of another length, or a key of another length.

    Example:
        >>> from jcbir.paillier.public import PublicKey
        >>> from jcbir.ranking import plan
        >>> from jcbir.ranking._packed import PACKED
        >>> layout = plan(PublicKey(n=3**33, g=2), scheme=PACKED.name, count=3, bits=8)
        >>> mask_index(np.zeros((3, 8), bool), layout, masking_key=bytes(32)).shape
        (3, 8)

    """
    checked = _check_shape(codes, layout, axes=2)
    return mask_lanes(checked, masking_key, lanes=find_scheme(layout.scheme).isometries(layout))


def mask_query(codes: Bool[Array, "q k"], layout: Layout, *, masking_key: bytes) -> Bool[np.ndarray, "q m k"]:
    """Mask query codes under every isometry of the index they will be compared with.

    Args:
        codes: q query codes of k bits.
        layout: a layout of the same scheme, bits and base under the same key; its `count` does not matter.
        masking_key: 32 secret bytes, shared by the owner and its users.

    Returns:
        bool[q, m, k], what `trapdoors` takes: each query under each of m isometries.

    Raises:
        ValueError: codes that are not booleans or of another length, or a key of another length.

    Example:
        >>> from jcbir.paillier.public import PublicKey
        >>> from jcbir.ranking import plan
        >>> from jcbir.ranking._packed import PACKED
        >>> layout = plan(PublicKey(n=3**33, g=2), scheme=PACKED.name, count=3, bits=8)
        >>> mask_query(np.zeros((1, 8), bool), layout, masking_key=bytes(32)).shape
        (1, 4, 8)

    """
    checked = _check_shape(codes, layout, axes=2)
    lanes = find_scheme(layout.scheme).isometries(layout)
    masked = mask_lanes(np.repeat(checked, lanes, axis=0), masking_key, lanes=lanes)
    return masked.reshape(len(checked), lanes, layout.bits)


def build_index(codes: Bool[Array, "n k"], layout: Layout, *, encrypt: Encrypt, public: Any) -> Index:
    """Encrypt codes into an index.

    Args:
        codes: `layout.count` codes of `layout.bits` bits, behind the keyed isometry (`mask_index`).
        layout: from `plan` with the same key.
        encrypt: plaintext rows to ciphertext rows.
        public: the key `encrypt` encrypts under.

    Returns:
        The index; its `hint`, where the scheme has one, is for the authority alone.

    Raises:
        ValueError: codes that are not booleans, of another number or length than the layout, or a layout of another
            key size.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import encrypt, generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> seal = lambda rows: encrypt(key, rows, draw=secrets.token_bytes)
        >>> from jcbir.ranking import plan
        >>> codes = np.eye(8, dtype=bool)[:3]
        >>> from jcbir.ranking._packed import PACKED
        >>> layout = plan(key.public, scheme=PACKED.name, count=3, bits=8)
        >>> index = build_index(codes, layout, encrypt=seal, public=key.public)
        >>> len(index.ciphertexts) == index.layout.blocks
        True

    """
    check_layout(public, layout)
    checked = check_codes(codes, name="codes")
    if checked.shape != (layout.count, layout.bits):
        raise ValueError(f"codes: must be {layout.count} x {layout.bits} as the layout is, got shape {checked.shape}")
    scheme = find_scheme(layout.scheme)
    rows, hint = _detach(encrypt(scheme.encode_index(checked, layout)), scheme.shapes(layout).index[1])
    return Index(layout, public.fingerprint, rows, hint)


def trapdoor(
    code: Bool[Array, " k"] | Bool[Array, "m k"], layout: Layout, *, public: Any, encrypt: Encrypt | None = None
) -> Trapdoor:
    """Turn a query code into what the server needs to score it.

    Args:
        code: the query code under each isometry of the index (`mask_query`), or under one that all lanes share. With
            `bitsliced` it travels in clear: an unmasked code would tell the server the query.
        layout: a layout of the same scheme, bits and base under this key; its `count` does not matter.
        public: the key of the index.
        encrypt: plaintext rows to ciphertext rows; not used, and not needed, where queries travel in clear.

    Returns:
        The trapdoor: one ciphertext, or `ceil(k / 8)` bytes when bit-sliced.

    Raises:
        ValueError: a code that is not boolean or of another length, a layout of another key size, or no `encrypt`
            where one is needed.

    Example:
        >>> from jcbir.paillier.public import PublicKey
        >>> from jcbir.ranking import plan
        >>> public = PublicKey(n=9**4 + 2, g=9**4 + 3)
        >>> from jcbir.ranking._bitsliced import BITSLICED
        >>> layout = plan(public, scheme=BITSLICED.name, count=1, bits=8)
        >>> trapdoor(np.arange(8) > 3, layout, public=public).body.tolist()
        [[15]]

    """
    return trapdoors(np.asarray(code)[None], layout, public=public, encrypt=encrypt)[0]


def trapdoors(
    codes: Bool[Array, "q k"] | Bool[Array, "q m k"], layout: Layout, *, public: Any, encrypt: Encrypt | None = None
) -> tuple[Trapdoor, ...]:
    """Turn query codes into trapdoors, encrypted in one batch.

    Args:
        codes: q query codes, each as for `trapdoor`.
        layout: as for `trapdoor`.
        public: the key of the index.
        encrypt: plaintext rows to ciphertext rows; not used, and not needed, where queries travel in clear.

    Returns:
        q trapdoors; their `opening`, where the scheme has one, is for the authority alone.

    Raises:
        ValueError: no code, codes that are not booleans or of another shape, a layout of another key size, no
            `encrypt` where one is needed.

    Example:
        >>> from jcbir.paillier.public import PublicKey
        >>> from jcbir.ranking import plan
        >>> public = PublicKey(n=9**4 + 2, g=9**4 + 3)
        >>> from jcbir.ranking._bitsliced import BITSLICED
        >>> layout = plan(public, scheme=BITSLICED.name, count=1, bits=8)
        >>> [door.body.tolist() for door in trapdoors(np.eye(8, dtype=bool)[:2], layout, public=public)]
        [[[128]], [[64]]]

    """
    check_layout(public, layout)
    scheme = find_scheme(layout.scheme)
    checked = _check_shape(codes, layout, axes=np.ndim(codes))
    checked = checked[:, None] if checked.ndim == 2 else checked
    isometries = scheme.isometries(layout)
    if checked.ndim != 3 or len(checked) < 1 or checked.shape[1] not in (1, isometries):
        raise ValueError(f"codes: must be q x {isometries} x {layout.bits}, q at least 1, got shape {np.shape(codes)}")
    bodies = np.concatenate([scheme.encode_query(code, layout) for code in checked])
    if scheme.encrypted_query:
        if encrypt is None:
            raise ValueError(f"encrypt: must be a closure, for a {scheme.name} trapdoor is encrypted, got None")
        bodies = encrypt(bodies)
    rows, opening = _detach(bodies, scheme.shapes(layout).query[1])
    return tuple(
        Trapdoor(
            scheme.name, layout.bits, layout.base, layout.lanes, public.fingerprint, rows[i : i + 1],
            None if opening is None else opening[i : i + 1],
        )
        for i in range(len(rows))
    )  # fmt: skip


def _check_shape(codes: Array, layout: Layout, *, axes: int) -> np.ndarray:
    checked = check_codes(codes, name="codes")
    if checked.ndim != axes or checked.ndim < 2 or checked.shape[-1] != layout.bits:
        raise ValueError(f"codes: must be of {layout.bits} bits as the layout is, got shape {checked.shape}")
    return checked


def _detach(rows: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows of `width` bytes for the server, and what stands behind them for the authority."""
    if rows.shape[1] < width:
        raise ValueError(f"encrypt: must be a closure to rows of at least {width} bytes, got {rows.shape[1]}")
    return (rows, None) if rows.shape[1] == width else (rows[:, :width], rows[:, width:])
