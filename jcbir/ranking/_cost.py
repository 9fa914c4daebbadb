"""What a private search costs, before it is paid: bytes and operations exactly, seconds from a calibration.

Bytes are those of the arrays; a message adds its frame. Operations are counted in rows: one encryption, one product
modulo n^2, one inversion, one decryption. `calibration.calibrate` measures how long each takes on the machine at hand.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from jcbir.paillier._engines import choose_engine
from jcbir.paillier.public import PublicKey
from jcbir.ranking._batching import fill_batches, padded_rows
from jcbir.ranking._layouts import Layout, plan


class Line(NamedTuple):
    """Seconds of a batch of n: `fixed + each * n`.

    Attributes:
        fixed: seconds of an empty batch.
        each: seconds per row.
    """

    fixed: float
    each: float

    def at(self, count: int) -> float:
        """Seconds of a batch of `count` rows, 0 for none."""
        return self.fixed + self.each * count if count else 0.0


class Powers(NamedTuple):
    """Seconds of the operations that raise to powers, by one engine.

    Attributes:
        encrypt: the key owner's encryption.
        blind: a blinder made with the public key alone, which is what encrypting with it costs.
        decrypt: a decryption.
    """

    encrypt: Line
    blind: Line
    decrypt: Line


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Seconds of each operation on one machine, for one engine and one modulus length.

    Attributes:
        engine: Paillier engine, `auto` included, that will do the work.
        modulus_bits: length of n.
        powers: for each engine it may resolve to, the seconds of its powers.
        product: a ciphertext product (add, re-randomise).
        pick: a table row multiplied into a bit-sliced score.
        invert: a ciphertext inversion (subtract).
        compose_digit: writing one digit of a plaintext.
        split_row: reading one plaintext whose base is no power of two, apart from its digits.
        split_digit: reading one digit of a plaintext.
    """

    engine: str
    modulus_bits: int
    powers: Mapping[str, Powers]
    product: Line
    pick: Line
    invert: Line
    compose_digit: float
    split_row: float
    split_digit: float


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


@dataclasses.dataclass(frozen=True)
class Seconds:
    """Predicted seconds on the machine of the calibration.

    Attributes:
        build: the owner's index.
        prepare: the server's product tables.
        trapdoor: the user's query, blinder included.
        blinders: the blinders one query uses up, made with the public key alone; a pool moves this ahead of the query.
        score: the server.
        open: the key holder, distances included.
    """

    build: float
    prepare: float
    trapdoor: float
    blinders: float
    score: float
    open: float

    @property
    def query(self) -> float:
        """One query from trapdoor to distances, with pooled blinders."""
        return self.trapdoor + self.score + self.open


@dataclasses.dataclass(frozen=True)
class Cost:
    """The predicted cost of an index and of one query.

    Attributes:
        layout: the planned layout.
        index_bytes: the encrypted index.
        prepared_bytes: its product tables, kept by the server beside or instead of it (0 without tables).
        trapdoor_bytes: one query.
        reply_bytes: the encrypted scores of one query, which the key holder receives.
        operations: rows worked on.
        seconds: predicted seconds, None without a calibration.
    """

    layout: Layout
    index_bytes: int
    prepared_bytes: int
    trapdoor_bytes: int
    reply_bytes: int
    operations: Operations
    seconds: Seconds | None


