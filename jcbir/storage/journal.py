"""The authority's memory: signed orders of the owner and the names of answered requests, in one SQLite file.

Secrets are not here (they are in the key file); the orders are kept as they were signed and checked again when they are
read. What is noted is on the disk when the call returns, so that a request answered before a crash is refused after it.
An appointment is kept as well, sealed as it came: from the key file of an earlier epoch it leads to the one in force.
"""

import contextlib
import dataclasses
import os
import sqlite3
from collections.abc import Iterator

from jcbir.errors import FormatError, KeyMismatchError
from jcbir.protocol import authority, wire
from jcbir.protocol._schema import read_plain, write_plain
from jcbir.protocol.authority import Authority
from jcbir.protocol.epochs import same_collection
from jcbir.protocol.grants import WINDOW_SECONDS
from jcbir.protocol.messages import Appointment, Card, Catalogue, Revocation, Withdrawal
from jcbir.protocol.refusals import ReplayedQueryError
from jcbir.storage.database import connect, explained, transaction

VERSION = 1
Order = Catalogue | Withdrawal | Revocation
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE orders (number INTEGER PRIMARY KEY, message BLOB NOT NULL UNIQUE);
CREATE TABLE answered (nonce BLOB PRIMARY KEY, issued INTEGER NOT NULL) WITHOUT ROWID;
"""


@contextlib.contextmanager
def open_journal(path: str | os.PathLike, card: Card) -> Iterator[sqlite3.Connection]:
    """Open a journal, make it where there is none, close it at the end of the block.

    A journal of an epoch before the card's is begun anew: who has the new key file has it from the owner.

    Args:
        path: the SQLite file.
        card: the collection it is of; the journal may be in a later epoch.

    Yields:
        The connection.

    Raises:
        KeyMismatchError: it is of another collection or key.
        FormatError: another version, or no journal.

    Example:
        >>> import tempfile
        >>> from jcbir.paillier.public import PublicKey
        >>> card = Card("photos", 0, 8, PublicKey(n=35, g=36), bytes(32), bytes(32))
        >>> with open_journal(f"{tempfile.mkdtemp()}/journal.sqlite", card) as journal:
        ...     journal.execute("SELECT count(*) FROM orders").fetchone()
        (0,)
    """
    with explained(path), contextlib.closing(connect(path, write=True)) as journal:
        with transaction(journal):
            if journal.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                for statement in _SCHEMA.split(";"):
                    journal.execute(statement)
                meta = {"version": bytes([VERSION]), "card": write_plain(wire.CARD, card)}
                journal.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        meta = dict(journal.execute("SELECT name, value FROM meta"))
        if meta.get("version") != bytes([VERSION]):
            raise FormatError(f"{path}: not a journal of version {VERSION}")
        held = read_plain(wire.CARD, meta["card"], name="card")
        if not same_collection(held, card) or (held.epoch == card.epoch and held != card):
            raise KeyMismatchError(
                f"{path}: of {held.collection!r} epoch {held.epoch}, asked for {card.collection!r} epoch {card.epoch}"
            )
        if held.epoch < card.epoch:
            with transaction(journal):
                journal.execute("DELETE FROM meta WHERE name LIKE 'appointment-%'")
                _begin_anew(journal, card)
        os.chmod(path, 0o600)
        yield journal


def keep_order(journal: sqlite3.Connection, order: Order) -> None:
    """Keep an order; when this returns, it is on the disk. The same order twice is kept once.

    Args:
        journal: open.
        order: a catalogue, withdrawal or revocation, already taken in by `jcbir.protocol.authority`.

    Returns:
        Nothing.

    Example:
        >>> import tempfile
        >>> from jcbir.protocol.session import small_system
        >>> system, folder = small_system(), tempfile.TemporaryDirectory()
        >>> with folder as path, open_journal(f"{path}/journal.sqlite", system.delegation.card) as journal:
        ...     keep_order(journal, system.catalogue)
        ...     keep_order(journal, system.catalogue)
        ...     journal.execute("SELECT count(*) FROM orders").fetchone()
        (1,)
    """
    with transaction(journal):
        journal.execute("INSERT OR IGNORE INTO orders (message) VALUES (?)", [wire.to_bytes(order)])


def keep_appointment(journal: sqlite3.Connection, appointment: Appointment) -> None:
    """Turn to the next epoch; when this returns, that is on the disk. Only earlier appointments are kept beside it.

    Args:
        journal: open.
        appointment: already taken up by `jcbir.protocol.authority.succeed`.

    Returns:
        Nothing.

    Example:
        >>> import dataclasses, tempfile
        >>> from jcbir.paillier.public import PublicKey
        >>> card = Card("photos", 0, 8, PublicKey(n=35, g=36), bytes(32), bytes(32))
        >>> with open_journal(f"{tempfile.mkdtemp()}/journal.sqlite", card) as journal:
        ...     keep_appointment(journal, Appointment(dataclasses.replace(card, epoch=1), b"sealed", bytes(64)))
        ...     journal.execute("SELECT name FROM meta WHERE name LIKE 'appointment-%'").fetchall()
        [('appointment-0000000001',)]
    """
    with transaction(journal):
        _begin_anew(journal, appointment.card)
        name = f"appointment-{appointment.card.epoch:010d}"
        journal.execute("INSERT INTO meta VALUES (?, ?)", [name, wire.to_bytes(appointment)])


def note_answer(journal: sqlite3.Connection, nonce: bytes, *, issued: int, now: int) -> None:
    """Note a request as answered, before its answer leaves; forget those too old to be asked again.

    Args:
        journal: open.
        nonce: the request's name.
        issued: its time of issue, seconds since 1970.
        now: seconds since 1970.

    Returns:
        Nothing.

    Raises:
        ReplayedQueryError: it was answered before, by this process or another one.

    Example:
        >>> import tempfile
        >>> from jcbir.protocol.session import NOW, small_system
        >>> card, folder = small_system().delegation.card, tempfile.TemporaryDirectory()
        >>> with folder as path, open_journal(f"{path}/journal.sqlite", card) as journal:
        ...     for _ in range(2):
        ...         note_answer(journal, bytes(4), issued=NOW, now=NOW)
        Traceback (most recent call last):
        ...
        jcbir.protocol.refusals.ReplayedQueryError: query: 00000000 was answered before
    """
    try:
        with transaction(journal):
            journal.execute("DELETE FROM answered WHERE abs(? - issued) > ?", [now, WINDOW_SECONDS])
            journal.execute("INSERT INTO answered VALUES (?, ?)", [nonce, issued])
    except sqlite3.IntegrityError:
        raise ReplayedQueryError(f"query: {nonce.hex()} was answered before") from None


def load_authority(journal: sqlite3.Connection, appointed: Authority) -> Authority:
    """Take in again all that the journal remembers.

    Args:
        journal: open.
        appointed: from `jcbir.protocol.authority.appoint`; of the journal's epoch, or of an earlier one from which the
            journal's appointments lead to it.

    Returns:
        The state; every order's signature was checked again.

    Raises:
        ForgedReplyError: somebody altered the journal.
        FormatError: an order is damaged.
        KeyMismatchError: no appointment leads from this key to the journal's epoch.

    Example:
        >>> import tempfile
        >>> from jcbir.protocol.session import small_system
        >>> system, folder = small_system(), tempfile.TemporaryDirectory()
        >>> with folder as path, open_journal(f"{path}/journal.sqlite", system.delegation.card) as journal:
        ...     keep_order(journal, system.catalogue)
        ...     load_authority(journal, authority.appoint(system.delegation))
        Authority('photos', epoch 0, 1 segments, redacted)
    """
    state = appointed
    query = "SELECT value FROM meta WHERE name LIKE 'appointment-%' ORDER BY name"
    for (message,) in journal.execute(query).fetchall():
        appointment = wire.from_bytes(message, expect=Appointment)
        # The key file may have been replaced by a later epoch's meanwhile.
        if appointment.card.epoch > state.card.epoch:
            state = authority.succeed(state, appointment)
    (card,) = journal.execute("SELECT value FROM meta WHERE name = 'card'").fetchone()
    held = read_plain(wire.CARD, card, name="card")
    if state.card != held:
        raise KeyMismatchError(f"journal: of epoch {held.epoch}, the key is of epoch {state.card.epoch}")
    take = {Catalogue: authority.catalog, Withdrawal: authority.withdraw, Revocation: authority.revoke}
    for (message,) in journal.execute("SELECT message FROM orders ORDER BY number").fetchall():
        order = wire.from_bytes(message)
        if type(order) not in take:
            raise FormatError(f"journal: a {type(order).__name__} is no order")
        state = take[type(order)](state, order)
    answered = dict(journal.execute("SELECT nonce, issued FROM answered"))
    return dataclasses.replace(state, answered=answered)


def _begin_anew(journal: sqlite3.Connection, card: Card) -> None:
    """Another epoch: what was ordered and answered in the old one is void."""
    journal.execute("UPDATE meta SET value = ? WHERE name = 'card'", [write_plain(wire.CARD, card)])
    journal.execute("DELETE FROM answered")
    journal.execute("DELETE FROM orders")


__all__ = ["keep_appointment", "keep_order", "load_authority", "note_answer", "open_journal"]
