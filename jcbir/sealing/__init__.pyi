from ._format import Cipher as Cipher, strip_rows as strip_rows
from ._hpke import (
    HYBRID_SECRET_BYTES as HYBRID_SECRET_BYTES,
    open_from as open_from,
    public_half as public_half,
    seal_to as seal_to,
)
from ._photographs import (
    Photograph as Photograph,
    open_photograph as open_photograph,
    open_photographs as open_photographs,
    seal_photograph as seal_photograph,
    seal_photographs as seal_photographs,
    sealed_length as sealed_length,
)
from ._seal import (
    image_key as image_key,
    open_batch as open_batch,
    open_sealed as open_sealed,
    open_strips as open_strips,
    seal as seal,
    seal_batch as seal_batch,
    seal_strips as seal_strips,
)
