"""A queue inside one process: for tests, and where scan and worker share an event loop."""

from __future__ import annotations

import asyncio

from retrysafe.runtime.queues.base import Hint, encode

_MOST = 10_000


class Memory:
    """What a broker would keep. It belongs to one event loop."""

    def __init__(self) -> None:
        """Begin empty."""
        self.waiting: asyncio.Queue[bytes] = asyncio.Queue()

    def keep(self, body: bytes) -> None:
        """Keep a message, and drop the oldest of too many: nobody takes them, and the scan stays on (R2)."""
        if self.waiting.qsize() >= _MOST:
            self.waiting.get_nowait()
        self.waiting.put_nowait(body)


class MemoryLine:
    """One consumer and sender of a :class:`Memory`."""

    def __init__(self, memory: Memory) -> None:
        """Use ``memory``; other lines may, too."""
        self._memory = memory
        self._held: set[MemoryDelivery] = set()

    async def open(self) -> None:
        """There is nothing to connect to."""

    async def publish(self, hint: Hint) -> None:
        """Keep the hint."""
        self._memory.keep(encode(hint))

    async def next(self) -> MemoryDelivery | None:
        """Wait for a message."""
        delivery = MemoryDelivery(await self._memory.waiting.get(), self._held)
        self._held.add(delivery)
        return delivery

    async def probe(self) -> None:
        """It is always good."""

    async def close(self) -> None:
        """Put back what nobody acknowledged."""
        for delivery in self._held:
            self._memory.keep(delivery.body)
        self._held.clear()


class MemoryDelivery:
    """A message that is held until it is acknowledged."""

    def __init__(self, body: bytes, held: set[MemoryDelivery]) -> None:
        """Remember who holds it."""
        self.body = body
        self._held = held

    async def ack(self) -> None:
        """Forget the message."""
        self._held.discard(self)
