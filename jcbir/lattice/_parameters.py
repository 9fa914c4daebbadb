"""The parameter sets and what each of them guarantees: exactness always, flooding and hardness with figures."""

import math
from typing import NamedTuple

import numpy as np

from jcbir.errors import CapacityError
from jcbir.lattice._bits import GROUP, packed_bytes
from jcbir.lattice._sampling import ETA

SHORTEST, LONGEST = 8, 512
# The largest primes below 2^29 that are 1 modulo 2^14, twice the degree: log2 of their product is 145.0.
PRIMES = (536690689, 536641537, 536608769, 536543233, 536494081)
DEGREE = 8192
# The reply keeps the first two primes.
KEEP = 2
# Padded code length: lanes, log2 of the flood, sentinels. The most lanes that leave MINIMUM_FLOODING bits.
TABLE = {
    8: (12, 105, 32),
    16: (9, 107, 16),
    32: (7, 108, 8),
    64: (6, 107, 4),
    128: (5, 108, 4),
    256: (4, 111, 4),
    512: (4, 107, 4),
}
MINIMUM_FLOODING = 50
# log2 q at 128 bits for ternary secrets: (classical, quantum). Bossuat et al., 2024, IACR ePrint 2024/463.
GUIDELINES = {1024: (26, 20), 2048: (53, 40), 4096: (106, 80), 8192: (214, 161)}
# Blocks to a compiled program. Sixteen stay in cache.
CHUNKS = (16, 4, 1)
# A noise coefficient exceeds its bound with probability below 2^-100.
TAIL = math.sqrt(2 * math.log(2) * 101)
# |e|^2 exceeds 1.15 of its mean with probability below 2^-120.
SQUARES = 1.15


class Parameters(NamedTuple):
    """What every party of one collection computes with; `parameters` gives a set that `bounds` accepts.

    Attributes:
        bits: code length k.
        degree: n of the ring Z[x]/(x^n + 1), a power of two.
        primes: factors of q, below 2^29 and 1 modulo 2n; a reply keeps the first two.
        lanes: images that share a coefficient, L.
        polys: polynomials of a query, g; a hint is an RLWE sample for g >= 2 only.
        flood: log2 of the largest |F| that hides a reply's noise, F a sum of two uniform numbers.
        sentinels: coefficients of a block that hold zeros instead of images, at secret places.
    """

    bits: int
    degree: int
    primes: tuple[int, ...]
    lanes: int
    polys: int
    flood: int
    sentinels: int

    @property
    def base(self) -> int:
        """Base of the lanes: distances are 0..k."""
        return self.bits + 1

    @property
    def t(self) -> int:
        """The plaintext modulus (k + 1)^L, made odd."""
        return self.base**self.lanes | 1

    @property
    def q(self) -> int:
        """The ciphertext modulus, the product of the primes."""
        return math.prod(self.primes)

    @property
    def divisor(self) -> int:
        """What modulus switching divides by: the product of the primes that a reply does not keep."""
        return math.prod(self.primes[KEEP:])

    @property
    def padded(self) -> int:
        """Code length K of the polynomials: k padded, with bits that always agree, to a power of two."""
        return 1 << (self.bits - 1).bit_length()

    @property
    def kappa(self) -> int:
        """Bits of a code in one polynomial, K/g: useful coefficients sit at its multiples."""
        return self.padded // self.polys

    @property
    def width(self) -> int:
        """Useful coefficients of a block, n/kappa."""
        return self.degree // self.kappa

    @property
    def images(self) -> int:
        """Images of a block: L in each useful coefficient that is no sentinel."""
        return (self.width - self.sentinels) * self.lanes

    @property
    def block_bytes(self) -> int:
        """One block of an index at rest."""
        return packed_bytes(len(self.primes) * self.polys * self.degree)

    @property
    def query_bytes(self) -> int:
        """One query on the wire."""
        return packed_bytes(len(self.primes) * self.polys * self.degree)

    @property
    def reply_block_bytes(self) -> int:
        """One block of a reply on the wire."""
        return packed_bytes(KEEP * self.width)

    @property
    def reply_shared_bytes(self) -> int:
        """The part of a reply that all blocks share."""
        return packed_bytes(KEEP * self.degree)

    @property
    def hint_bytes(self) -> int:
        """One block's hint at the key's holder."""
        return packed_bytes(KEEP * self.degree)


