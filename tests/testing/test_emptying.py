"""A store is emptied by its own verbs, as often as it is wanted, and whatever its clock says by now."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from retrysafe.protocol.model import Message, Mode
from retrysafe.protocol.states import State
from retrysafe.stores.sqlite import SQLiteStore
from retrysafe.testing.asks import DAY_SECONDS, an_ask
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.emptying import InUse, empty
from retrysafe.testing.runner import Runner


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def runner(clock: ManualClock, tmp_path: Path) -> Iterator[Runner]:
    runner = Runner(SQLiteStore(tmp_path / "store.db", clock=clock), "sync")
    runner.open()
    yield runner
    runner.close()


def mess_up(runner: Runner) -> None:
    """Leave an operation in every state, and messages of one that is over and of one that is not."""
    for mode in Mode:
        runner.claimed(an_ask(f"running-{mode}", mode=mode, lease_seconds=3600))
    runner.begin_stream(runner.claimed(an_ask("streaming")))
    runner.begin_undo(runner.claimed(an_ask("undoing", mode=Mode.STEPS)))
    parked = runner.claimed(an_ask("parked undo", mode=Mode.STEPS))
    runner.begin_undo(parked)
    runner.park(parked)
    runner.park(runner.claimed(an_ask("parked")))
    runner.release(runner.claimed(an_ask("released", tombstone_seconds=99 * DAY_SECONDS)))
    for key in ("done", "expired"):
        claim = runner.claimed(an_ask(key))
        seconds = 9999 * DAY_SECONDS if key == "done" else 0
        runner.record(claim, messages=[Message("payments", b"paid")], retention_seconds=seconds)
    runner.take_messages(limit=1, lease_seconds=3600)
    runner.purge_all()


def test_nothing_is_left_however_long_it_would_be_kept(runner: Runner, clock: ManualClock) -> None:
    """S10, R12."""
    mess_up(runner)
    empty(runner, clock)
    assert list(runner.listing()) == []
    clock.advance(3600 * 24)
    assert list(runner.take_messages()) == []
    assert clock() == int(clock())


def test_a_clock_that_is_behind_the_store_s_is_moved_by_what_is_left_only(
    runner: Runner, clock: ManualClock, tmp_path: Path
) -> None:
    """C2: a scratch store's clock may be years ahead, and must not run away with each use."""
    clock.advance(36_500 * DAY_SECONDS)
    mess_up(runner)
    behind = ManualClock()
    again = Runner(SQLiteStore(tmp_path / "store.db", clock=behind), "sync")
    again.open()
    began = behind()
    empty(again, behind)
    again.close()
    assert behind() - began < 10_010 * DAY_SECONDS


def test_what_a_test_did_not_make_is_left_alone_unless_nobody_needs_it(runner: Runner, clock: ManualClock) -> None:
    """C1: an attempt of an application's would lose its claim to a record that is not its own."""
    ours, theirs = runner.claimed(an_ask()), runner.claimed(an_ask("theirs", namespace="shop"))
    began = clock()
    with pytest.raises(InUse, match=f"operation {theirs.operation_id} of the namespace 'shop'"):
        empty(runner, clock)
    assert clock() == began
    assert [runner.read(claim).state for claim in (ours, theirs)] == [State.RUNNING, State.RUNNING]
    empty(runner, clock, everything=True)
    assert list(runner.listing()) == []


def test_a_store_that_keeps_what_is_over_is_said_to(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    from retrysafe.stores.base import Purged
    from retrysafe.stores.memory import MemoryStore

    runner = Runner(MemoryStore(clock=clock), "sync")
    runner.record(runner.claimed(an_ask()))
    monkeypatch.setattr(runner, "purge_all", lambda: Purged(0, 0, more=False))
    with pytest.raises(AssertionError, match="a purge leaves operations whose tombstones are over"):
        empty(runner, clock)
