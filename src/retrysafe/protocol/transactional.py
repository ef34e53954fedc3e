"""How an operation ends that runs in one transaction of the application's database: committed, or as if it never began.

The commit is the record: effects, outcome and outbox are durable together or not at all (R11, I10, I11). Only then do
bytes leave.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from retrysafe.errors import StoreError
from retrysafe.protocol import effects as fx
from retrysafe.protocol.effects import Answer, Flow, perform
from retrysafe.protocol.endings import park, release, unless_superseded
from retrysafe.protocol.model import Claim, Final, NoEffect, Response
from retrysafe.protocol.policy import Policy
from retrysafe.protocol.steps import Trail

_MOST_RUNS = 10
"""How often one attempt runs because of other transactions, before it gives up and is released."""


def execute_transaction(claim: Claim, policy: Policy, refused: Callable[[fx.Reply], str | None]) -> Flow[Answer]:
    """Run the operation in a transaction until it commits; run it again inside the claim when it met another one.

    Args:
        claim: the right to execute.
        policy: how the operation is guarded.
        refused: says why a reply means that a re-run was refused as unauthenticated, or None (R13).

    Raises:
        OutcomeUnknown: a re-run was refused as unauthenticated, so the operation is parked.
        AttemptSuperseded: this attempt lost its claim; nothing of it was committed.
        StoreUnavailable: the database is down; if the commit was under way, it was read back first (D4).

    Rules: R11, S3, C4.
    """
    for run in range(1, _MOST_RUNS + 1):
        trail = Trail()
        reply = yield from perform(fx.Execute(claim, trail))
        if (refusal := refused(reply)) is not None:
            yield from perform(fx.Rollback(claim, None))
            return (yield from park(claim, refusal))
        match reply:
            case fx.Returned(outcome=outcome) | fx.Began(outcome) if not policy.releases(claim.mode, outcome.status):
                done = yield from _commit(claim, trail, reply)
            case fx.Raised(Final(), failure):
                done = yield from _commit(claim, trail, failure)
            case _:
                done = yield from _roll_back(claim, reply, last=run == _MOST_RUNS)
        if done is not None:
            return done
    raise AssertionError("the last run always answers")


def _commit(claim: Claim, trail: Trail, reply: fx.Returned | fx.Began) -> Flow[Answer | None]:
    """Commit and answer; None when the database wants it to run again."""
    try:
        receipt = yield from perform(fx.Commit(claim, reply.outcome, tuple(trail.messages)))
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 - such as a deferred constraint: the database said no, and rolled back
        return (yield from release(claim, fx.Reraise(error)))
    match receipt:
        case fx.Written() if isinstance(reply, fx.Returned):
            return fx.Fresh(reply.response)
        case fx.Written():
            yield from perform(fx.Forward(claim, stored=True))
            return fx.Streamed()
        case fx.Superseded():
            return (yield from unless_superseded(receipt, claim, fx.Streamed()))
        case fx.Conflicted():
            return None
        case _:
            assert_never(receipt)


def _roll_back(claim: Claim, reply: fx.Reply, *, last: bool) -> Flow[Answer | None]:
    """Roll back and release; None when the database wants it to run again."""
    error = reply.error if isinstance(reply, fx.Raised) else None
    may_repeat = yield from perform(fx.Rollback(claim, error))
    if may_repeat and not last:
        return None
    match reply:
        case fx.Returned(response=response) | fx.Raised(NoEffect(response=Response() as response)):
            return (yield from release(claim, fx.Fresh(response)))
        case fx.Began():
            # Its body is not here yet, and nothing of it is kept: it leaves once the key is free.
            receipt = yield from perform(fx.Release(claim))
            if isinstance(receipt, fx.Superseded):
                return (yield from unless_superseded(receipt, claim, fx.Streamed()))
            yield from perform(fx.Forward(claim, stored=True))
            return fx.Streamed()
        case fx.Raised(raised):
            return (yield from release(claim, fx.Reraise(raised)))
        case fx.Cut():
            return (yield from unless_superseded(fx.Superseded(), claim, fx.Streamed()))
        case _:
            assert_never(reply)
