"""Array types of the public signatures. Every function takes JAX and NumPy arrays alike."""

import jax
import numpy as np
from jaxtyping import Bool, Float, Int32, Integer, UInt8, UInt32

Array = jax.Array | np.ndarray

Codes = Bool[Array, "*b k"]
"""0/1 codes of k bits, leading axes batch."""

PackedCodes = UInt32[Array, "*b w"]
"""Codes in ceil(k/32) words, most significant bit first."""

Logits = Float[Array, "*b k"]
"""Real-valued outputs of a hash head; a bit is `logit >= 0`."""

Distances = Integer[Array, "*b n"]
"""Integer Hamming distances of n database items."""

Rows = UInt8[np.ndarray, "n w"]
"""n big-endian numbers of w bytes each: plaintexts or ciphertexts at rest."""

Image = UInt8[Array, "h w c"]
"""One image, height x width x channels, 0 to 255."""

Images = UInt8[Array, "b h w c"]
"""A batch of images of one size."""

__all__ = [
    "Array",
    "Codes",
    "Distances",
    "Image",
    "Images",
    "Int32",
    "Logits",
    "PackedCodes",
    "Rows",
]
