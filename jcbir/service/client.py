"""The Python client of both services: owner's orders to either, a user's query to the cloud.

with connect("https://cloud.example:8443", certificate=Path("cloud.pem")) as link:
    card = fetch_card(link)
    me, query = user.ask(me, codes, top=10, now=now, draw=secrets.token_bytes)
    me, matches = user.receive(me, search(link, query))
"""

import contextlib
import dataclasses
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from jcbir.errors import FormatError
from jcbir.protocol import wire
from jcbir.protocol.messages import (
    Appointment,
    Card,
    Catalogue,
    Delivery,
    Publication,
    Query,
    Recall,
    Recalled,
    Refusal,
    Revocation,
    Succession,
    Withdrawal,
)
from jcbir.protocol.refusals import REFUSALS, RefusalError

MEDIA_TYPE = "application/vnd.jcbir"
MOST_BYTES = 1 << 30
ROUTES: dict[type, str] = {
    Publication: "/v1/publications",
    Catalogue: "/v1/catalogues",
    Withdrawal: "/v1/withdrawals",
    Revocation: "/v1/revocations",
    Succession: "/v1/successions",
    Appointment: "/v1/appointments",
}
_PATIENT = (429, 503)
_LONGEST_PAUSE = 30.0


class UnreachableError(ConnectionError):
    """Nobody answers at the URL, or the connection broke."""


class BusyError(ConnectionError):
    """The service asked to come back later, until the time for it was over."""


