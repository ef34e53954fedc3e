"""Our own clock, for durations only, and identifiers that carry the time they were made.

Instants that decide anything are the store's (C2). What is measured here is how long ago *we* did something.
"""

from __future__ import annotations

import os
import time
from typing import Protocol

_VARIANT = 0b10 << 62


class Clock(Protocol):
    """Measures durations on this host."""

    def monotonic(self) -> float:
        """Return seconds since some fixed instant; never goes backwards."""
        ...


class SystemClock:
    """The host's monotonic clock, which no step of the wall clock moves."""

    monotonic = staticmethod(time.monotonic)


def uuid7() -> str:
    """Make a UUIDv7 (RFC 9562): 48 bits of milliseconds, then 74 random bits; text in canonical form.

    The standard library has it from Python 3.14 on.
    """
    # From the system, at half a microsecond: an application that seeds the random module in each worker would make
    # attempts alike, and an attempt is recognised by its id (D4).
    bits = int.from_bytes(os.urandom(10), "big")
    high, low = bits & 0xFFF, bits >> 18
    milliseconds = time.time_ns() // 1_000_000
    head = f"{milliseconds:012x}7{high:03x}"
    tail = f"{low | _VARIANT:016x}"
    return f"{head[:8]}-{head[8:12]}-{head[12:]}-{tail[:4]}-{tail[4:]}"
