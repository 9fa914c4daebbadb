"""Hash centers: one target code per class, far apart, and target codes for photographs with several labels.

Centers are configuration, made once on the host, so these functions are NumPy and return `bool` arrays; only
`semantic`, which belongs to a batch, is JAX. A center table is fixed before training and should be saved with the
model, like its tie vector.

Random balanced rows come close to each other as soon as there are many (100 rows of 16 bits: 2 bits apart). A linear
code fixes its distance beforehand. Extended BCH codes of length Q = 2^m are nested, and the first of them is {rows of
H_Q, -H_Q}: the paper's two Hadamard cases are the first 2Q words of one sequence, which `separated_centers` continues.

    Q    words: distance
    16   32: 8, 128: 6, 2,048: 4
    32   64: 16, 2,048: 12, 65,536: 8
    64   128: 32, 1,024: 28, 65,536: 24, 262,144: 22
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Float, Integer, Key, UInt64

from jcbir.hashing.shallow import KernelHash, LinearHash, itq
from jcbir.typing import Array, check_array, check_finite, check_whole

# Rejection of duplicate rows converges geometrically unless nearly every balanced row is asked for.
_REDRAWS = 200


def hadamard(classes: int, bits: int) -> Bool[np.ndarray, "c k"]:
    """Rows of the Sylvester-Hadamard matrix, and of its negation once they run out.

    H_2Q = H_2 (x) H_Q with H_2 = [[1, 1], [1, -1]] and (x) the Kronecker product; classes <= Q take rows of H_Q,
    Q < classes <= 2Q rows of [H_Q; -H_Q]. Entry +1 is bit 1. Two rows differ in Q/2 bits, a row and its negation in Q.

    Args:
        classes: number of centers, 1 to 2 * bits.
        bits: code length Q, a power of two.

    Returns:
        Boolean centers, one row per class.

    Raises:
        ValueError: bits is no power of two, or there are more classes than the 2 * bits rows.

    Example:
        >>> hadamard(3, 4).astype(int)
        array([[1, 1, 1, 1],
               [1, 0, 1, 0],
               [1, 1, 0, 0]])

    References:
        Yuan et al., Central Similarity Quantization for Efficient Image and Video Retrieval, CVPR 2020, section 3.2.
        Wang et al., Secure Content Based Image Retrieval Scheme, CMC 75(3), 2023, eq. 1.
    """
    classes, bits = check_whole("classes", classes, low=1), check_whole("bits", bits, low=1)
    if bits & (bits - 1):
        raise ValueError(f"bits: must be a power of two for Hadamard centers, got {bits}")
    if classes > 2 * bits:
        raise ValueError(f"classes: must be between 1 and 2 * bits = {2 * bits} for Hadamard centers, got {classes}")
    matrix = np.ones((1, 1), np.int8)
    while len(matrix) < bits:
        matrix = np.kron(np.array([[1, 1], [1, -1]], np.int8), matrix)
    return np.concatenate([matrix, -matrix])[:classes] > 0


def drawn_centers(key: jax.Array, classes: int, *, bits: int) -> Bool[np.ndarray, "c k"]:
    """Rows drawn at random from the Q first words of `separated_centers`, or from as many as there are classes.

    As far apart as the rows in their order, and better to learn where classes are few: the first 10 rows of H_64 have
    only 16 different columns, so that their 64 bits say 16 things, one of them nothing; drawn ones have up to 64.

    Args:
        key: PRNG key; another key is another table, so it belongs to the model.
        classes: number of centers.
        bits: code length Q.

    Returns:
        Boolean centers, one row per class, all different.

    Raises:
        ValueError: as `separated_centers`.

    Example:
        >>> import jax
        >>> table = drawn_centers(jax.random.key(0), 10, bits=64)
        >>> separation(table).minimum, [len(np.unique(rows, axis=1).T) for rows in (hadamard(10, 64), table)]
        (32, [16, 32])
    """
    classes, bits = check_whole("classes", classes, low=1), check_whole("bits", bits, low=2, high=512)
    table = separated_centers(jax.random.fold_in(key, 1), max(classes, bits), bits=bits)
    return table[np.asarray(jax.random.permutation(key, len(table)))[:classes]]


def bernoulli(key: jax.Array, classes: int, *, bits: int) -> Bool[np.ndarray, "c k"]:
    """Distinct random rows with exactly half of the bits set.

    Each row is uniform among the C(Q, Q/2) balanced rows, so two rows differ in Q/2 bits on average. The published code
    draws balanced rows where the article samples Bern(0.5) bit by bit; balance keeps every center at distance Q/2 from
    all-zeros.

    Args:
        key: PRNG key.
        classes: number of centers.
        bits: code length Q, even.

    Returns:
        Boolean centers, one row per class, all different.

    Raises:
        ValueError: bits is odd, or there are more classes than balanced rows.

    Example:
        >>> import jax
        >>> bernoulli(jax.random.key(0), 5, bits=12).sum(axis=1)
        array([6, 6, 6, 6, 6])

    References:
        Yuan et al., Central Similarity Quantization for Efficient Image and Video Retrieval, CVPR 2020, algorithm 1.
    """
    classes, bits = check_whole("classes", classes, low=1), check_whole("bits", bits, low=2)
    if bits % 2:
        raise ValueError(f"bits: must be even for balanced centers, got {bits}")
    if classes > math.comb(bits, bits // 2):
        bound = math.comb(bits, bits // 2)
        raise ValueError(f"classes: must be between 1 and C(bits, bits/2) = {bound} balanced rows, got {classes}")
    if classes > 0.9 * math.comb(bits, bits // 2):
        return _all_balanced(key, bits)[:classes]
    rows = np.zeros((0, bits), bool)
    for draw in range(_REDRAWS):
        # A type of its own: the default depends on whether 64-bit types are allowed, and so would the table.
        drawn = jax.random.uniform(jax.random.fold_in(key, draw), (classes, bits), jnp.float32)
        ranks = np.argsort(np.asarray(drawn), axis=1)
        rows = distinct(np.concatenate([rows, ranks < bits // 2]))
        if len(rows) >= classes:
            break
    return rows[:classes]


def hash_centers(key: jax.Array, classes: int, *, bits: int) -> Bool[np.ndarray, "c k"]:
    """The paper's rule: Hadamard rows while they last, otherwise random balanced rows.

    classes <= Q: rows of H_Q; Q < classes <= 2Q: rows of [H_Q; -H_Q]; otherwise, or when Q is no power of two,
    `bernoulli`. `separated_centers` keeps the first two cases and does better than random in
    the third.

    Args:
        key: PRNG key, used by the random case alone.
        classes: number of centers.
        bits: code length Q.

    Returns:
        Boolean centers, one row per class.

    Raises:
        ValueError: more classes than codes of this kind.

    Example:
        >>> import jax
        >>> hash_centers(jax.random.key(0), 21, bits=16).shape
        (21, 16)

    References:
        Wang et al., Secure Content Based Image Retrieval Scheme, CMC 75(3), 2023, section 4.2 step 1.
    """
    classes, bits = check_whole("classes", classes, low=1), check_whole("bits", bits, low=1)
    if bits & (bits - 1) == 0 and classes <= 2 * bits:
        return hadamard(classes, bits)
    return bernoulli(key, classes, bits=bits)


def semantic(
    labels: Bool[Array, "*b c"],
    centers: Bool[Array, "c k"],
    *,
    ties: Bool[Array, " k"] | None = None,
    weights: Float[Array, " c"] | None = None,
) -> Bool[jax.Array, "*b k"]:
    """The semantic center of each label row: the majority of its classes' centers, bit by bit.

    bit_k = [sum_c w_c y_c (2 m_ck - 1) > 0], and `ties[k]` where the sum is 0. A row with one label gets that
    class's center; a row without a label is a tie in every bit, so it gets `ties` itself. With equal weights two rows
    that share one label of four are hardly closer than two that share none; weights that grow with the frequency of a
    class bring the rows of a common class together. `label_codes` does better where bits <= classes.

    Args:
        labels: multi-hot rows.
        centers: one center per class.
        ties: the bits that decide ties, one vector for the whole collection, to be saved with the centers (the
            article samples fresh bits, with which no two runs agree). Default: alternating 1, 0, 1, 0.
        weights: votes of the classes, at least 0, e.g. the root of how many training rows have them; 0 leaves a class
            out. All 1 by default.

    Returns:
        Boolean semantic centers, one per label row.

    Raises:
        ValueError: labels, centers or ties that are not booleans (`codes.from_signs` reads -1 and +1, `one_hot` class
            numbers); labels and centers disagree about the number of classes, ties and centers about the bits, or
            weights and centers about the classes; weights that are no finite floats of at least 0.

    Example:
        >>> import numpy as np
        >>> table = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], bool)
        >>> semantic(np.array([[1, 1], [0, 1], [0, 0]], bool), table, ties=np.array([0, 0, 0, 1], bool)).astype(int)
        Array([[1, 0, 0, 0],
               [1, 0, 1, 0],
               [0, 0, 0, 1]], dtype=int32)

    References:
        Yuan et al., Central Similarity Quantization for Efficient Image and Video Retrieval, CVPR 2020, section 3.2.
    """
    check_array("labels", labels, kind="booleans", form="[..., c]")
    check_array("centers", centers, kind="booleans", form="[c, k]", rank=2)
    classes, bits = centers.shape
    if labels.shape[-1] != classes:
        raise ValueError(f"labels: must have {classes} columns, one per center, got shape {labels.shape}")
    if ties is not None:
        check_array("ties", ties, kind="booleans", form="[k]", rank=1)
    settled = jnp.arange(bits) % 2 == 0 if ties is None else jnp.asarray(ties)
    if settled.shape != (bits,):
        raise ValueError(f"ties: must have shape ({bits},), one bit per column of centers, got {settled.shape}")
    signs = jnp.where(jnp.asarray(centers), 1.0, -1.0).astype(jnp.float32)
    if weights is not None:
        check_array("weights", weights, kind="floats", form="[c]", rank=1)
        if weights.shape != (classes,):
            raise ValueError(f"weights: must have shape ({classes},), one a center, got {weights.shape}")
        check_finite("weights", weights)
        # NumPy's, for JAX traces what is computed of an array inside a compiled program though the array be known.
        if not isinstance(weights, Tracer) and (np.asarray(weights) < 0).any():
            raise ValueError(f"weights: must be at least 0, got {float(np.asarray(weights).min())}")
        signs = signs * jnp.asarray(weights, jnp.float32)[:, None]
    votes = jnp.asarray(labels).astype(jnp.float32) @ signs
    return jnp.where(votes == 0, jnp.broadcast_to(settled, votes.shape), votes > 0)


def one_hot(labels: Integer[Array, "*b"], *, classes: int) -> Bool[jax.Array, "*b c"]:
    """Class numbers as multi-hot rows; -1 gives a row without a label.

    Args:
        labels: class numbers, -1 for none.
        classes: number of classes.

    Returns:
        Boolean rows with at most one entry set. Inside a compiled program, where nobody can look at a number, those out
        of range have none set.

    Raises:
        ValueError: labels that are no integers, or a number outside -1 to classes - 1.

    Example:
        >>> import numpy as np
        >>> one_hot(np.array([1, -1]), classes=3).astype(int)
        Array([[0, 1, 0],
               [0, 0, 0]], dtype=int32)
    """
    classes = check_whole("classes", classes, low=1)
    check_array("labels", labels, kind="integers", form="[...]")
    if not isinstance(labels, Tracer) and labels.size:
        known = np.asarray(labels)
        least, most = int(known.min()), int(known.max())
        if least < -1 or most >= classes:
            found = least if least < -1 else most
            raise ValueError(f"labels: must be class numbers from -1 to {classes - 1}, got {found}")
    labels = jnp.asarray(labels)
    return labels[..., None] == jnp.broadcast_to(jnp.arange(classes, dtype=labels.dtype), (*labels.shape, classes))


def distinct(centers: Bool[np.ndarray, "c k"]) -> Bool[np.ndarray, "d k"]:
    """The rows without repetition, in the order of first appearance.

    Args:
        centers: boolean rows.

    Returns:
        The different rows.

    Raises:
        ValueError: no rows of booleans.

    Example:
        >>> import numpy as np
        >>> distinct(np.array([[1, 0], [1, 0], [0, 1]], bool)).shape
        (2, 2)
    """
    check_array("centers", centers, kind="booleans", form="[c, k]", rank=2)
    _, first = np.unique(np.packbits(centers, axis=1), axis=0, return_index=True)
    return centers[np.sort(first)]


def _all_balanced(key: jax.Array, bits: int) -> np.ndarray:
    """Every balanced row, shuffled: only asked for when nearly all of them are wanted, so bits is small."""
    numbers = np.arange(1 << bits, dtype=np.int64)
    rows = (numbers[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = rows[rows.sum(axis=1) == bits // 2].astype(bool)
    return rows[np.asarray(jax.random.permutation(key, len(rows)))]


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

    Attributes:
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
        ValueError: no rows of booleans, or fewer than two.

    Example:
        >>> import numpy as np
        >>> separation(np.array([[0, 0, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]], bool))
        Separation(minimum=2, mean=2.6666666666666665, maximum=4)
    """
    check_array("centers", centers, kind="booleans", form="[c, k]", rank=2)
    count = len(centers)
    if count < 2:
        raise ValueError(f"centers: must have at least two rows to be apart, got {count}")
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
    bits, tries = check_whole("bits", bits, low=2, high=512), check_whole("tries", tries, low=1)
    classes = check_whole("classes", classes, low=1)
    if classes > 2 ** min(bits, 20):
        raise ValueError(f"classes: must be from 1 to 2^min(bits, 20) = {2 ** min(bits, 20)}, got {classes}")
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
        mixes = np.asarray(jax.random.bernoulli(second, jnp.float32(0.5), (len(pieces), rows, rows)))
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
        raise ValueError(f"tries: must be larger to find {classes} different rows of {bits} bits, got {tries}")
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


