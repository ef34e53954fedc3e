"""The protocol on one page, in the order it happens.

::

    request in ─► key ─► claim ─► execute ─► record ─► respond          (handle)
                            ▲        ▲          │
    abandoned ──────────► reclaim ─► execute ─► record ─► (nobody waits)   (recover)

``handle`` and ``recover`` are two entrances to the same room: both end in ``_execute_and_record``, whose endings are
in ``endings.py``, ``stepwise.py`` and ``transactional.py``. A flow asks by
yielding effects (``effects.py``) and never does anything itself. When the process dies at a ``yield``, the checkpoint
is what is left; recovery goes on from there.
"""

from __future__ import annotations

from functools import partial
from typing import assert_never

from retrysafe.errors import InProgress, KeyExpired, KeyReused, OutcomeUnknown, StoreUnavailable
from retrysafe.protocol import effects as fx
from retrysafe.protocol.effects import Answer, Flow, perform
from retrysafe.protocol.endings import park, record, release, replay, stream, unless_superseded
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Final, Mode, NoEffect, Response
from retrysafe.protocol.policy import Policy
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import Trail
from retrysafe.protocol.stepwise import RETRYING, UNDOING, end_steps, resume_undo
from retrysafe.protocol.transactional import execute_transaction
from retrysafe.protocol.verdicts import LEASE_OVER_ONCE, Claimed, Expired, Finished, InFlight, Mismatch, Parked

_UNAUTHENTICATED = frozenset({401, 403})


def handle(ask: Ask, policy: Policy, wait_seconds: float = 0.0) -> Flow[Answer]:
    """Answer a client's request: claim, execute, record, respond, or replay what was recorded.

    Args:
        ask: what the client wants, digested.
        policy: how this operation is guarded.
        wait_seconds: how long to wait for an attempt in flight before answering 409 (S9).

    Raises:
        RequestRefused: the operation was not run, with the reason.
        AttemptSuperseded: it was run, but this attempt lost its claim (C4).
        StoreUnavailable: the store is down and the operation was not run (D1).
    """
    in_flight = False
    while True:
        try:
            verdict = yield from perform(fx.Claim(ask))
        except StoreUnavailable:
            # Once another attempt was met in flight, an unprotected run would knowingly be the second one.
            if policy.fail_open and not in_flight:
                return (yield from handle_unprotected())
            raise
        match verdict:
            case Claimed(claim):
                return (yield from _execute_and_record(claim, policy))
            case Mismatch():
                # Nothing of the first request is told, not even its operation id: the caller may have guessed the key.
                message = "the key was used before for another request"
                raise KeyReused(message)
            case Finished(checkpoint):
                return (yield from replay(checkpoint))
            case InFlight(checkpoint):
                if wait_seconds > 0 and (yield from perform(fx.Wait(checkpoint, wait_seconds))):
                    # Whatever woke us, the store is asked again: a winner is replayed, a released key is claimed
                    # (C6). The wait is spent: a second one would hold the client beyond what it asked for.
                    wait_seconds = 0.0
                    in_flight = True
                    continue
                seconds = yield from perform(fx.RetryAfter(checkpoint))
                raise InProgress(seconds, operation_id=checkpoint.operation_id, phase=phase_of(checkpoint))
            case Parked(checkpoint):
                raise OutcomeUnknown(checkpoint.reason or LEASE_OVER_ONCE, operation_id=checkpoint.operation_id)
            case Expired(checkpoint):
                message = "the outcome of this operation is no longer kept"
                raise KeyExpired(message, operation_id=checkpoint.operation_id)
            case _:
                assert_never(verdict)


def recover(seen: Checkpoint, policy: Policy, attempt_id: str, backoff_seconds: float = 0.0) -> Flow[Answer | None]:
    """Settle an abandoned operation that the scan found; nobody waits for the answer.

    Args:
        seen: the abandoned checkpoint as the scan saw it.
        policy: how this operation is guarded.
        attempt_id: UUIDv7 of the attempt that may follow.
        backoff_seconds: how long the scan leaves the operation alone should that attempt die as well.

    Returns:
        The answer of the new attempt, or None when there was none: the operation was parked, or somebody else was
        faster.

    Raises:
        OutcomeUnknown: the re-run was refused as unauthenticated, so the operation was parked (R13).
        AttemptSuperseded: the new attempt lost its claim.

    Rules: R1, R2, R8, R13.
    """
    verdict = yield from perform(fx.Reclaim(seen, attempt_id, backoff_seconds))
    if isinstance(verdict, Claimed):
        return (yield from _execute_and_record(verdict.claim, policy, recovering=True))
    return None


