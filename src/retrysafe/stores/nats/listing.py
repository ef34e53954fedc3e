"""A listing, newest first: the stream is read from its end, stretch by stretch, as far as it is shown.

What was made lately was written lately. So once a stretch has been read, whatever lies before it was made before it
was written, and everything that is newer can be shown.
"""

from __future__ import annotations

from contextlib import aclosing
from heapq import heappop, heappush
from math import inf

from retrysafe.stores.nats.bucket import Bucket
from retrysafe.stores.nats.headers import seen_in
from retrysafe.stores.nats.walk import walk
from retrysafe.stores.nats.wire import Wire

_FIRST_STRETCH = 4_000
_LONGEST_STRETCH = 64_000
# Processes know the server's time to some milliseconds, and what they send may overtake.
_DOUBT_SECONDS = 10.0


class Listing:
    """How far a listing has come."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._ahead: list[tuple[int, bytes]] = []
        self._met: set[bytes] = set()
        self._end: int | None = None
        self._width = _FIRST_STRETCH
        self._sure_above = inf

    async def next(self, wire: Wire, limit: int) -> list[bytes]:
        """Return the next digests, newest first; fewer than ``limit`` when there are no more."""
        found: list[bytes] = []
        while len(found) < limit:
            if self._ahead and -self._ahead[0][0] > self._sure_above:
                found.append(heappop(self._ahead)[1])
            elif self._sure_above == -inf:
                return found
            else:
                await self._widen(wire)
        return found

    async def _widen(self, wire: Wire) -> None:
        first, last = await self._bucket.bounds(wire, self._bucket.stream)
        end = last if self._end is None else self._end
        low = max(end - self._width + 1, first)
        oldest = inf
        documents = self._bucket.subject("op", "*")
        steps = walk(wire, self._bucket.stream, documents, first=low, last=end, headers_only=True)
        async with aclosing(steps):
            async for passed in steps:
                seen = seen_in(passed.headers)
                digest = passed.digest
                if seen is None or digest in self._met:
                    continue
                oldest = min(oldest, seen.written_at)
                self._met.add(digest)
                heappush(self._ahead, (-seen.facts.number, digest))
        self._end = low - 1
        self._width = min(self._width * 2, _LONGEST_STRETCH)
        if low <= first:
            self._sure_above = -inf
        elif oldest < inf:
            self._sure_above = min(self._sure_above, (oldest - _DOUBT_SECONDS) * 1_000_000)
