"""The Lorenz image cipher as array programs. Seal images with `jcbir.sealing`, not with raw stages."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
