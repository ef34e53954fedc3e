"""What a store decides besides a claim's verdict, as pure functions, so that all stores decide alike.

A store reads the checkpoint inside its own atomic operation, asks here, and carries the answer out under the fence that
it read.
"""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from retrysafe.protocol.effects import Receipt, Superseded, Written
from retrysafe.protocol.model import Checkpoint, Claim, Limits
from retrysafe.protocol.operator import BEFORE_FIRST, Intervention, Move, Verb
from retrysafe.protocol.states import FINAL, LEASED, State
from retrysafe.protocol.steps import Memo, StepKind, StepStatus
from retrysafe.protocol.verdicts import ATTEMPTS_SPENT, Claimed, Park, Parked, Take, judge_abandoned

J = TypeVar("J")


def receipt(met: Checkpoint | None, claim: Claim, target: State) -> Receipt:
    """Tell a write that changed nothing whether it had been made before, or is refused.

    A write is repeated when its first answer was lost; then the checkpoint is where the write wanted it, under the same
    fence (D4).

    Args:
        met: the checkpoint that did not accept the write, None when there is none.
        claim: the right that the write carried.
        target: the state that the write leads to.

    Rules: C4, D4.
    """
    if met is not None and met.state is target and holds(met, claim):
        return Written()
    return Superseded()


def holds(met: Checkpoint, claim: Claim) -> bool:
    """Tell whether the claim is the checkpoint's latest (C4).

    The operation is compared as well: a key that is used again after its tombstone names a new operation, whose fences
    start anew.
    """
    return met.fence == claim.fence and met.operation_id == claim.operation_id


def judge_reclaim(
    met: Checkpoint | None, seen: Checkpoint, attempt_id: str, *, limits: Limits, lease_seconds: float
) -> Claimed | Parked | Take | Park | None:
    """Decide what a scan may do with a checkpoint that it saw abandoned (R1, R8).

    Args:
        met: the checkpoint, read inside the store's atomic operation.
        seen: the checkpoint as the scan saw it.
        attempt_id: UUIDv7 of the new attempt. Whoever parks leaves it in the checkpoint, too, so that a repetition is
            known (D4).
        limits: how long recovery goes on by itself.
        lease_seconds: lease of the new claim.

    Returns:
        ``Take`` or ``Park`` to carry out; ``Claimed`` or ``Parked`` when this very call did it before; None when
        somebody else was faster, or the operation is not abandoned any more.
    """
    if met is None or met.operation_id != seen.operation_id:
        return None
    if met.attempt_id == attempt_id:
        if met.state is State.PARKED and met.fence == seen.fence:
            return Parked(met)
        if met.state in LEASED and met.fence == seen.fence + 1 and met.lease_until > met.now:
            return Claimed(met.claim(lease_seconds))
    if met.fence != seen.fence or met.state not in LEASED or met.lease_until > met.now:
        return None
    return judge_abandoned(met, limits)


def due_at(lease_until: float, deaths: int, backoff_seconds: float) -> float:
    """Tell when the recovery scan may look at an operation, should the attempt that now begins die.

    As soon as its lease is over; only an operation that lost an attempt before is left alone for the back-off (R8).
    """
    return lease_until + backoff_seconds if deaths else lease_until


def unless_pivoted(met: Checkpoint, judgement: J, *, pivoted: bool) -> J | Park:
    """Park what would be undone although it has passed its pivot: it never goes back, and can still go on (R7)."""
    begins_undo = isinstance(judgement, Take) and judgement.state is State.UNDOING and met.state is not State.UNDOING
    return Park(ATTEMPTS_SPENT) if begins_undo and pivoted else judgement


def memoizable(memo: Memo) -> frozenset[State]:
    """Tell in which states of its operation a memo may be written (I9).

    Nothing forward begins but in a running operation. What a step gave is the truth even when the operation was parked
    meanwhile, and whoever holds its fence may still say so.
    """
    if memo.kind is StepKind.UNDO:
        return frozenset({State.RUNNING, State.UNDOING, State.PARKED})
    if memo.status is StepStatus.INTENT or memo.kind is StepKind.PIVOT:
        return frozenset({State.RUNNING})
    return frozenset({State.RUNNING, State.STREAMING, State.PARKED})


def replaces(there: Memo | None, memo: Memo) -> bool:
    """Tell whether a memo may take the place of what is there: only an intent ever changes (I2)."""
    if there is None:
        return True
    if there.status is not StepStatus.INTENT:
        return False
    return memo.status is not StepStatus.INTENT or memo.fence > there.fence


def memo_receipt(met: Checkpoint | None, claim: Claim, there: Memo | None, memo: Memo) -> Receipt:
    """Tell a memo that changed nothing whether it had been written before, or is refused (D4, C4)."""
    if met is None or there is None or not holds(met, claim):
        return Superseded()
    same = (there.status, there.fence, there.value) == (memo.status, memo.fence, memo.value)
    return Written() if same else Superseded()


def intervened(met: Checkpoint, move: Move, intervention: Intervention) -> Checkpoint:
    """Return the checkpoint as a person's decision leaves it (R10).

    Its fence is the next one, so that a late attempt is refused. What goes on is due at once and has all its attempts
    again; what is settled or released forgets the request, and its key is remembered from now on.
    """
    now, state = met.now, move.state
    after = replace(
        met,
        state=state,
        fence=met.fence + 1,
        deaths=BEFORE_FIRST if state in LEASED else 0,
        lease_until=now,
        due_at=now,
        undoing=met.undoing or state is State.UNDOING,
        reason=None,
    )
    if intervention.verb in {Verb.SETTLE, Verb.RELEASE}:
        after = replace(after, request=None, tombstone_until=now + intervention.tombstone_seconds)
    if state not in FINAL:
        return after
    outcome_until = now + intervention.retention_seconds
    return replace(after, outcome=intervention.outcome, finished_at=now, outcome_until=outcome_until)


def hint_again_at(now: float, due: float) -> float:
    """Tell until when an operation is left to whoever was just told about it (R2).

    As long as it has been due already, at least 1 s and at most 5 min: each time it is told, twice as long.
    """
    return now + min(max(now - due, 1.0), 300.0)
