"""Writes that must not be forgotten because the store failed: tried again until they are settled (D2).

While they wait, their claims stay alive in the lease keeper as far as the store allows, so that nobody takes over.
They live in memory: if the process dies first, the lease ends and recovery decides, as after any crash.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class Deferred:
    """A queue of writes and the thread that retries them."""

    def __init__(self) -> None:
        """Start empty; the thread starts with the first write."""
        self._writes: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._empty = threading.Event()
        self._empty.set()

    def add(self, write: Callable[[], None]) -> None:
        """Try ``write`` until it does not raise."""
        with self._lock:
            self._writes.append(write)
            self._empty.clear()
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="retrysafe-deferred", daemon=True)
                thread.start()
                self._thread = thread

    def drain(self, seconds: float) -> bool:
        """Wait until every write is settled; False when ``seconds`` are over before."""
        return self._empty.wait(seconds)

    def close(self) -> None:
        """Give up what is left; leases and recovery take over."""
        self._closed.set()

    def _work(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._closed.is_set():
            with self._lock:
                if not self._writes:
                    self._thread = None
                    self._empty.set()
                    return
                write = self._writes.popleft()
            try:
                write()
            except Exception:  # noqa: BLE001 - whatever it is, an outcome must not be lost for it
                # Behind the others: what this one stumbles over may not concern them.
                with self._lock:
                    self._writes.append(write)
                self._closed.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                pause = _FIRST_PAUSE_SECONDS
