"""What the owner hands the authority, and how the next epoch's reaches it over a channel that others read.

It travels sealed (HPKE) to the authority's own key, with the new card as context: whoever has stolen the authority's
identity and sees the message has what is in it as well.
"""

import dataclasses
import hmac
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jcbir.errors import FormatError
from jcbir.protocol import wire
from jcbir.protocol._digests import digest
from jcbir.protocol._schema import (
    Codec,
    Reader,
    fields,
    octets,
    read_plain,
    read_versioned,
    record,
    rows,
    write_plain,
    write_versioned,
)
from jcbir.protocol.messages import Card
from jcbir.ranking._keys import TaggedKey, tag_key
from jcbir.ranking._secret_keys import SECRET_KEY_KINDS
from jcbir.sealing import open_from, seal_to
from jcbir.typing import Rows

VERSION = 2
DOMAIN = "jcbir appointment v2"
CLAIM = np.dtype(">u2")
"""How a user's distance to a sentinel's code travels in its openings."""
_SEALING_DOMAIN = b"jcbir authority sealing v1"
_HINT = rows(width=1 << 20)


@dataclasses.dataclass(frozen=True, repr=False)
class Delegation:
    """Owner to authority, over a channel nobody else reads: what the authority needs to answer queries. Secret.

    Attributes:
        card: the collection.
        secret: the secret key.
        image_master: 32 bytes, image keys derive from it.
    """

    card: Card
    secret: Any
    image_master: bytes

    def __repr__(self) -> str:
        return f"Delegation({self.card.collection!r}, epoch {self.card.epoch}, secrets redacted)"


class _Secret(NamedTuple):
    public: TaggedKey
    fields: Mapping[str, int | bytes]


_FIELDS = record(_Secret, public=wire.PUBLIC_KEY, fields=fields())


def _pack_secret(secret: Any) -> Any:
    public = tag_key(secret.public)
    return _FIELDS.pack(_Secret(public, SECRET_KEY_KINDS[public.kind].to_fields(secret)))


def _parse_secret(reader: Reader, name: str) -> Any:
    public, values = _FIELDS.parse(reader, name)
    return SECRET_KEY_KINDS[public.kind].from_fields(public.key, values)


SECRET_KEY = Codec(_pack_secret, _parse_secret)
DELEGATION = record(Delegation, card=wire.CARD, secret=SECRET_KEY, image_master=octets(low=32, high=32))


def sealing_secret(identity_secret: bytes) -> bytes:
    """The HPKE private key of an authority, from the secret of its identity."""
    return hmac.digest(identity_secret, _SEALING_DOMAIN, "sha256")


def seal_delegation(delegation: Delegation) -> bytes:
    """The delegation sealed to the authority that its card names."""
    card = delegation.card
    body = write_versioned(DELEGATION, delegation, version=VERSION)
    return seal_to(card.authority_sealing_key, body, info=digest(card, domain=DOMAIN), aad=b"")


def open_delegation(identity_secret: bytes, card: Card, sealed: bytes) -> Delegation:
    """The delegation again; FormatError where it is not that card's."""
    body = open_from(sealing_secret(identity_secret), sealed, info=digest(card, domain=DOMAIN), aad=b"")
    try:
        delegation = read_versioned(DELEGATION, body, version=VERSION, name="appointment")
    except FormatError:
        # The reason would speak of the primes.
        raise FormatError("appointment: what is sealed in it is no delegation") from None
    if delegation.card != card or delegation.secret.public != card.public.key:
        raise FormatError("appointment: the key sealed in it is not the card's")
    return delegation


def seal_openings(card: Card, openings: bytes, *, scheme: str, nonce: bytes) -> bytes:
    """A user's openings sealed to the authority that the card names."""
    return seal_to(card.authority_sealing_key, openings, info=_openings_context(card, scheme, nonce), aad=b"")


def open_openings(identity_secret: bytes, card: Card, sealed: bytes, *, scheme: str, nonce: bytes) -> bytes:
    """The openings again; IntegrityError where they are of another request."""
    info = _openings_context(card, scheme, nonce)
    return open_from(sealing_secret(identity_secret), sealed, info=info, aad=b"")


def seal_hint(card: Card, hint: Rows, *, segment: int, scheme: str) -> bytes:
    """A segment's hint sealed to the authority that the card names: nobody else opens it again, nor does its owner."""
    info = _hint_context(card, segment, scheme)
    return seal_to(card.authority_sealing_key, write_plain(_HINT, hint), info=info, aad=b"")


def open_hint(identity_secret: bytes, card: Card, sealed: bytes, *, segment: int, scheme: str) -> Rows:
    """The hint again; IntegrityError where it is another segment's."""
    body = open_from(sealing_secret(identity_secret), sealed, info=_hint_context(card, segment, scheme), aad=b"")
    return read_plain(_HINT, body, name="hint")


def _hint_context(card: Card, segment: int, scheme: str) -> bytes:
    return digest((card, segment, scheme), domain="jcbir hint v1")


def _openings_context(card: Card, scheme: str, nonce: bytes) -> bytes:
    return digest((card, scheme, nonce), domain="jcbir openings v1")
