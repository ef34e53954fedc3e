"""What the memory store does for each verb of an attempt, in words that every other store must keep to."""

from __future__ import annotations

from collections.abc import Sequence

from retrysafe.protocol.effects import Receipt, Written
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Message
from retrysafe.protocol.states import LEASED, State, allowed
from retrysafe.protocol.steps import PIVOT
from retrysafe.protocol.verdicts import InFlight, Park, Replace, Take, Verdict, judge
from retrysafe.stores.base import Lost, Renewal, Terms
from retrysafe.stores.decisions import judge_reclaim, unless_pivoted
from retrysafe.stores.memory.ledger import Ledger, atomic


class AttemptVerbs(Ledger):
    """Claims, and the writes that end them."""

    @atomic
    def claim(self, ask: Ask) -> Verdict:
        """Claim the checkpoint, or tell what stands in the way (C1, F1, C5, C6)."""
        now = self._clock.now()
        row = self._rows.get(ask.identity.digest)
        if row is None:
            return self._begin(ask, now)
        judgement = unless_pivoted(row.seen(now), judge(row.seen(now), ask), pivoted=(PIVOT, 0) in row.memos)
        match judgement:
            case Replace():
                del self._rows[row.digest]
                return self._begin(ask, now)
            case Take(state=state) if not allowed(row.state, state):
                return InFlight(row.seen(now))
            case Take():
                if row.state not in LEASED:
                    row.name, row.mode = ask.name, ask.mode
                # What is open stays what it was begun as.
                row.request = ask.request
                row.tombstone_until = now + ask.tombstone_seconds
                return self._take(
                    row, now, Terms(ask.attempt_id, ask.limits, ask.lease_seconds, ask.backoff_seconds), judgement
                )
            case Park(reason):
                return self._park_abandoned(row, now, reason)
            case verdict:
                return verdict

    @atomic
    def reclaim(self, seen: Checkpoint, terms: Terms) -> Verdict | None:
        """Take over or park an abandoned checkpoint, under the fence that was seen (R1, R8)."""
        now = self._clock.now()
        row = self._rows.get(seen.digest)
        if row is None:
            return None
        judged = judge_reclaim(
            row.seen(now), seen, terms.attempt_id, limits=terms.limits, lease_seconds=terms.lease_seconds
        )
        judgement = unless_pivoted(row.seen(now), judged, pivoted=(PIVOT, 0) in row.memos)
        match judgement:
            case Take(state=state) if not allowed(row.state, state):
                return None
            case Take():
                return self._take(row, now, terms, judgement)
            case Park(reason):
                row.attempt_id = terms.attempt_id
                return self._park_abandoned(row, now, reason)
            case verdict:
                return verdict

    @atomic
    def renew(self, claims: Sequence[Claim]) -> Sequence[Renewal]:
        """Move the lease end of each claim that is still held (C3, C4)."""
        now = self._clock.now()
        return [
            Lost() if row is None else self._move_lease(row, now + claim.lease_seconds)
            for claim, row in zip(claims, self._leased(claims), strict=True)
        ]

    @atomic
    def begin_stream(self, claim: Claim) -> Receipt:
        """Say that the response begins to leave (S5)."""
        return self._move(claim, State.STREAMING)

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
        now = self._clock.now()
        target = State.UNDONE if undone else State.DONE
        row = self._writable(claim, target)
        if row is None or (row.undoing and not undone):
            return self._refuse(claim, target)
        row.outcome, row.request, row.reason = outcome, None, None
        row.finished_at = now
        row.outcome_until = now + retention_seconds
        row.tombstone_until = now + tombstone_seconds
        self._enter(row, target)
        self._enqueue(row, messages, now)
        return Written()

    @atomic
    def release(self, claim: Claim) -> Receipt:
        """Free the key for the same request (S6). The request is erased: the next claim brings its own."""
        row = self._writable(claim, State.RELEASED)
        if row is None:
            return self._refuse(claim, State.RELEASED)
        row.request = None
        self._enter(row, State.RELEASED)
        return Written()

    @atomic
    def park(self, claim: Claim, reason: str) -> Receipt:
        """Park the operation under its current fence."""
        row = self._writable(claim, State.PARKED)
        if row is None:
            return self._refuse(claim, State.PARKED)
        row.reason = reason
        self._enter(row, State.PARKED)
        return Written()

    @atomic
    def hand_over(self, claims: Sequence[Claim]) -> None:
        """End the leases of claims whose attempts have stopped (C7)."""
        now = self._clock.now()
        for row in self._leased(claims):
            if row is not None and row.lease_until > now:
                self._move_lease(row, now)
