"""Engine `jax`, public half: batches of rows in, rows out; owns compilation, the 64-bit scope and the shapes.

A batch is cut and padded to a handful of sizes, and the key is an argument of the compiled program, so that one
compilation per operation, key size and batch size serves every key. Point `jax_compilation_cache_dir` at a folder to
keep it between processes.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer, UInt8, UInt16

from jcbir.paillier import _powers as powers
from jcbir.paillier._limbs import combine, exact_residue, limbs_to_rows, rows_to_limbs, toeplitz
from jcbir.paillier._rns import (
    LIMB,
    Digits,
    Modulus,
    Residues,
    modulus_constants,
    montgomery_radix,
    product,
    represent_digits,
)
from jcbir.paillier._rows import from_ints, to_ints
from jcbir.paillier._slices import in_batches
from jcbir.typing import Array


class PublicConstants(NamedTuple):
    """Device arrays of one n, for arithmetic modulo n^2.

    Attributes:
        modulus: the residue number system.
        enter: weights of a number's pieces that bring it into Montgomery form.
        plain: weights that keep it plain.
        one: 1 in Montgomery form; unit: plain 1, which leaves Montgomery form.
        high: the matrix that multiplies a digit's limbs by n; low: by 1.
    """

    modulus: Modulus
    enter: Digits
    plain: Digits
    one: Digits
    unit: Digits
    high: Float[Array, "l d"]
    low: Float[Array, "l d"]


@functools.lru_cache(maxsize=8)
def public_constants(n: int) -> PublicConstants:
    """Constants of a public modulus, kept for the last eight.

    Args:
        n: the modulus.

    Returns:
        Device arrays.

    Example:
        >>> public_constants(2**127 - 1).one.low.a.shape
        (6, 1)
    """
    modulus, radix = modulus_constants(n), montgomery_radix(n)
    pieces = powers.loaded_limbs(n.bit_length(), total=2 * n.bit_length()) // powers.piece_limbs(n.bit_length())
    limbs = -(-2 * n.bit_length() // LIMB)
    digit = modulus.in_a.shape[1]
    return on_device(
        PublicConstants(
            modulus,
            powers.load_constants(modulus, n, pieces=pieces, scale=radix),
            powers.load_constants(modulus, n, pieces=pieces, scale=1),
            represent_digits(modulus, n, [radix % n**2]),
            represent_digits(modulus, n, [1]),
            toeplitz(n, rows=limbs, columns=digit),
            toeplitz(1, rows=limbs, columns=digit),
        )
    )


def on_device(constants: Any) -> Any:
    """Put a record of NumPy arrays on JAX's default device, in 64 bits.

    Args:
        constants: a record of arrays, or of such records.

    Returns:
        The tree of device arrays.

    Example:
        >>> on_device((np.zeros(2),))[0].dtype
        dtype('float64')
    """
    with jax.enable_x64(True):
        return jax.tree.map(jnp.asarray, constants)


def shared_powers(n: int, rows: UInt8[Array, "n c"], exponent: int, *, bits: int) -> UInt8[np.ndarray, "n c"]:
    """x^e modulo n^2 with one exponent for all.

    Args:
        n: the modulus.
        rows: numbers below n^2.
        exponent: e.
        bits: an upper bound of e's size, the same for all keys of a size.

    Returns:
        Rows as wide as the input's.

    Example:
        >>> to_ints(shared_powers(2**127 - 1, from_ints([3, 5], width=32), 4, bits=5))
        [81, 625]
    """
    constants, digits = public_constants(n), powers.exponent_digits(exponent, bits=bits)
    return in_batches(lambda x: _shared_powers(constants, x, digits, limbs=_limbs(n)), [rows], rows.shape[1])


def private_powers(
    n: int, rows: UInt8[Array, "n c"], exponents: Sequence[int], *, bits: int
) -> UInt8[np.ndarray, "n c"]:
    """x_i^(e_i) modulo n^2.

    Args:
        n: the modulus.
        rows: numbers below n^2.
        exponents: one integer in [0, 2^bits) per row.
        bits: sets the time, rounded up to one of few sizes.

    Returns:
        Rows as wide as the input's.

    Example:
        >>> to_ints(private_powers(2**127 - 1, from_ints([3, 5], width=32), [4, 2], bits=3))
        [81, 25]
    """
    constants = public_constants(n)
    # Two sizes per octave keep the number of compiled programs small whatever the scalars.
    octave = 1 << max(5, bits.bit_length() - 1)
    size = next(s for s in (octave, octave * 3 // 2, octave * 2) if s >= bits)
    digits = np.array([powers.exponent_digits(e, bits=size) for e in exponents], np.int32)
    digits = digits.reshape(len(exponents), -(-size // powers.WINDOW))
    return in_batches(lambda x, d: _private_powers(constants, x, d, limbs=_limbs(n)), [rows, digits], rows.shape[1])


def products(n: int, a: UInt8[Array, "n c"], b: UInt8[Array, "n c"]) -> UInt8[np.ndarray, "n c"]:
    """a b modulo n^2.

    Args:
        n: the modulus.
        a: numbers below n^2.
        b: as many.

    Returns:
        Rows of the products.

    Example:
        >>> to_ints(products(2**127 - 1, from_ints([3, 5], width=32), from_ints([4, 7], width=32)))
        [12, 35]
    """
    constants = public_constants(n)
    return in_batches(lambda x, y: _products(constants, x, y, limbs=_limbs(n)), [a, b], a.shape[1])


def messages_times(n: int, messages: UInt8[Array, "n p"], b: UInt8[Array, "n c"]) -> UInt8[np.ndarray, "n c"]:
    """(1 + m n) b modulo n^2: the power of g = n + 1 costs nothing, its two digits are 1 and m.

    Args:
        n: the modulus.
        messages: numbers below n.
        b: as many numbers below n^2.

    Returns:
        Rows of the products.

    Example:
        >>> n = 2**127 - 1
        >>> to_ints(messages_times(n, from_ints([3], width=16), from_ints([1], width=32)))[0] == 1 + 3 * n
        True
    """
    constants = public_constants(n)
    return in_batches(lambda m, x: _messages_times(constants, m, x, limbs=_limbs(n)), [messages, b], b.shape[1])


def picked_products(n: int, table: UInt8[Array, "t c"], picks: Integer[Array, "b m"]) -> UInt8[np.ndarray, "b c"]:
    """prod_j table[picks[i, j]] modulo n^2.

    Args:
        n: the modulus.
        table: numbers below n^2.
        picks: rows of the table, m for each of b products.

    Returns:
        Rows of the products.

    Example:
        >>> to_ints(picked_products(2**127 - 1, from_ints([3, 5], width=32), np.array([[0, 1, 1]])))
        [75]
    """
    constants, factors = public_constants(n), np.asarray(table)

    def compute(chosen):
        return _picked_products(constants, factors[chosen.T], limbs=_limbs(n))

    return in_batches(compute, [np.asarray(picks)], table.shape[1])


def inverses(n: int, rows: UInt8[Array, "n c"]) -> UInt8[np.ndarray, "n c"]:
    """1/x modulo n^2 by a tree of products: one inversion for the batch, three products a number.

    Args:
        n: the modulus.
        rows: units below n^2.

    Returns:
        Rows of the inverses.

    Raises:
        ValueError: a number is not a unit.

    Example:
        >>> to_ints(inverses(2**127 - 1, inverses(2**127 - 1, from_ints([3, 5], width=32))))
        [3, 5]
    """
    levels = [np.asarray(rows)]
    while len(levels[-1]) > 1:
        whole = levels[-1]
        half = len(whole) // 2
        merged = products(n, whole[:half], whole[half : 2 * half])
        levels.append(np.concatenate([merged, whole[2 * half :]]))
    if not len(levels[0]):
        return levels[0]
    inverse = from_ints([pow(to_ints(levels.pop())[0], -1, n * n)], width=rows.shape[1])
    for whole in reversed(levels):
        half = len(whole) // 2
        parents, odd = inverse[:half], inverse[half:]
        others = np.concatenate([whole[half : 2 * half], whole[:half]])
        inverse = np.concatenate([products(n, np.concatenate([parents, parents]), others), odd])
    return inverse


def positional(constants: PublicConstants, x: Digits) -> UInt16[Array, "l n"]:
    """Two digits of residues to the limbs of the number below n^2.

    Args:
        constants: of the modulus.
        x: digits, plain.

    Returns:
        Limbs.

    Example:
        >>> c = public_constants(2**127 - 1)
        >>> with jax.enable_x64(True):
        ...     positional(c, c.unit).ravel().tolist()[:2]
        [1, 0]
    """
    size = constants.low.shape[1]
    low, quotient = exact_residue(constants.modulus, x.low.b, jnp.zeros(x.low.b.shape[1], jnp.int64))
    high, _ = exact_residue(constants.modulus, x.high.b, quotient)
    return combine((constants.low, constants.high), (low[:size], high[:size])).astype(jnp.uint16)


def _limbs(n: int) -> int:
    """Limbs that numbers below n^2 are loaded in."""
    return powers.loaded_limbs(n.bit_length(), total=2 * n.bit_length())


# What is compiled takes rows and gives rows as wide; `limbs` is fixed by the size of n.
_compiled = functools.partial(jax.jit, static_argnames="limbs")


def _enter(constants, rows, limbs):
    return powers.load(constants.modulus, constants.enter, rows_to_limbs(rows, count=limbs))


@_compiled
def _shared_powers(constants, rows, digits, *, limbs):
    power = powers.shared_power(constants.modulus, _enter(constants, rows, limbs), constants.one, digits)
    plain = product(constants.modulus, power, constants.unit)
    return limbs_to_rows(positional(constants, plain), width=rows.shape[1])


@_compiled
def _private_powers(constants, rows, digits, *, limbs):
    power = powers.private_powers(constants.modulus, _enter(constants, rows, limbs), constants.one, digits.T)
    plain = product(constants.modulus, power, constants.unit)
    return limbs_to_rows(positional(constants, plain), width=rows.shape[1])


@_compiled
def _products(constants, a, b, *, limbs):
    y = powers.load(constants.modulus, constants.plain, rows_to_limbs(b, count=limbs))
    plain = product(constants.modulus, _enter(constants, a, limbs), y)
    return limbs_to_rows(positional(constants, plain), width=a.shape[1])


@_compiled
def _messages_times(constants, messages, b, *, limbs):
    modulus = constants.modulus
    plaintexts = rows_to_limbs(messages, count=modulus.in_a.shape[1])
    high = powers.residues(modulus, plaintexts.astype(jnp.float64))
    low = Residues(*(jnp.broadcast_to(u, h.shape) for u, h in zip(constants.unit.low, high, strict=True)))
    plain = product(modulus, _enter(constants, b, limbs), Digits(low, high))
    return limbs_to_rows(positional(constants, plain), width=b.shape[1])


@_compiled
def _picked_products(constants, factors, *, limbs):
    modulus = constants.modulus
    start = jax.tree.map(lambda o: jnp.broadcast_to(o, (o.shape[0], factors.shape[1])), constants.one)

    def step(total, rows):
        return product(modulus, total, _enter(constants, rows, limbs)), None

    total, _ = jax.lax.scan(step, start, factors)
    plain = product(modulus, total, constants.unit)
    return limbs_to_rows(positional(constants, plain), width=factors.shape[2])
