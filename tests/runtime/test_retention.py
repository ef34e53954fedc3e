"""Dropping outcomes and tombstones whose retention is over."""

from datetime import timedelta

import pytest

from retrysafe import KeyExpired, Policy, State
from retrysafe.protocol import effects as fx
from retrysafe.runtime import events, retention
from retrysafe.runtime.recovery import Scanner
from retrysafe.runtime.retention import Retention
from retrysafe.testing.faults import fail
from tests.runtime.rig import CREATED, ONCE, Rig, returned, until

KEPT = ONCE.retention_seconds
REMEMBERED = ONCE.tombstone_seconds


def never() -> bool:
    return False


def finish(rig: Rig, key: str, policy: Policy = ONCE) -> None:
    run, _ = rig.begin(policy, key)
    run.advance(returned())


def test_an_outcome_is_dropped_after_its_retention_and_the_tombstone_still_refuses(rig: Rig) -> None:
    """S10."""
    finish(rig, "k")
    rig.time.advance(KEPT)
    Retention(rig.engine).work(never)
    met = rig.checkpoint()
    assert (met.state, met.outcome) == (State.EXPIRED, None)
    assert [(event.expired, event.deleted) for event in rig.events.of(events.Purged)] == [(1, 0)]
    with pytest.raises(KeyExpired):
        rig.run().advance()


def test_after_its_tombstone_a_key_is_free(rig: Rig) -> None:
    """S10, C6."""
    finish(rig, "k")
    rig.time.advance(REMEMBERED)
    Retention(rig.engine).work(never)
    assert [(event.expired, event.deleted) for event in rig.events.of(events.Purged)] == [(0, 1)]
    _, claim = rig.begin()
    assert claim.fence == 1


def test_expiry_does_not_wait_for_the_purge(rig: Rig) -> None:
    """C5."""
    finish(rig, "k")
    rig.time.advance(KEPT)
    with pytest.raises(KeyExpired):
        rig.run().advance()
    rig.time.advance(REMEMBERED)
    rig.begin()


def test_open_and_parked_operations_are_never_purged(rig: Rig) -> None:
    """S10."""
    rig.begin(ONCE, "open")
    _, parked = rig.begin(ONCE, "parked")
    rig.engine.perform(fx.ParkClaim(parked, "by an operator"), ONCE)
    rig.time.advance(10 * REMEMBERED)
    Retention(rig.engine).work(never)
    assert rig.events.of(events.Purged) == []
    assert [rig.checkpoint(key).state for key in ("open", "parked")] == [State.RUNNING, State.PARKED]


def test_it_looks_once_a_minute_while_there_is_little_to_do(rig: Rig) -> None:
    keeping = Retention(rig.engine)
    keeping.work(never)
    rig.time.advance(59.9)
    keeping.work(never)
    assert rig.store.calls["purge"] == 1
    rig.time.advance(0.1)
    keeping.work(never)
    assert rig.store.calls["purge"] == 2


def test_with_more_to_do_it_goes_on_at_the_next_turn(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, so that nobody feels them; never so many that the scan is late (S10, R2)."""
    monkeypatch.setattr(retention, "_BATCH", 2)
    monkeypatch.setattr(retention, "_BATCHES", 2)
    for number in range(9):
        finish(rig, str(number))
    rig.time.advance(KEPT)
    keeping = Retention(rig.engine)
    for _ in range(4):
        keeping.work(never)
    assert [event.expired for event in rig.events.of(events.Purged)] == [4, 4, 1]


def test_it_stops_between_two_batches(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """C7."""
    monkeypatch.setattr(retention, "_BATCH", 2)
    for number in range(9):
        finish(rig, str(number))
    rig.time.advance(KEPT)
    Retention(rig.engine).work(lambda: True)
    assert [event.expired for event in rig.events.of(events.Purged)] == [2]


def test_the_scan_purges_too_and_outlives_a_store_that_cannot(rig: Rig) -> None:
    """S10."""
    policy = Policy(retention=timedelta(seconds=1))
    run, _ = rig.begin(policy)
    assert run.advance(returned()) == fx.Fresh(CREATED)
    rig.time.advance(1)
    rig.store.plan(fail("purge", call=1))
    scan = Scanner(rig.engine, lambda _: policy, (), namespace="default", interval_seconds=0.001)
    scan.start()
    until(lambda: rig.checkpoint().state is State.EXPIRED, "the outcome is dropped")
    scan.close()
    assert [event.doing for event in rig.events.of(events.StoreFailed)] == ["scan"]
