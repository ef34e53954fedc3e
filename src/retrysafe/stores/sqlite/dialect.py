"""The verbs of the SQLite store, as programs of the statements in ``queries.sql``.

A claim of a new key and each write of its attempt are one statement, because every statement costs the writer thread a
turn at the interpreter lock. Only what was refused is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from retrysafe.errors import StoreUnavailable
from retrysafe.protocol.effects import Receipt, Written
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Mode
from retrysafe.protocol.states import LEASED, State
from retrysafe.protocol.verdicts import Claimed, InFlight, Park, Parked, Replace, Take, Verdict, judge
from retrysafe.stores.base import Held, Lost, Purged, Query, Renewal
from retrysafe.stores.clock import HostClock
from retrysafe.stores.decisions import due_at, judge_reclaim, receipt
from retrysafe.stores.program import Program, Statement
from retrysafe.stores.rows import checkpoint, one_of, readable
from retrysafe.stores.sqlite.purging import Purging
from retrysafe.stores.sqlite.statements import statements, with_claims, with_conditions

_CLAIMS_PER_STATEMENT = 200
_INDEXED = LEASED | {State.PARKED}


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a take-over writes: the new attempt's own, or what the checkpoint has."""

    attempt_id: str
    lease_seconds: float
    backoff_seconds: float
    mode: Mode
    name: str
    tombstone_until: float
    request: bytes | None