def label_codes(
    key: Key[Array, ""], labels: Bool[Array, "n c"], *, bits: int, iterations: int = 50
) -> LinearHash | KernelHash:
    """A hash of label rows whose Hamming distances follow how many labels two rows share.

    bit_k = [(y - mean y) . p_k >= 0], p_k the rotated principal components of the training label rows. Targets of a
    training set are `shallow.project(hash, labels as floats) >= 0`; equal rows get equal codes. Save the hash: its
    rounds amplify rounding, so that another processor or number of threads ends in another rotation, as good as this.

    Args:
        key: PRNG key of the first rotation.
        labels: training rows of 0/1, one column a class.
        bits: code length, at most the number of classes; for longer codes use `centers.semantic` with `weights`.
        iterations: rounds of the rotation.

    Returns:
        A hash for `shallow.project`, which takes float label rows of any set of the same classes.

    Raises:
        ValueError: no rows of booleans, more bits than classes, or fewer than 0 iterations.

    Example:
        >>> import jax, numpy as np
        >>> from jcbir.hashing.shallow import project
        >>> labels = np.random.default_rng(0).random((60, 12)) < 0.2
        >>> hash = label_codes(jax.random.key(0), labels, bits=8)
        >>> targets = project(hash, labels.astype(np.float32)) >= 0
        >>> targets.shape
        (60, 8)

    References:
        Gong and Lazebnik, Iterative quantization: a Procrustean approach to learning binary codes, CVPR 2011, eq. 2, on
        label rows in place of features.
    """
    check_array("labels", labels, kind="booleans", form="[n, c]", rank=2)
    classes = labels.shape[-1]
    bits = check_whole("bits", bits, low=1, high=classes)
    return itq(key, jnp.asarray(labels).astype(jnp.float32), bits=bits, iterations=iterations).hash
