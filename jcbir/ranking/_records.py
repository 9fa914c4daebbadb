"""What the parties hand each other when ranking: arrays of ciphertext rows with the layout and the key they belong to.

None of these records holds a secret. Each carries the fingerprint of its public key, and every function that joins
two of them compares fingerprints first.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from jcbir.ranking._layouts import Layout


class Index(NamedTuple):
    """An encrypted index: what the owner uploads and the server stores.

    Attributes:
        layout: how the codes sit in the ciphertexts.
        fingerprint: of the public key.
        ciphertexts: uint8[blocks * block_ciphertexts, ciphertext_bytes], block by block.
        live: bool[count], False where an image was deleted; None when none was.
    """

    layout: Layout
    fingerprint: str
    ciphertexts: UInt8[np.ndarray, "m c"]
    live: Bool[np.ndarray, " n"] | None = None


class Prepared(NamedTuple):
    """A bit-sliced index with its product tables: what the server keeps in memory to answer quickly.

    Attributes:
        layout: the layout of the index.
        fingerprint: of the public key.
        group: query bits per table group g; 2 are pair tables.
        table: uint8[blocks * ceil(k / g) * 2^g, ciphertext_bytes]; entry v of a group is `E(sum_i (h_i xor v_i))`.
        live: as in `Index`.
    """

    layout: Layout
    fingerprint: str
    group: int
    table: UInt8[np.ndarray, "m c"]
    live: Bool[np.ndarray, " n"] | None = None


class Trapdoor(NamedTuple):
    """An encrypted (`integer`, `packed`) or masked (`bitsliced`) query: what a user sends.

    Attributes:
        scheme: ranking scheme.
        bits: code length k.
        base: base of the digits.
        lanes: images per plaintext, each of which must meet the query.
        fingerprint: of the public key.
        body: uint8[1, ciphertext_bytes], or uint8[1, ceil(k / 8)] masked bits when bit-sliced.
    """

    scheme: str
    bits: int
    base: int
    lanes: int
    fingerprint: str
    body: UInt8[np.ndarray, "1 w"]


class Scores(NamedTuple):
    """Encrypted scores of one query against a whole index: what the server sends the key holder.

    Attributes:
        layout: the layout of the index.
        fingerprint: of the public key.
        ciphertexts: uint8[blocks, ciphertext_bytes], re-randomised.
        live: which lanes hold an image, in the order of the ciphertexts: bool[count] in the order of the index,
            bool[slots] when the blocks are shuffled; None when every one of the `count` images is live and in order.
    """

    layout: Layout
    fingerprint: str
    ciphertexts: UInt8[np.ndarray, "b c"]
    live: Bool[np.ndarray, " s"] | None = None
