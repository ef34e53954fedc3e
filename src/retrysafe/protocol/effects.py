"""What a flow may ask for, and the type of each answer.

A flow never does anything: it yields an effect, and the runtime performs it. Two effects, ``Execute`` and
``Forward``, are performed by the surface (the adapter), because only it knows how to run the operation; at those the
driver pauses.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from retrysafe.protocol.model import Final, NoEffect
from retrysafe.protocol.verdicts import Verdict

if TYPE_CHECKING:
    from retrysafe.protocol import model

T = TypeVar("T")


class Effect(msgspec.Struct, Generic[T], frozen=True):
    """Something a flow asks for; ``T`` is the type of the answer."""


Flow = Generator["AnyEffect", Any, T]


def perform(effect: Effect[T]) -> Flow[T]:
    """Ask for ``effect`` and return its answer with its type, which a bare ``yield`` would lose."""
    reply: T = yield cast("AnyEffect", effect)
    return reply


# Answers to writes. A refused write is a value, not an exception (C4).


class Written(msgspec.Struct, frozen=True):
    """The write is durable."""


class Superseded(msgspec.Struct, frozen=True):
    """The write was refused: the checkpoint has another fence, or is in a state that this write may not leave."""


Receipt = Written | Superseded


# Answers of the surface.


class Returned(msgspec.Struct, frozen=True):
    """The operation returned a whole response.

    Attributes:
        response: what the first client gets, unchanged.
        outcome: what a checkpoint would keep of it (S2, S4); its body is None when it may not be kept (S5).
    """

    response: model.Response
    outcome: model.Outcome


class Began(msgspec.Struct, frozen=True):
    """The operation begins to stream a response; nothing was sent yet.

    Attributes:
        outcome: status and headers that a checkpoint would keep; its body is None.
    """

    outcome: model.Outcome


class Raised(msgspec.Struct, frozen=True):
    """The operation raised.

    Attributes:
        error: what it raised; never a ``BaseException`` beyond ``Exception``: those count as a crash (C7).
        failure: the response to it, and what a checkpoint would keep of that: for ``Final`` the author's own, for
            others one that tells a client that the operation failed.
    """

    error: Exception
    failure: Returned

    @property
    def undeclared(self) -> bool:
        """Tell whether the author did not say what the exception means."""
        return not isinstance(self.error, NoEffect | Final)


class Ended(msgspec.Struct, frozen=True):
    """The stream was forwarded to its end, or failed on the way; what has left is not sent again.

    Attributes:
        error: what the operation raised after its first byte had left, or None.
    """

    error: Exception | None = None


Reply = Returned | Began | Raised


# Effects on the store.


class Claim(Effect[Verdict], frozen=True):
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


class BeginStream(Effect[Receipt], frozen=True):
    """Make it durable that a response begins to leave and that its body will not be kept (S5)."""

    claim: model.Claim


class Record(Effect[Receipt], frozen=True):
    """Record the outcome; final."""

    claim: model.Claim
    outcome: model.Outcome


class RecordLater(Effect[None], frozen=True):
    """Keep the claim and keep trying to record in the background, because the store failed after the effect (D2)."""

    claim: model.Claim
    outcome: model.Outcome


class Release(Effect[Receipt], frozen=True):
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


class Read(Effect["model.Checkpoint | None"], frozen=True):
    """Read a checkpoint."""

    digest: bytes


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


class Authorize(Effect[bool], frozen=True):
    """Ask the application whether this caller may see the recorded outcome (K6)."""

    checkpoint: model.Checkpoint


class Rebuild(Effect["model.Response | None"], frozen=True):
    """Ask the application to make the response of a finished operation again, when its body was not kept (S5)."""

    checkpoint: model.Checkpoint


# Effects that the surface performs; the driver pauses there.


class Execute(Effect[Reply], frozen=True):
    """Run the operation.

    Attributes:
        claim: the right to execute, or None when the store is down and the operation is declared ``fail_open`` (D1).
    """

    claim: model.Claim | None


class Forward(Effect[Ended], frozen=True):
    """Forward the stream that began, from its first byte to its end.

    Attributes:
        claim: the right under which it leaves, or None when it leaves unprotected (D1).
        stored: False when it could not be made durable that it leaves (D2).
    """

    claim: model.Claim | None
    stored: bool


StoreEffect = Claim | Record | Release | BeginStream | Reclaim | ParkClaim | Read
LocalEffect = Abandon | RecordLater | ReleaseLater | RetryAfter | StillHeld
HookEffect = Wait | Authorize | Rebuild
SurfaceEffect = Execute | Forward
AnyEffect = StoreEffect | LocalEffect | HookEffect | SurfaceEffect
"""Every effect, so that both type checkers notice one that a runtime does not perform."""


# What a flow returns.


class Fresh(msgspec.Struct, frozen=True):
    """Send the operation's own response.

    Attributes:
        response: the response, unchanged.
        stored: False when it could not be made durable yet and the response is true all the same (D2).
        protected: False when the store was down and the operation is declared ``fail_open`` (D1).
    """

    response: model.Response
    stored: bool = True
    protected: bool = True


class Replayed(msgspec.Struct, frozen=True):
    """Send the recorded outcome again (S2, S7)."""

    operation_id: str
    response: model.Response


class Streamed(msgspec.Struct, frozen=True):
    """The response was forwarded; there is nothing left to send."""


class Reraise(msgspec.Struct, frozen=True):
    """Raise the operation's own exception into the framework; the key is free again."""

    error: Exception


Answer = Fresh | Replayed | Streamed | Reraise
