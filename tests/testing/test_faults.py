"""The faulty store: with nothing planned it is the store inside, and what is planned happens where it was planned."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from retrysafe import StoreCorrupt, StoreUnavailable
from retrysafe.protocol.effects import Receipt, Written
from retrysafe.protocol.model import Claim, Mode
from retrysafe.protocol.operator import Verb
from retrysafe.protocol.verdicts import Claimed, InFlight, Verdict
from retrysafe.stores.base import Query, Verbs
from retrysafe.stores.memory import MemoryStore
from retrysafe.stores.program import Program
from retrysafe.stores.sqlite import SQLiteStore
from retrysafe.testing.asks import an_ask, an_intervention
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import StoreContract
from retrysafe.testing.faults import Fault, FaultyStore, delay, fail, hold, kill
from retrysafe.testing.runner import Face, Runner


class TestFaultyMemoryStore(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> FaultyStore:
        return FaultyStore(MemoryStore(clock=clock))


class TestFaultySQLiteStore(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, tmp_path: Path) -> FaultyStore:
        return FaultyStore(SQLiteStore(tmp_path / "store.db", clock=clock))


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


@pytest.fixture(params=["sync", "async"])
def runner(request: pytest.FixtureRequest, store: FaultyStore) -> Any:
    face: Face = request.param
    runner = Runner(store, face)
    yield runner
    runner.close()


def test_a_failure_before_a_verb_leaves_nothing_of_it(runner: Runner, store: FaultyStore) -> None:
    """D1."""
    store.plan(fail("claim"))
    with pytest.raises(StoreUnavailable, match="a planned fault at claim"):
        runner.claim(an_ask())
    assert runner.listing() == []


def test_a_failure_after_a_verb_loses_only_its_answer(runner: Runner, store: FaultyStore) -> None:
    """D4."""
    store.plan(fail("claim", when="after", call=1))
    ask = an_ask()
    with pytest.raises(StoreUnavailable):
        runner.claim(ask)
    assert len(runner.listing()) == 1
    assert isinstance(runner.claim(ask), Claimed)


def test_a_fault_strikes_at_the_nth_call_after_it_was_planned(runner: Runner, store: FaultyStore) -> None:
    runner.claim(an_ask("before"))
    store.plan(fail("claim", call=2))
    runner.listing()
    runner.claim(an_ask("a"))
    with pytest.raises(StoreUnavailable):
        runner.claim(an_ask("b"))
    runner.claim(an_ask("c"))
    assert store.calls == {"claim": 4, "listing": 1}


def test_every_verb_and_opening_can_fail_and_be_healed(runner: Runner, store: FaultyStore) -> None:
    store.plan(fail("*", error=partial(StoreCorrupt, "the file is damaged")))
    steps: list[Callable[[], object]] = [runner.open, runner.listing, partial(runner.claim, an_ask())]
    for step in steps:
        with pytest.raises(StoreCorrupt):
            step()
    store.heal()
    runner.open()
    assert isinstance(runner.claim(an_ask()), Claimed)


def test_a_delay_waits_at_least_as_long_and_then_goes_on(runner: Runner, store: FaultyStore) -> None:
    store.plan(delay("claim", timedelta(milliseconds=20)))
    before = time.monotonic()
    assert isinstance(runner.claim(an_ask()), Claimed)
    assert time.monotonic() - before >= 0.02


@pytest.mark.parametrize(("when", "met"), [("before", 0), ("after", 1)])
def test_who_is_held_goes_on_when_the_gate_opens(runner: Runner, store: FaultyStore, when: Any, met: int) -> None:
    gate = threading.Event()
    store.plan(hold("claim", gate, when=when))
    verdicts: list[Verdict] = []
    thread = threading.Thread(target=lambda: verdicts.append(runner.claim(an_ask())))
    thread.start()
    give_up_at = time.monotonic() + 20
    inside = Runner(store, "sync")
    while len(inside.listing()) != met or not store.calls.get("claim"):
        assert time.monotonic() < give_up_at
    assert verdicts == []
    gate.set()
    thread.join()
    assert isinstance(verdicts[0], Claimed)


def test_who_is_held_on_a_loop_can_be_cancelled(store: FaultyStore) -> None:
    """No thread is left behind that waits for the gate (C7)."""
    store.plan(hold("claim", threading.Event()))

    async def cancelled() -> None:
        verb: Coroutine[Any, Any, Verdict] = store.arun(partial(store.verbs.claim, an_ask()))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(verb, 0.02)

    asyncio.run(cancelled())


def test_faults_that_strike_together_do_so_in_the_order_of_planning(runner: Runner, store: FaultyStore) -> None:
    first, second = partial(ValueError, "first"), partial(ValueError, "second")
    store.plan(fail("claim", error=first), fail("claim", error=second))
    with pytest.raises(ValueError, match="first"):
        runner.claim(an_ask())


def test_a_fault_that_could_never_strike_is_refused() -> None:
    with pytest.raises(ValueError, match="the store has no verb 'clam'"):
        FaultyStore(MemoryStore(), fail("clam"))
    assert FaultyStore(MemoryStore(), Fault(verb="open")).calls == {}


def test_every_verb_of_the_contract_fails_where_it_was_planned(runner: Runner, store: FaultyStore) -> None:
    """D1."""
    claim = runner.claimed(an_ask())
    seen = runner.read(claim)
    writes = [runner.begin_stream, runner.record, runner.release, runner.park, runner.memoize]
    writes += [runner.postpone, runner.begin_undo]
    others: list[Callable[[], object]] = [runner.abandoned, runner.dispatch, runner.audit, runner.take_messages]
    others += [runner.sent_messages, runner.renew, runner.hand_over, runner.listing, runner.purge]
    acts: dict[str, Callable[[], object]] = {
        **{write.__name__: partial(write, claim) for write in writes},
        **{act.__name__: act for act in others},
        "claim": partial(runner.claim, an_ask()),
        "reclaim": partial(runner.reclaim, seen),
        "intervene": partial(runner.intervene, seen, an_intervention(Verb.RELEASE)),
        "trail": partial(runner.trail, claim),
        "read": partial(runner.read, claim),
    }
    assert acts.keys() == {verb for verb in vars(Verbs) if not verb.startswith("_")}
    store.plan(*map(fail, acts))
    for verb, act in acts.items():
        with pytest.raises(StoreUnavailable, match=f"a planned fault at {verb}$"):
            act()


def test_a_memo_may_be_durable_although_its_answer_was_lost(runner: Runner, store: FaultyStore) -> None:
    """D4, I2: written again, it is accepted and changes nothing; so is what an attempt says last."""
    claim = runner.claimed(an_ask(mode=Mode.STEPS))
    store.plan(*(fail(verb, when="after", call=1) for verb in ("memoize", "begin_undo", "postpone")))
    writes: list[Callable[[Claim], Receipt]] = [runner.memoize, runner.begin_undo, runner.postpone]
    for write in writes:
        with pytest.raises(StoreUnavailable):
            write(claim)
        before = runner.trail(claim)
        assert write(claim) == Written()
        after = runner.trail(claim)
        assert after.memos == before.memos
        assert after.checkpoint.state is before.checkpoint.state


def test_a_verb_is_known_in_a_lambda_too(runner: Runner, store: FaultyStore) -> None:
    store.plan(fail("listing"))
    with pytest.raises(StoreUnavailable):
        runner.query(lambda: store.verbs.listing(Query()))


def test_a_program_of_several_verbs_goes_by_its_own_name(runner: Runner, store: FaultyStore) -> None:
    ask = an_ask()

    def claim_twice() -> Program[Verdict]:
        yield from store.verbs.claim(ask)
        return (yield from store.verbs.claim(an_ask()))

    assert isinstance(runner.run(claim_twice), InFlight)
    assert store.calls == {"claim_twice": 1}


DYING = """
import sys
from functools import partial
from retrysafe.stores.sqlite import SQLiteStore
from retrysafe.testing.asks import an_ask, an_intervention
from retrysafe.testing.faults import FaultyStore, kill
from retrysafe.testing.runner import Runner

path, face, when = sys.argv[1:]
runner = Runner(FaultyStore(SQLiteStore(path), kill("claim", when=when, call=2)), face)
runner.claim(an_ask("first"))
print("alive", flush=True)
runner.claim(an_ask("second"))
print("still alive", flush=True)
"""


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize(("when", "met"), [("before", 1), ("after", 2)])
def test_a_killed_process_is_gone_and_what_was_durable_is_not(tmp_path: Path, face: str, when: str, met: int) -> None:
    """C7: nothing runs after it, in no thread."""
    path = tmp_path / "store.db"
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(path), face, when], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "alive\n"), done.stderr
    left = Runner(SQLiteStore(path), "sync")
    assert len(left.listing()) == met
    left.close()
    assert kill("claim").kills
