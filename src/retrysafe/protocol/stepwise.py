"""How an operation made of steps ends: forward, or back.

::

    returned 2xx, 3xx ─► orphans? ─► record                     DONE
    returned 4xx, NoEffect ─► anything to undo? ─► undo ─► record  UNDONE (or DONE, or released)
    5xx, exception ─► attempts left? ─► postpone                another attempt goes on from the memos
                              └► spent: undo, or park
"""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from retrysafe.errors import AttemptSuperseded, StoreError
from retrysafe.protocol import effects as fx
from retrysafe.protocol import steps
from retrysafe.protocol.effects import Answer, Flow, perform
from retrysafe.protocol.encoding import decode_outcome
from retrysafe.protocol.endings import park, postpone, record, release, stream, unless_superseded
from retrysafe.protocol.model import Claim, Final, NoEffect, Outcome, Response
from retrysafe.protocol.policy import Policy
from retrysafe.protocol.stepping import write_memo
from retrysafe.protocol.steps import Memo, StepKind, StepStatus, Trail
from retrysafe.protocol.verdicts import ATTEMPTS_SPENT, UNDO_ATTEMPTS_SPENT

RETRYING, UNDOING = "retrying", "undoing"


def end_steps(  # noqa: PLR0912 - one branch for each way in which code ends
    claim: Claim, policy: Policy, trail: Trail, reply: fx.Reply
) -> Flow[Answer]:
    """Answer for an operation made of steps, once its code has ended.

    Raises:
        InProgress: another attempt follows, forward or back.
        OutcomeUnknown: it is parked.
        AttemptSuperseded: this attempt lost its claim.

    Rules: R4, R7, R8, S2, S3.
    """
    trail.closed = True
    if trail.halt is not None:
        return (yield from _halted(claim, trail.halt))
    match reply:
        case fx.Returned(outcome=outcome) | fx.Began(outcome) if trail.calls and outcome.status < 400:
            return (yield from _try_again(claim, policy, trail, "the code ended before every step had returned"))
        case fx.Returned(outcome=outcome) | fx.Began(outcome) if outcome.status >= 500:
            return (yield from _try_again(claim, policy, trail, f"the operation answered {outcome.status}"))
        case fx.Returned(outcome=outcome) | fx.Began(outcome) if outcome.status >= 400:
            if not trail.began and isinstance(reply, fx.Returned) and policy.releases(claim.mode, outcome.status):
                return (yield from release(claim, fx.Fresh(reply.response)))
            return (yield from _refused(claim, policy, trail, reply))
        case fx.Returned() | fx.Began():
            return (yield from _succeed(claim, policy, trail, reply))
        case fx.Raised(Final(), failure):
            return (yield from record(claim, failure.response, failure.outcome, messages=tuple(trail.messages)))
        case fx.Raised(NoEffect(response=response) as error, failure):
            if not trail.began:
                return (yield from release(claim, fx.Reraise(error) if response is None else fx.Fresh(response)))
            if response is None:
                # The author says that there is no effect, and there were steps: undone, it is so.
                failure = yield from perform(fx.UndoneReply(claim))
            return (yield from _refused(claim, policy, trail, failure))
        case fx.Raised(error):
            return (yield from _try_again(claim, policy, trail, f"the operation raised {type(error).__name__}"))
        case fx.Cut():
            return (yield from _try_again(claim, policy, trail, "the operation was halted"))
        case _:
            assert_never(reply)


def resume_undo(claim: Claim, policy: Policy) -> Flow[Answer]:
    """Go on undoing an operation under a new claim (R7).

    Raises:
        InProgress: it is not undone yet.
        OutcomeUnknown: it is parked.
    """
    history = yield from perform(fx.ReadTrail(claim.digest))
    pending = None
    if history is not None and history.checkpoint.outcome is not None:
        pending = decode_outcome(history.checkpoint.outcome)
    return (yield from _undo(claim, policy, Trail(history), pending))


def _halted(claim: Claim, halt: steps.Halt) -> Flow[Answer]:
    match halt:
        case steps.Superseded():
            return (yield from unless_superseded(fx.Superseded(), claim, fx.Streamed()))
        case steps.Unsettled(reason):
            return (yield from park(claim, reason))
        case steps.TooEarly(seconds, reason):
            return (yield from postpone(claim, seconds, reason, phase=RETRYING))
        case _:
            assert_never(halt)


def _succeed(claim: Claim, policy: Policy, trail: Trail, reply: fx.Returned | fx.Began) -> Flow[Answer]:
    if orphans := trail.orphans():
        named = ", ".join(repr(memo.name) for memo in orphans)
        match policy.orphans:
            case "park":
                return (yield from park(claim, f"the code ended without coming by the steps {named}, which were begun"))
            case "undo":
                if (late := trail.quiet_at() - trail.read_at) > 0:
                    return (yield from postpone(claim, late, f"the steps {named} are to be undone", phase=RETRYING))
                failed = yield from _take_back(claim, trail, [memo for memo in orphans if memo.undo])
                if failed is not None:
                    return (yield from _try_again(claim, policy, trail, failed))
            case "keep":
                pass
            case _:
                assert_never(policy.orphans)
    messages = tuple(trail.messages)
    if isinstance(reply, fx.Began):
        return (yield from stream(claim, reply.outcome, policy, messages))
    return (yield from record(claim, reply.response, reply.outcome, messages=messages))


