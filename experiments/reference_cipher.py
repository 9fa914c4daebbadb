"""Reference [50] as its authors published it, in float64 NumPy: to draw its figures, and to break the thing itself.

    python -m experiments.reference_cipher

Lin and Li, An Image Encryption Scheme Based on Lorenz Hyperchaotic System and RSA Algorithm, Security and
Communication Networks, 2021, written anew from its description: sequential integrator, RSA-derived initial values,
the same streams for every image of one size. Never use it: floating point makes it irreproducible between builds, its
key space is small, and seven chosen images undo it (`experiments/attacks/chosen_plaintext.py`).
"""

import hashlib
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float64, UInt8

STEP = 0.002
TRANSIENT = 800
NUDGE_EVERY = 3000
KEY = (4.0349, 3.7979, 4.2980, 3.9282)
A, B, C, R = 10.0, 8.0 / 3.0, 28.0, -1.0


@dataclass(frozen=True)
class Streams:
    """Key streams of one image size.

    Attributes:
        forward: first additive stream.
        backward: second additive stream, and first stream of the field diffusion.
        field: second stream of the field diffusion.
        permutation: order of the swaps, 0-based.
        distinct: indices that came from chaos before the rest was filled up.
    """

    forward: UInt8[np.ndarray, "n"]
    backward: UInt8[np.ndarray, "n"]
    field: UInt8[np.ndarray, "n"]
    permutation: np.ndarray
    distinct: int


def rsa_initial_values(messages: list[int], *, exponent: int, modulus: int) -> list[float]:
    """Initial values `sqrt(ln(m + c))`, `c = m^e mod n`; a message above n is replaced by n - 1, as published."""
    reduced = [m if m <= modulus else modulus - 1 for m in messages]
    return [math.sqrt(math.log(m + pow(r, exponent, modulus))) for m, r in zip(messages, reduced, strict=True)]


def trajectory(count: int, *, key: tuple[float, float, float, float] = KEY) -> Float64[np.ndarray, "n"]:
    """`count` samples of x after the transient, in strict IEEE double arithmetic and the published order."""
    x, y, z, w = key
    out = np.empty(count)
    h = STEP
    for i in range(-TRANSIENT, count):
        # Four Runge-Kutta stages of one variable, the others frozen; then the next with the new value.
        k1 = A * (y - x) + w
        k2 = A * (y - (x + k1 * h / 2)) + w
        k3 = A * (y - (x + k2 * h / 2)) + w
        k4 = A * (y - (x + h * k3)) + w
        x = x + (k1 + 2 * k2 + 2 * k3 + k4) * h / 6
        k1 = C * x - y - x * z
        k2 = C * x - (y + k1 * h / 2) - x * z
        k3 = C * x - (y + k2 * h / 2) - x * z
        k4 = C * x - (y + h * k3) - x * z
        y = y + (k1 + 2 * k2 + 2 * k3 + k4) * h / 6
        k1 = x * y - B * z
        k2 = x * y - B * (z + k1 * h / 2)
        k3 = x * y - B * (z + k2 * h / 2)
        k4 = x * y - B * (z + h * k3)
        z = z + (k1 + 2 * k2 + 2 * k3 + k4) * h / 6
        k1 = -y * z + R * w
        k2 = -y * z + R * (w + k1 * h / 2)
        k3 = -y * z + R * (w + k2 * h / 2)
        k4 = -y * z + R * (w + h * k3)
        w = w + (k1 + 2 * k2 + 2 * k3 + k4) * h / 6
        if i >= 0:
            out[i] = x
            if (i + 1) % NUDGE_EVERY == 0:
                x = x + h * math.sin(y)
    return out


