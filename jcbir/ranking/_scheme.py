"""What a ranking scheme is: one record, and the plain records that its functions take and give.

Nothing here, and nothing that a scheme's record holds, can reach a secret key: the owner encrypts and the authority
decrypts by closures from rows to rows, so that the same record serves the server and the key holder.
"""

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from jcbir.typing import Array, Rows

MIN_BITS, MAX_BITS = 8, 512


@dataclasses.dataclass(frozen=True)
class Layout:
    """How `count` codes of `bits` bits sit in ciphertexts under one key; made by `plan`.

    Attributes:
        scheme: name of the ranking scheme.
        bits: code length k.
        count: images in the index.
        modulus_bits: bits of the key's modulus, which fixes the byte widths.
        base: base of the digits.
        lanes: images per plaintext.
        blocks: groups of `lanes` images: `ceil(count / lanes)`.
    """

    scheme: str
    bits: int
    count: int
    modulus_bits: int
    base: int
    lanes: int
    blocks: int

    @property
    def plaintext_bytes(self) -> int:
        """Bytes of one number below the modulus: `ceil(modulus_bits / 8)`."""
        return -(-self.modulus_bits // 8)

    @property
    def ciphertext_bytes(self) -> int:
        """Bytes of one number below the modulus' square: `ceil(2 * modulus_bits / 8)`."""
        return -(-2 * self.modulus_bits // 8)

    @property
    def slots(self) -> int:
        """Lanes of all blocks, those beyond the last image included."""
        return self.blocks * self.lanes


class Index(NamedTuple):
    """An encrypted index: what the owner uploads and the server stores.

    Attributes:
        layout: how the codes sit in the ciphertexts.
        fingerprint: of the public key.
        ciphertexts: the rows of `Shapes.index`, block by block.
        hint: None, or one row a block for the authority alone (in the catalog, never at the server): what a scheme
            whose blocks have secrets of their own needs to open them, their nonce for instance.
    """

    layout: Layout
    fingerprint: str
    ciphertexts: UInt8[np.ndarray, "m c"]
    hint: UInt8[np.ndarray, "b h"] | None = None


class Prepared(NamedTuple):
    """An index as the server keeps it in memory to answer quickly.

    Attributes:
        layout: the layout of the index.
        fingerprint: of the public key.
        group: query bits per table group g; 2 are pair tables.
        table: as its scheme computes with it. `bitsliced`: uint8[blocks * ceil(k / g) * 2^g, ciphertext_bytes], entry v
            of a group is `E(sum_i (h_i xor v_i))`.
    """

    layout: Layout
    fingerprint: str
    group: int
    table: Any


class Trapdoor(NamedTuple):
    """An encrypted or masked query: what a user sends.

    Attributes:
        scheme: ranking scheme.
        bits: code length k.
        base: base of the digits.
        lanes: images per plaintext, each of which must meet the query.
        fingerprint: of the public key.
        body: uint8[1, w], the row of `Shapes.query`.
        opening: None, or uint8[1, v] for the authority alone (sealed to it, never at the server): what it needs
            besides its key to open the scores of this query.
    """

    scheme: str
    bits: int
    base: int
    lanes: int
    fingerprint: str
    body: UInt8[np.ndarray, "1 w"]
    opening: UInt8[np.ndarray, "1 v"] | None = None


class Scores(NamedTuple):
    """Encrypted scores of one query against a whole index: what the server sends the key holder.

    Attributes:
        layout: the layout of the index.
        fingerprint: of the public key.
        ciphertexts: the rows of `Shapes.scores`, blinded afresh; before them, once a query, those of `Shapes.shared`.
    """

    layout: Layout
    fingerprint: str
    ciphertexts: UInt8[np.ndarray, "b c"]


class Shapes(NamedTuple):
    """Rows and bytes a row of what a layout puts on disk and on the wire.

    What the closure `encrypt` returns beyond the bytes of a row of `index` or `query` is for the authority alone: the
    hint and the opening.

    Attributes:
        index: rows and bytes of the index.
        query: rows (1) and bytes of a trapdoor.
        scores: rows and bytes of the scores of one query.
        blinders: blinders that one query uses up at the server.
        shared: rows, as wide as those of `scores`, that a query has once, before the scores of its first segment.
        opened: rows that the opened scores have; None is as many as `scores`.
    """

    index: tuple[int, int]
    query: tuple[int, int]
    scores: tuple[int, int]
    blinders: int
    shared: int = 0
    opened: int | None = None

    @property
    def plaintexts(self) -> int:
        """Rows of the opened scores."""
        return self.scores[0] if self.opened is None else self.opened


def score_rows(shapes: Sequence[Shapes]) -> list[int]:
    """Rows of the scores of each segment of an index: what they share stands before the first."""
    return [shape.scores[0] + (0 if place else shape.shared) for place, shape in enumerate(shapes)]


@dataclasses.dataclass(frozen=True)
class Operations:
    """Rows worked on, per index or per query.

    Attributes:
        build_encryptions: encryptions of the index.
        prepare_products: products of the product tables (0 without tables).
        prepare_inversions: inversions of the product tables.
        trapdoor_encryptions: encryptions of a query by its user.
        blinders: fresh encryptions of zero that one query uses up at the server.
        score_products: products at the server, for a query with ones and zeros among its bits.
        score_inversions: inversions at the server.
        decryptions: decryptions of one query by the key holder.
    """

    build_encryptions: int
    prepare_products: int
    prepare_inversions: int
    trapdoor_encryptions: int
    blinders: int
    score_products: int
    score_inversions: int
    decryptions: int


class Work(NamedTuple):
    """What an index and a query against it cost, in a scheme's own words.

    Attributes:
        operations: rows worked on.
        batches: what the server runs for one query: fields of `Calibration` (`product`, `pick`, `invert`) and rows.
        digits: digits of a plaintext that are written and read by division (0 when they are bytes already).
        prepared_bytes: a prepared index in the server's memory, 0 without.
    """

    operations: Operations
    batches: tuple[tuple[str, int], ...]
    digits: int
    prepared_bytes: int = 0


class Seen(NamedTuple):
    """What a party can compute from what it was sent, by its own means.

    Attributes:
        words: the same in one line, for a table.
        values: by name.
    """

    words: str
    values: Mapping[str, Any]


class Leakage(NamedTuple):
    """What a scheme gives an honest party beyond sizes and fetched images.

    Attributes:
        server: `server(trapdoors)`, from the trapdoors it received.
        authority: `authority(rows, public)`, from the decrypted scores: for each query the pieces `decode` takes. With
            no rows it says in words what a query will show.
    """

    server: Callable[[Sequence[Trapdoor]], Seen]
    authority: Callable[..., Seen]


class Scheme(NamedTuple):
    """A ranking scheme: all that is peculiar to it, as functions on arrays.

    Attributes:
        name: as layouts, requests and options spell it.
        description: what it is, in a few words.
        key_kind: name of the kind of key it needs, in `KEY_KINDS`.
        encrypted_query: whether the query travels encrypted; if not, as masked bits in clear.
        plan: `plan(public, count=, bits=, base=)` -> Layout.
        isometries: `isometries(layout)`: isometries that take turns over the images, `i mod isometries`.
        shapes: `shapes(layout)` -> Shapes.
        encode_index: `encode_index(codes, layout)`: bool[n, k] to plaintext rows.
        encode_query: `encode_query(codes, layout)`: bool[m, k], the query under each isometry, to the row uint8[1, w]
            that is encrypted, or sent if the query travels in clear.
        prepare: None, or `prepare(public, index, group=, engine=)` -> Prepared.
        score: `score(public, index, trapdoor, blinders=, engine=)`: the rows of `Shapes.scores`, blinded.
        decode: `decode(pieces, public)`: one query's decrypted scores of every segment, pairs of layout and rows in
            order, to int32[n] distances that compare across segments.
        distances: `distances(codes, code)`: the same int32[n] in clear, from codes under one isometry.
        cost: `cost(layout, group)` -> Work.
        leakage: what the parties learn.
        share: None, or `share(public, trapdoor)`: the rows of `Shapes.shared`.
        table_bits: bits of a query for each product table of a prepared index, where its server can keep such tables.
    """

    name: str
    description: str
    key_kind: str
    encrypted_query: bool
    plan: Callable[..., Layout]
    isometries: Callable[[Layout], int]
    shapes: Callable[[Layout], Shapes]
    encode_index: Callable[[Bool[np.ndarray, "n k"], Layout], Rows]
    encode_query: Callable[[Bool[np.ndarray, "m k"], Layout], Rows]
    prepare: Callable[..., Prepared] | None
    score: Callable[..., Rows]
    decode: Callable[..., Int32[np.ndarray, " n"]]
    distances: Callable[..., Int32[np.ndarray, " n"]]
    cost: Callable[[Layout, int | None], Work]
    leakage: Leakage
    share: Callable[..., Rows] | None = None
    table_bits: int | None = None


def hamming_distances(codes: Bool[np.ndarray, "n k"], code: Bool[np.ndarray, " k"]) -> Int32[np.ndarray, " n"]:
    """Hamming distances in clear, int32[n]."""
    return np.count_nonzero(codes ^ code, axis=1).astype(np.int32)


def check_codes(codes: Bool[Array, "*b k"], *, name: str) -> Bool[np.ndarray, "*b k"]:
    """The codes as a NumPy array; anything but booleans is refused, for -1, 0.5 and 255 would all count as ones."""
    given = np.asarray(codes)
    if given.dtype != bool:
        raise ValueError(f"{name}: must be a bool array, got {given.dtype}")
    return given


def check_whole(value: int, *, name: str, low: int, high: int | None = None) -> int:
    """The value as an int; fractions, booleans and what lies outside `low..high` are refused."""
    bound = f"a whole number of at least {low}" if high is None else f"a whole number {low}..{high}"
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: must be {bound}, got {value!r}") from None
    if isinstance(value, bool | np.bool_) or number < low or (high is not None and number > high):
        raise ValueError(f"{name}: must be {bound}, got {value!r}")
    return number
