from . import public as public, secret as secret
