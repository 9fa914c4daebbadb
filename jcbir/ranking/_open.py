"""What the key holder computes: decrypt the scores and read the distances.

The blocks can be shared among worker processes: `decrypt` is a closure from ciphertext rows to plaintext rows, as
`encrypt` is when an index is built.

    with Workers(os.cpu_count()) as pool:
        open_scores(key, scores, decrypt=lambda rows: workers.decrypt(key, rows, workers=pool))
"""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Int32

from jcbir.paillier import secret as paillier
from jcbir.paillier.secret import SecretKey
from jcbir.ranking import integer
from jcbir.ranking._batching import in_filled_batches
from jcbir.ranking._decode import decode_scores
from jcbir.ranking._layouts import check_fingerprint, check_layout
from jcbir.ranking._records import Scores
from jcbir.typing import Rows

Decrypt = Callable[[Rows], Rows]


def decrypt_scores(secret: SecretKey, scores: Scores, *, engine: str = "auto", decrypt: Decrypt | None = None) -> Rows:
    """Decrypt scores without reading them: what the key holder returns when the server padded them (it is noise).

    Args:
        secret: the secret key.
        scores: encrypted scores.
        engine: Paillier engine.
        decrypt: what decrypts the rows instead, such as a pool of workers; `engine` is then not used.

    Returns:
        uint8[blocks, plaintext_bytes], big-endian.

    Raises:
        KeyMismatchError: the scores belong to another key.
        ValueError: a layout that this key does not give.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import encrypt, generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> seal = lambda rows: encrypt(key, rows, draw=secrets.token_bytes)
        >>> from jcbir.ranking import plan
        >>> layout = plan(key.public, scheme="bitsliced", count=2, bits=8)
        >>> scores = Scores(layout, key.public.fingerprint, seal([3 + 5 * 9]))
        >>> int.from_bytes(decrypt_scores(key, scores)[0])
        48

    """
    check_fingerprint(secret.public, scores.fingerprint, name="scores")
    check_layout(secret.public, scores.layout)
    if decrypt is not None:
        return decrypt(scores.ciphertexts)
    return in_filled_batches(functools.partial(paillier.decrypt, secret), scores.ciphertexts, engine=engine)


def open_scores(
    secret: SecretKey, scores: Scores, *, engine: str = "auto", decrypt: Decrypt | None = None
) -> Int32[np.ndarray, " n"]:
    """Decrypt scores into distances.

    Args:
        secret: the secret key.
        scores: encrypted scores, without a pad.
        engine: Paillier engine.
        decrypt: what decrypts the rows instead, such as a pool of workers; `engine` is then not used.

    Returns:
        int32[count] (int32[slots] when the blocks are shuffled): exact Hamming distances 0..k; for `integer` the
        dense ranks of `|difference|`, equal magnitudes sharing one. `DEAD` for deleted images and empty lanes. Rank
        with `layouts.rank`.

    Raises:
        KeyMismatchError: the scores belong to another key.
        ValueError: a decrypted number that is not a score of the layout.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import encrypt, generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> seal = lambda rows: encrypt(key, rows, draw=secrets.token_bytes)
        >>> from jcbir.ranking import plan
        >>> layout = plan(key.public, scheme="bitsliced", count=2, bits=8)
        >>> scores = Scores(layout, key.public.fingerprint, seal([3 + 5 * 9]))
        >>> open_scores(key, scores).tolist()
        [3, 5]

    """
    plaintexts = decrypt_scores(secret, scores, engine=engine, decrypt=decrypt)
    return decode_scores(plaintexts, scores.layout, modulus=secret.public.n, live=scores.live)


def open_differences(
    secret: SecretKey, scores: Scores, *, engine: str = "auto", decrypt: Decrypt | None = None
) -> list[int]:
    """Decrypt the scores of the `integer` scheme into the signed code differences of the paper's Eq. 8.

    Args:
        secret: the secret key.
        scores: encrypted scores of an `integer` index.
        engine: Paillier engine.
        decrypt: what decrypts the rows instead, such as a pool of workers; `engine` is then not used.

    Returns:
        One exact Python integer `t_i - t_q` per image, deleted ones included.

    Raises:
        KeyMismatchError: the scores belong to another key.
        ValueError: scores of another scheme.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import encrypt, generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> seal = lambda rows: encrypt(key, rows, draw=secrets.token_bytes)
        >>> from jcbir.ranking import plan
        >>> layout = plan(key.public, scheme="integer", count=2, bits=8)
        >>> scores = Scores(layout, key.public.fingerprint, seal([3, -5]))
        >>> open_differences(key, scores)
        [3, -5]

    """
    if scores.layout.scheme != "integer":
        raise ValueError(f"scores: only the integer scheme has code differences, got {scores.layout.scheme}")
    return integer.differences(decrypt_scores(secret, scores, engine=engine, decrypt=decrypt), modulus=secret.public.n)
