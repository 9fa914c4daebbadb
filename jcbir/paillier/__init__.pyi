from . import public as public, secret as secret
from ._blinding import blinders as blinders
from ._integers import generator as generator, join as join
from ._primes import structured_prime as structured_prime
