"""The verbs of recovery, of persons and of listings, on the rows in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import nsmallest
from itertools import islice

from retrysafe.protocol.model import Checkpoint
from retrysafe.protocol.operator import Audit, Intervention, Refusal
from retrysafe.stores.base import Purged, Query, Wanted
from retrysafe.stores.documents import upkeep
from retrysafe.stores.documents.row import Row
from retrysafe.stores.documents.upkeep import Fate
from retrysafe.stores.memory.ledger import atomic
from retrysafe.stores.memory.steps import StepVerbs


class MemoryVerbs(StepVerbs):
    """What the memory store can be asked; :class:`~retrysafe.stores.base.Verbs` says what each verb promises."""

    @atomic
    def read(self, digest: bytes) -> Checkpoint | None:
        """Read one checkpoint."""
        return upkeep.read(self._rows.get(digest), self._clock.now())

    @atomic
    def abandoned(self, limit: int) -> Sequence[Checkpoint]:
        """List abandoned checkpoints that are due, oldest lease first (R2)."""
        now = self._clock.now()
        due = (row for row in self._open.values() if upkeep.is_abandoned(row, now))
        return [row.seen(now) for row in nsmallest(limit, due, key=_oldest)]

    @atomic
    def purge(self, limit: int) -> Purged:
        """Drop outcomes and tombstones whose retention is over (S10)."""
        now = self._clock.now()
        expired = deleted = 0
        while expired + deleted < limit and (row := self._next_to_purge(now)) is not None:
            if upkeep.purge(row, now) is Fate.DELETED:
                del self._rows[row.digest]
                deleted += 1
            else:
                self._place(row)
                expired += 1
        return Purged(expired, deleted, more=bool(self._heap) and self._heap[0][0] <= now)

    @atomic
    def listing(self, query: Query) -> Sequence[Checkpoint]:
        """List checkpoints for a person, newest first, without outcomes and requests."""
        now = self._clock.now()
        return [upkeep.listed(row, now) for row in islice(self._matching(query, now), query.limit)]

    @atomic
    def dispatch(self, wanted: Wanted, limit: int) -> Sequence[Checkpoint]:
        """List what is due and noted by nobody, and note it (R2)."""
        now = self._clock.now()
        due = (row for row in self._open.values() if upkeep.is_wanted(row, wanted, now))
        return [upkeep.note(row, now) for row in nsmallest(limit, due, key=_oldest)]

    @atomic
    def intervene(self, seen: Checkpoint, intervention: Intervention) -> Checkpoint | Refusal:
        """Carry out what a person decided, and write the audit (R10)."""
        row = self._rows.get(seen.digest)
        answer = upkeep.intervene(row, seen, intervention, self._clock.now())
        if row is not None:
            self._place(row)
        return answer

    @atomic
    def audit(self, operation_id: str | None, limit: int) -> Sequence[Audit]:
        """List what persons did, newest first (R10)."""
        lines = (line for line in reversed(self._audit) if operation_id in {None, line.operation_id})
        return list(islice(lines, limit))

    def _matching(self, query: Query, now: float) -> Iterator[Row]:
        behind = query.after is None
        for row in reversed(self._rows.values()):
            if behind:
                if upkeep.matches(row, query, now):
                    yield row
            else:
                behind = row.operation_id == query.after


def _oldest(row: Row) -> tuple[float, int]:
    return row.lease_until, row.number
