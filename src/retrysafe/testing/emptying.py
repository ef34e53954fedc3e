"""Empty a store by its own verbs, so that the contract can be run again in the same place."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from retrysafe.protocol.effects import Written
from retrysafe.protocol.model import Checkpoint
from retrysafe.protocol.states import LEASED, State
from retrysafe.stores.base import Query
from retrysafe.testing.asks import DAY_SECONDS, NAMESPACES, PRINCIPAL
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Runner

_AT_ONCE = 1000


class InUse(Exception):
    """There is an operation in the store that no test has made."""


def empty(runner: Runner, clock: ManualClock, *, everything: bool = False) -> None:
    """Record what is open, let the retention of everything run out, and purge it; only the audit stays.

    Whatever tests have made in the store is lost; with ``everything``, whatever is in it.

    Args:
        runner: of a store on ``clock``, open.
        clock: is moved as far as it takes, and then on to a whole second.
        everything: whether nobody needs what somebody else has made in it.

    Raises:
        InUse: somebody else has made an operation in it, and nothing was done to that.
        AssertionError: the store's own verbs do not empty it.

    Rules: S10, C4, R12.
    """
    left = runner.listing(Query(limit=_AT_ONCE))
    while left:
        if not everything:
            _check_ours(left)
        # By the store's own instants: its clock may be ahead of the one that it is given now (C2).
        # And a day more: what another process has made, a purge may leave alone for so long.
        clock.advance(max(0.0, max(map(_over_at, left)) - left[0].now) + DAY_SECONDS)
        for seen in left:
            if seen.state in LEASED or seen.state is State.PARKED:
                # By its own fence, as its late attempt may: a person's decision would stay in the audit for ever.
                receipt = runner.record(
                    seen.claim(1.0), b"emptied", retention_seconds=0.0, tombstone_seconds=0.0, undone=seen.undoing
                )
                if receipt != Written():
                    raise AssertionError("an open or parked operation does not take the record of its attempt")
        runner.purge_all()
        before, left = left, runner.listing(Query(limit=_AT_ONCE))
        if {seen.operation_id for seen in left} & {seen.operation_id for seen in before}:
            raise AssertionError("a purge leaves operations whose tombstones are over")
    _drop_messages(runner, clock)
    clock.advance(ceil(clock()) - clock())


def _check_ours(left: Sequence[Checkpoint]) -> None:
    for seen in left:
        if seen.namespace not in NAMESPACES or seen.principal != PRINCIPAL:
            raise InUse(f"operation {seen.operation_id} of the namespace {seen.namespace!r} is not the contract's")


def _over_at(seen: Checkpoint) -> float:
    return max(seen.lease_until, seen.tombstone_until, seen.outcome_until or 0.0)


def _drop_messages(runner: Runner, clock: ManualClock) -> None:
    """Take every message, also those that somebody else has, and tell the outbox that they have left."""
    clock.advance(DAY_SECONDS)
    while taken := runner.take_messages(limit=_AT_ONCE):
        runner.sent_messages(*taken)
