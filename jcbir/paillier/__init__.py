"""Paillier's additively homomorphic encryption on batches of big-endian byte rows.

`public` is all a server or a user needs; `secret` makes keys, encrypts fast for their owner and decrypts; `floats`
writes real numbers as plaintexts. Not constant time: see docs/paillier.md before exposing a decryptor to someone who
can measure it.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
