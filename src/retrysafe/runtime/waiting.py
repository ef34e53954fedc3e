"""Waiting for an attempt in flight: subscribe, then poll, then ask the store again (S9, C6).

An attempt of this process wakes its waiters at once; those of other processes do where the store can tell of them, and
are noticed by polling anyway. Whoever is woken claims again, so a lost wake-up costs one poll and never correctness.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, cast

from retrysafe.protocol.states import LEASED
from retrysafe.stores.base import Capability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from retrysafe.protocol.model import Checkpoint
    from retrysafe.runtime.clock import Clock
    from retrysafe.stores.base import AsyncStore, Notifier, Store

_FIRST_POLL_SECONDS = 0.05
_SLOWEST_POLL_SECONDS = 0.5


class Waiters:
    """Requests of this process that wait for operations in flight; at most ``limit`` at once."""

    def __init__(self, limit: int, clock: Clock) -> None:
        """Start with nobody waiting."""
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._wakers: dict[bytes, list[Callable[[], None]]] = {}
        self._count = 0

    def notify(self, digest: bytes) -> None:
        """Wake everybody who waits for the operation with this identity."""
        if self._count:
            with self._lock:
                wakers = self._wakers.pop(digest, [])
            for wake in wakers:
                # A waiter whose loop is closed has nobody left who waits, and must not fail the winner.
                with suppress(RuntimeError):
                    wake()

    def wait(self, store: Store, seen: Checkpoint, seconds: float) -> bool:
        """Block until the operation may have changed; False when ``seconds`` are over or too many wait already."""
        woken = threading.Event()
        if not self._enter(seen.digest, woken.set):
            return False
        try:
            with _told_by(store, seen.digest, seconds, woken.set):
                for pause in self._pauses(seconds):
                    if _changed(seen, store.query(partial(store.verbs.read, seen.digest))) or woken.wait(pause):
                        return True
                return False
        finally:
            self._leave(seen.digest, woken.set)

    async def await_(self, store: AsyncStore, seen: Checkpoint, seconds: float) -> bool:
        """Suspend until the operation may have changed; False when ``seconds`` are over or too many wait already."""
        import asyncio  # noqa: PLC0415 - a process that serves WSGI need not load it

        loop = asyncio.get_running_loop()
        woken = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(woken.set)

        if not self._enter(seen.digest, wake):
            return False
        try:
            with _told_by(store, seen.digest, seconds, wake):
                for pause in self._pauses(seconds):
                    if _changed(seen, await store.aquery(partial(store.verbs.read, seen.digest))):
                        return True
                    try:
                        await asyncio.wait_for(woken.wait(), pause)
                    except TimeoutError:
                        continue
                    return True
                return False
        finally:
            self._leave(seen.digest, wake)

    def _enter(self, digest: bytes, wake: Callable[[], None]) -> bool:
        with self._lock:
            if self._count >= self._limit:
                return False
            self._count += 1
            self._wakers.setdefault(digest, []).append(wake)
            return True

    def _leave(self, digest: bytes, wake: Callable[[], None]) -> None:
        with self._lock:
            self._count -= 1
            wakers = self._wakers.get(digest, [])
            if wake in wakers:
                wakers.remove(wake)
                if not wakers:
                    del self._wakers[digest]

    def _pauses(self, seconds: float) -> Iterator[float]:
        end = self._clock.monotonic() + seconds
        pause = _FIRST_POLL_SECONDS
        while (left := end - self._clock.monotonic()) > 0:
            yield min(pause, left)
            pause = min(pause * 2, _SLOWEST_POLL_SECONDS)


def _told_by(
    store: Store | AsyncStore, digest: bytes, seconds: float, wake: Callable[[], None]
) -> AbstractContextManager[None]:
    """Have the store itself wake whoever waits, if it can."""
    if Capability.NOTIFY not in store.traits.capabilities:
        return nullcontext()
    return cast("Notifier", store).watch(digest, seconds, wake)


def _changed(seen: Checkpoint, now: Checkpoint | None) -> bool:
    """Tell whether asking for the claim again can have another answer than "in flight"."""
    if now is None or now.operation_id != seen.operation_id:
        return True
    return now.state not in LEASED or now.lease_remaining_seconds <= 0
