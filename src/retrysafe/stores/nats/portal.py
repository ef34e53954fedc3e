"""A thread with an event loop of its own, through which threads use what only event loops can use."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from retrysafe.errors import StoreUnavailable

T = TypeVar("T")


class Portal:
    """A daemon thread that runs coroutines for other threads; it starts with the first and stops when it is closed."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop, while the thread runs."""
        return self._loop

    @property
    def thread(self) -> threading.Thread | None:
        """The thread, while it runs."""
        return self._thread

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the thread's loop, and block until it has ended.

        Whoever is interrupted leaves it running to its end.

        Raises:
            StoreUnavailable: the portal was closed meanwhile.
        """
        with self._guard:
            # Behind the guard, so that it is ahead of a close.
            running = asyncio.run_coroutine_threadsafe(coroutine, self._running())
        try:
            return running.result()
        except CancelledError:
            raise StoreUnavailable("NATS: the store was closed meanwhile") from None

    def close(self) -> None:
        """Stop the thread, once its loop is idle."""
        with self._guard:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_serve, args=(self._loop,), name="retrysafe-nats", daemon=True)
            self._thread.start()
        return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        # Whatever a thread has handed in by now is a task after one more round.
        loop.run_until_complete(asyncio.sleep(0))
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
