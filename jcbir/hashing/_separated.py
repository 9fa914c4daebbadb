"""Hash centers that are far apart by construction, and the measure of how far.

Random balanced rows come close to each other as soon as there are many (100 rows of 16 bits: 2 bits apart). A linear
code fixes its distance beforehand. Extended BCH codes of length Q = 2^m are nested, and the first of them is {rows of
H_Q, -H_Q}: the paper's two Hadamard cases are the first 2Q words of one sequence, which this module continues.

    Q    words: distance
    16   32: 8, 128: 6, 2,048: 4
    32   64: 16, 2,048: 12, 65,536: 8
    64   128: 32, 1,024: 28, 65,536: 24, 262,144: 22
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, UInt64

# One primitive polynomial for each GF(2^m); any other gives an equivalent code.
_PRIMITIVE = {
    1: 0b11,
    2: 0b111,
    3: 0b1011,
    4: 0b10011,
    5: 0b100101,
    6: 0b1000011,
    7: 0b10001001,
    8: 0b100011101,
    9: 0x211,
}

_BLOCK = 512


class Separation(NamedTuple):
    """How far apart the rows of a center table are, over all pairs of different rows, in bits.

    Fields:
        minimum: the smallest Hamming distance.
        mean: the mean distance.
        maximum: the largest distance.
    """

    minimum: int
    mean: float
    maximum: int


def separation(centers: Bool[np.ndarray, "c k"]) -> Separation:
    """Smallest, mean and largest distance between different rows, by popcount of packed words.

    40,000 rows of 64 bits (0.8 billion pairs) take seconds; memory stays below 200 MB.

    Args:
        centers: at least two boolean rows.

    Returns:
        The three distances.

    Raises:
        ValueError: fewer than two rows.

    Example:
        >>> import numpy as np
        >>> separation(np.array([[0, 0, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]], bool))
        Separation(minimum=2, mean=2.6666666666666665, maximum=4)
    """
    count = len(centers)
    if count < 2:
        raise ValueError(f"centers must have at least two rows to be apart, got {count}")
    # A column with a ones adds a * (count - a) to the sum over pairs: the mean needs no pairs at all.
    ones = centers.sum(axis=0, dtype=np.int64)
    mean = float((ones * (count - ones)).sum() / (count * (count - 1) // 2))
    words = _pack64(centers)
    smallest, largest = centers.shape[1], 0
    for start in range(0, count, _BLOCK):
        block = words[start : start + _BLOCK]
        rest = words[start:]
        distances = np.zeros((len(block), len(rest)), np.uint8 if centers.shape[1] < 256 else np.uint16)
        for word in range(words.shape[1]):
            distances += np.bitwise_count(block[:, word, None] ^ rest[None, :, word])
        largest = max(largest, int(distances.max()))
        # The block meets itself on the diagonal of its first columns.
        np.fill_diagonal(distances, np.iinfo(distances.dtype).max)
        smallest = min(smallest, int(distances.min()))
    return Separation(smallest, mean, largest)


def separated_centers(key: jax.Array, classes: int, *, bits: int, tries: int = 64) -> Bool[np.ndarray, "c k"]:
    """Centers from nested linear codes: the paper's Hadamard rows first, then the widest code that has enough words.

    For bits = 2^m, row i is the word of the extended BCH code that i spells in a fixed basis: rows 0 to 2Q - 1 are
    `centers.hadamard`, and any prefix of 2^d rows is a linear code. Other lengths take the better of a code for the
    next power of two with columns left out and of shorter codes side by side, over `tries` random choices.

    Args:
        key: PRNG key; not used when bits is a power of two.
        classes: number of centers.
        bits: code length Q, 2 to 512.
        tries: how many choices to compare when bits is no power of two.

    Returns:
        Boolean centers, one row per class, all different; `separation` tells how far apart.

    Raises:
        ValueError: bits outside 2 to 512, or more classes than 2^min(bits, 20).

    Example:
        >>> import jax
        >>> for classes, bits in [(100, 16), (100, 32), (80, 64)]:
        ...     print(separation(separated_centers(jax.random.key(0), classes, bits=bits)).minimum)
        6
        12
        32

    References:
        Bose and Ray-Chaudhuri, On a class of error correcting binary group codes, Information and Control 3, 1960.
        Hocquenghem, Codes correcteurs d'erreurs, Chiffres 2, 1959.
    """
    if not 2 <= bits <= 512:
        raise ValueError(f"bits must be from 2 to 512, got {bits}")
    if not 1 <= classes <= 2 ** min(bits, 20):
        raise ValueError(f"classes must be from 1 to 2^min(bits, 20) = {2 ** min(bits, 20)}, got {classes}")
    rows = max(1, (classes - 1).bit_length())
    if bits & (bits - 1) == 0:
        words = _words(_generator(bits, rows))
        # Complements side by side keep every prefix of even length balanced in every column, which maximizes the mean.
        index = np.arange(classes)
        tail = index >= 2 * bits
        inner = index % (2 * bits)
        index = np.where(tail, index - inner + (inner >> 1) + bits * (inner & 1), index)
        return ~words[index]
    return _best_of(key, classes, bits=bits, rows=rows, tries=tries)


def _best_of(key: jax.Array, classes: int, *, bits: int, rows: int, tries: int) -> np.ndarray:
    """The widest of several codes of a length that is no power of two."""
    whole = _generator(1 << bits.bit_length(), rows)
    sizes = [1 << place for place in range(bits.bit_length() - 1, -1, -1) if bits >> place & 1]
    pieces = [_generator(size, min(rows, size)) for size in sizes]
    best, score = None, (-1, -1.0)
    for attempt in range(tries):
        first, second = jax.random.split(jax.random.fold_in(key, attempt))
        kept = np.asarray(jax.random.permutation(first, whole.shape[1]))[:bits]
        # The first attempt leaves out the last columns, where the Hadamard structure survives.
        candidates = [whole[:, :bits] if attempt == 0 else whole[:, np.sort(kept)]]
        mixes = np.asarray(jax.random.bernoulli(second, 0.5, (len(pieces), rows, rows)))
        aligned = [_mix(piece, mix) for piece, mix in zip(pieces, mixes, strict=True)]
        candidates.append(np.concatenate(aligned, axis=1))
        for generator in candidates:
            words = _words(generator)[:classes]
            if len({row.tobytes() for row in np.packbits(words, axis=1)}) < classes:
                continue
            found = separation(words) if classes > 1 else Separation(bits, float(bits), bits)
            if (found.minimum, found.mean) > score:
                best, score = words, (found.minimum, found.mean)
    if best is None:
        raise ValueError(f"tries must be larger than {tries} to find {classes} different rows of {bits} bits")
    return best


def _mix(piece: np.ndarray, mix: np.ndarray) -> np.ndarray:
    """A short code fed with random combinations of the message, so that its light words meet heavy ones."""
    return (mix[:, : len(piece)].astype(np.uint8) @ piece.astype(np.uint8)) % 2 == 1


def _generator(bits: int, rows: int) -> np.ndarray:
    """First rows of a nested basis of extended BCH codes: linear functions, all-ones, then cosets by distance."""
    degree = bits.bit_length() - 1
    position = np.arange(bits)
    basis = [(position >> place & 1).astype(bool) for place in range(degree)] + [np.ones(bits, bool)]
    powers, logarithms = _field(degree)
    order = bits - 1
    leaders = sorted({min(start * 2**power % max(order, 1) for power in range(degree)) for start in range(order)})
    rank = _Rank(basis)
    for leader in reversed(leaders):
        if len(basis) >= rows:
            break
        # Evaluations of x^(-leader): its bits are traces, and they span one coset of the Mattson-Solomon polynomial.
        values = np.zeros(bits, np.int64)
        values[1:] = powers[(order - leader) * logarithms[1:] % order]
        for place in range(degree):
            candidate = (values >> place & 1).astype(bool)
            if rank.extends(candidate):
                basis.append(candidate)
    return np.array(basis[:rows])


class _Rank:
    """Independence over GF(2) by elimination on Python integers."""

    def __init__(self, rows: list[np.ndarray]) -> None:
        self.pivots: dict[int, int] = {}
        for row in rows:
            self.extends(row)

    def extends(self, row: np.ndarray) -> bool:
        value = int.from_bytes(np.packbits(row).tobytes(), "big")
        while value:
            top = value.bit_length()
            if top not in self.pivots:
                self.pivots[top] = value
                return True
            value ^= self.pivots[top]
        return False


def _field(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Powers of a primitive element of GF(2^degree) and their logarithms."""
    powers = np.ones(2**degree - 1, np.int64)
    for exponent in range(1, len(powers)):
        doubled = int(powers[exponent - 1]) << 1
        powers[exponent] = doubled ^ _PRIMITIVE[degree] if doubled >> degree else doubled
    logarithms = np.zeros(2**degree, np.int64)
    logarithms[powers] = np.arange(len(powers))
    return powers, logarithms


def _words(generator: np.ndarray) -> np.ndarray:
    """All combinations of the rows; word i takes row j when bit j of i is set."""
    words = np.zeros((1, generator.shape[1]), bool)
    for row in generator:
        words = np.concatenate([words, words ^ row])
    return words


def _pack64(centers: np.ndarray) -> UInt64[np.ndarray, "c w"]:
    padding = -centers.shape[1] % 64
    return np.packbits(np.pad(centers, ((0, 0), (0, padding))), axis=1).view(np.uint64)
