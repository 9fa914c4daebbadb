"""Where a passphrase comes from: a file, the environment or the terminal; never an argument, which others can read."""

import getpass
import os
import sys
from pathlib import Path

VARIABLE = "JCBIR_PASSPHRASE"
AUTHORITY_VARIABLE = "JCBIR_AUTHORITY_PASSPHRASE"
CLOUD_VARIABLE = "JCBIR_CLOUD_PASSPHRASE"


def check_passphrase(file: Path | None, *, variable: str, option: str) -> None:
    """Refuse a passphrase that nobody will be able to give, before anything costs time."""
    if file is not None:
        _first_line(file, option)
    elif not os.environ.get(variable) and not sys.stdin.isatty():
        raise ValueError(f"passphrase: must be given by {option} or {variable}; there is no terminal to ask at")


def read_passphrase(
    file: Path | None,
    *,
    purpose: str,
    confirm: bool = False,
    variable: str = VARIABLE,
    option: str = "--passphrase-file",
) -> str:
    """Read a passphrase: the first line of a private file, else the environment, else a prompt (twice to confirm)."""
    check_passphrase(file, variable=variable, option=option)
    if file is not None:
        found = _first_line(file, option)
    elif os.environ.get(variable):
        found = os.environ[variable]
    else:
        found = getpass.getpass(f"passphrase of {purpose}: ")
        if confirm and found != getpass.getpass("once more: "):
            raise ValueError("passphrase: must be typed the same twice, got two different ones")
    if not found:
        raise ValueError(f"passphrase of {purpose}: must not be empty, got nothing in {file or 'the answer'}")
    if confirm:
        # Before a key is made for it, which takes a while.
        from jcbir.storage._secret_files import check_letters

        check_letters(found)
    return found


def authority_passphrase(file: Path | None) -> str:
    """Read the passphrase of the authority's key file. The owner's is no stand-in: the two are different people."""
    return read_passphrase(
        file,
        purpose="the authority's key",
        confirm=True,
        variable=AUTHORITY_VARIABLE,
        option="--authority-passphrase-file",
    )


def forget_passphrases() -> None:
    """Take the passphrases out of the environment, which every process started from here on would inherit."""
    for name in (VARIABLE, AUTHORITY_VARIABLE, CLOUD_VARIABLE):
        os.environ.pop(name, None)


def _first_line(file: Path, option: str) -> str:
    if not file.is_file():
        raise FileNotFoundError(f"{option}: must be a file, got nothing at {str(file)!r}")
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        raise PermissionError(f"{option}: must be readable by you alone, got mode {mode:o} of {file}; `chmod 600` it")
    try:
        return file.read_text(encoding="utf-8").split("\n", 1)[0].removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"{option}: must be a UTF-8 text, got other bytes in {file}") from None
