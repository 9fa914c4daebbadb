"""What the tests of the commands share: an owner's world that begins in a blink."""

import functools

import pytest
from command_world import AUTHORITY_PASSPHRASE, CLOUD_PASSPHRASE, PASSPHRASE, make_identities
from paillier_vectors import stored_key

from jcbir.storage import _secret_files

derive = functools.cache(_secret_files._key)


@pytest.fixture
def derived(monkeypatch):
    """Derive the key of a passphrase and a salt once: files are read over and over, at a price that is meant."""
    monkeypatch.setattr(_secret_files, "_key", derive)


@pytest.fixture
def quick(derived, capsys, monkeypatch, tmp_path, tmp_path_factory):
    """A stored key instead of seconds of primes, the least scrypt, passphrases in the environment, a folder."""
    for module in ("_keys", "_identities"):
        monkeypatch.setattr(f"jcbir.storage.{module}.WORK", 14)
    monkeypatch.setattr("jcbir.cli.owner.generate_keys", lambda *, bits, draw: stored_key("full-2048"))
    monkeypatch.setenv("JCBIR_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("JCBIR_AUTHORITY_PASSPHRASE", AUTHORITY_PASSPHRASE)
    monkeypatch.setenv("JCBIR_CLOUD_PASSPHRASE", CLOUD_PASSPHRASE)
    # Programs are kept for all tests of a run, and outside of the caller's own cache.
    monkeypatch.setenv("JCBIR_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.chdir(tmp_path)
    make_identities(capsys)
