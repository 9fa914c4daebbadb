"""How a command ends: exit status, a short code and one sentence for each error; anything else is a defect and shows.

0 done      2 the caller's mistake      3 a party refused      4 a service cannot be reached
5 damaged, altered or foreign data, or a wrong passphrase      130 interrupted
"""

from typing import NamedTuple

from jcbir.errors import FormatError, IntegrityError, KeyMismatchError

DONE, MISTAKE, REFUSED, UNREACHABLE, DAMAGED, INTERRUPTED = 0, 2, 3, 4, 5, 130
EXTRAS = {
    "httpx": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "h5py": "weights",
    "huggingface_hub": "weights",
    "ray": "ray",
}
"""Package to the extra of jcbir that installs it."""


class Failure(NamedTuple):
    """How a command ended.

    Fields:
        status: exit status.
        code: short name of the reason, for scripts.
        reason: one sentence.
    """

    status: int
    code: str
    reason: str


def classify(error: BaseException) -> Failure | None:
    """Name an error that a user of the command line may meet.

    Args:
        error: what was raised.

    Returns:
        How to end, or None for an error that nobody expected.

    Example:
        >>> classify(FormatError("photo: not a picture"))
        Failure(status=5, code='damaged', reason='photo: not a picture')
        >>> classify(ZeroDivisionError()) is None
        True
    """
    reason = " ".join(str(error).split()) or type(error).__name__
    match error:
        case KeyboardInterrupt():
            return Failure(INTERRUPTED, "interrupted", "interrupted")
        case ModuleNotFoundError() if (error.name or "").split(".")[0] in EXTRAS:
            package = (error.name or "").split(".")[0]
            extra = EXTRAS[package]
            return Failure(MISTAKE, "missing-extra", f"this needs {package}: pip install 'jcbir[{extra}]'")
        case ConnectionError() | TimeoutError():
            return Failure(UNREACHABLE, "unreachable", reason)
        case ValueError() if isinstance(getattr(error, "code", None), str):
            # Every refusal of the protocol, and only these, carries a code.
            return Failure(REFUSED, error.code, reason)  # type: ignore[attr-defined]
        case FormatError() | IntegrityError() | KeyMismatchError():
            return Failure(DAMAGED, "damaged", reason)
        case ValueError() | OSError():
            return Failure(MISTAKE, "mistake", reason)
    return None


__all__ = ["EXTRAS", "Failure", "classify"]
