"""The verbs of steps and of the outbox, on the rows in memory."""

from __future__ import annotations

from collections.abc import Sequence

from retrysafe.protocol.effects import Receipt
from retrysafe.protocol.model import Claim, Message
from retrysafe.protocol.steps import History, Memo
from retrysafe.stores.base import Outgoing
from retrysafe.stores.documents import steps
from retrysafe.stores.memory.attempts import AttemptVerbs
from retrysafe.stores.memory.ledger import atomic


class StepVerbs(AttemptVerbs):
    """What is known of an operation's steps, and what it tells others."""

    @atomic
    def trail(self, digest: bytes) -> History | None:
        """Read a checkpoint and every memo of its operation (R4)."""
        return steps.trail(self._rows.get(digest), self._clock.now())

    @atomic
    def memoize(self, claim: Claim, memo: Memo, messages: Sequence[Message] = ()) -> Receipt:
        """Write a memo under the fence (R5, I2, I3)."""
        row = self._rows.get(claim.digest)
        receipt = steps.memoize(row, claim, memo, messages, now=self._clock.now(), number=0)
        if row is not None:
            self._place(row)
        return receipt

    @atomic
    def postpone(self, claim: Claim, seconds: float, reason: str) -> Receipt:
        """End our own lease and make the operation due later (R8)."""
        return steps.postpone(self._rows.get(claim.digest), claim, seconds, reason, self._clock.now())

    @atomic
    def begin_undo(self, claim: Claim, reason: str, outcome: bytes | None) -> Receipt:
        """Undo from now on (R7, I9)."""
        return steps.begin_undo(self._rows.get(claim.digest), claim, reason, outcome, self._clock.now())

    @atomic
    def take_messages(self, limit: int, lease_seconds: float) -> Sequence[Outgoing]:
        """Take messages that are due, oldest first (R12)."""
        now = self._clock.now()
        due = [sending for sending in self._outbox.values() if sending.due_at <= now][:limit]
        for sending in due:
            sending.due_at = now + lease_seconds
        return [sending.outgoing for sending in due]

    @atomic
    def sent_messages(self, sent: Sequence[Outgoing]) -> None:
        """Delete messages that have left (R12)."""
        for message in sent:
            self._outbox.pop((message.operation_id, message.number), None)
