"""Retrieval metrics on integer distances, with ties and denominators spelled out.

`tally` counts items by distance (additive over blocks of the database), `ties` holds the closed forms on such counts,
`precision` is what most callers want: average precision and its mean over queries; `curves` holds precision, recall and
their curves, `gain` NDCG. A metric knows distances and relevance only: no codes, no labels, no network.
"""

from jcbir.metrics.curves import hits_at as hits_at
from jcbir.metrics.curves import precision_at as precision_at
from jcbir.metrics.curves import precision_recall as precision_recall
from jcbir.metrics.curves import precision_within as precision_within
from jcbir.metrics.curves import recall_at as recall_at
from jcbir.metrics.curves import recall_within as recall_within
from jcbir.metrics.gain import grade_tally as grade_tally
from jcbir.metrics.gain import ndcg as ndcg
from jcbir.metrics.gain import tallied_ndcg as tallied_ndcg
from jcbir.metrics.precision import average_precision as average_precision
from jcbir.metrics.precision import convention as convention
from jcbir.metrics.precision import mean_average_precision as mean_average_precision
from jcbir.metrics.precision import mean_over_queries as mean_over_queries
from jcbir.metrics.tally import Tally as Tally
from jcbir.metrics.tally import tally as tally
from jcbir.metrics.tally import tally_blocks as tally_blocks
from jcbir.metrics.ties import Ties as Ties
from jcbir.metrics.ties import tied_average_precision as tied_average_precision
