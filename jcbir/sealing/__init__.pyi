from ._format import Cipher as Cipher
from ._seal import (
    HYBRID_SECRET_BYTES as HYBRID_SECRET_BYTES,
    image_key as image_key,
    open_batch as open_batch,
    open_from as open_from,
    open_sealed as open_sealed,
    public_half as public_half,
    seal as seal,
    seal_batch as seal_batch,
    seal_to as seal_to,
)
