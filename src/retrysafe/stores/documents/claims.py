"""The verbs of an attempt as programs; what each does to its document is in ``attempts.py`` and ``steps.py``.

A new key is one write, and so is whatever its attempt writes then, as long as nobody else touches the document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from retrysafe.protocol.effects import Receipt
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Message
from retrysafe.protocol.steps import History, Memo
from retrysafe.protocol.verdicts import Verdict
from retrysafe.stores.base import Lost, Renewal, Terms
from retrysafe.stores.documents import attempts, statements, steps, upkeep
from retrysafe.stores.documents.encoding import encode_row
from retrysafe.stores.documents.ledger import Ledger, Task
from retrysafe.stores.documents.port import Change, Loaded, facts_of
from retrysafe.stores.documents.row import Row
from retrysafe.stores.program import Program

T = TypeVar("T")

_LOST: Renewal = Lost()


class AttemptVerbs(Ledger):
    """Claims, memos, and the writes that end them."""

    def claim(self, ask: Ask) -> Program[Verdict]:
        """Claim the checkpoint, or tell what stands in the way (C1, F1, C5, C6)."""
        now = yield from self._now()
        row, verdict = attempts.claim(None, ask, now, self._numbers.next(now), self._margin_seconds)
        body = encode_row(row)
        [revision] = yield from statements.write([Change(row.digest, None, body, None, facts_of(row), now)])
        if revision is not None:
            self._shelf.put(row, Loaded(row.digest, body, revision))
            return verdict
        return (yield from self._change(row.digest, partial(self._claim, ask)))

    def reclaim(self, seen: Checkpoint, terms: Terms) -> Program[Verdict | None]:
        """Take over or park an abandoned checkpoint, under the fence that was seen (R1, R8)."""
        return self._change(seen.digest, partial(self._reclaim, seen, terms))

    def renew(self, claims: Sequence[Claim]) -> Program[Sequence[Renewal]]:
        """Move the lease end of each claim that is still held (C3, C4)."""
        return (yield from self._each(claims, partial(attempts.renew, margin_seconds=self._margin_seconds), _LOST))

    def begin_stream(self, claim: Claim) -> Program[Receipt]:
        """Say that the response begins to leave (S5)."""
        return self._hold(claim, lambda row, now: (row, attempts.begin_stream(row, claim, now)))

    def record(
        self,
        claim: Claim,
        outcome: bytes,
        *,
        retention_seconds: float,
        tombstone_seconds: float,
        undone: bool = False,
        messages: Sequence[Message] = (),
    ) -> Program[Receipt]:
        """Record the outcome, erase the stored request, and put the messages into the outbox; final (S1, R13, I11)."""

        def act(row: Row | None, now: float) -> tuple[Row | None, Receipt]:
            return row, attempts.record(
                row,
                claim,
                outcome,
                retention_seconds=retention_seconds,
                tombstone_seconds=tombstone_seconds,
                undone=undone,
                messages=messages,
                now=now,
                number=self._numbers.next(now) if messages else 0,
            )

        return self._hold(claim, act)

    def release(self, claim: Claim) -> Program[Receipt]:
        """Free the key for the same request (S6). The request is erased: the next claim brings its own."""
        return self._hold(claim, lambda row, now: (row, attempts.release(row, claim, now)))

    def park(self, claim: Claim, reason: str) -> Program[Receipt]:
        """Park the operation under its current fence."""
        return self._hold(claim, lambda row, now: (row, attempts.park(row, claim, reason, now)))

    def hand_over(self, claims: Sequence[Claim]) -> Program[None]:
        """End the leases of claims whose attempts have stopped (C7)."""
        yield from self._each(claims, attempts.hand_over, None)

    def memoize(self, claim: Claim, memo: Memo, messages: Sequence[Message] = ()) -> Program[Receipt]:
        """Write a memo under the fence (R5, I2, I3)."""

        def act(row: Row | None, now: float) -> tuple[Row | None, Receipt]:
            number = self._numbers.next(now) if messages else 0
            return row, steps.memoize(row, claim, memo, messages, now=now, number=number)

        return self._hold(claim, act)

    def postpone(self, claim: Claim, seconds: float, reason: str) -> Program[Receipt]:
        """End our own lease and make the operation due later (R8)."""
        return self._hold(claim, lambda row, now: (row, steps.postpone(row, claim, seconds, reason, now)))

    def begin_undo(self, claim: Claim, reason: str, outcome: bytes | None) -> Program[Receipt]:
        """Undo from now on (R7, I9)."""
        return self._hold(claim, lambda row, now: (row, steps.begin_undo(row, claim, reason, outcome, now)))

    def read(self, digest: bytes) -> Program[Checkpoint | None]:
        """Read one checkpoint."""
        row = yield from self._row(digest)
        return upkeep.read(row, (yield from self._now()))

    def trail(self, digest: bytes) -> Program[History | None]:
        """Read a checkpoint and every memo of its operation (R4)."""
        row = yield from self._row(digest)
        return steps.trail(row, (yield from self._now()))

    def _claim(self, ask: Ask, row: Row | None, now: float) -> tuple[Row, Verdict]:
        return attempts.claim(row, ask, now, self._numbers.next(now), self._margin_seconds)

    def _reclaim(
        self, seen: Checkpoint, terms: Terms, row: Row | None, now: float
    ) -> tuple[Row | None, Verdict | None]:
        return row, attempts.reclaim(row, seen, terms, now, self._margin_seconds)

    def _hold(self, claim: Claim, act: Callable[[Row | None, float], tuple[Row | None, T]]) -> Program[T]:
        return self._change(claim.digest, act, ours=True)

    def _each(
        self, claims: Sequence[Claim], act: Callable[[Row | None, Claim, float], T], unreadable: T
    ) -> Program[list[T]]:
        def task(claim: Claim) -> Task[T]:
            def one(row: Row | None, now: float) -> tuple[Row | None, T]:
                return row, act(row, claim, now)

            return Task(claim.digest, one, (unreadable,))

        known = self._remembered([claim.digest for claim in claims])
        return self._change_each([task(claim) for claim in claims], known)
