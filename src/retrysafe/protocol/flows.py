"""The protocol on one page, in the order it happens.

::

    request in ─► key ─► claim ─► execute ─► record ─► respond          (handle)
                            ▲        ▲          │
    abandoned ──────────► reclaim ─► execute ─► record ─► (nobody waits)   (recover)

``handle`` and ``recover`` are two entrances to the same room: both end in ``_execute_and_record``. A flow asks by
yielding effects (``effects.py``) and never does anything itself. When the process dies at a ``yield``, the checkpoint
is what is left; recovery goes on from there.
"""

from __future__ import annotations

from typing import assert_never

from retrysafe.errors import (
    AttemptSuperseded,
    InProgress,
    KeyExpired,
    KeyReused,
    NotReplayable,
    OutcomeUnknown,
    ReplayRefused,
    StoreError,
    StoreUnavailable,
)
from retrysafe.protocol import effects as fx
from retrysafe.protocol.effects import Answer, Flow, perform
from retrysafe.protocol.encoding import decode_outcome
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Final, Mode, NoEffect, Outcome, Response
from retrysafe.protocol.policy import Policy
from retrysafe.protocol.states import FINAL
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
                return (yield from _replay(checkpoint))
            case InFlight(checkpoint):
                if wait_seconds > 0 and (yield from perform(fx.Wait(checkpoint, wait_seconds))):
                    # Whatever woke us, the store is asked again: a winner is replayed, a released key is claimed
                    # (C6). The wait is spent: a second one would hold the client beyond what it asked for.
                    wait_seconds = 0.0
                    in_flight = True
                    continue
                raise InProgress((yield from perform(fx.RetryAfter(checkpoint))), operation_id=checkpoint.operation_id)
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


def adopt(claim: Claim) -> Flow[Answer]:
    """Answer the client of an attempt that was stopped: with the winner's outcome, never with its own (C4).

    Raises:
        AttemptSuperseded: there is no outcome yet.
    """
    return (yield from _unless_superseded(fx.Superseded(), claim, fx.Streamed()))


def _execute_and_record(claim: Claim, policy: Policy, *, recovering: bool = False) -> Flow[Answer]:
    """The tail that both entrances share."""
    reply = yield from perform(fx.Execute(claim))
    match reply:
        case fx.Returned(outcome=outcome) | fx.Began(outcome) if recovering and outcome.status in _UNAUTHENTICATED:
            # A re-run enters below authentication; being refused there means that the principal cannot be restored
            # (R13).
            return (yield from _park(claim, f"the re-run was refused with status {outcome.status}"))
        case fx.Returned(response, outcome):
            if policy.releases(claim.mode, outcome.status):
                return (yield from _release(claim, fx.Fresh(response)))
            return (yield from _record(claim, response, outcome))
        case fx.Began(outcome):
            return (yield from _stream(claim, outcome, policy))
        case fx.Raised(NoEffect(response=None) as error, _):
            return (yield from _release(claim, fx.Reraise(error)))
        case fx.Raised(NoEffect(response=Response() as response), _):
            return (yield from _release(claim, fx.Fresh(response)))
        case fx.Raised(error, failure):
            return (yield from _after_exception(claim, error, failure))
        case _:
            assert_never(reply)


def _after_exception(claim: Claim, error: Exception, failure: fx.Returned) -> Flow[Answer]:
    if isinstance(error, Final):
        return (yield from _record(claim, failure.response, failure.outcome))
    match claim.mode:
        case Mode.ONCE:
            return (yield from _record(claim, failure.response, failure.outcome))
        case Mode.AGAIN:
            return (yield from _release(claim, fx.Reraise(error)))
        case _:
            assert_never(claim.mode)


def _record(claim: Claim, response: Response, outcome: Outcome) -> Flow[Answer]:
    """Persist, then send (S1)."""
    try:
        receipt = yield from perform(fx.Record(claim, outcome))
    except StoreError:
        # The effect happened. Never free the claim because saving failed; keep trying, and tell the truth while
        # nobody else can have run it (D2).
        yield from perform(fx.RecordLater(claim, outcome))
        if claim.mode is Mode.ONCE or (yield from perform(fx.StillHeld(claim))):
            return fx.Fresh(response, stored=False)
        raise AttemptSuperseded(claim.operation_id) from None
    return (yield from _unless_superseded(receipt, claim, fx.Fresh(response)))


