"""What the memory store does for the verbs of recovery, of persons and of listings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappop, nsmallest
from itertools import islice
from math import inf

from msgspec.structs import replace

from retrysafe.protocol.model import Checkpoint, Mode
from retrysafe.protocol.operator import Audit, Intervention, Refusal, judge_intervention
from retrysafe.protocol.states import LEASED, State
from retrysafe.protocol.steps import PIVOT
from retrysafe.stores.base import Purged, Query, Wanted
from retrysafe.stores.decisions import hint_again_at, intervened
from retrysafe.stores.memory.ledger import atomic
from retrysafe.stores.memory.row import Row
from retrysafe.stores.memory.steps import StepVerbs


class MemoryVerbs(StepVerbs):
    """What the memory store can be asked; :class:`~retrysafe.stores.base.Verbs` says what each verb promises."""

    @atomic
    def read(self, digest: bytes) -> Checkpoint | None:
        """Read one checkpoint."""
        row = self._rows.get(digest)
        return None if row is None else row.seen(self._clock.now())

    @atomic
    def abandoned(self, limit: int) -> Sequence[Checkpoint]:
        """List abandoned checkpoints that are due, oldest lease first (R2)."""
        now = self._clock.now()
        due = (row for row in self._open.values() if row.lease_until <= now and row.due_at <= now)
        return [row.seen(now) for row in nsmallest(limit, due, key=lambda row: (row.lease_until, row.number))]

    @atomic
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
                row.outcome, row.memos = None, {}
                self._enter(row, State.EXPIRED)
                expired += 1
        return Purged(expired, deleted, more=bool(self._heap) and self._heap[0][0] <= now)

    @atomic
    def listing(self, query: Query) -> Sequence[Checkpoint]:
        """List checkpoints for a person, newest first, without outcomes and requests."""
        now = self._clock.now()
        found = islice(self._matching(query, now), query.limit)
        return [replace(row, outcome=None, request=None).seen(now) for row in found]

    @atomic
    def dispatch(self, wanted: Wanted, limit: int) -> Sequence[Checkpoint]:
        """List what is due and noted by nobody, and note it (R2)."""
        now = self._clock.now()
        due = (row for row in self._open.values() if _is_wanted(row, wanted, now))
        found = nsmallest(limit, due, key=lambda row: (row.lease_until, row.number))
        for row in found:
            row.next_hint_at = hint_again_at(now, max(row.lease_until, row.due_at))
        return [row.seen(now) for row in found]

    @atomic
    def intervene(self, seen: Checkpoint, intervention: Intervention) -> Checkpoint | Refusal:
        """Carry out what a person decided, and write the audit (R10)."""
        now = self._clock.now()
        row = self._rows.get(seen.digest)
        met = None if row is None else row.seen(now)
        pivoted = row is not None and (PIVOT, 0) in row.memos
        judgement = judge_intervention(met, seen, intervention, pivoted=pivoted)
        if row is None or met is None or isinstance(judgement, Refusal):
            return judgement if isinstance(judgement, Refusal) else Refusal("the operation is not there any more")
        after = intervened(met, judgement, intervention)
        row.become(after)
        row.next_hint_at = 0.0
        self._enter(row, after.state)
        self._audit.append(
            Audit(
                number=len(self._audit) + 1,
                at=now,
                operation_id=row.operation_id,
                verb=intervention.verb,
                by=intervention.by,
                note=intervention.note,
                state_before=met.state,
                state_after=after.state,
                fence_after=after.fence,
            )
        )
        return after

    @atomic
    def audit(self, operation_id: str | None, limit: int) -> Sequence[Audit]:
        """List what persons did, newest first (R10)."""
        lines = (line for line in reversed(self._audit) if operation_id in {None, line.operation_id})
        return list(islice(lines, limit))

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


def _is_wanted(row: Row, wanted: Wanted, now: float) -> bool:
    if row.lease_until > now or row.due_at > now or row.next_hint_at > now:
        return False
    if row.mode is Mode.ONCE:
        return True
    named = wanted.names is None or row.name in wanted.names or row.state is State.UNDOING
    return named and row.namespace == wanted.namespace and row.mode in wanted.modes
