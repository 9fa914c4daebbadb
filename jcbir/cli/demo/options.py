"""The options of `jcbir demo`."""

import dataclasses
from pathlib import Path
from typing import Literal


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """Photographs to a private search: fine-tune, hash, encrypt, seal, score, rank, open, draw."""

    bits: Literal[16, 32, 64] = 64
    """Length of the hash codes."""

    scheme: Literal["bitsliced", "packed"] = "bitsliced"
    """The ranking scheme whose opened results are drawn; all three are measured."""

    modulus_bits: Literal[2048, 3072, 4096] = 2048
    """Size of the Paillier modulus. The library's default is 3072; the demo takes 2048 to be quick."""

    images: Path | None = None
    """A folder of class folders with your own photographs; without it, the CIFAR-10 sample inside the package."""

    per_class: int = 300
    """With `images`: use at most so many photographs of each class."""

    epochs: int = 4
    """Passes over the training photographs."""

    top: int = 8
    """Results opened for each query."""

    seed: int = 0
    """Of the training: initial weights, order and augmentation. Keys, nonces and blinders come from the system."""

    report: Path | None = None
    """Write the figures here as JSON."""

    out: Path = Path("jcbir-demo.png")
    """Write the picture here."""
