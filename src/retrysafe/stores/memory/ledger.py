"""Checkpoints in memory, and the moves between their states that every verb of the memory store is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from heapq import heappush
from itertools import count
from typing import Concatenate, ParamSpec, TypeVar

import msgspec

from retrysafe.protocol.effects import Receipt, Superseded, Written
from retrysafe.protocol.model import Ask, Claim, Message
from retrysafe.protocol.operator import Audit
from retrysafe.protocol.states import LEASED, State, allowed
from retrysafe.protocol.verdicts import Claimed, Parked, Take
from retrysafe.stores.base import Held, Outgoing, Terms
from retrysafe.stores.clock import HostClock
from retrysafe.stores.decisions import due_at, receipt
from retrysafe.stores.memory.row import Row
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


class Sending(msgspec.Struct):
    """A message in the outbox, and when it is due to leave."""

    message: Outgoing
    due_at: float


class Ledger:
    """The rows, and what moves them."""

    def __init__(self, clock: HostClock) -> None:
        self._clock = clock
        self._rows: dict[bytes, Row] = {}
        """In the order in which the checkpoints were made."""
        self._open: dict[bytes, Row] = {}
        """Those in which a lease runs or is over."""
        self._heap: list[tuple[float, int, Row]] = []
        self._numbers = count()
        self._outbox: dict[tuple[str, int], Sending] = {}
        """In the order in which they are to leave."""
        self._audit: list[Audit] = []

    def _begin(self, ask: Ask, now: float) -> Claimed:
        """Make a new checkpoint: the first claim of an operation that nobody asked for before."""
        identity, lease_until = ask.identity, now + ask.lease_seconds
        row = Row(
            digest=identity.digest,
            operation_id=ask.attempt_id,
            name=ask.name,
            mode=ask.mode,
            state=State.RUNNING,
            namespace=identity.namespace,
            principal=identity.principal,
            key_hint=identity.key_hint,
            fingerprint=ask.fingerprint.stored,
            fence=1,
            attempt=1,
            deaths=0,
            attempt_id=ask.attempt_id,
            created_at=now,
            lease_until=lease_until,
            due_at=lease_until,
            finished_at=None,
            outcome_until=None,
            tombstone_until=now + ask.tombstone_seconds,
            outcome=None,
            request=ask.request,
            reason=None,
            version=ask.version,
            undoing=False,
            number=next(self._numbers),
            memos={},
        )
        self._rows[identity.digest] = self._open[identity.digest] = row
        return Claimed(row.seen(now).claim(ask.lease_seconds))

    def _take(self, row: Row, now: float, terms: Terms, take: Take) -> Claimed:
        """Give the claim to a new attempt, under the next fence."""
        row.fence += 1
        row.attempt += 1
        row.deaths = take.deaths
        row.attempt_id = terms.attempt_id
        row.lease_until = now + terms.lease_seconds
        row.due_at = due_at(row.lease_until, row.deaths, terms.backoff_seconds)
        row.next_hint_at = 0.0
        if take.state is State.UNDOING:
            row.undoing = True
        else:
            row.reason = None
        self._enter(row, take.state)
        return Claimed(row.seen(now).claim(terms.lease_seconds))

    def _park_abandoned(self, row: Row, now: float, reason: str) -> Parked:
        row.deaths += 1
        row.reason = reason
        self._enter(row, State.PARKED)
        return Parked(row.seen(now))

    def _current(self, claim: Claim) -> Row | None:
        """Find the checkpoint whose latest claim this is (C4)."""
        row = self._rows.get(claim.digest)
        if row is None or row.fence != claim.fence or row.operation_id != claim.operation_id:
            return None
        return row

    def _leased(self, claims: Iterable[Claim]) -> list[Row | None]:
        rows = map(self._current, claims)
        return [row if row is not None and row.state in LEASED else None for row in rows]

    def _writable(self, claim: Claim, target: State) -> Row | None:
        row = self._current(claim)
        return row if row is not None and allowed(row.state, target) else None

    def _refuse(self, claim: Claim, target: State) -> Receipt:
        row = self._rows.get(claim.digest)
        return Superseded() if row is None else receipt(row.seen(self._clock.now()), claim, target)

    def _move(self, claim: Claim, target: State) -> Receipt:
        row = self._writable(claim, target)
        if row is None:
            return self._refuse(claim, target)
        self._enter(row, target)
        return Written()

    @staticmethod
    def _move_lease(row: Row, lease_until: float) -> Held:
        row.due_at += lease_until - row.lease_until
        row.lease_until = lease_until
        return Held()

    def _enter(self, row: Row, state: State) -> None:
        row.state = state
        if state in LEASED:
            self._open[row.digest] = row
        else:
            self._open.pop(row.digest, None)
            self._await_purge(row)

    def _await_purge(self, row: Row) -> None:
        """Put the checkpoint into the heap, unless it lies there already and will come up in time."""
        instant = row.purge_at()
        if instant < row.waits_until and self._rows.get(row.digest) is row:
            row.waits_until = instant
            heappush(self._heap, (instant, row.number, row))

    def _enqueue(self, row: Row, messages: Sequence[Message], now: float) -> None:
        for message in messages:
            row.messages += 1
            outgoing = Outgoing(row.operation_id, row.messages, message)
            self._outbox[outgoing.operation_id, outgoing.number] = Sending(outgoing, now)