def cost(
    public: PublicKey,
    *,
    scheme: str,
    count: int,
    bits: int,
    base: int | None = None,
    group: int | None = None,
    calibration: Calibration | None = None,
) -> Cost:
    """Predict the bytes, the operations and the seconds of an index of N images and of one query against it.

    With B blocks and `c = ceil(2 |n| / 8)` bytes per ciphertext: the index is `B c` bytes (`k B c` when bit-sliced),
    the reply `B c`, and the server multiplies `2 B` ciphertexts (`(k + 1) B` when bit-sliced, `ceil(k / g) B` with
    tables of g bits).

    Args:
        public: the key.
        scheme: `integer`, `packed` or `bitsliced`.
        count: images N.
        bits: code length k.
        base: as in `layouts.plan`.
        group: bits per product table of a prepared `bitsliced` index, None without tables.
        calibration: measured on this machine for this length of key; None leaves the seconds out.

    Returns:
        The cost.

    Raises:
        ValueError: as `layouts.plan`; a group for another scheme than `bitsliced`; a calibration of another key
            length.
        CapacityError: as `layouts.plan`.

    Example:
        >>> public = PublicKey(n=49 * 2**2042 + 1, g=2)
        >>> predicted = cost(public, scheme="bitsliced", count=100_000, bits=64, group=2)
        >>> predicted.operations.decryptions, predicted.reply_bytes
        (295, 151040)

    """
    layout = plan(public, scheme=scheme, count=count, bits=bits, base=base)
    if group is not None and scheme != "bitsliced":
        raise ValueError(f"group: only bitsliced indexes have product tables, got {scheme}")
    if calibration is not None and calibration.modulus_bits != layout.modulus_bits:
        raise ValueError(f"calibration: must be of a {layout.modulus_bits}-bit key, got {calibration.modulus_bits}")
    operations = _operations(layout, group)
    width = layout.ciphertext_bytes
    entries = 0 if group is None else layout.blocks * -(-bits // group) << group
    return Cost(
        layout=layout,
        index_bytes=layout.ciphertexts * width,
        prepared_bytes=entries * width,
        trapdoor_bytes=-(-bits // 8) if scheme == "bitsliced" else width,
        reply_bytes=layout.blocks * width,
        operations=operations,
        seconds=None if calibration is None else _seconds(layout, group, operations, calibration),
    )


def _operations(layout: Layout, group: int | None) -> Operations:
    blocks, bits = layout.blocks, layout.bits
    sliced = layout.scheme == "bitsliced"
    table_products = 0
    if group is not None:
        # The inversion of each plane ends in a product; each doubling of the group multiplies every entry once.
        table_products = layout.ciphertexts
        size = 1
        while size < group:
            size *= 2
            table_products += blocks * -(-bits // size) << size
    if not sliced:
        products, inversions = 2 * blocks + (layout.scheme == "integer"), int(layout.scheme == "integer")
    elif group is None:
        products, inversions = blocks * (bits + 1), blocks
    else:
        products, inversions = blocks * -(-bits // group), 0
    return Operations(
        build_encryptions=layout.ciphertexts,
        prepare_products=table_products,
        prepare_inversions=layout.ciphertexts if group is not None else 0,
        trapdoor_encryptions=0 if sliced else 1,
        blinders=blocks,
        score_products=products,
        score_inversions=inversions,
        decryptions=blocks,
    )


def _seconds(layout: Layout, group: int | None, operations: Operations, measured: Calibration) -> Seconds:
    blocks, digits = layout.blocks, layout.lanes * layout.lane_digits
    if layout.scheme == "integer":
        digits = 0
    split = blocks * digits * measured.split_digit
    if digits and layout.base & (layout.base - 1):
        split += blocks * measured.split_row
    tables = operations.prepare_products - operations.prepare_inversions
    if layout.scheme != "bitsliced":
        score = 2 * measured.product.at(blocks) + measured.invert.at(operations.score_inversions)
    elif group is None:
        score = measured.pick.at(blocks * layout.bits) + measured.invert.at(blocks) + 2 * measured.product.at(blocks)
    else:
        score = measured.pick.at(blocks * -(-layout.bits // group)) + measured.product.at(blocks)
    return Seconds(
        build=_power_seconds(measured, "encrypt", layout.ciphertexts)
        + layout.ciphertexts * digits * measured.compose_digit,
        prepare=measured.invert.at(operations.prepare_inversions) + measured.product.at(tables),
        trapdoor=_power_seconds(measured, "blind", operations.trapdoor_encryptions),
        blinders=_power_seconds(measured, "blind", blocks),
        score=score,
        open=_power_seconds(measured, "decrypt", blocks) + split,
    )


def _power_seconds(measured: Calibration, operation: str, count: int) -> float:
    """Seconds of a batch of powers, by the engine that will take it; `jax` computes its padding too."""
    engine = choose_engine(measured.engine, count=count)
    line = getattr(measured.powers[engine], operation)
    if engine != "jax":
        return line.at(count)
    parts = [part.stop - part.start for part in fill_batches(count)] if operation == "decrypt" else [count]
    return sum(line.at(padded_rows(part)) for part in parts)
