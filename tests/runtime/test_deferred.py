"""Writes that must not be forgotten because the store failed."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from retrysafe import AttemptSuperseded, Policy, Response, State, StoreUnavailable
from retrysafe.protocol import effects as fx
from retrysafe.runtime import deferred, events
from retrysafe.runtime.deferred import Deferred
from retrysafe.testing.faults import fail
from tests.runtime.rig import AGAIN, CREATED, ONCE, Rig, raised, returned

LEASE = ONCE.lease_seconds


@pytest.fixture
def queue() -> Iterator[Deferred]:
    queue = Deferred()
    yield queue
    queue.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(deferred, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(deferred, "_LONGEST_PAUSE_SECONDS", 0.001)


def test_a_write_is_tried_until_the_store_takes_it(queue: Deferred) -> None:
    """D2."""
    tries: list[int] = []

    def write() -> None:
        tries.append(1)
        if len(tries) < 4:
            raise StoreUnavailable("down")

    queue.add(write)
    assert queue.drain(20)
    assert len(tries) == 4


def test_when_the_store_is_back_everything_is_settled(queue: Deferred) -> None:
    """D2."""
    gate = threading.Event()
    settled: list[int] = []

    def write(number: int) -> None:
        if not gate.is_set():
            raise StoreUnavailable("down")
        settled.append(number)

    for number in range(3):
        queue.add(partial(write, number))
    assert not queue.drain(0.01)
    gate.set()
    assert queue.drain(20)
    assert sorted(settled) == [0, 1, 2]


def test_the_thread_ends_when_there_is_nothing_to_do_and_begins_again(queue: Deferred) -> None:
    for _ in range(2):
        queue.add(lambda: None)
        assert queue.drain(20)
        assert queue._thread is None


def test_closing_gives_up_what_is_left_to_leases_and_recovery(queue: Deferred) -> None:
    """C7, D2."""

    def write() -> None:
        raise StoreUnavailable("down")

    queue.add(write)
    thread = queue._thread
    assert thread is not None
    queue.close()
    thread.join(20)
    assert not thread.is_alive()


def test_a_write_that_breaks_does_not_keep_the_others_from_being_settled(queue: Deferred) -> None:
    """One defect of ours must not cost every later outcome (D2)."""
    settled = threading.Event()

    def broken() -> None:
        raise ZeroDivisionError

    queue.add(broken)
    queue.add(settled.set)
    assert settled.wait(20)


def test_a_write_that_never_succeeds_does_not_keep_the_others_waiting(queue: Deferred) -> None:
    """D2."""
    settled = threading.Event()

    def never() -> None:
        raise StoreUnavailable("this row only")

    queue.add(never)
    queue.add(settled.set)
    assert settled.wait(20)


@pytest.mark.parametrize("policy", [ONCE, AGAIN], ids=["once", "again"])
def test_a_failed_record_sends_the_true_answer_unstored_and_is_made_up_for(rig: Rig, policy: Policy) -> None:
    """The effect happened: never free the claim, never run again, keep trying (D2)."""
    run, claim = rig.begin(policy)
    rig.store.plan(fail("record"))
    assert run.advance(returned()) == fx.Fresh(CREATED, stored=False)
    assert len(rig.events.of(events.RecordDeferred)) == 1
    assert rig.engine.keeper.claims() == [claim]
    rig.store.heal()
    assert rig.engine.deferred.drain(20)
    assert rig.checkpoint().state is State.DONE
    assert rig.engine.keeper.claims() == []
    assert rig.run(policy).advance() == fx.Replayed(claim.operation_id, CREATED)


def test_a_record_whose_answer_was_lost_is_found_recorded(rig: Rig) -> None:
    """D4."""
    run, claim = rig.begin()
    rig.store.plan(fail("record", when="after", call=1))
    assert run.advance(returned()) == fx.Fresh(CREATED, stored=False)
    assert rig.engine.deferred.drain(20)
    assert len(rig.events.of(events.Recorded)) == 1
    assert rig.events.of(events.Superseded) == []
    assert rig.run().advance() == fx.Replayed(claim.operation_id, CREATED)


def test_a_claim_whose_answer_was_lost_is_not_run_unless_it_is_known_to_be_ours(rig: Rig) -> None:
    """Fail closed: the operation was not run, and its retry claims it after the lease (D1, D4, C5)."""
    rig.store.plan(fail("claim", when="after", call=1))
    with pytest.raises(StoreUnavailable):
        rig.run(AGAIN).advance()
    assert rig.checkpoint().state is State.RUNNING
    rig.time.advance(LEASE)
    _, claim = rig.begin(AGAIN)
    assert claim.fence == 2


def test_while_a_record_waits_its_claim_is_renewed(rig: Rig) -> None:
    """So that nobody takes over (D2, C3)."""
    run, _ = rig.begin(AGAIN)
    rig.store.plan(fail("record"))
    run.advance(returned())
    for _ in range(4):
        rig.time.advance(LEASE / 2)
        rig.engine.keeper._renew_due()
        rig.engine.keeper._stop_lost()
    assert rig.checkpoint().lease_remaining_seconds == LEASE


def test_in_mode_again_an_unrecorded_answer_does_not_leave_after_the_lease(rig: Rig) -> None:
    """Somebody else may run it by now (D2, C4)."""
    run, _ = rig.begin(AGAIN)
    rig.store.plan(fail("record"))
    rig.time.advance(LEASE)
    with pytest.raises(AttemptSuperseded):
        run.advance(returned())


def test_in_mode_once_it_does_because_nobody_else_may_run_it(rig: Rig) -> None:
    """D2."""
    run, _ = rig.begin(ONCE)
    rig.store.plan(fail("record"))
    rig.time.advance(LEASE)
    assert run.advance(returned()) == fx.Fresh(CREATED, stored=False)


def test_a_record_that_comes_after_a_take_over_is_refused_and_the_winner_stays(rig: Rig) -> None:
    """C4, D2."""
    run, _ = rig.begin(AGAIN)
    rig.store.plan(fail("record"))
    rig.time.advance(LEASE)
    with pytest.raises(AttemptSuperseded):
        run.advance(returned())
    winner, claim = rig.begin(AGAIN)
    rig.store.heal()
    assert rig.engine.deferred.drain(20)
    assert len(rig.events.of(events.Superseded)) == 1
    assert rig.engine.keeper.claims() == [claim]
    other = Response(201, {"charge": 2})
    assert winner.advance(returned(other)) == fx.Fresh(other)
    assert rig.run(AGAIN).advance() == fx.Replayed(claim.operation_id, other)


def test_a_parked_operation_still_takes_the_truth_from_the_attempt_that_knows_it(rig: Rig) -> None:
    """D2. The scan of another process was faster than our next try."""
    run, claim = rig.begin(ONCE)
    rig.store.plan(fail("record"))
    run.advance(returned())
    rig.store.run(lambda: rig.store.verbs.park(claim, "lease over"))
    rig.store.heal()
    assert rig.engine.deferred.drain(20)
    assert rig.run().advance() == fx.Replayed(claim.operation_id, CREATED)


def test_a_failed_release_is_made_up_for(rig: Rig) -> None:
    """D2."""
    run, claim = rig.begin(AGAIN)
    rig.store.plan(fail("release"))
    error = ValueError("x")
    assert run.advance(raised(error)) == fx.Reraise(error)
    assert rig.engine.keeper.claims() == [claim]
    rig.store.heal()
    assert rig.engine.deferred.drain(20)
    assert rig.checkpoint().state is State.RELEASED
    assert rig.engine.keeper.claims() == []


def test_a_stream_that_failed_ends_its_lease_even_if_the_store_is_down_right_then(rig: Rig) -> None:
    """S5, C7."""
    run, _ = rig.begin(AGAIN)
    assert isinstance(run.advance(fx.Began(returned().outcome)), fx.Forward)
    rig.store.plan(fail("hand_over", call=1))
    error = ValueError("x")
    assert run.advance(fx.Ended(error)) == fx.Reraise(error)
    assert rig.engine.keeper.claims() == []
    assert rig.engine.deferred.drain(20)
    assert rig.checkpoint().lease_remaining_seconds <= 0
