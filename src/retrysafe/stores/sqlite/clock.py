"""The store's clock, kept in the file so that all processes of this host share it and it outlives them (C2)."""

from __future__ import annotations

from collections.abc import Callable

from retrysafe.stores.clock import HostClock
from retrysafe.stores.program import Program, Statement
from retrysafe.stores.sqlite.dialect import statements

_MARK_EVERY_SECONDS = 1.0


class StoredClock(HostClock):
    """A host clock whose mark is in the store's meta row.

    The mark is written about once a second, together with other writes, not with each of them. So a process that dies
    just when the wall clock steps back may leave a clock that goes back by up to a second: leases then run that much
    longer, and nothing worse happens.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        super().__init__(wall)
        self._marked_at: float | None = None

    def is_due(self) -> bool:
        """Tell whether the next transaction must compare the clock with the other processes'.

        It must after a second, by the wall clock, and whenever that has stepped back.
        """
        return self._marked_at is None or not 0 <= self._wall() - self._marked_at < _MARK_EVERY_SECONDS

    def forget(self) -> None:
        """Compare again with the next transaction: the last one was rolled back, or the file is another one."""
        self._marked_at = None

    def compare(self) -> Program[None]:
        """Take over what other processes saw, and leave them what this one saw.

        Rules: C2.
        """
        named = statements()
        answer = yield Statement(named["clock"])
        for high, offset in answer.rows:
            self.learn(high, offset)
        self.now()
        yield Statement(named["set_clock"], self.mark)
        self._marked_at = self._wall()
