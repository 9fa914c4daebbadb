"""What the key holder computes: decrypt the scores and read the distances.

The rows can be shared among worker processes: `decrypt` is a closure from ciphertext rows to plaintext rows, as
`encrypt` is when an index is built.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from jcbir.ranking._batching import in_filled_batches
from jcbir.ranking._decode import decode_scores, rows_to_decrypt
from jcbir.ranking._integer import differences
from jcbir.ranking._scheme import Scores
from jcbir.ranking._secret_keys import SECRET_KEY_KINDS
from jcbir.ranking._table import check_fingerprint, check_layout, find_scheme
from jcbir.typing import Array, Rows

Decrypt = Callable[[Rows], Rows]


def open_scores(
    secret: Any,
    scores: Scores,
    *,
    hint: UInt8[Array, "b h"] | None = None,
    opening: UInt8[Array, "1 v"] | None = None,
    engine: str = "auto",
    decrypt: Decrypt | None = None,
) -> Int32[np.ndarray, " n"]:
    """Decrypt scores into distances.

    Args:
        secret: the secret key.
        scores: encrypted scores.
        hint: of the index, where its scheme has one.
        opening: of the trapdoor, where its scheme has one.
        engine: arithmetic engine.
        decrypt: what decrypts the rows instead, such as a pool of workers; `engine` is then not used.

    Returns:
        int32[count] exact Hamming distances 0..k; for `integer` the dense ranks of `|difference|`, equal magnitudes
        sharing one. Rank with `rank`.

    Raises:
        KeyMismatchError: the scores belong to another key.
        ValueError: a decrypted number that is not a score of the layout.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import encrypt, generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> from jcbir.ranking import Scores, plan
        >>> from jcbir.ranking._bitsliced import BITSLICED
        >>> layout = plan(key.public, scheme=BITSLICED.name, count=2, bits=8)
        >>> scores = Scores(layout, key.public.fingerprint, encrypt(key, [3 + 5 * 9], draw=secrets.token_bytes))
        >>> open_scores(key, scores).tolist()
        [3, 5]

    """
    plaintexts = decrypt_scores(secret, scores, hint=hint, opening=opening, engine=engine, decrypt=decrypt)
    return decode_scores([(scores.layout, plaintexts)], public=secret.public)


def open_differences(secret: Any, scores: Scores, *, engine: str = "auto", decrypt: Decrypt | None = None) -> list[int]:
    """Decrypt the scores of the `integer` scheme into the signed code differences of the paper's Eq. 8.

    Args:
        secret: the secret key.
        scores: encrypted scores of an `integer` index.
        engine: arithmetic engine.
        decrypt: what decrypts the rows instead, such as a pool of workers; `engine` is then not used.

    Returns:
        One exact Python integer `t_i - t_q` per image.

    Raises:
        KeyMismatchError: the scores belong to another key.
        ValueError: scores of another scheme, or a decrypted number beyond `2^k - 1`.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import encrypt, generate_keys
        >>> key = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> from jcbir.ranking import Scores, plan
        >>> layout = plan(key.public, scheme="integer", count=2, bits=8)
        >>> scores = Scores(layout, key.public.fingerprint, encrypt(key, [3, -5], draw=secrets.token_bytes))
        >>> open_differences(key, scores)
        [3, -5]

    """
    if scores.layout.scheme != "integer":
        raise ValueError(f"scores: must be of the integer scheme, got {scores.layout.scheme}")
    return differences(decrypt_scores(secret, scores, engine=engine, decrypt=decrypt), scores.layout, secret.public)


def decrypt_scores(
    secret: Any,
    scores: Scores,
    *,
    hint: np.ndarray | None = None,
    opening: np.ndarray | None = None,
    engine: str = "auto",
    decrypt: Decrypt | None = None,
) -> np.ndarray:
    """Decrypt scores without reading them."""
    check_fingerprint(secret.public, scores.fingerprint, name="scores")
    check_layout(secret.public, scores.layout)
    kind = SECRET_KEY_KINDS[find_scheme(scores.layout.scheme).key_kind]
    if kind.open is not None and kind.prepare is not None:
        prepared = kind.prepare(secret, scores.layout, hint)
        return kind.open(secret, [prepared], [scores.layout], scores.ciphertexts, opening)
    rows = rows_to_decrypt(scores, hint=hint, opening=opening)
    if decrypt is not None:
        return decrypt(rows)
    return in_filled_batches(lambda part, engine: kind.decrypt(secret, part, engine=engine), rows, engine=engine)
