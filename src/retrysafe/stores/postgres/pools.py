"""Which connections a store has: for threads, for each event loop, and, after a fork, none."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from retrysafe.errors import StoreUnavailable
from retrysafe.stores.base import Meta
from retrysafe.stores.postgres.connect import Settings
from retrysafe.stores.postgres.pool import AsyncPool, Pool, Shelf


class Pools:
    """What a store has open in this process; begins with nothing after a fork.

    Attributes:
        meta: what the store keeps for ever; None until its tables have been looked at.
        running: writes of event loops, whoever still waits for them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._start_over()
        _remember(self)

    def _start_over(self) -> None:
        self.meta: Meta | None = None
        self.running: set[asyncio.Future[Any]] = set()
        self._opening = threading.Lock()
        self._door = threading.Lock()
        self._threads: Pool | None = None
        self._loops: dict[asyncio.AbstractEventLoop, AsyncPool] = {}

    @contextmanager
    def opening(self) -> Generator[None]:
        """Let one thread at a time look at the tables, so that a crowd at the beginning needs one connection.

        Raises:
            StoreUnavailable: another has been at it for too long.
        """
        if not self._opening.acquire(timeout=self._settings.timeout_seconds):
            raise StoreUnavailable("PostgreSQL: another thread has been opening the store for too long")
        try:
            yield
        finally:
            self._opening.release()

    def threads(self) -> Pool:
        """Return the connections for threads."""
        with self._door:
            if self._threads is None:
                self._threads = Pool(self._settings)
            return self._threads

    def loop(self, loop: asyncio.AbstractEventLoop) -> AsyncPool:
        """Return the connections of an event loop."""
        with self._door:
            if loop not in self._loops:
                self._close_finished()
                self._loops[loop] = AsyncPool(self._settings)
            return self._loops[loop]

    def close(self) -> None:
        """Close the connections for threads, and what event loops that are closed have left."""
        with self._door:
            self.meta = None
            threads, self._threads = self._threads, None
            self._close_finished()
        if threads is not None:
            threads.shelf.close()

    def close_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the connections of an event loop."""
        with self._door:
            pool = self._loops.pop(loop, None)
        if pool is not None:
            pool.shelf.close()

    def close_all(self) -> None:
        """Close everything; nobody has the store any more."""
        self.close()
        for loop in list(self._loops):
            self.close_loop(loop)

    def start_over(self) -> None:
        """Begin with nothing, in a forked child: the connections are the parent's."""
        shelves: list[Shelf[Any]] = [pool.shelf for pool in self._loops.values()]
        if self._threads is not None:
            shelves.append(self._threads.shelf)
        for shelf in shelves:
            _INHERITED.extend(shelf.disown())
        self._start_over()

    def _close_finished(self) -> None:
        for loop in [loop for loop in self._loops if loop.is_closed()]:
            self._loops.pop(loop).shelf.close_all()


_EVERY: weakref.WeakSet[Pools] = weakref.WeakSet()
_INHERITED: list[object] = []
"""What forked children got from their parents and must neither use nor collect."""
_hooked = threading.Lock()


def _remember(pools: Pools) -> None:
    # The lock is taken once and never given back: it says that the hook is in place.
    if _hooked.acquire(blocking=False):
        os.register_at_fork(after_in_child=_in_child)
    _EVERY.add(pools)


def _in_child() -> None:
    for pools in list(_EVERY):
        pools.start_over()