class Bounds(NamedTuple):
    """What a parameter set guarantees, in bits (log2) where nothing else is said.

    Attributes:
        q: of the ciphertext modulus.
        t: of the plaintext modulus.
        noise: of the noise that flooding must hide, in units of t; a coefficient exceeds it with probability 2^-100.
        flooding: flood over noise: the most that one useful coefficient of one reply tells is 2^-flooding.
        margin_q: what is left of q/2 after the largest message, noise and flood that can occur.
        margin_reply: the same after modulus switching.
        phase: the largest |phase| of an honest reply, an integer.
        classical: the guidelines' limit on q at 128 bits against classical computers.
        quantum: their limit against quantum computers.
    """

    q: float
    t: float
    noise: float
    flooding: float
    margin_q: float
    margin_reply: float
    phase: int
    classical: int
    quantum: int


def parameters(*, bits: int) -> Parameters:
    """The parameter set of a code length: n = 8192, five primes, two polynomials a query.

    Args:
        bits: code length k, 8 to 512; codes are padded to a power of two with bits that always agree.

    Returns:
        Parameters that `bounds` accepts.

    Raises:
        ValueError: another code length.

    Example:
        >>> chosen = parameters(bits=64)
        >>> chosen.lanes, chosen.images, chosen.block_bytes / chosen.images < 200
        (6, 1512, True)

    References:
        Bossuat et al., 2024, Security guidelines for implementing homomorphic encryption, IACR ePrint 2024/463.
    """
    if not isinstance(bits, int) or not SHORTEST <= bits <= LONGEST:
        raise ValueError(f"bits: must be an integer from {SHORTEST} to {LONGEST}, got {bits!r}")
    lanes, flood, sentinels = TABLE[1 << (bits - 1).bit_length()]
    return Parameters(bits, DEGREE, PRIMES, lanes, 2, flood, sentinels)


