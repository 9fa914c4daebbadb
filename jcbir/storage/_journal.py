"""The authority's memory: the owner's signed orders, the names of answered requests and what each grant has spent.

Secrets are not here (they are in the key file); the orders are kept as they were signed and checked again when they are
read. What is noted is on the disk when the call returns, or the transaction that it is made in ends, so that a request
answered before a crash is refused after it.
An appointment is kept as well, sealed as it came: from the key file of an earlier epoch it leads to the one in force.
What was spent is kept across epochs. One SQLite file, used by one process at a time (a lock file beside it).
"""

import contextlib
import dataclasses
import functools
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping

from jcbir.errors import FormatError, KeyMismatchError, check_version
from jcbir.protocol import authority, wire
from jcbir.protocol._grants import WINDOW_SECONDS, same_collection
from jcbir.protocol._schema import read_plain, write_plain
from jcbir.protocol.authority import Authority
from jcbir.protocol.messages import Appointment, Card, Catalog, Head, Revocation, Spending, Withdrawal
from jcbir.protocol.refusals import ReplayedQueryError
from jcbir.storage._database import connect, explained, read_meta, read_seen, transaction, write_meta
from jcbir.storage._files import locked

VERSION = 4
Order = Catalog | Withdrawal | Revocation
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE orders (number INTEGER PRIMARY KEY, message BLOB NOT NULL UNIQUE, segment INTEGER);
CREATE TABLE answered (nonce BLOB PRIMARY KEY, issued INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE spent (grant_id BLOB, day INTEGER, rows INTEGER NOT NULL, PRIMARY KEY (grant_id, day)) WITHOUT ROWID;
CREATE TABLE opened (grant_id BLOB, day INTEGER, image_id TEXT, PRIMARY KEY (grant_id, day, image_id)) WITHOUT ROWID;
CREATE TABLE openings (name BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE suspended (signing_key BLOB PRIMARY KEY, grant_id BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX answered_issued ON answered (issued);
CREATE INDEX spent_day ON spent (day);
CREATE INDEX opened_day ON opened (day);
"""


@contextlib.contextmanager
def open_journal(path: str | os.PathLike[str], card: Card) -> Iterator[sqlite3.Connection]:
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
        BlockingIOError: another process uses it.

    Example:
        >>> import tempfile
        >>> from jcbir.protocol.session import small_system
        >>> card = small_system().owner.card
        >>> with open_journal(f"{tempfile.mkdtemp()}/journal.sqlite", card) as journal:
        ...     journal.execute("SELECT count(*) FROM orders").fetchone()
        (0,)
    """
    with (
        locked(f"{os.fspath(path)}.lock", use="uses this journal"),
        explained(path),
        contextlib.closing(connect(path, write=True)) as journal,
    ):
        with transaction(journal):
            if journal.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                for statement in _SCHEMA.split(";"):
                    journal.execute(statement)
                meta = {"version": bytes([VERSION]), "card": write_plain(wire.CARD, card)}
                journal.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        meta = dict(journal.execute("SELECT name, value FROM meta"))
        check_version(
            int.from_bytes(meta.get("version", b"")), version=VERSION, name=f"{path}",
            remedy="begin an empty journal with the key file of today's collection",
        )  # fmt: skip
        # What opened a segment's scores is shredded with it, or with its epoch, not only forgotten.
        journal.execute("PRAGMA secure_delete = ON")
        # Of a process that was killed before it did so.
        _empty_log(journal)
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


def keep_order(
    journal: sqlite3.Connection, order: Order, *, openings: Iterable[bytes] = (), shredded: Collection[int] = ()
) -> None:
    """Keep an order; when this returns, it is on the disk. The same order twice is kept once.

    Args:
        journal: open.
        order: a catalog, withdrawal or revocation, already taken in by `jcbir.protocol.authority`.
        openings: names of what opens the catalog's scores.
        shredded: segments that the withdrawal leaves without images: what opens their scores is overwritten.

    Example:
        >>> import tempfile
        >>> from jcbir.protocol.session import small_system
        >>> system, folder = small_system(), tempfile.TemporaryDirectory()
        >>> with folder as path, open_journal(f"{path}/journal.sqlite", system.delegation.card) as journal:
        ...     keep_order(journal, system.catalog)
        ...     keep_order(journal, system.catalog)
        ...     journal.execute("SELECT count(*) FROM orders").fetchone()
        (1,)
    """
    segment = order.segment if isinstance(order, Catalog) else None
    with transaction(journal):
        journal.execute(
            "INSERT OR IGNORE INTO orders (message, segment) VALUES (?, ?)", [wire.to_bytes(order), segment]
        )
        journal.executemany("INSERT INTO openings VALUES (?)", [[name] for name in openings])
        for number in shredded:
            _shred(journal, number)
    if shredded:
        _empty_log(journal)


def keep_head(journal: sqlite3.Connection, head: Head) -> None:
    """Keep the owner's latest head; when this returns, it is on the disk."""
    with transaction(journal):
        write_meta(journal, "head", wire.to_bytes(head))


def keep_appointment(journal: sqlite3.Connection, appointment: Appointment) -> None:
    """Turn to the next epoch; when this returns, that is on the disk. Only earlier appointments are kept beside it."""
    with transaction(journal):
        _begin_anew(journal, appointment.card)
        name = f"appointment-{appointment.card.epoch:010d}"
        write_meta(journal, name, wire.to_bytes(appointment))
    _empty_log(journal)


def keep_alarms(journal: sqlite3.Connection, suspended: Mapping[bytes, bytes]) -> None:
    """Keep which users are suspended; when this returns, that is on the disk. The next epoch ends it."""
    with transaction(journal):
        journal.executemany("INSERT OR IGNORE INTO suspended VALUES (?, ?)", suspended.items())


def note_answer(
    journal: sqlite3.Connection,
    nonce: bytes,
    *,
    issued: int,
    now: int,
    spending: Spending,
    openings: Iterable[bytes] = (),
) -> None:
    """Note a request as answered, what it spends and names of its openings, before its answer leaves.

    Requests too old to be asked again are forgotten, openings are not.
    """
    try:
        with transaction(journal):
            # By the latest time seen, as requests are judged: a clock that steps back brings none to life again.
            now = max(now, read_seen(journal))
            journal.execute("DELETE FROM answered WHERE issued < ?", [now - 2 * WINDOW_SECONDS])
            journal.execute("INSERT INTO answered VALUES (?, ?)", [nonce, issued])
            journal.executemany("INSERT INTO openings VALUES (?)", [[name] for name in openings])
            # Not the time of issue, which may be ahead: after a restart honest requests would be too old.
            write_meta(journal, "seen", now.to_bytes(8))
            _spend(journal, spending)
    except sqlite3.IntegrityError:
        raise ReplayedQueryError(f"query: {nonce.hex()} was answered before") from None


def note_spending(journal: sqlite3.Connection, spending: Spending) -> None:
    """Note what an answer spends, before it leaves; budgets are of a day, so what is older than the day before goes."""
    with transaction(journal):
        _spend(journal, spending)


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
        ...     keep_order(journal, system.catalog)
        ...     load_authority(journal, authority.appoint(system.delegation, system.authority.identity))
        Authority('photos', epoch 0, 1 segments, redacted)
    """
    state = appointed
    query = "SELECT value FROM meta WHERE name LIKE 'appointment-%' ORDER BY name"
    for (message,) in journal.execute(query).fetchall():
        appointment = wire.from_bytes(message, expect=Appointment)
        # The key file may have been replaced by a later epoch's meanwhile.
        if appointment.card.epoch > state.card.epoch:
            state = authority.succeed(state, appointment)
    held = read_plain(wire.CARD, read_meta(journal, "card") or b"", name="card")
    if state.card != held:
        raise KeyMismatchError(f"journal: of epoch {held.epoch}, the key is of epoch {state.card.epoch}")
    catalog = functools.partial(authority.catalog, shredded=True)
    take = {Catalog: catalog, Withdrawal: authority.withdraw, Revocation: authority.revoke}
    for (message,) in journal.execute("SELECT message FROM orders ORDER BY number").fetchall():
        order = wire.from_bytes(message)
        if type(order) not in take:
            raise FormatError(f"journal: a {type(order).__name__} is no order")
        state = take[type(order)](state, order)
    kept = read_meta(journal, "head")
    if kept is not None:
        state = authority.take_head(state, wire.from_bytes(kept, expect=Head))
    answered = dict(journal.execute("SELECT nonce, issued FROM answered"))
    opened = (frozenset(name for (name,) in journal.execute("SELECT name FROM openings")),)
    suspended = dict(journal.execute("SELECT signing_key, grant_id FROM suspended"))
    state = dataclasses.replace(state, answered=answered, opened=opened, suspended=suspended, seen=read_seen(journal))
    for grant_id, day, count in journal.execute("SELECT grant_id, day, rows FROM spent ORDER BY day").fetchall():
        opened = journal.execute("SELECT image_id FROM opened WHERE grant_id = ? AND day = ?", [grant_id, day])
        state = authority.spend(state, Spending(grant_id, day, count, tuple(name for (name,) in opened)))
    return state


def _begin_anew(journal: sqlite3.Connection, card: Card) -> None:
    """Another epoch: what was ordered and answered in the old one is void."""
    write_meta(journal, "card", write_plain(wire.CARD, card))
    for table in ("answered", "openings", "orders", "suspended"):
        journal.execute(f"DELETE FROM {table}")
    journal.execute("DELETE FROM meta WHERE name = 'head'")


def _empty_log(journal: sqlite3.Connection) -> None:
    """The write-ahead log has pages as they were before."""
    journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _shred(journal: sqlite3.Connection, segment: int) -> None:
    """Keep of a catalog what its owner signed, and none of the wrapped hints."""
    query = "SELECT number, message FROM orders WHERE segment = ?"
    for number, message in journal.execute(query, [segment]).fetchall():
        bare = dataclasses.replace(wire.from_bytes(message, expect=Catalog), wrapped=())
        journal.execute("UPDATE orders SET message = ? WHERE number = ?", [wire.to_bytes(bare), number])


def _spend(journal: sqlite3.Connection, spending: Spending) -> None:
    for table in ("spent", "opened"):
        journal.execute(f"DELETE FROM {table} WHERE day < ?", [spending.day - 1])
    journal.execute(
        "INSERT INTO spent VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET rows = rows + excluded.rows",
        [spending.grant_id, spending.day, spending.rows],
    )
    journal.executemany(
        "INSERT OR IGNORE INTO opened VALUES (?, ?, ?)",
        [(spending.grant_id, spending.day, image_id) for image_id in spending.image_ids],
    )
