"""What the retrysafe lane saw, written down so that it survives ``kill -9``: one line of JSON for each moment."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from retrysafe.runtime import events

if TYPE_CHECKING:
    from collections.abc import Sequence


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """One moment of one operation.

    Attributes:
        at: monotonic instant in seconds, comparable between processes of one machine.
        what: the event's name such as ``Claimed``, or ``Charging`` when the shop is about to call the bank.
        operation: the operation id.
        attempt: which attempt, where that is known.
        order: the order, in ``Charging`` only: retrysafe itself knows nothing of orders.
    """

    at: float
    what: str
    operation: str
    attempt: int = 0
    order: str = ""


class Journal:
    """The writing end; used as a sink of the guard's events."""

    def __init__(self, path: str) -> None:
        """Append to a file. One write for each note and no buffer: a killed process loses nothing it had noted."""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __call__(self, event: events.Event) -> None:
        """Note an event that belongs to an operation."""
        match event:
            case events.Claimed() | events.Recovered():
                self.note(type(event).__name__, event.operation_id, attempt=event.attempt)
            case events.OperationEvent():
                self.note(type(event).__name__, event.operation_id)
            case _:
                pass

    def note(self, what: str, operation: str, *, attempt: int = 0, order: str = "") -> None:
        """Write one note."""
        line = msgspec.json.encode(Note(time.monotonic(), what, operation, attempt, order))
        os.write(self._descriptor, line + b"\n")


def read_journal(path: Path) -> Sequence[Note]:
    """Read every note whose line is complete, in order."""
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [msgspec.json.decode(line, type=Note) for line in whole.splitlines()]
