"""How the authority of one epoch learns the secrets of the next from the owner, over a channel that others read.

They travel sealed (HPKE) to a key that derives from the authority's secret of the epoch before. So whoever has stolen
that secret and sees the message has the new ones as well: then the key file is handed over by hand instead.
"""

import dataclasses
import hmac
import struct

from jcbir.errors import FormatError
from jcbir.paillier._primes import StructuredPrime
from jcbir.paillier.secret import SecretKey
from jcbir.protocol._digests import digest
from jcbir.protocol._signatures import sign
from jcbir.protocol.epochs import check_successor
from jcbir.protocol.holdings import Delegation, Owner, delegate
from jcbir.protocol.messages import Appointment, Succession
from jcbir.sealing import open_from, public_half, seal_to

DOMAIN = "jcbir appointment v1"
_LENGTH = struct.Struct(">H")
_FIELDS = 8


def announce(old: Owner, new: Owner) -> tuple[Succession, Appointment]:
    """Tell server and authority that the next epoch begins.

    Args:
        old: the owner's state in the epoch that ends.
        new: the state that `jcbir.protocol.owner.rekey` made of it.

    Returns:
        The message for the server, and the one for the authority, which holds the new delegation sealed.

    Example:
        >>> import secrets
        >>> from jcbir.protocol import authority, session as example, owner
        >>> system = example.small_system()
        >>> _, appointment = announce(system.owner, owner.rekey(system.owner, draw=secrets.token_bytes))
        >>> authority.succeed(system.authority, appointment)
        Authority('photos', epoch 1, 0 segments, redacted)
    """
    info = digest(new.card, domain=DOMAIN)
    body = seal_to(public_half(_sealing_secret(old.authority_secret)), _write(delegate(new)), info=info, aad=b"")
    appointment = sign(Appointment(new.card, body), secret=new.signing_secret)
    return sign(Succession(new.card), secret=new.signing_secret), appointment


def open_appointment(held: Delegation, appointment: Appointment) -> Delegation:
    """Open an appointment with the secrets of the epoch before.

    Args:
        held: the delegation in force.
        appointment: from the owner.

    Returns:
        The delegation of the new epoch; the old one for a repeated message.

    Raises:
        RefusalError: see `jcbir.protocol.epochs.check_successor`.
        IntegrityError: it was sealed to another authority.
        FormatError: what it holds is no delegation of that card.

    Example:
        >>> import secrets
        >>> from jcbir.protocol import session as example, owner
        >>> old = example.small_system().owner
        >>> new = owner.rekey(old, draw=secrets.token_bytes)
        >>> open_appointment(owner.delegate(old), announce(old, new)[1]) == owner.delegate(new)
        True
    """
    if not check_successor(held.card, appointment):
        return held
    info = digest(appointment.card, domain=DOMAIN)
    body = open_from(_sealing_secret(held.authority_secret), appointment.sealed, info=info, aad=b"")
    return _read(body, dataclasses.replace(held, card=appointment.card))


def _sealing_secret(authority_secret: bytes) -> bytes:
    return hmac.digest(authority_secret, DOMAIN.encode(), "sha256")


def _write(delegation: Delegation) -> bytes:
    numbers = (*delegation.secret.p, *delegation.secret.q)
    fields = [value.to_bytes((value.bit_length() + 7) // 8) for value in numbers]
    fields = [delegation.image_master, delegation.authority_secret, *fields]
    return b"".join(_LENGTH.pack(len(field)) + field for field in fields)


def _read(body: bytes, held: Delegation) -> Delegation:
    fields, start = [], 0
    while start + _LENGTH.size <= len(body):
        (length,) = _LENGTH.unpack_from(body, start)
        fields.append(body[start + _LENGTH.size : start + _LENGTH.size + length])
        start += _LENGTH.size + length
    if start != len(body) or len(fields) != _FIELDS or {len(fields[0]), len(fields[1])} != {32}:
        raise FormatError("appointment: what is sealed in it is no delegation")
    p, q = (StructuredPrime(*map(int.from_bytes, fields[first : first + 3])) for first in (2, 5))
    try:
        secret = SecretKey(held.card.public, p, q)
    except ValueError:
        # The reason would speak of the primes.
        raise FormatError("appointment: the key sealed in it is not the card's") from None
    return Delegation(held.card, secret, fields[0], fields[1])


__all__ = ["announce", "open_appointment"]
