"""The secret half of the lattice scheme: the owner's index, the user's query, the opening at the key's holder.

Block secrets s_b come from the master key and a random nonce of their segment, a query's secret u from a seed of its
own; each is used once. With c_bj and d_j as in `public`, and the owner's hint K_b = sum_j a_j (m_bj + t e_bj),

    P_b - s_b Q - u K_b = sum_j m_bj D_j + t (noise + F_b)

because c d = (a s + mu) d = s (a d) + mu d and mu d = u (a mu) + mu nu. The right side modulo t holds the distances.

**A hint must never reach the server:** sum_j a_j c_bj - K_b = s_b sum_j a_j^2 would be a sample of the block's secret
with no error but the rounding of K_b, which no argument here covers. **A query must never reach the authority**, which
reads it with u.

Secrets are plain bytes and arrays in this process's memory; nothing here is constant time.
"""

import functools
import itertools
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int32, UInt8

from jcbir.errors import FormatError, IntegrityError, KeyMismatchError
from jcbir.lattice import _sampling, public as public_half
from jcbir.lattice._bits import pack, unpack
from jcbir.lattice._parameters import CHUNKS, KEEP, Parameters, bounds, chunk_sizes, filled, parameters
from jcbir.lattice._query import (
    QuerySecret as QuerySecret,
    check_codes,
    draw_two,
    encrypt_query as encrypt_query,
    masked,
    one_time,
)
from jcbir.lattice._ring import centered, inner, mod, rem, switch, transform
from jcbir.lattice._sampling import derive
from jcbir.lattice.public import Index, PublicKey, Reply, check_fingerprint
from jcbir.typing import Array


@dataclass(frozen=True, repr=False)
class SecretKey:
    """What the owner and the holder of a collection's key share.

    Attributes:
        public: the public half.
        master: 32 secret bytes; with a segment's nonce they give its block secrets.
    """

    public: PublicKey
    master: bytes

    def __repr__(self) -> str:
        return f"SecretKey(fingerprint={self.public.fingerprint[:16]}, secrets redacted)"


@dataclass(frozen=True, repr=False, eq=False)
class Segment:
    """What opens the replies of one segment: goes from the owner to the authority, and nowhere else.

    Attributes:
        fingerprint: of the public key.
        name: public name of the segment, 32 bytes.
        count: images of the segment.
        nonce: 32 secret bytes; keep them wrapped, and destroy them to shred the segment.
        hints: uint8[blocks, hint_bytes], secret as well.
    """

    fingerprint: str
    name: bytes
    count: int
    nonce: bytes
    hints: UInt8[np.ndarray, "b h"]

    def __repr__(self) -> str:
        return f"Segment(name={self.name.hex()[:16]}, count={self.count}, secrets redacted)"


@dataclass(frozen=True, repr=False, eq=False)
class PreparedSegment:
    """A segment as the authority computes with it.

    Attributes:
        fingerprint: of the public key.
        name: of the segment.
        count: images of the segment.
        sentinels: bool[blocks, width], where the zeros are.
        chunks: uint32[16, 4 or 1, 2, 2 kappa, width], for each of the reply's primes values of a block's secret, and
            behind them those of its hint; zeros behind the last block.
    """

    fingerprint: str
    name: bytes
    count: int
    sentinels: Bool[np.ndarray, "b w"]
    chunks: tuple[jax.Array, ...]

    def __repr__(self) -> str:
        return f"PreparedSegment(name={self.name.hex()[:16]}, count={self.count}, secrets redacted)"


def generate_key(*, bits: int, draw: Callable[[int], bytes]) -> SecretKey:
    """Draw the keys of a collection.

    Args:
        bits: code length k, 8 to 512.
        draw: source of uniform bytes: pass `secrets.token_bytes`.

    Returns:
        The key.

    Raises:
        ValueError: another code length, or a source that repeats itself.

    Example:
        >>> import secrets
        >>> generate_key(bits=64, draw=secrets.token_bytes).public.parameters.lanes
        6
    """
    seed, master = draw_two(draw)
    return SecretKey(PublicKey(parameters(bits=bits), seed), master)


