from . import centers as centers, heads as heads, losses as losses, shallow as shallow
from ._augment import (
    crop_and_flip as crop_and_flip,
    random_crop as random_crop,
    random_flip as random_flip,
    random_resized_crop as random_resized_crop,
    resized_crop_and_flip as resized_crop_and_flip,
)
from ._checkpoint import state_from_bytes as state_from_bytes, state_to_bytes as state_to_bytes
from ._encode import encode as encode, encode_images as encode_images, hash_images as hash_images
from ._optimizers import (
    learning_rates as learning_rates,
    paper_adam as paper_adam,
    step_decay as step_decay,
    two_rates as two_rates,
)
from ._training import (
    Batch as Batch,
    Progress as Progress,
    TrainApply as TrainApply,
    TrainState as TrainState,
    fine_tune as fine_tune,
    fit as fit,
    fit_batches as fit_batches,
    init_state as init_state,
    linen_apply as linen_apply,
    log_lines as log_lines,
    train_step as train_step,
)
