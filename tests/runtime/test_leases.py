"""Keeping claims alive, and telling attempts to stop when they no longer hold one."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import pytest

from retrysafe import Policy
from retrysafe.protocol.model import Claim
from retrysafe.protocol.verdicts import Claimed
from retrysafe.runtime import events
from retrysafe.runtime.clock import SystemClock
from retrysafe.runtime.leases import LeaseKeeper
from retrysafe.stores.memory import MemoryStore
from retrysafe.testing.faults import FaultyStore, fail, hold
from tests.runtime.rig import AGAIN, ONCE, Events, Rig, ask, until

LEASE = ONCE.lease_seconds
LONGEST = ONCE.max_duration_seconds


@dataclass
class Attempt:
    """Counts how often it is told to stop."""

    stops: int = 0

    def stop(self) -> None:
        self.stops += 1


def watch(rig: Rig, claim: Claim, *, max_seconds: float = LONGEST) -> Attempt:
    attempt = Attempt()
    now = rig.time.monotonic()
    rig.engine.keeper.watch(claim, sent_at=now, max_seconds=max_seconds, stop=attempt.stop)
    return attempt


def test_every_claim_that_is_due_is_renewed_in_one_statement(rig: Rig) -> None:
    """C3."""
    claims = [rig.claim(ONCE, key) for key in "abc"]
    for claim in claims:
        watch(rig, claim)
    rig.time.advance(LEASE / 3)
    rig.engine.keeper._renew_due()
    assert rig.store.calls["renew"] == 1
    assert [rig.checkpoint(key).lease_remaining_seconds for key in "abc"] == [LEASE] * 3


def test_an_operation_shorter_than_a_third_of_its_lease_costs_no_statement(rig: Rig) -> None:
    """C3."""
    watch(rig, rig.claim())
    rig.time.advance(LEASE / 3 - 0.001)
    rig.engine.keeper._renew_due()
    assert "renew" not in rig.store.calls


def test_five_hundred_claims_go_into_one_statement_and_the_rest_into_the_next(rig: Rig) -> None:
    """C3."""
    for number in range(501):
        watch(rig, rig.claim(ONCE, str(number)))
    rig.time.advance(LEASE / 2)
    rig.engine.keeper._renew_due()
    assert rig.store.calls["renew"] == 2
    assert rig.checkpoint("500").lease_remaining_seconds == LEASE


def test_the_watchdog_counts_from_when_the_claim_was_sent(rig: Rig) -> None:
    """The answer may have been long under way (C3)."""
    claim, attempt = rig.claim(), Attempt()
    sent_at = rig.time.monotonic()
    rig.time.advance(4)
    rig.engine.keeper.watch(claim, sent_at=sent_at, max_seconds=LONGEST, stop=attempt.stop)
    rig.time.advance(LEASE * 0.9 - 4.01)
    rig.engine.keeper._stop_lost()
    assert (attempt.stops, rig.engine.keeper.holds(claim)) == (0, True)
    rig.time.advance(0.02)
    rig.engine.keeper._stop_lost()
    assert (attempt.stops, rig.engine.keeper.holds(claim)) == (1, False)
    assert rig.events.kinds == ["LeaseLost"]


def test_the_watchdog_counts_from_when_the_renewal_was_sent(rig: Rig) -> None:
    """A renewal that hangs in the store must not make us believe in a longer lease than the store does (C3)."""
    claim = rig.claim()
    attempt = watch(rig, claim)
    rig.time.advance(5)
    answered = threading.Event()
    rig.store.plan(hold("renew", answered, when="after"))
    renewing = threading.Thread(target=rig.engine.keeper._renew_due)
    renewing.start()
    until(lambda: rig.store.calls.get("renew"), "the renewal is sent")
    rig.time.advance(6)
    answered.set()
    renewing.join()
    rig.time.advance(LEASE * 0.9 - 6.01)
    rig.engine.keeper._stop_lost()
    assert rig.events == []
    rig.time.advance(0.02)
    rig.engine.keeper._stop_lost()
    assert attempt.stops == 1


def test_a_store_that_fails_for_a_moment_costs_nobody_a_lease(rig: Rig) -> None:
    """C3."""
    attempt = watch(rig, rig.claim())
    rig.store.plan(fail("renew", call=1))
    rig.time.advance(LEASE / 2)
    rig.engine.keeper._renew_due()
    assert rig.events.kinds == ["StoreFailed"]
    rig.engine.keeper._renew_due()
    rig.time.advance(LEASE / 2)
    rig.engine.keeper._stop_lost()
    assert not attempt.stops
    assert rig.checkpoint().lease_remaining_seconds == LEASE / 2


def test_an_outage_longer_than_the_lease_stops_the_attempt_once(rig: Rig) -> None:
    """C3."""
    attempt = watch(rig, rig.claim())
    rig.store.plan(fail("renew"))
    for _ in range(6):
        rig.time.advance(LEASE / 4)
        rig.engine.keeper._renew_due()
        rig.engine.keeper._stop_lost()
    assert attempt.stops == 1
    assert len(rig.events.of(events.LeaseLost)) == 1


def test_an_attempt_that_cannot_be_stopped_keeps_its_claim_if_nobody_took_it_over(rig: Rig) -> None:
    """A thread goes on whatever it is told; while it does, its key had better not be free (C3)."""
    claim = rig.claim(AGAIN)
    watch(rig, claim)
    rig.time.advance(LEASE)
    rig.engine.keeper._stop_lost()
    assert not rig.engine.keeper.holds(claim)
    rig.engine.keeper._renew_due()
    assert rig.engine.keeper.holds(claim)
    assert rig.checkpoint().lease_remaining_seconds == LEASE


def test_a_claim_that_the_store_says_is_lost_stops_the_attempt_at_once(rig: Rig) -> None:
    """C3, C4."""
    claim = rig.claim()
    attempt = watch(rig, claim)
    rig.store.run(partial(rig.store.verbs.park, claim, "by an operator"))
    rig.time.advance(LEASE / 2)
    rig.engine.keeper._renew_due()
    assert attempt.stops == 1
    assert rig.events.kinds == ["LeaseLost"]
    rig.engine.keeper._renew_due()
    assert rig.store.calls["renew"] == 1


def test_a_lost_claim_is_not_held_however_recent_its_last_renewal(rig: Rig) -> None:
    """Else a true response would leave while another attempt runs (D2)."""
    claim = rig.claim(AGAIN)
    watch(rig, claim)
    rig.store.run(partial(rig.store.verbs.release, claim))
    rig.claim(AGAIN)
    rig.time.advance(LEASE / 2)
    rig.engine.keeper._renew_due()
    assert not rig.engine.keeper.holds(claim)


def test_after_its_longest_duration_an_operation_is_stopped_and_no_longer_renewed(rig: Rig) -> None:
    """A hung handler never holds a key for ever (C8)."""
    attempt = watch(rig, rig.claim(), max_seconds=LEASE)
    rig.time.advance(LEASE / 2)
    rig.engine.keeper._renew_due()
    rig.time.advance(LEASE / 2)
    rig.engine.keeper._stop_lost()
    assert attempt.stops == 1
    assert [event.seconds for event in rig.events.of(events.Overran)] == [LEASE]
    rig.engine.keeper._renew_due()
    assert rig.store.calls["renew"] == 1
    rig.time.advance(LEASE / 2)
    assert len(rig.store.query(partial(rig.store.verbs.abandoned, 10))) == 1


def test_an_attempt_that_lost_its_lease_and_got_it_back_still_may_not_outlast_its_duration(rig: Rig) -> None:
    """C8."""
    attempt = watch(rig, rig.claim())
    rig.time.advance(LEASE)
    rig.engine.keeper._stop_lost()
    rig.engine.keeper._renew_due()
    rig.time.advance(LONGEST)
    rig.engine.keeper._stop_lost()
    rig.engine.keeper._renew_due()
    assert rig.events.kinds == ["LeaseLost", "Overran"]
    assert attempt.stops == 1
    assert rig.store.calls["renew"] == 1


def test_an_attempt_is_told_to_stop_when_its_own_process_takes_it_over(rig: Rig) -> None:
    """The store's clock may have jumped, so that the watchdog saw nothing (C2, C4)."""
    first = watch(rig, rig.claim(AGAIN))
    seen = rig.checkpoint()
    rig.store.run(partial(rig.store.verbs.hand_over, [seen.claim(LEASE)]))
    second = watch(rig, rig.claim(AGAIN))
    assert (first.stops, second.stops) == (1, 0)
    assert rig.events.kinds == ["LeaseLost"]


