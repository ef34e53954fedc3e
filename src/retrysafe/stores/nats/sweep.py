"""What retention may drop, found by walks through headers: each document when it is old enough, and when it is due.

A document cannot be due before it is as old as the shortest retention there is. So a walk follows the end of the stream
at that distance, and remembers of each stretch that it has passed only when it must be looked at again. With one
retention for all, documents are due in the order in which they were written, and a walk finds nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from heapq import heappop, heappush
from math import inf
from threading import Lock
from typing import NamedTuple

from retrysafe.stores.documents.port import Found
from retrysafe.stores.nats.bucket import Bucket
from retrysafe.stores.nats.headers import Seen, seen_in
from retrysafe.stores.nats.pointers import needed
from retrysafe.stores.nats.walk import walk
from retrysafe.stores.nats.wire import Wire

_LONGEST_DISTANCE_SECONDS = 86_400.0
_STRETCH = 5_000
# In one go; what is left is for the next, which comes at once where there is something to drop.
_MOST_STRETCHES = 20


class _Look(NamedTuple):
    """What a look at a stretch found.

    Attributes:
        due: digests of documents that are due.
        waiting: digests of documents that need an pointer.
        due_at: when the stretch must be looked at again; never, when it is infinity.
        last: how far the look went.
    """

    due: list[bytes]
    waiting: list[tuple[bytes, Seen]]
    due_at: float
    last: int


class Sweep:
    """Where documents lie that will be due, and how far the stream is known; usable from any thread."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._stretches: list[tuple[float, int, int]] = []
        self._known_up_to = 0
        self._distance_seconds = _LONGEST_DISTANCE_SECONDS
        self._guard = Lock()

    def learn(self, seconds: float) -> None:
        """Learn of a retention."""
        self._distance_seconds = min(self._distance_seconds, max(seconds, 0.0))

    async def find(
        self, wire: Wire, by: float, given: frozenset[bytes], limit: int
    ) -> tuple[list[Found], list[tuple[bytes, Seen]]]:
        """Find documents that are due by an instant and were not given before.

        Returns:
            Them, and documents on the way that need an pointer.
        """
        due: list[bytes] = []
        waiting: list[tuple[bytes, Seen]] = []
        looks = self._looks(wire, by)
        async with aclosing(looks):
            async for look in looks:
                due += [digest for digest in look.due if digest not in given]
                waiting += look.waiting
                if len(due) >= limit:
                    break
        due = due[:limit]
        place = given | frozenset(due)
        return [Found(digest, place) for digest in due], waiting

    async def _looks(self, wire: Wire, by: float) -> AsyncGenerator[_Look, None]:
        first, end = await self._bucket.bounds(wire, self._bucket.stream)
        again: list[tuple[float, int, int]] = []
        try:
            for _ in range(_MOST_STRETCHES):
                stretch = self._take(by, first, end)
                if stretch is None:
                    return
                low, high, is_new = stretch
                until = by - self._distance_seconds if is_new else inf
                if not is_new:
                    # Should this look fail.
                    again.append((by, low, high))
                look = await self._look(wire, low, high, by, until)
                again = [*(again if is_new else again[:-1]), (look.due_at, low, look.last)]
                if is_new:
                    self._pass(look.last)
                yield look
                if is_new and look.last < high:
                    return
        finally:
            with self._guard:
                for due_at, low, last in again:
                    if due_at < inf and last >= low:
                        heappush(self._stretches, (due_at, low, last))

    def _take(self, by: float, first: int, end: int) -> tuple[int, int, bool] | None:
        """Take the stretch that is due first, or a new one; None when there is neither."""
        with self._guard:
            if self._stretches and self._stretches[0][0] <= by:
                _, low, high = heappop(self._stretches)
                return low, high, False
            low = max(self._known_up_to + 1, first)
            return (low, min(low + _STRETCH - 1, end), True) if low <= end else None

    def _pass(self, last: int) -> None:
        with self._guard:
            self._known_up_to = max(self._known_up_to, last)

    async def _look(self, wire: Wire, low: int, high: int, by: float, until: float) -> _Look:
        found = _Look([], [], inf, high)
        documents = self._bucket.subject("op", "*")
        steps = walk(wire, self._bucket.stream, documents, first=low, last=high, headers_only=True)
        async with aclosing(steps):
            async for passed in steps:
                seen = seen_in(passed.headers)
                if seen is None:
                    continue
                if seen.written_at > until:
                    return found._replace(last=passed.seq - 1)
                found = self._note(found, passed.digest, seen, by)
        return found

    def _note(self, found: _Look, digest: bytes, seen: Seen, by: float) -> _Look:
        if needed(seen.facts):
            found.waiting.append((digest, seen))
        purge_at = seen.facts.purge_at
        if purge_at is None:
            return found
        self.learn(purge_at - seen.written_at)
        if purge_at <= by:
            found.due.append(digest)
        return found._replace(due_at=min(found.due_at, purge_at))
