"""The Python client of both services: owner's orders to either, a user's query to the cloud.

with connect("https://cloud.example:8443", certificate=Path("cloud.pem")) as link:
    card = fetch_card(link)
    me, query = user.ask(me, codes, top=10, now=now, draw=secrets.token_bytes)
    me, matches = user.receive(me, search(link, query))
"""

import contextlib
import dataclasses
import ipaddress
import json
import ssl
import time
import urllib.parse
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from jcbir.errors import FormatError
from jcbir.protocol import wire
from jcbir.protocol.messages import (
    Appointment,
    Audit,
    Card,
    Catalog,
    Delivery,
    Head,
    Inquiry,
    Opened,
    Publication,
    Query,
    Recall,
    Recalled,
    Refusal,
    Revocation,
    Succession,
    Usage,
    Withdrawal,
)
from jcbir.protocol.refusals import REFUSALS, OverBudgetError, RefusalError

MEDIA_TYPE = "application/vnd.jcbir"
MOST_BYTES, MOST_SECONDS = 1 << 30, 86400.0
ROUTES: dict[type, str] = {
    Publication: "/v1/publications",
    Catalog: "/v1/catalogs",
    Withdrawal: "/v1/withdrawals",
    Revocation: "/v1/revocations",
    Succession: "/v1/successions",
    Appointment: "/v1/appointments",
    Head: "/v1/heads",
}
_PATIENT = (429, 503)
_LONGEST_PAUSE = 30.0


class UnreachableError(ConnectionError):
    """Nobody answers at the URL, or the connection broke."""


class BusyError(ConnectionError):
    """The service asked to come back later, until the time for it was over."""


class DeclinedRequestError(RefusalError):
    """The service declined for a reason of its own, not one of the protocol's; `code` names it."""

    def __init__(self, code: str, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {reason}", retry_after=retry_after)
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
    url: str,
    *,
    certificate: Path | None = None,
    insecure_http: bool = False,
    timeout: float = 60.0,
    most_bytes: int = MOST_BYTES,
) -> Iterator[Link]:
    """Open connections to a service for the length of a block.

    Args:
        url: `http://host:port` or `https://host:port`.
        certificate: PEM file of the certificate (or its issuer) to trust; None trusts the system's issuers.
        insecure_http: see `check_url`.
        timeout: seconds that one call may take, waiting for a busy service included.
        most_bytes: longest answer accepted.

    Yields:
        The link.

    Raises:
        FileNotFoundError: no such certificate.
        ValueError: see `check_url`; a timeout that is none.

    Example:
        >>> with connect("http://127.0.0.1:9") as link:
        ...     link.url
        'http://127.0.0.1:9'
    """
    check_url(url, insecure_http=insecure_http)
    if not 0 < timeout <= MOST_SECONDS:
        raise ValueError(f"timeout: must be above 0 and at most {MOST_SECONDS} seconds, got {timeout}")
    context = trusted_context(url, certificate=certificate)
    limits = httpx.Timeout(timeout, connect=min(timeout, 10.0))
    # Environment proxies would see who asks whom, and what a localhost test sends.
    with httpx.Client(base_url=url, verify=context, timeout=limits, trust_env=False) as client:
        yield Link(url, client, timeout, most_bytes)


