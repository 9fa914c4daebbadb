"""The one-time pad of scores: the key holder decrypts uniform noise, and only the holder of the pad reads the
distances.

`E(s) E(R) = E(s + R mod n)` with R uniform below n: whatever s is, the decrypted number is uniform. The pad is
expanded from 32 bytes that the user draws and hands the server with the query; the user, who gets the noise back,
subtracts the pad and decodes. Server and key holder together could undo it; neither can alone. Use a pad key for one
query only.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int32, UInt8

from jcbir.paillier import public as paillier
from jcbir.paillier.public import PublicKey
from jcbir.ranking._decode import decode_scores
from jcbir.ranking._layouts import check_fingerprint
from jcbir.ranking._records import Scores
from jcbir.typing import Rows

KEY_BYTES = 32
DOMAIN = b"jcbir pad v1"


def expand_pad(public: PublicKey, pad_key: bytes, *, count: int) -> Rows:
    """Expand a pad key into numbers uniform below n.

    Number i is the first of the values `SHAKE-256(domain, fingerprint, pad_key, i)`, cut to the length of n, that is
    below n.

    Args:
        public: the key the scores are encrypted under.
        pad_key: 32 uniform bytes, fresh for each query.
        count: numbers wanted, one per block.

    Returns:
        uint8[count, plaintext_bytes], big-endian.

    Raises:
        ValueError: a pad key of another length, or a count below 1.

    Example:
        >>> expand_pad(PublicKey(n=9**4, g=2), bytes(32), count=3).shape
        (3, 2)

    References:
        FIPS 202, 2015 (SHAKE-256).

    """
    if len(pad_key) != KEY_BYTES:
        raise ValueError(f"pad_key: must be {KEY_BYTES} bytes, got {len(pad_key)}")
    if count < 1:
        raise ValueError(f"count: must be at least 1, got {count}")
    prefix = DOMAIN + public.fingerprint.encode() + pad_key
    width = public.plaintext_bytes
    blob = b"".join(next(_candidates(public, prefix + i.to_bytes(8))).to_bytes(width) for i in range(count))
    return np.frombuffer(blob, np.uint8).reshape(count, width)


def pad_scores(public: PublicKey, scores: Scores, pad: Rows, *, engine: str = "auto") -> Scores:
    """Add a pad to encrypted scores: `E(s_i) E(R_i)`.

    Args:
        public: the key of the scores.
        scores: encrypted scores.
        pad: one uniform number below n per block.
        engine: Paillier engine.

    Returns:
        Scores that decrypt to `s_i + R_i mod n`; decrypt them with `open.decrypt_scores`, decode them with `unpad`.

    Raises:
        KeyMismatchError: the scores belong to another key.
        ValueError: fewer pads than blocks.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import encrypt, generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> seal = lambda rows: encrypt(key, rows, draw=secrets.token_bytes)
        >>> from jcbir.ranking import plan
        >>> layout = plan(key.public, scheme="bitsliced", count=2, bits=8)
        >>> scores = Scores(layout, key.public.fingerprint, seal([3 + 5 * 9]))
        >>> pad = expand_pad(key.public, bytes(32), count=1)
        >>> pad_scores(key.public, scores, pad).ciphertexts.shape == scores.ciphertexts.shape
        True

    """
    check_fingerprint(public, scores.fingerprint, name="scores")
    blocks = len(scores.ciphertexts)
    if len(pad) < blocks:
        raise ValueError(f"pad: must be at least one row for each of {blocks} blocks, got {len(pad)}")
    one = np.zeros((blocks, scores.ciphertexts.shape[1]), np.uint8)
    one[:, -1] = 1
    encrypted = paillier.encrypt(public, pad[:blocks], blinders=one, engine=engine)
    return scores._replace(ciphertexts=paillier.add(public, scores.ciphertexts, encrypted, engine=engine))


def unpad(
    public: PublicKey, noise: UInt8[np.ndarray, "b w"], pad: UInt8[np.ndarray, "m w"], scores: Scores
) -> Int32[np.ndarray, " n"]:
    """Recover the distances from decrypted noise: `s_i = noise_i - R_i mod n`, decoded.

    Args:
        public: the key of the scores.
        noise: what the key holder decrypted, one number below n per block.
        pad: the pad that was added.
        scores: the padded scores (their layout and live marks; the ciphertexts are not used).

    Returns:
        What `open.open_scores` would have returned for the scores without a pad.

    Raises:
        KeyMismatchError: the scores belong to another key.
        ValueError: another number of rows than blocks, or the difference is not a score of this layout (the wrong
            pad).

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import encrypt, generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> seal = lambda rows: encrypt(key, rows, draw=secrets.token_bytes)
        >>> from jcbir.ranking import plan
        >>> layout = plan(key.public, scheme="bitsliced", count=2, bits=8)
        >>> scores = Scores(layout, key.public.fingerprint, seal([3 + 5 * 9]))
        >>> from jcbir.ranking._open import decrypt_scores
        >>> pad = expand_pad(key.public, bytes(32), count=1)
        >>> noise = decrypt_scores(key, pad_scores(key.public, scores, pad))
        >>> unpad(key.public, noise, pad, scores).tolist()
        [3, 5]

    """
    check_fingerprint(public, scores.fingerprint, name="scores")
    blocks = scores.layout.blocks
    if len(noise) != blocks or len(pad) < blocks:
        raise ValueError(f"noise: must be {blocks} rows with as many pads, got {len(noise)} and {len(pad)}")
    pairs = zip(noise, pad[:blocks], strict=True)
    plain = [(int.from_bytes(a.tobytes()) - int.from_bytes(b.tobytes())) % public.n for a, b in pairs]
    blob = b"".join(value.to_bytes(public.plaintext_bytes) for value in plain)
    rows = np.frombuffer(blob, np.uint8).reshape(blocks, public.plaintext_bytes)
    return decode_scores(rows, scores.layout, modulus=public.n, live=scores.live)


def _candidates(public: PublicKey, prefix: bytes) -> Iterator[int]:
    """Values of the length of n, below n, from one SHAKE-256 stream; half of them are used at worst."""
    width = public.plaintext_bytes
    for blocks in range(1, 1 << 16):
        stream = hashlib.shake_256(prefix).digest(width * blocks)[-width:]
        value = int.from_bytes(stream) >> (8 * width - public.bits)
        if value < public.n:
            yield value
