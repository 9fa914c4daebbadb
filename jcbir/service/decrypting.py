"""What decrypts for the authority: a worker process that was given the key over its pipe."""

from collections.abc import Callable

import msgpack
import numpy as np

from jcbir.paillier._engines import choose_engine
from jcbir.paillier.secret import SecretKey, decrypt
from jcbir.protocol._schema import read_plain, write_plain
from jcbir.service.pool import run_worker
from jcbir.storage.keys import SECRET_KEY


def write_hello(secret: SecretKey, *, engine: str) -> bytes:
    """Write a worker's first frame. Secret.

    Args:
        secret: the key pair.
        engine: arithmetic engine; "auto" is the number engine, which does not compile in the middle of a query.

    Returns:
        Its bytes.

    Example:
        >>> import secrets
        >>> from jcbir.paillier.secret import generate_keys
        >>> secret = generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
        >>> plain, engine = msgpack.unpackb(write_hello(secret, engine="python"))
        >>> read_plain(SECRET_KEY, plain, name="key") == secret, engine
        (True, 'python')
    """
    name = choose_engine("auto", count=1) if engine == "auto" else engine
    return msgpack.packb([write_plain(SECRET_KEY, secret), name])


def work() -> None:
    """Live as a decrypting worker: the first frame is the key, the others are ciphertext rows.

    Returns:
        Nothing.

    Example:
        >>> callable(work)
        True
    """

    def prepare(hello: bytes) -> Callable[[bytes], bytes]:
        plain, engine = msgpack.unpackb(hello)
        secret = read_plain(SECRET_KEY, plain, name="key")
        width = secret.public.ciphertext_bytes

        def answer(job: bytes) -> bytes:
            return decrypt(secret, np.frombuffer(job, np.uint8).reshape(-1, width), engine=engine).tobytes()

        return answer

    run_worker(prepare)


__all__ = ["work", "write_hello"]
