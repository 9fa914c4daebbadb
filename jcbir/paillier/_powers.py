"""Batched powers modulo N^2 on two-digit residues: load, raise to a shared, a private or a table's exponent, unload."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int32, UInt16

from jcbir.paillier._rns import (
    LIMB,
    Digits,
    Modulus,
    Residues,
    montgomery_radix,
    product,
    reduce_channels,
    represent_digits,
    square,
    two_digit_reduction,
)
from jcbir.typing import Array

WINDOW = 5


def piece_limbs(bits: int) -> int:
    """Limbs of the pieces that numbers are loaded in: as many as surely stay below twice a modulus of so many bits.

    Args:
        bits: size of the modulus.

    Returns:
        Limbs per piece.

    Example:
        >>> piece_limbs(1025)
        64
    """
    return bits // LIMB


def loaded_limbs(bits: int, *, total: int) -> int:
    """Limbs to give to `load` for numbers of `total` bits: a whole number of pieces.

    Args:
        bits: size of the modulus.
        total: size of the numbers.

    Returns:
        Limbs.

    Example:
        >>> loaded_limbs(1024, total=4096)
        256
    """
    size = piece_limbs(bits)
    return size * -(-total // (LIMB * size))


def load_constants(modulus: Modulus, n: int, *, pieces: int, scale: int) -> Digits:
    """Weights of a number's pieces, 2^(16 L j) * scale * M_A modulo n^2, so that `load` gives x * scale.

    Args:
        modulus: the constants of n, as NumPy arrays.
        n: the modulus.
        pieces: how many pieces, at most four.
        scale: what to multiply by; M_A for Montgomery form.

    Returns:
        Digits of shape [K, pieces].

    Example:
        >>> from jcbir.paillier._rns import modulus_constants
        >>> n = 2**127 - 1
        >>> load_constants(modulus_constants(n), n, pieces=2, scale=1).low.a.shape
        (6, 2)
    """
    size, factor = LIMB * piece_limbs(n.bit_length()), scale * montgomery_radix(n)
    return represent_digits(modulus, n, [(factor << (size * j)) % (n * n) for j in range(pieces)])


def load(modulus: Modulus, weights: Digits, limbs: UInt16[Array, "l n"]) -> Digits:
    """Turn limbs into digits: sum_j piece_j * weight_j, reduced once.

    No number is divided on the way in: the pieces, short enough to be digits, are weighted by 2^(16 L j) modulo N^2.

    Args:
        modulus: the constants of N.
        weights: constants from `load_constants`.
        limbs: L limbs for each weight, see `loaded_limbs`.

    Returns:
        Digits of x * scale modulo N^2.

    Example:
        >>> from jcbir.paillier._rns import modulus_constants
        >>> n = 2**127 - 1
        >>> m = modulus_constants(n)
        >>> with jax.enable_x64(True):
        ...     weights = load_constants(m, n, pieces=2, scale=1)
        ...     load(m, weights, np.ones((14, 3), np.uint16)).low.a.shape
        (6, 3)
    """
    pieces = weights.low.a.shape[1]
    size = limbs.shape[0] // pieces
    low = cross = Residues(jnp.float64(0), jnp.float64(0))
    for j in range(pieces):
        piece = limbs[j * size : (j + 1) * size].astype(jnp.float64)
        x = residues(modulus, piece)
        column = jax.tree.map(lambda w: w[:, j : j + 1], weights)  # noqa: B023
        low = Residues(low.a + x.a * column.low.a, low.b + x.b * column.low.b)
        cross = Residues(cross.a + x.a * column.high.a, cross.b + x.b * column.high.b)
    return two_digit_reduction(modulus, low, cross)


def residues(modulus: Modulus, limbs: Float[Array, "l n"]) -> Residues:
    """Residues of numbers given by limbs.

    A sum of L limbs times symmetric constants is below L * 2^16 * 2^24 < 2^53.

    Args:
        modulus: the constants of N.
        limbs: limbs of numbers at most (K/2 + 3) N.

    Returns:
        Residues in both bases.

    Example:
        >>> from jcbir.paillier._rns import modulus_constants
        >>> with jax.enable_x64(True):
        ...     residues(modulus_constants(2**127 - 1), np.ones((8, 2))).a.shape
        (6, 2)
    """
    count = limbs.shape[0]
    a = jnp.matmul(modulus.in_a[:, :count], limbs, precision=jax.lax.Precision.HIGHEST)
    b = jnp.matmul(modulus.in_b[:, :count], limbs, precision=jax.lax.Precision.HIGHEST)
    return Residues(reduce_channels(a, modulus.a, modulus.a_inverse), reduce_channels(b, modulus.b, modulus.b_inverse))


def exponent_digits(exponent: int, *, bits: int, window: int = WINDOW) -> Int32[np.ndarray, "w"]:
    """Digits of an exponent in base 2^window, most significant first.

    Args:
        exponent: below 2^bits.
        bits: fixes the number of digits, so that it does not depend on the key.
        window: bits per digit.

    Returns:
        ceil(bits/window) digits.

    Example:
        >>> exponent_digits(70, bits=10, window=5).tolist()
        [2, 6]
    """
    count = -(-bits // window)
    return np.array([exponent >> (window * i) & ((1 << window) - 1) for i in reversed(range(count))], np.int32)


def shared_power(modulus: Modulus, x: Digits, one: Digits, digits: Int32[Array, "w"]) -> Digits:
    """x^e for one exponent e shared by the batch, by fixed windows of five bits.

    Which products are computed does not depend on e; which table entry is read does.

    Args:
        modulus: the constants of N.
        x: bases in Montgomery form.
        one: the number 1 in Montgomery form, shape [K, 1].
        digits: the exponent, from `exponent_digits`.

    Returns:
        The powers in Montgomery form.

    Example:
        >>> from jcbir.paillier._rns import modulus_constants
        >>> n = 2**127 - 1
        >>> m, r = modulus_constants(n), montgomery_radix(n)
        >>> with jax.enable_x64(True):
        ...     x, one = (represent_digits(m, n, [v * r % n**2]) for v in (3, 1))
        ...     shared_power(m, x, one, exponent_digits(70, bits=10)).low.a.shape
        (6, 1)
    """
    table = _table(modulus, x, one)

    def entry(digit):
        return jax.tree.map(lambda t: jax.lax.dynamic_index_in_dim(t, digit, keepdims=False), table)

    def step(power, digit):
        for _ in range(WINDOW):
            power = square(modulus, power)
        return product(modulus, power, entry(digit)), None

    return jax.lax.scan(step, entry(digits[0]), digits[1:])[0]


def private_powers(modulus: Modulus, x: Digits, one: Digits, digits: Int32[Array, "w n"]) -> Digits:
    """x_i^(e_i), each number with an exponent of its own.

    The table entry is chosen by a sum over all entries: neither time nor addresses depend on the exponents.

    Args:
        modulus: the constants of N.
        x: bases in Montgomery form.
        one: the number 1 in Montgomery form, shape [K, 1].
        digits: base-32 digits of the exponents, most significant first.

    Returns:
        The powers in Montgomery form.

    Example:
        >>> from jcbir.paillier._rns import modulus_constants
        >>> n = 2**127 - 1
        >>> m, r = modulus_constants(n), montgomery_radix(n)
        >>> with jax.enable_x64(True):
        ...     x, one = (represent_digits(m, n, [v * r % n**2]) for v in (3, 1))
        ...     private_powers(m, x, one, np.array([[2], [6]], np.int32)).low.a.shape
        (6, 1)
    """
    table = _table(modulus, x, one)

    def entry(digit):
        chosen = (jnp.arange(1 << WINDOW, dtype=digits.dtype)[:, None, None] == digit).astype(jnp.float64)
        return jax.tree.map(lambda t: jnp.sum(t * chosen, axis=0), table)

    def step(power, digit):
        for _ in range(WINDOW):
            power = square(modulus, power)
        return product(modulus, power, entry(digit[None, None])), None

    return jax.lax.scan(step, entry(digits[0][None, None]), digits[1:])[0]


def _table(modulus: Modulus, x: Digits, one: Digits) -> Digits:
    """x^0 to x^31, stacked."""
    first = jax.tree.map(lambda o, t: jnp.broadcast_to(o, t.shape), one, x)

    def step(power, _):
        following = product(modulus, power, x)
        return following, following

    _, rest = jax.lax.scan(step, first, None, length=(1 << WINDOW) - 1)
    return jax.tree.map(lambda f, r: jnp.concatenate([f[None], r]), first, rest)


def comb_table(modulus: Modulus, bases: Digits, one: Digits) -> Float[Array, "w 256 c"]:
    """Powers 0 to 255 of each base: the table of a comb whose bases are h^(256^i).

    A residue is at most 2^23.7 in absolute value, exact in float32, which halves the table.

    Args:
        modulus: the constants of N.
        bases: w bases in Montgomery form.
        one: the number 1 in Montgomery form, shape [K, 1].

    Returns:
        float32 of shape [w, 256, 4 K]: both digits in both bases.

    Example:
        >>> from jcbir.paillier._rns import modulus_constants
        >>> n = 2**127 - 1
        >>> m, r = modulus_constants(n), montgomery_radix(n)
        >>> with jax.enable_x64(True):
        ...     x, one = (represent_digits(m, n, [v * r % n**2]) for v in (3, 1))
        ...     comb_table(m, x, one).shape
        (1, 256, 24)
    """
    first = jax.tree.map(lambda o, t: jnp.broadcast_to(o, t.shape), one, bases)

    def flat(power):
        return jnp.concatenate(jax.tree.leaves(power)).astype(jnp.float32)

    def step(power, _):
        following = product(modulus, power, bases)
        return following, flat(following)

    _, rest = jax.lax.scan(step, first, None, length=255)
    return jnp.concatenate([flat(first)[None], rest]).transpose(2, 0, 1)


def comb_power(modulus: Modulus, table: Float[Array, "w 256 c"], one: Digits, digits: Int32[Array, "w n"]) -> Digits:
    """h^(e_i) from the table: prod_i table[i][byte i of the exponent], one product a byte and no squaring.

    Args:
        modulus: the constants of N.
        table: from `comb_table`.
        one: the number 1 in Montgomery form, shape [K, 1].
        digits: the exponents' bytes, least significant first.

    Returns:
        The powers in Montgomery form.

    Example:
        >>> from jcbir.paillier._rns import modulus_constants
        >>> n = 2**127 - 1
        >>> m, r = modulus_constants(n), montgomery_radix(n)
        >>> with jax.enable_x64(True):
        ...     x, one = (represent_digits(m, n, [v * r % n**2]) for v in (3, 1))
        ...     comb_power(m, comb_table(m, x, one), one, np.array([[7, 9]], np.int32)).low.a.shape
        (6, 2)

    References:
        Lim and Lee, 1994, More flexible exponentiation with precomputation.
    """
    channels = table.shape[2] // 4

    def step(power, window):
        lines, digit = window
        rows = lines[digit].T.astype(jnp.float64)
        parts = (rows[i * channels : (i + 1) * channels] for i in range(4))
        factor = Digits(Residues(next(parts), next(parts)), Residues(next(parts), next(parts)))
        return product(modulus, power, factor), None

    shape = (channels, digits.shape[1])
    start = jax.tree.map(lambda o: jnp.broadcast_to(jnp.asarray(o), shape), one)
    return jax.lax.scan(step, start, (table, digits))[0]
