"""The clock of stores that live on one host: the host's own, except that it never runs backwards (C2)."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from threading import Lock


class HostClock:
    """Wall clock plus an offset that grows by as much as the wall clock ever stepped back.

    So a backward step neither moves the store's clock back, which would make leases that are over run again, nor
    freezes it until the wall clock has caught up, which would keep leases running for an hour after a step of an hour.
    A forward step can't be told from time that passed, and counts as such.

    Every method may be called from any thread.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._offset = 0.0
        self._high = -inf
        self._guard = Lock()

    def now(self) -> float:
        """Return the instant, in seconds since the epoch; never less than before.

        Rules: C2.
        """
        with self._guard:
            instant = self._wall() + self._offset
            if instant < self._high:
                self._offset += self._high - instant
                return self._high
            self._high = instant
            return instant

    def learn(self, high: float, offset: float) -> None:
        """Take over what another process saw: neither clock may be behind the other (C2).

        Args:
            high: the latest instant it handed out.
            offset: its offset in seconds.
        """
        with self._guard:
            self._high = max(self._high, high)
            self._offset = max(self._offset, offset)

    @property
    def mark(self) -> tuple[float, float]:
        """The latest instant handed out, and the offset in seconds: what :meth:`learn` takes."""
        with self._guard:
            return self._high, self._offset

    def start_over(self) -> None:
        """Make the clock usable in a forked child, where a thread that is gone may have held its lock."""
        self._guard = Lock()
