"""What the tests of the commands share: an owner's world that begins in a blink."""

import functools
import hashlib

import pytest
from command_world import AUTHORITY_PASSPHRASE, CLOUD_PASSPHRASE, PASSPHRASE, make_identities
from paillier_vectors import stored_key

from jcbir.paillier.public import check_public
from jcbir.paillier.secret import check_secret
from jcbir.ranking import _keys, _secret_keys
from jcbir.storage import _secret_files

# A refusal is not kept.
CHECK_PUBLIC, CHECK_SECRET = functools.cache(check_public), functools.cache(check_secret)


def derive(passphrase, salt, work):
    """A key as quick as scrypt is slow: files are written and read over and over, at a price that is meant."""
    return bytes(32) if passphrase is None else hashlib.sha256(salt + bytes([work]) + passphrase.encode()).digest()


@pytest.fixture(scope="module")
def derived():
    """Derive the keys of secret files without scrypt's price, and find a key sound once, not each time it is read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_secret_files, "_key", derive)
        patch.setattr(_keys, "check_public", CHECK_PUBLIC)
        patch.setattr(_secret_keys, "check_secret", CHECK_SECRET)
        yield


@pytest.fixture
def quick(derived, capsys, monkeypatch, tmp_path, tmp_path_factory):
    """A stored key instead of seconds of primes, the least scrypt, passphrases in the environment, a folder."""
    for module in ("_keys", "_identities"):
        monkeypatch.setattr(f"jcbir.storage.{module}.WORK", 14)
    monkeypatch.setattr("jcbir.cli.owner.generate_keys", lambda *, bits, draw: stored_key("subgroup-2048"))
    monkeypatch.setenv("JCBIR_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("JCBIR_AUTHORITY_PASSPHRASE", AUTHORITY_PASSPHRASE)
    monkeypatch.setenv("JCBIR_CLOUD_PASSPHRASE", CLOUD_PASSPHRASE)
    # Programs are kept for all tests of a run, and outside of the caller's own cache.
    monkeypatch.setenv("JCBIR_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.chdir(tmp_path)
    make_identities(capsys)
