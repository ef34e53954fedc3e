"""One connection to a broker: opened, used, and thrown away when it breaks; never repaired.

What clients do about a lost connection differs, and each has a case in which a consumer silently stays away. A new
connection that declares everything anew is the one way that is the same for all, and the one that is tested most:
it is how every process begins.
"""

from __future__ import annotations

from typing import Any, Protocol

from retrysafe.runtime.queues.base import Hint


class Delivery(Protocol):
    """A message that a broker keeps until it hears of it; FastStream's messages are of this shape."""

    body: Any

    async def ack(self) -> None:
        """Tell the broker that it may forget the message."""
        ...


class Line(Protocol):
    """One connection. Any method but ``close`` may raise anything: then the line is of no use any more."""

    async def open(self) -> None:
        """Connect, and declare what hints are kept in, so that one that is put before anybody listens waits."""
        ...

    async def publish(self, hint: Hint) -> None:
        """Send a hint; returns when the broker has it. Several may be under way."""
        ...

    async def next(self) -> Delivery | None:
        """Wait for a message, or for a second or so and return None. Called by one task at a time; may be cancelled.

        The first call begins to consume: a process that only sends keeps no message from others.
        """
        ...

    async def probe(self) -> None:
        """Ask the broker whether this line is still good."""
        ...

    async def close(self) -> None:
        """Let go of everything; what was not acknowledged goes to others."""
        ...
