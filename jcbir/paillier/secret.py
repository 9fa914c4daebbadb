"""The secret half of Paillier: key generation, the owner's fast encryption, decryption.

Secrets are plain Python integers in this process's memory; Python can neither wipe nor lock them, and no engine is
constant time.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jcbir.errors import KeyMismatchError
from jcbir.paillier import (
    _batched_secret as batched_secret,
    _engines as engines,
    _integers as integers,
    _rows as rows,
    public as public_key,
)
from jcbir.paillier._primes import StructuredPrime, is_prime, structured_prime
from jcbir.paillier._rows import CiphertextRows, Ciphertexts, Messages, PlaintextRows
from jcbir.paillier._sampling import TRIES, unit_below
from jcbir.paillier.public import MINIMUM_BITS, PublicKey

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
            if factor.prime != 2 * factor.small * factor.large + 1:
                raise ValueError(f"{name} must be 2 * small * large + 1")
        if self.p.prime * self.q.prime != self.public.n:
            raise KeyMismatchError("p * q must be the public n: these halves are of different keys")

    @property
    def subgroup(self) -> bool:
        """Whether blinders live in the subgroup of order p.small * q.small."""
        return self.public.h is not None

    @property
    def subgroup_bits(self) -> int:
        """Bits of the subgroup's primes, 0 for a key without a subgroup."""
        return (self.public.h_bits - EXCESS_BITS) // 2 if self.subgroup else 0

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
    least = 64 if unsafe_small else MINIMUM_BITS
    if bits < least or bits % 2:
        raise ValueError(f"bits must be even and at least {least}, got {bits}")
    if subgroup_bits is not None and random_g:
        raise ValueError("random_g must be False for a subgroup key: its messages ride on n + 1")
    if subgroup_bits is not None and subgroup_bits < MINIMUM_SUBGROUP_BITS and not unsafe_small:
        raise ValueError(f"subgroup_bits must be at least {MINIMUM_SUBGROUP_BITS}, got {subgroup_bits}")
    factor_bits = subgroup_bits or min(FACTOR_BITS, bits // 4)
    for _ in range(TRIES):
        p, q = (structured_prime(bits // 2, factor_bits=factor_bits, draw=draw) for _ in range(2))
        n, phi = p.prime * q.prime, (p.prime - 1) * (q.prime - 1)
        apart = abs(p.prime - q.prime).bit_length() > bits // 2 - min(100, bits // 4)
        # A common factor of p - 1 and q - 1 would divide n - 1, which everybody knows.
        if apart and math.gcd(n, phi) == 1 and len({p.small, p.large, q.small, q.large}) == 4:
            break
    else:
        raise ValueError("draw gave no two primes far apart: it is not a uniform source")
    if subgroup_bits is not None:
        x, y = integers.generator(p, subgroup=True), integers.generator(q, subgroup=True)
        h = integers.join(x, y, p.prime**2, q.prime**2)
        return SecretKey(PublicKey(n, n + 1, h, 2 * subgroup_bits + EXCESS_BITS), p, q)
    g = _random_base(p.prime, q.prime, draw) if random_g else n + 1
    return SecretKey(PublicKey(n, g), p, q)


def check_secret(secret: SecretKey, *, minimum_bits: int = MINIMUM_BITS) -> None:
    """Check a key pair that comes from elsewhere: primes, sizes, factors, bases.

    Args:
        secret: the key pair.
        minimum_bits: least size of n.

    Returns:
        Nothing.

    Raises:
        ValueError: the key would decrypt wrongly, or is weak; the message says which rule it breaks.

    Example:
        >>> import secrets
        >>> check_secret(generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True), minimum_bits=256)
    """
    public, p, q = secret.public, secret.p.prime, secret.q.prime
    public_key.check_public(PublicKey(public.n, public.g), minimum_bits=minimum_bits)
    for name, factor in (("p", secret.p), ("q", secret.q)):
        if not all(is_prime(number) for number in factor):
            raise ValueError(f"{name} and its factors must be prime")
    if p.bit_length() != q.bit_length():
        raise ValueError(f"p and q must have equal length, got {p.bit_length()} and {q.bit_length()} bits")
    if math.gcd(public.n, (p - 1) * (q - 1)) != 1:
        raise ValueError("gcd(n, (p-1)(q-1)) must be 1")
    if math.gcd(_base_logarithm(public.g, p) * _base_logarithm(public.g, q), public.n) != 1:
        raise ValueError("g must have an order that is a multiple of n (the paper's Eq. 7)")
    if public.h is not None:
        order, weakest = secret.p.small * secret.q.small, min(secret.p.small, secret.q.small).bit_length()
        if pow(public.h, order, public.n_squared) != 1:
            raise ValueError("h must have order p.small * q.small modulo n^2")
        if minimum_bits >= MINIMUM_BITS and weakest < MINIMUM_SUBGROUP_BITS:
            raise ValueError(f"the subgroup's primes must have at least {MINIMUM_SUBGROUP_BITS} bits, got {weakest}")


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
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    zeros = rows.from_ints([0] * count, width=secret.public.plaintext_bytes)
    return _blinded(secret, zeros, _draw_exponents(secret, count, draw), engine)


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
        return _blinded(secret, plaintexts, _draw_exponents(secret, len(plaintexts), draw), engine)
    fresh = owner_blinders(secret, len(plaintexts), draw=draw, engine=engine)
    return public_key.encrypt(secret.public, plaintexts, blinders=fresh, engine=engine)


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
        ValueError: no such method.

    Example:
        >>> import secrets
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> body = encrypt(key, [5], draw=secrets.token_bytes)
        >>> rows.to_ints(decrypt(key, body, method="textbook"))
        [5]

    References:
        Paillier, 1999, section 7 (decryption by Chinese remaindering).
    """
    if method not in ("crt", "textbook"):
        raise ValueError(f"method must be 'crt' or 'textbook', got {method!r}")
    public = secret.public
    public_key._check_width(public, ciphertexts)
    try:
        rows.check_below(ciphertexts, public.n_squared, name="ciphertexts")
    except ValueError as error:
        raise KeyMismatchError(str(error)) from None
    name = engines.choose_engine(engine, count=len(ciphertexts))
    if name == "jax":
        parts, join, bits = _jax_decryption(secret, method)
        width = public.plaintext_bytes
        plaintexts, sound = batched_secret.logarithms(parts, join, ciphertexts, bits=bits, width=width)
    else:
        plaintexts, sound = _integer_decryption(secret, rows.to_ints(ciphertexts), method, name)
    if not all(sound):
        bad = list(sound).index(False)
        raise KeyMismatchError(f"ciphertexts[{bad}] must be a ciphertext of this key, got another group's element")
    return plaintexts


def exponent_bytes(factor: StructuredPrime, *, subgroup: bool) -> int:
    """Bytes of a blinder's exponent modulo p^2: the group's order and 64 bits more.

    Args:
        factor: a prime factor of n.
        subgroup: whether the group is the one of order `factor.small`.

    Returns:
        Bytes to draw.

    Example:
        >>> exponent_bytes(StructuredPrime(2 * 5 * 11 + 1, 5, 11), subgroup=False)
        9
    """
    order = factor.small if subgroup else factor.prime
    return -(-(order.bit_length() + EXCESS_BITS) // 8)


def _base_logarithm(g: int, prime: int) -> int:
    return (pow(g, prime - 1, prime * prime) - 1) // prime


def _random_base(p: int, q: int, draw: Callable[[int], bytes]) -> int:
    """A uniform unit g modulo n^2 with gcd(L(g^delta mod n^2), n) = 1, the paper's Eq. 7."""
    for _ in range(TRIES):
        g = unit_below((p * q) ** 2, draw=draw)
        if _base_logarithm(g, p) % p and _base_logarithm(g, q) % q:
            return g
    raise ValueError("draw gave no admissible base: it is not a uniform source")


def _exponents(secret: SecretKey, method: str) -> list[tuple[int, int]]:
    """Moduli N and exponents e of decryption: b^e = 1 modulo N^2 for every blinder b."""
    if method == "textbook":
        return [(secret.public.n, math.lcm(secret.p.prime - 1, secret.q.prime - 1))]
    return [(f.prime, f.small if secret.subgroup else f.prime - 1) for f in (secret.p, secret.q)]


def _integer_decryption(
    secret: SecretKey, ciphertexts: list[int], method: str, engine: str
) -> tuple[PlaintextRows, list[bool]]:
    g, sides = secret.public.g, _exponents(secret, method)
    found = [integers.logarithms(ciphertexts, n, exponent=e, g=g, engine=engine) for n, e in sides]
    plaintexts, sound = found[0]
    if len(found) == 2:
        p, q = secret.p.prime, secret.q.prime
        inverse = pow(p, -1, q)
        plaintexts = [x + p * ((y - x) * inverse % q) for x, y in zip(plaintexts, found[1][0], strict=True)]
        sound = [x and y for x, y in zip(sound, found[1][1], strict=True)]
    return rows.from_ints(plaintexts, width=secret.public.plaintext_bytes), sound


@functools.lru_cache(maxsize=4)
def _jax_decryption(
    secret: SecretKey, method: str
) -> tuple[tuple[batched_secret.Logarithm, ...], batched_secret.Join, int]:
    """Constants for m = sum_i (n/N_i) t_i mod n with t_i = L(c^e) / (L(g^e) n/N_i) mod N_i."""
    n, sides = secret.public.n, _exponents(secret, method)
    parts = []
    for modulus, exponent in sides:
        base = (pow(secret.public.g, exponent, modulus * modulus) - 1) // modulus
        scale = pow(base * (n // modulus), -1, modulus)
        # All keys of a size share one length of exponent, and so one compiled program.
        bits = secret.subgroup_bits if secret.subgroup and method == "crt" else modulus.bit_length()
        parts.append(
            batched_secret.logarithm_constants(
                modulus, exponent=exponent, bits=bits, scale=scale, total=8 * secret.public.ciphertext_bytes
            )
        )
    bits = sides[0][0].bit_length()
    return tuple(parts), batched_secret.join_constants(tuple(n // m for m, _ in sides), n, bits=bits), bits


@functools.lru_cache(maxsize=2)
def _jax_blinding(secret: SecretKey) -> tuple[tuple[batched_secret.Blinding, ...], batched_secret.Join]:
    """Constants for c = sum over p and q of n^2/p^2 (u mod p^2), u = (1 + m n) h^x / (n/p)^2, in two digits each."""
    n, pair = secret.public.n, (secret.p, secret.q)
    sides, cofactors = [], []
    for factor in pair:
        h = integers.generator(factor, subgroup=secret.subgroup)
        other, windows = n // factor.prime, exponent_bytes(factor, subgroup=secret.subgroup)
        sides.append(batched_secret.blinding_constants(factor.prime, other, h, windows))
        cofactors += [other**2, factor.prime * other**2]
    bits = secret.p.prime.bit_length()
    return tuple(sides), batched_secret.join_constants(tuple(cofactors), n * n, bits=bits)


def _draw_exponents(secret: SecretKey, count: int, draw: Callable[[int], bytes]) -> list[np.ndarray]:
    """Big-endian exponents modulo p^2 and q^2, one row per number."""
    sizes = [exponent_bytes(factor, subgroup=secret.subgroup) for factor in (secret.p, secret.q)]
    return [np.frombuffer(draw(size * count), np.uint8).reshape(count, size) for size in sizes]


def _blinded(secret: SecretKey, plaintexts: PlaintextRows, exponents: list[np.ndarray], engine: str) -> CiphertextRows:
    """(1 + m n) times the blinder of the exponents."""
    public, p, q = secret.public, secret.p.prime, secret.q.prime
    name = engines.choose_engine(engine, count=len(plaintexts))
    if name == "jax":
        sides, join = _jax_blinding(secret)
        bits, width = p.bit_length(), public.ciphertext_bytes
        return batched_secret.blinded(sides, join, plaintexts, tuple(exponents), bits=bits, width=width)
    x, y = (
        integers.fixed_base_powers(factor, side, subgroup=secret.subgroup, engine=name)
        for factor, side in zip((secret.p, secret.q), exponents, strict=True)
    )
    fresh = rows.from_ints(integers.joined_squares(x, y, p, q, engine=name), width=public.ciphertext_bytes)
    base = PublicKey(public.n, public.n + 1)
    return public_key.encrypt(base, plaintexts, blinders=fresh, engine=name)
