"""The four errors a caller may want to tell apart; any other is a `ValueError` naming argument, bound and value."""


class CapacityError(ValueError):
    """A layout would not fit its plaintext: lanes, digits or slots exceed the modulus."""


class KeyMismatchError(ValueError):
    """A ciphertext, index, message or file belongs to another key, collection or system."""


class IntegrityError(ValueError):
    """An authentication tag, signature or checksum does not verify; nothing of the content is returned."""


class FormatError(ValueError):
    """Bytes are not in the format, version or length they claim."""
