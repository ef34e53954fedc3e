"""Which rows a purge looks at, and when, without an index over finished rows (S10).

An index by expiry would cost every claim and every record; walking the whole table again and again would read it all
from disk. Rows lie in the order in which they were made, so instead the table is seen as segments of 500 rows, and this
process remembers for each when its next row is due. A new process walks the table once, oldest rows first.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from math import inf
from typing import Any

from retrysafe.stores.base import Purged
from retrysafe.stores.program import Program, Statement
from retrysafe.stores.sql.statements import Statements

_ROWS_PER_SEGMENT = 500
_SEGMENTS_PER_CALL = 4
# Rows that become due one after the other are purged together, a minute's worth at a time. What a segment has forgotten
# to say, because a released key was claimed again or a transaction was rolled back, comes to light a day later.
_SOONEST_SECONDS = 60.0
_LATEST_SECONDS = 86_400.0
_LAST = 2**63 - 1


class Purging:
    """The segments of a table, by the instant at which a purge should look at them.

    Args:
        sql: the named statements.
    """

    def __init__(self, sql: Statements) -> None:
        self._sql = sql
        self._known_up_to = 0
        self._segments: list[tuple[float, int, int]] = []
        """A heap of due instant, and the row numbers behind which a segment begins and with which it ends."""

    def purge(self, now: float, limit: int) -> Program[Purged]:
        """Purge what is due in a few segments, and in the last rows of the table, which are no segment yet.

        Args:
            now: the store's clock.
            limit: how many rows may be touched.

        Returns:
            ``more`` is True while known segments are due or rows have not been looked at since this process began.
        """
        answer = yield Statement(self._sql["purge_last"])
        [(last,)] = answer.rows
        if last < self._known_up_to:
            # The newest rows are gone, and their numbers are given to new ones.
            self._known_up_to, self._segments = 0, []
        total = Purged(0, 0, more=False)
        for _ in range(_SEGMENTS_PER_CALL):
            segment = yield from self._next(now)
            if segment is None:
                return (yield from self._sweep(self._known_up_to, None, now, limit, total))[0]
            low, high = segment
            again_at = now
            try:
                total, due_at = yield from self._sweep(low, high, now, limit, total)
                if total.more:
                    return total
                again_at = min(max(due_at, now + _SOONEST_SECONDS), now + _LATEST_SECONDS) if due_at < inf else inf
            finally:
                # Also when the database failed, or the program is run again.
                if again_at < inf:
                    heappush(self._segments, (again_at, low, high))
        return Purged(total.expired, total.deleted, more=True)

    def _next(self, now: float) -> Program[tuple[int, int] | None]:
        """Take out the segment that is due first, or a new one at the end; None when neither is there."""
        while not self._segments or self._segments[0][0] > now:
            low = self._known_up_to
            answer = yield Statement(self._sql["purge_window"], (low, _ROWS_PER_SEGMENT))
            [(high, rows)] = answer.rows
            if rows < _ROWS_PER_SEGMENT:
                return None
            # Unless another thread was faster.
            if self._known_up_to == low:
                self._known_up_to = high
                return low, high
        _, low, high = heappop(self._segments)
        return low, high

    def _sweep(
        self, low: int, high: int | None, now: float, limit: int, total: Purged
    ) -> Program[tuple[Purged, float]]:
        """Purge one stretch of rows, as far as the limit allows.

        Returns:
            What was purged in all, ``more`` when the limit stopped it, and when the stretch is due again: never, when
            it has no rows left. What others had locked is due still, and comes with the next call.
        """
        bounds = (low, _LAST if high is None else high)
        expired, deleted = total.expired, total.deleted
        due_at = yield from self._due_at(bounds, now)
        if due_at <= now:
            deleted += yield from self._drop("purge_tombstones", (*bounds, now, limit - expired - deleted))
            yield from self._drop("purge_memos", (*bounds, now, limit - expired - deleted))
            expired += yield from self._drop("purge_outcomes", (*bounds, now, limit - expired - deleted))
            due_at = yield from self._due_at(bounds, now)
        return Purged(expired, deleted, more=due_at <= now and expired + deleted >= limit), due_at

    def _drop(self, name: str, terms: Sequence[Any]) -> Program[int]:
        """Run one of the statements that purge, and count the rows."""
        answer = yield Statement(self._sql[name], terms)
        return answer.changed

    def _due_at(self, bounds: tuple[int, int], now: float) -> Program[float]:
        answer = yield Statement(self._sql["purge_due_at"], (now + _LATEST_SECONDS, *bounds))
        [(due_at,)] = answer.rows
        return inf if due_at is None else due_at
