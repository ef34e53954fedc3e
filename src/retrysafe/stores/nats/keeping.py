"""What a process knows of a bucket, whichever of its connections it uses."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from threading import Lock
from typing import Any

from retrysafe.stores.base import Meta
from retrysafe.stores.nats.bucket import Bucket
from retrysafe.stores.nats.clock import ServerClock, since_boot
from retrysafe.stores.nats.parts import Parts
from retrysafe.stores.nats.pointers import Pointer, Shelf, Written
from retrysafe.stores.nats.sweep import Sweep
from retrysafe.stores.nats.wire import Wire

_MOST_REMEMBERED = 10_000
_TIDY_SECONDS = 3600.0


class Keeping:
    """Shared by all connections of a store; usable from any thread.

    Attributes:
        bucket: which one.
        clock: what is known of the server's clock.
        written: pointers of ours.
        sweep: what retention may drop.
        drops_by_itself: whether the server drops messages by themselves.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.clock = ServerClock()
        self.written = Written()
        self.sweep = Sweep(bucket)
        self.drops_by_itself = False
        self._marks: OrderedDict[bytes, int] = OrderedDict()
        self._shown: OrderedDict[bytes, list[Pointer]] = OrderedDict()
        self._parts: OrderedDict[bytes, tuple[int, Parts]] = OrderedDict()
        self._owed: dict[tuple[Shelf, bytes], float] = {}
        self._tidy_at = 0.0
        self._guard = Lock()

    async def prepare(self, wire: Wire) -> Meta:
        """Make the bucket where it is missing, and return what the store keeps for ever; see ``bucket.py``."""
        meta, self.drops_by_itself = await self.bucket.prepare(wire)
        return meta

    def start_over(self) -> None:
        """Begin anew in a forked child, where a thread that is gone may have held a lock; the clock goes on."""
        self.written, self.sweep = Written(), Sweep(self.bucket)
        self.clock.start_over()
        self._guard = Lock()

    def is_time_to_tidy(self) -> bool:
        """Tell whether to look for parts that were left over: at the first purge, and an hour after each look."""
        elapsed = since_boot()
        with self._guard:
            if elapsed < self._tidy_at:
                return False
            self._tidy_at = elapsed + _TIDY_SECONDS
            return True

    def mark(self, digest: bytes, seq: int) -> None:
        """Remember that a document's place holds a mark of its deletion, which a new one must name."""
        with self._guard:
            self._marks[digest] = seq
            _shorten(self._marks)

    def take_mark(self, digest: bytes) -> int:
        """Return the sequence that a new document must name; 0: there is nothing."""
        with self._guard:
            return self._marks.pop(digest, 0)

    def keep_parts(self, digest: bytes, revision: int, parts: Parts) -> None:
        """Remember the parts that a document names."""
        with self._guard:
            self._parts[digest] = (revision, parts)
            _shorten(self._parts)

    def take_parts(self, digest: bytes, revision: int | None) -> Parts | None:
        """Return and forget the parts that a document named which was just replaced."""
        with self._guard:
            known, parts = self._parts.pop(digest, (None, None))
        return parts if known == revision else None

    def show(self, pointers: Iterable[Pointer]) -> None:
        """Remember pointers that were found, until their documents are looked at."""
        with self._guard:
            for pointer in pointers:
                self._shown.setdefault(pointer.digest, []).append(pointer)
            _shorten(self._shown)

    def take_shown(self, digest: bytes) -> list[Pointer]:
        """Return and forget the pointers by which a document was found."""
        with self._guard:
            return self._shown.pop(digest, [])

    def owe(self, shelf: Shelf, digest: bytes, at: float) -> None:
        """Remember a pointer that could not be written, though its document was."""
        with self._guard:
            self._owed[shelf, digest] = min(at, self._owed.get((shelf, digest), at))

    def owed(self) -> list[tuple[Shelf, bytes, float]]:
        """Return the pointers that are owed."""
        with self._guard:
            return [(shelf, digest, at) for (shelf, digest), at in self._owed.items()]

    def settle(self, shelf: Shelf, digest: bytes) -> None:
        """Note that a pointer is there that was owed."""
        with self._guard:
            self._owed.pop((shelf, digest), None)


def _shorten(remembered: OrderedDict[bytes, Any]) -> None:
    while len(remembered) > _MOST_REMEMBERED:
        remembered.popitem(last=False)
