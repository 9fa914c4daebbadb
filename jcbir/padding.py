"""Lengths that tell little of what is inside, at little cost. A leaf, so that a server may use it as well."""


def padded_length(length: int) -> int:
    """Round a length up to one whose binary form has ones among its first digits only (Padme).

    `floor(log2(floor(log2 l))) + 2` digits tell it: `O(log log l)` bits instead of `log l`, for 12 % more at most.

    Args:
        length: bytes, from 0.

    Returns:
        Bytes, `length` or more.

    Example:
        >>> [padded_length(length) for length in (9, 1000, 1_000_000)]
        [10, 1024, 1015808]

    References:
        Nikitin, Barman, Lueks, Underwood, Hubaux and Ford, Reducing Metadata Leakage from Encrypted Files and
        Communication with PURBs, PETS 2019, algorithm 1.
    """
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (length + mask) & ~mask
