"""Taking hints side by side: so many at once, each acknowledged when its take has ended, however that went."""

from __future__ import annotations

import asyncio
import logging
import time

from retrysafe.runtime.queues.base import Take, decode
from retrysafe.runtime.queues.line import Delivery

_ACK_SECONDS = 5.0
_LOG = logging.getLogger("retrysafe.queues")


class Taking:
    """The hints that are being taken.

    Attributes:
        began_at: when the last one was delivered, by the process's monotonic clock; None before the first.
    """

    def __init__(self, parallel: int) -> None:
        """Allow ``parallel`` of them."""
        self.began_at: float | None = None
        self._places = asyncio.Semaphore(parallel)
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Count what is being taken now."""
        return len(self._tasks)

    async def place(self) -> None:
        """Wait for a free place; give it to :meth:`begin`, or back with :meth:`leave`."""
        await self._places.acquire()

    def leave(self) -> None:
        """Give a place back."""
        self._places.release()

    def begin(self, delivery: Delivery, take: Take) -> None:
        """Take a message in a task of its own, which outlives the line: losing it is no reason to stop in a claim."""
        self.began_at = time.monotonic()
        task = asyncio.create_task(_take(delivery, take))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def cancel(self) -> None:
        """Break off whatever is being taken; none of it is acknowledged."""
        for task in self._tasks:
            task.cancel()

    async def wait(self, seconds: float) -> None:
        """Wait until nothing is being taken, or the time is over."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._places.release()


async def _take(delivery: Delivery, take: Take) -> None:
    """Take one message and acknowledge it, whatever came of it (R2)."""
    try:
        hint = decode(delivery.body)
    except (ValueError, TypeError):
        _LOG.warning("dropped a message that is no hint, %d bytes", len(delivery.body or b""))
    else:
        try:
            await take(hint)
        except Exception as error:  # noqa: BLE001 - the scan finds the operation again; a hint never loops
            _LOG.warning("taking a hint about operation %s failed: %s", hint.operation_id, type(error).__name__)
    try:
        async with asyncio.timeout(_ACK_SECONDS):
            await delivery.ack()
    except Exception as error:  # noqa: BLE001 - it comes again, and whoever gets it finds the claim gone (R1)
        _LOG.debug("a hint was not acknowledged: %s", type(error).__name__)
