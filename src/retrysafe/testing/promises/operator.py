"""Promises about what a person may do with an operation that recovery could not settle."""

# ruff: noqa: S101 - a promise is asserted

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from msgspec.structs import replace

from retrysafe.protocol.effects import Receipt, Superseded, Written
from retrysafe.protocol.model import Checkpoint, Claim, Mode
from retrysafe.protocol.operator import BEFORE_FIRST, Audit, Intervention, Refusal, Verb, judge_intervention
from retrysafe.protocol.states import LEASED, State
from retrysafe.protocol.steps import PIVOT, StepKind, StepStatus
from retrysafe.protocol.verdicts import Finished, Mismatch, Parked
from retrysafe.stores.base import Lost
from retrysafe.testing.asks import DAY_SECONDS, a_memo, an_ask, an_intervention, some_terms
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.promises.writes import WRITES
from retrysafe.testing.runner import Runner

Write = Callable[[Runner, Claim], Receipt]


def _record_undone(runner: Runner, claim: Claim) -> Receipt:
    return runner.record(claim, undone=True)


SITUATIONS: dict[str, tuple[Write, ...]] = {
    "running": (),
    "streaming": (Runner.begin_stream,),
    "undoing": (Runner.begin_undo,),
    "parked": (Runner.park,),
    "parked undo": (Runner.begin_undo, Runner.park),
    "released": (Runner.release,),
    "done": (Runner.record,),
    "undone": (Runner.begin_undo, _record_undone),
}
"""How an operation comes into each situation; the lease of its one attempt is over in all of them."""

FORWARD, BACK = ("running", "streaming", "parked"), ("undoing", "parked undo")
DOES: dict[str, tuple[Intervention, dict[str, State]]] = {
    "resume": (
        an_intervention(Verb.RESUME),
        dict.fromkeys(FORWARD, State.RUNNING) | dict.fromkeys(BACK, State.UNDOING),
    ),
    "undo": (an_intervention(Verb.UNDO), dict.fromkeys(FORWARD + BACK, State.UNDOING)),
    "settle": (an_intervention(Verb.SETTLE), dict.fromkeys(FORWARD, State.DONE)),
    "settle undone": (an_intervention(Verb.SETTLE, undone=True), dict.fromkeys(FORWARD + BACK, State.UNDONE)),
    "release": (an_intervention(Verb.RELEASE), dict.fromkeys(FORWARD, State.RELEASED)),
}
"""What each intervention makes of an operation made of steps; of every other situation nothing."""

every_intervention = pytest.mark.parametrize(("intervention", "leads_to"), DOES.values(), ids=list(DOES))


