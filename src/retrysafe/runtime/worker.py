"""A process that serves nobody and recovers what others left behind; any number of them, and no leader (R2).

::

    scan ──► due? ──► no queue: claim and run        up to ``parallel`` at once
               └────► queue: send hints ──► whoever takes one claims and runs
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from retrysafe.errors import RetrySafeError
from retrysafe.runtime.recovery import PARALLEL

if TYPE_CHECKING:
    from retrysafe.protocol.model import Checkpoint
    from retrysafe.runtime.guard import RetrySafe
    from retrysafe.runtime.queues.base import Hint, HintQueue

_SEND_SECONDS = 3.0


class Worker:
    """Recovers what is abandoned, until it is told to stop."""

    def __init__(
        self,
        guard: RetrySafe,
        *,
        parallel: int = PARALLEL,
        scan: timedelta = timedelta(seconds=1),
        queue: HintQueue | None = None,
        alone: Sequence[str] = (),
    ) -> None:
        """Prepare a worker; nothing connects.

        Args:
            guard: whose operations.
            parallel: how many are run at once.
            scan: time between two looks.
            queue: carries hints to other workers and from them; None is no broker.
            alone: the command that recovers one operation in a process of its own, to which the operation's digest in
                hexadecimal is added; empty to run what kills its processes here, too.
        """
        self._guard = guard
        self._parallel = parallel
        self._scan = scan
        self._queue = queue
        self._alone = tuple(alone)
        self._children: set[subprocess.Popen[bytes]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Connect and start to look.

        Raises:
            ConfigurationError: the guard is not set up for its store.
            StoreError: the store cannot be used now.
        """
        self._loop = asyncio.get_running_loop()
        self._guard.local_engine().loop = self._loop
        self.scanner = await asyncio.to_thread(self._guard.recover, parallel=self._parallel, scan=self._scan)
        self.scanner.alone = self._run_alone if self._alone else None
        if self._queue is not None:
            self.scanner.send = self._send
            await self._queue.start()
            self._taking = asyncio.create_task(self._queue.run(self._take))
        self.scanner.start()

    async def recover_one(self, digest: bytes) -> bool:
        """Recover one operation and return when that has ended; False when there was nothing to do."""
        self._loop = asyncio.get_running_loop()
        self._guard.local_engine().loop = self._loop
        self.scanner = await asyncio.to_thread(self._guard.recover, parallel=1, scan=self._scan)
        taken = await asyncio.to_thread(self._settle, digest, None)
        await asyncio.to_thread(self.scanner.wait_until_idle)
        return taken

    async def stop(self, seconds: float) -> None:
        """Take nothing more, wait for what runs, and leave the rest to others (C7).

        Args:
            seconds: how long to wait.
        """
        await asyncio.to_thread(self.scanner.close)
        if self._queue is not None:
            await self._queue.stop()
            self._taking.cancel()
        await asyncio.to_thread(self.scanner.wait_until_idle, seconds)
        for child in tuple(self._children):
            child.kill()

    def health(self) -> dict[str, Any]:
        """Tell how it is: ``ok`` is False when the scan has not looked for much longer than it should (R2)."""
        engine = self._guard.local_engine()
        idle = engine.clock.monotonic() - self.scanner.looked_at
        facts: dict[str, Any] = {
            "ok": self.scanner.busy >= self._parallel or idle < 10 * self._scan.total_seconds() + _SEND_SECONDS,
            "recovering": self.scanner.busy,
            "parallel": self._parallel,
            "seconds_since_scan": round(idle, 3),
        }
        if self._queue is not None:
            facts["queue"] = self._queue.healthy
        return facts

    # Hints.

    def _send(self, found: Sequence[Checkpoint]) -> bool:
        """Publish hints from the scan's thread; False when the broker is down, so that the scan claims by itself."""
        from retrysafe.runtime.queues.base import Hint  # noqa: PLC0415 - only where there is a queue

        queue, loop = self._queue, self._loop
        if queue is None or loop is None:
            return False
        hints = [
            Hint(
                operation_id=seen.operation_id,
                digest=seen.digest,
                fence=seen.fence,
                reason="undoing" if seen.undoing else "abandoned",
            )
            for seen in found
        ]
        sending = asyncio.run_coroutine_threadsafe(queue.put(hints), loop)
        try:
            return sending.result(_SEND_SECONDS) == len(hints)
        except (TimeoutError, RetrySafeError):
            sending.cancel()
            return False

    async def _take(self, hint: Hint) -> None:
        """Claim what a hint is about, if there is still anything to claim, and start it; then it is acknowledged."""
        await asyncio.to_thread(self._settle, hint.digest, hint.fence)

    def _settle(self, digest: bytes, fence: int | None) -> bool:
        store = self._guard.local_engine().sync
        seen = store.query(partial(store.verbs.read, digest))
        if seen is None or (fence is not None and seen.fence != fence) or max(seen.lease_until, seen.due_at) > seen.now:
            return False
        # Without a free place it is left to others, and to the scan.
        return self.scanner.busy < self._parallel and self.scanner.settle(seen)

    # Poison.

    def _run_alone(self, seen: Checkpoint) -> None:
        """Recover an operation in a process of its own, which it may kill (R8)."""
        child = subprocess.Popen([*self._alone, seen.digest.hex()], stdin=subprocess.DEVNULL)  # noqa: S603 - ours
        self._children.add(child)
        try:
            child.wait()
        finally:
            self._children.discard(child)
