"""Target codes for photographs with several labels, learned from the labels alone.

A semantic center (`centers.semantic`) is a vote of fixed centers; here they are what iterative quantization makes of
the label rows: real-valued, heavier for frequent labels, closer for labels that come together.
"""

import jax.numpy as jnp
from jaxtyping import Bool, Key

from jcbir.hashing._classic import LinearHash, itq
from jcbir.typing import Array


def label_codes(key: Key[Array, ""], labels: Bool[Array, "n c"], *, bits: int, iterations: int = 50) -> LinearHash:
    """A hash of label rows whose Hamming distances follow how many labels two rows share.

    bit_k = [(y - mean y) . p_k >= 0], p_k the rotated principal components of the training label rows. Targets of a
    training set are `classic.project(hash, labels as floats) >= 0`; equal rows get equal codes. Save the hash: its
    rounds amplify rounding, so that another processor or number of threads ends in another rotation, as good as this.

    Args:
        key: PRNG key of the first rotation.
        labels: training rows of 0/1, one column a class.
        bits: code length, at most the number of classes; for longer codes use `centers.semantic` with `weights`.
        iterations: rounds of the rotation.

    Returns:
        A hash for `classic.project`, which takes float label rows of any set of the same classes.

    Raises:
        ValueError: no rows, or more bits than classes.

    Example:
        >>> import jax, numpy as np
        >>> from jcbir.hashing._classic import project
        >>> labels = np.random.default_rng(0).random((60, 12)) < 0.2
        >>> hash = label_codes(jax.random.key(0), labels, bits=8)
        >>> targets = project(hash, labels.astype(np.float32)) >= 0
        >>> targets.shape
        (60, 8)

    References:
        Gong and Lazebnik, Iterative quantization: a Procrustean approach to learning binary codes, CVPR 2011, eq. 2, on
        label rows in place of features.
    """
    classes = labels.shape[-1]
    if not 1 <= bits <= classes:
        raise ValueError(f"bits must be from 1 to {classes}, the number of classes, got {bits}")
    return itq(key, jnp.asarray(labels).astype(jnp.float32), bits=bits, iterations=iterations).hash
