"""The verbs of steps: memos under the fence, and the turn from forward to back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from retrysafe.protocol.effects import Receipt, Superseded, Written
from retrysafe.protocol.model import Claim, Message
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import History, Memo, StepStatus
from retrysafe.stores.decisions import memo_receipt, memoizable
from retrysafe.stores.program import Program, Statement, whole
from retrysafe.stores.rows import memo_of
from retrysafe.stores.sql.base import right
from retrysafe.stores.sql.claims import ClaimVerbs


class StepVerbs(ClaimVerbs):
    """What is known of an operation's steps."""

    def trail(self, digest: bytes) -> Program[History | None]:
        """Read a checkpoint and every memo of its operation (R4)."""
        met = yield from self._one("read", digest)
        if met is None:
            return None
        answer = yield Statement(self._sql["memos"], (met.operation_id,))
        return History(met, tuple(memo_of(row) for row in answer.rows))

    @whole
    def memoize(self, claim: Claim, memo: Memo, messages: Sequence[Message] = ()) -> Program[Receipt]:
        """Write a memo under the fence (R5, I2, I3)."""
        now = yield from self._now()
        memo = replace(memo, fence=claim.fence)
        ended_at = None if memo.status is StepStatus.INTENT else now
        values: tuple[Any, ...] = (
            claim.operation_id,
            memo.name,
            memo.index,
            memo.seq,
            memo.kind.value,
            memo.status.value,
            memo.fence,
            memo.value,
            memo.undo,
            memo.arguments,
            memo.timeout_seconds,
            now,
            ended_at,
        )
        answer = yield Statement(self._sql.with_states("memoize", memoizable(memo)), (*values, *right(claim)))
        if answer.changed:
            if messages:
                yield from self._enqueue(claim, messages, now)
            return Written()
        return (yield from self._refused_memo(claim, memo))

    def _refused_memo(self, claim: Claim, memo: Memo) -> Program[Receipt]:
        """Tell a memo that changed nothing whether it had been written before, or is refused (D4, C4)."""
        met = yield from self.read(claim.digest)
        found = yield Statement(self._sql["memo"], (claim.operation_id, memo.name, memo.index))
        return memo_receipt(met, claim, memo_of(found.rows[0]) if found.rows else None, memo)

    @whole
    def postpone(self, claim: Claim, seconds: float, reason: str) -> Program[Receipt]:
        """End our own lease and make the operation due later (R8)."""
        now = yield from self._now()
        answer = yield Statement(self._sql["postpone"], (now, now + seconds, reason, *right(claim)))
        return Written() if answer.changed else Superseded()

    @whole
    def begin_undo(self, claim: Claim, reason: str, outcome: bytes | None) -> Program[Receipt]:
        """Undo from now on (R7, I9)."""
        return self._write("begin_undo", (reason, outcome), claim, State.UNDOING)
