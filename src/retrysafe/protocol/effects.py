"""What a flow may ask for, and the type of each answer.

A flow never does anything: it yields an effect, and the runtime performs it. Two effects, ``Execute`` and
``Forward``, are performed by the surface (the adapter), because only it knows how to run the operation; at those the
driver pauses.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from retrysafe.protocol.replies import (
    Answer,
    Began,
    Conflicted,
    Cut,
    Ended,
    Failed,
    Fresh,
    Gave,
    NotHappened,
    NotKnown,
    Raised,
    Receipt,
    Refused,
    Replayed,
    Reply,
    Reraise,
    Returned,
    Streamed,
    Superseded,
    Written,
)
from retrysafe.protocol.steps import History, Memo, Step, Trail
from retrysafe.protocol.verdicts import Verdict

if TYPE_CHECKING:
    from retrysafe.protocol import model

# What is given on from ``replies.py``, so that a flow needs one name, `fx`, for questions and answers.
__all__ = [
    "Answer",
    "Began",
    "Conflicted",
    "Cut",
    "Ended",
    "Failed",
    "Fresh",
    "Gave",
    "NotHappened",
    "NotKnown",
    "Raised",
    "Receipt",
    "Refused",
    "Replayed",
    "Reply",
    "Reraise",
    "Returned",
    "Streamed",
    "Superseded",
    "Written",
]

T = TypeVar("T")


class Effect(msgspec.Struct, Generic[T], frozen=True):
    """Something a flow asks for; ``T`` is the type of the answer."""


Flow = Generator["AnyEffect", Any, T]


def perform(effect: Effect[T]) -> Flow[T]:
    """Ask for ``effect`` and return its answer with its type, which a bare ``yield`` would lose."""
    # No cast, which would cost a call for every effect.
    reply: T = yield effect  # type: ignore[misc]  # pyright: ignore[reportReturnType]
    return reply


# Effects on the store.


class Claim(Effect[Verdict], frozen=True, gc=False):
    """Claim the checkpoint, atomically (C1)."""

    ask: model.Ask


class Reclaim(Effect[Verdict | None], frozen=True):
    """Take over an abandoned checkpoint, or park it, under the fence that the scan saw.

    Answered None when somebody else was faster.

    Attributes:
        seen: the checkpoint as the scan saw it.
        attempt_id: UUIDv7 of the new attempt.
        backoff_seconds: how long the scan leaves the operation alone should this attempt die as well.
    """

    seen: model.Checkpoint
    attempt_id: str
    backoff_seconds: float


class BeginStream(Effect[Receipt], frozen=True, gc=False):
    """Make it durable that a response begins to leave and that its body will not be kept (S5)."""

    claim: model.Claim


class Record(Effect[Receipt], frozen=True, gc=False):
    """Record the outcome; final.

    Attributes:
        undone: every effect was taken back; the outcome says that.
        messages: leave for others if and only if this is durable (R12, I11).
    """

    claim: model.Claim
    outcome: model.Outcome
    undone: bool = False
    messages: tuple[model.Message, ...] = ()


class RecordLater(Effect[None], frozen=True):
    """Keep the claim and keep trying to record in the background, because the store failed after the effect (D2)."""

    record: Record


class Release(Effect[Receipt], frozen=True, gc=False):
    """Give the claim back: nothing happened that matters."""

    claim: model.Claim


class ReleaseLater(Effect[None], frozen=True):
    """Keep trying to release in the background, because the store failed."""

    claim: model.Claim


class Abandon(Effect[None], frozen=True):
    """Give our claim up without an outcome: end its lease in the background, so that recovery need not wait for it."""

    claim: model.Claim


class ParkClaim(Effect[Receipt], frozen=True):
    """Park the operation under our own claim."""

    claim: model.Claim
    reason: str


class Postpone(Effect[Receipt], frozen=True):
    """End our own lease, and leave the operation alone for a while; the next attempt goes on (R8).

    Attributes:
        seconds: how long.
        reason: why, in one sentence.
    """

    claim: model.Claim
    seconds: float
    reason: str


class Read(Effect["model.Checkpoint | None"], frozen=True, gc=False):
    """Read a checkpoint."""

    digest: bytes


class ReadTrail(Effect[History | None], frozen=True):
    """Read an operation and every memo of its steps, at once (R4)."""

    digest: bytes


class Memoize(Effect[Receipt], frozen=True):
    """Write what is known of a step, under the fence; what is known for good never changes (R5, I2)."""

    claim: model.Claim
    memo: Memo


class BeginUndo(Effect[Receipt], frozen=True):
    """Make it durable that the operation is undone from now on, and that no step of it begins any more (R7, I9).

    Attributes:
        reason: why, in one sentence.
        outcome: what the operation answered; its outcome once everything is undone. None for the policy's.
    """

    claim: model.Claim
    reason: str
    outcome: model.Outcome | None


# Effects on the runtime and on hooks of the application.


class Wait(Effect[bool], frozen=True):
    """Wait until the operation in flight may have changed.

    False when the time is over or too many wait already (S9).
    """

    checkpoint: model.Checkpoint
    seconds: float


class RetryAfter(Effect[int], frozen=True):
    """Estimate when it is worth asking again, from the remaining lease and the usual duration of this operation."""

    checkpoint: model.Checkpoint


class StillHeld(Effect[bool], frozen=True):
    """Tell whether our own lease certainly still runs, by the local watchdog (C3)."""

    claim: model.Claim


class Backoff(Effect[float], frozen=True):
    """Choose how many seconds to wait before the next attempt, with full jitter (R8).

    Attributes:
        deaths: how many attempts have ended without an outcome.
    """

    deaths: int


class UndoneReply(Effect[Returned], frozen=True):
    """Make what a client gets for an undone operation that did not answer by itself."""

    claim: model.Claim


class Pause(Effect[None], frozen=True):
    """Wait a moment before something that has just failed is done again.

    Attributes:
        seconds: how long.
    """

    seconds: float


class Authorize(Effect[bool], frozen=True):
    """Ask the application whether this caller may see the recorded outcome (K6)."""

    checkpoint: model.Checkpoint


class Rebuild(Effect["model.Response | None"], frozen=True):
    """Ask the application to make the response of a finished operation again, when its body was not kept (S5)."""

    checkpoint: model.Checkpoint


# Effects on the application's code besides the operation itself.


class Call(Effect["Gave | Refused | Failed"], frozen=True):
    """Call a step's function. Performed by the operation's object, which has the function."""

    claim: model.Claim
    step: Step


class Probe(Effect["Gave | NotHappened | NotKnown | Failed"], frozen=True):
    """Ask whether a step happened that began in an attempt before (R6). Performed by the operation's object."""

    claim: model.Claim
    step: Step


