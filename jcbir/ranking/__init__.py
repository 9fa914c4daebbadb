"""Encrypted ranking: codes packed into Paillier plaintexts, scored by a server that holds no secret, opened by the
key holder.

`layouts` plans how many codes a plaintext carries; `integer`, `packed` and `bitsliced` are the three number layouts;
`build`, `score` and `open` are what the owner, the server and the key holder run; `cost` predicts all three.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
