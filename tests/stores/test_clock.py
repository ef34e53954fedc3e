"""The clock of stores that live on one host."""

from hypothesis import given
from hypothesis import strategies as st

from retrysafe.stores.clock import HostClock
from retrysafe.testing.clock import ManualClock

moves = st.lists(st.tuples(st.sampled_from(["pass", "step"]), st.floats(0, 1e6)))


@given(moves)
def test_it_never_runs_backwards_and_always_runs_on(moves: list[tuple[str, float]]) -> None:
    """C2: it shows what passed, and nothing of what the wall clock was set back."""
    wall = ManualClock()
    clock = HostClock(wall)
    shown = expected = clock.now()
    for kind, seconds in moves:
        if kind == "pass":
            wall.advance(seconds)
            expected += seconds
        else:
            wall.step_back(seconds)
        before, shown = shown, clock.now()
        assert shown >= before
        assert abs(shown - expected) < 1e-3


def test_it_takes_over_what_another_process_saw() -> None:
    """C2: whichever of the two is further."""
    wall = ManualClock(1000.0)
    clock = HostClock(wall)
    clock.learn(1500.0, 0.0)
    assert clock.now() == 1500.0
    wall.advance(10)
    assert clock.now() == 1510.0
    clock.learn(900.0, 0.0)
    assert (clock.now(), clock.mark) == (1510.0, (1510.0, 500.0))
    clock.learn(0.0, 600.0)
    assert clock.now() == 1610.0


def test_a_child_gets_a_lock_of_its_own() -> None:
    clock = HostClock(ManualClock())
    clock._guard.acquire()
    clock.start_over()
    assert clock.now() > 0
