from ._bihalf import bihalf as bihalf, half_signs as half_signs
from ._central import (
    central_similarity as central_similarity,
    csq as csq,
    greedyhash as greedyhash,
    half_pairs as half_pairs,
    orthohash as orthohash,
    quantization_official as quantization_official,
    quantization_paper as quantization_paper,
    shortfall as shortfall,
    straight_through as straight_through,
)
from ._factorized import (
    adsh as adsh,
    adsh_codes as adsh_codes,
    cnnh as cnnh,
    similarity_codes as similarity_codes,
)
from ._fisher import dfh as dfh, dfh_centers as dfh_centers, dfh_codes as dfh_codes
from ._pairs import (
    Labels as Labels,
    MemoryBank as MemoryBank,
    empty_bank as empty_bank,
    remember as remember,
    similar_pairs as similar_pairs,
)
from ._pairwise import (
    continuation as continuation,
    dbdh as dbdh,
    dch as dch,
    dhn as dhn,
    dpsh as dpsh,
    dsh as dsh,
    hashnet as hashnet,
    idhn as idhn,
)
from ._triplets import dnnh as dnnh, dtsh as dtsh