def test_forgetting_an_old_claim_leaves_the_new_one_alone(rig: Rig) -> None:
    """C4."""
    old = rig.claim(AGAIN)
    watch(rig, old)
    rig.store.run(partial(rig.store.verbs.hand_over, [old]))
    new = rig.claim(AGAIN)
    watch(rig, new)
    assert rig.engine.keeper.forget(old) is None
    rig.engine.keeper.abandon(old)
    rig.engine.keeper.keep(old)
    assert rig.engine.keeper.claims() == [new]
    assert rig.engine.keeper.forget(new) is not None
    assert rig.engine.keeper.claims() == []


def test_a_cut_off_attempt_is_left_to_its_lease_unless_its_outcome_waits_to_be_recorded(rig: Rig) -> None:
    """C7, D2."""
    cut, waiting = rig.claim(ONCE, "cut"), rig.claim(ONCE, "waiting")
    watch(rig, cut)
    attempt = watch(rig, waiting)
    rig.engine.keeper.keep(waiting)
    rig.engine.keeper.abandon(cut)
    rig.engine.keeper.abandon(waiting)
    assert rig.engine.keeper.claims() == [waiting]
    rig.time.advance(LEASE)
    rig.engine.keeper._stop_lost()
    assert not attempt.stops


def _threads(keeper: LeaseKeeper) -> Callable[[], list[threading.Thread]]:
    before = set(threading.enumerate())

    def alive() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread not in before]

    assert alive() == []
    return alive


