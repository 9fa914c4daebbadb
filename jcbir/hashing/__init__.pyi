from . import losses as losses
from ._augment import crop_and_flip as crop_and_flip
from ._centers import bernoulli as bernoulli, hash_centers as hash_centers
from ._checkpoint import state_from_bytes as state_from_bytes, state_to_bytes as state_to_bytes
from ._encode import encode as encode
from ._label_codes import label_codes as label_codes
from ._optimizers import two_rates as two_rates
from ._separated import Separation as Separation, separated_centers as separated_centers, separation as separation
from ._training import (
    Batch as Batch,
    Progress as Progress,
    TrainState as TrainState,
    fit as fit,
    init_state as init_state,
    linen_apply as linen_apply,
    train_step as train_step,
)
