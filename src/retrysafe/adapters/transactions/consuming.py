"""For whoever is called or told: dropping repeats in one's own transaction (R12), refusing what was undone (R7).

All functions work on a transaction of a binding, or on a connection of the application's (SQLAlchemy: also a session)
with a transaction open that the application commits. So what is noted here is durable if and only if what the caller
wrote is. Each has a twin for event loops, whose name begins with ``a``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from functools import partial

from retrysafe.adapters.transactions.bare import Place, arun_on, dialect_of, run_on
from retrysafe.errors import KeyMissing
from retrysafe.http.key import KeyRules, read_key
from retrysafe.stores.program import Program, Statement

TABLES = """\
CREATE TABLE IF NOT EXISTS retrysafe_inbox (
    consumer TEXT NOT NULL,
    message_id TEXT NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (consumer, message_id)
);
CREATE TABLE IF NOT EXISTS retrysafe_barrier (
    child_key TEXT PRIMARY KEY,
    undone INTEGER NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP
);
"""
"""For services whose database is not a retrysafe store: the two tables that these functions need. A store has them."""

_MYSQL_TEXT = "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE /*!80000 utf8mb4_0900_bin */ /*M! utf8mb4_nopad_bin */"
MYSQL_TABLES = TABLES.replace(" TEXT", f" {_MYSQL_TEXT}").replace(
    "TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP", "TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)"
)
"""The same for MySQL and MariaDB, whose keys have a longest length."""

_MYSQL_LONGEST = 255
_EPOCH = "((julianday({}) - 2440587.5) * 86400.0)"
_NOW = "'now'"
_FORWARD = KeyRules(headers=("Idempotency-Key",))
_UNDO = KeyRules(headers=("Idempotency-Undoes",))


class Passage(StrEnum):
    """What a service that is called by steps may do with a call."""

    APPLY = "apply"
    """Do it: a call that came for the first time, or an undo of one that was done."""
    REPEATED = "repeated"
    """It was done before: answer as then."""
    REFUSED = "refused"
    """It comes too late: it was undone. Refuse it, and do nothing."""
    NOTHING_TO_UNDO = "nothing to undo"
    """What is to be undone never came, and will be refused should it come: answer that it is undone."""


def first_time(transaction: Place, message_id: str, consumer: str = "default") -> bool:
    """Note a message in the inbox; False when it was noted before, so that it must be dropped (R12).

    A concurrent transaction with the same message is waited for: who comes second drops it, if the first one commits.

    Args:
        transaction: the consumer's own; what it does about the message commits with the note.
        message_id: the message's, such as ``operation:n``.
        consumer: keeps the inboxes of several consumers apart.

    Raises:
        ValueError: one of them has more than 255 characters, in MySQL or MariaDB.
    """
    return run_on(transaction, partial(_first_time, dialect_of(transaction), message_id, consumer))


async def afirst_time(transaction: Place, message_id: str, consumer: str = "default") -> bool:
    """Note a message in the inbox like :func:`first_time`, without blocking the loop."""
    return await arun_on(transaction, partial(_first_time, dialect_of(transaction), message_id, consumer))


def barrier(transaction: Place, headers: Mapping[str, str]) -> Passage:
    """Tell what to do with a call of a step or of its undo, in whatever order they come, and however often (R7).

    Args:
        transaction: the service's own; what it does commits with the note.
        headers: of the call, as :attr:`~retrysafe.Call.headers` made them.

    Raises:
        KeyMissing: the call has no ``Idempotency-Key``.
        KeyMalformed: the key of one of the headers is none.
    """
    return run_on(transaction, partial(_barrier, dialect_of(transaction), *_keys(headers)))


async def abarrier(transaction: Place, headers: Mapping[str, str]) -> Passage:
    """Tell what to do with a call like :func:`barrier`, without blocking the loop."""
    return await arun_on(transaction, partial(_barrier, dialect_of(transaction), *_keys(headers)))


def create_tables(transaction: Place) -> None:
    """Create :data:`TABLES` where they are missing; a store has them.

    MySQL and MariaDB end a transaction with it: there it is for a connection with nothing written, and not for an
    operation's.
    """
    run_on(transaction, partial(_create_tables, dialect_of(transaction)))


async def acreate_tables(transaction: Place) -> None:
    """Create :data:`TABLES` like :func:`create_tables`, without blocking the loop."""
    await arun_on(transaction, partial(_create_tables, dialect_of(transaction)))


def forget(transaction: Place, older_than: timedelta) -> int:
    """Delete notes of messages and of calls that cannot come any more, and return how many.

    Args:
        transaction: the caller's own.
        older_than: longer than the broker may hold a message back, and longer than a caller may repeat or undo a call:
            at least the longest retention of its operations, and days rather than hours.
    """
    return run_on(transaction, partial(_forget, dialect_of(transaction), older_than.total_seconds()))


async def aforget(transaction: Place, older_than: timedelta) -> int:
    """Delete old notes like :func:`forget`, without blocking the loop."""
    return await arun_on(transaction, partial(_forget, dialect_of(transaction), older_than.total_seconds()))


def _first_time(dialect: str, message_id: str, consumer: str) -> Program[bool]:
    noted = yield _insert(dialect, "retrysafe_inbox (consumer, message_id)", consumer, message_id)
    return noted.changed > 0


def _insert(dialect: str, place: str, *values: str | int) -> Statement:
    """Write a statement that inserts a row, unless it is there."""
    marks = ", ".join(["?"] * len(values))
    if dialect != "mysql":
        return Statement(f"INSERT INTO {place} VALUES ({marks}) ON CONFLICT DO NOTHING", values)  # noqa: S608 - ours
    # What IGNORE would cut off as well.
    if any(isinstance(value, str) and len(value) > _MYSQL_LONGEST for value in values):
        raise ValueError(f"a message id, consumer or key has more than {_MYSQL_LONGEST} characters")
    return Statement(f"INSERT IGNORE INTO {place} VALUES ({marks})", values)  # noqa: S608 - ours


def _read(dialect: str, text: str, *terms: str) -> Statement:
    # By default MySQL would read as of the beginning of the transaction, which may be before what was just met.
    return Statement(f"{text} LOCK IN SHARE MODE" if dialect == "mysql" else text, terms)


def _barrier(dialect: str, key: str, undoes: str | None) -> Program[Passage]:
    if undoes is not None:
        return (yield from _undo(dialect, key, undoes))
    if (yield from _note(dialect, key, undone=False)):
        return Passage.APPLY
    return Passage.REFUSED if (yield from _is_undone(dialect, key)) else Passage.REPEATED


def _undo(dialect: str, key: str, undoes: str) -> Program[Passage]:
    # An undo that comes first leaves a tombstone, under which the late call finds itself refused.
    if (yield from _note(dialect, undoes, undone=True)):
        return Passage.NOTHING_TO_UNDO
    turned = yield Statement("UPDATE retrysafe_barrier SET undone = 1 WHERE child_key = ? AND undone = 0", (undoes,))
    if turned.changed:
        # So that a repeat can tell which of the two this was.
        yield from _note(dialect, key, undone=False)
        return Passage.APPLY
    applied = yield _read(dialect, "SELECT 1 FROM retrysafe_barrier WHERE child_key = ?", key)
    return Passage.REPEATED if applied.rows else Passage.NOTHING_TO_UNDO


def _note(dialect: str, key: str, *, undone: bool) -> Program[bool]:
    noted = yield _insert(dialect, "retrysafe_barrier (child_key, undone)", key, int(undone))
    return noted.changed > 0


def _is_undone(dialect: str, key: str) -> Program[bool]:
    found = yield _read(dialect, "SELECT undone FROM retrysafe_barrier WHERE child_key = ?", key)
    return any(undone for (undone,) in found.rows)


def _create_tables(dialect: str) -> Program[None]:
    for text in (MYSQL_TABLES if dialect == "mysql" else TABLES).split(";\n"):
        if text:
            yield Statement(text)


def _forget(dialect: str, seconds: float) -> Program[int]:
    forgotten = 0
    for table, column in (("retrysafe_inbox", "received_at"), ("retrysafe_barrier", "at")):
        gone = yield Statement(f"DELETE FROM {table} WHERE {_older(dialect, column)}", (seconds,))  # noqa: S608 - ours
        forgotten += gone.changed
    return forgotten


def _older(dialect: str, column: str) -> str:
    if dialect == "postgresql":
        return f"{column} < clock_timestamp() - make_interval(secs => ?)"
    if dialect == "mysql":
        return f"{column} < now(6) - INTERVAL ? SECOND"
    # A store's own tables have seconds since the epoch, those of TABLES what CURRENT_TIMESTAMP gives.
    written = f"CASE typeof({column}) WHEN 'text' THEN {_EPOCH.format(column)} ELSE {column} END"
    return f"{written} < {_EPOCH.format(_NOW)} - ?"


def _keys(headers: Mapping[str, str]) -> tuple[str, str | None]:
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    key = read_key(pairs, _FORWARD)
    if key is None:
        raise KeyMissing("a call of a step has an Idempotency-Key")
    return key, read_key(pairs, _UNDO)
