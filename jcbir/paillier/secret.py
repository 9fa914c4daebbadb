"""The secret half of Paillier: key generation, the owner's fast encryption, decryption.

Secrets are plain Python integers in this process's memory; Python can neither wipe nor lock them. What the time of a
decryption still tells: docs/paillier.md.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jcbir.errors import IntegrityError, KeyMismatchError
from jcbir.paillier import _integers as integers, _jax_secret as on_arrays, _rows as rows, public as public_half
from jcbir.paillier._engines import choose_engine, number_type, secret_power
from jcbir.paillier._primes import StructuredPrime, is_prime, structured_prime
from jcbir.paillier._rows import CiphertextRows, Ciphertexts, Messages, PlaintextRows, check_int, check_rows
from jcbir.paillier._sampling import TRIES, draw_bytes, unit_below
from jcbir.paillier.public import MINIMUM_BITS, MINIMUM_EXPONENT_BITS, PublicKey, check_public

MINIMUM_SUBGROUP_BITS = 224
FACTOR_BITS = 256
# Bits beyond the group's order that bring a uniform exponent within 2^-64 of a uniform element.
EXCESS_BITS = 64


@dataclass(frozen=True, repr=False)
class SecretKey:
    """A Paillier key pair with the factors of p - 1 and q - 1, which make a generator provable.

    Attributes:
        public: the public half.
        p: prime factor of n, with small and large: p = 2 * small * large + 1.
        q: the other one.
        subgroup: whether blinders live in the subgroup of order p.small * q.small.
    """

    public: PublicKey
    p: StructuredPrime
    q: StructuredPrime

    def __post_init__(self):
        for name, factor in (("p", self.p), ("q", self.q)):
            if not isinstance(factor, StructuredPrime) or not all(type(number) is int for number in factor):
                raise ValueError(f"{name}: must be a StructuredPrime of Python integers, got {type(factor).__name__}")
            if factor.prime != 2 * factor.small * factor.large + 1:
                raise ValueError(f"{name}: must be 2 * small * large + 1, got other factors")
        if self.p.prime * self.q.prime != self.public.n:
            raise KeyMismatchError("public: must have n = p * q, got a half of a different key")

    @property
    def subgroup(self) -> bool:
        """Whether blinders live in the subgroup of order p.small * q.small."""
        return self.public.h is not None

    def __repr__(self) -> str:
        return f"SecretKey(bits={self.public.bits}, fingerprint={self.public.fingerprint[:16]}, secrets redacted)"


def generate_keys(
    *,
    draw: Callable[[int], bytes],
    bits: int = 3072,
    subgroup_bits: int | None = None,
    random_g: bool = False,
    unsafe_small: bool = False,
) -> SecretKey:
    r"""Make a key pair.

    p and q have bits/2 bits each and begin with 111, so n >= 49/64 * 2^bits > 2/3 * 2^bits; |p - q| > 2^(bits/2 - 100);
    gcd(n, (p-1)(q-1)) = 1 (the paper's Eq. 6); p - 1 and q - 1 have no prime factor shorter than 224 bits but 2.

    A *subgroup key* takes its blinders from the subgroup of n-th residues of order s_p * s_q, which makes decryption
    about three times faster. It needs an assumption beyond Paillier's: that this subgroup cannot be told from all
    n-th residues. The subgroup must withstand a search of 2^(subgroup_bits/2) steps for its order (baby steps and
    giant steps on h mod n give gcd(h^s - 1, n) = p); 25 bits fall in seconds,
    `experiments/attacks/small_subgroup.py` shows how, 224 bits are beyond reach. Less is refused.

    Args:
        draw: source of uniform bytes: pass `secrets.token_bytes`.
        bits: size of n, even, at least 2048.
        subgroup_bits: None, or the bits of s_p and s_q, at least 224, for a subgroup key.
        random_g: draw g uniformly among the bases of the paper's Eq. 7 rather than use n + 1. The two are equally
            secure; n + 1 turns the power g^m into one product.
        unsafe_small: permit sizes that anyone can break, for tests and attacks.

    Returns:
        A key pair.

    Raises:
        ValueError: a size is too small, or odd; or random_g is asked of a subgroup key.

    Example:
        >>> import secrets
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> rows.to_ints(decrypt(key, encrypt(key, [42], draw=secrets.token_bytes)))
        [42]

    References:
        Paillier, 1999, schemes 1 and 3. Ma, Han and Wang, 2021, Optimized Paillier's cryptosystem.
    """
    for name, flag in (("random_g", random_g), ("unsafe_small", unsafe_small)):
        if not isinstance(flag, bool):
            raise ValueError(f"{name}: must be True or False, got {type(flag).__name__}")
    least, least_subgroup = (64, 8) if unsafe_small else (MINIMUM_BITS, MINIMUM_SUBGROUP_BITS)
    bits = check_int(bits, name="bits", least=least)
    if bits % 2:
        raise ValueError(f"bits: must be even, got {bits}")
    if subgroup_bits is not None:
        subgroup_bits = check_int(subgroup_bits, name="subgroup_bits", least=least_subgroup)
        if random_g:
            raise ValueError("random_g: must be False for a subgroup key, whose messages ride on n + 1, got True")
    factor_bits = subgroup_bits or min(FACTOR_BITS, bits // 4)
    for _ in range(TRIES):
        p, q = (structured_prime(bits // 2, factor_bits=factor_bits, draw=draw) for _ in range(2))
        n, phi = p.prime * q.prime, (p.prime - 1) * (q.prime - 1)
        # A common factor of p - 1 and q - 1 would divide n - 1, which everybody knows.
        if _apart(p.prime, q.prime) and math.gcd(n, phi) == 1 and len({p.small, p.large, q.small, q.large}) == 4:
            break
    else:
        raise ValueError(f"draw: must be a uniform source, got no two primes far apart in {TRIES} tries")
    if subgroup_bits is not None:
        x, y = _generator(p, subgroup=True), _generator(q, subgroup=True)
        (h,) = _join([x], [y], p.prime**2, q.prime**2, engine="python")
        return SecretKey(PublicKey(n, n + 1, h, 2 * subgroup_bits + EXCESS_BITS), p, q)
    g = _random_base(p.prime, q.prime, draw) if random_g else n + 1
    return SecretKey(PublicKey(n, g), p, q)


def check_secret(secret: SecretKey, *, minimum_bits: int = MINIMUM_BITS) -> None:
    """Check a key pair that comes from elsewhere: it must be one that `generate_keys` could have made.

    The order of h is proved: h^s_p = 1 modulo p^2, s_p is prime and h is not 1 modulo p, so the order is s_p; the same
    modulo q^2. (An h that is 1 modulo q^2 passes a test modulo n^2, and gcd(h - 1, n) is q.)

    Args:
        secret: the key pair.
        minimum_bits: least size of n; below 2048 a subgroup may be small too.

    Raises:
        ValueError: the key would decrypt wrongly, or is weak; the message says which rule it breaks.

    Example:
        >>> import secrets
        >>> check_secret(generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True), minimum_bits=256)
    """
    public, p, q = secret.public, secret.p.prime, secret.q.prime
    full = check_int(minimum_bits, name="minimum_bits", least=0) >= MINIMUM_BITS
    check_public(public, minimum_bits=minimum_bits, minimum_exponent_bits=MINIMUM_EXPONENT_BITS if full else 1)
    for name, factor in (("p", secret.p), ("q", secret.q)):
        if not all(is_prime(number) for number in factor):
            raise ValueError(f"{name}: must be a prime with prime factors of p - 1, got a composite number")
    _check_lengths(secret)
    if math.gcd(public.n, (p - 1) * (q - 1)) != 1:
        raise ValueError("p and q: must satisfy gcd(n, (p-1)(q-1)) = 1, got a common factor")
    if not _apart(p, q):
        raise ValueError("p and q: must be far apart, got a difference that Fermat's method finds")
    if len({*secret.p[1:], *secret.q[1:]}) != 4:
        raise ValueError("p and q: must share no factor of p - 1 and q - 1, got one, which divides n - 1")
    if math.gcd(_base_logarithm(public.g, p) * _base_logarithm(public.g, q), public.n) != 1:
        raise ValueError("g: must have an order that is a multiple of n (the paper's Eq. 7), got another")
    if public.h is None:
        return
    sizes = [factor.small.bit_length() for factor in (secret.p, secret.q)]
    if full and min(sizes) < MINIMUM_SUBGROUP_BITS:
        raise ValueError(f"small: must have at least {MINIMUM_SUBGROUP_BITS} bits in a subgroup key, got {min(sizes)}")
    if public.h_bits < sum(sizes) + EXCESS_BITS:
        raise ValueError(f"h_bits: must be at least {sum(sizes) + EXCESS_BITS} for this subgroup, got {public.h_bits}")
    for name, factor in (("p", secret.p), ("q", secret.q)):
        # `check_public` has shown that h is not 1 modulo p, and s_p is prime.
        if pow(public.h, factor.small, factor.prime**2) != 1:
            raise ValueError(f"h: must have order {name}.small modulo {name}^2, got another")


def owner_blinders(
    secret: SecretKey, count: int, *, draw: Callable[[int], bytes], engine: str = "auto"
) -> CiphertextRows:
    r"""Draw blinders fast, with the secret key: powers of a generator of the n-th residues, from tables.

    Modulo p^2 the n-th residues are the p-th powers, a cyclic group of order p - 1. With a generator h_p and x
    uniform in [0, 2^e), e = bits(p) + 64, h_p^x is within 2^-64 of uniform in it; so is the pair modulo p^2 and q^2,
    which the Chinese remainder theorem makes one number modulo n^2: the distribution of r^n. (For a subgroup key:
    order s_p in place of p - 1.)

    Args:
        secret: the key pair.
        count: how many.
        draw: source of uniform bytes, such as `secrets.token_bytes`.
        engine: "auto", "python", "gmpy2" or "jax".

    Returns:
        Rows of shape [count, ciphertext_bytes].

    Raises:
        ValueError: the count is negative.

    Example:
        >>> import secrets
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> rows.to_ints(decrypt(key, owner_blinders(key, 2, draw=secrets.token_bytes)))
        [0, 0]
    """
    count = check_int(count, name="count", least=0)
    zeros = rows.from_ints([0] * count, width=secret.public.plaintext_bytes)
    return _blinded(secret, zeros, draw=draw, engine=engine)


def encrypt(
    secret: SecretKey, messages: Messages, *, draw: Callable[[int], bytes], engine: str = "auto"
) -> CiphertextRows:
    """Encrypt as the key's owner: the distribution of `public.encrypt` to within 2^-64, many times faster.

    Args:
        secret: the key pair.
        messages: integers in (-n, n), negatives standing for n - |m|, or rows of residues.
        draw: source of uniform bytes, such as `secrets.token_bytes`.
        engine: "auto", "python", "gmpy2" or "jax".

    Returns:
        Ciphertext rows of shape [n, ciphertext_bytes].

    Raises:
        ValueError: a message is out of range.

    Example:
        >>> import secrets
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> rows.to_signed_ints(decrypt(key, encrypt(key, [7, -7], draw=secrets.token_bytes)), modulus=key.public.n)
        [7, -7]
    """
    plaintexts = rows.from_messages(messages, modulus=secret.public.n)
    if secret.public.g == secret.public.n + 1:
        return _blinded(secret, plaintexts, draw=draw, engine=engine)
    fresh = owner_blinders(secret, len(plaintexts), draw=draw, engine=engine)
    return public_half.encrypt(secret.public, plaintexts, blinders=fresh, engine=engine)


def decrypt(secret: SecretKey, ciphertexts: Ciphertexts, *, method: str = "crt", engine: str = "auto") -> PlaintextRows:
    r"""Decrypt a batch.

    Textbook: m = L(c^delta mod n^2) / L(g^delta mod n^2) mod n, L(u) = (u - 1)/n, delta = lcm(p-1, q-1).
    CRT: the same modulo p^2 with exponent p - 1 (s_p for a subgroup key), modulo q^2 likewise, joined: four times
        less work.

    Args:
        secret: the key pair.
        ciphertexts: rows of shape [n, ciphertext_bytes].
        method: "crt" or "textbook".
        engine: "auto", "python", "gmpy2" or "jax".

    Returns:
        Plaintext rows of shape [n, plaintext_bytes].

    Raises:
        FormatError: the rows have another width than this key's.
        KeyMismatchError: a row is no ciphertext of this key: out of range, not a unit, or outside a subgroup key's
            subgroup.
        IntegrityError: the joined plaintext disagrees with its halves; a computer that errs there would give a factor
            of n away.
        ValueError: no such method, or primes of different length.

    Example:
        >>> import secrets
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> body = encrypt(key, [5], draw=secrets.token_bytes)
        >>> rows.to_ints(decrypt(key, body, method="textbook"))
        [5]

    References:
        Paillier, 1999, section 7 (decryption by Chinese remaindering). Boneh, DeMillo and Lipton, 1997, On the
        importance of checking cryptographic protocols for faults.
    """
    if not isinstance(method, str) or method not in ("crt", "textbook"):
        raise ValueError(f"method: must be 'crt' or 'textbook', got {method!r}")
    public = secret.public
    check_rows(ciphertexts, name="ciphertexts", width=public.ciphertext_bytes)
    try:
        rows.check_below(ciphertexts, public.n_squared, name="ciphertexts")
    except ValueError as error:
        raise KeyMismatchError(str(error)) from None
    _check_lengths(secret)
    name, sides = choose_engine(engine, count=len(ciphertexts)), _decryption_sides(secret, method)
    if name == "jax":
        key = on_arrays.make_decryption(public.n, public.g, sides, ciphertext_bytes=public.ciphertext_bytes)
        plaintexts, sound, agrees = on_arrays.decrypt(key, ciphertexts, width=public.plaintext_bytes)
    else:
        plaintexts, sound, agrees = _decrypt_integers(secret, rows.to_ints(ciphertexts), sides, name)
    if not all(sound):
        bad = list(sound).index(False)
        raise KeyMismatchError(f"ciphertexts[{bad}]: must be a ciphertext of this key, got another group's element")
    _check_joined(agrees)
    return plaintexts


def _check_lengths(secret: SecretKey) -> None:
    p, q = secret.p.prime.bit_length(), secret.q.prime.bit_length()
    if p != q:
        raise ValueError(f"p and q: must have equal length, got {p} and {q} bits")


def _check_joined(agrees: list[bool] | np.ndarray) -> None:
    if not all(agrees):
        raise IntegrityError("secret: must join what it computed modulo p and q, got a fault of this computer")


def _apart(p: int, q: int) -> bool:
    """Whether primes of one length differ early enough to be safe from Fermat's method."""
    bits = p.bit_length()
    return abs(p - q).bit_length() > bits - min(100, bits // 2)


def _join(x: Sequence, y: Sequence, p: int, q: int, *, engine: str) -> list:
    """Chinese remainder theorem: the numbers below p q that are x modulo p and y modulo q."""
    p, q = map(number_type(engine), (p, q))
    inverse = pow(p, -1, q)
    return [a + p * ((b - a) * inverse % q) for a, b in zip(x, y, strict=True)]


def _base_logarithm(g: int, prime: int) -> int:
    return (pow(g, prime - 1, prime * prime) - 1) // prime


def _random_base(p: int, q: int, draw: Callable[[int], bytes]) -> int:
    """A uniform unit g modulo n^2 with gcd(L(g^delta mod n^2), n) = 1, the paper's Eq. 7."""
    for _ in range(TRIES):
        g = unit_below((p * q) ** 2, draw=draw)
        if _base_logarithm(g, p) % p and _base_logarithm(g, q) % q:
            return g
    raise ValueError(f"draw: must be a uniform source, got no admissible base in {TRIES} tries")


def _decryption_sides(secret: SecretKey, method: str) -> tuple[tuple[int, int, int], ...]:
    """Moduli N, exponents e of decryption, b^e = 1 modulo N^2 for every blinder b, and the bits that hide e's length.

    All keys of a size share one length of exponent, and so one compiled program.
    """
    n, pair = secret.public.n, (secret.p, secret.q)
    if method == "textbook":
        return ((n, math.lcm(*(factor.prime - 1 for factor in pair)), n.bit_length()),)
    if secret.subgroup:
        bits = max(factor.small.bit_length() for factor in pair)
        return tuple((factor.prime, factor.small, bits) for factor in pair)
    return tuple((factor.prime, factor.prime - 1, factor.prime.bit_length()) for factor in pair)


def _logarithms(ciphertexts: Sequence[int], modulus: int, *, exponent: int, engine: str) -> tuple[list, list[bool]]:
    """L(c^e mod N^2) for N = p, q or n, L(u) = (u - 1)/N; and for each whether c^e was 1 modulo N, as it must be."""
    number, power = number_type(engine), secret_power(engine)
    n, e = number(modulus), number(exponent)
    square = n * n
    found = [divmod(power(number(c) % square, e, square) - 1, n) for c in ciphertexts]
    return [quotient for quotient, _ in found], [rest == 0 for _, rest in found]


def _decrypt_integers(
    secret: SecretKey, ciphertexts: list[int], sides: tuple[tuple[int, int, int], ...], engine: str
) -> tuple[PlaintextRows, list[bool], list[bool]]:
    """Plaintexts, whether each ciphertext is sound, and whether each plaintext times L(g^e) is L(c^e) on both sides."""
    residues, checks, sound = [], [], [True] * len(ciphertexts)
    for n, exponent, _ in sides:
        (base,), _ = _logarithms([secret.public.g], n, exponent=exponent, engine=engine)
        found, whole = _logarithms(ciphertexts, n, exponent=exponent, engine=engine)
        scale = pow(int(base), -1, n)
        residues.append([quotient * scale % n for quotient in found])
        checks.append((n, base, found))
        sound = [x and y for x, y in zip(sound, whole, strict=True)]
    plaintexts = residues[0]
    if len(sides) == 2:
        plaintexts = _join(residues[0], residues[1], sides[0][0], sides[1][0], engine=engine)
    agrees = [all(m * base % n == found[i] for n, base, found in checks) for i, m in enumerate(plaintexts)]
    return rows.from_ints(map(int, plaintexts), width=secret.public.plaintext_bytes), sound, agrees


@functools.lru_cache(maxsize=8)
def _generator(factor: StructuredPrime, *, subgroup: bool) -> int:
    """Generator of the n-th residues modulo p^2, the cyclic group of p-th powers, or of its subgroup of order s.

    x generates the units modulo p if x^((p-1)/r) is not 1 for each prime r of p - 1 = 2 s t; then x^p generates the
    group. The least such x serves: which generator it is does not matter to a uniform exponent.
    """
    p, s, t = factor
    x = next(x for x in range(2, p) if all(pow(x, (p - 1) // r, p) != 1 for r in (2, s, t)))
    return pow(x, p * (2 * t if subgroup else 1), p * p)


def _exponent_bytes(factor: StructuredPrime, *, subgroup: bool) -> int:
    """Bytes of a blinder's exponent modulo p^2: the group's order and 64 bits more."""
    order = factor.small if subgroup else factor.prime
    return -(-(order.bit_length() + EXCESS_BITS) // 8)


def _blinded(
    secret: SecretKey, plaintexts: PlaintextRows, *, draw: Callable[[int], bytes], engine: str
) -> CiphertextRows:
    """(1 + m n) times a blinder."""
    public, pair, subgroup, count = secret.public, (secret.p, secret.q), secret.subgroup, len(plaintexts)
    _check_lengths(secret)
    name, width = choose_engine(engine, count=count), public.ciphertext_bytes
    sizes = [_exponent_bytes(factor, subgroup=subgroup) for factor in pair]
    exponents = [np.frombuffer(draw_bytes(draw, size * count), np.uint8).reshape(count, size) for size in sizes]
    generators = [_generator(factor, subgroup=subgroup) for factor in pair]
    if name == "jax":
        sides = tuple(zip((secret.p.prime, secret.q.prime), generators, sizes, strict=True))
        key = on_arrays.make_encryption(sides, ciphertext_bytes=width)
        ciphertexts, agrees = on_arrays.encrypt(key, plaintexts, exponents, width=width)
        _check_joined(agrees)
        return ciphertexts
    squares = [factor.prime**2 for factor in pair]
    powers = [
        integers.fixed_base_powers(h, side, square, engine=name)
        for h, side, square in zip(generators, exponents, squares, strict=True)
    ]
    joined = _join(powers[0], powers[1], squares[0], squares[1], engine=name)
    _check_joined([c % squares[0] == x and c % squares[1] == y for c, x, y in zip(joined, *powers, strict=True)])
    fresh = rows.from_ints(map(int, joined), width=width)
    return public_half.encrypt(PublicKey(public.n, public.n + 1), plaintexts, blinders=fresh, engine=name)
