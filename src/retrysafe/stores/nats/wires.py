"""Which connections a store has: one for each event loop; after a fork, none."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final

from retrysafe.errors import StoreCorrupt
from retrysafe.stores.base import Meta
from retrysafe.stores.nats.keeping import Keeping
from retrysafe.stores.nats.portal import Portal
from retrysafe.stores.nats.wire import Connect, Wire


class Wires:
    """What a store has open in this process; begins with nothing after a fork.

    Attributes:
        meta: what the store keeps for ever; None until the bucket has been looked at.
        portal: the thread for threads.
        running: writes of event loops, whoever still waits for them.
    """

    def __init__(self, connect: Connect, keeping: Keeping, timeout_seconds: float, forked: Callable[[], None]) -> None:
        self._connect: Final = connect
        self._keeping: Final = keeping
        self._timeout_seconds: Final = timeout_seconds
        self._forked: Final = forked
        self._start_over()
        _remember(self)

    def _start_over(self) -> None:
        self.meta: Meta | None = None
        self.portal = Portal()
        self.running: set[asyncio.Future[Any]] = set()
        self._guard = threading.Lock()
        self._doors: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}
        self._wires: dict[asyncio.AbstractEventLoop, Wire] = {}

    async def wire(self) -> Wire:
        """Return this event loop's connection; one that was lost is made anew.

        Raises:
            StoreUnavailable: it cannot be.
        """
        loop = asyncio.get_running_loop()
        wire = self._wires.get(loop)
        if wire is not None and wire.is_open:
            return wire
        with self._guard:
            self._drop_finished()
            door = self._doors.setdefault(loop, asyncio.Lock())
        async with door:
            wire = self._wires.get(loop)
            if wire is None or not wire.is_open:
                wire = await Wire.open(self._connect, self._timeout_seconds)
                try:
                    self._keep(await self._keeping.prepare(wire))
                except BaseException:
                    await wire.close()
                    raise
                self._wires[loop] = wire
        return wire

    async def is_made(self) -> bool:
        """Tell whether the bucket is there, over a connection that is closed again."""
        wire = await Wire.open(self._connect, self._timeout_seconds)
        try:
            return await self._keeping.bucket.is_made(wire)
        finally:
            await wire.close()

    def _keep(self, meta: Meta) -> None:
        """Keep what was found, or refuse a bucket that is not the one whose keys this process knows (K4)."""
        if self.meta is not None and self.meta != meta:
            raise StoreCorrupt(
                "NATS: the bucket was lost and made anew, or is another one: digests of this process don't fit it. "
                "Close the store, or restart, once it is known what was lost"
            )
        self.meta = meta

    async def close_loop(self) -> None:
        """Close this event loop's connection, once its writes have ended."""
        loop = asyncio.get_running_loop()
        mine = [task for task in self.running if task.get_loop() is loop]
        await asyncio.gather(*mine, return_exceptions=True)
        with self._guard:
            wire = self._wires.pop(loop, None)
            self._doors.pop(loop, None)
            self._drop_finished()
            if not self._wires:
                self.meta = None
        if wire is not None:
            await wire.close()

    def close_threads(self) -> None:
        """Close the connection for threads, and their thread."""
        portal = self.portal
        if portal.loop is not None:
            portal.run(self.close_loop())
            portal.close()

    def abandon(self) -> None:
        """Close the connection for threads: nobody has the store any more, and its thread may be who collects it."""
        if threading.current_thread() is not self.portal.thread:
            self.close_threads()

    def start_over(self) -> None:
        """Begin with nothing, in a forked child: the connections are the parent's, and are neither used nor closed."""
        for wire in list(self._wires.values()):
            wire.disown()
        _INHERITED.append((self._wires, self.portal, self.running))
        self._start_over()
        self._keeping.start_over()
        self._forked()

    def _drop_finished(self) -> None:
        for loop in [loop for loop in list(self._wires) if loop.is_closed()]:
            self._wires.pop(loop, None)
            self._doors.pop(loop, None)


_EVERY: weakref.WeakSet[Wires] = weakref.WeakSet()
_INHERITED: list[object] = []
"""What forked children got from their parents and must neither use nor collect."""
_hooked = threading.Lock()


def _remember(wires: Wires) -> None:
    # The lock is taken once and never given back: it says that the hook is in place.
    if _hooked.acquire(blocking=False):
        os.register_at_fork(after_in_child=_in_child)
    _EVERY.add(wires)


def _in_child() -> None:
    for wires in list(_EVERY):
        wires.start_over()
