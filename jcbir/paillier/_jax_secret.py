"""Engine `jax`, secret operations: decryption and the owner's encryption, modulo p^2 and q^2 in turn, on batches.

Both primes run through the same compiled programs: their records, exponents and tables are arguments.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int32, Int64, UInt8

from jcbir.paillier._jax import make_comb, on_device, over_batches, padded
from jcbir.paillier._rns import (
    LIMB,
    Digits,
    Modulus,
    Residues,
    carry,
    comb_power,
    exact_digits,
    exact_residue,
    exponent_digits,
    integer_limbs,
    limbs_to_rows,
    load,
    load_pieces,
    modulus_constants,
    montgomery,
    montgomery_radix,
    piece_count,
    piece_limbs,
    product,
    reduce_channels,
    represent,
    represent_digits,
    shared_power,
    subtract_once,
    toeplitz,
)
from jcbir.typing import Array

# A joined number is compared with its parts modulo this prime: a fault passes once in 2^26. Sums of a thousand of its
# residues times limbs stay below 2^53.
WITNESS = 2**26 - 5


def _redacted(self: tuple) -> str:
    return f"{type(self).__name__}(secrets redacted)"


class Join(NamedTuple):
    """What joins numbers x_i modulo coprime moduli: sum_i c_i x_i modulo a bound, the sum being below twice it.

    Attributes:
        matrices: the cofactors c_i, as `toeplitz` matrices; a last row gives c_i x_i modulo `WITNESS`.
        bound: limbs of the product of the moduli.
        places: what the limbs of the sum weigh modulo `WITNESS`, [1, L]; wrap: the bound modulo it, [1].
    """

    matrices: tuple[Float[Array, "l _"], ...]
    bound: Float[Array, "l 1"]
    places: Float[Array, "1 l"]
    wrap: Float[Array, "1"]

    __repr__ = _redacted


class Logarithm(NamedTuple):
    """Constants that take a ciphertext to scale * L(c^e mod N^2) mod N, for N = p, q or n.

    Attributes:
        modulus: the record of N.
        exponent: base-32 digits of e.
        scale: the plain factor, below N, which also leaves Montgomery form.
        unit: residues of N in base B, [K, 1]; share: scale/N, [1].
    """

    modulus: Modulus
    exponent: Int32[Array, "w"]
    scale: Digits
    unit: Float[Array, "k 1"]
    share: Float[Array, "1"]

    __repr__ = _redacted


class Blinding(NamedTuple):
    """Constants of the owner's encryption modulo one prime's square.

    Attributes:
        modulus: the record of p.
        table: the comb of the generator.
        enter: weights that turn a message's pieces into m q in Montgomery form, one digit.
        scale: the inverse of q^2, plain, for the Chinese remainder theorem.
    """

    modulus: Modulus
    table: Float[Array, "w 256 c"]
    enter: Residues
    scale: Digits

    __repr__ = _redacted


class Decryption(NamedTuple):
    """A key's constants for m = sum_i (n/N_i) t_i mod n with t_i = L(c^e) / (L(g^e) n/N_i) mod N_i.

    Attributes:
        sides: modulo p and q, or modulo n alone.
        join: their cofactors.
    """

    sides: tuple[Logarithm, ...]
    join: Join

    __repr__ = _redacted


class Encryption(NamedTuple):
    """A key's constants for c = sum over p and q of n^2/p^2 (u mod p^2), u = (1 + m n) h^x / (n/p)^2.

    Attributes:
        sides: modulo p and q.
        join: the cofactors of both digits of both sides.
    """

    sides: tuple[Blinding, ...]
    join: Join

    __repr__ = _redacted


@functools.lru_cache(maxsize=4)
def make_decryption(n: int, g: int, sides: tuple[tuple[int, int, int], ...], *, ciphertext_bytes: int) -> Decryption:
    """Constants of a key by its sides: N, an exponent e that takes every blinder to 1 modulo N^2, and e's bits."""
    logarithms = []
    for prime, exponent, bits in sides:
        modulus = load_modulus(prime, ciphertext_bytes)
        base = (pow(g, exponent, prime * prime) - 1) // prime
        scale = pow(base * (n // prime), -1, prime)
        logarithms.append(
            Logarithm(
                modulus,
                exponent_digits(exponent, bits=bits),
                represent_digits(modulus, prime, [scale]),
                represent(modulus, [prime]).b,
                np.array([scale / prime]),
            )
        )
    join = _make_join([n // prime for prime, *_ in sides], n, bits=sides[0][0].bit_length())
    return on_device(Decryption(tuple(logarithms), join))


# A comb takes 23 MB a prime at 2048 bits, 50 MB at 3072.
@functools.lru_cache(maxsize=2)
def make_encryption(sides: tuple[tuple[int, int, int], ...], *, ciphertext_bytes: int) -> Encryption:
    """Constants of a key by its sides: a prime, the generator of blinders modulo its square, bytes of an exponent."""
    n, blindings, cofactors = sides[0][0] * sides[1][0], [], []
    for prime, generator, windows in sides:
        modulus, radix, other = load_modulus(prime, ciphertext_bytes), montgomery_radix(prime), n // prime
        size, count = LIMB * piece_limbs(prime.bit_length()), piece_count(prime.bit_length(), -(-n.bit_length() // 8))
        weights = [(other * radix**2 << (size * j)) % prime for j in range(count)]
        scale = represent_digits(modulus, prime, [pow(other, -2, prime * prime)])
        table = make_comb(modulus, prime, generator, windows)
        blindings.append(Blinding(modulus, table, represent(modulus, weights), scale))
        cofactors += [other**2, prime * other**2]
    return on_device(Encryption(tuple(blindings), _make_join(cofactors, n * n, bits=sides[0][0].bit_length())))


@functools.lru_cache(maxsize=8)
def load_modulus(prime: int, width: int) -> Modulus:
    """The record of a secret modulus on the device, for rows of `width` bytes."""
    return on_device(modulus_constants(prime, width=width))


def decrypt(
    key: Decryption, ciphertexts: UInt8[Array, "n c"], *, width: int
) -> tuple[UInt8[np.ndarray, "n p"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Plaintext rows of `width` bytes; whether each ciphertext's power was 1 modulo N, as it must be; and whether the
    joined number agrees with its parts."""
    if not len(ciphertexts):
        return np.zeros((0, width), np.uint8), np.zeros(0, bool), np.zeros(0, bool)

    def compute(part: slice, size: int) -> list[np.ndarray]:
        sides, sound = _logarithms(key.sides, padded(ciphertexts[part], size))
        rows, joined = _join(key.join, sides, width=width)
        return [np.asarray(x)[: part.stop - part.start] for x in (rows, sound, joined)]

    rows, sound, joined = zip(*over_batches(compute, len(ciphertexts)), strict=True)
    return np.concatenate(rows), np.concatenate(sound), np.concatenate(joined)


def encrypt(
    key: Encryption,
    messages: UInt8[Array, "n p"],
    exponents: Sequence[UInt8[Array, "n _"]],
    *,
    width: int,
) -> tuple[UInt8[np.ndarray, "n c"], Bool[np.ndarray, "n"]]:
    """(1 + m n) h^x modulo n^2 for big-endian exponents modulo p and q, and whether it agrees with its parts."""
    if not len(messages):
        return np.zeros((0, width), np.uint8), np.zeros(0, bool)

    def compute(part: slice, size: int) -> list[np.ndarray]:
        rows = padded(messages[part], size)
        halves = [_blinded(side, rows, padded(x[part], size)) for side, x in zip(key.sides, exponents, strict=True)]
        joined = _join(key.join, [digit for half in halves for digit in half], width=width)
        return [np.asarray(x)[: part.stop - part.start] for x in joined]

    rows, joined = zip(*over_batches(compute, len(messages)), strict=True)
    return np.concatenate(rows), np.concatenate(joined)


def _logarithms(
    sides: tuple[Logarithm, ...], ciphertexts: UInt8[Array, "n c"]
) -> tuple[list[Int64[Array, "d n"]], Bool[Array, "n"]]:
    """The logarithm modulo each side, and where all are sound."""
    # An accelerator takes hardly longer over both primes than over one: its time is that of starting kernels. A
    # processor's core takes half as long again over both together as over one after the other.
    if jax.default_backend() == "cpu":
        found, sound = zip(*(_logarithm(side, ciphertexts) for side in sides), strict=True)
        return list(found), jnp.all(jnp.stack(sound), axis=0)
    found, sound = _stacked_logarithms(sides, ciphertexts)
    return list(found), jnp.all(sound, axis=0)


@jax.jit
def _stacked_logarithms(sides, ciphertexts):
    leaves, structures = zip(*(jax.tree.flatten(side) for side in sides), strict=True)
    stacked = [jnp.stack(pair) for pair in zip(*leaves, strict=True)]

    def one(constants, rows):
        return _logarithm(jax.tree.unflatten(structures[0], constants), rows)

    return jax.vmap(one, in_axes=(0, None))(stacked, ciphertexts)


@jax.jit
def _logarithm(side: Logarithm, ciphertexts: UInt8[Array, "n c"]) -> tuple[Int64[Array, "d n"], Bool[Array, "n"]]:
    """c^e = 1 + L N, times the scale w below N: low = w + k N for a small k, and w L = high + k modulo N."""
    modulus = side.modulus
    y = shared_power(modulus, load(modulus, modulus.enter, ciphertexts), side.exponent)
    r = product(modulus, y, side.scale)
    z = reduce_channels(r.low.b * modulus.crt_b, modulus.b, modulus.b_inverse)
    fraction = jnp.sum(z * modulus.b_inverse, axis=0)
    k = jnp.round((fraction - jnp.round(fraction)) * modulus.ratio[0] - side.share)
    rest = r.low.b - side.scale.low.b - k[None, :] * side.unit
    sound = jnp.all(reduce_channels(rest, modulus.b, modulus.b_inverse) == 0, axis=0)
    # An unsound k may be any size; its plaintext is refused, but must not overflow on the way.
    quotient = jnp.where(sound, k, 0).astype(jnp.int64)
    return exact_residue(modulus, r.high.b, quotient)[0][: modulus.in_a.shape[1]], sound


@jax.jit
def _blinded(
    side: Blinding, messages: UInt8[Array, "n p"], exponents: UInt8[Array, "n w"]
) -> tuple[Int64[Array, "d n"], Int64[Array, "d n"]]:
    """Both digits of (1 + m n) h^x/q^2 modulo p^2; in Montgomery form 1 + m p q is M_A + p (m q M_A)."""
    modulus = side.modulus
    power = comb_power(modulus, side.table, exponents)
    total = Residues(jnp.float64(0), jnp.float64(0))
    for j, piece in enumerate(load_pieces(modulus, messages)):
        total = Residues(total.a + piece.a * side.enter.a[:, j : j + 1], total.b + piece.b * side.enter.b[:, j : j + 1])
    shifted = montgomery(modulus, total.a, total.b)[0]
    low = jax.tree.map(lambda o, s: jnp.broadcast_to(o, s.shape), modulus.one.low, shifted)
    high = Residues(
        reduce_channels(modulus.one.high.a + shifted.a, modulus.a, modulus.a_inverse),
        reduce_channels(modulus.one.high.b + shifted.b, modulus.b, modulus.b_inverse),
    )
    return exact_digits(modulus, product(modulus, product(modulus, power, Digits(low, high)), side.scale))


def _make_join(cofactors: Sequence[int], bound: int, *, bits: int) -> Join:
    """Constants for numbers of `bits` bits."""
    rows, columns = -(-(bound.bit_length() + 1) // LIMB), -(-bits // LIMB)

    def witness(factor: int, count: int) -> Float[np.ndarray, "1 c"]:
        return np.array([[float((factor << (LIMB * i)) % WITNESS) for i in range(count)]])

    matrices = [np.concatenate([toeplitz(c, rows=rows, columns=columns), witness(c, columns)]) for c in cofactors]
    return Join(tuple(matrices), integer_limbs(bound, rows), witness(1, rows), witness(bound, 1)[0])


@functools.partial(jax.jit, static_argnames="width")
def _join(join: Join, parts: list[Int64[Array, "_ n"]], *, width: int) -> tuple[UInt8[Array, "n w"], Bool[Array, "n"]]:
    """The joined number as rows, and whether it is its parts' sum modulo `WITNESS`, by another way than carries."""
    total = sum(
        jnp.matmul(matrix, part.astype(jnp.float64), precision=jax.lax.Precision.HIGHEST)
        for matrix, part in zip(join.matrices, parts, strict=True)
    )
    limbs, wrapped = subtract_once(carry(total[:-1].astype(jnp.int64))[0], join.bound.astype(jnp.int64))
    found = jnp.matmul(join.places, limbs.astype(jnp.float64), precision=jax.lax.Precision.HIGHEST)[0]
    difference = total[-1] - join.wrap * wrapped.astype(jnp.float64) - found
    return limbs_to_rows(limbs.astype(jnp.uint16), width=width), difference.astype(jnp.int64) % WITNESS == 0
