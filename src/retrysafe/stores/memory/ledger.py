"""Rows in memory, and where they lie so that nothing ever looks at all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Concatenate, ParamSpec, TypeVar

from msgspec.structs import replace

from retrysafe.protocol.operator import Audit
from retrysafe.protocol.states import LEASED
from retrysafe.stores.clock import HostClock
from retrysafe.stores.documents.row import Row, Sending
from retrysafe.stores.program import Program

T = TypeVar("T")
P = ParamSpec("P")
V = TypeVar("V")


def atomic(
    verb: Callable[Concatenate[V, P], T],
) -> Callable[Concatenate[V, P], Program[T]]:
    """Make a function a program without statements: it is carried out when the program is run, not when it is made."""

    @wraps(verb)
    def program(verbs: V, /, *args: P.args, **kwargs: P.kwargs) -> Program[T]:
        yield from ()
        return verb(verbs, *args, **kwargs)

    return program


class Ledger:
    """The rows, and what finds them."""

    def __init__(self, clock: HostClock) -> None:
        self._clock = clock
        self._rows: dict[bytes, Row] = {}
        """In the order in which the checkpoints were made."""
        self._open: dict[bytes, Row] = {}
        """Those in which a lease runs or is over."""
        self._heap: list[tuple[float, int, Row]] = []
        self._waiting: dict[int, float] = {}
        """By a row's number, the earliest instant under which it lies in the heap."""
        self._numbers = count()
        self._outbox: dict[tuple[str, int], Sending] = {}
        """In the order in which they are to leave."""
        self._audit: list[Audit] = []

    def _place(self, row: Row) -> None:
        """Put a row where it is looked for, after a verb may have changed it."""
        if row.state in LEASED:
            self._open[row.digest] = row
        else:
            self._open.pop(row.digest, None)
            self._await_purge(row)
        if row.outbox:
            self._outbox.update({(each.outgoing.operation_id, each.outgoing.number): each for each in row.outbox})
            row.outbox = ()
        if row.audit:
            self._audit += [replace(line, number=len(self._audit) + 1) for line in row.audit]
            row.audit = ()

    def _replace(self, before: Row | None, row: Row) -> None:
        """Let a new row have the place of one before it, as the latest."""
        if before is not None:
            del self._rows[before.digest]
        self._rows[row.digest] = row

    def _await_purge(self, row: Row) -> None:
        """Put the row into the heap, unless it lies there already and will come up in time."""
        instant = row.purge_at()
        if instant < self._waiting.get(row.number, inf) and self._rows.get(row.digest) is row:
            self._waiting[row.number] = instant
            heappush(self._heap, (instant, row.number, row))

    def _next_to_purge(self, now: float) -> Row | None:
        """Take the row out of the heap that is due first; None when none is."""
        while self._heap and self._heap[0][0] <= now:
            row = heappop(self._heap)[2]
            self._waiting.pop(row.number, None)
            if self._rows.get(row.digest) is row and row.purge_at() <= now:
                return row
            self._await_purge(row)
        return None