class Transact(Effect[Memo | Superseded | NotKnown | Failed], frozen=True):
    """Run a local step: its effect and ``memo`` in one transaction of the application's database (R5, I10).

    Performed by the operation's object.

    Attributes:
        memo: what to write, but for the result, which the step has yet to give.
    """

    claim: model.Claim
    step: Step
    memo: Memo


class Undo(Effect["Gave | Failed"], frozen=True):
    """Call a step's undo, under a child key of its own (R7).

    Attributes:
        memo: of the step that is taken back.
    """

    claim: model.Claim
    memo: Memo


class Commit(Effect["Written | Superseded | Conflicted"], frozen=True):
    """Record the outcome as the last statement of the operation's own transaction, and commit it (R11).

    Attributes:
        messages: leave for others if and only if this commits (R12, I11).
    """

    claim: model.Claim
    outcome: model.Outcome
    messages: tuple[model.Message, ...] = ()


class Rollback(Effect[bool], frozen=True):
    """Roll the operation's own transaction back (R11).

    Answered True when running the operation again may succeed, because the database said that it met another one.

    Attributes:
        error: what the operation raised, or None.
    """

    claim: model.Claim
    error: Exception | None


# Effects that the surface performs; the driver pauses there.


class Execute(Effect[Reply], frozen=True):
    """Run the operation.

    Attributes:
        claim: the right to execute, or None when the store is down and the operation is declared ``fail_open`` (D1).
        trail: what is known of its steps, in the modes that have some.
    """

    claim: model.Claim | None
    trail: Trail | None = None


class Forward(Effect[Ended], frozen=True):
    """Forward the stream that began, from its first byte to its end.

    Attributes:
        claim: the right under which it leaves, or None when it leaves unprotected (D1).
        stored: False when it could not be made durable that it leaves (D2).
    """

    claim: model.Claim | None
    stored: bool


StoreEffect = (
    Claim | Record | Release | BeginStream | Reclaim | ParkClaim | Read | Memoize | ReadTrail | Postpone | BeginUndo
)
LocalEffect = Abandon | RecordLater | ReleaseLater | RetryAfter | StillHeld | Backoff | UndoneReply
HookEffect = Wait | Pause | Authorize | Rebuild | Undo | Commit | Rollback
StepEffect = Call | Probe | Transact
SurfaceEffect = Execute | Forward
AnyEffect = StoreEffect | LocalEffect | HookEffect | StepEffect | SurfaceEffect
"""Every effect, so that both type checkers notice one that a runtime does not perform."""