class SQLiteVerbs:
    """What the SQLite store can be asked; :class:`~retrysafe.stores.base.Verbs` says what each verb promises.

    Args:
        clock: gives every instant that is stored or compared (C2).
    """

    def __init__(self, clock: HostClock) -> None:
        self._clock = clock
        self._sql = statements()
        self._purging = Purging(self._sql)

    def claim(self, ask: Ask) -> Program[Verdict]:
        """Claim the checkpoint, or tell what stands in the way (C1, F1, C5, C6)."""
        now = self._clock.now()
        inserted = yield self._begin(ask, now)
        if inserted.changed:
            return _first_claim(ask)
        met = yield from self.read(ask.identity.digest)
        if met is None:
            raise StoreUnavailable("a checkpoint was deleted inside our own transaction")
        judgement = judge(met, ask)
        match judgement:
            case Replace():
                yield Statement(self._sql["forget"], (*_right(met), met.now))
                yield self._begin(ask, now)
                return _first_claim(ask)
            case Take(died):
                terms = _Terms(
                    attempt_id=ask.attempt_id,
                    lease_seconds=ask.lease_seconds,
                    backoff_seconds=ask.backoff_seconds,
                    mode=ask.mode,
                    name=ask.name,
                    tombstone_until=met.now + ask.tombstone_seconds,
                    request=ask.request,
                )
                return (yield from self._take(met, terms, died=died)) or InFlight(met)
            case Park(reason):
                return (yield from self._park_abandoned(met, met.attempt_id, reason))
            case verdict:
                return verdict

    def reclaim(
        self,
        seen: Checkpoint,
        attempt_id: str,
        *,
        attempts: int,
        lease_seconds: float,
        backoff_seconds: float,
    ) -> Program[Verdict | None]:
        """Take over or park an abandoned checkpoint, under the fence that the scan saw (R1, R8)."""
        met = yield from self.read(seen.digest)
        if met is None:
            return None
        judgement = judge_reclaim(met, seen, attempt_id, attempts=attempts, lease_seconds=lease_seconds)
        match judgement:
            case Take(died):
                terms = _Terms(
                    attempt_id=attempt_id,
                    lease_seconds=lease_seconds,
                    backoff_seconds=backoff_seconds,
                    mode=met.mode,
                    name=met.name,
                    tombstone_until=met.tombstone_until,
                    request=met.request,
                )
                return (yield from self._take(met, terms, died=died))
            case Park(reason):
                return (yield from self._park_abandoned(met, attempt_id, reason))
            case verdict:
                return verdict

    def renew(self, claims: Sequence[Claim]) -> Program[Sequence[Renewal]]:
        """Move the lease end of each claim that is still held, 200 claims to a statement (C3, C4)."""
        now = self._clock.now()
        held: set[bytes] = set()
        for some in _chunks(claims):
            terms = [term for claim in some for term in (*_right(claim), now + claim.lease_seconds)]
            answer = yield Statement(with_claims("renew", len(some)), terms)
            held.update(digest for (digest,) in answer.rows)
        return [Held() if claim.digest in held else Lost() for claim in claims]

    def begin_stream(self, claim: Claim) -> Program[Receipt]:
        """Say that the response begins to leave (S5)."""
        return self._write("begin_stream", (), claim, State.STREAMING)

    def record(
        self, claim: Claim, outcome: bytes, *, retention_seconds: float, tombstone_seconds: float
    ) -> Program[Receipt]:
        """Record the outcome and erase the stored request; final (S1, R13)."""
        now = self._clock.now()
        terms = (now, now + retention_seconds, now + tombstone_seconds, outcome)
        return (yield from self._write("record", terms, claim, State.DONE))

    def release(self, claim: Claim) -> Program[Receipt]:
        """Free the key for the same request (S6). The request is erased: the next claim brings its own."""
        return self._write("release", (), claim, State.RELEASED)

    def park(self, claim: Claim, reason: str) -> Program[Receipt]:
        """Park the operation under its current fence."""
        return self._write("park", (reason,), claim, State.PARKED)

    def hand_over(self, claims: Sequence[Claim]) -> Program[None]:
        """End the leases of claims whose attempts have stopped, 200 claims to a statement (C7)."""
        now = self._clock.now()
        for some in _chunks(claims):
            terms = [term for claim in some for term in (*_right(claim), now)]
            yield Statement(with_claims("hand_over", len(some)), terms)

    def read(self, digest: bytes) -> Program[Checkpoint | None]:
        """Read one checkpoint."""
        answer = yield Statement(self._sql["read"], (digest,))
        return checkpoint(answer.rows[0], self._clock.now()) if answer.rows else None

    def abandoned(self, limit: int) -> Program[Sequence[Checkpoint]]:
        """List abandoned checkpoints that are due, oldest lease first (R2)."""
        now = self._clock.now()
        answer = yield Statement(self._sql["abandoned"], (now, now, limit))
        return readable(answer.rows, now)

    def purge(self, limit: int) -> Program[Purged]:
        """Drop outcomes and tombstones whose retention is over, a few stretches of the table at a time (S10)."""
        return (yield from self._purging.purge(self._clock.now(), limit))

    def listing(self, query: Query) -> Program[Sequence[Checkpoint]]:
        """List checkpoints for a person, newest first, without outcomes and requests.

        The newest are found at once, and so are open, parked and abandoned ones, however many rows there are; a name,
        an operation id or a page behind one is looked for from the newest backwards.
        """
        now = self._clock.now()
        conditions, terms = self._conditions(query, now)
        answer = yield Statement(with_conditions("listing", conditions), (*terms, query.limit))
        return [checkpoint(row, now) for row in answer.rows]

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

    def _begin(self, ask: Ask, now: float) -> Statement:
        identity, lease_until = ask.identity, now + ask.lease_seconds
        return Statement(
            self._sql["begin"],
            (
                identity.digest,
                ask.mode.value,
                lease_until,
                due_at(lease_until, 0, ask.backoff_seconds),
                now,
                now + ask.tombstone_seconds,
                ask.attempt_id,
                ask.attempt_id,
                ask.name,
                identity.namespace,
                identity.principal,
                identity.key_hint,
                ask.fingerprint.stored,
                ask.request,
            ),
        )

    def _take(self, met: Checkpoint, terms: _Terms, *, died: bool) -> Program[Claimed | None]:
        """Give the claim to a new attempt under the next fence; None when its state does not allow that."""
        deaths = met.deaths + died
        parameters = (
            deaths,
            terms.attempt_id,
            met.now + terms.lease_seconds,
            due_at(met.now + terms.lease_seconds, deaths, terms.backoff_seconds),
            terms.mode.value,
            terms.name,
            terms.tombstone_until,
            terms.request,
        )
        taken = yield Statement(self._sql["take"], (*parameters, *_right(met)))
        if not taken.changed:
            return None
        return Claimed(
            Claim(
                digest=met.digest,
                operation_id=met.operation_id,
                fence=met.fence + 1,
                attempt=met.attempt + 1,
                mode=terms.mode,
                name=terms.name,
                lease_seconds=terms.lease_seconds,
            )
        )

    def _park_abandoned(self, met: Checkpoint, attempt_id: str, reason: str) -> Program[Parked]:
        yield Statement(self._sql["park_abandoned"], (attempt_id, reason, *_right(met)))
        parked = replace(met, state=State.PARKED, deaths=met.deaths + 1, attempt_id=attempt_id, reason=reason)
        return Parked(parked)

    def _write(self, name: str, terms: Sequence[Any], claim: Claim, target: State) -> Program[Receipt]:
        """Make a fenced write; only when it is refused, find out whether it had been made before (C4, D4)."""
        answer = yield Statement(self._sql[name], (*terms, *_right(claim)))
        if answer.changed:
            return Written()
        return receipt((yield from self.read(claim.digest)), claim, target)


def _first_claim(ask: Ask) -> Claimed:
    return Claimed(Claim(ask.identity.digest, ask.attempt_id, 1, 1, ask.mode, ask.name, ask.lease_seconds))


def _right(holder: Claim | Checkpoint) -> tuple[bytes, str, int]:
    """What every write compares."""
    return holder.digest, holder.operation_id, holder.fence


def _chunks(claims: Sequence[Claim]) -> Iterator[Sequence[Claim]]:
    for start in range(0, len(claims), _CLAIMS_PER_STATEMENT):
        yield claims[start : start + _CLAIMS_PER_STATEMENT]
