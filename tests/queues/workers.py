"""Workers as tests see them: they take hints, remember them, and wait when they are told to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import count
from uuid import uuid4

from retrysafe.runtime.queues.base import Hint, HintQueue, QueueUnavailable, Take

PATIENCE_SECONDS = 90.0
"""How long something may take that surely happens, on a machine that is busy with other things."""

_numbers = count(1)


def some_hints(number: int) -> list[Hint]:
    """Make hints about operations of which nobody has heard before."""
    return [
        Hint(operation_id=f"operation-{next(_numbers)}", digest=uuid4().bytes, fence=1, reason="abandoned")
        for _ in range(number)
    ]


class Worker:
    """Takes hints and remembers them.

    Attributes:
        taken: how often each operation was taken.
    """

    def __init__(self, queue: HintQueue, take: Take | None = None) -> None:
        self.queue = queue
        self.taken: Counter[str] = Counter()
        self._take = take
        self._changed = asyncio.Condition()

    async def take(self, hint: Hint) -> None:
        """Take a hint."""
        async with self._changed:
            self.taken[hint.operation_id] += 1
            self._changed.notify_all()
        if self._take is not None:
            await self._take(hint)

    async def has_taken(self, hints: Iterable[Hint]) -> None:
        """Wait until all of these were taken."""
        wanted = {hint.operation_id for hint in hints}
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(lambda: wanted <= self.taken.keys())


@asynccontextmanager
async def working(queue: HintQueue, take: Take | None = None) -> AsyncIterator[Worker]:
    """Run a queue for a while; ``run`` must not have ended by itself."""
    worker = Worker(queue, take)
    await queue.start()
    running = asyncio.create_task(queue.run(worker.take))
    try:
        yield worker
        assert not running.done()
    finally:
        await queue.stop()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await running


@asynccontextmanager
async def sending(queue: HintQueue) -> AsyncIterator[HintQueue]:
    """Use a queue to send only."""
    await queue.start()
    try:
        yield queue
    finally:
        await queue.stop()


async def put_all(queue: HintQueue, hints: list[Hint]) -> None:
    """Put hints, again and again until the broker has confirmed all: what a scan does in the end."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                if await queue.put(hints) == len(hints):
                    return
            except QueueUnavailable:
                pass
            await asyncio.sleep(0.2)


async def until(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until something holds that only looking can tell."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            held = holds()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.05)
