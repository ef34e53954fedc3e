"""Promises about time, retention, listings and what a store keeps for ever."""

# ruff: noqa: S101 - a promise is asserted

from __future__ import annotations

import pytest

from retrysafe.protocol.model import Mode
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import Claimed, Expired, InFlight
from retrysafe.stores.base import Capability, Purged, Query
from retrysafe.testing.asks import DAY_SECONDS, an_ask
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Runner


class UpkeepPromises:
    """How a store tells time, forgets and lists."""

    def test_a_store_keeps_its_pepper_and_its_secret(self, runner: Runner) -> None:
        """K4: 32 bytes each, the same at every opening."""
        meta = runner.open()
        assert (len(meta.pepper), len(meta.fingerprint_secret)) == (32, 32)
        assert meta.pepper != meta.fingerprint_secret
        assert runner.open() == meta

    def test_a_store_declares_what_it_can_do(self, runner: Runner) -> None:
        """D3: so that an operation that needs more is refused at construction."""
        traits = runner.store.traits
        assert traits.name
        assert Capability.LIST_ABANDONED in traits.capabilities

    def test_what_was_never_claimed_is_not_there(self, runner: Runner) -> None:
        """C1: reading makes nothing."""
        assert runner.look_up(an_ask()) is None
        assert isinstance(runner.claim(an_ask()), Claimed)

    @pytest.mark.parametrize("hours", [1, 24 * 365])
    def test_a_clock_set_back_neither_lengthens_nor_freezes_leases(
        self, runner: Runner, clock: ManualClock, hours: int
    ) -> None:
        """C2: the store's own clock goes on from where it was."""
        claim = runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10))
        clock.advance(4)
        before = runner.read(claim).now
        clock.step_back(hours * 3600)
        assert runner.read(claim).now == before
        clock.advance(4)
        verdict = runner.claim(an_ask(mode=Mode.AGAIN))
        assert isinstance(verdict, InFlight)
        assert verdict.checkpoint.lease_remaining_seconds == pytest.approx(2, abs=1e-3)
        clock.advance(2.001)
        assert [met.operation_id for met in runner.abandoned()] == [claim.operation_id]
        assert runner.claimed(an_ask(mode=Mode.AGAIN)).fence == 2

    def test_a_clock_set_back_again_and_again_loses_no_time(self, runner: Runner, clock: ManualClock) -> None:
        """C2: each step is made up for; only what passed between the last look and the step can't be known."""
        claim = runner.claimed(an_ask())
        begin = runner.read(claim).now
        for _ in range(20):
            clock.step_back(3600)
            runner.read(claim)
            clock.advance(30)
            runner.read(claim)
        assert runner.read(claim).now == pytest.approx(begin + 600, abs=1e-3)

    def test_outcomes_are_dropped_when_their_retention_is_over(self, runner: Runner, clock: ManualClock) -> None:
        """S10: the tombstone stays, and refuses a second run."""
        claim = runner.claimed(an_ask())
        runner.record(claim, retention_seconds=60, tombstone_seconds=900)
        clock.advance(59)
        assert runner.purge_all() == Purged(0, 0, more=False)
        clock.advance(1)
        assert runner.purge_all() == Purged(1, 0, more=False)
        met = runner.read(claim)
        assert (met.state, met.outcome) == (State.EXPIRED, None)
        assert runner.claim(an_ask()) == Expired(met)
        assert runner.purge_all() == Purged(0, 0, more=False)

    def test_tombstones_are_deleted_when_they_are_over(self, runner: Runner, clock: ManualClock) -> None:
        """S10: of finished, expired and released operations alike."""
        runner.record(runner.claimed(an_ask("expired")), retention_seconds=60, tombstone_seconds=9 * DAY_SECONDS)
        clock.advance(61)
        runner.purge_all()
        runner.record(runner.claimed(an_ask("done")), retention_seconds=DAY_SECONDS, tombstone_seconds=DAY_SECONDS)
        runner.release(runner.claimed(an_ask("released", tombstone_seconds=60)))
        clock.advance(10 * DAY_SECONDS)
        assert runner.purge_all() == Purged(0, 3, more=False)
        assert list(runner.listing()) == []

    def test_open_and_parked_operations_are_never_purged(self, runner: Runner, clock: ManualClock) -> None:
        """S10: however long they lie there."""
        runner.claimed(an_ask("running", tombstone_seconds=60))
        runner.begin_stream(runner.claimed(an_ask("streaming", tombstone_seconds=60)))
        runner.park(runner.claimed(an_ask("parked", tombstone_seconds=60)))
        before = [(met.operation_id, met.state) for met in runner.listing()]
        clock.advance(3650 * DAY_SECONDS)
        assert runner.purge_all() == Purged(0, 0, more=False)
        assert [(met.operation_id, met.state) for met in runner.listing()] == before

    def test_a_purge_touches_no_more_than_its_limit(self, runner: Runner, clock: ManualClock) -> None:
        """S10: and says that there is more."""
        for number in range(25):
            runner.record(runner.claimed(an_ask(f"key-{number}")), retention_seconds=60, tombstone_seconds=900)
        clock.advance(60)
        assert runner.purge(limit=10) == Purged(10, 0, more=True)
        assert runner.purge(limit=10) == Purged(10, 0, more=True)
        assert runner.purge_all(limit=10) == Purged(5, 0, more=False)
        clock.advance(900)
        assert runner.purge(limit=10) == Purged(0, 10, more=True)
        assert runner.purge_all(limit=10) == Purged(0, 15, more=False)

    def test_a_released_key_that_is_used_again_is_not_purged(self, runner: Runner, clock: ManualClock) -> None:
        """S6, S10: its tombstone begins anew with each claim."""
        for _ in range(3):
            runner.release(runner.claimed(an_ask(tombstone_seconds=100)))
            clock.advance(90)
            assert runner.purge_all() == Purged(0, 0, more=False)
        claim = runner.claimed(an_ask(tombstone_seconds=100))
        clock.advance(200)
        assert runner.purge_all() == Purged(0, 0, more=False)
        runner.record(claim, retention_seconds=60, tombstone_seconds=900)
        clock.advance(60)
        assert runner.purge_all() == Purged(1, 0, more=False)

    def test_a_key_used_again_after_its_deletion_is_purged_like_any_other(
        self, runner: Runner, clock: ManualClock
    ) -> None:
        """S10: nothing is forgotten because a place was used before."""
        for _ in range(3):
            for number in range(3):
                claim = runner.claimed(an_ask(f"key-{number}"))
                runner.record(claim, retention_seconds=60, tombstone_seconds=100)
            clock.advance(99)
            assert runner.purge_all() == Purged(3, 0, more=False)
            clock.advance(1)
            assert runner.purge_all() == Purged(0, 3, more=False)

    def test_a_listing_shows_the_newest_first_and_no_payloads(self, runner: Runner) -> None:
        """K8: nothing of what was asked or answered."""
        old = runner.claimed(an_ask("old", mode=Mode.AGAIN, request=b"secret"))
        new = runner.claimed(an_ask("new"))
        runner.record(new, b"secret")
        listed = runner.listing()
        assert [met.operation_id for met in listed] == [new.operation_id, old.operation_id]
        assert [(met.outcome, met.request) for met in listed] == [(None, None), (None, None)]
        assert listed[1].fingerprint == runner.read(old).fingerprint

    def test_a_listing_goes_on_behind_an_operation(self, runner: Runner) -> None:
        """S10: pages don't shift when something new is claimed meanwhile."""
        ids = [runner.claimed(an_ask(f"key-{number}")).operation_id for number in range(5)]
        first = [met.operation_id for met in runner.listing(Query(limit=2))]
        runner.claimed(an_ask("newer"))
        second = [met.operation_id for met in runner.listing(Query(limit=2, after=ids[1]))]
        middle = [met.operation_id for met in runner.listing(Query(limit=2, after=first[-1]))]
        assert (first, middle, second) == ([ids[4], ids[3]], [ids[2], ids[1]], [ids[0]])

    def test_a_listing_shows_what_was_asked_for(self, runner: Runner, clock: ManualClock) -> None:
        """R2: by state, by name, by operation id, and what is abandoned."""
        done = runner.claimed(an_ask("done", name="POST /a"))
        runner.record(done)
        parked = runner.claimed(an_ask("parked", name="POST /b"))
        runner.park(parked)
        dead = runner.claimed(an_ask("dead", name="POST /b", lease_seconds=10))
        alive = runner.claimed(an_ask("alive", name="POST /a", lease_seconds=99))
        clock.advance(20)
        cases = {
            Query(): [alive, dead, parked, done],
            Query(states=frozenset({State.DONE})): [done],
            Query(states=frozenset({State.PARKED})): [parked],
            Query(states=frozenset({State.RUNNING})): [alive, dead],
            Query(states=frozenset({State.RUNNING, State.PARKED}), name="POST /b"): [dead, parked],
            Query(states=frozenset({State.RUNNING, State.DONE})): [alive, dead, done],
            Query(abandoned=True): [dead],
            Query(name="POST /a"): [alive, done],
            Query(name="POST /a", after=alive.operation_id): [done],
            Query(operation_id=dead.operation_id): [dead],
            Query(operation_id="0190%"): [],
            Query(after="unknown"): [],
            Query(limit=3): [alive, dead, parked],
        }
        for query, expected in cases.items():
            found = [met.operation_id for met in runner.listing(query)]
            assert found == [claim.operation_id for claim in expected], query
