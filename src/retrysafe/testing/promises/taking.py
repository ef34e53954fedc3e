"""Promises about who is told of abandoned operations, and what a take-over may do with one whose attempts are spent."""

# ruff: noqa: S101 - a promise is asserted

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from retrysafe.protocol.model import Ask, Checkpoint, Claim, Limits, Mode
from retrysafe.protocol.operator import Verb
from retrysafe.protocol.states import State
from retrysafe.protocol.verdicts import ATTEMPTS_SPENT, UNDO_ATTEMPTS_SPENT, Claimed, Parked, Verdict
from retrysafe.stores.base import Wanted
from retrysafe.testing.asks import NAMESPACES, an_ask, an_intervention, some_terms
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Runner

RUNNABLE = frozenset({Mode.AGAIN, Mode.STEPS, Mode.TRANSACTION})

Taker = Callable[[Runner, Limits], Verdict | None]


def _by_a_client(runner: Runner, limits: Limits) -> Verdict:
    return runner.claim(an_ask(mode=Mode.STEPS, limits=limits, lease_seconds=10))


def _by_the_scan(runner: Runner, limits: Limits) -> Verdict | None:
    [seen] = runner.abandoned()
    return runner.reclaim(seen, some_terms(limits=limits, lease_seconds=10))


every_taker = pytest.mark.parametrize("take", [_by_a_client, _by_the_scan], ids=["client", "scan"])


def _hand_over_again(runner: Runner, seen: Checkpoint) -> None:
    runner.hand_over(runner.reclaimed(seen))


def _postpone_late(runner: Runner, seen: Checkpoint) -> None:
    runner.postpone(seen.claim(10), 0)


def _resume(runner: Runner, seen: Checkpoint) -> None:
    runner.intervened(seen, an_intervention(Verb.RESUME))


