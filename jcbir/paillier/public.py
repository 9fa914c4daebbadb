"""The public half of Paillier: what encrypts, adds and checks without any secret.

A ciphertext of m is c = g^m * b mod n^2, where the *blinder* b = r^n mod n^2 hides m and vanishes in decryption.
Blinders are an argument: draw them with `jcbir.paillier.blinders`, ahead of time if need be, and use each once.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer, UInt8

from jcbir.paillier import _integers as integers, _jax as on_arrays, _rows as rows
from jcbir.paillier._engines import choose_engine, number_type
from jcbir.paillier._primes import is_power, is_prime, small_factor
from jcbir.paillier._rows import CiphertextRows, Ciphertexts, Messages, check_int, check_ints, check_rows
from jcbir.typing import Array

MINIMUM_BITS = 2048
# Beyond it a key only keeps its readers busy.
MAXIMUM_BITS = 16384
# Two subgroup primes of 224 bits, and 64 bits to make the exponent uniform.
MINIMUM_EXPONENT_BITS = 512
FACTOR_BOUND = 1 << 20
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
        for name, value in (("n", self.n), ("g", self.g), ("h", self.h), ("h_bits", self.h_bits)):
            if type(value) is not int and not (name == "h" and value is None):
                raise ValueError(f"{name}: must be a Python integer, got {type(value).__name__}")
        if self.n < 15 or self.n % 2 == 0:
            raise ValueError(f"n: must be an odd product of two primes, got {self.n.bit_length()} bits, {self.n & 1=}")
        for name, base in (("g", self.g), ("h", self.h)):
            if base is not None and not (1 < base < self.n_squared and math.gcd(base, self.n) == 1):
                raise ValueError(f"{name}: must be a unit modulo n^2 between 2 and n^2 - 1, got another number")
        if (self.h is None) != (self.h_bits == 0) or self.h_bits < 0:
            raise ValueError(f"h_bits: must be positive with h and 0 without, got {self.h_bits}")

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


def check_public(
    public: PublicKey, *, minimum_bits: int = MINIMUM_BITS, minimum_exponent_bits: int = MINIMUM_EXPONENT_BITS
) -> None:
    """Refuse a foreign public key that is visibly weak: n must be p q for all that shows, g and h must tell no factor.

    What a public key hides cannot be checked: that n has two prime factors only, of equal length, that h is an n-th
    residue of large order, that g has an order that is a multiple of n. Who holds the secret key proves them,
    `jcbir.paillier.secret.check_secret`.

    Args:
        public: the key.
        minimum_bits: least size of n.
        minimum_exponent_bits: least `h_bits` of a subgroup key.

    Raises:
        ValueError: n is short, larger than 16384 bits, prime, a power, or has a factor below 2^20; g is -1 or, like h,
            gives a factor of n away; or a subgroup's exponents are short.

    Example:
        >>> check_public(PublicKey(n=35, g=36))
        Traceback (most recent call last):
        ValueError: n: must have 2048 to 16384 bits, got 6

    References:
        Makriyannis and Yomtov, 2023, BitForge (CVE-2023-33241): keys with small factors.
    """
    minimum_bits = check_int(minimum_bits, name="minimum_bits", least=0)
    minimum_exponent_bits = check_int(minimum_exponent_bits, name="minimum_exponent_bits", least=0)
    n, g, h = public.n, public.g, public.h
    if not minimum_bits <= public.bits <= MAXIMUM_BITS:
        raise ValueError(f"n: must have {minimum_bits} to {MAXIMUM_BITS} bits, got {public.bits}")
    if (factor := small_factor(n, bound=FACTOR_BOUND)) is not None:
        raise ValueError(f"n: must be a product of two large primes, got a multiple of {factor}")
    if is_power(n):
        raise ValueError("n: must be a product of two different primes, got a power")
    if is_prime(n):
        raise ValueError("n: must be a product of two primes, got a prime")
    # Of g = 1 + k n only k matters, and a k that is no unit gives a factor away.
    if g == public.n_squared - 1 or (g % n == 1 and math.gcd(g // n, n) != 1):
        raise ValueError("g: must have an order that is a multiple of n (the paper's Eq. 7), got one of small order")
    if h is None:
        return
    if not minimum_exponent_bits <= public.h_bits <= 2 * public.bits:
        raise ValueError(f"h_bits: must lie in [{minimum_exponent_bits}, {2 * public.bits}], got {public.h_bits}")
    if g != n + 1:
        raise ValueError("g: must be n + 1 for a subgroup key, got another base")
    # gcd(h - 1, n) = n is an h of 1 + n Z, whose powers blind nothing modulo n.
    if math.gcd(h - 1, n) != 1 or math.gcd(h + 1, n) != 1:
        raise ValueError("h: must be neither 1 nor -1 modulo a factor of n, got a number that gives a factor away")


def check_ciphertexts(public: PublicKey, ciphertexts: Ciphertexts) -> None:
    """Require rows to be ciphertexts of this key: width, range [1, n^2) and gcd(c, n) = 1.

    Args:
        public: the key.
        ciphertexts: rows of shape [n, ciphertext_bytes].

    Raises:
        FormatError: the rows have another width than this key's.
        ValueError: a row is n^2 or more, or shares a factor with n.

    Example:
        >>> key = PublicKey(n=35, g=36)
        >>> check_ciphertexts(key, rows.from_ints([36, 1], width=key.ciphertext_bytes))
    """
    check_rows(ciphertexts, name="ciphertexts", width=public.ciphertext_bytes)
    rows.check_below(ciphertexts, public.n_squared, name="ciphertexts")
    number = number_type(choose_engine("auto", count=1))
    modulus, everything = number(public.n), number(1)
    numbers = rows.to_ints(ciphertexts)
    for value in numbers:
        everything = everything * value % modulus
    # One gcd serves the batch: a product is a unit exactly if every factor is.
    if math.gcd(int(everything), public.n) != 1:
        bad = next(i for i, value in enumerate(numbers) if math.gcd(value, public.n) != 1)
        raise ValueError(f"ciphertexts[{bad}]: must be a unit modulo n, got a common factor: no encryption makes it")


def encrypt(public: PublicKey, messages: Messages, *, blinders: Ciphertexts, engine: str = "auto") -> CiphertextRows:
    """Encrypt a batch: c = g^m * b mod n^2, where g = n + 1 makes g^m = 1 + m*n.

    Args:
        public: the key.
        messages: integers in (-n, n), negatives standing for n - |m|, or rows of residues.
        blinders: one fresh row per message, from `jcbir.paillier.blinders`, a pool, or `secret.owner_blinders`.
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
    _check_as_many(public, plaintexts, "messages", blinders=blinders)
    cheap = public.g == public.n + 1
    name = choose_engine(engine, count=len(plaintexts), exponentiations=not cheap)
    if name == "jax" and cheap:
        return on_arrays.messages_times(public.n, plaintexts, blinders)
    if name == "jax":
        bases = rows.from_ints([public.g] * len(plaintexts), width=public.ciphertext_bytes)
        powers = on_arrays.powers(public.n, bases, rows.to_ints(plaintexts), bits=public.bits)
        return on_arrays.products(public.n, powers, blinders)
    number = number_type(name)
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
    _check_as_many(public, a, "a", a=a, b=b)
    name = choose_engine(engine, count=len(a), exponentiations=False)
    if name == "jax":
        return on_arrays.products(public.n, a, b)
    number = number_type(name)
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
        Ciphertext rows of the differences; a negative one decrypts to n - |d|, see `jcbir.paillier.to_signed_ints`.

    Raises:
        ValueError: widths or counts differ, or a row of b is not a unit.

    Example:
        >>> key = PublicKey(n=35, g=36)
        >>> rows.to_ints(subtract(key, rows.from_ints([71], width=2), rows.from_ints([36], width=2)))
        [36]
    """
    _check_as_many(public, a, "a", a=a, b=b)
    name = choose_engine(engine, count=len(a), exponentiations=False)
    if name == "jax":
        return on_arrays.products(public.n, a, _inverses(public, b, name))
    number = number_type(name)
    modulus = number(public.n_squared)
    pairs = zip(rows.to_ints(a), rows.to_ints(_inverses(public, b, name)), strict=True)
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
        scalars: one integer k per row, of any sign, as a list or an integer array; the time grows with its length
            and so shows it.
        engine: "auto", "python", "gmpy2" or "jax".

    Returns:
        Ciphertext rows of the products. k = 0 gives the number 1, an encryption of zero that blinds nothing:
        rerandomize.

    Raises:
        ValueError: the width is not this key's, a scalar is no integer, or there is not one per row.

    Example:
        >>> key = PublicKey(n=35, g=36)
        >>> rows.to_ints(multiply(key, rows.from_ints([36, 36], width=2), [3, -1]))
        [106, 1191]
    """
    check_rows(a, name="a", width=public.ciphertext_bytes)
    exponents = check_ints(scalars, name="scalars")
    if len(exponents) != len(a):
        raise ValueError(f"scalars: must hold one integer per row of a, {len(a)}, got {len(exponents)}")
    longest = max((abs(k).bit_length() for k in exponents), default=0)
    name = choose_engine(engine, count=len(a), exponentiations=longest > SHORT_SCALAR)
    if name == "jax":
        bases = np.array(a)
        negative = np.array([k < 0 for k in exponents], bool)
        bases[negative] = _inverses(public, bases[negative], name, of="a")
        return on_arrays.powers(public.n, bases, [abs(k) for k in exponents], bits=longest)
    number = number_type(name)
    modulus = number(public.n_squared)
    pairs = zip(rows.to_ints(a), exponents, strict=True)
    try:
        return rows.from_ints((int(pow(number(x), k, modulus)) for x, k in pairs), width=public.ciphertext_bytes)
    except (ValueError, ZeroDivisionError):
        raise _not_units("a") from None


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
    _check_as_many(public, a, "a", a=a, blinders=blinders)
    return add(public, a, blinders, engine=engine)


