"""Identity files: what was written comes back, once; under a passphrase or by mode alone; another file is an error."""

import dataclasses
import hashlib
import secrets
import textwrap

import pytest

from jcbir.errors import FormatError, IntegrityError
from jcbir.protocol import authority, server
from jcbir.storage._identities import identity_fingerprint, read_identity, write_identity
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


def test_halves_that_do_not_belong_together_are_refused(tmp_path):
    one, other = (server.make_identity(draw=secrets.token_bytes) for _ in range(2))
    write_identity(
        tmp_path / "mixed", dataclasses.replace(one, public=other.public), side="cloud", passphrase=None,
        draw=secrets.token_bytes,
    )  # fmt: skip
    with pytest.raises(IntegrityError, match="public key must be that of the secret"):
        read_identity(tmp_path / "mixed", side="cloud", passphrase=None)


def test_what_is_compared_has_128_bits_of_all_there_is():
    public, sealing_key = bytes(range(32)), bytes(range(32, 64))
    spoken = identity_fingerprint(public, sealing_key, side="authority")
    digits = hashlib.sha256(b"jcbir identity v1\0authority\0" + public + sealing_key).hexdigest()
    assert spoken.split(" ") == textwrap.wrap(digits[:32], 4)
    others = {
        identity_fingerprint(bytes(32), sealing_key, side="authority"),
        identity_fingerprint(public, bytes(32), side="authority"),
        identity_fingerprint(public, sealing_key, side="cloud"),
    }
    assert len(others | {spoken}) == 4
