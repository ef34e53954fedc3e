"""Any store against the memory store: Hypothesis makes up what happens, and both must answer alike.

::

    class MyStoreMachine(StoreMachine):
        face = "async"

        def make_store(self, clock: ManualClock) -> MyStore:
            return MyStore(clock=clock)


    TestMyStore = MyStoreMachine.TestCase

It needs Hypothesis. Where the two differ, one of them is wrong, and Hypothesis shows the shortest way there.
"""

# ruff: noqa: S101, ANN401 - what both answer is compared, whatever it is

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from retrysafe.protocol.effects import Written
from retrysafe.protocol.model import Ask, Checkpoint, Claim, Limits, Message, Mode
from retrysafe.protocol.operator import Intervention, Verb
from retrysafe.protocol.states import FINAL, LEASED, State
from retrysafe.protocol.steps import Memo, Place, StepKind, StepStatus
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.base import Outgoing, Query, Terms, Wanted
from retrysafe.stores.memory import MemoryStore
from retrysafe.stores.urls import AnyStore
from retrysafe.testing.asks import a_memo, an_ask, an_intervention, some_terms
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Face, Runner

_EVERYTHING = Query(limit=1000)
_FORWARD = frozenset({State.RUNNING, State.STREAMING, State.RELEASED})

_keys = st.sampled_from(["a", "b", "c"])
_seconds = st.sampled_from([0.0, 1.0, 5.0, 10.0, 30.0])
_leases = st.sampled_from([5.0, 10.0, 20.0])
_limits = st.builds(Limits, st.integers(1, 3), undo=st.booleans(), undo_attempts=st.integers(1, 2))
_batches = st.integers(1, 5)
_back_offs = st.sampled_from([0.0, 7.0])
_outcomes = st.binary(max_size=3)
_messages = st.lists(st.sampled_from([Message("a", b"1"), Message("b", b"2", ((b"c", b"3"),))]), max_size=2)
# An id or a number comes last, when the value is made: a strategy is drawn more often than a value is wanted.
_asks = st.builds(
    partial,
    st.just(an_ask),
    key=_keys,
    body=st.sampled_from(["charge 10", "charge 10", "charge 10", "charge 11"]),
    mode=st.sampled_from([*Mode, Mode.STEPS]),
    lease_seconds=_leases,
    tombstone_seconds=st.sampled_from([15.0, 60.0]),
    limits=_limits,
    backoff_seconds=_back_offs,
    request=st.sampled_from([None, b"request"]),
    version=st.integers(1, 2),
)
_records = st.tuples(_outcomes, st.booleans(), _seconds, _seconds)
_terms = st.builds(partial, st.just(some_terms), limits=_limits, lease_seconds=_leases, backoff_seconds=_back_offs)
_memos = st.builds(
    partial,
    st.just(a_memo),
    st.sampled_from(["pay", "ship"]),
    index=st.integers(0, 1),
    kind=st.sampled_from(StepKind),
    status=st.sampled_from(StepStatus),
    value=st.sampled_from([None, b"", b"paid"]),
    undo=st.sampled_from([None, "shop:refund"]),
    timeout_seconds=_seconds,
)
_wanted = st.builds(
    Wanted,
    st.sampled_from(["tests", "tests", "another"]),
    st.frozensets(st.sampled_from(Mode)),
    st.sampled_from([None, frozenset({"POST /charges"}), frozenset[str]()]),
)
_interventions = st.builds(
    an_intervention, st.sampled_from(Verb), outcome=st.sampled_from([None, b"by hand"]), undone=st.booleans()
)


