"""What the parties keep on disk: a collection's store, the authority's journal, keys, cards, identities, weights, runs.

What is acknowledged survives `kill -9` at any moment; what is read is checked before anyone believes it. Files with
secrets and files without never share a module, so that the cloud reads its own and loads no secret code.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
