"""Padme: lengths that tell little of what is inside, at little cost. A leaf, so that a server may use it."""


def padded_length(length: int) -> int:
    """The least length of `length` or more whose binary form has no ones below its first `floor(log2 log2 l) + 1`.

    References:
        Nikitin, Barman, Lueks, Underwood, Hubaux and Ford, Reducing Metadata Leakage from Encrypted Files and
        Communication with PURBs, PETS 2019, algorithm 1: at most 12 % more, `O(log log l)` bits told.
    """
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return length + mask & ~mask
