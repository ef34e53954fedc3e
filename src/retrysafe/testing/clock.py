"""A clock that a test moves."""

from __future__ import annotations

from threading import Lock


class ManualClock:
    """A wall clock that stands still until a test moves it; pass it as a store's ``clock``.

    ::

        clock = ManualClock()
        store = MemoryStore(clock=clock)
        clock.advance(15.1)

    Args:
        start: the first instant, in seconds since the epoch.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._instant = start
        self._guard = Lock()

    def __call__(self) -> float:
        """Return the instant, in seconds since the epoch."""
        return self._instant

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ValueError: the number is negative; time that runs backwards is a step, see :meth:`step_back`.
        """
        if seconds < 0:
            raise ValueError("time does not pass backwards: use step_back")
        self._move(seconds)

    def step_back(self, seconds: float) -> None:
        """Set the clock back, as an administrator or a time server would. A store's own clock must not follow (C2).

        Raises:
            ValueError: the number is negative.
        """
        if seconds < 0:
            raise ValueError("name by how much the clock is set back: a positive number")
        self._move(-seconds)

    def _move(self, seconds: float) -> None:
        with self._guard:
            self._instant += seconds
