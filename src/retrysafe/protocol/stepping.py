"""One step of an operation, in the order in which it happens.

::

    name, index ─► memo? ─► intent? ─► still held? ─► call ─► memo ─► go on
                    │          │
                    ▼          ▼
                 its result   unknown: call again, ask, or park
"""

from __future__ import annotations

from typing import Never, assert_never

from msgspec.structs import replace

from retrysafe.errors import StoreUnavailable
from retrysafe.protocol import effects as fx
from retrysafe.protocol import steps
from retrysafe.protocol.effects import Flow, perform
from retrysafe.protocol.model import Claim
from retrysafe.protocol.steps import Halted, Memo, Step, StepKind, StepStatus, Trail

_PAUSE_SECONDS = 0.1


def take_step(claim: Claim, trail: Trail, step: Step) -> Flow[Memo]:
    """Return what is known of a step, having called it if need be.

    Args:
        claim: the right under which it is called.
        trail: what is known of the operation's steps; it learns of this one.
        step: what the operation's code asks for.

    Returns:
        A memo that is ``DONE`` or ``REFUSED``.

    Raises:
        Halted: the attempt must end; the trail says why.
        ValueError: the operation came by this name and index before.
        Exception: what the step raised; whether it had an effect is not known.

    Rules: R4, R5, R6, C3, C4, I2, I9.
    """
    if step.place in trail.visited:
        name, index = step.place
        raise ValueError(f"step {name!r} with index {index} came twice: pass index= in a loop, or another name= (R4)")
    trail.visited.add(step.place)
    _go_on(trail)
    memo = trail.memos.get(step.place)
    if steps.undo_place(step.place) in trail.memos:
        _park(trail, f"step {step.name!r} was taken back by an earlier attempt, and this one comes by it again")
    if memo is not None and memo.status is not StepStatus.INTENT:
        return memo
    if memo is not None:
        settled = yield from _find_out(claim, trail, step, memo)
        if settled is not None:
            return settled
    elif isinstance(step.unknown, steps.Retry) and not step.needs_intent:
        _within_retention(trail, step, trail.created_at)
    if not (yield from perform(fx.StillHeld(claim))):
        _halt(trail, steps.Superseded())
    pivoting = trail.pivot_due
    if pivoting:
        yield from _write(claim, trail, _pivot(claim, trail))
    # An intent of an attempt before is written anew: how long its call may be under way counts from now.
    memo = _begun(claim, trail, step) if memo is None else replace(memo, fence=claim.fence)
    intends = step.kind is StepKind.EXTERNAL and step.needs_intent
    if intends:
        yield from _write(claim, trail, replace(memo, timeout_seconds=_under_way_seconds(claim, step)))
    if (intends or pivoting) and not (yield from perform(fx.StillHeld(claim))):
        # Frozen in between: a call that begins now may be one too late (R7).
        _halt(trail, steps.Superseded())
    _go_on(trail)
    if step.kind is StepKind.LOCAL:
        return (yield from _transact(claim, trail, step, memo))
    return (yield from _call(claim, trail, step, memo))


def write_memo(claim: Claim, memo: Memo) -> Flow[fx.Receipt]:
    """Write a memo; go on trying while our lease certainly runs, because the effect may have happened (D2).

    Raises:
        StoreError: it could not be written in time.
    """
    while True:
        try:
            return (yield from perform(fx.Memoize(claim, memo)))
        except StoreUnavailable:
            if not (yield from perform(fx.StillHeld(claim))):
                raise
            yield from perform(fx.Pause(_PAUSE_SECONDS))


def _begun(claim: Claim, trail: Trail, step: Step) -> Memo:
    return Memo(
        name=step.name,
        index=step.index,
        seq=trail.next_seq(),
        kind=step.kind,
        status=StepStatus.INTENT,
        fence=claim.fence,
        undo=step.undo,
        arguments=step.arguments,
        timeout_seconds=_under_way_seconds(claim, step),
    )


