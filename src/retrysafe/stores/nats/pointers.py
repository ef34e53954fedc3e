"""Pointers: the indexes of a bucket. They say what may be open, parked, or have something to tell.

A pointer is written before its document, on the same connection, so that the server has both in this order; it is
deleted after it, by its sequence, so that a newer pointer for a newer document is never hit. One whose process died in
between is left over. Whoever meets one looks at the document; where that needs no pointer, and the pointer is old
enough that its document cannot be on its way any more, it is deleted. What an index promises is in
``documents/port.py``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from math import inf
from threading import Lock
from typing import Final, Literal, NamedTuple

from retrysafe.stores.documents.port import Facts

Shelf = Literal["open", "parked", "outbox", "auditing"]

SHELVES: Final[tuple[Shelf, ...]] = ("open", "parked", "outbox", "auditing")

_MOST_REMEMBERED = 20_000


class Pointer(NamedTuple):
    """A pointer as it was read.

    Attributes:
        shelf: which index.
        digest: of which document.
        at: an instant before which the document is not due.
        seq: of its message.
        written_at: when the server stored it.
    """

    shelf: Shelf
    digest: bytes
    at: float
    seq: int
    written_at: float


def needed(facts: Facts | None) -> dict[Shelf, float]:
    """Return the pointers that a document needs, and the latest instant that each may have."""
    if facts is None:
        return {}
    pointers: dict[Shelf, float] = {}
    if facts.open_at is not None:
        pointers["parked" if facts.open_at == inf else "open"] = facts.open_at
    if facts.outbox_at is not None:
        pointers["outbox"] = facts.outbox_at
    if facts.audit_at is not None:
        pointers["auditing"] = facts.audit_at
    return pointers


def missing(before: Mapping[Shelf, float], after: Mapping[Shelf, float]) -> dict[Shelf, float]:
    """Return the pointers to write before a change: new ones, and those whose instant becomes earlier."""
    return {shelf: at for shelf, at in after.items() if at < before.get(shelf, inf) or shelf not in before}


class Written:
    """Which pointers this process wrote, by their sequence, so that it can delete just these."""

    def __init__(self) -> None:
        self._seqs: OrderedDict[tuple[Shelf, bytes], int] = OrderedDict()
        self._guard = Lock()

    def put(self, shelf: Shelf, digest: bytes, seq: int) -> None:
        """Remember one."""
        with self._guard:
            self._seqs[shelf, digest] = seq
            if len(self._seqs) > _MOST_REMEMBERED:
                self._seqs.popitem(last=False)

    def take(self, shelf: Shelf, digest: bytes) -> int | None:
        """Return and forget one; None when another process wrote it."""
        with self._guard:
            return self._seqs.pop((shelf, digest), None)
