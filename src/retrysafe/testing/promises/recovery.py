"""Promises about what dead attempts leave behind."""

# ruff: noqa: S101 - a promise is asserted

from __future__ import annotations

from functools import partial

from retrysafe.protocol.effects import Superseded, Written
from retrysafe.protocol.model import Checkpoint, Mode
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import ATTEMPTS_SPENT, LEASE_OVER_ONCE, Claimed, Parked
from retrysafe.testing.asks import an_ask, new_attempt_id, some_terms
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Runner


class RecoveryPromises:
    """How abandoned operations are found and settled."""

    def test_an_operation_is_abandoned_when_its_lease_is_over(self, runner: Runner, clock: ManualClock) -> None:
        """R2: by the store's clock, whatever its mode, with all that a re-run needs."""
        once = runner.claimed(an_ask("once", lease_seconds=10, backoff_seconds=99))
        again = runner.claimed(an_ask("again", mode=Mode.AGAIN, lease_seconds=10, request=b"again"))
        clock.advance(9.5)
        assert list(runner.abandoned()) == []
        clock.advance(0.5)
        assert list(runner.abandoned()) == [runner.read(once), runner.read(again)]
        assert runner.abandoned()[1].request == b"again"

    def test_only_open_operations_are_abandoned(self, runner: Runner, clock: ManualClock) -> None:
        """R2: what is finished, released or parked has nobody to wait for; a stream that broke has."""
        runner.record(runner.claimed(an_ask("done")))
        runner.release(runner.claimed(an_ask("released")))
        runner.park(runner.claimed(an_ask("parked")))
        streaming = runner.claimed(an_ask("streaming"))
        runner.begin_stream(streaming)
        clock.advance(60)
        assert list(runner.abandoned()) == [runner.read(streaming)]

    def test_the_oldest_leases_are_listed_first(self, runner: Runner, clock: ManualClock) -> None:
        """R2: so that a limit starves nobody."""
        asks = [an_ask(f"key-{lease}", lease_seconds=lease) for lease in (30, 10, 20)]
        for ask in asks:
            runner.claimed(ask)
        clock.advance(60)
        found = runner.abandoned(limit=2)
        assert [met.operation_id for met in found] == [asks[1].attempt_id, asks[2].attempt_id]

    def test_the_back_off_counts_only_for_operations_that_lost_an_attempt(
        self, runner: Runner, clock: ManualClock
    ) -> None:
        """R8: the first death is noticed as soon as the lease is over, the next after the back-off."""
        ask = an_ask(mode=Mode.AGAIN, lease_seconds=10, backoff_seconds=100)
        runner.claimed(ask)
        clock.advance(10)
        [seen] = runner.abandoned()
        assert isinstance(runner.reclaim(seen, some_terms(lease_seconds=10, backoff_seconds=100)), Claimed)
        clock.advance(50)
        assert list(runner.abandoned()) == []
        clock.advance(60)
        assert [met.fence for met in runner.abandoned()] == [2]

    def test_a_claim_handed_over_is_abandoned_at_once(self, runner: Runner) -> None:
        """C7: nobody has to wait for a lease whose attempt has stopped; the others keep theirs."""
        asks = [an_ask(f"key-{number}") for number in range(450)]
        claims = [runner.claimed(ask) for ask in asks]
        runner.record(claims[3])
        before = runner.read(claims[3])
        runner.hand_over(*claims[:3], claims[3], *claims[5:])
        runner.hand_over()
        assert len(runner.abandoned(limit=1000)) == 448
        assert runner.read(claims[3]) == before
        assert runner.read(claims[4]).lease_remaining_seconds == claims[4].lease_seconds

    def test_a_lost_claim_cannot_be_handed_over(self, runner: Runner, clock: ManualClock) -> None:
        """C4, C7: the lease of the attempt that took over runs on."""
        lost = runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10))
        clock.advance(10)
        runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10))
        runner.hand_over(lost)
        assert runner.read(lost).lease_remaining_seconds == 10

    def test_an_abandoned_again_operation_is_taken_over(self, runner: Runner, clock: ManualClock) -> None:
        """R1, R8: under the next fence; the dead attempt counts, and its writes are refused from then on."""
        ask = an_ask(mode=Mode.AGAIN, lease_seconds=10, request=b"again")
        dead = runner.claimed(ask)
        seen = self._abandoned(runner, clock)
        attempt_id = new_attempt_id()
        verdict = runner.reclaim(seen, some_terms(attempt_id=attempt_id, lease_seconds=20, backoff_seconds=4))
        assert isinstance(verdict, Claimed)
        claim = verdict.claim
        assert (claim.operation_id, claim.fence, claim.attempt) == (ask.attempt_id, 2, 2)
        assert (claim.mode, claim.name, claim.lease_seconds) == (Mode.AGAIN, ask.name, 20)
        met = runner.read(claim)
        assert (met.deaths, met.attempt_id, met.request) == (1, attempt_id, b"again")
        assert (met.lease_until, met.due_at) == (met.now + 20, met.now + 24)
        assert runner.record(dead) == Superseded()
        assert runner.record(claim) == Written()

    def test_an_abandoned_once_operation_is_parked(self, runner: Runner, clock: ManualClock) -> None:
        """R8: its fence stays, so that the late attempt may still tell the truth."""
        claim = runner.claimed(an_ask(lease_seconds=10))
        verdict = runner.reclaim(self._abandoned(runner, clock))
        met = runner.read(claim)
        assert verdict == Parked(met)
        assert (met.state, met.reason, met.fence, met.deaths) == (State.PARKED, LEASE_OVER_ONCE, 1, 1)

    def test_a_stream_that_broke_is_settled_by_its_mode(self, runner: Runner, clock: ManualClock) -> None:
        """S5: parked when it may run once, run again when it may."""
        for key, mode in (("once", Mode.ONCE), ("again", Mode.AGAIN)):
            runner.begin_stream(runner.claimed(an_ask(key, mode=mode, lease_seconds=10)))
        clock.advance(10)
        once, again = runner.abandoned()
        assert isinstance(runner.reclaim(once), Parked)
        verdict = runner.reclaim(again)
        assert isinstance(verdict, Claimed)
        assert runner.read(verdict.claim).state is State.RUNNING

    def test_an_operation_whose_attempts_are_spent_is_parked(self, runner: Runner, clock: ManualClock) -> None:
        """R8: whoever takes over says how many may die."""
        claim = runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10))
        assert isinstance(runner.reclaim(self._abandoned(runner, clock), some_terms(attempts=2)), Claimed)
        assert isinstance(runner.reclaim(self._abandoned(runner, clock), some_terms(attempts=2)), Parked)
        met = runner.read(claim)
        assert (met.reason, met.deaths, met.attempt) == (ATTEMPTS_SPENT, 2, 2)

    def test_of_many_scanners_exactly_one_takes_over(self, runner: Runner, clock: ManualClock) -> None:
        """R1, R2: the others are told nothing, in either mode."""
        for mode in Mode:
            runner.claimed(an_ask(mode.value, mode=mode, lease_seconds=10))
            seen = self._abandoned(runner, clock)
            verbs = runner.store.verbs
            programs = [partial(verbs.reclaim, seen, some_terms(lease_seconds=9_000_000)) for _ in range(8)]
            verdicts = [verdict for verdict in runner.together(programs) if verdict is not None]
            assert [type(verdict) for verdict in verdicts] == [Parked if mode is Mode.ONCE else Claimed]

    def test_a_take_over_whose_answer_was_lost_is_told_again(self, runner: Runner, clock: ManualClock) -> None:
        """D4: by its attempt id, whether it took over or parked."""
        for mode in Mode:
            runner.claimed(an_ask(mode.value, mode=mode, lease_seconds=10))
            seen = self._abandoned(runner, clock)
            terms = some_terms(lease_seconds=9_000_000)
            first = runner.reclaim(seen, terms)
            assert first is not None
            assert runner.reclaim(seen, terms) == first

    def test_what_came_to_life_again_is_left_alone(self, runner: Runner, clock: ManualClock) -> None:
        """R1: the scan may have looked a while ago; what it saw must still be so."""
        claims = {
            key: runner.claimed(an_ask(key, mode=Mode.AGAIN, lease_seconds=10))
            for key in ("renewed", "recorded", "released", "claimed", "parked")
        }
        clock.advance(10)
        seen = dict(zip(claims, runner.abandoned(), strict=True))
        runner.renew(claims["renewed"])
        runner.record(claims["recorded"])
        runner.release(claims["released"])
        runner.claimed(an_ask("claimed", mode=Mode.AGAIN))
        runner.park(claims["parked"])
        before = {key: runner.read(claim) for key, claim in claims.items()}
        assert [runner.reclaim(found) for found in seen.values()] == [None] * 5
        assert {key: runner.read(claim) for key, claim in claims.items()} == before

    def test_what_was_deleted_meanwhile_is_left_alone(self, runner: Runner, clock: ManualClock) -> None:
        """R1, C6: also when its key names another operation now."""
        claim = runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10, tombstone_seconds=100))
        seen = self._abandoned(runner, clock)
        runner.release(claim)
        clock.advance(100)
        runner.purge_all()
        assert runner.reclaim(seen) is None
        runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10))
        clock.advance(10)
        assert runner.reclaim(seen) is None

    @staticmethod
    def _abandoned(runner: Runner, clock: ManualClock) -> Checkpoint:
        """Let every lease run out, and return the one operation that is abandoned."""
        clock.advance(1000)
        [seen] = runner.abandoned()
        return seen