def _under_way_seconds(claim: Claim, step: Step) -> float:
    """Return how long after its intent a call may be under way: it begins in the lease, and is timed out (R7)."""
    return claim.lease_seconds + step.timeout_seconds


def _pivot(claim: Claim, trail: Trail) -> Memo:
    return Memo(steps.PIVOT, 0, trail.next_seq(), StepKind.PIVOT, StepStatus.DONE, claim.fence)


def _find_out(claim: Claim, trail: Trail, step: Step, memo: Memo) -> Flow[Memo | None]:
    """Decide about a step that an attempt before began; None when it may be called (R6)."""
    if step.kind is StepKind.LOCAL:
        # Its memo is as durable as its effect: without the one there is not the other (I10).
        return None
    match step.unknown:
        case steps.Park():
            _park(trail, f"step {step.name!r} was begun, and whether it happened is not known")
        case steps.Retry():
            _within_retention(trail, step, memo.began_at)
            return None
        case steps.Ask():
            found = yield from perform(fx.Probe(claim, step))
            match found:
                case fx.Gave(value):
                    return (yield from _known(claim, trail, memo, StepStatus.DONE, value))
                case fx.NotHappened():
                    if (early := memo.deadline - trail.read_at) > 0:
                        # The call that a dead attempt began may still land.
                        _halt(trail, steps.TooEarly(early, f"a call of step {step.name!r} may still be under way"))
                    return None
                case fx.NotKnown():
                    _park(trail, f"the probe of step {step.name!r} could not find out whether it happened")
                case fx.Failed(error):
                    raise error
                case _:
                    assert_never(found)
        case _:
            assert_never(step.unknown)


def _within_retention(trail: Trail, step: Step, since: float) -> None:
    """Park rather than call a service again that may have forgotten the key (R6)."""
    retention = step.unknown.key_retention_seconds if isinstance(step.unknown, steps.Retry) else 0.0
    if trail.read_at > since + retention:
        _park(trail, f"step {step.name!r} may have happened, and the service it calls may have forgotten its key")


def _call(claim: Claim, trail: Trail, step: Step, memo: Memo) -> Flow[Memo]:
    reply = yield from perform(fx.Call(claim, step))
    match reply:
        case fx.Gave(value):
            return (yield from _known(claim, trail, memo, StepStatus.DONE, value))
        case fx.Refused(value):
            return (yield from _known(claim, trail, memo, StepStatus.REFUSED, value))
        case fx.Failed(error):
            raise error
        case _:
            assert_never(reply)


def _transact(claim: Claim, trail: Trail, step: Step, memo: Memo) -> Flow[Memo]:
    reply = yield from perform(fx.Transact(claim, step, memo))
    match reply:
        case Memo():
            trail.keep(reply)
            return reply
        case fx.Superseded():
            _halt(trail, steps.Superseded())
        case fx.NotKnown():
            _halt(trail, steps.TooEarly(1.0, f"whether local step {step.name!r} was committed is not known yet"))
        case fx.Failed(error):
            raise error
        case _:
            assert_never(reply)


def _known(claim: Claim, trail: Trail, memo: Memo, status: StepStatus, value: bytes | None) -> Flow[Memo]:
    known = replace(memo, status=status, value=value, fence=claim.fence)
    yield from _write(claim, trail, known)
    return known


def _write(claim: Claim, trail: Trail, memo: Memo) -> Flow[None]:
    receipt = yield from write_memo(claim, memo)
    if isinstance(receipt, fx.Superseded):
        _halt(trail, steps.Superseded())
    trail.keep(memo)


def _go_on(trail: Trail) -> None:
    if trail.halt is not None or trail.closed:
        raise Halted


def _park(trail: Trail, reason: str) -> Never:
    _halt(trail, steps.Unsettled(reason))


def _halt(trail: Trail, why: steps.Halt) -> Never:
    if trail.halt is None:
        trail.halt = why
    raise Halted
