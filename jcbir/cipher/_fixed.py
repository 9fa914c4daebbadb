"""Integers of the cipher format, version 1: number formats, constants, and why nothing overflows.

State variables are 32-bit two's complement with 22 fraction bits (Q9.22: -512 to 512 in steps of 2^-22), held in int64
arrays. Integrator constants have 32 fraction bits. The integers below *are* the format: they were rounded once from the
formulas beside them and are never recomputed from floating point.

One step of reference [50]'s integrator (each variable advanced by four Runge-Kutta stages with the others frozen,
updated in turn) is exactly `v' = P(k h) v + h Q(k h) u`, with k the variable's own linear coefficient, u its forcing by
the others and P, Q the Runge-Kutta polynomials `P(s) = 1 + s + s^2/2 + s^3/6 + s^4/24`, `Q(s) = (P(s) - 1) / s`.

Bounds. With |x|, |y|, |z|, |w| <= 2^31 (any 32-bit state whatever):

- `|x y|, |y z| <= 2^62` and `|x (c - z)| <= 2^31 (2^31 + 28 * 2^22) < 2^62.1`: every state product fits int64 exactly;
- `p v + q u + d` is wanted as `floor(. / 2^32) mod 2^32`, that is, bits 32 to 63, and those depend on the sum modulo
  2^64 alone: int64 arithmetic, which wraps, gives exactly the wrapped 32-bit state, and an arithmetic shift extends its
  sign. So a step is defined for every state, and equals big-integer arithmetic (`tests/cipher`).

The wrap is never reached from the starting box: over 200,000 lanes |x| < 33, |y| < 30, z < 54 and |w| < 296
of 512 (`tests/cipher` checks 20,000).

References:
    Lin and Li, An Image Encryption Scheme Based on Lorenz Hyperchaotic System and RSA Algorithm, Security and
    Communication Networks, 2021 (reference [50] of the reimplemented paper).
"""

from typing import NamedTuple

VERSION = 1
"""Format version; in every key derivation, so that two versions never share a key stream."""

STATE_BITS = 22
"""Fraction bits of a state variable."""

CONSTANT_BITS = 32
"""Fraction bits of an integrator constant."""

A = 10
"""Prandtl number a = 10; kept integer, `a y` is exact."""

C = 28 << STATE_BITS
"""Rayleigh number c = 28 in state format."""


class Integrator(NamedTuple):
    """Constants of one step size: `v' = p v + q u` for each variable, 32 fraction bits.

    Attributes:
        px: `P(-a h)`.
        qx: `h Q(-a h)`, forcing `a y + w`.
        py: `P(-h)`.
        qy: `h Q(-h)`, forcing `x (c - z)`.
        pz: `P(-b h)`, b = 8/3.
        qz: `h Q(-b h)`, forcing `x y`.
        pw: `P(r h)`, r = -1.
        qw: `-h Q(r h)`, forcing `y z`.
    """

    px: int
    qx: int
    py: int
    qy: int
    pz: int
    qz: int
    pw: int
    qw: int


STEP = Integrator(
    px=4209921246,
    qx=8504605,
    py=4286385946,
    qy=8581350,
    pz=4272121779,
    qz=8567069,
    pw=4286385946,
    qw=-8581350,
)
"""h = 0.002, the published step: every kept sample."""

TRANSIENT_STEP = Integrator(
    px=3344957440,
    qx=95000986,
    py=4188924176,
    qy=106043120,
    pz=4017971953,
    qz=103873254,
    pw=4188924176,
    qw=-106043120,
)
"""h = 0.025, for the transient only."""

TRANSIENT_STEPS = 64
"""Dropped steps of h = 0.025: 1.6 time units, the span of the 800 steps of 0.002 that reference [50] drops."""

DITHER = 0x9E3779B9
"""Odd: `t * DITHER mod 2^32` is added below the last place of x at step t, so that a rounded orbit cannot close."""

COUNTER = 0x9E3779B97F4A7C15
"""Odd: `t * COUNTER mod 2^64` enters the mixing, so that not even a fixed point gives a constant key stream."""

MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xFF51AFD7ED558CCD)
"""Odd multipliers of the mixing, published ones (SplitMix64, Murmur3)."""

SEED_BYTES = 16
"""Key bytes that place one lane in the starting box."""

STEP_BYTES = 16
"""Key-stream bytes of one lane and step."""

LANE_BYTES = 4096
"""Key-stream bytes one lane serves: a stream of n bytes has `ceil(n / LANE_BYTES)` lanes."""
