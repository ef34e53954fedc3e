"""The verbs of recovery: what is abandoned, what a person did, what is listed, and what retention drops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retrysafe.errors import StoreUnavailable
from retrysafe.protocol.model import Checkpoint
from retrysafe.protocol.operator import Audit, Intervention, Refusal, Verb, judge_intervention
from retrysafe.protocol.states import LEASED, State
from retrysafe.protocol.steps import PIVOT
from retrysafe.stores.base import Purged, Query, Wanted
from retrysafe.stores.decisions import hint_again_at, intervened
from retrysafe.stores.instants import Instants
from retrysafe.stores.program import Program, Statement
from retrysafe.stores.rows import checkpoint, one_of, readable
from retrysafe.stores.sql.base import right
from retrysafe.stores.sql.purging import Purging
from retrysafe.stores.sql.statements import Statements
from retrysafe.stores.sql.steps import StepVerbs

_INDEXED = LEASED | {State.PARKED}


class SQLVerbs(StepVerbs):
    """Every verb; :class:`~retrysafe.stores.base.Verbs` says what each promises."""

    def __init__(self, sql: Statements, instants: Instants) -> None:
        """Join a database's statements and clock."""
        super().__init__(sql, instants)
        self._purging = Purging(sql)

    def abandoned(self, limit: int) -> Program[Sequence[Checkpoint]]:
        """List abandoned checkpoints that are due, oldest lease first (R2)."""
        now = yield from self._now()
        answer = yield Statement(self._sql["abandoned"], (now, now, limit))
        return readable(answer.rows, now)

    def dispatch(self, wanted: Wanted, limit: int) -> Program[Sequence[Checkpoint]]:
        """List what is due and noted by nobody, and note it (R2)."""
        now = yield from self._now()
        modes = sorted(mode.value for mode in wanted.modes)
        # Lists as text, so that the statement has the same number of placeholders for each.
        names = "*" if wanted.names is None else "\n".join(["", *sorted(wanted.names), ""])
        terms = (now, now, now, wanted.namespace, f",{','.join(modes)},", names, names, limit)
        answer = yield Statement(self._sql["dispatch"], terms)
        found = readable(answer.rows, now)
        for seen in found:
            again_at = hint_again_at(now, max(seen.lease_until, seen.due_at))
            yield Statement(self._sql["note_hint"], (again_at, *right(seen)))
        return found

    def intervene(self, seen: Checkpoint, intervention: Intervention) -> Program[Checkpoint | Refusal]:
        """Carry out what a person decided, and write the audit (R10)."""
        met = yield from self._lock(seen.digest)
        pivot = yield Statement(self._sql["memo"], (seen.operation_id, PIVOT, 0))
        judgement = judge_intervention(met, seen, intervention, pivoted=bool(pivot.rows))
        if isinstance(judgement, Refusal) or met is None:
            return judgement if isinstance(judgement, Refusal) else Refusal("the operation is not there any more")
        after = intervened(met, judgement, intervention)
        yield from self._bring(met, after)
        audit = (met.now, met.operation_id, intervention.verb.value, intervention.by, intervention.note)
        yield Statement(self._sql["append_audit"], (*audit, met.state.value, after.state.value, after.fence))
        return after

    def audit(self, operation_id: str | None, limit: int) -> Program[Sequence[Audit]]:
        """List what persons did, newest first (R10)."""
        if operation_id is None:
            answer = yield Statement(self._sql["audit"], (limit,))
        else:
            answer = yield Statement(self._sql["audit_of"], (operation_id, limit))
        return [
            Audit(number, at, operation, Verb(verb), by, note, State(before), State(after), fence)
            for number, at, operation, verb, by, note, before, after, fence in answer.rows
        ]

    def purge(self, limit: int) -> Program[Purged]:
        """Drop outcomes and tombstones whose retention is over, a few stretches of the table at a time (S10)."""
        return (yield from self._purging.purge((yield from self._now()), limit))

    def listing(self, query: Query) -> Program[Sequence[Checkpoint]]:
        """List checkpoints for a person, newest first, without outcomes and requests.

        The newest are found at once, and so are open, parked and abandoned ones, however many rows there are; a name,
        an operation id or a page behind one is looked for from the newest backwards.
        """
        now = yield from self._now()
        conditions, terms = self._conditions(query, now)
        answer = yield Statement(self._sql.with_conditions("listing", conditions), (*terms, query.limit))
        return [checkpoint(row, now) for row in answer.rows]

    def _bring(self, met: Checkpoint, after: Checkpoint) -> Program[None]:
        terms: tuple[Any, ...] = (
            after.state.value,
            after.lease_until,
            after.due_at,
            int(after.undoing),
            after.outcome,
            after.request,
            after.finished_at,
            after.outcome_until,
            after.tombstone_until,
            after.deaths,
        )
        answer = yield Statement(self._sql["bring"], (*terms, *right(met)))
        if not answer.changed:
            raise StoreUnavailable("a checkpoint changed inside our own transaction")

    def _conditions(self, query: Query, now: float) -> tuple[tuple[str, ...], list[Any]]:
        """Write a query as conditions, and what their placeholders stand for."""
        conditions: list[str] = []
        terms: list[Any] = []
        if query.states:
            if query.states <= _INDEXED:
                conditions.append(self._sql["is_open"])
            conditions.append(one_of(query.states))
        if query.abandoned:
            conditions.append(self._sql["is_abandoned"])
            terms.append(now)
        if query.name is not None:
            conditions.append("name = ?")
            terms.append(query.name)
        if query.operation_id is not None:
            conditions.append(self._sql["operation_begins_with"])
            terms += [query.operation_id, query.operation_id]
        if query.after is not None:
            conditions.append(self._sql["is_behind"])
            terms.append(query.after)
        return tuple(conditions), terms
