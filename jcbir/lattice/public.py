"""The public half of the lattice scheme: parameters, records, and everything that a server runs, without any secret.

With public polynomials a_j, blocks c_bj = a_j s_b + m_bj + t e_bj and a query d_j = a_j u + D_j + t f_j, j < g, in
Z_q[x]/(x^n + 1), a server computes for each block the useful coefficients of P_b, and once per query Q:

    P_b = sum_j c_bj d_j + t F_b        Q = sum_j a_j d_j

F_b is a fresh flood that hides everything of the sum but the distances. Both are switched to two primes before they
leave. Residues at rest and on the wire are packed, 29 bits each: rows of bytes that slice, memory-map and travel.

Security is that of ring learning with errors against parties that follow the protocol; it is reviewed by no outside
cryptographer. docs/lattice.md has the proof, what is assumed, and what a server that deviates can do.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from jcbir.errors import FormatError, KeyMismatchError
from jcbir.lattice import _sampling
from jcbir.lattice._bits import pack, unpack
from jcbir.lattice._parameters import KEEP, Bounds, Parameters, bounds, chunk_sizes, filled, parameters
from jcbir.lattice._ring import column, inner, rem, switch, transform
from jcbir.lattice._sampling import SEED_BYTES


class PublicKey(NamedTuple):
    """The public polynomials of a collection, as a seed that each party expands for itself.

    Attributes:
        parameters: the parameter set.
        seed: 32 public bytes, drawn once per collection and epoch.
    """

    parameters: Parameters
    seed: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key in hexadecimal: carried by all that is encrypted for this collection."""
        v = self.parameters
        numbers = (v.bits, v.degree, v.lanes, v.polys, v.flood, v.sentinels, *v.primes)
        return hashlib.sha256(b"jcbir lattice public key 1" + repr(numbers).encode() + self.seed).hexdigest()


class Index(NamedTuple):
    """The encrypted blocks of one segment: what the owner uploads and the server stores.

    Attributes:
        fingerprint: of the public key.
        segment: public name of the segment, 32 bytes; no two have the same.
        rows: uint8[blocks, block_bytes]; a range of them is a part for one worker.
    """

    fingerprint: str
    segment: bytes
    rows: UInt8[np.ndarray, "b c"]


