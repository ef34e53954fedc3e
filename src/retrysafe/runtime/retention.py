"""Dropping outcomes and tombstones whose retention is over, in batches too small to be felt (S10).

Nothing depends on it being in time: expiry is judged on read (C5). Open and parked operations are never touched.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from retrysafe.runtime import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.runtime.engine import Engine

_EVERY_SECONDS = 60.0
_BATCH = 500
# At most this many batches in a row, so that the scan for abandoned operations is never late by more than a second or
# two.
_BATCHES = 40


class Retention:
    """Purges now and then on the thread that calls ``work``."""

    def __init__(self, engine: Engine) -> None:
        """Purge at the first call of ``work``, then once a minute while there is little to do."""
        self._engine = engine
        self._next_at = engine.clock.monotonic()

    def work(self, stopped: Callable[[], bool]) -> None:
        """Purge if it is time.

        Args:
            stopped: tells whether to stop between two batches.

        Raises:
            StoreError: the store cannot be written.
        """
        if self._engine.clock.monotonic() < self._next_at:
            return
        expired, deleted, more = self._purge(stopped)
        # With more to do, go on after the next scan; otherwise rest.
        self._next_at = self._engine.clock.monotonic() + (0.0 if more else _EVERY_SECONDS)
        if expired or deleted:
            self._engine.emit(events.Purged("*", expired, deleted))

    def _purge(self, stopped: Callable[[], bool]) -> tuple[int, int, bool]:
        store = self._engine.sync
        expired = deleted = 0
        for _ in range(_BATCHES):
            purged = store.run(partial(store.verbs.purge, _BATCH))
            expired += purged.expired
            deleted += purged.deleted
            if not purged.more:
                return expired, deleted, False
            if stopped():
                break
        return expired, deleted, True
