"""Engine `jax`, public operations: batches of rows in, rows out; owns compilation, the 64-bit scope and the shapes.

A batch is cut and padded to a handful of sizes, and the modulus is an argument of the compiled program, so that one
compilation per operation, key size and batch size serves every key. Point `jax_compilation_cache_dir` at a folder to
keep it between processes.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer, UInt8

from jcbir.paillier._rns import (
    WINDOW,
    Digits,
    Modulus,
    Residues,
    comb_power,
    comb_table,
    exponent_digits,
    limb_residues,
    load,
    modulus_constants,
    montgomery_radix,
    private_powers,
    product,
    represent_digits,
    rows_to_limbs,
    shared_power,
    unload,
)
from jcbir.paillier._rows import check_int, from_ints, to_ints
from jcbir.typing import Array

# Beyond 256 numbers the residues of a product outgrow a core's own cache, and each number takes longer, not shorter.
BATCHES = (64, 128, 256)
# On an H100 a number of 3072 bits takes as long in a batch of 2048 as in one of 4096: the arithmetic is busy then.
ACCELERATOR_BATCHES = (64, 512, 2048)


def powers_shared(n: int, rows: UInt8[Array, "n c"], exponent: int, *, bits: int) -> UInt8[np.ndarray, "n c"]:
    """x^e modulo n^2 with one exponent for all, below 2^bits; `bits` is the same for all keys of a size."""
    modulus, digits = load_modulus(n, rows.shape[1]), exponent_digits(exponent, bits=bits)
    return in_batches(lambda x: _powers_shared(modulus, x, digits), [rows], rows.shape[1])


@jax.jit
def _powers_shared(modulus, rows, digits):
    power = shared_power(modulus, load(modulus, modulus.enter, rows), digits)
    return unload(modulus, product(modulus, power, modulus.unit), width=rows.shape[1])


def powers(n: int, rows: UInt8[Array, "n c"], exponents: Sequence[int], *, bits: int) -> UInt8[np.ndarray, "n c"]:
    """x_i^(e_i) modulo n^2 with exponents in [0, 2^bits); `bits`, rounded up to one of few sizes, sets the time."""
    modulus = load_modulus(n, rows.shape[1])
    # Two sizes per octave keep the number of compiled programs small whatever the scalars.
    octave = 1 << max(5, bits.bit_length() - 1)
    size = next(s for s in (octave, octave * 3 // 2, octave * 2) if s >= bits)
    digits = np.array([exponent_digits(e, bits=size) for e in exponents], np.int32)
    digits = digits.reshape(len(exponents), -(-size // WINDOW))
    return in_batches(lambda x, d: _powers(modulus, x, d), [rows, digits], rows.shape[1])


@jax.jit
def _powers(modulus, rows, digits):
    power = private_powers(modulus, load(modulus, modulus.enter, rows), digits.T)
    return unload(modulus, product(modulus, power, modulus.unit), width=rows.shape[1])


def fixed_base_powers(n: int, base: int, exponents: UInt8[Array, "n w"], *, width: int) -> UInt8[np.ndarray, "n c"]:
    """h^(e_i) modulo n^2 by a comb, for big-endian exponents; rows of `width` bytes."""
    modulus, table = load_modulus(n, width), _public_comb(n, base, exponents.shape[1], width)
    return in_batches(lambda e: _fixed_base_powers(modulus, table, e, width=width), [exponents], width)


@functools.partial(jax.jit, static_argnames="width")
def _fixed_base_powers(modulus, table, exponents, *, width):
    power = comb_power(modulus, table, exponents)
    return unload(modulus, product(modulus, power, modulus.unit), width=width)


# 25 MB at 2048 bits with exponents of 576 bits.
@functools.lru_cache(maxsize=2)
def _public_comb(n: int, base: int, windows: int, width: int) -> Float[Array, "w 256 c"]:
    return make_comb(load_modulus(n, width), n, base, windows)


def make_comb(modulus: Modulus, n: int, base: int, windows: int) -> Float[Array, "w 256 c"]:
    """The table of a comb, on the device, for exponents of so many bytes."""
    square, bases = n * n, [base * montgomery_radix(n) % (n * n)]
    step = pow(base, 255, square)
    for _ in range(windows - 1):
        # h^(256^i) in Montgomery form: one more factor (h^(256^(i-1)))^255.
        bases.append(bases[-1] * step % square)
        step = pow(step, 256, square)
    with jax.enable_x64(True):
        return _comb_table(modulus, represent_digits(modulus, n, bases))


_comb_table = jax.jit(comb_table)


def products(n: int, a: UInt8[Array, "n c"], b: UInt8[Array, "n c"]) -> UInt8[np.ndarray, "n c"]:
    """a b modulo n^2."""
    modulus = load_modulus(n, a.shape[1])
    return in_batches(lambda x, y: _products(modulus, x, y), [a, b], a.shape[1])


@jax.jit
def _products(modulus, a, b):
    plain = product(modulus, load(modulus, modulus.enter, a), load(modulus, modulus.plain, b))
    return unload(modulus, plain, width=a.shape[1])


def messages_times(n: int, messages: UInt8[Array, "n p"], b: UInt8[Array, "n c"]) -> UInt8[np.ndarray, "n c"]:
    """(1 + m n) b modulo n^2: the power of g = n + 1 costs nothing, its two digits are 1 and m."""
    modulus = load_modulus(n, b.shape[1])
    return in_batches(lambda m, x: _messages_times(modulus, m, x), [messages, b], b.shape[1])


@jax.jit
def _messages_times(modulus, messages, b):
    limbs = rows_to_limbs(messages, count=modulus.in_a.shape[1])
    high = limb_residues(modulus, limbs.astype(jnp.float64))
    low = Residues(*(jnp.broadcast_to(u, h.shape) for u, h in zip(modulus.unit.low, high, strict=True)))
    plain = product(modulus, load(modulus, modulus.enter, b), Digits(low, high))
    return unload(modulus, plain, width=b.shape[1])


def picked_products(n: int, table: UInt8[Array, "t c"], picks: Integer[Array, "b m"]) -> UInt8[np.ndarray, "b c"]:
    """prod_j table[picks[i, j]] modulo n^2."""
    modulus, factors = load_modulus(n, table.shape[1]), np.asarray(table)
    return in_batches(lambda chosen: _picked_products(modulus, factors[chosen.T]), [picks], table.shape[1])


@jax.jit
def _picked_products(modulus, factors):
    start = jax.tree.map(lambda o: jnp.broadcast_to(o, (o.shape[0], factors.shape[1])), modulus.one)

    def step(total, rows):
        return product(modulus, total, load(modulus, modulus.enter, rows)), None

    total, _ = jax.lax.scan(step, start, factors)
    return unload(modulus, product(modulus, total, modulus.unit), width=factors.shape[2])


def inverses(n: int, rows: UInt8[Array, "n c"]) -> UInt8[np.ndarray, "n c"]:
    """1/x modulo n^2 by a tree of products: one inversion for the batch, three products a number."""
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


# The modulus on the device, and the batches.


@functools.lru_cache(maxsize=8)
def load_modulus(n: int, width: int) -> Modulus:
    """The record of a public modulus on the device, for rows of `width` bytes; kept for the last eight."""
    return on_device(modulus_constants(n, width=width))


def on_device(constants: Any) -> Any:
    """Put a record of NumPy arrays on JAX's default device, in 64 bits."""
    with jax.enable_x64(True):
        return jax.tree.map(jnp.asarray, constants)


