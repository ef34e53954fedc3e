"""The memory store keeps the contract; it is its executable specification."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import settings

from retrysafe.protocol.model import Message, Mode
from retrysafe.protocol.steps import StepStatus
from retrysafe.stores.base import Purged
from retrysafe.stores.memory import MemoryStore
from retrysafe.stores.memory.verbs import MemoryVerbs
from retrysafe.stores.program import Program, Statement
from retrysafe.testing.asks import a_memo, an_ask
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import OwnClockContract, StoreContract
from retrysafe.testing.model import StoreMachine
from retrysafe.testing.runner import Runner


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> MemoryStore:
        return MemoryStore(clock=clock)


class TestMemoryStoreOnItsOwnClock(OwnClockContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


# It must answer like itself; what is tested here is the model.
TestMemoryModel = StoreMachine.TestCase
TestMemoryModel.settings = settings(max_examples=20, stateful_step_count=30)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def runner(clock: ManualClock) -> Runner:
    return Runner(MemoryStore(clock=clock), "sync")


def memory(runner: Runner) -> MemoryVerbs:
    verbs = runner.store.verbs
    assert isinstance(verbs, MemoryVerbs)
    return verbs


def sizes(runner: Runner) -> tuple[int, int, int]:
    verbs = memory(runner)
    return len(verbs._rows), len(verbs._open), len(verbs._heap)


def test_nothing_is_left_of_what_was_purged(runner: Runner, clock: ManualClock) -> None:
    """S10: memory holds what lives, not what ever lived."""
    for number in range(1000):
        claim = runner.claimed(an_ask(f"key-{number}", tombstone_seconds=100))
        if number % 2:
            runner.record(claim, retention_seconds=50, tombstone_seconds=100)
        else:
            runner.release(claim)
    clock.advance(50)
    assert runner.purge_all() == Purged(500, 0, more=False)
    clock.advance(50)
    assert runner.purge_all() == Purged(0, 1000, more=False)
    assert sizes(runner) == (0, 0, 0)


def test_a_key_used_a_thousand_times_takes_the_room_of_one(runner: Runner, clock: ManualClock) -> None:
    """S10: also in what a purge looks at."""
    for _ in range(1000):
        runner.release(runner.claimed(an_ask()))
        clock.advance(1)
    assert sizes(runner) == (1, 0, 1)


def test_open_operations_are_found_without_looking_at_finished_ones(runner: Runner) -> None:
    """R2: the scan of every second does not slow down with what is stored."""
    for number in range(100):
        runner.record(runner.claimed(an_ask(f"key-{number}")))
    runner.claimed(an_ask("open"))
    assert sizes(runner)[1] == 1


def test_nothing_is_left_of_memos_and_messages(runner: Runner, clock: ManualClock) -> None:
    """S10, R12: memos go with the outcome, messages when they have left."""
    for number in range(100):
        claim = runner.claimed(an_ask(f"key-{number}", mode=Mode.STEPS))
        runner.memoize(claim, a_memo(status=StepStatus.DONE))
        runner.record(claim, messages=[Message("payments", b"paid")], retention_seconds=50)
    runner.sent_messages(*runner.take_messages())
    clock.advance(50)
    runner.purge_all()
    verbs = memory(runner)
    assert not verbs._outbox
    assert not any(row.memos for row in verbs._rows.values())


def test_operations_do_not_share_memos(runner: Runner) -> None:
    """R4: each has its own from the start."""
    claims = [runner.claimed(an_ask(f"key-{number}")) for number in range(2)]
    runner.memoize(claims[0])
    assert [len(runner.trail(claim).memos) for claim in claims] == [1, 0]


def test_a_program_for_a_database_is_refused(runner: Runner) -> None:
    def program() -> Program[None]:
        yield Statement("SELECT 1")

    with pytest.raises(TypeError, match="made for another store: SELECT 1"):
        runner.run(program)


def test_a_failing_program_leaves_the_store_usable(runner: Runner) -> None:
    def program() -> Program[None]:
        yield from ()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        runner.run(program)
    runner.claimed(an_ask())


def test_a_program_does_nothing_until_it_is_run(runner: Runner) -> None:
    """D4: a factory may be called for nothing, or again."""
    make: Callable[[], Program[object]] = partial(runner.store.verbs.claim, an_ask())
    make()
    assert runner.look_up(an_ask()) is None
