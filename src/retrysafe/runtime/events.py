"""What happened, as a stream of events: one frozen struct each; logs, metrics and dashboards are sinks of it.

No event holds a key, a body, a credential or the principal (K8); operation ids and names are safe to log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something that happened to an operation, or instead of one."""

    level: ClassVar[int] = logging.DEBUG
    name: str
    """Operation name, such as ``POST /charges``."""


class OperationEvent(Event, frozen=True, gc=False):
    """Something that happened to an operation that has a checkpoint."""

    operation_id: str


class Claimed(OperationEvent, frozen=True, gc=False):
    """An attempt begins."""

    attempt: int
    fence: int


class Recorded(OperationEvent, frozen=True, gc=False):
    """The outcome is durable."""

    status: int
    seconds: float
    """From the claim to the record."""


class Released(OperationEvent, frozen=True, gc=False):
    """The key is free again for the same request."""


class Postponed(OperationEvent, frozen=True, gc=False):
    """An attempt failed, and another one goes on later (R8)."""

    level: ClassVar[int] = logging.WARNING
    seconds: float
    reason: str


class Undoing(OperationEvent, frozen=True, gc=False):
    """The operation is undone from now on (R7)."""

    level: ClassVar[int] = logging.WARNING
    reason: str


class Undone(OperationEvent, frozen=True, gc=False):
    """Every effect was taken back, and the outcome says so."""

    level: ClassVar[int] = logging.WARNING
    status: int
    seconds: float
    """From the claim to the record."""


class Streaming(OperationEvent, frozen=True, gc=False):
    """A response begins to leave whose body is not kept (S5)."""


class Replayed(OperationEvent, frozen=True, gc=False):
    """A recorded outcome answered a retry; the duplicate was absorbed."""


class Conflicted(OperationEvent, frozen=True, gc=False):
    """A request came while an attempt was in flight."""


class Mismatched(OperationEvent, frozen=True, gc=False):
    """A key came with another request (F1)."""

    level: ClassVar[int] = logging.WARNING


class Parked(OperationEvent, frozen=True, gc=False):
    """The outcome is unknown; a person or a probe must settle it."""

    level: ClassVar[int] = logging.WARNING
    reason: str


class Expired(OperationEvent, frozen=True, gc=False):
    """A retry came after the outcome's retention was over."""

    level: ClassVar[int] = logging.INFO


class Recovered(OperationEvent, frozen=True, gc=False):
    """The scan took over an abandoned operation."""

    level: ClassVar[int] = logging.INFO
    attempt: int


class Superseded(OperationEvent, frozen=True, gc=False):
    """A write of ours was refused: another attempt holds the claim (C4)."""

    level: ClassVar[int] = logging.WARNING


class LeaseLost(OperationEvent, frozen=True, gc=False):
    """The lease could not be renewed in time; the attempt is told to stop (C3)."""

    level: ClassVar[int] = logging.WARNING


class Overran(OperationEvent, frozen=True, gc=False):
    """The attempt outlasted ``max_duration``; renewals stop (C8)."""

    level: ClassVar[int] = logging.WARNING
    seconds: float


class HandlerFailed(OperationEvent, frozen=True, gc=False):
    """The operation raised an exception that its author did not declare."""

    level: ClassVar[int] = logging.WARNING
    error: str
    """The exception's type; its message may hold secrets."""


class Unprotected(Event, frozen=True, gc=False):
    """A write ran without protection (K7, D1).

    Attributes:
        reason: ``no key`` or ``store unavailable``.
    """

    reason: str


class Refused(Event, frozen=True, gc=False):
    """A request was answered without running the operation, for a reason of its own.

    The key, the principal, the size.
    """

    code: str


class StoreFailed(Event, frozen=True, gc=False):
    """The store could not do what it was asked."""

    level: ClassVar[int] = logging.ERROR
    doing: str
    error: str


class RecordDeferred(OperationEvent, frozen=True, gc=False):
    """The outcome could not be recorded yet; it is tried again in the background (D2)."""

    level: ClassVar[int] = logging.ERROR


class Purged(Event, frozen=True, gc=False):
    """Retention dropped outcomes and tombstones (S10)."""

    expired: int
    deleted: int


EventSink = Callable[[Event], None]
"""Takes every event, on the thread where it happened; must be quick and must not raise."""


class LoggingSink:
    """Writes events to the standard library's logger ``retrysafe``, with the event's fields as ``extra``."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        """Log to ``logger``, by default to the one called ``retrysafe``; levels are the events' own."""
        self._logger = logger or logging.getLogger("retrysafe")

    def __call__(self, event: Event) -> None:
        """Write one event."""
        if not self._logger.isEnabledFor(event.level):
            return
        facts = msgspec.structs.asdict(event)
        kind = type(event).__name__
        text = " ".join(f"{name}={value}" for name, value in facts.items())
        self._logger.log(event.level, "%s %s", kind, text, extra={"retrysafe": {"event": kind, **facts}})
