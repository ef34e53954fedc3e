"""The verbs of recovery, of persons and of retention as programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import nsmallest
from math import inf

import msgspec
from msgspec.structs import replace

from retrysafe.protocol.model import Checkpoint
from retrysafe.protocol.operator import Audit, Intervention, Refusal
from retrysafe.protocol.states import LEASED, State
from retrysafe.stores.base import Purged, Query, Wanted
from retrysafe.stores.documents import statements, upkeep
from retrysafe.stores.documents.ledger import Candidate, Task, known_of, page_size, readable
from retrysafe.stores.documents.outbox import OutboxVerbs
from retrysafe.stores.documents.row import Row
from retrysafe.stores.documents.upkeep import Fate
from retrysafe.stores.program import Program

_FOUND_OPEN = LEASED | {State.PARKED}
_MOST_SHOWN = 10_000

_encoder = msgspec.msgpack.Encoder()
_audits = msgspec.msgpack.Decoder(Audit)


class DocumentVerbs(OutboxVerbs):
    """Every verb; :class:`~retrysafe.stores.base.Verbs` says what each promises."""

    def abandoned(self, limit: int) -> Program[Sequence[Checkpoint]]:
        """List abandoned checkpoints that are due, oldest lease first (R2)."""
        now = yield from self._now()
        found = yield from self._found("open", now, lambda row: upkeep.is_abandoned(row, now), limit)
        return [each.row.seen(now) for each in nsmallest(limit, found, key=_oldest)]

    def dispatch(self, wanted: Wanted, limit: int) -> Program[Sequence[Checkpoint]]:
        """List what is due and noted by nobody, and note it (R2)."""

        def act(row: Row | None, now: float) -> tuple[Row | None, Checkpoint | None]:
            return row, upkeep.note(row, now) if row is not None and upkeep.is_wanted(row, wanted, now) else None

        now = yield from self._now()
        found = yield from self._found("open", now, lambda row: upkeep.is_wanted(row, wanted, now), limit)
        chosen = nsmallest(limit, found, key=_oldest)
        tasks = [Task(each.met.digest, act, (None,)) for each in chosen]
        noted = yield from self._change_each(tasks, known_of(chosen))
        return [seen for seen in noted if seen is not None]

    def intervene(self, seen: Checkpoint, intervention: Intervention) -> Program[Checkpoint | Refusal]:
        """Carry out what a person decided, and write the audit (R10)."""
        answer = yield from self._change(
            seen.digest, lambda row, now: (row, upkeep.intervene(row, seen, intervention, now))
        )
        if isinstance(answer, Checkpoint):
            yield from self._copy_audit()
        return answer

    def audit(self, operation_id: str | None, limit: int) -> Program[Sequence[Audit]]:
        """List what persons did, newest first (R10)."""
        yield from self._copy_audit()
        lines = yield from statements.lines(operation_id, limit)
        return [replace(_audits.decode(line.body), number=line.number) for line in lines]

    def purge(self, limit: int) -> Program[Purged]:
        """Drop outcomes and tombstones whose retention is over (S10)."""

        def act(row: Row | None, now: float) -> tuple[Row | None, Fate | None]:
            return row, None if row is None else upkeep.purge(row, now)

        now = yield from self._now()
        due = yield from self._found("purge", now, lambda row: row.purge_at() <= now, limit + 1)
        tasks = [Task(each.met.digest, act, (None,)) for each in due[:limit]]
        fates = yield from self._change_each(tasks, known_of(due))
        return Purged(fates.count(Fate.EXPIRED), fates.count(Fate.DELETED), more=len(due) > limit)

    def listing(self, query: Query) -> Program[Sequence[Checkpoint]]:
        """List checkpoints for a person, newest first, without outcomes and requests.

        What is open, abandoned or parked is found at once. Anything else is looked for from the newest backwards.
        """
        now = yield from self._now()
        behind = _Behind(query, now)
        if query.abandoned or (query.states and query.states <= _FOUND_OPEN and query.after is None):
            found = yield from self._found("open", inf, lambda row: upkeep.matches(row, query, now), _MOST_SHOWN)
            rows = sorted((each.row for each in found), key=lambda row: -row.number)
            return list(behind.show(rows))[: query.limit]
        shown: list[Checkpoint] = []
        after, size = None, page_size(query.limit)
        while True:
            page = yield from statements.newest(after, size)
            shown += behind.show(readable(each.body for each in page))
            if len(page) < size or len(shown) >= query.limit:
                return shown[: query.limit]
            after = page[-1].place

    def _copy_audit(self) -> Program[None]:
        """Copy lines of the audit that only their documents have: our own, and what a process left that died."""
        found = yield from self._found("audit", inf, lambda row: bool(row.audit), _MOST_SHOWN)
        lines = sorted((line for each in found for line in each.row.audit), key=lambda line: line.at)
        for line in lines:
            yield from statements.append(
                f"{line.operation_id}:{line.fence_after}:{line.at!r}", line.operation_id, _encoder.encode(line)
            )
        copied = set(lines)

        def act(row: Row | None, now: float) -> tuple[Row | None, None]:  # noqa: ARG001 - as every act
            if row is not None:
                row.audit = tuple(line for line in row.audit if line not in copied)
            return row, None

        yield from self._change_each([Task(each.met.digest, act, (None,)) for each in found], known_of(found))


class _Behind:
    """Shows the rows that a query asks for, from behind the operation that it names."""

    def __init__(self, query: Query, now: float) -> None:
        self._query, self._now = query, now
        self._is_behind = query.after is None

    def show(self, rows: Iterator[Row] | Sequence[Row]) -> Iterator[Checkpoint]:
        for row in rows:
            if not self._is_behind:
                self._is_behind = row.operation_id == self._query.after and not row.gone
            elif upkeep.matches(row, self._query, self._now):
                yield upkeep.listed(row, self._now)


def _oldest(each: Candidate) -> tuple[float, int]:
    return each.row.lease_until, each.row.number
