"""Orders on their way: files in the outbox, sent in order, removed when the other side has them on its disk."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jcbir.cli.console import Advance
from jcbir.cli.owner_options import Links
from jcbir.cli.workspace import OUTBOX, Home, Writer, write_message
from jcbir.protocol import wire
from jcbir.protocol.messages import (
    Appointment,
    Catalogue,
    Publication,
    Recall,
    Recalled,
    Revocation,
    Succession,
    Withdrawal,
)

RECIPIENTS = {
    Publication: ("cloud",),
    Catalogue: ("authority",),
    Withdrawal: ("cloud", "authority"),
    Revocation: ("cloud", "authority"),
    Succession: ("cloud",),
    Appointment: ("authority",),
}
"""Who gets which order."""


Carrier = Callable[[Any], None]
"""Takes an order to one recipient and returns when it is on that one's disk."""


def post(home: Home, messages: Sequence[Any]) -> dict[str, Writer]:
    """Address orders: what `commit` is to write into the outbox.

    Args:
        home: the open folder.
        messages: signed orders.

    Returns:
        Place in the folder to writer.

    Example:
        >>> from jcbir.cli.workspace import Settings
        >>> from jcbir.protocol.session import small_system
        >>> system, settings = small_system(), Settings(("bitsliced",), "aes-gcm", "", None)
        >>> home = Home(Path("no/such"), system.owner, settings, "correct horse", 14)
        >>> list(post(home, [system.publication, system.catalogue]))
        ['outbox/00000000-publication.cloud', 'outbox/00000001-catalogue.authority']
    """
    number = max((int(file.name.split("-")[0]) for file in pending(home.path)), default=-1) + 1
    writers = {}
    for message in messages:
        for recipient in RECIPIENTS[type(message)]:
            name = f"{number:08d}-{type(message).__name__.lower()}.{recipient}"
            writers[f"{OUTBOX}/{name}"] = write_message(message)
        number += 1
    return writers


def pending(path: Path) -> list[Path]:
    """List the orders that wait, in the order they were given.

    Args:
        path: the owner's folder.

    Returns:
        Their files.

    Example:
        >>> pending(Path("no/such"))
        []
    """
    return sorted(file for file in path.glob(f"{OUTBOX}/*-*") if not file.name.startswith("."))


def deliver(home: Home, carriers: Mapping[str, Carrier], *, advance: Advance | None = None) -> int:
    """Send what waits to those that can be reached; the rest goes on waiting.

    Args:
        home: the open folder.
        carriers: recipient to carrier.
        advance: told (sent, to send) after each.

    Returns:
        How many were sent.

    Raises:
        RefusalError: a service refuses an order; it and all after it wait.
        ConnectionError: a service cannot be reached.

    Example:
        >>> import tempfile
        >>> from jcbir.cli.workspace import Settings, commit
        >>> from jcbir.protocol.session import small_system
        >>> system, settings = small_system(), Settings(("bitsliced",), "aes-gcm", "", None)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     home = Home(Path(folder), system.owner, settings, "correct horse", 14)
        ...     home = commit(home, home.owner, post(home, [system.publication, system.catalogue]))
        ...     deliver(home, {"cloud": lambda message: None}), [file.name for file in pending(home.path)]
        (1, ['00000001-catalogue.authority'])
    """
    sent, files = 0, [file for file in pending(home.path) if file.suffix[1:] in carriers]
    for file in files:
        message = wire.from_bytes(file.read_bytes())
        # Orders of an epoch that is over would be refused.
        if _epoch(message) == home.owner.card.epoch:
            carriers[file.suffix[1:]](message)
            sent += 1
        file.unlink()
        if advance is not None:
            advance(sent, len(files))
    return sent


@contextlib.contextmanager
def carriers(links: Links) -> Iterator[dict[str, Carrier]]:
    """Open the connections that addresses are given for, for the length of a block.

    Args:
        links: the addresses.

    Yields:
        Recipient to carrier.

    Raises:
        ModuleNotFoundError: the `serve` extra is not installed.

    Example:
        >>> with carriers(Links()) as opened:
        ...     opened
        {}
    """
    with contextlib.ExitStack() as stack:
        opened = {}
        for recipient, url in (("cloud", links.cloud), ("authority", links.authority)):
            if url is not None:
                opened[recipient] = stack.enter_context(_carrier(url, links))
        yield opened


@contextlib.contextmanager
def fetcher(links: Links) -> Iterator[Callable[[Recall], Recalled]]:
    """Open a connection by which the owner recalls sealed images, for the length of a block.

    Args:
        links: the addresses; the cloud's is needed.

    Yields:
        What takes a recall to the cloud and brings its answer.

    Raises:
        ValueError: no address of the cloud.
        ModuleNotFoundError: the `serve` extra is not installed.

    Example:
        >>> with fetcher(Links()):
        ...     pass
        Traceback (most recent call last):
        ...
        ValueError: cloud: its address is needed
    """
    if links.cloud is None:
        raise ValueError("cloud: its address is needed")
    from jcbir.service.client import connect, recall

    with connect(links.cloud, certificate=links.certificate, timeout=links.timeout) as link:
        yield lambda message: recall(link, message)


@contextlib.contextmanager
def _carrier(url: str, links: Links) -> Iterator[Carrier]:
    # Only who has an address needs the extra.
    from jcbir.service.client import connect, send_order

    with connect(url, certificate=links.certificate, timeout=links.timeout) as link:
        yield lambda message: send_order(link, message)


def _epoch(message: Any) -> int:
    return message.card.epoch if isinstance(message, (Publication, Succession, Appointment)) else message.epoch


__all__ = ["RECIPIENTS", "Carrier", "carriers", "deliver", "fetcher", "pending", "post"]
