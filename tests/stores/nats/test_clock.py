"""The server's clock, as a process knows it."""

from __future__ import annotations

import time
from functools import partial

import pytest

from retrysafe.stores.nats import NatsStore
from retrysafe.stores.nats.clock import ServerClock, seconds_of
from retrysafe.testing.asks import an_ask
from retrysafe.testing.runner import Runner


class Elapsed:
    """Seconds since boot, by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_it_goes_on_from_what_the_server_said_by_a_clock_that_never_steps() -> None:
    """C2."""
    elapsed = Elapsed()
    clock = ServerClock(elapsed)
    clock.learn(5000.0)
    elapsed.seconds += 7
    assert clock.now() == 5007.0


def test_it_is_never_ahead_of_the_server_and_learns_from_the_quickest_answer() -> None:
    """C2: a stamp is as old as its answer was on its way."""
    elapsed = Elapsed()
    clock = ServerClock(elapsed)
    for on_its_way in (0.5, 0.002, 0.9):
        clock.learn(elapsed() + 4900.0 - on_its_way)
        elapsed.seconds += 1
    assert clock.now() == pytest.approx(elapsed() + 4900.0 - 0.002)


def test_it_never_runs_backwards_when_another_leader_s_clock_is_behind() -> None:
    """C2: it stands until that one has caught up."""
    elapsed = Elapsed()
    clock = ServerClock(elapsed)
    clock.learn(5000.0)
    seen = clock.now()
    for _ in range(10):
        elapsed.seconds += 1
        clock.learn(elapsed() + 4900.0 - 8.0)
        assert clock.now() >= seen
        seen = clock.now()
    assert seen == 5005.0
    elapsed.seconds += 10
    assert clock.now() == elapsed() + 4900.0 - 8.0


def test_it_wants_to_learn_again_after_a_while() -> None:
    elapsed = Elapsed()
    clock = ServerClock(elapsed)
    assert not clock.is_fresh
    clock.learn(5000.0)
    assert clock.is_fresh
    elapsed.seconds += 10
    assert not clock.is_fresh


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("2026-11-24T12:00:00.25Z", 1795521600.25),
        ("2026-11-24T12:00:00.123456789Z", 1795521600.123456789),
    ],
)
def test_stamps_are_read_to_the_nanosecond(stamp: str, seconds: float) -> None:
    assert seconds_of(stamp) == seconds


def test_other_stamps_are_refused() -> None:
    with pytest.raises(ValueError, match="not a time"):
        seconds_of("yesterday")


def test_a_wall_clock_that_is_an_hour_off_changes_nothing(store: NatsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """C2: the application's host may think what it likes."""
    runner = Runner(store, "sync")
    before = runner.read(runner.claimed(an_ask("before"))).now
    true_time = time.time()
    monkeypatch.setattr(time, "time", lambda: true_time - 3600)
    met = runner.read(runner.claimed(an_ask("after", lease_seconds=10)))
    assert before <= met.now < before + 60
    assert 0 < met.lease_remaining_seconds <= 10
    assert store.query(partial(store.verbs.abandoned, 10)) == []