class TakingPromises:
    """Who is told of abandoned operations, and what becomes of them in the end."""

    def test_what_is_abandoned_and_due_is_told_oldest_lease_first(self, runner: Runner, clock: ManualClock) -> None:
        """R2, R8, R13: with all that a re-run needs; what is in flight or backs off is not told."""
        asks = {lease: _again(f"key-{lease}", lease_seconds=lease) for lease in (30, 10, 20, 900)}
        for ask in asks.values():
            runner.claimed(ask)
        runner.postpone(runner.claimed(_again("backs off")), 99)
        clock.advance(60)
        told = [runner.read(asks[lease]) for lease in (10, 20, 30)]
        assert told[0].request == b"again"
        assert list(runner.dispatch()) == told

    def test_telling_grants_nothing(self, runner: Runner, clock: ManualClock) -> None:
        """R1, R2: the checkpoint is as it was, and whoever comes first takes over, told or not."""
        claim = runner.claimed(_again())
        clock.advance(10)
        before = runner.read(claim)
        assert list(runner.dispatch()) == [before]
        assert runner.read(claim) == before
        assert list(runner.abandoned()) == [before]
        assert isinstance(runner.reclaim(before), Claimed)

    def test_of_many_who_ask_at_once_each_operation_is_told_to_one(self, runner: Runner, clock: ManualClock) -> None:
        """R2: and none is forgotten."""
        for number in range(12):
            runner.claimed(_again(f"key-{number}"))
        clock.advance(60)
        wanted = Wanted("tests", RUNNABLE)
        answers = runner.together([partial(runner.store.verbs.dispatch, wanted, 3) for _ in range(8)])
        assert max(map(len, answers)) <= 3
        answers.append(runner.dispatch())
        told = [seen.operation_id for answer in answers for seen in answer]
        assert sorted(told) == sorted(met.operation_id for met in runner.listing())
        assert list(runner.dispatch()) == []

    def test_what_is_not_claimed_is_told_again_less_and_less_often(self, runner: Runner, clock: ManualClock) -> None:
        """R2: after as long as it has been due, at least 1 s and at most 5 min."""
        runner.claimed(_again())
        clock.advance(10)
        assert len(runner.dispatch()) == 1
        for pause in (1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300):
            clock.advance(pause - 0.5)
            assert list(runner.dispatch()) == []
            clock.advance(0.5)
            assert len(runner.dispatch()) == 1

    def test_what_was_told_hides_nothing_behind_it(self, runner: Runner, clock: ManualClock) -> None:
        """R2: a limit starves nobody."""
        asks = [_again(f"key-{number}", lease_seconds=10 + number) for number in range(3)]
        for ask in asks:
            runner.claimed(ask)
        clock.advance(60)
        told = [seen.operation_id for _ in asks for seen in runner.dispatch(limit=1)]
        assert told == [ask.attempt_id for ask in asks]

    @pytest.mark.parametrize(
        "move", [_hand_over_again, _postpone_late, _resume], ids=["take-over", "postponement", "resumption"]
    )
    def test_what_moved_since_it_was_told_is_told_anew(
        self, runner: Runner, clock: ManualClock, move: Callable[[Runner, Checkpoint], None]
    ) -> None:
        """R2, C7: nobody waits for a note that was about an attempt before."""
        runner.claimed(_again())
        clock.advance(1000)
        [seen] = runner.dispatch()
        assert list(runner.dispatch()) == []
        move(runner, seen)
        assert [met.operation_id for met in runner.dispatch()] == [seen.operation_id]

    def test_only_what_the_asker_can_run_is_told_to_it(self, runner: Runner, clock: ManualClock) -> None:
        """R2, R13: what may run once is for everyone, because parking it needs nothing of its application."""
        asks = {
            (namespace, mode, name): an_ask(f"{mode}-{name}", mode=mode, name=name, namespace=namespace)
            for namespace in NAMESPACES
            for mode in Mode
            for name in ("POST /a", "POST /b,c*")
        }
        for ask in asks.values():
            runner.claimed(ask)
        cases = [
            (RUNNABLE, None),
            (frozenset({Mode.STEPS}), None),
            (RUNNABLE, frozenset({"POST /b,c*", "POST /c"})),
            (frozenset({Mode.AGAIN, Mode.TRANSACTION}), frozenset({"POST /a", "POST /b,c*"})),
            (RUNNABLE, frozenset[str]()),
            (frozenset[Mode](), None),
        ]
        for modes, names in cases:
            clock.advance(900)
            told = {seen.operation_id for seen in runner.dispatch(Wanted("tests", modes, names))}
            assert told == {
                ask.attempt_id
                for (namespace, mode, name), ask in asks.items()
                if mode is Mode.ONCE or (namespace == "tests" and mode in modes and (names is None or name in names))
            }

    @every_taker
    def test_steps_whose_attempts_are_spent_are_undone_where_that_is_wanted(
        self, runner: Runner, clock: ManualClock, take: Taker
    ) -> None:
        """R8, R7: attempts to undo are counted anew, and are spent some day, too."""
        claim = _abandoned_steps(runner, clock)
        limits = Limits(2, undo=True, undo_attempts=2)
        assert _taken(take(runner, limits)) == (State.RUNNING, 1)
        clock.advance(10)
        assert _taken(take(runner, limits)) == (State.UNDOING, 0)
        met = runner.read(claim)
        assert (met.state, met.undoing, met.deaths, met.fence) == (State.UNDOING, True, 0, 3)
        clock.advance(10)
        assert _taken(take(runner, limits)) == (State.UNDOING, 1)
        clock.advance(10)
        assert isinstance(take(runner, limits), Parked)
        met = runner.read(claim)
        assert (met.state, met.undoing, met.deaths, met.fence) == (State.PARKED, True, 2, 4)
        assert met.reason == UNDO_ATTEMPTS_SPENT

    @every_taker
    def test_steps_whose_attempts_are_spent_are_parked_where_undoing_is_not_wanted(
        self, runner: Runner, clock: ManualClock, take: Taker
    ) -> None:
        """R8: a person decides."""
        claim = _abandoned_steps(runner, clock)
        assert isinstance(take(runner, Limits(1)), Parked)
        met = runner.read(claim)
        assert (met.state, met.undoing, met.reason) == (State.PARKED, False, ATTEMPTS_SPENT)

    @every_taker
    def test_a_stream_that_broke_is_not_undone(self, runner: Runner, clock: ManualClock, take: Taker) -> None:
        """R8, S5: what has begun to leave as a success is not undone behind its client's back."""
        claim = runner.claimed(an_ask(mode=Mode.STEPS, lease_seconds=10))
        runner.begin_stream(claim)
        clock.advance(10)
        assert isinstance(take(runner, Limits(1, undo=True)), Parked)
        assert runner.read(claim).reason == ATTEMPTS_SPENT

    def test_only_steps_can_be_undone(self, runner: Runner, clock: ManualClock) -> None:
        """R8, R7: whatever the terms say."""
        for mode in (Mode.AGAIN, Mode.TRANSACTION):
            runner.claimed(an_ask(mode.value, mode=mode, lease_seconds=10))
            clock.advance(10)
            [seen] = runner.abandoned()
            assert isinstance(runner.reclaim(seen, some_terms(limits=Limits(1, undo=True))), Parked)


def _again(key: str = "key-of-a-test", lease_seconds: float = 10) -> Ask:
    return an_ask(key, mode=Mode.AGAIN, lease_seconds=lease_seconds, request=b"again")


def _abandoned_steps(runner: Runner, clock: ManualClock) -> Claim:
    claim = runner.claimed(an_ask(mode=Mode.STEPS, lease_seconds=10))
    clock.advance(10)
    return claim


def _taken(verdict: Verdict | None) -> tuple[State, int]:
    """Tell what a new claim is the right to, and how many attempts died before."""
    assert isinstance(verdict, Claimed)
    return State.UNDOING if verdict.claim.undoing else State.RUNNING, verdict.claim.deaths
