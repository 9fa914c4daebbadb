"""Binary codes: the one authority on bit order.

A code of k bits is `Bool[..., k]`; a bit is 1 where its logit is >= 0. Packed, it is `uint32[..., ceil(k / 32)]`,
most significant bit first: bit i sits in word `i // 32` at place `31 - i % 32`, and the unused low bits of the last
word are 0. Read as big-endian bytes the words are `numpy.packbits(code)`, which is what FAISS and the stored formats
hold. Distances are int32, 0 to k.

Nothing is taken for a code that is not one: -1/+1 comes in by `from_signs`, 0/1 in numbers by `from_bits`, outputs of a
network by `binarize`, and each refuses what belongs to another.

Everything but the two byte functions is array arithmetic that works under `jit` and `vmap`, on JAX and NumPy arrays;
without `jit` each step of `pairwise` and `nearest` makes a q x n array of its own.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Float, Int32, Num, UInt8, UInt32

from jcbir.typing import Array, check_array, check_whole

WORD = 32
"""Bits of one packed word."""


def word_count(bits: int) -> int:
    """Number of 32-bit words that hold a code: `ceil(bits / 32)`.

    Args:
        bits: Code length k, at least 1.

    Returns:
        Words per code.

    Raises:
        ValueError: `bits` is no whole number of at least 1.

    Example:
        >>> word_count(64), word_count(65)
        (2, 3)
    """
    return -(-check_whole("bits", bits, low=1) // WORD)


def binarize(logits: Float[Array, "*b k"]) -> Bool[jax.Array, "*b k"]:
    """Bits of real-valued outputs: `code_i = (logit_i >= 0)`; zero counts as 1, NaN as 0.

    Args:
        logits: Outputs of a hash head, before or after any odd increasing activation (tanh changes no bit).

    Returns:
        Codes `Bool[*b k]`.

    Raises:
        ValueError: `logits` are no floats; codes that are numbers come in by `from_signs` or `from_bits`.

    Example:
        >>> binarize(np.array([0.3, -2.0, 0.0])).tolist()
        [True, False, True]

    References:
        Yuan et al., Central Similarity Quantization for Efficient Image and Video Retrieval, CVPR 2020, section 3.
    """
    check_array("logits", logits, kind="floats", form="[..., k]")
    # As they come: float64 would lose its smallest values on the way into JAX, and with them their signs.
    return jnp.asarray(logits >= 0)


def from_signs(signs: Num[Array, "*b k"]) -> Bool[jax.Array, "*b k"]:
    """Codes from -1 and +1, as most deep-hashing code keeps them: `code_i = (sign_i = 1)`.

    Args:
        signs: -1 or +1, in integers or floats. Under `jit`, where values cannot be seen, others are no error.

    Returns:
        Codes `Bool[*b k]`.

    Raises:
        ValueError: not numbers, or another value than -1 and +1, 0 included.

    Example:
        >>> from_signs(np.array([1.0, -1.0, 1.0])).tolist()
        [True, False, True]
        >>> from_signs(np.array([1, 0, 1]))
        Traceback (most recent call last):
        ...
        ValueError: signs: must be -1 or 1, got 0
    """
    return _from_two("signs", signs, low=-1)


def from_bits(bits: Bool[Array, "*b k"] | Num[Array, "*b k"]) -> Bool[jax.Array, "*b k"]:
    """Codes from 0 and 1 in numbers: `code_i = (bit_i = 1)`.

    Args:
        bits: 0 or 1, in integers, floats or booleans. Under `jit`, where values cannot be seen, others are no error.

    Returns:
        Codes `Bool[*b k]`.

    Raises:
        ValueError: not numbers, or another value than 0 and 1.

    Example:
        >>> from_bits(np.array([1, 0, 1])).tolist()
        [True, False, True]
        >>> from_bits(np.array([255, 0, 255]))
        Traceback (most recent call last):
        ...
        ValueError: bits: must be 0 or 1, got 255
    """
    if isinstance(bits, jax.Array | np.ndarray) and bits.dtype == jnp.bool_:
        check_array("bits", bits, kind="booleans", form="[..., k]")
        return jnp.asarray(bits)
    return _from_two("bits", bits, low=0)


def pack(codes: Bool[Array, "*b k"]) -> UInt32[jax.Array, "*b w"]:
    """Pack codes into words, most significant bit first: `word_j = sum_i code_(32 j + i) 2^(31 - i)`.

    Args:
        codes: 0/1 codes, last axis the bits; any k from 1.

    Returns:
        Words `UInt32[*b ceil(k / 32)]`; the unused low bits of the last word are 0.

    Raises:
        ValueError: `codes` has no bit axis or is not boolean.

    Example:
        >>> hex(int(pack(np.array([True, False, False, True]))[0]))
        '0x90000000'
    """
    check_array("codes", codes, kind="booleans", form="[..., k]")
    codes = jnp.asarray(codes)
    bits = codes.shape[-1]
    words = word_count(bits)
    padded = jnp.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, words * WORD - bits)])
    lanes = padded.reshape(*codes.shape[:-1], words, WORD).astype(jnp.uint32)
    places = np.left_shift(np.uint32(1), np.arange(WORD - 1, -1, -1, dtype=np.uint32))
    return (lanes * jnp.broadcast_to(places, lanes.shape)).sum(-1, dtype=jnp.uint32)


def unpack(packed: UInt32[Array, "*b w"], *, bits: int) -> Bool[jax.Array, "*b k"]:
    """Unpack words into codes, the inverse of `pack`: `code_i = word_(i // 32) >> (31 - i % 32) & 1`.

    Args:
        packed: Packed codes.
        bits: Code length k; `ceil(bits / 32)` must be the number of words.

    Returns:
        Codes `Bool[*b bits]`.

    Raises:
        ValueError: `packed` is not uint32, or its last axis does not hold codes of `bits` bits: another number of
            words, or a bit set beyond them.

    Example:
        >>> unpack(np.array([0x90000000], np.uint32), bits=4).tolist()
        [True, False, False, True]
    """
    words = _check_packed(packed, bits)
    packed = jnp.asarray(packed)
    shifts = np.arange(WORD - 1, -1, -1, dtype=np.uint32)
    shape = (*packed.shape, WORD)
    lanes = (jnp.broadcast_to(packed[..., None], shape) >> jnp.broadcast_to(shifts, shape)) & jnp.uint32(1)
    return lanes.astype(jnp.bool_).reshape(*packed.shape[:-1], words * WORD)[..., :bits]


def to_bytes(packed: UInt32[Array, "*b w"], *, bits: int) -> UInt8[np.ndarray, "*b v"]:
    """Packed codes as bytes, the layout of FAISS binary indexes and of `numpy.packbits`; on the host.

    Args:
        packed: Packed codes.
        bits: Code length k.

    Returns:
        `UInt8[*b ceil(bits / 8)]`, NumPy, most significant bit first.

    Raises:
        ValueError: `packed` is not uint32 or does not hold codes of `bits` bits.

    Example:
        >>> to_bytes(np.array([0x90000000], np.uint32), bits=12).tolist()
        [144, 0]
    """
    _check_packed(packed, bits)
    big = np.ascontiguousarray(packed, dtype=">u4")
    return big.view(np.uint8).reshape(*packed.shape[:-1], -1)[..., : -(-bits // 8)].copy()


def from_bytes(rows: UInt8[Array, "*b v"], *, bits: int) -> UInt32[np.ndarray, "*b w"]:
    """Packed codes from bytes, the inverse of `to_bytes`; on the host.

    Args:
        rows: Bytes, most significant bit first; `ceil(bits / 8)` of them on the last axis.
        bits: Code length k.

    Returns:
        Packed codes `UInt32[*b ceil(bits / 32)]`, NumPy.

    Raises:
        ValueError: the number of bytes does not hold `bits` bits, or a bit beyond `bits` is set.

    Example:
        >>> hex(int(from_bytes(np.array([144, 0], np.uint8), bits=12)[0]))
        '0x90000000'
    """
    check_array("rows", rows, kind="uint8", form="[..., v]")
    words, rows = word_count(bits), np.asarray(rows)
    if rows.shape[-1] != -(-bits // 8):
        raise ValueError(f"rows: must have {-(-bits // 8)} bytes for bits={bits}, got {rows.shape[-1]}")
    spare = -bits % 8
    if spare and (rows[..., -1] & ((1 << spare) - 1)).any():
        raise ValueError(f"rows: must have no bit set beyond bits={bits}, got some")
    padded = np.zeros((*rows.shape[:-1], words * 4), np.uint8)
    padded[..., : rows.shape[-1]] = rows
    return padded.view(">u4").astype(np.uint32)


def hamming(a: UInt32[Array, "*b w"], b: UInt32[Array, "*b w"]) -> Int32[jax.Array, "*b"]:
    """Hamming distance of packed codes, item by item: `sum_j popcount(a_j xor b_j)`.

    Args:
        a: Packed codes.
        b: Packed codes of the same shape.

    Returns:
        Distances `Int32[*b]`, 0 to the code length.

    Raises:
        ValueError: the shapes differ or an array is not uint32.

    Example:
        >>> int(hamming(np.array([7], np.uint32), np.array([1], np.uint32)))
        2
    """
    check_array("a", a, kind="uint32", form="[..., w]")
    check_array("b", b, kind="uint32", form="[..., w]")
    if a.shape != b.shape:
        raise ValueError(f"b: must have the shape {list(a.shape)} of a, got {list(b.shape)}")
    return jax.lax.population_count(jnp.asarray(a) ^ jnp.asarray(b)).astype(jnp.int32).sum(-1, dtype=jnp.int32)


def pairwise(queries: UInt32[Array, "q w"], database: UInt32[Array, "n w"]) -> Int32[jax.Array, "q n"]:
    """Hamming distances of every query to every database item: `D_ij = hamming(queries_i, database_j)`.

    Args:
        queries: Packed codes.
        database: Packed codes of the same length.

    Returns:
        Distances `Int32[q n]`, 0 to the code length.

    Raises:
        ValueError: an array is not a matrix of uint32, or the word counts differ.

    Example:
        >>> pairwise(np.array([[7]], np.uint32), np.array([[7], [1], [0]], np.uint32)).tolist()
        [[0, 2, 3]]
    """
    _check_matrices(queries, database)
    queries, columns = jnp.asarray(queries), jnp.asarray(database).T
    shape = (queries.shape[0], columns.shape[1])
    total = jnp.zeros(shape, jnp.int32)
    # One term per word: a trailing axis of 2 to 16 words would waste the vector lanes.
    for j in range(queries.shape[1]):
        column = jnp.broadcast_to(queries[:, j, None], shape) ^ jnp.broadcast_to(columns[j], shape)
        total = total + jax.lax.population_count(column).astype(jnp.int32)
    return total


def nearest(
    queries: UInt32[Array, "q w"], database: UInt32[Array, "n w"], *, top: int
) -> tuple[Int32[jax.Array, "q top"], Int32[jax.Array, "q top"]]:
    """The `top` nearest database items of every query, nearest first; equal distances by the lower index.

    Args:
        queries: Packed codes.
        database: Packed codes of the same length.
        top: How many, 1 to n.

    Returns:
        Distances `Int32[q top]` and indices `Int32[q top]`.

    Raises:
        ValueError: `top` is outside 1..n, or the arrays do not fit.

    Example:
        >>> d, i = nearest(np.array([[7]], np.uint32), np.array([[1], [7], [4]], np.uint32), top=2)
        >>> d.tolist(), i.tolist()
        ([[0, 2]], [[1, 0]])
    """
    _check_matrices(queries, database)
    top = check_whole("top", top, low=1, high=database.shape[0])
    # `top_k` puts the lower index first among equals, which is the documented order here.
    negative, indices = jax.lax.top_k(-pairwise(queries, database), top)
    return -negative, indices.astype(jnp.int32)


def _from_two(name: str, values: Array, *, low: int) -> jax.Array:
    known = isinstance(values, jax.Array | np.ndarray) and jnp.issubdtype(values.dtype, jnp.floating)
    check_array(name, values, kind="floats" if known else "integers", form="[..., k]")
    if not isinstance(values, Tracer):
        seen = np.asarray(values)
        wrong = seen[(seen != low) & (seen != 1)]
        if wrong.size:
            raise ValueError(f"{name}: must be {low} or 1, got {wrong.flat[0]}")
    return jnp.asarray(values == 1)


def _check_packed(packed: Array, bits: int) -> int:
    """The number of words, where the last axis holds codes of so many bits and nothing beyond them."""
    check_array("packed", packed, kind="uint32", form="[..., w]")
    words = word_count(bits)
    if packed.shape[-1] != words:
        raise ValueError(f"packed: must have {words} words for bits={bits}, got {packed.shape[-1]}")
    spare = np.uint32((1 << -bits % WORD) - 1)
    if spare and not isinstance(packed, Tracer) and (np.asarray(packed[..., -1]) & spare).any():
        raise ValueError(f"packed: must have no bit set beyond bits={bits}, got some")
    return words


def _check_matrices(queries: Array, database: Array) -> None:
    check_array("queries", queries, kind="uint32", form="[q, w]", rank=2)
    check_array("database", database, kind="uint32", form="[n, w]", rank=2)
    if queries.shape[1] != database.shape[1]:
        raise ValueError(f"database: must have the {queries.shape[1]} words of queries, got {database.shape[1]}")
