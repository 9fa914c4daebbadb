"""The 4-D hyperchaotic Lorenz system in fixed point, many trajectories (lanes) at once, and the mixing of its states.

    x' = a (y - x) + w      y' = c x - y - x z      z' = x y - b z      w' = -y z + r w
    a = 10, b = 8/3, c = 28, r = -1

Integers only: the same trajectory on every machine, in NumPy, in JAX eager or compiled, on any device, in any batch.
`advance` and `mix` are one source for both: they use operators, so they compute on whatever arrays they are given.
JAX arrays need 64-bit integers: call them inside `with jax.enable_x64(True):`.

Research code. A chaotic system is not a vetted cipher: what is claimed, and what is not, stands in `docs/cipher.md`.

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

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int64, Shaped, UInt8, UInt64

from jcbir.typing import Array, check_whole

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

_MASK = (1 << 64) - 1


class State(NamedTuple):
    """Lanes of the system: 32-bit fixed-point values (22 fraction bits) in int64 arrays.

    Attributes:
        x: Int64[*b], about -31 to 31.
        y: Int64[*b], about -29 to 29.
        z: Int64[*b], about 0 to 54.
        w: Int64[*b], about -300 to 300.
    """

    x: Int64[Array, "*b"]
    y: Int64[Array, "*b"]
    z: Int64[Array, "*b"]
    w: Int64[Array, "*b"]


def start(seeds: UInt8[Array, "*b s"]) -> State:
    """Place each lane in the starting box, from 16 key bytes.

    The bytes are four little-endian 32-bit words u, and, in units of 2^-22,
    `x = floor(u_0 / 2^5) - 2^26, y = floor(u_1 / 2^5) - 2^26, z = floor(u_2 / 2^5) + 2^25,
    w = floor(u_3 / 2^3) - 2^28`: x and y in [-16, 16), z in [8, 40), w in [-64, 64).

    Args:
        seeds: Key bytes `UInt8[*b 16]`; at least one leading axis (NumPy warns when a bare scalar wraps).

    Returns:
        State of `*b` lanes.

    Raises:
        ValueError: the last axis is not 16 bytes.

    Example:
        >>> [v.item() for v in start(np.zeros((1, 16), np.uint8))]
        [-67108864, -67108864, 33554432, -268435456]
    """
    if seeds.shape[-1] != SEED_BYTES:
        raise ValueError(f"seeds: must be {SEED_BYTES} bytes on the last axis, got {seeds.shape[-1]}")
    if isinstance(seeds, jax.Array):
        words = jax.lax.bitcast_convert_type(seeds.reshape(*seeds.shape[:-1], 4, 4), np.uint32)
    else:
        words = np.ascontiguousarray(seeds).view("<u4")
    u: Int64[Array, "*b 4"] = words.astype(np.int64)
    one = 1 << STATE_BITS
    return State(
        (u[..., 0] >> 5) - 16 * one,
        (u[..., 1] >> 5) - 16 * one,
        (u[..., 2] >> 5) + 8 * one,
        (u[..., 3] >> 3) - 64 * one,
    )


def dither(step: int) -> int:
    """Rounding offset of a step: `step * 0x9E3779B9 mod 2^32`, in units of 2^-32 of the last place of x.

    Args:
        step: Counter of the lane, transient included.

    Returns:
        0 to 2^32 - 1.

    Example:
        >>> dither(2)
        1013904242
    """
    return step * DITHER & 0xFFFFFFFF


def counter(step: int) -> int:
    """Counter word of a step for the mixing: `step * 0x9E3779B97F4A7C15 mod 2^64`.

    Args:
        step: Counter of the lane, transient included.

    Returns:
        0 to 2^64 - 1.

    Example:
        >>> hex(counter(2))
        '0x3c6ef372fe94f82a'
    """
    return step * COUNTER & _MASK


def advance(state: State, offset: Any, *, integrator: Integrator = STEP) -> State:
    """One step of the system, variables updated in turn, each with the newest values of the others.

    `v' = floor((p v + q u + d) / 2^32) mod 2^32` (signed), with u the forcing `a y + w`, `x (c - z)`, `x y`, `y z`
    floored to 22 fraction bits, and d the offset for x, 0 for the others.

    Args:
        state: Lanes of any shape.
        offset: `dither(step)`, a Python int or an int64 scalar.
        integrator: Constants of the step size.

    Returns:
        State one step later, same shape.

    Example:
        >>> lane = start(np.full((1, 16), 128, np.uint8))
        >>> [v.item() for v in advance(lane, dither(0))]
        [265256, 264732, 100389659, 1037924]

    References:
        Lin and Li 2021; the closed form of its integrator stands above.
    """
    return advance_zw(advance_xy(state, offset, integrator=integrator), integrator=integrator)


def advance_xy(state: State, offset: Any, *, integrator: Integrator = STEP) -> State:
    """First half of `advance`: x, then y with the new x.

    Args:
        state: Lanes of any shape.
        offset: `dither(step)`, a Python int or an int64 scalar.
        integrator: Constants of the step size.

    Returns:
        State with new x and y, the old z and w.

    Example:
        >>> lane = start(np.full((1, 16), 128, np.uint8))
        >>> [v.item() for v in advance_xy(lane, dither(0))]
        [265256, 264732, 100926468, 1052688]
    """
    x, y, z, w = state
    k = integrator
    x = (k.px * x + k.qx * (A * y + w) + offset) >> CONSTANT_BITS
    y = (k.py * y + k.qy * ((x * (C - z)) >> STATE_BITS)) >> CONSTANT_BITS
    return State(x, y, z, w)


def advance_zw(state: State, *, integrator: Integrator = STEP) -> State:
    """Second half of `advance`: z with the new x and y, then w with the new y and z.

    Args:
        state: Lanes of any shape, after `advance_xy`.
        integrator: Constants of the step size.

    Returns:
        State one step later.

    Example:
        >>> lane = start(np.full((1, 16), 128, np.uint8))
        >>> [v.item() for v in advance_zw(advance_xy(lane, dither(0)))]
        [265256, 264732, 100389659, 1037924]
    """
    x, y, z, w = state
    k = integrator
    z = (k.pz * z + k.qz * ((x * y) >> STATE_BITS)) >> CONSTANT_BITS
    w = (k.pw * w + k.qw * ((y * z) >> STATE_BITS)) >> CONSTANT_BITS
    return State(x, y, z, w)


def drop_transient(state: State) -> State:
    """Run the 64 transient steps of h = 0.025 (1.6 time units): the counter runs from 0 to 63.

    Args:
        state: Lanes in the starting box.

    Returns:
        Lanes on the attractor; their next step has counter 64.

    Example:
        >>> lanes = drop_transient(start(np.zeros((3, 16), np.uint8)))
        >>> lanes.x.shape
        (3,)
    """
    for step in range(TRANSIENT_STEPS):
        state = advance(state, dither(step), integrator=TRANSIENT_STEP)
    return state


def mix(state: State, word: Any) -> tuple[UInt64[Array, "*b"], UInt64[Array, "*b"]]:
    """Turn the four 32-bit words of a state into 16 key bytes that finite differences cannot follow.

    With `a0 = 2^32 x + y`, `b0 = 2^32 z + w` and `f(v) = v xor floor(v / 2^32)`, all modulo 2^64:
    `a = (a0 + word) M0; b = (b0 + f(a)) M1; a = (a + f(b)) M2; b = (b + f(a)) M3; a = a + f(b);
    b = b xor floor(a / 2^32)`; the output is `(a + a0, b + b0)`. Raw states move by little per step: their third to
    sixth differences are predictable. The sum with the input at the end keeps the map from being inverted step by step.

    Args:
        state: Lanes of any shape.
        word: `counter(step)`, as a uint64 scalar.

    Returns:
        Two `UInt64[*b]`; as little-endian bytes, the first then the second, 16 key bytes a lane.

    Example:
        >>> lane = start(np.full((1, 16), 128, np.uint8))
        >>> [hex(v.item()) for v in mix(lane, np.uint64(counter(64)))]
        ['0xbff84d2346c5e97', '0xdfe8101ab7fcfe9f']
    """
    unsigned = np.uint64
    half = unsigned(32)
    m = [unsigned(v) for v in MULTIPLIERS]
    first = a = ((state.x << 32) + state.y).view(unsigned)
    second = b = ((state.z << 32) + state.w).view(unsigned)
    a = (a + word) * m[0]
    b = (b + (a ^ (a >> half))) * m[1]
    a = (a + (b ^ (b >> half))) * m[2]
    b = (b + (a ^ (a >> half))) * m[3]
    a = a + (b ^ (b >> half))
    b = b ^ (a >> half)
    return a + first, b + second


def samples(state: State, *, steps: int) -> Shaped[np.ndarray, "t v *b"]:
    """Trajectory as floating point, for plots and measurements; not a key stream.

    Args:
        state: Lanes of any shape.
        steps: Number of steps of h = 0.002.

    Returns:
        Float64[steps, 4, *b]: x, y, z, w.

    Raises:
        ValueError: `steps` is below 1.

    Example:
        >>> samples(start(np.zeros((2, 16), np.uint8)), steps=3).shape
        (3, 4, 2)
    """
    steps = check_whole("steps", steps, low=1)
    rows = []
    for step in range(steps):
        state = advance(state, dither(TRANSIENT_STEPS + step))
        rows.append(np.stack([np.asarray(v) for v in state]))
    return np.stack(rows) / float(1 << STATE_BITS)