def encrypt_index(
    secret: SecretKey, codes: Bool[Array, "n k"], *, draw: Callable[[int], bytes], used: Container[bytes]
) -> tuple[Index, Segment]:
    """Encrypt codes into one segment of an index: each block under a secret of its own.

    `c_bj = a_j s_b + m_bj + t e_bj`, `m_bj = -1/2 divisor sum_(r, i, l) h[r, l, j kappa + i] (k + 1)^l x^(kappa r + i)`
    modulo t, h = 1 for a zero bit, -1 for a one, 0 at sentinels and where no image is.

    To append, encrypt a new segment; never change one. Nothing of an earlier segment is used again: the nonce and the
    seed of the errors are drawn here, and the latter is forgotten.

    Args:
        secret: the collection's key.
        codes: bool[n, k], at least one.
        draw: source of uniform bytes: pass `secrets.token_bytes`.
        used: names of all segments ever made with this key; one that comes again is refused.

    Returns:
        The blocks for the server, and what the authority opens replies with.

    Raises:
        ValueError: codes that are not bool[n, k]; a source of bytes that repeats a nonce.

    Example:
        >>> import secrets
        >>> key = generate_key(bits=64, draw=secrets.token_bytes)
        >>> index, segment = encrypt_index(key, np.eye(64, dtype=bool), draw=secrets.token_bytes, used=())
        >>> segment.count, index.rows.shape == (1, key.public.parameters.block_bytes)
        (64, True)

    References:
        Brakerski and Vaikuntanathan, 2011 (the hints' and blocks' assumption). Yasuda et al., 2013 (the packing).
    """
    v, k = secret.public.parameters, secret.public.parameters.bits
    check_codes(codes, shape=("n", k), name="codes")
    nonce, noise = draw_two(draw)
    name = derive(nonce, "segment name")
    if name in used:
        raise ValueError(f"draw: must give a fresh nonce, got that of segment {name.hex()[:16]}")
    blocks = -(-len(codes) // v.images)
    block_seed, codes, start = _block_seed(secret, nonce), np.asarray(codes), 0
    rows, hints = np.empty((blocks, v.block_bytes), np.uint8), np.empty((blocks, v.hint_bytes), np.uint8)
    public_values = public_half.expand(secret.public)
    with jax.enable_x64(True):
        for size in chunk_sizes(blocks):
            chunk = range(start, min(start + size, blocks))
            e = np.stack([_sampling.binomial(derive(noise, "errors", b), (v.polys, v.degree)) for b in chunk])
            symbols = _symbols(codes[start * v.images : chunk.stop * v.images], _sentinels(block_seed, chunk, v), v)
            given = (filled(part, size) for part in (symbols, e, _block_secrets(block_seed, chunk, v)))
            body, hint = (part[: len(chunk)] for part in _encrypt(*given, public_values, v))
            rows[start : chunk.stop] = pack(body.reshape(len(chunk), -1))
            hints[start : chunk.stop] = pack(hint.reshape(len(chunk), -1))
            start = chunk.stop
    fingerprint = secret.public.fingerprint
    return Index(fingerprint, name, rows), Segment(fingerprint, name, len(codes), nonce, hints)


def prepare(secret: SecretKey, segment: Segment) -> PreparedSegment:
    """Derive the block secrets of a segment and transform them: once, when an authority starts.

    Args:
        secret: the collection's key.
        segment: from `encrypt_index`.

    Returns:
        The segment, ready to open replies.

    Raises:
        KeyMismatchError: the segment is of another key, or its nonce is another segment's.
        FormatError: no image; hints of another number or width, or residues that are none.

    Example:
        >>> import secrets
        >>> key = generate_key(bits=64, draw=secrets.token_bytes)
        >>> _, segment = encrypt_index(key, np.eye(64, dtype=bool), draw=secrets.token_bytes, used=())
        >>> int(prepare(key, segment).sentinels.sum())
        4
    """
    v, blocks = secret.public.parameters, -(-segment.count // secret.public.parameters.images)
    check_fingerprint(secret.public, segment.fingerprint, name="segment")
    if segment.count < 1:
        raise FormatError(f"segment: must have at least one image, got {segment.count}")
    if derive(segment.nonce, "segment name") != segment.name:
        raise KeyMismatchError(f"segment: must have the nonce of {segment.name.hex()[:16]}, got another")
    if len(segment.hints) != blocks:
        raise FormatError(f"segment: must have {blocks} hints for {segment.count} images, got {len(segment.hints)}")
    hints = unpack(segment.hints, (KEEP, v.degree), primes=v.primes[:KEEP], name="segment")
    block_seed, chunks, start = _block_seed(secret, segment.nonce), [], 0
    with jax.enable_x64(True):
        for size in chunk_sizes(blocks):
            s = _block_secrets(block_seed, range(start, min(start + size, blocks)), v)
            chunks.append(_values_with(filled(s, size), filled(hints[start : start + size], size), v))
            start += size
    return PreparedSegment(
        segment.fingerprint, segment.name, segment.count, _sentinels(block_seed, range(blocks), v), tuple(chunks)
    )


def open_distances(
    secret: SecretKey,
    segments: Sequence[PreparedSegment],
    reply: Reply,
    query: QuerySecret,
    *,
    answered: Container[bytes],
) -> Int32[np.ndarray, " n"]:
    """Open a reply into distances, after every check has passed.

    `phase = P_b - s_b Q - u K_b` modulo p_0 p_1, centered; `(phase + K/2 sum_l (k + 1)^l) mod t = sum_l d_l (k + 1)^l`.

    A server that puts another Q or P into its reply would learn of s_b from which images come out. Sentinels, and slots
    without an image, hold zeros and so decode to K/2 whatever the query; a change of Q by c x^i, c no multiple of t,
    moves each of them with probability 2/3. After an `IntegrityError`, answer nothing more of this server until it is
    explained.

    Args:
        secret: the collection's key.
        segments: from `prepare`, in the order of the reply.
        reply: from the server.
        query: the secret that the user sealed for this query.
        answered: names of the query secrets answered before; the caller notes `query.name` before it releases anything.

    Returns:
        int32[n] exact Hamming distances 0..k, segment after segment.

    Raises:
        KeyMismatchError: the reply or a segment is of another key, of other segments, or answers another query.
        FormatError: a reply of another length, or residues that are none.
        ValueError: the query was answered before.
        IntegrityError: a phase beyond its bound, a digit beyond k, or a zero that does not decode to K/2.

    Example:
        >>> import secrets
        >>> key = generate_key(bits=64, draw=secrets.token_bytes)
        >>> index, segment = encrypt_index(key, np.eye(64, dtype=bool)[:3], draw=secrets.token_bytes, used=())
        >>> query, opener = encrypt_query(key.public, np.arange(64) == 1, draw=secrets.token_bytes)
        >>> server = public_half.prepare(key.public, index)
        >>> reply = public_half.score(key.public, [server], query, draw=secrets.token_bytes)
        >>> open_distances(key, [prepare(key, segment)], reply, opener, answered=()).tolist()
        [2, 0, 2]
    """
    v = secret.public.parameters
    _check_reply(secret.public, segments, reply, query, answered)
    rows = unpack(reply.rows, (KEEP, v.width), primes=v.primes[:KEEP], name="reply")
    shared = unpack(reply.shared[None], (KEEP, v.degree), primes=v.primes[:KEEP], name="reply")[0]
    largest, digits = bounds(v, unsafe_small=True).phase, []
    with jax.enable_x64(True):
        pair = _open_shared(one_time(query.seed, v), shared, v)
        for chunk, here in _batches(segments, rows):
            farthest, found = _open(chunk, pair, filled(here, len(chunk)), v)
            if int(farthest) > largest:
                raise IntegrityError(f"reply: must have phases up to {largest}, got {int(farthest)}")
            digits.append(np.moveaxis(np.asarray(found), 0, -1)[: len(here)])
    ends = np.cumsum([len(segment.sentinels) for segment in segments])
    parts = np.split(np.concatenate(digits), ends[:-1])
    return np.concatenate([_read(part, segment, v) for part, segment in zip(parts, segments, strict=True)])


def _check_reply(
    public: PublicKey, segments: Sequence[PreparedSegment], reply: Reply, query: QuerySecret, answered: Container[bytes]
) -> None:
    if not segments:
        raise ValueError(f"segments: must be at least one, got {len(segments)}")
    check_fingerprint(public, reply.fingerprint, name="reply")
    for segment in segments:
        check_fingerprint(public, segment.fingerprint, name="segments")
    if reply.query != query.digest:
        raise KeyMismatchError(f"reply: must answer query {query.digest.hex()[:16]}, got {reply.query.hex()[:16]}")
    if query.name in answered:
        raise ValueError(f"query: must be one not answered before, got {query.digest.hex()[:16]}")
    names, theirs = [segment.name for segment in segments], [name for name, _ in reply.segments]
    if theirs != names or len(set(names)) < len(names):
        raise KeyMismatchError(
            f"reply: must be of segments {[n.hex()[:16] for n in names]}, got {[n.hex()[:16] for n in theirs]}"
        )
    blocks, given = [len(segment.sentinels) for segment in segments], [count for _, count in reply.segments]
    if given != blocks or len(reply.rows) != sum(blocks):
        raise FormatError(f"reply: must have {blocks} blocks, got {given} in {len(reply.rows)} rows")


def _block_seed(secret: SecretKey, nonce: bytes) -> bytes:
    return derive(secret.master, f"segment {nonce.hex()}")


def _block_secrets(block_seed: bytes, blocks: range, v: Parameters) -> np.ndarray:
    """int8[blocks, n]."""
    return np.stack([_sampling.ternary(derive(block_seed, "block", b), (v.degree,)) for b in blocks])


def _sentinels(block_seed: bytes, blocks: range, v: Parameters) -> np.ndarray:
    """bool[blocks, width], uniform places of each block."""
    orders = [np.argsort(_sampling.words(derive(block_seed, "sentinels", b), v.width), kind="stable") for b in blocks]
    marked = np.zeros((len(orders), v.width), bool)
    np.put_along_axis(marked, np.stack(orders)[:, : v.sentinels], True, axis=1)
    return marked


def _symbols(codes: np.ndarray, sentinels: np.ndarray, v: Parameters) -> np.ndarray:
    """int8[blocks, width, L, K]: 1, -1 and, where there is no image, 0."""
    flat = np.zeros((len(sentinels) * v.images, v.padded), np.int8)
    flat[: len(codes)] = 1
    flat[: len(codes), : v.bits] -= 2 * codes.astype(np.int8)
    symbols = np.zeros((*sentinels.shape, v.lanes, v.padded), np.int8)
    symbols[~sentinels] = flat.reshape(-1, v.lanes, v.padded)
    return symbols


def _read(digits: np.ndarray, segment: PreparedSegment, v: Parameters) -> np.ndarray:
    """Distances of the images of a segment, once its zeros are zeros."""
    images = digits[~segment.sentinels].reshape(-1)
    zeros = np.concatenate([digits[segment.sentinels].reshape(-1), images[segment.count :]])
    if digits.max() > v.bits or (zeros != v.padded // 2).any():
        raise IntegrityError(
            f"reply: must decode to {v.padded // 2} at every zero of segment {segment.name.hex()[:16]}, got another"
        )
    return images[: segment.count]


def _encrypt(symbols, e, s, public_values, v: Parameters):
    """uint32[b, primes, K, width] and the hints, uint32[b, 2, n]."""
    blocks, primes, kept = len(symbols), v.primes, v.primes[:KEEP]
    # Indexing a JAX array takes as long as a transform.
    values = np.asarray(transform(_plain(symbols, e, s, v), primes, degree=v.degree))
    values = values.reshape(len(primes), blocks, 1 + v.polys, v.degree)
    body = np.swapaxes(np.asarray(masked(values, public_values, primes)), 0, 1)
    hint = inner(np.swapaxes(values[:, :, 1:], 0, 1), public_values, primes)
    hint = switch(transform(hint, primes, degree=v.degree, inverse=True), primes, v.t, keep=KEEP)
    return body, np.swapaxes(np.asarray(transform(hint, kept, degree=v.degree)), 0, 1)


@functools.partial(jax.jit, static_argnames="v")
def _plain(symbols, e, s, v: Parameters):
    """int64[1, b (1 + g), n]: of each block its secret, and behind it mu_bj."""
    # -1/2 modulo t is (t - 1)/2; the divisor of modulus switching is folded in. A sum of L numbers below t fits.
    weights = [(v.t // 2) * v.divisor * v.base**lane % v.t for lane in range(v.lanes)]
    total = sum(symbols[:, :, lane].astype(jnp.int64) * weight for lane, weight in enumerate(weights))
    m = centered(jnp.mod(total, v.t), v.t).reshape(-1, v.width, v.polys, v.kappa)
    mu = jnp.swapaxes(m, 1, 2).reshape(e.shape) + v.t * e.astype(jnp.int64)
    return jnp.concatenate([s[:, None].astype(jnp.int64), mu], axis=1).reshape(1, -1, v.degree)


def _values_with(s, hints, v: Parameters) -> jax.Array:
    """uint32[b, 2, 2 kappa, width]: for each prime values of the secret, and behind them those of the hint."""
    values = np.swapaxes(np.asarray(transform(s[None], v.primes[:KEEP], degree=v.degree)), 0, 1)
    return jnp.asarray(np.concatenate([values, hints], axis=2).reshape(-1, KEEP, 2 * v.kappa, v.width))


def _open_shared(u, shared, v: Parameters) -> np.ndarray:
    """uint32[2, 2 kappa, width]: values of Q, and behind them those of u."""
    both = np.stack([shared.astype(np.int64), np.broadcast_to(u.astype(np.int64), shared.shape)], axis=1)
    values = np.asarray(transform(both, v.primes[:KEEP], degree=v.degree))
    return values.reshape(KEEP, 2 * v.kappa, v.width)


def _batches(segments: Sequence[PreparedSegment], rows: np.ndarray) -> Iterator[tuple[Array, np.ndarray]]:
    """Chunks, and the rows that they open; blocks of short segments that follow each other are put together."""
    parts, first = [], 0
    for segment in segments:
        left = len(segment.sentinels)
        for chunk in segment.chunks:
            parts.append((chunk, min(len(chunk), left)))
            left -= len(chunk)
    for whole, run in itertools.groupby(parts, key=lambda part: part[1] == CHUNKS[0]):
        batches = list(run)
        if not whole and len(batches) > 1:
            blocks, batches = [block for chunk, held in batches for block in np.asarray(chunk)[:held]], []
            for size in chunk_sizes(len(blocks)):
                taken, blocks = blocks[:size], blocks[size:]
                batches.append((filled(np.stack(taken), size), len(taken)))
        for chunk, held in batches:
            yield chunk, rows[first : first + held]
            first += held


def _open(chunk, pair, rows, v: Parameters):
    """The largest |phase|, and int32[L, b, width] digits; the highest is not reduced, so an excess shows."""
    primes = v.primes[:KEEP]
    shares = inner(chunk, pair, primes)
    return _digits(transform(shares, primes, degree=v.degree, inverse=True), rows, v)


@functools.partial(jax.jit, static_argnames="v")
def _digits(shares, rows, v: Parameters):
    primes, (p, second) = v.primes[:KEEP], v.primes[:KEEP]
    shares, rows = shares.astype(jnp.uint64), jnp.swapaxes(rows, 0, 1).astype(jnp.uint64)
    x, y = (rem((rows[i] + jnp.uint64(prime) - shares[i])[None], (prime,)) for i, prime in enumerate(primes))
    # The one number below p_0 p_1 < 2^58 with these residues; p_0 < 2 p_1.
    lifted = rem((y + jnp.uint64(2 * second) - x) * jnp.uint64(pow(p, -1, second)), (second,))
    phase = centered(x + jnp.uint64(p) * lifted, p * second)[0]
    half = v.padded // 2 * sum(v.base**lane for lane in range(v.lanes))

    def lane(left, _):
        digit = mod(left, (v.base,))
        return (left - digit) / v.base, digit

    # Below 2^47: float64 divides a multiple exactly.
    last, digits = jax.lax.scan(lane, jnp.mod(phase + half, v.t).astype(jnp.float64), length=v.lanes - 1)
    return jnp.abs(phase).max(), jnp.concatenate([digits, last[None]]).astype(jnp.int32)


__all__ = [
    "PreparedSegment",
    "QuerySecret",
    "SecretKey",
    "Segment",
    "encrypt_index",
    "encrypt_query",
    "generate_key",
    "open_distances",
    "prepare",
]
