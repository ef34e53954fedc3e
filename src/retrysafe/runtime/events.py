"""What happened, as a stream of events: one frozen dataclass each; logs, metrics and dashboards are sinks of it.

No event holds a key, a body, a credential or the principal (K8); operation ids and names are safe to log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an operation, or instead of one."""

    level: ClassVar[int] = logging.DEBUG
    name: str
    """Operation name, such as ``POST /charges``."""


@dataclass(frozen=True, slots=True)
class OperationEvent(Event):
    """Something that happened to an operation that has a checkpoint."""

    operation_id: str


@dataclass(frozen=True, slots=True)
class Claimed(OperationEvent):
    """An attempt begins."""

    attempt: int
    fence: int


@dataclass(frozen=True, slots=True)
class Recorded(OperationEvent):
    """The outcome is durable."""

    status: int
    seconds: float
    """From the claim to the record."""


@dataclass(frozen=True, slots=True)
class Released(OperationEvent):
    """The key is free again for the same request."""


@dataclass(frozen=True, slots=True)
class Streaming(OperationEvent):
    """A response begins to leave whose body is not kept (S5)."""


@dataclass(frozen=True, slots=True)
class Replayed(OperationEvent):
    """A recorded outcome answered a retry; the duplicate was absorbed."""


@dataclass(frozen=True, slots=True)
class Conflicted(OperationEvent):
    """A request came while an attempt was in flight."""


@dataclass(frozen=True, slots=True)
class Mismatched(OperationEvent):
    """A key came with another request (F1)."""

    level: ClassVar[int] = logging.WARNING


@dataclass(frozen=True, slots=True)
class Parked(OperationEvent):
    """The outcome is unknown; a person or a probe must settle it."""

    level: ClassVar[int] = logging.WARNING
    reason: str


@dataclass(frozen=True, slots=True)
class Expired(OperationEvent):
    """A retry came after the outcome's retention was over."""

    level: ClassVar[int] = logging.INFO


@dataclass(frozen=True, slots=True)
class Recovered(OperationEvent):
    """The scan took over an abandoned operation."""

    level: ClassVar[int] = logging.INFO
    attempt: int


@dataclass(frozen=True, slots=True)
class Superseded(OperationEvent):
    """A write of ours was refused: another attempt holds the claim (C4)."""

    level: ClassVar[int] = logging.WARNING


@dataclass(frozen=True, slots=True)
class LeaseLost(OperationEvent):
    """The lease could not be renewed in time; the attempt is told to stop (C3)."""

    level: ClassVar[int] = logging.WARNING


@dataclass(frozen=True, slots=True)
class Overran(OperationEvent):
    """The attempt outlasted ``max_duration``; renewals stop (C8)."""

    level: ClassVar[int] = logging.WARNING
    seconds: float


@dataclass(frozen=True, slots=True)
class HandlerFailed(OperationEvent):
    """The operation raised an exception that its author did not declare."""

    level: ClassVar[int] = logging.WARNING
    error: str
    """The exception's type; its message may hold secrets."""


@dataclass(frozen=True, slots=True)
class Unprotected(Event):
    """A write ran without protection (K7, D1).

    Attributes:
        reason: ``no key`` or ``store unavailable``.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """A request was answered without running the operation, for a reason of its own.

    The key, the principal, the size.
    """

    code: str


@dataclass(frozen=True, slots=True)
class StoreFailed(Event):
    """The store could not do what it was asked."""

    level: ClassVar[int] = logging.ERROR
    doing: str
    error: str


@dataclass(frozen=True, slots=True)
class RecordDeferred(OperationEvent):
    """The outcome could not be recorded yet; it is tried again in the background (D2)."""

    level: ClassVar[int] = logging.ERROR


@dataclass(frozen=True, slots=True)
class Purged(Event):
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
        facts = {field.name: getattr(event, field.name) for field in fields(event)}
        kind = type(event).__name__
        text = " ".join(f"{name}={value}" for name, value in facts.items())
        self._logger.log(event.level, "%s %s", kind, text, extra={"retrysafe": {"event": kind, **facts}})
