"""Engines `python` and `gmpy2`: one number after another, on Python or GMP integers. The reference."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

from jcbir.paillier._engines import number_type, secret_power
from jcbir.typing import Array

# A comb's table costs as much as about 30 powers without it save (measured with gmpy2, 2048 bits): half of that, as the
# batches that follow find it made.
COMB_BATCH = 16


def inverses(numbers: Sequence[int], modulus: int, *, engine: str) -> list[int]:
    """Inverses of a batch of units by Montgomery's trick: one inversion, three products a number."""
    number: Callable = number_type(engine)
    n, total, prefixes = number(modulus), number(1), []
    for x in numbers:
        prefixes.append(total)
        total = total * x % n
    try:
        inverse = pow(total, -1, n)
    except ZeroDivisionError:
        raise ValueError("base is not invertible for the given modulus") from None
    found = []
    for x, prefix in zip(reversed(numbers), reversed(prefixes), strict=True):
        found.append(int(inverse * prefix % n))
        inverse = inverse * x % n
    return found[::-1]


def fixed_base_powers(base: int, exponents: UInt8[Array, "n w"], modulus: int, *, engine: str) -> list[int]:
    """h^x modulo N for big-endian exponents: by a comb, one product a byte of x, where the batch repays the table."""
    number, power = number_type(engine), secret_power(engine)
    n, rows = number(modulus), np.asarray(exponents)
    if len(rows) < COMB_BATCH:
        h = number(base)
        return [int(power(h, number(int.from_bytes(row.tobytes(), "big")), n)) for row in rows]
    table = _comb_table(base, modulus, rows.shape[1], engine)
    powers = []
    for digits in rows[:, ::-1].tolist():
        total = number(1)
        for line, digit in zip(table, digits, strict=True):
            total = total * line[digit] % n
        powers.append(int(total))
    return powers


# Four tables serve two owners, or four keys of others: 10 MB each at 2048 bits.
@functools.lru_cache(maxsize=4)
def _comb_table(base: int, modulus: int, windows: int, engine: str) -> list[list]:
    """table[i][d] = h^(d * 256^i) mod N: one line per byte of the exponent, least significant first."""
    number = number_type(engine)
    n, step = number(modulus), number(base)
    table = []
    for _ in range(windows):
        line = [number(1)]
        for _ in range(255):
            line.append(line[-1] * step % n)
        table.append(line)
        step = line[-1] * step % n
    return table
