"""Orders on their way: files in the outbox, sent in order, removed when the other side has them on its disk."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jcbir.cli.console import Advance
from jcbir.cli.options import Links
from jcbir.cli.workspace import OUTBOX, Workspace, Writer, write_message
from jcbir.errors import FormatError
from jcbir.protocol import wire
from jcbir.protocol.messages import (
    Appointment,
    Catalog,
    Head,
    Publication,
    Recall,
    Recalled,
    Revocation,
    Succession,
    Withdrawal,
)

RECIPIENTS = {
    Publication: ("cloud",),
    Catalog: ("authority",),
    Withdrawal: ("cloud", "authority"),
    Revocation: ("cloud", "authority"),
    Head: ("cloud", "authority"),
    Succession: ("cloud",),
    Appointment: ("authority",),
}
"""Who gets which order."""


Carrier = Callable[[Any], None]
"""Takes an order to one recipient and returns when it is on that one's disk."""

Fetch = Callable[[Recall], Recalled]
"""Takes a recall to the cloud and brings its answer."""


def post(workspace: Workspace, messages: Sequence[Any]) -> dict[str, Writer]:
    """Address orders: what `commit` is to write into the outbox."""
    number = max((int(file.name.split("-")[0]) for file in pending(workspace.path)), default=-1) + 1
    writers = {}
    for message in messages:
        for recipient in RECIPIENTS[type(message)]:
            name = f"{number:08d}-{type(message).__name__.lower()}.{recipient}"
            writers[f"{OUTBOX}/{name}"] = write_message(message)
        number += 1
    return writers


def pending(path: Path) -> list[Path]:
    """List the orders that wait, in the order they were given."""
    return sorted(file for file in path.glob(f"{OUTBOX}/*-*") if not file.name.startswith("."))


def deliver(workspace: Workspace, carriers: Mapping[str, Carrier], *, advance: Advance | None = None) -> int:
    """Send what waits to those that can be reached; the rest goes on waiting."""
    sent, files = 0, [file for file in pending(workspace.path) if file.suffix[1:] in carriers]
    for file in files:
        message = _read(file)
        # Orders of an epoch that is over would be refused.
        if _epoch(message) == workspace.owner.card.epoch:
            carriers[file.suffix[1:]](message)
            sent += 1
        file.unlink()
        if advance is not None:
            advance(sent, len(files))
    return sent


@contextlib.contextmanager
def carriers(links: Links) -> Iterator[dict[str, Carrier]]:
    """Open the connections that addresses are given for, for the length of a block."""
    with contextlib.ExitStack() as stack:
        opened = {}
        for recipient, url in (("cloud", links.cloud), ("authority", links.authority)):
            if url is not None:
                _check_side(recipient, url, links)
                opened[recipient] = stack.enter_context(_carrier(url, links))
        yield opened


@contextlib.contextmanager
def fetcher(links: Links) -> Iterator[Fetch]:
    """Open a connection by which the owner recalls sealed images, for the length of a block."""
    if links.cloud is None:
        raise ValueError("cloud: must be an address, got none: sealed photographs are taken back from there")
    from jcbir.service.client import connect, recall

    with connect(
        links.cloud, certificate=links.certificate, insecure_http=links.insecure_http, timeout=links.timeout
    ) as link:
        yield lambda message: recall(link, message)


def ask_health(url: str, links: Links) -> dict[str, Any]:
    """What a service says of itself."""
    from jcbir.service.client import connect, fetch_health

    patience = min(links.timeout, 10.0)
    with connect(url, certificate=links.certificate, insecure_http=links.insecure_http, timeout=patience) as link:
        return fetch_health(link)


def _check_side(recipient: str, url: str, links: Links) -> None:
    """Refuse the address of the other service, before anything is done that takes long; who is away is waited for."""
    with contextlib.suppress(ConnectionError):
        found = ask_health(url, links).get("service", recipient)
        if found != recipient:
            raise ValueError(f"{recipient}: must be the address of the {recipient}, got {url}, which is the {found}'s")


@contextlib.contextmanager
def _carrier(url: str, links: Links) -> Iterator[Carrier]:
    # Only who has an address needs the extra.
    from jcbir.service.client import connect, send_order

    with connect(url, certificate=links.certificate, insecure_http=links.insecure_http, timeout=links.timeout) as link:
        yield lambda message: send_order(link, message)


def _read(file: Path) -> Any:
    try:
        return wire.from_bytes(file.read_bytes())
    except FormatError as error:
        raise FormatError(f"{file}: {error}") from None


def _epoch(message: Any) -> int:
    return message.card.epoch if isinstance(message, (Publication, Succession, Appointment)) else message.epoch
