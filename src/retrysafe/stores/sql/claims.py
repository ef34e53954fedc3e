"""The verbs of an attempt: claim, renew, record, release, park.

A claim of a new key and each write of its attempt are one statement, because every statement costs a round trip or a
turn at the interpreter lock. Only what was refused is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from retrysafe.errors import StoreUnavailable
from retrysafe.protocol.effects import Receipt, Written
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Message, Mode
from retrysafe.protocol.states import LEASED, State
from retrysafe.protocol.steps import PIVOT
from retrysafe.protocol.verdicts import Claimed, InFlight, Park, Parked, Replace, Take, Verdict, judge
from retrysafe.stores.base import Held, Lost, Renewal, Terms
from retrysafe.stores.decisions import due_at, judge_reclaim, receipt, unless_pivoted
from retrysafe.stores.program import Program, Statement, whole
from retrysafe.stores.sql.base import chunks, right
from retrysafe.stores.sql.outbox import OutboxVerbs

# A checkpoint that was met may be gone when it is read, purged by somebody else; then the key is free.
_MOST_LOOKS = 5


class _Taking(msgspec.Struct, frozen=True):
    """What a take-over writes: the new attempt's own, or what the checkpoint has."""

    attempt_id: str
    lease_seconds: float
    backoff_seconds: float
    mode: Mode
    name: str
    tombstone_until: float
    request: bytes | None


