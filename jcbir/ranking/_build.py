"""The owner's index and the user's trapdoor, and how an index grows and shrinks without the secret key.

`encrypt` is a closure from plaintext rows to ciphertext rows, so that the same function serves the owner, who
encrypts fast with the secret key, and anyone with the public key alone:

    encrypt = lambda rows: public.encrypt(public_key, rows, blinders=public_blinders)
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Integer

from jcbir.paillier import public as paillier
from jcbir.paillier.public import PublicKey
from jcbir.ranking import bitsliced, integer, packed
from jcbir.ranking._layouts import Layout, check_fingerprint, check_layout, plan
from jcbir.ranking._records import Index, Trapdoor
from jcbir.typing import Array, Rows

Encrypt = Callable[[Rows], Rows]
ENCODERS = {"integer": integer, "packed": packed, "bitsliced": bitsliced}


def build_index(codes: Bool[Array, "n k"], layout: Layout, *, encrypt: Encrypt, public: PublicKey) -> Index:
    """Encrypt codes into an index.

    Args:
        codes: `layout.count` codes of `layout.bits` bits, behind the keyed isometry (`isometry.mask_codes`).
        layout: from `layouts.plan` with the same key.
        encrypt: plaintext rows to ciphertext rows.
        public: the key `encrypt` encrypts under.

    Returns:
        The index, `layout.ciphertexts` ciphertexts.

    Raises:
        ValueError: codes of another number or length than the layout, or a layout of another key size.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import encrypt, generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> seal = lambda rows: encrypt(key, rows, draw=secrets.token_bytes)
        >>> codes = np.eye(8, dtype=bool)[:3]
        >>> layout = plan(key.public, scheme="packed", count=3, bits=8)
        >>> index = build_index(codes, layout, encrypt=seal, public=key.public)
        >>> len(index.ciphertexts) == index.layout.blocks
        True

    """
    check_layout(public, layout)
    if codes.shape != (layout.count, layout.bits):
        raise ValueError(f"codes: must be {layout.count} x {layout.bits} as the layout is, got {codes.shape}")
    plaintexts = ENCODERS[layout.scheme].encode_index(np.asarray(codes), layout)
    return Index(layout, public.fingerprint, encrypt(plaintexts))


def trapdoor(code: Bool[Array, " k"], layout: Layout, *, public: PublicKey, encrypt: Encrypt | None = None) -> Trapdoor:
    """Turn a query code into what the server needs to score it.

    Args:
        code: the query code, behind the same isometry as the index. With `bitsliced` it travels in clear: an unmasked
            code would tell the server the query.
        layout: a layout of the same scheme, bits and base under this key; its `count` does not matter.
        public: the key of the index.
        encrypt: plaintext rows to ciphertext rows; not used, and not needed, by `bitsliced`.

    Returns:
        The trapdoor: one ciphertext, or `ceil(k / 8)` bytes when bit-sliced.

    Raises:
        ValueError: a code of another length, a layout of another key size, or no `encrypt` where one is needed.

    Example:
        >>> public = PublicKey(n=9**4 + 2, g=9**4 + 3)
        >>> layout = plan(public, scheme="bitsliced", count=1, bits=8)
        >>> trapdoor(np.arange(8) > 3, layout, public=public).body.tolist()
        [[15]]

    """
    if code.shape != (layout.bits,):
        raise ValueError(f"code: must have {layout.bits} bits as the layout has, got shape {code.shape}")
    return trapdoors(np.asarray(code)[None], layout, public=public, encrypt=encrypt)[0]


def trapdoors(
    codes: Bool[Array, "q k"], layout: Layout, *, public: PublicKey, encrypt: Encrypt | None = None
) -> tuple[Trapdoor, ...]:
    """Turn query codes into trapdoors, encrypted in one batch.

    Args:
        codes: the query codes, behind the same isometry as the index.
        layout: as for `trapdoor`.
        public: the key of the index.
        encrypt: plaintext rows to ciphertext rows; not used, and not needed, by `bitsliced`.

    Returns:
        q trapdoors, each what `trapdoor` gives for its code.

    Raises:
        ValueError: no code, codes of another length, a layout of another key size, no `encrypt` where one is needed.

    Example:
        >>> public = PublicKey(n=9**4 + 2, g=9**4 + 3)
        >>> layout = plan(public, scheme="bitsliced", count=1, bits=8)
        >>> [door.body.tolist() for door in trapdoors(np.eye(8, dtype=bool)[:2], layout, public=public)]
        [[[128]], [[64]]]

    """
    check_layout(public, layout)
    if codes.ndim != 2 or len(codes) < 1 or codes.shape[1] != layout.bits:
        raise ValueError(f"codes: must be q x {layout.bits} with q at least 1, got shape {codes.shape}")
    encoder = ENCODERS[layout.scheme]
    bodies = [encoder.encode_query(code, layout) for code in np.asarray(codes)]
    if layout.scheme != "bitsliced":
        if encrypt is None:
            raise ValueError(f"encrypt: a {layout.scheme} trapdoor is encrypted; pass the closure")
        bodies = list(encrypt(np.concatenate(bodies))[:, None])
    return tuple(
        Trapdoor(layout.scheme, layout.bits, layout.base, layout.lanes, public.fingerprint, body) for body in bodies
    )


def append(
    public: PublicKey, index: Index, codes: Bool[Array, "n k"], *, encrypt: Encrypt, engine: str = "auto"
) -> Index:
    """Add images at the end of an index: open lanes are filled homomorphically, the rest is new blocks.

    `E(x) E(h base^(lane)) = E(x + h base^(lane))`: one product per ciphertext of the open block, whatever is in it
    already. The result opens exactly as an index built at once; deleted lanes stay deleted.

    Args:
        public: the key of the index.
        index: the index to grow; it is not changed.
        codes: n new codes, behind the same isometry.
        encrypt: plaintext rows to ciphertext rows.
        engine: Paillier engine.

    Returns:
        The grown index: `count + n` images.

    Raises:
        ValueError: no codes, or of another length.
        KeyMismatchError: the index belongs to another key.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import encrypt, generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> seal = lambda rows: encrypt(key, rows, draw=secrets.token_bytes)
        >>> codes = np.eye(8, dtype=bool)
        >>> layout = plan(key.public, scheme="packed", count=3, bits=8)
        >>> index = build_index(codes[:3], layout, encrypt=seal, public=key.public)
        >>> append(key.public, index, codes[3:], encrypt=seal).layout.count
        8

    """
    check_fingerprint(public, index.fingerprint, name="index")
    old = index.layout
    if codes.ndim != 2 or codes.shape[0] < 1 or codes.shape[1] != old.bits:
        raise ValueError(f"codes: must be n x {old.bits} with n at least 1, got {codes.shape}")
    layout = plan(public, scheme=old.scheme, count=old.count + len(codes), bits=old.bits, base=old.base)
    # Zero codes in the taken lanes add nothing, so the new blocks are encoded as if the open block began empty.
    taken = old.count % old.lanes
    added = np.concatenate([np.zeros((taken, old.bits), bool), np.asarray(codes)])
    fresh = encrypt(ENCODERS[old.scheme].encode_index(added, layout))
    rows = index.ciphertexts
    if taken:
        width = old.block_ciphertexts
        filled = paillier.add(public, rows[-width:], fresh[:width], engine=engine)
        rows, fresh = np.concatenate([rows[:-width], filled]), fresh[width:]
    live = None if index.live is None else np.concatenate([index.live, np.ones(len(codes), bool)])
    return Index(layout, index.fingerprint, np.concatenate([rows, fresh]), live)


def delete(index: Index, positions: Integer[Array, " m"]) -> Index:
    """Mark images as deleted: a tombstone each; scores carry the marks and ranking skips them.

    The ciphertexts stay as they are, so the old codes can still be decrypted by the key holder until the index is
    built anew.

    Args:
        index: the index; it is not changed.
        positions: positions of the images to delete; deleting one twice is no error.

    Returns:
        The index with `live` False there.

    Raises:
        ValueError: a position outside `0..count-1`.

    Example:
        >>> layout = Layout("integer", 8, 3, 16, 2, 1, 3)
        >>> index = Index(layout, "key", np.ones((3, 4), np.uint8))
        >>> delete(index, np.array([1])).live.tolist()
        [True, False, True]

    """
    chosen = np.asarray(positions)
    count = index.layout.count
    if chosen.size and not (chosen.min() >= 0 and chosen.max() < count):
        raise ValueError(f"positions: must be 0..{count - 1}, got {chosen.min()}..{chosen.max()}")
    live = np.ones(count, bool) if index.live is None else index.live.copy()
    live[chosen] = False
    return index._replace(live=live)
