"""One engine per process, made when it is first needed: threads and connections do not survive a fork."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, cast

from retrysafe.runtime.engine import Engine
from retrysafe.runtime.recovery import Scanner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retrysafe.protocol.fingerprint import Secret
    from retrysafe.protocol.policy import Policy
    from retrysafe.runtime.events import Event
    from retrysafe.runtime.recovery import Rerun
    from retrysafe.stores.base import AsyncStore, Store


class Engines:
    """The engine of whichever process asks, and its scan for abandoned operations.

    Attributes:
        reruns: how surfaces run abandoned ``again`` operations again (R13); may grow at any time.
    """

    def __init__(
        self,
        store: Store,
        secrets: Sequence[Secret],
        *,
        pepper: bytes | None,
        emit: Callable[[Event], None],
        policy_of: Callable[[str], Policy],
        namespace: str,
        scan_seconds: float | None,
        max_waiters: int,
    ) -> None:
        """Know how to make an engine; nothing connects and no thread starts yet.

        Args:
            store: where checkpoints live; it serves threads and event loops.
            secrets: of fingerprints, current one first; empty for the store's own (F2).
            pepper: the one the store must have, or None for the store's own (K4).
            emit: takes every event.
            policy_of: returns the policy of an operation by its name.
            namespace: whose abandoned operations may be run again here.
            scan_seconds: time between two looks for abandoned operations, or None not to look (R2).
            max_waiters: how many requests may wait for operations in flight at once (S9).
        """
        self.reruns: list[Rerun] = []
        self._users = 0
        self._store = store
        self._pepper = pepper
        self._secrets = secrets
        self._emit = emit
        self._policy_of = policy_of
        self._namespace = namespace
        self._scan_seconds = scan_seconds
        self._max_waiters = max_waiters
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._scanner: Scanner | None = None

    def local(self) -> Engine:
        """Return this process's engine as it is; it may not be connected yet."""
        engine = self._engine
        if engine is not None and engine.pid == os.getpid():
            return engine
        with self._lock:
            if self._engine is None or self._engine.pid != os.getpid():
                store = self._store
                self._engine = Engine(store, cast("AsyncStore", store), emit=self._emit, max_waiters=self._max_waiters)
                self._scanner = None
            return self._engine

    def opened(self) -> Engine:
        """Return this process's engine, connected; see :meth:`~retrysafe.RetrySafe.engine`."""
        engine = self.local()
        if not engine.opened:
            engine.open(pepper=self._pepper, secrets=self._secrets)
            self._start_scan(engine)
        return engine

    async def aopened(self) -> Engine:
        """Return this process's engine, connected, without blocking the loop."""
        engine = self.local()
        if not engine.opened:
            await engine.aopen(pepper=self._pepper, secrets=self._secrets)
            self._start_scan(engine)
        return engine

    def retain(self) -> None:
        """Count one more application that has started; each gives it back with :meth:`release`."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """Count one application less; the last one closes."""
        with self._lock:
            self._users = max(self._users - 1, 0)
            last = self._users == 0
        if last:
            self.close()

    def close(self) -> None:
        """Stop this process's threads and close its store; the next request starts anew."""
        with self._lock:
            engine, scanner = self._engine, self._scanner
            self._engine = self._scanner = None
        if engine is None or engine.pid != os.getpid():
            return
        if scanner is not None:
            scanner.close()
        engine.close()

    def _start_scan(self, engine: Engine) -> None:
        with self._lock:
            # A close may have come between opening and here: then the engine is nobody's any more.
            if self._engine is engine and self._scanner is None and self._scan_seconds is not None:
                scanner = Scanner(
                    engine,
                    self._policy_of,
                    self.reruns,
                    namespace=self._namespace,
                    interval_seconds=self._scan_seconds,
                )
                scanner.start()
                self._scanner = scanner