class OperatorPromises:
    """What a person may do, and what is written about it."""

    @every_intervention
    def test_an_intervention_does_what_fits_and_nothing_else(
        self, runner: Runner, clock: ManualClock, intervention: Intervention, leads_to: dict[str, State]
    ) -> None:
        """R10, I9: from every state; it raises the fence and counts no attempt."""
        claims = {situation: _in(runner, situation) for situation in SITUATIONS}
        clock.advance(10)
        for situation, claim in claims.items():
            seen = runner.read(claim)
            answer = runner.intervene(seen, intervention)
            met = runner.read(claim)
            if situation not in leads_to:
                assert answer == judge_intervention(seen, seen, intervention)
                assert met == seen
                continue
            assert answer == met
            assert (met.state, met.fence, met.attempt) == (leads_to[situation], seen.fence + 1, seen.attempt)
            assert (met.lease_until, met.due_at, met.reason) == (met.now, met.now, None)
            assert met.deaths == (BEFORE_FIRST if met.state in LEASED else 0)
            assert met.undoing == (seen.undoing or met.state is State.UNDOING)
        assert {line.operation_id for line in runner.audit()} == {claims[key].operation_id for key in leads_to}

    def test_an_attempt_in_flight_is_not_interfered_with(self, runner: Runner) -> None:
        """R10, R1: a person waits for the end of its lease like everybody else."""
        claim = _in(runner, "running")
        seen = runner.read(claim)
        for intervention, _ in DOES.values():
            answer = runner.intervene(seen, intervention)
            assert isinstance(answer, Refusal)
            assert "in flight" in answer.reason
        assert runner.read(claim) == seen
        assert list(runner.audit()) == []

    def test_what_may_run_once_is_never_resumed(self, runner: Runner) -> None:
        """R10, R8: only steps can be undone; a person may settle or release any mode."""
        fits: dict[Mode, set[str]] = {mode: set() for mode in Mode}
        for mode in Mode:
            for name, (intervention, _) in DOES.items():
                claim = runner.claimed(an_ask(f"{mode}-{name}", mode=mode))
                runner.park(claim)
                if isinstance(runner.intervene(runner.read(claim), intervention), Checkpoint):
                    fits[mode].add(name)
        by_hand = {"settle", "settle undone", "release"}
        assert fits == {
            Mode.ONCE: by_hand,
            Mode.AGAIN: by_hand | {"resume"},
            Mode.TRANSACTION: by_hand | {"resume"},
            Mode.STEPS: by_hand | {"resume", "undo"},
        }

    @every_intervention
    def test_a_late_attempt_is_refused_after_an_intervention(
        self, runner: Runner, intervention: Intervention, leads_to: dict[str, State]
    ) -> None:
        """R10, C4: whatever it writes; what the person decided stays."""
        assert "parked" in leads_to
        claim = _in(runner, "parked")
        runner.intervened(runner.read(claim), intervention)
        before = runner.trail(claim)
        for write in (*WRITES.values(), _record_undone):
            assert write(runner, claim) == Superseded()
        assert runner.renew(claim) == [Lost()]
        runner.hand_over(claim)
        assert runner.trail(claim) == before

    def test_a_person_who_saw_another_state_is_refused(self, runner: Runner, clock: ManualClock) -> None:
        """R10: they decide about what they saw; so the same intervention again changes nothing, and says so (D4)."""
        claim = _in(runner, "running")
        clock.advance(10)
        seen = runner.read(claim)
        runner.park(claim)
        parked = runner.read(claim)
        resume = an_intervention(Verb.RESUME)
        assert isinstance(runner.intervene(seen, resume), Refusal)
        assert runner.read(claim) == parked
        resumed = runner.intervened(parked, resume)
        assert isinstance(runner.intervene(parked, resume), Refusal)
        assert runner.read(claim) == resumed
        assert len(runner.audit()) == 1

    def test_of_many_persons_at_once_exactly_one_decides(self, runner: Runner) -> None:
        """R10, I1: the others are told to look again, and the audit has one line."""
        claim = _in(runner, "parked")
        seen = runner.read(claim)
        verbs = runner.store.verbs
        wanted = [an_intervention(Verb.SETTLE, by=f"person {n}", outcome=str(n).encode()) for n in range(8)]
        answers = runner.together([partial(verbs.intervene, seen, intervention) for intervention in wanted])
        [settled] = [answer for answer in answers if isinstance(answer, Checkpoint)]
        assert sum(isinstance(answer, Refusal) for answer in answers) == 7
        winner = wanted[answers.index(settled)]
        assert runner.read(claim).outcome == winner.outcome
        assert [line.by for line in runner.audit()] == [winner.by]

    def test_what_is_gone_cannot_be_settled(self, runner: Runner, clock: ManualClock) -> None:
        """R10, C6: also when its key names another operation now."""
        claim = runner.claimed(an_ask(mode=Mode.STEPS, tombstone_seconds=100))
        runner.park(claim)
        seen = runner.read(claim)
        runner.record(claim, tombstone_seconds=100)
        clock.advance(100)
        runner.purge_all()
        gone = runner.intervene(seen, an_intervention(Verb.RESUME))
        runner.park(runner.claimed(an_ask(mode=Mode.STEPS)))
        assert gone == runner.intervene(seen, an_intervention(Verb.RESUME))
        assert isinstance(gone, Refusal)
        assert list(runner.audit()) == []

    @pytest.mark.parametrize("situation", ["parked", "parked undo"])
    def test_a_resumed_operation_goes_on_from_its_memos(self, runner: Runner, situation: str) -> None:
        """R10, R4, I9: at once, in the direction in which it went, for the scan and for the client alike."""
        claim = _in(runner, situation, request=b"request")
        memos = runner.trail(claim).memos
        runner.intervened(runner.read(claim), an_intervention(Verb.RESUME))
        [seen] = runner.dispatch()
        assert (seen.fence, seen.request) == (2, b"request")
        taken = runner.reclaimed(seen)
        assert (taken.fence, taken.attempt, taken.undoing) == (3, 2, situation == "parked undo")
        assert runner.trail(taken).memos == memos
        assert runner.record(taken, undone=taken.undoing) == Written()

    def test_a_resumed_operation_has_its_attempts_again(self, runner: Runner, clock: ManualClock) -> None:
        """R10, R8: it was parked because they were spent."""
        claim = runner.claimed(an_ask(mode=Mode.AGAIN, lease_seconds=10))
        clock.advance(10)
        [seen] = runner.abandoned()
        runner.reclaimed(seen, some_terms(attempts=2, lease_seconds=10))
        clock.advance(10)
        [seen] = runner.abandoned()
        assert isinstance(runner.reclaim(seen, some_terms(attempts=2)), Parked)
        assert runner.read(claim).deaths == 2
        resumed = runner.intervened(runner.read(claim), an_intervention(Verb.RESUME))
        again = runner.reclaimed(resumed, some_terms(attempts=1))
        assert (again.deaths, runner.read(again).deaths) == (0, 0)

    @pytest.mark.parametrize("undone", [False, True], ids=["done", "undone"])
    def test_a_settled_operation_is_replayed(self, runner: Runner, clock: ManualClock, undone: bool) -> None:  # noqa: FBT001
        """R10, R13, S10: with the person's outcome and retentions, and without the request."""
        claim = _in(runner, "parked", request=b"card number")
        clock.advance(5)
        by_hand = an_intervention(Verb.SETTLE, outcome=b"by hand", undone=undone)
        met = runner.intervened(runner.read(claim), by_hand)
        assert (met.outcome, met.request, met.finished_at) == (b"by hand", None, met.now)
        assert (met.outcome_until, met.tombstone_until) == (met.now + DAY_SECONDS, met.now + 30 * DAY_SECONDS)
        assert runner.claim(an_ask("parked", mode=Mode.STEPS)) == Finished(met)
        clock.advance(DAY_SECONDS)
        assert runner.purge_all().expired == 1

    def test_a_released_operation_is_its_client_s_again(self, runner: Runner, clock: ManualClock) -> None:
        """R10, S6, S10, F1: for the same request only, as the same operation, and remembered from now on."""
        claim = _in(runner, "parked", request=b"card number")
        clock.advance(90 * DAY_SECONDS)
        met = runner.intervened(runner.read(claim), an_intervention(Verb.RELEASE))
        assert (met.request, met.outcome, met.tombstone_until) == (None, None, met.now + 30 * DAY_SECONDS)
        assert runner.claim(an_ask("parked", mode=Mode.STEPS, body="charge 11")) == Mismatch(met)
        again = runner.claimed(an_ask("parked", mode=Mode.STEPS))
        assert (again.operation_id, again.fence, again.attempt, again.deaths) == (claim.operation_id, 3, 2, 0)

    def test_what_has_passed_its_pivot_is_never_undone(self, runner: Runner) -> None:
        """R10, R7: a person can only let it go on, or settle it."""
        claim = runner.claimed(an_ask(mode=Mode.STEPS))
        runner.memoize(claim, a_memo(PIVOT, kind=StepKind.PIVOT, status=StepStatus.DONE))
        runner.park(claim)
        seen = runner.read(claim)
        refusal = runner.intervene(seen, an_intervention(Verb.UNDO))
        assert isinstance(refusal, Refusal)
        assert "pivot" in refusal.reason
        assert runner.read(claim) == seen
        assert runner.intervened(seen, an_intervention(Verb.RESUME)).state is State.RUNNING

    def test_a_pending_outcome_stays_when_the_undo_is_resumed(self, runner: Runner) -> None:
        """R10, R7: what the operation answered is what its client will be told."""
        claim = runner.claimed(an_ask(mode=Mode.STEPS))
        runner.begin_undo(claim, outcome=b"402")
        runner.park(claim)
        for verb in (Verb.RESUME, Verb.UNDO):
            met = runner.intervened(runner.read(claim), an_intervention(verb))
            assert (met.state, met.outcome, met.finished_at) == (State.UNDOING, b"402", None)

    def test_the_audit_says_who_did_what_and_why_newest_first(self, runner: Runner, clock: ManualClock) -> None:
        """R10: of one operation, or of all."""
        first, second = _in(runner, "parked"), _in(runner, "parked undo")
        acts = [
            (first, an_intervention(Verb.RESUME, by="ada", note="the bank is open again")),
            (second, an_intervention(Verb.SETTLE, by="Zoë", note="refunded by hand ☂", undone=True)),
            (first, an_intervention(Verb.UNDO, by="bob", note="the customer gave up")),
        ]
        expected: list[Audit] = []
        for claim, act in acts:
            clock.advance(1)
            seen = runner.read(claim)
            met = runner.intervened(seen, act)
            wrote = Audit(0, met.now, met.operation_id, act.verb, act.by, act.note, seen.state, met.state, met.fence)
            expected.insert(0, wrote)
        lines = runner.audit()
        numbers = [line.number for line in lines]
        assert numbers == sorted(set(numbers), reverse=True)
        assert [replace(line, number=0) for line in lines] == expected
        assert list(runner.audit(first.operation_id)) == [lines[0], lines[2]]
        assert list(runner.audit(limit=2)) == list(lines[:2])
        assert list(runner.audit("unknown")) == []

    def test_the_audit_outlives_the_operation(self, runner: Runner, clock: ManualClock) -> None:
        """R10: it is append-only, and as old as the store."""
        claim = _in(runner, "parked")
        runner.intervened(runner.read(claim), an_intervention(Verb.SETTLE))
        before = list(runner.audit())
        clock.advance(31 * DAY_SECONDS)
        runner.purge_all()
        assert runner.look_up(claim) is None
        assert list(runner.audit(claim.operation_id)) == before


def _in(runner: Runner, situation: str, request: bytes | None = None) -> Claim:
    """Bring an operation with one memo into a situation, and return the claim of its only attempt, for 10 s."""
    claim = runner.claimed(an_ask(situation, mode=Mode.STEPS, lease_seconds=10, request=request))
    runner.memoize(claim, a_memo(undo="shop:refund"))
    for write in SITUATIONS[situation]:
        assert write(runner, claim) == Written()
    return claim
