"""Our own clock, for durations only, and identifiers that carry the time they were made.

Instants that decide anything are the store's (C2). What is measured here is how long ago *we* did something.
"""

from __future__ import annotations

import os
import time
from typing import Protocol


class Clock(Protocol):
    """Measures durations on this host."""

    def monotonic(self) -> float:
        """Return seconds since some fixed instant; never goes backwards."""
        ...


class SystemClock:
    """The host's monotonic clock, which is not affected by suspend-free clock steps."""

    def monotonic(self) -> float:
        """Return seconds since some fixed instant; never goes backwards."""
        return time.monotonic()


def uuid7() -> str:
    """Make a UUIDv7 (RFC 9562): 48 bits of milliseconds, then 74 random bits; text in canonical form.

    The standard library has it from Python 3.14 on.
    """
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
