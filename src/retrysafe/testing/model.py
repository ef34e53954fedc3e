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
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from retrysafe.protocol.model import Ask, Checkpoint, Claim, Mode
from retrysafe.protocol.states import FINAL, State
from retrysafe.protocol.verdicts import Claimed
from retrysafe.stores.base import Query
from retrysafe.stores.memory import MemoryStore
from retrysafe.stores.urls import AnyStore
from retrysafe.testing.asks import an_ask, new_attempt_id
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.runner import Face, Runner

_EVERYTHING = Query(limit=1000)

_keys = st.sampled_from(["a", "b", "c"])
_seconds = st.sampled_from([0.0, 1.0, 5.0, 10.0, 30.0])
_leases = st.sampled_from([5.0, 10.0, 20.0])
_attempts = st.integers(1, 3)
_back_offs = st.sampled_from([0.0, 7.0])
# The attempt's id comes last, when the ask is made: a strategy is drawn more often than an ask is wanted.
_asks = st.builds(
    partial,
    st.just(an_ask),
    key=_keys,
    body=st.sampled_from(["charge 10", "charge 10", "charge 10", "charge 11"]),
    mode=st.sampled_from(Mode),
    lease_seconds=_leases,
    tombstone_seconds=st.sampled_from([15.0, 60.0]),
    attempts=_attempts,
    backoff_seconds=_back_offs,
    request=st.sampled_from([None, b"request"]),
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
        self.taken: list[tuple[Checkpoint, dict[str, Any]]] = []
        self.finals: dict[str, bytes | None] = {}
        self.fences: dict[str, int] = {}

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
        verdict = self.both(lambda runner: runner.claim(ask))
        if isinstance(verdict, Claimed):
            if verdict.claim.fence == 1:
                # A first claim: an ask that is repeated after its tombstone makes an operation of the same id again.
                self.finals.pop(verdict.claim.operation_id, None)
                self.fences.pop(verdict.claim.operation_id, None)
            self.claims.append(verdict.claim)

    @precondition(lambda self: self.claims)
    @rule(choice=st.data(), retention=_seconds, tombstone=_seconds, outcome=st.binary(max_size=3))
    def record(self, choice: st.DataObject, retention: float, tombstone: float, outcome: bytes) -> None:
        """An attempt records, early, late or again."""
        claim = choice.draw(st.sampled_from(self.claims))
        self.both(
            lambda runner: runner.record(
                claim, outcome, retention_seconds=retention, tombstone_seconds=retention + tombstone
            )
        )

    @precondition(lambda self: self.claims)
    @rule(choice=st.data(), write=st.sampled_from([Runner.begin_stream, Runner.release, Runner.park]))
    def write(self, choice: st.DataObject, write: Callable[[Runner, Claim], Any]) -> None:
        """An attempt writes something else."""
        claim = choice.draw(st.sampled_from(self.claims))
        self.both(lambda runner: write(runner, claim))

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

    def _some(self, choice: st.DataObject) -> Sequence[Claim]:
        """Choose claims; at most one of each key, as a process holds no more."""
        some = st.lists(st.sampled_from(self.claims), max_size=3, unique_by=lambda claim: claim.digest)
        return choice.draw(some)

    @rule(limit=st.integers(1, 5))
    def scan(self, limit: int) -> None:
        """Somebody looks for abandoned operations."""
        self.seen += self.both(lambda runner: list(runner.abandoned(limit)))

    @precondition(lambda self: self.seen)
    @rule(choice=st.data(), attempts=_attempts, lease=_leases, backoff=_back_offs)
    def reclaim(self, choice: st.DataObject, attempts: int, lease: float, backoff: float) -> None:
        """Somebody acts on what a scan saw, now or long ago."""
        seen = choice.draw(st.sampled_from(self.seen))
        terms = {
            "attempt_id": new_attempt_id(),
            "attempts": attempts,
            "lease_seconds": lease,
            "backoff_seconds": backoff,
        }
        self.taken.append((seen, terms))
        self._reclaim(seen, terms)

    @precondition(lambda self: self.taken)
    @rule(choice=st.data())
    def reclaim_again(self, choice: st.DataObject) -> None:
        """A take-over is repeated, because its answer was lost (D4)."""
        self._reclaim(*choice.draw(st.sampled_from(self.taken)))

    def _reclaim(self, seen: Checkpoint, terms: dict[str, Any]) -> None:
        verdict = self.both(lambda runner: runner.reclaim(seen, **terms))
        if isinstance(verdict, Claimed):
            self.claims.append(verdict.claim)

    @rule(limit=st.integers(1, 5))
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
        """Every checkpoint is the same in both, field for field; outcomes stay, and fences only grow (I1, I3)."""
        for listed in self.both(lambda runner: list(runner.listing(_EVERYTHING))):
            claim = listed.claim(0.0)
            met = self.both(lambda runner: runner.read(claim))  # noqa: B023 - called at once
            assert self.fences.get(met.operation_id, 0) <= met.fence
            self.fences[met.operation_id] = met.fence
            if met.state in FINAL:
                final = self.finals.setdefault(met.operation_id, met.outcome)
                assert met.outcome == (None if met.state is State.EXPIRED else final)
