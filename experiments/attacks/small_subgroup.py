"""Factor n from the public key of a subgroup key whose subgroup is too small. python -m
experiments.attacks.small_subgroup

The public base h has order s_p modulo p and s_q modulo q. If x is a multiple of s_p and not of s_q, gcd(h^x - 1, n) =
p. All x up to B^2 are tried at once: x = i B - j with i, j <= B, and

    P_i = prod_j (h^(i B) - h^j)

shares a factor with n as soon as one x of its block is such a multiple. The polynomial prod_j (X - h^j) has
coefficients in closed form (Gauss's q-binomial theorem), and its values at the geometric progression X = h^(i B) are
one convolution (Bluestein), so that a subgroup of 2^b elements costs a few multiplications of 2^(b/2) numbers each:
25 bits take seconds, 40 bits minutes, 224 bits 2^112 numbers.

References: Pollard, 1974 (p - 1 and its second stage); Strassen, 1976; Montgomery, 1992 (geometric progressions).
"""

import dataclasses
import json
import math
import pathlib
import secrets
import time

from jcbir.paillier import PublicKey, generate_keys


@dataclasses.dataclass(frozen=True)
class Config:
    """What to break.

    Attributes:
        bits: size of n.
        subgroup_bits: size of the subgroup's primes.
        report: where to write the outcome.
    """

    bits: int = 2048
    subgroup_bits: int = 25
    report: pathlib.Path | None = None


def weak_key(bits: int, subgroup_bits: int) -> PublicKey:
    """A public subgroup key that the library makes only where it is told that anyone may break it."""
    return generate_keys(bits=bits, subgroup_bits=subgroup_bits, draw=secrets.token_bytes, unsafe_small=True).public


def factor(public: PublicKey, subgroup_bits: int) -> int | None:
    """A prime factor of n if a prime of the subgroup has at most `subgroup_bits` bits, else None."""
    n, h = public.n, _fast(public.h % public.n)
    block = math.isqrt(1 << subgroup_bits) + 1
    try:
        values = _block_products(n, h, block)
    except ZeroDivisionError:
        # A power below B already is 1 modulo a factor, which the inversions tripped over.
        values = [0]
    for i, value in enumerate(values, start=1):
        if math.gcd(int(value), n) == 1:
            continue
        # Both primes may have fallen into this block: walk it.
        for x in range(max(1, (i - 1) * block), i * block + 1):
            divisor = math.gcd(int(pow(h, x, n)) - 1, n)
            if 1 < divisor < n:
                return divisor
    return None


def _block_products(n: int, q: int, size: int) -> list[int]:
    """prod_(j < size) (q^(i size) - q^j), times units, for i = 1 to size + 1."""
    powers = [_fast(1)]
    for _ in range(size):
        powers.append(powers[-1] * q % n)
    inverses = _inverses([power - 1 for power in powers[1:]], n)
    # prod_j (X - q^j) = sum_k (-1)^k q^(k(k-1)/2) [size, k] X^(size - k)
    coefficients, term = [_fast(1)], _fast(1)
    for k in range(1, size + 1):
        term = -term * powers[k - 1] * (powers[size - k + 1] - 1) * inverses[k - 1] % n
        coefficients.append(term)
    # X^m at X = w^i: w^(i m) = w^C(i + m, 2) w^-C(i, 2) w^-C(m, 2), w = q^size, where w^-C(i, 2) is a unit.
    w = powers[size]
    chirp, back = _chirp(w, 2 * size + 2, n), _chirp(pow(w, -1, n), size + 1, n)
    weighted = [c * back[size - k] % n for k, c in enumerate(coefficients)]
    # weighted[k] belongs to m = size - k, which already reverses it for the convolution.
    slots = _convolution(weighted, chirp, n)
    return [slots[size + i] for i in range(1, size + 2)]


def _chirp(w: int, count: int, n: int) -> list[int]:
    """w^C(i, 2) for i = 0 to count - 1."""
    values, step = [_fast(1)], _fast(1)
    for _ in range(count - 1):
        values.append(values[-1] * step % n)
        step = step * w % n
    return values


def _convolution(a: list[int], b: list[int], n: int) -> list[int]:
    """Coefficients of a product of polynomials modulo n, as one product of two long numbers (Kronecker)."""
    width = -(-(2 * n.bit_length() + len(a).bit_length() + 1) // 8)
    x, y = (_fast(int.from_bytes(b"".join(int(v).to_bytes(width, "little") for v in p), "little")) for p in (a, b))
    count = len(a) + len(b)
    packed = int(x * y).to_bytes(width * count, "little")
    return [int.from_bytes(packed[i * width : (i + 1) * width], "little") % n for i in range(count)]


def _inverses(values: list[int], n: int) -> list[int]:
    prefixes, total = [], _fast(1)
    for value in values:
        prefixes.append(total)
        total = total * value % n
    if math.gcd(int(total), n) != 1:
        raise ZeroDivisionError("a difference shares a factor with n")
    inverse, found = pow(total, -1, n), []
    for value, prefix in zip(reversed(values), reversed(prefixes), strict=True):
        found.append(inverse * prefix % n)
        inverse = inverse * value % n
    return found[::-1]


def _fast(value: int) -> int:
    try:
        import gmpy2
    except ModuleNotFoundError:
        return value
    return gmpy2.mpz(value)


def main(config: Config) -> None:
    public = weak_key(config.bits, config.subgroup_bits)
    start = time.process_time()
    divisor = factor(public, config.subgroup_bits)
    outcome = {
        "bits": config.bits,
        "subgroup_bits": config.subgroup_bits,
        "factored": divisor is not None and public.n % divisor == 0,
        "cpu_seconds": round(time.process_time() - start, 2),
    }
    print(json.dumps(outcome))
    if config.report:
        config.report.write_text(json.dumps(outcome, indent=1) + "\n")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