class ClaimVerbs(OutboxVerbs):
    """Claims, and the writes that end them."""

    @whole
    def claim(self, ask: Ask) -> Program[Verdict]:
        """Claim the checkpoint, or tell what stands in the way (C1, F1, C5, C6)."""
        for _ in range(_MOST_LOOKS):
            met = yield from self._enter(ask)
            if met is None:
                continue
            if isinstance(met, Claimed):
                return met
            judgement = judge(met, ask)
            if not isinstance(judgement, Take | Park | Replace):
                # Nothing to write, so nothing to wait for: its attempt may have it locked, in a transaction of its own.
                return judgement
            met = yield from self._lock(ask.identity.digest)
            if met is not None:
                return (yield from self._meet(met, ask))
        raise StoreUnavailable("the checkpoint came and went")

    def reclaim(self, seen: Checkpoint, terms: Terms) -> Program[Verdict | None]:
        """Take over or park an abandoned checkpoint, under the fence that was seen (R1, R8)."""
        met = yield from self._lock(seen.digest)
        if met is None:
            return None
        judged = judge_reclaim(met, seen, terms.attempt_id, limits=terms.limits, lease_seconds=terms.lease_seconds)
        judgement = unless_pivoted(met, judged, pivoted=(yield from self._is_pivoted(met, judged)))
        match judgement:
            case Take():
                taking = _Taking(
                    attempt_id=terms.attempt_id,
                    lease_seconds=terms.lease_seconds,
                    backoff_seconds=terms.backoff_seconds,
                    mode=met.mode,
                    name=met.name,
                    tombstone_until=met.tombstone_until,
                    request=met.request,
                )
                return (yield from self._take(met, taking, judgement))
            case Park(reason):
                return (yield from self._park_abandoned(met, terms.attempt_id, reason))
            case verdict:
                return verdict

    def renew(self, claims: Sequence[Claim]) -> Program[Sequence[Renewal]]:
        """Move the lease end of each claim that is still held, 200 claims to a statement (C3, C4)."""
        now = yield from self._now()
        held: set[bytes] = set()
        for some in chunks(claims):
            terms = [term for claim in some for term in (*right(claim), now + claim.lease_seconds)]
            answer = yield Statement(self._sql.with_claims("renew", len(some)), terms)
            # What is locked by a transaction of our own answers with the lease end that it has.
            held.update(bytes(digest) for digest, lease_until in answer.rows if lease_until > now)
        return [Held() if claim.digest in held else Lost() for claim in claims]

    @whole
    def begin_stream(self, claim: Claim) -> Program[Receipt]:
        """Say that the response begins to leave (S5)."""
        return self._write("begin_stream", (), claim, State.STREAMING)

    @whole
    def record(
        self,
        claim: Claim,
        outcome: bytes,
        *,
        retention_seconds: float,
        tombstone_seconds: float,
        undone: bool = False,
        messages: Sequence[Message] = (),
    ) -> Program[Receipt]:
        """Record the outcome, erase the stored request, and put the messages into the outbox; final (S1, R13, I11)."""
        if not undone and not messages:
            return (yield from self._finish(claim, outcome, retention_seconds, tombstone_seconds))
        now = yield from self._now()
        name, target = ("record_undone", State.UNDONE) if undone else ("record", State.DONE)
        terms = (now, now + retention_seconds, now + tombstone_seconds, outcome, *right(claim))
        answer = yield Statement(self._sql[name], terms)
        if not answer.changed:
            return receipt((yield from self.read(claim.digest)), claim, target)
        if messages:
            yield from self._enqueue(claim, messages, now)
        return Written()

    @whole
    def release(self, claim: Claim) -> Program[Receipt]:
        """Free the key for the same request (S6). The request is erased: the next claim brings its own."""
        return self._write("release", (), claim, State.RELEASED)

    @whole
    def park(self, claim: Claim, reason: str) -> Program[Receipt]:
        """Park the operation under its current fence."""
        return self._write("park", (reason,), claim, State.PARKED)

    @whole
    def hand_over(self, claims: Sequence[Claim]) -> Program[None]:
        """End the leases of claims whose attempts have stopped, 200 claims to a statement (C7)."""
        now = yield from self._now()
        for some in chunks(claims):
            terms = [term for claim in some for term in (*right(claim), now)]
            yield Statement(self._sql.with_claims("hand_over", len(some)), terms)

    def _enter(self, ask: Ask) -> Program[Claimed | Checkpoint | None]:
        """Make the checkpoint, or read the one that is there; None when it cannot be seen, and whoever asks must again.

        A database that can do so in one statement does.
        """
        now = yield from self._now()
        inserted = yield self._begin(ask, now)
        return first_claim(ask) if inserted.changed else (yield from self.read(ask.identity.digest))

    def _finish(
        self, claim: Claim, outcome: bytes, retention_seconds: float, tombstone_seconds: float
    ) -> Program[Receipt]:
        """Record an outcome without messages, which is what nearly every operation ends with."""
        now = yield from self._now()
        terms = (now, now + retention_seconds, now + tombstone_seconds, outcome)
        return (yield from self._write("record", terms, claim, State.DONE))

    def _meet(self, met: Checkpoint, ask: Ask) -> Program[Verdict]:
        judged = judge(met, ask)
        judgement = unless_pivoted(met, judged, pivoted=(yield from self._is_pivoted(met, judged)))
        match judgement:
            case Replace():
                yield Statement(self._sql["forget"], (*right(met), met.now))
                yield self._begin(ask, met.now)
                return first_claim(ask)
            case Take():
                taking = _Taking(
                    attempt_id=ask.attempt_id,
                    lease_seconds=ask.lease_seconds,
                    backoff_seconds=ask.backoff_seconds,
                    # What is open stays what it was begun as.
                    mode=met.mode if met.state in LEASED else ask.mode,
                    name=met.name if met.state in LEASED else ask.name,
                    tombstone_until=met.now + ask.tombstone_seconds,
                    request=ask.request,
                )
                return (yield from self._take(met, taking, judgement)) or InFlight(met)
            case Park(reason):
                return (yield from self._park_abandoned(met, met.attempt_id, reason))
            case verdict:
                return verdict

    def _is_pivoted(self, met: Checkpoint, judgement: object) -> Program[bool]:
        """Look whether the pivot was passed, where that matters."""
        if not isinstance(judgement, Take) or judgement.state is not State.UNDOING:
            return False
        found = yield Statement(self._sql["memo"], (met.operation_id, PIVOT, 0))
        return bool(found.rows)

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
                ask.version,
            ),
        )

    def _take(self, met: Checkpoint, taking: _Taking, take: Take) -> Program[Claimed | None]:
        """Give the claim to a new attempt under the next fence; None when its state does not allow that."""
        lease_until = met.now + taking.lease_seconds
        name = "take_to_undo" if take.state is State.UNDOING else "take"
        parameters: tuple[Any, ...] = (
            take.deaths,
            taking.attempt_id,
            lease_until,
            due_at(lease_until, take.deaths, taking.backoff_seconds),
            taking.mode.value,
            taking.name,
            taking.tombstone_until,
            taking.request,
        )
        taken = yield Statement(self._sql[name], (*parameters, *right(met)))
        if not taken.changed:
            return None
        return Claimed(
            Claim(
                digest=met.digest,
                operation_id=met.operation_id,
                fence=met.fence + 1,
                attempt=met.attempt + 1,
                mode=taking.mode,
                name=taking.name,
                lease_seconds=taking.lease_seconds,
                deaths=take.deaths,
                undoing=take.state is State.UNDOING,
                version=met.version,
            )
        )

    def _park_abandoned(self, met: Checkpoint, attempt_id: str, reason: str) -> Program[Parked]:
        yield Statement(self._sql["park_abandoned"], (attempt_id, reason, *right(met)))
        parked = replace(met, state=State.PARKED, deaths=met.deaths + 1, attempt_id=attempt_id, reason=reason)
        return Parked(parked)


def first_claim(ask: Ask) -> Claimed:
    """Return the claim of a checkpoint that was just made."""
    return Claimed(
        Claim(
            ask.identity.digest,
            ask.attempt_id,
            1,
            1,
            ask.mode,
            ask.name,
            ask.lease_seconds,
            version=ask.version,
        )
    )