def published_bytes(count: int, *, lanes: int, number: int) -> UInt8[np.ndarray, "n l"]:
    """Bytes `floor(x 2^16) mod 256` of many trajectories at once: the published quantiser, for randomness tests."""
    digest = hashlib.shake_256(b"published" + number.to_bytes(8, "big")).digest(32 * lanes)
    u = np.frombuffer(digest, "<u8").reshape(4, lanes) / 2.0**64
    x, y, z, w = u[0] * 32 - 16, u[1] * 32 - 16, u[2] * 32 + 8, u[3] * 128 - 64

    def p(s):
        return 1 + s + s * s / 2 + s**3 / 6 + s**4 / 24

    def q(s):
        return STEP * (1 + s / 2 + s * s / 6 + s**3 / 24)

    out = np.empty((count, lanes), np.uint8)
    for i in range(-TRANSIENT, count):
        x = p(-A * STEP) * x + q(-A * STEP) * (A * y + w)
        y = p(-STEP) * y + q(-STEP) * (x * (C - z))
        z = p(-B * STEP) * z + q(-B * STEP) * (x * y)
        w = p(R * STEP) * w - q(R * STEP) * (y * z)
        if i >= 0:
            out[i] = np.floor(x * 65536).astype(np.int64) & 255
    return out


@cache
def streams(samples: int, *, key: tuple[float, float, float, float] = KEY) -> Streams:
    """All streams of an image of `samples` pixels: they depend on the key and the size, and on nothing else."""
    x = trajectory(3 * samples, key=key)
    octets = (np.floor(x * 65536).astype(np.int64) & 255).astype(np.uint8)
    raw = np.floor((x[:samples] + 100) * 1e10).astype(np.int64) % samples
    first = np.unique(raw, return_index=True)[1]
    distinct = raw[np.sort(first)]
    missing = np.setdiff1d(np.arange(samples), distinct)
    return Streams(
        octets[:samples],
        octets[samples : 2 * samples],
        octets[2 * samples :],
        np.concatenate([distinct, missing]),
        len(distinct),
    )


@cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """Exponentials `3^i mod 257 - 1` and their inverse, discrete logarithms of v + 1."""
    exponents = np.array([pow(3, i, 257) - 1 for i in range(256)], np.uint8)
    return exponents, np.argsort(exponents).astype(np.uint8)


def _forward(values: np.ndarray, key: np.ndarray) -> np.ndarray:
    return np.cumsum(values + key, dtype=np.uint8)


def _both(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return _forward(_forward(values, first)[::-1], second[::-1])[::-1]


def _undo_both(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    back = values - np.append(values[1:], np.uint8(0)) - second
    return back - np.concatenate([np.zeros(1, np.uint8), back[:-1]]) - first


def _swap(values: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    out = values.copy()
    half = len(values) // 2
    left, right = permutation[:half], permutation[::-1][:half]
    out[left], out[right] = values[right], values[left]
    return out


def encrypt(
    plane: UInt8[np.ndarray, "h w"], *, key: tuple[float, float, float, float] = KEY
) -> UInt8[np.ndarray, "h w"]:
    """Encrypt one plane, in the order the published code runs: additive twice, swaps, field diffusion."""
    s = streams(plane.size, key=key)
    exponents, logarithms = tables()
    values = plane.ravel(order="F")
    for _ in range(2):
        values = _both(values, s.forward, s.backward)
    values = logarithms[_swap(values, s.permutation)]
    values = exponents[_both(values, logarithms[s.backward], logarithms[s.field])]
    return values.reshape(plane.shape, order="F")


def decrypt(
    plane: UInt8[np.ndarray, "h w"], *, key: tuple[float, float, float, float] = KEY
) -> UInt8[np.ndarray, "h w"]:
    """Inverse of `encrypt`."""
    s = streams(plane.size, key=key)
    exponents, logarithms = tables()
    values = _undo_both(logarithms[plane.ravel(order="F")], logarithms[s.backward], logarithms[s.field])
    values = _swap(exponents[values], s.permutation)
    for _ in range(2):
        values = _undo_both(values, s.forward, s.backward)
    return values.reshape(plane.shape, order="F")


def main() -> None:
    """Print the known answers."""
    s = streams(256)
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    cipher = encrypt(ramp)
    print("first x", trajectory(3).tolist())
    print("key bytes", s.forward[:16].tolist())
    print("permutation", s.permutation[:16].tolist(), "distinct", s.distinct)
    print("row 0", cipher[0].tolist(), hashlib.sha256(cipher.tobytes()).hexdigest())
    print("inverse", bool(np.array_equal(decrypt(cipher), ramp)))


if __name__ == "__main__":
    main()
