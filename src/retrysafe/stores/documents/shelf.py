"""What a process remembers of the documents that it wrote, and how it numbers new ones."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from retrysafe.protocol.states import LEASED
from retrysafe.stores.documents.port import Loaded
from retrysafe.stores.documents.row import Row

_MOST_REMEMBERED = 4096
_LARGEST_REMEMBERED_BYTES = 4096


class Numbers:
    """Numbers that grow with each call, and from process to process by the store's clock: its microseconds."""

    def __init__(self) -> None:
        self._last = 0
        self._guard = Lock()

    def next(self, now: float) -> int:
        """Return the next number."""
        with self._guard:
            self._last = max(self._last + 1, int(now * 1_000_000))
            return self._last


class Shelf:
    """Documents with a lease as this process wrote them, so that their attempts need not load them first.

    What lies here may be old. A write says so, because it names the revision; and nothing is told from here alone.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Loaded] = OrderedDict()
        self._guard = Lock()

    def get(self, digest: bytes) -> Loaded | None:
        """Return a document as it was written last."""
        with self._guard:
            return self._kept.get(digest)

    def put(self, row: Row, written: Loaded) -> None:
        """Keep what was just written, or forget it when its attempt has ended."""
        with self._guard:
            if row.state not in LEASED or row.gone or len(written.body) > _LARGEST_REMEMBERED_BYTES:
                self._kept.pop(written.digest, None)
                return
            self._kept[written.digest] = written
            self._kept.move_to_end(written.digest)
            if len(self._kept) > _MOST_REMEMBERED:
                self._kept.popitem(last=False)

    def forget(self, digest: bytes) -> None:
        """Drop what turned out to be old."""
        with self._guard:
            self._kept.pop(digest, None)
