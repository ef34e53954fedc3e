"""What the memory store does for each verb, in words that every other store must keep to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from heapq import heappop, heappush, nsmallest
from itertools import count, islice
from math import inf
from typing import Concatenate, ParamSpec, TypeVar

from msgspec.structs import replace

from retrysafe.protocol.effects import Receipt, Superseded, Written
from retrysafe.protocol.model import Ask, Checkpoint, Claim
from retrysafe.protocol.states import LEASED, State, allowed
from retrysafe.protocol.verdicts import Claimed, InFlight, Park, Parked, Replace, Take, Verdict, judge
from retrysafe.stores.base import Held, Lost, Purged, Query, Renewal
from retrysafe.stores.clock import HostClock
from retrysafe.stores.decisions import due_at, judge_reclaim, receipt
from retrysafe.stores.memory.row import Row
from retrysafe.stores.program import Program

T = TypeVar("T")
P = ParamSpec("P")


def _atomic(
    verb: Callable[Concatenate[MemoryVerbs, P], T],
) -> Callable[Concatenate[MemoryVerbs, P], Program[T]]:
    """Make a function a program without statements: it is carried out when the program is run, not when it is made."""

    @wraps(verb)
    def program(verbs: MemoryVerbs, /, *args: P.args, **kwargs: P.kwargs) -> Program[T]:
        yield from ()
        return verb(verbs, *args, **kwargs)

    return program


class MemoryVerbs:
    """What the memory store can be asked; :class:`~retrysafe.stores.base.Verbs` says what each verb promises."""

    def __init__(self, clock: HostClock) -> None:
        self._clock = clock
        self._rows: dict[bytes, Row] = {}
        """In the order in which the checkpoints were made."""
        self._open: dict[bytes, Row] = {}
        """Those in which a lease runs or is over."""
        self._heap: list[tuple[float, int, Row]] = []
        self._numbers = count()

    @_atomic
    def claim(self, ask: Ask) -> Verdict:
        """Claim the checkpoint, or tell what stands in the way (C1, F1, C5, C6)."""
        now = self._clock.now()
        row = self._rows.get(ask.identity.digest)
        if row is None:
            return self._begin(ask, now)
        judgement = judge(row.seen(now), ask)
        match judgement:
            case Replace():
                del self._rows[row.digest]
                return self._begin(ask, now)
            case Take() if not allowed(row.state, State.RUNNING):
                return InFlight(row.seen(now))
            case Take(died):
                row.name, row.mode, row.request = ask.name, ask.mode, ask.request
                row.tombstone_until = now + ask.tombstone_seconds
                return self._take(row, now, ask.attempt_id, ask.lease_seconds, ask.backoff_seconds, died=died)
            case Park(reason):
                return self._park_abandoned(row, now, reason)
            case verdict:
                return verdict

    @_atomic
    def reclaim(
        self, seen: Checkpoint, attempt_id: str, *, attempts: int, lease_seconds: float, backoff_seconds: float
    ) -> Verdict | None:
        """Take over or park an abandoned checkpoint, under the fence that the scan saw (R1, R8)."""
        now = self._clock.now()
        row = self._rows.get(seen.digest)
        if row is None:
            return None
        judgement = judge_reclaim(row.seen(now), seen, attempt_id, attempts=attempts, lease_seconds=lease_seconds)
        match judgement:
            case Take() if not allowed(row.state, State.RUNNING):
                return None
            case Take(died):
                return self._take(row, now, attempt_id, lease_seconds, backoff_seconds, died=died)
            case Park(reason):
                row.attempt_id = attempt_id
                return self._park_abandoned(row, now, reason)
            case verdict:
                return verdict

    @_atomic
    def renew(self, claims: Sequence[Claim]) -> Sequence[Renewal]:
        """Move the lease end of each claim that is still held (C3, C4)."""
        now = self._clock.now()
        return [
            Lost() if row is None else self._move_lease(row, now + claim.lease_seconds)
            for claim, row in zip(claims, self._leased(claims), strict=True)
        ]

    @_atomic
    def begin_stream(self, claim: Claim) -> Receipt:
        """Say that the response begins to leave (S5)."""
        return self._move(claim, State.STREAMING)

    @_atomic
    def record(self, claim: Claim, outcome: bytes, *, retention_seconds: float, tombstone_seconds: float) -> Receipt:
        """Record the outcome and erase the stored request; final (S1, R13)."""
        now = self._clock.now()
        row = self._writable(claim, State.DONE)
        if row is None:
            return self._refuse(claim, State.DONE)
        row.outcome, row.request, row.reason = outcome, None, None
        row.finished_at = now
        row.outcome_until = now + retention_seconds
        row.tombstone_until = now + tombstone_seconds
        self._enter(row, State.DONE)
        return Written()

    @_atomic
    def release(self, claim: Claim) -> Receipt:
        """Free the key for the same request (S6). The request is erased: the next claim brings its own."""
        row = self._writable(claim, State.RELEASED)
        if row is None:
            return self._refuse(claim, State.RELEASED)
        row.request = None
        self._enter(row, State.RELEASED)
        return Written()

    @_atomic
    def park(self, claim: Claim, reason: str) -> Receipt:
        """Park the operation under its current fence."""
        row = self._writable(claim, State.PARKED)
        if row is None:
            return self._refuse(claim, State.PARKED)
        row.reason = reason
        self._enter(row, State.PARKED)
        return Written()

    @_atomic
    def hand_over(self, claims: Sequence[Claim]) -> None:
        """End the leases of claims whose attempts have stopped (C7)."""
        now = self._clock.now()
        for row in self._leased(claims):
            if row is not None and row.lease_until > now:
                self._move_lease(row, now)

    @_atomic
    def read(self, digest: bytes) -> Checkpoint | None:
        """Read one checkpoint."""
        row = self._rows.get(digest)
        return None if row is None else row.seen(self._clock.now())

    @_atomic
    def abandoned(self, limit: int) -> Sequence[Checkpoint]:
        """List abandoned checkpoints that are due, oldest lease first (R2)."""
        now = self._clock.now()
        due = (row for row in self._open.values() if row.lease_until <= now and row.due_at <= now)
        return [row.seen(now) for row in nsmallest(limit, due, key=lambda row: (row.lease_until, row.number))]

    @_atomic
    def purge(self, limit: int) -> Purged:
        """Drop outcomes and tombstones whose retention is over (S10)."""
        now = self._clock.now()
        expired = deleted = 0
        while self._heap and self._heap[0][0] <= now and expired + deleted < limit:
            row = heappop(self._heap)[2]
            row.waits_until = inf
            if self._rows.get(row.digest) is not row or row.purge_at() > now:
                self._await_purge(row)
            elif row.tombstone_until <= now:
                del self._rows[row.digest]
                deleted += 1
            else:
                row.outcome = None
                self._enter(row, State.EXPIRED)
                expired += 1
        return Purged(expired, deleted, more=bool(self._heap) and self._heap[0][0] <= now)

    @_atomic
    def listing(self, query: Query) -> Sequence[Checkpoint]:
        """List checkpoints for a person, newest first, without outcomes and requests."""
        now = self._clock.now()
        found = islice(self._matching(query, now), query.limit)
        return [replace(row, outcome=None, request=None).seen(now) for row in found]

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
            number=next(self._numbers),
        )
        self._rows[identity.digest] = self._open[identity.digest] = row
        return Claimed(Claim(identity.digest, ask.attempt_id, 1, 1, ask.mode, ask.name, ask.lease_seconds))

    def _take(
        self, row: Row, now: float, attempt_id: str, lease_seconds: float, backoff_seconds: float, *, died: bool
    ) -> Claimed:
        """Give the claim to a new attempt, under the next fence."""
        row.fence += 1
        row.attempt += 1
        row.deaths += died
        row.attempt_id = attempt_id
        row.lease_until = now + lease_seconds
        row.due_at = due_at(row.lease_until, row.deaths, backoff_seconds)
        row.reason = None
        self._enter(row, State.RUNNING)
        return Claimed(Claim(row.digest, row.operation_id, row.fence, row.attempt, row.mode, row.name, lease_seconds))

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

    def _matching(self, query: Query, now: float) -> Iterator[Row]:
        behind = query.after is None
        for row in reversed(self._rows.values()):
            if behind:
                if self._matches(row, query, now):
                    yield row
            else:
                behind = row.operation_id == query.after

    @staticmethod
    def _matches(row: Row, query: Query, now: float) -> bool:
        return (
            (not query.states or row.state in query.states)
            and (not query.abandoned or (row.state in LEASED and row.lease_until <= now))
            and (query.name is None or row.name == query.name)
            and (query.operation_id is None or row.operation_id.startswith(query.operation_id))
        )
