"""What the memory store does for the verbs of steps and of the outbox."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from retrysafe.protocol.effects import Receipt, Superseded, Written
from retrysafe.protocol.model import Claim, Message
from retrysafe.protocol.states import LEASED, State
from retrysafe.protocol.steps import History, Memo, StepStatus
from retrysafe.stores.base import Outgoing
from retrysafe.stores.decisions import memo_receipt, memoizable, replaces
from retrysafe.stores.memory.attempts import AttemptVerbs
from retrysafe.stores.memory.ledger import atomic


class StepVerbs(AttemptVerbs):
    """What is known of an operation's steps, and what it tells others."""

    @atomic
    def trail(self, digest: bytes) -> History | None:
        """Read a checkpoint and every memo of its operation (R4)."""
        row = self._rows.get(digest)
        if row is None:
            return None
        memos = sorted(row.memos.values(), key=lambda memo: memo.seq)
        return History(row.seen(self._clock.now()), tuple(memos))

    @atomic
    def memoize(self, claim: Claim, memo: Memo, messages: Sequence[Message] = ()) -> Receipt:
        """Write a memo under the fence (R5, I2, I3)."""
        now = self._clock.now()
        row = self._current(claim)
        there = None if row is None else row.memos.get(memo.place)
        memo = replace(memo, fence=claim.fence)
        if row is None or row.state not in memoizable(memo) or not replaces(there, memo):
            return memo_receipt(None if row is None else row.seen(now), claim, there, memo)
        row.memos[memo.place] = _written(there, memo, now)
        self._enqueue(row, messages, now)
        return Written()

    @atomic
    def postpone(self, claim: Claim, seconds: float, reason: str) -> Receipt:
        """End our own lease and make the operation due later (R8)."""
        now = self._clock.now()
        row = self._current(claim)
        if row is None or row.state not in LEASED:
            return Superseded()
        row.lease_until, row.due_at, row.reason, row.next_hint_at = now, now + seconds, reason, 0.0
        return Written()

    @atomic
    def begin_undo(self, claim: Claim, reason: str, outcome: bytes | None) -> Receipt:
        """Undo from now on (R7, I9)."""
        row = self._current(claim)
        if row is None or row.state is not State.RUNNING:
            return self._refuse(claim, State.UNDOING)
        row.undoing, row.deaths, row.reason, row.outcome = True, 0, reason, outcome
        self._enter(row, State.UNDOING)
        return Written()

    @atomic
    def take_messages(self, limit: int, lease_seconds: float) -> Sequence[Outgoing]:
        """Take messages that are due, oldest first (R12)."""
        now = self._clock.now()
        due = [sending for sending in self._outbox.values() if sending.due_at <= now][:limit]
        for sending in due:
            sending.due_at = now + lease_seconds
        return [sending.message for sending in due]

    @atomic
    def sent_messages(self, sent: Sequence[Outgoing]) -> None:
        """Delete messages that have left (R12)."""
        for message in sent:
            self._outbox.pop((message.operation_id, message.number), None)


def _written(there: Memo | None, memo: Memo, now: float) -> Memo:
    if there is None:
        return replace(memo, began_at=now, ended_at=None if memo.status is StepStatus.INTENT else now)
    if memo.status is StepStatus.INTENT:
        # Written anew: how long its call may be under way counts from now.
        return replace(
            there,
            fence=memo.fence,
            timeout_seconds=max(there.timeout_seconds, now - there.began_at + memo.timeout_seconds),
        )
    return replace(there, status=memo.status, fence=memo.fence, value=memo.value, ended_at=now)
