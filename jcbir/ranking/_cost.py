"""What a private search costs, before it is paid: bytes and operations exactly, seconds from a calibration.

Bytes are those of the arrays; a message adds its frame. Operations are counted in rows: one encryption, one product
modulo n^2, one inversion, one decryption. `calibrate` measures in about two seconds how long each takes on the machine
at hand: each operation is timed at two sizes and a line drawn through them; the first call of each size compiles what
an engine compiles, and is not timed. The clock is an argument, so that nothing below the edge reads one: pass
`time.perf_counter`, or `time.process_time` for the seconds of one core.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jcbir.paillier import _blinding as blinding, _engines as engines, public as paillier, secret as secret_half
from jcbir.paillier.secret import SecretKey
from jcbir.ranking._batching import fill_batches, padded_rows
from jcbir.ranking._radix import compose, split
from jcbir.ranking._scheme import Layout, Operations, Work
from jcbir.ranking._table import find_scheme, plan

ROUNDS = 3
SMALLEST, LARGEST = 4, 4096
POOL = 64
# A key owner encrypts whole indexes, by a table that small batches do not use.
BATCH = 32
# Picks per bit-sliced score: as many as a 64-bit code takes with pair tables.
PICKS = 32


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
        product: a ciphertext product (add, re-randomize).
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
    public: Any,
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
        scheme: name of the ranking scheme.
        count: images N.
        bits: code length k.
        base: as for `plan`.
        group: bits per product table of a prepared index, None without tables.
        calibration: measured on this machine for this length of key; None leaves the seconds out.

    Returns:
        The cost.

    Raises:
        ValueError: as for `plan`; a group for a scheme without tables; a calibration of another key length.
        CapacityError: as for `plan`.

    Example:
        >>> from jcbir.paillier.public import PublicKey
        >>> public = PublicKey(n=49 * 2**2042 + 1, g=2)
        >>> from jcbir.ranking._bitsliced import BITSLICED
        >>> predicted = cost(public, scheme=BITSLICED.name, count=100_000, bits=64, group=2)
        >>> predicted.operations.decryptions, predicted.reply_bytes
        (295, 151040)

    """
    layout, found = plan(public, scheme=scheme, count=count, bits=bits, base=base), find_scheme(scheme)
    if group is not None and found.prepare is None:
        raise ValueError(f"group: must be None for {scheme}, which has no product tables, got {group!r}")
    if calibration is not None and calibration.modulus_bits != layout.modulus_bits:
        raise ValueError(f"calibration: must be of a {layout.modulus_bits}-bit key, got {calibration.modulus_bits}")
    work, shapes = found.cost(layout, group), found.shapes(layout)
    return Cost(
        layout=layout,
        index_bytes=math.prod(shapes.index),
        prepared_bytes=work.prepared_bytes,
        trapdoor_bytes=math.prod(shapes.query),
        reply_bytes=(shapes.scores[0] + shapes.shared) * shapes.scores[1],
        operations=work.operations,
        seconds=None if calibration is None else _seconds(layout, work, calibration),
    )


def _seconds(layout: Layout, work: Work, measured: Calibration) -> Seconds:
    operations = work.operations
    reading = operations.decryptions * work.digits * measured.split_digit
    if work.digits and layout.base & (layout.base - 1):
        reading += operations.decryptions * measured.split_row
    tables = operations.prepare_products - operations.prepare_inversions
    return Seconds(
        build=_power_seconds(measured, "encrypt", operations.build_encryptions)
        + operations.build_encryptions * work.digits * measured.compose_digit,
        prepare=measured.invert.at(operations.prepare_inversions) + measured.product.at(tables),
        trapdoor=_power_seconds(measured, "blind", operations.trapdoor_encryptions),
        blinders=_power_seconds(measured, "blind", operations.blinders),
        score=sum(getattr(measured, operation).at(count) for operation, count in work.batches),
        open=_power_seconds(measured, "decrypt", operations.decryptions) + reading,
    )


def _power_seconds(measured: Calibration, operation: str, count: int) -> float:
    """Seconds of a batch of powers, by the engine that will take it; `jax` computes its padding too."""
    engine = engines.choose_engine(measured.engine, count=count)
    line = getattr(measured.powers[engine], operation)
    if engine != "jax":
        return line.at(count)
    parts = [part.stop - part.start for part in fill_batches(count)] if operation == "decrypt" else [count]
    return sum(line.at(padded_rows(part)) for part in parts)


