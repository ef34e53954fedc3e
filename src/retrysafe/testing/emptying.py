"""Empty a store by its own verbs, so that the contract can be run again in the same place."""

from __future__ import annotations

from math import ceil

from retrysafe.protocol.model import Checkpoint
from retrysafe.protocol.operator import Intervention, Refusal, Verb
from retrysafe.protocol.states import LEASED, State
from retrysafe.stores.base import Query
from retrysafe.testing.asks import DAY_SECONDS
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Runner

_AT_ONCE = 1000


def empty(runner: Runner, clock: ManualClock) -> None:
    """Settle what is open, let the retention of everything run out, and purge it; only the audit stays.

    Whatever is in the store is lost: this is for a scratch store.

    Args:
        runner: of a store on ``clock``, open.
        clock: is moved as far as it takes, and then on to a whole second.

    Raises:
        AssertionError: the store's own verbs do not empty it.

    Rules: S10, R10, R12.
    """
    left = runner.listing(Query(limit=_AT_ONCE))
    while left:
        # By the store's own instants: its clock may be ahead of the one that it is given now (C2).
        # And a day more: what another process has made, a purge may leave alone for so long.
        clock.advance(max(0.0, max(map(_over_at, left)) - left[0].now) + DAY_SECONDS)
        for seen in left:
            if seen.state in LEASED or seen.state is State.PARKED:
                answer = runner.intervene(seen, _settling(undone=seen.undoing))
                if isinstance(answer, Refusal):
                    raise AssertionError(f"an abandoned operation can't be settled: {answer.reason}")
        runner.purge_all()
        before, left = left, runner.listing(Query(limit=_AT_ONCE))
        if {seen.operation_id for seen in left} & {seen.operation_id for seen in before}:
            raise AssertionError("a purge leaves operations whose tombstones are over")
    _drop_messages(runner, clock)
    clock.advance(ceil(clock()) - clock())


def _over_at(seen: Checkpoint) -> float:
    return max(seen.lease_until, seen.tombstone_until, seen.outcome_until or 0.0)


def _drop_messages(runner: Runner, clock: ManualClock) -> None:
    """Take every message, also those that somebody else has, and tell the outbox that they have left."""
    clock.advance(DAY_SECONDS)
    while taken := runner.take_messages(limit=_AT_ONCE):
        runner.sent_messages(*taken)


def _settling(*, undone: bool) -> Intervention:
    return Intervention(
        Verb.SETTLE,
        "the contract",
        "emptied for the next promise",
        b"emptied",
        undone=undone,
        retention_seconds=0.0,
        tombstone_seconds=0.0,
    )
