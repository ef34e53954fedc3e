"""Promises about claims: who gets one, and what stands in the way of the others."""

# ruff: noqa: S101 - a promise is asserted

from __future__ import annotations

from functools import partial

import pytest

from retrysafe.protocol.model import Claim, Mode
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import (
    ATTEMPTS_SPENT,
    LEASE_OVER_ONCE,
    Claimed,
    Expired,
    Finished,
    InFlight,
    Mismatch,
    Parked,
)
from retrysafe.testing.asks import DAY_SECONDS, an_ask
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Runner


class ClaimPromises:
    """What a claim finds."""

    def test_a_new_key_is_claimed_under_the_first_fence(self, runner: Runner) -> None:
        """C1: the claim is the checkpoint's, and the operation takes the first attempt's id."""
        ask = an_ask(mode=Mode.AGAIN, request=b"again", lease_seconds=7.5)
        claim = runner.claimed(ask)
        assert claim == Claim(ask.identity.digest, ask.attempt_id, 1, 1, Mode.AGAIN, ask.name, 7.5)
        met = runner.read(ask)
        assert (met.state, met.fence, met.attempt, met.deaths) == (State.RUNNING, 1, 1, 0)
        assert (met.operation_id, met.attempt_id) == (ask.attempt_id, ask.attempt_id)
        assert (met.namespace, met.principal, met.key_hint) == ("tests", "alice", ask.identity.key_hint)
        assert (met.fingerprint, met.request, met.outcome) == (ask.fingerprint.stored, b"again", None)

    def test_instants_of_a_claim_are_the_store_s(self, runner: Runner) -> None:
        """C2: they are its clock's, and the scan may look as soon as the first lease is over."""
        ask = an_ask(lease_seconds=10, tombstone_seconds=100, backoff_seconds=50)
        runner.claimed(ask)
        met = runner.read(ask)
        assert met.created_at == met.now
        assert (met.lease_until, met.due_at) == (met.now + 10, met.now + 10)
        assert met.tombstone_until == met.now + 100
        assert (met.finished_at, met.outcome_until, met.reason) == (None, None, None)

    def test_of_simultaneous_equal_claims_exactly_one_wins(self, runner: Runner) -> None:
        """C1: all others meet the winner's attempt."""
        verbs = runner.store.verbs
        verdicts = runner.together([partial(verbs.claim, an_ask()) for _ in range(16)])
        [winner] = [verdict for verdict in verdicts if isinstance(verdict, Claimed)]
        others = [verdict for verdict in verdicts if isinstance(verdict, InFlight)]
        assert len(others) == 15
        assert {other.checkpoint.operation_id for other in others} == {winner.claim.operation_id}

    def test_simultaneous_claims_of_different_keys_all_win(self, runner: Runner) -> None:
        """C1: a key stands in nobody else's way."""
        verbs = runner.store.verbs
        verdicts = runner.together([partial(verbs.claim, an_ask(f"key-{number}")) for number in range(16)])
        assert all(isinstance(verdict, Claimed) for verdict in verdicts)

    def test_an_attempt_in_flight_is_met_until_its_lease_ends(self, runner: Runner, clock: ManualClock) -> None:
        """C1, C5: the lease is judged when it is looked at."""
        runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10))
        clock.advance(9.5)
        verdict = runner.claim(an_ask(mode=Mode.AGAIN))
        assert isinstance(verdict, InFlight)
        assert verdict.checkpoint.lease_remaining_seconds == pytest.approx(0.5)
        clock.advance(0.5)
        assert runner.claimed(an_ask(mode=Mode.AGAIN)).fence == 2

    def test_a_claim_whose_answer_was_lost_is_told_again(self, runner: Runner) -> None:
        """D4: the same ask finds its own claim, and nobody else's."""
        ask = an_ask()
        assert runner.claim(ask) == runner.claim(ask)
        assert isinstance(runner.claim(an_ask()), InFlight)

    def test_a_finished_operation_is_replayed(self, runner: Runner) -> None:
        """S1: whoever comes later gets the recorded outcome."""
        claim = runner.claimed(an_ask())
        runner.record(claim, b"made")
        verdict = runner.claim(an_ask())
        assert isinstance(verdict, Finished)
        assert (verdict.checkpoint.outcome, verdict.checkpoint.operation_id) == (b"made", claim.operation_id)

    @pytest.mark.parametrize("state", ["in flight", "released", "parked", "done", "expired"])
    def test_another_fingerprint_is_a_mismatch_in_every_state(
        self, runner: Runner, clock: ManualClock, state: str
    ) -> None:
        """F1: before everything else, also while in flight."""
        claim = runner.claimed(an_ask())
        match state:
            case "released":
                runner.release(claim)
            case "parked":
                runner.park(claim)
            case "done" | "expired":
                runner.record(claim)
            case _:
                pass
        if state == "expired":
            clock.advance(2 * DAY_SECONDS)
            runner.purge_all()
        before = runner.read(claim)
        assert runner.claim(an_ask(body="charge 11")) == Mismatch(before)
        assert runner.read(claim) == before

    def test_a_released_key_is_claimed_again_as_the_same_operation(self, runner: Runner, clock: ManualClock) -> None:
        """S6, C6: operation id and birth stay, fence and attempt grow, and nobody died."""
        first = an_ask(mode=Mode.AGAIN, name="POST /old", request=b"old")
        runner.release(runner.claimed(first))
        clock.advance(60)
        second = an_ask(name="POST /new", mode=Mode.AGAIN, request=b"new", lease_seconds=5)
        claim = runner.claimed(second)
        assert (claim.operation_id, claim.fence, claim.attempt) == (first.attempt_id, 2, 2)
        assert (claim.name, claim.lease_seconds) == ("POST /new", 5)
        met = runner.read(claim)
        assert (met.deaths, met.attempt_id, met.name, met.request) == (
            0,
            second.attempt_id,
            "POST /new",
            b"new",
        )
        assert (met.created_at, met.lease_until, met.due_at) == (met.now - 60, met.now + 5, met.now + 5)
        assert met.tombstone_until == met.now + second.tombstone_seconds

    def test_an_abandoned_once_operation_is_parked_by_the_claim_that_meets_it(
        self, runner: Runner, clock: ManualClock
    ) -> None:
        """R8: the unknown is told honestly, and nothing runs again by itself."""
        claim = runner.claimed(an_ask(lease_seconds=10))
        clock.advance(10)
        verdict = runner.claim(an_ask())
        assert isinstance(verdict, Parked)
        met = runner.read(claim)
        assert verdict.checkpoint == met
        assert (met.state, met.reason, met.fence, met.deaths) == (State.PARKED, LEASE_OVER_ONCE, 1, 1)
        assert runner.claim(an_ask()) == Parked(met)

    def test_an_abandoned_again_operation_is_taken_over_by_the_claim_that_meets_it(
        self, runner: Runner, clock: ManualClock
    ) -> None:
        """R8, C6: the dead attempt counts, and from then on the scan leaves the back-off before it looks."""
        first = an_ask(mode=Mode.AGAIN, lease_seconds=10)
        runner.claimed(first)
        clock.advance(11)
        claim = runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10, backoff_seconds=4))
        assert (claim.operation_id, claim.fence, claim.attempt) == (first.attempt_id, 2, 2)
        met = runner.read(claim)
        assert (met.deaths, met.lease_until, met.due_at) == (1, met.now + 10, met.now + 14)

    def test_an_again_operation_is_parked_when_its_attempts_are_spent(self, runner: Runner, clock: ManualClock) -> None:
        """R8: an operation that kills its process cannot loop."""
        for _ in range(3):
            runner.claimed(an_ask(mode=Mode.AGAIN, attempts=3, lease_seconds=10))
            clock.advance(10)
        verdict = runner.claim(an_ask(mode=Mode.AGAIN, attempts=3))
        assert isinstance(verdict, Parked)
        assert (verdict.checkpoint.reason, verdict.checkpoint.deaths) == (ATTEMPTS_SPENT, 3)

    def test_the_end_of_retention_is_judged_when_it_is_looked_at(self, runner: Runner, clock: ManualClock) -> None:
        """C5, S10: no sweeper has to come by first."""
        runner.record(runner.claimed(an_ask()), retention_seconds=60, tombstone_seconds=90)
        clock.advance(59)
        assert isinstance(runner.claim(an_ask()), Finished)
        clock.advance(1)
        assert isinstance(runner.claim(an_ask()), Expired)

    def test_a_key_whose_tombstone_is_over_names_a_new_operation(self, runner: Runner, clock: ManualClock) -> None:
        """C6, S10: with a new id, the first fence, another intent if the client likes, and nothing of the old one."""
        old = runner.claimed(an_ask())
        runner.record(old, retention_seconds=60, tombstone_seconds=90)
        runner.claimed(an_ask("another-key"))
        clock.advance(90)
        ask = an_ask(body="charge 11")
        claim = runner.claimed(ask)
        assert (claim.operation_id, claim.fence, claim.attempt) == (ask.attempt_id, 1, 1)
        met = runner.read(claim)
        assert (met.created_at, met.outcome, met.finished_at, met.deaths) == (met.now, None, None, 0)
        assert runner.listing()[0].operation_id == claim.operation_id

    def test_a_released_key_is_remembered_until_its_tombstone_is_over(self, runner: Runner, clock: ManualClock) -> None:
        """S6: then it is free for any request."""
        runner.release(runner.claimed(an_ask(tombstone_seconds=100)))
        clock.advance(99)
        assert isinstance(runner.claim(an_ask(body="charge 11")), Mismatch)
        clock.advance(1)
        ask = an_ask(body="charge 11")
        assert runner.claimed(ask).operation_id == ask.attempt_id

    def test_an_open_or_parked_operation_outlives_its_tombstone(self, runner: Runner, clock: ManualClock) -> None:
        """S10: while nobody knows how it ended, its key is never free."""
        runner.claimed(an_ask("running", lease_seconds=300, tombstone_seconds=100))
        runner.park(runner.claimed(an_ask("parked", tombstone_seconds=100)))
        clock.advance(200)
        assert isinstance(runner.claim(an_ask("running")), InFlight)
        assert isinstance(runner.claim(an_ask("parked")), Parked)