def bounds(parameters: Parameters, *, unsafe_small: bool = False) -> Bounds:
    r"""Compute what a parameter set guarantees, and refuse what does not fit.

    Exactness holds without any probability. Per useful coefficient, with |m| <= t/2, |e|, |f| <= 21, |D| <= 1:

    `|sum mu nu + t F| <= V = g n (t/2 + 21 t)(21 t + 1) + t 2^flood < q/2`,

    and after switching, where the roundings of P, Q and K are at most t/2 (1 + 2^-27) a coefficient, s and u ternary:

    `|phase| <= V / divisor + t/2 (1 + 2^-27)(2 n + 1) < p_0 p_1 / 2`.

    Flooding hides `t (sum e f) + sum m f + sum e D + carry`, in units of t; conditioned on e, sums with f are
    sub-Gaussian: `noise = 11.84 sqrt(10.5 g n) (sqrt(1.15 * 10.5) + 1/2) t + 21 K + K/2 + 1`.

    Args:
        parameters: the set.
        unsafe_small: permit rings that anyone can break, for tests and attacks.

    Returns:
        The guarantees.

    Raises:
        CapacityError: messages, noise and flood exceed a modulus; less than 50 bits of flooding; q too large for n by
            the guidelines, against classical or quantum computers; a block without room.
        ValueError: numbers that make no ring, or no layout.

    Example:
        >>> found = bounds(parameters(bits=64))
        >>> round(found.flooding), found.q < found.quantum
        (57, True)

    References:
        docs/lattice.md for the proof.
    """
    v, t, terms = parameters, parameters.t, parameters.polys * parameters.degree
    _check_shape(v)
    deepest = terms * (t // 2 + ETA * t) * (ETA * t + 1) + (t << v.flood)
    phase = deepest // v.divisor + t * (2 * v.degree + 1) * ((1 << 27) + 1) // (1 << 28) + 2
    noise = TAIL * math.sqrt(ETA / 2 * terms) * (math.sqrt(SQUARES * ETA / 2) + 0.5) * t + (ETA + 0.5) * v.padded + 1
    classical, quantum = GUIDELINES.get(v.degree, (0, 0))
    found = Bounds(
        q=math.log2(v.q),
        t=math.log2(t),
        noise=math.log2(noise),
        flooding=v.flood - math.log2(noise),
        margin_q=math.log2(v.q / 2) - math.log2(deepest),
        margin_reply=math.log2(v.q // v.divisor / 2) - math.log2(phase),
        phase=phase,
        classical=classical,
        quantum=quantum,
    )
    # The logarithms are for reading; what decides is exact.
    if 2 * deepest >= v.q or 2 * phase * v.divisor >= v.q:
        raise CapacityError(
            f"parameters: flood must be small enough for q and for the reply, got {v.flood} with margins of "
            f"{found.margin_q:.2f} and {found.margin_reply:.2f} bits"
        )
    if found.flooding < MINIMUM_FLOODING:
        raise CapacityError(
            f"parameters: flood must exceed the noise by {MINIMUM_FLOODING} bits, got {found.flooding:.1f}"
        )
    if not unsafe_small and found.q > min(classical, quantum):
        raise CapacityError(
            f"parameters: degree must be large enough for q of {found.q:.1f} bits, got {v.degree}, which the "
            f"guidelines limit to {classical} (classical) and {quantum} (quantum)"
        )
    return found


def chunk_sizes(blocks: int) -> list[int]:
    """Sizes of the chunks for so many blocks; the last one may be filled up, where more calls would take longer."""
    large, middle, small = CHUNKS
    full, left = divmod(blocks, large)
    if left > 2 * middle:
        return [large] * (full + 1)
    return [large] * full + [middle] * ((left + middle - 2) // middle) + [small] * (left % middle == 1)


def filled(blocks: np.ndarray, size: int) -> np.ndarray:
    """A chunk of so many blocks: those given, and zeros behind them."""
    missing = size - len(blocks)
    return np.concatenate([blocks, np.zeros((missing, *blocks.shape[1:]), blocks.dtype)]) if missing else blocks


def _check_shape(v: Parameters) -> None:
    if not (v.bits > 1 and 1 < v.polys <= v.padded and v.padded % v.polys == 0 and v.lanes > 0):
        raise ValueError(f"parameters: polys must be at least 2 and divide the padded code, got {v.polys}, {v.bits=}")
    if v.degree & (v.degree - 1) or not 0 < v.degree <= DEGREE or v.width < GROUP:
        raise ValueError(
            f"parameters: degree must be a power of two up to {DEGREE} with room for {GROUP} useful "
            f"coefficients, got {v.degree}"
        )
    if not KEEP < len(v.primes) == len(set(v.primes) & set(PRIMES)):
        raise ValueError(f"parameters: primes must be more than {KEEP} different ones of {PRIMES}, got {v.primes}")
    if math.gcd(v.q, v.t) != 1:
        raise ValueError(f"parameters: primes must not divide t, got a common factor {math.gcd(v.q, v.t)}")
    if not 0 < v.sentinels < v.width:
        raise CapacityError(f"parameters: sentinels must leave room in {v.width} coefficients, got {v.sentinels}")
    if not 1 < v.flood <= 120:
        raise CapacityError(f"parameters: flood must be 2 to 120 bits, two words of 64 a number, got {v.flood}")
    if (ETA + 1) * v.t >> 52:
        raise CapacityError(f"parameters: lanes must keep t below 2^47, got {v.lanes} of base {v.base}")
