from . import floats as floats, public as public, secret as secret
from ._blinding import blinders as blinders
from ._engines import JAX_BATCH as JAX_BATCH, choose_engine as choose_engine
from ._jax import batch_slices as batch_slices
from ._primes import StructuredPrime as StructuredPrime
from ._rows import from_ints as from_ints, to_ints as to_ints, to_signed_ints as to_signed_ints
from .public import PublicKey as PublicKey, check_public as check_public
from .secret import SecretKey as SecretKey, check_secret as check_secret, generate_keys as generate_keys
