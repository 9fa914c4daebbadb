from . import (
    cipher as cipher,
    cli as cli,
    codes as codes,
    data as data,
    errors as errors,
    hashing as hashing,
    lattice as lattice,
    metrics as metrics,
    models as models,
    paillier as paillier,
    protocol as protocol,
    ranking as ranking,
    sealing as sealing,
    service as service,
    storage as storage,
    typing as typing,
)

__version__: str