def check_url(url: str, *, insecure_http: bool = False) -> None:
    """Refuse plain http to another machine: whoever is on the way reads masked queries and replaces what is answered.

    Args:
        url: where a service is.
        insecure_http: allow it nevertheless, with a warning.

    Raises:
        ValueError: plain http to another machine, or neither http nor https.

    Example:
        >>> check_url("http://127.0.0.1:8001")
        >>> check_url("http://cloud.example")
        Traceback (most recent call last):
        ...
        ValueError: url: must be https, or http to this machine, got 'http://cloud.example'
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        return
    if parts.scheme != "http" or not insecure_http:
        raise ValueError(f"url: must be https, or http to this machine, got {url!r}")
    warnings.warn(f"{url}: plain http; whoever is on the way reads and replaces what passes", stacklevel=2)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def trusted_context(url: str, *, certificate: Path | None = None) -> ssl.SSLContext:
    """Decide whom to trust at the other end.

    Args:
        url: where the service is.
        certificate: PEM file of the certificate (or its issuer) to trust; None trusts the system's issuers.

    Returns:
        The context; for a plain `http://` one that trusts nobody, since loading the system's issuers takes long. It
        writes no session keys, whatever SSLKEYLOGFILE says.

    Raises:
        FileNotFoundError: no such certificate.

    Example:
        >>> trusted_context("http://127.0.0.1:9").verify_mode.name
        'CERT_REQUIRED'
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if certificate is not None:
        context.load_verify_locations(cafile=str(certificate))
    elif url.startswith("https://"):
        context.load_default_certs()
    return context


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


def fetch_health(link: Link) -> dict[str, Any]:
    """Ask a service how it is.

    Args:
        link: to a cloud or an authority.

    Returns:
        What its `/health` says: `ok`, `epoch`, `segments` and more.

    Raises:
        UnreachableError: nobody answers there.
        BusyError: it did not become ready in time.
        FormatError: the answer is no service's.

    Example:
        >>> answers = httpx.MockTransport(lambda request: httpx.Response(200, json={"ok": True, "epoch": 2}))
        >>> with httpx.Client(base_url="http://cloud", transport=answers) as client:
        ...     fetch_health(Link("http://cloud", client, 60.0, MOST_BYTES))
        {'ok': True, 'epoch': 2}
    """
    try:
        health = json.loads(bytes(_call(link, "GET", "/health", b"")))
    except ValueError as error:
        raise error if isinstance(error, RefusalError) else FormatError(f"{link.url}: no service of jcbir") from None
    if not isinstance(health, dict):
        raise FormatError(f"{link.url}: no service of jcbir")
    return health


def send_order(
    link: Link, message: Publication | Catalog | Withdrawal | Revocation | Succession | Appointment | Head
) -> None:
    """Send an order that the owner signed; the same order again is no error.

    Args:
        link: to a cloud (publications, withdrawals, revocations, successions, heads) or an authority (catalogs,
            withdrawals, revocations, appointments, heads).
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
        ['Appointment', 'Catalog', 'Head', 'Publication', 'Revocation', 'Succession', 'Withdrawal']
    """
    if type(message) not in ROUTES:
        raise ValueError(f"message: must be an order of the owner, got {type(message).__name__}")
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


