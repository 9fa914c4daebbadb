"""The four errors a caller may want to tell apart; any other is a `ValueError` naming argument, bound and value."""


class CapacityError(ValueError):
    """A layout would not fit its plaintext: lanes, digits or slots exceed the modulus."""


class KeyMismatchError(ValueError):
    """A ciphertext, index, message or file belongs to another key, collection or system."""


class IntegrityError(ValueError):
    """An authentication tag, signature or checksum does not verify; nothing of the content is returned."""


class FormatError(ValueError):
    """Bytes are not in the format, version or length they claim."""


def check_version(found: int, *, version: int, name: str, remedy: str) -> None:
    """Refuse what was written in another version of a format, and say what is to be done.

    Args:
        found: the version that it states.
        version: the one that can be read.
        name: what it is.
        remedy: what to do about an earlier one, whose content this version cannot take over.

    Raises:
        FormatError: it is another one.

    Example:
        >>> check_version(1, version=2, name="store", remedy="begin an empty one")
        Traceback (most recent call last):
        ...
        jcbir.errors.FormatError: store: must be of version 2, got 1, which an earlier jcbir wrote: begin an empty one
    """
    if found != version:
        wrote = f"an earlier jcbir wrote: {remedy}" if found < version else "a later jcbir wrote: install that"
        raise FormatError(f"{name}: must be of version {version}, got {found}, which {wrote}")
