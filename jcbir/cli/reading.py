"""What is done with a photograph's file before the network sees it, in processes ahead of the network.

Kept free of JAX, so that such a process starts in a fraction of a second.
"""

import os

import numpy as np
from jaxtyping import UInt8

from jcbir.data import PublishedFile, decode_image, published_file

WORTHWHILE = 64
"""Files from which on the start of processes is repaid."""


def decoding_processes(files: int) -> int:
    """As many as leave the network half of the processors."""
    return 0 if files < WORTHWHILE else min(4, max(1, (os.cpu_count() or 1) // 2))


def prepare(
    content: bytes, *, size: int, longest_side: int | None, keep_metadata: bool
) -> tuple[PublishedFile, UInt8[np.ndarray, "s s 3"]] | str:
    """A file as it is published and as the network sees it, or why it is no photograph."""
    try:
        file = published_file(content, longest_side=longest_side, keep_metadata=keep_metadata)
        return file, decode_image(file.data, size=size)
    except ValueError as error:
        return str(error)