class StoreMachine(RuleBasedStateMachine):
    """What may happen to a store. A subclass says which store, and through which face."""

    face: ClassVar[Face] = "sync"

    def make_store(self, clock: ManualClock) -> AnyStore:
        """Make an empty store on this clock; without a subclass it is the memory store itself."""
        return MemoryStore(clock=clock)

    @initialize()
    def begin(self) -> None:
        """Open both stores."""
        self.clock = ManualClock()
        self.tested = Runner(self.make_store(self.clock), self.face)
        self.oracle = Runner(MemoryStore(clock=self.clock), "sync")
        self.tested.open()
        self.made: list[Ask] = []
        self.claims: list[Claim] = []
        self.seen: list[Checkpoint] = []
        self.taken: list[tuple[Checkpoint, Terms]] = []
        self.written: list[tuple[Claim, Memo, Sequence[Message]]] = []
        self.leaving: list[Outgoing] = []
        self.seqs = count(1)
        self.finals: dict[str, bytes | None] = {}
        self.fences: dict[str, int] = {}
        self.undoing: set[str] = set()
        self.memos: dict[str, dict[Place, Memo]] = {}
        self.reborn: set[str] = set()

    def teardown(self) -> None:
        """Close both stores."""
        if hasattr(self, "tested"):
            self.tested.close()

    def both(self, act: Callable[[Runner], Any]) -> Any:
        """Do something with both, and return what both answered."""
        answer = act(self.tested)
        assert answer == act(self.oracle)
        return answer

    @rule(make=_asks)
    def claim(self, make: Callable[[], Ask]) -> None:
        """A request comes."""
        ask = make()
        self.made.append(ask)
        self._claim(ask)

    @precondition(lambda self: self.made)
    @rule(choice=st.data())
    def claim_again(self, choice: st.DataObject) -> None:
        """A claim is repeated, because its answer was lost (D4)."""
        self._claim(choice.draw(st.sampled_from(self.made)))

    def _claim(self, ask: Ask) -> None:
        before = self.both(lambda runner: runner.look_up(ask))
        verdict = self.both(lambda runner: runner.claim(ask))
        if isinstance(verdict, Claimed):
            self.claims.append(verdict.claim)
            if verdict.claim.fence == 1 and (before is None or before.state not in LEASED):
                self._begin_anew(verdict.claim.operation_id)

    def _begin_anew(self, operation_id: str) -> None:
        """Forget what was known: an ask that is repeated after its tombstone makes an operation of the same id."""
        if operation_id in self.fences:
            self.reborn.add(operation_id)
        for known in (self.finals, self.fences, self.memos):
            known.pop(operation_id, None)
        self.undoing.discard(operation_id)

    @precondition(lambda self: self.claims)
    @rule(choice=st.data(), record=_records, messages=_messages)
    def record(
        self, choice: st.DataObject, record: tuple[bytes, bool, float, float], messages: Sequence[Message]
    ) -> None:
        """An attempt records, early, late or again."""
        claim = self._a_claim(choice)
        outcome, undone, retention, more = record
        self.both(
            lambda runner: runner.record(
                claim,
                outcome,
                retention_seconds=retention,
                tombstone_seconds=retention + more,
                undone=undone,
                messages=self._sendable(claim, messages),
            )
        )

    @precondition(lambda self: self.claims)
    @rule(choice=st.data(), write=st.sampled_from([Runner.begin_stream, Runner.release, Runner.park]))
    def write(self, choice: st.DataObject, write: Callable[[Runner, Claim], Any]) -> None:
        """An attempt writes something else."""
        claim = self._a_claim(choice)
        self.both(lambda runner: write(runner, claim))

    @precondition(lambda self: self.claims)
    @rule(choice=st.data(), seconds=_seconds)
    def postpone(self, choice: st.DataObject, seconds: float) -> None:
        """An attempt leaves the operation to the next one."""
        claim = self._a_claim(choice)
        self.both(lambda runner: runner.postpone(claim, seconds))

    @precondition(lambda self: self.claims)
    @rule(choice=st.data(), outcome=st.none() | _outcomes)
    def begin_undo(self, choice: st.DataObject, outcome: bytes | None) -> None:
        """An attempt turns back."""
        claim = self._a_claim(choice)
        self.both(lambda runner: runner.begin_undo(claim, outcome=outcome))

    @precondition(lambda self: self.claims)
    @rule(choice=st.data(), make=_memos, messages=_messages)
    def memoize(self, choice: st.DataObject, make: Callable[..., Memo], messages: Sequence[Message]) -> None:
        """An attempt says what it knows of a step."""
        claim = self._a_claim(choice)
        self._memoize(claim, make(seq=next(self.seqs), fence=claim.fence), self._sendable(claim, messages))

    @precondition(lambda self: self.written)
    @rule(choice=st.data())
    def memoize_again(self, choice: st.DataObject) -> None:
        """A memo is repeated, because its answer was lost (D4)."""
        claim, memo, messages = choice.draw(st.sampled_from(self.written))
        self._memoize(claim, memo, self._sendable(claim, messages))

    def _memoize(self, claim: Claim, memo: Memo, messages: Sequence[Message]) -> None:
        receipt = self.both(lambda runner: runner.memoize(claim, memo, messages))
        if receipt == Written():
            self.written.append((claim, memo, messages))

    @precondition(lambda self: self.claims)
    @rule(choice=st.data())
    def renew(self, choice: st.DataObject) -> None:
        """A process renews what it holds."""
        claims = self._some(choice)
        self.both(lambda runner: runner.renew(*claims))

    @precondition(lambda self: self.claims)
    @rule(choice=st.data())
    def hand_over(self, choice: st.DataObject) -> None:
        """A process ends."""
        claims = self._some(choice)
        self.both(lambda runner: runner.hand_over(*claims))

    def _a_claim(self, choice: st.DataObject) -> Claim:
        return choice.draw(st.sampled_from(self.claims))

    def _some(self, choice: st.DataObject) -> Sequence[Claim]:
        """Choose claims; at most one of each key, as a process holds no more."""
        some = st.lists(st.sampled_from(self.claims), max_size=3, unique_by=lambda claim: claim.digest)
        return choice.draw(some)

    def _sendable(self, claim: Claim, messages: Sequence[Message]) -> Sequence[Message]:
        """Keep an operation quiet that has its id for the second time: its messages would have the ids of others."""
        return () if claim.operation_id in self.reborn else messages

    @rule(limit=_batches)
    def scan(self, limit: int) -> None:
        """Somebody looks for abandoned operations."""
        self.seen += self.both(lambda runner: list(runner.abandoned(limit)))

    @rule(wanted=_wanted, limit=_batches)
    def dispatch(self, wanted: Wanted, limit: int) -> None:
        """Somebody asks for abandoned operations that nobody else has."""
        self.seen += self.both(lambda runner: list(runner.dispatch(wanted, limit)))

    @precondition(lambda self: self.seen)
    @rule(choice=st.data(), make=_terms)
    def reclaim(self, choice: st.DataObject, make: Callable[[], Terms]) -> None:
        """Somebody acts on what a scan saw, now or long ago."""
        self.taken.append((choice.draw(st.sampled_from(self.seen)), make()))
        self._reclaim(*self.taken[-1])

    @precondition(lambda self: self.taken)
    @rule(choice=st.data())
    def reclaim_again(self, choice: st.DataObject) -> None:
        """A take-over is repeated, because its answer was lost (D4)."""
        self._reclaim(*choice.draw(st.sampled_from(self.taken)))

    def _reclaim(self, seen: Checkpoint, terms: Terms) -> None:
        verdict = self.both(lambda runner: runner.reclaim(seen, terms))
        if isinstance(verdict, Claimed):
            self.claims.append(verdict.claim)

    @precondition(lambda self: self.claims)
    @rule(choice=st.data(), intervention=_interventions)
    def intervene(self, choice: st.DataObject, intervention: Intervention) -> None:
        """A person decides about an operation as it is now."""
        claim = self._a_claim(choice)
        seen = self.both(lambda runner: runner.look_up(claim))
        if seen is not None:
            self.seen.append(seen)
            self.both(lambda runner: runner.intervene(seen, intervention))

    @precondition(lambda self: self.seen)
    @rule(choice=st.data(), intervention=_interventions)
    def intervene_late(self, choice: st.DataObject, intervention: Intervention) -> None:
        """A person decides about an operation as it was some time ago."""
        seen = choice.draw(st.sampled_from(self.seen))
        self.both(lambda runner: runner.intervene(seen, intervention))

    @rule(limit=_batches, lease=_leases)
    def take_messages(self, limit: int, lease: float) -> None:
        """Somebody sends what is in the outbox."""
        self.leaving += self.both(lambda runner: list(runner.take_messages(limit, lease)))

    @precondition(lambda self: self.leaving)
    @rule(choice=st.data())
    def sent_messages(self, choice: st.DataObject) -> None:
        """Some messages have left, perhaps for the second time."""
        sent = choice.draw(st.lists(st.sampled_from(self.leaving), max_size=3))
        self.both(lambda runner: runner.sent_messages(*sent))

    @rule(limit=_batches)
    def purge(self, limit: int) -> None:
        """Retention is enforced, in batches of any size."""
        self.both(lambda runner: runner.purge_all(limit))

    @rule(seconds=_seconds)
    def time_passes(self, seconds: float) -> None:
        """Nothing happens for a while."""
        self.clock.advance(seconds)

    @rule(seconds=_seconds)
    def clock_steps_back(self, seconds: float) -> None:
        """Somebody sets the clock (C2). What passed since a store last looked it can't know, so both look before."""
        self.both(lambda runner: list(runner.abandoned()))
        self.clock.step_back(seconds)

    @precondition(lambda self: hasattr(self, "tested"))
    @invariant()
    def both_hold_the_same(self) -> None:
        """Everything is the same in both, field for field: every checkpoint, every memo, every line of the audit."""
        for listed in self.both(lambda runner: list(runner.listing(_EVERYTHING))):
            history = self.both(lambda runner: runner.trail(listed.claim(0.0)))  # noqa: B023 - called at once
            self._still_true(history.checkpoint)
            self._still_known(history.checkpoint, history.memos)
        self.both(lambda runner: list(runner.audit()))

    def _still_true(self, met: Checkpoint) -> None:
        """Outcomes stay, fences only grow, and what turned back never goes forward again (I1, I3, I9)."""
        assert self.fences.get(met.operation_id, 0) <= met.fence
        self.fences[met.operation_id] = met.fence
        if met.state in FINAL:
            final = self.finals.setdefault(met.operation_id, met.outcome)
            assert met.outcome == (None if met.state is State.EXPIRED else final)
        if met.undoing:
            self.undoing.add(met.operation_id)
        assert met.operation_id not in self.undoing or (met.undoing and met.state not in _FORWARD)

    def _still_known(self, met: Checkpoint, memos: Sequence[Memo]) -> None:
        """What is known of a step never changes, and goes only with the outcome (I2, I3)."""
        there = {memo.place: memo for memo in memos}
        assert all(memo.fence <= met.fence for memo in memos)
        if met.state is State.EXPIRED:
            assert not there
            return
        for place, memo in self.memos.get(met.operation_id, {}).items():
            assert there[place] == memo if memo.status is not StepStatus.INTENT else place in there
        self.memos[met.operation_id] = there
