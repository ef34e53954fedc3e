"""The verbs of the PostgreSQL store: what all SQL databases share, over its statements and the server's clock.

What lies on the way of every request is worded anew: one statement each, which tells the time by itself, and which a
driver may run together with others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from msgspec.structs import replace

from retrysafe.protocol.effects import Receipt, Written
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Message
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import Memo
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.base import Held, Lost, Purged, Renewal
from retrysafe.stores.decisions import memoizable, receipt
from retrysafe.stores.instants import Instants
from retrysafe.stores.program import ALONE, Answer, Batch, Program, Statement, whole
from retrysafe.stores.rows import checkpoint
from retrysafe.stores.sql.base import right
from retrysafe.stores.sql.claims import first_claim
from retrysafe.stores.sql.recovery import SQLVerbs
from retrysafe.stores.sql.statements import Statements

_ENTER = Batch("enter", 1)
_FINISH = Batch("finish", 3)
_NOTE = Batch("note", 3)
BATCHES = (_ENTER, _FINISH, _NOTE)
"""What is run together with others."""


@cache
def statements() -> Statements:
    """Read the ``queries.sql`` files once per process."""
    return Statements("retrysafe.stores.postgres")


def many(batch: Batch) -> str:
    """Return a batched statement's wording for many rows; its parameters are arrays."""
    return statements().with_asked(str(batch.name), f"{batch.name}_many")


class PostgresVerbs(SQLVerbs):
    """What the PostgreSQL store can be asked."""

    def __init__(self, instants: Instants | None = None) -> None:
        """Use the server's clock (C2), or, in a test, another one."""
        super().__init__(statements(), instants or ServerInstants())
        self._by_server = instants is None
        self._enters = statements().with_asked("enter", "enter_one")
        self._notes = statements().with_asked("note", "note_one")
        self._finishes = statements().with_asked("finish", "finish_one")

    @whole
    def read(self, digest: bytes) -> Program[Checkpoint | None]:
        """Read one checkpoint, with the time, in one statement."""
        its_now = yield from self._told()
        answer = yield Statement(self._sql["look"], (its_now, digest), ALONE)
        return _met(answer.rows[0]) if answer.rows else None

    @whole
    def renew(self, claims: Sequence[Claim]) -> Program[Sequence[Renewal]]:
        """Move the lease end of each claim that is still held, however many, in one statement (C3, C4)."""
        rows = [(*right(claim), claim.lease_seconds) for claim in claims]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[]] * 4
        answer = yield Statement(self._sql["renew"], (*columns, (yield from self._told())), ALONE)
        held = {bytes(digest) for (digest,) in answer.rows}
        return [Held() if claim.digest in held else Lost() for claim in claims]

    @whole
    def memoize(self, claim: Claim, memo: Memo, messages: Sequence[Message] = ()) -> Program[Receipt]:
        """Write a memo under the fence (R5, I2, I3)."""
        if messages:
            return (yield from super().memoize(claim, memo, messages))
        memo = replace(memo, fence=claim.fence)
        terms = (
            claim.operation_id,
            memo.name,
            memo.index,
            claim.digest,
            claim.fence,
            f",{','.join(sorted(memoizable(memo)))},",
            memo.seq,
            memo.kind.value,
            memo.status.value,
            memo.value,
            memo.undo,
            memo.arguments,
            memo.timeout_seconds,
            (yield from self._told()),
        )
        answer = yield Statement(self._notes, terms, _NOTE)
        return Written() if _wrote(answer, _NOTE) else (yield from self._refused_memo(claim, memo))

    def purge(self, limit: int) -> Program[Purged]:
        """Drop what retention allows, and who waits no more (S10)."""
        yield Statement(self._sql["forget_waiters"], ((yield from self._now()),))
        return (yield from super().purge(limit))

    def _told(self) -> Program[float | None]:
        """Return the instant that a statement is given: none, as it knows by itself."""
        return None if self._by_server else (yield from self._now())

    def _enter(self, ask: Ask) -> Program[Claimed | Checkpoint | None]:
        identity = ask.identity
        terms = (
            identity.digest,
            ask.attempt_id,
            ask.mode.value,
            ask.name,
            identity.namespace,
            identity.principal,
            identity.key_hint,
            ask.fingerprint.stored,
            ask.request,
            ask.version,
            ask.lease_seconds,
            ask.tombstone_seconds,
            (yield from self._told()),
        )
        answer = yield Statement(self._enters, terms, _ENTER)
        if _wrote(answer, _ENTER):
            return first_claim(ask)
        # Whoever loses to a claim that is being committed in this very moment sees nothing yet: the key is not free.
        return _met(answer.rows[0][2:]) if answer.rows else (yield from self.read(identity.digest))

    def _finish(
        self, claim: Claim, outcome: bytes, retention_seconds: float, tombstone_seconds: float
    ) -> Program[Receipt]:
        terms = (*right(claim), retention_seconds, tombstone_seconds, outcome, (yield from self._told()))
        answer = yield Statement(self._finishes, terms, _FINISH)
        if _wrote(answer, _FINISH):
            return Written()
        return receipt((yield from self.read(claim.digest)), claim, State.DONE)


class ServerInstants:
    """The server's clock, asked inside each transaction; skew between application hosts changes nothing (C2)."""

    def now(self) -> Program[float]:
        """Return the store's time."""
        answer = yield Statement(statements()["now"])
        [(now,)] = answer.rows
        return float(now)


def _wrote(answer: Answer, batch: Batch) -> bool:
    return any(row[batch.key] for row in answer.rows)


def _met(row: Any) -> Checkpoint:  # noqa: ANN401 - a driver's row
    """Decode a row that begins or ends with the time."""
    *values, now = row
    return checkpoint(values, now)
