"""For whoever is called or told: dropping repeats in one's own transaction (R12), refusing what was undone (R7).

Both work on any of the bindings' transactions, and so inside the caller's own commit: what is noted here is durable if
and only if what the caller wrote is.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import partial

from retrysafe.runtime.transactions import AsyncTransaction, Transaction
from retrysafe.stores.program import Program, Statement

TABLES = """\
CREATE TABLE IF NOT EXISTS retrysafe_inbox (
    consumer TEXT NOT NULL,
    message_id TEXT NOT NULL,
    PRIMARY KEY (consumer, message_id)
);
CREATE TABLE IF NOT EXISTS retrysafe_barrier (
    child_key TEXT PRIMARY KEY,
    undone INTEGER NOT NULL
);
"""
"""For services whose database is not a retrysafe store: the two tables that these functions need."""

FORWARD, UNDO = "idempotency-key", "idempotency-undoes"


class Passage(StrEnum):
    """What a service that is called by steps may do with a call."""

    APPLY = "apply"
    """Do it: a call that came for the first time, or an undo of one that was done."""
    REPEATED = "repeated"
    """It was done before: answer as then."""
    REFUSED = "refused"
    """It comes too late: it was undone before it arrived. Refuse it."""
    NOTHING_TO_UNDO = "nothing to undo"
    """What is to be undone never came, and never will: answer that it is undone."""


def first_time(transaction: Transaction, message_id: str, consumer: str = "default") -> bool:
    """Note a message in the inbox; False when it was noted before, so that it must be dropped (R12).

    Args:
        transaction: the consumer's own; what it does about the message commits with the note.
        message_id: the message's, such as ``operation:n``.
        consumer: keeps the inboxes of several consumers apart.
    """
    return transaction.run(partial(_first_time, message_id, consumer))


async def afirst_time(transaction: AsyncTransaction, message_id: str, consumer: str = "default") -> bool:
    """Note a message in the inbox like :func:`first_time`, without blocking the loop."""
    return await transaction.run(partial(_first_time, message_id, consumer))


def barrier(transaction: Transaction, headers: Mapping[str, str]) -> Passage:
    """Tell what to do with a call of a step or of its undo, in whatever order they come (R7).

    Args:
        transaction: the service's own; what it does commits with the note.
        headers: of the call, as :attr:`~retrysafe.Call.headers` made them.

    Raises:
        KeyError: the call has no ``Idempotency-Key``.
    """
    return transaction.run(partial(_barrier, {name.lower(): value for name, value in headers.items()}))


async def abarrier(transaction: AsyncTransaction, headers: Mapping[str, str]) -> Passage:
    """Tell what to do with a call like :func:`barrier`, without blocking the loop."""
    return await transaction.run(partial(_barrier, {name.lower(): value for name, value in headers.items()}))


def _first_time(message_id: str, consumer: str) -> Program[bool]:
    # A concurrent transaction with the same message is waited for: who comes second drops it, if the first commits.
    noted = yield Statement(
        "INSERT INTO retrysafe_inbox (consumer, message_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (consumer, message_id),
    )
    return noted.changed > 0


def _barrier(headers: Mapping[str, str]) -> Program[Passage]:
    undoes = headers.get(UNDO)
    key, undone = (headers[FORWARD], 0) if undoes is None else (undoes, 1)
    noted = yield Statement(
        "INSERT INTO retrysafe_barrier (child_key, undone) VALUES (?, ?) ON CONFLICT DO NOTHING", (key, undone)
    )
    if noted.changed:
        # An undo that comes first leaves a tombstone, under which the late call finds itself refused.
        return Passage.NOTHING_TO_UNDO if undone else Passage.APPLY
    if undone:
        turned = yield Statement("UPDATE retrysafe_barrier SET undone = 1 WHERE child_key = ? AND undone = 0", (key,))
        return Passage.APPLY if turned.changed else Passage.REPEATED
    found = yield Statement("SELECT undone FROM retrysafe_barrier WHERE child_key = ?", (key,))
    [(is_undone,)] = found.rows
    return Passage.REFUSED if is_undone else Passage.REPEATED
