"""Private content-based image search in JAX.

`import jcbir` loads nothing; `jcbir.metrics`, `jcbir.paillier` and the others load when they are first touched. Loading
any of them starts no backend and changes no JAX setting.
"""

import lazy_loader as lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
