from . import (
    bitsliced as bitsliced,
    integer as integer,
    isometry as isometry,
    packed as packed,
    pads as pads,
    shuffle as shuffle,
)
from ._build import build_index as build_index, trapdoor as trapdoor
from ._calibration import calibrate as calibrate
from ._cost import Calibration as Calibration, cost as cost
from ._layouts import plan as plan, rank as rank
from ._open import open_differences as open_differences, open_scores as open_scores
from ._score import prepare as prepare, score as score
