"""Promises about what is known of an operation's steps."""

# ruff: noqa: S101 - a promise is asserted

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from msgspec.structs import replace

from retrysafe.protocol.effects import Superseded, Written
from retrysafe.protocol.model import Checkpoint, Claim, Mode
from retrysafe.protocol.operator import Verb
from retrysafe.protocol.states import State
from retrysafe.protocol.steps import PIVOT, Memo, StepKind, StepStatus
from retrysafe.protocol.verdicts import Parked
from retrysafe.stores.base import Verbs
from retrysafe.stores.program import Factory, Program
from retrysafe.testing.asks import a_memo, an_ask, an_intervention, some_terms
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Runner

INTENT, DONE, REFUSED = StepStatus.INTENT, StepStatus.DONE, StepStatus.REFUSED

MEMOS = {
    "intent": a_memo(undo="shop:refund", arguments=b"10"),
    "done": a_memo(status=DONE, value=b"paid"),
    "refused": a_memo(status=REFUSED, value=b"no money"),
    "local": a_memo(kind=StepKind.LOCAL, status=DONE, value=b"stored"),
    "pivot": a_memo(PIVOT, kind=StepKind.PIVOT, status=DONE),
    "undo": a_memo("undo:pay", kind=StepKind.UNDO, status=DONE),
}
"""Every kind of memo, as the first attempt writes it."""

RESULT = frozenset({State.RUNNING, State.STREAMING, State.PARKED})
ALLOWED = {
    "intent": frozenset({State.RUNNING}),
    "done": RESULT,
    "refused": RESULT,
    "local": RESULT,
    "pivot": frozenset({State.RUNNING}),
    "undo": frozenset({State.RUNNING, State.UNDOING, State.PARKED}),
}
"""In which states of its operation a memo is accepted from whoever holds its fence."""

MOVES: dict[State, Callable[[Runner, Claim], object]] = {
    State.RUNNING: Runner.read,
    State.STREAMING: Runner.begin_stream,
    State.RELEASED: Runner.release,
    State.UNDOING: Runner.begin_undo,
    State.PARKED: Runner.park,
    State.DONE: Runner.record,
}
"""How an attempt brings its operation into a state, under its own fence."""

every_memo = pytest.mark.parametrize("memo", MEMOS.values(), ids=list(MEMOS))
every_result = pytest.mark.parametrize("memo", [MEMOS[kind] for kind in ("done", "refused", "local", "undo")])