@pytest.fixture
def keeper() -> Iterator[LeaseKeeper]:
    """With the host's own clock and a store that counts."""
    store = FaultyStore(MemoryStore())
    keeper = LeaseKeeper(store, SystemClock(), Events())
    yield keeper
    keeper.close()


def test_threads_start_with_the_first_claim_and_end_with_the_keeper(keeper: LeaseKeeper) -> None:
    """Two of our own: neither a busy loop nor a store that hangs may starve the watchdog (C3)."""
    alive = _threads(keeper)
    policy = Policy(lease=timedelta(hours=1), max_duration=timedelta(hours=2))
    store = keeper._store
    verdict = store.run(partial(store.verbs.claim, ask(policy)))
    keeper.watch(verdict.claim, sent_at=0.0, max_seconds=7200, stop=lambda: None)  # type: ignore[union-attr]
    assert sorted(thread.name for thread in alive()) == ["retrysafe-renewer", "retrysafe-watchdog"]
    keeper.close()
    until(lambda: alive() == [], "both threads have ended")


def test_a_shorter_lease_than_any_before_is_renewed_in_time(keeper: LeaseKeeper) -> None:
    """C3."""
    store, stops = keeper._store, Attempt()
    for key, lease in (("long", timedelta(hours=1)), ("short", timedelta(seconds=1))):
        policy = Policy(lease=lease, max_duration=timedelta(hours=2))
        sent_at = keeper._clock.monotonic()
        verdict = store.run(partial(store.verbs.claim, ask(policy, key)))
        keeper.watch(verdict.claim, sent_at=sent_at, max_seconds=7200, stop=stops.stop)  # type: ignore[union-attr]
    until(lambda: store.calls.get("renew", 0) >= 3, "the short lease is renewed thrice")  # type: ignore[attr-defined]
    assert not stops.stops


def test_whatever_is_raised_while_it_renews_the_next_renewal_follows() -> None:
    """A sink must not raise, and if it does, no claim may be lost for it (C3)."""
    told: list[events.Event] = []

    def sink(event: events.Event) -> None:
        told.append(event)
        raise ZeroDivisionError

    store = FaultyStore(MemoryStore(), fail("renew", call=1), fail("renew", call=2, error=RuntimeError))
    keeper = LeaseKeeper(store, SystemClock(), sink)
    verdict = store.run(partial(store.verbs.claim, ask(Policy(lease=timedelta(seconds=1)))))
    assert isinstance(verdict, Claimed)
    sent_at = keeper._clock.monotonic()
    keeper.watch(verdict.claim, sent_at=sent_at, max_seconds=300, stop=lambda: None)
    until(lambda: store.calls.get("renew", 0) >= 4, "it goes on after two that failed")
    keeper.close()
    assert [type(event) for event in told][:1] == [events.StoreFailed]


def test_an_attempt_whose_outcome_is_being_recorded_is_not_stopped_by_what_comes_behind(rig: Rig) -> None:
    """S7, D2: a renewal behind the record finds the operation ended, and that is no loss."""
    claim = rig.claim()
    attempt = watch(rig, claim)
    rig.engine.keeper.settling(claim, begins=True)
    rig.store.run(
        partial(rig.store.verbs.record, claim, b"outcome", retention_seconds=LONGEST, tombstone_seconds=LONGEST)
    )
    rig.time.advance(LEASE / 2)
    rig.engine.keeper._renew_due()
    rig.time.advance(LONGEST)
    rig.engine.keeper._stop_lost()
    assert attempt.stops == 0
    assert rig.events.of(events.LeaseLost) == []


def test_an_attempt_whose_record_has_failed_can_be_stopped_again(rig: Rig) -> None:
    """C3."""
    claim = rig.claim()
    attempt = watch(rig, claim)
    rig.engine.keeper.settling(claim, begins=True)
    rig.engine.keeper.settling(claim, begins=False)
    rig.time.advance(LEASE)
    rig.engine.keeper._stop_lost()
    assert attempt.stops == 1


def test_a_claim_that_no_thread_can_keep_alive_is_left_to_its_lease(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """C7: its request fails, so nothing may renew it until ``max_duration``; the next claim starts the threads."""

    def refuse(_: threading.Thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    keeper = LeaseKeeper(rig.store, rig.time, rig.events)
    keep = partial(keeper.watch, sent_at=rig.time.monotonic(), max_seconds=LONGEST, stop=Attempt().stop)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            keep(rig.claim())
    assert keeper.claims() == []
    claim = rig.claim(ONCE, "next")
    keep(claim)
    assert keeper.claims() == [claim]
    keeper.close()