def audit(link: Link, message: Audit) -> Opened:
    """Have a cloud show how it came to some scores of a recent answer.

    Args:
        link: to a cloud.
        message: from `jcbir.protocol.audit.ask_audit`.

    Returns:
        The opening, for `jcbir.protocol.audit.check_opened`.

    Raises:
        RefusalError: the cloud refuses it: the answer is too old, or not this user's.
        UnreachableError: nobody answers there.
        FormatError: the answer is none.

    Example:
        >>> from jcbir.protocol.session import audited_system
        >>> shown = audited_system()
        >>> body = wire.to_bytes(shown.opened)
        >>> answers = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
        >>> with httpx.Client(base_url="http://cloud", transport=answers) as client:
        ...     len(audit(Link("http://cloud", client, 60.0, MOST_BYTES), shown.audit).blocks)
        2
    """
    return wire.from_bytes(_call(link, "POST", "/v1/audits", wire.to_bytes(message)), expect=Opened)


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
        >>> import secrets
        >>> from jcbir.protocol import session as example, owner
        >>> system = example.small_system()
        >>> message = owner.recall(system.owner, system.catalog.image_ids, now=example.NOW, draw=secrets.token_bytes)
        >>> body = wire.to_bytes(Recalled(system.publication.images[:1]))
        >>> answers = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
        >>> with httpx.Client(base_url="http://cloud", transport=answers) as client:
        ...     len(recall(Link("http://cloud", client, 60.0, MOST_BYTES), message).images)
        1
    """
    return wire.from_bytes(_call(link, "POST", "/v1/recalls", wire.to_bytes(message)), expect=Recalled)


def inquire(link: Link, message: Inquiry) -> Usage:
    """Ask an authority how much the grants took today.

    Args:
        link: to an authority.
        message: from `jcbir.protocol.owner.inquire`.

    Returns:
        The answer, for `jcbir.protocol.owner.check_usage`.

    Raises:
        RefusalError: the authority refuses it, in the form that names the reason.
        UnreachableError: nobody answers there.
        FormatError: the answer is none.

    Example:
        >>> import secrets
        >>> from jcbir.protocol import authority, owner
        >>> from jcbir.protocol.session import NOW, small_system
        >>> system = small_system()
        >>> message = owner.inquire(system.owner, now=NOW, draw=secrets.token_bytes)
        >>> body = wire.to_bytes(authority.usage(system.authority, message, now=NOW))
        >>> answers = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
        >>> with httpx.Client(base_url="http://authority", transport=answers) as client:
        ...     inquire(Link("http://authority", client, 60.0, MOST_BYTES), message).uses
        ()
    """
    return wire.from_bytes(_call(link, "POST", "/v1/inquiries", wire.to_bytes(message)), expect=Usage)


def _rebuild_error(refusal: Refusal) -> ValueError:
    """Make the error of a refusal again."""
    for error in REFUSALS:
        if error.code == refusal.code:
            return error(refusal.reason, retry_after=refusal.retry_after or None)
    if refusal.code == "malformed":
        return FormatError(refusal.reason)
    return DeclinedRequestError(refusal.code, refusal.reason, retry_after=refusal.retry_after or None)


def _call(link: Link, method: str, path: str, content: bytes) -> memoryview:
    deadline = time.monotonic() + link.timeout
    while True:
        status, pause, body = _exchange(link, method, path, content)
        if status == 200:
            return body
        refusal = _read_refusal(link, status, body)
        if refusal.code == "no-such-route":
            raise ValueError(f"url: must be of a service that has {path}, got {link.url}{_another(link)}")
        if status not in _PATIENT or refusal.code == OverBudgetError.code:
            raise _rebuild_error(refusal)
        if time.monotonic() + pause > deadline:
            raise BusyError(f"{link.url}: busy for {link.timeout:g} s: {refusal.reason}")
        time.sleep(pause)


def _another(link: Link) -> str:
    """Which service it is that was taken for another one."""
    with contextlib.suppress(ValueError, OSError, KeyError):
        return {"cloud": ", which is a cloud", "authority": ", which is an authority"}[fetch_health(link)["service"]]
    return ""


def _exchange(link: Link, method: str, path: str, content: bytes) -> tuple[int, float, memoryview]:
    headers = {"content-type": MEDIA_TYPE} if content else {}
    try:
        with link.client.stream(method, path, content=content or None, headers=headers) as response:
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > link.most_bytes:
                    raise FormatError(f"{link.url}: an answer of more than {link.most_bytes} bytes")
            return response.status_code, _pause(response), memoryview(body)
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
        if isinstance(below, ssl.SSLError) and below.reason == "WRONG_VERSION_NUMBER":
            return "it does not speak TLS; http://, perhaps?"
        if isinstance(below, OSError) and below.strerror and below.errno is not None:
            return f"{below.strerror[:1].lower()}{below.strerror[1:]}"
        below = below.__cause__ or below.__context__
    return str(error) or type(error).__name__


def _pause(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "1")
    return min(_LONGEST_PAUSE, float(text)) if text.isdecimal() else 1.0


def _read_refusal(link: Link, status: int, body: memoryview) -> Any:
    try:
        return wire.from_bytes(body, expect=Refusal, limit=1 << 16)
    except FormatError:
        return Refusal("unexpected", f"{link.url} answered status {status} and no message of this version")
