"""Which connections a store has: for threads, for each event loop, and, after a fork, none."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from retrysafe.errors import StoreUnavailable
from retrysafe.stores.sql.pool import AsyncPool, Kept, Pool, Shelf
from retrysafe.stores.traits import Meta

S = TypeVar("S", bound=Kept)
A = TypeVar("A", bound=Kept)


class Pools(Generic[S, A]):
    """What a store has open in this process; begins with nothing after a fork.

    Args:
        most: how many connections at the same time, for threads and for each event loop.
        patience_seconds: how long whoever needs one waits for it.
        connect: makes one for threads.
        aconnect: makes one on the running event loop.

    Attributes:
        meta: what the store keeps for ever; None until its tables have been looked at.
        running: writes of event loops, whoever still waits for them.
    """

    def __init__(
        self,
        most: int,
        patience_seconds: float,
        connect: Callable[[], S],
        aconnect: Callable[[], Awaitable[A]],
    ) -> None:
        self._most, self._patience_seconds = most, patience_seconds
        self._connect, self._aconnect = connect, aconnect
        self._start_over()
        _remember(self)

    def _start_over(self) -> None:
        self.meta: Meta | None = None
        self.running: set[asyncio.Future[Any]] = set()
        self._opening = threading.Lock()
        self._door = threading.Lock()
        self._threads: Pool[S] | None = None
        self._loops: dict[asyncio.AbstractEventLoop, AsyncPool[A]] = {}

    @contextmanager
    def opening(self) -> Generator[None]:
        """Let one thread at a time look at the tables, so that a crowd at the beginning needs one connection.

        Raises:
            StoreUnavailable: another has been at it for too long.
        """
        if not self._opening.acquire(timeout=self._patience_seconds):
            raise StoreUnavailable("another thread has been opening the store for too long")
        try:
            yield
        finally:
            self._opening.release()

    def threads(self) -> Pool[S]:
        """Return the connections for threads."""
        with self._door:
            if self._threads is None:
                self._threads = Pool(self._most, self._patience_seconds, self._connect)
            return self._threads

    def loop(self) -> AsyncPool[A]:
        """Return the connections of the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is not None:
            return found
        with self._door:
            self._close_finished()
            self._loops[loop] = AsyncPool(self._most, self._patience_seconds, self._aconnect)
            return self._loops[loop]

    def close(self) -> None:
        """Close the connections for threads, and what event loops that are closed have left."""
        with self._door:
            self.meta = None
            threads, self._threads = self._threads, None
            self._close_finished()
        if threads is not None:
            threads.shelf.close()

    async def aclose_loop(self) -> None:
        """Close the connections of the running event loop."""
        with self._door:
            pool = self._loops.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()

    def close_all(self) -> None:
        """Close everything; nobody has the store any more."""
        self.close()
        for pool in list(self._loops.values()):
            pool.shelf.close()

    def start_over(self) -> None:
        """Begin with nothing, in a forked child: the connections are the parent's."""
        shelves: list[Shelf[Any]] = [pool.shelf for pool in self._loops.values()]
        if self._threads is not None:
            shelves.append(self._threads.shelf)
        # The pools of loops as well: collecting them would have the parent's loops close something.
        _INHERITED.append(self._loops)
        for shelf in shelves:
            _INHERITED.extend(shelf.disown())
        self._start_over()

    def _close_finished(self) -> None:
        for loop in [loop for loop in self._loops if loop.is_closed()]:
            self._loops.pop(loop).shelf.close_all()


_EVERY: weakref.WeakSet[Pools[Any, Any]] = weakref.WeakSet()
_INHERITED: list[object] = []
"""What forked children got from their parents and must neither use nor collect."""
_hooked = threading.Lock()


def _remember(pools: Pools[Any, Any]) -> None:
    # The lock is taken once and never given back: it says that the hook is in place.
    if _hooked.acquire(blocking=False):
        os.register_at_fork(after_in_child=_in_child)
    _EVERY.add(pools)


def _in_child() -> None:
    for pools in list(_EVERY):
        pools.start_over()
