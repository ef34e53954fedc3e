"""Where a store's programs get the time from: every instant that is stored or compared is the store's (C2)."""

from __future__ import annotations

from typing import Protocol

from retrysafe.stores.clock import HostClock
from retrysafe.stores.program import Program


class Instants(Protocol):
    """Gives every instant that is stored or compared (C2)."""

    def now(self) -> Program[float]:
        """Return the store's time, in seconds since the epoch."""
        ...


class HostInstants:
    """The host's clock as a program without statements."""

    def __init__(self, clock: HostClock) -> None:
        """Use a clock of this host."""
        self._clock = clock

    def now(self) -> Program[float]:
        """Return the store's time."""
        return self._clock.now()
        yield
