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
from retrysafe.stores.postgres import asyncpg
from retrysafe.stores.postgres.connect import Settings
from retrysafe.stores.postgres.notices import Notices
from retrysafe.stores.postgres.pool import Shelf
from retrysafe.stores.postgres.running import LoopRunner, ThreadRunner
from retrysafe.stores.postgres.sessions import PsycopgSession


class Pools:
    """What a store has open in this process; begins with nothing after a fork.

    Attributes:
        meta: what the store keeps for ever; None until its tables have been looked at.
        notices: wakes those who wait for operations of other processes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._start_over()
        _remember(self)

    def _start_over(self) -> None:
        self.meta: Meta | None = None
        self._opening = threading.Lock()
        self._door = threading.Lock()
        self._threads: ThreadRunner | None = None
        self.notices = Notices(self._settings)
        self._loops: dict[asyncio.AbstractEventLoop, LoopRunner] = {}

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

    def threads(self) -> ThreadRunner:
        """Return what runs programs for threads."""
        with self._door:
            if self._threads is None:
                self._threads = ThreadRunner(self._settings)
            return self._threads

    def loop(self, loop: asyncio.AbstractEventLoop) -> LoopRunner:
        """Return what runs programs for an event loop."""
        found = self._loops.get(loop)
        if found is None:
            with self._door:
                self._close_finished()
                connect = (
                    PsycopgSession.connect if self._settings.driver == "psycopg" else asyncpg.AsyncpgSession.connect
                )
                found = self._loops[loop] = LoopRunner(self._settings, connect)
        return found

    def close(self) -> None:
        """Close the connections for threads, and what event loops that are closed have left."""
        with self._door:
            self.meta = None
            threads, self._threads = self._threads, None
            self._close_finished()
        if threads is not None:
            threads.pool.shelf.close()
        self.notices.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        with self._door:
            runner = self._loops.pop(asyncio.get_running_loop(), None)
        if runner is not None:
            await runner.aclose()

    def close_all(self) -> None:
        """Close everything; nobody has the store any more."""
        self.close()
        while self._loops:
            self._loops.popitem()[1].pool.shelf.close()

    def start_over(self) -> None:
        """Begin with nothing, in a forked child: the connections are the parent's."""
        shelves: list[Shelf[Any]] = [runner.pool.shelf for runner in self._loops.values()]
        if self._threads is not None:
            shelves.append(self._threads.pool.shelf)
        _INHERITED.extend(self.notices.disown())
        for shelf in shelves:
            _INHERITED.extend(shelf.disown())
        self._start_over()

    def _close_finished(self) -> None:
        for loop in [loop for loop in self._loops if loop.is_closed()]:
            self._loops.pop(loop).pool.shelf.close_all()


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
