"""Retrieval metrics on integer distances, with ties and denominators spelled out.

`mean_average_precision` is what most callers want. `tally` counts items by distance (additive over blocks of the
database), and the other metrics are closed forms on such counts: `tied_average_precision`, `precision_at`,
`precision_recall` and the rest; `ndcg` is for graded relevance. A metric knows distances and relevance only: no codes,
no labels, no network.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
