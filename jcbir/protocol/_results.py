"""What the authority seals to the user: order and distances of the results, and what opens their images."""

import dataclasses

import numpy as np
from jaxtyping import Int32

from jcbir.errors import FormatError
from jcbir.protocol._schema import Codec, Reader, many, octets, read_versioned, record, text, whole, write_versioned

VERSION = 2
DOMAIN = "jcbir results v2"


@dataclasses.dataclass(frozen=True, repr=False)
class Results:
    """The sealed half of a ranking. Secret: it holds image keys.

    Attributes:
        image_ids: pseudonyms of all results of the batch, sorted.
        keys: the image key of each of them; none where the grant does not open images.
        hashes: SHA-256 of the sealed image of each of them; none likewise.
        order: int32[q, r], for each query the places in `image_ids` of its results, best first.
        distances: int32[q, r], Hamming distances (ranks for the scheme `integer`).
    """

    image_ids: tuple[str, ...]
    keys: tuple[bytes, ...]
    hashes: tuple[bytes, ...]
    order: Int32[np.ndarray, "q r"]
    distances: Int32[np.ndarray, "q r"]

    def __repr__(self) -> str:
        return f"Results({len(self.image_ids)} images, {self.order.shape[0]} queries, keys hidden)"


def write_results(results: Results) -> bytes:
    """The results as bytes, to be sealed."""
    return write_versioned(_RESULTS, results, version=VERSION)


def read_results(blob: bytes) -> Results:
    """The results back; FormatError where the bytes are not exactly one record whose parts fit together."""
    results = read_versioned(_RESULTS, blob, version=VERSION, name="results")
    count, keyed = len(results.image_ids), len(results.keys)
    if keyed not in (0, count) or len(results.hashes) != keyed:
        raise FormatError(f"results: must have a key and a hash for each of {count} images or none, got {keyed}")
    if results.order.shape != results.distances.shape:
        raise FormatError(f"results: must rank {results.order.shape} places, got {results.distances.shape} distances")
    if results.order.size and not 0 <= results.order.min() <= results.order.max() < count:
        places = f"{results.order.min()} to {results.order.max()}"
        raise FormatError(f"results: must point into {count} images, got places {places}")
    return results


def _table() -> Codec:
    """int32[q, r] as its number of queries and big-endian bytes, row by row."""
    count_codec, cells_codec = whole(low=1, high=1 << 16), octets(low=0, high=1 << 26)

    def pack(table: np.ndarray) -> list:
        return [count_codec.pack(len(table)), cells_codec.pack(table.astype(">i4").tobytes())]

    def parse(reader: Reader, name: str) -> np.ndarray:
        if reader.head(name) != ("list", 2):
            raise FormatError(f"{name}: must be a number of rows and cells, got something else")
        count, cells = count_codec.parse(reader, name), cells_codec.parse(reader, name)
        if len(cells) % (4 * count):
            raise FormatError(f"{name}: must be {count} rows of 4-byte numbers, got {len(cells)} bytes")
        return np.frombuffer(cells, ">i4").astype(np.int32).reshape(count, -1)

    return Codec(pack, parse)


_HASH = octets(low=32, high=32)
_RESULTS = record(
    Results,
    image_ids=many(text(low=1, high=64)),
    keys=many(_HASH),
    hashes=many(_HASH),
    order=_table(),
    distances=_table(),
)
