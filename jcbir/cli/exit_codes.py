"""How a command ends: exit status, a short code and one sentence for each error; anything else is a defect and shows.

0 done      2 the caller's mistake      3 a party refused      4 a service cannot be reached
5 damaged, altered or foreign data, or a wrong passphrase      130 interrupted
"""

import errno
from typing import NamedTuple

from jcbir.errors import FormatError, IntegrityError, KeyMismatchError

MISTAKE, REFUSED, UNREACHABLE, DAMAGED, INTERRUPTED = 2, 3, 4, 5, 130
MISSING = "missing-extra"
EXTRAS = {
    "flax": "hash",
    "optax": "hash",
    "rich": "cli",
    "tyro": "cli",
    "httpx": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "h5py": "weights",
    "huggingface_hub": "weights",
    "ray": "ray",
}
"""Package to the extra of jcbir that installs it."""


class Ending(NamedTuple):
    """How a command ended: exit status, short name of the reason for scripts, one sentence."""

    status: int
    code: str
    reason: str


def classify(error: BaseException) -> Ending | None:
    """Name an error that a user of the command line may meet; None for one that nobody expected."""
    # One line; the blanks in it may be a file name's.
    reason = " ".join(filter(None, map(str.strip, _said(error).splitlines()))) or type(error).__name__
    match error:
        case KeyboardInterrupt():
            return Ending(INTERRUPTED, "interrupted", "interrupted")
        case ModuleNotFoundError() if (error.name or "").split(".")[0] in EXTRAS:
            package = (error.name or "").split(".")[0]
            return Ending(MISTAKE, MISSING, f"this needs {package}: pip install 'jcbir[{EXTRAS[package]}]'")
        case ConnectionError() | TimeoutError():
            return Ending(UNREACHABLE, "unreachable", reason)
        case ValueError() if isinstance(getattr(error, "code", None), str):
            # Every refusal of the protocol, and only these, carries a code.
            return Ending(REFUSED, error.code, reason)  # type: ignore[attr-defined]
        case FormatError() | IntegrityError() | KeyMismatchError():
            return Ending(DAMAGED, "damaged", reason)
        case ValueError() | OSError():
            return Ending(MISTAKE, "mistake", reason)
    return None


def _said(error: BaseException) -> str:
    """The text of an error; of one of the system's without its number."""
    if isinstance(error, OSError) and error.strerror and error.errno is not None:
        # Of a copy that the disk has no room for, the copy.
        name = error.filename2 if error.errno == errno.ENOSPC and error.filename2 is not None else error.filename
        shown = str(name)
        # Where its ends, or a line's, are in the name it is quoted.
        if shown.strip().splitlines() != [shown]:
            shown = repr(shown)
        place = f"{shown}: " if name is not None else ""
        return f"{place}{error.strerror[:1].lower()}{error.strerror[1:]}"
    return str(error)
