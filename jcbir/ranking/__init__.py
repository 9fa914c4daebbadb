"""Encrypted ranking: codes in ciphertexts, scored by a server that holds no secret, opened by the key holder.

`SCHEMES` is the table of schemes, one record each; a kind of key is a record too. `plan`, `mask_index` and
`build_index` are what the owner runs, `mask_query` and `trapdoors` the user, `prepare` and `score` the server,
`open_scores` and `rank` the key holder; `cost` predicts all four.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
