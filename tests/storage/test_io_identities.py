"""Identity files: what was written comes back, once; under a passphrase or by mode alone; another file is an error."""

import secrets
import subprocess
import sys

import pytest

from jcbir.errors import FormatError, IntegrityError
from jcbir.protocol import authority, server
from jcbir.storage._identities import read_identity, write_identity
from jcbir.storage._secret_files import MINIMUM_WORK

MAKE = {"cloud": server.make_identity, "authority": authority.make_identity}


@pytest.mark.parametrize("side", sorted(MAKE))
@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_round_trip(tmp_path, side, passphrase):
    identity, path = MAKE[side](draw=secrets.token_bytes), tmp_path / "identity"
    options = {"side": side, "passphrase": passphrase}
    write_identity(path, identity, draw=secrets.token_bytes, work=MINIMUM_WORK, **options)
    assert read_identity(path, **options) == identity
    assert path.stat().st_mode & 0o777 == 0o600
    assert (identity.secret in path.read_bytes()) is False or passphrase is None
    with pytest.raises(FileExistsError):
        write_identity(path, identity, draw=secrets.token_bytes, work=MINIMUM_WORK, **options)
    with pytest.raises(FormatError, match="passphrase"):
        read_identity(path, side=side, passphrase="another" if passphrase is None else None)
    other = next(name for name in MAKE if name != side)
    with pytest.raises(FormatError, match="must hold the identity"):
        read_identity(path, side=other, passphrase=passphrase)
    path.chmod(0o644)
    with pytest.raises(PermissionError, match="644"):
        read_identity(path, **options)


def test_altered_or_of_another_version(tmp_path):
    path = tmp_path / "identity"
    identity = server.make_identity(draw=secrets.token_bytes)
    write_identity(path, identity, side="cloud", passphrase=None, draw=secrets.token_bytes)
    good = path.read_bytes()
    path.write_bytes(good[:4] + b"\x01" + good[5:])
    with pytest.raises(FormatError, match="must be of version 2, got 1"):
        read_identity(path, side="cloud", passphrase=None)
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(IntegrityError):
        read_identity(path, side="cloud", passphrase=None)


def test_reading_an_identity_loads_no_other_secret_code():
    probe = """
import sys
import jcbir.storage._identities
banned = ("jcbir.paillier.secret", "jcbir.cipher", "jcbir.sealing", "jcbir.storage._keys", "jcbir.models", "flax")
raise SystemExit(" ".join(name for name in banned if name in sys.modules) or 0)
"""
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
