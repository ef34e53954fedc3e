"""The verbs of an attempt, on the rows in memory."""

from __future__ import annotations

from collections.abc import Sequence

from retrysafe.protocol.effects import Receipt
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Message
from retrysafe.protocol.verdicts import Verdict
from retrysafe.stores.base import Renewal, Terms
from retrysafe.stores.documents import attempts
from retrysafe.stores.memory.ledger import Ledger, atomic


class AttemptVerbs(Ledger):
    """Claims, and the writes that end them."""

    @atomic
    def claim(self, ask: Ask) -> Verdict:
        """Claim the checkpoint, or tell what stands in the way (C1, F1, C5, C6)."""
        met = self._rows.get(ask.identity.digest)
        row, verdict = attempts.claim(met, ask, self._clock.now(), next(self._numbers))
        if row is not met:
            self._replace(met, row)
        self._place(row)
        return verdict

    @atomic
    def reclaim(self, seen: Checkpoint, terms: Terms) -> Verdict | None:
        """Take over or park an abandoned checkpoint, under the fence that was seen (R1, R8)."""
        row = self._rows.get(seen.digest)
        verdict = attempts.reclaim(row, seen, terms, self._clock.now())
        if row is not None:
            self._place(row)
        return verdict

    @atomic
    def renew(self, claims: Sequence[Claim]) -> Sequence[Renewal]:
        """Move the lease end of each claim that is still held (C3, C4)."""
        now = self._clock.now()
        return [attempts.renew(self._rows.get(claim.digest), claim, now) for claim in claims]

    @atomic
    def begin_stream(self, claim: Claim) -> Receipt:
        """Say that the response begins to leave (S5)."""
        return attempts.begin_stream(self._rows.get(claim.digest), claim, self._clock.now())

    @atomic
    def record(
        self,
        claim: Claim,
        outcome: bytes,
        *,
        retention_seconds: float,
        tombstone_seconds: float,
        undone: bool = False,
        messages: Sequence[Message] = (),
    ) -> Receipt:
        """Record the outcome, erase the stored request, and put the messages into the outbox; final (S1, R13, I11)."""
        row = self._rows.get(claim.digest)
        receipt = attempts.record(
            row,
            claim,
            outcome,
            retention_seconds=retention_seconds,
            tombstone_seconds=tombstone_seconds,
            undone=undone,
            messages=messages,
            now=self._clock.now(),
            number=0,
        )
        if row is not None:
            self._place(row)
        return receipt

    @atomic
    def release(self, claim: Claim) -> Receipt:
        """Free the key for the same request (S6). The request is erased: the next claim brings its own."""
        row = self._rows.get(claim.digest)
        receipt = attempts.release(row, claim, self._clock.now())
        if row is not None:
            self._place(row)
        return receipt

    @atomic
    def park(self, claim: Claim, reason: str) -> Receipt:
        """Park the operation under its current fence."""
        row = self._rows.get(claim.digest)
        receipt = attempts.park(row, claim, reason, self._clock.now())
        if row is not None:
            self._place(row)
        return receipt

    @atomic
    def hand_over(self, claims: Sequence[Claim]) -> None:
        """End the leases of claims whose attempts have stopped (C7)."""
        now = self._clock.now()
        for claim in claims:
            attempts.hand_over(self._rows.get(claim.digest), claim, now)
