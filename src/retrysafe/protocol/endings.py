"""How an attempt ends: its outcome recorded, its key released, its checkpoint parked; or the winner's answer served.

Each ending is one durable write, then one answer (S1). Every mode uses the same ones.
"""

from __future__ import annotations

from math import ceil
from typing import assert_never

from retrysafe.errors import (
    AttemptSuperseded,
    InProgress,
    KeyExpired,
    NotReplayable,
    OutcomeUnknown,
    ReplayRefused,
    StoreError,
)
from retrysafe.protocol import effects as fx
from retrysafe.protocol.effects import Answer, Flow, perform
from retrysafe.protocol.encoding import decode_outcome
from retrysafe.protocol.model import Checkpoint, Claim, Message, Mode, Outcome, Response
from retrysafe.protocol.policy import Policy
from retrysafe.protocol.states import FINAL


def record(
    claim: Claim, response: Response, outcome: Outcome, *, undone: bool = False, messages: tuple[Message, ...] = ()
) -> Flow[Answer]:
    """Persist, then send (S1)."""
    wanted = fx.Record(claim, outcome, undone, messages)
    try:
        receipt = yield from perform(wanted)
    except StoreError:
        # The effect happened. Never free the claim because saving failed; keep trying, and tell the truth while
        # nobody else can have run it (D2).
        yield from perform(fx.RecordLater(wanted))
        if claim.mode is Mode.ONCE or (yield from perform(fx.StillHeld(claim))):
            return fx.Fresh(response, stored=False)
        raise AttemptSuperseded(claim.operation_id) from None
    return (yield from unless_superseded(receipt, claim, fx.Fresh(response)))


def stream(claim: Claim, outcome: Outcome, policy: Policy, messages: tuple[Message, ...] = ()) -> Flow[Answer]:
    """Make it durable that the response begins to leave, forward it, then say that it is done (S5)."""
    if policy.releases(claim.mode, outcome.status):
        # Nothing is written before it leaves, so only a lease that certainly runs says that nobody took over (C4).
        if claim.mode is not Mode.ONCE and not (yield from perform(fx.StillHeld(claim))):
            return (yield from unless_superseded(fx.Superseded(), claim, fx.Streamed()))
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
            return (yield from unless_superseded(receipt, claim, fx.Streamed()))
    ended = yield from perform(fx.Forward(claim, stored=stored))
    if ended.error is not None and claim.mode is not Mode.ONCE:
        yield from perform(fx.Abandon(claim))
        return fx.Reraise(ended.error)
    wanted = fx.Record(claim, outcome, messages=messages)
    try:
        yield from perform(wanted)
    except StoreError:
        yield from perform(fx.RecordLater(wanted))
    # A refused record changes nothing for this client: its bytes have left.
    return fx.Streamed()


def release(claim: Claim, answer: Answer) -> Flow[Answer]:
    """Give the key back, because nothing happened that matters (S3, S6)."""
    try:
        receipt = yield from perform(fx.Release(claim))
    except StoreError:
        held = claim.mode is Mode.ONCE or (yield from perform(fx.StillHeld(claim)))
        yield from perform(fx.ReleaseLater(claim))
        if not held and isinstance(answer, fx.Fresh):
            raise AttemptSuperseded(claim.operation_id) from None
        return answer
    return (yield from unless_superseded(receipt, claim, answer))


def park(claim: Claim, reason: str) -> Flow[Answer]:
    """Leave it to a person.

    Raises:
        OutcomeUnknown: it is parked; the client hears the reason.
    """
    try:
        receipt = yield from perform(fx.ParkClaim(claim, reason))
    except StoreError:
        # The next one to find it abandoned decides again.
        yield from perform(fx.Abandon(claim))
        raise
    if isinstance(receipt, fx.Superseded):
        return (yield from unless_superseded(receipt, claim, fx.Streamed()))
    raise OutcomeUnknown(reason, operation_id=claim.operation_id)


def postpone(claim: Claim, seconds: float, reason: str, *, phase: str) -> Flow[Answer]:
    """Leave the operation alone for a while; another attempt goes on (R8).

    Raises:
        InProgress: the client hears when it is worth asking again, and in which phase the operation is.
    """
    try:
        receipt = yield from perform(fx.Postpone(claim, seconds, reason))
    except StoreError:
        # Not the store's own 503, which says that nothing was run.
        yield from perform(fx.Abandon(claim))
        raise AttemptSuperseded(claim.operation_id) from None
    if isinstance(receipt, fx.Superseded):
        return (yield from unless_superseded(receipt, claim, fx.Streamed()))
    raise InProgress(max(1, ceil(seconds)), operation_id=claim.operation_id, phase=phase)


def unless_superseded(receipt: fx.Receipt, claim: Claim, answer: Answer) -> Flow[Answer]:
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
            return (yield from replay(winner))
        case _:
            assert_never(receipt)


def replay(checkpoint: Checkpoint) -> Flow[Answer]:
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
