"""One engine per process, made when it is first needed: threads and connections do not survive a fork."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, cast

from retrysafe.runtime.engine import Engine
from retrysafe.runtime.outbox import Relay
from retrysafe.runtime.recovery import PARALLEL, Scanner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retrysafe.protocol.fingerprint import Secret
    from retrysafe.protocol.policy import Policy
    from retrysafe.runtime.events import Event
    from retrysafe.runtime.outbox import Publish
    from retrysafe.runtime.recovery import Rerun, Runnable
    from retrysafe.runtime.transactions import Bindings
    from retrysafe.stores.base import AsyncStore, Store


class Engines:
    """The engine of whichever process asks, and its scan for abandoned operations.

    Attributes:
        reruns: how surfaces run abandoned operations again (R13); may grow at any time.
        functions: operations that are functions, by name; may grow at any time.
        publish: sends what operations tell others, or None.
    """

    def __init__(  # noqa: PLR0913 - what a guard was told, all of it
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
        replay_cache: int = 0,
        transactions: Bindings | None = None,
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
            replay_cache: how many bytes of outcomes a process keeps itself.
            transactions: of the application's database.
        """
        self.reruns: list[Rerun] = []
        self.functions: dict[str, Runnable] = {}
        self.publish: Publish | None = None
        self._users = 0
        self._store = store
        self._pepper = pepper
        self._secrets = secrets
        self._emit = emit
        self._policy_of = policy_of
        self._namespace = namespace
        self._scan_seconds = scan_seconds
        self._max_waiters = max_waiters
        self._replay_cache = replay_cache
        self._transactions = transactions
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
                self._engine = Engine(
                    store,
                    cast("AsyncStore", store),
                    emit=self._emit,
                    max_waiters=self._max_waiters,
                    replay_cache=self._replay_cache,
                    transactions=self._transactions,
                )
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

    def recover(self, *, parallel: int, scan_seconds: float) -> Scanner:
        """Make the scan of a worker, in place of the one that a serving process has; the worker starts it (R2).

        Args:
            parallel: how many operations are run at once.
            scan_seconds: time between two looks.

        Raises:
            StoreError: the store cannot be used now.
        """
        engine = self.local()
        with self._lock:
            if self._scanner is not None:
                self._scanner.close()
            self._scanner = scanner = self._scan(engine, parallel, scan_seconds)
        self.opened()
        return scanner

    def _start_scan(self, engine: Engine) -> None:
        with self._lock:
            # A close may have come between opening and here: then the engine is nobody's any more.
            if self._engine is engine and self._scanner is None and self._scan_seconds is not None:
                self._scanner = self._scan(engine, PARALLEL, self._scan_seconds)
                self._scanner.start()

    def _scan(self, engine: Engine, parallel: int, scan_seconds: float) -> Scanner:
        scanner = Scanner(
            engine,
            self._policy_of,
            self.reruns,
            namespace=self._namespace,
            interval_seconds=scan_seconds,
            functions=self.functions,
            parallel=parallel,
        )
        scanner.relay = None if self.publish is None else Relay(engine, self.publish)
        return scanner