def _stream(claim: Claim, outcome: Outcome, policy: Policy) -> Flow[Answer]:
    """Make it durable that the response begins to leave, forward it, then say that it is done (S5)."""
    if policy.releases(claim.mode, outcome.status):
        # Nothing is written before it leaves, so only a lease that certainly runs says that nobody took over (C4).
        if claim.mode is not Mode.ONCE and not (yield from perform(fx.StillHeld(claim))):
            return (yield from _unless_superseded(fx.Superseded(), claim, fx.Streamed()))
        yield from perform(fx.Forward(claim, stored=True))
        # Refused or not: the bytes have left, so that a winner's outcome cannot be sent any more.
        try:
            yield from perform(fx.Release(claim))
        except StoreError:
            yield from perform(fx.ReleaseLater(claim))
        return fx.Streamed()
    stored = True
    try:
        receipt = yield from perform(fx.BeginStream(claim))
    except StoreError:
        if claim.mode is not Mode.ONCE and not (yield from perform(fx.StillHeld(claim))):
            raise AttemptSuperseded(claim.operation_id) from None
        stored = False
    else:
        if isinstance(receipt, fx.Superseded):
            return (yield from _unless_superseded(receipt, claim, fx.Streamed()))
    ended = yield from perform(fx.Forward(claim, stored=stored))
    if ended.error is not None and claim.mode is Mode.AGAIN:
        yield from perform(fx.Abandon(claim))
        return fx.Reraise(ended.error)
    try:
        yield from perform(fx.Record(claim, outcome))
    except StoreError:
        yield from perform(fx.RecordLater(claim, outcome))
    # A refused record changes nothing for this client: its bytes have left.
    return fx.Streamed()


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
        case _:
            assert_never(reply)


def _release(claim: Claim, answer: Answer) -> Flow[Answer]:
    try:
        receipt = yield from perform(fx.Release(claim))
    except StoreError:
        held = claim.mode is Mode.ONCE or (yield from perform(fx.StillHeld(claim)))
        yield from perform(fx.ReleaseLater(claim))
        if not held and isinstance(answer, fx.Fresh):
            raise AttemptSuperseded(claim.operation_id) from None
        return answer
    return (yield from _unless_superseded(receipt, claim, answer))


def _park(claim: Claim, reason: str) -> Flow[Answer]:
    try:
        yield from perform(fx.ParkClaim(claim, reason))
    except StoreError:
        # The next one to find it abandoned decides again.
        yield from perform(fx.Abandon(claim))
        raise
    raise OutcomeUnknown(reason, operation_id=claim.operation_id)


def _unless_superseded(receipt: fx.Receipt, claim: Claim, answer: Answer) -> Flow[Answer]:
    """Return our own answer only if the write was accepted; the loser serves the winner's outcome or nothing (C4)."""
    match receipt:
        case fx.Written():
            return answer
        case fx.Superseded():
            try:
                winner = yield from perform(fx.Read(claim.digest))
            except StoreError:
                # Not the store's own 503, which says that nothing was run.
                raise AttemptSuperseded(claim.operation_id) from None
            if (
                winner is None
                or winner.operation_id != claim.operation_id
                or winner.state not in FINAL
                or winner.outcome is None
            ):
                raise AttemptSuperseded(claim.operation_id)
            return (yield from _replay(winner))
        case _:
            assert_never(receipt)


def _replay(checkpoint: Checkpoint) -> Flow[Answer]:
    """Answer with the recorded outcome, byte-identical, behind the application's authorisation (S2, S5, S7, K6)."""
    if not (yield from perform(fx.Authorize(checkpoint))):
        message = "this caller may not see the recorded outcome"
        raise ReplayRefused(message)
    if checkpoint.outcome is None:
        message = "the outcome of this operation is no longer kept"
        raise KeyExpired(message, operation_id=checkpoint.operation_id)
    outcome = decode_outcome(checkpoint.outcome)
    if outcome.body is not None:
        return fx.Replayed(checkpoint.operation_id, Response.raw(outcome.status, outcome.headers, outcome.body))
    rebuilt = yield from perform(fx.Rebuild(checkpoint))
    if rebuilt is not None:
        return fx.Replayed(checkpoint.operation_id, rebuilt)
    head = Response.raw(outcome.status, outcome.headers, b"")
    raise NotReplayable(outcome.status, head.header("location"), operation_id=checkpoint.operation_id)
