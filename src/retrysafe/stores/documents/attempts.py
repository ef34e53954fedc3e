"""What the verbs of an attempt do to one row. Every store that has no SQL does just this.

Each function is called inside the store's own atomic operation, with ``now`` of the store's clock. It changes the row
in place, or leaves it as it is, and says what the verb answers. A row that is None is not there.
"""

from __future__ import annotations

from collections.abc import Sequence

from retrysafe.protocol.effects import Receipt, Superseded, Written
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Message
from retrysafe.protocol.states import LEASED, State, allowed
from retrysafe.protocol.verdicts import Claimed, InFlight, Park, Parked, Replace, Take, Verdict, judge
from retrysafe.stores.base import Held, Lost, Outgoing, Renewal, Terms
from retrysafe.stores.decisions import due_at, judge_reclaim, receipt, unless_pivoted
from retrysafe.stores.documents.row import Row, Sending


def claim(row: Row | None, ask: Ask, now: float, number: int, margin_seconds: float = 0.0) -> tuple[Row, Verdict]:
    """Claim the checkpoint, or tell what stands in the way (C1, F1, C5, C6).

    Args:
        row: what is there.
        ask: who asks, and for what.
        now: by the store's clock.
        number: of the checkpoint, should it be a new one; greater than those of all before.
        margin_seconds: by how much other clocks may be ahead of this one; each lease is written that much longer (C2).

    Returns:
        The row that is there from now on, and the verdict.
    """
    if row is None:
        return _begin(ask, now, number, margin_seconds)
    if row.gone:
        return _begin_behind(row, _begin(ask, now, number, margin_seconds))
    met = row.seen(now)
    judgement = unless_pivoted(met, judge(met, ask), pivoted=row.pivoted)
    match judgement:
        case Replace():
            return _begin_behind(row, _begin(ask, now, number, margin_seconds))
        case Take(state=state) if not allowed(row.state, state):
            return row, InFlight(met)
        case Take():
            if row.state not in LEASED:
                row.name, row.mode = ask.name, ask.mode
            # What is open stays what it was begun as.
            row.request = ask.request
            row.tombstone_until = now + ask.tombstone_seconds
            terms = Terms(ask.attempt_id, ask.limits, ask.lease_seconds, ask.backoff_seconds)
            return row, _take(row, now, terms, judgement, margin_seconds)
        case Park(reason):
            return row, _park_abandoned(row, now, reason)
        case verdict:
            return row, verdict


def reclaim(row: Row | None, seen: Checkpoint, terms: Terms, now: float, margin_seconds: float = 0.0) -> Verdict | None:
    """Take over or park an abandoned checkpoint, under the fence that was seen (R1, R8)."""
    if row is None or row.gone:
        return None
    met = row.seen(now)
    judged = judge_reclaim(met, seen, terms.attempt_id, limits=terms.limits, lease_seconds=terms.lease_seconds)
    judgement = unless_pivoted(met, judged, pivoted=row.pivoted)
    match judgement:
        case Take(state=state) if not allowed(row.state, state):
            return None
        case Take():
            return _take(row, now, terms, judgement, margin_seconds)
        case Park(reason):
            row.attempt_id = terms.attempt_id
            return _park_abandoned(row, now, reason)
        case verdict:
            return verdict


def renew(row: Row | None, held: Claim, now: float, margin_seconds: float = 0.0) -> Renewal:
    """Move the lease end of a claim that is still held (C3, C4)."""
    row = current(row, held)
    if row is None or row.state not in LEASED:
        return Lost()
    _move_lease(row, now + held.lease_seconds + margin_seconds)
    return Held()


def hand_over(row: Row | None, held: Claim, now: float) -> None:
    """End the lease of a claim whose attempt has stopped (C7)."""
    row = current(row, held)
    if row is not None and row.state in LEASED and row.lease_until > now:
        _move_lease(row, now)


def begin_stream(row: Row | None, held: Claim, now: float) -> Receipt:
    """Say that the response begins to leave (S5)."""
    found = writable(row, held, State.STREAMING)
    if found is None:
        return refusal(row, held, State.STREAMING, now)
    found.state = State.STREAMING
    return Written()