class DeclinedRequestError(RefusalError):
    """The service declined for a reason of its own, not one of the protocol's; `code` names it."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


@dataclasses.dataclass(frozen=True)
class Link:
    """A service and the connections to it.

    Attributes:
        url: where it is.
        client: connections, kept open between calls.
        timeout: seconds that one call may take, waiting for a busy service included.
        most_bytes: longest answer accepted.
    """

    url: str
    client: httpx.Client
    timeout: float
    most_bytes: int


@contextlib.contextmanager
def connect(
    url: str, *, certificate: Path | None = None, timeout: float = 60.0, most_bytes: int = MOST_BYTES
) -> Iterator[Link]:
    """Open connections to a service for the length of a block.

    Args:
        url: `http://host:port` or `https://host:port`.
        certificate: PEM file of the certificate (or its issuer) to trust; None trusts the system's issuers.
        timeout: seconds that one call may take, waiting for a busy service included.
        most_bytes: longest answer accepted.

    Yields:
        The link.

    Raises:
        FileNotFoundError: no such certificate.

    Example:
        >>> with connect("http://127.0.0.1:9") as link:
        ...     link.url
        'http://127.0.0.1:9'
    """
    context = trusted_context(url, certificate=certificate)
    limits = httpx.Timeout(timeout, connect=min(timeout, 10.0))
    # Environment proxies would see who asks whom, and what a localhost test sends.
    with httpx.Client(base_url=url, verify=context, timeout=limits, trust_env=False) as client:
        yield Link(url, client, timeout, most_bytes)


def trusted_context(url: str, *, certificate: Path | None = None) -> ssl.SSLContext:
    """Decide whom to trust at the other end.

    Args:
        url: where the service is.
        certificate: PEM file of the certificate (or its issuer) to trust; None trusts the system's issuers.

    Returns:
        The context; for a plain `http://` one that trusts nobody, since loading the system's issuers takes long.

    Raises:
        FileNotFoundError: no such certificate.

    Example:
        >>> trusted_context("http://127.0.0.1:9").verify_mode.name
        'CERT_REQUIRED'
    """
    if url.startswith("http://") and certificate is None:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return ssl.create_default_context(cafile=None if certificate is None else str(certificate))


def fetch_card(link: Link) -> Card:
    """Fetch the public card of the collection that a cloud serves; compare its fingerprint before trusting it.

    Args:
        link: to a cloud.

    Returns:
        The card.

    Raises:
        UnreachableError: nobody answers there.
        FormatError: the answer is no card.

    Example:
        >>> with connect("http://127.0.0.1:9", timeout=1.0) as link:
        ...     fetch_card(link)
        Traceback (most recent call last):
        ...
        jcbir.service.client.UnreachableError: http://127.0.0.1:9: ...
    """
    return wire.from_bytes(_call(link, "GET", "/v1/card", b""), expect=Card)


def send_order(
    link: Link, message: Publication | Catalogue | Withdrawal | Revocation | Succession | Appointment
) -> None:
    """Send an order that the owner signed; the same order again is no error.

    Args:
        link: to a cloud (publications, withdrawals, revocations, successions) or an authority (catalogues, withdrawals,
            revocations, appointments).
        message: the order.

    Returns:
        Nothing; when it returns, the service has the order on its disk.

    Raises:
        ValueError: the message is no order.
        RefusalError: the service refuses it, in the form that names the reason.
        UnreachableError: nobody answers there.
        BusyError: the service was busy for all of the timeout.

    Example:
        >>> sorted(kind.__name__ for kind in ROUTES)
        ['Appointment', 'Catalogue', 'Publication', 'Revocation', 'Succession', 'Withdrawal']
    """
    if type(message) not in ROUTES:
        raise ValueError(f"message: expected an order of the owner, got {type(message).__name__}")
    _call(link, "POST", ROUTES[type(message)], wire.to_bytes(message))


def search(link: Link, query: Query) -> Delivery:
    """Send a query, wait for its delivery.

    Args:
        link: to a cloud.
        query: from `jcbir.protocol.user.ask`.

    Returns:
        The delivery, for `jcbir.protocol.user.receive`.

    Raises:
        RefusalError: cloud or authority refuses it, in the form that names the reason.
        UnreachableError: nobody answers there; the query may have been answered: ask anew.
        BusyError: the service was busy for all of the timeout.
        FormatError: the answer is no delivery.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> body = wire.to_bytes(small_system().delivery)
        >>> answers = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
        >>> with httpx.Client(base_url="http://cloud", transport=answers) as client:
        ...     len(search(Link("http://cloud", client, 60.0, MOST_BYTES), small_system().query).images)
        2
    """
    return wire.from_bytes(_call(link, "POST", "/v1/queries", wire.to_bytes(query)), expect=Delivery)


def recall(link: Link, message: Recall) -> Recalled:
    """Take sealed images back from a cloud, the first of those asked for.

    Args:
        link: to a cloud.
        message: from `jcbir.protocol.owner.recall`.

    Returns:
        The images that fit into one answer, at least one.

    Raises:
        RefusalError: the cloud refuses it, in the form that names the reason.
        UnreachableError: nobody answers there.
        FormatError: the answer is none.

    Example:
        >>> from jcbir.protocol import session as example, owner
        >>> system = example.small_system()
        >>> message = owner.recall(system.owner, system.catalogue.image_ids, now=example.NOW)
        >>> body = wire.to_bytes(Recalled(system.publication.images[:1]))
        >>> answers = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
        >>> with httpx.Client(base_url="http://cloud", transport=answers) as client:
        ...     len(recall(Link("http://cloud", client, 60.0, MOST_BYTES), message).images)
        1
    """
    return wire.from_bytes(_call(link, "POST", "/v1/recalls", wire.to_bytes(message)), expect=Recalled)


def rebuild_error(refusal: Refusal) -> ValueError:
    """Make the error of a refusal again.

    Args:
        refusal: as a service sent it.

    Returns:
        The protocol's error with that code; `FormatError` for "malformed"; else `DeclinedRequestError`.

    Example:
        >>> rebuild_error(Refusal("stale-query", "too late"))
        StaleQueryError('too late')
    """
    for error in REFUSALS:
        if error.code == refusal.code:
            return error(refusal.reason)
    if refusal.code == "malformed":
        return FormatError(refusal.reason)
    return DeclinedRequestError(refusal.code, refusal.reason)


def _call(link: Link, method: str, path: str, content: bytes) -> bytes:
    deadline = time.monotonic() + link.timeout
    while True:
        status, pause, body = _exchange(link, method, path, content)
        if status == 200:
            return body
        if status not in _PATIENT:
            raise rebuild_error(_read_refusal(link, status, body))
        if time.monotonic() + pause > deadline:
            raise BusyError(f"{link.url}: busy for {link.timeout:g} s: {_read_refusal(link, status, body).reason}")
        time.sleep(pause)


def _exchange(link: Link, method: str, path: str, content: bytes) -> tuple[int, float, bytes]:
    headers = {"content-type": MEDIA_TYPE} if content else {}
    try:
        with link.client.stream(method, path, content=content or None, headers=headers) as response:
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > link.most_bytes:
                    raise FormatError(f"{link.url}: an answer of more than {link.most_bytes} bytes")
            return response.status_code, _pause(response), bytes(body)
    except httpx.TimeoutException as error:
        raise UnreachableError(f"{link.url}: no answer in time ({type(error).__name__})") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreachableError(f"{link.url}: {_why(error)}") from None


def _why(error: BaseException) -> str:
    """What went wrong below; of a certificate what is wrong with it, without the library's file and line."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, ssl.SSLCertVerificationError):
            return f"its certificate is not to be trusted: {below.verify_message}"
        below = below.__cause__ or below.__context__
    return str(error) or type(error).__name__


def _pause(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "1")
    return min(_LONGEST_PAUSE, float(text)) if text.isdecimal() else 1.0


def _read_refusal(link: Link, status: int, body: bytes) -> Any:
    try:
        return wire.from_bytes(body, expect=Refusal, limit=1 << 16)
    except FormatError:
        return Refusal("unexpected", f"{link.url} answered status {status} and no message of this version")


__all__ = [
    "ROUTES",
    "BusyError",
    "DeclinedRequestError",
    "Link",
    "UnreachableError",
    "connect",
    "fetch_card",
    "rebuild_error",
    "recall",
    "search",
    "send_order",
    "trusted_context",
]
