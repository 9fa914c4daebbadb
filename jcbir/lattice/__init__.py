"""Inner products of an encrypted index with an encrypted query over a polynomial ring: distances and nothing else.

`public` is all that a server runs; `secret` is what the index's owner, a query's user and the key's holder run. The
composition is of standard parts but reviewed by no outside cryptographer: docs/lattice.md says what that means.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
