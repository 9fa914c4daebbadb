"""Photographs with labels: the sample of Caltech-101, folders, lists, packed and tfds sets, named splits."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