class Query(NamedTuple):
    """An encrypted query: what the user sends the server.

    Attributes:
        fingerprint: of the public key.
        body: uint8[query_bytes].
    """

    fingerprint: str
    body: UInt8[np.ndarray, " c"]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the query, 32 bytes: what a reply, and the secret sealed to the authority, name it by."""
        return hashlib.sha256(b"jcbir lattice query 1" + self.fingerprint.encode() + self.body.tobytes()).digest()


class Prepared(NamedTuple):
    """Blocks of an index as a server computes with them, in memory or on its accelerator.

    Attributes:
        fingerprint: of the public key.
        segment: name of the segment.
        blocks: how many.
        chunks: uint32[16, 4 or 1, primes, K, width] values, zeros behind the last block.
    """

    fingerprint: str
    segment: bytes
    blocks: int
    chunks: tuple[jax.Array, ...]


class Reply(NamedTuple):
    """What the server sends the authority: one flooded polynomial per block, and one that all share.

    Attributes:
        fingerprint: of the public key.
        query: digest of the query that was scored.
        segments: (name, blocks) of each segment, in the order of the rows.
        rows: uint8[blocks, reply_block_bytes].
        shared: uint8[reply_shared_bytes].
    """

    fingerprint: str
    query: bytes
    segments: tuple[tuple[bytes, int], ...]
    rows: UInt8[np.ndarray, "b c"]
    shared: UInt8[np.ndarray, " s"]


class Cost(NamedTuple):
    """Bytes of an index and of one query, before they are paid.

    Attributes:
        blocks: blocks of the index.
        index: the index at rest.
        prepared: the index in the server's memory.
        hints: the hints at the authority, at rest.
        query: one query on the wire.
        reply: one reply on the wire.
    """

    blocks: int
    index: int
    prepared: int
    hints: int
    query: int
    reply: int


def cost(parameters: Parameters, *, count: int) -> Cost:
    """Predict the bytes of one segment of N images and of one query against it.

    `blocks = ceil(N / images)`; an index is `blocks g n log2(q)` bits at 29 bits a residue.

    Args:
        parameters: the parameter set.
        count: images N of the segment, at least 1.

    Returns:
        The bytes.

    Raises:
        ValueError: no image.

    Example:
        >>> cost(parameters(bits=64), count=100_000).reply
        183744
    """
    if count < 1:
        raise ValueError(f"count: must be at least 1, got {count}")
    v, blocks = parameters, -(-count // parameters.images)
    held = sum(chunk_sizes(blocks)) * len(v.primes) * v.padded * v.width * 4
    reply = blocks * v.reply_block_bytes + v.reply_shared_bytes
    return Cost(blocks, blocks * v.block_bytes, held, blocks * v.hint_bytes, v.query_bytes, reply)


def check_public(public: PublicKey, *, unsafe_small: bool = False) -> Bounds:
    """Refuse a foreign public key whose parameters do not keep their promises, or whose seed has another length.

    What cannot be checked: that the seed was drawn afresh. Polynomials are never accepted as values.

    Args:
        public: the key.
        unsafe_small: as in `bounds`.

    Returns:
        What the parameters guarantee.

    Raises:
        CapacityError: as `bounds`.
        ValueError: as `bounds`; a seed of another length.

    Example:
        >>> round(check_public(PublicKey(parameters(bits=64), bytes(32))).flooding)
        57
    """
    if not isinstance(public.seed, bytes) or len(public.seed) != SEED_BYTES:
        raise ValueError(f"seed: must be {SEED_BYTES} bytes, got {len(public.seed)}")
    return bounds(public.parameters, unsafe_small=unsafe_small)


def prepare(public: PublicKey, index: Index) -> Prepared:
    """Unpack the blocks of an index, or of a part of it, into memory: once, when a server starts.

    Args:
        public: the key of the index.
        index: the blocks; the rows may be memory-mapped.

    Returns:
        The blocks in chunks.

    Raises:
        KeyMismatchError: the index belongs to another key.
        FormatError: rows of another width, or residues that are none.

    Example:
        >>> from jcbir.lattice import secret
        >>> import secrets
        >>> key = secret.generate_key(bits=64, draw=secrets.token_bytes)
        >>> index, _ = secret.encrypt_index(key, np.eye(64, dtype=bool), draw=secrets.token_bytes, used=())
        >>> prepare(key.public, index).blocks
        1
    """
    v = public.parameters
    check_fingerprint(public, index.fingerprint, name="index")
    shape, chunks, start = (len(v.primes), v.padded, v.width), [], 0
    for size in chunk_sizes(len(index.rows)):
        values = unpack(index.rows[start : start + size], shape, primes=v.primes, name="index")
        chunks.append(jnp.asarray(filled(values, size)))
        start += size
    return Prepared(public.fingerprint, index.segment, len(index.rows), tuple(chunks))


def score(public: PublicKey, parts: Sequence[Prepared], query: Query, *, draw: Callable[[int], bytes]) -> Reply:
    """Score every image of an index against an encrypted query.

    Args:
        public: the key.
        parts: the segments of the index, or consecutive parts of them, in the order the authority knows them.
        query: the encrypted query.
        draw: source of uniform bytes for the floods, such as `secrets.token_bytes`.

    Returns:
        The reply; an authority opens it with `secret.open_distances`.

    Raises:
        KeyMismatchError: an index or the query belongs to another key.
        FormatError: a query of another length, or residues that are none.
        ValueError: no blocks.

    Example:
        >>> from jcbir.lattice import secret
        >>> import secrets
        >>> key = secret.generate_key(bits=64, draw=secrets.token_bytes)
        >>> index, _ = secret.encrypt_index(key, np.eye(64, dtype=bool), draw=secrets.token_bytes, used=())
        >>> query, _ = secret.encrypt_query(key.public, np.eye(64, dtype=bool)[0], draw=secrets.token_bytes)
        >>> reply = score(key.public, [prepare(key.public, index)], query, draw=secrets.token_bytes)
        >>> reply.rows.shape == (1, key.public.parameters.reply_block_bytes)
        True
    """
    if not parts:
        raise ValueError(f"parts: must be at least one, got {len(parts)}")
    segments: list[tuple[bytes, int]] = []
    for part in parts:
        before = segments.pop()[1] if segments and segments[-1][0] == part.segment else 0
        segments.append((part.segment, before + part.blocks))
    rows = np.concatenate([score_blocks(public, part, query, draw=draw) for part in parts])
    return Reply(public.fingerprint, query.digest, tuple(segments), rows, score_shared(public, query))


def score_blocks(
    public: PublicKey, part: Prepared, query: Query, *, draw: Callable[[int], bytes]
) -> UInt8[np.ndarray, "b c"]:
    """Score some blocks: what one worker computes of a `Reply`.

    `P_b = sum_j c_bj d_j + t F_b`, useful coefficients only: one inner product of length K at each of n/kappa points,
    one inverse transform, a flood F_b that is the sum of two numbers uniform in [-2^(flood-1), 2^(flood-1)), a switch
    of moduli.

    Args:
        public: the key.
        part: the blocks.
        query: the encrypted query.
        draw: source of uniform bytes, such as `secrets.token_bytes`.

    Returns:
        uint8[blocks, reply_block_bytes].

    Raises:
        KeyMismatchError: as `score`.
        FormatError: as `score`.

    Example:
        >>> public = PublicKey(parameters(bits=64), bytes(32))
        >>> query = Query(public.fingerprint, np.zeros(public.parameters.query_bytes, np.uint8))
        >>> index = Index(public.fingerprint, bytes(32), np.zeros((2, public.parameters.block_bytes), np.uint8))
        >>> score_blocks(public, prepare(public, index), query, draw=lambda count: bytes(count)).shape
        (2, 1856)
    """
    check_fingerprint(public, part.fingerprint, name="part")
    v = public.parameters
    values = jnp.asarray(_query_values(public, query).reshape(len(v.primes), v.padded, v.width))
    rows = np.empty((part.blocks, v.reply_block_bytes), np.uint8)
    start = 0
    with jax.enable_x64(True):
        for chunk in part.chunks:
            size = len(chunk)
            words = _sampling.words(draw(SEED_BYTES), size * 4 * v.width).reshape(size, 4, v.width)
            switched = np.swapaxes(np.asarray(_score(chunk, values, words, v)), 0, 1)[: part.blocks - start]
            rows[start : start + size] = pack(switched.reshape(len(switched), -1))
            start += size
    return rows


def score_shared(public: PublicKey, query: Query) -> UInt8[np.ndarray, " s"]:
    """Compute the part of a `Reply` that depends on the query alone: Q = sum_j a_j d_j.

    Args:
        public: the key.
        query: the encrypted query.

    Returns:
        uint8[reply_shared_bytes].

    Raises:
        KeyMismatchError: as `score`.
        FormatError: as `score`.

    Example:
        >>> public = PublicKey(parameters(bits=64), bytes(32))
        >>> query = Query(public.fingerprint, np.zeros(public.parameters.query_bytes, np.uint8))
        >>> score_shared(public, query).any()
        np.False_
    """
    values = _query_values(public, query)
    with jax.enable_x64(True):
        shared = _score_shared(values, expand(public), public.parameters)
        return pack(shared.reshape(1, -1))[0]


def check_fingerprint(public: PublicKey, fingerprint: str, *, name: str) -> None:
    """Require that something belongs to this key.

    Args:
        public: the key.
        fingerprint: what the thing carries.
        name: what to call it in the error.

    Raises:
        KeyMismatchError: the fingerprint is another key's.

    Example:
        >>> public = PublicKey(parameters(bits=64), bytes(32))
        >>> check_fingerprint(public, public.fingerprint, name="index")
    """
    if fingerprint != public.fingerprint:
        raise KeyMismatchError(f"{name}: must be of key {public.fingerprint[:16]}, got {fingerprint[:16]}")


def expand(public: PublicKey) -> np.ndarray:
    """Expand the seed into the values of the public polynomials a_j.

    Args:
        public: the key.

    Returns:
        uint32[primes, g, n], residues modulo each prime.

    Example:
        >>> expand(PublicKey(parameters(bits=64), bytes(32))).shape
        (5, 2, 8192)
    """
    v = public.parameters
    return _expand(public.seed, v.primes, (v.polys, v.degree))


@functools.lru_cache(maxsize=8)
def _expand(seed: bytes, primes: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    expanded = np.stack([_sampling.residues(_sampling.derive(seed, "a", p), p, shape) for p in primes])
    expanded.flags.writeable = False
    return expanded


def _query_values(public: PublicKey, query: Query) -> np.ndarray:
    v = public.parameters
    check_fingerprint(public, query.fingerprint, name="query")
    if query.body.shape != (v.query_bytes,):
        raise FormatError(f"query: must be {v.query_bytes} bytes, got {query.body.shape}")
    return unpack(query.body[None], (len(v.primes), v.polys, v.degree), primes=v.primes, name="query")[0]


def _score(chunk, query, words, v: Parameters) -> jax.Array:
    """uint32[2, chunk, width]."""
    products = inner(chunk, query, v.primes)
    useful = transform(products, v.primes, degree=v.degree, inverse=True)
    return switch(_flooded(useful, words, v), v.primes, v.t, keep=KEEP)


@functools.partial(jax.jit, static_argnames="v")
def _flooded(useful, words, v: Parameters):
    """uint64[primes, chunk, width]."""
    wide, primes = jnp.uint64, v.primes
    # F + 2^flood = two numbers uniform below 2^flood, each of a high and a low word's top bits.
    low = v.flood // 2
    upper, lower = words[None, :, 0::2] >> wide(64 - v.flood + low), words[None, :, 1::2] >> wide(64 - low)
    flood = rem(upper.sum(2), primes) * column([(v.t << low) % p for p in primes], 3)
    flood = flood + rem(lower.sum(2), primes) * column([v.t % p for p in primes], 3)
    return rem(useful.astype(wide) + flood + column([-(v.t << v.flood) % p for p in primes], 3), primes)


def _score_shared(query, public_values, v: Parameters) -> np.ndarray:
    """uint32[2, 1, n], coefficients."""
    products = inner(public_values[None], query, v.primes)
    useful = transform(products, v.primes, degree=v.degree, inverse=True)
    return np.asarray(switch(useful, v.primes, v.t, keep=KEEP))


__all__ = [
    "Bounds",
    "Cost",
    "Index",
    "Parameters",
    "Prepared",
    "PublicKey",
    "Query",
    "Reply",
    "bounds",
    "check_fingerprint",
    "check_public",
    "cost",
    "expand",
    "parameters",
    "prepare",
    "score",
    "score_blocks",
    "score_shared",
]
