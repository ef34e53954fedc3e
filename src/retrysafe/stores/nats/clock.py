"""The server's clock, read from the time that it stamps on a message (C2).

JetStream tells nobody what time it is, but says of every message when it was stored. So now and then a process writes
one and reads its stamp, and counts on from there by its own clock of seconds since boot, which no step of the wall
clock moves. An instant is never ahead of the server's, and behind it by no more than the shortest such question of the
last minute took: a few milliseconds at most. In a cluster the stamp is the leader's, so that its servers must agree on
the time as well as leases need it; a second is plenty, and what every cluster has.
"""

from __future__ import annotations

import re
import time
from calendar import timegm
from collections import deque
from collections.abc import Callable
from math import inf
from threading import Lock
from typing import Final

from retrysafe.stores.program import Program, Statement

LEARN: Final = Statement("learn")
"""Asks the driver to learn the time from the server."""

_FRESH_SECONDS = 10.0
_KEPT = 6
_STAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?Z")


def since_boot() -> float:
    """Return seconds since this host was started, those that it was asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class ServerClock:
    """What this process knows of the server's clock; every method may be called from any thread.

    Args:
        elapsed: seconds since some fixed instant, by a clock that never steps.
    """

    def __init__(self, elapsed: Callable[[], float] = since_boot) -> None:
        self._elapsed = elapsed
        self._offsets: deque[float] = deque(maxlen=_KEPT)
        self._learned_at = -inf
        self._high = -inf
        self._guard = Lock()

    @property
    def is_fresh(self) -> bool:
        """Tell whether it was learned a short while ago."""
        with self._guard:
            return self._elapsed() - self._learned_at < _FRESH_SECONDS

    def learn(self, stamp: float) -> None:
        """Take a stamp that the server has just told: it can't be later there than now.

        Args:
            stamp: seconds since the epoch.
        """
        with self._guard:
            self._learned_at = self._elapsed()
            self._offsets.append(stamp - self._learned_at)

    def now(self) -> float:
        """Return the server's time, in seconds since the epoch; never less than before."""
        with self._guard:
            # Each offset is too small by as long as its answer was on its way.
            self._high = max(self._high, self._elapsed() + max(self._offsets))
            return self._high

    def start_over(self) -> None:
        """Make the clock usable in a forked child, where a thread that is gone may have held its lock."""
        self._guard = Lock()


class ServerInstants:
    """The server's clock as a program, which asks the server only when it was not asked for a while."""

    def __init__(self, clock: ServerClock) -> None:
        """Use what a process knows of the server's clock."""
        self._clock = clock

    def now(self) -> Program[float]:
        """Return the store's time."""
        if not self._clock.is_fresh:
            yield LEARN
        return self._clock.now()


def seconds_of(stamp: str) -> float:
    """Read a time as JetStream writes it, to the nanosecond.

    Raises:
        ValueError: it is none.
    """
    match = _STAMP.fullmatch(stamp)
    if match is None:
        raise ValueError(f"not a time of JetStream: {stamp}")
    whole = timegm(tuple(map(int, match.groups()[:6])))
    return whole + float(match[7] or 0)
