"""Which connections a store has: for threads, for each event loop, and, after a fork, none."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

from retrysafe.errors import StoreUnavailable
from retrysafe.stores.sql.pool import AsyncPool, Pool, Shelf
from retrysafe.stores.traits import Meta


class ForThreads(Protocol):
    """Whatever runs programs for threads."""

    pool: Pool[Any]


class ForLoop(Protocol):
    """Whatever runs programs for one event loop."""

    pool: AsyncPool[Any]


S = TypeVar("S", bound=ForThreads)
A = TypeVar("A", bound=ForLoop)


class Pools(Generic[S, A]):
    """What a store has open in this process; begins with nothing after a fork.

    Args:
        for_threads: makes what runs programs for threads.
        for_loop: makes what runs programs for the running event loop.
        patience_seconds: how long a thread waits for another one that opens the store.

    Attributes:
        meta: what the store keeps for ever; None until its tables have been looked at.
    """

    def __init__(
        self,
        for_threads: Callable[[], S],
        for_loop: Callable[[], A],
        patience_seconds: float,
    ) -> None:
        self._for_threads, self._for_loop = for_threads, for_loop
        self._patience_seconds = patience_seconds
        self._start_over()
        _remember(self)

    def _start_over(self) -> None:
        self.meta: Meta | None = None
        self._opening = threading.Lock()
        self._door = threading.Lock()
        self._threads: S | None = None
        self._loops: dict[asyncio.AbstractEventLoop, A] = {}

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

    def threads(self) -> S:
        """Return what runs programs for threads."""
        threads = self._threads
        if threads is not None:
            return threads
        with self._door:
            if self._threads is None:
                self._threads = self._for_threads()
            return self._threads

    def loop(self) -> A:
        """Return what runs programs for the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is not None:
            return found
        with self._door:
            self._close_finished()
            self._loops[loop] = self._for_loop()
            return self._loops[loop]

    def close(self) -> None:
        """Close the connections for threads, and what event loops that are closed have left."""
        with self._door:
            self.meta = None
            threads, self._threads = self._threads, None
            self._close_finished()
        if threads is not None:
            threads.pool.shelf.close()

    async def aclose_loop(self) -> None:
        """Close the connections of the running event loop."""
        with self._door:
            found = self._loops.pop(asyncio.get_running_loop(), None)
        if found is not None:
            await found.pool.aclose()

    def close_all(self) -> None:
        """Close everything; nobody has the store any more."""
        self.close()
        for found in list(self._loops.values()):
            found.pool.shelf.close()

    def start_over(self) -> None:
        """Begin with nothing, in a forked child: the connections are the parent's."""
        shelves: list[Shelf[Any]] = [found.pool.shelf for found in self._loops.values()]
        if self._threads is not None:
            shelves.append(self._threads.pool.shelf)
        # The pools of loops as well: collecting them would have the parent's loops close something.
        _INHERITED.append(self._loops)
        for shelf in shelves:
            _INHERITED.extend(shelf.disown())
        self._start_over()

    def _close_finished(self) -> None:
        for loop in [loop for loop in self._loops if loop.is_closed()]:
            self._loops.pop(loop).pool.shelf.close_all()


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
