"""What the verbs of steps do to one row; see ``attempts.py`` for how such a function is called."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from retrysafe.protocol.effects import Receipt, Superseded, Written
from retrysafe.protocol.model import Claim, Message
from retrysafe.protocol.states import LEASED, State
from retrysafe.protocol.steps import History, Memo, StepStatus
from retrysafe.stores.decisions import memo_receipt, memoizable, replaces
from retrysafe.stores.documents.attempts import current, enqueue, refusal
from retrysafe.stores.documents.row import Row


def trail(row: Row | None, now: float) -> History | None:
    """Return a checkpoint and every memo of its operation (R4)."""
    if row is None or row.gone:
        return None
    return History(row.seen(now), tuple(sorted(row.memos.values(), key=lambda memo: memo.seq)))


def memoize(row: Row | None, held: Claim, memo: Memo, messages: Sequence[Message], now: float, number: int) -> Receipt:  # noqa: PLR0917 - what a memo has, and when
    """Write a memo under the fence (R5, I2, I3)."""
    found = current(row, held)
    there = None if found is None else found.memos.get(memo.place)
    memo = replace(memo, fence=held.fence)
    if found is None or found.state not in memoizable(memo) or not replaces(there, memo):
        return memo_receipt(None if found is None else found.seen(now), held, there, memo)
    found.memos[memo.place] = _written(there, memo, now)
    enqueue(found, messages, now, number)
    return Written()


def postpone(row: Row | None, held: Claim, seconds: float, reason: str, now: float) -> Receipt:
    """End our own lease and make the operation due later (R8)."""
    found = current(row, held)
    if found is None or found.state not in LEASED:
        return Superseded()
    found.lease_until, found.due_at, found.reason, found.next_hint_at = now, now + seconds, reason, 0.0
    return Written()


def begin_undo(row: Row | None, held: Claim, reason: str, outcome: bytes | None, now: float) -> Receipt:
    """Undo from now on (R7, I9)."""
    found = current(row, held)
    if found is None or found.state is not State.RUNNING:
        return refusal(row, held, State.UNDOING, now)
    found.undoing, found.deaths, found.reason, found.outcome = True, 0, reason, outcome
    found.state = State.UNDOING
    return Written()


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
