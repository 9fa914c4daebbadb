"""Retrieval metrics on integer distances, with ties and denominators spelled out.

`tally` counts items by distance (additive over blocks of the database), `ties` holds the closed forms on such counts,
`precision` is what most callers want: average precision and its mean over queries; `curves` holds precision, recall and
their curves, `gain` NDCG. A metric knows distances and relevance only: no codes, no labels, no network.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
