"""The user's half: a query under a one-time secret. It needs the public key alone, and reaches nothing of `secret`."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from jcbir.lattice import _sampling, public as public_half
from jcbir.lattice._bits import pack
from jcbir.lattice._parameters import Parameters
from jcbir.lattice._ring import rem, transform
from jcbir.lattice._sampling import SEED_BYTES, derive
from jcbir.lattice.public import PublicKey, Query
from jcbir.typing import Array


@dataclass(frozen=True, repr=False)
class QuerySecret:
    """What opens the reply to one query: goes sealed from the user to the authority, and is used once.

    Attributes:
        seed: 32 secret bytes that expand to u.
        digest: of the query they belong to.
    """

    seed: bytes
    digest: bytes

    @property
    def name(self) -> bytes:
        """32 bytes that name the seed without telling it: what the authority notes as answered."""
        return derive(self.seed, "query name")

    def __repr__(self) -> str:
        return f"QuerySecret(digest={self.digest.hex()[:16]}, secrets redacted)"


def encrypt_query(
    public: PublicKey, code: Bool[Array, " k"], *, draw: Callable[[int], bytes]
) -> tuple[Query, QuerySecret]:
    """Encrypt a query under a one-time secret u.

    `d_j = a_j u + D_j + t f_j`, `D_j = sum_i q_(j kappa + i) x^-i`, q = 1 for a zero bit and -1 for a one.

    Args:
        public: the collection's public key.
        code: bool[k].
        draw: source of uniform bytes: pass `secrets.token_bytes`.

    Returns:
        The query, for the server alone; and its secret, for the authority alone.

    Raises:
        ValueError: a code that is not bool[k]; a source of bytes that repeats itself.

    Example:
        >>> import secrets
        >>> from jcbir.lattice.secret import generate_key
        >>> key = generate_key(bits=64, draw=secrets.token_bytes)
        >>> query, opener = encrypt_query(key.public, np.arange(64) > 3, draw=secrets.token_bytes)
        >>> opener.digest == query.digest
        True
    """
    v = public.parameters
    check_codes(code, shape=(v.bits,), name="code")
    seed, noise = draw_two(draw)
    signs = np.ones(v.padded, np.int64)
    signs[: v.bits] -= 2 * np.asarray(code)
    signs = signs.reshape(v.polys, v.kappa)
    d = np.zeros((v.polys, v.degree), np.int64)
    d[:, 0] = signs[:, 0]
    d[:, v.degree - np.arange(1, v.kappa)] = -signs[:, 1:]  # x^-i = -x^(n-i)
    nu = d + v.t * _sampling.binomial(derive(noise, "errors"), d.shape).astype(np.int64)
    with jax.enable_x64(True):
        values = _encrypt_query(one_time(seed, v), nu, public_half.expand(public), v)
    query = Query(public.fingerprint, pack(values.reshape(1, -1))[0])
    return query, QuerySecret(seed, query.digest)


def draw_two(draw: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    one, other = draw(SEED_BYTES), draw(SEED_BYTES)
    if one == other or len(one) != SEED_BYTES or len(other) != SEED_BYTES:
        raise ValueError(f"draw: must give {SEED_BYTES} fresh bytes, got a repeat or {len(one)} and {len(other)} bytes")
    return one, other


def check_codes(codes, *, shape: tuple, name: str) -> None:
    """Require bool of this shape: numbers would encrypt into something that decodes to plausible distances."""
    dtype, given = getattr(codes, "dtype", type(codes).__name__), tuple(getattr(codes, "shape", ()))
    if dtype != np.dtype(bool) or len(given) != len(shape) or given[-1:] != shape[-1:] or 0 in given:
        raise ValueError(f"{name}: must be bool[{', '.join(map(str, shape))}], got {dtype}{list(given)}")


def one_time(seed: bytes, v: Parameters) -> np.ndarray:
    return _sampling.ternary(derive(seed, "query"), (v.degree,))


def _encrypt_query(u, nu, public_values, v: Parameters) -> np.ndarray:
    """uint32[primes, 1, g, n]."""
    both = np.concatenate([u[None].astype(np.int64), nu])[None]
    # Indexing a JAX array takes as long as a transform.
    values = np.asarray(transform(both, v.primes, degree=v.degree))[:, None]
    return np.asarray(masked(values, public_values, v.primes))


@functools.partial(jax.jit, static_argnames="primes")
def masked(values, public_values, primes: tuple[int, ...]):
    """Values of a_j s + mu_j, uint32[primes, b, g, n], from those of s and the mu_j, [primes, b, 1 + g, n]."""
    values = values.astype(jnp.uint64)
    products = public_values[:, None].astype(jnp.uint64) * values[:, :, :1]
    return rem(products + values[:, :, 1:], primes).astype(jnp.uint32)
