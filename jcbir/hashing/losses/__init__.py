"""Losses of deep hashing on logits, one number an image: central similarity quantization and what it is compared with.

Every function returns one loss per image; the caller weighs, masks and averages. Pairwise and triplet losses compare
the images of a batch; an image is not a pair with itself, so a batch of one has no pairs and only its quantization term
is left. Where public code counts an image as its own partner, or compares a batch with what it remembers of all
training images, `self_pairs` and `bank` do so too; docs/parity.md says which arguments give whose loss.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
