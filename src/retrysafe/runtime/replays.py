"""Outcomes that this process has seen, so that a storm of retries does not ask the store each time (off by default).

Only what is final is kept, and only for as long as the store would keep it: nothing that is replayed from here could
have changed meanwhile. Whose request it is, and whether it is the same request, is compared each time (K4, F1).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from retrysafe.protocol.states import FINAL
from retrysafe.protocol.verdicts import Finished, Mismatch, judge

if TYPE_CHECKING:
    from retrysafe.protocol.model import Ask, Checkpoint
    from retrysafe.protocol.verdicts import Verdict
    from retrysafe.runtime.clock import Clock

# What an entry takes beside its outcome: the checkpoint's other fields, and its place.
_ENTRY_BYTES = 1024


class _Kept(NamedTuple):
    checkpoint: Checkpoint
    seen_at: float
    """By our monotonic clock."""
    size: int


class Replays:
    """The outcomes that were replayed last; from any thread.

    Attributes:
        size: bytes of outcomes that are kept now.
    """

    def __init__(self, limit: int, clock: Clock) -> None:
        """Keep at most ``limit`` bytes; 0 keeps nothing."""
        self.limit = limit
        self.size = 0
        self._clock = clock
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, ask: Ask) -> Verdict | None:
        """Return what the store would say to a claim; None when only the store knows.

        Rules: F1, S2, S10.
        """
        digest = ask.identity.digest
        with self._lock:
            kept = self._kept.get(digest)
            if kept is None:
                return None
            self._kept.move_to_end(digest)
        # The store's clock as it was then, and what has passed since by ours.
        met = replace(kept.checkpoint, now=kept.checkpoint.now + self._clock.monotonic() - kept.seen_at)
        if met.outcome_until is not None and met.now < met.outcome_until:
            verdict = judge(met, ask)
            if isinstance(verdict, Finished | Mismatch):
                return verdict
        self._drop(digest)
        return None

    def keep(self, met: Checkpoint, asked_at: float) -> None:
        """Keep what the store has answered, if it is final and has its outcome; forget what was used longest ago.

        Args:
            met: the store's answer, and none of ours: then its instant would fall behind a little each time.
            asked_at: monotonic instant at which the store was asked, so that ours is never behind the store's.
        """
        if met.state not in FINAL or met.outcome is None:
            return
        size = len(met.outcome) + _ENTRY_BYTES
        if size > self.limit:
            return
        with self._lock:
            before = self._kept.pop(met.digest, None)
            self._kept[met.digest] = _Kept(met, asked_at, size)
            self.size += size - (0 if before is None else before.size)
            while self.size > self.limit:
                self.size -= self._kept.popitem(last=False)[1].size

    def _drop(self, digest: bytes) -> None:
        with self._lock:
            kept = self._kept.pop(digest, None)
            if kept is not None:
                self.size -= kept.size