def calibrate(
    secret: SecretKey,
    *,
    draw: Callable[[int], bytes],
    clock: Callable[[], float],
    engine: str = "auto",
    budget: float = 2.0,
) -> Calibration:
    """Time every operation that `cost` counts.

    Args:
        secret: a key of the length to calibrate for; any will do.
        draw: uniform random bytes, `draw(count) -> bytes` (callers pass `secrets.token_bytes`).
        clock: seconds that only grow (callers pass `time.perf_counter`).
        engine: Paillier engine to time.
        budget: seconds to spend, compilations not counted; less than one is noisy.

    Returns:
        The calibration, for this engine and key length.

    Raises:
        ValueError: a budget that is not positive, or no such engine.

    Example:
        >>> import secrets, time
        >>> from jcbir.paillier.secret import generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> calibrate(key, draw=secrets.token_bytes, clock=time.perf_counter, engine="python", budget=0.1).engine
        'python'

    """
    if budget <= 0:
        raise ValueError(f"budget: must be positive, got {budget}")
    names = {engines.choose_engine(engine, count=count) for count in (1, LARGEST)}
    public, share = secret.public, budget / (3 * len(names) + 4)
    pool = secret_half.owner_blinders(secret, POOL, draw=draw, engine=engine)
    rows = np.resize(pool, (LARGEST, public.ciphertext_bytes))
    picked = np.arange(LARGEST).reshape(-1, PICKS)

    def line(operation: Callable[[int], object], *, step: int = SMALLEST) -> Line:
        return _fit(operation, clock=clock, budget=share, step=step)

    compose_digit, split_row, split_digit = _radix_times(public.plaintext_bytes, clock=clock, budget=share)
    return Calibration(
        engine=engine,
        modulus_bits=public.bits,
        powers={name: _powers(secret, name, rows, draw, line) for name in sorted(names)},
        product=line(lambda n: paillier.add(public, rows[:n], rows[:n], engine=engine)),
        pick=line(lambda n: paillier.product(public, rows[:n], picked[: n // PICKS], engine=engine), step=PICKS),
        invert=line(lambda n: paillier.subtract(public, rows[:n], rows[:n], engine=engine)),
        compose_digit=compose_digit,
        split_row=split_row,
        split_digit=split_digit,
    )


def _powers(
    secret: SecretKey, engine: str, rows: np.ndarray, draw: Callable[[int], bytes], line: Callable[..., Line]
) -> Powers:
    plain = np.zeros((LARGEST, secret.public.plaintext_bytes), np.uint8)
    # The engine `jax` pads to whole batches, which `cost` counts.
    step = engines.JAX_BATCH if engine == "jax" else SMALLEST
    return Powers(
        encrypt=line(lambda n: secret_half.encrypt(secret, plain[:n], draw=draw, engine=engine), step=max(step, BATCH)),
        blind=line(lambda n: blinding.blinders(secret.public, n, draw=draw, engine=engine), step=step),
        decrypt=line(lambda n: secret_half.decrypt(secret, rows[:n], engine=engine), step=step),
    )


def _timed(operation: Callable[[int], object], count: int, clock: Callable[[], float]) -> float:
    begin = clock()
    operation(count)
    return clock() - begin


def _fit(
    operation: Callable[[int], object], *, clock: Callable[[], float], budget: float, step: int = SMALLEST
) -> Line:
    """A line through the median times of two sizes, the larger found by doubling until it fills its share."""
    large = 2 * step
    while 2 * large <= LARGEST:
        operation(large)
        # Two more rounds of this size and three of a quarter of it are to come.
        if _timed(operation, large, clock) >= budget / 8:
            break
        large *= 2
    small = max(step, large // 4 // step * step)
    for size in (small, large):
        operation(size)
    times = [[_timed(operation, size, clock) for size in (small, large)] for _ in range(ROUNDS)]
    low, high = (statistics.median(column) for column in zip(*times, strict=True))
    slope = max((high - low) / (large - small), 0.0)
    return Line(max(high - slope * large, 0.0), slope)


def _radix_times(width: int, *, clock: Callable[[], float], budget: float) -> tuple[float, float, float]:
    """Seconds per digit composed; per row and per digit split, from a base of few digits and one of many."""
    digits = {base: int((8 * width - 1) / np.log2(base)) for base in (3, 65)}
    rows = {base: compose(np.ones((LARGEST, n), np.uint8), base=base, width=width) for base, n in digits.items()}
    ones = np.ones((LARGEST, digits[65]), np.uint8)
    writing = _fit(lambda n: compose(ones[:n], base=65, width=width), clock=clock, budget=budget / 3).each
    reading = {
        base: _fit(lambda n, b=base, d=d: split(rows[b][:n], base=b, count=d), clock=clock, budget=budget / 3).each
        for base, d in digits.items()
    }
    per_digit = max((reading[3] - reading[65]) / (digits[3] - digits[65]), 0.0)
    return writing / digits[65], max(reading[65] - per_digit * digits[65], 0.0), per_digit
