from . import isometry as isometry
from ._build import (
    build_index as build_index,
    mask_index as mask_index,
    mask_query as mask_query,
    trapdoor as trapdoor,
    trapdoors as trapdoors,
)
from ._cost import Calibration as Calibration, calibrate as calibrate, cost as cost
from ._decode import DEAD as DEAD, rank as rank
from ._keys import KEY_KINDS as KEY_KINDS, KeyKind as KeyKind, TaggedKey as TaggedKey
from ._open import open_differences as open_differences, open_scores as open_scores
from ._scheme import (
    Index as Index,
    Layout as Layout,
    Leakage as Leakage,
    Operations as Operations,
    Prepared as Prepared,
    Scheme as Scheme,
    Scores as Scores,
    Seen as Seen,
    Shapes as Shapes,
    Trapdoor as Trapdoor,
    Work as Work,
)
from ._score import prepare as prepare, score as score
from ._secret_keys import SECRET_KEY_KINDS as SECRET_KEY_KINDS, SecretKeyKind as SecretKeyKind
from ._table import SCHEMES as SCHEMES, plan as plan
