"""The public half of Paillier: what encrypts, adds and checks without any secret.

A ciphertext of m is c = g^m * b mod n^2, where the *blinder* b = r^n mod n^2 hides m and vanishes in decryption.
Blinders are an
argument: draw them with `blinding.blinders`, ahead of time if need be, and use each once.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer, UInt8

from jcbir.errors import FormatError
from jcbir.paillier import _batched as batched, _engines as engines, _integers as integers, _rows as rows
from jcbir.paillier._rows import CiphertextRows, Ciphertexts, Messages
from jcbir.typing import Array

MINIMUM_BITS = 2048
# Two subgroup primes of 224 bits, and 64 bits to make the exponent uniform.
MINIMUM_EXPONENT_BITS = 512
# Powers by scalars of at most so many bits are cheaper on integers than their conversion to residues.
SHORT_SCALAR = 64


@dataclass(frozen=True)
class PublicKey:
    """A Paillier public key.

    Attributes:
        n: the modulus, a product of two primes of equal length.
        g: the base of messages, a unit modulo n^2 whose order is a multiple of n; usually n + 1.
        h: None, or for a subgroup key the n-th residue whose powers are the blinders.
        h_bits: for a subgroup key, the bits of a blinder's exponent.
    """

    n: int
    g: int
    h: int | None = None
    h_bits: int = 0

    def __post_init__(self):
        if self.n < 15 or self.n % 2 == 0:
            raise ValueError(f"n must be an odd product of two primes, got {self.n.bit_length()} bits, {self.n & 1=}")
        for name, base in (("g", self.g), ("h", self.h)):
            if base is not None and not (1 < base < self.n_squared and math.gcd(base, self.n) == 1):
                raise ValueError(f"{name} must be a unit modulo n^2, between 2 and n^2 - 1")
        if (self.h is None) != (self.h_bits == 0):
            raise ValueError(f"h and h_bits come together, got h_bits={self.h_bits}")

    @property
    def n_squared(self) -> int:
        """The ciphertext modulus."""
        return self.n * self.n

    @property
    def bits(self) -> int:
        """Size of n."""
        return self.n.bit_length()

    @property
    def plaintext_bytes(self) -> int:
        """Width of a plaintext row."""
        return -(-self.bits // 8)

    @property
    def ciphertext_bytes(self) -> int:
        """Width of a ciphertext row."""
        return -(-2 * self.bits // 8)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key in hexadecimal: equal for equal keys, carried by all that the key encrypts."""
        digest = hashlib.sha256(b"jcbir Paillier public key 1")
        for number in (self.n, self.g, self.h or 0, self.h_bits):
            width = -(-number.bit_length() // 8)
            digest.update(width.to_bytes(4, "big") + number.to_bytes(width, "big"))
        return digest.hexdigest()


def check_public(public: PublicKey, *, minimum_bits: int = MINIMUM_BITS) -> None:
    """Refuse a foreign public key that is too short or visibly not a product of two large primes.

    What a public key hides cannot be checked: that n has two prime factors only, and of equal length.

    Args:
        public: the key.
        minimum_bits: least size of n.

    Returns:
        Nothing.

    Raises:
        ValueError: n is short, prime, a square, or has a small factor; or a subgroup's exponents are short.

    Example:
        >>> check_public(PublicKey(n=35, g=36))
        Traceback (most recent call last):
        ValueError: n must have at least 2048 bits, got 6
    """
    from jcbir.paillier._primes import is_prime

    if public.bits < minimum_bits:
        raise ValueError(f"n must have at least {minimum_bits} bits, got {public.bits}")
    if public.h is not None and public.h_bits < MINIMUM_EXPONENT_BITS:
        raise ValueError(f"h_bits must be at least {MINIMUM_EXPONENT_BITS}, got {public.h_bits}: the subgroup is weak")
    if math.isqrt(public.n) ** 2 == public.n:
        raise ValueError("n must be a product of two different primes, got a square")
    if math.gcd(public.n, math.prod(range(3, 2000, 2))) != 1:
        raise ValueError("n must be a product of two large primes, got a multiple of a prime below 2000")
    if is_prime(public.n):
        raise ValueError("n must be a product of two primes, got a prime")


def check_ciphertexts(public: PublicKey, ciphertexts: Ciphertexts) -> None:
    """Require rows to be ciphertexts of this key: width, range [1, n^2) and gcd(c, n) = 1.

    Args:
        public: the key.
        ciphertexts: rows of shape [n, ciphertext_bytes].

    Returns:
        Nothing.

    Raises:
        FormatError: the rows have another width than this key's.
        ValueError: a row is n^2 or more, or shares a factor with n.

    Example:
        >>> key = PublicKey(n=35, g=36)
        >>> check_ciphertexts(key, rows.from_ints([36, 1], width=key.ciphertext_bytes))
    """
    _check_width(public, ciphertexts)
    rows.check_below(ciphertexts, public.n_squared, name="ciphertexts")
    number = engines.number_type(engines.choose_engine("auto", count=1))
    modulus, everything = number(public.n), number(1)
    numbers = rows.to_ints(ciphertexts)
    for value in numbers:
        everything = everything * value % modulus
    # One gcd serves the batch: a product is a unit exactly if every factor is.
    if math.gcd(int(everything), public.n) != 1:
        bad = next(i for i, value in enumerate(numbers) if math.gcd(value, public.n) != 1)
        raise ValueError(f"ciphertexts[{bad}] must be a unit modulo n, got a common factor: no encryption makes it")


def encrypt(public: PublicKey, messages: Messages, *, blinders: Ciphertexts, engine: str = "auto") -> CiphertextRows:
    """Encrypt a batch: c = g^m * b mod n^2, where g = n + 1 makes g^m = 1 + m*n.

    Args:
        public: the key.
        messages: integers in (-n, n), negatives standing for n - |m|, or rows of residues.
        blinders: one fresh row per message, from `blinding.blinders`, a pool, or the owner's `secret.owner_blinders`.
        engine: "auto", "python", "gmpy2" or "jax".

    Returns:
        Ciphertext rows of shape [n, ciphertext_bytes].

    Raises:
        ValueError: a message is out of range, or there is not exactly one blinder per message.

    Example:
        >>> key = PublicKey(n=35, g=36)
        >>> rows.to_ints(encrypt(key, [3, -1], blinders=rows.from_ints([1, 2**35 % 35**2], width=2)))
        [106, 613]

    References:
        Paillier, 1999, Public-key cryptosystems based on composite degree residuosity classes, scheme 1.
    """
    plaintexts = rows.from_messages(messages, modulus=public.n)
    _check_pair(public, plaintexts, blinders, "messages", "blinders")
    cheap = public.g == public.n + 1
    name = engines.choose_engine(engine, count=len(plaintexts), exponentiations=not cheap)
    if name == "jax" and cheap:
        return batched.messages_times(public.n, plaintexts, blinders)
    if name == "jax":
        bases = rows.from_ints([public.g] * len(plaintexts), width=public.ciphertext_bytes)
        powers = batched.private_powers(public.n, bases, rows.to_ints(plaintexts), bits=public.bits)
        return batched.products(public.n, powers, blinders)
    number = engines.number_type(name)
    n, modulus, g = number(public.n), number(public.n_squared), number(public.g)
    if cheap:
        powers = (1 + number(m) * n for m in rows.to_ints(plaintexts))
    else:
        powers = (pow(g, number(m), modulus) for m in rows.to_ints(plaintexts))
    pairs = zip(powers, rows.to_ints(blinders), strict=True)
    return rows.from_ints((int(x * b % modulus) for x, b in pairs), width=public.ciphertext_bytes)


def add(public: PublicKey, a: Ciphertexts, b: Ciphertexts, *, engine: str = "auto") -> CiphertextRows:
    """Add encrypted numbers: D(a * b mod n^2) = D(a) + D(b) mod n.

    Args:
        public: the key.
        a: ciphertext rows.
        b: as many ciphertext rows.
        engine: "auto", "python", "gmpy2" or "jax".

    Returns:
        Ciphertext rows of the sums. Deterministic: rerandomize before a sum leaves the machine.

    Raises:
        ValueError: widths or counts differ.

    Example:
        >>> key = PublicKey(n=35, g=36)
        >>> one = rows.from_ints([36], width=2)
        >>> rows.to_ints(add(key, one, one))
        [71]
    """
    _check_pair(public, a, b, "a", "b")
    name = engines.choose_engine(engine, count=len(a), exponentiations=False)
    if name == "jax":
        return batched.products(public.n, a, b)
    number = engines.number_type(name)
    modulus = number(public.n_squared)
    pairs = zip(rows.to_ints(a), rows.to_ints(b), strict=True)
    return rows.from_ints((int(number(x) * y % modulus) for x, y in pairs), width=public.ciphertext_bytes)


def subtract(public: PublicKey, a: Ciphertexts, b: Ciphertexts, *, engine: str = "auto") -> CiphertextRows:
    """Subtract encrypted numbers: D(a * b^-1 mod n^2) = D(a) - D(b) mod n (the paper's Eq. 8).

    Args:
        public: the key.
        a: ciphertext rows.
        b: as many ciphertext rows.
        engine: "auto", "python", "gmpy2" or "jax".

    Returns:
        Ciphertext rows of the differences; a negative one decrypts to n - |d|, see `rows.to_signed_ints`.

    Raises:
        ValueError: widths or counts differ, or a row of b is not a unit.

    Example:
        >>> key = PublicKey(n=35, g=36)
        >>> rows.to_ints(subtract(key, rows.from_ints([71], width=2), rows.from_ints([36], width=2)))
        [36]
    """
    _check_pair(public, a, b, "a", "b")
    name = engines.choose_engine(engine, count=len(a), exponentiations=False)
    if name == "jax":
        return batched.products(public.n, a, _jax_inverses(public, b))
    number = engines.number_type(name)
    modulus = number(public.n_squared)
    inverses = integers.inverses(rows.to_ints(b), public.n_squared, engine=name)
    pairs = zip(rows.to_ints(a), inverses, strict=True)
    return rows.from_ints((int(number(x) * y % modulus) for x, y in pairs), width=public.ciphertext_bytes)


def multiply(
    public: PublicKey,
    a: Ciphertexts,
    scalars: Integer[Array, "n"] | Sequence[int | np.integer],
    *,
    engine: str = "auto",
) -> CiphertextRows:
    """Multiply encrypted numbers by plaintext integers: D(a^k mod n^2) = k * D(a) mod n.

    Args:
        public: the key.
        a: ciphertext rows.
        scalars: one integer k per row, of any sign; the time grows with its length and so shows it.
        engine: "auto", "python", "gmpy2" or "jax".

    Returns:
        Ciphertext rows of the products. k = 0 gives the number 1, an encryption of zero that blinds nothing:
        rerandomize.

    Raises:
        ValueError: the width is not this key's, or there is not one scalar per row.

    Example:
        >>> key = PublicKey(n=35, g=36)
        >>> rows.to_ints(multiply(key, rows.from_ints([36, 36], width=2), [3, -1]))
        [106, 1191]
    """
    _check_width(public, a)
    exponents = [int(k) for k in scalars]
    if len(exponents) != len(a):
        raise ValueError(f"scalars must hold one integer per row of a: {len(a)}, got {len(exponents)}")
    longest = max((abs(k).bit_length() for k in exponents), default=0)
    name = engines.choose_engine(engine, count=len(a), exponentiations=longest > SHORT_SCALAR)
    if name == "jax":
        bases = np.array(a)
        negative = np.array([k < 0 for k in exponents], bool)
        bases[negative] = _jax_inverses(public, bases[negative])
        return batched.private_powers(public.n, bases, [abs(k) for k in exponents], bits=longest)
    number = engines.number_type(name)
    modulus = number(public.n_squared)
    pairs = zip(rows.to_ints(a), exponents, strict=True)
    return rows.from_ints((int(pow(number(x), k, modulus)) for x, k in pairs), width=public.ciphertext_bytes)


def rerandomize(public: PublicKey, a: Ciphertexts, *, blinders: Ciphertexts, engine: str = "auto") -> CiphertextRows:
    """Give encrypted numbers fresh blinders: new bytes, same value.

    What was multiplied to reach a result can then no longer be told.

    Args:
        public: the key.
        a: ciphertext rows.
        blinders: one fresh row per ciphertext.
        engine: "auto", "python", "gmpy2" or "jax".

    Returns:
        Ciphertext rows a * b mod n^2.

    Raises:
        ValueError: widths or counts differ.

    Example:
        >>> key = PublicKey(n=35, g=36)
        >>> rows.to_ints(rerandomize(key, rows.from_ints([36], width=2), blinders=rows.from_ints([18], width=2)))
        [648]
    """
    _check_pair(public, a, blinders, "a", "blinders")
    return add(public, a, blinders, engine=engine)


def product(
    public: PublicKey, table: UInt8[Array, "t c"], picks: Integer[Array, "b m"], *, engine: str = "auto"
) -> UInt8[np.ndarray, "b c"]:
    """Add up encrypted numbers picked from a table: prod_j table[picks[i, j]] mod n^2.

    This is the inner loop of the bit-sliced scorer.

    Args:
        public: the key.
        table: ciphertext rows.
        picks: for each of b sums, the m rows of the table it adds.
        engine: "auto", "python", "gmpy2" or "jax".

    Returns:
        Ciphertext rows of shape [b, ciphertext_bytes].

    Raises:
        ValueError: the width is not this key's, a pick lies outside the table, or nothing is picked.

    Example:
        >>> key = PublicKey(n=35, g=36)
        >>> rows.to_ints(product(key, rows.from_ints([36, 71], width=2), np.array([[0, 0], [0, 1]])))
        [71, 106]
    """
    _check_width(public, table)
    chosen = np.asarray(picks)
    inside = not chosen.size or -1 < chosen.min() <= chosen.max() < len(table)
    if chosen.ndim != 2 or not chosen.shape[1] or not inside:
        raise ValueError(f"picks must be [b, m >= 1] of rows 0 to {len(table) - 1}, got shape {chosen.shape}")
    name = engines.choose_engine(engine, count=chosen.size, exponentiations=False)
    if name == "jax":
        return batched.picked_products(public.n, table, chosen)
    number = engines.number_type(name)
    modulus = number(public.n_squared)
    numbers = [number(x) for x in rows.to_ints(table)]
    sums = []
    for line in chosen.tolist():
        total = numbers[line[0]]
        for i in line[1:]:
            total = total * numbers[i] % modulus
        sums.append(int(total))
    return rows.from_ints(sums, width=public.ciphertext_bytes)


def _jax_inverses(public: PublicKey, b: Ciphertexts) -> CiphertextRows:
    try:
        return batched.inverses(public.n, b)
    except ValueError:
        raise ValueError("b must hold ciphertexts of this key: a row shares a factor with n") from None


def _check_width(public: PublicKey, ciphertexts: Ciphertexts) -> None:
    if getattr(ciphertexts, "ndim", 0) != 2 or ciphertexts.dtype != np.uint8:
        raise ValueError(
            f"ciphertexts must be uint8[n, {public.ciphertext_bytes}] rows, got {type(ciphertexts).__name__}"
        )
    if ciphertexts.shape[1] != public.ciphertext_bytes:
        raise FormatError(
            f"ciphertexts must be {public.ciphertext_bytes} bytes wide for this key, got {ciphertexts.shape[1]}"
        )


def _check_pair(public: PublicKey, a: Array, b: Array, a_name: str, b_name: str) -> None:
    for name, value in ((a_name, a), (b_name, b)):
        if name != "messages":
            _check_width(public, value)
    if len(a) != len(b):
        raise ValueError(f"{b_name} must hold one row per row of {a_name}: {len(a)}, got {len(b)}")
