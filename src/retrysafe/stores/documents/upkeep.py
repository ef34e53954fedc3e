"""What recovery, persons, listings and retention do to one row; see ``attempts.py`` for how one is called."""

from __future__ import annotations

from enum import Enum, auto

from msgspec.structs import replace

from retrysafe.protocol.model import Checkpoint, Mode
from retrysafe.protocol.operator import Audit, Intervention, Refusal, judge_intervention
from retrysafe.protocol.states import LEASED, State
from retrysafe.stores.base import Query, Wanted
from retrysafe.stores.decisions import hint_again_at, intervened
from retrysafe.stores.documents.row import Row, Sending


class Fate(Enum):
    """What a purge did to a checkpoint."""

    EXPIRED = auto()
    """Its outcome was dropped."""
    DELETED = auto()
    """Its tombstone was deleted."""


def read(row: Row | None, now: float) -> Checkpoint | None:
    """Return the checkpoint."""
    return None if row is None or row.gone else row.seen(now)


def is_abandoned(row: Row, now: float) -> bool:
    """Tell whether an operation is abandoned and due (R2)."""
    return row.state in LEASED and row.lease_until <= now and row.due_at <= now and not row.gone


def is_wanted(row: Row, wanted: Wanted, now: float) -> bool:
    """Tell whether an operation is abandoned, due, noted by nobody, and for whoever asks (R2)."""
    if row.next_hint_at > now or not is_abandoned(row, now):
        return False
    if row.mode is Mode.ONCE:
        return True
    named = wanted.names is None or row.name in wanted.names or row.state is State.UNDOING
    return named and row.namespace == wanted.namespace and row.mode in wanted.modes


def note(row: Row, now: float) -> Checkpoint:
    """Note that somebody was told about an operation (R2)."""
    row.next_hint_at = hint_again_at(now, max(row.lease_until, row.due_at))
    return row.seen(now)


def matches(row: Row, query: Query, now: float) -> bool:
    """Tell whether a listing shows a row."""
    return (
        not row.gone
        and (not query.states or row.state in query.states)
        and (not query.abandoned or (row.state in LEASED and row.lease_until <= now))
        and (query.name is None or row.name == query.name)
        and (query.operation_id is None or row.operation_id.startswith(query.operation_id))
    )


def listed(row: Row, now: float) -> Checkpoint:
    """Return the checkpoint as listings show it, without outcome and request."""
    return replace(row, outcome=None, request=None).seen(now)


def intervene(row: Row | None, seen: Checkpoint, intervention: Intervention, now: float) -> Checkpoint | Refusal:
    """Carry out what a person decided, and add the line for the audit (R10)."""
    met = read(row, now)
    judgement = judge_intervention(met, seen, intervention, pivoted=row is not None and row.pivoted)
    if row is None or met is None or isinstance(judgement, Refusal):
        return judgement if isinstance(judgement, Refusal) else Refusal("the operation is not there any more")
    after = intervened(met, judgement, intervention)
    row.become(after)
    row.next_hint_at = 0.0
    line = Audit(
        number=0,
        at=now,
        operation_id=row.operation_id,
        verb=intervention.verb,
        by=intervention.by,
        note=intervention.note,
        state_before=met.state,
        state_after=after.state,
        fence_after=after.fence,
    )
    row.audit += (line,)
    return after


def purge(row: Row, now: float) -> Fate | None:
    """Drop what retention allows: the outcome with the memos, or all but what has yet to leave (S10)."""
    if row.purge_at() > now:
        return None
    row.outcome, row.memos = None, {}
    if row.tombstone_until > now:
        row.state = State.EXPIRED
        return Fate.EXPIRED
    row.gone = True
    return Fate.DELETED


def due_messages(row: Row, now: float) -> list[Sending]:
    """Return messages that are due to be sent, in their order (R12)."""
    return [sending for sending in row.outbox if sending.due_at <= now]
