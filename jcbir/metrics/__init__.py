"""Retrieval metrics, with ties and denominators spelled out.

`evaluate` goes from codes and labels to a mean average precision in one call, also by the rules of other people's code.
Underneath, a metric knows distances and relevance only: `tally` counts items by distance (additive over blocks of the
database; `tally_codes` starts from codes and labels), and `tied_average_precision`, `precision_at`, `precision_recall`,
`curve` and the rest are closed forms on such counts; `mean_average_precision` takes whole lists, `ndcg` graded
relevance. `plot` draws.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