def record(
    row: Row | None,
    held: Claim,
    outcome: bytes,
    *,
    retention_seconds: float,
    tombstone_seconds: float,
    undone: bool,
    messages: Sequence[Message],
    now: float,
    number: int,
) -> Receipt:
    """Record the outcome, erase the stored request, and put the messages into the outbox; final (S1, R13, I11)."""
    target = State.UNDONE if undone else State.DONE
    found = writable(row, held, target)
    if found is None or (found.undoing and not undone):
        return refusal(row, held, target, now)
    found.state = target
    found.outcome, found.request, found.reason = outcome, None, None
    found.finished_at = now
    found.outcome_until = now + retention_seconds
    found.tombstone_until = now + tombstone_seconds
    enqueue(found, messages, now, number)
    return Written()


def release(row: Row | None, held: Claim, now: float) -> Receipt:
    """Free the key for the same request (S6). The request is erased: the next claim brings its own."""
    found = writable(row, held, State.RELEASED)
    if found is None:
        return refusal(row, held, State.RELEASED, now)
    found.state, found.request = State.RELEASED, None
    return Written()


def park(row: Row | None, held: Claim, reason: str, now: float) -> Receipt:
    """Park the operation under its current fence."""
    found = writable(row, held, State.PARKED)
    if found is None:
        return refusal(row, held, State.PARKED, now)
    found.state, found.reason = State.PARKED, reason
    return Written()


def current(row: Row | None, held: Claim) -> Row | None:
    """Return the row if this is its latest claim (C4)."""
    if row is None or row.fence != held.fence or row.operation_id != held.operation_id or row.gone:
        return None
    return row


def writable(row: Row | None, held: Claim, target: State) -> Row | None:
    """Return the row if the claim may bring it into this state."""
    found = current(row, held)
    return found if found is not None and allowed(found.state, target) else None


def refusal(row: Row | None, held: Claim, target: State, now: float) -> Receipt:
    """Tell a write that changed nothing whether it had been made before (C4, D4)."""
    return Superseded() if row is None or row.gone else receipt(row.seen(now), held, target)


def enqueue(row: Row, messages: Sequence[Message], now: float, number: int) -> None:
    """Put messages into the outbox, numbered on from those that the operation sent before (R12)."""
    for message in messages:
        row.messages += 1
        row.outbox += (Sending(Outgoing(row.operation_id, row.messages, message), now, number),)


def _begin(ask: Ask, now: float, number: int, margin_seconds: float) -> tuple[Row, Claimed]:
    """Make a new checkpoint: the first claim of an operation that nobody asked for before."""
    identity, lease_until = ask.identity, now + ask.lease_seconds + margin_seconds
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
        number=number,
    )
    held = Claim(identity.digest, ask.attempt_id, 1, 1, ask.mode, ask.name, ask.lease_seconds, version=ask.version)
    return row, Claimed(held)


def _begin_behind(before: Row, begun: tuple[Row, Claimed]) -> tuple[Row, Claimed]:
    """Put a new checkpoint where there was one; what that has yet to tell stays to be told."""
    row, claimed = begun
    row.outbox, row.audit = before.outbox, before.audit
    return row, claimed


def _take(row: Row, now: float, terms: Terms, take: Take, margin_seconds: float) -> Claimed:
    """Give the claim to a new attempt, under the next fence."""
    row.fence += 1
    row.attempt += 1
    row.deaths = take.deaths
    row.attempt_id = terms.attempt_id
    row.lease_until = now + terms.lease_seconds + margin_seconds
    row.due_at = due_at(row.lease_until, row.deaths, terms.backoff_seconds)
    row.next_hint_at = 0.0
    if take.state is State.UNDOING:
        row.undoing = True
    else:
        row.reason = None
    row.state = take.state
    return Claimed(row.seen(now).claim(terms.lease_seconds))


def _park_abandoned(row: Row, now: float, reason: str) -> Parked:
    row.state, row.reason = State.PARKED, reason
    row.deaths += 1
    return Parked(row.seen(now))


def _move_lease(row: Row, lease_until: float) -> None:
    row.due_at += lease_until - row.lease_until
    row.lease_until = lease_until