def _refused(claim: Claim, policy: Policy, trail: Trail, reply: fx.Returned | fx.Began) -> Flow[Answer]:
    """Record a definite refusal, after undoing what was done."""
    outcome = reply.outcome
    if not trail.to_undo():
        if isinstance(reply, fx.Began):
            return (yield from stream(claim, outcome, policy))
        return (yield from record(claim, reply.response, outcome))
    if trail.pivoted:
        return (
            yield from park(claim, f"the operation answered {outcome.status} after its pivot, so it can't be undone")
        )
    answer = yield from _begin_undo(claim, policy, trail, f"the operation answered {outcome.status}", outcome)
    if isinstance(reply, fx.Began) and isinstance(answer, fx.Fresh):
        yield from perform(fx.Forward(claim, stored=answer.stored))
        return fx.Streamed()
    if isinstance(reply, fx.Returned) and isinstance(answer, fx.Fresh):
        # The same answer, but the operation's own: what recording drops, such as cookies, is for the first client.
        return replace(answer, response=reply.response)
    return answer


def _try_again(claim: Claim, policy: Policy, trail: Trail, reason: str) -> Flow[Answer]:
    """Leave it to another attempt, unless this was the last one (R8)."""
    if claim.deaths + 1 < policy.attempts:
        seconds = yield from perform(fx.Backoff(claim.deaths + 1))
        return (yield from postpone(claim, seconds, reason, phase=RETRYING))
    if policy.spent == "undo" and not trail.pivoted:
        return (yield from _begin_undo(claim, policy, trail, f"{ATTEMPTS_SPENT}; at last {reason}", None))
    return (yield from park(claim, f"{ATTEMPTS_SPENT}; at last {reason}"))


def _begin_undo(claim: Claim, policy: Policy, trail: Trail, reason: str, outcome: Outcome | None) -> Flow[Answer]:
    try:
        receipt = yield from perform(fx.BeginUndo(claim, reason, outcome))
    except StoreError:
        # Not the store's own 503, which says that nothing was run. Whoever goes on decides again.
        yield from perform(fx.Abandon(claim))
        raise AttemptSuperseded(claim.operation_id) from None
    if isinstance(receipt, fx.Superseded):
        return (yield from unless_superseded(receipt, claim, fx.Streamed()))
    return (yield from _undo(replace(claim, undoing=True, deaths=0), policy, trail, outcome))


def _undo(claim: Claim, policy: Policy, trail: Trail, outcome: Outcome | None) -> Flow[Answer]:
    """Undo every step in strict reverse, then say so.

    At once when every call of this operation has returned; else only when no call can be under way any more.
    """
    if trail.pivoted:
        return (yield from park(claim, "it was to be undone after its pivot"))
    wait = trail.quiet_at() - trail.read_at
    if trail.calls:
        wait = max(wait, policy.step_timeout_seconds)
    if wait > 0 and trail.to_undo():
        return (yield from postpone(claim, wait, "a call of an attempt before may still be under way", phase=UNDOING))
    failed = yield from _take_back(claim, trail, trail.to_undo())
    if failed is not None:
        if trail.halt is not None:
            return (yield from _halted(claim, trail.halt))
        if claim.deaths + 1 >= policy.undo_attempts:
            return (yield from park(claim, f"{UNDO_ATTEMPTS_SPENT}; at last {failed}"))
        seconds = yield from perform(fx.Backoff(claim.deaths + 1))
        return (yield from postpone(claim, seconds, failed, phase=UNDOING))
    if outcome is None:
        made = yield from perform(fx.UndoneReply(claim))
        return (yield from record(claim, made.response, made.outcome, undone=True))
    return (yield from record(claim, _as_response(outcome), outcome, undone=True))


def _take_back(claim: Claim, trail: Trail, memos: list[Memo]) -> Flow[str | None]:
    """Undo some steps, last first; return why it could not go on, or None (I7)."""
    for memo in memos:
        if not (yield from perform(fx.StillHeld(claim))):
            trail.halt = steps.Superseded()
            return "the claim was lost"
        reply = yield from perform(fx.Undo(claim, memo))
        if isinstance(reply, fx.Failed):
            return f"the undo of step {memo.name!r} raised {type(reply.error).__name__}"
        name, index = steps.undo_place(memo.place)
        done = Memo(name, index, trail.next_seq(), StepKind.UNDO, StepStatus.DONE, claim.fence, value=reply.value)
        receipt = yield from write_memo(claim, done)
        if isinstance(receipt, fx.Superseded):
            trail.halt = steps.Superseded()
            return "the claim was lost"
        trail.keep(done)
    return None


def _as_response(outcome: Outcome) -> Response:
    return Response.raw(outcome.status, outcome.headers, outcome.body or b"")