def batch_slices(count: int) -> Iterator[tuple[slice, int]]:
    """Cut a batch of the engine `jax` into slices, each with the padded size it is computed at.

    Args:
        count: numbers in the batch.

    Returns:
        Slices that cover it in order, and their sizes from a short fixed list.

    Raises:
        ValueError: the count is no integer, or negative.

    Example:
        >>> sum(part.stop - part.start for part, _ in batch_slices(600))
        600
    """
    count = check_int(count, name="count", least=0)
    sizes = BATCHES if jax.default_backend() == "cpu" else ACCELERATOR_BATCHES
    for start in range(0, count, sizes[-1]):
        stop = min(start + sizes[-1], count)
        yield slice(start, stop), next(size for size in sizes if size >= stop - start)


def over_batches(compute: Callable[[slice, int], Any], count: int) -> list[Any]:
    """Compute the slices of a batch, from a slice and its padded size, as many at a time as there are cores.

    XLA runs one program of this size on little more than one core whatever its threads, and releases the interpreter
    meanwhile: two slices side by side take hardly longer than one.
    """

    def run(piece: tuple[slice, int]) -> Any:
        # The width of JAX's numbers is a setting of each thread.
        with jax.enable_x64(True):
            return compute(*piece)

    slices = list(batch_slices(count))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(min(len(slices), cores)) as threads:
        return list(threads.map(run, slices))


def in_batches(
    compute: Callable[..., Array], inputs: Sequence[Integer[Array, "n _"]], width: int
) -> UInt8[np.ndarray, "n w"]:
    """Run a compiled function over slices of its inputs, n rows each, and collect rows of `width` bytes."""
    count = len(inputs[0])
    if not count:
        return np.zeros((0, width), np.uint8)

    def rows(part: slice, size: int) -> np.ndarray:
        return np.asarray(compute(*(padded(array[part], size) for array in inputs)))[: part.stop - part.start]

    return np.concatenate(over_batches(rows, count))


def padded(rows: Integer[Array, "n w"], size: int) -> Integer[np.ndarray, "m w"]:
    """Repeat the last of at least one row until there are `size`."""
    return np.pad(np.asarray(rows), ((0, size - len(rows)), (0, 0)), mode="edge")