class StepPromises:
    """What an attempt may write of its steps, and what the next one finds."""

    def test_a_memo_is_found_as_it_was_written(self, runner: Runner, clock: ManualClock) -> None:
        """R4, R5, C2: with the checkpoint, and the instants of the store's clock."""
        claim = _claimed(runner)
        clock.advance(3)
        intent = a_memo("ship", index=7, seq=4, undo="shop:recall", arguments=b"\x00\xff", timeout_seconds=2.5)
        assert runner.memoize(claim, intent) == Written()
        now = runner.read(claim).now
        history = runner.trail(claim)
        assert history.checkpoint == runner.read(claim)
        assert history.memos == (replace(intent, began_at=now, ended_at=None),)
        local = a_memo("store", seq=5, kind=StepKind.LOCAL, status=DONE, value=b"\x00stored\xff")
        assert runner.memoize(claim, local) == Written()
        assert runner.trail(claim).memos[1] == replace(local, began_at=now, ended_at=now)

    def test_a_result_takes_the_place_of_its_intent(self, runner: Runner, clock: ManualClock) -> None:
        """R5: how the step began stays, because its undo needs that."""
        claim = _claimed(runner)
        intent = MEMOS["intent"]
        runner.memoize(claim, intent)
        began_at = runner.read(claim).now
        clock.advance(3)
        assert runner.memoize(claim, replace(intent, status=DONE, value=b"paid")) == Written()
        result = replace(intent, status=DONE, value=b"paid", began_at=began_at, ended_at=began_at + 3)
        assert runner.trail(claim).memos == (result,)

    def test_memos_are_listed_in_the_order_in_which_steps_began(self, runner: Runner) -> None:
        """R4, I7: by name and index, whatever the order of writing; each operation has its own."""
        claim = _claimed(runner)
        other = _claimed(runner, "another-key")
        places = {("b", 0): 3, ("b", 1): 1, ("a", 0): 4, ("Ä ☂", 10): 2}
        for (name, index), seq in places.items():
            assert runner.memoize(claim, a_memo(name, index=index, seq=seq)) == Written()
        assert [memo.place for memo in runner.trail(claim).memos] == [("b", 1), ("Ä ☂", 10), ("b", 0), ("a", 0)]
        assert runner.trail(other).memos == ()

    def test_what_was_never_claimed_has_no_trail(self, runner: Runner) -> None:
        """R4: and reading it makes nothing."""
        assert runner.query(partial(runner.store.verbs.trail, an_ask().identity.digest)) is None
        assert runner.look_up(an_ask()) is None

    def test_a_value_of_a_mebibyte_comes_back_as_it_was(self, runner: Runner) -> None:
        """I2: byte-identical, whatever the bytes."""
        value = bytes(range(256)) * 4096
        claim = _claimed(runner)
        runner.memoize(claim, a_memo(status=DONE, value=value, arguments=value[::-1]))
        [memo] = runner.trail(claim).memos
        assert (memo.value, memo.arguments) == (value, value[::-1])

    @every_memo
    def test_a_memo_written_twice_is_written_once(self, runner: Runner, clock: ManualClock, memo: Memo) -> None:
        """D4: the second time it is accepted, because the first answer may have been lost, and changes nothing."""
        claim = _claimed(runner)
        assert runner.memoize(claim, memo) == Written()
        before = runner.trail(claim).memos
        clock.advance(1)
        assert runner.memoize(claim, memo) == Written()
        assert runner.trail(claim).memos == before

    @every_result
    def test_a_memo_never_changes(self, runner: Runner, clock: ManualClock, memo: Memo) -> None:
        """I2: not its value, not its status, nor back to an intent; not for its own attempt, nor for the next."""
        claim = _claimed(runner)
        runner.memoize(claim, memo)
        before = runner.trail(claim).memos
        others = [
            replace(memo, value=b"something else"),
            replace(memo, value=None if memo.value else b""),
            replace(memo, status=DONE if memo.status is REFUSED else REFUSED),
            replace(memo, status=INTENT, value=None),
        ]
        assert {runner.memoize(claim, other) for other in others} == {Superseded()}
        clock.advance(10)
        claim = _claimed(runner)
        assert {runner.memoize(claim, replace(other, fence=2)) for other in [memo, *others]} == {Superseded()}
        assert runner.trail(claim).memos == before

    def test_of_simultaneous_results_of_a_step_exactly_one_is_kept(self, runner: Runner) -> None:
        """I2: the others are refused."""
        claim = _claimed(runner)
        runner.memoize(claim)
        results = [a_memo(status=DONE, value=str(number).encode()) for number in range(8)]
        receipts = runner.together([partial(runner.store.verbs.memoize, claim, result) for result in results])
        assert sorted(map(repr, receipts)) == ["Superseded()"] * 7 + ["Written()"]
        [kept] = runner.trail(claim).memos
        assert kept.value == results[receipts.index(Written())].value

    def test_whoever_takes_over_sees_every_memo_that_was_accepted(self, runner: Runner, clock: ManualClock) -> None:
        """R4, I3: however close together the two are; what they do not see was refused."""
        verbs = runner.store.verbs
        claims = [_claimed(runner, f"key-{number}") for number in range(8)]
        clock.advance(10)
        writes: list[Factory[object]] = [partial(verbs.memoize, claim, MEMOS["done"]) for claim in claims]
        take_overs: list[Factory[object]] = [partial(_take_over, verbs, seen) for seen in runner.abandoned()]
        answers = runner.together([one for pair in zip(writes, take_overs, strict=True) for one in pair])
        for receipt, memos in zip(answers[::2], answers[1::2], strict=True):
            assert receipt == (Written() if memos else Superseded())

    def test_a_memo_s_fence_is_its_claim_s(self, runner: Runner) -> None:
        """I3, D4: whatever the memo says."""
        claim = _claimed(runner)
        memo = replace(MEMOS["done"], fence=7)
        assert [runner.memoize(claim, memo), runner.memoize(claim, memo)] == [Written(), Written()]
        assert [memo.fence for memo in runner.trail(claim).memos] == [1]

    @every_memo
    def test_a_memo_of_a_lost_claim_is_refused(self, runner: Runner, clock: ManualClock, memo: Memo) -> None:
        """C4, I3: once another attempt has the claim, as a value and without a trace, also over an intent."""
        lost = _claimed(runner)
        if memo.kind in {StepKind.EXTERNAL, StepKind.LOCAL}:
            runner.memoize(lost, replace(memo, status=INTENT, value=None))
        clock.advance(10)
        _claimed(runner)
        before = runner.trail(lost)
        assert runner.memoize(lost, memo) == Superseded()
        assert runner.trail(lost) == before

    @every_memo
    def test_a_memo_of_an_earlier_operation_of_the_key_is_refused(
        self, runner: Runner, clock: ManualClock, memo: Memo
    ) -> None:
        """C4: fences of a new operation start anew, so the operation is compared as well."""
        old = runner.claimed(an_ask(mode=Mode.STEPS, tombstone_seconds=100))
        runner.release(old)
        clock.advance(100)
        new = _claimed(runner)
        assert (old.fence, old.digest) == (new.fence, new.digest)
        assert runner.memoize(old, memo) == Superseded()
        assert runner.trail(new).memos == ()

    @pytest.mark.parametrize("state", MOVES)
    def test_a_memo_is_accepted_only_where_it_may_happen(self, runner: Runner, state: State) -> None:
        """I9: forward steps begin in running operations only; the truth about one is also for a parked operation."""
        accepted: set[str] = set()
        for kind, memo in MEMOS.items():
            claim = _claimed(runner, kind)
            MOVES[state](runner, claim)
            before = runner.trail(claim)
            assert before.checkpoint.state is state
            if runner.memoize(claim, memo) == Written():
                accepted.add(kind)
            else:
                assert runner.trail(claim) == before
        assert accepted == {kind for kind, states in ALLOWED.items() if state in states}

    def test_a_late_attempt_says_what_its_step_gave_after_its_operation_was_parked(
        self, runner: Runner, clock: ManualClock
    ) -> None:
        """C4, I9: whoever settles it then knows; but nothing new begins."""
        claim = _claimed(runner)
        runner.memoize(claim)
        clock.advance(10)
        [seen] = runner.abandoned()
        assert isinstance(runner.reclaim(seen, some_terms(attempts=1)), Parked)
        assert runner.memoize(claim, a_memo("ship", seq=2)) == Superseded()
        assert runner.memoize(claim, MEMOS["done"]) == Written()
        assert [memo.value for memo in runner.trail(claim).memos] == [b"paid"]

    def test_an_intent_is_written_anew_by_the_next_attempt(self, runner: Runner, clock: ManualClock) -> None:
        """R5, R7: since when it may have happened stays; how long its call may be under way counts from now."""
        first = _claimed(runner)
        runner.memoize(first, a_memo(timeout_seconds=30, undo="shop:refund"))
        began_at = runner.read(first).now
        clock.advance(100)
        second = _claimed(runner)
        again = a_memo(timeout_seconds=20, fence=2)
        assert runner.memoize(second, again) == Written()
        [memo] = runner.trail(second).memos
        assert (memo.began_at, memo.deadline, memo.fence) == (began_at, began_at + 100 + 20, 2)
        assert (memo.status, memo.undo, memo.ended_at) == (INTENT, "shop:refund", None)
        assert runner.memoize(second, replace(again, status=DONE, value=b"paid")) == Written()
        [memo] = runner.trail(second).memos
        assert (memo.began_at, memo.ended_at, memo.fence, memo.value) == (began_at, began_at + 100, 2, b"paid")

    def test_the_next_attempt_says_what_became_of_an_intent(self, runner: Runner, clock: ManualClock) -> None:
        """R6, I3: after a probe has told it, under its own fence."""
        runner.memoize(_claimed(runner), MEMOS["intent"])
        clock.advance(10)
        second = _claimed(runner)
        assert runner.memoize(second, replace(MEMOS["done"], fence=2)) == Written()
        [memo] = runner.trail(second).memos
        assert (memo.status, memo.fence, memo.undo, memo.arguments) == (DONE, 2, "shop:refund", b"10")

    def test_memos_survive_take_over_release_parking_and_resumption(self, runner: Runner, clock: ManualClock) -> None:
        """R4: the next attempt goes on from them, whatever became of the last."""
        claim = _claimed(runner)
        runner.memoize(claim, MEMOS["done"])
        before = runner.trail(claim).memos
        runner.release(claim)
        claim = _claimed(runner)
        assert (claim.fence, runner.trail(claim).memos) == (2, before)
        clock.advance(10)
        [seen] = runner.abandoned()
        claim = runner.reclaimed(seen)
        assert (claim.fence, runner.trail(claim).memos) == (3, before)
        runner.park(claim)
        runner.intervened(runner.read(claim), an_intervention(Verb.RESUME))
        assert runner.trail(claim).memos == before

    def test_memos_go_with_the_outcome(self, runner: Runner, clock: ManualClock) -> None:
        """S10: what they hold of a request is kept no longer than its answer."""
        claim, other = _claimed(runner), _claimed(runner, "another-key")
        for one, retention_seconds in ((claim, 60), (other, 900)):
            runner.memoize(one, MEMOS["done"])
            runner.record(one, retention_seconds=retention_seconds)
        clock.advance(60)
        runner.purge_all()
        history = runner.trail(claim)
        assert (history.checkpoint.state, history.memos) == (State.EXPIRED, ())
        assert len(runner.trail(other).memos) == 1

    @pytest.mark.parametrize("how", ["purged", "replaced"])
    def test_memos_go_with_the_tombstone(self, runner: Runner, clock: ManualClock, how: str) -> None:
        """S10: whether a purge came by, or the key was used again before it did."""
        ask = an_ask(mode=Mode.STEPS, tombstone_seconds=100)
        claim = runner.claimed(ask)
        runner.memoize(claim, MEMOS["done"])
        runner.release(claim)
        clock.advance(100)
        if how == "purged":
            runner.purge_all()
        # The same attempt id, so that what was left behind would be the new operation's.
        assert runner.claimed(ask).fence == 1
        assert runner.trail(claim).memos == ()


def _take_over(verbs: Verbs, seen: Checkpoint) -> Program[object]:
    """Take an operation over, and return its memos as they are in the same transaction."""
    yield from verbs.reclaim(seen, some_terms())
    history = yield from verbs.trail(seen.digest)
    return () if history is None else history.memos


def _claimed(runner: Runner, key: str = "key-of-a-test") -> Claim:
    """Claim an operation made of steps, for 10 s."""
    return runner.claimed(an_ask(key, mode=Mode.STEPS, lease_seconds=10))