def give_up(seen: Checkpoint, attempt_id: str, reason: str) -> Flow[Answer | None]:
    """Park an abandoned operation that nobody can run (R8).

    Raises:
        OutcomeUnknown: it is parked now.
    """
    verdict = yield from perform(fx.Reclaim(seen, attempt_id, 0.0))
    return (yield from park(verdict.claim, reason)) if isinstance(verdict, Claimed) else None


def adopt(claim: Claim) -> Flow[Answer]:
    """Answer the client of an attempt that was stopped: with the winner's outcome, never with its own (C4).

    Raises:
        AttemptSuperseded: there is no outcome yet.
    """
    return (yield from unless_superseded(fx.Superseded(), claim, fx.Streamed()))


def _execute_and_record(claim: Claim, policy: Policy, *, recovering: bool = False) -> Flow[Answer]:
    """The tail that both entrances share."""
    if claim.undoing:
        return (yield from resume_undo(claim, policy))
    match claim.mode:
        case Mode.TRANSACTION:
            return (yield from execute_transaction(claim, policy, partial(_unauthenticated, recovering=recovering)))
        case Mode.STEPS:
            trail = Trail((yield from perform(fx.ReadTrail(claim.digest))) if claim.attempt > 1 else None)
            reply = yield from perform(fx.Execute(claim, trail))
            if (refusal := _unauthenticated(reply, recovering=recovering)) is not None:
                return (yield from park(claim, refusal))
            return (yield from end_steps(claim, policy, trail, reply))
        case Mode.ONCE | Mode.AGAIN:
            reply = yield from perform(fx.Execute(claim))
            if (refusal := _unauthenticated(reply, recovering=recovering)) is not None:
                return (yield from park(claim, refusal))
            return (yield from _end_whole(claim, policy, reply))
        case _:
            assert_never(claim.mode)


def _unauthenticated(reply: fx.Reply, *, recovering: bool) -> str | None:
    """Say why a re-run was refused below authentication: its principal could not be restored (R13)."""
    match reply:
        case fx.Returned(outcome=outcome) | fx.Began(outcome) if recovering and outcome.status in _UNAUTHENTICATED:
            return f"the re-run was refused with status {outcome.status}"
        case _:
            return None


def _end_whole(claim: Claim, policy: Policy, reply: fx.Reply) -> Flow[Answer]:
    """Answer for an operation that is one piece."""
    match reply:
        case fx.Returned(response, outcome):
            if policy.releases(claim.mode, outcome.status):
                return (yield from release(claim, fx.Fresh(response)))
            return (yield from record(claim, response, outcome))
        case fx.Began(outcome):
            return (yield from stream(claim, outcome, policy))
        case fx.Raised(NoEffect(response=None) as error, _):
            return (yield from release(claim, fx.Reraise(error)))
        case fx.Raised(NoEffect(response=Response() as response), _):
            return (yield from release(claim, fx.Fresh(response)))
        case fx.Raised(error, failure):
            if claim.mode is Mode.AGAIN and not isinstance(error, Final):
                return (yield from release(claim, fx.Reraise(error)))
            return (yield from record(claim, failure.response, failure.outcome))
        case fx.Cut():
            raise AssertionError("only a step can halt an attempt")
        case _:
            assert_never(reply)


def phase_of(checkpoint: Checkpoint) -> str:
    """Name what goes on in an open operation: ``running``, ``retrying`` or ``undoing``."""
    if checkpoint.state is State.UNDOING:
        return UNDOING
    return RETRYING if checkpoint.lease_until <= checkpoint.now else "running"


def handle_unprotected() -> Flow[Answer]:
    """Run without a claim, because the store is down and the author prefers that to an outage (D1)."""
    reply = yield from perform(fx.Execute(None))
    match reply:
        case fx.Returned(response, _):
            return fx.Fresh(response, protected=False)
        case fx.Began():
            yield from perform(fx.Forward(None, stored=False))
            return fx.Streamed()
        case fx.Raised(NoEffect(response=Response() as response) | Final(response=response), _):
            return fx.Fresh(response, protected=False)
        case fx.Raised(error, _):
            return fx.Reraise(error)
        case fx.Cut():
            raise AssertionError("only a step can halt an attempt")
        case _:
            assert_never(reply)
