"""What a person may do with an operation that recovery could not settle, and the one function that judges it (R10).

A verb is fenced: it names the fence that the person saw, and raises it, so that a late attempt is refused. It needs a
name and a note, and is written to the audit in the same transaction.
"""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

import msgspec

from retrysafe.protocol.model import Checkpoint, Discreet, Mode
from retrysafe.protocol.states import LEASED, State


class Verb(StrEnum):
    """What a person may do."""

    RESUME = "resume"
    """Let recovery go on, forward or back as it was; its attempts are counted anew."""
    UNDO = "undo"
    """Have its steps undone in reverse."""
    SETTLE = "settle"
    """Record the outcome that the person found out."""
    RELEASE = "release"
    """Nothing happened: the key is free again for the same request."""


class Intervention(Discreet, frozen=True):
    """What a person does.

    Attributes:
        verb: what.
        by: who.
        note: why; one sentence at least.
        outcome: encoded ``Outcome``, for ``settle``.
        undone: for ``settle``: every effect was taken back by hand.
        retention_seconds: how long a settled outcome is replayable.
        tombstone_seconds: how long a settled key is remembered.
    """

    verb: Verb
    by: str
    note: str
    outcome: bytes | None = None
    undone: bool = False
    retention_seconds: float = 86_400.0
    tombstone_seconds: float = 30 * 86_400.0


class Audit(msgspec.Struct, frozen=True):
    """One line of the audit: append-only, and as old as the store.

    Attributes:
        number: grows with each line.
        at: when, by the store's clock.
        operation_id: whose.
        verb: what was done.
        by: who did it.
        note: why.
        state_before: what the checkpoint said before.
        state_after: what it says since.
        fence_after: the fence since; one more than before.
    """

    number: int
    at: float
    operation_id: str
    verb: Verb
    by: str
    note: str
    state_before: State
    state_after: State
    fence_after: int


class Move(msgspec.Struct, frozen=True):
    """Carry out: bring the checkpoint into this state, under the next fence, with its lease over and due at once."""

    state: State


class Refusal(msgspec.Struct, frozen=True):
    """The verb does not fit.

    Attributes:
        reason: one sentence for the person, with what would fit.
    """

    reason: str


BEFORE_FIRST = -1
"""Deaths of an operation that a person lets go on: whoever takes it over counts the attempt before, which was none."""


def judge_intervention(
    met: Checkpoint | None, seen: Checkpoint, intervention: Intervention, *, pivoted: bool = False
) -> Move | Refusal:
    """Decide whether a person may do this now.

    A released operation goes by way of running: nobody held it, and nobody does.

    Args:
        met: the checkpoint, read inside the store's atomic operation.
        seen: the checkpoint as the person saw it.
        intervention: what they want.
        pivoted: whether the operation has passed the point after which it is never undone.

    Rules: R7, R10, I1, I9.
    """
    if met is None or met.operation_id != seen.operation_id:
        return Refusal("the operation is not there any more")
    if (met.fence, met.state) != (seen.fence, seen.state):
        return Refusal(f"the operation went on meanwhile: it is {met.state} with fence {met.fence}; look at it again")
    if met.state in LEASED and met.lease_until > met.now:
        return Refusal(f"an attempt is in flight: wait {met.lease_until - met.now:.0f} s for the end of its lease")
    if met.state not in LEASED and met.state is not State.PARKED:
        return Refusal(f"the operation is {met.state}: only a parked or abandoned one can be settled by hand")
    return _judge_verb(met, intervention, pivoted=pivoted)


def _judge_verb(met: Checkpoint, intervention: Intervention, *, pivoted: bool) -> Move | Refusal:
    match intervention.verb:
        case Verb.RESUME if met.mode is Mode.ONCE:
            return Refusal("mode once is never run again by itself: `settle` it, or `release` it to its client's retry")
        case Verb.RESUME:
            return Move(State.UNDOING if met.undoing else State.RUNNING)
        case Verb.UNDO if met.mode is not Mode.STEPS:
            return Refusal(f"mode {met.mode} has no steps to undo: undo it by hand, then `settle --undone`")
        case Verb.UNDO if pivoted:
            return Refusal("it has passed its pivot, so it is never undone: `resume` it, or `settle` it")
        case Verb.UNDO:
            return Move(State.UNDOING)
        case Verb.SETTLE if intervention.outcome is None:
            return Refusal("`settle` needs the outcome: what the client is to be answered")
        case Verb.SETTLE if met.undoing and not intervention.undone:
            return Refusal("it was being undone and never goes forward again: `resume` the undo, or `settle --undone`")
        case Verb.SETTLE:
            return Move(State.UNDONE if intervention.undone else State.DONE)
        case Verb.RELEASE if met.undoing:
            return Refusal("it was being undone and never goes forward again: `resume` the undo, or `settle --undone`")
        case Verb.RELEASE:
            return Move(State.RELEASED)
        case _:
            assert_never(intervention.verb)