def product(
    public: PublicKey, table: UInt8[Array, "t c"], picks: Integer[Array, "b m"], *, engine: str = "auto"
) -> UInt8[np.ndarray, "b c"]:
    """Add up encrypted numbers picked from a table: prod_j table[picks[i, j]] mod n^2.

    This is the inner loop of the bit-sliced scorer.

    Args:
        public: the key.
        table: ciphertext rows.
        picks: for each of b sums, the m rows of the table it adds; an integer array.
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
    check_rows(table, name="table", width=public.ciphertext_bytes)
    # NumPy would read a list of floats or truths as positions after all.
    if getattr(picks, "ndim", 0) != 2 or np.dtype(picks.dtype).kind not in "iu" or not picks.shape[1]:
        shape = f"{picks.dtype} of shape {tuple(picks.shape)}" if hasattr(picks, "ndim") else type(picks).__name__
        raise ValueError(f"picks: must be an integer array [b, m >= 1], got {shape}")
    chosen = np.asarray(picks)
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < len(table):
        raise ValueError(
            f"picks: must be rows 0 to {len(table) - 1} of the table, got {chosen.min()} to {chosen.max()}"
        )
    name = choose_engine(engine, count=chosen.size, exponentiations=False)
    if name == "jax":
        return on_arrays.picked_products(public.n, table, chosen)
    number = number_type(name)
    modulus = number(public.n_squared)
    numbers = [number(x) for x in rows.to_ints(table)]
    sums = []
    for line in chosen.tolist():
        total = numbers[line[0]]
        for i in line[1:]:
            total = total * numbers[i] % modulus
        sums.append(int(total))
    return rows.from_ints(sums, width=public.ciphertext_bytes)


def _inverses(public: PublicKey, b: Ciphertexts, engine: str, *, of: str = "b") -> CiphertextRows:
    try:
        if engine == "jax":
            return on_arrays.inverses(public.n, b)
        inverses = integers.inverses(rows.to_ints(b), public.n_squared, engine=engine)
    except ValueError:
        raise _not_units(of) from None
    return rows.from_ints(inverses, width=public.ciphertext_bytes)


def _not_units(name: str) -> ValueError:
    return ValueError(f"{name}: must hold ciphertexts of this key, got a row that shares a factor with n")


def _check_as_many(public: PublicKey, first: Array, first_name: str, **batches: Ciphertexts) -> None:
    """Require batches of this key's ciphertexts, as many rows as the first."""
    for name, batch in batches.items():
        check_rows(batch, name=name, width=public.ciphertext_bytes)
        if len(batch) != len(first):
            raise ValueError(f"{name}: must hold one row per row of {first_name}, {len(first)}, got {len(batch)}")
