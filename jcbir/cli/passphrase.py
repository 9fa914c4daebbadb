"""Where a passphrase comes from: a file, the environment or the terminal; never an argument, which others can read."""

import getpass
import os
import sys
from pathlib import Path

VARIABLE = "JCBIR_PASSPHRASE"
AUTHORITY_VARIABLE = "JCBIR_AUTHORITY_PASSPHRASE"


def read_passphrase(file: Path | None, *, purpose: str, confirm: bool = False, variable: str = VARIABLE) -> str:
    """Read a passphrase: the first line of a file, else the environment, else a prompt.

    Args:
        file: where the caller says it is.
        purpose: what it opens, for the prompt.
        confirm: ask twice at a prompt: nobody can recover a mistyped one.
        variable: name in the environment.

    Returns:
        The passphrase.

    Raises:
        ValueError: none of the three has one, an empty one, or two different ones were typed.

    Example:
        >>> os.environ[VARIABLE] = "correct horse"
        >>> read_passphrase(None, purpose="your keys")
        'correct horse'
        >>> del os.environ[VARIABLE]
    """
    if file is not None:
        found = file.read_text(encoding="utf-8").split("\n", 1)[0].removesuffix("\r")
    elif os.environ.get(variable):
        found = os.environ[variable]
    elif sys.stdin.isatty():
        found = getpass.getpass(f"passphrase of {purpose}: ")
        if confirm and found != getpass.getpass("once more: "):
            raise ValueError("passphrase: the two differ")
    else:
        raise ValueError(f"passphrase: give --passphrase-file or {variable}; there is no terminal to ask at")
    if not found:
        raise ValueError(f"passphrase: {file or 'it'} is empty")
    return found


def authority_passphrase(file: Path | None, *, fallback: str) -> str:
    """Read the passphrase of the authority's key file: a file, else the environment, else the owner's.

    Args:
        file: where the caller says it is.
        fallback: the owner's passphrase.

    Returns:
        The passphrase.

    Raises:
        ValueError: an empty one.

    Example:
        >>> authority_passphrase(None, fallback="correct horse")
        'correct horse'
    """
    if file is None and not os.environ.get(AUTHORITY_VARIABLE):
        return fallback
    return read_passphrase(file, purpose="the authority's key", variable=AUTHORITY_VARIABLE)


__all__ = ["AUTHORITY_VARIABLE", "VARIABLE", "authority_passphrase", "read_passphrase"]
