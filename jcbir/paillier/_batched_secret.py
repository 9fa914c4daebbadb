"""Engine `jax`, secret half: decryption and the owner's encryption, modulo p^2 and q^2 in turn, on batches of rows.

Both primes run through the same compiled programs: their constants, exponents and tables are arguments.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int32, Int64, UInt8

from jcbir.paillier import _powers as powers
from jcbir.paillier._batched import on_device
from jcbir.paillier._limbs import combine, exact_residue, limbs_to_rows, rows_to_limbs, subtract_once, toeplitz
from jcbir.paillier._rns import (
    LIMB,
    Digits,
    Modulus,
    Residues,
    integer_limbs,
    modulus_constants,
    montgomery,
    montgomery_radix,
    product,
    reduce_channels,
    represent,
    represent_digits,
)
from jcbir.paillier._slices import over_slices, padded
from jcbir.typing import Array


class Logarithm(NamedTuple):
    """Constants that take a ciphertext to scale * L(c^e mod N^2) mod N, for N = p, q or n.

    Attributes:
        modulus: the residue number system of N.
        enter: weights of the ciphertext's pieces.
        one: 1 in Montgomery form.
        exponent: base-32 digits of e.
        scale: the plain factor, below N, which also leaves Montgomery form.
        unit: residues of N in base B, [K, 1]; share: scale/N, [1].
    """

    modulus: Modulus
    enter: Digits
    one: Digits
    exponent: Int32[Array, "w"]
    scale: Digits
    unit: Float[Array, "k 1"]
    share: Float[Array, "1"]


class Join(NamedTuple):
    """Matrices that join numbers modulo coprime moduli by their cofactors, and the bound to stay below.

    Attributes:
        matrices: one `toeplitz` matrix per part.
        bound: limbs of the product of the moduli.
    """

    matrices: tuple[Float[Array, "l _"], ...]
    bound: Float[Array, "l 1"]


class Blinding(NamedTuple):
    """Constants of the owner's encryption modulo one prime's square.

    Attributes:
        modulus: the residue number system of p.
        table: the comb of the generator.
        one: 1 in Montgomery form.
        enter: weights that turn a message's pieces into m q in Montgomery form, one digit.
        scale: the inverse of q^2, plain, for the Chinese remainder theorem.
    """

    modulus: Modulus
    table: Float[Array, "w 256 c"]
    one: Digits
    enter: Residues
    scale: Digits


def logarithm_constants(n: int, *, exponent: int, bits: int, scale: int, total: int) -> Logarithm:
    """Constants for logarithms modulo N.

    Args:
        n: the modulus N.
        exponent: e, which takes every blinder to 1.
        bits: a bound of e's size that does not depend on the key.
        scale: what to multiply by, modulo N.
        total: bits of a ciphertext.

    Returns:
        Device arrays.

    Example:
        >>> n = 2**127 - 1
        >>> logarithm_constants(n, exponent=n - 1, bits=127, scale=1, total=508).exponent.shape
        (26,)
    """
    modulus, radix = modulus_constants(n), montgomery_radix(n)
    pieces = powers.loaded_limbs(n.bit_length(), total=total) // powers.piece_limbs(n.bit_length())
    return on_device(
        Logarithm(
            modulus,
            powers.load_constants(modulus, n, pieces=pieces, scale=radix),
            represent_digits(modulus, n, [radix % n**2]),
            powers.exponent_digits(exponent, bits=bits),
            represent_digits(modulus, n, [scale % n]),
            represent(modulus, [n]).b,
            np.array([(scale % n) / n]),
        )
    )


def join_constants(cofactors: tuple[int, ...], bound: int, *, bits: int) -> Join:
    """Constants for sum_i cofactor_i x_i modulo a bound, where the sum is below twice the bound.

    Args:
        cofactors: the c_i.
        bound: the modulus of the sum.
        bits: size of the x_i.

    Returns:
        Device arrays.

    Example:
        >>> len(join_constants((3, 5), 15, bits=3).matrices)
        2
    """
    rows = -(-(bound.bit_length() + 1) // LIMB)
    matrices = tuple(toeplitz(c, rows=rows, columns=-(-bits // LIMB)) for c in cofactors)
    return on_device(Join(matrices, integer_limbs(bound, rows)))


@functools.lru_cache(maxsize=4)
def blinding_constants(p: int, q: int, generator: int, windows: int) -> Blinding:
    """Constants and comb of one prime; the table takes 23 MB at 2048 bits, 50 MB at 3072, and is kept for two keys.

    Args:
        p: the prime.
        q: the other one.
        generator: of the group of blinders modulo p^2.
        windows: bytes of an exponent.

    Returns:
        Device arrays.

    Example:
        >>> blinding_constants(2**127 - 1, 2**89 - 1, 3, 2).table.shape
        (2, 256, 24)
    """
    modulus, radix, square = modulus_constants(p), montgomery_radix(p), p * p
    bases = [generator]
    for _ in range(windows - 1):
        bases.append(pow(bases[-1], 256, square))
    one = represent_digits(modulus, p, [radix % square])
    size = LIMB * powers.piece_limbs(p.bit_length())
    pieces = powers.loaded_limbs(p.bit_length(), total=(p * q).bit_length()) * LIMB // size
    weights = [(q * radix**2 << (size * j)) % p for j in range(pieces)]
    with jax.enable_x64(True):
        table = _comb_table(modulus, represent_digits(modulus, p, [b * radix % square for b in bases]), one)
    scale = represent_digits(modulus, p, [pow(q, -2, square)])
    return on_device(Blinding(modulus, table, one, represent(modulus, weights), scale))


def logarithms(
    parts: tuple[Logarithm, ...], join: Join, ciphertexts: UInt8[Array, "n c"], *, bits: int, width: int
) -> tuple[UInt8[np.ndarray, "n p"], Bool[np.ndarray, "n"]]:
    """Decrypt: logarithms modulo each part, joined.

    Args:
        parts: constants modulo p and q, or modulo n alone.
        join: their cofactors.
        ciphertexts: rows below n^2.
        bits: size of the parts' moduli.
        width: bytes of a plaintext row.

    Returns:
        Plaintext rows, and whether each ciphertext's power was 1 modulo N, as it must be.

    Example:
        >>> p = 2**127 - 1
        >>> part = logarithm_constants(p, exponent=p - 1, bits=127, scale=-1, total=254)
        >>> c = np.frombuffer((1 + 5 * p).to_bytes(32, "big"), np.uint8)[None]
        >>> logarithms((part,), join_constants((1,), p, bits=127), c, bits=127, width=1)[0].tolist()
        [[5]]
    """
    limbs = powers.loaded_limbs(bits, total=8 * ciphertexts.shape[1])
    if not len(ciphertexts):
        return np.zeros((0, width), np.uint8), np.zeros(0, bool)

    def decrypted(part: slice, size: int) -> tuple[np.ndarray, np.ndarray]:
        sides, whole = _logarithms(parts, padded(ciphertexts[part], size), limbs=limbs)
        plaintexts, sound = np.asarray(_join(join, sides, width=width)), np.asarray(whole)
        live = part.stop - part.start
        return plaintexts[:live], sound[:live]

    found = over_slices(decrypted, len(ciphertexts))
    return np.concatenate([m for m, _ in found]), np.concatenate([sound for _, sound in found])


def blinded(
    sides: tuple[Blinding, Blinding],
    join: Join,
    messages: UInt8[Array, "n p"],
    exponents: tuple[UInt8[Array, "n _"], UInt8[Array, "n _"]],
    *,
    bits: int,
    width: int,
) -> UInt8[np.ndarray, "n c"]:
    """The owner's encryption (1 + m n) h^x modulo n^2.

    Args:
        sides: constants modulo p and q.
        join: cofactors of both digits of both sides.
        messages: rows below n.
        exponents: big-endian exponents modulo p and q, a row per message.
        bits: size of p and q.
        width: bytes of a ciphertext row.

    Returns:
        Ciphertext rows.

    Example:
        >>> p, q = 2**127 - 1, 2**127 - 735
        >>> sides = tuple(blinding_constants(a, b, 1, 1) for a, b in ((p, q), (q, p)))
        >>> join = join_constants((q**2, p * q**2, p**2, q * p**2), (p * q) ** 2, bits=127)
        >>> three, none = np.full((1, 1), 3, np.uint8), np.zeros((1, 1), np.uint8)
        >>> row = blinded(sides, join, three, (none, none), bits=127, width=64)
        >>> int.from_bytes(row.tobytes(), "big") == 1 + 3 * p * q
        True
    """
    limbs = powers.loaded_limbs(bits, total=2 * bits)
    if not len(messages):
        return np.zeros((0, width), np.uint8)

    def encrypted(part: slice, size: int) -> np.ndarray:
        rows = padded(messages[part], size)
        halves = [
            _blinded(side, rows, padded(x[part], size), limbs=limbs) for side, x in zip(sides, exponents, strict=True)
        ]
        joined = _join(join, [digit for half in halves for digit in half], width=width)
        return np.asarray(joined)[: part.stop - part.start]

    return np.concatenate(over_slices(encrypted, len(messages)))


def _logarithms(
    parts: tuple[Logarithm, ...], ciphertexts: UInt8[Array, "n c"], *, limbs: int
) -> tuple[list[Int64[Array, "d n"]], Bool[Array, "n"]]:
    """The logarithm modulo each part, and where all are sound."""
    # An accelerator takes hardly longer over both primes than over one: its time is that of starting kernels. A
    # processor's core takes half as long again over both together as over one after the other.
    if jax.default_backend() == "cpu":
        sides, sound = zip(*(_logarithm(constants, ciphertexts, limbs=limbs) for constants in parts), strict=True)
        return list(sides), jnp.all(jnp.stack(sound), axis=0)
    sides, sound = _stacked_logarithms(parts, ciphertexts, limbs=limbs)
    return list(sides), jnp.all(sound, axis=0)


@functools.partial(jax.jit, static_argnames="limbs")
def _stacked_logarithms(parts, ciphertexts, *, limbs):
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
    return jax.vmap(functools.partial(_logarithm, limbs=limbs), in_axes=(0, None))(stacked, ciphertexts)


@functools.partial(jax.jit, static_argnames="limbs")
def _logarithm(
    constants: Logarithm, ciphertexts: UInt8[Array, "n c"], *, limbs: int
) -> tuple[Int64[Array, "d n"], Bool[Array, "n"]]:
    """c^e = 1 + L N, times the scale w below N: low = w + k N for a small k, and w L = high + k modulo N."""
    modulus = constants.modulus
    x = powers.load(modulus, constants.enter, rows_to_limbs(ciphertexts, count=limbs))
    y = powers.shared_power(modulus, x, constants.one, constants.exponent)
    r = product(modulus, y, constants.scale)
    z = reduce_channels(r.low.b * modulus.crt_b, modulus.b, modulus.b_inverse)
    fraction = jnp.sum(z * modulus.b_inverse, axis=0)
    k = jnp.round((fraction - jnp.round(fraction)) * modulus.ratio[0] - constants.share)
    rest = r.low.b - constants.scale.low.b - k[None, :] * constants.unit
    sound = jnp.all(reduce_channels(rest, modulus.b, modulus.b_inverse) == 0, axis=0)
    # An unsound k may be any size; its plaintext is refused, but must not overflow on the way.
    quotient = jnp.where(sound, k, 0).astype(jnp.int64)
    return exact_residue(modulus, r.high.b, quotient)[0][: modulus.in_a.shape[1]], sound


@functools.partial(jax.jit, static_argnames="limbs")
def _blinded(
    constants: Blinding, messages: UInt8[Array, "n p"], exponents: UInt8[Array, "n w"], *, limbs: int
) -> tuple[Int64[Array, "d n"], Int64[Array, "d n"]]:
    """Both digits of (1 + m n) h^x/q^2 modulo p^2; in Montgomery form 1 + m p q is M_A + p (m q M_A)."""
    modulus = constants.modulus
    power = powers.comb_power(modulus, constants.table, constants.one, exponents[:, ::-1].T.astype(jnp.int32))
    plaintexts = rows_to_limbs(messages, count=limbs).astype(jnp.float64)
    pieces = constants.enter.a.shape[1]
    size = limbs // pieces
    total = Residues(jnp.float64(0), jnp.float64(0))
    for j in range(pieces):
        piece = powers.residues(modulus, plaintexts[j * size : (j + 1) * size])
        total = Residues(
            total.a + piece.a * constants.enter.a[:, j : j + 1], total.b + piece.b * constants.enter.b[:, j : j + 1]
        )
    shifted = montgomery(modulus, total.a, total.b)[0]
    low = jax.tree.map(lambda o, s: jnp.broadcast_to(o, s.shape), constants.one.low, shifted)
    high = Residues(
        reduce_channels(constants.one.high.a + shifted.a, modulus.a, modulus.a_inverse),
        reduce_channels(constants.one.high.b + shifted.b, modulus.b, modulus.b_inverse),
    )
    r = product(modulus, product(modulus, power, Digits(low, high)), constants.scale)
    first, k = exact_residue(modulus, r.low.b, jnp.zeros(len(messages), jnp.int64))
    second = exact_residue(modulus, r.high.b, k)[0]
    size = modulus.in_a.shape[1]
    return first[:size], second[:size]


@functools.partial(jax.jit, static_argnames="width")
def _join(join: Join, parts: list[Int64[Array, "_ n"]], *, width: int) -> UInt8[Array, "n w"]:
    total = combine(join.matrices, tuple(parts))
    return limbs_to_rows(subtract_once(total, join.bound.astype(jnp.int64))[0].astype(jnp.uint16), width=width)


_comb_table = jax.jit(powers.comb_table)
