"""Promises about putting an operation off, and about turning back."""

# ruff: noqa: S101 - a promise is asserted

from __future__ import annotations

from collections.abc import Callable

import pytest

from retrysafe.protocol.effects import Superseded, Written
from retrysafe.protocol.model import Claim, Limits, Mode
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import PIVOT, StepKind, StepStatus
from retrysafe.protocol.verdicts import Finished, InFlight, Parked
from retrysafe.stores.base import Held, Purged
from retrysafe.testing.asks import a_memo, an_ask, some_terms
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Runner

LEAVES: dict[str, Callable[[Runner, Claim], object]] = {
    "released": Runner.release,
    "parked": Runner.park,
    "done": Runner.record,
}
"""How an attempt ends its operation's lease for good."""


class UndoPromises:
    """How an attempt leaves its operation to the next one, and how an operation is undone."""

    @pytest.mark.parametrize("state", [State.RUNNING, State.STREAMING, State.UNDOING])
    def test_a_postponed_operation_is_left_alone_until_it_is_due(
        self, runner: Runner, clock: ManualClock, state: State
    ) -> None:
        """R8: its lease is over at once, its state and its fence stay, and the last attempt counts as dead."""
        claim = _claimed(runner)
        if state is State.STREAMING:
            runner.begin_stream(claim)
        elif state is State.UNDOING:
            runner.begin_undo(claim)
        clock.advance(3)
        assert runner.postpone(claim, 60, "the bank is closed") == Written()
        met = runner.read(claim)
        assert (met.state, met.fence, met.deaths, met.reason) == (state, 1, 0, "the bank is closed")
        assert (met.lease_until, met.due_at) == (met.now, met.now + 60)
        clock.advance(59)
        assert (list(runner.abandoned()), list(runner.dispatch())) == ([], [])
        clock.advance(1)
        [seen] = runner.abandoned()
        claim = runner.reclaimed(seen)
        assert (claim.fence, claim.deaths, claim.undoing) == (2, 1, state is State.UNDOING)

    @pytest.mark.parametrize("by_client", [True, False], ids=["a client", "the scan"])
    def test_what_has_passed_its_pivot_is_parked_and_not_undone_when_its_attempts_are_spent(
        self, runner: Runner, clock: ManualClock, *, by_client: bool
    ) -> None:
        """R7, R8: and it can still go on forward."""
        limits = Limits(1, undo=True)
        claim = runner.claimed(an_ask(mode=Mode.STEPS, limits=limits, lease_seconds=10))
        done = StepStatus.DONE
        assert runner.memoize(claim, a_memo(PIVOT, kind=StepKind.PIVOT, status=done)) == Written()
        clock.advance(20)
        if by_client:
            assert isinstance(runner.claim(an_ask(mode=Mode.STEPS, limits=limits)), Parked)
        else:
            [seen] = runner.abandoned()
            assert isinstance(runner.reclaim(seen, some_terms(limits=limits)), Parked)
        met = runner.read(claim)
        assert (met.state, met.undoing) == (State.PARKED, False)

    @pytest.mark.parametrize("mode", [Mode.STEPS, Mode.TRANSACTION])
    def test_a_client_s_retry_does_not_hurry_a_postponed_operation(
        self, runner: Runner, clock: ManualClock, mode: Mode
    ) -> None:
        """R8, R7: a call may still be under way; once it is due, the retry takes over like the scan."""
        runner.postpone(runner.claimed(an_ask(mode=mode)), 60)
        clock.advance(59)
        verdict = runner.claim(an_ask(mode=mode))
        assert isinstance(verdict, InFlight)
        assert verdict.checkpoint.due_at == verdict.checkpoint.now + 1
        clock.advance(1)
        claim = runner.claimed(an_ask(mode=mode))
        assert (claim.fence, claim.deaths) == (2, 1)
        assert runner.read(claim).reason is None

    @pytest.mark.parametrize("leave", LEAVES.values(), ids=list(LEAVES))
    def test_only_an_open_operation_can_be_postponed(
        self, runner: Runner, leave: Callable[[Runner, Claim], object]
    ) -> None:
        """C4: what is released, parked or done has no lease to end."""
        claim = _claimed(runner)
        leave(runner, claim)
        before = runner.read(claim)
        assert runner.postpone(claim) == Superseded()
        assert runner.read(claim) == before

    def test_an_attempt_turns_back_under_its_own_claim(self, runner: Runner, clock: ManualClock) -> None:
        """R7, I9: fence and lease go on, attempts are counted anew, and what it answered is kept for the end."""
        _claimed(runner)
        clock.advance(10)
        claim = _claimed(runner)
        before = runner.read(claim)
        assert before.deaths == 1
        assert runner.begin_undo(claim, "the bank said no", b"402") == Written()
        met = runner.read(claim)
        assert (met.state, met.undoing, met.deaths) == (State.UNDOING, True, 0)
        assert (met.outcome, met.reason, met.finished_at) == (b"402", "the bank said no", None)
        assert (met.fence, met.attempt, met.lease_until) == (before.fence, before.attempt, before.lease_until)
        assert runner.renew(claim) == [Held()]
        assert isinstance(runner.claim(an_ask(mode=Mode.STEPS)), InFlight)

    def test_turning_back_twice_changes_nothing(self, runner: Runner) -> None:
        """D4: the first reason and the first outcome stay."""
        claim = _claimed(runner)
        runner.begin_undo(claim, "first", b"first")
        before = runner.read(claim)
        assert runner.begin_undo(claim, "second", b"second") == Written()
        assert runner.read(claim) == before

    @pytest.mark.parametrize("leave", [*LEAVES.values(), Runner.begin_stream], ids=[*LEAVES, "streaming"])
    def test_only_a_running_operation_turns_back(
        self, runner: Runner, leave: Callable[[Runner, Claim], object]
    ) -> None:
        """R7: what has begun to leave as a success is not undone behind its client's back."""
        claim = _claimed(runner)
        leave(runner, claim)
        before = runner.read(claim)
        assert runner.begin_undo(claim) == Superseded()
        assert runner.read(claim) == before

    def test_an_operation_that_turned_back_never_goes_forward_again(self, runner: Runner) -> None:
        """I9: it is neither done nor released nor streamed."""
        claim = _claimed(runner)
        runner.begin_undo(claim)
        before = runner.read(claim)
        for write in (runner.record, runner.release, runner.begin_stream):
            assert write(claim) == Superseded()
        assert runner.read(claim) == before

    @pytest.mark.parametrize("who", ["client", "scan"])
    def test_whoever_takes_over_goes_on_undoing(self, runner: Runner, clock: ManualClock, who: str) -> None:
        """R7, R8, I9: with a right to undo, under the next fence; the outcome that was found stays for the end."""
        claim = _claimed(runner)
        runner.begin_undo(claim, "the bank said no", b"402")
        clock.advance(10)
        taken = _claimed(runner) if who == "client" else runner.reclaimed(runner.abandoned()[0])
        assert (taken.fence, taken.deaths, taken.undoing) == (2, 1, True)
        met = runner.read(taken)
        assert (met.state, met.undoing, met.deaths) == (State.UNDOING, True, 1)
        assert (met.outcome, met.reason) == (b"402", "the bank said no")
        assert runner.record(claim, undone=True) == Superseded()
        assert runner.record(taken, undone=True) == Written()

    def test_an_undone_operation_is_final(self, runner: Runner, clock: ManualClock) -> None:
        """I1, S1, R13: it is replayed, its request is erased, and it expires like any other."""
        claim = runner.claimed(an_ask(mode=Mode.STEPS, request=b"card number"))
        runner.begin_undo(claim, outcome=b"402")
        receipt = runner.record(claim, b"undone", undone=True, retention_seconds=60, tombstone_seconds=90)
        assert receipt == Written()
        met = runner.read(claim)
        assert (met.state, met.outcome, met.request, met.reason) == (State.UNDONE, b"undone", None, None)
        assert (met.finished_at, met.outcome_until, met.tombstone_until) == (met.now, met.now + 60, met.now + 90)
        assert runner.claim(an_ask(mode=Mode.STEPS)) == Finished(met)
        assert runner.record(claim, b"again", undone=True) == Written()
        assert runner.record(claim, b"again") == Superseded()
        assert runner.read(claim) == met
        clock.advance(60)
        assert runner.purge_all() == Purged(1, 0, more=False)
        assert runner.read(claim).outcome is None

    def test_a_running_operation_cannot_be_recorded_as_undone(self, runner: Runner) -> None:
        """R7: it has to turn back first."""
        claim = _claimed(runner)
        before = runner.read(claim)
        assert runner.record(claim, undone=True) == Superseded()
        assert runner.read(claim) == before

    def test_a_parked_undo_takes_the_truth_from_its_late_attempt(self, runner: Runner, clock: ManualClock) -> None:
        """C4, R8: it was parked because its attempts were spent, but the last of them came through."""
        claim = _claimed(runner)
        runner.begin_undo(claim)
        clock.advance(10)
        [seen] = runner.abandoned()
        assert isinstance(runner.reclaim(seen, some_terms(limits=Limits(9, undo_attempts=1))), Parked)
        met = runner.read(claim)
        assert (met.state, met.undoing, met.deaths) == (State.PARKED, True, 1)
        assert runner.record(claim, b"undone", undone=True) == Written()
        assert runner.read(claim).state is State.UNDONE

    def test_the_code_s_version_is_the_first_claim_s(self, runner: Runner, clock: ManualClock) -> None:
        """R13, R4: later code may know a step by another name, so whoever goes on is told which code began."""
        assert runner.claimed(an_ask(mode=Mode.STEPS, version=3, lease_seconds=10)).version == 3
        clock.advance(10)
        claim = runner.claimed(an_ask(mode=Mode.STEPS, version=4, lease_seconds=10))
        assert (claim.version, runner.read(claim).version) == (3, 3)
        runner.release(claim)
        assert runner.claimed(an_ask(mode=Mode.STEPS, version=5, lease_seconds=10)).version == 3
        clock.advance(10)
        [seen] = runner.abandoned()
        assert runner.reclaimed(seen).version == 3


def _claimed(runner: Runner) -> Claim:
    """Claim an operation made of steps, for 10 s."""
    return runner.claimed(an_ask(mode=Mode.STEPS, lease_seconds=10))
