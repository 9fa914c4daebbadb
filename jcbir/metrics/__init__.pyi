from . import plot as plot
from ._average_precision import (
    MeanPrecision as MeanPrecision,
    Ties as Ties,
    average_precision as average_precision,
    convention as convention,
    mean_average_precision as mean_average_precision,
    mean_over_queries as mean_over_queries,
    tied_average_precision as tied_average_precision,
)
from ._curves import (
    Curve as Curve,
    RankCurve as RankCurve,
    curve as curve,
    hits_at as hits_at,
    precision_at as precision_at,
    precision_recall as precision_recall,
    precision_within as precision_within,
    recall_at as recall_at,
    recall_within as recall_within,
)
from ._evaluate import PROTOCOLS as PROTOCOLS, Protocol as Protocol, evaluate as evaluate, tally_codes as tally_codes
from ._gain import grade_tally as grade_tally, ndcg as ndcg, tallied_ndcg as tallied_ndcg
from ._tally import Tally as Tally, tally as tally, tally_blocks as tally_blocks
