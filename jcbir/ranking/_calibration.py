"""A calibration of the machine at hand: about two seconds, after which `cost` predicts seconds.

The clock is an argument, so that nothing below the edge reads one: pass `time.perf_counter`, or `time.process_time`
for the seconds of one core. Each operation is timed at two sizes and a line drawn through them; the first call of
each size compiles what an engine compiles, and is not timed.
"""

import statistics
from collections.abc import Callable

import numpy as np

from jcbir.paillier import _blinding as blinding, _engines as engines, public as public_half, secret as secret_half
from jcbir.paillier.secret import SecretKey
from jcbir.ranking._cost import Calibration, Line, Powers
from jcbir.ranking._radix import compose, split

ROUNDS = 3
SMALLEST, LARGEST = 4, 4096
POOL = 64
# A key owner encrypts whole indexes, by a table that small batches do not use.
BATCH = 32
# Picks per bit-sliced score: as many as a 64-bit code takes with pair tables.
PICKS = 32


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
        product=line(lambda n: public_half.add(public, rows[:n], rows[:n], engine=engine)),
        pick=line(lambda n: public_half.product(public, rows[:n], picked[: n // PICKS], engine=engine), step=PICKS),
        invert=line(lambda n: public_half.subtract(public, rows[:n], rows[:n], engine=engine)),
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
